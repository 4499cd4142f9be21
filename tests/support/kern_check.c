#include "kern_check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sluice.h"

static uint64_t random_state;

void check_seed(uint64_t seed)
{
    random_state = seed;
}

uint32_t random_u32(void)
{
    random_state += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t z = random_state;
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (uint32_t)(z >> 32);
}

float random_float(float lowest, float highest)
{
    return lowest + (highest - lowest) * ((float)(random_u32() >> 8) * 0x1p-24f);
}

#define CANARY       0xa5
#define CANARY_BYTES 64u
#define BUFFERS      256u

/* Guarded memory of the running test: bytes between canaries, freed by check_buffers. */
static struct {
    unsigned char *base;
    size_t size, before;
} buffers[BUFFERS];
static unsigned buffer_count;

void *guarded(size_t size, size_t offset)
{
    size_t before = CANARY_BYTES + offset;
    unsigned char *base = malloc(before + size + CANARY_BYTES);
    assert_non_null(base);
    assert_true(buffer_count < BUFFERS);
    memset(base, CANARY, before + size + CANARY_BYTES);
    buffers[buffer_count].base = base;
    buffers[buffer_count].size = size;
    buffers[buffer_count++].before = before;
    return base + before;
}

float *floats(size_t n)
{
    float *p = guarded(n * sizeof(float), 4 * (random_u32() % 4));
    for (size_t i = 0; i < n; i++)
        p[i] = NAN;
    return p;
}

float *random_floats(size_t n)
{
    float *p = floats(n);
    for (size_t i = 0; i < n; i++)
        p[i] = random_float(-1, 1);
    return p;
}

void check_buffers(void)
{
    while (buffer_count > 0) {
        buffer_count--;
        unsigned char *base = buffers[buffer_count].base;
        size_t before = buffers[buffer_count].before, size = buffers[buffer_count].size;
        for (size_t i = 0; i < before + size + CANARY_BYTES; i++) {
            if (i == before) i += size;
            if (base[i] != CANARY) fail_msg("a canary was overwritten at %zu of %zu", i, size);
        }
        free(base);
    }
}

void assert_bits(const float *got, const float *want, size_t n, const char *what)
{
    for (size_t i = 0; i < n; i++) {
        if (memcmp(&got[i], &want[i], sizeof(float)) == 0) continue;
        if (isnan(got[i]) && isnan(want[i])) continue;
        fail_msg("%s: [%zu] of %zu is %a, not %a", what, i, n, (double)got[i], (double)want[i]);
    }
}

void assert_near(const float *got, const double *want, size_t n, double bound, const char *what)
{
    double difference = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        double d = (double)got[i] - want[i];
        difference += d * d;
        norm += want[i] * want[i];
    }
    if (!(sqrt(difference) <= bound * sqrt(norm) + 1e-300))
        fail_msg("%s: off by %g of %g", what, sqrt(difference), sqrt(norm));
}

sl__kern levels[8];
unsigned level_count;

int find_levels(void **state)
{
    (void)state;
    for (uint32_t i = 0; sl_cpu_level_name(i) && level_count < 8; i++)
        if (sl__kern_init(&levels[level_count], sl_cpu_level_name(i))) level_count++;
    for (unsigned i = 0; i < level_count; i++)
        printf("level %s\n", levels[i].level);
    return 0;
}
