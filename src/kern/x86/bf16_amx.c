/* Weights in bf16 by activations in bf16 in the tiles of AMX. Weights are the left operand, loaded
 * where they lie, 16 rows by 32 columns; activations lie in blocks of 16 tokens as the right
 * operand wants them, pair by pair (kern.h). Two tiles of each make four of sums:
 *
 *                       tokens 0 … 15      tokens 16 … 31
 *                       [16 pairs][16]     [16 pairs][16]
 *     rows 0 … 15
 *       [16][32]        sums 0 [16][16]    sums 2
 *     rows 16 … 31
 *       [16][32]        sums 1             sums 3
 *
 * TDPBF16PS adds, for each of the 16 pairs in turn, the products of the low and of the high halves
 * to sums of their own, which begin at 0, and then both to the tile: what becomes of a row and a
 * token depends on no other. So tiles are used for any number of them, and one token has the bits
 * that it has among many. Numbers below the normal ones are 0 to it.
 *
 * Sums leave the tiles once all columns are done, and are turned round: a row of y is a token's.
 * Where columns end within a step, the rest of each row is copied beside zeros.
 */
#include <immintrin.h>
#include <stdbool.h>

#define SL_VW 16
#include "kern/kern.h"
#include "kern/levels.h"
#include "kern/x86/bf16_round.h"

#define TILE        16u
#define STEP_BYTES  64u /* 32 columns of a row */
#define AHEAD_STEPS 8u  /* a row's bytes are asked for so many steps before they are used */
#define CHUNK_BYTES ((size_t)256 << 10) /* of rows that all tokens pass before the next */

/* 32 rows of weights, or what is left of them. */
typedef struct strip {
    const unsigned char *w,
        *last; /* last: [32][STEP_BYTES], the columns of the last, partial step */
    size_t row_bytes;
    size_t steps; /* whole ones */
    size_t next;  /* bytes from the end of a row's whole steps to its successor's beginning */
    uint32_t rows;
    bool partial, fetch; /* fetch: the rows are in no cache yet */
} strip;

/* Tiles 0 … 3: sums; 4, 5: weights; 6, 7: activations. */
typedef struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t bytes[16]; /* a row */
    uint8_t rows[16];
} tile_config;

/* The part of n things that the first tile of two has, or the second; a tile that is not used must
 * still have a shape. */
SL_INLINE uint32_t part_of(uint32_t n, uint32_t second)
{
    if (second) return n > TILE ? n - TILE : 1;
    return n < TILE ? n : TILE;
}

static void configure(uint32_t rows, uint32_t tokens)
{
    _Alignas(64) tile_config c = {.palette = 1};
    for (uint32_t i = 0; i < 4; i++) {
        c.rows[i] = (uint8_t)part_of(rows, i % 2);
        c.bytes[i] = (uint16_t)(part_of(tokens, i / 2) * 4);
    }
    for (uint32_t i = 0; i < 2; i++) {
        c.rows[4 + i] = (uint8_t)part_of(rows, i);
        c.bytes[4 + i] = STEP_BYTES;
        c.rows[6 + i] = TILE;
        c.bytes[6 + i] = (uint16_t)(part_of(tokens, i) * 4);
    }
    _tile_loadconfig(&c);
}

/* m[i][j] becomes m[j][i]. */
SL_INLINE void transpose(__m512i m[TILE])
{
    __m512i a[TILE], b[TILE];
    for (unsigned i = 0; i < TILE; i += 2) { /* of 2 × 2 numbers */
        a[i] = _mm512_unpacklo_epi32(m[i], m[i + 1]);
        a[i + 1] = _mm512_unpackhi_epi32(m[i], m[i + 1]);
    }
    for (unsigned i = 0; i < TILE; i += 4) { /* lane l of b[i + j]: column 4l + j of rows i … i+3 */
        b[i] = _mm512_unpacklo_epi64(a[i], a[i + 2]);
        b[i + 1] = _mm512_unpackhi_epi64(a[i], a[i + 2]);
        b[i + 2] = _mm512_unpacklo_epi64(a[i + 1], a[i + 3]);
        b[i + 3] = _mm512_unpackhi_epi64(a[i + 1], a[i + 3]);
    }
    for (unsigned j = 0; j < 4; j++) { /* lanes, as numbers of a 4 × 4 matrix */
        const __m512i even0 = _mm512_shuffle_i32x4(b[j], b[4 + j], 0x88);
        const __m512i odd0 = _mm512_shuffle_i32x4(b[j], b[4 + j], 0xdd);
        const __m512i even1 = _mm512_shuffle_i32x4(b[8 + j], b[12 + j], 0x88);
        const __m512i odd1 = _mm512_shuffle_i32x4(b[8 + j], b[12 + j], 0xdd);
        m[j] = _mm512_shuffle_i32x4(even0, even1, 0x88);
        m[4 + j] = _mm512_shuffle_i32x4(odd0, odd1, 0x88);
        m[8 + j] = _mm512_shuffle_i32x4(even0, even1, 0xdd);
        m[12 + j] = _mm512_shuffle_i32x4(odd0, odd1, 0xdd);
    }
}

