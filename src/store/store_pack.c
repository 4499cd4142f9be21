/* A pack: everything about it is in its manifest. Sizes are compared at opening; checksums of small
 * files too; those of tensors and records when they are read. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/hash.h"
#include "store/pack_layout.h"
#include "store/pack_manifest.h"
#include "store/store_private.h"

#define SMALL_FILE_BYTES_MAX ((uint64_t)1 << 30)

static sl_status check_small_file(const sl__store *s, uint32_t i, sl_error *err)
{
    char *data;
    size_t size;
    SL_TRY(sl__file_read(s->files[i].path, SMALL_FILE_BYTES_MAX, &data, &size, err));
    bool same = sl__hash64(data, size) == s->manifest.files[i].checksum;
    free(data);
    if (same) return SL_OK;
    return SL_FAIL(err, SL_ECORRUPT, "%s: the bytes differ from their checksum", s->files[i].path);
}

static sl_status open_files(sl__store *s, sl_error *err)
{
    const sl__pack_manifest *m = &s->manifest;
    SL_TRY(sl__store_take_files(s, m->file_count, err));
    for (uint32_t i = 0; i < m->file_count; i++) {
        char path[SL_PATH_MAX];
        SL_TRY(sl__path_join(path, sizeof path, s->folder, m->files[i].name, err));
        SL_TRY(sl__store_open_file(s, i, path, m->files[i].bytes, false, err));
        if (m->files[i].has_checksum) SL_TRY(check_small_file(s, i, err));
    }
    return SL_OK;
}

static sl_status bind_layers(sl__store *s, sl_error *err)
{
    for (size_t i = 0; i < s->manifest.layer_count; i++) {
        sl__store_layer *layer;
        SL_TRY(sl__store_layer_slot(s, s->manifest.layers[i].layer, &layer, err));
        layer->layout = s->manifest.layers[i].layout;
        layer->file = s->manifest.layers[i].file;
        layer->stride = sl__pack_stride(&layer->layout);
        layer->checksums = s->manifest.layers[i].checksums;
        size_t words = (layer->layout.expert_count + 63u) / 64u;
        layer->verified = sl__arena_alloc(&s->arena, words, sizeof *layer->verified);
        if (!layer->verified) return SL_FAIL_NOMEM(err, "marks of verified records");
        for (size_t w = 0; w < words; w++) atomic_init(&layer->verified[w], 0);
    }
    return SL_OK;
}

/* The configuration goes through its own parser, so that it is the same as from a config.json. */
static sl_status take_configs(sl__store *s, sl_error *err)
{
    json_t *root = s->manifest.root;
    char *text;
    size_t size;
    SL_TRY(sl__pack_dump(json_object_get(root, "config"), JSON_COMPACT, &text, &size, err));
    sl_status status = sl__config_parse(&s->config, text, size, s->generation_path, err);
    free(text);
    /* jansson's parser drops characters silently when memory runs out. */
    if (status == SL_OK && !json_equal(s->config.root, json_object_get(root, "config"))) {
        status = SL_FAIL_NOMEM(err, s->generation_path);
    }
    if (status == SL_OK && sl__json_has(root, "generation_config")) {
        s->generation = json_incref(json_object_get(root, "generation_config"));
    }
    return status;
}

sl_status sl__store_open_pack(sl__store *store, sl_error *err)
{
    char path[SL_PATH_MAX], *text;
    size_t size;
    SL_TRY(sl__path_join(path, sizeof path, store->folder, SL_PACK_MANIFEST, err));
    store->generation_path = sl__arena_strdup(&store->arena, path);
    if (!store->generation_path) return SL_FAIL_NOMEM(err, path);
    SL_TRY(sl__file_read(path, SL_PACK_MANIFEST_BYTES_MAX, &text, &size, err));
    sl_status status = sl__pack_manifest_parse(&store->manifest, text, size, path, err);
    free(text);
    if (status != SL_OK) return status;
    SL_TRY(take_configs(store, err));
    SL_TRY(open_files(store, err));
    SL_TRY(bind_layers(store, err));
    store->tensors = store->manifest.tensors;
    store->tensor_count = store->manifest.tensor_count;
    SL_TRY(sl__store_join_planes(store, err));
    /* These were read into tables; as JSON they take megabytes. */
    static const char *const read_members[] = {"config", "files", "tensors", "layers"};
    for (size_t i = 0; i < sizeof read_members / sizeof read_members[0]; i++) {
        (void)json_object_del(store->manifest.root, read_members[i]);
    }
    return SL_OK;
}
