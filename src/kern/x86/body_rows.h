/* The product of weights in rows with activations of 8 bits, over whatever adds up dot products of
 * bytes (kern.h, matmul_q8; row_codes.h has the pictures of a span).
 *
 * Few tokens: a span's codes go from memory through registers into the sums. Multiplied with x they
 * are sums of four columns; those of the four groups are added up across until sixteen sums of runs
 * are left, in the order of the lanes, weighed and added to them:
 *
 *     group 0   a a a a  b b b b  c c c c  d d d d        each letter a run, a sum of four columns
 *     group 1   e e e e  f f f f  …                  ->   a e i m  b f j n  c g k o  d h l p
 *     groups 2 and 3 likewise
 *
 * More tokens: the spans of SL_VW rows are opened once and turned round, so that a vector has four
 * columns of every row; then nothing is added up across, and what a lane sums stays in registers:
 *
 *     strip     [lane][span]: 4 vectors of codes (16 columns of every row) | scales | addends
 *     inputs    [token]: codes [STRIP_COLS] | of each span steps, sums, totals by lane
 *
 * STRIP_COLS columns are opened at a time and multiplied with up to BLOCK_TOKENS tokens,
 * TILE_TOKENS at once; the lanes of all tokens wait in tmp in between.
 *
 *     tmp, from its first multiple of 64 bytes:
 *     row_strip   lanes [BLOCK_TOKENS][16][SL_VW]
 *
 * A level defines, before it includes this:
 *
 *     SL_SIGNED                   see row_codes.h
 *     quad_dots(kind, codes, x)   sums of four products of bytes
 *     run_dots(kind, s, w, x)     s and the products of 16 columns of every row with those of x
 */
#ifndef SL_KERN_X86_BODY_ROWS_H
#define SL_KERN_X86_BODY_ROWS_H

#include "kern/x86/row_codes.h"

#define ANY_TYPE     SL_DTYPE_COUNT /* opened through memory, whatever it is */
#define STRIP_SPANS  8u
#define STRIP_COLS   (STRIP_SPANS * SPAN)
#define TILE_TOKENS  (SL_VW == 16 ? 8u : 4u)
#define BLOCK_TOKENS SL_Q8_ROWS_TOKENS
#define FETCH_ROWS   8u /* that are asked for before they are read */
#define FEW_TOKENS   2u /* which are not worth turning weights round */

SL_INLINE ivec quad_dots(code_kind kind, ivec codes, ivec x);
SL_INLINE ivec run_dots(code_kind kind, ivec s, const ivec w[4], const unsigned char *x);

typedef struct inputs8 {
    const unsigned char *row; /* the first token's */
    size_t row_bytes, groups;
    unsigned shift; /* codes of weights are 2^shift too large; 32: they are not */
    bool addends;             /* weights have some */
    const unsigned char *end; /* of the last row of weights */
} inputs8;

/* What goes with a span of a token, by lane. */
typedef struct span_inputs {
    ivec extra[NV]; /* minus the sums of runs, times what codes are too large by */
    lanes16 step, total;
} span_inputs;

SL_INLINE ivec ivec_load(const void *p)
{
    ivec v;
    memcpy(&v, p, sizeof v);
    return v;
}

SL_INLINE ivec shift_left(ivec v, unsigned shift) /* by 32: zeros */
{
    const __m128i by = _mm_cvtsi32_si128((int)shift);
#if SL_VW == 16
    return (ivec)_mm512_sll_epi32((__m512i)v, by);
#else
    return (ivec)_mm256_sll_epi32((__m256i)v, by);
#endif
}

/* A constant where type is one whose weights have, or have not, addends all the time. */
SL_INLINE bool adds(sl__dtype type, const inputs8 *x)
{
    const bool affine = type == SL_AFFINE2 || type == SL_AFFINE4 || type == SL_AFFINE8;
    return affine || type == ANY_TYPE ? x->addends : has_addends(type);
}

