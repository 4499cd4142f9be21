/* Encoders of GGUF's blocks of 32 weights and of mxfp4. Sixteen blocks are a batch.
 *
 *     q4_0 q5_0 q8_0 iq4_nl     d · code, d of either sign, where codes reach further on one side
 *     q4_1 q5_1                 d · code + m
 *     mxfp4, mxfp4_block        2^e · code: three exponents are tried
 */
#include <math.h>
#include <string.h>

#include "quant/encoders.h"
#include "quant/fit.h"

#define BLOCK 32u

const float sl__iq4_values[SL_FIT_VALUES] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                             1,    13,   25,  38,  53,  69,  89,  113};

/* Twice the values of fp4, in order; the code of each: sign, two exponent bits, fraction. */
static const float fp4_doubled[SL_FIT_VALUES] = {-12, -8, -6, -4, -3, -2, -1, 0,
                                                 0,   1,  2,  3,  4,  6,  8,  12};
static const uint8_t fp4_codes[SL_FIT_VALUES] = {15, 14, 13, 12, 11, 10, 9, 0,
                                                 0,  1,  2,  3,  4,  5,  6, 7};

/* ---- bytes ----------------------------------------------------------------------------------- */

/* The low halves are the first sixteen codes'. */
static void put_halves(const uint8_t code[BLOCK], uint8_t *p)
{
    for (unsigned i = 0; i < 16; i++)
        p[i] = (uint8_t)((code[i] & 15u) | (code[i + 16] & 15u) << 4);
}

/* Which of a table's values it is. */
static uint8_t index_of(const float *values, int8_t value)
{
    unsigned k = 0;
    while (values[k] < (float)value)
        k++;
    return (uint8_t)k;
}

void sl__put_iq4_codes(const int8_t *value, uint8_t *p)
{
    uint8_t code[BLOCK];
    for (unsigned i = 0; i < BLOCK; i++)
        code[i] = index_of(sl__iq4_values, value[i]);
    put_halves(code, p);
}

void sl__put_half(uint8_t *p, float x)
{
    uint16_t h = sl__f32_to_f16(x + 0.0f); /* zero has no sign */
    memcpy(p, &h, sizeof h);
}

static void put_block(sl__dtype type, const int8_t value[BLOCK], float scale, float minimum,
                      uint8_t *p)
{
    const bool has_minimum = type == SL_Q4_1 || type == SL_Q5_1;
    const int middle = type == SL_Q4_0 ? 8 : type == SL_Q5_0 ? 16 : 0;
    uint8_t code[BLOCK];
    uint32_t fifth = 0;
    sl__put_half(p, scale);
    if (has_minimum) sl__put_half(p + 2, minimum);
    p += has_minimum ? 4 : 2;
    if (type == SL_IQ4_NL) {
        sl__put_iq4_codes(value, p);
        return;
    }
    for (unsigned i = 0; i < BLOCK; i++) {
        code[i] = (uint8_t)(value[i] + middle);
        fifth |= (uint32_t)(code[i] >> 4 & 1u) << i;
    }
    if (type == SL_Q8_0) {
        memcpy(p, code, BLOCK);
        return;
    }
    if (type == SL_Q5_0 || type == SL_Q5_1) {
        memcpy(p, &fifth, sizeof fifth);
        p += sizeof fifth;
    }
    put_halves(code, p);
}

/* ---- d · code, d · code + m ------------------------------------------------------------------ */

static sl__fit fit_of(sl__dtype type)
{
    switch (type) {
    case SL_Q4_0:
        return (sl__fit){.low = -8, .high = 7};
    case SL_Q5_0:
        return (sl__fit){.low = -16, .high = 15};
    case SL_Q8_0:
        return (sl__fit){.low = -127, .high = 127};
    case SL_Q4_1:
        return (sl__fit){.high = 15, .has_minimum = true};
    case SL_Q5_1:
        return (sl__fit){.high = 31, .has_minimum = true};
    default:
        return (sl__fit){.values = sl__iq4_values};
    }
}

static void encode_scaled(sl__fit_groups *g, sl__dtype type, uint32_t count, uint8_t *row)
{
    int8_t codes[BLOCK * SL_FIT_LANES], code[BLOCK];
    sl__fitted best;
    memset(&best, 0, sizeof best);
    for (unsigned l = 0; l < SL_FIT_LANES; l++)
        best.error.of[l] = INFINITY;
    sl__fit_search(g, &best);
    g->kern->fit_codes(&g->fit, best.scale.of, best.minimum.of, codes);
    for (uint32_t l = 0; l < count; l++, row += sl__dtype_block_bytes(type)) {
        for (uint32_t i = 0; i < BLOCK; i++)
            code[i] = codes[i * SL_FIT_LANES + l];
        put_block(type, code, best.scale.of[l], best.minimum.of[l], row);
    }
}

