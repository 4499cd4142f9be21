/* The stages of a tokenizer.json around its model. A stage becomes data of the image: a flag, a
 * pre-tokeniser step, ids before and after. What is not known here is refused by name. */
#include <string.h>

#include "base/fail.h"
#include "base/json.h"
#include "text/tokenizer_draft.h"
#include "text/utf8.h"

/* What the Whitespace pre-tokenizer keeps. Its \w counts the two joiners. */
#define WORDS_REGEX "[\\w\\u200c\\u200d]+|[^\\w\\s\\u200c\\u200d]+"

sl_status sl__draft_optional_bool(const json_t *obj, const char *key, const char *path,
                                  bool fallback, bool *out, sl_error *err)
{
    *out = fallback;
    if (!sl__json_has(obj, key)) return SL_OK;
    return sl__json_bool(obj, key, path, out, err);
}

sl_status sl__stage_type(const sl__tok_draft *draft, const json_t *stage, const char *what,
                         const char **type, sl_error *err)
{
    if (!json_is_object(stage)) {
        return SL_FAIL(err, SL_EFORMAT, "%s: %s: expected an object", draft->path, what);
    }
    return sl__json_str(stage, "type", draft->path, type, err);
}

sl_status sl__stage_unsupported(const sl__tok_draft *draft, const char *what, const char *type,
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

sl_status sl__stage_pattern(const sl__tok_draft *draft, const json_t *stage, const char **text,
                            bool *regex, sl_error *err)
{
    const json_t *pattern = json_object_get(stage, "pattern");
    *regex = sl__json_has(pattern, "Regex");
    return sl__json_str(pattern, *regex ? "Regex" : "String", draft->path, text, err);
}

bool sl__is_one_char(const char *text)
{
    uint32_t cp;
    size_t size = strlen(text);
    return size > 0 && sl__utf8_step((const unsigned char *)text, size, &cp) == (int)size;
}

sl_status sl__stage_metaspace(const sl__tok_draft *draft, const json_t *stage, const char *what,
                              const char **mark, sl__prepend_scheme *scheme, bool *splits,
                              sl_error *err)
{
    static const char *const names[] = {"never", "always", "first"};
    const char *name = "always";
    bool prefix;
    SL_TRY(sl__json_str(stage, "replacement", draft->path, mark, err));
    if (!sl__is_one_char(*mark)) {
        return SL_FAIL(err, SL_EFORMAT, "%s: %s: Metaspace replacement is not one character",
                       draft->path, what);
    }
    SL_TRY(sl__draft_optional_bool(stage, "split", draft->path, true, splits, err));
    /* The older form has add_prefix_space instead of a scheme. */
    SL_TRY(sl__draft_optional_bool(stage, "add_prefix_space", draft->path, true, &prefix, err));
    if (!prefix) name = "never";
    if (sl__json_has(stage, "prepend_scheme")) {
        SL_TRY(sl__json_str(stage, "prepend_scheme", draft->path, &name, err));
    }
    unsigned i = 0;
    while (i < 3 && strcmp(name, names[i]) != 0)
        i++;
    if (i == 3 || (!prefix && i != SL__PREPEND_NEVER)) {
        return SL_FAIL(err, i == 3 ? SL_EUNSUPPORTED : SL_EFORMAT,
                       "%s: %s: Metaspace prepend_scheme %.100s %s", draft->path, what, name,
                       i == 3 ? "is not supported" : "and add_prefix_space false disagree");
    }
    *scheme = (sl__prepend_scheme)i;
    return SL_OK;
}

/* ---- normalizer ------------------------------------------------------------------------------ */

static sl_status add_normal(pipeline *p, sl__step_kind kind, uint32_t behavior, const char *pattern,
                            const char *extra)
{
    const sl__tok_step step = {.kind = kind, .behavior = behavior};
    return sl__draft_step(p->draft, SL__NORMALIZE, &step, pattern, extra, p->err);
}

static sl_status replace(pipeline *p, const json_t *stage)
{
    const char *pattern, *content;
    bool regex;
    SL_TRY(sl__stage_pattern(p->draft, stage, &pattern, &regex, p->err));
    SL_TRY(sl__json_str(stage, "content", p->draft->path, &content, p->err));
    if (!regex && pattern[0] == '\0') {
        return SL_FAIL(p->err, SL_EUNSUPPORTED,
                       "%s: normalizer Replace of an empty text is not supported", p->draft->path);
    }
    return add_normal(p, regex ? SL__STEP_REPLACE_REGEX : SL__STEP_REPLACE_LITERAL, 0, pattern,
                      content);
}

static sl_status trim(pipeline *p, const json_t *stage)
{
    bool left, right;
    SL_TRY(sl__json_bool(stage, "strip_left", p->draft->path, &left, p->err));
    SL_TRY(sl__json_bool(stage, "strip_right", p->draft->path, &right, p->err));
    return add_normal(p, SL__STEP_TRIM, (left ? 1u : 0u) | (right ? 2u : 0u), "", "");
}

static sl_status normalizer(pipeline *p, const json_t *stage)
{
    static const char *const forms[] = {"NFC", "NFD", "NFKC", "NFKD"};
    const char *type, *text;
    SL_TRY(sl__stage_type(p->draft, stage, "normalizer", &type, p->err));
    for (uint32_t form = 0; form < 4; form++)
        if (strcmp(type, forms[form]) == 0) return add_normal(p, SL__STEP_FORM, form, "", "");
    if (strcmp(type, "Sequence") == 0) {
        return each(p, stage, "normalizer", "normalizers", normalizer);
    }
    if (strcmp(type, "Replace") == 0) return replace(p, stage);
    if (strcmp(type, "Strip") == 0) return trim(p, stage);
    if (strcmp(type, "StripAccents") == 0) return add_normal(p, SL__STEP_STRIP_MARKS, 0, "", "");
    if (strcmp(type, "Lowercase") == 0) return add_normal(p, SL__STEP_LOWERCASE, 0, "", "");
    if (strcmp(type, "Prepend") == 0) {
        SL_TRY(sl__json_str(stage, "prepend", p->draft->path, &text, p->err));
        return add_normal(p, SL__STEP_PREPEND, 0, text, "");
    }
    return sl__stage_unsupported(p->draft, "normalizer", type, p->err);
}

/* ---- pre_tokenizer --------------------------------------------------------------------------- */

static sl_status add_step(pipeline *p, sl__step_kind kind, uint32_t behavior, bool invert,
                          const char *pattern)
{
    const sl__tok_step step = {.kind = kind, .behavior = behavior, .invert = invert};
    return sl__draft_step(p->draft, SL__CUT, &step, pattern, "", p->err);
}

static sl_status behavior_of(pipeline *p, const json_t *stage, const char *what,
                             sl__step_behavior *behavior)
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
    return SL_FAIL(p->err, SL_EUNSUPPORTED, "%s: %s behavior %.100s is not supported",
                   p->draft->path, what, name);
}

