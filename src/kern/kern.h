/* Arithmetic: one table of function pointers. ref/ is plain C and the definition; files under x86/
 * and arm/ overwrite entries upward by what the CPU and the OS support.
 *
 * exact   the result equals ref's bit for bit, whatever the level
 * near(e) ‖result − ref‖ ≤ e·‖ref‖
 *
 * Row invariance holds for every entry: what is computed for a token (a row of x) does not depend
 * on the other tokens of the call, nor on how a caller splits rows between calls.
 *
 * The dot product. Sums over a row of weights have one order, which makes them exact on all levels:
 * with lanes s[0..15] = 0, weight c of a row adds w[c]*x[c] to s[c % 16] in increasing c
 * (product rounded, then sum rounded: no fused multiply-add); then the lanes are folded,
 * s[i] += s[i + 8] for i < 8, then + 4, + 2, + 1, and s[0] is the result. A weight of a grouped
 * type is round(round(scale * code) + minimum), and so is one of the block types (base/dtype.h).
 *
 * An affine weight is round(round(scale * code) + bias), one without biases round(scale * (code −
 * 2^(bits−1))), one of eight-bit floats round(scale * value).
 *
 * Pointers need no more alignment than their element type; weights (const void *) need none.
 * Outputs never overlap inputs unless said. No entry allocates. All are thread-safe.
 */
#ifndef SL_KERN_KERN_H
#define SL_KERN_KERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/dtype.h"
#include "base/panels.h"
#include "base/rows.h"
#include "kern/kv_blocks.h"

/* Queries that are answered together, so that each cached byte is read once for all of them: the
 * heads that share one KV head, of `tokens` tokens at adjacent positions. */
typedef struct sl__attend {
    sl_kv_type type;
    /* The KV head's blocks (kv_blocks.h); v NULL: a position's values are the first v_dim channels
     * of its key. */
    const void *k, *v;
    uint32_t base;           /* the position of slot 0 of the first block: a multiple of 32 */
    uint32_t qk_dim, v_dim;  /* v NULL: v_dim <= qk_dim */
    const float *q;          /* of token t, head h: q + t·q_token + h·q_head */
    size_t q_token, q_head;  /* in floats */
    uint32_t tokens, heads;  /* tokens · heads <= SL_ATTEND_ROWS */
    uint32_t position;       /* of the first token; a token sees itself and those before it, */
    uint32_t window;         /* but only the last `window` of them; 0: all */
    float scale;
} sl__attend;

#define SL_DELTA_CHUNK 64u /* tokens of one inner DeltaNet chunk */

/* Strides are the distance of two tokens in floats; the heads of one token lie side by side. */
typedef struct sl__delta_chunk {
    float *state;       /* [heads][dk][dv] */
    const float *q, *k; /* [tokens][dk] of the key head */
    size_t qk_stride;
    const float *v; /* [tokens][heads][dv] */
    size_t v_stride;
    const float *g, *beta; /* [tokens][heads] */
    size_t gate_stride;
    float *out; /* [tokens][heads][dv] */
    size_t out_stride;
    uint32_t tokens; /* 1 … SL_DELTA_CHUNK */
    uint32_t heads, dk, dv;
} sl__delta_chunk;

#define SL_FIT_LANES  16u /* groups side by side */
#define SL_FIT_VALUES 16u /* of a table */

/* Groups of n values that are to become codes: value i of group g is x[i · SL_FIT_LANES + g]. What
 * else there is of each group is an array of SL_FIT_LANES. */
typedef struct sl__fit {
    const float *x;
    uint32_t n, lanes;   /* the first `lanes` groups count; the others may be computed as well */
    float low, high;     /* codes are the integers low … high (of one byte), */
    const float *values; /* or, where not NULL, SL_FIT_VALUES integers in increasing order */
    bool has_minimum;    /* else minimums are 0 */
} sl__fit;

/* Sums over a group: of errors e, their squares, codes c, their squares, products of the two. */
typedef struct sl__fit_sums {
    float e[SL_FIT_LANES], ee[SL_FIT_LANES], c[SL_FIT_LANES], cc[SL_FIT_LANES], ce[SL_FIT_LANES];
} sl__fit_sums;

/* The scale and the minimum that given codes cost least with; the mean of the codes, or 0 where
 * there is no minimum. */
