/* Prompts that are kept: finding the state that a text can go on from, and keeping states. prefix.h
 * says how they lie.
 *
 * Exactness. A run without the cache passes through every state that attention can be in, and
 * through those of DeltaNet alone that lie on its grid with no cut before (sl_session.cut). Others
 * are neither kept nor used, unless the caller asked for approximate answers.
 */
#include "engine/prefix.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fail.h"
#include "base/hash.h"
#include "base/pages.h"

bool sl__prefix_usable(const sl_prefix_cache *cache, uint32_t position, bool cut)
{
    const uint32_t grid = cache->settings.grid;
    return position > 0 && (grid == 0 || cache->approximate || (!cut && position % grid == 0));
}

void sl__prefix_tell(const sl_prefix_cache *cache, const char *line)
{
    if (cache->message) cache->message(cache->message_ctx, line);
}

size_t sl_prefix_cache_boundary(const sl_prefix_cache *cache, size_t count)
{
    const uint32_t grid = cache->settings.grid;
    return grid == 0 || cache->approximate ? count : count / grid * grid;
}

/* ---- entries --------------------------------------------------------------------------------- */

sl__prefix_entry *sl__prefix_insert(sl_prefix_cache *cache, const int32_t *ids, uint32_t position,
                                    uint64_t bytes)
{
    sl__prefix_entry entry = {.position = position, .bytes = bytes, .used = cache->tick++,
                              .hash = SL_PREFIX_HASH_BEGIN};
    if (cache->count == SL_PREFIX_ENTRIES_MAX) return NULL;
    if (cache->cuts) {
        entry.marks = malloc((position / SL_PREFIX_MARK + 1) * sizeof *entry.marks);
        if (!entry.marks) return NULL;
    }
    for (uint32_t i = 0; i < position; i++) {
        entry.hash = sl__prefix_hash_next(entry.hash, ids[i]);
        if (entry.marks && (i + 1) % SL_PREFIX_MARK == 0) {
            entry.marks[i / SL_PREFIX_MARK] = entry.hash;
        }
    }
    size_t at = cache->count++;
    for (; at > 0 && cache->entries[at - 1].position > position; at--)
        cache->entries[at] = cache->entries[at - 1];
    cache->entries[at] = entry;
    return &cache->entries[at];
}

void sl__prefix_drop(sl_prefix_cache *cache, sl__prefix_entry *entry, bool memory, bool disk)
{
    if (memory && entry->memory) {
        sl__pages_free(entry->memory, (size_t)entry->bytes);
        entry->memory = NULL;
        cache->stats.memory_entries--;
        cache->stats.memory_bytes -= entry->bytes;
    }
    if (disk && entry->on_disk) {
        sl__prefix_folder_remove(cache, entry);
        entry->on_disk = false;
        cache->stats.disk_entries--;
        cache->stats.disk_bytes -= entry->bytes;
    }
    if (entry->memory || entry->on_disk) return;
    size_t at = (size_t)(entry - cache->entries);
    free(entry->marks);
    memmove(entry, entry + 1, (cache->count - at - 1) * sizeof *entry);
    cache->count--;
}

/* The entry in memory, or on the disk, that was used longest ago; NULL: none. */
static sl__prefix_entry *oldest(sl_prefix_cache *cache, bool memory)
{
    sl__prefix_entry *found = NULL;
    for (size_t i = 0; i < cache->count; i++) {
        sl__prefix_entry *e = &cache->entries[i];
        if (memory ? !e->memory : !e->on_disk) continue;
        if (!found || e->used < found->used) found = e;
    }
    return found;
}

/* Old ones go until there is room for `bytes` more; false where there never is. */
static bool make_room(sl_prefix_cache *cache, bool memory, uint64_t bytes)
{
    const uint64_t limit = memory ? cache->memory_limit : cache->disk_limit;
    const uint64_t *taken = memory ? &cache->stats.memory_bytes : &cache->stats.disk_bytes;
    if (bytes > limit || (!memory && !cache->folder[0])) return false;
    while (*taken > limit - bytes) {
        sl__prefix_drop(cache, oldest(cache, memory), memory, !memory);
        cache->stats.evicted++;
    }
    return true;
}

/* ---- opening --------------------------------------------------------------------------------- */

