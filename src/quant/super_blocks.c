/* Encoders of GGUF's blocks of 256 weights: q2_k to q6_k and iq4_xs.
 *
 *     weight = (d · L) · code − (dmin · M)      d, dmin: halves, of the block
 *                                               L, M: small integers, of a group of 16 or 32
 *
 * A batch of sixteen groups is one block, or two. Groups are fitted apart first (fit.h); then
 * d is sought that has integers near to all their scales, a dmin near to all their minimums, and
 * from there on everything is judged by what the decoder would make:
 *
 *     d, dmin ── L, M ── codes ── L ± 1, M ± 1 where that costs less ── d, dmin by least squares ─┐
 *                 └───────────────────────────────────────────────────────────────────────────────┘
 */
#include "quant/encoders.h"

#include <math.h>
#include <string.h>

#include "quant/fit.h"

/* What a type is made of. */
typedef struct shape {
    uint32_t n, per;                       /* weights of a group; groups of a block */
    float low, high;                       /* codes */
    const float *values;                   /* or these */
    float scale_low, scale_high, min_high; /* L; M is 0 … min_high, 0 where there is none */
} shape;

/* A choice for all groups; d and dmin are repeated in every lane of their block. */
typedef struct choice {
    sl__lanes d, dmin, scale, min; /* scale, min: the integers */
    sl__fitted fit;
    sl__lanes total; /* error of the block */
} choice;

typedef struct batch {
    const shape *s;
    sl__fit_groups groups;
} batch;

/* v's sum over each block, repeated in its lanes. */
static void sum_blocks(const shape *s, sl__lanes *v)
{
    for (uint32_t from = 0; from < SL_FIT_LANES; from += s->per) {
        float sum = 0;
        for (uint32_t l = from; l < from + s->per; l++)
            sum += v->of[l];
        for (uint32_t l = from; l < from + s->per; l++)
            v->of[l] = sum;
    }
}

static float nearest_integer(float x, float low, float high)
{
    x = x > low ? x : low;
    x = x < high ? x : high;
    return (x + 0x1.8p23f) - 0x1.8p23f;
}

/* v / by as integers, 0 where by is 0. */
static void divide_lanes(const sl__lanes *v, const sl__lanes *by, float low, float high,
                         sl__lanes *out)
{
    for (unsigned l = 0; l < SL_FIT_LANES; l++) {
        float quotient = v->of[l] / (by->of[l] != 0 ? by->of[l] : 1);
        out->of[l] = nearest_integer(by->of[l] != 0 ? quotient : 0, low, high);
    }
}

/* Of each block the v of the largest size, repeated in its lanes. */
static void largest_of_blocks(const shape *s, const sl__lanes *v, sl__lanes *out)
{
    for (uint32_t from = 0; from < SL_FIT_LANES; from += s->per) {
        float most = 0;
        for (uint32_t l = from; l < from + s->per; l++)
            most = fabsf(v->of[l]) > fabsf(most) ? v->of[l] : most;
        for (uint32_t l = from; l < from + s->per; l++)
            out->of[l] = most;
    }
}

static void measure(const batch *b, choice *c)
{
    sl__lanes scale, minimum;
    for (unsigned l = 0; l < SL_FIT_LANES; l++) {
        scale.of[l] = c->d.of[l] * c->scale.of[l];
        minimum.of[l] = 0 - c->dmin.of[l] * c->min.of[l];
    }
    sl__fit_measure(&b->groups, &scale, &minimum, &c->fit);
    c->total = c->fit.error;
    sum_blocks(b->s, &c->total);
}

static void take_lanes(sl__lanes *to, const sl__lanes *from, const uint32_t *which)
{
    for (unsigned l = 0; l < SL_FIT_LANES; l++)
        to->of[l] = which[l] ? from->of[l] : to->of[l];
}

/* Lanes of `from` where a < b replace those of best. */
static void keep_choice(choice *best, const choice *from, const sl__lanes *a, const sl__lanes *b)
{
    uint32_t which[SL_FIT_LANES];
    const sl__lanes *other = (const sl__lanes *)(const void *)from;
    sl__lanes *to = (sl__lanes *)(void *)best;
    for (unsigned l = 0; l < SL_FIT_LANES; l++)
        which[l] = a->of[l] < b->of[l] ? ~0u : 0;
    for (size_t i = 0; i < sizeof *best / sizeof *to; i++)
        take_lanes(&to[i], &other[i], which);
}

