/* Memory that runs out. Every allocation of opening a model, of a session, of packing and of
 * compiling a tokenizer is made to fail in turn: each must end in a clear error and leave nothing
 * behind (the sanitizer build looks for leaks). Then: decoding allocates nothing at all.
 *
 * The linker sends the program's own allocations through the functions below (-Wl,--wrap). Those
 * inside shared libraries are not reached: jansson, for one, loses text when its memory runs out.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fail.h"
#include "gguf_convert.h"
#include "golden.h"
#include "test_env.h"

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
int __real_posix_memalign(void **out, size_t align, size_t size);
void *__real_mmap(void *at, size_t size, int prot, int flags, int fd, off_t offset);
void *__real_mmap64(void *at, size_t size, int prot, int flags, int fd, off_t offset);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
int __wrap_posix_memalign(void **out, size_t align, size_t size);
void *__wrap_mmap(void *at, size_t size, int prot, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *at, size_t size, int prot, int flags, int fd, off_t offset);

/* Only the main thread allocates while these count. */
static long calls, fail_at; /* fail_at 0: never */

static bool fails(void) { return ++calls == fail_at; }

void *__wrap_malloc(size_t size) { return fails() ? NULL : __real_malloc(size); }
void *__wrap_calloc(size_t count, size_t size)
{
    return fails() ? NULL : __real_calloc(count, size);
}
void *__wrap_realloc(void *old, size_t size) { return fails() ? NULL : __real_realloc(old, size); }
int __wrap_posix_memalign(void **out, size_t align, size_t size)
{
    return fails() ? 12 : __real_posix_memalign(out, align, size);
}
void *__wrap_mmap(void *at, size_t size, int prot, int flags, int fd, off_t offset)
{
    return fails() ? MAP_FAILED : __real_mmap(at, size, prot, flags, fd, offset);
}
/* What 64-bit file offsets make of it. */
void *__wrap_mmap64(void *at, size_t size, int prot, int flags, int fd, off_t offset)
{
    return fails() ? MAP_FAILED : __real_mmap64(at, size, prot, flags, fd, offset);
}

static char dir[256], pack[300];

/* Runs `body` with the first, second, … allocation failing until it succeeds. */
static void fail_each(const char *what, sl_status (*body)(sl_error *err))
{
    sl_error err = {0};
    long n = 0, step = test_fast() ? 7 : 1;
    sl_status status;
    do {
        n += step;
        calls = 0;
        fail_at = n;
        sl_error_clear(&err);
        status = body(&err);
        bool reached = calls >= n;
        fail_at = 0;
        if (status == SL_OK && reached) {
            /* A library may do without: then the result was right all the same. */
            continue;
        }
        if (status != SL_OK) {
            assert_true(reached);
            assert_true(err.message[0] != '\0');
            if (status != SL_ENOMEM) fail_msg("%s, allocation %ld: %s", what, n, err.message);
        } else {
            break;
        }
    } while (n < 2000000);
    printf("%s: %ld allocations failed in turn\n", what, n - 1);
    assert_true(n > 5);
}

static sl_status open_model(const char *path, sl_error *err)
{
    sl_engine *engine = NULL;
    sl_session *session = NULL;
    const sl_engine_options opt = {.context_tokens = 64, .threads = 2, .io_depth = 2};
    const int32_t ids[] = {5, 6, 7};
    sl_status status = sl_engine_open(&engine, path, &opt, err);
    if (status == SL_OK) status = sl_session_create(&session, engine, err);
    if (status == SL_OK) status = sl_session_eval(session, ids, 3, NULL, NULL, NULL, err);
    sl_session_destroy(session);
    sl_engine_close(engine);
    return status;
}

static sl_status open_checkpoint(sl_error *err) { return open_model("data/qwen3_5_moe_text", err); }
static sl_status open_pack(sl_error *err) { return open_model(pack, err); }
static sl_status open_gguf(sl_error *err)
{
    char path[400];
    sl_template *tmpl = NULL;
    snprintf(path, sizeof path, "%s/model.gguf", dir);
    SL_TRY(sl_template_open(&tmpl, path, err));
    sl_template_close(tmpl);
    return open_model(path, err);
}

static void opening(void **state)
{
    (void)state;
    fail_each("checkpoint", open_checkpoint);
    fail_each("pack", open_pack);
    const gguf_recipe recipe = {.matrices = GGUF_Q8_0,
                                .experts = {GGUF_Q8_0, GGUF_Q4_0, GGUF_BF16},
                                .vocabulary = true};
    char path[400];
    snprintf(path, sizeof path, "%s/model.gguf", dir);
    gguf_convert("data/qwen3_5_moe_text", path, &recipe);
    fail_each("GGUF", open_gguf);
}

static sl_status inspect_model(sl_error *err)
{
    sl_model_info info;
    return sl_model_inspect("data/qwen3_5_moe_text", &info, err);
}

static void inspecting(void **state)
{
    (void)state;
    fail_each("inspect", inspect_model);
}

