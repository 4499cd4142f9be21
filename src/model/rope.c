/* YaRN: a model trained to a context of L positions runs `factor` times further. Channels that turn
 * often within L keep their frequency f, channels that hardly turn once get f / factor, and those
 * between are mixed along a ramp over the channels:
 *
 *     f / factor                      ________
 *                                    /               ramp 1
 *     f          ___________________/                ramp 0
 *                0 … turns: beta_fast   beta_slow … dim/2 − 1
 *
 * Channel i makes L·θ^(−2i/dim) / 2π turns in the original context; bound() solves that for i.
 */
#include "model/rope.h"

#include <math.h>

static double bound(const sl__rope_desc *rope, float turns)
{
    const double two_pi = 6.283185307179586;
    double length = (double)rope->original_context / ((double)turns * two_pi);
    return (double)rope->dim * log(length) / (2 * log((double)rope->theta));
}

void sl__rope_frequencies(const sl__rope_desc *rope, float *out)
{
    double low = 0, high = 0;
    if (rope->factor > 0) {
        low = bound(rope, rope->beta_fast);
        high = bound(rope, rope->beta_slow);
        if (rope->truncate) {
            low = floor(low);
            high = ceil(high);
        }
        low = fmax(low, 0);
        high = fmin(high, (double)rope->dim - 1);
        if (low == high) high += 0.001;
    }
    for (uint32_t i = 0; i < rope->dim / 2; i++) {
        float power = powf(rope->theta, (float)(2 * i) / (float)rope->dim);
        out[i] = 1.0f / power;
        if (!(rope->factor > 0)) continue;
        float ramp = ((float)i - (float)low) / (float)(high - low);
        float kept = 1.0f - fminf(fmaxf(ramp, 0.0f), 1.0f);
        out[i] = 1.0f / (rope->factor * power) * (1.0f - kept) + out[i] * kept;
    }
}

void sl__rope_fill_from(const sl__rope_desc *rope, const sl__rope_table *table, uint32_t first,
                        uint32_t position, uint32_t tokens)
{
    uint32_t half = rope->dim / 2;
    for (uint32_t t = 0; t < tokens; t++) {
        size_t row = ((size_t)first + t) * half;
        for (uint32_t i = 0; i < half; i++) {
            float angle = (float)(position + t) * table->frequency[i];
            table->cos[row + i] = cosf(angle) * rope->amplitude;
            table->sin[row + i] = sinf(angle) * rope->amplitude;
        }
    }
}

void sl__rope_fill(const sl__rope_desc *rope, const sl__rope_table *table, uint32_t position,
                   uint32_t tokens)
{
    sl__rope_frequencies(rope, table->frequency);
    sl__rope_fill_from(rope, table, 0, position, tokens);
}
