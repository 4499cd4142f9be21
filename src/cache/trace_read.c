/* Reading a trace. Two passes over its records: the first checks them and counts each layer's; the
 * second puts them where they belong, a token after another:
 *
 *     file     layer 0: t0 t1 t2 │ layer 1: t0 t1 t2 │ layer 0: t3 │ …     as the model ran
 *     memory   t0: layer 0, layer 1 │ t1: layer 0, layer 1 │ …             as it would decode
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/fail.h"
#include "base/file.h"
#include "cache/trace.h"
#include "cache/trace_format.h"

#define TRACE_BYTES_MAX ((uint64_t)1 << 32)

typedef struct reader {
    const unsigned char *data;
    size_t size;
    const char *name;
    sl__trace_shape shape;
    uint64_t records;
    uint32_t count[SL_TRACE_LAYERS_MAX]; /* of a layer's records */
    uint32_t place[SL_TRACE_LAYERS_MAX]; /* among the layers that have any */
    uint64_t *seen;                      /* [experts]: the last list that held it */
    uint64_t lists;
} reader;

static sl_status read_header(reader *r, sl_error *err)
{
    const unsigned char *h = r->data;
    if (r->size < SL_TRACE_HEADER_BYTES || memcmp(h, SL_TRACE_MAGIC, SL_TRACE_AT_VERSION) != 0) {
        return SL_FAIL(err, SL_EFORMAT, "%s: not a trace of routing", r->name);
    }
    uint32_t version = (uint32_t)sl__trace_get(h + SL_TRACE_AT_VERSION, 4);
    if (version != SL_TRACE_VERSION) {
        return SL_FAIL(err, SL_EUNSUPPORTED, "%s: version %u of the format; %u is read", r->name,
                       version, SL_TRACE_VERSION);
    }
    r->shape = (sl__trace_shape){
        .layers = (uint32_t)sl__trace_get(h + SL_TRACE_AT_LAYERS, 4),
        .experts = (uint32_t)sl__trace_get(h + SL_TRACE_AT_EXPERTS, 4),
        .k = (uint32_t)sl__trace_get(h + SL_TRACE_AT_K, 4),
        .depth = (uint32_t)sl__trace_get(h + SL_TRACE_AT_DEPTH, 4),
    };
    r->records = sl__trace_get(h + SL_TRACE_AT_RECORDS, 8);
    if (!sl__trace_shape_good(&r->shape) || sl__trace_get(h + SL_TRACE_AT_RESERVED, 4) != 0) {
        return SL_FAIL(err, SL_EFORMAT, "%s: %u layers, %u experts, %u of them a token, %u ranks: "
                       "no such trace is written", r->name, r->shape.layers, r->shape.experts,
                       r->shape.k, r->shape.depth);
    }
    return SL_OK;
}

/* Checks ids[n]; only the first `certain` must be there, and after one that is not, none is. */
static sl_status check_ids(reader *r, const unsigned char *at, uint32_t n, uint32_t certain,
                           uint64_t record, sl_error *err)
{
    size_t bytes = sl__trace_id_bytes(&r->shape);
    uint64_t none = bytes == 1 ? 0xff : 0xffff;
    bool ended = false;
    r->lists++;
    for (uint32_t i = 0; i < n; i++, at += bytes) {
        uint64_t id = sl__trace_get(at, bytes);
        if (id == none && i >= certain) {
            ended = true;
            continue;
        }
        if (id >= r->shape.experts || ended || r->seen[id] == r->lists) {
            return SL_FAIL(err, SL_EFORMAT, "%s: record %llu: expert %llu at rank %u", r->name,
                           (unsigned long long)record, (unsigned long long)id, i);
        }
        r->seen[id] = r->lists;
    }
    return SL_OK;
}

static sl_status check_records(reader *r, sl_error *err)
{
    size_t id_bytes = sl__trace_id_bytes(&r->shape), at = SL_TRACE_HEADER_BYTES;
    for (uint64_t i = 0; i < r->records; i++) {
        uint32_t head = 0;
        size_t bytes = 2 + id_bytes * r->shape.depth;
        if (r->size - at >= 2) head = (uint32_t)sl__trace_get(r->data + at, 2);
        if (head & SL_TRACE_PREDICTED) bytes += id_bytes * r->shape.k;
        if (r->size - at < bytes) {
            return SL_FAIL(err, SL_EFORMAT, "%s: ends in record %llu of %llu", r->name,
                           (unsigned long long)i, (unsigned long long)r->records);
        }
        uint32_t layer = head & ~SL_TRACE_PREDICTED;
        if (layer >= r->shape.layers || r->count[layer] == UINT32_MAX) {
            return SL_FAIL(err, SL_EFORMAT, "%s: record %llu: layer %u of %u", r->name,
                           (unsigned long long)i, layer, r->shape.layers);
        }
        r->count[layer]++;
        SL_TRY(check_ids(r, r->data + at + 2, r->shape.depth, r->shape.k, i, err));
        if (head & SL_TRACE_PREDICTED) {
            SL_TRY(check_ids(r, r->data + at + 2 + id_bytes * r->shape.depth, r->shape.k,
                             r->shape.k, i, err));
        }
        at += bytes;
    }
    if (at != r->size) {
        return SL_FAIL(err, SL_EFORMAT, "%s: %zu bytes follow the last of %llu records", r->name,
                       r->size - at, (unsigned long long)r->records);
    }
    return SL_OK;
}

