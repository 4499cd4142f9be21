/* What a model is, as one number: two models with the same one give the same answers.
 *
 *     family, configuration │ name, type and shape of every tensor │ pack: the manifest's bytes,
 *                                                                  │ which have all checksums
 *                                                                  │ else: size and time of files
 *
 * A checkpoint says nothing of its own bytes, and reading them all would take minutes: there the
 * files' sizes and times stand for them, so that a copy is another model. A pack may be moved.
 */
#include <sys/stat.h>
#include <unistd.h>

#include <stdio.h>
#include <string.h>

#include "base/fail.h"
#include "base/file.h"
#include "base/hash.h"
#include "engine/snapshot.h"

#define PIECE_BYTES 16384u

static void add_u64(sl__hasher *hash, uint64_t value)
{
    sl__hasher_update(hash, &value, sizeof value);
}

static void add_text(sl__hasher *hash, const char *text)
{
    sl__hasher_update(hash, text, strlen(text) + 1);
}

static int add_json(const char *text, size_t size, void *hash)
{
    sl__hasher_update(hash, text, size);
    return 0;
}

static void add_tensors(sl__hasher *hash, const sl__store *store)
{
    for (size_t i = 0; i < sl__store_tensor_count(store); i++) {
        const sl__tensor *t = sl__store_tensor_at(store, i);
        add_text(hash, t->name);
        add_u64(hash, (uint64_t)t->dtype);
        add_u64(hash, t->dims);
        for (uint32_t d = 0; d < t->dims; d++)
            add_u64(hash, t->shape[d]);
        add_u64(hash, t->extent.bytes);
    }
}

static sl_status add_file(sl__hasher *hash, const char *path, sl_error *err)
{
    int fd;
    uint64_t size;
    char piece[PIECE_BYTES];
    sl_status status = SL_OK;
    SL_TRY(sl__file_open(path, &fd, &size, err));
    for (uint64_t at = 0; at < size && status == SL_OK;) {
        size_t n = size - at < sizeof piece ? (size_t)(size - at) : sizeof piece;
        status = sl__file_pread_all(fd, path, piece, n, at, err);
        if (status == SL_OK) sl__hasher_update(hash, piece, n);
        at += n;
    }
    close(fd);
    return status;
}

static sl_status add_bytes(sl__hasher *hash, const sl__store *store, sl_error *err)
{
    if (sl__store_is_pack(store)) {
        char path[SL_PATH_MAX];
        SL_TRY(sl__path_join(path, sizeof path, sl__store_folder(store), "manifest.json", err));
        return add_file(hash, path, err);
    }
    for (uint32_t i = 0; i < sl__store_file_count(store); i++) {
        struct stat st;
        if (fstat(sl__store_fd(store, i), &st) != 0) {
            return SL_FAIL(err, SL_EIO, "%s: cannot be looked at", sl__store_file_path(store, i));
        }
        add_u64(hash, (uint64_t)st.st_size);
        add_u64(hash, (uint64_t)st.st_mtime);
    }
    return SL_OK;
}

sl_status sl__fingerprint(sl_engine *engine, uint64_t *out, sl_error *err)
{
    const sl__store *store = engine->store;
    if (engine->fingerprint == 0) {
        sl__hasher *hash = sl__hasher_create();
        if (!hash) return SL_FAIL_NOMEM(err, "fingerprint");
        add_text(hash, engine->desc.family);
        int dumped = json_dump_callback(sl__store_config(store)->root, add_json, hash,
                                        JSON_SORT_KEYS | JSON_COMPACT);
        add_tensors(hash, store);
        sl_status status = dumped == 0 ? add_bytes(hash, store, err)
                                       : SL_FAIL_NOMEM(err, "fingerprint");
        if (status == SL_OK) engine->fingerprint = sl__hasher_digest(hash) | 1;
        sl__hasher_destroy(hash);
        if (status != SL_OK) return status;
    }
    *out = engine->fingerprint;
    return SL_OK;
}
