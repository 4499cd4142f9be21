/* Snapshots: a session's tokens and state as bytes, in a file or in memory.
 *
 *     | header 128 | table: {bytes, hash} a section | ids | layer 0 | layer 1 | … |
 *
 * A layer's section is its parts (model/state.h), adjacent. What may lie in a section is known from
 * the model and the position alone, and is compared with the table before anything is changed.
 * docs/internals/engine.md has every field.
 */
#ifndef SL_ENGINE_SNAPSHOT_H
#define SL_ENGINE_SNAPSHOT_H

#include "engine/engine.h"

#define SL_SNAPSHOT_VERSION 1u
#define SL_SNAPSHOT_HEADER  128u
#define SL_SNAPSHOT_SECTION 16u /* of the table */
#define SL_SNAPSHOT_LEVEL   16u

/* What decides answers besides the weights. */
typedef struct sl__snapshot_settings {
    uint64_t fingerprint; /* of the model */
    uint32_t kv, activations, experts_per_token;
    uint32_t grid; /* of DeltaNet; 0: the model has none */
    char level[SL_SNAPSHOT_LEVEL];
} sl__snapshot_settings;

typedef struct sl__snapshot_header {
    sl__snapshot_settings settings;
    uint32_t position;
    bool cut;          /* sl_session.cut */
    uint64_t prefix;   /* sl__prefix_hash of the ids */
    uint32_t sections; /* 1 + layers */
    uint64_t bytes;    /* of the whole snapshot */
    uint64_t table_hash;
} sl__snapshot_header;

/* Where a snapshot lies: a file, or memory where fd is -1. */
typedef struct sl__snapshot_place {
    const char *name; /* for messages */
    int fd;
    char *memory;
    uint64_t bytes;
} sl__snapshot_place;

/* The settings of an engine; SL_EIO where the model's files cannot be looked at. */
sl_status sl__snapshot_settings_of(sl_engine *engine, sl__snapshot_settings *out, sl_error *err);
/* A number for the model: its configuration, its tensors, and of a pack the checksums of all bytes,
 * else size and time of its files. */
sl_status sl__fingerprint(sl_engine *engine, uint64_t *out, sl_error *err);

/* A hash of ids[count] that goes on: of ids and one more from that of the ids. */
#define SL_PREFIX_HASH_BEGIN 0x736c756963650001u
uint64_t sl__prefix_hash_next(uint64_t hash, int32_t id);
uint64_t sl__prefix_hash(const int32_t *ids, size_t count);

void sl__snapshot_header_put(unsigned char out[SL_SNAPSHOT_HEADER], const sl__snapshot_header *h);
/* Checks all that needs no model. */
sl_status sl__snapshot_header_get(sl__snapshot_header *h,
                                  const unsigned char in[SL_SNAPSHOT_HEADER], const char *name,
                                  sl_error *err);
sl_status sl__snapshot_read_header(sl__snapshot_header *h, const sl__snapshot_place *place,
                                   sl_error *err);
/* Whether a snapshot with the settings can go on here; says which one is another. */
sl_status sl__snapshot_check(const sl__snapshot_settings *have,
                             const sl__snapshot_settings *want, const char *name, sl_error *err);

/* Bytes of the session's snapshot as it is. */
uint64_t sl__snapshot_bytes(const sl_session *session);
/* Writes the session into a place of sl__snapshot_bytes. */
sl_status sl__snapshot_write(const sl_session *session, const sl__snapshot_place *place,
                             sl_error *err);
/* The session becomes the snapshot's first `position` tokens: all of them, or, where the model can
 * be cut anywhere (sl__snapshot_can_cut), fewer. After a failure it is as it was, or reset. */
sl_status sl__snapshot_read(sl_session *session, const sl__snapshot_place *place,
                            const sl__snapshot_header *h, uint32_t position, sl_error *err);
/* Attention without windows alone: what it keeps of a token does not depend on those after it. */
bool sl__snapshot_can_cut(const sl__model_desc *desc);
/* The ids of a snapshot, [h->position], malloc'd; their hash is compared. */
sl_status sl__snapshot_read_ids(const sl__snapshot_place *place, const sl__snapshot_header *h,
                                int32_t **out, sl_error *err);

/* Writes the session's snapshot as the file path, through path ".partial". sync: it is to outlive a
 * loss of power. */
sl_status sl__snapshot_save(const sl_session *session, const char *path, bool sync, sl_error *err);

#endif
