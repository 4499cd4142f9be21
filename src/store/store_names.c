#include "store/store_names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"

bool sl__name_ends(const char *text, const char *tail, size_t *stem)
{
    size_t n = strlen(text), m = strlen(tail);
    if (n < m || strcmp(text + n - m, tail) != 0) return false;
    *stem = n - m;
    return true;
}

const sl__tensor *sl__name_sibling(const sl__store *store, const char *text, size_t stem,
                                   const char *tail)
{
    char name[SL_NAME_MAX];
    int n = snprintf(name, sizeof name, "%.*s%s", (int)stem, text, tail);
    return n > 0 && (size_t)n < sizeof name ? sl__store_find(store, name) : NULL;
}

const char *sl__f8_tail(const sl__store *store)
{
    return store->flavour == SL_FLAVOUR_COMPRESSED ? "_scale" : "_scale_inv";
}

/* New names gather beside the tensors, which can be found by the old ones until all have theirs. */
struct renaming {
    sl__store *store;
    const char **names; /* of tensors[]; NULL: as it is */
};

static sl_status call(const struct renaming *r, const sl__tensor *tensor, const char *name,
                      const char *mark, sl_error *err)
{
    char text[SL_NAME_MAX + 16];
    snprintf(text, sizeof text, "%s%s", name, mark);
    const char *kept = sl__arena_strdup(&r->store->arena, text);
    if (!kept) return SL_FAIL_NOMEM(err, "tensor names");
    r->names[tensor - r->store->tensors] = kept;
    return SL_OK;
}

/* A plane, if it is there, is called after its matrix. */
static sl_status call_plane(const struct renaming *r, const sl__tensor *plane, const char *name,
                            const char *mark, sl_error *err)
{
    return plane ? call(r, plane, name, mark, err) : SL_OK;
}

static sl_status name_affine(const struct renaming *r, const sl__tensor *t, size_t stem,
                             const char *name, sl_error *err)
{
    const sl__store *s = r->store;
    SL_TRY(call_plane(r, sl__name_sibling(s, t->name, stem, ".scales"), name, SL_PLANE_SCALES,
                      err));
    return call_plane(r, sl__name_sibling(s, t->name, stem, ".biases"), name, SL_PLANE_BIASES,
                      err);
}

/* X_blocks of 16 bytes each and X_scales: MXFP4 as gpt-oss has it. */
static sl_status name_blocks(const struct renaming *r, const sl__tensor *t, size_t stem,
                             sl_error *err)
{
    char name[SL_NAME_MAX];
    const sl__tensor *scales = sl__name_sibling(r->store, t->name, stem, "_scales");
    snprintf(name, sizeof name, "%.*s", (int)stem, t->name);
    if (t->dtype != SL_U8) {
        return SL_FAIL(err, SL_EUNSUPPORTED, "%s: tensor %s: %s where mxfp4 has u8",
                       sl__store_file_path(r->store, t->extent.file), t->name,
                       sl__dtype_name(t->dtype));
    }
    if (!scales) {
        return SL_FAIL(err, SL_EFORMAT, "%s: tensor %s_scales is missing",
                       sl__store_file_path(r->store, t->extent.file), name);
    }
    SL_TRY(call(r, t, name, "", err));
    return call(r, scales, name, SL_PLANE_SCALES, err);
}

static sl_status name_packed(const struct renaming *r, const sl__tensor *t, size_t stem,
                             sl_error *err)
{
    char name[SL_NAME_MAX];
    snprintf(name, sizeof name, "%.*s.weight", (int)stem, t->name);
    SL_TRY(call(r, t, name, "", err));
    return call_plane(r, sl__name_sibling(r->store, t->name, stem, ".weight_scale"), name,
                      SL_PLANE_SCALES, err);
}

