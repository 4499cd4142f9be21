/* Generations: what is told of tokens that a test chooses, by logits with one peak. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "sluice.h"
#include "test_env.h"

static const char demo[] = "../models/demo";

static sl_tokenizer *tok;
static uint32_t vocab;
static int32_t end_id;

static int open_tokenizer(void **state)
{
    (void)state;
    sl_error err = {0};
    if (sl_tokenizer_open(&tok, demo, &err) != SL_OK) fail_msg("%s", err.message);
    vocab = sl_tokenizer_vocab_size(tok);
    end_id = sl_tokenizer_token_id(tok, "<|im_end|>");
    assert_true(end_id >= 0);
    return 0;
}

static int close_tokenizer(void **state)
{
    (void)state;
    sl_tokenizer_close(tok);
    return 0;
}

/* ---- writing down what is told --------------------------------------------------------------- */

typedef struct record {
    sl__buffer said; /* "T(text) R(reasoning) C(name) A(arguments) E(1)" with pieces joined */
    sl_event_kind last;
    unsigned tokens;
    float logprob;
    sl_token_chance top[SL_TOP_LOGPROBS_MAX];
    uint32_t top_count;
    unsigned refuse_at; /* refuses the n-th event; 0: none */
    unsigned events;
} record;

static sl_status listen(void *ctx, const sl_event *event)
{
    static const char letters[] = "TRCAE";
    record *r = ctx;
    if (++r->events == r->refuse_at) return SL_ECANCELLED;
    if (event->kind == SL_EVENT_TOKEN) {
        r->tokens++;
        r->logprob = event->token.logprob;
        r->top_count = event->top_count;
        for (uint32_t i = 0; i < event->top_count; i++)
            r->top[i] = event->top[i];
        return SL_OK;
    }
    if (event->kind != r->last || event->kind == SL_EVENT_CALL || event->kind == SL_EVENT_CALL_END)
        sl__buffer_printf(&r->said, "|%c:", letters[event->kind]);
    r->last = event->kind;
    if (event->kind == SL_EVENT_CALL_END)
        sl__buffer_printf(&r->said, "%d", event->complete);
    else
        sl__buffer_append(&r->said, event->text, event->size);
    return SL_OK;
}

static void start(record *r)
{
    *r = (record){.last = SL_EVENT_TOKEN};
    sl__buffer_init(&r->said, 1 << 20);
    sl__buffer_append_str(&r->said, "");
}

static sl_generation_options options(record *r)
{
    sl_generation_options opt;
    sl_generation_options_default(&opt);
    opt.end_ids = &end_id;
    opt.end_count = 1;
    opt.event = listen;
    opt.ctx = r;
    return opt;
}

static sl_generation *create(const sl_generation_options *opt)
{
    sl_error err = {0};
    sl_generation *g;
    if (sl_generation_create(&g, tok, vocab, opt, NULL, 0, &err) != SL_OK)
        fail_msg("%s", err.message);
    return g;
}

static sl_status take(sl_generation *g, int32_t id, sl_error *err)
{
    float *logits = calloc(vocab, sizeof *logits);
    int32_t chosen;
    assert_non_null(logits);
    logits[id] = 1000;
    sl_status status = sl_generation_take(g, logits, &chosen, err);
    if (status == SL_OK) assert_int_equal(chosen, id);
    free(logits);
    return status;
}

/* Writes text until the generation has finished or there is no more; returns the finish. */
static sl_finish write_text(sl_generation *g, const char *text, bool end)
{
    int32_t *ids;
    size_t count;
    sl_error err = {0};
    assert_int_equal(
        sl_tokenizer_encode(tok, text, strlen(text), SL_ENCODE_ADDED, &ids, &count, &err), SL_OK);
    for (size_t i = 0; i < count && sl_generation_finish(g) == SL_FINISH_NONE; i++)
        assert_int_equal(take(g, ids[i], &err), SL_OK);
    free(ids);
    if (end && sl_generation_finish(g) == SL_FINISH_NONE)
        assert_int_equal(take(g, end_id, &err), SL_OK);
    return sl_generation_finish(g);
}