/* Sums of runs, two of 16 bits in every element, and steps, both by lane; p: four sl__q8_group. */
SL_INLINE void span_sums(const unsigned char *p, ivec sums[NV], lanes16 *step)
{
#if SL_VW == 16
    const __m512i all = _mm512_loadu_si512(p);
    const __m512i first = _mm512_setr_epi32(0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12);
    const __m512i pairs = _mm512_setr_epi32(2, 6, 10, 14, 2, 6, 10, 14, 3, 7, 11, 15, 3, 7, 11, 15);
    const __m512i s = _mm512_permutexvar_epi32(pairs, all);
    step->v[0] = (vec)_mm512_permutexvar_epi32(first, all);
    sums[0] = (ivec)_mm512_srai_epi32(_mm512_mask_slli_epi32(s, 0x0f0f, s, 16), 16);
#else
    const __m128 a = _mm_loadu_ps((const float *)(const void *)p);
    const __m128 b = _mm_loadu_ps((const float *)(const void *)(p + 16));
    const __m128 c = _mm_loadu_ps((const float *)(const void *)(p + 32));
    const __m128 d = _mm_loadu_ps((const float *)(const void *)(p + 48));
    const __m128 ab = _mm_unpacklo_ps(a, b), cd = _mm_unpacklo_ps(c, d);
    const __m128 ef = _mm_unpackhi_ps(a, b), gh = _mm_unpackhi_ps(c, d);
    const __m256i up = _mm256_setr_epi32(16, 16, 16, 16, 0, 0, 0, 0);
    const __m128i pair[2] = {(__m128i)_mm_movelh_ps(ef, gh), (__m128i)_mm_movehl_ps(gh, ef)};
    for (unsigned i = 0; i < 2; i++) {
        const __m256i s = _mm256_set_m128i(pair[i], pair[i]);
        sums[i] = (ivec)_mm256_srai_epi32(_mm256_sllv_epi32(s, up), 16);
    }
    *step = of_groups(_mm_movelh_ps(ab, cd));
#endif
}

SL_INLINE span_inputs inputs_of(const inputs8 *x, const unsigned char *groups)
{
    span_inputs in;
    span_sums(groups, in.extra, &in.step);
    for (unsigned i = 0; i < NV; i++) {
        in.total.v[i] = in.step.v[i] * __builtin_convertvector(in.extra[i], vec);
        in.extra[i] = -shift_left(in.extra[i], x->shift);
    }
    return in;
}

/* The groups of a span that begins with group g, where all four are there. */
SL_INLINE const unsigned char *groups_at(const inputs8 *x, uint32_t t, size_t g)
{
    return x->row + t * x->row_bytes + x->groups * SL_GROUP + g * sizeof(sl__q8_group);
}

/* Four groups of a token, of which the last may not be there and are zeros. */
SL_INLINE void copy_last(const inputs8 *x, uint32_t t, size_t g, unsigned char codes[SPAN],
                         span_inputs *in)
{
    const size_t left = x->groups - g;
    sl__q8_group groups[4];
    memset(codes, 0, SPAN);
    memset(groups, 0, sizeof groups);
    memcpy(codes, x->row + t * x->row_bytes + g * SL_GROUP, left * SL_GROUP);
    memcpy(groups, groups_at(x, t, g), left * sizeof *groups);
    *in = inputs_of(x, (const unsigned char *)groups);
}

/* A token's last span, where it is not whole. */
typedef struct last_span {
    span_inputs in;
    unsigned char codes[SPAN];
} last_span;

/* open_last_span of a type. */
typedef void last_fn(const sl__rows *w, uint32_t r, uint32_t cols, uint32_t c,
                     const unsigned char *end, span *o);

/* ---- few tokens ------------------------------------------------------------------------------ */

/* Sums of two neighbours each, in every four elements: a0 + a1, a2 + a3, b0 + b1, b2 + b3; both
 * operands fit into 16 bits. */
