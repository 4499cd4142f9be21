/* A checkpoint whose scales may lie apart: config.json, a byte of 0, then the header of a
 * safetensors file of any bytes. Names, planes, the description of the model, what its codes are,
 * and the layouts of its experts: all that is done before data is read. What is accepted must lie
 * in the file, which is as long as the header says. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "format/safetensors.h"
#include "model/family.h"
#include "store/pack_layout.h"
#include "store/store_names.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int truth)
{
    if (!truth) abort();
}

static void check_extent(const sl__store *s, const sl__extent *x)
{
    require(x->offset <= s->files[0].bytes && x->bytes <= s->files[0].bytes - x->offset);
}

static void check_tensors(const sl__store *s)
{
    for (size_t i = 0; i < s->tensor_count; i++) {
        const sl__tensor *t = &s->tensors[i];
        check_extent(s, &t->extent);
        require(sl__store_find(s, t->name) == t);
        if (sl__has_planes(&t->scaling)) require(sl__scaling_fits(t->dtype, &t->scaling));
    }
}

static void check_experts(const sl__store *s, uint32_t layer)
{
    const sl__expert_layout *layout = sl__store_expert_layout(s, layer);
    for (uint32_t e = 0; layout && e < layout->expert_count; e++) {
        sl__extent x[SL_EXPERT_EXTENTS_MAX];
        uint32_t count = sl__store_expert_extents(s, layer, e, x);
        require(count > 0 && count <= SL_EXPERT_EXTENTS_MAX);
        for (uint32_t i = 0; i < count; i++) {
            check_extent(s, &x[i]);
            require(x[i].dst + x[i].bytes <= layout->record_bytes);
        }
    }
}

static sl_status describe(sl__store *s, sl__arena *arena, sl_error *err)
{
    const sl__family *family;
    sl__model_desc desc;
    SL_TRY(sl__store_take_names(s, err));
    SL_TRY(sl__store_join_planes(s, err));
    check_tensors(s);
    SL_TRY(sl__model_describe(&desc, &family, s, arena, err));
    check_tensors(s);
    for (uint32_t i = 0; i < desc.layer_count && i < 4; i++) {
        if (desc.layers[i].moe.experts > 1024) break; /* a table of all is made first */
        SL_TRY(sl__model_bind_experts(s, family, &desc, i, err));
        check_experts(s, i);
    }
    return SL_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const sl__st_tensor *)a)->name, ((const sl__st_tensor *)b)->name);
}

/* As opening a folder does: in order, and none twice. */
static sl_status sort(sl__st_set *set, sl_error *err)
{
    if (set->tensor_count > 1)
        qsort(set->tensors, set->tensor_count, sizeof *set->tensors, by_name);
    for (size_t i = 1; i < set->tensor_count; i++) {
        if (by_name(&set->tensors[i - 1], &set->tensors[i]) == 0)
            return SL_FAIL(err, SL_EFORMAT, "fuzz: twice");
    }
    return SL_OK;
}

static sl_status open_all(sl__store *s, sl__st_set *set, const char *config, const char *header,
                          size_t header_size, sl_error *err)
{
    static const char path[] = "fuzz";
    SL_TRY(sl__config_parse(&s->config, config, strlen(config), path, err));
    SL_TRY(sl__store_take_files(s, 1, err));
    memcpy(s->path, path, sizeof path);
    s->files[0].path = path;
    s->files[0].bytes = set->files[0].size;
    SL_TRY(sl__st_parse_header(set, 0, header, header_size, set->files[0].size, err));
    SL_TRY(sort(set, err));
    SL_TRY(sl__store_take_tensors(s, set, err));
    return describe(s, set->arena, err);
}

/* Where the header has its data end. */
static uint64_t said_bytes(const char *header, size_t size)
{
    const char *name;
    json_t *root = json_loadb(header, size, 0, NULL), *entry;
    json_int_t most = 0;
    json_object_foreach(root, name, entry)
    {
        const json_t *end = json_array_get(json_object_get(entry, "data_offsets"), 1);
        if (json_integer_value(end) > most) most = json_integer_value(end);
    }
    json_decref(root);
    return (uint64_t)most;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *middle = size > 0 ? memchr(data, 0, size) : NULL;
    if (!middle) return 0;
    const char *header = (const char *)middle + 1;
    size_t header_size = size - (size_t)((const uint8_t *)header - data);
    sl__arena arena;
    sl__arena_init(&arena, 0);
    char path[] = "fuzz";
    sl__st_file file = {.path = path, .size = 8 + header_size + said_bytes(header, header_size)};
    sl__st_set set = {.files = &file, .file_count = 1, .arena = &arena};
    sl__store *s = calloc(1, sizeof *s);
    sl_error err = {0};
    require(s != NULL);
    sl__arena_init(&s->arena, 0);
    sl_status status = open_all(s, &set, (const char *)data, header, header_size, &err);
    require(err.status == status);
    require(status == SL_OK || strncmp(err.message, "fuzz", 4) == 0);
    sl__store_close(s);
    sl__arena_free(&arena);
    return 0;
}
