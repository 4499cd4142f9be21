/* Attention of the queries of one KV head, span by span. A file that includes this defines SL_VW
 * and, before or after kern/lanes.h, what its instruction set does best:
 *
 *     vec attention_fma(vec a, vec b, vec c)        a·b + c, fused where the level has it
 *     vec attention_halves(const uint16_t *p)       SL_VW halves as floats
 *     vec attention_codes(const int8_t *p)          SL_VW codes as floats
 *
 * A span is two products with panels of rows of 32 numbers (kv_blocks.h), each panel opened to
 * floats once for all queries, and read ahead of its use:
 *
 *     scores [queries][positions] = q [queries][channels] · keys [channels][32], block by block
 *     p = exp(scores − their largest)
 *     sum    [queries][channels]  = p [queries][positions] · values [positions][32], panel by panel
 *
 * A product goes through 128 rows before its sums leave the registers: 128 channels of a block of
 * keys, the same 32 channels of four blocks of values.
 *
 * Every number of a result belongs to one query and is summed in increasing channel or position,
 * each 128 of them (of positions: counted from the span's first) from 0 and then those sums, with
 * one multiply-add each, whatever tile computes it. What a query does not see but another one of
 * the call does has p = 0, and adding 0 · v changes nothing but perhaps the sign of a zero, which
 * attend_end takes away.
 *
 *     tmp:  q·scale [rows] · scores [rows] · a span's partial result [rows] · a panel
 */
#ifndef SL_KERN_BODY_ATTENTION_H
#define SL_KERN_BODY_ATTENTION_H

#include <assert.h>
#include <math.h>

#include "kern/expf.h"
#include "kern/lanes.h"
#include "kern/levels.h"

#define BLOCK      SL_KV_BLOCK
#define PART       (BLOCK * BLOCK) /* numbers of 32 rows of a panel */
#define LINE       64u /* bytes of a cache line */
#define ROW_VECS   (BLOCK / SL_VW)
#define TILE_VECS  2u                      /* of a row of a panel, in a register tile */
#define TILE_ROWS  (SL_VW == 16 ? 8u : 4u) /* queries of a register tile */

struct room {
    float *q, *scores, *partial, *panel;
    size_t q_row, partial_row;
    uint32_t rows;
};

/* Rows of 32 numbers, in parts of 32 rows that lie `part` floats apart. Where `halves` is not NULL,
 * they are still to be opened from there, whose parts lie `halves_part` halves apart: the first
 * tile of a product does so on its way, into `room`, which is `at`. */
struct panel {
    const float *at;
    size_t part;
    float *room;
    const uint16_t *halves;
    size_t halves_part;
};

/* What is read next, asked for a little at every step of a product: `bytes` with every 32 rows of
 * the panel, which lie `part` bytes apart. */
struct ahead {
    const char *at;
    size_t part, bytes;
};

/* c[r][32] = (fresh ? 0 : c) + Σ_k a[r][k]·b[k][32] for R rows of queries and k in [from, to), the
 * sum from 0 in increasing k. */
SL_INLINE void panel_tile(const float *a, size_t a_row, struct panel b, bool open, uint32_t from,
                          uint32_t to, float *c, size_t c_row, bool fresh, uint32_t R,
                          struct ahead ahead, size_t step)
{
    for (uint32_t p = 0; p < ROW_VECS; p += TILE_VECS) {
        vec s[8 * TILE_VECS];
        for (uint32_t i = 0; i < R * TILE_VECS; i++)
            s[i] = vec_set1(0);
        for (uint32_t k = from; k < to;) {
            uint32_t part = k / BLOCK, end = (part + 1) * BLOCK < to ? (part + 1) * BLOCK : to;
            size_t in_part = k % BLOCK * BLOCK + p * SL_VW;
            const float *row = b.at + part * b.part + in_part;
            float *room = open ? b.room + part * b.part + in_part : NULL;
            const uint16_t *halves = open ? b.halves + part * b.halves_part + in_part : NULL;
            const char *next = ahead.at + part * ahead.part;
            for (; k < end; k++) {
                vec bv[TILE_VECS];
                for (uint32_t v = 0; v < TILE_VECS; v++) {
                    bv[v] = open ? attention_halves(halves + v * SL_VW)
                                 : vec_load(row + v * SL_VW);
                    if (open) vec_store(room + v * SL_VW, bv[v]);
                }
                row += BLOCK;
                if (open) {
                    halves += BLOCK;
                    room += BLOCK;
                }
                if (p == 0) {
                    __builtin_prefetch(next);
                    if (step > LINE) __builtin_prefetch(next + LINE);
                    next += step;
                }
                for (uint32_t r = 0; r < R; r++) {
                    vec av = vec_set1(a[r * a_row + k]);
                    for (uint32_t v = 0; v < TILE_VECS; v++)
                        s[r * TILE_VECS + v] = attention_fma(av, bv[v], s[r * TILE_VECS + v]);
                }
            }
        }
        for (uint32_t i = 0; i < R * TILE_VECS; i++) {
            float *to_c = c + i / TILE_VECS * c_row + (p + i % TILE_VECS) * SL_VW;
            vec_store(to_c, fresh ? s[i] : vec_load(to_c) + s[i]);
        }
    }
}

