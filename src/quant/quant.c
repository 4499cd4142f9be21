/* Encoders of weights: what can be stored, and who stores it.
 *
 *     f32, f16, bf16   here
 *     q8 … q2          grouped.c ───────┐
 *     q4_0 … mxfp4     blocks.c ────────┼─ fit.c (the search) ── kern's fit_… (codes and sums)
 *     q2_k … iq4_xs    super_blocks.c ──┘
 */
#include "quant/quant.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/fail.h"
#include "quant/encoders.h"

static uint32_t bits_of(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

uint16_t sl__f32_to_f16(float x)
{
    uint32_t u = bits_of(x), sign = (u >> 16) & 0x8000u;
    u &= 0x7fffffffu;
    if (u >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u);
    if (u < 0x38800000u) { /* below 2^-14: a multiple of 2^-24, rounded by the addition */
        float magnitude;
        memcpy(&magnitude, &u, sizeof magnitude);
        return (uint16_t)(sign | (bits_of(magnitude + 0.5f) - 0x3f000000u));
    }
    u += 0xfffu + ((u >> 13) & 1u);
    return (uint16_t)(sign | ((u - 0x38000000u) >> 13));
}

/* The largest magnitude that a type is sure to hold: what it reaches with the largest scale, to
 * either side of zero. */
static float reach(sl__dtype type)
{
    const float half = 65504;
    switch (type) {
    case SL_F16:
        return nextafterf(65520, 0); /* rounds to the largest half */
    case SL_BF16:
        return 0x1.fefffep127f;
    case SL_Q4_0:
        return half * 7;
    case SL_Q5_0:
        return half * 15;
    case SL_Q8_0:
        return half * 127;
    case SL_Q4_1:
    case SL_Q5_1:
        return half;
    case SL_IQ4_NL:
        return half * 113;
    case SL_Q2_K:
        return half * 15;
    case SL_Q3_K:
        return half * 31 * 3;
    case SL_Q4_K:
    case SL_Q5_K:
        return half * 63;
    case SL_Q6_K:
        return half * 127 * 31;
    case SL_IQ4_XS:
        return half * 31 * 113;
    default:
        return FLT_MAX;
    }
}

static sl_status refuse(sl__dtype type, const float *x, uint32_t column, sl_error *err)
{
    return SL_FAIL(err, SL_ENUMERIC, "column %u: %g cannot be stored as %s", column,
                   (double)x[column], sl__dtype_name(type));
}

static sl_status check_values(sl__dtype type, const float *x, uint32_t cols, sl_error *err)
{
    const uint32_t most = bits_of(reach(type));
    uint32_t bad = 0;
    for (uint32_t i = 0; i < cols; i++)
        bad |= (bits_of(x[i]) & 0x7fffffffu) > most ? 1u : 0u;
    for (uint32_t i = 0; bad && i < cols; i++) {
        if ((bits_of(x[i]) & 0x7fffffffu) > most) return refuse(type, x, i, err);
    }
    return SL_OK;
}

static void store_halves(sl__dtype type, const float *x, uint32_t cols, uint8_t *row)
{
    for (uint32_t i = 0; i < cols; i++) {
        uint16_t h = type == SL_F16 ? sl__f32_to_f16(x[i]) : sl__f32_to_bf16(x[i]);
        memcpy(row + (size_t)i * 2, &h, 2);
    }
}

sl_status sl__quant_row(const sl__kern *kern, sl__dtype type, const float *x, uint32_t cols,
                        void *row, void *scales, sl_error *err)
{
    if (!sl__dtype_has_encoder(type))
        return SL_FAIL(err, SL_EUNSUPPORTED, "%s cannot be encoded", sl__dtype_name(type));
    const uint32_t block = sl__dtype_block_weights(type);
    if ((sl__dtype_is_block(type) || type == SL_MXFP4) && cols % block != 0)
        return SL_FAIL(err, SL_EUNSUPPORTED, "%u columns: %s needs a multiple of %u", cols,
                       sl__dtype_name(type), block);
    assert(kern || type <= SL_BF16);
    assert(scales || !sl__dtype_has_planes(type));
    SL_TRY(check_values(type, x, cols, err));
    if (type == SL_F32) {
        if (cols > 0) memcpy(row, x, (size_t)cols * sizeof *x);
    } else if (type <= SL_BF16) {
        store_halves(type, x, cols, row);
    } else if (type <= SL_Q2) {
        uint32_t at;
        if (!sl__encode_grouped(kern, type, x, cols, row, &at)) return refuse(type, x, at, err);
    } else if (block == 256) {
        sl__encode_super_blocks(kern, type, x, cols / block, row);
    } else {
        sl__encode_blocks(kern, type, x, cols / block, row, scales);
    }
    return SL_OK;
}
