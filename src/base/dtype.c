/* The table of types, and half precision in software: no instruction set is assumed here. */
#include "base/dtype.h"

#include <stdio.h>

#include "base/checked.h"

/* Bytes of `weights` consecutive elements. */
typedef struct dtype_info {
    const char *name;
    uint32_t weights, bytes;
} dtype_info;

static const dtype_info dtypes[SL_DTYPE_ALL] = {
    [SL_F32] = {"f32", 1, 4},
    [SL_F16] = {"f16", 1, 2},
    [SL_BF16] = {"bf16", 1, 2},
    [SL_Q8] = {"q8", SL_GROUP, 68},
    [SL_Q4] = {"q4", SL_GROUP, 36},
    [SL_Q3] = {"q3", SL_GROUP, 28},
    [SL_Q2] = {"q2", SL_GROUP, 20},
    [SL_MXFP4] = {"mxfp4", SL_MX_GROUP, 16},
    [SL_Q4_0] = {"q4_0", 32, 18},
    [SL_Q4_1] = {"q4_1", 32, 20},
    [SL_Q5_0] = {"q5_0", 32, 22},
    [SL_Q5_1] = {"q5_1", 32, 24},
    [SL_Q8_0] = {"q8_0", 32, 34},
    [SL_IQ4_NL] = {"iq4_nl", 32, 18},
    [SL_MXFP4_BLOCK] = {"mxfp4_block", 32, 17},
    [SL_NVFP4] = {"nvfp4", 64, 36},
    [SL_Q2_K] = {"q2_k", 256, 84},
    [SL_Q3_K] = {"q3_k", 256, 110},
    [SL_Q4_K] = {"q4_k", 256, 144},
    [SL_Q5_K] = {"q5_k", 256, 176},
    [SL_Q6_K] = {"q6_k", 256, 210},
    [SL_IQ4_XS] = {"iq4_xs", 256, 136},
    [SL_IQ2_XXS] = {"iq2_xxs", 256, 66},
    [SL_IQ2_XS] = {"iq2_xs", 256, 74},
    [SL_IQ2_S] = {"iq2_s", 256, 82},
    [SL_IQ3_XXS] = {"iq3_xxs", 256, 98},
    [SL_IQ3_S] = {"iq3_s", 256, 110},
    [SL_AFFINE2] = {"affine2", 8, 2},
    [SL_AFFINE3] = {"affine3", 8, 3},
    [SL_AFFINE4] = {"affine4", 8, 4},
    [SL_AFFINE5] = {"affine5", 8, 5},
    [SL_AFFINE6] = {"affine6", 8, 6},
    [SL_AFFINE8] = {"affine8", 8, 8},
    [SL_F8_E4M3] = {"f8_e4m3", 1, 1},
    [SL_I8] = {"i8", 1, 1},
    [SL_U8] = {"u8", 1, 1},
    [SL_I16] = {"i16", 1, 2},
    [SL_U16] = {"u16", 1, 2},
    [SL_I32] = {"i32", 1, 4},
    [SL_U32] = {"u32", 1, 4},
    [SL_I64] = {"i64", 1, 8},
    [SL_U64] = {"u64", 1, 8},
    [SL_F64] = {"f64", 1, 8},
    [SL_BOOL] = {"bool", 1, 1},
    [SL_F8_E5M2] = {"f8_e5m2", 1, 1},
    [SL_F8_E8M0] = {"f8_e8m0", 1, 1},
};

/* A value that is no type (a cast from outside) has the name "?" and a size of 0. */
static const dtype_info *info(sl__dtype type)
{
    static const dtype_info unknown = {"?", 1, 0};
    return (unsigned)type < (unsigned)SL_DTYPE_ALL ? &dtypes[type] : &unknown;
}

const char *sl__dtype_name(sl__dtype type)
{
    return info(type)->name;
}

void sl__dtype_list_add(char *list, size_t list_size, sl__dtype type)
{
    const char *name = sl__dtype_name(type);
    size_t used = strlen(list), size = strlen(name);
    for (const char *at = list; (at = strstr(at, name)) != NULL; at += size) {
        bool begins = at == list || at[-1] == ' ';
        if (begins && (at[size] == ',' || at[size] == '\0')) return; /* "f16" is not in "bf16" */
    }
    if (used + size + 3 > list_size) return;
    snprintf(list + used, list_size - used, "%s%s", used ? ", " : "", name);
}

bool sl__dtype_parse(const char *name, sl__dtype *out)
{
    for (unsigned i = 0; i < (unsigned)SL_DTYPE_ALL; i++) {
        if (strcmp(name, dtypes[i].name) == 0) {
            *out = (sl__dtype)i;
            return true;
        }
    }
    return false;
}

uint32_t sl__dtype_block_weights(sl__dtype type)
{
    return info(type)->weights;
}

uint32_t sl__dtype_block_bytes(sl__dtype type)
{
    return info(type)->bytes;
}

bool sl__dtype_row_bytes(sl__dtype type, uint64_t cols, uint64_t *bytes)
{
    const dtype_info *d = info(type);
    uint64_t blocks = cols / d->weights + (cols % d->weights != 0);
    return sl__mul_u64(bytes, blocks, d->bytes);
}

float sl__f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    uint32_t exponent = (h >> 10) & 31u;
    uint32_t fraction = h & 0x3ffu;
    uint32_t u;
    if (exponent == 31) {
        /* A NaN comes out quiet, as the conversion instructions have it. */
        u = sign | 0x7f800000u | (fraction << 13) | (fraction != 0 ? 0x400000u : 0u);
    } else if (exponent != 0) {
        u = sign | ((exponent + 112u) << 23) | (fraction << 13);
    } else {
        /* Zero or subnormal: fraction * 2^-24, which float holds exactly. */
        float magnitude = (float)fraction * 0x1p-24f;
        memcpy(&u, &magnitude, sizeof u);
        u |= sign;
    }
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}
