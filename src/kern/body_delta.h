/* Gated DeltaNet. A chunk of C tokens of one value head, with G_i = g_0 + … + g_i:
 *
 *     L_ij = β_i (k_i·k_j) exp(G_i − G_j)   j < i          tokens' influence on one another
 *     D_i  = β_i (v_i − exp(G_i) k_iᵀS) − Σ_{j<i} L_ij D_j   what each writes under its key
 *     o_i  = exp(G_i) q_iᵀS + Σ_{j≤i} (q_i·k_j) exp(G_i − G_j) D_j
 *     S   ← exp(G_last) S + Σ_i exp(G_last − G_i) k_i D_iᵀ
 *
 * Every exponent is a difference that is never positive, formed before exp; the sums G are double,
 * so that a strong decay takes no digits from the weak ones after it.
 *
 * The products of keys and queries belong to the key head and are made once for all value heads
 * that share it. Columns of S are independent, so a head goes through all four lines in blocks of
 * columns that stay in L1: the state is read once and written once.
 *
 *     tmp   keys:    k [C][dk] · kᵀ [dk][C] · qᵀ [dk][C] · k_j·k_i [C][C] · k_j·q_i [C][C]
 *           a head:  −Lᵀ [C][C] · Pᵀ [C][C], P_ij = (q_i·k_j) exp(G_i − G_j)
 *           a block: S [dk][B] · D [C][B] · o [C][B]                B = SL_DELTA_COLS
 *
 * Left sides of products lie transposed (delta_tiles.h). tmp is dense because rows in the caller's
 * arrays lie a power of two apart, or nearly, and would push one another out of L1. Rows and
 * columns beyond the end are zeros there.
 */
#ifndef SL_KERN_BODY_DELTA_H
#define SL_KERN_BODY_DELTA_H

#include <assert.h>

#include "kern/delta_tiles.h"
#include "kern/expf.h"
#include "kern/levels.h"

/* ---- one token ------------------------------------------------------------------------------- */

/* Vectors of a panel of columns: their two sums stay in registers. */
#if SL_VW == 16
#define STEP_VECS 8u
#else
#define STEP_VECS 4u
#endif

typedef struct delta_token {
    const float *q, *k;
    float decay, beta, qk; /* exp(g); β; q·k */
    uint32_t dk, dv;
} delta_token;

/* V vectors of columns (a constant): Sᵀk and Sᵀq on the way down, the update on the way up, which
 * meets the rows that were seen last while they are still near.
 *   out = S'ᵀq = exp(g) Sᵀq + (k·q) d */
SL_INLINE void delta_panel(const delta_token *t, float *state, const float *v, float *out,
                           uint32_t V)
{
    vec d[STEP_VECS], o[STEP_VECS];
    const vec decay = vec_set1(t->decay);
#pragma GCC unroll 16
    for (uint32_t i = 0; i < V; i++)
        d[i] = o[i] = vec_set1(0);
    for (uint32_t r = 0; r < t->dk; r++) {
        const float *row = state + (size_t)r * t->dv;
        const vec k = vec_set1(t->k[r]), q = vec_set1(t->q[r]);
#pragma GCC unroll 16
        for (uint32_t i = 0; i < V; i++) {
            vec s = vec_load(row + i * SL_VW);
            d[i] = SL_VFMA(s, k, d[i]);
            o[i] = SL_VFMA(s, q, o[i]);
        }
    }
#pragma GCC unroll 16
    for (uint32_t i = 0; i < V; i++) {
        d[i] = vec_set1(t->beta) * (vec_load(v + i * SL_VW) - decay * d[i]);
        vec_store(out + i * SL_VW, SL_VFMA(vec_set1(t->qk), d[i], decay * o[i]));
    }
    for (uint32_t r = t->dk; r-- > 0;) {
        float *row = state + (size_t)r * t->dv;
        const vec k = vec_set1(t->k[r]);
#pragma GCC unroll 16
        for (uint32_t i = 0; i < V; i++)
            vec_store(row + i * SL_VW, SL_VFMA(k, d[i], decay * vec_load(row + i * SL_VW)));
    }
}

