/* The known architectures, and names from one world to the other. */
#include "store/gguf_arch.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "store/pack_layout.h"

/* A new one is named here twice, and nowhere else outside its own file. */
extern const sl__gguf_arch sl__gguf_qwen3moe, sl__gguf_qwen35moe;

const sl__gguf_arch *const sl__gguf_archs[] = {
    &sl__gguf_qwen3moe,
    &sl__gguf_qwen35moe,
    NULL,
};

/* ---- finding --------------------------------------------------------------------------------- */

static sl_status unsupported(const sl__gguf_set *set, const char *name, size_t size, sl_error *err)
{
    char known[200] = "";
    for (const sl__gguf_arch *const *a = sl__gguf_archs; *a; a++) {
        size_t n = strlen(known);
        snprintf(known + n, sizeof known - n, "%s%s", n ? ", " : "", (*a)->name);
    }
    return SL_FAIL(err, SL_EUNSUPPORTED, "%s: general.architecture: %.*s is not one of %s",
                   set->files[0].path, (int)(size < 60 ? size : 60), name, known);
}

static sl_status count_blocks(sl__gguf_model *m, sl_error *err)
{
    int64_t blocks, drafts = 0;
    SL_TRY(sl__gguf_get_int(m, "block_count", 1, SL_PACK_LAYERS_MAX, &blocks, err));
    if (m->arch->draft_tensors && sl__gguf_has(m, "nextn_predict_layers")) {
        SL_TRY(sl__gguf_get_int(m, "nextn_predict_layers", 0, blocks - 1, &drafts, err));
    }
    m->layers = (uint32_t)(blocks - drafts);
    m->drafts = (uint32_t)drafts;
    return SL_OK;
}

sl_status sl__gguf_model_find(sl__gguf_model *out, const sl__gguf_set *set, sl_error *err)
{
    const char *name;
    size_t size;
    SL_TRY(sl__gguf_string(set, "general.architecture", &name, &size, err));
    for (const sl__gguf_arch *const *a = sl__gguf_archs; *a; a++) {
        if (strlen((*a)->name) != size || memcmp((*a)->name, name, size) != 0) continue;
        *out = (sl__gguf_model){.set = set, .arch = *a};
        return count_blocks(out, err);
    }
    return unsupported(set, name, size, err);
}

/* ---- names ----------------------------------------------------------------------------------- */

#define MODEL  "model."
#define LAYERS MODEL "layers."
#define DRAFTS "mtp.layers."
#define BLOCKS "blk."

/* Outside the blocks; the same everywhere. */
static const sl__gguf_pair model_tensors[] = {
    {"token_embd.weight", MODEL "embed_tokens.weight"},
    {"output_norm.weight", MODEL "norm.weight"},
    {"output.weight", "lm_head.weight"},
    {NULL, NULL},
};

static const char *to_published(const sl__gguf_pair *list, const char *name)
{
    for (; list->gguf; list++)
        if (strcmp(list->gguf, name) == 0) return list->published;
    return NULL;
}

static const char *to_gguf(const sl__gguf_pair *list, const char *name)
{
    for (; list->gguf; list++)
        if (strcmp(list->published, name) == 0) return list->gguf;
    return NULL;
}

/* Splits "PREFIX12.rest", the number written as printf does, so that no two names mean one. */
static bool numbered(const char *name, const char *prefix, uint32_t *number, const char **rest)
{
    size_t size = strlen(prefix);
    if (strncmp(name, prefix, size) != 0) return false;
    const char *at = name + size;
    *number = 0;
    if (*at == '0' && at[1] != '.') return false;
    for (; *at >= '0' && *at <= '9'; at++) {
        if (*number > 99999) return false;
        *number = *number * 10 + (uint32_t)(*at - '0');
    }
    *rest = at + 1;
    return *at == '.' && at > name + size;
}

static bool fits(int written) { return written > 0 && written < (int)SL_GGUF_NAME_MAX; }

bool sl__gguf_published(const sl__gguf_model *m, const char *name, char out[SL_GGUF_NAME_MAX])
{
    uint32_t block;
    const char *rest, *to = to_published(model_tensors, name);
    if (to) return fits(snprintf(out, SL_GGUF_NAME_MAX, "%s", to));
    if (!numbered(name, BLOCKS, &block, &rest) || block >= m->layers + m->drafts) return false;
    bool draft = block >= m->layers;
    to = to_published(m->arch->layer_tensors, rest);
    if (to) {
        return fits(snprintf(out, SL_GGUF_NAME_MAX, "%s%" PRIu32 ".%s", draft ? DRAFTS : LAYERS,
                             draft ? block - m->layers : block, to));
    }
    if (block != m->layers) return false;
    to = to_published(m->arch->draft_tensors, rest);
    return to && fits(snprintf(out, SL_GGUF_NAME_MAX, "%s", to));
}

bool sl__gguf_name_of(const sl__gguf_model *m, const char *published, char out[SL_GGUF_NAME_MAX])
{
    uint32_t block;
    const char *rest, *to = to_gguf(model_tensors, published);
    if (to) return fits(snprintf(out, SL_GGUF_NAME_MAX, "%s", to));
    bool draft = numbered(published, DRAFTS, &block, &rest);
    if (draft || numbered(published, LAYERS, &block, &rest)) {
        to = to_gguf(m->arch->layer_tensors, rest);
        if (draft) block += m->layers;
    } else if (m->drafts > 0) {
        to = to_gguf(m->arch->draft_tensors, published);
        block = m->layers;
    }
    return to && fits(snprintf(out, SL_GGUF_NAME_MAX, BLOCKS "%" PRIu32 ".%s", block, to));
}

bool sl__gguf_left_out(const sl__gguf_model *m, const char *name)
{
    uint32_t block;
    const char *rest;
    return numbered(name, BLOCKS, &block, &rest) && block >= m->layers &&
           block < m->layers + m->drafts && strncmp(rest, "nextn.", 6) == 0;
}
