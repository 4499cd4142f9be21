/* Attention of the queries of one KV head, span by span. A file that includes this defines SL_VW
 * and, before or after kern/lanes.h, what its instruction set does best:
 *
 *     vec attention_fma(vec a, vec b, vec c)        a·b + c, fused where the level has it
 *     vec attention_halves(const uint16_t *p)       SL_VW halves as floats
 *
 * A span is two products with panels of rows of 32 numbers (kv_blocks.h), each panel opened to
 * floats once for all queries, and read ahead of its use:
 *
 *     scores [queries][positions] = q [queries][channels] · keys [channels][32], block by block
 *     p = exp(scores − their largest)
 *     sum    [queries][channels]  = p [queries][positions] · values [positions][32], panel by panel
 *
 * Every number of a result belongs to one query and is summed in increasing channel or position, a
 * panel from 0 and then the panels, with one multiply-add each, whatever tile computes it. What a
 * query does not see but another one of the call does has p = 0, and adding 0 · v changes nothing
 * but perhaps the sign of a zero, which attend_end takes away.
 *
 *     tmp:  q·scale [rows] · scores [rows] · a span's partial result [rows] · panels [2]
 */
#ifndef SL_KERN_BODY_ATTENTION_H
#define SL_KERN_BODY_ATTENTION_H

#include <assert.h>
#include <math.h>

#include "kern/expf.h"
#include "kern/lanes.h"
#include "kern/levels.h"

#define BLOCK      SL_KV_BLOCK
#define LINE       64u /* bytes of a cache line */
#define ROW_VECS   (BLOCK / SL_VW)
#define TILE_VECS  2u                      /* of a row of a panel, in a register tile */
#define TILE_ROWS  (SL_VW == 16 ? 8u : 4u) /* queries of a register tile */

struct room {
    float *q, *scores, *partial, *panel, *turned;
    size_t q_row, partial_row;
    uint32_t rows;
};

/* What is read next, asked for a little at every step of a product. */
struct ahead {
    const char *at;
    size_t bytes;
};

/* c[r][32] = (fresh ? 0 : c) + Σ_k a[r][k]·b[k][32] for R rows of queries, the sum from 0 in
 * increasing k. */
SL_INLINE void panel_tile(const float *a, size_t a_row, const float *b, uint32_t depth, float *c,
                          size_t c_row, bool fresh, uint32_t R, const char *ahead, size_t step)
{
    for (uint32_t p = 0; p < ROW_VECS; p += TILE_VECS) {
        vec s[8 * TILE_VECS];
        for (uint32_t i = 0; i < R * TILE_VECS; i++)
            s[i] = vec_set1(0);
        for (uint32_t k = 0; k < depth; k++) {
            vec bv[TILE_VECS];
            for (uint32_t v = 0; v < TILE_VECS; v++)
                bv[v] = vec_load(b + k * BLOCK + (p + v) * SL_VW);
            if (p == 0) {
                __builtin_prefetch(ahead);
                if (step > LINE) __builtin_prefetch(ahead + LINE);
                ahead += step;
            }
            for (uint32_t r = 0; r < R; r++) {
                vec av = vec_set1(a[r * a_row + k]);
                for (uint32_t v = 0; v < TILE_VECS; v++)
                    s[r * TILE_VECS + v] = attention_fma(av, bv[v], s[r * TILE_VECS + v]);
            }
        }
        for (uint32_t i = 0; i < R * TILE_VECS; i++) {
            float *to = c + i / TILE_VECS * c_row + (p + i % TILE_VECS) * SL_VW;
            vec_store(to, fresh ? s[i] : vec_load(to) + s[i]);
        }
    }
}

/* The same for any number of rows. Each row's share of what lies ahead is asked for with it. */
static void panel_product(const float *a, size_t a_row, const float *b, uint32_t depth, float *c,
                          size_t c_row, bool fresh, uint32_t rows, struct ahead ahead)
{
    size_t step = ahead.bytes / ((size_t)rows * depth); /* for one row */
    for (uint32_t r = 0; r < rows;) {
        uint32_t left = rows - r;
        const float *ar = a + r * a_row;
        float *cr = c + r * c_row;
        const char *at = ahead.at + r * step * depth;
        if (TILE_ROWS == 8 && left >= 8) {
            panel_tile(ar, a_row, b, depth, cr, c_row, fresh, 8, at, 8 * step);
            r += 8;
        } else if (left >= 4) {
            panel_tile(ar, a_row, b, depth, cr, c_row, fresh, 4, at, 4 * step);
            r += 4;
        } else if (left >= 2) {
            panel_tile(ar, a_row, b, depth, cr, c_row, fresh, 2, at, 2 * step);
            r += 2;
        } else {
            panel_tile(ar, a_row, b, depth, cr, c_row, fresh, 1, at, step);
            r += 1;
        }
    }
}

