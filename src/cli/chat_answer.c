/* A turn of a chat: a user's message, the answer, and what tools say in between. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fail.h"
#include "base/sysmem.h"
#include "cli/chat.h"

#define ANSWER_BYTES_MAX ((size_t)256 << 20)
#define CALLS_MAX        64u
#define ROUNDS_MAX       32u /* of calls and their results, in one turn */

typedef struct call {
    sl__buffer name, arguments;
    bool complete;
} call;

/* An answer, as far as it is written. */
typedef struct reply {
    chat *c;
    sl__buffer text, thought;
    call calls[CALLS_MAX];
    size_t call_count;
    sl_finish finish;
    cli_token_progress prefill;
} reply;

static void reply_begin(reply *r, chat *c)
{
    *r = (reply){.c = c};
    sl__buffer_init(&r->text, ANSWER_BYTES_MAX);
    sl__buffer_init(&r->thought, ANSWER_BYTES_MAX);
}

static void reply_free(reply *r)
{
    sl__buffer_free(&r->text);
    sl__buffer_free(&r->thought);
    for (size_t i = 0; i < r->call_count; i++) {
        sl__buffer_free(&r->calls[i].name);
        sl__buffer_free(&r->calls[i].arguments);
    }
}

/* ---- writing --------------------------------------------------------------------------------- */

static sl_status begin_call(reply *r, const sl_event *event)
{
    if (r->call_count == CALLS_MAX) return SL_ENOMEM;
    call *next = &r->calls[r->call_count++];
    sl__buffer_init(&next->name, ANSWER_BYTES_MAX);
    sl__buffer_init(&next->arguments, ANSWER_BYTES_MAX);
    return sl__buffer_append(&next->name, event->text, event->size) ? SL_OK : SL_ENOMEM;
}

static sl_status on_event(void *ctx, const sl_event *event)
{
    reply *r = ctx;
    call *last = r->call_count ? &r->calls[r->call_count - 1] : NULL;
    bool fits = true;
    switch (event->kind) {
    case SL_EVENT_TEXT:
        fits = sl__buffer_append(&r->text, event->text, event->size);
        chat_screen_text(&r->c->screen, event->text, event->size);
        break;
    case SL_EVENT_REASONING:
        fits = sl__buffer_append(&r->thought, event->text, event->size);
        chat_screen_thought(&r->c->screen, event->text, event->size);
        break;
    case SL_EVENT_CALL:
        return begin_call(r, event);
    case SL_EVENT_ARGUMENTS:
        fits = sl__buffer_append(&last->arguments, event->text, event->size);
        break;
    case SL_EVENT_CALL_END:
        last->complete = event->complete;
        break;
    case SL_EVENT_TOKEN:
        break;
    }
    return fits ? SL_OK : SL_ENOMEM;
}

static sl_status on_prefill(void *ctx, double done, size_t count)
{
    reply *r = ctx;
    run_report *report = &r->c->report;
    uint64_t rss = sl__mem_rss();
    if (rss > report->rss_seen_bytes) report->rss_seen_bytes = rss;
    cli_token_progress_show(&r->prefill, "prompt", done, count);
    return cli_interrupted() ? SL_ECANCELLED : SL_OK;
}

static sl_status prefill(reply *r, const sl_prompt *prompt, sl_error *err)
{
    chat *c = r->c;
    run_report *report = &c->report;
    *report =
        (run_report){.model = c->model.path, .info = c->model.info, .load_ns = c->model.load_ns,
                     .sampling = report->sampling};
    sl_engine_stats_get(c->model.engine, &report->at_start);
    report->at_prefilled = report->at_end = report->at_start;
    uint64_t start_ns = sl__now_ns();
    size_t reused = 0;
    sl_status status = chat_model_evaluate(&c->model, prompt, on_prefill, r, &reused, err);
    cli_token_progress_end(&r->prefill);
    if (status != SL_OK) return status;
    report->prompt_tokens = prompt->count - reused;
    report->prefill_ns = sl__now_ns() - start_ns;
    sl_engine_stats_get(c->model.engine, &report->at_prefilled);
    return SL_OK;
}