/* An interrupted pass leaves layers with a few tokens more than others: those are left out. */
static sl_status take_shape(reader *r, sl__trace *trace, sl_error *err)
{
    trace->experts = r->shape.experts;
    trace->k = r->shape.k;
    trace->depth = r->shape.depth;
    trace->tokens = UINT32_MAX;
    for (uint32_t l = 0; l < r->shape.layers; l++) {
        if (r->count[l] == 0) continue;
        r->place[l] = trace->layers++;
        if (r->count[l] < trace->tokens) trace->tokens = r->count[l];
    }
    if (trace->layers == 0) return SL_FAIL(err, SL_EFORMAT, "%s: holds no token", r->name);
    /* Checked records: at most twice as many ids as the file has bytes. */
    size_t lists = (size_t)trace->tokens * trace->layers;
    trace->ranked = malloc(lists * trace->depth * sizeof *trace->ranked);
    trace->predicted = malloc(lists * trace->k * sizeof *trace->predicted);
    if (!trace->ranked || !trace->predicted) return SL_FAIL_NOMEM(err, r->name);
    return SL_OK;
}

static const unsigned char *take_ids(const unsigned char *at, size_t bytes, uint16_t *to,
                                     uint32_t n)
{
    for (uint32_t i = 0; i < n; i++, at += bytes) {
        uint64_t id = sl__trace_get(at, bytes);
        to[i] = bytes == 1 && id == 0xff ? SL_TRACE_NONE : (uint16_t)id;
    }
    return at;
}

static void fill(reader *r, sl__trace *trace)
{
    size_t bytes = sl__trace_id_bytes(&r->shape);
    const unsigned char *at = r->data + SL_TRACE_HEADER_BYTES;
    memset(r->count, 0, sizeof r->count);
    for (uint64_t i = 0; i < r->records; i++) {
        uint32_t head = (uint32_t)sl__trace_get(at, 2), layer = head & ~SL_TRACE_PREDICTED;
        bool predicted = head & SL_TRACE_PREDICTED;
        uint32_t token = r->count[layer]++;
        at += 2;
        if (token >= trace->tokens) {
            at += bytes * (trace->depth + (predicted ? trace->k : 0));
            continue;
        }
        size_t list = (size_t)token * trace->layers + r->place[layer];
        uint16_t *to = trace->predicted + list * trace->k;
        at = take_ids(at, bytes, trace->ranked + list * trace->depth, trace->depth);
        if (predicted) at = take_ids(at, bytes, to, trace->k);
        else memset(to, 0xff, trace->k * sizeof *to);
    }
}

static sl_status parse(reader *r, sl__trace *trace, sl_error *err)
{
    SL_TRY(read_header(r, err));
    r->seen = calloc(r->shape.experts, sizeof *r->seen);
    if (!r->seen) return SL_FAIL_NOMEM(err, r->name);
    SL_TRY(check_records(r, err));
    SL_TRY(take_shape(r, trace, err));
    fill(r, trace);
    return SL_OK;
}

sl_status sl__trace_parse(sl__trace *trace, const void *data, size_t size, const char *name,
                          sl_error *err)
{
    memset(trace, 0, sizeof *trace);
    reader *r = calloc(1, sizeof *r);
    if (!r) return SL_FAIL_NOMEM(err, name);
    r->data = data;
    r->size = size;
    r->name = name;
    sl_status status = parse(r, trace, err);
    free(r->seen);
    free(r);
    if (status != SL_OK) sl__trace_free(trace);
    return status;
}

sl_status sl__trace_read(sl__trace *trace, const char *path, sl_error *err)
{
    char *data;
    size_t size;
    memset(trace, 0, sizeof *trace);
    SL_TRY(sl__file_read(path, TRACE_BYTES_MAX, &data, &size, err));
    sl_status status = sl__trace_parse(trace, data, size, path, err);
    free(data);
    return status;
}

void sl__trace_free(sl__trace *trace)
{
    free(trace->ranked);
    free(trace->predicted);
    memset(trace, 0, sizeof *trace);
}
