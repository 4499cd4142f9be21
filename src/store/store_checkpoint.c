/* A checkpoint as published: safetensors files beside a config.json. Only headers are read. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/json.h"
#include "format/safetensors.h"
#include "store/store_names.h"

#define GENERATION_BYTES_MAX ((uint64_t)1 << 20)

_Static_assert(SL_TENSOR_DIMS_MAX <= SL_STORE_DIMS_MAX, "a shape of the format fits the store's");

static sl_status open_files(sl__store *s, const sl__st_set *set, sl_error *err)
{
    SL_TRY(sl__store_take_files(s, set->file_count, err));
    for (uint32_t i = 0; i < set->file_count; i++) {
        SL_TRY(sl__store_open_file(s, i, set->files[i].path, set->files[i].size,
                                   set->files[i].absent, err));
    }
    return SL_OK;
}

/* Names are copied into one block: the set and its own tables are freed after opening. */
sl_status sl__store_take_tensors(sl__store *s, const sl__st_set *set, sl_error *err)
{
    size_t name_bytes = 0;
    for (size_t i = 0; i < set->tensor_count; i++) name_bytes += strlen(set->tensors[i].name) + 1;
    sl__tensor *tensors = SL_ARENA_NEW(&s->arena, sl__tensor, set->tensor_count);
    char *names = sl__arena_alloc(&s->arena, name_bytes, 1);
    if (!tensors || !names) return SL_FAIL_NOMEM(err, "tensor table");
    for (size_t i = 0; i < set->tensor_count; i++) {
        const sl__st_tensor *from = &set->tensors[i];
        size_t size = strlen(from->name) + 1;
        tensors[i] = (sl__tensor){
            .name = memcpy(names, from->name, size),
            .dtype = from->dtype,
            .dims = from->dims,
            .extent = {.file = from->file, .offset = from->offset, .bytes = from->bytes},
        };
        memcpy(tensors[i].shape, from->shape, sizeof from->shape);
        names += size;
    }
    s->tensors = tensors;
    s->tensor_count = set->tensor_count;
    return SL_OK;
}

static sl_status load_configs(sl__store *s, sl_error *err)
{
    char path[SL_PATH_MAX];
    SL_TRY(sl__path_join(path, sizeof path, s->folder, "config.json", err));
    if (!sl__file_exists(path)) {
        return SL_FAIL(err, SL_EFORMAT, "%s: is needed beside the weights, but not there", path);
    }
    SL_TRY(sl__config_load(&s->config, path, err));
    SL_TRY(sl__path_join(path, sizeof path, s->folder, "generation_config.json", err));
    s->generation_path = sl__arena_strdup(&s->arena, path);
    if (!s->generation_path) return SL_FAIL_NOMEM(err, path);
    if (!sl__file_exists(path)) return SL_OK;
    SL_TRY(sl__json_load(path, GENERATION_BYTES_MAX, &s->generation, err));
    if (!json_is_object(s->generation)) {
        return SL_FAIL(err, SL_EFORMAT, "%s: expected an object", path);
    }
    return SL_OK;
}

sl_status sl__store_open_checkpoint(sl__store *store, sl_error *err)
{
    SL_TRY(load_configs(store, err)); /* before the headers: it is the cheaper one to miss */
    sl__st_set set = {0};
    SL_TRY(sl__st_survey(&set, store->path, store->problems, err));
    sl_status status = open_files(store, &set, err);
    if (status == SL_OK) status = sl__store_take_tensors(store, &set, err);
    if (status == SL_OK) status = sl__store_take_names(store, err);
    if (status == SL_OK) status = sl__store_join_planes(store, err);
    sl__st_close(&set);
    return status;
}
