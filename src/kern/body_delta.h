/* Gated DeltaNet, one value head. A chunk of C tokens, with G_i = g_0 + … + g_i:
 *
 *     L_ij = β_i (k_i·k_j) exp(G_i − G_j)   j < i          tokens' influence on one another
 *     D_i  = β_i (v_i − exp(G_i) k_iᵀS) − Σ_{j<i} L_ij D_j   what each writes under its key
 *     o_i  = exp(G_i) q_iᵀS + Σ_{j≤i} (q_i·k_j) exp(G_i − G_j) D_j
 *     S   ← exp(G_last) S + Σ_i exp(G_last − G_i) k_i D_iᵀ
 *
 * Every exponent is a difference that is never positive, formed before exp; the sums G are double,
 * so that a strong decay takes no digits from the weak ones after it.
 *
 *     tmp:  kk [C][C] (−L) · qk [C][C] · d [C][dv] · ks [C][dv]
 */
#ifndef SL_KERN_BODY_DELTA_H
#define SL_KERN_BODY_DELTA_H

#include <assert.h>

#include "kern/expf.h"
#include "kern/lanes.h"
#include "kern/levels.h"

#define DELTA_ROWS 8u /* tokens whose influence on one another is solved row by row */

/* Columns [0, SL_LANES) of the state, all in registers but the state. */
SL_INLINE void delta_lanes(float *state, const float *q, const float *k, const float *v,
                           float decay, float beta, uint32_t dk, uint32_t dv, float *out)
{
    vec d[SL_VN], o[SL_VN];
    for (uint32_t i = 0; i < SL_VN; i++)
        d[i] = o[i] = vec_set1(0);
    for (uint32_t r = 0; r < dk; r++) {
        for (uint32_t i = 0; i < SL_VN; i++) {
            vec s = vec_set1(decay) * vec_load(state + (size_t)r * dv + i * SL_VW);
            d[i] += s * vec_set1(k[r]);
        }
    }
    for (uint32_t i = 0; i < SL_VN; i++)
        d[i] = vec_set1(beta) * (vec_load(v + i * SL_VW) - d[i]);
    for (uint32_t r = 0; r < dk; r++) {
        for (uint32_t i = 0; i < SL_VN; i++) {
            float *at = state + (size_t)r * dv + i * SL_VW;
            vec s = vec_set1(decay) * vec_load(at) + vec_set1(k[r]) * d[i];
            vec_store(at, s);
            o[i] += s * vec_set1(q[r]);
        }
    }
    for (uint32_t i = 0; i < SL_VN; i++)
        vec_store(out + i * SL_VW, o[i]);
}

static void delta_step(float *state, const float *q, const float *k, const float *v, float g,
                       float beta, uint32_t dk, uint32_t dv, float *out)
{
    float decay = kern_exp(g);
    uint32_t j = 0;
    for (; dv - j >= SL_LANES; j += SL_LANES)
        delta_lanes(state + j, q, k, v + j, decay, beta, dk, dv, out + j);
    for (; j < dv; j++) {
        float d = 0, o = 0;
        for (uint32_t r = 0; r < dk; r++)
            d += decay * state[(size_t)r * dv + j] * k[r];
        d = beta * (v[j] - d);
        for (uint32_t r = 0; r < dk; r++) {
            float s = decay * state[(size_t)r * dv + j] + k[r] * d;
            state[(size_t)r * dv + j] = s;
            o += s * q[r];
        }
        out[j] = o;
    }
}

typedef struct delta_head {
    const float *q, *k, *v, *beta;
    size_t qk_stride, v_stride, gate_stride;
    uint32_t tokens, dk, dv;
    double total[SL_DELTA_CHUNK]; /* G */
    float *kk, *qk, *d, *ks;
} delta_head;

/* kk[i][j] = −β_i (k_i·k_j) exp(G_i − G_j) for j < i;
 * qk[i][j] = (q_i·k_j) exp(G_i − G_j) for j <= i. */
static void delta_influence(const delta_head *h)
{
    const size_t C = SL_DELTA_CHUNK, bytes = h->qk_stride * sizeof(float);
    for (uint32_t i = 0; i < h->tokens; i++) {
        float *kk = h->kk + i * C, *qk = h->qk + i * C;
        float beta = h->beta[i * h->gate_stride], decay[SL_DELTA_CHUNK];
        dot_rows(h->k, bytes, i, h->dk, h->k + i * h->qk_stride, kk);
        dot_rows(h->k, bytes, i + 1, h->dk, h->q + i * h->qk_stride, qk);
        for (uint32_t j = 0; j <= i; j++)
            decay[j] = kern_exp((float)(h->total[i] - h->total[j]));
        for (uint32_t j = 0; j < i; j++)
            kk[j] = -(beta * kk[j] * decay[j]);
        for (uint32_t j = 0; j <= i; j++)
            qk[j] *= decay[j];
    }
}

