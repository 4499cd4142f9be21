/* What tests of arithmetic share: random inputs with fixed seeds, guarded memory, comparisons. */
#ifndef SL_TEST_KERN_CHECK_H
#define SL_TEST_KERN_CHECK_H

#include <stddef.h>
#include <stdint.h>

#include "kern/kern.h"

void check_seed(uint64_t seed);
uint32_t random_u32(void);
float random_float(float lowest, float highest);

/* Memory of the running test between canaries, at an address that is `offset` off the usual one;
 * check_buffers fails the test where a canary was touched, and frees all of it. */
void *guarded(size_t size, size_t offset);
float *floats(size_t n); /* NaN, 4-aligned and no more */
float *random_floats(size_t n);
void check_buffers(void);

/* The same bits; any two NaN are the same. */
void assert_bits(const float *got, const float *want, size_t n, const char *what);
/* ‖got − want‖ <= bound·‖want‖ */
void assert_near(const float *got, const double *want, size_t n, double bound, const char *what);

/* The levels that this machine has, ref first; find_levels is a group's setup. */
extern sl__kern levels[8];
extern unsigned level_count;
int find_levels(void **state);

#define EACH_LEVEL(kern) (const sl__kern *kern = levels; kern < levels + level_count; kern++)

#endif
