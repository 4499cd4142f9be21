/* The kernel table is filled with ref/ and then overwritten upward, a level at a time. */
#include "kern/kern.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "kern/cpu.h"
#include "kern/levels.h"
#include "sluice.h"

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

size_t sl__kern_q8_rows_tmp(uint32_t cols, uint32_t tokens)
{
    (void)cols; /* columns come in strips of a fixed width */
    const size_t waiting = tokens < SL_Q8_ROWS_TOKENS ? tokens : SL_Q8_ROWS_TOKENS;
    return SL_Q8_STRIP_TMP + waiting * 16u * 16u;
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
           SL_ATTEND_DEPTH * SL_KV_BLOCK;
}

/* A level is what its base has, then what it has itself: its name alone says which kernels run,
 * whatever else the processor can do. */
typedef struct level {
    const char *name, *base;
    uint64_t needs; /* SL_CPU_BITs, beyond those of its base */
    void (*fill)(sl__kern *kern);
    uint64_t pays_with; /* where one of these is missing it runs, but not faster than its base */
} level;

/* Lowest first; a base comes before what builds on it. */
static const level levels[] = {
    {"ref", NULL, 0, sl__kern_ref, 0},
#if defined(__x86_64__)
    {"avx2", "ref", SL_NEEDS_AVX2, sl__kern_avx2, 0},
    {"avxvnni", "avx2", SL_NEEDS_AVXVNNI, sl__kern_avxvnni, 0},
    {"avx512", "avx2", SL_NEEDS_AVX512, sl__kern_avx512, 0},
    {"avx512vnni", "avx512", SL_NEEDS_AVX512VNNI, sl__kern_avx512vnni, 0},
    {"avx512bf16", "avx512vnni", SL_NEEDS_AVX512BF16, sl__kern_avx512bf16,
     SL_CPU_BIT(SL_CPU_FAST_BF16)},
    {"amx", "avx512vnni", SL_NEEDS_AMX, sl__kern_amx, 0},
#elif defined(__aarch64__)
    {"neon", "ref", SL_NEEDS_NEON, sl__kern_neon, 0},
    {"dotprod", "neon", SL_NEEDS_DOTPROD, sl__kern_dotprod, 0},
    {"i8mm", "dotprod", SL_NEEDS_I8MM, sl__kern_i8mm, 0},
#endif
};

#define LEVELS (sizeof levels / sizeof levels[0])

const char *sl_cpu_level_name(uint32_t i)
{
    return i < LEVELS ? levels[i].name : NULL;
}

/* LEVELS where there is none of that name. */
static uint32_t find_level(const char *name)
{
    uint32_t i = 0;
    while (i < LEVELS && strcmp(levels[i].name, name) != 0)
        i++;
    return i;
}

bool sl__kern_level_runs(uint32_t i, uint64_t features)
{
    if ((features & levels[i].needs) != levels[i].needs) return false;
    return !levels[i].base || sl__kern_level_runs(find_level(levels[i].base), features);
}

uint32_t sl__kern_best_level(uint64_t features)
{
    uint32_t best = 0;
    for (uint32_t i = 0; i < LEVELS; i++) {
        bool pays = (features & levels[i].pays_with) == levels[i].pays_with;
        if (pays && sl__kern_level_runs(i, features)) best = i;
    }
    return best;
}

static void fill_level(sl__kern *kern, const level *l)
{
    if (l->base) fill_level(kern, &levels[find_level(l->base)]);
    l->fill(kern);
    kern->level = l->name;
}

bool sl__kern_init(sl__kern *kern, const char *name)
{
    const uint64_t features = sl__cpu_features();
    uint32_t chosen = name ? find_level(name) : sl__kern_best_level(features);
    const bool runs = chosen < LEVELS && sl__kern_level_runs(chosen, features);
    memset(kern, 0, sizeof *kern);
    fill_level(kern, &levels[runs ? chosen : 0]);
    return runs;
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
