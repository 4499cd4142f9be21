/* A GGUF model as it is: the headers of its parts become the store's tables, under the names of the
 * checkpoint that it was made of (gguf_arch.h); the data stays where it lies.
 *
 *     keys      ─ config, generation settings (as JSON), chat template
 *     tensors   ─ renamed, sorted again; one that has no other name is an error: it would be left
 *                 out of the model in silence
 *
 * The headers themselves, vocabulary and all, are freed after opening.
 */
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "store/store_private.h"

_Static_assert(SL_GGUF_DIMS_MAX <= SL_STORE_DIMS_MAX, "a shape of the format fits the store's");

static sl_status open_files(sl__store *s, const sl__gguf_set *set, sl_error *err)
{
    SL_TRY(sl__store_take_files(s, set->file_count, err));
    for (uint32_t i = 0; i < set->file_count; i++)
        SL_TRY(sl__store_open_file(s, i, set->files[i].path, set->files[i].size,
                                   set->files[i].absent, err));
    return SL_OK;
}

/* ---- tensors --------------------------------------------------------------------------------- */

static sl_status take_tensor(sl__store *s, const sl__gguf_set *set, const sl__gguf_tensor *from,
                             const char *name, sl__tensor *out, sl_error *err)
{
    *out = (sl__tensor){
        .name = sl__arena_strdup(&s->arena, name),
        .dims = from->dims,
        .extent = {.file = from->file, .offset = from->offset, .bytes = from->bytes},
    };
    if (!out->name) return SL_FAIL_NOMEM(err, "tensor table");
    memcpy(out->shape, from->shape, sizeof from->shape);
    return sl__gguf_tensor_dtype(set, from, &out->dtype, err);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const sl__tensor *)a)->name, ((const sl__tensor *)b)->name);
}

static sl_status take_tensors(sl__store *s, const sl__gguf_model *model, sl_error *err)
{
    const sl__gguf_set *set = model->set;
    sl__tensor *tensors = SL_ARENA_NEW(&s->arena, sl__tensor, set->tensor_count);
    size_t count = 0;
    if (!tensors) return SL_FAIL_NOMEM(err, "tensor table");
    for (size_t i = 0; i < set->tensor_count; i++) {
        const sl__gguf_tensor *from = &set->tensors[i];
        char name[SL_GGUF_NAME_MAX];
        if (sl__gguf_published(model, from->name, name)) {
            SL_TRY(take_tensor(s, set, from, name, &tensors[count++], err));
        } else if (!sl__gguf_left_out(model, from->name)) {
            return SL_FAIL(err, SL_EUNSUPPORTED, "%s: tensor %.200s is none of those of %s",
                           set->files[from->file].path, from->name, model->arch->name);
        }
    }
    /* No two names of a file have the same published one. */
    qsort(tensors, count, sizeof *tensors, compare_names);
    s->tensors = tensors;
    s->tensor_count = count;
    return SL_OK;
}

/* ---- keys ------------------------------------------------------------------------------------ */

static sl_status take_configs(sl__store *s, const sl__gguf_model *model, sl_error *err)
{
    json_t *config;
    s->generation_path = s->files[0].path;
    SL_TRY(sl__gguf_config(model, &config, err));
    SL_TRY(sl__config_take(&s->config, config, s->files[0].path, err));
    return sl__gguf_generation(model, &s->generation, err);
}

static sl_status take_template(sl__store *s, const sl__gguf_set *set, sl_error *err)
{
    static const char name[] = "tokenizer.chat_template";
    const char *text;
    size_t size;
    if (!sl__gguf_find_key(set, name)) return SL_OK;
    SL_TRY(sl__gguf_string(set, name, &text, &size, err));
    s->template_text = sl__arena_strndup(&s->arena, text, size);
    return s->template_text ? SL_OK : SL_FAIL_NOMEM(err, "chat template");
}

/* About what the tokenizer takes: the bytes of its lists, and a few numbers for each entry. */
static uint64_t tokenizer_bytes(const sl__gguf_set *set)
{
    static const char *const lists[] = {"tokenizer.ggml.tokens", "tokenizer.ggml.merges"};
    uint64_t bytes = 0;
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        const sl__gguf_key *key = sl__gguf_find_key(set, lists[i]);
        for (uint64_t k = 0; key && key->strings && k < key->count; k++)
            bytes += key->strings[k].size + 32;
    }
    return bytes;
}

static sl_status take_all(sl__store *s, const sl__gguf_set *set, sl_error *err)
{
    sl__gguf_model model;
    SL_TRY(sl__gguf_model_find(&model, set, err));
    SL_TRY(open_files(s, set, err));
    SL_TRY(take_configs(s, &model, err));
    SL_TRY(take_tensors(s, &model, err));
    SL_TRY(take_template(s, set, err));
    s->tokenizer_bytes = tokenizer_bytes(set);
    s->gguf = model;
    s->gguf.set = NULL;
    return SL_OK;
}

sl_status sl__store_open_gguf(sl__store *store, sl_error *err)
{
    sl__gguf_set set;
    SL_TRY(sl__gguf_survey(&set, store->path, store->problems, err));
    sl_status status = take_all(store, &set, err);
    sl__gguf_close(&set);
    return status;
}