/* d: solved forward, a block of rows at a time. */
static void delta_solve(const delta_head *h, const float *state)
{
    const size_t C = SL_DELTA_CHUNK;
    const uint32_t n = h->tokens, dv = h->dv;
    memset(h->ks, 0, (size_t)n * dv * sizeof(float));
    sum_rows(h->k, h->qk_stride, 1, state, dv, h->dk, h->ks, dv, n, dv);
    for (uint32_t i = 0; i < n; i++) {
        float decay = kern_exp((float)h->total[i]), beta = h->beta[i * h->gate_stride];
        float *d = h->d + (size_t)i * dv;
        const float *v = h->v + i * h->v_stride, *ks = h->ks + (size_t)i * dv;
        for (uint32_t j = 0; j < dv; j++)
            d[j] = beta * (v[j] - decay * ks[j]);
    }
    for (uint32_t b = 0; b < n; b += DELTA_ROWS) {
        uint32_t end = n - b < DELTA_ROWS ? n : b + DELTA_ROWS;
        sum_rows(h->kk + b * C, C, 1, h->d, dv, b, h->d + (size_t)b * dv, dv, end - b, dv);
        for (uint32_t i = b + 1; i < end; i++)
            sum_rows(h->kk + i * C + b, C, 1, h->d + (size_t)b * dv, dv, i - b,
                     h->d + (size_t)i * dv, dv, 1, dv);
    }
}

static void delta_outputs(const delta_head *h, const float *state, float *out, size_t out_stride)
{
    const size_t C = SL_DELTA_CHUNK;
    const uint32_t n = h->tokens, dv = h->dv;
    for (uint32_t i = 0; i < n; i++)
        memset(out + i * out_stride, 0, dv * sizeof(float));
    sum_rows(h->q, h->qk_stride, 1, state, dv, h->dk, out, out_stride, n, dv);
    for (uint32_t i = 0; i < n; i++) {
        float decay = kern_exp((float)h->total[i]);
        for (uint32_t j = 0; j < dv; j++)
            out[i * out_stride + j] *= decay;
    }
    for (uint32_t b = 0; b < n; b += DELTA_ROWS) {
        uint32_t end = n - b < DELTA_ROWS ? n : b + DELTA_ROWS;
        sum_rows(h->qk + b * C, C, 1, h->d, dv, b, out + b * out_stride, out_stride, end - b, dv);
        for (uint32_t i = b; i < end; i++)
            sum_rows(h->qk + i * C + b, C, 1, h->d + (size_t)b * dv, dv, i - b + 1,
                     out + i * out_stride, out_stride, 1, dv);
    }
}

static void delta_update(const delta_head *h, float *state)
{
    const uint32_t n = h->tokens, dv = h->dv;
    double last = h->total[n - 1];
    float decay = kern_exp((float)last);
    for (size_t i = 0; i < (size_t)h->dk * dv; i++)
        state[i] *= decay;
    for (uint32_t i = 0; i < n; i++) {
        float left = kern_exp((float)(last - h->total[i]));
        for (uint32_t j = 0; j < dv; j++)
            h->d[(size_t)i * dv + j] *= left;
    }
    sum_rows(h->k, 1, h->qk_stride, h->d, dv, n, state, dv, h->dk, dv);
}

static void delta_chunk(float *state, const float *q, const float *k, size_t qk_stride,
                        const float *v, size_t v_stride, const float *g, const float *beta,
                        size_t gate_stride, uint32_t tokens, uint32_t dk, uint32_t dv, float *out,
                        size_t out_stride, float *tmp)
{
    const size_t C = SL_DELTA_CHUNK;
    assert(tokens >= 1 && tokens <= SL_DELTA_CHUNK);
    delta_head h = {.q = q, .k = k, .v = v, .beta = beta, .qk_stride = qk_stride};
    h.v_stride = v_stride;
    h.gate_stride = gate_stride;
    h.tokens = tokens;
    h.dk = dk;
    h.dv = dv;
    h.kk = tmp;
    h.qk = h.kk + C * C;
    h.d = h.qk + C * C;
    h.ks = h.d + C * dv;
    double total = 0;
    for (uint32_t i = 0; i < tokens; i++) {
        float step = g[i * gate_stride]; /* below -200 nothing is left of the past anyway */
        total += step < -200.0f ? -200.0 : (double)step;
        h.total[i] = total;
    }
    delta_influence(&h);
    delta_solve(&h, state);
    delta_outputs(&h, state, out, out_stride);
    delta_update(&h, state);
}

static void fill_delta(sl__kern *kern)
{
    kern->delta_step = delta_step;
    kern->delta_chunk = delta_chunk;
}

#endif
