/* Attention of one query head: all scores, their softmax, the weighted sum of the values. */
#ifndef SL_KERN_BODY_ATTENTION_H
#define SL_KERN_BODY_ATTENTION_H

#include "kern/expf.h"
#include "kern/lanes.h"
#include "kern/levels.h"

static void attend(const float *q, const float *k, size_t k_stride, const float *v, size_t v_stride,
                   uint32_t count, uint32_t qk_dim, uint32_t v_dim, float scale,
                   const float *sink, float *out, float *scores)
{
    dot_rows(k, k_stride * sizeof(float), count, qk_dim, q, scores);
    for (uint32_t t = 0; t < count; t++)
        scores[t] *= scale;
    kern_softmax(scores, count, sink);
    memset(out, 0, v_dim * sizeof(float));
    sum_rows(scores, 0, 1, v, v_stride, count, out, 0, 1, v_dim);
}

static void fill_attention(sl__kern *kern)
{
    kern->attend = attend;
}

#endif