SL_INLINE ivec add_narrow(ivec a, ivec b)
{
#if SL_VW == 16
    return (ivec)_mm512_madd_epi16(_mm512_packs_epi32((__m512i)a, (__m512i)b),
                                   _mm512_set1_epi16(1));
#else
    return (ivec)_mm256_madd_epi16(_mm256_packs_epi32((__m256i)a, (__m256i)b),
                                   _mm256_set1_epi16(1));
#endif
}

/* The same of any: a0 + a2, b0 + b2, a1 + a3, b1 + b3. */
SL_INLINE ivec add_wide(ivec a, ivec b)
{
#if SL_VW == 16
    return (ivec)_mm512_unpacklo_epi32((__m512i)a, (__m512i)b) +
           (ivec)_mm512_unpackhi_epi32((__m512i)a, (__m512i)b);
#else
    return (ivec)_mm256_unpacklo_epi32((__m256i)a, (__m256i)b) +
           (ivec)_mm256_unpackhi_epi32((__m256i)a, (__m256i)b);
#endif
}

/* a0 + a2, a1 + a3, b0 + b2, b1 + b3. */
SL_INLINE ivec add_pairs(ivec a, ivec b)
{
#if SL_VW == 16
    return (ivec)_mm512_unpacklo_epi64((__m512i)a, (__m512i)b) +
           (ivec)_mm512_unpackhi_epi64((__m512i)a, (__m512i)b);
#else
    return (ivec)_mm256_unpacklo_epi64((__m256i)a, (__m256i)b) +
           (ivec)_mm256_unpackhi_epi64((__m256i)a, (__m256i)b);
#endif
}

/* The sums of runs from those of quads. Codes below 32: a quad's is at most 31 · 127 · 4, and twice
 * that fits into 16 bits, too. */
SL_INLINE ivec add_across(code_kind kind, const ivec dot[4])
{
    if (kind == CODES_5) return add_narrow(add_narrow(dot[0], dot[1]), add_narrow(dot[2], dot[3]));
    return add_pairs(add_wide(dot[0], dot[1]), add_wide(dot[2], dot[3]));
}

SL_INLINE vec add_runs(vec s, vec scale, vec addend, ivec dot, const span_inputs *in, unsigned i,
                       bool addends)
{
    s += scale * in->step.v[i] * __builtin_convertvector(dot + in->extra[i], vec);
    return addends ? s + addend * in->total.v[i] : s;
}

/* s += a span of a row with that of a token. */
SL_INLINE void add_span(code_kind kind, const span *w, const unsigned char *codes,
                        const span_inputs *in, bool addends, vec s[NV])
{
    for (unsigned i = 0; i < NV; i++) {
        ivec dot[4];
        for (unsigned g = 0; g < 4; g++)
            dot[g] =
                quad_dots(kind, w->code[g].v[i], ivec_load(codes + g * SL_GROUP + 4 * SL_VW * i));
        s[i] = add_runs(s[i], w->scale.v[i], w->addend.v[i], add_across(kind, dot), in, i, addends);
    }
}

/* Asks for the span of a later row: rows end long before a hardware prefetcher has learnt them. */
SL_INLINE void fetch_ahead(sl__dtype type, const sl__rows *w, uint32_t r, uint32_t c)
{
    const uintptr_t at =
        (uintptr_t)w->data + r * w->row_bytes + (size_t)(c / SPAN) * span_bytes(type);
    for (unsigned i = 0; i < span_bytes(type); i += 64)
        _mm_prefetch((const char *)(at + i), _MM_HINT_T0);
}