/* One column, like a vector's. */
SL_INLINE void delta_column(const delta_token *t, float *state, float v, float *out)
{
    vec d = vec_set1(0), o = d, s;
    for (uint32_t r = 0; r < t->dk; r++) {
        s = vec_set1(state[(size_t)r * t->dv]);
        d = SL_VFMA(s, vec_set1(t->k[r]), d);
        o = SL_VFMA(s, vec_set1(t->q[r]), o);
    }
    d = vec_set1(t->beta) * (vec_set1(v) - vec_set1(t->decay) * d);
    o = SL_VFMA(vec_set1(t->qk), d, vec_set1(t->decay) * o);
    *out = o[0];
    for (uint32_t r = 0; r < t->dk; r++) {
        s = vec_set1(t->decay) * vec_set1(state[(size_t)r * t->dv]);
        s = SL_VFMA(vec_set1(t->k[r]), d, s);
        state[(size_t)r * t->dv] = s[0];
    }
}

static void delta_step(float *state, const float *q, const float *k, const float *v, float g,
                       float beta, uint32_t dk, uint32_t dv, uint32_t c0, uint32_t c1, float *out)
{
    delta_token t = {q, k, kern_exp(g), beta, 0, dk, dv};
    dot_rows(q, 0, 1, dk, k, &t.qk);
    uint32_t j = c0;
    for (; c1 - j >= STEP_VECS * SL_VW; j += STEP_VECS * SL_VW)
        delta_panel(&t, state + j, v + j, out + j, STEP_VECS);
    for (; c1 - j >= 4 * SL_VW; j += 4 * SL_VW)
        delta_panel(&t, state + j, v + j, out + j, 4);
    for (; c1 - j >= SL_VW; j += SL_VW)
        delta_panel(&t, state + j, v + j, out + j, 1);
    for (; j < c1; j++)
        delta_column(&t, state + j, v[j], out + j);
}

/* ---- a chunk --------------------------------------------------------------------------------- */

/* Beyond this exponent nothing is left of the past, a part in 2^99: and products with numbers that
 * are too small to be normal would cost hundreds of cycles each. */
#define DELTA_FORGOTTEN (-69.0f)

typedef struct delta_room {
    float *k, *kt, *qt, *kk, *kq; /* of the key head */
    float *l, *p;                 /* of the value head */
    float *s, *d, *o;             /* of the block of columns */
    size_t dk;                    /* with zeros: a multiple of SL_DELTA_ROWS, as is rows */
    uint32_t rows;                /* tokens and zeros */
    float past[SL_DELTA_CHUNK];   /* exp(G_i) */
    float left[SL_DELTA_CHUNK];   /* exp(G_last − G_i) */
    float beta[SL_DELTA_CHUNK];
} delta_room;

static uint32_t whole_rows(uint32_t n)
{
    return (n + SL_DELTA_ROWS - 1) / SL_DELTA_ROWS * SL_DELTA_ROWS;
}

static delta_room delta_rooms(const sl__delta_chunk *c, float *tmp)
{
    const size_t C = SL_DELTA_CHUNK;
    delta_room m;
    m.dk = whole_rows(c->dk);
    m.rows = whole_rows(c->tokens);
    m.k = tmp;
    m.kt = m.k + C * m.dk;
    m.qt = m.kt + C * m.dk;
    m.kk = m.qt + C * m.dk;
    m.kq = m.kk + C * C;
    m.l = m.kq + C * C;
    m.p = m.l + C * C;
    m.s = m.p + C * C;
    m.d = m.s + m.dk * SL_DELTA_COLS;
    m.o = m.d + C * SL_DELTA_COLS;
    return m;
}

/* to[r][i] = from[i][r]: rows of `dk` numbers become columns of rows of SL_DELTA_CHUNK. */
static void transpose(float *to, const float *from, size_t stride, uint32_t rows, uint32_t dk)
{
    for (uint32_t i = 0; i < rows; i++) {
        for (uint32_t r = 0; r < dk; r++)
            to[r * SL_DELTA_CHUNK + i] = from[i * stride + r];
    }
}

/* k, kᵀ, qᵀ, and the products of j <= i, in whole blocks of columns. */
static void delta_keys(const sl__delta_chunk *c, const delta_room *m)
{
    const size_t C = SL_DELTA_CHUNK;
    if (c->tokens < C || c->dk < m->dk)
        memset(m->k, 0, 3 * C * m->dk * sizeof(float)); /* kᵀ and qᵀ too */
    for (uint32_t i = 0; i < c->tokens; i++)
        memcpy(m->k + i * m->dk, c->k + i * c->qk_stride, c->dk * sizeof(float));
    transpose(m->kt, c->k, c->qk_stride, c->tokens, c->dk);
    transpose(m->qt, c->q, c->qk_stride, c->tokens, c->dk);
    for (uint32_t i = 0; i < m->rows; i += SL_DELTA_COLS) {
        uint32_t rows = m->rows < i + SL_DELTA_COLS ? m->rows : i + SL_DELTA_COLS;
        delta_product(m->kt, C, m->kt + i, C, c->dk, m->kk + i, C, rows, TILE_SET, NULL,
                      NULL);
        delta_product(m->kt, C, m->qt + i, C, c->dk, m->kq + i, C, rows, TILE_SET, NULL,
                      NULL);
    }
}

