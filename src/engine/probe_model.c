/* How a model's own files are read best, measured or remembered. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fail.h"
#include "base/file.h"
#include "engine/engine.h"
#include "format/gguf.h"
#include "io/probe.h"

/* Of a file that is no model: about an expert of a large one. */
#define PLAIN_BYTES (UINT64_C(4) << 20)

/* ---- a model's files ------------------------------------------------------------------------- */

/* Marks the files that experts lie in; true where there is one. */
static bool mark_expert_files(const sl__store *store, bool *marks)
{
    bool any = false;
    for (uint32_t layer = 0; layer < SL_LAYERS_MAX; layer++) {
        const sl__expert_layout *layout = sl__store_expert_layout(store, layer);
        for (uint32_t expert = 0; layout && expert < layout->expert_count; expert++) {
            sl__extent extents[SL_EXPERT_EXTENTS_MAX];
            uint32_t count = sl__store_expert_extents(store, layer, expert, extents);
            for (uint32_t i = 0; i < count; i++)
                marks[extents[i].file] = any = true;
        }
    }
    return any;
}

static sl_status list_files(sl__probe_file **files, uint32_t *count, sl__store *store,
                            sl_error *err)
{
    uint32_t all = sl__store_file_count(store);
    bool *marks = calloc(all + 1u, sizeof *marks);
    sl__probe_file *list = calloc(all + 1u, sizeof *list);
    if (!marks || !list) {
        free(marks);
        free(list);
        return SL_FAIL_NOMEM(err, "probe");
    }
    bool some = mark_expert_files(store, marks);
    *count = 0;
    for (uint32_t i = 0; i < all; i++) {
        if (some && !marks[i]) continue;
        list[(*count)++] = (sl__probe_file){.path = sl__store_file_path(store, i),
                                            .fd = sl__store_fd(store, i),
                                            .direct_fd = sl__store_direct_fd(store, i),
                                            .bytes = sl__store_file_bytes(store, i)};
    }
    free(marks);
    *files = list;
    return SL_OK;
}

/* ---- remembered, else measured --------------------------------------------------------------- */

static sl_status probe_files(sl_probe_result *out, const sl__probe_file *files, uint32_t count,
                             const sl_probe_options *opt, sl_error *err)
{
    memset(out, 0, sizeof *out);
    if (count > 0) sl__probe_device(out->device, files[0].fd);
    if (opt->probe_file && !opt->again &&
        sl__probe_recall(out, opt->probe_file, opt->expert_bytes))
        return SL_OK;
    uint64_t time_ns = opt->time_ns ? opt->time_ns : SL_PROBE_TIME_NS;
    SL_TRY(sl__probe_run(out, files, count, opt->expert_bytes, time_ns, err));
    /* A folder that cannot be written to costs the same half second the next time, no more. */
    if (opt->probe_file)
        (void)sl__probe_save(out, opt->probe_file, opt->expert_bytes, NULL);
    return SL_OK;
}

static sl_status probe_store(sl_probe_result *out, sl__store *store, const sl_probe_options *opt,
                             sl_error *err)
{
    sl__probe_file *files;
    uint32_t count;
    SL_TRY(list_files(&files, &count, store, err));
    sl_status status = probe_files(out, files, count, opt, err);
    free(files);
    return status;
}

sl_status sl__engine_probe(sl_probe_result *out, sl__store *store, uint64_t expert_bytes,
                           const char *probe_file, sl_error *err)
{
    const sl_probe_options opt = {.expert_bytes = expert_bytes, .probe_file = probe_file};
    return probe_store(out, store, &opt, err);
}

/* ---- sl_probe -------------------------------------------------------------------------------- */

/* Bytes of an expert of the first layer that has any, all layers being bound. */
static sl_status bind_all(uint64_t *expert_bytes, sl__store *store, sl__arena *arena,
                          sl_error *err)
{
    const sl__family *family;
    sl__model_desc desc;
    SL_TRY(sl__model_describe(&desc, &family, store, arena, err));
    *expert_bytes = 0;
    for (uint32_t layer = 0; layer < desc.layer_count; layer++) {
        SL_TRY(sl__model_bind_experts(store, family, &desc, layer, err));
        if (*expert_bytes > 0 || desc.layers[layer].moe.experts == 0) continue;
        sl__extent extents[SL_EXPERT_EXTENTS_MAX];
        uint32_t count = sl__store_expert_extents(store, layer, 0, extents);
        for (uint32_t i = 0; i < count; i++)
            *expert_bytes += extents[i].bytes;
    }
    if (*expert_bytes == 0) *expert_bytes = PLAIN_BYTES;
    return SL_OK;
}

static sl_status probe_model(sl_probe_result *out, const char *path, const sl_probe_options *opt,
                             sl_error *err)
{
    sl__store *store;
    sl__arena arena;
    uint64_t expert_bytes;
    SL_TRY(sl__store_open(&store, path, err));
    sl__arena_init(&arena, 0);
    sl_status status = bind_all(&expert_bytes, store, &arena, err);
    if (status == SL_OK) {
        sl_probe_options options = *opt;
        if (options.expert_bytes == 0) options.expert_bytes = expert_bytes;
        status = probe_store(out, store, &options, err);
    }
    sl__arena_free(&arena);
    sl__store_close(store);
    return status;
}

static sl_status probe_plain(sl_probe_result *out, const char *path, const sl_probe_options *opt,
                             sl_error *err)
{
    sl__probe_file file = {.path = path};
    SL_TRY(sl__file_open(path, &file.fd, &file.bytes, err));
    file.direct_fd = sl__file_open_direct(path);
    sl_probe_options options = *opt;
    if (options.expert_bytes == 0) options.expert_bytes = PLAIN_BYTES;
    sl_status status = probe_files(out, &file, 1, &options, err);
    if (file.direct_fd >= 0) close(file.direct_fd);
    close(file.fd);
    return status;
}

/* A GGUF file is a model, and so is one .safetensors file with its configuration beside it. */
static bool is_model_file(const char *path)
{
    if (sl__gguf_is(path)) return true;
    static const char ending[] = ".safetensors";
    char folder[SL_PATH_MAX], config[SL_PATH_MAX];
    size_t size = strlen(path);
    if (size < sizeof ending - 1 || strcmp(path + size - (sizeof ending - 1), ending) != 0)
        return false;
    sl__path_parent(folder, path);
    return sl__path_join(config, sizeof config, folder, "config.json", NULL) == SL_OK &&
           sl__file_exists(config);
}

sl_status sl_probe(const char *path, const sl_probe_options *opt, sl_probe_result *result,
                   sl_error *err)
{
    const sl_probe_options defaults = {0};
    if (!opt) opt = &defaults;
    memset(result, 0, sizeof *result);
    if (sl__file_is_dir(path) || is_model_file(path)) return probe_model(result, path, opt, err);
    return probe_plain(result, path, opt, err);
}
