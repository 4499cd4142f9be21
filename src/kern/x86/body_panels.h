/* The product of panels with activations of 8 bits, over whatever adds up dot products of bytes.
 *
 * One token: a group's codes go from memory through registers into the sums, and memory is what it
 * waits for. More tokens: the codes of a group are opened once, into bytes that stay in L1, and
 * multiplied with all tokens, TILE_TOKENS at a time against two vectors of rows:
 *
 *                 token 0   1   2   3   4   5
 *     rows 0 …    ┌───────────────────────────┐     a sum each, in registers over a group
 *     rows VW …   └───────────────────────────┘
 *
 * The float sums of BLOCK_TOKENS tokens wait in tmp between the groups. With more tokens than that,
 * CHUNK_BYTES of weights are gone through for one block of tokens after the other: the weights come
 * from L2 then, and so do the activations.
 *
 *     tmp, from its first multiple of 64 bytes:
 *     opened [panels of a strip]   sums [BLOCK_TOKENS][rows of a strip]
 *
 * A level defines, before it includes this:
 *
 *     dot_add(type, s, codes, x)  s and the products of four bytes each, in the level's own way
 *     dot_sum(type, s)            the same as integers of 32 bits
 *     dot_start(type, group)      what a dot product of integers starts with
 *     SL_DOT_QUADS                quads that dot_add can take before dot_sum must be called, but
 *                                 for q8, which has no limit
 *     SL_DOT_IN_PLACE             1 where codes may be left 2^n times too large in their bytes
 *     SL_DOT_ONE_KIND             1 where the type makes no difference to the three
 */
#ifndef SL_KERN_X86_BODY_PANELS_H
#define SL_KERN_X86_BODY_PANELS_H

#include <assert.h>

#include "kern/x86/panel_groups.h"

#define STRIP_VECS   2u /* vectors of rows that are worked on at once */
#define TILE_TOKENS  (SL_VW == 16 ? 8u : 6u) /* whose sums fit in registers */
#define BLOCK_TOKENS 32u
#define CHUNK_BYTES  (256u << 10)

/* ---- one token ------------------------------------------------------------------------------- */

/* The dot products of a part's rows with a group of codes. Every field of the bytes has sums of its
 * own, for which they need not be shifted where there is room; q8 has two, for latency. */
SL_INLINE ivec block_dot(sl__dtype type, const unsigned char *block, unsigned part,
                         const unsigned char *x, const sl__q8_group *group)
{
    const unsigned fields = codes_per_byte(type), vectors = QUADS / fields;
    const bool in_place = SL_DOT_IN_PLACE && type != SL_Q3 && type != SL_Q8;
    ivec s[4] = {{0}}, dot = dot_start(type, group);
    for (unsigned i = 0; i < vectors; i++) {
        ivec v = block_vector(block, part, i), thirds = v;
        if (type == SL_Q3) thirds = third_bits(block, part, i);
        for (unsigned f = 0; f < fields; f++) {
            unsigned at = type == SL_Q8 ? i % 2 : f;
            ivec mask = ivec_set1((int32_t)((type == SL_Q4 ? 0x0f0f0f0fu : 0x03030303u)
                                            << f * code_bits(type)));
            ivec codes = in_place ? v & mask : field(type, v, thirds, f);
            s[at] = dot_add(type, s[at], codes, quad_of(x, f * vectors + i));
        }
    }
    for (unsigned i = 0; i < (type == SL_Q8 ? 2 : fields); i++)
        dot += dot_sum(type, s[i]) >> (in_place ? (int)(i * code_bits(type)) : 0);
    return dot;
}

SL_INLINE void one_token(sl__dtype type, const unsigned char *panel, size_t row_bytes,
                         uint32_t rows, const tokens8 *x, float *y)
{
    for (uint32_t r0 = 0; r0 < rows; r0 += ROWS, panel += ROWS * row_bytes) {
        const unsigned char *block = panel;
        vec s[PARTS] = {{0}};
        for (size_t g = 0; g < x->groups; g++, block += panel_block_bytes(type)) {
            sl__q8_group group = group_of(x, x->row, g);
            for (size_t i = 0; i < panel_block_bytes(type); i += 64)
                fetch_ahead(block, i);
            for (unsigned p = 0; p < PARTS; p++) {
                ivec dot = block_dot(type, block, p, x->row + g * SL_GROUP, &group);
                s[p] = add_group(s[p], block_scale(block, p), block_minimum(block, p), dot,
                                 group.step, group.total);
            }
        }
        memcpy(y + r0, s, (rows - r0 < ROWS ? rows - r0 : ROWS) * sizeof(float));
    }
}

/* ---- more tokens ----------------------------------------------------------------------------- */

/* A vector of rows of an opened group; quads are 64 bytes apart. Its block, a quad's share of whose
 * bytes of codes is quad_bytes, says what to fetch ahead. */
typedef struct side {
    const unsigned char *codes, *block;
    const float *scale, *minimum;
    size_t quad_bytes;
} side;

