#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fail.h"
#include "base/hash.h"
#include "base/json.h"
#include "store/pack_layout.h"
#include "store/pack_manifest.h"
#include "store/store_names.h"

/* ---- opening --------------------------------------------------------------------------------- */

static bool has(const char *folder, const char *name)
{
    char path[SL_PATH_MAX];
    return sl__path_join(path, sizeof path, folder, name, NULL) == SL_OK && sl__file_exists(path);
}

static sl_status set_paths(sl__store *s, const char *path, bool *is_folder, sl_error *err)
{
    struct stat st;
    size_t n = strlen(path);
    if (n == 0 || n >= sizeof s->path) {
        return SL_FAIL(err, SL_EINVAL, "\"%.200s\" is no path of a model", path);
    }
    memcpy(s->path, path, n + 1);
    if (stat(path, &st) != 0) return SL_FAIL(err, SL_EIO, "%s: %s", path, strerror(errno));
    *is_folder = S_ISDIR(st.st_mode);
    memcpy(s->folder, path, n + 1);
    if (*is_folder) return SL_OK;
    if (!S_ISREG(st.st_mode)) {
        return SL_FAIL(err, SL_EIO, "%s: neither a folder nor a regular file", path);
    }
    sl__path_parent(s->folder, path);
    return SL_OK;
}

static sl_status open_any(sl__store *s, const char *path, sl_error *err)
{
    bool is_folder = false;
    SL_TRY(set_paths(s, path, &is_folder, err));
    if (is_folder && has(path, SL_PACK_MANIFEST)) s->kind = SL_STORE_PACK;
    else if (!is_folder && sl__gguf_is(path)) s->kind = SL_STORE_GGUF;
    if (s->kind == SL_STORE_PACK) return sl__store_open_pack(s, err);
    if (s->kind == SL_STORE_GGUF) return sl__store_open_gguf(s, err);
    if (is_folder && !has(path, "model.safetensors") &&
        !has(path, "model.safetensors.index.json")) {
        return SL_FAIL(err, SL_EFORMAT,
                       "%s: no model here: expected " SL_PACK_MANIFEST
                       ", model.safetensors or model.safetensors.index.json; a GGUF model is "
                       "named by its file",
                       path);
    }
    return sl__store_open_checkpoint(s, err);
}

sl_status sl__store_open(sl__store **out, const char *path, sl_error *err)
{
    return sl__store_survey(out, path, NULL, err);
}

sl_status sl__store_survey(sl__store **out, const char *path, sl__problems *problems,
                           sl_error *err)
{
    sl__store *s = calloc(1, sizeof *s);
    if (!s) return SL_FAIL_NOMEM(err, "store");
    sl__arena_init(&s->arena, 0);
    s->problems = problems;
    sl_status status = open_any(s, path, err);
    s->problems = NULL;
    if (status != SL_OK) {
        sl__store_close(s);
        return status;
    }
    *out = s;
    return SL_OK;
}

sl_status sl__store_take_files(sl__store *store, uint32_t count, sl_error *err)
{
    store->files = SL_ARENA_NEW(&store->arena, sl__store_file, count);
    if (!store->files) return SL_FAIL_NOMEM(err, "file table");
    for (uint32_t i = 0; i < count; i++) {
        store->files[i].fd = -1;
        store->files[i].direct_fd = SL_STORE_DIRECT_UNTRIED;
    }
    store->file_count = count;
    return SL_OK;
}

static sl_status open_file(sl__store_file *file, uint64_t bytes, sl_error *err)
{
    SL_TRY(sl__file_open(file->path, &file->fd, &file->bytes, err));
    if (file->bytes == bytes) return SL_OK;
    return SL_FAIL(err, SL_EFORMAT, "%s: %llu bytes; expected %llu", file->path,
                   (unsigned long long)file->bytes, (unsigned long long)bytes);
}

sl_status sl__store_open_file(sl__store *store, uint32_t i, const char *path, uint64_t bytes,
                              bool absent, sl_error *err)
{
    sl_error why = {0};
    store->files[i].path = sl__arena_strdup(&store->arena, path);
    if (!store->files[i].path) return SL_FAIL_NOMEM(err, "file table");
    if (absent) return SL_OK;
    (void)open_file(&store->files[i], bytes, &why);
    return sl__problems_pass(store->problems, &why, err);
}