/* Until it ends by itself, or has to. */
static sl_status decode(reply *r, sl_generation *generation, sl_error *err)
{
    chat *c = r->c;
    run_report *report = &c->report;
    uint64_t start_ns = sl__now_ns();
    for (;;) {
        int32_t id;
        SL_TRY(sl_generation_take(generation, c->model.logits, &id, err));
        report->generated_tokens = sl_generation_tokens(generation);
        if (report->generated_tokens == 1) {
            report->first_token_ns = report->prefill_ns + sl__now_ns() - start_ns;
            start_ns = sl__now_ns();
        }
        if (sl_generation_finish(generation) != SL_FINISH_NONE) return SL_OK;
        if (cli_interrupted() || c->screen.reader_gone) {
            report->stop = RUN_STOP_INTERRUPTED;
            return sl_generation_end(generation, SL_FINISH_STOP, err);
        }
        if (c->model.seen_count == c->model.info.context_tokens) {
            report->stop = RUN_STOP_CONTEXT;
            return sl_generation_end(generation, SL_FINISH_LENGTH, err);
        }
        SL_TRY(chat_model_step(&c->model, id, err));
        report->decoded_tokens++;
        report->decode_ns = sl__now_ns() - start_ns;
    }
}

static sl_status generate(reply *r, const sl_prompt *prompt, const char *tools, sl_error *err)
{
    chat *c = r->c;
    sl_generation_options opt;
    sl_generation_options_default(&opt);
    /* The same conversation gives the same answer, and the same question a second time another. */
    opt.sampler = cli_sampling_resolve(&c->model.defaults.sampler, &c->sampling);
    c->report.sampling = opt.sampler;
    opt.sampler.seed += json_array_size(c->messages) - 1;
    opt.end_ids = c->model.defaults.eos_ids;
    opt.end_count = c->model.defaults.eos_count;
    opt.max_tokens = c->limit;
    opt.chat = true;
    opt.thinking = prompt->thinking;
    opt.tools = tools;
    opt.tools_size = strlen(tools);
    opt.event = on_event;
    opt.ctx = r;
    sl_generation *generation;
    SL_TRY(sl_generation_create(&generation, c->model.tok, c->model.info.vocab_size, &opt,
                                prompt->ids, prompt->count, err));
    sl_status status = prefill(r, prompt, err);
    if (status == SL_OK) {
        chat_screen_begin(&c->screen);
        status = decode(r, generation, err);
        chat_screen_end(&c->screen);
        r->finish = sl_generation_finish(generation);
        if (c->report.stop == RUN_STOP_LIMIT && r->finish != SL_FINISH_LENGTH)
            c->report.stop = RUN_STOP_END;
        sl_engine_stats_get(c->model.engine, &c->report.at_end);
    }
    sl_generation_destroy(generation);
    return status;
}

/* The conversation with the system's message before it. New reference; NULL: no memory. */
static json_t *all_messages(const chat *c)
{
    json_t *all = json_array();
    if (!all) return NULL;
    json_t *first = NULL;
    if (c->system) first = json_pack("{s:s, s:s}", "role", "system", "content", c->system);
    if ((!c->system || json_array_append_new(all, first) == 0) &&
        json_array_extend(all, c->messages) == 0)
        return all;
    json_decref(all);
    return NULL;
}

static sl_status answer(reply *r, sl_error *err)
{
    const chat *c = r->c;
    sl_prompt prompt = {NULL, 0, false};
    json_t *messages = all_messages(c);
    /* Who has no tools is not told of calls: they are text. */
    char *tools = c->tools.templates ? json_dumps(c->tools.templates, JSON_COMPACT) : strdup("[]");
    sl_status status = SL_OK;
    if (!messages || !tools) status = SL_FAIL_NOMEM(err, "messages");
    if (status == SL_OK) {
        status = chat_model_prompt(&c->model, messages, c->tools.templates,
                                   c->screen.thinking != CHAT_THINKING_OFF, &prompt, err);
    }
    if (status == SL_OK) status = generate(r, &prompt, tools, err);
    free(prompt.ids);
    free(tools);
    json_decref(messages);
    return status;
}

/* ---- keeping --------------------------------------------------------------------------------- */

