/* Opening the chat template of a model, wherever it lies: in files of its own, or under two keys of
 * a GGUF file. */
#include "base/fail.h"
#include "format/gguf.h"
#include "text/template.h"

#define KEY "tokenizer.chat_template"

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
    if (!sl__gguf_find_key(set, tools)) return SL_OK;
    sl_status status = sl__gguf_string(set, tools, &text, &size, err);
    if (status == SL_OK) status = sl__template_add_tools(*out, text, size, path, err);
    if (status == SL_OK) return SL_OK;
    sl_template_close(*out);
    *out = NULL;
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
