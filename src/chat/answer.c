/* A generation: from logits to what a reader sees.
 *
 *     logits ─ sampler ─ id ─ detokenizer ─ text ─┬─ parser ─┬─ calls ───────────────┐
 *                                                 │          ├─ reasoning ───────────┤
 *                                                 └──────────┴─ answer ─ stop texts ─┴─ events
 *
 * What may be the beginning of a stop text is held back until it is known not to be one.
 *
 * Where a grammar holds the answer, it masks the logits from the token after </think> on, or from
 * the first one where there is no reasoning. The blank that models write behind the tag is free.
 *
 * An answer that is to be whole is chosen as any other, until a token is drawn that would leave it
 * further from its end than there are tokens: that one is dropped, and another drawn among those
 * that would not. So the limit changes nothing in an answer that does not need it to.
 */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/fail.h"
#include "text/chat_parse.h"

#define STOPS_MAX      64u
#define BLANKS_MAX     4u /* tokens between reasoning and an answer that is held */
#define STOP_BYTES_MAX ((size_t)4096)
#define HELD_MAX       ((size_t)1 << 20) /* bytes of an answer that may wait */

struct sl_generation {
    uint32_t vocab_size, max_tokens, tokens, top_logprobs;
    bool logprobs, called, silent; /* silent: a stop was met, nothing more is told */
    sl_finish finish;
    int stop; /* the one that was met; -1: none */
    sl_sampler *sampler;
    sl_detokenizer *detok;
    sl__chat_parser *parser; /* NULL: all is text */
    int32_t *ends;
    size_t end_count;
    char **stops;
    size_t stop_count;
    sl__buffer held;
    sl_token_chance top[SL_TOP_LOGPROBS_MAX];
    sl_constraint *constraint; /* NULL: none */
    float *masked;             /* [vocab_size], with a constraint */
    const sl_tokenizer *tok;
    bool whole;      /* is to come to its end within max_tokens */
    bool limited;    /* and would not have by itself */
    bool thinking;   /* the grammar does not hold yet, */
    unsigned blanks; /* nor for so many tokens that are blank */
    size_t thought;  /* bytes of the closing tag that the last text ended with */
    sl_event_fn fn;
    void *ctx;
    sl_error *err; /* of the present call, for what the parser calls back */
};

void sl_generation_options_default(sl_generation_options *opt)
{
    *opt = (sl_generation_options){.chat = false};
    sl_sampler_options_default(&opt->sampler);
}

/* ---- telling --------------------------------------------------------------------------------- */

static sl_status tell(sl_generation *g, const sl_event *event)
{
    return g->fn ? g->fn(g->ctx, event) : SL_OK;
}

static sl_status tell_text(sl_generation *g, sl_event_kind kind, const char *text, size_t size)
{
    if (size == 0) return SL_OK;
    return tell(g, &(sl_event){.kind = kind, .text = text, .size = size});
}

/* The first byte of the earliest stop in the text, the longest of those that begin there; SIZE_MAX:
 * none is there. */
static size_t find_stop(const sl_generation *g, const char *text, size_t size, int *which)
{
    size_t best = SIZE_MAX, best_size = 0;
    for (size_t i = 0; i < g->stop_count; i++) {
        size_t n = strlen(g->stops[i]);
        const char *at = n <= size ? memmem(text, size, g->stops[i], n) : NULL;
        if (!at) continue;
        size_t offset = (size_t)(at - text);
        if (offset > best || (offset == best && n <= best_size)) continue;
        best = offset;
        best_size = n;
        *which = (int)i;
    }
    return best;
}

/* Bytes at the end of the text that may be the beginning of a stop. */
static size_t may_begin_stop(const sl_generation *g, const char *text, size_t size)
{
    size_t most = 0;
    for (size_t i = 0; i < g->stop_count; i++) {
        size_t n = strlen(g->stops[i]) - 1;
        for (n = n < size ? n : size; n > most; n--) {
            if (memcmp(text + size - n, g->stops[i], n) == 0) most = n;
        }
    }
    return most;
}

static sl_status release_held(sl_generation *g)
{
    sl_status status = tell_text(g, SL_EVENT_TEXT, g->held.data, g->held.size);
    sl__buffer_clear(&g->held);
    return status;
}

static sl_status answer(sl_generation *g, const char *text, size_t size)
{
    if (g->stop_count == 0) return tell_text(g, SL_EVENT_TEXT, text, size);
    if (!sl__buffer_append(&g->held, text, size)) return SL_FAIL_NOMEM(g->err, "answer");
    size_t at = find_stop(g, g->held.data, g->held.size, &g->stop);
    size_t ready =
        at != SIZE_MAX ? at : g->held.size - may_begin_stop(g, g->held.data, g->held.size);
    sl_status status = tell_text(g, SL_EVENT_TEXT, g->held.data, ready);
    memmove(g->held.data, g->held.data + ready, g->held.size - ready);
    g->held.size -= ready;
    if (at == SIZE_MAX) return status;
    g->silent = true;
    g->finish = SL_FINISH_STOP;
    sl__buffer_clear(&g->held);
    return status;
}