/* Measured, remembered and recalled; that it could not be remembered is no failure. */
static sl_status probe_model(sl_error *err)
{
    char file[400];
    sl_probe_result result;
    snprintf(file, sizeof file, "%s/disks.json", dir);
    sl_probe_options opt = {.time_ns = 20000000, .probe_file = file, .again = true};
    sl_status status = sl_probe("data/qwen3_5_moe_text", &opt, &result, err);
    if (status != SL_OK) return status;
    opt.again = false;
    return sl_probe("data/qwen3_5_moe_text", &opt, &result, err);
}

static void probing(void **state)
{
    (void)state;
    fail_each("probe", probe_model);
}

static sl_status use_tokenizer(const char *path, sl_error *err)
{
    sl_tokenizer *tok = NULL;
    sl_detokenizer *detok = NULL;
    int32_t *ids = NULL;
    char *text = NULL;
    size_t count = 0, size;
    sl_status status = sl_tokenizer_open(&tok, path, err);
    if (status == SL_OK) {
        status = sl_tokenizer_encode(tok, "a cafe\xcc\x81 <|x|>", 14,
                                     SL_ENCODE_ADDED | SL_ENCODE_BOS, &ids, &count, err);
    }
    if (status == SL_OK) status = sl_tokenizer_decode(tok, ids, count, false, &text, &size, err);
    if (status == SL_OK) status = sl_detokenizer_create(&detok, tok, false, err);
    sl_detokenizer_destroy(detok);
    free(text);
    free(ids);
    sl_tokenizer_close(tok);
    return status;
}

static sl_status use_bytes(sl_error *err)
{
    return use_tokenizer("data/tokenizer/small.json", err);
}
static sl_status use_text(sl_error *err)
{
    return use_tokenizer("data/tokenizer/small_text.json", err);
}
static sl_status use_ranks(sl_error *err)
{
    return use_tokenizer("data/tokenizer/o200k_small.tiktoken", err);
}
static sl_status use_gguf(sl_error *err)
{
    return use_tokenizer("data/gguf/vocab.gguf", err);
}

static void tokenizing(void **state)
{
    (void)state;
    fail_each("tokenizer of bytes", use_bytes);
    fail_each("tokenizer of text", use_text);
    fail_each("tiktoken", use_ranks);
    fail_each("vocabulary of a GGUF file", use_gguf);
}

static sl_status render_messages(sl_error *err)
{
    static const char text[] =
        "{% macro f(x, y='d') %}{{ x }}{{ kwargs }}{{ caller() }}{% endmacro %}"
        "{% set ns = namespace(a=[]) %}{% for m in messages if m %}{% set ns.a = ns.a + [m.s] %}"
        "{% call f(m.s|upper, z=1) %}{{ loop.index ~ m.s.split() }}{% endcall %}{% endfor %}"
        "{{ ns.a|join(',') }}{{ messages|tojson(indent=2) }}{{ '%s'|format(1.5) }}"
        "{{ messages|map(attribute='s')|sort|unique|list }}{{ {'a': 1, 'b': (2,)}.items() }}"
        "{% filter indent %}a\nb{% endfilter %}{{ range(20)|batch(3)|list }}";
    static const char vars[] = "{\"messages\": [{\"s\": \"a b\"}, {\"s\": \"c\"}],"
                               "\"now\": \"2026-01-02\"}";
    sl_template *tmpl = NULL;
    char *out = NULL;
    size_t size;
    sl_status status = sl_template_parse(&tmpl, text, sizeof text - 1, "t", err);
    if (status == SL_OK)
        status = sl_template_render(tmpl, vars, sizeof vars - 1, &out, &size, err);
    free(out);
    sl_template_close(tmpl);
    return status;
}

/* A prompt, with what must be guarded in it. */
static sl_status make_prompt(sl_error *err)
{
    static const char text[] = "{% for m in messages %}{{ m.s }}<|x|>{% endfor %}";
    static const char vars[] = "{\"messages\": [{\"s\": \"a <|x|> b\"}]}";
    sl_template *tmpl = NULL;
    sl_tokenizer *tok = NULL;
    sl_prompt prompt = {0};
    sl_status status = sl_tokenizer_open(&tok, "data/tokenizer/small.json", err);
    if (status == SL_OK) status = sl_template_parse(&tmpl, text, sizeof text - 1, "t", err);
    if (status == SL_OK)
        status = sl_template_prompt(tmpl, tok, vars, sizeof vars - 1, &prompt, err);
    free(prompt.ids);
    sl_template_close(tmpl);
    sl_tokenizer_close(tok);
    return status;
}

static void rendering(void **state)
{
    (void)state;
    fail_each("chat template", render_messages);
    fail_each("prompt", make_prompt);
}

/* Streaming: what a token needs is there before it comes. */
static void detokenizing_allocates_nothing(void **state)
{
    (void)state;
    static const char *const paths[] = {"data/tokenizer/small.json",
                                        "data/tokenizer/small_text.json"};
    for (size_t k = 0; k < 2; k++) {
        sl_tokenizer *tok;
        sl_detokenizer *detok;
        sl_error err = {0};
        size_t size;
        assert_int_equal(sl_tokenizer_open(&tok, paths[k], &err), SL_OK);
        assert_int_equal(sl_detokenizer_create(&detok, tok, false, &err), SL_OK);
        calls = 0;
        for (int round = 0; round < 3; round++) {
            for (int32_t id = 0; id < (int32_t)sl_tokenizer_vocab_size(tok); id++)
                sl_detokenizer_push(detok, id, &size);
            sl_detokenizer_finish(detok, &size);
        }
        assert_int_equal(calls, 0);
        sl_detokenizer_destroy(detok);
        sl_tokenizer_close(tok);
    }
}

