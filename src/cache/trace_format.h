/* The bytes of a trace, for its writer and its reader; little-endian.
 *
 *     header   "sltrace\n"  version  layers  experts  k  depth  reserved  records
 *              8 bytes      u32      u32     u32      u32 u32   u32 (0)   u64
 *     record   u16: layer, and 0x8000 where a prediction follows
 *              ids[depth]: the ranking, best first, the first k chosen; all ones: not told
 *              ids[k]: the prediction, where there is one
 *
 * An id takes one byte where there are at most 255 experts, else two.
 */
#ifndef SL_CACHE_TRACE_FORMAT_H
#define SL_CACHE_TRACE_FORMAT_H

#include <stdbool.h>
#include <string.h>

#include "cache/trace.h"

#define SL_TRACE_MAGIC "sltrace\n"
#define SL_TRACE_VERSION 1u
#define SL_TRACE_PREDICTED 0x8000u

enum {
    SL_TRACE_AT_VERSION = 8,
    SL_TRACE_AT_LAYERS = 12,
    SL_TRACE_AT_EXPERTS = 16,
    SL_TRACE_AT_K = 20,
    SL_TRACE_AT_DEPTH = 24,
    SL_TRACE_AT_RESERVED = 28,
    SL_TRACE_AT_RECORDS = 32,
    SL_TRACE_HEADER_BYTES = 40,
};

static inline size_t sl__trace_id_bytes(const sl__trace_shape *shape)
{
    return shape->experts <= 255 ? 1 : 2;
}

static inline bool sl__trace_shape_good(const sl__trace_shape *shape)
{
    return shape->layers >= 1 && shape->layers <= SL_TRACE_LAYERS_MAX && shape->k >= 1 &&
           shape->k <= shape->depth && shape->depth <= shape->experts &&
           shape->experts <= SL_TRACE_EXPERTS_MAX &&
           (uint64_t)shape->layers * shape->experts <= SL_TRACE_RECORDS_MAX;
}

static inline void sl__trace_put(unsigned char *at, uint64_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        at[i] = (unsigned char)(value >> (8 * i));
}

static inline uint64_t sl__trace_get(const unsigned char *at, size_t bytes)
{
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; i++)
        value |= (uint64_t)at[i] << (8 * i);
    return value;
}

#endif