static sl_status split(pipeline *p, const json_t *stage)
{
    bool regex, invert;
    const char *text;
    sl__step_behavior behavior = SL__ISOLATED;
    SL_TRY(sl__stage_pattern(p->draft, stage, &text, &regex, p->err));
    SL_TRY(behavior_of(p, stage, "Split", &behavior));
    SL_TRY(sl__draft_optional_bool(stage, "invert", p->draft->path, false, &invert, p->err));
    return add_step(p, regex ? SL__STEP_SPLIT_REGEX : SL__STEP_SPLIT_LITERAL, behavior, invert,
                    text);
}

static sl_status punctuation(pipeline *p, const json_t *stage)
{
    sl__step_behavior behavior = SL__ISOLATED;
    if (sl__json_has(stage, "behavior")) SL_TRY(behavior_of(p, stage, "Punctuation", &behavior));
    return add_step(p, SL__STEP_SPLIT_REGEX, behavior, false, "[\\p{P}$+<=>^`|~]");
}

static sl_status metaspace(pipeline *p, const json_t *stage)
{
    const char *mark;
    sl__prepend_scheme scheme = SL__PREPEND_NEVER;
    bool splits = true;
    SL_TRY(sl__stage_metaspace(p->draft, stage, "pre_tokenizer", &mark, &scheme, &splits, p->err));
    SL_TRY(add_step(p, SL__STEP_METASPACE, scheme, false, mark));
    if (!splits) return SL_OK;
    return add_step(p, SL__STEP_SPLIT_LITERAL, SL__MERGED_WITH_NEXT, false, mark);
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
    if (regex) SL_TRY(add_step(p, SL__STEP_SPLIT_REGEX, SL__ISOLATED, false, SL__GPT2_REGEX));
    return SL_OK;
}

static sl_status pre_tokenizer(pipeline *p, const json_t *stage)
{
    const char *type;
    SL_TRY(sl__stage_type(p->draft, stage, "pre_tokenizer", &type, p->err));
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
    if (strcmp(type, "Metaspace") == 0) return metaspace(p, stage);
    if (strcmp(type, "Punctuation") == 0) return punctuation(p, stage);
    if (strcmp(type, "Whitespace") == 0) {
        return add_step(p, SL__STEP_SPLIT_REGEX, SL__REMOVED, true, WORDS_REGEX);
    }
    if (strcmp(type, "WhitespaceSplit") == 0) {
        return add_step(p, SL__STEP_SPLIT_REGEX, SL__REMOVED, false, "\\s");
    }
    return sl__stage_unsupported(p->draft, "pre_tokenizer", type, p->err);
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
    SL_TRY(sl__stage_type(p->draft, stage, "post_processor", &type, p->err));
    if (strcmp(type, "Sequence") == 0) {
        return each(p, stage, "post_processor", "processors", post_processor);
    }
    if (strcmp(type, "ByteLevel") == 0) return SL_OK; /* changes offsets only */
    if (strcmp(type, "TemplateProcessing") == 0) return template_processing(p, stage);
    return sl__stage_unsupported(p->draft, "post_processor", type, p->err);
}

/* ---- all ------------------------------------------------------------------------------------- */

sl_status sl__draft_pipeline(sl__tok_draft *draft, const json_t *root, sl_error *err)
{
    pipeline p = {.draft = draft, .err = err};
    if (sl__json_has(root, "normalizer")) {
        SL_TRY(normalizer(&p, json_object_get(root, "normalizer")));
    }
    if (sl__json_has(root, "pre_tokenizer")) {
        SL_TRY(pre_tokenizer(&p, json_object_get(root, "pre_tokenizer")));
    }
    if (!p.byte_level) draft->head.flags |= SL__TOK_CHARS;
    if (sl__json_has(root, "post_processor")) {
        SL_TRY(post_processor(&p, json_object_get(root, "post_processor")));
    }
    if (sl__json_has(root, "decoder")) {
        return sl__draft_decoder(draft, json_object_get(root, "decoder"), err);
    }
    if (!p.byte_level) draft->head.flags |= SL__TOK_APART;
    return SL_OK;
}
