/* Reference outputs: tensors and JSON that the reference implementation wrote, and models run
 * against them. A failure ends the test at once (cmocka assertions). */
#ifndef SL_TEST_GOLDEN_H
#define SL_TEST_GOLDEN_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/engine.h"
#include "sluice.h"

/* The folder of the demo checkpoint (bf16) in the reference data, or false with a message. */
bool golden_demo_checkpoint(char *out, size_t out_size);
/* The demo pack in the repository; false, with a message, where it has not been made. */
bool golden_demo_pack(char *out, size_t out_size);

/* A float tensor of a golden file: malloc'ed; its shape as rows × cols (all leading dimensions
 * together). */
float *golden_floats(const char *file, const char *name, size_t *rows, size_t *cols);
int32_t *golden_ids(const char *file, const char *name, size_t *count);
json_t *golden_json(const char *file);
int32_t *golden_json_ids(const json_t *array, size_t *count);

/* ‖a − b‖ / ‖b‖ over n numbers. */
double golden_relative(const float *a, const float *b, size_t n);

/* Opens or ends the test with the error's message. */
sl_engine *golden_open(const char *path, const sl_engine_options *opt);
sl_session *golden_session(sl_engine *engine);

/* All logits of a sequence from an empty session, [count, vocab], malloc'ed. */
float *golden_run(sl_session *session, const int32_t *ids, size_t count);
/* The same from an engine opened for it with these options. */
float *golden_run_with(const char *path, const sl_engine_options *opt, const int32_t *ids,
                       size_t count, uint32_t *vocab);

/* Keeps what the observer sees: hidden[j] for j <= layers, router[j] for j < layers. */
typedef struct golden_watch {
    uint32_t layers, hidden_width, experts;
    size_t tokens;
    float **hidden, **router;
} golden_watch;
golden_watch *golden_watch_start(sl_session *session, size_t tokens);
void golden_watch_free(golden_watch *watch);

/* Mean NLL over the first `windows` windows of golden.json; where token_error is not NULL it gets
 * the largest difference of a token's NLL from the reference, and *reference the reference's mean
 * over the same windows. */
double golden_nll(sl_session *session, const json_t *golden, size_t windows, double *token_error,
                  double *reference);

#endif
