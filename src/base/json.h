/* JSON from files that somebody else wrote: jansson with limits, and typed access whose errors name
 * the file and the key. */
#ifndef SL_BASE_JSON_H
#define SL_BASE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "sluice.h"

/* Parses `size` bytes; duplicate keys and trailing text are errors. path is for messages.
 * The caller owns *out (json_decref). */
sl_status sl__json_parse(const char *text, size_t size, const char *path, json_t **out,
                         sl_error *err);
sl_status sl__json_load(const char *path, uint64_t max_bytes, json_t **out, sl_error *err);

/* Each reads obj[key] of the right kind within [min, max] into *out, or fails naming path and key.
 * A whole number written as a real (1e6, 8.0) counts as an integer. */
sl_status sl__json_u64(const json_t *obj, const char *key, const char *path, uint64_t min,
                       uint64_t max, uint64_t *out, sl_error *err);
sl_status sl__json_u32(const json_t *obj, const char *key, const char *path, uint32_t min,
                       uint32_t max, uint32_t *out, sl_error *err);
sl_status sl__json_f64(const json_t *obj, const char *key, const char *path, double min, double max,
                       double *out, sl_error *err);
sl_status sl__json_bool(const json_t *obj, const char *key, const char *path, bool *out,
                        sl_error *err);
/* *out is borrowed from obj; a string with a NUL inside is refused. */
sl_status sl__json_str(const json_t *obj, const char *key, const char *path, const char **out,
                       sl_error *err);

/* True where the key is there and is not null. */
bool sl__json_has(const json_t *obj, const char *key);

#endif