/* A tile of 1, 2, 4 or 8 rows. */
SL_INLINE void panel_rows(const float *a, size_t a_row, struct panel b, bool open, uint32_t from,
                          uint32_t to, float *c, size_t c_row, bool fresh, uint32_t R,
                          struct ahead ahead, size_t step)
{
    if (TILE_ROWS == 8 && R == 8)
        panel_tile(a, a_row, b, open, from, to, c, c_row, fresh, 8, ahead, 8 * step);
    else if (R == 4) panel_tile(a, a_row, b, open, from, to, c, c_row, fresh, 4, ahead, 4 * step);
    else if (R == 2) panel_tile(a, a_row, b, open, from, to, c, c_row, fresh, 2, ahead, 2 * step);
    else panel_tile(a, a_row, b, open, from, to, c, c_row, fresh, 1, ahead, step);
}

/* The same for any number of rows. Each row's share of what lies ahead is asked for with it. */
static void panel_product(const float *a, size_t a_row, struct panel b, uint32_t from, uint32_t to,
                          float *c, size_t c_row, bool fresh, uint32_t rows, struct ahead ahead)
{
    size_t step = ahead.bytes / ((size_t)rows * BLOCK); /* for one row */
    for (uint32_t r = 0; r < rows;) {
        uint32_t left = rows - r, R = left >= 4 ? 4 : left >= 2 ? 2 : 1;
        if (left >= TILE_ROWS) R = TILE_ROWS;
        if (r == 0 && b.halves)
            panel_rows(a, a_row, b, true, from, to, c, c_row, fresh, R, ahead, step);
        else panel_rows(a, a_row, b, false, from, to, c, c_row, fresh, R, ahead, step);
        ahead.at += R * step * BLOCK;
        a += R * a_row;
        c += R * c_row;
        r += R;
    }
}

/* ---- panels ---------------------------------------------------------------------------------- */

static void open_halves(const uint16_t *p, uint32_t rows, float *out)
{
    for (uint32_t i = 0; i < rows * BLOCK; i += SL_VW)
        vec_store(out + i, attention_halves(p + i));
}

/* Codes of keys have a scale a column, those of values a scale a row. */
static void open_key_codes(const int8_t *code, const float *scale, uint32_t rows, float *out)
{
    vec column[ROW_VECS];
    for (uint32_t v = 0; v < ROW_VECS; v++)
        column[v] = vec_load(scale + v * SL_VW);
    for (uint32_t i = 0; i < rows * BLOCK; i += BLOCK) {
        for (uint32_t v = 0; v < ROW_VECS; v++)
            vec_store(out + i + v * SL_VW, attention_codes(code + i + v * SL_VW) * column[v]);
    }
}

