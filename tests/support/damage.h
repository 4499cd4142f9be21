/* Models that something is wrong with: copies of a sound one, damaged on purpose, and what opening
 * and running them must say. What goes wrong here itself aborts with a message. */
#ifndef SL_TEST_DAMAGE_H
#define SL_TEST_DAMAGE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sluice.h"

/* ---- copies ---------------------------------------------------------------------------------- */

/* Makes the folder dir of links to every file of the folder src: a copy that costs nothing until
 * damage_own makes a link into a file of its own. */
void damage_copy(const char *src, const char *dir);
/* DIR/name, valid until the next call but three. */
const char *damage_path(const char *dir, const char *name);
/* Makes DIR/name a copy that may be changed; returns its path, valid likewise. */
const char *damage_own(const char *dir, const char *name);
/* DIR/name becomes the link that it was. */
void damage_restore(const char *src, const char *dir, const char *name);

void damage_truncate(const char *path, uint64_t bytes);
uint64_t damage_size(const char *path);
void damage_flip(const char *path, uint64_t offset, uint8_t mask);
void damage_patch(const char *path, uint64_t offset, const void *data, size_t size);
void damage_text(const char *path, const char *text); /* the whole file */

/* ---- checkpoints ----------------------------------------------------------------------------- */

/* A checkpoint in memory, to be changed and written again. */
typedef struct damage_tensor {
    char name[128], dtype[16];
    uint32_t dims;
    uint64_t shape[4];
    uint8_t *data;
    size_t bytes;
    unsigned shard; /* 0 or 1 */
    bool left_out;
} damage_tensor;

typedef struct damage_model {
    damage_tensor *tensors;
    size_t count;
} damage_model;

void damage_model_load(damage_model *m, const char *dir);
void damage_model_free(damage_model *m);
damage_tensor *damage_model_find(const damage_model *m, const char *name);
/* Writes both shards and the index into dir, replacing what was there. */
void damage_model_save(const damage_model *m, const char *dir);
/* Sets an element of a BF16 tensor. */
void damage_set(damage_tensor *t, size_t index, float value);

/* ---- trying ---------------------------------------------------------------------------------- */

/* Opens a model, runs the ids, chooses a token and closes it again. logits (may be NULL) gets those
 * of the last token. */
sl_status damage_try(const char *path, const sl_engine_options *opt, const int32_t *ids,
                     size_t count, float *logits, sl_error *err);

/* That fails so: the message is one line that names the file (its path ends with `file`) and holds
 * `thing`. A failure ends the test. */
void damage_expect(const char *path, const sl_engine_options *opt, sl_status status,
                   const char *file, const char *thing);
/* The same of a message at hand. what: of the case, for the test's own message. */
void damage_check(const char *what, sl_status got, const sl_error *err, sl_status status,
                  const char *file, const char *thing);

#endif
