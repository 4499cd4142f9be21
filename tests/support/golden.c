#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "golden.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "format/safetensors.h"
#include "test_env.h"

bool golden_demo_checkpoint(char *out, size_t out_size)
{
    return test_shared_path(out, out_size, "models/demo");
}

bool golden_demo_pack(char *out, size_t out_size)
{
    char manifest[1024];
    snprintf(out, out_size, "%s/../models/demo", SL_TEST_SOURCE_DIR);
    snprintf(manifest, sizeof manifest, "%s/manifest.json", out);
    if (access(manifest, R_OK) == 0) return true;
    printf("skipped: %s is not there\n", manifest);
    return false;
}

/* The bytes of one tensor of a golden file. */
static char *read_tensor(const char *file, const char *name, const char *dtype, size_t *rows,
                         size_t *cols)
{
    sl__st_set set = {0};
    sl_error err = {0};
    if (sl__st_open(&set, file, &err) != SL_OK) fail_msg("%s", err.message);
    const sl__st_tensor *t = sl__st_find(&set, name);
    if (!t) fail_msg("%s: no tensor %s", file, name);
    assert_string_equal(sl__dtype_name(t->dtype), dtype);
    *cols = t->dims ? (size_t)t->shape[t->dims - 1] : 1;
    *rows = 1;
    for (uint32_t i = 0; i + 1 < t->dims; i++)
        *rows *= (size_t)t->shape[i];
    char *data = malloc((size_t)t->bytes + 1);
    FILE *f = fopen(file, "rb");
    assert_non_null(data);
    assert_non_null(f);
    assert_int_equal(fseek(f, (long)t->offset, SEEK_SET), 0);
    assert_int_equal(fread(data, 1, (size_t)t->bytes, f), t->bytes);
    fclose(f);
    sl__st_close(&set);
    return data;
}

float *golden_floats(const char *file, const char *name, size_t *rows, size_t *cols)
{
    return (float *)(void *)read_tensor(file, name, "f32", rows, cols);
}

int32_t *golden_ids(const char *file, const char *name, size_t *count)
{
    size_t rows;
    return (int32_t *)(void *)read_tensor(file, name, "i32", &rows, count);
}

json_t *golden_json(const char *file)
{
    json_t *root = NULL;
    sl_error err = {0};
    if (sl__json_load(file, 64u << 20, &root, &err) != SL_OK) fail_msg("%s", err.message);
    return root;
}

int32_t *golden_json_ids(const json_t *array, size_t *count)
{
    *count = json_array_size(array);
    int32_t *ids = malloc((*count + 1) * sizeof *ids);
    assert_non_null(ids);
    for (size_t i = 0; i < *count; i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(array, i));
    return ids;
}

double golden_relative(const float *a, const float *b, size_t n)
{
    double difference = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        double d = (double)a[i] - (double)b[i];
        difference += d * d;
        norm += (double)b[i] * (double)b[i];
    }
    return norm > 0 ? sqrt(difference / norm) : sqrt(difference);
}

sl_engine *golden_open(const char *path, const sl_engine_options *opt)
{
    sl_engine *engine = NULL;
    sl_error err = {0};
    if (sl_engine_open(&engine, path, opt, &err) != SL_OK) fail_msg("%s", err.message);
    return engine;
}

sl_session *golden_session(sl_engine *engine)
{
    sl_session *session = NULL;
    sl_error err = {0};
    if (sl_session_create(&session, engine, &err) != SL_OK) fail_msg("%s", err.message);
    return session;
}

struct collect {
    float *out;
    size_t vocab;
};

static sl_status collect_logits(void *ctx, size_t first, size_t count, const float *logits)
{
    struct collect *c = ctx;
    memcpy(c->out + first * c->vocab, logits, count * c->vocab * sizeof(float));
    return SL_OK;
}

