/* How fast attention reads what is cached: one token at a long context, against how fast memory is
 * read at all; and a chunk of tokens, in multiply-adds. Qwen3.5-397B's shape: 32 heads of 256, two
 * of them cached. Layers take turns, so that no cache holds what is read.
 *
 *     bench_attention [THREADS [CONTEXT [LEVEL]]]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/pages.h"
#include "model/lookback.h"
#include "model/run.h"

#define HEADS      32u
#define KV_HEADS   2u
#define DIM        256u
#define CACHED     ((uint64_t)512 << 20) /* bytes over all layers */
#define LAYERS_MAX 64u
#define ROUNDS     5u
#define CHUNK      128u /* tokens of a chunk, at a quarter of the context */

struct bench {
    sl__model_desc desc;
    sl__layer_desc layers[LAYERS_MAX];
    sl__layer_state states[LAYERS_MAX];
    sl__run run;
    uint32_t context;
    float *q, *out;
};

static void *take(size_t bytes)
{
    void *p = sl__pages_alloc(bytes);
    if (!p) {
        fprintf(stderr, "bench_attention: out of memory\n");
        exit(1);
    }
    return p;
}

/* Rows of numbers that repeat after some positions. */
static void fill(struct bench *b, uint32_t layer, const float *row)
{
    const uint32_t width = KV_HEADS * DIM;
    for (uint32_t p = 0; p < b->context; p++) {
        for (uint32_t h = 0; h < KV_HEADS; h++)
            sl__state_store(&b->states[layer], &b->layers[layer], h, 0, p, 1, row + p % 97, width,
                            row + p % 89, width);
    }
}

static sl__lookback ask(const struct bench *b, uint32_t layer, uint32_t position, uint32_t tokens)
{
    return (sl__lookback){.state = &b->states[layer], .heads = HEADS, .kv_heads = KV_HEADS,
                          .qk_dim = DIM, .v_dim = DIM, .q = b->q, .q_token = (size_t)HEADS * DIM,
                          .q_head = DIM, .position = position, .tokens = tokens,
                          .scale = 0.0625f, .out = b->out};
}

static double seconds(const struct bench *b, uint32_t layer, uint32_t position, uint32_t tokens)
{
    const sl__lookback look = ask(b, layer, position, tokens);
    uint64_t begin = sl__now_ns();
    sl__look_back(&b->run, &look, 1);
    return (double)(sl__now_ns() - begin) / 1e9;
}

static int up(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void run_type(struct bench *b, sl_kv_type kv, uint32_t threads)
{
    double times[LAYERS_MAX * ROUNDS];
    uint64_t token = sl__state_token_bytes(&b->layers[0], kv), bytes = token * b->context;
    b->desc.layer_count = (uint32_t)(CACHED / bytes) + 1;
    if (b->desc.layer_count > LAYERS_MAX) b->desc.layer_count = LAYERS_MAX;
    uint64_t all = sl__state_layout(NULL, &b->desc, kv, b->context, CHUNK, NULL);
    void *memory = take((size_t)all);
    sl__state_layout(b->states, &b->desc, kv, b->context, CHUNK, memory);
    for (uint32_t i = 0; i < b->desc.layer_count; i++)
        fill(b, i, b->q);
    size_t count = 0;
    double memory_rate = sl_probe_memory(threads, 300000000);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        for (uint32_t i = 0; i < b->desc.layer_count; i++)
            times[count++] = seconds(b, i, b->context - 1, 1);
    }
    double again = sl_probe_memory(threads, 300000000);
    qsort(times, count, sizeof times[0], up);
    if (again > memory_rate) memory_rate = again;
    double best = (double)bytes / times[0], middle = (double)bytes / times[count / 2];
    printf("%-4s %7.2f %7.2f GB/s (best, median of %zu)  %5.1f %5.1f %% of %.2f   ",
           sl_kv_type_name(kv), best / 1e9, middle / 1e9, count, 100 * best / memory_rate,
           100 * middle / memory_rate, memory_rate / 1e9);
    uint32_t position = b->context / 4;
    for (count = 0; count < 5; count++)
        times[count] = seconds(b, 0, position, CHUNK);
    qsort(times, count, sizeof times[0], up);
    double sums = 2.0 * HEADS * DIM * CHUNK * (position + CHUNK / 2.0);
    printf("chunk %6.1f GMAC/s\n", sums / times[0] / 1e9);
    sl__pages_free(memory, (size_t)all);
}

int main(int argc, char **argv)
{
    static struct bench b;
    sl_error err = {0};
    uint32_t threads = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 1;
    b.context = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 32768;
    if (threads == 0 || b.context < 4 * CHUNK) return 2;
    sl__kern_init(&b.run.kern, argc > 3 ? argv[3] : NULL);
    for (uint32_t i = 0; i < LAYERS_MAX; i++) {
        b.layers[i].mixer = SL_MIXER_ATTENTION;
        b.layers[i].attention = (sl__attention_desc){.heads = HEADS, .kv_heads = KV_HEADS,
                                                     .head_dim = DIM};
    }
    b.desc = (sl__model_desc){.layer_count = 1, .hidden = 64, .layers = b.layers};
    b.run.desc = &b.desc;
    const sl__scratch_needs needs = {.tokens = CHUNK, .context = b.context, .threads = threads};
    size_t bytes = sl__scratch_layout(&b.run.scratch, &b.desc, &needs, NULL);
    sl__scratch_layout(&b.run.scratch, &b.desc, &needs, take(bytes));
    b.q = take((size_t)CHUNK * HEADS * DIM * sizeof(float));
    b.out = take((size_t)CHUNK * HEADS * DIM * sizeof(float));
    for (uint32_t i = 0; i < CHUNK * HEADS * DIM; i++)
        b.q[i] = (float)(i * 2654435761u >> 8) * 0x1p-23f - 1;
    if (sl__pool_create(&b.run.pool, threads, &err) != SL_OK) return 1;
    printf("%s, %u thread%s, context %u\n", b.run.kern.level, threads, threads == 1 ? "" : "s",
           b.context);
    for (int kv = SL_KV_F32; kv <= SL_KV_Q8; kv++)
        run_type(&b, (sl_kv_type)kv, threads);
    sl__pool_destroy(b.run.pool);
    return 0;
}
