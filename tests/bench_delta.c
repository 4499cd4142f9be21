/* How fast Gated DeltaNet and the elementwise kernels are on one core, a level at a time. Prints a
 * table; no test. Each figure is the least of many rounds, the variants taking turns.
 *
 *     bench_delta [LEVEL …]     all levels of this machine where none is named
 *
 * The shape is Qwen3.5-397B's: 64 value heads of [128][128] floats, 4 MiB a layer, 45 layers. A
 * state is met in three places: in the core's own cache (a head's tokens one after another), in
 * a layer that is gone through token by token, and in a model whose layers push one another out,
 * which is what decoding does.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kern/kern.h"

enum { HEADS = 64, KEY_HEADS = 16, SHARE = HEADS / KEY_HEADS, DIM = 128, LAYERS = 45 };
enum { KEYS = KEY_HEADS * DIM, VALUES = HEADS * DIM, ROW = 2 * KEYS + VALUES };
enum { STATE = DIM * DIM, TOKENS = SL_DELTA_CHUNK, ROUNDS = 15, WIDE = 1 << 16 };

typedef struct bench {
    sl__kern kern;
    float *state; /* [LAYERS][HEADS][DIM][DIM] */
    float *qkv;   /* [TOKENS][ROW] */
    float *g, *beta; /* [TOKENS][HEADS] */
    float *out;   /* [TOKENS][VALUES] */
    float *tmp;
    float *x, *y, *w; /* [WIDE] */
    float *conv_in, *conv_out, *conv_w, *conv_state;
} bench;

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static float *room(size_t floats)
{
    void *p = aligned_alloc(64, (floats * sizeof(float) + 63) / 64 * 64);
    if (p == NULL) exit(1);
    return p;
}

static float *filled(size_t floats, float low, float high)
{
    static uint32_t seed = 1;
    float *x = room(floats);
    for (size_t i = 0; i < floats; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = low + (high - low) * (float)(seed >> 8) * 0x1p-24f;
    }
    return x;
}

static void open_bench(bench *b)
{
    b->state = filled((size_t)LAYERS * HEADS * STATE, -1, 1);
    b->qkv = filled((size_t)TOKENS * ROW, -1, 1);
    b->g = filled((size_t)TOKENS * HEADS, -0.5f, 0);
    b->beta = filled((size_t)TOKENS * HEADS, 0, 1);
    b->out = room((size_t)TOKENS * VALUES);
    b->tmp = room(sl__kern_delta_tmp(DIM, DIM));
    b->x = filled(WIDE, -6, 6);
    b->y = filled(WIDE, -1, 1);
    b->w = filled(WIDE, -1, 1);
    b->conv_in = filled((size_t)TOKENS * ROW, -1, 1);
    b->conv_out = room((size_t)TOKENS * ROW);
    b->conv_w = filled((size_t)ROW * 4, -1, 1);
    b->conv_state = filled((size_t)ROW * 3, -1, 1);
    sl__kern_init(&b->kern, "ref");
    for (int t = 0; t < TOKENS; t++) {
        for (int h = 0; h < 2 * KEY_HEADS; h++)
            b->kern.l2_norm(b->qkv + t * ROW + h * DIM, DIM, 1e-6f, h < KEY_HEADS ? 0.0884f : 1);
    }
}

static void close_bench(bench *b)
{
    float *const all[] = {b->state, b->qkv, b->g, b->beta, b->out, b->tmp, b->x, b->y, b->w,
                          b->conv_in, b->conv_out, b->conv_w, b->conv_state};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        free(all[i]);
}

/* ---- what is measured: each returns how many units it did ------------------------------------ */

static void step(bench *b, int layer, int t, int h)
{
    const float *q = b->qkv + t * ROW + h / SHARE * DIM;
    b->kern.delta_step(b->state + ((size_t)layer * HEADS + (size_t)h) * STATE, q, q + KEYS,
                       b->qkv + t * ROW + 2 * KEYS + h * DIM, b->g[t * HEADS + h],
                       b->beta[t * HEADS + h], DIM, DIM, 0, DIM, b->out + t * VALUES + h * DIM);
}