static json_t *text_of(const sl__buffer *text)
{
    return chat_json_text(text->data ? text->data : "", text->size);
}

/* The arguments of a call; an empty object where they are none. New reference. */
static json_t *arguments_of(const sl__buffer *text)
{
    json_t *object =
        json_loadb(text->data ? text->data : "", text->size, JSON_REJECT_DUPLICATES, NULL);
    if (json_is_object(object)) return object;
    json_decref(object);
    return json_object();
}

static json_t *calls_of(const reply *r)
{
    json_t *list = json_array();
    for (size_t i = 0; i < r->call_count; i++) {
        if (!r->calls[i].complete) continue;
        json_t *id = json_sprintf("call_%zu", i + 1), *function = json_object();
        json_object_set_new(function, "name", text_of(&r->calls[i].name));
        json_object_set_new(function, "arguments", arguments_of(&r->calls[i].arguments));
        json_array_append_new(
            list, json_pack("{s:s, s:o, s:o}", "type", "function", "id", id, "function", function));
    }
    return list;
}

/* Appends the answer; calls: with its calls, which are borrowed then and have to be answered. */
static sl_status keep(const reply *r, json_t *calls, sl_error *err)
{
    json_t *message = json_pack("{s:s, s:o}", "role", "assistant", "content", text_of(&r->text));
    bool kept = message != NULL;
    if (kept && r->thought.size)
        kept = json_object_set_new(message, "reasoning_content", text_of(&r->thought)) == 0;
    if (kept && calls) kept = json_object_set(message, "tool_calls", calls) == 0;
    if (kept && json_array_append(r->c->messages, message) != 0) kept = false;
    json_decref(message);
    return kept ? SL_OK : SL_FAIL_NOMEM(err, "messages");
}

static sl_status run_calls(const chat *c, const json_t *calls, sl_error *err)
{
    for (size_t i = 0; i < json_array_size(calls); i++) {
        const json_t *one = json_array_get(calls, i), *function = json_object_get(one, "function");
        json_t *name = json_object_get(function, "name"), *id = json_object_get(one, "id");
        json_t *text =
            chat_call_run(c, json_string_value(name), json_object_get(function, "arguments"));
        json_t *message = json_pack("{s:s, s:O, s:O, s:o}", "role", "tool", "tool_call_id", id,
                                    "name", name, "content", text);
        if (json_array_append_new(c->messages, message) != 0) return SL_FAIL_NOMEM(err, "messages");
    }
    return SL_OK;
}

/* One answer and the calls in it; *more: there are results that it is to go on from. */
static sl_status run_round(chat *c, bool last, bool *more, sl_error *err)
{
    reply r;
    reply_begin(&r, c);
    *more = false;
    sl_status status = answer(&r, err);
    if (status == SL_OK) {
        bool calling = r.finish == SL_FINISH_CALLS && !last;
        json_t *calls = calling ? calls_of(&r) : NULL;
        if (calling && !calls) status = SL_FAIL_NOMEM(err, "calls");
        if (r.call_count > 0 && !calling)
            chat_screen_note(&c->screen, "the answer ended before its calls could be run");
        if (status == SL_OK) status = keep(&r, calls, err);
        if (status == SL_OK && calling) status = run_calls(c, calls, err);
        *more = calling && !cli_interrupted();
        json_decref(calls);
    }
    reply_free(&r);
    return status;
}

static void take_back(const chat *c, size_t count)
{
    while (json_array_size(c->messages) > count)
        json_array_remove(c->messages, json_array_size(c->messages) - 1);
}

sl_status chat_turn(chat *c, const char *text, size_t size, sl_error *err)
{
    size_t before = json_array_size(c->messages);
    json_t *message =
        json_pack("{s:s, s:o}", "role", "user", "content", chat_json_text(text, size));
    if (json_array_append_new(c->messages, message) != 0) return SL_FAIL_NOMEM(err, "messages");
    bool more = true;
    sl_status status = SL_OK;
    for (uint32_t round = 0; status == SL_OK && more; round++)
        status = run_round(c, round == ROUNDS_MAX, &more, err);
    if (status == SL_OK) return SL_OK;
    take_back(c, before);
    return status;
}