static sl_status check_room(const sl_engine *engine, uint64_t bytes, sl_error *err)
{
    const uint64_t kept = engine->plan.prefix, taken = engine->prefix_bytes;
    uint64_t room = sl__engine_left(engine) + (kept > taken ? kept - taken : 0);
    if (bytes <= room) return SL_OK;
    const double mib = 1048576.0;
    return SL_FAIL(err, SL_EBUDGET, "%s: %.1f MiB for kept prompts were asked for, and the budget "
                   "has room for %.1f; prefix_bytes of the engine's options keeps some free",
                   sl__store_path(engine->store), (double)bytes / mib, (double)room / mib);
}

static sl_status open_parts(sl_prefix_cache *cache, const sl_prefix_cache_options *opt,
                            sl_error *err)
{
    unsigned char head[SL_SNAPSHOT_HEADER];
    SL_TRY(check_room(cache->engine, opt->memory_bytes, err));
    SL_TRY(sl__snapshot_settings_of(cache->engine, &cache->settings, err));
    sl__snapshot_header_put(head, &(sl__snapshot_header){.settings = cache->settings});
    sl__hash_format(sl__hash64(head, sizeof head), cache->tag);
    cache->entries = calloc(SL_PREFIX_ENTRIES_MAX, sizeof *cache->entries);
    if (!cache->entries) return SL_FAIL_NOMEM(err, "prefix cache");
    if (!opt->folder) return SL_OK;
    SL_TRY(sl__prefix_folder_open(cache, opt->folder, err));
    (void)make_room(cache, false, 0);
    return SL_OK;
}

sl_status sl_prefix_cache_open(sl_prefix_cache **out, sl_engine *engine,
                               const sl_prefix_cache_options *opt, sl_error *err)
{
    sl_prefix_cache *cache = calloc(1, sizeof *cache);
    if (!cache) return SL_FAIL_NOMEM(err, "prefix cache");
    cache->engine = engine;
    cache->cuts = sl__snapshot_can_cut(&engine->desc);
    cache->disk_limit = opt->disk_bytes;
    cache->lock = -1;
    cache->tick = 1;
    cache->approximate = opt->approximate;
    cache->message = opt->message;
    cache->message_ctx = opt->message_ctx;
    sl_status status = open_parts(cache, opt, err);
    if (status != SL_OK) {
        sl_prefix_cache_close(cache);
        return status;
    }
    cache->memory_limit = opt->memory_bytes;
    engine->prefix_bytes += opt->memory_bytes;
    *out = cache;
    return SL_OK;
}

void sl_prefix_cache_close(sl_prefix_cache *cache)
{
    if (!cache) return;
    for (size_t i = cache->count; i-- > 0;) {
        sl__prefix_entry *e = &cache->entries[i];
        if (e->memory) sl__pages_free(e->memory, (size_t)e->bytes);
        free(e->marks);
    }
    cache->engine->prefix_bytes -= cache->memory_limit;
    sl__prefix_folder_close(cache);
    free(cache->entries);
    free(cache);
}

void sl_prefix_cache_stats_get(const sl_prefix_cache *cache, sl_prefix_cache_stats *stats)
{
    *stats = cache->stats;
}

/* ---- keeping --------------------------------------------------------------------------------- */

/* The session's snapshot in memory, if there is room for it; nothing else is at stake. */
static void put_in_memory(sl_prefix_cache *cache, sl__prefix_entry *entry,
                          const sl_session *session)
{
    sl_error err = {0};
    const sl__snapshot_place place = {"kept prompt", -1, sl__pages_alloc((size_t)entry->bytes),
                                      entry->bytes};
    if (!place.memory) return;
    if (sl__snapshot_write(session, &place, &err) != SL_OK) {
        sl__pages_free(place.memory, (size_t)entry->bytes);
        return;
    }
    entry->memory = place.memory;
    cache->stats.memory_entries++;
    cache->stats.memory_bytes += entry->bytes;
}

