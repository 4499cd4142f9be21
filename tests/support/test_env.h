/* What every test may need of its surroundings. */
#ifndef SL_TEST_ENV_H
#define SL_TEST_ENV_H

#include <stdbool.h>
#include <stddef.h>

#define TEST_SKIPPED 77 /* exit code of a test program that was skipped */

/* A path inside the reference data that lies beside the repository: $SLUICE_SHARED, else
 * ../shared. False, with a line on stdout that says what is skipped, where it is not there. */
bool test_shared_path(char *out, size_t out_size, const char *name);

/* True when SLUICE_TEST_FAST is set: take a smaller sample (sanitizer builds). */
bool test_fast(void);

/* A new folder under $TMPDIR or /tmp; test_remove_tree removes it with everything in it. */
void test_temp_dir(char *out, size_t out_size);
void test_remove_tree(const char *path);

/* Whole files; a failure ends the program. The result is malloc'ed and NUL-terminated. */
char *test_read_file(const char *path, size_t *size);
void test_write_file(const char *path, const void *data, size_t size);

/* Peak resident bytes of this process so far. */
size_t test_peak_rss(void);

/* The numbers of a property test: the same in every run. */
typedef struct test_rng {
    unsigned long long state;
} test_rng;
unsigned long long test_rng_next(test_rng *rng);
unsigned test_rng_below(test_rng *rng, unsigned bound); /* [0, bound) */
float test_rng_normal(test_rng *rng);                   /* mean 0, variance 1 */

#endif