SL_INLINE __mmask16 first_of(uint32_t n)
{
    return (__mmask16)((UINT32_C(1) << n) - 1);
}

/* ---- activations ----------------------------------------------------------------------------- */

/* A block of n tokens. */
static void round_block(const float *x, size_t x_stride, uint32_t cols, uint32_t n, char *out)
{
    const __mmask16 there = first_of(n);
    for (uint32_t c = 0; c < cols; c += 32) {
        __m512i m[TILE];
        for (uint32_t t = 0; t < TILE; t++)
            m[t] = t < n ? round_step(x + t * x_stride + c, cols - c) : _mm512_setzero_si512();
        if (n == 1) {
            _mm512_storeu_si512(out, m[0]);
            out += STEP_BYTES;
            continue;
        }
        transpose(m);
        for (uint32_t k = 0; k < TILE; k++, out += 4 * (size_t)n)
            _mm512_mask_storeu_epi32(out, there, m[k]);
    }
}

static void round_bf16(const float *x, size_t x_stride, uint32_t cols, uint32_t tokens, void *out)
{
    const size_t row_bytes = sl__bf16_row(cols) * sizeof(uint16_t);
    for (uint32_t t = 0; t < tokens; t += TILE)
        round_block(x + t * x_stride, x_stride, cols, tokens - t < TILE ? tokens - t : TILE,
                    (char *)out + t * row_bytes);
}

/* ---- products -------------------------------------------------------------------------------- */

/* Tiles 0 and 1, or 2 and 3 as well, += two tiles of rows by one or two blocks of tokens. b: the
 * step's pairs of either block. */
SL_INLINE void multiply(const unsigned char *w, size_t row_bytes, uint32_t rows,
                        const unsigned char *const b[2], uint32_t tokens)
{
    const size_t second = TILE * row_bytes;
    _tile_loadd(4, w, row_bytes);
    _tile_loadd(6, b[0], 4 * (size_t)part_of(tokens, 0));
    _tile_dpbf16ps(0, 4, 6);
    if (rows > TILE) {
        _tile_loadd(5, w + second, row_bytes);
        _tile_dpbf16ps(1, 5, 6);
    }
    if (tokens <= TILE) return;
    _tile_loadd(7, b[1], 4 * (size_t)part_of(tokens, 1));
    _tile_dpbf16ps(2, 4, 7);
    if (rows > TILE) _tile_dpbf16ps(3, 5, 7);
}

/* What will be multiplied some steps later. */
SL_INLINE void fetch_rows(const strip *s, size_t step)
{
    size_t ahead = (step + AHEAD_STEPS) * STEP_BYTES;
    if (step + AHEAD_STEPS >= s->steps) ahead += s->next;
    for (uint32_t r = 0; r < s->rows; r++)
        _mm_prefetch((const char *)((uintptr_t)s->w + r * s->row_bytes + ahead), _MM_HINT_T0);
}

/* A tile of sums, turned round into y[t][r]; `from` is the tile's content. */
SL_INLINE void put_sums(const float from[TILE][TILE], uint32_t rows, uint32_t tokens, float *y,
                        size_t y_stride)
{
    __m512i m[TILE];
    for (unsigned i = 0; i < TILE; i++)
        m[i] = _mm512_loadu_si512(from[i]);
    transpose(m);
    for (uint32_t t = 0; t < tokens; t++)
        _mm512_mask_storeu_epi32(y + t * y_stride, first_of(rows), m[t]);
}