static sl_status parsed(void *ctx, const sl__chat_event *event)
{
    sl_generation *g = ctx;
    static const sl_event_kind kinds[] = {[SL_CHAT_REASONING] = SL_EVENT_REASONING,
                                          [SL_CHAT_CALL] = SL_EVENT_CALL,
                                          [SL_CHAT_ARGUMENTS] = SL_EVENT_ARGUMENTS,
                                          [SL_CHAT_CALL_END] = SL_EVENT_CALL_END};
    if (g->silent || event->kind == SL_CHAT_SYNTAX) return SL_OK;
    if (event->kind == SL_CHAT_CONTENT) return answer(g, event->text, event->text_size);
    SL_TRY(release_held(g));
    if (event->kind == SL_CHAT_CALL_END && event->complete) g->called = true;
    return tell(g, &(sl_event){.kind = kinds[event->kind],
                               .text = event->text,
                               .size = event->text_size,
                               .complete = event->complete});
}

static sl_status tell_decoded(sl_generation *g, const char *text, size_t size)
{
    if (size == 0) return SL_OK;
    return g->parser ? sl__chat_feed(g->parser, text, size, g->err) : answer(g, text, size);
}

/* ---- chances --------------------------------------------------------------------------------- */

/* The natural logarithm of the sum of what the logits stand for, less the largest of them. */
static double log_sum(const float *logits, uint32_t n, float largest)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += exp((double)logits[i] - (double)largest);
    return log(sum);
}

/* The likeliest tokens, ties to the lower id. */
static void find_top(sl_generation *g, const float *logits, double norm)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < g->vocab_size; i++) {
        float chance = (float)((double)logits[i] - norm);
        if (count == g->top_logprobs && !(chance > g->top[count - 1].logprob)) continue;
        uint32_t at = count < g->top_logprobs ? count++ : count - 1;
        for (; at > 0 && chance > g->top[at - 1].logprob; at--)
            g->top[at] = g->top[at - 1];
        g->top[at] = (sl_token_chance){(int32_t)i, chance};
    }
}

static sl_status tell_token(sl_generation *g, const float *logits, int32_t id)
{
    sl_event event = {.kind = SL_EVENT_TOKEN, .text = "", .token = {.id = id}};
    if (g->logprobs) {
        float largest = logits[0];
        for (uint32_t i = 1; i < g->vocab_size; i++)
            largest = logits[i] > largest ? logits[i] : largest;
        double norm = (double)largest + log_sum(logits, g->vocab_size, largest);
        event.token.logprob = (float)((double)logits[id] - norm);
        if (g->top_logprobs > 0) find_top(g, logits, norm);
        event.top = g->top;
        event.top_count = g->top_logprobs;
    }
    return tell(g, &event);
}

/* ---- grammars -------------------------------------------------------------------------------- */

/* Whether the reasoning ends in this text, which follows the texts before. */
static bool ends_thinking(sl_generation *g, const char *text, size_t size)
{
    static const char tag[] = "</think>";
    const size_t n = sizeof tag - 1;
    for (size_t i = 0; i < size; i++) { /* no beginning of the tag comes again within it */
        g->thought = text[i] == tag[g->thought] ? g->thought + 1 : text[i] == tag[0];
        if (g->thought == n) return true;
    }
    return false;
}

/* With max_tokens: the next one among them. */
static uint32_t tokens_left(const sl_generation *g)
{
    return g->max_tokens - g->tokens;
}

/* Whether the likeliest token is blank, and may be. None comes where the answer needs the room. */
static bool takes_blank(sl_generation *g, const float *logits, int32_t *id)
{
    uint32_t best = 0;
    char *text;
    size_t size;
    if (g->whole && tokens_left(g) <= sl_constraint_needs(g->constraint)) g->blanks = 0;
    if (g->blanks == 0) return false;
    for (uint32_t i = 1; i < g->vocab_size; i++)
        best = logits[i] > logits[best] ? i : best;
    *id = (int32_t)best;
    if (sl_tokenizer_decode(g->tok, id, 1, false, &text, &size, NULL) != SL_OK) return false;
    bool blank = size > 0 && strspn(text, " \t\r\n") == size;
    free(text);
    g->blanks = blank ? g->blanks - 1 : 0;
    return blank;
}

