/* Rotary positions: the frequencies of a description, tables of cosines and sines for the tokens of
 * a chunk, and the rotation itself.
 *
 * Frequencies, angles, cosines and sines are float32, each rounded where the reference rounds it:
 * at a position of thousands the rounding of a frequency can be seen in the angle.
 */
#ifndef SL_MODEL_ROPE_H
#define SL_MODEL_ROPE_H

#include "kern/kern.h"
#include "model/model.h"

/* Memory for the angles of a chunk; the caller's. */
typedef struct sl__rope_table {
    float *frequency; /* [dim/2] */
    float *cos, *sin; /* [T, dim/2], the amplitude in them */
} sl__rope_table;

/* out[i], i < dim/2: radians a position. */
void sl__rope_frequencies(const sl__rope_desc *rope, float *out);

/* Fills the table for positions [position, position + tokens). */
void sl__rope_fill(const sl__rope_desc *rope, const sl__rope_table *table, uint32_t position,
                   uint32_t tokens);
/* The same from token `first` of the table on, whose frequencies are there already. */
void sl__rope_fill_from(const sl__rope_desc *rope, const sl__rope_table *table, uint32_t first,
                        uint32_t position, uint32_t tokens);

/* Rotates the first dim channels of x as token t of the table. */
static inline void sl__rope_rotate(const sl__kern *kern, const sl__rope_desc *rope,
                                   const sl__rope_table *table, uint32_t t, float *x)
{
    uint32_t half = rope->dim / 2;
    const float *cos = table->cos + (size_t)t * half, *sin = table->sin + (size_t)t * half;
    if (rope->adjacent) kern->rope_adjacent(x, cos, sin, half);
    else kern->rope(x, cos, sin, half);
}

#endif
