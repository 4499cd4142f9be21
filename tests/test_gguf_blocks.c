/* GGUF's blocks as floats: the vectors of data/gguf_blocks, and blocks of every type with the
 * floats that another implementation makes of them, bit for bit, on every level. SLUICE_GGUF_BLOCKS
 * names a larger file of blocks; tools/make_gguf_blocks.py writes such files and says how they
 * look. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kern/block_grids.h"
#include "kern_check.h"
#include "plain_blocks.h"
#include "test_env.h"

#define BLOCK_TYPES (SL_IQ3_S - SL_Q4_0 + 1)

/* ---- vectors --------------------------------------------------------------------------------- */

static void fill_vector(sl__dtype type, unsigned char *block)
{
    static const unsigned char halves[2][2] = {{0x00, 0x3c}, {0x00, 0x38}}; /* 1, 0.5 */
    int at[2];
    for (unsigned i = 0; i < sl__dtype_block_bytes(type); i++)
        block[i] = (unsigned char)(37 * i + 11);
    block_halves(type, at);
    for (unsigned i = 0; i < 2; i++) {
        if (at[i] >= 0) memcpy(block + at[i], halves[i], 2);
    }
    if (type == SL_MXFP4_BLOCK) block[0] = 128;
    if (type == SL_NVFP4) memcpy(block, "\x38\x40\x48\x50", 4);
}

static void check_vector(sl__dtype type, const double want[6])
{
    uint32_t w = sl__dtype_block_weights(type);
    unsigned char block[256];
    float y[256];
    fill_vector(type, block);
    for
        EACH_LEVEL(kern)
        {
            double sum = 0, weighted = 0;
            kern->dequant_row(&(sl__rows){.dtype = type, .data = block}, 0, y, w);
            for (uint32_t i = 0; i < w; i++) {
                sum += (double)y[i];
                weighted += (i + 1) * (double)y[i];
            }
            double got[6] = {(double)y[0],     (double)y[1], (double)y[w / 2],
                             (double)y[w - 1], sum,          weighted};
            for (unsigned i = 0; i < 6; i++) {
                if (got[i] != want[i]) /* exact: all of these sums are */
                    fail_msg("%s %s: figure %u is %g, not %g", kern->level, sl__dtype_name(type), i,
                             got[i], want[i]);
            }
        }
}

static void test_vectors(void **state)
{
    (void)state;
    FILE *file = fopen("data/gguf_blocks/vectors.txt", "r");
    assert_non_null(file);
    char line[256];
    unsigned seen = 0;
    while (fgets(line, sizeof line, file)) {
        if (line[0] == '#') continue;
        char name[16];
        double want[6];
        sl__dtype type;
        assert_int_equal(sscanf(line, "%15s %lf %lf %lf %lf %lf %lf", name, &want[0], &want[1],
                                &want[2], &want[3], &want[4], &want[5]),
                         7);
        assert_true(sl__dtype_parse(name, &type) && sl__dtype_is_block(type));
        check_vector(type, want);
        seen++;
    }
    fclose(file);
    assert_int_equal(seen, BLOCK_TYPES);
}

/* ---- blocks with their floats ---------------------------------------------------------------- */

typedef struct record {
    char name[16];
    uint32_t blocks, block_bytes, weights;
} record;

static void check_record(const record *head, const unsigned char *blocks, const float *want)
{
    sl__dtype type;
    char what[64];
    assert_true(sl__dtype_parse(head->name, &type) && sl__dtype_is_block(type));
    assert_int_equal(sl__dtype_block_bytes(type), head->block_bytes);
    assert_int_equal(sl__dtype_block_weights(type), head->weights);
    uint32_t n = head->blocks * head->weights;
    float *out = calloc(n, sizeof *out);
    assert_non_null(out);
    for
        EACH_LEVEL(kern)
        {
            snprintf(what, sizeof what, "%s %s", kern->level, head->name);
            kern->dequant_row(&(sl__rows){.dtype = type, .data = blocks}, 0, out, n);
            assert_bits(out, want, n, what);
        }
    for (uint32_t i = 0; i < n; i++)
        out[i] = plain_block_weight(type, blocks, i);
    assert_bits(out, want, n, head->name);
    free(out);
}