#define UNIT_LEAST 0x1p-24f /* the smallest half */

/* Trial i of a unit that integers from low to high are multiples of; the largest of the wanted
 * numbers comes to lie near one of the ends. False where there are no more. */
static bool try_unit(uint32_t i, float low, float high, const sl__lanes *most, sl__lanes *unit)
{
    const uint32_t tries = 32;
    if (i > tries) return false;
    float end = i % 2 && low < 0 ? low : high;
    end += copysignf(0.5f, end) - end * 0.15f * (float)i / (float)tries;
    for (unsigned l = 0; l < SL_FIT_LANES; l++)
        unit->of[l] = i == tries ? copysignf(UNIT_LEAST, most->of[l]) : most->of[l] / end;
    sl__fit_round_lanes(SL_FIT_F16, unit);
    return true;
}

/* The half of each block that has multiples nearest to the wanted numbers, weighed. */
static void seek_unit(const shape *s, const sl__lanes *wanted, const sl__lanes *weight, float low,
                      float high, sl__lanes *unit)
{
    sl__lanes most, least, trial, integers, cost;
    largest_of_blocks(s, wanted, &most);
    memset(unit, 0, sizeof *unit);
    for (unsigned l = 0; l < SL_FIT_LANES; l++)
        least.of[l] = INFINITY;
    for (uint32_t i = 0; try_unit(i, low, high, &most, &trial); i++) {
        divide_lanes(wanted, &trial, low, high, &integers);
        for (unsigned l = 0; l < SL_FIT_LANES; l++) {
            float miss = wanted->of[l] - trial.of[l] * integers.of[l];
            cost.of[l] = miss * miss * weight->of[l];
        }
        sum_blocks(s, &cost);
        for (unsigned l = 0; l < SL_FIT_LANES; l++) {
            unit->of[l] = cost.of[l] < least.of[l] ? trial.of[l] : unit->of[l];
            least.of[l] = cost.of[l] < least.of[l] ? cost.of[l] : least.of[l];
        }
    }
}

/* ---- groups apart ---------------------------------------------------------------------------- */

static void begin_with_nothing(sl__fitted *f)
{
    memset(f, 0, sizeof *f);
    for (unsigned l = 0; l < SL_FIT_LANES; l++)
        f->error.of[l] = INFINITY;
}

/* Groups without a minimum, codes from 0 and scales that are not negative. */
static void fit_from_zero(const batch *b, sl__fitted *f)
{
    static const sl__lanes zeros = {{0}};
    sl__fit_groups groups = b->groups;
    sl__fitted nothing;
    groups.fit.x = groups.x;
    groups.fit.has_minimum = false;
    begin_with_nothing(f);
    sl__fit_search(&groups, f);
    sl__fit_measure(&groups, &zeros, &zeros, &nothing);
    nothing.next = (sl__fit_next){.scale = {0}};
    for (unsigned l = 0; l < SL_FIT_LANES; l++) {
        if (!(f->next.scale[l] > 0)) f->error.of[l] = INFINITY;
    }
    sl__fit_keep(f, &nothing);
}

/* The minimums of a block's groups are stored with one sign. Where both occur, groups of the sign
 * that matters less do without. */
static void agree_on_sign(const batch *b, sl__fitted *apart)
{
    bool above[SL_FIT_LANES], mixed = false;
    for (unsigned l = 0; l < SL_FIT_LANES; l++) {
        above[l] = apart->next.minimum[l] > 0;
        mixed |= above[l] != above[l / b->s->per * b->s->per];
    }
    if (!mixed) return;
    sl__fitted zero;
    sl__lanes worth; /* of the minimums above 0, less that of those below */
    fit_from_zero(b, &zero);
    for (unsigned l = 0; l < SL_FIT_LANES; l++) {
        float loss = zero.error.of[l] - apart->error.of[l];
        worth.of[l] = above[l] ? loss : -loss;
    }
    sum_blocks(b->s, &worth);
    for (unsigned l = 0; l < SL_FIT_LANES; l++)
        apart->error.of[l] = above[l] != (worth.of[l] > 0) ? INFINITY : apart->error.of[l];
    sl__fit_keep(apart, &zero);
}