static void expect(const char *text, sl_generation_options *opt, sl_finish finish, const char *said)
{
    record r;
    start(&r);
    opt->ctx = &r;
    sl_generation *g = create(opt);
    assert_int_equal(write_text(g, text, true), finish);
    assert_string_equal(r.said.data, said);
    sl_generation_destroy(g);
    sl__buffer_free(&r.said);
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void text_comes_as_it_is(void **state)
{
    (void)state;
    sl_generation_options opt = options(NULL);
    expect("Once upon a time, Müller said \"日本\".", &opt, SL_FINISH_STOP,
           "|T:Once upon a time, Müller said \"日本\".");
    expect("", &opt, SL_FINISH_STOP, "");
    expect("<think>not a chat</think>", &opt, SL_FINISH_STOP, "|T:<think>not a chat</think>");
}

static void a_continued_prompt_keeps_its_space(void **state)
{
    (void)state;
    record r;
    start(&r);
    sl_generation_options opt = options(&r);
    sl_error err = {0};
    int32_t *prompt;
    size_t count;
    sl_generation *g;
    assert_int_equal(sl_tokenizer_encode(tok, "Hello", 5, 0, &prompt, &count, &err), SL_OK);
    assert_int_equal(sl_generation_create(&g, tok, vocab, &opt, prompt, count, &err), SL_OK);
    write_text(g, " world", true);
    assert_string_equal(r.said.data, "|T: world");
    assert_int_equal(r.tokens + 1, sl_generation_tokens(g)); /* an end token says nothing */
    sl_generation_destroy(g);
    free(prompt);
    sl__buffer_free(&r.said);
}

static void stops_end_the_answer(void **state)
{
    (void)state;
    static const char *const stops[] = {"END", "\n\n", "ENDING"};
    sl_generation_options opt = options(NULL);
    opt.stops = stops;
    opt.stop_count = 3;
    expect("one two END three", &opt, SL_FINISH_STOP, "|T:one two ");
    expect("one\n\ntwo END", &opt, SL_FINISH_STOP, "|T:one");
    expect("EN\nD", &opt, SL_FINISH_STOP, "|T:EN\nD"); /* held back, then told */
    expect("ends with EN", &opt, SL_FINISH_STOP, "|T:ends with EN");
    expect("END", &opt, SL_FINISH_STOP, "");

    record r;
    start(&r);
    opt.ctx = &r;
    sl_generation *g = create(&opt);
    write_text(g, "a\n\nb", false);
    assert_int_equal(sl_generation_finish(g), SL_FINISH_STOP);
    assert_int_equal(sl_generation_stop(g), 1);
    sl_error err = {0};
    assert_int_equal(take(g, end_id, &err), SL_EINVAL);
    assert_string_equal(err.message, "the answer has ended");
    sl_generation_destroy(g);
    sl__buffer_free(&r.said);
}

static void a_chat_is_taken_apart(void **state)
{
    (void)state;
    static const char tools[] = "[{\"type\":\"function\",\"function\":{\"name\":\"add\","
                                "\"parameters\":{\"type\":\"object\","
                                "\"properties\":{\"a\":{\"type\":\"integer\"}}}}}]";
    sl_generation_options opt = options(NULL);
    opt.chat = opt.thinking = true;
    opt.tools = tools;
    opt.tools_size = strlen(tools);
    expect("Hm.\n</think>\n\nYes.", &opt, SL_FINISH_STOP, "|R:Hm.|T:Yes.");
    expect("</think>\n\n<tool_call>\n<function=add>\n<parameter=a>\n12\n</parameter>\n</function>\n"
           "</tool_call>",
           &opt, SL_FINISH_CALLS, "|C:add|A:{\"a\": 12}|E:1");
    expect("</think>\n\nFirst.\n<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": 1}}\n"
           "</tool_call>",
           &opt, SL_FINISH_CALLS, "|T:First.|C:add|A:{\"a\": 1}|E:1");
    static const char *const stops[] = {"stop"};
    opt.stops = stops;
    opt.stop_count = 1; /* of the answer, not of the reasoning */
    expect("do not stop\n</think>\n\nDo not stop here", &opt, SL_FINISH_STOP,
           "|R:do not stop|T:Do not ");
}

