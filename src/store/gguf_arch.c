/* The known architectures, and names from one world to the other. */
#include "store/gguf_arch.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "store/pack_layout.h"

/* A new one is named here twice, and nowhere else outside its own file. */
extern const sl__gguf_arch sl__gguf_qwen3moe, sl__gguf_qwen35moe, sl__gguf_qwen3next,
    sl__gguf_deepseek2, sl__gguf_glm4moe, sl__gguf_gpt_oss, sl__gguf_llama, sl__gguf_olmoe,
    sl__gguf_minimax_m2;

const sl__gguf_arch *const sl__gguf_archs[] = {
    &sl__gguf_qwen3moe, &sl__gguf_qwen35moe, &sl__gguf_qwen3next, &sl__gguf_deepseek2,
    &sl__gguf_glm4moe,  &sl__gguf_gpt_oss,   &sl__gguf_llama,     &sl__gguf_olmoe,
    &sl__gguf_minimax_m2,
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
    bool may_draft = m->arch->draft_tensors || m->arch->drafts_follow;
    if (may_draft && sl__gguf_has(m, "nextn_predict_layers")) {
        SL_TRY(sl__gguf_get_int(m, "nextn_predict_layers", 0, blocks - 1, &drafts, err));
    }
    m->layers = (uint32_t)(blocks - drafts);
    m->drafts = (uint32_t)drafts;
    return SL_OK;
}

/* Blocks that nobody reads must be what they are said to be: they could be the last of a model
 * whose drafting ones were left out of the file, and out of the count. */
static sl_status check_drafts(const sl__gguf_model *m, sl_error *err)
{
    static const char norm[] = "attn_norm.weight", proof[] = "nextn.eh_proj.weight";
    for (uint32_t i = m->layers; m->arch->drafts_follow && i < m->layers + m->drafts; i++) {
        if (!sl__gguf_layer_tensor(m, i, norm) || sl__gguf_layer_tensor(m, i, proof)) continue;
        return SL_FAIL(err, SL_EFORMAT,
                       "%s: %s.nextn_predict_layers: %" PRIu32 ", but tensor blk.%" PRIu32
                       ".%s is missing",
                       m->set->files[0].path, m->arch->name, m->drafts, i, proof);
    }
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
        if (out->arch->check) SL_TRY(out->arch->check(out, err));
        SL_TRY(count_blocks(out, err));
        return check_drafts(out, err);
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

/* The end of a number that is written as printf does, so that no two names mean one; or NULL. */
static const char *read_number(const char *at, uint32_t *number)
{
    const char *start = at;
    *number = 0;
    for (; *at >= '0' && *at <= '9'; at++) {
        if (*number > 99999 || (at > start && *start == '0')) return NULL;
        *number = *number * 10 + (uint32_t)(*at - '0');
    }
    return at > start ? at : NULL;
}

static bool matches(const char *pattern, const char *name, uint32_t *number)
{
    const char *place = strstr(pattern, "%u");
    if (!place) return strcmp(pattern, name) == 0;
    size_t head = (size_t)(place - pattern);
    if (strncmp(pattern, name, head) != 0) return false;
    const char *tail = read_number(name + head, number);
    return tail && strcmp(tail, place + 2) == 0;
}

/* Finds a name in a list and writes the other one; NULL: not there. */
static const char *translate(const sl__gguf_pair *list, const char *name, bool to_gguf,
                             char out[SL_GGUF_NAME_MAX])
{
    for (; list && list->gguf; list++) {
        uint32_t number = 0;
        const char *to = to_gguf ? list->gguf : list->published;
        if (!matches(to_gguf ? list->published : list->gguf, name, &number)) continue;
        const char *place = strstr(to, "%u");
        if (!place) return to;
        snprintf(out, SL_GGUF_NAME_MAX, "%.*s%" PRIu32 "%s", (int)(place - to), to, number,
                 place + 2);
        return out;
    }
    return NULL;
}

/* Splits "PREFIX12.rest". */
static bool numbered(const char *name, const char *prefix, uint32_t *number, const char **rest)
{
    size_t size = strlen(prefix);
    if (strncmp(name, prefix, size) != 0) return false;
    const char *end = read_number(name + size, number);
    if (!end || *end != '.') return false;
    *rest = end + 1;
    return true;
}

static bool fits(int written) { return written > 0 && written < (int)SL_GGUF_NAME_MAX; }

bool sl__gguf_published(const sl__gguf_model *m, const char *name, char out[SL_GGUF_NAME_MAX])
{
    uint32_t block;
    char tmp[SL_GGUF_NAME_MAX];
    const char *rest, *to = translate(model_tensors, name, false, tmp);
    if (to) return fits(snprintf(out, SL_GGUF_NAME_MAX, "%s", to));
    if (!numbered(name, BLOCKS, &block, &rest) || block >= m->layers + m->drafts) return false;
    bool draft = block >= m->layers && !m->arch->drafts_follow;
    to = translate(m->arch->layer_tensors, rest, false, tmp);
    if (to) {
        return fits(snprintf(out, SL_GGUF_NAME_MAX, "%s%" PRIu32 ".%s", draft ? DRAFTS : LAYERS,
                             draft ? block - m->layers : block, to));
    }
    if (block != m->layers) return false;
    to = translate(m->arch->draft_tensors, rest, false, tmp);
    return to && fits(snprintf(out, SL_GGUF_NAME_MAX, "%s", to));
}

bool sl__gguf_name_of(const sl__gguf_model *m, const char *published, char out[SL_GGUF_NAME_MAX])
{
    uint32_t block;
    char tmp[SL_GGUF_NAME_MAX];
    const char *rest, *to = translate(model_tensors, published, true, tmp);
    if (to) return fits(snprintf(out, SL_GGUF_NAME_MAX, "%s", to));
    bool draft = numbered(published, DRAFTS, &block, &rest);
    if (draft || numbered(published, LAYERS, &block, &rest)) {
        to = translate(m->arch->layer_tensors, rest, true, tmp);
        if (draft) block += m->layers;
    } else if (m->drafts > 0) {
        to = translate(m->arch->draft_tensors, published, true, tmp);
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
