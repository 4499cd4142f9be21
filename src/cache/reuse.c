/* The chance that an expert comes next. The model is drawn in reuse.h.
 *
 * A note costs some twenty operations an expert of the layer, which is why logarithms and powers of
 * two are parabolas between the powers: off by at most 0.01, monotone, and the same on every
 * machine.
 */
#include "cache/reuse.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/arena.h"
#include "base/checked.h"

/* What is left of an average after a token; the last is of being chosen. */
static const float keep[SL_REUSE_TERMS] = {0.0f, 0.8f, 0.95f, 0.995f};
/* Where the weights begin: near what they become on the routers that were traced. */
static const double begin[SL_REUSE_TERMS + 1] = {-2.6, 0.25, 0.1, 0.5, 0.9};

#define LEAST 0.004f  /* added to an average, so that a logarithm of 0 is never taken */
#define CENTRE 3.0f   /* terms then lie around 0, which the learning likes */
#define RATE 0.1      /* of learning */
#define Z_MAX 20.0f
#define PRIOR 16u     /* made-up observations of each band */
#define BLOCK 64u     /* records that are estimated together */

/* ---- tables ---------------------------------------------------------------------------------- */

/* Lays the tables out from base; base NULL only measures. */
static bool lay(sl__reuse *r, uint64_t *bytes, uint32_t layers, uint32_t records, char *base)
{
    uint64_t at = 0, floats, flags, layer_flags;
    if (!sl__mul_u64(&floats, records, sizeof(float)) ||
        !sl__align_u64(&floats, floats, SL_ARENA_ALIGN) ||
        !sl__align_u64(&flags, records, SL_ARENA_ALIGN) ||
        !sl__align_u64(&layer_flags, layers, SL_ARENA_ALIGN) ||
        !sl__mul_u64(&at, floats, 1 + 2 * SL_REUSE_TERMS) || !sl__add_u64(&at, at, flags) ||
        !sl__add_u64(bytes, at, layer_flags)) {
        return false;
    }
    if (base == NULL) return true;
    r->chance = (float *)(void *)base;
    for (uint32_t i = 0; i < SL_REUSE_TERMS; i++) {
        r->average[i] = (float *)(void *)(base + floats * (1 + i));
        r->term[i] = (float *)(void *)(base + floats * (1 + SL_REUSE_TERMS + i));
    }
    r->band = (uint8_t *)base + floats * (1 + 2 * SL_REUSE_TERMS);
    r->known = r->band + flags;
    return true;
}

uint64_t sl__reuse_bytes(uint32_t layers, uint32_t records)
{
    uint64_t bytes;
    return lay(NULL, &bytes, layers, records, NULL) ? bytes : UINT64_MAX;
}

void sl__reuse_init(sl__reuse *reuse, uint32_t layers, uint32_t records, const uint32_t *first,
                    void *memory)
{
    /* Of 16: bands of a router that changes half of its experts from token to token. */
    static const uint8_t returned[SL_REUSE_BANDS] = {9, 6, 4, 3, 2, 2, 1, 1, 0};
    uint64_t bytes;
    *reuse = (sl__reuse){.layers = layers, .records = records, .first = first};
    bool fits = lay(reuse, &bytes, layers, records, memory);
    assert(fits);
    memcpy(reuse->weight, begin, sizeof begin);
    for (uint32_t i = 0; i <= SL_REUSE_TERMS; i++)
        reuse->squares[i] = 1.0;
    for (uint32_t b = 0; b < SL_REUSE_BANDS; b++) {
        reuse->seen[b] = PRIOR;
        reuse->returned[b] = returned[b];
    }
}

/* ---- learning -------------------------------------------------------------------------------- */

/* The chances of the layer were made at its last token; this is what came. */
static void learn(sl__reuse *r, uint32_t layer, const uint32_t *chosen, uint32_t count)
{
    uint32_t first = r->first[layer], end = r->first[layer + 1];
    double slope[SL_REUSE_TERMS + 1] = {0};
    for (uint32_t i = first; i < end; i++) {
        double c = (double)r->chance[i];
        slope[0] -= c;
        for (uint32_t t = 0; t < SL_REUSE_TERMS; t++)
            slope[t + 1] -= c * (double)r->term[t][i];
        r->seen[r->band[i]]++;
    }
    for (uint32_t j = 0; j < count; j++) {
        uint32_t i = first + chosen[j];
        slope[0] += 1.0;
        for (uint32_t t = 0; t < SL_REUSE_TERMS; t++)
            slope[t + 1] += (double)r->term[t][i];
        r->returned[r->band[i]]++;
    }
    for (uint32_t t = 0; t <= SL_REUSE_TERMS; t++) {
        r->squares[t] += slope[t] * slope[t];
        r->weight[t] += RATE * slope[t] / sqrt(r->squares[t]);
    }
}