/* y of R rows from row r on with T tokens. */
SL_INLINE void rows_dot(sl__dtype type, last_fn *open_last, const sl__rows *w, uint32_t r,
                        uint32_t cols, const inputs8 *x, const last_span *last, float *y,
                        size_t y_stride, uint32_t R, uint32_t T)
{
    const uint32_t whole = cols & ~(SPAN - 1u);
    const code_kind kind = kind_of(type);
    const bool addends = adds(type, x);
    vec s[4][NV]; /* R · T of them */
    memset(s, 0, sizeof s);
    for (uint32_t c = 0; c < whole; c += SPAN) {
        span_inputs in[FEW_TOKENS];
        for (uint32_t t = 0; t < T; t++)
            in[t] = inputs_of(x, groups_at(x, t, c / SL_GROUP));
#pragma GCC unroll 4
        for (uint32_t i = 0; i < R; i++) {
            span o;
            fetch_ahead(type, w, r + i + FETCH_ROWS, c);
            open_span(type, w, r + i, cols, c, &o);
            for (uint32_t t = 0; t < T; t++)
                add_span(kind, &o, x->row + t * x->row_bytes + c, &in[t], addends, s[i * T + t]);
        }
    }
    for (uint32_t i = 0; whole < cols && i < R; i++) {
        span o;
        open_last(w, r + i, cols, whole, x->end, &o);
        for (uint32_t t = 0; t < T; t++)
            add_span(kind, &o, last[t].codes, &last[t].in, addends, s[i * T + t]);
    }
    for (uint32_t i = 0; i < R * T; i++)
        y[i % T * y_stride + i / T] = lanes_fold((const float *)s[i]);
}

SL_INLINE void few_tokens(sl__dtype type, last_fn *open_last, const sl__rows *w, uint32_t rows,
                          uint32_t cols, const inputs8 *x, uint32_t tokens, float *y,
                          size_t y_stride)
{
    last_span last[FEW_TOKENS];
    uint32_t r = 0;
    for (uint32_t t = 0; cols % SPAN != 0 && t < tokens; t++)
        copy_last(x, t, cols / SPAN * 4, last[t].codes, &last[t].in);
    for (; tokens == 1 && rows - r >= 4; r += 4)
        rows_dot(type, open_last, w, r, cols, x, last, y + r, y_stride, 4, 1);
    for (; tokens == 1 && r < rows; r++)
        rows_dot(type, open_last, w, r, cols, x, last, y + r, y_stride, 1, 1);
    for (; r < rows; r++)
        rows_dot(type, open_last, w, r, cols, x, last, y + r, y_stride, 1, 2);
}

/* ---- more tokens ----------------------------------------------------------------------------- */

/* A run of SL_VW rows: vector i has columns 4i … 4i + 3 of every row. */
typedef struct run16 {
    ivec code[4];
    vec scale, addend;
} run16;

typedef struct row_strip {
    run16 run[SL_LANES][STRIP_SPANS];
    unsigned char codes[TILE_TOKENS][STRIP_COLS];
    span_inputs in[TILE_TOKENS][STRIP_SPANS];
} row_strip;