/* dmin, and the integers that suit it and the scales as they are stored. */
static void choose_minimums(const batch *b, const sl__fitted *apart, choice *c)
{
    sl__lanes wanted, most, weight;
    for (unsigned l = 0; l < SL_FIT_LANES; l++) {
        float off = apart->next.scale[l] - c->d.of[l] * c->scale.of[l];
        wanted.of[l] = -(apart->next.minimum[l] + off * apart->next.mean_code[l]);
        weight.of[l] = 1;
    }
    largest_of_blocks(b->s, &wanted, &most);
    for (unsigned l = 0; l < SL_FIT_LANES; l++)
        wanted.of[l] = (wanted.of[l] < 0) == (most.of[l] < 0) ? wanted.of[l] : 0;
    seek_unit(b->s, &wanted, &weight, 0, b->s->min_high, &c->dmin);
    divide_lanes(&wanted, &c->dmin, 0, b->s->min_high, &c->min);
}

/* ---- the block ------------------------------------------------------------------------------- */

/* Steps of the integers to the eight neighbours, or two where there is no minimum. */
static void walk(const batch *b, choice *best)
{
    static const signed char steps[8][2] = {{1, 0}, {-1, 0},  {0, 1},  {0, -1},
                                            {1, 1}, {-1, -1}, {1, -1}, {-1, 1}};
    const shape *s = b->s;
    const unsigned ways = s->min_high > 0 ? 8 : 2;
    choice next = *best;
    for (unsigned i = 0; i < ways; i++) {
        float by = (float)steps[i][0], min_by = (float)steps[i][1];
        for (unsigned l = 0; l < SL_FIT_LANES; l++) {
            next.scale.of[l] = nearest_integer(best->scale.of[l] + by, s->scale_low, s->scale_high);
            next.min.of[l] = nearest_integer(best->min.of[l] + min_by, 0, s->min_high);
        }
        measure(b, &next);
        keep_choice(best, &next, &next.fit.error, &best->fit.error);
    }
    best->total = best->fit.error;
    sum_blocks(s, &best->total);
}

/* d and dmin by least squares, codes and integers being what they are; kept where that is better.
 */
static bool refit_units(const batch *b, choice *best)
{
    sl__lanes aa, ab, bb, ae, be;
    const sl__fit_sums *s = &best->fit.sums;
    const float n = (float)b->s->n;
    for (unsigned l = 0; l < SL_FIT_LANES; l++) { /* x ≈ d·a − dmin·b */
        float scale = best->scale.of[l], min = best->min.of[l];
        aa.of[l] = scale * scale * s->cc[l];
        ab.of[l] = scale * min * s->c[l];
        bb.of[l] = min * min * n;
        ae.of[l] = scale * s->ce[l];
        be.of[l] = min * s->e[l];
    }
    sum_blocks(b->s, &aa);
    sum_blocks(b->s, &ab);
    sum_blocks(b->s, &bb);
    sum_blocks(b->s, &ae);
    sum_blocks(b->s, &be);
    choice next = *best;
    for (unsigned l = 0; l < SL_FIT_LANES; l++) {
        float det = aa.of[l] * bb.of[l] - ab.of[l] * ab.of[l];
        bool both = det > 1e-3f * aa.of[l] * bb.of[l];
        float alone = ae.of[l] / (aa.of[l] > 0 ? aa.of[l] : 1);
        float divisor = both ? det : 1;
        next.d.of[l] += both ? (ae.of[l] * bb.of[l] - ab.of[l] * be.of[l]) / divisor : alone;
        next.dmin.of[l] += both ? (ab.of[l] * ae.of[l] - aa.of[l] * be.of[l]) / divisor : 0;
    }
    sl__fit_round_lanes(SL_FIT_F16, &next.d);
    sl__fit_round_lanes(SL_FIT_F16, &next.dmin);
    bool changed = memcmp(&next.d, &best->d, sizeof next.d) != 0 ||
                   memcmp(&next.dmin, &best->dmin, sizeof next.d) != 0;
    if (!changed) return false;
    measure(b, &next);
    keep_choice(best, &next, &next.total, &best->total);
    return true;
}