void sl__store_close(sl__store *store)
{
    if (!store) return;
    sl__store_unmap(store);
    for (uint32_t i = 0; store->files && i < store->file_count; i++) {
        if (store->files[i].fd >= 0) close(store->files[i].fd);
        if (store->files[i].direct_fd >= 0) close(store->files[i].direct_fd);
    }
    sl__config_free(&store->config);
    json_decref(store->generation);
    sl__pack_manifest_free(&store->manifest);
    for (uint32_t i = 0; i < store->layer_count; i++) free(store->layers[i].pieces);
    free(store->layers);
    sl__arena_free(&store->arena);
    free(store);
}

/* ---- what it is ------------------------------------------------------------------------------ */

bool sl__store_is_pack(const sl__store *store) { return store->kind == SL_STORE_PACK; }
const char *sl__store_path(const sl__store *store) { return store->path; }
const char *sl__store_folder(const sl__store *store) { return store->folder; }

const char *sl__store_format(const sl__store *store)
{
    static const char *const flavours[] = {[SL_FLAVOUR_PLAIN] = "safetensors",
                                           [SL_FLAVOUR_MLX] = "mlx",
                                           [SL_FLAVOUR_FP8] = "fp8",
                                           [SL_FLAVOUR_MXFP4] = "mxfp4",
                                           [SL_FLAVOUR_COMPRESSED] = "compressed-tensors"};
    if (store->kind == SL_STORE_CHECKPOINT) return flavours[store->flavour];
    return store->kind == SL_STORE_PACK ? "pack" : "gguf";
}

const sl__config *sl__store_config(const sl__store *store) { return &store->config; }

const json_t *sl__store_generation_config(const sl__store *store, const char **path_out)
{
    *path_out = store->generation_path;
    return store->generation;
}

bool sl__store_tokenizer_path(const sl__store *store, char *out, size_t out_size)
{
    static const char *const names[] = {"tokenizer.bin", "tokenizer.json", "tiktoken.model"};
    if (store->kind == SL_STORE_GGUF) {
        int n = snprintf(out, out_size, "%s", store->path);
        return store->tokenizer_bytes > 0 && n > 0 && (size_t)n < out_size;
    }
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (!has(store->folder, names[i])) continue;
        return sl__path_join(out, out_size, store->folder, names[i], NULL) == SL_OK;
    }
    return false;
}

uint64_t sl__store_tokenizer_bytes(const sl__store *store)
{
    char path[SL_PATH_MAX];
    struct stat st;
    if (store->kind == SL_STORE_GGUF) return store->tokenizer_bytes;
    /* About its file's size, where it is compiled exactly. */
    if (!sl__store_tokenizer_path(store, path, sizeof path) || stat(path, &st) != 0) return 0;
    return (uint64_t)st.st_size;
}

const char *sl__store_template(const sl__store *store) { return store->template_text; }

bool sl__store_has_template(const sl__store *store)
{
    if (store->kind == SL_STORE_GGUF) return store->template_text != NULL;
    return has(store->folder, "chat_template.jinja");
}

const char *sl__store_name_in_file(const sl__store *store, const char *name,
                                   char out[SL_STORE_NAME_MAX])
{
    _Static_assert(SL_STORE_NAME_MAX == SL_GGUF_NAME_MAX, "room for names");
    const sl__tensor *tensor = sl__store_find(store, name);
    if (tensor && tensor->stored) return tensor->stored;
    if (store->stripped && !tensor) {
        snprintf(out, SL_STORE_NAME_MAX, SL_MLX_PREFIX "%s", name);
        return out;
    }
    if (store->kind != SL_STORE_GGUF || !store->gguf.arch) return name;
    return sl__gguf_name_of(&store->gguf, name, out) ? out : name;
}

/* ---- tensors --------------------------------------------------------------------------------- */

size_t sl__store_tensor_count(const sl__store *store) { return store->tensor_count; }

const sl__tensor *sl__store_tensor_at(const sl__store *store, size_t i)
{
    assert(i < store->tensor_count);
    return &store->tensors[i];
}

static int compare_with_name(const void *name, const void *tensor)
{
    return strcmp(name, ((const sl__tensor *)tensor)->name);
}

const sl__tensor *sl__store_find(const sl__store *store, const char *name)
{
    if (store->tensor_count == 0) return NULL;
    return bsearch(name, store->tensors, store->tensor_count, sizeof *store->tensors,
                   compare_with_name);
}

static sl_status compare(const char *path, const sl__tensor *tensor, uint64_t hash, sl_error *err)
{
    if (hash == tensor->checksum) return SL_OK;
    return SL_FAIL(err, SL_ECORRUPT, "%s: tensor %s: the bytes differ from their checksum", path,
                   tensor->name);
}