/* Element j of vector i becomes element i of vector j. */
SL_INLINE void turn_round(ivec v[SL_VW])
{
    ivec a[SL_VW];
#if SL_VW == 16
    for (unsigned i = 0; i < 16; i += 2) {
        a[i] = (ivec)_mm512_unpacklo_epi32((__m512i)v[i], (__m512i)v[i + 1]);
        a[i + 1] = (ivec)_mm512_unpackhi_epi32((__m512i)v[i], (__m512i)v[i + 1]);
    }
    for (unsigned i = 0; i < 16; i += 4) {
        v[i] = (ivec)_mm512_unpacklo_epi64((__m512i)a[i], (__m512i)a[i + 2]);
        v[i + 1] = (ivec)_mm512_unpackhi_epi64((__m512i)a[i], (__m512i)a[i + 2]);
        v[i + 2] = (ivec)_mm512_unpacklo_epi64((__m512i)a[i + 1], (__m512i)a[i + 3]);
        v[i + 3] = (ivec)_mm512_unpackhi_epi64((__m512i)a[i + 1], (__m512i)a[i + 3]);
    }
    for (unsigned i = 0; i < 16; i += 8) {
        for (unsigned j = 0; j < 4; j++) {
            __m512i p = (__m512i)v[i + j], q = (__m512i)v[i + j + 4];
            a[i + j] = (ivec)_mm512_shuffle_i32x4(p, q, 0x88);
            a[i + j + 4] = (ivec)_mm512_shuffle_i32x4(p, q, 0xdd);
        }
    }
    for (unsigned j = 0; j < 8; j++) {
        __m512i p = (__m512i)a[j], q = (__m512i)a[j + 8];
        v[j] = (ivec)_mm512_shuffle_i32x4(p, q, 0x88);
        v[j + 8] = (ivec)_mm512_shuffle_i32x4(p, q, 0xdd);
    }
#else
    for (unsigned i = 0; i < 8; i += 2) {
        a[i] = (ivec)_mm256_unpacklo_epi32((__m256i)v[i], (__m256i)v[i + 1]);
        a[i + 1] = (ivec)_mm256_unpackhi_epi32((__m256i)v[i], (__m256i)v[i + 1]);
    }
    for (unsigned i = 0; i < 8; i += 4) {
        v[i] = (ivec)_mm256_unpacklo_epi64((__m256i)a[i], (__m256i)a[i + 2]);
        v[i + 1] = (ivec)_mm256_unpackhi_epi64((__m256i)a[i], (__m256i)a[i + 2]);
        v[i + 2] = (ivec)_mm256_unpacklo_epi64((__m256i)a[i + 1], (__m256i)a[i + 3]);
        v[i + 3] = (ivec)_mm256_unpackhi_epi64((__m256i)a[i + 1], (__m256i)a[i + 3]);
    }
    for (unsigned j = 0; j < 4; j++) {
        __m256i p = (__m256i)v[j], q = (__m256i)v[j + 4];
        v[j] = (ivec)_mm256_permute2x128_si256(p, q, 0x20);
        v[j + 4] = (ivec)_mm256_permute2x128_si256(p, q, 0x31);
    }
#endif
}

/* Span `at` of a strip from the opened spans of its rows. */
static void turn_span(const span *rows, bool addends, row_strip *strip, uint32_t at)
{
    ivec v[SL_VW];
    for (unsigned i = 0; i < 4 * NV; i++) { /* columns 4 · SL_VW · i … of the span */
        for (unsigned r = 0; r < SL_VW; r++)
            v[r] = rows[r].code[i / NV].v[i % NV];
        turn_round(v);
        for (unsigned j = 0; j < SL_VW; j++) {
            const unsigned quad = i % NV * SL_VW + j, lane = quad / 4 * 4 + i / NV;
            strip->run[lane][at].code[quad % 4] = v[j];
        }
    }
    for (unsigned i = 0; i < NV; i++) {
        for (unsigned r = 0; r < SL_VW; r++)
            v[r] = (ivec)rows[r].scale.v[i];
        turn_round(v);
        for (unsigned j = 0; j < SL_VW; j++)
            strip->run[SL_VW * i + j][at].scale = (vec)v[j];
        for (unsigned r = 0; addends && r < SL_VW; r++)
            v[r] = (ivec)rows[r].addend.v[i];
        if (addends) turn_round(v);
        for (unsigned j = 0; addends && j < SL_VW; j++)
            strip->run[SL_VW * i + j][at].addend = (vec)v[j];
    }
}

/* Opens columns [c, end) of `rows` rows from r on; a row that is not there is the last once more.
 */