static sl_status name_tensor(const struct renaming *r, const sl__tensor *t, sl_error *err)
{
    char name[SL_NAME_MAX];
    size_t stem, all = strlen(t->name);
    if (all >= SL_NAME_MAX - 16) return SL_OK; /* none of those that are known */
    if (r->store->flavour == SL_FLAVOUR_MLX) {
        bool renamed = sl__mlx_name(r->store, t->name, name);
        if (!renamed) memcpy(name, t->name, all + 1);
        if (t->dtype == SL_U32 && sl__name_ends(t->name, ".weight", &stem))
            SL_TRY(name_affine(r, t, stem, name, err));
        /* A plane has its matrix's name, whichever of them comes first. */
        return renamed && !r->names[t - r->store->tensors] ? call(r, t, name, "", err) : SL_OK;
    }
    if (t->dtype == SL_F8_E4M3) {
        return call_plane(r, sl__name_sibling(r->store, t->name, all, sl__f8_tail(r->store)),
                          t->name, SL_PLANE_SCALES, err);
    }
    if (t->dims >= 3 && t->shape[t->dims - 1] == SL_MX_GROUP / 2 &&
        sl__name_ends(t->name, "_blocks", &stem)) {
        return name_blocks(r, t, stem, err);
    }
    if (r->store->flavour == SL_FLAVOUR_COMPRESSED &&
        sl__name_ends(t->name, ".weight_packed", &stem)) {
        return name_packed(r, t, stem, err);
    }
    return SL_OK;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const sl__tensor *)a)->name, ((const sl__tensor *)b)->name);
}

static sl_status rename_all(const struct renaming *r, sl_error *err)
{
    sl__store *s = r->store;
    for (size_t i = 0; i < s->tensor_count; i++)
        SL_TRY(name_tensor(r, &s->tensors[i], err));
    for (size_t i = 0; i < s->tensor_count; i++) {
        if (!r->names[i]) continue;
        s->tensors[i].stored = s->tensors[i].name;
        s->tensors[i].name = r->names[i];
    }
    qsort(s->tensors, s->tensor_count, sizeof *s->tensors, compare_names);
    for (size_t i = 1; i < s->tensor_count; i++) {
        const sl__tensor *a = &s->tensors[i - 1], *b = &s->tensors[i];
        if (strcmp(a->name, b->name) != 0) continue;
        return SL_FAIL(err, SL_EFORMAT, "%s: tensors %s and %s are the same one, %s", s->path,
                       a->stored ? a->stored : a->name, b->stored ? b->stored : b->name, a->name);
    }
    return SL_OK;
}

/* ---- flavours -------------------------------------------------------------------------------- */

/* Weights that a method which is not known has packed would only show as missing tensors. */
static sl_status find_flavour(sl__store *s, sl_error *err)
{
    static const struct {
        const char *method;
        sl__store_flavour flavour;
    } known[] = {{"fp8", SL_FLAVOUR_FP8},
                 {"mxfp4", SL_FLAVOUR_MXFP4},
                 {"compressed-tensors", SL_FLAVOUR_COMPRESSED}};
    const char *method;
    if (sl__mlx_is(s)) {
        s->flavour = SL_FLAVOUR_MLX;
        return sl__mlx_take_config(s, err);
    }
    if (!sl__config_find(&s->config, "quantization_config.quant_method")) return SL_OK;
    SL_TRY(sl__config_str(&s->config, "quantization_config.quant_method", &method, err));
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strcmp(method, known[i].method) == 0) s->flavour = known[i].flavour;
    }
    if (s->flavour == SL_FLAVOUR_COMPRESSED) return sl__compressed_check(s, err);
    if (s->flavour != SL_FLAVOUR_PLAIN) return SL_OK;
    return SL_FAIL(err, SL_EUNSUPPORTED, "%s: quantization_config.quant_method %s is not supported",
                   s->config.path, method);
}

sl_status sl__store_take_names(sl__store *store, sl_error *err)
{
    SL_TRY(find_flavour(store, err));
    struct renaming r = {.store = store};
    size_t count = store->tensor_count > 0 ? store->tensor_count : 1;
    r.names = calloc(count, sizeof *r.names);
    if (!r.names) return SL_FAIL_NOMEM(err, "tensor names");
    sl_status status = rename_all(&r, err);
    free(r.names);
    return status;
}
