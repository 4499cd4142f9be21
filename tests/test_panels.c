/* Panels: rows go in and come out unchanged, and products with them are those of the rows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/panels.h"
#include "kern/kern.h"
#include "quant/quant.h"

static const sl__dtype types[] = {SL_Q8, SL_Q4, SL_Q3, SL_Q2};
#define TYPES (sizeof types / sizeof types[0])

struct matrix {
    sl__dtype type;
    uint32_t rows, cols;
    size_t row_bytes;
    unsigned char *data, *panels; /* as rows, as panels */
};

static float noise(uint64_t *seed)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (float)((double)(*seed >> 11) / 9007199254740992.0 - 0.5);
}

static struct matrix make_matrix(sl__dtype type, uint32_t rows, uint32_t cols, uint64_t *seed)
{
    struct matrix m = {.type = type, .rows = rows, .cols = cols};
    uint64_t bytes;
    float *row = malloc(cols * sizeof *row);
    assert_true(sl__dtype_row_bytes(type, cols, &bytes));
    m.row_bytes = (size_t)bytes;
    m.data = malloc(rows * m.row_bytes);
    m.panels = malloc((size_t)sl__panels_rows(rows) * m.row_bytes);
    memset(m.panels, 0xa5, (size_t)sl__panels_rows(rows) * m.row_bytes);
    for (uint32_t r = 0; r < rows; r++) {
        for (uint32_t c = 0; c < cols; c++)
            row[c] = noise(seed);
        assert_int_equal(sl__quant_row(type, row, cols, m.data + r * m.row_bytes, NULL), SL_OK);
    }
    for (uint32_t r = 0; r < rows; r++) {
        unsigned char *panel = m.panels + r / SL_PANEL_ROWS * SL_PANEL_ROWS * m.row_bytes;
        sl__panel_put_row(type, m.data + r * m.row_bytes, cols, panel, r % SL_PANEL_ROWS);
    }
    free(row);
    return m;
}

static void free_matrix(struct matrix *m)
{
    free(m->data);
    free(m->panels);
}

static void rows_come_out_as_they_went_in(void **state)
{
    (void)state;
    static const uint32_t shapes[][2] = {{1, 1}, {16, 64}, {17, 65}, {40, 300}, {5, 128}};
    uint64_t seed = 1;
    for (size_t i = 0; i < TYPES * 5; i++) {
        struct matrix m = make_matrix(types[i % TYPES], shapes[i / TYPES][0], shapes[i / TYPES][1],
                                      &seed);
        unsigned char *row = malloc(m.row_bytes);
        for (uint32_t r = 0; r < m.rows; r++) {
            const unsigned char *panel =
                m.panels + r / SL_PANEL_ROWS * SL_PANEL_ROWS * m.row_bytes;
            sl__panel_get_row(m.type, panel, r % SL_PANEL_ROWS, m.cols, row);
            assert_memory_equal(row, m.data + r * m.row_bytes, m.row_bytes);
        }
        free(row);
        free_matrix(&m);
    }
}

static void the_layout_is_the_documented_one(void **state)
{
    (void)state;
    unsigned char row[68] = {0}, panel[16 * 68] = {0};
    row[0] = 1; /* scale 1, minimum 2, code c is c */
    row[2] = 2;
    for (unsigned c = 0; c < 64; c++)
        row[4 + c] = (unsigned char)c;
    sl__panel_put_row(SL_Q8, row, 64, panel, 3);
    assert_int_equal(panel[2 * 3], 1);
    assert_int_equal(panel[32 + 2 * 3], 2);
    for (unsigned c = 0; c < 64; c++)
        assert_int_equal(panel[64 + c / 4 * 64 + 4 * 3 + c % 4], c);
    unsigned char row4[36] = {0}, panel4[16 * 36] = {0};
    row4[4 + 5] = 0x97; /* column 5 is 7, column 37 is 9 */
    sl__panel_put_row(SL_Q4, row4, 64, panel4, 15);
    assert_int_equal(panel4[64 + 64 + 4 * 15 + 1], 0x97);
    unsigned char row3[28] = {0}, panel3[16 * 28] = {0};
    row3[4 + 9] = 3 << 4;      /* column 41 is 3 … */
    row3[4 + 16 + 5] = 1 << 1; /* … plus 4 */
    sl__panel_put_row(SL_Q3, row3, 64, panel3, 0);
    assert_int_equal(panel3[64 + 2 * 64 + 1], 3 << 4);        /* vector 9 / 4, byte 9 % 4 */
    assert_int_equal(panel3[64 + 256 + 64 + 1], 1 << (0 + 2)); /* vector 2 / 2, bit 4·0 + 2 */
}

