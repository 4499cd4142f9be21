/* The product of weights in rows with activations of 8 bits (kern.h, matmul_q8), on registers of
 * sixteen bytes: a run of 16 columns is one. A span, four groups, is opened into codes that stay in
 * L1, and multiplied with every token of a block; the products of a run k of its four groups are
 * added up across into the four lanes 4k … 4k + 3:
 *
 *     group 0, run k   a a a a
 *     group 1, run k   b b b b    ->    a b c d
 *     groups 2 and 3   c c c c, d d d d
 *
 *     tmp:  lanes [BLOCK_TOKENS][16]
 *
 * The file that includes this is a level's and has defined
 *
 *     run_quads   (16 codes of w, 16 codes of x) -> four sums of four products
 */
#ifndef SL_KERN_ARM_BODY_ARM_ROWS_H
#define SL_KERN_ARM_BODY_ARM_ROWS_H

#define SL_VW 4
#include "kern/arm/arm_block_ops.h"
#include "kern/body_row_codes.h"
#include "kern/levels.h"

#define SPAN         (4 * SL_GROUP)
#define BLOCK_TOKENS 16u
_Static_assert(SL_Q8_STRIP_TMP >= BLOCK_TOKENS * SL_LANES, "tmp");

SL_INLINE int32x4_t run_quads(int8x16_t w, int8x16_t x);

/* Four groups of weights; of inputs. */
typedef struct weight_span {
    block_codes group[4];
    float scale[SL_LANES], addend[SL_LANES]; /* by lane */
} weight_span;

typedef struct input_span {
    const int8_t *codes;
    sl__q8_group group[4];
} input_span;

/* Types that most files hold most of are opened in line. */
SL_INLINE void open_some(sl__dtype type, const sl__rows *w, uint32_t r, size_t g, weight_span *o)
{
    const unsigned char *row = (const unsigned char *)w->data + r * w->row_bytes;
    const size_t bytes = sl__dtype_block_bytes(type);
    open_codes(type, bytes, row, g, SL_GROUP, &o->group[0]);
    open_codes(type, bytes, row, g + 1, SL_GROUP, &o->group[1]);
    open_codes(type, bytes, row, g + 2, SL_GROUP, &o->group[2]);
    open_codes(type, bytes, row, g + 3, SL_GROUP, &o->group[3]);
}

/* The span of row r that begins with group g. */
static void open_span(const sl__rows *w, uint32_t r, uint32_t cols, size_t g, weight_span *o)
{
    const bool whole = (g + 4) * SL_GROUP <= cols;
    const size_t quarters = g / 4 * 4; /* so that quarters are constants */
    if (whole && w->dtype == SL_Q4_K) {
        open_some(SL_Q4_K, w, r, quarters, o);
    } else if (whole && w->dtype == SL_Q6_K) {
        open_some(SL_Q6_K, w, r, quarters, o);
    } else if (whole && w->dtype == SL_Q8_0) {
        open_some(SL_Q8_0, w, r, quarters, o);
    } else if (whole && w->dtype == SL_Q4_0) {
        open_some(SL_Q4_0, w, r, quarters, o);
    } else {
        for (unsigned i = 0; i < 4; i++) {
            o->group[i] = (block_codes){.scale = {0}};
            if ((g + i) * SL_GROUP < cols) open_row_group(w, r, cols, g + i, &o->group[i]);
        }
    }
    for (unsigned i = 0; i < SL_LANES; i++) {
        o->scale[i] = o->group[i % 4].scale[i / 4];
        o->addend[i] = o->group[i % 4].addend[i / 4];
    }
}

/* The same of a token's row. last: room for one that is not whole, which ends with zeros. */
SL_INLINE void input_at(const int8_t *row, size_t groups, size_t g, int8_t last[SPAN],
                        input_span *in)
{
    const size_t left = groups - g < 4 ? groups - g : 4;
    in->codes = row + g * SL_GROUP;
    memset(in->group, 0, sizeof in->group);
    memcpy(in->group, row + groups * SL_GROUP + g * sizeof in->group[0],
           left * sizeof in->group[0]);
    if (left == 4) return;
    memset(last, 0, SPAN);
    memcpy(last, in->codes, left * SL_GROUP);
    in->codes = last;
}

SL_INLINE void add_span(const weight_span *w, bool addends, const input_span *in, float s[SL_LANES])
{
    const float32x4_t step = {in->group[0].step, in->group[1].step, in->group[2].step,
                              in->group[3].step};
    for (unsigned k = 0; k < 4; k++) {
        int32x4_t quads[4];
        for (unsigned g = 0; g < 4; g++)
            quads[g] = run_quads(vld1q_s8(w->group[g].code + 16 * k),
                                 vld1q_s8(in->codes + g * SL_GROUP + 16 * k));
        const int32x4_t dot =
            vpaddq_s32(vpaddq_s32(quads[0], quads[1]), vpaddq_s32(quads[2], quads[3]));
        float32x4_t lanes = vld1q_f32(s + 4 * k);
        const float32x4_t scale = vmulq_f32(vld1q_f32(w->scale + 4 * k), step);
        lanes = vaddq_f32(lanes, vmulq_f32(scale, vcvtq_f32_s32(dot)));
        if (addends) {
            const int32x4_t sums = {in->group[0].sums[k], in->group[1].sums[k],
                                    in->group[2].sums[k], in->group[3].sums[k]};
            const float32x4_t total = vmulq_f32(step, vcvtq_f32_s32(sums));
            lanes = vaddq_f32(lanes, vmulq_f32(vld1q_f32(w->addend + 4 * k), total));
        }
        vst1q_f32(s + 4 * k, lanes);
    }
}

static void matmul_q8(const sl__rows *w, uint32_t rows, uint32_t cols, const void *x,
                      uint32_t tokens, float *y, size_t y_stride, float *tmp)
{
    const size_t groups = sl__q8_groups(cols), row_bytes = sl__q8_row_bytes(cols);
    const bool addends = rows_have_addends(w);
    float(*lanes)[SL_LANES] = (float(*)[SL_LANES])tmp;
    assert(sl__dtype_has_q8_rows(w->dtype));
    for (uint32_t t0 = 0; t0 < tokens; t0 += BLOCK_TOKENS) {
        const uint32_t n = tokens - t0 < BLOCK_TOKENS ? tokens - t0 : BLOCK_TOKENS;
        const int8_t *from = (const int8_t *)x + t0 * row_bytes;
        for (uint32_t r = 0; r < rows; r++) {
            memset(lanes, 0, n * sizeof *lanes);
            for (size_t g = 0; g < groups; g += 4) {
                weight_span o;
                open_span(w, r, cols, g, &o);
                for (uint32_t t = 0; t < n; t++) {
                    int8_t last[SPAN];
                    input_span in;
                    input_at(from + t * row_bytes, groups, g, last, &in);
                    add_span(&o, addends, &in, lanes[t]);
                }
            }
            for (uint32_t t = 0; t < n; t++)
                y[(t0 + t) * y_stride + r] = lanes_fold(lanes[t]);
        }
    }
}

#endif
