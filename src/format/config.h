/* config.json and its neighbours, as typed look-ups: what keys mean is the family's business. */
#ifndef SL_FORMAT_CONFIG_H
#define SL_FORMAT_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/json.h"
#include "sluice.h"

/* A configuration: keys are looked for in text_config first (where it is an object), then at the
 * top level. Zero-initialise; free with sl__config_free. */
typedef struct sl__config {
    char path[1024]; /* of the file, for messages */
    json_t *root;    /* owned */
    const json_t *text; /* borrowed from root; NULL where the file is flat */
} sl__config;

sl_status sl__config_load(sl__config *out, const char *path, sl_error *err);
/* From text in memory; path is for messages. */
sl_status sl__config_parse(sl__config *out, const char *text, size_t size, const char *path,
                           sl_error *err);
/* From parsed JSON, which it owns from then on, whatever the result. */
sl_status sl__config_take(sl__config *out, json_t *root, const char *path, sl_error *err);
void sl__config_free(sl__config *config);

/* The value of key, or NULL; a JSON null counts as absent. "a.b" looks for b inside object a. */
const json_t *sl__config_find(const sl__config *config, const char *key);

/* Required values within [min, max]; the error names file and key. */
sl_status sl__config_u32(const sl__config *config, const char *key, uint32_t min, uint32_t max,
                         uint32_t *out, sl_error *err);
sl_status sl__config_f32(const sl__config *config, const char *key, float min, float max,
                         float *out, sl_error *err);
sl_status sl__config_str(const sl__config *config, const char *key, const char **out,
                         sl_error *err);
/* The same with a default for an absent key; a present one of the wrong kind is still an error. */
sl_status sl__config_u32_or(const sl__config *config, const char *key, uint32_t min, uint32_t max,
                            uint32_t fallback, uint32_t *out, sl_error *err);
sl_status sl__config_f32_or(const sl__config *config, const char *key, float min, float max,
                            float fallback, float *out, sl_error *err);
sl_status sl__config_bool_or(const sl__config *config, const char *key, bool fallback, bool *out,
                             sl_error *err);

/* generation_config.json, defaults as Hugging Face defines them: do_sample false (greedy),
 * temperature 1, top_k 50 when sampling and unset, top_p 1, min_p 0, repetition_penalty 1.
 * eos_token_id: a number or an array. An absent file gives greedy and the eos ids of config (may be
 * NULL). Values out of range are errors that name the key. */
sl_status sl__generation_config_load(const char *path, const sl__config *config,
                                     sl_generation_defaults *out, sl_error *err);
/* The same from parsed JSON (root may be NULL: absent). */
sl_status sl__generation_config_read(const json_t *root, const char *path,
                                     const sl__config *config, sl_generation_defaults *out,
                                     sl_error *err);

#endif