/* Adds a group of T tokens with V vectors of rows to s[T][V · SL_VW]. Weights come from memory as
 * fast as they can where they are asked for a little at a time, between the products. */
SL_INLINE void tile_add(sl__dtype type, const side *w, const tokens8 *x, const unsigned char *row,
                        size_t g, float *s, bool fetch, unsigned V, unsigned T)
{
    ivec dot[TILE_TOKENS * STRIP_VECS];
    const unsigned char *codes = row + g * SL_GROUP;
    const unsigned run = type == SL_Q8 ? QUADS : SL_DOT_QUADS;
    for (unsigned i = 0; i < T * V; i++) {
        sl__q8_group group = group_of(x, row + i / V * x->row_bytes, g);
        dot[i] = dot_start(type, &group);
    }
    for (unsigned j0 = 0; j0 < QUADS; j0 += run) {
        ivec part[TILE_TOKENS * STRIP_VECS];
        for (unsigned i = 0; i < T * V; i++)
            part[i] = ivec_set1(0);
        for (unsigned j = j0; j < j0 + run; j++) {
            ivec wv[STRIP_VECS];
            for (unsigned v = 0; v < V; v++)
                wv[v] = ivec_load(w[v].codes + 64 * j);
            for (unsigned v = 0; fetch && v < V; v += PARTS)
                fetch_ahead(w[v].block, HEAD_BYTES + j * w[v].quad_bytes);
            for (unsigned t = 0; t < T; t++) {
                ivec xv = quad_of(codes + t * x->row_bytes, j);
                for (unsigned v = 0; v < V; v++)
                    part[t * V + v] = dot_add(type, part[t * V + v], wv[v], xv);
            }
        }
        for (unsigned i = 0; i < T * V; i++)
            dot[i] += dot_sum(type, part[i]);
    }
    for (unsigned t = 0; t < T; t++) {
        sl__q8_group group = group_of(x, row + t * x->row_bytes, g);
        for (unsigned v = 0; v < V; v++) {
            float *to = s + (t * V + v) * SL_VW;
            vec_store(to, add_group(vec_load(to), vec_load(w[v].scale), vec_load(w[v].minimum),
                                    dot[t * V + v], group.step, group.total));
        }
    }
}

SL_INLINE void tile_of(sl__dtype type, const side *w, const tokens8 *x, const unsigned char *row,
                       size_t g, float *s, bool fetch, unsigned V, uint32_t tokens)
{
    switch (tokens) {
    case 1: tile_add(type, w, x, row, g, s, fetch, V, 1); break;
    case 2: tile_add(type, w, x, row, g, s, fetch, V, 2); break;
    case 3: tile_add(type, w, x, row, g, s, fetch, V, 3); break;
    case 4: tile_add(type, w, x, row, g, s, fetch, V, 4); break;
    case 5: tile_add(type, w, x, row, g, s, fetch, V, 5); break;
#if SL_VW == 16
    case 6: tile_add(type, w, x, row, g, s, fetch, V, 6); break;
    case 7: tile_add(type, w, x, row, g, s, fetch, V, 7); break;
#endif
    default: tile_add(type, w, x, row, g, s, fetch, V, TILE_TOKENS);
    }
}

/* The same for any number of tokens, in tiles of about the same size, the first of which fetches
 * ahead where that is asked for. */
SL_INLINE void tiles_add(sl__dtype type, const side *w, const tokens8 *x, uint32_t tokens, size_t g,
                         float *s, bool fetch, unsigned V)
{
    const unsigned char *row = x->row;
    for (uint32_t left = tokens; left > 0;) {
        uint32_t tiles = (left + TILE_TOKENS - 1) / TILE_TOKENS, n = left / tiles;
        if (fetch)
            tile_of(type, w, x, row, g, s, true, V, n);
        else
            tile_of(type, w, x, row, g, s, false, V, n);
        fetch = false;
        row += n * x->row_bytes;
        s += n * V * SL_VW;
        left -= n;
    }
}

/* Instances that the types share. */
static void tiles_q8(const side *w, const tokens8 *x, uint32_t tokens, size_t g, float *s,
                     bool fetch, unsigned vecs)
{
    if (vecs == STRIP_VECS)
        tiles_add(SL_Q8, w, x, tokens, g, s, fetch, STRIP_VECS);
    else if (PARTS < STRIP_VECS) /* a last panel without a neighbour */
        tiles_add(SL_Q8, w, x, tokens, g, s, false, 1);
}

#if SL_DOT_ONE_KIND
#define tiles_q4 tiles_q8
#else
static void tiles_q4(const side *w, const tokens8 *x, uint32_t tokens, size_t g, float *s,
                     bool fetch, unsigned vecs)
{
    if (vecs == STRIP_VECS)
        tiles_add(SL_Q4, w, x, tokens, g, s, fetch, STRIP_VECS);
    else if (PARTS < STRIP_VECS)
        tiles_add(SL_Q4, w, x, tokens, g, s, false, 1);
}
#endif