/* The product in double, of the weights as they are and of x. */
static double exact(const struct matrix *m, const sl__kern *kern, uint32_t r, const float *x,
                    double *size)
{
    float *w = malloc(m->cols * sizeof *w);
    double sum = 0;
    *size = 0;
    kern->dequant_row(m->type, m->data + r * m->row_bytes, NULL, w, m->cols);
    for (uint32_t c = 0; c < m->cols; c++) {
        sum += (double)w[c] * (double)x[c];
        *size += fabs((double)w[c] * (double)x[c]);
    }
    free(w);
    return sum;
}

static void products_are_those_of_the_rows(void **state)
{
    (void)state;
    enum { ROWS = 37, COLS = 333, TOKENS = 3 };
    sl__kern kern;
    uint64_t seed = 7;
    sl__kern_init(&kern, NULL);
    float *x = malloc(TOKENS * COLS * sizeof *x), *y = malloc(TOKENS * ROWS * sizeof *y);
    float *y8 = malloc(TOKENS * ROWS * sizeof *y8);
    float *tmp = malloc((sl__kern_matmul_tmp(COLS, TOKENS) + sl__kern_q8_tmp(COLS, TOKENS)) * 4);
    void *x8 = malloc(TOKENS * sl__q8_row_bytes(COLS));
    for (uint32_t i = 0; i < TOKENS * COLS; i++)
        x[i] = noise(&seed);
    kern.quantise_rows(x, COLS, 0, COLS, COLS, TOKENS, x8);
    for (size_t i = 0; i < TYPES; i++) {
        struct matrix m = make_matrix(types[i], ROWS, COLS, &seed);
        kern.panel_matmul(m.type, m.panels, m.row_bytes, ROWS, COLS, x, COLS, TOKENS, y, ROWS, tmp);
        kern.panel_matmul_q8(m.type, m.panels, m.row_bytes, ROWS, COLS, x8, TOKENS, y8, ROWS, tmp);
        for (uint32_t t = 0; t < TOKENS; t++) {
            for (uint32_t r = 0; r < ROWS; r++) {
                double size, sum = exact(&m, &kern, r, x + t * COLS, &size);
                assert_true(fabs((double)y[t * ROWS + r] - sum) <= 1e-6 * size);
                /* Half a step of a 127th of the largest is at most 0.5/127 of what it rounds; the
                 * mean of |x| is half of the largest here. */
                assert_true(fabs((double)y8[t * ROWS + r] - sum) <= 0.008 * size);
            }
        }
        free_matrix(&m);
    }
    free(x);
    free(y);
    free(y8);
    free(tmp);
    free(x8);
}

static void activations_are_rounded_as_documented(void **state)
{
    (void)state;
    enum { COLS = 150 };
    sl__kern kern;
    float x[COLS];
    _Alignas(64) unsigned char row[(3 * (64 + sizeof(sl__q8_group)) + 63) / 64 * 64];
    sl__q8_group group[3];
    sl__kern_init(&kern, NULL);
    assert_int_equal(sl__q8_row_bytes(COLS), sizeof row);
    memset(row, 0xee, sizeof row);
    for (uint32_t i = 0; i < COLS; i++)
        x[i] = i < 64 ? (float)i : i < 128 ? 1e-35f : i == 140 ? INFINITY : 1.0f;
    x[63] = -127;
    kern.quantise_rows(x, COLS, 0, COLS, COLS, 1, row);
    memcpy(group, row + 3 * 64, sizeof group);
    for (int i = 0; i < 63; i++)
        assert_int_equal((int8_t)row[i], i);
    assert_int_equal((int8_t)row[63], -127);
    assert_true(group[0].step == 1.0f && group[0].sums[0] == 120);
    assert_true(group[0].total == (float)(62 * 63 / 2 - 127));
    assert_true(group[1].step == 0 && group[1].total == 0 && row[64] == 0);
    assert_true(isnan(group[2].step) && isnan(group[2].total) && row[128] == 0);
}

