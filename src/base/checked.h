/* Sizes computed with overflow checks: each function returns false and leaves *out alone when the
 * result does not fit. */
#ifndef SL_BASE_CHECKED_H
#define SL_BASE_CHECKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool sl__mul_u64(uint64_t *out, uint64_t a, uint64_t b)
{
    uint64_t r;
    if (__builtin_mul_overflow(a, b, &r)) return false;
    *out = r;
    return true;
}

static inline bool sl__add_u64(uint64_t *out, uint64_t a, uint64_t b)
{
    uint64_t r;
    if (__builtin_add_overflow(a, b, &r)) return false;
    *out = r;
    return true;
}

/* Rounds up to a multiple of align (a power of two). */
static inline bool sl__align_u64(uint64_t *out, uint64_t value, uint64_t align)
{
    uint64_t r;
    if (__builtin_add_overflow(value, align - 1, &r)) return false;
    *out = r & ~(align - 1);
    return true;
}

#endif