SL_INLINE void open_strip(sl__dtype type, last_fn *open_last, const sl__rows *w, uint32_t r,
                          uint32_t rows, uint32_t cols, uint32_t c, uint32_t end, const inputs8 *x,
                          row_strip *strip)
{
    for (uint32_t at = 0; c < end; c += SPAN, at++) {
        span row[SL_VW];
        for (uint32_t i = 0; i < SL_VW; i++) {
            const uint32_t from = r + (i < rows ? i : rows - 1);
            if (i >= rows)
                row[i] = row[rows - 1];
            else if (cols - c >= SPAN)
                open_span(type, w, from, cols, c, &row[i]);
            else
                open_last(w, from, cols, c, x->end, &row[i]);
        }
        turn_span(row, adds(type, x), strip, at);
    }
}

/* Inputs of `tokens` tokens in columns [c, end). */
static void copy_inputs(const inputs8 *x, uint32_t tokens, uint32_t c, uint32_t end,
                        row_strip *strip)
{
    for (uint32_t t = 0; t < tokens; t++) {
        for (uint32_t at = 0; c + at * SPAN < end; at++) {
            const size_t g = c / SL_GROUP + 4 * at;
            unsigned char *codes = strip->codes[t] + at * SPAN;
            if (g + 4 <= x->groups) {
                memcpy(codes, x->row + t * x->row_bytes + g * SL_GROUP, SPAN);
                strip->in[t][at] = inputs_of(x, groups_at(x, t, g));
            } else {
                copy_last(x, t, g, codes, &strip->in[t][at]);
            }
        }
    }
}

/* lanes[T][16][SL_VW] += the strip's spans with T tokens. */
SL_INLINE void tile_add(code_kind kind, bool addends, const row_strip *strip, uint32_t spans,
                        float *lanes, uint32_t T)
{
    for (unsigned l = 0; l < SL_LANES; l++) {
        const unsigned char *codes = strip->codes[0] + l % 4 * SL_GROUP + l / 4 * 16;
        vec s[TILE_TOKENS];
        for (uint32_t t = 0; t < T; t++)
            s[t] = vec_load(lanes + (t * SL_LANES + l) * SL_VW);
        for (uint32_t at = 0; at < spans; at++, codes += SPAN) {
            const run16 *w = &strip->run[l][at];
            for (uint32_t t = 0; t < T; t++) {
                const span_inputs *in = &strip->in[t][at];
                const float *step = (const float *)&in->step, *total = (const float *)&in->total;
                const int32_t *extra = (const int32_t *)in->extra;
                ivec dot = run_dots(kind, set_long(extra[l]), w->code, codes + t * STRIP_COLS);
                s[t] += w->scale * vec_set1(step[l]) * __builtin_convertvector(dot, vec);
                if (addends) s[t] += w->addend * vec_set1(total[l]);
            }
        }
        for (uint32_t t = 0; t < T; t++)
            vec_store(lanes + (t * SL_LANES + l) * SL_VW, s[t]);
    }
}

SL_INLINE void tile_of(code_kind kind, bool addends, const row_strip *strip, uint32_t spans,
                       float *lanes, uint32_t tokens)
{
    switch (tokens) {
    case 1:
        tile_add(kind, addends, strip, spans, lanes, 1);
        break;
    case 2:
        tile_add(kind, addends, strip, spans, lanes, 2);
        break;
    case 3:
        tile_add(kind, addends, strip, spans, lanes, 3);
        break;
#if SL_VW == 16
    case 4:
        tile_add(kind, addends, strip, spans, lanes, 4);
        break;
    case 5:
        tile_add(kind, addends, strip, spans, lanes, 5);
        break;
    case 6:
        tile_add(kind, addends, strip, spans, lanes, 6);
        break;
    case 7:
        tile_add(kind, addends, strip, spans, lanes, 7);
        break;
#endif
    default:
        tile_add(kind, addends, strip, spans, lanes, TILE_TOKENS);
    }
}