/* ---- panels ---------------------------------------------------------------------------------- */

static void open_halves(const uint16_t *p, uint32_t rows, float *out)
{
    for (uint32_t i = 0; i < rows * BLOCK; i += SL_VW)
        vec_store(out + i, attention_halves(p + i));
}

/* Codes of keys have a scale a column, those of values a scale a row. */
static void open_key_codes(const int8_t *restrict code, const float *restrict scale, uint32_t rows,
                           float *restrict out)
{
    for (uint32_t r = 0; r < rows; r++) {
        for (uint32_t i = 0; i < BLOCK; i++)
            out[r * BLOCK + i] = (float)code[r * BLOCK + i] * scale[i];
    }
}

static void open_value_codes(const int8_t *restrict code, const float *restrict scale,
                             uint32_t rows, float *restrict out)
{
    for (uint32_t r = 0; r < rows; r++) {
        for (uint32_t i = 0; i < BLOCK; i++)
            out[r * BLOCK + i] = (float)code[r * BLOCK + i] * scale[r];
    }
}

/* Where rows [row, row + rows) of panels begin in a block, and how many bytes they are; rows lie in
 * one group. */
static size_t row_offset(sl_kv_type type, uint32_t row)
{
    if (type == SL_KV_F16) return (size_t)row * BLOCK * sizeof(uint16_t);
    if (type == SL_KV_F32) return (size_t)row * BLOCK * sizeof(float);
    return (size_t)row * BLOCK + (row / SL_KV_GROUP + 1) * BLOCK * sizeof(float);
}

/* Rows of a block's panels as floats: where they lie, or in `room`. */
static const float *open_rows(sl_kv_type type, const char *block, uint32_t row, uint32_t rows,
                              bool value, float *room)
{
    const void *at = block + row_offset(type, row);
    if (type == SL_KV_F32) return at;
    if (type == SL_KV_F16) {
        open_halves(at, rows, room);
    } else {
        uint32_t group = row / SL_KV_GROUP;
        const void *scales = block + row_offset(type, group * SL_KV_GROUP) - BLOCK * sizeof(float);
        if (value) open_value_codes(at, scales, rows, room);
        else open_key_codes(at, scales, rows, room);
    }
    return room;
}

/* out[c][r] = in[r][c], 32 by 32, in squares of four. */
static void turn(const float *in, float *out)
{
    typedef float vec4 __attribute__((vector_size(16)));
    for (uint32_t r = 0; r < BLOCK; r += 4) {
        for (uint32_t c = 0; c < BLOCK; c += 4) {
            vec4 a[4];
            for (uint32_t i = 0; i < 4; i++)
                memcpy(&a[i], in + (r + i) * BLOCK + c, sizeof a[i]);
            for (uint32_t i = 0; i < 4; i++) {
                vec4 column = {a[0][i], a[1][i], a[2][i], a[3][i]};
                memcpy(out + (c + i) * BLOCK + r, &column, sizeof column);
            }
        }
    }
}

/* Channels [32·panel, + 32) of a block's values as rows of positions. */
static const float *open_values(const sl__attend *a, const char *block, uint32_t panel,
                                const struct room *room)
{
    uint32_t from = panel * BLOCK;
    if (a->v) return open_rows(a->type, block, from, BLOCK, true, room->panel);
    uint32_t rows = a->qk_dim - from < BLOCK ? a->qk_dim - from : BLOCK;
    const float *keys = open_rows(a->type, block, from, rows, false, room->panel);
    if (rows < BLOCK) { /* the rest is not there */
        if (keys != room->panel) memcpy(room->panel, keys, rows * BLOCK * sizeof(float));
        memset(room->panel + rows * BLOCK, 0, (BLOCK - rows) * BLOCK * sizeof(float));
        keys = room->panel;
    }
    turn(keys, room->turned);
    return room->turned;
}

/* ---- a span ---------------------------------------------------------------------------------- */

/* Positions of a span that matter, counted from its first: [from, to) are seen by some query. */
struct seen {
    uint32_t span, from, to;
};

