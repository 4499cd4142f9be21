/* The stages of a tokenizer.json around its model. A stage becomes data of the image: a flag, a
 * pre-tokeniser step, ids before and after. What is not known here is refused by name. */
#include <string.h>

#include "base/fail.h"
#include "base/json.h"
#include "text/tokenizer_draft.h"

/* What the ByteLevel pre-tokenizer splits at. */
#define GPT2_REGEX                                                                                 \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

sl_status sl__draft_optional_bool(const json_t *obj, const char *key, const char *path,
                                  bool fallback, bool *out, sl_error *err)
{
    *out = fallback;
    if (!sl__json_has(obj, key)) return SL_OK;
    return sl__json_bool(obj, key, path, out, err);
}

static sl_status type_of(const sl__tok_draft *draft, const json_t *stage, const char *what,
                         const char **type, sl_error *err)
{
    if (!json_is_object(stage)) {
        return SL_FAIL(err, SL_EFORMAT, "%s: %s: expected an object", draft->path, what);
    }
    return sl__json_str(stage, "type", draft->path, type, err);
}

static sl_status unsupported(const sl__tok_draft *draft, const char *what, const char *type,
                             sl_error *err)
{
    return SL_FAIL(err, SL_EUNSUPPORTED, "%s: %s type %.100s is not supported", draft->path, what,
                   type);
}

typedef struct pipeline {
    sl__tok_draft *draft;
    bool byte_level; /* a ByteLevel pre-tokenizer was there: it must be the last */
    sl_error *err;
} pipeline;

typedef sl_status (*stage_fn)(pipeline *p, const json_t *stage);

/* Every member of a Sequence. */
static sl_status each(pipeline *p, const json_t *stage, const char *what, const char *key,
                      stage_fn fn)
{
    const json_t *list = json_object_get(stage, key), *item;
    size_t i;
    if (!json_is_array(list)) {
        return SL_FAIL(p->err, SL_EFORMAT, "%s: %s: %s: expected a list", p->draft->path, what,
                       key);
    }
    json_array_foreach(list, i, item) SL_TRY(fn(p, item));
    return SL_OK;
}

/* ---- normalizer ------------------------------------------------------------------------------ */

static sl_status normalizer(pipeline *p, const json_t *stage)
{
    const char *type;
    SL_TRY(type_of(p->draft, stage, "normalizer", &type, p->err));
    if (strcmp(type, "Sequence") == 0) {
        return each(p, stage, "normalizer", "normalizers", normalizer);
    }
    if (strcmp(type, "NFC") != 0) return unsupported(p->draft, "normalizer", type, p->err);
    p->draft->head.flags |= SL__TOK_NFC;
    return SL_OK;
}

/* ---- pre_tokenizer --------------------------------------------------------------------------- */

static sl_status add_step(pipeline *p, sl__step_kind kind, sl__step_behavior behavior, bool invert,
                          const char *pattern)
{
    sl__tok_draft *draft = p->draft;
    if (draft->head.step_count == SL__TOK_STEPS_MAX) {
        return SL_FAIL(p->err, SL_EUNSUPPORTED, "%s: more than %u pre_tokenizer steps", draft->path,
                       SL__TOK_STEPS_MAX);
    }
    sl__tok_step *step = &draft->steps[draft->head.step_count++];
    *step = (sl__tok_step){.kind = kind, .behavior = behavior, .invert = invert};
    step->size = (uint32_t)strlen(pattern);
    return sl__draft_string(draft, pattern, step->size, &step->offset, p->err);
}

static sl_status behavior_of(pipeline *p, const json_t *stage, sl__step_behavior *behavior)
{
    static const char *const names[] = {"Isolated", "Removed", "MergedWithPrevious",
                                        "MergedWithNext", "Contiguous"};
    const char *name;
    SL_TRY(sl__json_str(stage, "behavior", p->draft->path, &name, p->err));
    for (unsigned i = 0; i < 5; i++) {
        if (strcmp(name, names[i]) != 0) continue;
        *behavior = (sl__step_behavior)i;
        return SL_OK;
    }
    return SL_FAIL(p->err, SL_EUNSUPPORTED, "%s: Split behavior %.100s is not supported",
                   p->draft->path, name);
}

