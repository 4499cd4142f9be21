/* Panels and activations of 8 bits in the tiles of AMX: one instruction multiplies a group of 16
 * tokens with the same group of a panel, 16 rows, exactly. Two panels and two times 16 tokens make
 * four tiles of sums:
 *
 *                      panel 0          panel 1
 *                      codes [16][64]   codes [16][64]      what the layout calls vectors is a
 *                                                           tile's row: four columns of 16 rows
 *     tokens 0 … 15    sums 0           sums 1
 *       [16][64]
 *     tokens 16 … 31   sums 2           sums 3
 *
 * A group has a scale of its own, so that the integers leave the tiles after each; most of the time
 * goes into making them floats. While that is done for one group the tiles multiply the next. Few
 * tokens are left to AVX-512.
 *
 *     tmp, from its first multiple of 64 bytes:
 *     step [2]: opened [2], integers [4][16][16]   sums [32 tokens][32 rows]
 */
#define SL_VW 16
#include "kern/x86/panel_groups.h"

#define TILE        16u
#define BLOCK       (2 * TILE)
#define LEAST       6u /* tokens that are worth tiles */
#define TILES_BYTES ((size_t)256 << 10)

/* Tiles 0 … 3: sums; 4, 5: activations; 6, 7: codes. */
typedef struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t bytes[16]; /* a row */
    uint8_t rows[16];
} tile_config;

/* A group of two panels with up to 32 tokens. */
typedef struct tile_step {
    opened panel[2];
    int32_t integers[4][TILE][TILE]; /* [panel + 2 · (token / 16)] */
} tile_step;

/* For `first` and `second` tokens (0 to 16) in the two rows of tiles. */
static void configure(unsigned first, unsigned second)
{
    _Alignas(64) tile_config c = {.palette = 1};
    const unsigned tokens[] = {first, second ? second : 1};
    for (unsigned t = 0; t < 8; t++)
        c.bytes[t] = 64;
    for (unsigned t = 0; t < 4; t++)
        c.rows[t] = (uint8_t)tokens[t / 2];
    c.rows[4] = (uint8_t)tokens[0];
    c.rows[5] = (uint8_t)tokens[1];
    c.rows[6] = c.rows[7] = TILE;
    _tile_loadconfig(&c);
}

SL_INLINE void multiply(const unsigned char *const codes[2], const tokens8 *x, size_t g,
                        uint32_t tokens, int32_t (*out)[TILE][TILE])
{
    const unsigned char *a = x->row + g * SL_GROUP;
    const size_t stride = x->row_bytes, row = TILE * sizeof(int32_t);
    _tile_zero(0);
    _tile_zero(1);
    _tile_loadd(4, a, stride);
    _tile_loadd(6, codes[0], 64);
    _tile_dpbsud(0, 4, 6);
    _tile_loadd(7, codes[1], 64);
    _tile_dpbsud(1, 4, 7);
    if (tokens > TILE) {
        _tile_zero(2);
        _tile_zero(3);
        _tile_loadd(5, a + TILE * stride, stride);
        _tile_dpbsud(2, 5, 6);
        _tile_dpbsud(3, 5, 7);
    }
    _tile_stored(0, out[0], row);
    _tile_stored(1, out[1], row);
    if (tokens <= TILE) return;
    _tile_stored(2, out[2], row);
    _tile_stored(3, out[3], row);
}

/* sums[token][32] += what the group's integers stand for. */
SL_INLINE void add_sums(const tile_step *step, const tokens8 *x, size_t g, uint32_t tokens,
                        float (*sums)[BLOCK])
{
    const unsigned char *row = x->row;
    vec scale[2], minimum[2];
    for (unsigned p = 0; p < 2; p++) {
        scale[p] = vec_load(step->panel[p].scale);
        minimum[p] = vec_load(step->panel[p].minimum);
    }
    for (uint32_t t = 0; t < tokens; t++, row += x->row_bytes) {
        sl__q8_group group = group_of(x, row, g);
        for (unsigned p = 0; p < 2; p++) {
            float *to = sums[t] + p * TILE;
            ivec dot = ivec_load(step->integers[p + t / TILE * 2][t % TILE]);
            vec_store(to, add_group(vec_load(to), scale[p], minimum[p], dot, group.step,
                                    group.total));
        }
    }
}