static double step_near(bench *b) /* a head's tokens one after another */
{
    for (int h = 0; h < 8; h++) {
        for (int t = 0; t < TOKENS; t++)
            step(b, 0, t, h);
    }
    return 8.0 / HEADS * TOKENS;
}

static double step_layer(bench *b) /* a token's heads one after another */
{
    for (int t = 0; t < TOKENS / 4; t++) {
        for (int h = 0; h < HEADS; h++)
            step(b, 0, t, h);
    }
    return TOKENS / 4;
}

static double step_model(bench *b) /* one token through all layers */
{
    for (int l = 0; l < LAYERS; l++) {
        for (int h = 0; h < HEADS; h++)
            step(b, l, 0, h);
    }
    return LAYERS;
}

static double pass_model(bench *b) /* what memory gives: all states read and written once */
{
    for (size_t i = 0; i < (size_t)LAYERS * HEADS * STATE; i++)
        b->state[i] *= 0.999f;
    return LAYERS;
}

static void chunk(bench *b, int layer, int h, uint32_t heads)
{
    const float *q = b->qkv + h / SHARE * DIM;
    const sl__delta_chunk c = {
        .state = b->state + ((size_t)layer * HEADS + (size_t)h) * STATE,
        .q = q, .k = q + KEYS, .qk_stride = ROW,
        .v = b->qkv + 2 * KEYS + h * DIM, .v_stride = ROW,
        .g = b->g + h, .beta = b->beta + h, .gate_stride = HEADS,
        .tokens = TOKENS, .heads = heads, .dk = DIM, .dv = DIM,
        .out = b->out + h * DIM, .out_stride = VALUES,
    };
    b->kern.delta_chunk(&c, b->tmp);
}

static double chunk_shared(bench *b) /* key head by key head, in a new layer each time */
{
    static int layer;
    layer = (layer + 1) % LAYERS;
    for (int h = 0; h < HEADS; h += SHARE)
        chunk(b, layer, h, SHARE);
    return TOKENS;
}

static double chunk_single(bench *b) /* value head by value head */
{
    static int layer;
    layer = (layer + 1) % LAYERS;
    for (int h = 0; h < HEADS; h++)
        chunk(b, layer, h, 1);
    return TOKENS;
}

static double conv(bench *b)
{
    b->kern.causal_conv_silu(b->conv_out, b->conv_in, b->conv_state, b->conv_w, TOKENS, ROW, 4, 0,
                             ROW);
    return (double)TOKENS * ROW;
}

static double conv_token(bench *b)
{
    for (int t = 0; t < TOKENS; t++)
        b->kern.causal_conv_silu(b->conv_out, b->conv_in, b->conv_state, b->conv_w, 1, ROW, 4, 0,
                                 ROW);
    return (double)TOKENS * ROW;
}

static double norms(bench *b) /* a head's 128 channels */
{
    memcpy(b->out, b->y, WIDE * sizeof(float));
    for (int i = 0; i < WIDE; i += DIM)
        b->kern.l2_norm(b->out + i, DIM, 1e-6f, 1);
    return WIDE;
}

static double rms(bench *b) /* a row of 4096 */
{
    for (int i = 0; i < WIDE; i += 4096)
        b->kern.rms_norm(b->out + i, b->y + i, b->w, 4096, 1e-6f);
    return WIDE;
}

static double swiglu(bench *b)
{
    for (int i = 0; i < WIDE; i += 1024)
        b->kern.swiglu(b->out, b->x + i, b->w, 1024);
    return WIDE;
}

static double clamped(bench *b)
{
    for (int i = 0; i < WIDE; i += 2048)
        b->kern.swiglu_clamped(b->out, b->x + i, b->x + i + 1, 2, 1024, 1.702f, 7);
    return WIDE / 2;
}

