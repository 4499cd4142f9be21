#include "test_env.h"

#include <ftw.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static void die(const char *what, const char *path)
{
    fprintf(stderr, "test: %s %s\n", what, path);
    exit(1);
}

bool test_shared_path(char *out, size_t out_size, const char *name)
{
    const char *shared = getenv("SLUICE_SHARED");
    int n = shared && shared[0]
                ? snprintf(out, out_size, "%s/%s", shared, name)
                : snprintf(out, out_size, "%s/../../shared/%s", SL_TEST_SOURCE_DIR, name);
    if (n > 0 && (size_t)n < out_size && access(out, R_OK) == 0) return true;
    printf("skipped: reference data %s is not in the shared folder (SLUICE_SHARED)\n", name);
    return false;
}

bool test_fast(void)
{
    const char *fast = getenv("SLUICE_TEST_FAST");
    return fast && fast[0] && strcmp(fast, "0") != 0;
}

void test_temp_dir(char *out, size_t out_size)
{
    const char *tmp = getenv("TMPDIR");
    snprintf(out, out_size, "%s/sluice-test-XXXXXX", tmp && tmp[0] ? tmp : "/tmp");
    if (!mkdtemp(out)) die("cannot make", out);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

void test_remove_tree(const char *path) { nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS); }

char *test_read_file(const char *path, size_t *size)
{
    FILE *f = fopen(path, "rb");
    if (!f) die("cannot open", path);
    fseek(f, 0, SEEK_END);
    long n = ftell(f);
    rewind(f);
    char *data = malloc((size_t)n + 1);
    if (!data || fread(data, 1, (size_t)n, f) != (size_t)n) die("cannot read", path);
    fclose(f);
    data[n] = '\0';
    if (size) *size = (size_t)n;
    return data;
}

void test_write_file(const char *path, const void *data, size_t size)
{
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, size, f) != size || fclose(f) != 0) die("cannot write", path);
}

size_t test_peak_rss(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
#if defined(__APPLE__)
    return (size_t)usage.ru_maxrss;
#else
    return (size_t)usage.ru_maxrss * 1024;
#endif
}

unsigned long long test_rng_next(test_rng *rng)
{
    rng->state += 0x9e3779b97f4a7c15ull;
    unsigned long long z = rng->state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

unsigned test_rng_below(test_rng *rng, unsigned bound)
{
    return (unsigned)(test_rng_next(rng) >> 32) % bound;
}

float test_rng_normal(test_rng *rng)
{
    double u = ((double)(test_rng_next(rng) >> 11) + 1) / 9007199254740993.0;
    double v = (double)(test_rng_next(rng) >> 11) / 9007199254740992.0;
    return (float)(sqrt(-2 * log(u)) * cos(6.283185307179586 * v));
}