static uint32_t clip_to_span(uint64_t position, uint32_t span)
{
    uint64_t start = (uint64_t)span * SL_ATTEND_SPAN;
    if (position <= start) return 0;
    return position - start < SL_ATTEND_SPAN ? (uint32_t)(position - start) : SL_ATTEND_SPAN;
}

/* What token t sees of a span. */
static struct seen seen_by(const sl__attend *a, uint32_t t, uint32_t span)
{
    uint64_t end = (uint64_t)a->position + t + 1, first = 0;
    if (a->window > 0 && end > a->window) first = end - a->window;
    return (struct seen){span, clip_to_span(first, span), clip_to_span(end, span)};
}

/* The bytes of a block of keys or values, and the block that holds position `at` of a span. */
static const char *block_of(const sl__attend *a, const void *blocks, uint64_t bytes, uint32_t span,
                            uint32_t at)
{
    uint64_t position = (uint64_t)span * SL_ATTEND_SPAN + at;
    assert(position >= a->base);
    return (const char *)blocks + (position - a->base) / BLOCK * bytes;
}

static void score(const sl__attend *a, struct seen seen, const struct room *room)
{
    uint64_t bytes = sl__kv_key_bytes(a->type, a->qk_dim);
    for (uint32_t at = seen.from / BLOCK * BLOCK; at < seen.to; at += BLOCK) {
        const char *block = block_of(a, a->k, bytes, seen.span, at);
        for (uint32_t row = 0; row < a->qk_dim; row += SL_KV_GROUP) {
            uint32_t rows = a->qk_dim - row < SL_KV_GROUP ? a->qk_dim - row : SL_KV_GROUP;
            const float *panel = open_rows(a->type, block, row, rows, false, room->panel);
            struct ahead ahead = {block + row_offset(a->type, row + rows),
                                  row_offset(a->type, rows)};
            if (at + BLOCK >= seen.to && row + rows == a->qk_dim && a->v) {
                ahead.at = block_of(a, a->v, sl__kv_value_bytes(a->type, a->v_dim), seen.span,
                                    seen.from / BLOCK * BLOCK);
            }
            panel_product(room->q + row, room->q_row, panel, rows, room->scores + at,
                          SL_ATTEND_SCORE_ROW, row == 0, room->rows, ahead);
        }
    }
}

/* s[from … to) ← exp(s − the largest) where the query sees [lo, hi) of it, else 0; from and to are
 * multiples of 32. The sum runs over sixteen lanes, by position, like the dot product's. */
static void weigh(float *s, struct seen all, uint32_t lo, uint32_t hi, float *largest, float *sum)
{
    float lane[SL_LANES];
    uint32_t from = all.from / BLOCK * BLOCK, to = (all.to + BLOCK - 1) / BLOCK * BLOCK;
    for (uint32_t i = from; i < lo; i++)
        s[i] = -INFINITY;
    for (uint32_t i = hi; i < to; i++)
        s[i] = -INFINITY;
    for (uint32_t i = 0; i < SL_LANES; i++)
        lane[i] = -INFINITY;
    for (uint32_t c = from; c < to; c += SL_LANES) {
        for (uint32_t i = 0; i < SL_LANES; i++)
            lane[i] = s[c + i] > lane[i] ? s[c + i] : lane[i];
    }
    float most = lane[0];
    for (uint32_t i = 1; i < SL_LANES; i++)
        most = lane[i] > most ? lane[i] : most;
    for (uint32_t c = from; c < to; c++)
        s[c] = kern_exp(s[c] - most);
    memset(lane, 0, sizeof lane);
    for (uint32_t c = from; c < to; c += SL_LANES) {
        for (uint32_t i = 0; i < SL_LANES; i++)
            lane[i] += s[c + i];
    }
    *largest = most;
    *sum = lanes_fold(lane);
}

