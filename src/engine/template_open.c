/* Opening the chat template of a model, wherever it lies: in files of its own, or under two keys of
 * a GGUF file. */
#include "base/fail.h"
#include "engine/template_config.h"
#include "format/gguf.h"
#include "text/template.h"

#define KEY   "tokenizer.chat_template"
#define VOCAB "tokenizer.ggml."

/* Tokens by their ids, in the form of a tokenizer_config.json. */
static sl_status tokens_of(const sl__gguf_set *set, json_t *to, sl_error *err)
{
    static const char *const names[][2] = {{VOCAB "bos_token_id", "bos_token"},
                                           {VOCAB "eos_token_id", "eos_token"},
                                           {VOCAB "unknown_token_id", "unk_token"},
                                           {VOCAB "padding_token_id", "pad_token"}};
    const sl__gguf_key *texts = sl__gguf_find_key(set, VOCAB "tokens");
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const sl__gguf_key *key = sl__gguf_find_key(set, names[i][0]);
        const char *text;
        size_t size;
        int64_t id;
        bool known = key && texts && sl__gguf_int_at(set, key, 0, &id) && id >= 0 &&
                     (uint64_t)id < texts->count &&
                     sl__gguf_string_at(set, texts, (uint64_t)id, &text, &size);
        json_t *value = known ? json_stringn(text, size) : NULL; /* NULL: bytes that are no text */
        if (value && json_object_set_new(to, names[i][1], value) != 0)
            return SL_FAIL_NOMEM(err, "tokens");
    }
    return SL_OK;
}

static sl_status add_tokens(sl_template *tmpl, const sl__gguf_set *set, sl_error *err)
{
    json_t *config = json_object();
    sl_status status = config ? tokens_of(set, config, err) : SL_FAIL_NOMEM(err, "tokens");
    if (status == SL_OK) status = sl__template_add_tokens(tmpl, config, err);
    json_decref(config);
    return status;
}

static sl_status open_set(sl_template **out, const sl__gguf_set *set, sl_error *err)
{
    static const char tools[] = KEY ".tool_use";
    const char *text, *path = set->files[0].path;
    size_t size;
    if (!sl__gguf_find_key(set, KEY)) {
        return SL_FAIL(err, SL_EIO, "%s: " KEY " is missing: this model has no chat template",
                       path);
    }
    SL_TRY(sl__gguf_string(set, KEY, &text, &size, err));
    SL_TRY(sl_template_parse(out, text, size, path, err));
    sl_status status = add_tokens(*out, set, err);
    if (status == SL_OK && sl__gguf_find_key(set, tools)) {
        status = sl__gguf_string(set, tools, &text, &size, err);
        if (status == SL_OK) status = sl__template_add_tools(*out, text, size, path, err);
    }
    if (status == SL_OK) return SL_OK;
    sl_template_close(*out);
    *out = NULL;
    return status;
}

/* {chat_template, bos_token, …} of a GGUF file, as sl__template_describe has it. */
static sl_status describe_set(json_t *to, const sl__gguf_set *set, sl_error *err)
{
    static const char tools[] = KEY ".tool_use";
    const char *text, *more;
    size_t size, more_size;
    SL_TRY(tokens_of(set, to, err));
    if (!sl__gguf_find_key(set, KEY)) return SL_OK;
    SL_TRY(sl__gguf_string(set, KEY, &text, &size, err));
    json_t *made = json_stringn(text, size);
    if (made && sl__gguf_find_key(set, tools)) {
        sl_status status = sl__gguf_string(set, tools, &more, &more_size, err);
        if (status != SL_OK) json_decref(made);
        if (status != SL_OK) return status;
        made = json_pack("[{s:s, s:o}, {s:s, s:s%}]", "name", "default", "template", made, "name",
                         "tool_use", "template", more, more_size);
    }
    if (!made) return SL_FAIL(err, SL_EFORMAT, "%s: " KEY " is not UTF-8", set->files[0].path);
    return json_object_set_new(to, "chat_template", made) == 0 ? SL_OK
                                                               : SL_FAIL_NOMEM(err, "template");
}

sl_status sl__template_config(json_t **out, const char *path, const char *folder, sl_error *err)
{
    sl__gguf_set set;
    if (!sl__gguf_is(path)) return sl__template_describe(out, folder, err);
    *out = NULL;
    SL_TRY(sl__gguf_open(&set, path, err));
    json_t *to = json_object();
    sl_status status = to ? describe_set(to, &set, err) : SL_FAIL_NOMEM(err, "template");
    sl__gguf_close(&set);
    if (status == SL_OK)
        *out = to;
    else
        json_decref(to);
    return status;
}

sl_status sl_template_open(sl_template **out, const char *path, sl_error *err)
{
    sl__gguf_set set;
    *out = NULL;
    if (!sl__gguf_is(path)) return sl__template_open_files(out, path, err);
    SL_TRY(sl__gguf_open(&set, path, err));
    sl_status status = open_set(out, &set, err);
    sl__gguf_close(&set);
    return status;
}