/* The entry whose ids have the hash, or, where states can be cut, that begins with such ids. */
static sl__prefix_entry *holder(sl_prefix_cache *cache, uint64_t hash, uint32_t position)
{
    for (size_t i = 0; i < cache->count; i++) {
        sl__prefix_entry *e = &cache->entries[i];
        if (e->position == position && e->hash == hash) return e;
        if (!cache->cuts || e->position < position || position % SL_PREFIX_MARK != 0) continue;
        if (e->marks[position / SL_PREFIX_MARK - 1] == hash) return e;
    }
    return NULL;
}

/* Where states can be cut, what the session began with is in what is kept of it now. */
static void drop_beginnings(sl_prefix_cache *cache, const sl_session *session)
{
    uint64_t hash = SL_PREFIX_HASH_BEGIN;
    size_t i = 0;
    for (uint32_t p = 1; cache->cuts && p < session->position; p++) {
        hash = sl__prefix_hash_next(hash, session->ids[p - 1]);
        while (i < cache->count && cache->entries[i].position <= p) {
            sl__prefix_entry *e = &cache->entries[i];
            if (e->position == p && e->hash == hash) sl__prefix_drop(cache, e, true, true);
            else i++;
        }
    }
}

static void use(sl_prefix_cache *cache, sl__prefix_entry *entry)
{
    entry->used = cache->tick++;
    sl__prefix_folder_touch(cache, entry);
}

sl_status sl_prefix_cache_keep(sl_prefix_cache *cache, const sl_session *session, sl_error *err)
{
    const uint32_t position = session->position;
    const uint64_t bytes = sl__snapshot_bytes(session);
    sl_error why = {0};
    if (session->engine != cache->engine) {
        return SL_FAIL(err, SL_EINVAL, "a session of another engine is to be kept");
    }
    if (session->failed) {
        return SL_FAIL(err, SL_EINVAL, "the session failed before and must be reset");
    }
    if (!sl__prefix_usable(cache, position, session->cut)) {
        cache->stats.refused++;
        return SL_OK;
    }
    sl__prefix_entry *entry = holder(cache, sl__prefix_hash(session->ids, position), position);
    if (entry) {
        use(cache, entry);
        return SL_OK;
    }
    drop_beginnings(cache, session);
    /* Room first: what goes moves the others. */
    bool memory = make_room(cache, true, bytes), disk = make_room(cache, false, bytes);
    if (!memory && !disk) return SL_OK;
    if (cache->count == SL_PREFIX_ENTRIES_MAX) {
        sl__prefix_entry *last = oldest(cache, false);
        sl__prefix_drop(cache, last ? last : oldest(cache, true), true, true);
        cache->stats.evicted++;
    }
    entry = sl__prefix_insert(cache, session->ids, position, bytes);
    if (!entry) return SL_FAIL_NOMEM(err, "prefix cache");
    if (memory) put_in_memory(cache, entry, session);
    if (disk && sl__prefix_folder_put(cache, entry, session, &why) != SL_OK) {
        sl__prefix_tell(cache, why.message);
    }
    if (entry->memory || entry->on_disk) cache->stats.kept++;
    else sl__prefix_drop(cache, entry, false, false);
    return SL_OK;
}

/* ---- finding --------------------------------------------------------------------------------- */

/* The longest beginning of ids[most] that an entry seems to have, at least `least` tokens. */
static sl__prefix_entry *propose(sl_prefix_cache *cache, const int32_t *ids, size_t most,
                                 uint32_t least)
{
    uint64_t hash = SL_PREFIX_HASH_BEGIN;
    sl__prefix_entry *best = NULL;
    size_t i = 0; /* of the entries, which are in order of their positions */
    for (uint32_t p = 1; p <= most; p++) {
        hash = sl__prefix_hash_next(hash, ids[p - 1]);
        while (i < cache->count && cache->entries[i].position < p)
            i++;
        if (p < least) continue;
        for (size_t j = i; j < cache->count; j++) {
            sl__prefix_entry *e = &cache->entries[j];
            if (e->position == p && e->hash == hash) best = e;
            if (!cache->cuts && e->position > p) break;
            if (!cache->cuts || p % SL_PREFIX_MARK != 0) continue;
            if (e->marks[p / SL_PREFIX_MARK - 1] == hash) best = e;
        }
    }
    return best;
}

static size_t common(const int32_t *a, const int32_t *b, size_t most)
{
    size_t n = 0;
    while (n < most && a[n] == b[n])
        n++;
    return n;
}