static void fade(float *x, uint32_t n) /* x ← exp(x) */
{
    for (uint32_t i = 0; i < n; i++) {
        float e = kern_exp(x[i]);
        x[i] = x[i] < DELTA_FORGOTTEN ? 0 : e;
    }
}

/* Value head h: its gates, −Lᵀ and Pᵀ. */
static void delta_influence(const sl__delta_chunk *c, uint32_t h, delta_room *m)
{
    const uint32_t C = SL_DELTA_CHUNK;
    double total[SL_DELTA_CHUNK], sum = 0; /* G */
    for (uint32_t i = 0; i < C; i++) {     /* after the end: no decay, and nothing is written */
        bool real = i < c->tokens;
        float g = real ? c->g[i * c->gate_stride + h] : 0;
        sum += g < -200.0f ? -200.0 : (double)g; /* less would leave nothing more of the past */
        total[i] = sum;
        m->past[i] = (float)sum;
        m->beta[i] = real ? c->beta[i * c->gate_stride + h] : 0;
    }
    for (uint32_t i = 0; i < C; i++)
        m->left[i] = (float)(sum - total[i]);
    fade(m->past, C);
    fade(m->left, C);
    for (uint32_t j = 0; j < m->rows; j++) {
        float *l = m->l + j * C, *p = m->p + j * C, decay[SL_DELTA_CHUNK];
        const float *kk = m->kk + j * C, *kq = m->kq + j * C;
        uint32_t from = j / SL_LANES * SL_LANES; /* columns before j are never looked at */
        uint32_t end = (m->rows + SL_LANES - 1) / SL_LANES * SL_LANES;
        for (uint32_t i = from; i < end; i++)
            decay[i] = (float)(total[i] - total[j]);
        fade(decay + from, end - from);
        for (uint32_t i = from; i < end; i++) {
            l[i] = -(m->beta[i] * kk[i] * decay[i]);
            p[i] = kq[i] * decay[i];
        }
    }
}

/* Rows of a block of columns, of which `width` are there. */
static void copy_block(float *to, size_t to_stride, const float *from, size_t from_stride,
                       uint32_t rows, uint32_t width)
{
    for (uint32_t i = 0; i < rows; i++) {
        if (width == SL_DELTA_COLS)
            memcpy(to + i * to_stride, from + i * from_stride, SL_DELTA_COLS * sizeof(float));
        else
            memcpy(to + i * to_stride, from + i * from_stride, width * sizeof(float));
    }
}

/* x[i][j] *= factor[i] */
static void scale_block(float *x, const float *factor, uint32_t rows)
{
    for (uint32_t i = 0; i < rows; i++) {
        const vec f = vec_set1(factor[i]);
        for (uint32_t j = 0; j < SL_DELTA_COLS; j += SL_VW) {
            float *at = x + i * SL_DELTA_COLS + j;
            vec_store(at, f * vec_load(at));
        }
    }
}

/* Asks for rows of a whole block of columns that are wanted soon. They lie far apart, which the
 * CPU's own guesses do not reach, and too many on the same sets of L1 to be kept there. */
SL_INLINE void prefetch_block(const float *x, size_t stride, uint32_t rows, int write)
{
    for (uint32_t i = 0; i < rows; i++) {
        for (uint32_t j = 0; j < SL_DELTA_COLS; j += 64 / sizeof(float)) {
            if (write) __builtin_prefetch(x + i * stride + j, 1, 2);
            else __builtin_prefetch(x + i * stride + j, 0, 2);
        }
    }
}

/* A block of columns: `width` of them, from `from` on, of value head h. */
typedef struct delta_columns {
    uint32_t h, from, width;
    float *state, *out; /* its first column */
    const float *v;
} delta_columns;