/* Instances that the types share. */
static void any_tile(code_kind kind, bool addends, const row_strip *strip, uint32_t spans,
                     float *lanes, uint32_t tokens)
{
#if SL_SIGNED
    if (kind == CODES_5 && addends)
        tile_of(CODES_5, true, strip, spans, lanes, tokens);
    else if (kind == CODES_5)
        tile_of(CODES_5, false, strip, spans, lanes, tokens);
    else if (kind == CODES_6)
        tile_of(CODES_6, false, strip, spans, lanes, tokens);
    else
#endif
        if (addends)
        tile_of(CODES_8, true, strip, spans, lanes, tokens);
    else
        tile_of(CODES_8, false, strip, spans, lanes, tokens);
    (void)kind;
}

/* y of at most BLOCK_TOKENS tokens with up to SL_VW rows. */
SL_INLINE void strip_matmul(sl__dtype type, last_fn *open_last, const sl__rows *w, uint32_t r,
                            uint32_t rows, uint32_t cols, const inputs8 *x, uint32_t tokens,
                            float *y, size_t y_stride, row_strip *strip)
{
    float *lanes = (float *)(void *)(strip + 1);
    memset(lanes, 0, (size_t)tokens * SL_LANES * SL_VW * sizeof *lanes);
    for (uint32_t c = 0; c < cols; c += STRIP_COLS) {
        const uint32_t end = cols - c < STRIP_COLS ? cols : c + STRIP_COLS;
        const uint32_t spans = (end - c + SPAN - 1) / SPAN;
        open_strip(type, open_last, w, r, rows, cols, c, end, x, strip);
        inputs8 from = *x;
        for (uint32_t t = 0, n; t < tokens; t += n) {
            const uint32_t left = tokens - t, tiles = (left + TILE_TOKENS - 1) / TILE_TOKENS;
            n = left / tiles;
            copy_inputs(&from, n, c, end, strip);
            any_tile(kind_of(type), adds(type, x), strip, spans, lanes + t * SL_LANES * SL_VW, n);
            from.row += n * x->row_bytes;
        }
    }
    for (uint32_t t = 0; t < tokens; t++, lanes += SL_LANES * SL_VW) {
        vec s[SL_LANES];
        memcpy(s, lanes, sizeof s);
        for (unsigned half = 8; half > 0; half /= 2) {
            for (unsigned i = 0; i < half; i++)
                s[i] += s[i + half];
        }
        memcpy(y + t * y_stride + r, &s[0], rows * sizeof *y);
    }
}

SL_INLINE void matmul_of(sl__dtype type, last_fn *open_last, const sl__rows *w, uint32_t rows,
                         uint32_t cols, const inputs8 *x, uint32_t tokens, float *y,
                         size_t y_stride, float *tmp)
{
    row_strip *strip = (row_strip *)(void *)(((uintptr_t)tmp + 63) / 64 * 64);
    if (tokens <= FEW_TOKENS) {
        few_tokens(type, open_last, w, rows, cols, x, tokens, y, y_stride);
        return;
    }
    for (uint32_t t = 0; t < tokens; t += BLOCK_TOKENS) {
        const uint32_t n = tokens - t < BLOCK_TOKENS ? tokens - t : BLOCK_TOKENS;
        inputs8 block = *x;
        block.row += t * x->row_bytes;
        for (uint32_t r = 0; r < rows; r += SL_VW)
            strip_matmul(type, open_last, w, r, rows - r < SL_VW ? rows - r : SL_VW, cols, &block,
                         n, y + t * y_stride, y_stride, strip);
    }
}

typedef void rows_fn(const sl__rows *w, uint32_t rows, uint32_t cols, const inputs8 *x,
                     uint32_t tokens, float *y, size_t y_stride, float *tmp);