typedef struct sl__fit_next {
    float scale[SL_FIT_LANES], minimum[SL_FIT_LANES], mean_code[SL_FIT_LANES];
} sl__fit_next;

/* In parts of the span of a group: its scale, and how far above its base the minimum is. */
typedef struct sl__fit_start {
    float scale, minimum;
} sl__fit_start;

#define SL_BF16_TOKENS_MAX 16u

typedef struct sl__kern {
    uint64_t bf16_tokens; /* of a block of tokens rounded to bf16: 1 where they lie as rows; at most
                           * SL_BF16_TOKENS_MAX */
    const char *level; /* "ref", "avx2", … : as sl_cpu_level_name has it */

    /* out[cols] = row r as float. exact */
    void (*dequant_row)(const sl__rows *w, uint32_t r, float *out, uint32_t cols);

    /* y[t][r] = W[r]·x[t]  for r < rows, t < tokens.
     * w: `rows` rows of `cols` weights.
     * x: row t at x + t*x_stride (floats), y: row t at y + t*y_stride.
     * tmp: at least sl__kern_matmul_tmp(cols, tokens) floats of the caller's, private to the call.
     * exact */
    void (*matmul)(const sl__rows *w, uint32_t rows, uint32_t cols, const float *x,
                   size_t x_stride, uint32_t tokens, float *y, size_t y_stride, float *tmp);

    /* The transposed product over columns [c0, c1) of W:
     *   y[t][c - c0] = Σ_r x[t][r]·W[r][c]  for c0 <= c < c1, t < tokens,
     * from 0 in increasing r, product rounded, then sum rounded. c0 is a multiple of SL_GROUP; c1
     * is one too, or the end of the rows. Arguments and tmp as matmul's; a row of x has `rows`
     * numbers. Columns are independent: calls on disjoint ranges give one call's bits. exact */
    void (*matmul_t)(const sl__rows *w, uint32_t rows, uint32_t c0, uint32_t c1, const float *x,
                     size_t x_stride, uint32_t tokens, float *y, size_t y_stride, float *tmp);

    /* The same as matmul for weights in panels (base/panels.h), types sl__dtype_has_panels; the
     * order of the sum is its own. w: whole panels, 16 · row_bytes each; a last one may have fewer
     * than 16 rows that count. With lanes s[0..3] = 0, weight c adds w[c]*x[c] to s[c % 4] in
     * increasing c (product rounded, then sum rounded); y = (s[0] + s[2]) + (s[1] + s[3]). A
     * weight is round(round(scale * code) + minimum).
     * tmp: at least sl__kern_matmul_tmp(cols, tokens) floats of the caller's. exact */
    void (*panel_matmul)(sl__dtype type, const void *w, size_t row_bytes, uint32_t rows,
                         uint32_t cols, const float *x, size_t x_stride, uint32_t tokens, float *y,
                         size_t y_stride, float *tmp);

    /* Rounds columns [c0, c1) of `tokens` rows of x to 8 bits; c0 is a multiple of SL_GROUP, x
     * points at column c0 of the first row. out: rows of sl__q8_row_bytes(cols), of which the
     * groups of those columns are written. exact, NaN and infinities included */
    void (*quantise_rows)(const float *x, size_t x_stride, uint32_t c0, uint32_t c1, uint32_t cols,
                          uint32_t tokens, void *out);

    /* y[t][r] = W[r]·x[t] for weights in panels and x rounded to 8 bits, rows of
     * sl__q8_row_bytes(cols) bytes. With s = 0, for each group in increasing order,
     *     s += (scale * step) * dot     dot = Σ code of w · code of x, an exact integer
     *     s += minimum * total
     * each product and each sum rounded; y = s. w, rows: as panel_matmul's.
     * tmp: at least sl__kern_q8_tmp(cols, tokens) floats of the caller's. exact */
    void (*panel_matmul_q8)(sl__dtype type, const void *w, size_t row_bytes, uint32_t rows,
                            uint32_t cols, const void *x, uint32_t tokens, float *y,
                            size_t y_stride, float *tmp);

    /* The same for weights in rows of the types sl__dtype_has_q8_rows. A run is 16 columns of a row
     * with one scale and, of some types, one addend: a weight is scale · code + addend there
     * (body_row_codes.h). With lanes s[0..15] = 0, for run k = 0 … 3 of group g, g increasing,
     *     s[4k + g % 4] += (scale * step) * dot           dot = Σ code of w · code of x, an integer
     *     s[4k + g % 4] += addend * (step * sums[k])      where the type has addends
     * each product and each sum rounded; runs that begin behind the last column count for nothing.
     * Then s is folded as a dot product's lanes are. tmp: at least
     * sl__kern_q8_rows_tmp(cols, tokens) floats of the caller's. exact */
    void (*matmul_q8)(const sl__rows *w, uint32_t rows, uint32_t cols, const void *x,
                      uint32_t tokens, float *y, size_t y_stride, float *tmp);

    /* Rounds `tokens` rows of x to bf16: to the nearest, ties to even; NaN stays NaN; what is below
     * float's normal numbers becomes 0 with its sign. out: sl__bf16_bytes(cols, tokens) bytes, laid
     * out for this level's matmul_bf16 (below), all of them written. exact, but for the layout */
    void (*round_bf16)(const float *x, size_t x_stride, uint32_t cols, uint32_t tokens, void *out);

    /* y[t][r] = W[r]·x[t] for rows of bf16 and x as round_bf16 left it: all tokens of that call, or
     * whole blocks of them. Products of two such numbers are exact in float; the order of the sum
     * is the level's own, one for every token, whatever else is in the call, and it may be fused.
     * Weights, and sums on the way, below float's normal numbers may count as 0. Never reads beyond
     * the last weight of a row.
     * near(1e-5) of ref in relation to ‖Σ|W[r][c]·x[t][c]|‖, since sums may cancel; an infinity or
     * a NaN among the inputs of a sum leaves it infinite or NaN */
    void (*matmul_bf16)(const void *w, size_t row_bytes, uint32_t rows, uint32_t cols,
                        const void *x, uint32_t tokens, float *y, size_t y_stride);

    /* The least and the greatest value of all SL_FIT_LANES groups; of zeros, the first. exact */
    void (*fit_range)(const sl__fit *fit, float *lowest, float *highest);
    /* The codes of groups under a scale and a minimum each, and what they cost:
     *   u = (x − minimum) · (1/scale)   code = round(u cut to low … high), ties to even,
     *                                   or the value nearest to u, the lower of two
     *   e = x − (scale · code + minimum), as it would be decoded
     * each step rounded; a scale of at most 2^-100 in size has the inverse 0. Sums run in the order
     * of the values, product rounded, then sum rounded. next, with part = 1/n, or 0 without a
     * minimum, and the ratio 0 where codes are all one (b <= 0.5):
     *   mean = c·part   by = ratio(ce − e·mean, cc − c·mean)
     *   scale + by      minimum + (e − by·c)·part
     * Where values are finite, u too. exact */
    void (*fit_measure)(const sl__fit *fit, const float *scale, const float *minimum,
                        sl__fit_sums *sums, sl__fit_next *next);
    /* Of the pairs span · start.scale, base + span · start.minimum that whose codes least squares
     * take most from the error with, the first of them, and what they make of it. With the sums c,
     * cc and cu of codes and of u above, and above = Σ(x − base)·part:
     *   shared = cu − c·((above − span·start.minimum)·(1/scale))
     *   slope = ratio(shared, cc − c·mean)·scale      taken: slope·(shared·scale)
     *   next: slope, base + (above − slope·mean) or 0, mean. exact */
    void (*fit_starts)(const sl__fit *fit, const float *base, const float *span,
                       const sl__fit_start *starts, uint32_t count, sl__fit_next *next);
    /* codes[i · SL_FIT_LANES + g]: the same codes. exact */
    void (*fit_codes)(const sl__fit *fit, const float *scale, const float *minimum, int8_t *codes);

    /* The dot product above, both sides float. exact */
    float (*dot)(const float *a, const float *b, uint32_t n);

    /* y[n] += a * x[n], product rounded, then sum rounded. exact */
    void (*axpy)(float *y, float a, const float *x, uint32_t n);

    /* y = x · 1/sqrt(mean(x²) + eps) · w; y may be x. w: [n], any "+1" already added.
     * The mean is dot(x, x, n) / n. exact */
    void (*rms_norm)(float *y, const float *x, const float *w, uint32_t n, float eps);

    /* x ← x / sqrt(Σx² + eps) · scale, in place; the sum is dot(x, x, n). exact */
    void (*l2_norm)(float *x, uint32_t n, float eps, float scale);

    /* y = silu(gate) · up, elementwise; y may be gate or up. near(1e-6) */
    void (*swiglu)(float *y, const float *gate, const float *up, uint32_t n);

    /* With g = min(gate[i·stride], limit) and u = up[i·stride] cut to ±limit:
     *   y[i] = g · sigmoid(alpha·g) · (u + 1)   for i < n.
     * y may be gate; gate and up may be interleaved (up = gate + 1, stride 2). near(1e-6) */
    void (*swiglu_clamped)(float *y, const float *gate, const float *up, size_t stride, uint32_t n,
                           float alpha, float limit);

    /* x ← silu(x) in place; x ← sigmoid(x) in place. near(1e-6) */
    void (*silu)(float *x, uint32_t n);
    void (*sigmoid)(float *x, uint32_t n);

    /* x ← softmax(x) in place, largest subtracted first. x holds no NaN. near(1e-6) */
    void (*softmax)(float *x, uint32_t n);

    /* Rotates the first 2*half channels of x, half-split pairs (i, i + half):
     * (a, b) ← (a·cos − b·sin, b·cos + a·sin). cos, sin: [half]. exact */
    void (*rope)(float *x, const float *cos, const float *sin, uint32_t half);

    /* The same for adjacent pairs (2i, 2i + 1). exact */
    void (*rope_adjacent)(float *x, const float *cos, const float *sin, uint32_t half);

    /* The queries of `a` over the cached positions that they see in the spans [first, last), a span
     * being SL_ATTEND_SPAN positions counted from 0:
     *   s_t = (q·scale)·k_t,   m = max s_t,   a row of partial = [Σ exp(s_t − m) v_t | m | Σ exp]
     * partial: a->tokens · a->heads rows of sl__attend_row(v_dim) floats, token by token; the sum
     * of a row that sees nothing there is 0, and the rest of it is then not to be read.
     * tmp: sl__attend_tmp(rows, qk_dim, v_dim) floats, private to the call.
     * Spans are computed one by one and put together as attend_fold does, in order, so that
     * fold(spans [a, b), spans [b, c)) has the bits of spans [a, c) where b = c − 1.
     * near(1e-5) of ref, which does not fuse, while A = Σ|q·k|·scale <= 100 for every position that
     * is seen; beyond, rounding the scores themselves shows: near(1e-5 + 2^-24·A). Of the size of
     * what is summed, which may cancel; a result below the normal numbers is not near anything */
    void (*attend)(const sl__attend *a, uint32_t first, uint32_t last, float *partial,
                   float *tmp);

    /* One row: into ← into, then next. near(1e-6) */
    void (*attend_fold)(float *into, const float *next, uint32_t v_dim);

    /* out[v_dim] = the weighted mean of a row that saw something. sink: NULL, or one more score in
     * the softmax that has no value. near(1e-6) */
    void (*attend_end)(const float *partial, const float *sink, float *out, uint32_t v_dim);

    /* Causal depthwise convolution and SiLU over `tokens` rows (in place is not allowed):
     *   y[t][c] = silu( Σ_{j<width} w[c*width + j] · in[t - (width-1) + j][c] ),
     * where rows before 0 come from state[(width-1) rows][channels], oldest first. Afterwards
     * state holds the last width-1 rows of (state, in). in and y: rows of `channels` floats.
     * Only channels [c0, c1) are touched, in all arrays, so that calls on disjoint ranges can run
     * at once. The sum is in increasing j. near(1e-6) */
    void (*causal_conv_silu)(float *y, const float *in, float *state, const float *w,
                             uint32_t tokens, uint32_t channels, uint32_t width, uint32_t c0,
                             uint32_t c1);

    /* The decay of Gated DeltaNet: a ← −exp(a_log)·softplus(a + dt_bias) in place, softplus(x) =
     * ln(1 + exp(x)). a, a_log, dt_bias: [n]. near(1e-6) */
    void (*delta_gate)(float *a, const float *a_log, const float *dt_bias, uint32_t n);

    /* Gated DeltaNet, one value head, one token (recurrent form).
     * state: [dk][dv] row-major (row = key index); q, k: [dk] l2-normed, q already scaled; v: [dv].
     *   S ← exp(g)·S;  d = β(v − Sᵀk);  S ← S + k dᵀ;  out = Sᵀq          near(1e-5)
     * Only columns [c0, c1) of state, v and out are touched, and a column's result does not depend
     * on the range: calls on disjoint ranges give one call's bits. */
    void (*delta_step)(float *state, const float *q, const float *k, const float *v, float g,
                       float beta, uint32_t dk, uint32_t dv, uint32_t c0, uint32_t c1, float *out);

    /* The same over a chunk in the chunked form, for value heads that share a key head.
     * tmp: sl__kern_delta_tmp(dk, dv) floats, private to the call. A head's result does not depend
     * on which others are in the call.
     * Against delta_step token by token: near(1e-5) of the outputs and of the state */
    void (*delta_chunk)(const sl__delta_chunk *chunk, float *tmp);
} sl__kern;

