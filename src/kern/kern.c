/* The kernel table is filled with ref/ and then overwritten upward, a level at a time. */
#include "kern/kern.h"

#include <assert.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif
#include <math.h>
#include <string.h>

#include "kern/levels.h"

size_t sl__kern_matmul_tmp(uint32_t cols, uint32_t tokens)
{
    (void)cols; /* columns come in blocks of a fixed length */
    return SL_MM_ROWS * SL_MM_COLS + (size_t)tokens * SL_MM_ROWS * 16u;
}

size_t sl__kern_q8_tmp(uint32_t cols, uint32_t tokens)
{
    (void)cols;
    (void)tokens;
    return SL_Q8_TMP;
}

size_t sl__kern_delta_tmp(uint32_t dk, uint32_t dv)
{
    const size_t chunk = SL_DELTA_CHUNK, cols = SL_DELTA_COLS;
    const size_t rows = ((size_t)dk + SL_DELTA_ROWS - 1) / SL_DELTA_ROWS * SL_DELTA_ROWS;
    (void)dv; /* columns come in blocks of a fixed width */
    return 3 * chunk * rows + 4 * chunk * chunk + (rows + 2 * chunk) * cols;
}

size_t sl__attend_tmp(uint32_t rows, uint32_t qk_dim, uint32_t v_dim)
{
    return rows * (SL_ATTEND_Q_ROW(qk_dim) + SL_ATTEND_SCORE_ROW + sl__attend_row(v_dim)) +
           2 * SL_ATTEND_PANEL;
}

typedef struct level {
    const char *name;
    bool (*supported)(void);
    void (*fill)(sl__kern *kern);
} level;

static bool always(void)
{
    return true;
}

#if defined(__x86_64__)
static bool has_avx2(void)
{
    unsigned a, b, c, d;
    __builtin_cpu_init(); /* asks the CPU, and the OS through xgetbv */
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return false;
    return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}
#endif

#if defined(__x86_64__)
static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}
#endif

#if defined(__x86_64__)
static bool has_avxvnni(void)
{
    unsigned a, b, c, d;
    return has_avx2() && __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a & 1u << 4) != 0;
}

static bool has_avx512vnni(void)
{
    return has_avx512() && __builtin_cpu_supports("avx512vnni");
}
#endif

/* Lowest first; not every processor with the later ones has AVX-VNNI. */
static const level levels[] = {
    {"ref", always, sl__kern_ref},
#if defined(__x86_64__)
    {"avx2", has_avx2, sl__kern_avx2},
    {"avxvnni", has_avxvnni, sl__kern_avxvnni},
    {"avx512", has_avx512, sl__kern_avx512},
    {"avx512vnni", has_avx512vnni, sl__kern_avx512vnni},
#endif
};

#define LEVELS (sizeof levels / sizeof levels[0])

void sl__kern_init(sl__kern *kern, const char *max_level)
{
    size_t last = max_level == NULL ? LEVELS - 1 : 0;
    for (size_t i = 0; max_level != NULL && i < LEVELS; i++) {
        if (strcmp(levels[i].name, max_level) == 0) last = i;
    }
    memset(kern, 0, sizeof *kern);
    for (size_t i = 0; i <= last; i++) {
        if (!levels[i].supported()) continue;
        levels[i].fill(kern);
        kern->level = levels[i].name;
    }
}

/* Whether a comes before b: larger first, then the lower index. */
static bool before(const float *x, uint32_t a, uint32_t b)
{
    return x[a] > x[b] || (x[a] == x[b] && a < b);
}

/* ids[n] is a heap with its last in order at the root; restores it from node i down. */
static void sift_down(const float *x, uint32_t *ids, uint32_t n, uint32_t i)
{
    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child >= n) return;
        if (child + 1 < n && before(x, ids[child], ids[child + 1])) child++;
        if (!before(x, ids[i], ids[child])) return;
        uint32_t id = ids[i];
        ids[i] = ids[child];
        ids[child] = id;
        i = child;
    }
}

bool sl__top_k(const float *x, uint32_t n, uint32_t k, uint32_t *ids)
{
    assert(k <= n);
    for (uint32_t i = 0; i < n; i++) {
        if (!isfinite(x[i])) return false;
    }
    if (k == 0) return true;
    for (uint32_t i = 0; i < k; i++)
        ids[i] = i;
    for (uint32_t i = k / 2; i-- > 0;)
        sift_down(x, ids, k, i);
    for (uint32_t i = k; i < n; i++) {
        if (!before(x, i, ids[0])) continue;
        ids[0] = i;
        sift_down(x, ids, k, 0);
    }
    for (uint32_t end = k; end-- > 1;) { /* the last in order goes to the end */
        uint32_t id = ids[0];
        ids[0] = ids[end];
        ids[end] = id;
        sift_down(x, ids, end, 0);
    }
    return true;
}