static sl_status split(pipeline *p, const json_t *stage)
{
    const json_t *pattern = json_object_get(stage, "pattern");
    bool regex = sl__json_has(pattern, "Regex"), invert;
    const char *text;
    sl__step_behavior behavior = SL__ISOLATED;
    SL_TRY(sl__json_str(pattern, regex ? "Regex" : "String", p->draft->path, &text, p->err));
    SL_TRY(behavior_of(p, stage, &behavior));
    SL_TRY(sl__draft_optional_bool(stage, "invert", p->draft->path, false, &invert, p->err));
    return add_step(p, regex ? SL__STEP_SPLIT_REGEX : SL__STEP_SPLIT_LITERAL, behavior, invert,
                    text);
}

static sl_status digits(pipeline *p, const json_t *stage)
{
    bool individual;
    SL_TRY(sl__draft_optional_bool(stage, "individual_digits", p->draft->path, false, &individual,
                                   p->err));
    return add_step(p, SL__STEP_SPLIT_REGEX, individual ? SL__ISOLATED : SL__CONTIGUOUS, false,
                    "\\p{N}");
}

static sl_status byte_level(pipeline *p, const json_t *stage)
{
    bool space, regex;
    SL_TRY(sl__json_bool(stage, "add_prefix_space", p->draft->path, &space, p->err));
    SL_TRY(sl__draft_optional_bool(stage, "use_regex", p->draft->path, true, &regex, p->err));
    p->byte_level = true;
    if (space) SL_TRY(add_step(p, SL__STEP_ADD_SPACE, SL__ISOLATED, false, ""));
    if (regex) SL_TRY(add_step(p, SL__STEP_SPLIT_REGEX, SL__ISOLATED, false, GPT2_REGEX));
    return SL_OK;
}

static sl_status pre_tokenizer(pipeline *p, const json_t *stage)
{
    const char *type;
    SL_TRY(type_of(p->draft, stage, "pre_tokenizer", &type, p->err));
    if (strcmp(type, "Sequence") == 0) {
        return each(p, stage, "pre_tokenizer", "pretokenizers", pre_tokenizer);
    }
    if (p->byte_level) {
        /* It would have to read the byte alphabet instead of the text. */
        return SL_FAIL(p->err, SL_EUNSUPPORTED,
                       "%s: pre_tokenizer type %.100s after ByteLevel is not supported",
                       p->draft->path, type);
    }
    if (strcmp(type, "Split") == 0) return split(p, stage);
    if (strcmp(type, "Digits") == 0) return digits(p, stage);
    if (strcmp(type, "ByteLevel") == 0) return byte_level(p, stage);
    return unsupported(p->draft, "pre_tokenizer", type, p->err);
}

/* ---- post_processor -------------------------------------------------------------------------- */

/* The ids of a special token of a template: template.special_tokens[name].ids. */
static sl_status template_ids(pipeline *p, const json_t *stage, const char *name, uint32_t *ids,
                              uint32_t *count)
{
    const json_t *entry = json_object_get(json_object_get(stage, "special_tokens"), name);
    const json_t *list = json_object_get(entry, "ids"), *item;
    size_t i;
    if (!json_is_array(list)) {
        return SL_FAIL(p->err, SL_EFORMAT, "%s: post_processor: no ids of \"%.100s\"",
                       p->draft->path, name);
    }
    json_array_foreach(list, i, item)
    {
        json_int_t id = json_is_integer(item) ? json_integer_value(item) : -1;
        if (id < 0 || id >= SL__TOK_IDS_MAX || *count == SL__TOK_WRAP_MAX) {
            return SL_FAIL(p->err, SL_EFORMAT, "%s: post_processor: the ids of \"%.100s\"",
                           p->draft->path, name);
        }
        ids[(*count)++] = (uint32_t)id;
    }
    return SL_OK;
}