/* A row of activations of 8 bits: for each group of 64 numbers
 *
 *     step = largest |x| / 127     code = x · (127 / largest |x|), to the nearest, ties to even
 *
 * so that x ≈ step · code, off by half a step at most (and float's own rounding). Where the
 * largest is below 2^-100, step and codes are 0; where one is NaN or infinite, step is NaN and the
 * codes are 0. After a row's last number codes are 0.
 *
 *     row:   codes int8[groups · 64] | sl__q8_group[groups] | to the next multiple of 64 bytes */
typedef struct sl__q8_group {
    float step;
    float total;     /* step · Σ codes, rounded */
    int16_t sums[4]; /* of codes 0 … 15, 16 … 31, 32 … 47, 48 … 63 */
} sl__q8_group;

static inline size_t sl__q8_groups(uint32_t cols)
{
    return ((size_t)cols + SL_GROUP - 1) / SL_GROUP;
}

static inline size_t sl__q8_row_bytes(uint32_t cols)
{
    return (sl__q8_groups(cols) * (SL_GROUP + sizeof(sl__q8_group)) + 63) / 64 * 64;
}

/* Activations rounded to bf16: a row has sl__bf16_row(cols) numbers, those after its end 0. Tokens
 * lie in blocks of the level's bf16_tokens, the last with what is left; a block of n tokens holds
 * pairs of adjacent columns, pair by pair:
 *
 *     numbers 2(k·n + t), 2(k·n + t) + 1:  columns 2k, 2k + 1 of the block's token t
 *
 * which for blocks of one token is plain rows, as it is for a single token on every level. */