/* Logits that like some tokens, in order, and would rather say anything than end. */
static void a_grammar_holds_the_answer(void **state)
{
    (void)state;
    static const char schema[] = "{\"type\":\"object\",\"properties\":{\"ok\":{\"type\":"
                                 "\"boolean\"}},\"required\":[\"ok\"]}";
    sl_error err = {0};
    sl_grammar *grammar;
    sl_vocabulary *words;
    record r;
    assert_int_equal(sl_grammar_json_schema(&grammar, schema, strlen(schema), &err), SL_OK);
    assert_int_equal(sl_vocabulary_create(&words, tok, &err), SL_OK);
    for (int thinking = 0; thinking < 2; thinking++) {
        start(&r);
        sl_generation_options opt = options(&r);
        opt.grammar = grammar;
        opt.vocabulary = words;
        opt.chat = opt.thinking = thinking;
        opt.sampler.temperature = 1;
        opt.sampler.seed = 7;
        opt.max_tokens = 400;
        sl_generation *g = create(&opt);
        if (thinking) write_text(g, "Hm, {.\n</think>\n\n", false);
        float *logits = calloc(vocab, sizeof *logits);
        int32_t id;
        while (sl_generation_finish(g) == SL_FINISH_NONE)
            assert_int_equal(sl_generation_take(g, logits, &id, &err), SL_OK);
        assert_int_equal(sl_generation_finish(g), SL_FINISH_STOP);
        const char *json = strchr(r.said.data, 'T');
        assert_non_null(json);
        assert_true(strstr(json, "\"ok\"") && (strstr(json, "true") || strstr(json, "false")));
        assert_int_equal(json[strlen(json) - 1], '}');
        free(logits);
        sl_generation_destroy(g);
        sl__buffer_free(&r.said);
    }
    sl_vocabulary_destroy(words);
    sl_grammar_close(grammar);
}

/* The answer of a model that loves one token, or else the text, and never ends. */
static sl_finish rambled(const sl_generation_options *opt, const char *opening, const char *loves,
                         float how_much, uint32_t *tokens)
{
    sl_error err = {0};
    int32_t *ids, id;
    size_t count;
    float *logits = calloc(vocab, sizeof *logits);
    sl_generation *g = create(opt);
    assert_non_null(logits);
    assert_int_equal(sl_tokenizer_encode(tok, loves, strlen(loves), 0, &ids, &count, &err), SL_OK);
    assert_true(count == 1);
    logits[ids[0]] = how_much;
    if (opening[0]) write_text(g, opening, false);
    while (sl_generation_finish(g) == SL_FINISH_NONE)
        assert_int_equal(sl_generation_take(g, logits, &id, &err), SL_OK);
    sl_finish finish = sl_generation_finish(g);
    *tokens = sl_generation_tokens(g);
    sl_generation_destroy(g);
    free(ids);
    free(logits);
    return finish;
}

static void check_json(const record *r)
{
    const char *json = strstr(r->said.data, "|T:");
    json_t *value = json ? json_loads(json + 3, 0, NULL) : NULL;
    if (!json_is_object(value)) fail_msg("%s", r->said.data);
    json_decref(value);
}