static double sigmoid(bench *b)
{
    memcpy(b->out, b->x, 4096 * sizeof(float));
    for (int i = 0; i < WIDE; i += 4096)
        b->kern.sigmoid(b->out, 4096);
    return WIDE;
}

static double silu(bench *b)
{
    memcpy(b->out, b->x, 4096 * sizeof(float));
    for (int i = 0; i < WIDE; i += 4096)
        b->kern.silu(b->out, 4096);
    return WIDE;
}

static double softmax(bench *b)
{
    for (int i = 0; i < WIDE; i += 512) {
        memcpy(b->out, b->x + i, 512 * sizeof(float));
        b->kern.softmax(b->out, 512);
    }
    return WIDE;
}

static double rope(bench *b)
{
    memcpy(b->out, b->y, WIDE * sizeof(float));
    for (int i = 0; i < WIDE; i += 128)
        b->kern.rope(b->out + i, b->w, b->w + 64, 64);
    return WIDE;
}

static double gate(bench *b)
{
    for (int i = 0; i < WIDE; i += HEADS) {
        memcpy(b->out, b->x + i, HEADS * sizeof(float));
        b->kern.delta_gate(b->out, b->w, b->w + HEADS, HEADS);
    }
    return WIDE;
}

typedef struct variant {
    const char *name;
    double (*run)(bench *b);
    double unit; /* of the figure, in microseconds: 1 a token's layer, 1e-3 a number */
    double least;
} variant;

static void measure(bench *b, const char *level)
{
    variant v[] = {
        {"step, state in cache", step_near, 1, 0},
        {"step, a layer's states", step_layer, 1, 0},
        {"step, a model's states", step_model, 1, 0},
        {"a model's states, one pass", pass_model, 1, 0},
        {"chunk, key head", chunk_shared, 1, 0},
        {"chunk, value head", chunk_single, 1, 0},
        {"causal_conv_silu, 64 tokens", conv, 1e-3, 0},
        {"causal_conv_silu, 1 token", conv_token, 1e-3, 0},
        {"delta_gate", gate, 1e-3, 0},
        {"l2_norm of 128", norms, 1e-3, 0},
        {"rms_norm of 4096", rms, 1e-3, 0},
        {"swiglu", swiglu, 1e-3, 0},
        {"swiglu_clamped, interleaved", clamped, 1e-3, 0},
        {"sigmoid", sigmoid, 1e-3, 0},
        {"silu", silu, 1e-3, 0},
        {"softmax of 512", softmax, 1e-3, 0},
        {"rope of 128", rope, 1e-3, 0},
    };
    enum { COUNT = sizeof v / sizeof v[0] };
    sl__kern_init(&b->kern, level);
    if (strcmp(b->kern.level, level) != 0) return;
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < COUNT; i++) {
            double start = now_us();
            double each = v[i].run(b);
            each = (now_us() - start) / each;
            if (round == 0 || each < v[i].least) v[i].least = each;
        }
    }
    printf("%s\n", level);
    for (int i = 0; i < COUNT; i++)
        printf("  %-30s %9.3f %s\n", v[i].name, v[i].least / v[i].unit,
               v[i].unit < 1 ? "ns a number" : "us a token and layer");
    for (int i = 0; i < 3; i++)
        printf("  chunk against %-22s %5.2f times\n", v[i].name, v[i].least / v[4].least);
}

int main(int argc, char **argv)
{
    static const char *const all[] = {"ref", "avx2", "avx512"};
    bench b;
    open_bench(&b);
    for (int i = 1; i < argc; i++)
        measure(&b, argv[i]);
    for (int i = 0; argc < 2 && i < (int)(sizeof all / sizeof all[0]); i++)
        measure(&b, all[i]);
    close_bench(&b);
    return 0;
}