static delta_columns columns_at(const sl__delta_chunk *c, uint32_t h, uint32_t from)
{
    size_t at = (size_t)h * c->dv + from;
    uint32_t width = c->dv - from < SL_DELTA_COLS ? c->dv - from : SL_DELTA_COLS;
    return (delta_columns){h, from, width, c->state + at + (size_t)h * (c->dk - 1) * c->dv,
                           c->out + at, c->v + at};
}

/* Asks for what lies outside of tmp: rows [i, i + SL_DELTA_ROWS) of this block's outputs, and as
 * large a part of the next block's state and values. */
static void delta_ahead(const sl__delta_chunk *c, const delta_room *m, const delta_columns *b,
                        uint32_t i)
{
    uint32_t end = c->tokens < i + SL_DELTA_ROWS ? c->tokens : i + SL_DELTA_ROWS;
    bool last = b->from + b->width == c->dv;
    if (b->width == SL_DELTA_COLS)
        prefetch_block(b->out + i * c->out_stride, c->out_stride, end - i, 1);
    if (last && b->h + 1 == c->heads) return;
    delta_columns next = columns_at(c, last ? b->h + 1 : b->h, last ? 0 : b->from + b->width);
    if (next.width < SL_DELTA_COLS) return;
    uint32_t r0 = c->dk * i / m->rows, r1 = c->dk * (i + SL_DELTA_ROWS) / m->rows;
    prefetch_block(next.state + (size_t)r0 * c->dv, c->dv, r1 - r0, 1);
    prefetch_block(next.v + i * c->v_stride, c->v_stride, end - i, 0);
}

/* D and o of a block: first what the state says, d holding the values; then the tokens' influence
 * on one another, some rows at a time. */
static void delta_solve(const sl__delta_chunk *c, const delta_room *m, const delta_columns *b)
{
    const size_t C = SL_DELTA_CHUNK, B = SL_DELTA_COLS;
    const uint32_t rows = SL_DELTA_ROWS;
    for (uint32_t i = 0; i < m->rows; i += SL_DELTA_ROWS) {
        float *d = m->d + i * B, *o = m->o + i * B;
        const float *l = m->l + i, *p = m->p + i;
        delta_ahead(c, m, b, i);
        delta_product(m->kt + i, C, m->s, B, c->dk, d, B, rows, TILE_WRITE, m->past + i,
                      m->beta + i);
        delta_product(m->qt + i, C, m->s, B, c->dk, o, B, rows, TILE_SCALE, m->past + i, NULL);
        delta_product(l, C, m->d, B, i, d, B, rows, TILE_ADD, NULL, NULL);
        delta_product(p, C, m->d, B, i, o, B, rows, TILE_ADD, NULL, NULL);
        for (uint32_t j = 0; j < B; j += SL_VW)
            delta_corner(l + i * C, p + i * C, d + j, o + j);
    }
}

static void delta_block(const sl__delta_chunk *c, const delta_columns *b, const delta_room *m)
{
    const size_t B = SL_DELTA_COLS, dv = c->dv;
    if (b->width < B || c->dk < m->dk) memset(m->s, 0, m->dk * B * sizeof(float));
    if (b->width < B || c->tokens < m->rows) memset(m->d, 0, m->rows * B * sizeof(float));
    copy_block(m->s, B, b->state, dv, c->dk, b->width);
    copy_block(m->d, B, b->v, c->v_stride, c->tokens, b->width);
    delta_solve(c, m, b);
    copy_block(b->out, c->out_stride, m->o, B, c->tokens, b->width);
    scale_block(m->d, m->left, c->tokens);
    delta_product(m->k, m->dk, m->d, B, c->tokens, m->s, B, (uint32_t)m->dk, TILE_FADE,
                  &m->past[SL_DELTA_CHUNK - 1], NULL);
    copy_block(b->state, dv, m->s, B, c->dk, b->width);
}

static void delta_chunk(const sl__delta_chunk *c, float *tmp)
{
    assert(c->tokens >= 1 && c->tokens <= SL_DELTA_CHUNK);
    delta_room m = delta_rooms(c, tmp);
    delta_keys(c, &m);
    for (uint32_t h = 0; h < c->heads; h++) {
        delta_influence(c, h, &m);
        for (uint32_t from = 0; from < c->dv; from += SL_DELTA_COLS) {
            const delta_columns b = columns_at(c, h, from);
            delta_block(c, &b, &m);
        }
    }
}

static void fill_delta(sl__kern *kern)
{
    kern->delta_step = delta_step;
    kern->delta_chunk = delta_chunk;
}

#endif