static sl_status write_pack(sl_error *err)
{
    char out[400];
    const sl_pack_options opt = {.experts = "q4", .resident = "q8", .threads = 2};
    snprintf(out, sizeof out, "%s/out", dir);
    return sl_pack("data/qwen3_5_moe_text", out, &opt, err);
}

/* Each try takes up what the one before left: resuming is tested along the way. */
static void packing(void **state)
{
    (void)state;
    fail_each("pack", write_pack);
    char out[400], left[420];
    snprintf(out, sizeof out, "%s/out", dir);
    snprintf(left, sizeof left, "%s.partial", out);
    assert_int_not_equal(access(left, F_OK), 0);
    size_t count;
    uint32_t vocab;
    int32_t *ids = golden_ids("data/qwen3_5_moe_text/golden.safetensors", "ids", &count);
    float *a = golden_run_with(out, NULL, ids, count, &vocab);
    float *b = golden_run_with(pack, NULL, ids, count, NULL);
    assert_memory_equal(a, b, count * vocab * sizeof(float));
    free(a);
    free(b);
    free(ids);
}

static sl_status write_synth(sl_error *err)
{
    char out[400];
    const sl_synth_options opt = {.like = "tiny", .layers = 2, .experts = "q2", .resident = "q2"};
    snprintf(out, sizeof out, "%s/synth", dir);
    return sl_synth(out, &opt, err);
}

static sl_status measure_routing(sl_error *err)
{
    char path[400];
    sl_engine *engine = NULL;
    sl_session *session = NULL;
    sl_routing_measured measured;
    const sl_engine_options opt = {.context_tokens = 64, .threads = 2, .io_depth = 2};
    snprintf(path, sizeof path, "%s/synth", dir);
    sl_status status = sl_engine_open(&engine, path, &opt, err);
    if (status == SL_OK) status = sl_session_create(&session, engine, err);
    if (status == SL_OK) status = sl_measure_routing(session, 4, &measured, err);
    sl_session_destroy(session);
    sl_engine_close(engine);
    return status;
}

static void synthetic_models(void **state)
{
    (void)state;
    fail_each("synth", write_synth);
    char left[420];
    snprintf(left, sizeof left, "%s/synth.partial", dir);
    assert_int_not_equal(access(left, F_OK), 0);
    fail_each("routing", measure_routing);
}

static void decoding_allocates_nothing(void **state)
{
    (void)state;
    size_t count;
    sl_error err = {0};
    int32_t *ids = golden_ids("data/qwen3_5_moe_text/golden.safetensors", "ids", &count);
    sl_engine *engine = golden_open("data/qwen3_5_moe_text", NULL);
    sl_session *session = golden_session(engine);
    sl_sampler_options sampling;
    sl_sampler_options_default(&sampling);
    sampling.temperature = 0.8f;
    sampling.top_k = 20;
    sampling.top_p = 0.9f;
    sl_sampler *sampler = NULL;
    uint32_t vocab = engine->desc.vocab;
    assert_int_equal(sl_sampler_create(&sampler, vocab, &sampling, &err), SL_OK);
    float *logits = malloc(vocab * sizeof *logits);
    assert_non_null(logits);
    calls = 0;
    assert_int_equal(sl_session_eval(session, ids, count, logits, NULL, NULL, &err), SL_OK);
    for (int i = 0; i < 50; i++) {
        int32_t id;
        assert_int_equal(sl_sampler_sample(sampler, logits, &id, &err), SL_OK);
        assert_int_equal(sl_session_eval(session, &id, 1, logits, NULL, NULL, &err), SL_OK);
    }
    assert_int_equal(calls, 0);
    free(logits);
    free(ids);
    sl_sampler_destroy(sampler);
    sl_session_destroy(session);
    sl_engine_close(engine);
}

int main(void)
{
    const sl_pack_options opt = {.experts = "q4", .resident = "q8"};
    sl_error err = {0};
    test_temp_dir(dir, sizeof dir);
    snprintf(pack, sizeof pack, "%s/model", dir);
    if (sl_pack("data/qwen3_5_moe_text", pack, &opt, &err) != SL_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opening),    cmocka_unit_test(inspecting),
        cmocka_unit_test(tokenizing), cmocka_unit_test(packing),
        cmocka_unit_test(probing),    cmocka_unit_test(synthetic_models),
        cmocka_unit_test(rendering),
        cmocka_unit_test(decoding_allocates_nothing),
        cmocka_unit_test(detokenizing_allocates_nothing),
    };
    int bad = cmocka_run_group_tests(tests, NULL, NULL);
    test_remove_tree(dir);
    return bad;
}
