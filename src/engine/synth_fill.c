/* Random weights in the encoded domain, at the speed of memory.
 *
 *     grouped types   random bytes all over, then scale and minimum of each block, 4 bytes: codes
 *                     are uniform in 0 … top, weight = scale·code − scale·top/2
 *     bf16, f32       random bytes all over, then in place to numbers uniform in ±std·sqrt(3)
 */
#include "engine/synth.h"

#include <assert.h>
#include <math.h>
#include <string.h>

/* ---- random numbers -------------------------------------------------------------------------- */

/* splitmix64: neighbouring seeds give unrelated streams. */
static uint64_t scramble(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

void sl__synth_rng_seed(sl__synth_rng *rng, uint64_t seed, uint64_t what)
{
    uint64_t state = seed;
    state = scramble(&state) ^ what;
    for (unsigned i = 0; i < SL_SYNTH_LANES; i++) {
        uint64_t a = scramble(&state), b = scramble(&state) | 1u; /* never all 0 */
        rng->s[0][i] = (uint32_t)a;
        rng->s[1][i] = (uint32_t)(a >> 32);
        rng->s[2][i] = (uint32_t)b;
        rng->s[3][i] = (uint32_t)(b >> 32);
    }
}

static inline uint32_t rotate(uint32_t x, unsigned n) { return x << n | x >> (32u - n); }

/* One step of every lane. */
static inline void step(sl__synth_rng *rng, uint32_t out[SL_SYNTH_LANES])
{
    uint32_t(*s)[SL_SYNTH_LANES] = rng->s;
    for (unsigned i = 0; i < SL_SYNTH_LANES; i++) {
        uint32_t s0 = s[0][i], s1 = s[1][i], s2 = s[2][i], s3 = s[3][i];
        out[i] = rotate(s0 + s3, 7) + s0;
        uint32_t shifted = s1 << 9;
        s2 ^= s0;
        s3 ^= s1;
        s[1][i] = s1 ^ s2;
        s[0][i] = s0 ^ s3;
        s[2][i] = s2 ^ shifted;
        s[3][i] = rotate(s3, 11);
    }
}

void sl__synth_rng_bytes(sl__synth_rng *rng, void *out, size_t bytes)
{
    char *to = out;
    sl__synth_rng r = *rng; /* here nothing else can point at it */
    uint32_t block[SL_SYNTH_LANES];
    for (; bytes >= sizeof block; bytes -= sizeof block, to += sizeof block) {
        step(&r, block);
        memcpy(to, block, sizeof block);
    }
    if (bytes > 0) {
        step(&r, block);
        memcpy(to, block, bytes);
    }
    *rng = r;
}

double sl__synth_rng_unit(sl__synth_rng *rng)
{
    uint32_t x;
    sl__synth_rng_bytes(rng, &x, sizeof x);
    return (double)x * 0x1p-32;
}

/* ---- rows ------------------------------------------------------------------------------------ */

/* The largest code; 0: not a grouped type. */
static uint32_t top_code(sl__dtype type)
{
    switch (type) {
    case SL_Q8: return 255;
    case SL_Q4: return 15;
    case SL_Q3: return 7;
    case SL_Q2: return 3;
    default: return 0;
    }
}

bool sl__synth_can_fill(sl__dtype type)
{
    return type == SL_F32 || type == SL_BF16 || top_code(type) > 0;
}

/* Numbers from -(2^31 - 1/2) to 2^31 - 1/2, evenly apart, have this standard deviation. */
#define UNIFORM_STD (0x1p31 / 1.7320508075688772)

static void uniform_f32(void *rows, uint64_t count, float factor)
{
    char *at = rows;
    for (uint64_t i = 0; i < count; i++) {
        int32_t x;
        memcpy(&x, at + i * 4, 4);
        float value = ((float)x + 0.5f) * factor;
        memcpy(at + i * 4, &value, 4);
    }
}

static void uniform_bf16(void *rows, uint64_t count, float factor)
{
    char *at = rows;
    for (uint64_t i = 0; i < count; i++) {
        int16_t x;
        memcpy(&x, at + i * 2, 2);
        uint16_t value = sl__f32_to_bf16(((float)x + 0.5f) * factor);
        memcpy(at + i * 2, &value, 2);
    }
}

/* Codes 0 … top have a standard deviation of sqrt(((top + 1)² − 1) / 12). */
static void put_scales(sl__dtype type, void *rows, uint64_t bytes, double std)
{
    double top = top_code(type);
    float wanted = (float)(std / sqrt(((top + 1) * (top + 1) - 1) / 12));
    uint16_t head[2];
    head[0] = sl__f32_to_bf16(wanted);
    head[1] = sl__f32_to_bf16((float)(-0.5 * top) * sl__bf16_to_f32(head[0]));
    char *at = rows;
    uint32_t block = sl__dtype_block_bytes(type);
    for (uint64_t i = 0; i < bytes; i += block)
        memcpy(at + i, head, sizeof head);
}

void sl__synth_fill_rows(sl__synth_rng *rng, sl__dtype type, void *out, uint64_t rows,
                         uint32_t cols, double std)
{
    uint64_t row_bytes, count = rows * cols;
    bool fits = sl__dtype_row_bytes(type, cols, &row_bytes);
    assert(fits && cols % SL_GROUP == 0 && sl__synth_can_fill(type));
    (void)fits;
    sl__synth_rng_bytes(rng, out, (size_t)(rows * row_bytes));
    if (type == SL_F32) uniform_f32(out, count, (float)(std / UNIFORM_STD));
    else if (type == SL_BF16) uniform_bf16(out, count, (float)(std / UNIFORM_STD * 0x1p16));
    else put_scales(type, out, rows * row_bytes, std);
}

static uint64_t topic_of(const sl__synth_dials *dials, uint64_t id)
{
    uint64_t topic = id / dials->topic_ids;
    return topic < dials->topics ? topic : dials->topics - 1;
}

void sl__synth_fill_matrix(sl__synth_rng *rng, const sl__synth_fill *fill,
                           const sl__synth_dials *dials, uint64_t topic_seed, sl__dtype type,
                           void *out, uint64_t first, uint64_t rows, uint32_t cols)
{
    uint64_t row_bytes = 0, topic_bytes = 0;
    bool fits = sl__dtype_row_bytes(type, cols, &row_bytes) &&
                sl__dtype_row_bytes(type, fill->topic_cols, &topic_bytes);
    assert(fits && fill->topic_cols % SL_GROUP == 0 && fill->topic_cols <= cols);
    (void)fits;
    char *at = out;
    for (uint64_t r = first; r < first + rows; r++, at += row_bytes) {
        bool zero = r < fill->zero_rows;
        sl__synth_rng topic;
        if (fill->by_topic) sl__synth_rng_seed(&topic, topic_seed, topic_of(dials, r));
        sl__synth_fill_rows(fill->by_topic ? &topic : rng, type, at, 1, fill->topic_cols,
                            zero ? 0 : fill->topic_std);
        sl__synth_fill_rows(rng, type, at + topic_bytes, 1, cols - fill->topic_cols,
                            zero ? 0 : fill->std);
    }
}
