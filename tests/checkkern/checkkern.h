/* checkkern: every kernel of the table (kern/kern.h) on every level that runs here, against ref.
 *
 *     checkkern.c            levels × kernels, filters, one line each
 *     checkkern_case.c       memory of a case, random numbers, comparisons
 *     checkkern_NAME.c       the cases of a family of kernels: a ck_kernel each, in a table
 *     checkkern_self.c       kernels that are wrong, which must be found
 *     checkkern_bench.c      --bench: rounds over all levels, beside what the machine can do
 *
 * A check draws its cases from a generator that begins anew for every level, so that all levels
 * meet the same cases. Where the level is ref itself, ref is held to the contract written once more
 * in the plainest way, in double where the contract is near.
 *
 * Memory of a case lies against pages that cannot be touched, at the beginning or at the end, with
 * guard bytes on the other side; outputs and scratch are poisoned (all bits set: a NaN), and inputs
 * must be what they were when the case is over.
 */
#ifndef SL_TEST_CHECKKERN_H
#define SL_TEST_CHECKKERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kern/kern.h"

/* ---- a check --------------------------------------------------------------------------------- */

typedef struct ck {
    const sl__kern *ref, *kern; /* the definition; what is checked */
    bool is_ref;                /* the two are one */
    bool fast;                  /* SLUICE_TEST_FAST: fewer cases */
    bool quiet;                 /* failures are counted and not printed */
    const char *name;           /* of the kernel */
    char what[160];             /* of the case */
    uint64_t random;
    uint64_t cases, failures;
    double worst;               /* error in the near comparisons, of the bound: at most 1 */
} ck;

typedef struct ck_kernel {
    const char *name; /* the field of sl__kern; NULL ends a table */
    size_t entry;     /* its offset */
    void (*check)(ck *k);
    void (*bench)(void); /* NULL: none */
} ck_kernel;

#define CK_KERNEL(field, check, bench) {#field, offsetof(sl__kern, field), check, bench}

extern const ck_kernel ck_weights[], ck_panels[], ck_rows_q8[], ck_vectors[], ck_activations[],
    ck_attention[], ck_delta[], ck_bf16[], ck_fit[];

/* Kernels that are wrong, of which none must go unseen: how many do. */
unsigned ck_self(void);

/* ---- a case ---------------------------------------------------------------------------------- */

/* Ends the case before, whose memory is checked and released, and begins one. */
void ck_case(ck *k, const char *format, ...) __attribute__((format(printf, 2, 3)));
void ck_end(ck *k);
void ck_fail(ck *k, const char *format, ...) __attribute__((format(printf, 2, 3)));

uint32_t ck_u32(ck *k);
uint32_t ck_below(ck *k, uint32_t n);              /* in [0, n), n >= 1 */
float ck_float(ck *k, float lowest, float highest);

/* Memory of the case, aligned to `align` (a power of two) and, by chance, no more. Inputs may be
 * written until ck_seal. */
void *ck_input(ck *k, size_t bytes, size_t align);
void *ck_output(ck *k, size_t bytes, size_t align);
float *ck_floats(ck *k, size_t n);                             /* an output */
float *ck_random(ck *k, size_t n, float lowest, float highest); /* an input */
float *ck_copy(ck *k, const float *x, size_t n);               /* an output that begins as x */
double *ck_doubles(ck *k, size_t n);                           /* for what is expected */
void ck_seal(ck *k); /* what inputs hold now they must hold at the end of the case */

/* ---- comparisons ----------------------------------------------------------------------------- */

/* The same bits, and any two NaN are the same; but what is poison in `want` is poison in `got`. */
void ck_same(ck *k, const char *what, const float *got, const float *want, size_t n);
void ck_same_bytes(ck *k, const char *what, const void *got, const void *want, size_t bytes);
/* ‖got − want‖ <= bound·‖want‖; poison is left out on both sides, and must be the same. */
void ck_near(ck *k, const char *what, const float *got, const float *want, size_t n, double bound);
/* The same against exact numbers; NaN in `want` stands for poison. */
void ck_near_exact(ck *k, const char *what, const float *got, const double *want, size_t n,
                   double bound);
/* ‖got − want‖ <= bound·size, for sums that cancel. */
void ck_within(ck *k, const char *what, const float *got, const double *want, size_t n,
               double bound, double size);

double ck_silu(double x);
bool ck_is_poison(float x);

/* ---- weights --------------------------------------------------------------------------------- */

typedef struct ck_matrix {
    sl__dtype type;
    uint32_t rows, cols;
    size_t row_bytes, scale_row_bytes; /* with what is spare */
    unsigned char *data;
    sl__scaling scaling;             /* of types with planes */
    unsigned char *scales, *biases;  /* NULL where there is none */
    uint32_t first;                  /* as in sl__rows */
} ck_matrix;

#define CK_DTYPES ((unsigned)SL_DTYPE_COUNT)

size_t ck_row_bytes(sl__dtype type, uint32_t cols);
/* Random weights, about 1 in size, as an input; wild: any bytes, infinities and NaN among them.
 * Rows of a type that has no panels may be apart. */
ck_matrix ck_weights_random(ck *k, sl__dtype type, uint32_t rows, uint32_t cols, bool wild);
/* One weight by the type's definition. */
float ck_weight(const ck_matrix *m, uint32_t row, uint32_t col);
/* Fills rows of any type with finite weights about 1 in size. */
void ck_fill_rows(ck *k, sl__dtype type, unsigned char *rows, size_t row_bytes, uint32_t count);

static inline sl__rows ck_rows(const ck_matrix *m)
{
    return (sl__rows){.dtype = m->type, .data = m->data, .row_bytes = m->row_bytes,
                      .scaling = m->scaling, .scales = m->scales, .biases = m->biases,
                      .scale_row_bytes = m->scale_row_bytes, .first = m->first};
}

/* The dot product of kern.h, a column at a time. */
float ck_plain_dot(const float *a, const float *b, uint32_t n);

/* ---- bench ----------------------------------------------------------------------------------- */

/* What bounds a call from below. */
typedef enum ck_bound {
    CK_MEMORY, /* bytes that no cache holds */
    CK_L2,     /* bytes out of the second cache */
    CK_FLOAT,  /* multiply-adds of floats in registers */
    CK_BYTES,  /* multiply-adds of bytes in registers */
} ck_bound;

/* Times run(kern, ctx) on every level in turn, round after round, with what the machine can do
 * measured in between, and prints medians: `amount` bytes, or multiply-adds, a call. */
void ck_time(const char *kernel, const char *what, ck_bound bound, double amount,
             void (*run)(const sl__kern *kern, void *ctx), void *ctx);
void *ck_bench_memory(size_t bytes); /* page-aligned, random bytes; lives until the end */
float *ck_bench_floats(size_t n);    /* from -1 to 1 */

uint64_t ck_now_ns(void); /* of the thread's own time */

/* What a core can do with the instructions of a level, per second: bytes read out of `buffer`, or
 * multiply-adds. */
double ck_limit(const char *level, ck_bound bound, const void *buffer, size_t bytes);

/* The levels that run here, ref first. */
extern const sl__kern *ck_levels;
extern unsigned ck_level_count;

#endif
