/* Writing and reading snapshots. Reading compares the header, the settings and every size with the
 * model before it touches the session; what is then found damaged leaves the session reset. */
#include "engine/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/fail.h"
#include "base/file.h"
#include "base/hash.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "states are written as they lie, and a snapshot is little-endian"
#endif

#define SKIP_BYTES 16384u

static sl_status get(const sl__snapshot_place *place, void *to, uint64_t bytes, uint64_t at,
                     sl_error *err)
{
    if (at > place->bytes || bytes > place->bytes - at) {
        return SL_FAIL(err, SL_EFORMAT, "%s: the snapshot is cut short", place->name);
    }
    if (place->fd >= 0) return sl__file_pread_all(place->fd, place->name, to, bytes, at, err);
    if (bytes > 0) memcpy(to, place->memory + at, (size_t)bytes);
    return SL_OK;
}

static sl_status put(const sl__snapshot_place *place, const void *from, uint64_t bytes,
                     uint64_t at, sl_error *err)
{
    assert(at <= place->bytes && bytes <= place->bytes - at);
    if (place->fd >= 0) return sl__file_pwrite_all(place->fd, place->name, from, bytes, at, err);
    if (bytes > 0) memcpy(place->memory + at, from, (size_t)bytes);
    return SL_OK;
}

/* ---- sizes ----------------------------------------------------------------------------------- */

/* Of a section at a position: 0 are the ids, then come the layers. */
static uint64_t section_bytes(const sl_engine *engine, uint32_t section, uint32_t position)
{
    uint64_t bytes = 0;
    if (section == 0) return (uint64_t)position * sizeof(int32_t);
    const sl__layer_desc *l = &engine->desc.layers[section - 1];
    for (uint32_t i = 0; i < sl__state_part_count(l); i++)
        bytes += sl__state_part_bytes(l, engine->plan.kv, i, position);
    return bytes;
}

static uint64_t table_end(uint32_t sections)
{
    return SL_SNAPSHOT_HEADER + (uint64_t)sections * SL_SNAPSHOT_SECTION;
}

static uint64_t bytes_at(const sl_engine *engine, uint32_t position)
{
    const uint32_t sections = engine->desc.layer_count + 1;
    uint64_t bytes = table_end(sections);
    for (uint32_t i = 0; i < sections; i++)
        bytes += section_bytes(engine, i, position);
    return bytes;
}

uint64_t sl__snapshot_bytes(const sl_session *session)
{
    return bytes_at(session->engine, session->position);
}

bool sl__snapshot_can_cut(const sl__model_desc *desc)
{
    for (uint32_t i = 0; i < desc->layer_count; i++) {
        const sl__layer_desc *l = &desc->layers[i];
        if (l->mixer == SL_MIXER_DELTA) return false;
        if (l->mixer == SL_MIXER_ATTENTION && l->attention.window > 0) return false;
    }
    return true;
}

/* ---- writing --------------------------------------------------------------------------------- */

/* What lies behind the position in the last blocks is of no use, and may be another text's. */
static sl_status blank(const sl_session *session, sl_error *err)
{
    const sl__model_desc *desc = &session->engine->desc;
    uint32_t width = 1;
    for (uint32_t i = 0; i < desc->layer_count; i++) {
        uint32_t w = sl__state_width(&desc->layers[i]);
        if (w > width) width = w;
    }
    float *zeros = calloc(width, sizeof *zeros);
    if (!zeros) return SL_FAIL_NOMEM(err, "snapshot");
    for (uint32_t i = 0; i < desc->layer_count; i++)
        sl__state_blank(&session->layers[i], &desc->layers[i], session->position, zeros);
    free(zeros);
    return SL_OK;
}

struct entry {
    uint64_t bytes, hash;
};

/* Writes section `section` from *at on. */
static sl_status write_section(const sl_session *session, uint32_t section, sl__hasher *hash,
                               const sl__snapshot_place *place, uint64_t *at, struct entry *entry,
                               sl_error *err)
{
    const uint64_t begin = *at;
    const sl__layer_desc *l = section > 0 ? &session->engine->desc.layers[section - 1] : NULL;
    uint32_t parts = l ? sl__state_part_count(l) : 1;
    sl__hasher_reset(hash);
    for (uint32_t i = 0; i < parts; i++) {
        const sl__state_part part =
            l ? sl__state_part_of(&session->layers[section - 1], l, i, session->position)
              : (sl__state_part){(char *)session->ids, session->position * sizeof(int32_t)};
        sl__hasher_update(hash, part.data, (size_t)part.bytes);
        SL_TRY(put(place, part.data, part.bytes, *at, err));
        *at += part.bytes;
    }
    *entry = (struct entry){*at - begin, sl__hasher_digest(hash)};
    return SL_OK;
}

