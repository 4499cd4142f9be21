/* What the blocks compute with: kernels, threads, and scratch memory that is taken once.
 *
 * A block handles a chunk of T >= 1 tokens at once, of one sequence or of several (chunk.h):
 * x [T, hidden] in, its contribution [T, hidden] out. Nothing here allocates. Work is cut by rows
 * of weights, by tokens and by heads, never by the number of threads, so results do not depend on
 * it.
 */
#ifndef SL_MODEL_RUN_H
#define SL_MODEL_RUN_H

#include "base/pool.h"
#include "cache/cache.h"
#include "kern/kern.h"
#include "model/chunk.h"
#include "model/model.h"
#include "model/rope.h"
#include "model/state.h"

/* Experts whose matrices are multiplied together: enough to fill the threads, few enough that
 * their slots come back while others load. */
#define SL_EXPERT_BATCH_MAX 16u
/* What a task of a fused first half of an expert keeps beside the kernel's tmp: gate and up of
 * SL_FUSED_TOKENS tokens and a group of rows. */
#define SL_FUSED_TOKENS 32u
#define SL_FUSED_FLOATS (2 * SL_FUSED_TOKENS * SL_GROUP)
/* Products of a batch. */
#define SL_PRODUCTS_MAX (2 * SL_EXPERT_BATCH_MAX)

/* A prediction looks at so many tokens of a chunk at most, the last ones. */
#define SL_PREDICT_TOKENS 16u
/* A chunk of so many tokens goes through the expert cache as a scan. */
#define SL_SCAN_TOKENS 16u

/* Tokens of a chunk that latent attention answers at a time. */
#define SL_MLA_TOKENS 16u

/* What a product rounds its input to (kern.h has the layouts). */
typedef enum sl__rounding {
    SL_ROUND_NONE,
    SL_ROUND_Q8,   /* 8 bits in groups */
    SL_ROUND_BF16, /* in blocks of tokens */
} sl__rounding;

/* One product y[t] = W·x[t] of a batch (Wᵀ·x[t] where W is transposed). */
typedef struct sl__product {
    sl__weight w;
    const float *x;
    size_t x_stride; /* in floats */
    const void *rounded; /* the same as sl__rounding_of has it, adjacent; NULL: not there, and made
                          * where it is needed. Where it is not needed it is not looked at */
    float *y;
    size_t y_stride;
    uint32_t tokens;
} sl__product;