/* ---- the levels against ref ------------------------------------------------------------------ */

static const char *const levels[] = {"avx2", "avxvnni",  "avx512",  "avx512vnni", "amx",
                                     "neon", "neon_dot", "neon_i8mm"};
#define LEVELS (sizeof levels / sizeof levels[0])

enum { CANARY = 0x5a, MARGIN = 64 };

/* Memory of `bytes` that begins `off` bytes after an aligned address, canaries around it. */
struct guarded {
    unsigned char *base, *at;
    size_t bytes;
};

static struct guarded guard(size_t bytes, size_t off)
{
    struct guarded m = {.bytes = bytes};
    m.base = aligned_alloc(64, (bytes + off + 2 * MARGIN + 63) / 64 * 64);
    assert_non_null(m.base);
    memset(m.base, CANARY, bytes + off + 2 * MARGIN);
    m.at = m.base + MARGIN + off;
    return m;
}

static void assert_guarded(const struct guarded *m)
{
    for (const unsigned char *p = m->base; p < m->at; p++)
        assert_int_equal(*p, CANARY);
    for (unsigned i = 0; i < MARGIN; i++)
        assert_int_equal(m->at[m->bytes + i], CANARY);
}

static uint32_t below(uint64_t *seed, uint32_t n)
{
    return (uint32_t)(((double)noise(seed) + 0.5) * n) % n;
}

/* Any codes at all, and now and then a scale that is none. */
static void fill_panels(unsigned char *p, size_t bytes, size_t block_bytes, uint64_t *seed)
{
    static const uint16_t odd[] = {0, 0x8000, 0x7f7f, 0xff7f, 0x7f80, 0x7fc0, 0x0001, 0x0080};
    for (size_t i = 0; i < bytes; i++)
        p[i] = (unsigned char)below(seed, 256);
    for (size_t b = 0; b < bytes; b += block_bytes) {
        for (uint32_t i = 0; i < 2 * SL_PANEL_ROWS; i++) {
            uint16_t h = sl__f32_to_bf16(noise(seed));
            if (below(seed, 400) == 0) h = odd[below(seed, 8)];
            memcpy(p + b + 2 * i, &h, sizeof h);
        }
    }
}

/* Groups of every kind: usual, all zero, tiny, huge, with an infinity or NaN, ties. */
static void fill_activations(float *x, uint32_t cols, uint64_t *seed)
{
    uint32_t kind = 0;
    for (uint32_t c = 0; c < cols; c++) {
        if (c % SL_GROUP == 0) kind = below(seed, 40);
        x[c] = noise(seed);
        if (kind == 1) x[c] = 0;
        if (kind == 2) x[c] *= 1e-36f;
        if (kind == 3) x[c] *= 3e38f;
        if (kind == 4 && below(seed, 30) == 0) x[c] = below(seed, 2) ? INFINITY : -INFINITY;
        if (kind == 5 && below(seed, 30) == 0) x[c] = below(seed, 2) ? NAN : -NAN;
        if (kind == 6) x[c] = (float)below(seed, 255) / 2 - 63.5f;
        if (kind == 7) x[c] = c % 2 ? -0.0f : 1e-40f;
    }
}

/* Of a NaN only that it is one is the same everywhere. */
static void assert_same_floats(const float *a, const float *b, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        if (memcmp(a + i, b + i, sizeof *a) != 0) assert_true(isnan(a[i]) && isnan(b[i]));
    }
}

struct product {
    sl__dtype type;
    uint32_t rows, cols, tokens;
    size_t row_bytes, x_stride, y_stride, off;
    struct guarded w, x, x8;
};