/* The strip's rows by up to 32 tokens; tiles are configured for as many. */
static void strip_tokens(const strip *s, const unsigned char *x, size_t x_bytes, uint32_t tokens,
                         float *y, size_t y_stride)
{
    const uint32_t first = part_of(tokens, 0), second = part_of(tokens, 1);
    const unsigned char *b[2] = {x, tokens > TILE ? x + TILE * x_bytes : x};
    float sums[4][TILE][TILE] = {{{0}}}; /* as much of a tile as has been configured is stored */
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (size_t step = 0; step < s->steps; step++) {
        if (s->fetch) fetch_rows(s, step);
        multiply(s->w + step * STEP_BYTES, s->row_bytes, s->rows, b, tokens);
        b[0] += STEP_BYTES * first;
        b[1] += STEP_BYTES * second;
    }
    if (s->partial) multiply(s->last, STEP_BYTES, s->rows, b, tokens);
    _tile_stored(0, sums[0], STEP_BYTES);
    _tile_stored(1, sums[1], STEP_BYTES);
    _tile_stored(2, sums[2], STEP_BYTES);
    _tile_stored(3, sums[3], STEP_BYTES);
    for (uint32_t i = 0; i < 4; i++) {
        if ((i % 2 && s->rows <= TILE) || (i / 2 && tokens <= TILE)) continue;
        put_sums(sums[i], part_of(s->rows, i % 2), part_of(tokens, i / 2),
                 y + i / 2 * TILE * y_stride + i % 2 * TILE, y_stride);
    }
}

/* Rows that stay in the second cache, 32 at a time, by all tokens, 32 at a time. */
static void chunk_rows(const unsigned char *w, size_t row_bytes, uint32_t rows, uint32_t cols,
                       const unsigned char *x, uint32_t tokens, float *y, size_t y_stride)
{
    const size_t x_bytes = sl__bf16_row(cols) * sizeof(uint16_t);
    const size_t rest = cols % 32 * sizeof(uint16_t), whole = cols / 32 * STEP_BYTES;
    unsigned char last[2 * TILE][STEP_BYTES];
    memset(last, 0, sizeof last);
    for (uint32_t t = 0; t < tokens; t += 2 * TILE) {
        const uint32_t n = tokens - t < 2 * TILE ? tokens - t : 2 * TILE;
        strip s = {.row_bytes = row_bytes,
                   .last = last[0],
                   .steps = cols / 32,
                   .partial = rest > 0,
                   .fetch = t == 0};
        for (uint32_t r = 0; r < rows; r += 2 * TILE) {
            const uint32_t count = rows - r < 2 * TILE ? rows - r : 2 * TILE;
            s.w = w + r * row_bytes;
            s.next = rows - r > 2 * TILE ? 2 * TILE * row_bytes - whole : 0;
            if (count != s.rows) configure(count, n);
            s.rows = count;
            for (uint32_t i = 0; i < count && s.partial; i++)
                memcpy(last[i], s.w + i * row_bytes + whole, rest);
            strip_tokens(&s, x + t * x_bytes, x_bytes, n, y + t * y_stride + r, y_stride);
        }
    }
}

static void matmul_tiles(const void *w, size_t row_bytes, uint32_t rows, uint32_t cols,
                         const void *x, uint32_t tokens, float *y, size_t y_stride)
{
    const size_t fit = CHUNK_BYTES / (row_bytes + 1) / (2 * TILE);
    const uint32_t chunk = 2 * TILE * (fit > 1 ? (uint32_t)fit : 1);
    for (uint32_t r = 0; r < rows; r += chunk)
        chunk_rows((const unsigned char *)w + r * row_bytes, row_bytes,
                   rows - r < chunk ? rows - r : chunk, cols, x, tokens, y + r, y_stride);
    _tile_release();
}

void sl__kern_amx_bf16(sl__kern *kern)
{
    kern->round_bf16 = round_bf16;
    kern->matmul_bf16 = matmul_tiles;
    kern->bf16_tokens = TILE;
}