/* Scratch for chunks of up to `tokens` tokens at positions below `context`. */
typedef struct sl__scratch {
    uint32_t tokens, context;
    float *residual; /* [T, hidden]: the stream x */
    float *normed;   /* [T, hidden] */
    float *mixed;    /* [T, hidden]: what a block adds to the stream */
    float *worker;   /* [threads][worker_floats]: matmul rows, attention tiles, DeltaNet chunks */
    size_t worker_floats;
    char *rounded;   /* rounded_bytes: what products round their input to, where it is rounded */
    size_t rounded_bytes;
    float *partials; /* of attention (lookback.h); NULL where there is one thread */
    size_t partials_floats;
    uint32_t *predicted_first; /* [top_k]: what a prediction for one token began with */
    /* The kinds of block never run at once and share the memory behind these pointers. */
    struct {
        float *q;         /* [T, heads·D or heads·2D] */
        float *k, *v;     /* [T, kv_heads·D] */
        float *out;       /* [T, heads·D] */
        sl__rope_table rope;
    } attention;
    struct {
        float *q_down; /* [T, q_rank] */
        float *q;      /* [T, heads·(nope_dim + rope.dim)] */
        float *kv;     /* [T, kv_rank + rope.dim] */
        float *asked;  /* [SL_MLA_TOKENS, heads·(kv_rank + rope.dim)] */
        float *found;  /* [SL_MLA_TOKENS, heads·kv_rank] */
        float *out;    /* [T, heads·value_dim] */
        sl__rope_table rope;
    } mla;
    struct {
        float *qkv, *conv; /* [T, conv width] */
        float *z, *out;    /* [T, value width] */
        float *a, *b;      /* [T, value_heads]: become g and beta */
    } delta;
    struct {
        float *router;     /* [T, experts]: router outputs, with their bias */
        float *route_tmp;  /* of one token: sl__route_tmp(experts) */
        float *weights;    /* [T, top_k] */
        uint32_t *ids;     /* [T, top_k], best first */
        uint32_t *row;     /* [T, top_k]: where in rows the token's slot lies */
        uint32_t *unique;  /* [experts]: the experts of the chunk, increasing */
        uint32_t *first;   /* [experts + 1]: rows of expert e are first[e] … first[e+1] - 1 */
        uint32_t *token;   /* [T·top_k]: the token of a row */
        float *rows;       /* [T·top_k, hidden]: tokens gathered by expert, then outputs */
        float *inner;      /* [T·top_k, 2·intermediate]: gate and up; experts.c says how */
        /* Rounded to 8 bits, rows of sl__q8_row_bytes; NULL where nothing is rounded. */
        char *q8_tokens;   /* [T]: normed */
        char *q8_rows;     /* [T·top_k]: tokens gathered by expert */
        char *q8_inner;    /* [T·top_k]: what the second products are of */
        char *q8_shared;   /* [T]: the same of the shared expert */
        /* Rounded to bf16, rows of sl__bf16_row numbers; NULL where nothing is. */
        char *bf16_rows;   /* [T·top_k]: tokens gathered by expert, where rows has no room */
        char *bf16_inner;  /* [T·top_k]: what the second products are of, where it has no room in
                            * inner */
        float *shared_gate, *shared_up; /* [T, shared_intermediate] */
        float *shared_out;   /* [T, hidden] */
        float *shared_scale; /* [T], where the shared expert is gated */
        /* Rankings: what a router says beyond its choice, of up to SL_PREDICT_TOKENS tokens. */
        float *predict_normed; /* [P, hidden] */
        float *predict_router; /* [P, experts] */
        float *scores;         /* [experts] */
        uint32_t *ranked;      /* [P, rank depth] */
        uint32_t *predicted;   /* [experts] */
        bool *listed;          /* [experts] */
    } moe;
} sl__scratch;

/* What scratch must do for. */
typedef struct sl__scratch_needs {
    uint32_t tokens, context, threads;
    bool rounded;       /* products may take their input rounded, */
    bool q8_experts;    /* experts of some layer to 8 bits, */
    bool bf16_experts;  /* or to bf16, */
    bool bf16_beside;   /* with gate or up beside a part that takes floats */
    bool plain_experts; /* experts of some layer have floats between their products */
    bool q8_rows;       /* weights in rows take inputs of 8 bits */
} sl__scratch_needs;
sl__scratch_needs sl__scratch_needs_of(const sl__model_desc *desc, const sl__store *store,
                                       sl_activations activations, uint32_t tokens,
                                       uint32_t context, uint32_t threads);

/* Lays the scratch out from base; base NULL only measures. Returns the bytes it takes. */
size_t sl__scratch_layout(sl__scratch *scratch, const sl__model_desc *desc,
                          const sl__scratch_needs *needs, void *base);

typedef struct sl__run {
    const sl__model_desc *desc;
    uint32_t predicted_layer;       /* of scratch.predicted_first */
    struct sl__trace_writer *trace; /* what routers say is recorded here; NULL: nowhere */
    sl__kern kern;
    sl__pool *pool;
    sl_activations activations;
    sl__cache *cache;
    sl__store *store;
    sl__scratch scratch;
    sl__weight model[SL_ROLE_MODEL_COUNT];
    sl__weight (*layers)[SL_ROLE_LAYER_COUNT]; /* [layer_count] */
} sl__run;

/* This worker's private scratch, worker_floats long. */
static inline float *sl__worker_scratch(const sl__run *run, uint32_t worker)
{
    return run->scratch.worker + (size_t)worker * run->scratch.worker_floats;
}

/* Runs the loop on the pool where `work` (multiply-adds in all) is worth waking threads for. */
void sl__run_parallel(const sl__run *run, sl__pool_fn fn, void *ctx, uint32_t count,
                      uint64_t work);