static struct product make_product(sl__dtype type, uint32_t rows, uint32_t cols, uint32_t tokens,
                                   size_t off, uint64_t *seed)
{
    struct product p = {.type = type, .rows = rows, .cols = cols, .tokens = tokens, .off = off};
    uint64_t bytes;
    assert_true(sl__dtype_row_bytes(type, cols, &bytes));
    p.row_bytes = (size_t)bytes;
    p.x_stride = cols + below(seed, 9);
    p.y_stride = rows + below(seed, 9);
    p.w = guard((size_t)sl__panels_rows(rows) * p.row_bytes, off);
    p.x = guard(((tokens - 1) * p.x_stride + cols) * sizeof(float), off * 4 % 64);
    p.x8 = guard(tokens * sl__q8_row_bytes(cols), off);
    fill_panels(p.w.at, p.w.bytes, SL_PANEL_ROWS * sl__dtype_block_bytes(type), seed);
    memset(p.x.at, 0xff, p.x.bytes); /* NaN between the rows */
    memset(p.x8.at, 0, p.x8.bytes);
    for (uint32_t t = 0; t < tokens; t++)
        fill_activations((float *)(void *)p.x.at + t * p.x_stride, cols, seed);
    return p;
}

static void free_product(struct product *p)
{
    free(p->w.base);
    free(p->x.base);
    free(p->x8.base);
}

/* Both products, one behind the other. */
static struct guarded multiply(const sl__kern *kern, const struct product *p)
{
    const size_t each = p->tokens * p->y_stride;
    struct guarded y = guard(2 * each * sizeof(float), p->off * 4 % 64);
    struct guarded tmp = guard(sl__kern_matmul_tmp(p->cols, p->tokens) * sizeof(float), 4);
    struct guarded tmp8 = guard(sl__kern_q8_tmp(p->cols, p->tokens) * sizeof(float), 20);
    float *to = (float *)(void *)y.at;
    kern->panel_matmul(p->type, p->w.at, p->row_bytes, p->rows, p->cols,
                       (const float *)(const void *)p->x.at, p->x_stride, p->tokens, to,
                       p->y_stride, (float *)(void *)tmp.at);
    kern->panel_matmul_q8(p->type, p->w.at, p->row_bytes, p->rows, p->cols, p->x8.at, p->tokens,
                          to + each, p->y_stride, (float *)(void *)tmp8.at);
    assert_guarded(&y);
    assert_guarded(&tmp);
    assert_guarded(&tmp8);
    free(tmp.base);
    free(tmp8.base);
    for (size_t t = 0; t < 2 * p->tokens; t++) { /* nothing is written between the rows of y */
        for (size_t i = p->rows * sizeof(float); i < p->y_stride * sizeof(float); i++)
            assert_int_equal(y.at[t * p->y_stride * sizeof(float) + i], CANARY);
    }
    return y;
}

/* In one call or in two, whose boundary is a group's. */
static void quantise(const sl__kern *kern, const struct product *p, uint32_t cut, void *out)
{
    const float *x = (const float *)(const void *)p->x.at;
    kern->quantise_rows(x, p->x_stride, 0, cut, p->cols, p->tokens, out);
    kern->quantise_rows(x + cut, p->x_stride, cut, p->cols, p->cols, p->tokens, out);
}

static void assert_same_activations(const struct product *p, const unsigned char *out)
{
    const size_t groups = sl__q8_groups(p->cols), row = sl__q8_row_bytes(p->cols);
    for (uint32_t t = 0; t < p->tokens; t++) {
        const unsigned char *a = p->x8.at + t * row, *b = out + t * row;
        assert_memory_equal(a, b, groups * SL_GROUP);
        for (size_t g = 0; g < groups; g++) {
            sl__q8_group ga, gb;
            memcpy(&ga, a + groups * SL_GROUP + g * sizeof ga, sizeof ga);
            memcpy(&gb, b + groups * SL_GROUP + g * sizeof gb, sizeof gb);
            assert_same_floats(&ga.step, &gb.step, 1);
            assert_same_floats(&ga.total, &gb.total, 1);
            assert_memory_equal(ga.sums, gb.sums, sizeof ga.sums);
        }
    }
}