sl_status sl__store_read_tensor(const sl__store *store, const sl__tensor *tensor, void *dst,
                                sl_error *err)
{
    const sl__extent *x = &tensor->extent;
    const char *path = sl__store_file_path(store, x->file);
    SL_TRY(sl__file_pread_all(store->files[x->file].fd, path, dst, x->bytes, x->offset, err));
    return tensor->has_checksum ? compare(path, tensor, sl__hash64(dst, (size_t)x->bytes), err)
                                : SL_OK;
}

sl_status sl__store_check_tensor(const sl__store *store, const sl__tensor *tensor, void *buffer,
                                 size_t buffer_bytes, sl_error *err)
{
    assert(buffer_bytes > 0);
    if (!tensor->has_checksum) return SL_OK;
    const sl__extent *x = &tensor->extent;
    const char *path = sl__store_file_path(store, x->file);
    sl__hasher *hash = sl__hasher_create();
    if (!hash) return SL_FAIL_NOMEM(err, "checksum");
    sl_status status = SL_OK;
    for (uint64_t done = 0; status == SL_OK && done < x->bytes;) {
        uint64_t left = x->bytes - done;
        size_t part = left < buffer_bytes ? (size_t)left : buffer_bytes;
        status = sl__file_pread_all(store->files[x->file].fd, path, buffer, part, x->offset + done,
                                    err);
        if (status == SL_OK) sl__hasher_update(hash, buffer, part);
        done += part;
    }
    if (status == SL_OK) status = compare(path, tensor, sl__hasher_digest(hash), err);
    sl__hasher_destroy(hash);
    return status;
}

int sl__store_fd(const sl__store *store, uint32_t file)
{
    assert(file < store->file_count);
    return store->files[file].fd;
}

/* The path may name another file by now: what was checked is the one that is open. */
static bool is_same_file(int a, int b)
{
    struct stat x, y;
    return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev &&
           x.st_ino == y.st_ino && x.st_size == y.st_size;
}

int sl__store_direct_fd(sl__store *store, uint32_t file)
{
    assert(file < store->file_count);
    sl__store_file *f = &store->files[file];
    int known = atomic_load(&f->direct_fd);
    if (known != SL_STORE_DIRECT_UNTRIED) return known;
    int fd = sl__file_open_direct(f->path);
    if (fd >= 0 && !is_same_file(f->fd, fd)) {
        close(fd);
        fd = -1;
    }
    /* Of several callers at once the first one's stays. */
    if (atomic_compare_exchange_strong(&f->direct_fd, &known, fd)) return fd;
    if (fd >= 0) close(fd);
    return known;
}

uint64_t sl__store_file_bytes(const sl__store *store, uint32_t file)
{
    assert(file < store->file_count);
    return store->files[file].bytes;
}

const char *sl__store_file_path(const sl__store *store, uint32_t file)
{
    assert(file < store->file_count);
    return store->files[file].path;
}

uint32_t sl__store_file_count(const sl__store *store) { return store->file_count; }

/* ---- footprint ------------------------------------------------------------------------------- */

/* What a JSON value takes, roughly: a node, and for containers their tables. */
static uint64_t json_bytes(const json_t *value)
{
    const char *key;
    json_t *member;
    size_t i;
    uint64_t bytes = 48;
    if (json_is_string(value)) return bytes + json_string_length(value) + 1;
    if (json_is_object(value)) {
        bytes += 256;
        json_object_foreach((json_t *)value, key, member)
        {
            bytes += 96 + strlen(key) + json_bytes(member);
        }
    } else if (json_is_array(value)) {
        json_array_foreach(value, i, member)
        {
            bytes += sizeof member + json_bytes(member);
        }
    }
    return bytes;
}

uint64_t sl__store_footprint(const sl__store *store)
{
    uint64_t bytes = sizeof *store + store->arena.used_bytes;
    bytes += store->layer_count * sizeof *store->layers;
    for (uint32_t i = 0; i < store->layer_count; i++) {
        const sl__store_layer *layer = &store->layers[i];
        if (layer->pieces) {
            bytes += (uint64_t)layer->layout.expert_count * SL_PART_COUNT * sizeof *layer->pieces;
        }
    }
    if (store->manifest.arena) bytes += store->manifest.arena->used_bytes;
    if (store->config.root) bytes += json_bytes(store->config.root);
    if (store->manifest.root) bytes += json_bytes(store->manifest.root);
    if (store->generation && store->kind != SL_STORE_PACK) bytes += json_bytes(store->generation);
    return bytes;
}