/* At every limit from what the answer needs on, with reasoning before it and without. */
static void an_answer_is_whole_within_its_limit(void **state)
{
    (void)state;
    sl_grammar *grammar;
    sl_vocabulary *words;
    record r;
    uint32_t tokens, thought = 0;
    assert_int_equal(sl_grammar_json(&grammar, NULL), SL_OK);
    assert_int_equal(sl_vocabulary_create(&words, tok, NULL), SL_OK);
    for (uint32_t limit = 1; limit < 40; limit++) {
        for (int kind = 0; kind < 6; kind++) {
            start(&r);
            sl_generation_options opt = options(&r);
            opt.grammar = grammar;
            opt.vocabulary = words;
            opt.whole = kind != 5;
            opt.chat = opt.thinking = kind == 2;
            opt.sampler.temperature = kind == 4 ? 1 : 0;
            opt.sampler.frequency_penalty = kind == 4 ? 0.1f : 0;
            opt.max_tokens = limit;
            if (kind == 2) opt.max_tokens += 100;
            const char *opening = kind == 2 ? "Hm.\n</think>" : "";
            const char *loves = kind == 1 ? "{\"" : kind == 2 ? "\n\n" : " the";
            if (kind == 2 && !thought) {
                sl_generation *g = create(&opt);
                write_text(g, opening, false);
                thought = sl_generation_tokens(g);
                sl_generation_destroy(g);
                sl__buffer_clear(&r.said);
                r.last = SL_EVENT_TOKEN;
            }
            if (kind == 2) opt.max_tokens = limit + thought;
            sl_finish finish = rambled(&opt, opening, loves, kind == 4 ? 3 : 9, &tokens);
            assert_int_equal(finish, SL_FINISH_LENGTH);
            assert_true(tokens <= opt.max_tokens);
            if (opt.whole && limit >= 2) check_json(&r);
            if (!opt.whole && limit > 2) assert_null(strchr(r.said.data, '}'));
            sl__buffer_free(&r.said);
        }
    }
    sl_vocabulary_destroy(words);
    sl_grammar_close(grammar);
}

/* Who comes to the end alone is not said to have been shortened, at the very last token either. */
static void an_answer_that_ends_by_itself_says_so(void **state)
{
    (void)state;
    static const char text[] = "{\"garden\": 1}";
    sl_grammar *grammar;
    sl_vocabulary *words;
    record r;
    int32_t *ids;
    size_t count;
    assert_int_equal(sl_grammar_json(&grammar, NULL), SL_OK);
    assert_int_equal(sl_vocabulary_create(&words, tok, NULL), SL_OK);
    assert_int_equal(sl_tokenizer_encode(tok, text, strlen(text), 0, &ids, &count, NULL), SL_OK);
    for (uint32_t more = 0; more < 3; more++) {
        start(&r);
        sl_generation_options opt = options(&r);
        opt.grammar = grammar;
        opt.vocabulary = words;
        opt.whole = true;
        opt.max_tokens = (uint32_t)count + more;
        sl_generation *g = create(&opt);
        assert_int_equal(write_text(g, text, more > 0), SL_FINISH_STOP);
        assert_string_equal(r.said.data, "|T:{\"garden\": 1}");
        sl_generation_destroy(g);
        sl__buffer_free(&r.said);
    }
    free(ids);
    sl_vocabulary_destroy(words);
    sl_grammar_close(grammar);
}

static void lengths_are_kept(void **state)
{
    (void)state;
    record r;
    start(&r);
    sl_generation_options opt = options(&r);
    opt.max_tokens = 3;
    sl_generation *g = create(&opt);
    assert_int_equal(write_text(g, "one two three four five six seven", false), SL_FINISH_LENGTH);
    assert_int_equal(sl_generation_tokens(g), 3);
    assert_int_equal(r.tokens, 3);
    sl_generation_destroy(g);

    /* The caller ends it: what is held back is told. */
    static const char *const stops[] = {"xyz"};
    opt.max_tokens = 0;
    opt.stops = stops;
    opt.stop_count = 1;
    sl_error err = {0};
    sl__buffer_clear(&r.said);
    r.last = SL_EVENT_TOKEN;
    g = create(&opt);
    write_text(g, "ab xy", false);
    assert_int_equal(sl_generation_finish(g), SL_FINISH_NONE);
    assert_int_equal(sl_generation_end(g, SL_FINISH_LENGTH, &err), SL_OK);
    assert_int_equal(sl_generation_finish(g), SL_FINISH_LENGTH);
    assert_string_equal(r.said.data, "|T:ab xy");
    sl_generation_destroy(g);
    sl__buffer_free(&r.said);
}