/* ---- mxfp4 ----------------------------------------------------------------------------------- */

/* The low half of mxfp4's byte i is weight 2i, of mxfp4_block's weight i. */
static void put_fp4(sl__dtype type, const int8_t *codes, uint8_t *p)
{
    uint8_t code[BLOCK];
    for (unsigned i = 0; i < BLOCK; i++) {
        unsigned at = type == SL_MXFP4 ? i / 2 + i % 2 * 16 : i;
        code[at] = fp4_codes[index_of(fp4_doubled, codes[i * SL_FIT_LANES])];
    }
    put_halves(code, p);
}

/* Makes the largest value of every lane lie in [0.5, 1). Changes no digit that counts. */
static void bring_near_one(sl__fit_groups *g, int exponent[SL_FIT_LANES])
{
    sl__lanes once, twice; /* a factor has its own range */
    for (unsigned l = 0; l < SL_FIT_LANES; l++) {
        float most = fmaxf(-g->lowest.of[l], g->highest.of[l]);
        exponent[l] = 0;
        if (most > 0) frexpf(most, &exponent[l]);
        int half = exponent[l] / 2;
        once.of[l] = ldexpf(1.0f, -half);
        twice.of[l] = ldexpf(1.0f, half - exponent[l]);
    }
    for (size_t i = 0; i < BLOCK * SL_FIT_LANES; i++)
        g->x[i] = g->x[i] * once.of[i % SL_FIT_LANES] * twice.of[i % SL_FIT_LANES];
}

/* The least and the greatest scale: as a byte of mxfp4 has it; 4 times the greatest is in range. */
#define E8M0_LEAST (-127)
#define E8M0_MOST  125

static void encode_mxfp4(sl__fit_groups *g, sl__dtype type, uint32_t count, uint8_t *row,
                         uint8_t *scales)
{
    static const sl__lanes zeros = {{0}};
    int8_t codes[BLOCK * SL_FIT_LANES];
    int exponent[SL_FIT_LANES];
    sl__lanes scale;
    sl__fitted best, trial;
    memset(&best, 0, sizeof best);
    for (unsigned l = 0; l < SL_FIT_LANES; l++)
        best.error.of[l] = INFINITY;
    g->fit = (sl__fit){g->x, BLOCK, count, .values = fp4_doubled};
    bring_near_one(g, exponent);
    for (int below = 2; below <= 4; below++) { /* the largest value: 2 … 4, 4 … 8, 8 … 16 */
        for (unsigned l = 0; l < SL_FIT_LANES; l++) {
            int e = exponent[l] - below;
            e = e < E8M0_LEAST ? E8M0_LEAST : e > E8M0_MOST ? E8M0_MOST : e;
            scale.of[l] = ldexpf(0.5f, e - exponent[l]); /* of the doubled values */
        }
        sl__fit_measure(g, &scale, &zeros, &trial);
        sl__fit_keep(&best, &trial);
    }
    g->kern->fit_codes(&g->fit, best.scale.of, zeros.of, codes);
    for (uint32_t l = 0; l < count; l++) {
        int e;
        frexpf(best.scale.of[l], &e); /* 0.5 · 2^e: of the doubled values */
        bool none = g->lowest.of[l] == 0 && g->highest.of[l] == 0;
        uint8_t s = (uint8_t)(none ? 0 : e + exponent[l] + 127);
        if (type == SL_MXFP4)
            *scales++ = s;
        else
            *row++ = s;
        put_fp4(type, codes + l, row);
        row += BLOCK / 2;
    }
}

void sl__encode_blocks(const sl__kern *kern, sl__dtype type, const float *x, uint32_t count,
                       uint8_t *row, uint8_t *scales)
{
    sl__fit_groups g;
    g.kern = kern;
    g.form = SL_FIT_F16;
    g.fit = fit_of(type);
    for (uint32_t done = 0; done < count; done += SL_FIT_LANES) {
        uint32_t some = count - done < SL_FIT_LANES ? count - done : SL_FIT_LANES;
        sl__fit_load(&g, x + (size_t)done * BLOCK, BLOCK, some);
        if (type == SL_MXFP4 || type == SL_MXFP4_BLOCK) {
            encode_mxfp4(&g, type, some, row, scales);
            if (type == SL_MXFP4) scales += some;
        } else {
            encode_scaled(&g, type, some, row);
        }
        row += (size_t)some * sl__dtype_block_bytes(type);
    }
}