static void choose(const batch *b, choice *best)
{
    const bool has_minimum = b->s->min_high > 0;
    sl__fitted apart;
    sl__lanes weight, wanted;
    memset(best, 0, sizeof *best);
    begin_with_nothing(&apart);
    sl__fit_search(&b->groups, &apart);
    if (has_minimum) agree_on_sign(b, &apart);
    for (unsigned l = 0; l < SL_FIT_LANES; l++) {
        weight.of[l] = apart.sums.cc[l] - apart.sums.c[l] * apart.next.mean_code[l];
        wanted.of[l] = apart.next.scale[l];
    }
    seek_unit(b->s, &wanted, &weight, b->s->scale_low, b->s->scale_high, &best->d);
    divide_lanes(&wanted, &best->d, b->s->scale_low, b->s->scale_high, &best->scale);
    if (has_minimum) choose_minimums(b, &apart, best);
    measure(b, best);
    walk(b, best);
    if (refit_units(b, best)) walk(b, best);
}

/* ---- bytes ----------------------------------------------------------------------------------- */

/* One block: codes and integers of its groups in order. */
typedef struct opened {
    float d, dmin;
    int scale[16], min[16];
    int8_t code[256];
} opened;

/* 256 codes of two bits, as q2_k has them. */
static void put_two_bits(const uint8_t code[256], uint8_t p[64])
{
    for (unsigned i = 0; i < 64; i++) {
        const uint8_t *c = code + i / 32 * 128 + i % 32;
        p[i] = (uint8_t)((c[0] & 3u) | (c[32] & 3u) << 2 | (c[64] & 3u) << 4 | (c[96] & 3u) << 6);
    }
}

static void put_q2_k(const opened *o, uint8_t *p)
{
    uint8_t code[256];
    for (unsigned i = 0; i < 256; i++)
        code[i] = (uint8_t)o->code[i];
    for (unsigned k = 0; k < 16; k++)
        p[k] = (uint8_t)(o->scale[k] | o->min[k] << 4);
    put_two_bits(code, p + 16);
    sl__put_half(p + 80, o->d);
    sl__put_half(p + 82, o->dmin);
}

static void put_q3_k(const opened *o, uint8_t *p)
{
    uint8_t code[256];
    memset(p, 0, 110);
    for (unsigned i = 0; i < 256; i++) {
        code[i] = (uint8_t)(o->code[i] + 4);
        p[i % 32] |= (uint8_t)((code[i] >> 2 & 1u) << i / 32);
    }
    put_two_bits(code, p + 32);
    for (unsigned k = 0; k < 16; k++) {
        unsigned s = (unsigned)(o->scale[k] + 32);
        p[96 + k % 8] |= (uint8_t)((s & 15u) << (k < 8 ? 0 : 4));
        p[104 + k % 4] |= (uint8_t)((s >> 4) << k / 4 * 2);
    }
    sl__put_half(p + 108, o->d);
}

static void put_q4_k(const opened *o, bool five, uint8_t *p)
{
    uint8_t *scales = p + 4, *fifth = p + 16, *codes = five ? p + 48 : p + 16;
    memset(p, 0, five ? 48 : 16);
    sl__put_half(p, o->d);
    sl__put_half(p + 2, o->dmin);
    for (unsigned i = 0; i < 4; i++) {
        unsigned s = (unsigned)o->scale[i + 4], m = (unsigned)o->min[i + 4];
        scales[i] = (uint8_t)((unsigned)o->scale[i] | s >> 4 << 6);
        scales[i + 4] = (uint8_t)((unsigned)o->min[i] | m >> 4 << 6);
        scales[i + 8] = (uint8_t)((s & 15u) | (m & 15u) << 4);
    }
    for (unsigned i = 0; i < 128; i++) {
        const int8_t *c = o->code + i / 32 * 64 + i % 32;
        codes[i] = (uint8_t)((c[0] & 15) | (c[32] & 15) << 4);
        if (five) fifth[i % 32] |= (uint8_t)((c[0] >> 4 | c[32] >> 4 << 1) << i / 32 * 2);
    }
}