/* The session becomes what the place holds, as far as its ids are those asked for; *reused stays 0
 * where they are not, and the session is then as it was. */
static sl_status take(sl_prefix_cache *cache, sl_session *session,
                      const sl__snapshot_place *place, const int32_t *ids, size_t most,
                      size_t *reused, sl_error *err)
{
    sl__snapshot_header h;
    int32_t *kept;
    SL_TRY(sl__snapshot_read_header(&h, place, err));
    SL_TRY(sl__snapshot_read_ids(place, &h, &kept, err));
    size_t n = common(kept, ids, h.position < most ? h.position : most);
    free(kept);
    if (n < h.position && !cache->cuts) return SL_OK;
    if (n == 0) return SL_OK;
    SL_TRY(sl__snapshot_read(session, place, &h, (uint32_t)n, err));
    *reused = n;
    return SL_OK;
}

static sl_status take_entry(sl_prefix_cache *cache, sl_session *session,
                            const sl__prefix_entry *entry, const int32_t *ids, size_t most,
                            size_t *reused, sl_error *err)
{
    char path[SL_PATH_MAX];
    sl__snapshot_place place = {"kept prompt", -1, entry->memory, entry->bytes};
    if (entry->memory) return take(cache, session, &place, ids, most, reused, err);
    SL_TRY(sl__prefix_folder_get(cache, entry, path, &place, err));
    sl_status status = take(cache, session, &place, ids, most, reused, err);
    close(place.fd);
    return status;
}

/* How much of ids[most] the session itself can go on from. */
static uint32_t own(const sl_prefix_cache *cache, const sl_session *session, const int32_t *ids,
                    size_t most)
{
    if (session->failed) return 0;
    size_t n = common(session->ids, ids, session->position < most ? session->position : most);
    if (n == session->position) {
        return sl__prefix_usable(cache, session->position, session->cut) ? (uint32_t)n : 0;
    }
    return cache->cuts ? (uint32_t)n : 0;
}

/* An entry was used: it goes last, and into memory where it was on the disk alone. */
static void promote(sl_prefix_cache *cache, sl__prefix_entry *entry, const sl_session *session)
{
    const uint64_t hash = entry->hash;
    const uint32_t position = entry->position;
    use(cache, entry);
    if (entry->memory || session->position != position) return;
    if (!make_room(cache, true, entry->bytes)) return;
    for (size_t i = 0; i < cache->count; i++) { /* others that went may have moved it */
        entry = &cache->entries[i];
        if (entry->hash != hash || entry->position != position) continue;
        put_in_memory(cache, entry, session);
        return;
    }
}

sl_status sl_prefix_cache_find(sl_prefix_cache *cache, sl_session *session, const int32_t *ids,
                               size_t count, size_t *reused, sl_error *err)
{
    *reused = 0;
    if (session->engine != cache->engine) {
        return SL_FAIL(err, SL_EINVAL, "a session of another engine is to be filled");
    }
    if (count == 0) return SL_FAIL(err, SL_EINVAL, "no tokens were given");
    size_t most = count - 1, room = cache->engine->plan.context_tokens;
    if (most > room) most = room;
    cache->stats.finds++;
    uint32_t mine = own(cache, session, ids, most);
    sl__prefix_entry *entry;
    while (*reused == 0 && (entry = propose(cache, ids, most, mine + 1)) != NULL) {
        sl_error why = {0};
        sl_status status = take_entry(cache, session, entry, ids, most, reused, &why);
        if (status == SL_OK && *reused > 0) {
            promote(cache, entry, session);
            break;
        }
        if (status == SL_ENOMEM) {
            sl_session_reset(session);
            return SL_FAIL(err, status, "%s", why.message);
        }
        if (status != SL_OK) {
            sl__prefix_tell(cache, why.message);
            cache->stats.damaged++;
            if (session->position < mine) mine = 0; /* reset on the way */
        }
        /* Damaged, or another text with the same hash. */
        sl__prefix_drop(cache, entry, true, true);
    }
    if (*reused == 0) {
        if (mine == 0) sl_session_reset(session);
        session->position = mine;
        *reused = mine;
    }
    if (*reused > 0) cache->stats.hits++;
    cache->stats.reused_tokens += *reused;
    return SL_OK;
}