static void open_value_codes(const int8_t *code, const float *scale, uint32_t rows, float *out)
{
    for (uint32_t r = 0; r < rows; r++) {
        vec row = vec_set1(scale[r]);
        for (uint32_t i = r * BLOCK; i < (r + 1) * BLOCK; i += SL_VW)
            vec_store(out + i, attention_codes(code + i) * row);
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

typedef float vec4 __attribute__((vector_size(16)));

/* out = the columns of the square of four at `in`, in a matrix with rows of 32. */
SL_INLINE void turn_square(const float *in, vec4 out[4])
{
    vec4 a[4];
    for (uint32_t i = 0; i < 4; i++)
        memcpy(&a[i], in + i * BLOCK, sizeof a[i]);
    for (uint32_t i = 0; i < 4; i++)
        out[i] = (vec4){a[0][i], a[1][i], a[2][i], a[3][i]};
}

/* m[c][r] ← m[r][c], 32 by 32: squares of four are turned and change places with their
 * opposites. */
static void turn(float *m)
{
    for (uint32_t r = 0; r < BLOCK; r += 4) {
        for (uint32_t c = r; c < BLOCK; c += 4) {
            float *here = m + r * BLOCK + c, *opposite = m + c * BLOCK + r;
            vec4 a[4], b[4];
            turn_square(here, a);
            turn_square(opposite, b);
            for (uint32_t i = 0; i < 4; i++) {
                memcpy(opposite + i * BLOCK, &a[i], sizeof a[i]);
                memcpy(here + i * BLOCK, &b[i], sizeof b[i]);
            }
        }
    }
}

/* Rows [row, row + rows) of a block of keys, from a multiple of 64 on. */
static struct panel open_keys(const sl__attend *a, const char *block, uint32_t row, uint32_t rows,
                              const struct room *room)
{
    const void *at = block + row_offset(a->type, row);
    if (a->type == SL_KV_F32) return (struct panel){.at = at, .part = PART};
    if (a->type == SL_KV_F16) return (struct panel){room->panel, PART, room->panel, at, PART};
    for (uint32_t done = 0; done < rows; done += SL_KV_GROUP) {
        uint32_t some = rows - done < SL_KV_GROUP ? rows - done : SL_KV_GROUP;
        open_rows(a->type, block, row + done, some, false, room->panel + done * BLOCK);
    }
    return (struct panel){.at = room->panel, .part = PART};
}

/* Channels [from, from + 32) of a block of keys as rows of positions; where there are fewer, the
 * rest is 0. */
static void open_turned(const sl__attend *a, const char *block, uint32_t from, float *out)
{
    uint32_t rows = a->qk_dim - from < BLOCK ? a->qk_dim - from : BLOCK;
    const float *keys = open_rows(a->type, block, from, rows, false, out);
    if (keys != out) memcpy(out, keys, rows * BLOCK * sizeof *out);
    memset(out + rows * BLOCK, 0, (BLOCK - rows) * BLOCK * sizeof *out);
    turn(out);
}

/* Channels [from, from + 32) of some blocks' values as rows of positions. */
static struct panel open_values(const sl__attend *a, const char *block, size_t bytes,
                                uint32_t blocks, uint32_t from, const struct room *room)
{
    const void *at = block + row_offset(a->type, from);
    if (a->v && a->type == SL_KV_F32)
        return (struct panel){.at = at, .part = bytes / sizeof(float)};
    if (a->v && a->type == SL_KV_F16)
        return (struct panel){room->panel, PART, room->panel, at, bytes / sizeof(uint16_t)};
    for (uint32_t i = 0; i < blocks; i++, block += bytes) {
        float *out = room->panel + i * PART;
        if (a->v) open_rows(a->type, block, from, BLOCK, true, out);
        else open_turned(a, block, from, out);
    }
    return (struct panel){.at = room->panel, .part = PART};
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
        for (uint32_t row = 0; row < a->qk_dim; row += SL_ATTEND_DEPTH) {
            uint32_t left = a->qk_dim - row, rows = left < SL_ATTEND_DEPTH ? left : SL_ATTEND_DEPTH;
            struct panel panel = open_keys(a, block, row, rows, room);
            size_t part = row_offset(a->type, BLOCK);
            struct ahead ahead = {block + row_offset(a->type, row + rows), part, part};
            if (at + BLOCK >= seen.to && rows == left && a->v) {
                ahead.part = (size_t)sl__kv_value_bytes(a->type, a->v_dim);
                ahead.at = block_of(a, a->v, ahead.part, seen.span, seen.from / BLOCK * BLOCK);
            }
            panel_product(room->q + row, room->q_row, panel, 0, rows, room->scores + at,
                          SL_ATTEND_SCORE_ROW, row == 0, room->rows, ahead);
        }
    }
}

typedef uint32_t vec_bits __attribute__((vector_size(SL_VW * 4)));

SL_INLINE vec larger_of(vec a, vec b)
{
    vec_bits mask = (vec_bits)(a > b);
    return (vec)(((vec_bits)a & mask) | ((vec_bits)b & ~mask));
}

/* exp(x) as in expf.h, for x <= 0: what would not be a normal number is 0, a NaN stays one. */
SL_INLINE vec weight_of(vec x)
{
    static const float terms[] = {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1, 1};
    vec_bits nothing = (vec_bits)(x < vec_set1(-87.0f));
    vec shifted = attention_fma(x, vec_set1(0x1.715476p+0f), vec_set1(0x1.8p+23f));
    vec n = shifted - vec_set1(0x1.8p+23f);
    vec r = attention_fma(n, vec_set1(-0.693359375f), x);
    r = attention_fma(n, vec_set1(2.12194440e-4f), r);
    vec p = vec_set1(1.0f / 5040);
    for (uint32_t i = 0; i < sizeof terms / sizeof *terms; i++)
        p = attention_fma(p, r, vec_set1(terms[i]));
    vec_bits power = ((vec_bits)shifted << 23) + (vec_bits)vec_set1(1.0f);
    return (vec)((vec_bits)(p * (vec)power) & ~nothing);
}

/* s[from … to) ← exp(s − the largest) where the query sees [lo, hi) of it, else 0; from and to are
 * multiples of 32. The sum runs over sixteen lanes, by position, like the dot product's. */
static void weigh(float *s, struct seen all, uint32_t lo, uint32_t hi, float *largest, float *sum)
{
    uint32_t from = all.from / BLOCK * BLOCK, to = (all.to + BLOCK - 1) / BLOCK * BLOCK;
    float lane[SL_LANES], most = -INFINITY;
    vec v[SL_VN];
    for (uint32_t i = from; i < lo; i++)
        s[i] = -INFINITY;
    for (uint32_t i = hi; i < to; i++)
        s[i] = -INFINITY;
    for (uint32_t i = 0; i < SL_VN; i++)
        v[i] = vec_set1(-INFINITY);
    for (uint32_t c = from; c < to; c += SL_LANES) {
        for (uint32_t i = 0; i < SL_VN; i++)
            v[i] = larger_of(vec_load(s + c + i * SL_VW), v[i]);
    }
    memcpy(lane, v, sizeof lane);
    for (uint32_t i = 0; i < SL_LANES; i++)
        most = lane[i] > most ? lane[i] : most;
    memset(v, 0, sizeof v);
    for (uint32_t c = from; c < to; c += SL_LANES) {
        for (uint32_t i = 0; i < SL_VN; i++) {
            vec weight = weight_of(vec_load(s + c + i * SL_VW) - vec_set1(most));
            vec_store(s + c + i * SL_VW, weight);
            v[i] += weight;
        }
    }
    memcpy(lane, v, sizeof lane);
    *largest = most;
    *sum = lanes_fold(lane);
}

static void add_values(const sl__attend *a, struct seen seen, const struct room *room, float *out)
{
    uint32_t panels = (a->v_dim + BLOCK - 1) / BLOCK, end;
    size_t bytes = (size_t)(a->v ? sl__kv_value_bytes(a->type, a->v_dim)
                                 : sl__kv_key_bytes(a->type, a->qk_dim));
    for (uint32_t at = seen.from / BLOCK * BLOCK; at < seen.to; at = end) {
        const char *block = block_of(a, a->v ? a->v : a->k, bytes, seen.span, at);
        end = (at / SL_ATTEND_DEPTH + 1) * SL_ATTEND_DEPTH;
        if (end > seen.to) end = seen.to;
        /* What was never stored may be anything. */
        uint32_t from = seen.from > at ? seen.from - at : 0, to = end - at;
        uint32_t blocks = (to + BLOCK - 1) / BLOCK;
        for (uint32_t p = 0; p < panels; p++) {
            struct panel panel = open_values(a, block, bytes, blocks, p * BLOCK, room);
            const char *next = p + 1 < panels ? block + row_offset(a->type, (p + 1) * BLOCK)
                                              : block + blocks * bytes;
            struct ahead ahead = {next, bytes, row_offset(a->type, BLOCK)};
            panel_product(room->scores + at, SL_ATTEND_SCORE_ROW, panel, from, to, out + p * BLOCK,
                          room->partial_row, at <= seen.from, room->rows, ahead);
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
