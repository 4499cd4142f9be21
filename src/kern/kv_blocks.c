#include "kern/kv_blocks.h"

#include <assert.h>
#include <string.h>

#define LOWEST_AMPLITUDE 1e-30f /* a group below this is zero: its inverse might not be finite */

static uint64_t bytes_of(sl_kv_type type, uint64_t channels)
{
    uint64_t numbers = channels * SL_KV_BLOCK;
    switch (type) {
    case SL_KV_F16: return numbers * sizeof(uint16_t);
    case SL_KV_Q8:
        return numbers + (channels + SL_KV_GROUP - 1) / SL_KV_GROUP * SL_KV_BLOCK * sizeof(float);
    default: return numbers * sizeof(float);
    }
}

uint64_t sl__kv_key_bytes(sl_kv_type type, uint32_t dim)
{
    return bytes_of(type, dim);
}

uint64_t sl__kv_value_bytes(sl_kv_type type, uint32_t dim)
{
    return bytes_of(type, ((uint64_t)dim + SL_KV_BLOCK - 1) / SL_KV_BLOCK * SL_KV_BLOCK);
}

const char *sl_kv_type_name(sl_kv_type type)
{
    return type == SL_KV_F16 ? "f16" : type == SL_KV_Q8 ? "q8" : "f32";
}

uint16_t sl__kv_half(float x)
{
    uint32_t bits, sign, rounded;
    x = x > 65504.0f ? 65504.0f : x;
    x = x < -65504.0f ? -65504.0f : x;
    memcpy(&bits, &x, sizeof bits);
    sign = bits >> 16 & 0x8000u;
    bits &= 0x7fffffffu;
    if (bits > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);
    if (bits < 0x38800000u) { /* subnormal: adding 0.5 rounds at 2^-24 */
        float f;
        memcpy(&f, &bits, sizeof f);
        f += 0.5f;
        memcpy(&rounded, &f, sizeof rounded);
        return (uint16_t)(sign | (rounded - 0x3f000000u));
    }
    rounded = (bits + 0xfffu + (bits >> 13 & 1u) - (112u << 23)) >> 13;
    return (uint16_t)(sign | rounded);
}

/* The codes of a group, and its scale. What is not finite makes the scale so. */
static float encode(const float *x, uint32_t n, int8_t code[SL_KV_GROUP])
{
    float largest = 0, wrong = 0;
    for (uint32_t i = 0; i < n; i++) {
        float size = x[i] < 0 ? -x[i] : x[i];
        largest = size > largest ? size : largest;
        wrong += x[i] * 0.0f;
    }
    float inverse = largest > LOWEST_AMPLITUDE ? 127.0f / largest : 0.0f;
    for (uint32_t i = 0; i < n; i++) {
        float c = x[i] * inverse;
        c = c > -127.0f ? c : -127.0f; /* a NaN too */
        c = c < 127.0f ? c : 127.0f;
        code[i] = (int8_t)((c + 0x1.8p+23f) - 0x1.8p+23f); /* rounds to even */
    }
    return largest > LOWEST_AMPLITUDE ? largest / 127.0f + wrong : wrong;
}

/* Number i of a position: keys lie at i·32 + slot; values panel by panel. */
static size_t place(uint32_t i, uint32_t slot, bool value)
{
    if (!value) return (size_t)i * SL_KV_BLOCK + slot;
    uint32_t panel = i / SL_KV_BLOCK;
    return ((size_t)panel * SL_KV_BLOCK + slot) * SL_KV_BLOCK + i % SL_KV_BLOCK;
}

static void store_q8(unsigned char *block, uint32_t slot, const float *x, uint32_t n,
                     uint32_t padded, bool value)
{
    for (uint32_t from = 0; from < padded; from += SL_KV_GROUP) {
        uint32_t channels = padded - from < SL_KV_GROUP ? padded - from : SL_KV_GROUP;
        uint32_t given = n - from < channels ? n - from : channels;
        int8_t code[SL_KV_GROUP] = {0};
        float scale = encode(x + from, given, code);
        memcpy(block + slot * sizeof(float), &scale, sizeof scale);
        block += SL_KV_BLOCK * sizeof(float);
        for (uint32_t i = 0; i < channels; i++)
            memcpy(block + place(i, slot, value), &code[i], 1);
        block += (size_t)channels * SL_KV_BLOCK;
    }
}

static void store(sl_kv_type type, void *block, uint32_t slot, const float *x, uint32_t n,
                  uint32_t padded, bool value)
{
    assert(slot < SL_KV_BLOCK);
    if (type == SL_KV_Q8) {
        store_q8(block, slot, x, n, padded, value);
        return;
    }
    for (uint32_t i = 0; i < padded; i++) {
        float number = i < n ? x[i] : 0.0f;
        size_t at = place(i, slot, value);
        if (type == SL_KV_F16) ((uint16_t *)block)[at] = sl__kv_half(number);
        else ((float *)block)[at] = number;
    }
}

void sl__kv_store_key(sl_kv_type type, void *block, uint32_t slot, const float *x, uint32_t dim)
{
    store(type, block, slot, x, dim, dim, false);
}

void sl__kv_store_value(sl_kv_type type, void *block, uint32_t slot, const float *x, uint32_t dim)
{
    uint32_t padded = (dim + SL_KV_BLOCK - 1) / SL_KV_BLOCK * SL_KV_BLOCK;
    store(type, block, slot, x, dim, padded, true);
}
