/* The numbers that GGUF files use for the types of tensors. */
#include <inttypes.h>

#include "base/fail.h"
#include "format/gguf.h"

/* SL_DTYPE_ALL: known by name alone. */
typedef struct type_entry {
    uint32_t id;
    sl__dtype dtype;
    const char *name;
} type_entry;

static const type_entry types[] = {
    {0, SL_F32, "F32"},
    {1, SL_F16, "F16"},
    {2, SL_Q4_0, "Q4_0"},
    {3, SL_Q4_1, "Q4_1"},
    {6, SL_Q5_0, "Q5_0"},
    {7, SL_Q5_1, "Q5_1"},
    {8, SL_Q8_0, "Q8_0"},
    {9, SL_DTYPE_ALL, "Q8_1"},
    {10, SL_Q2_K, "Q2_K"},
    {11, SL_Q3_K, "Q3_K"},
    {12, SL_Q4_K, "Q4_K"},
    {13, SL_Q5_K, "Q5_K"},
    {14, SL_Q6_K, "Q6_K"},
    {15, SL_DTYPE_ALL, "Q8_K"},
    {16, SL_IQ2_XXS, "IQ2_XXS"},
    {17, SL_IQ2_XS, "IQ2_XS"},
    {18, SL_IQ3_XXS, "IQ3_XXS"},
    {19, SL_DTYPE_ALL, "IQ1_S"},
    {20, SL_IQ4_NL, "IQ4_NL"},
    {21, SL_IQ3_S, "IQ3_S"},
    {22, SL_IQ2_S, "IQ2_S"},
    {23, SL_IQ4_XS, "IQ4_XS"},
    {24, SL_I8, "I8"},
    {25, SL_I16, "I16"},
    {26, SL_I32, "I32"},
    {27, SL_I64, "I64"},
    {28, SL_F64, "F64"},
    {29, SL_DTYPE_ALL, "IQ1_M"},
    {30, SL_BF16, "BF16"},
    {34, SL_DTYPE_ALL, "TQ1_0"},
    {35, SL_DTYPE_ALL, "TQ2_0"},
    {39, SL_MXFP4_BLOCK, "MXFP4"},
    {40, SL_NVFP4, "NVFP4"},
    {41, SL_DTYPE_ALL, "Q1_0"},
    {42, SL_DTYPE_ALL, "Q2_0"},
};

static const type_entry *find(uint32_t id)
{
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (types[i].id == id) return &types[i];
    return NULL;
}

bool sl__gguf_dtype(uint32_t type, sl__dtype *out)
{
    const type_entry *entry = find(type);
    if (!entry || entry->dtype == SL_DTYPE_ALL) return false;
    *out = entry->dtype;
    return true;
}

sl_status sl__gguf_tensor_dtype(const sl__gguf_set *set, const sl__gguf_tensor *tensor,
                                sl__dtype *out, sl_error *err)
{
    const type_entry *entry = find(tensor->type);
    const char *path = set->files[tensor->file].path;
    if (!entry) {
        return SL_FAIL(err, SL_EUNSUPPORTED,
                       "%s: tensor %s is of type %" PRIu32 ", which is not known", path,
                       tensor->name, tensor->type);
    }
    if (entry->dtype == SL_DTYPE_ALL) {
        return SL_FAIL(err, SL_EUNSUPPORTED,
                       "%s: tensor %s is of type %s (%" PRIu32 "), which is not supported", path,
                       tensor->name, entry->name, tensor->type);
    }
    *out = entry->dtype;
    return SL_OK;
}
