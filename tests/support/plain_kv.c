#include "plain_kv.h"

#include <string.h>

#include "base/dtype.h"

float plain_kv(sl_kv_type type, const unsigned char *block, uint32_t slot, uint32_t i, bool value)
{
    size_t in_panels = value ? ((size_t)i / 32 * 32 + slot) * 32 + i % 32 : (size_t)i * 32 + slot;
    uint16_t half;
    float x;
    switch (type) {
    case SL_KV_F16:
        memcpy(&half, block + in_panels * 2, 2);
        return sl__f16_to_f32(half);
    case SL_KV_Q8:
        memcpy(&x, block + (size_t)(i / 64) * (64 * 32 + 128) + slot * 4, 4);
        return x * (float)(int8_t)block[in_panels + ((size_t)i / 64 + 1) * 128];
    default:
        memcpy(&x, block + in_panels * 4, 4);
        return x;
    }
}