/* Rows of up to two panels with up to 32 tokens. */
SL_INLINE void tile_strip(sl__dtype type, const unsigned char *panel, size_t row_bytes,
                          uint32_t rows, const tokens8 *x, uint32_t tokens, float *y,
                          size_t y_stride, tile_step step[2])
{
    float(*sums)[BLOCK] = (float(*)[BLOCK])(void *)(step + 2);
    /* A second panel that is not there is the first again. */
    const size_t second = rows > TILE ? TILE * row_bytes : 0;
    memset(sums, 0, tokens * sizeof *sums);
    for (size_t g = 0; g < x->groups; g++) {
        const unsigned char *codes[2];
        opened *o = step[g % 2].panel;
        for (unsigned p = 0; p < 2; p++) {
            const unsigned char *block = panel + p * second + g * panel_block_bytes(type);
            for (size_t i = 0; i < panel_block_bytes(type); i += 64)
                fetch_ahead(block, i);
            open_block(type, block, &o[p]);
            codes[p] = type == SL_Q8 ? block + HEAD_BYTES : o[p].codes[0];
        }
        multiply(codes, x, g, tokens, step[g % 2].integers);
        if (g > 0) add_sums(&step[(g - 1) % 2], x, g - 1, tokens, sums);
    }
    add_sums(&step[(x->groups - 1) % 2], x, x->groups - 1, tokens, sums);
    for (uint32_t t = 0; t < tokens; t++)
        memcpy(y + t * y_stride, sums[t], rows * sizeof **sums);
}

SL_INLINE void tile_matmul(sl__dtype type, const unsigned char *w, size_t row_bytes, uint32_t rows,
                           const tokens8 *x, uint32_t tokens, float *y, size_t y_stride, float *tmp)
{
    const size_t fit = TILES_BYTES / (BLOCK * row_bytes);
    const uint32_t chunk = fit > 1 ? (uint32_t)fit * BLOCK : BLOCK; /* rows that stay in L2 */
    tile_step *step = (tile_step *)(void *)(((uintptr_t)tmp + 63) / 64 * 64);
    for (uint32_t r0 = 0; r0 < rows; r0 += chunk) {
        uint32_t end = rows - r0 < chunk ? rows : r0 + chunk, configured = 0;
        for (uint32_t t = 0; t < tokens; t += BLOCK) {
            uint32_t n = tokens - t < BLOCK ? tokens - t : BLOCK;
            tokens8 block = {x->row + t * x->row_bytes, x->row_bytes, x->groups};
            if (n != configured) configure(n < TILE ? n : TILE, n < TILE ? 0 : n - TILE);
            configured = n;
            for (uint32_t r = r0; r < end; r += BLOCK)
                tile_strip(type, w + r * row_bytes, row_bytes, end - r < BLOCK ? end - r : BLOCK,
                           &block, n, y + t * y_stride + r, y_stride, step);
        }
    }
    _tile_release();
}

static void panel_matmul_tiles(sl__dtype type, const void *w, size_t row_bytes, uint32_t rows,
                               uint32_t cols, const void *x, uint32_t tokens, float *y,
                               size_t y_stride, float *tmp)
{
    const tokens8 all = {x, sl__q8_row_bytes(cols), sl__q8_groups(cols)};
    _Static_assert(64 + 2 * sizeof(tile_step) + BLOCK * BLOCK * sizeof(float) <=
                       SL_Q8_TMP * sizeof(float),
                   "tmp holds the opened panels, the integers and the sums");
    if (tokens < LEAST) {
        sl__avx512vnni_panel_matmul_q8(type, w, row_bytes, rows, cols, x, tokens, y, y_stride,
                                       tmp);
        return;
    }
    switch (type) {
    case SL_Q8: tile_matmul(SL_Q8, w, row_bytes, rows, &all, tokens, y, y_stride, tmp); break;
    case SL_Q4: tile_matmul(SL_Q4, w, row_bytes, rows, &all, tokens, y, y_stride, tmp); break;
    case SL_Q3: tile_matmul(SL_Q3, w, row_bytes, rows, &all, tokens, y, y_stride, tmp); break;
    default: tile_matmul(SL_Q2, w, row_bytes, rows, &all, tokens, y, y_stride, tmp);
    }
}

void sl__kern_amx_panels(sl__kern *kern)
{
    kern->panel_matmul_q8 = panel_matmul_tiles;
}
