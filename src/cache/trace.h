/* Traces of routing: what a router said of each token, in a file. Recorded while a model runs,
 * replayed against policies of eviction without it (simulate.h). docs/internals/cache.md describes
 * the format.
 */
#ifndef SL_CACHE_TRACE_H
#define SL_CACHE_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sluice.h"

#define SL_TRACE_LAYERS_MAX 4096u
#define SL_TRACE_EXPERTS_MAX 65535u
#define SL_TRACE_RECORDS_MAX (1u << 20) /* experts of all layers: a replay's tables have as many */

typedef struct sl__trace_shape {
    uint32_t layers;  /* of the model; those without experts have no records */
    uint32_t experts; /* of the layer that has most */
    uint32_t k;       /* experts a token */
    uint32_t depth;   /* ranks that are kept of a token, k <= depth <= experts */
} sl__trace_shape;

/* ---- writing --------------------------------------------------------------------------------- */

typedef struct sl__trace_writer sl__trace_writer;

/* path must not exist. What is written goes to path ".tmp" until the end. */
sl_status sl__trace_create(sl__trace_writer **out, const char *path, const sl__trace_shape *shape,
                           sl_error *err);
/* One token at one layer: ranked[n] as sl__cache_note, chosen == k; ranks beyond the depth are
 * left out. predicted[predicted_n]: what the layer before said would be chosen, best first; k of
 * them are kept, and none where there are fewer. Tokens of a layer come in order, layers in any.
 * Allocates nothing and never fails: what went wrong is told at the end. */
void sl__trace_token(sl__trace_writer *writer, uint32_t layer, const uint32_t *ranked, uint32_t n,
                     uint32_t chosen, const uint32_t *predicted, uint32_t predicted_n);
/* Completes the file under its name, or removes it; frees the writer either way. */
sl_status sl__trace_finish(sl__trace_writer *writer, sl_error *err);
/* Removes what was written; NULL is allowed. */
void sl__trace_discard(sl__trace_writer *writer);

/* ---- reading --------------------------------------------------------------------------------- */

#define SL_TRACE_NONE UINT16_MAX

/* A whole trace in memory, a token after another. Layers without records are left out. */
typedef struct sl__trace {
    uint32_t layers, experts, k, depth;
    uint32_t tokens;     /* that every layer has seen */
    uint16_t *ranked;    /* [tokens, layers, depth]: k ids, then more, then SL_TRACE_NONE */
    uint16_t *predicted; /* [tokens, layers, k]; SL_TRACE_NONE throughout where there is none */
} sl__trace;

/* Every field is checked. The caller frees. */
sl_status sl__trace_read(sl__trace *trace, const char *path, sl_error *err);
/* The same of bytes in memory; name is for messages. */
sl_status sl__trace_parse(sl__trace *trace, const void *data, size_t size, const char *name,
                          sl_error *err);
void sl__trace_free(sl__trace *trace); /* leaves it empty */

static inline const uint16_t *sl__trace_ranked(const sl__trace *trace, uint32_t token,
                                               uint32_t layer)
{
    return trace->ranked + ((size_t)token * trace->layers + layer) * trace->depth;
}

static inline const uint16_t *sl__trace_predicted(const sl__trace *trace, uint32_t token,
                                                  uint32_t layer)
{
    return trace->predicted + ((size_t)token * trace->layers + layer) * trace->k;
}

#endif