static sl_status choose(sl_generation *g, const float *logits, int32_t *id, sl_error *err)
{
    if (!g->constraint || g->thinking) return sl_sampler_sample(g->sampler, logits, id, err);
    if (takes_blank(g, logits, id)) return SL_OK;
    memcpy(g->masked, logits, g->vocab_size * sizeof *g->masked);
    SL_TRY(sl_constraint_mask(g->constraint, g->masked, err));
    SL_TRY(sl_sampler_draw(g->sampler, g->masked, id, err));
    if (g->whole && !sl_constraint_fits(g->constraint, *id, tokens_left(g))) {
        g->limited = true;
        SL_TRY(sl_constraint_mask_within(g->constraint, tokens_left(g), g->masked, err));
        SL_TRY(sl_sampler_draw(g->sampler, g->masked, id, err));
    }
    sl_sampler_accept(g->sampler, *id);
    return sl_constraint_accept(g->constraint, *id, err);
}

/* ---- taking ---------------------------------------------------------------------------------- */

static bool is_end(const sl_generation *g, int32_t id)
{
    for (size_t i = 0; i < g->end_count; i++) {
        if (g->ends[i] == id) return true;
    }
    return false;
}

static sl_status end(sl_generation *g, sl_finish finish)
{
    size_t size;
    const char *text = sl_detokenizer_finish(g->detok, &size);
    SL_TRY(tell_decoded(g, text, size));
    if (g->parser) SL_TRY(sl__chat_finish(g->parser, g->err));
    SL_TRY(release_held(g));
    if (g->finish == SL_FINISH_NONE) {
        bool calls = finish == SL_FINISH_STOP && g->called;
        g->finish = calls ? SL_FINISH_CALLS : finish;
    }
    return SL_OK;
}

sl_status sl_generation_end(sl_generation *g, sl_finish finish, sl_error *err)
{
    if (g->finish != SL_FINISH_NONE) return SL_OK;
    g->err = err;
    return end(g, finish);
}

/* Whether nothing but an end token could follow, and it is the model's doing. */
static bool is_done(const sl_generation *g)
{
    return g->constraint && !g->thinking && !g->limited && sl_constraint_done(g->constraint);
}

sl_status sl_generation_take(sl_generation *g, const float *logits, int32_t *id, sl_error *err)
{
    if (g->finish != SL_FINISH_NONE) return SL_FAIL(err, SL_EINVAL, "the answer has ended");
    g->err = err;
    SL_TRY(choose(g, logits, id, err));
    g->tokens++;
    if (is_end(g, *id)) return end(g, g->limited ? SL_FINISH_LENGTH : SL_FINISH_STOP);
    SL_TRY(tell_token(g, logits, *id));
    size_t size;
    const char *text = sl_detokenizer_push(g->detok, *id, &size);
    if (g->thinking && ends_thinking(g, text, size)) g->thinking = false;
    SL_TRY(tell_decoded(g, text, size));
    if (g->finish == SL_FINISH_NONE && g->tokens == g->max_tokens)
        return end(g, is_done(g) ? SL_FINISH_STOP : SL_FINISH_LENGTH);
    return SL_OK;
}

sl_finish sl_generation_finish(const sl_generation *g)
{
    return g->finish;
}
uint32_t sl_generation_tokens(const sl_generation *g)
{
    return g->tokens;
}
int sl_generation_stop(const sl_generation *g)
{
    return g->stop;
}

/* ---- creating -------------------------------------------------------------------------------- */

static sl_status copy_stops(sl_generation *g, const sl_generation_options *opt, sl_error *err)
{
    if (opt->stop_count > STOPS_MAX) {
        return SL_FAIL(err, SL_EINVAL, "%zu stop texts; at most %u", opt->stop_count, STOPS_MAX);
    }
    g->stops = calloc(opt->stop_count + 1, sizeof *g->stops);
    if (!g->stops) return SL_FAIL_NOMEM(err, "stop texts");
    for (size_t i = 0; i < opt->stop_count; i++) {
        size_t size = strlen(opt->stops[i]);
        if (size == 0 || size > STOP_BYTES_MAX) {
            return SL_FAIL(err, SL_EINVAL, "stop text %zu has %zu bytes; 1 to %zu are allowed", i,
                           size, STOP_BYTES_MAX);
        }
        g->stops[i] = strdup(opt->stops[i]);
        if (!g->stops[i]) return SL_FAIL_NOMEM(err, "stop texts");
        g->stop_count++;
    }
    return SL_OK;
}

static sl_status copy_ends(sl_generation *g, const sl_generation_options *opt, sl_error *err)
{
    g->ends = calloc(opt->end_count + 1, sizeof *g->ends);
    if (!g->ends) return SL_FAIL_NOMEM(err, "end tokens");
    for (size_t i = 0; i < opt->end_count; i++)
        g->ends[i] = opt->end_ids[i];
    g->end_count = opt->end_count;
    return SL_OK;
}