/* Every level that runs here; false where none does. */
static bool compare_levels(struct product *p, uint64_t *seed)
{
    sl__kern ref, kern;
    bool any = false;
    sl__kern_init(&ref, "ref");
    quantise(&ref, p, 0, p->x8.at);
    struct guarded expected = multiply(&ref, p);
    for (size_t l = 0; l < LEVELS; l++) {
        sl__kern_init(&kern, levels[l]);
        if (strcmp(kern.level, levels[l]) != 0) continue;
        struct guarded rounded = guard(p->x8.bytes, p->off);
        uint32_t cut = below(seed, p->cols / SL_GROUP + 1) * SL_GROUP;
        memset(rounded.at, 0, rounded.bytes);
        quantise(&kern, p, cut, rounded.at);
        assert_guarded(&rounded);
        assert_same_activations(p, rounded.at);
        struct guarded y = multiply(&kern, p);
        for (size_t t = 0; t < 2 * p->tokens; t++)
            assert_same_floats((float *)(void *)expected.at + t * p->y_stride,
                               (float *)(void *)y.at + t * p->y_stride, p->rows);
        free(rounded.base);
        free(y.base);
        any = true;
    }
    free(expected.base);
    return any;
}

static void levels_have_the_bits_of_ref(void **state)
{
    (void)state;
    const uint32_t rounds = getenv("SLUICE_TEST_FAST") ? 60 : 400;
    uint64_t seed = 11;
    for (uint32_t i = 0; i < rounds; i++) {
        uint32_t rows = 1 + below(&seed, 70), cols = 1 + below(&seed, 700);
        uint32_t tokens = 1 + below(&seed, i % 4 == 0 ? 40 : 8);
        if (i % 3 == 0) tokens = 1;
        struct product p = make_product(types[i % TYPES], rows, cols, tokens, below(&seed, 64),
                                        &seed);
        bool any = compare_levels(&p, &seed);
        free_product(&p);
        if (!any) skip();
    }
}

/* Sums that are as large as they can be, where a level might add them up in too few bits. */
static void the_largest_codes_add_up(void **state)
{
    (void)state;
    uint64_t seed = 12;
    for (uint32_t i = 0; i < TYPES * 6; i++) {
        struct product p = make_product(types[i % TYPES], 33, 128, i / TYPES % 2 ? 7 : 1, 0, &seed);
        float *x = (float *)(void *)p.x.at;
        for (uint32_t t = 0; t < p.tokens; t++) {
            for (uint32_t c = 0; c < p.cols; c++)
                x[t * p.x_stride + c] = i / TYPES / 2 == 0 ? 1.0f : i / TYPES / 2 == 1 ? -1.0f
                                        : c % 2            ? 1.0f
                                                           : -1.0f;
        }
        size_t block_bytes = SL_PANEL_ROWS * sl__dtype_block_bytes(p.type);
        for (size_t b = 0; b < p.w.bytes; b += block_bytes)
            memset(p.w.at + b + 64, 0xff, block_bytes - 64);
        compare_levels(&p, &seed);
        free_product(&p);
    }
}

/* More tokens and more rows than are worked on in one go; a token alone has the same bits. */
static void tokens_do_not_change_each_other(void **state)
{
    (void)state;
    uint64_t seed = 13;
    for (size_t i = 0; i < TYPES; i++) {
        struct product p = make_product(types[i], 600, 704, 35, 0, &seed);
        sl__kern kern;
        sl__kern_init(&kern, NULL);
        quantise(&kern, &p, 64, p.x8.at);
        struct guarded all = multiply(&kern, &p);
        for (uint32_t t = 0; t < p.tokens; t += t < 30 ? 7 : 1) {
            struct product one = p;
            one.tokens = 1;
            one.x.at += t * p.x_stride * sizeof(float);
            one.x8.at += t * sl__q8_row_bytes(p.cols);
            struct guarded y = multiply(&kern, &one);
            for (uint32_t k = 0; k < 2; k++)
                assert_same_floats((float *)(void *)all.at + (k * p.tokens + t) * p.y_stride,
                                   (float *)(void *)y.at + k * p.y_stride, p.rows);
            free(y.base);
        }
        free(all.base);
        free_product(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_come_out_as_they_went_in),
        cmocka_unit_test(the_layout_is_the_documented_one),
        cmocka_unit_test(products_are_those_of_the_rows),
        cmocka_unit_test(activations_are_rounded_as_documented),
        cmocka_unit_test(levels_have_the_bits_of_ref),
        cmocka_unit_test(the_largest_codes_add_up),
        cmocka_unit_test(tokens_do_not_change_each_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
