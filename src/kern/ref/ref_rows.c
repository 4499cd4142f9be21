/* Products of weights in rows with activations of 8 bits: the definition. */
#define SL_VW 4
#include "kern/body_row_codes.h"
#include "kern/levels.h"
#include "kern/ref/ref_block_ops.h"

#define TOKENS 32u /* whose lanes wait while a group is opened for all of them */

static void add_group(const block_codes *o, bool addends, const int8_t *x,
                      const sl__q8_group *group, size_t g, float s[SL_LANES])
{
    for (unsigned k = 0; k < 4; k++) {
        float *lane = &s[4 * k + g % 4];
        int dot = 0;
        for (unsigned i = 16 * k; i < 16 * (k + 1); i++)
            dot += o->code[i] * x[i];
        *lane += o->scale[k] * group->step * (float)dot;
        if (addends) *lane += o->addend[k] * (group->step * (float)group->sums[k]);
    }
}

static void matmul_q8(const sl__rows *w, uint32_t rows, uint32_t cols, const void *x,
                      uint32_t tokens, float *y, size_t y_stride, float *tmp)
{
    const size_t groups = sl__q8_groups(cols), row_bytes = sl__q8_row_bytes(cols);
    const bool addends = rows_have_addends(w);
    (void)tmp;
    assert(sl__dtype_has_q8_rows(w->dtype));
    for (uint32_t r = 0; r < rows; r++) {
        for (uint32_t t0 = 0; t0 < tokens; t0 += TOKENS) {
            uint32_t n = tokens - t0 < TOKENS ? tokens - t0 : TOKENS;
            float s[TOKENS][SL_LANES];
            memset(s, 0, n * sizeof s[0]);
            for (size_t g = 0; g < groups; g++) {
                block_codes o;
                open_row_group(w, r, cols, g, &o);
                for (uint32_t t = 0; t < n; t++) {
                    const int8_t *row = (const int8_t *)x + (t0 + t) * row_bytes;
                    sl__q8_group group;
                    memcpy(&group, row + groups * SL_GROUP + g * sizeof group, sizeof group);
                    add_group(&o, addends, row + g * SL_GROUP, &group, g, s[t]);
                }
            }
            for (uint32_t t = 0; t < n; t++)
                y[(t0 + t) * y_stride + r] = lanes_fold(s[t]);
        }
    }
}

void sl__kern_ref_rows(sl__kern *kern)
{
    kern->matmul_q8 = matmul_q8;
}
