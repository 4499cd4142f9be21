/* Groups of panels and of activations of 8 bits, as the products of both hold them: opened,
 * weighed, and fetched before their time. Private to the files that define SL_VW and include it. */
#ifndef SL_KERN_X86_PANEL_GROUPS_H
#define SL_KERN_X86_PANEL_GROUPS_H

#include "kern/x86/panel_codes.h"

#define AHEAD_BYTES 4096u

/* A group of a panel, opened: byte 4r + i of vector j is the code of row r, column 4j + i. */
typedef struct opened {
    _Alignas(64) float scale[ROWS];
    float minimum[ROWS];
    unsigned char codes[QUADS][64];
} opened;

/* Activations: `row` points at a token's first group, the next token's is row_bytes on. */
typedef struct tokens8 {
    const unsigned char *row;
    size_t row_bytes, groups;
} tokens8;

SL_INLINE sl__q8_group group_of(const tokens8 *x, const unsigned char *row, size_t g)
{
    sl__q8_group group;
    memcpy(&group, row + x->groups * SL_GROUP + g * sizeof group, sizeof group);
    return group;
}

SL_INLINE ivec quad_of(const unsigned char *codes, size_t j)
{
    int32_t quad;
    memcpy(&quad, codes + 4 * j, sizeof quad);
    return ivec_set1(quad);
}

SL_INLINE vec add_group(vec s, vec scale, vec minimum, ivec dot, float step, float total)
{
    s += scale * vec_set1(step) * __builtin_convertvector(dot, vec);
    return s + minimum * vec_set1(total);
}

/* Brings in what is read a little later; past the last panel there is nothing, and no harm. */
SL_INLINE void fetch_ahead(const unsigned char *p, size_t offset)
{
    _mm_prefetch((const char *)((uintptr_t)p + AHEAD_BYTES + offset), _MM_HINT_T0);
}

SL_INLINE void open_block(sl__dtype type, const unsigned char *block, opened *o)
{
    const unsigned fields = codes_per_byte(type), vectors = QUADS / fields;
    for (unsigned p = 0; p < PARTS; p++) {
        vec_store(o->scale + p * SL_VW, block_scale(block, p));
        vec_store(o->minimum + p * SL_VW, block_minimum(block, p));
        for (unsigned i = 0; type != SL_Q8 && i < vectors; i++) { /* q8's lie open already */
            ivec v = block_vector(block, p, i), thirds = v;
            if (type == SL_Q3) thirds = third_bits(block, p, i);
            for (unsigned f = 0; f < fields; f++) {
                ivec codes = field(type, v, thirds, f);
                memcpy(o->codes[f * vectors + i] + 4 * SL_VW * p, &codes, sizeof codes);
            }
        }
    }
}

#endif