static sl_status open_parser(sl_generation *g, const sl_generation_options *opt, sl_error *err)
{
    json_t *tools = NULL;
    if (!opt->chat) return SL_OK;
    if (opt->tools) {
        json_error_t why;
        tools = json_loadb(opt->tools, opt->tools_size, JSON_REJECT_DUPLICATES, &why);
        if (!tools) return SL_FAIL(err, SL_EINVAL, "tools: %s", why.text);
        if (!json_is_array(tools)) {
            json_decref(tools);
            return SL_FAIL(err, SL_EINVAL, "tools: expected an array");
        }
    }
    sl_status status = sl__chat_parser_create(&g->parser, tools, opt->thinking, parsed, g, err);
    json_decref(tools);
    return status;
}

static sl_status open_grammar(sl_generation *g, const sl_generation_options *opt, sl_error *err)
{
    if (!opt->grammar) return SL_OK;
    g->thinking = opt->chat && opt->thinking;
    g->blanks = g->thinking ? BLANKS_MAX : 0;
    g->masked = calloc(g->vocab_size, sizeof *g->masked);
    if (!g->masked) return SL_FAIL_NOMEM(err, "logits");
    SL_TRY(sl_constraint_create(&g->constraint, opt->grammar, opt->vocabulary, g->vocab_size,
                                opt->end_ids, opt->end_count, err));
    g->whole = opt->whole && g->max_tokens > 0;
    return g->whole ? sl_constraint_watch(g->constraint, err) : SL_OK;
}

/* What comes continues the prompt: its first space is one. */
static sl_status open_text(sl_generation *g, const sl_tokenizer *tok, const int32_t *prompt,
                           size_t count, sl_error *err)
{
    size_t size;
    SL_TRY(sl_detokenizer_create(&g->detok, tok, true, err));
    for (size_t i = 0; i < count; i++) {
        sl_sampler_accept_prompt(g->sampler, prompt[i]);
        sl_detokenizer_push(g->detok, prompt[i], &size);
    }
    sl_detokenizer_finish(g->detok, &size);
    return SL_OK;
}

static sl_status open(sl_generation *g, const sl_tokenizer *tok, const sl_generation_options *opt,
                      const int32_t *prompt, size_t prompt_count, sl_error *err)
{
    if (opt->top_logprobs > SL_TOP_LOGPROBS_MAX || opt->top_logprobs > g->vocab_size) {
        return SL_FAIL(err, SL_EINVAL, "top_logprobs: %u; at most %u", opt->top_logprobs,
                       SL_TOP_LOGPROBS_MAX);
    }
    for (size_t i = 0; i < prompt_count; i++) {
        if (prompt[i] < 0 || (uint32_t)prompt[i] >= g->vocab_size) {
            return SL_FAIL(err, SL_EINVAL, "token %zu: id %d is outside the vocabulary of %u", i,
                           (int)prompt[i], g->vocab_size);
        }
    }
    SL_TRY(sl_sampler_create(&g->sampler, g->vocab_size, &opt->sampler, err));
    SL_TRY(copy_stops(g, opt, err));
    SL_TRY(copy_ends(g, opt, err));
    SL_TRY(open_parser(g, opt, err));
    SL_TRY(open_grammar(g, opt, err));
    return open_text(g, tok, prompt, prompt_count, err);
}

sl_status sl_generation_create(sl_generation **out, const sl_tokenizer *tok, uint32_t vocab_size,
                               const sl_generation_options *opt, const int32_t *prompt,
                               size_t prompt_count, sl_error *err)
{
    *out = NULL;
    sl_generation *g = calloc(1, sizeof *g);
    if (!g) return SL_FAIL_NOMEM(err, "generation");
    g->vocab_size = vocab_size;
    g->max_tokens = opt->max_tokens;
    g->logprobs = opt->logprobs;
    g->top_logprobs = opt->logprobs ? opt->top_logprobs : 0;
    g->stop = -1;
    g->tok = tok;
    g->fn = opt->event;
    g->ctx = opt->ctx;
    sl__buffer_init(&g->held, HELD_MAX);
    sl_status status = open(g, tok, opt, prompt, prompt_count, err);
    if (status != SL_OK) {
        sl_generation_destroy(g);
        return status;
    }
    *out = g;
    return SL_OK;
}

void sl_generation_destroy(sl_generation *g)
{
    if (!g) return;
    sl_sampler_destroy(g->sampler);
    sl_detokenizer_destroy(g->detok);
    sl__chat_parser_destroy(g->parser);
    sl_constraint_destroy(g->constraint);
    free(g->masked);
    for (size_t i = 0; i < g->stop_count; i++)
        free(g->stops[i]);
    free(g->stops);
    free(g->ends);
    sl__buffer_free(&g->held);
    free(g);
}
