/* The inside of a prefix cache: entries, and those of them that are files.
 *
 *     entries, by position   | 64 | 128 | 128 | 704 | …     one a kept text
 *     an entry               hash of its ids (sl__prefix_hash), its snapshot in memory, as a file
 *                            of the folder, or both; when it was last used
 *     marks                  where a state can be cut: the hashes after every 64 of its ids, so
 *                            that a text that shares a beginning is seen without reading it
 *
 * A hash only proposes: the ids themselves are compared before a state is used.
 */
#ifndef SL_ENGINE_PREFIX_H
#define SL_ENGINE_PREFIX_H

#include "base/file.h"
#include "engine/snapshot.h"

#define SL_PREFIX_MARK        64u   /* tokens */
#define SL_PREFIX_ENTRIES_MAX 4096u
#define SL_PREFIX_TAG         17u   /* 16 hex digits of the settings, NUL */

typedef struct sl__prefix_entry {
    uint64_t hash;
    uint32_t position;
    uint64_t bytes;  /* of the snapshot */
    char *memory;    /* NULL: not there */
    bool on_disk;
    uint64_t used;   /* the larger, the later */
    uint64_t *marks; /* [position / SL_PREFIX_MARK]; NULL: the model cannot be cut */
} sl__prefix_entry;

struct sl_prefix_cache {
    sl_engine *engine;
    sl__snapshot_settings settings;
    bool cuts; /* the model can be cut anywhere */
    uint64_t memory_limit, disk_limit;
    char folder[SL_PATH_MAX]; /* "": none */
    char tag[SL_PREFIX_TAG];
    int lock; /* -1: none */
    bool approximate;
    void (*message)(void *ctx, const char *line);
    void *message_ctx;
    sl__prefix_entry *entries; /* [SL_PREFIX_ENTRIES_MAX], by position */
    size_t count;
    uint64_t tick;
    sl_prefix_cache_stats stats;
};

/* Whether a state is one that a run without the cache comes by, or one that will do. */
bool sl__prefix_usable(const sl_prefix_cache *cache, uint32_t position, bool cut);
void sl__prefix_tell(const sl_prefix_cache *cache, const char *line);

/* Puts an entry of ids[position] in its place; NULL where memory is out or there are too many. */
sl__prefix_entry *sl__prefix_insert(sl_prefix_cache *cache, const int32_t *ids, uint32_t position,
                                    uint64_t bytes);
/* Forgets what an entry has in memory, or as a file, which goes too; one that is then in neither is
 * removed, and its place is another's. */
void sl__prefix_drop(sl_prefix_cache *cache, sl__prefix_entry *entry, bool memory, bool disk);

/* ---- the folder ------------------------------------------------------------------------------ */

/* Locks the folder, makes it where it is not there, and enters what it holds of this model. */
sl_status sl__prefix_folder_open(sl_prefix_cache *cache, const char *folder, sl_error *err);
void sl__prefix_folder_close(sl_prefix_cache *cache);
/* Opens an entry's file; the caller closes place->fd. path: room for place->name. */
sl_status sl__prefix_folder_get(const sl_prefix_cache *cache, const sl__prefix_entry *entry,
                                char path[SL_PATH_MAX], sl__snapshot_place *place, sl_error *err);
/* Writes the session as the entry's file. */
sl_status sl__prefix_folder_put(sl_prefix_cache *cache, sl__prefix_entry *entry,
                                const sl_session *session, sl_error *err);
/* The file was used now: after a restart it is among the last to go. */
void sl__prefix_folder_touch(const sl_prefix_cache *cache, const sl__prefix_entry *entry);
void sl__prefix_folder_remove(const sl_prefix_cache *cache, const sl__prefix_entry *entry);

#endif