/* An instance of its own for every type that is opened in line. */
#define ROWS_OF(name, type)                                                                        \
    static                                                                                         \
        __attribute__((noinline)) void name##_last(const sl__rows *w, uint32_t r, uint32_t cols,   \
                                                   uint32_t c, const unsigned char *end, span *o)  \
    {                                                                                              \
        open_last_span(type, w, r, cols, c, end, o);                                               \
    }                                                                                              \
    static __attribute__((noinline)) void name(const sl__rows *w, uint32_t rows, uint32_t cols,    \
                                               const inputs8 *x, uint32_t tokens, float *y,        \
                                               size_t y_stride, float *tmp)                        \
    {                                                                                              \
        matmul_of(type, name##_last, w, rows, cols, x, tokens, y, y_stride, tmp);                  \
    }
ROWS_OF(rows_q4_0, SL_Q4_0)
ROWS_OF(rows_q4_1, SL_Q4_1)
ROWS_OF(rows_q5_0, SL_Q5_0)
ROWS_OF(rows_q5_1, SL_Q5_1)
ROWS_OF(rows_q8_0, SL_Q8_0)
ROWS_OF(rows_iq4_nl, SL_IQ4_NL)
ROWS_OF(rows_mxfp4_block, SL_MXFP4_BLOCK)
ROWS_OF(rows_q2_k, SL_Q2_K)
ROWS_OF(rows_q3_k, SL_Q3_K)
ROWS_OF(rows_q4_k, SL_Q4_K)
ROWS_OF(rows_q5_k, SL_Q5_K)
ROWS_OF(rows_q6_k, SL_Q6_K)
ROWS_OF(rows_iq4_xs, SL_IQ4_XS)
ROWS_OF(rows_affine2, SL_AFFINE2)
ROWS_OF(rows_affine4, SL_AFFINE4)
ROWS_OF(rows_affine8, SL_AFFINE8)
ROWS_OF(rows_mxfp4, SL_MXFP4)
ROWS_OF(rows_any, ANY_TYPE)

static rows_fn *rows_of(sl__dtype type)
{
    switch (type) {
    case SL_Q4_0:
        return rows_q4_0;
    case SL_Q4_1:
        return rows_q4_1;
    case SL_Q5_0:
        return rows_q5_0;
    case SL_Q5_1:
        return rows_q5_1;
    case SL_Q8_0:
        return rows_q8_0;
    case SL_IQ4_NL:
        return rows_iq4_nl;
    case SL_MXFP4_BLOCK:
        return rows_mxfp4_block;
    case SL_Q2_K:
        return rows_q2_k;
    case SL_Q3_K:
        return rows_q3_k;
    case SL_Q4_K:
        return rows_q4_k;
    case SL_Q5_K:
        return rows_q5_k;
    case SL_Q6_K:
        return rows_q6_k;
    case SL_IQ4_XS:
        return rows_iq4_xs;
    case SL_AFFINE2:
        return rows_affine2;
    case SL_AFFINE4:
        return rows_affine4;
    case SL_AFFINE8:
        return rows_affine8;
    case SL_MXFP4:
        return rows_mxfp4;
    default:
        return rows_any;
    }
}

static void matmul_q8(const sl__rows *w, uint32_t rows, uint32_t cols, const void *x,
                      uint32_t tokens, float *y, size_t y_stride, float *tmp)
{
    const unsigned offset = offset_of(w);
    uint64_t bytes = 0; /* of a row, without what lies between rows */
    inputs8 all = {.row = x,
                   .row_bytes = sl__q8_row_bytes(cols),
                   .groups = sl__q8_groups(cols),
                   .shift = offset ? (unsigned)__builtin_ctz(offset) : 32,
                   .addends = rows_have_addends(w)};
    assert(sl__dtype_row_bytes(w->dtype, cols, &bytes) && rows > 0);
    all.end = (const unsigned char *)w->data + (rows - 1) * w->row_bytes + bytes;
    _Static_assert(64 + sizeof(row_strip) <= SL_Q8_STRIP_TMP * sizeof(float),
                   "tmp holds the strip");
    assert(sl__dtype_has_q8_rows(w->dtype));
    rows_of(w->dtype)(w, rows, cols, &all, tokens, y, y_stride, tmp);
}

#endif
