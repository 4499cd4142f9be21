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
    sl__kern kern;
    sl__kern_init(&kern, NULL);
    float *row = malloc(cols * sizeof *row);
    assert_true(sl__dtype_row_bytes(type, cols, &bytes));
    m.row_bytes = (size_t)bytes;
    m.data = malloc(rows * m.row_bytes);
    m.panels = malloc((size_t)sl__panels_rows(rows) * m.row_bytes);
    memset(m.panels, 0xa5, (size_t)sl__panels_rows(rows) * m.row_bytes);
    for (uint32_t r = 0; r < rows; r++) {
        for (uint32_t c = 0; c < cols; c++)
            row[c] = noise(seed);
        assert_int_equal(
            sl__quant_row(&kern, type, row, cols, m.data + r * m.row_bytes, NULL, NULL), SL_OK);
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
    const sl__rows row = {.dtype = m->type, .data = m->data + r * m->row_bytes};
    double sum = 0;
    *size = 0;
    kern->dequant_row(&row, 0, w, m->cols);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_come_out_as_they_went_in),
        cmocka_unit_test(the_layout_is_the_documented_one),
        cmocka_unit_test(products_are_those_of_the_rows),
        cmocka_unit_test(activations_are_rounded_as_documented),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