static inline size_t sl__bf16_row(uint32_t cols)
{
    return ((size_t)cols + 31) / 32 * 32;
}

static inline size_t sl__bf16_bytes(uint32_t cols, uint32_t tokens)
{
    return tokens * sl__bf16_row(cols) * sizeof(uint16_t);
}

#define SL_ATTEND_SPAN 512u /* positions that are put together first */
#define SL_ATTEND_ROWS 64u  /* queries of one call */

size_t sl__kern_matmul_tmp(uint32_t cols, uint32_t tokens);
size_t sl__kern_q8_tmp(uint32_t cols, uint32_t tokens);
size_t sl__kern_q8_rows_tmp(uint32_t cols, uint32_t tokens);
size_t sl__kern_delta_tmp(uint32_t dk, uint32_t dv);

/* Floats of a row of attend's partial result: the sum of values, in whole panels, the largest score
 * and the sum of weights. */
static inline size_t sl__attend_row(uint32_t v_dim)
{
    return ((size_t)v_dim + SL_KV_BLOCK - 1) / SL_KV_BLOCK * SL_KV_BLOCK + 16u;
}
size_t sl__attend_tmp(uint32_t rows, uint32_t qk_dim, uint32_t v_dim);

/* Fills the table with the kernels of a level ("ref", "avx2", …), NULL: the default of this CPU
 * and OS. False, and ref it is, where the level is unknown or not supported here. */
bool sl__kern_init(sl__kern *kern, const char *level);

/* The k largest of x[n] (k <= n), by value, ties to the lower index, in decreasing order: ids[k].
 * Returns false where x holds a NaN or an infinity. */
bool sl__top_k(const float *x, uint32_t n, uint32_t k, uint32_t *ids);

#endif