static void add_values(const sl__attend *a, struct seen seen, const struct room *room, float *out)
{
    uint32_t panels = (a->v_dim + BLOCK - 1) / BLOCK;
    uint64_t bytes = a->v ? sl__kv_value_bytes(a->type, a->v_dim)
                          : sl__kv_key_bytes(a->type, a->qk_dim);
    for (uint32_t at = seen.from / BLOCK * BLOCK; at < seen.to; at += BLOCK) {
        const char *block = block_of(a, a->v ? a->v : a->k, bytes, seen.span, at);
        /* What was never stored may be anything. */
        uint32_t from = seen.from > at ? seen.from - at : 0;
        uint32_t to = seen.to - at < BLOCK ? seen.to - at : BLOCK;
        for (uint32_t p = 0; p < panels; p++) {
            const float *panel = open_values(a, block, p, room) + from * BLOCK;
            struct ahead ahead = {block + row_offset(a->type, (p + 1) * BLOCK),
                                  row_offset(a->type, BLOCK)};
            panel_product(room->scores + at + from, SL_ATTEND_SCORE_ROW, panel, to - from,
                          out + p * BLOCK, room->partial_row, at <= seen.from, room->rows, ahead);
        }
    }
}

/* One span's partial result. */
static void attend_span(const sl__attend *a, uint32_t span, const struct room *room, float *out)
{
    struct seen seen = {span, seen_by(a, 0, span).from, seen_by(a, a->tokens - 1, span).to};
    size_t tail = room->partial_row - 16;
    for (uint32_t r = 0; r < room->rows; r++) {
        out[r * room->partial_row + tail] = -INFINITY;
        out[r * room->partial_row + tail + 1] = 0;
    }
    if (seen.from >= seen.to) return;
    score(a, seen, room);
    for (uint32_t r = 0; r < room->rows; r++) {
        struct seen own = seen_by(a, r / a->heads, span);
        float *s = room->scores + r * SL_ATTEND_SCORE_ROW;
        float *last = out + r * room->partial_row + tail;
        if (own.from < own.to) weigh(s, seen, own.from, own.to, &last[0], &last[1]);
        else memset(s, 0, SL_ATTEND_SPAN * sizeof *s);
    }
    add_values(a, seen, room, out);
}

static void attend_fold(float *into, const float *next, uint32_t v_dim)
{
    size_t width = sl__attend_row(v_dim) - 16;
    if (next[width + 1] == 0) return;
    if (into[width + 1] == 0) {
        memcpy(into, next, (width + 2) * sizeof *into);
        return;
    }
    float most = into[width] > next[width] ? into[width] : next[width];
    float a = kern_exp(into[width] - most), b = kern_exp(next[width] - most);
    for (size_t i = 0; i < width; i++)
        into[i] = into[i] * a + next[i] * b;
    into[width] = most;
    into[width + 1] = into[width + 1] * a + next[width + 1] * b;
}

static void attend_end(const float *partial, const float *sink, float *out, uint32_t v_dim)
{
    size_t width = sl__attend_row(v_dim) - 16;
    float scale = 1, sum = partial[width + 1];
    if (sink) {
        float most = *sink > partial[width] ? *sink : partial[width];
        scale = kern_exp(partial[width] - most);
        sum = sum * scale + kern_exp(*sink - most);
    }
    scale /= sum;
    for (uint32_t i = 0; i < v_dim; i++)
        out[i] = partial[i] * scale + 0.0f; /* no zero has a sign */
}

static void attend(const sl__attend *a, uint32_t first, uint32_t last, float *partial, float *tmp)
{
    uint32_t rows = a->tokens * a->heads;
    struct room room = {.rows = rows, .q_row = SL_ATTEND_Q_ROW(a->qk_dim),
                        .partial_row = sl__attend_row(a->v_dim), .q = tmp};
    assert(rows > 0 && rows <= SL_ATTEND_ROWS && first < last && a->base % BLOCK == 0);
    room.scores = room.q + rows * room.q_row;
    room.partial = room.scores + rows * SL_ATTEND_SCORE_ROW;
    room.panel = room.partial + rows * room.partial_row;
    room.turned = room.panel + SL_ATTEND_PANEL;
    for (uint32_t r = 0; r < rows; r++) {
        const float *q = a->q + r / a->heads * a->q_token + r % a->heads * a->q_head;
        for (uint32_t i = 0; i < a->qk_dim; i++)
            room.q[r * room.q_row + i] = q[i] * a->scale;
    }
    attend_span(a, first, &room, partial);
    for (uint32_t span = first + 1; span < last; span++) {
        attend_span(a, span, &room, room.partial);
        for (uint32_t r = 0; r < rows; r++)
            attend_fold(partial + r * room.partial_row, room.partial + r * room.partial_row,
                        a->v_dim);
    }
}

static void fill_attention(sl__kern *kern)
{
    kern->attend = attend;
    kern->attend_fold = attend_fold;
    kern->attend_end = attend_end;
}

#endif