/* Opens group g of a strip that begins with `panel`, and says where its vectors of rows are. */
SL_INLINE void open_group(sl__dtype type, const unsigned char *panel, size_t row_bytes,
                          unsigned vecs, size_t g, opened *o, side *w)
{
    for (unsigned v = 0; v < vecs; v++) {
        const unsigned part = v % PARTS;
        opened *to = o + v / PARTS;
        w[v].block = panel + v / PARTS * ROWS * row_bytes + g * panel_block_bytes(type);
        w[v].quad_bytes = (panel_block_bytes(type) - HEAD_BYTES) / QUADS;
        w[v].codes = type == SL_Q8 ? w[v].block + HEAD_BYTES : to->codes[0];
        w[v].codes += 4 * SL_VW * part;
        w[v].scale = to->scale + SL_VW * part;
        w[v].minimum = to->minimum + SL_VW * part;
        if (part > 0) continue;
        fetch_ahead(w[v].block, 0);
        open_block(type, w[v].block, to);
    }
}

/* y of at most BLOCK_TOKENS tokens with the rows of a strip, `vecs` vectors of them. fetch: the
 * weights are used for the first time. */
SL_INLINE void strip_matmul(sl__dtype type, const unsigned char *panel, size_t row_bytes,
                            unsigned vecs, uint32_t rows, const tokens8 *x, uint32_t tokens,
                            bool fetch, float *y, size_t y_stride, opened *o)
{
    float *s = (float *)(void *)(o + STRIP_VECS / PARTS);
    memset(s, 0, (size_t)tokens * vecs * SL_VW * sizeof *s);
    for (size_t g = 0; g < x->groups; g++) {
        side w[STRIP_VECS];
        open_group(type, panel, row_bytes, vecs, g, o, w);
        if (type == SL_Q8)
            tiles_q8(w, x, tokens, g, s, fetch, vecs);
        else
            tiles_q4(w, x, tokens, g, s, fetch, vecs);
    }
    for (uint32_t t = 0; t < tokens; t++)
        memcpy(y + t * y_stride, s + (size_t)t * vecs * SL_VW, rows * sizeof *s);
}

SL_INLINE void matmul_q8(sl__dtype type, const unsigned char *w, size_t row_bytes, uint32_t rows,
                         const tokens8 *x, uint32_t tokens, float *y, size_t y_stride, float *tmp)
{
    const uint32_t strip = STRIP_VECS * SL_VW;
    const size_t fit = CHUNK_BYTES / (strip * row_bytes);
    const uint32_t chunk = fit > 1 ? (uint32_t)fit * strip : strip; /* rows */
    opened *o = (opened *)(void *)(((uintptr_t)tmp + 63) / 64 * 64);
    if (tokens == 1) {
        one_token(type, w, row_bytes, rows, x, y);
        return;
    }
    for (uint32_t r0 = 0; r0 < rows; r0 += chunk) {
        uint32_t end = rows - r0 < chunk ? rows : r0 + chunk;
        for (uint32_t t = 0; t < tokens; t += BLOCK_TOKENS) {
            uint32_t n = tokens - t < BLOCK_TOKENS ? tokens - t : BLOCK_TOKENS;
            tokens8 block = {x->row + t * x->row_bytes, x->row_bytes, x->groups};
            for (uint32_t r = r0; r < end; r += strip) {
                uint32_t count = end - r < strip ? end - r : strip;
                unsigned vecs = count > ROWS || PARTS == STRIP_VECS ? STRIP_VECS : 1;
                strip_matmul(type, w + r * row_bytes, row_bytes, vecs, count, &block, n, t == 0,
                             y + t * y_stride + r, y_stride, o);
            }
        }
    }
}

static void panel_matmul_q8(sl__dtype type, const void *w, size_t row_bytes, uint32_t rows,
                            uint32_t cols, const void *x, uint32_t tokens, float *y,
                            size_t y_stride, float *tmp)
{
    const tokens8 all = {x, sl__q8_row_bytes(cols), sl__q8_groups(cols)};
    _Static_assert(15 + sizeof(opened) / sizeof(float) * STRIP_VECS / PARTS +
                           (size_t)BLOCK_TOKENS * STRIP_VECS * SL_VW <=
                       SL_Q8_TMP,
                   "tmp holds the opened panels and the sums");
    assert(sl__dtype_has_panels(type));
    switch (type) {
    case SL_Q8: matmul_q8(SL_Q8, w, row_bytes, rows, &all, tokens, y, y_stride, tmp); break;
    case SL_Q4: matmul_q8(SL_Q4, w, row_bytes, rows, &all, tokens, y, y_stride, tmp); break;
    case SL_Q3: matmul_q8(SL_Q3, w, row_bytes, rows, &all, tokens, y, y_stride, tmp); break;
    default: matmul_q8(SL_Q2, w, row_bytes, rows, &all, tokens, y, y_stride, tmp);
    }
}

#endif