static sl_status write_all(const sl_session *session, const sl__snapshot_place *place,
                           sl__snapshot_header *h, struct entry *table, sl__hasher *hash,
                           sl_error *err)
{
    unsigned char head[SL_SNAPSHOT_HEADER];
    uint64_t at = table_end(h->sections);
    for (uint32_t i = 0; i < h->sections; i++)
        SL_TRY(write_section(session, i, hash, place, &at, &table[i], err));
    assert(at == h->bytes && at == place->bytes);
    size_t bytes = h->sections * sizeof *table;
    h->table_hash = sl__hash64(table, bytes);
    sl__snapshot_header_put(head, h);
    SL_TRY(put(place, table, bytes, SL_SNAPSHOT_HEADER, err));
    return put(place, head, sizeof head, 0, err);
}

sl_status sl__snapshot_write(const sl_session *session, const sl__snapshot_place *place,
                             sl_error *err)
{
    sl__snapshot_header h = {.position = session->position,
                             .cut = session->cut,
                             .prefix = sl__prefix_hash(session->ids, session->position),
                             .sections = session->engine->desc.layer_count + 1,
                             .bytes = sl__snapshot_bytes(session)};
    if (session->failed) {
        return SL_FAIL(err, SL_EINVAL, "%s: the session failed before and must be reset",
                       place->name);
    }
    SL_TRY(sl__snapshot_settings_of(session->engine, &h.settings, err));
    SL_TRY(blank(session, err));
    struct entry *table = calloc(h.sections, sizeof *table);
    sl__hasher *hash = sl__hasher_create();
    sl_status status = table && hash ? write_all(session, place, &h, table, hash, err)
                                     : SL_FAIL_NOMEM(err, "snapshot");
    sl__hasher_destroy(hash);
    free(table);
    return status;
}

/* ---- reading --------------------------------------------------------------------------------- */

sl_status sl__snapshot_read_header(sl__snapshot_header *h, const sl__snapshot_place *place,
                                   sl_error *err)
{
    unsigned char head[SL_SNAPSHOT_HEADER];
    if (place->bytes < sizeof head) {
        return SL_FAIL(err, SL_EFORMAT, "%s: not a snapshot", place->name);
    }
    SL_TRY(get(place, head, sizeof head, 0, err));
    SL_TRY(sl__snapshot_header_get(h, head, place->name, err));
    if (h->bytes == place->bytes) return SL_OK;
    return SL_FAIL(err, SL_EFORMAT, "%s: the snapshot %s: %llu bytes of %llu are there",
                   place->name,
                   h->bytes > place->bytes ? "is cut short" : "has something behind it",
                   (unsigned long long)place->bytes, (unsigned long long)h->bytes);
}

/* The table, [h->sections], malloc'd. */
static sl_status read_table(const sl__snapshot_place *place, const sl__snapshot_header *h,
                            struct entry **out, sl_error *err)
{
    size_t bytes = h->sections * sizeof(struct entry);
    struct entry *table = malloc(bytes);
    if (!table) return SL_FAIL_NOMEM(err, "snapshot");
    sl_status status = get(place, table, bytes, SL_SNAPSHOT_HEADER, err);
    if (status == SL_OK && sl__hash64(table, bytes) != h->table_hash) {
        status = SL_FAIL(err, SL_ECORRUPT, "%s: the snapshot's table differs from its checksum",
                         place->name);
    }
    if (status != SL_OK) {
        free(table);
        return status;
    }
    *out = table;
    return SL_OK;
}

/* Whether every section is of the size that the model gives it. */
static sl_status check_sizes(const sl_engine *engine, const sl__snapshot_place *place,
                             const sl__snapshot_header *h, const struct entry *table,
                             sl_error *err)
{
    bool right = h->sections == engine->desc.layer_count + 1 &&
                 h->position <= engine->desc.max_context &&
                 h->bytes == bytes_at(engine, h->position);
    for (uint32_t i = 0; i < h->sections && right; i++)
        right = table[i].bytes == section_bytes(engine, i, h->position);
    if (right) return SL_OK;
    return SL_FAIL(err, SL_EFORMAT, "%s: the snapshot's sizes are not those of %u tokens",
                   place->name, h->position);
}

/* Bytes that are hashed and not kept. */
static sl_status skip(const sl__snapshot_place *place, sl__hasher *hash, uint64_t at,
                      uint64_t bytes, sl_error *err)
{
    char piece[SKIP_BYTES];
    while (bytes > 0) {
        size_t n = bytes < sizeof piece ? (size_t)bytes : sizeof piece;
        SL_TRY(get(place, piece, n, at, err));
        sl__hasher_update(hash, piece, n);
        at += n;
        bytes -= n;
    }
    return SL_OK;
}