/* What products with weights that lie so round their input to, where inputs are rounded at all. */
static inline sl__rounding sl__rounding_for(sl_activations activations, sl__dtype dtype,
                                            bool panels, bool transposed)
{
    if (activations != SL_ACTIVATIONS_Q8) return SL_ROUND_NONE;
    if (panels || (!transposed && sl__dtype_has_q8_rows(dtype))) return SL_ROUND_Q8;
    return dtype == SL_BF16 && !transposed ? SL_ROUND_BF16 : SL_ROUND_NONE;
}

static inline sl__rounding sl__rounding_of(const sl__run *run, const sl__weight *w)
{
    if (w->precise) return SL_ROUND_NONE;
    return sl__rounding_for(run->activations, w->dtype, w->panels, w->transposed);
}

/* The bytes of `tokens` rows that are rounded together. */
static inline size_t sl__rounded_bytes(sl__rounding to, uint32_t cols, uint32_t tokens)
{
    return to == SL_ROUND_Q8     ? tokens * sl__q8_row_bytes(cols)
           : to == SL_ROUND_BF16 ? sl__bf16_bytes(cols, tokens)
                                 : 0;
}

/* Rounds rows of x, `cols` numbers each, x_stride apart: out has sl__rounded_bytes. */
void sl__round(const sl__run *run, sl__rounding to, const float *x, size_t x_stride, uint32_t cols,
               uint32_t rows, void *out);

/* y[t][i] = row first + i of W · x[t] for i < count: a product in the caller's thread with x
 * rounded to 8 bits, of a weight that takes it so. tmp: the worker's scratch, or what
 * SL_FUSED_FLOATS leave of it. */
void sl__multiply_q8(const sl__kern *kern, const sl__weight *w, uint32_t first, uint32_t count,
                     const void *x, uint32_t tokens, float *y, size_t y_stride, float *tmp);

/* All products of the batch, in any order; outputs must not overlap. Inputs that are rounded must
 * fit into scratch.rounded together, but for those that come so. */
void sl__products(const sl__run *run, const sl__product *products, uint32_t count);

/* The product with one weight: x [T, cols] → y [T, rows], rows adjacent; of a transposed one
 * x [T, rows] → y [T, cols]. */
sl__product sl__product_of(const sl__weight *w, const float *x, float *y, uint32_t tokens);

/* y[t] = rms_norm(x[t], w) for t < T, rows of n floats; y may be x. */
void sl__norm_rows(const sl__run *run, float *y, const float *x, const sl__weight *w,
                   uint32_t tokens, uint32_t n);

/* ---- blocks ---------------------------------------------------------------------------------- */

/* Each reads scratch.normed and writes scratch.mixed, and moves the layer's state of every stretch
 * of the chunk on. */
void sl__attention_block(sl__run *run, uint32_t layer, const sl__chunk *chunk);
void sl__mla_block(sl__run *run, uint32_t layer, const sl__chunk *chunk);
void sl__delta_block(sl__run *run, uint32_t layer, const sl__chunk *chunk);

/* DeltaNet's inner chunks end at multiples of this position of a sequence, and where a call does:
 * SL_DELTA_CHUNK, or the chunk where that is smaller. */
static inline uint32_t sl__delta_grid(const sl__run *run)
{
    return run->scratch.tokens < SL_DELTA_CHUNK ? run->scratch.tokens : SL_DELTA_CHUNK;
}

/* Tells the expert cache what a layer will probably ask for: that layer's router on the present
 * stream, scratch.residual of `tokens` tokens. near: nothing but that layer's mixer is still to
 * come. Changes no result. A dense layer predicts nothing. */
void sl__predict_experts(sl__run *run, uint32_t layer, uint32_t tokens, bool near);
/* The first layer with routed experts from `layer` on; layer_count: none. */
uint32_t sl__next_moe_layer(const sl__run *run, uint32_t layer);

/* router_out (may be NULL) receives the router's outputs [T, experts], borrowed until the next
 * block; NULL where the layer is dense. A stretch whose router gave a NaN or an infinity is marked
 * as failed; where none is left it is SL_ENUMERIC, which names the layer. */
sl_status sl__moe_block(sl__run *run, uint32_t layer, sl__chunk *chunk, const float **router_out,
                        sl_error *err);

#endif