static void put_q6_k(const opened *o, uint8_t *p)
{
    uint8_t code[256], high[256];
    for (unsigned i = 0; i < 256; i++) {
        code[i] = (uint8_t)(o->code[i] + 32);
        high[i] = code[i] >> 4;
    }
    for (unsigned i = 0; i < 128; i++) {
        const uint8_t *c = code + i / 64 * 128 + i % 64;
        p[i] = (uint8_t)((c[0] & 15u) | (c[64] & 15u) << 4);
    }
    put_two_bits(high, p + 128);
    for (unsigned k = 0; k < 16; k++)
        p[192 + k] = (uint8_t)o->scale[k];
    sl__put_half(p + 208, o->d);
}

static void put_iq4_xs(const opened *o, uint8_t *p)
{
    memset(p, 0, 8);
    sl__put_half(p, o->d);
    for (unsigned k = 0; k < 8; k++) {
        unsigned s = (unsigned)(o->scale[k] + 32);
        p[2 + k / 4] |= (uint8_t)(s >> 4 << k % 4 * 2);
        p[4 + k / 2] |= (uint8_t)((s & 15u) << k % 2 * 4);
        sl__put_iq4_codes(o->code + 32 * k, p + 8 + 16 * k);
    }
}

static void put_block(sl__dtype type, const opened *o, uint8_t *p)
{
    switch (type) {
    case SL_Q2_K:
        put_q2_k(o, p);
        break;
    case SL_Q3_K:
        put_q3_k(o, p);
        break;
    case SL_Q4_K:
    case SL_Q5_K:
        put_q4_k(o, type == SL_Q5_K, p);
        break;
    case SL_Q6_K:
        put_q6_k(o, p);
        break;
    default:
        put_iq4_xs(o, p);
    }
}

static const shape *shape_of(sl__dtype type)
{
    static const shape q2 = {16, 16, 0, 3, NULL, 0, 15, 15}, q4 = {32, 8, 0, 15, NULL, 0, 63, 63},
                       q5 = {32, 8, 0, 31, NULL, 0, 63, 63}, q3 = {16, 16, -4, 3, NULL, -32, 31, 0},
                       q6 = {16, 16, -32, 31, NULL, -128, 127, 0},
                       iq4 = {32, 8, 0, 0, sl__iq4_values, -32, 31, 0};
    return type == SL_Q2_K   ? &q2
           : type == SL_Q3_K ? &q3
           : type == SL_Q4_K ? &q4
           : type == SL_Q5_K ? &q5
           : type == SL_Q6_K ? &q6
                             : &iq4;
}

void sl__encode_super_blocks(const sl__kern *kern, sl__dtype type, const float *x, uint32_t count,
                             uint8_t *row)
{
    const shape *s = shape_of(type);
    const uint32_t at_once = SL_FIT_LANES / s->per;
    batch b = {.s = s};
    b.groups.kern = kern;
    b.groups.form = SL_FIT_ANY;
    b.groups.fit = (sl__fit){
        .low = s->low, .high = s->high, .values = s->values, .has_minimum = s->min_high > 0};
    for (uint32_t done = 0; done < count; done += at_once) {
        const uint32_t blocks = count - done < at_once ? count - done : at_once;
        int8_t codes[256 * 2];
        choice c;
        opened o;
        sl__fit_load(&b.groups, x + (size_t)done * 256, s->n, blocks * s->per);
        choose(&b, &c);
        kern->fit_codes(&b.groups.fit, c.fit.scale.of, c.fit.minimum.of, codes);
        for (uint32_t j = 0; j < blocks; j++) {
            o.d = c.d.of[j * s->per];
            o.dmin = c.dmin.of[j * s->per];
            for (uint32_t k = 0; k < s->per; k++) {
                o.scale[k] = (int)c.scale.of[j * s->per + k];
                o.min[k] = (int)c.min.of[j * s->per + k];
                for (uint32_t i = 0; i < s->n; i++)
                    o.code[k * s->n + i] = codes[i * SL_FIT_LANES + j * s->per + k];
            }
            put_block(type, &o, row);
            row += sl__dtype_block_bytes(type);
        }
    }
}