/* Puts a template's ids around those of the stages before it. */
static sl_status wrap(pipeline *p, const uint32_t *before, uint32_t before_count,
                      const uint32_t *after, uint32_t after_count)
{
    sl__tok_draft *d = p->draft;
    sl__tok_header *h = &d->head;
    if (h->prefix_count + before_count > SL__TOK_WRAP_MAX ||
        h->suffix_count + after_count > SL__TOK_WRAP_MAX) {
        return SL_FAIL(p->err, SL_EUNSUPPORTED, "%s: post_processor: too many ids", d->path);
    }
    memmove(d->prefix + before_count, d->prefix, h->prefix_count * sizeof *d->prefix);
    memcpy(d->prefix, before, before_count * sizeof *before);
    memcpy(d->suffix + h->suffix_count, after, after_count * sizeof *after);
    h->prefix_count += before_count;
    h->suffix_count += after_count;
    return SL_OK;
}

static sl_status template_processing(pipeline *p, const json_t *stage)
{
    const json_t *single = json_object_get(stage, "single"), *item;
    uint32_t ids[2][SL__TOK_WRAP_MAX], count[2] = {0, 0};
    unsigned texts = 0;
    size_t i;
    json_array_foreach(single, i, item)
    {
        const json_t *special = json_object_get(item, "SpecialToken");
        const json_t *sequence = json_object_get(item, "Sequence");
        const char *name;
        if (special) {
            unsigned side = texts > 0;
            SL_TRY(sl__json_str(special, "id", p->draft->path, &name, p->err));
            SL_TRY(template_ids(p, stage, name, ids[side], &count[side]));
        } else if (sequence) {
            texts++;
        }
    }
    if (texts != 1) {
        return SL_FAIL(p->err, SL_EUNSUPPORTED,
                       "%s: post_processor: a template that does not hold the text once",
                       p->draft->path);
    }
    return wrap(p, ids[0], count[0], ids[1], count[1]);
}

static sl_status post_processor(pipeline *p, const json_t *stage)
{
    const char *type;
    SL_TRY(type_of(p->draft, stage, "post_processor", &type, p->err));
    if (strcmp(type, "Sequence") == 0) {
        return each(p, stage, "post_processor", "processors", post_processor);
    }
    if (strcmp(type, "ByteLevel") == 0) return SL_OK; /* changes offsets only */
    if (strcmp(type, "TemplateProcessing") == 0) return template_processing(p, stage);
    return unsupported(p->draft, "post_processor", type, p->err);
}

/* ---- decoder --------------------------------------------------------------------------------- */

static sl_status decoder(pipeline *p, const json_t *stage)
{
    const char *type;
    SL_TRY(type_of(p->draft, stage, "decoder", &type, p->err));
    if (strcmp(type, "Sequence") == 0) return each(p, stage, "decoder", "decoders", decoder);
    if (strcmp(type, "ByteLevel") == 0) return SL_OK;
    return unsupported(p->draft, "decoder", type, p->err);
}

sl_status sl__draft_pipeline(sl__tok_draft *draft, const json_t *root, sl_error *err)
{
    pipeline p = {.draft = draft, .err = err};
    if (sl__json_has(root, "normalizer")) {
        SL_TRY(normalizer(&p, json_object_get(root, "normalizer")));
    }
    if (sl__json_has(root, "pre_tokenizer")) {
        SL_TRY(pre_tokenizer(&p, json_object_get(root, "pre_tokenizer")));
    }
    if (!p.byte_level) {
        return SL_FAIL(err, SL_EUNSUPPORTED,
                       "%s: a pre_tokenizer without ByteLevel is not supported", draft->path);
    }
    if (sl__json_has(root, "post_processor")) {
        SL_TRY(post_processor(&p, json_object_get(root, "post_processor")));
    }
    if (!sl__json_has(root, "decoder")) return SL_OK;
    return decoder(&p, json_object_get(root, "decoder"));
}