/* A part of `stored` bytes from `at` on, of which the first go where they are wanted. */
static sl_status read_part(const sl__snapshot_place *place, sl__hasher *hash, uint64_t at,
                           uint64_t stored, const sl__state_part *part, sl_error *err)
{
    assert(part->bytes <= stored);
    SL_TRY(get(place, part->data, part->bytes, at, err));
    sl__hasher_update(hash, part->data, (size_t)part->bytes);
    return skip(place, hash, at + part->bytes, stored - part->bytes, err);
}

static sl_status read_section(sl_session *session, const sl__snapshot_place *place,
                              const sl__snapshot_header *h, uint32_t section, uint32_t position,
                              sl__hasher *hash, uint64_t at, sl_error *err)
{
    const sl_engine *engine = session->engine;
    sl__hasher_reset(hash);
    if (section == 0) {
        const sl__state_part part = {(char *)session->ids, position * sizeof(int32_t)};
        return read_part(place, hash, at, section_bytes(engine, 0, h->position), &part, err);
    }
    const sl__layer_desc *l = &engine->desc.layers[section - 1];
    sl__state_place(&session->layers[section - 1], l, position);
    for (uint32_t i = 0; i < sl__state_part_count(l); i++) {
        const sl__state_part part =
            sl__state_part_of(&session->layers[section - 1], l, i, position);
        uint64_t stored = sl__state_part_bytes(l, engine->plan.kv, i, h->position);
        SL_TRY(read_part(place, hash, at, stored, &part, err));
        at += stored;
    }
    return SL_OK;
}

static sl_status check_ids(const sl_session *session, const char *name, uint32_t count,
                           sl_error *err)
{
    for (uint32_t i = 0; i < count; i++) {
        if (session->ids[i] >= 0 && (uint32_t)session->ids[i] < session->engine->desc.vocab) {
            continue;
        }
        return SL_FAIL(err, SL_EFORMAT, "%s: token %u of the snapshot: id %d is outside the "
                       "vocabulary", name, i, (int)session->ids[i]);
    }
    return SL_OK;
}

static sl_status read_all(sl_session *session, const sl__snapshot_place *place,
                          const sl__snapshot_header *h, const struct entry *table,
                          uint32_t position, sl__hasher *hash, sl_error *err)
{
    uint64_t at = table_end(h->sections);
    for (uint32_t i = 0; i < h->sections; i++) {
        SL_TRY(read_section(session, place, h, i, position, hash, at, err));
        at += table[i].bytes;
        if (sl__hasher_digest(hash) == table[i].hash) continue;
        if (i == 0) {
            return SL_FAIL(err, SL_ECORRUPT, "%s: the snapshot's tokens differ from their "
                           "checksum", place->name);
        }
        return SL_FAIL(err, SL_ECORRUPT, "%s: layer %u of the snapshot differs from its checksum",
                       place->name, i - 1);
    }
    return check_ids(session, place->name, position, err);
}

static sl_status replace(sl_session *session, const sl__snapshot_place *place,
                         const sl__snapshot_header *h, const struct entry *table,
                         uint32_t position, sl_error *err)
{
    sl__hasher *hash = sl__hasher_create();
    if (!hash) return SL_FAIL_NOMEM(err, "snapshot");
    sl_session_reset(session);
    sl_status status = read_all(session, place, h, table, position, hash, err);
    sl__hasher_destroy(hash);
    if (status != SL_OK) {
        sl_session_reset(session);
        return status;
    }
    session->position = position;
    session->cut = h->cut;
    return SL_OK;
}

sl_status sl__snapshot_read(sl_session *session, const sl__snapshot_place *place,
                            const sl__snapshot_header *h, uint32_t position, sl_error *err)
{
    sl_engine *engine = session->engine;
    sl__snapshot_settings want;
    struct entry *table;
    assert(position == h->position || (position < h->position &&
                                       sl__snapshot_can_cut(&engine->desc)));
    SL_TRY(sl__snapshot_settings_of(engine, &want, err));
    SL_TRY(sl__snapshot_check(&h->settings, &want, place->name, err));
    SL_TRY(read_table(place, h, &table, err));
    sl_status status = check_sizes(engine, place, h, table, err);
    if (status == SL_OK && position > engine->plan.context_tokens) {
        status = SL_FAIL(err, SL_EINVAL, "%s: the snapshot has %u tokens, and the context is %u",
                         place->name, position, engine->plan.context_tokens);
    }
    if (status == SL_OK) status = replace(session, place, h, table, position, err);
    free(table);
    return status;
}