/* ---- chances --------------------------------------------------------------------------------- */

/* log2 of a positive normal number. */
static inline float log2_near(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    float exponent = (float)((int32_t)(bits >> 23) - 127);
    bits = (bits & 0x7fffffu) | 0x3f800000u;
    memcpy(&x, &bits, sizeof x);
    return exponent - 5.0f / 3.0f + x * (2.0f - x * (1.0f / 3.0f));
}

/* 2^x, |x| <= Z_MAX. */
static inline float exp2_near(float x)
{
    int32_t whole = (int32_t)(x + 64.0f) - 64; /* floor */
    float part = x - (float)whole;
    uint32_t bits = (uint32_t)(whole + 127) << 23;
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return scale * (1.0f + part * (2.0f / 3.0f + part * (1.0f / 3.0f)));
}

/* z += weight · term, of `count` records from `first` on, now that these values have come. */
static void add_term(sl__reuse *r, uint32_t t, uint32_t first, uint32_t count, const float *value,
                     float *z)
{
    float *average = r->average[t] + first, *term = r->term[t] + first;
    float old = keep[t], fresh = 1.0f - keep[t], weight = (float)r->weight[t + 1];
    for (uint32_t i = 0; i < count; i++) {
        average[i] = old * average[i] + fresh * value[i];
        term[i] = log2_near(average[i] + LEAST) + CENTRE;
        z[i] += weight * term[i];
    }
}

/* In blocks, whose loops a compiler can turn into vectors. */
static void estimate(sl__reuse *r, uint32_t layer)
{
    float rates[SL_REUSE_BANDS], rate[BLOCK], used[BLOCK], z[BLOCK];
    for (uint32_t b = 0; b < SL_REUSE_BANDS; b++)
        rates[b] = (float)((double)r->returned[b] / (double)r->seen[b]);
    uint32_t end = r->first[layer + 1];
    for (uint32_t first = r->first[layer]; first < end; first += BLOCK) {
        uint32_t count = end - first < BLOCK ? end - first : BLOCK;
        for (uint32_t i = 0; i < count; i++) {
            rate[i] = rates[r->band[first + i]];
            used[i] = r->band[first + i] < 2 ? 1.0f : 0.0f;
            z[i] = (float)r->weight[0];
        }
        for (uint32_t t = 0; t < SL_REUSE_TERMS; t++)
            add_term(r, t, first, count, t + 1 < SL_REUSE_TERMS ? rate : used, z);
        for (uint32_t i = 0; i < count; i++) {
            float x = z[i] < -Z_MAX ? -Z_MAX : z[i] > Z_MAX ? Z_MAX : z[i];
            r->chance[first + i] = 1.0f / (1.0f + exp2_near(-x));
        }
    }
}

void sl__reuse_note(sl__reuse *reuse, uint32_t layer, const uint32_t *ranked, uint32_t n,
                    uint32_t chosen)
{
    assert(layer < reuse->layers && reuse->first[reuse->layers] == reuse->records);
    uint32_t first = reuse->first[layer], experts = reuse->first[layer + 1] - first;
    assert(chosen <= n && n <= experts);
    if (chosen == 0) return;
    for (uint32_t j = 0; j < n; j++)
        assert(ranked[j] < experts);
    if (reuse->known[layer]) {
        learn(reuse, layer, ranked, chosen);
    } else {
        float even = (float)chosen / (float)experts;
        for (uint32_t t = 0; t < SL_REUSE_TERMS; t++) {
            for (uint32_t i = first; i < first + experts; i++)
                reuse->average[t][i] = even;
        }
        reuse->known[layer] = 1;
    }
    memset(reuse->band + first, SL_REUSE_BANDS - 1, experts);
    for (uint32_t j = n; j-- > 0;) { /* backwards: of an id named twice the better rank counts */
        uint64_t band = 2 * (uint64_t)j / chosen;
        reuse->band[first + ranked[j]] = (uint8_t)(band < 8 ? band : 8);
    }
    estimate(reuse, layer);
}