static void chances_are_the_models(void **state)
{
    (void)state;
    record r;
    start(&r);
    sl_generation_options opt = options(&r);
    opt.logprobs = true;
    opt.top_logprobs = 3;
    opt.sampler.presence_penalty = 1; /* shows in no chance */
    sl_generation *g = create(&opt);
    sl_error err = {0};
    float *logits = malloc(vocab * sizeof *logits);
    int32_t id;
    assert_non_null(logits);
    for (uint32_t i = 0; i < vocab; i++)
        logits[i] = -INFINITY;
    logits[70] = logf(5);
    logits[80] = logits[75] = logf(2);
    logits[90] = logf(1);
    assert_int_equal(sl_generation_take(g, logits, &id, &err), SL_OK);
    assert_int_equal(id, 70);
    assert_true(fabsf(r.logprob - logf(0.5f)) < 1e-6f);
    static const int32_t top[] = {70, 75, 80};
    static const float chances[] = {0.5f, 0.2f, 0.2f};
    assert_int_equal(r.top_count, 3);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(r.top[i].id, top[i]);
        assert_true(fabsf(expf(r.top[i].logprob) - chances[i]) < 1e-6f);
    }
    free(logits);
    sl_generation_destroy(g);
    sl__buffer_free(&r.said);
}

static void a_listener_can_end_it(void **state)
{
    (void)state;
    record r;
    start(&r);
    sl_generation_options opt = options(&r);
    r.refuse_at = 4; /* token, text, token, text */
    sl_generation *g = create(&opt);
    sl_error err = {0};
    int32_t a = sl_tokenizer_token_id(tok, "a");
    assert_true(a >= 0);
    assert_int_equal(take(g, a, &err), SL_OK);
    assert_int_equal(take(g, a, &err), SL_ECANCELLED);
    sl_generation_destroy(g);
    sl__buffer_free(&r.said);
}

static void wrong_options_are_refused(void **state)
{
    (void)state;
    sl_error err = {0};
    sl_generation *g;
    const int32_t beyond = (int32_t)vocab;
    sl_generation_options opt = options(NULL);
    assert_int_equal(sl_generation_create(&g, tok, vocab, &opt, &beyond, 1, &err), SL_EINVAL);
    assert_non_null(strstr(err.message, "is outside the vocabulary"));
    opt.top_logprobs = SL_TOP_LOGPROBS_MAX + 1;
    sl_error_clear(&err);
    assert_int_equal(sl_generation_create(&g, tok, vocab, &opt, NULL, 0, &err), SL_EINVAL);
    assert_string_equal(err.message, "top_logprobs: 21; at most 20");
    opt.top_logprobs = 0;
    static const char *const stops[] = {""};
    opt.stops = stops;
    opt.stop_count = 1;
    sl_error_clear(&err);
    assert_int_equal(sl_generation_create(&g, tok, vocab, &opt, NULL, 0, &err), SL_EINVAL);
    assert_string_equal(err.message, "stop text 0 has 0 bytes; 1 to 4096 are allowed");
    opt.stop_count = 0;
    opt.chat = true;
    opt.tools = "{}";
    opt.tools_size = 2;
    sl_error_clear(&err);
    assert_int_equal(sl_generation_create(&g, tok, vocab, &opt, NULL, 0, &err), SL_EINVAL);
    assert_string_equal(err.message, "tools: expected an array");
    assert_null(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_comes_as_it_is),
        cmocka_unit_test(a_continued_prompt_keeps_its_space),
        cmocka_unit_test(stops_end_the_answer),
        cmocka_unit_test(a_chat_is_taken_apart),
        cmocka_unit_test(a_grammar_holds_the_answer),
        cmocka_unit_test(an_answer_is_whole_within_its_limit),
        cmocka_unit_test(an_answer_that_ends_by_itself_says_so),
        cmocka_unit_test(lengths_are_kept),
        cmocka_unit_test(chances_are_the_models),
        cmocka_unit_test(a_listener_can_end_it),
        cmocka_unit_test(wrong_options_are_refused),
    };
    return cmocka_run_group_tests(tests, open_tokenizer, close_tokenizer);
}