sl_status sl__snapshot_read_ids(const sl__snapshot_place *place, const sl__snapshot_header *h,
                                int32_t **out, sl_error *err)
{
    struct entry *table;
    size_t bytes = h->position * sizeof **out;
    SL_TRY(read_table(place, h, &table, err));
    int32_t *ids = NULL;
    sl_status status = SL_OK;
    if (table[0].bytes != bytes || bytes > place->bytes) {
        status = SL_FAIL(err, SL_EFORMAT, "%s: the snapshot's sizes are not those of %u tokens",
                         place->name, h->position);
    } else if (!(ids = malloc(bytes + 1))) {
        status = SL_FAIL_NOMEM(err, "snapshot");
    }
    if (status == SL_OK) status = get(place, ids, bytes, table_end(h->sections), err);
    if (status == SL_OK && sl__hash64(ids, bytes) != table[0].hash) {
        status = SL_FAIL(err, SL_ECORRUPT, "%s: the snapshot's tokens differ from their checksum",
                         place->name);
    }
    free(table);
    if (status != SL_OK) {
        free(ids);
        return status;
    }
    *out = ids;
    return SL_OK;
}

/* ---- files ----------------------------------------------------------------------------------- */

static sl_status write_file(const sl_session *session, const sl__snapshot_place *place, bool sync,
                            sl_error *err)
{
    SL_TRY(sl__snapshot_write(session, place, err));
    if (!sync || sl__file_sync(place->fd) == 0) return SL_OK;
    return SL_FAIL(err, SL_EIO, "%s: %s", place->name, strerror(errno));
}

sl_status sl__snapshot_save(const sl_session *session, const char *path, bool sync, sl_error *err)
{
    char partial[SL_PATH_MAX], parent[SL_PATH_MAX];
    int n = snprintf(partial, sizeof partial, "%s.partial", path);
    if (path[0] == '\0' || n < 0 || (size_t)n >= sizeof partial) {
        return SL_FAIL(err, SL_EINVAL, "%.200s: no path for a snapshot", path);
    }
    sl__snapshot_place place = {.name = path, .bytes = sl__snapshot_bytes(session)};
    place.fd = open(partial, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (place.fd < 0) return SL_FAIL(err, SL_EIO, "%s: %s", partial, strerror(errno));
    sl_status status = write_file(session, &place, sync, err);
    if (close(place.fd) != 0 && status == SL_OK) {
        status = SL_FAIL(err, SL_EIO, "%s: %s", path, strerror(errno));
    }
    if (status == SL_OK && rename(partial, path) != 0) {
        status = SL_FAIL(err, SL_EIO, "%s: %s", path, strerror(errno));
    }
    if (status != SL_OK) {
        unlink(partial);
        return status;
    }
    if (!sync) return SL_OK;
    sl__path_parent(parent, path);
    return sl__file_sync_dir(parent, err);
}

sl_status sl_session_save(const sl_session *session, const char *path, sl_error *err)
{
    return sl__snapshot_save(session, path, true, err);
}

sl_status sl_session_load(sl_session *session, const char *path, sl_error *err)
{
    sl__snapshot_place place = {.name = path};
    sl__snapshot_header h;
    SL_TRY(sl__file_open(path, &place.fd, &place.bytes, err));
    sl_status status = sl__snapshot_read_header(&h, &place, err);
    if (status == SL_OK) status = sl__snapshot_read(session, &place, &h, h.position, err);
    close(place.fd);
    return status;
}

/* ---- in memory ------------------------------------------------------------------------------- */

sl_status sl_session_copy(sl_session *dst, const sl_session *src, sl_error *err)
{
    const sl__model_desc *desc = &src->engine->desc;
    const uint32_t position = src->position;
    if (dst->engine != src->engine) {
        return SL_FAIL(err, SL_EINVAL, "a session is copied to one of another engine");
    }
    if (src->failed) {
        return SL_FAIL(err, SL_EINVAL, "the session failed before and must be reset");
    }
    if (dst == src) return SL_OK;
    sl_session_reset(dst);
    for (uint32_t i = 0; i < desc->layer_count; i++) {
        const sl__layer_desc *l = &desc->layers[i];
        sl__state_place(&dst->layers[i], l, position);
        for (uint32_t p = 0; p < sl__state_part_count(l); p++) {
            const sl__state_part from = sl__state_part_of(&src->layers[i], l, p, position);
            const sl__state_part to = sl__state_part_of(&dst->layers[i], l, p, position);
            memcpy(to.data, from.data, (size_t)from.bytes);
        }
    }
    memcpy(dst->ids, src->ids, position * sizeof *src->ids);
    dst->position = position;
    dst->cut = src->cut;
    return SL_OK;
}