float *golden_run(sl_session *session, const int32_t *ids, size_t count)
{
    sl_error err = {0};
    struct collect c = {.vocab = session->engine->desc.vocab};
    c.out = malloc(count * c.vocab * sizeof(float));
    assert_non_null(c.out);
    sl_session_reset(session);
    if (sl_session_eval(session, ids, count, NULL, collect_logits, &c, &err) != SL_OK) {
        fail_msg("%s", err.message);
    }
    return c.out;
}

float *golden_run_with(const char *path, const sl_engine_options *opt, const int32_t *ids,
                       size_t count, uint32_t *vocab)
{
    sl_engine *engine = golden_open(path, opt);
    sl_session *session = golden_session(engine);
    float *logits = golden_run(session, ids, count);
    if (vocab) *vocab = engine->desc.vocab;
    sl_session_destroy(session);
    sl_engine_close(engine);
    return logits;
}

static void watch(void *ctx, sl__observed what, uint32_t layer, uint32_t first, uint32_t count,
                  uint32_t width, const float *data)
{
    golden_watch *w = ctx;
    if (what == SL_OBSERVED_MIXED) return;
    float *to = what == SL_OBSERVED_HIDDEN ? w->hidden[layer] : w->router[layer];
    assert_true(first + count <= w->tokens);
    memcpy(to + (size_t)first * width, data, (size_t)count * width * sizeof(float));
}

golden_watch *golden_watch_start(sl_session *session, size_t tokens)
{
    const sl__model_desc *desc = &session->engine->desc;
    golden_watch *w = calloc(1, sizeof *w);
    assert_non_null(w);
    w->layers = desc->layer_count;
    w->hidden_width = desc->hidden;
    for (uint32_t i = 0; i < desc->layer_count; i++) { /* the first layers may be dense */
        if (desc->layers[i].moe.experts > w->experts) w->experts = desc->layers[i].moe.experts;
    }
    w->tokens = tokens;
    w->hidden = calloc(w->layers + 1, sizeof *w->hidden);
    w->router = calloc(w->layers + 1, sizeof *w->router);
    assert_true(w->hidden && w->router);
    for (uint32_t i = 0; i <= w->layers; i++) {
        w->hidden[i] = calloc(tokens * w->hidden_width, sizeof(float));
        w->router[i] = calloc(tokens * w->experts, sizeof(float));
        assert_true(w->hidden[i] && w->router[i]);
    }
    sl__session_observe(session, watch, w);
    return w;
}

void golden_watch_free(golden_watch *w)
{
    for (uint32_t i = 0; i <= w->layers; i++) {
        free(w->hidden[i]);
        free(w->router[i]);
    }
    free(w->hidden);
    free(w->router);
    free(w);
}

double golden_nll(sl_session *session, const json_t *golden, size_t windows, double *token_error,
                  double *reference)
{
    const json_t *list = json_object_get(golden, "nll_windows");
    double sum = 0, reference_sum = 0, worst = 0;
    size_t total = 0;
    for (size_t i = 0; i < windows; i++) {
        const json_t *window = json_array_get(list, i);
        const json_t *expected = json_object_get(window, "nll");
        size_t count;
        sl_error err = {0};
        int32_t *ids = golden_json_ids(json_object_get(window, "tokens"), &count);
        float *nll = malloc(count * sizeof *nll);
        assert_non_null(nll);
        if (sl_eval_nll(session, ids, count, nll, &err) != SL_OK) fail_msg("%s", err.message);
        for (size_t t = 0; t + 1 < count; t++) {
            double want = json_number_value(json_array_get(expected, t));
            double error = fabs((double)nll[t] - want);
            if (error > worst) worst = error;
            sum += (double)nll[t];
            reference_sum += want;
        }
        total += count - 1;
        free(nll);
        free(ids);
    }
    if (token_error) *token_error = worst;
    if (reference) *reference = reference_sum / (double)total;
    return sum / (double)total;
}