static void check_file(const char *path)
{
    size_t size, at = 0;
    unsigned seen = 0;
    unsigned long long total = 0;
    char *data = test_read_file(path, &size);
    while (at < size) {
        record head;
        assert_true(size - at >= 28);
        memcpy(&head, data + at, 28);
        assert_int_equal(head.name[15], '\0');
        at += 28;
        size_t block_bytes = (size_t)head.blocks * head.block_bytes;
        size_t floats_count = (size_t)head.blocks * head.weights;
        assert_true(size - at >= block_bytes + 4 * floats_count);
        float *want = malloc(4 * floats_count);
        assert_non_null(want);
        memcpy(want, data + at + block_bytes, 4 * floats_count);
        check_record(&head, (const unsigned char *)data + at, want);
        free(want);
        at += block_bytes + 4 * floats_count;
        total += head.blocks;
        seen++;
    }
    free(data);
    assert_int_equal(seen, BLOCK_TYPES);
    printf("%llu blocks of %u types\n", total, seen);
}

static void test_sample(void **state)
{
    (void)state;
    check_file("data/gguf_blocks/sample.bin");
}

static void test_larger_file(void **state)
{
    (void)state;
    const char *path = getenv("SLUICE_GGUF_BLOCKS");
    if (!path) {
        printf("SLUICE_GGUF_BLOCKS names no larger file\n");
        return;
    }
    check_file(path);
}

/* ---- scales and grids ------------------------------------------------------------------------ */

/* Every scale of the two fp4 types with every code. */
static void test_fp4_scales(void **state)
{
    (void)state;
    unsigned char row[256 * 36];
    float *want = floats(256 * 64), *out = floats(256 * 64);
    static const sl__dtype types[] = {SL_MXFP4_BLOCK, SL_NVFP4};
    for (unsigned t = 0; t < 2; t++) {
        uint32_t bytes = sl__dtype_block_bytes(types[t]),
                 weights = sl__dtype_block_weights(types[t]);
        for (unsigned s = 0; s < 256; s++) {
            unsigned char *block = row + s * bytes;
            for (unsigned i = 0; i < bytes; i++)
                block[i] = (unsigned char)(17 * i);
            memset(block, (int)s, types[t] == SL_NVFP4 ? 4 : 1);
        }
        for (uint32_t i = 0; i < 256 * weights; i++)
            want[i] = plain_block_weight(types[t], row, i);
        const sl__rows rows = {.dtype = types[t], .data = row};
        for
            EACH_LEVEL(kern)
            {
                kern->dequant_row(&rows, 0, out, 256 * weights);
                assert_bits(out, want, 256 * weights, kern->level);
            }
    }
    check_buffers();
}

/* The whole of each grid, beyond the entries that blocks happened to name. The sums are those of
 * the published tables, byte by byte with the place as the factor. */
static void test_grids(void **state)
{
    (void)state;
    static const struct {
        const void *grid;
        size_t bytes;
        unsigned long long sum, placed;
    } grids[] = {
        {sl__grid2xxs, sizeof sl__grid2xxs, 38611, 42100955},
        {sl__grid2xs, sizeof sl__grid2xs, 81582, 182044374},
        {sl__grid2s, sizeof sl__grid2s, 167589, 720245922},
        {sl__grid3xxs, sizeof sl__grid3xxs, 25592, 14912868},
        {sl__grid3s, sizeof sl__grid3s, 12748, 14404362},
    };
    for (unsigned g = 0; g < sizeof grids / sizeof grids[0]; g++) {
        const unsigned char *p = grids[g].grid;
        unsigned long long sum = 0, placed = 0;
        for (size_t i = 0; i < grids[g].bytes; i++) {
            sum += p[i];
            placed += (i + 1) * p[i];
        }
        assert_int_equal(sum, grids[g].sum);
        assert_int_equal(placed, grids[g].placed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),     cmocka_unit_test(test_sample),
        cmocka_unit_test(test_larger_file), cmocka_unit_test(test_fp4_scales),
        cmocka_unit_test(test_grids),
    };
    return cmocka_run_group_tests(tests, find_levels, NULL);
}
