/* From a request to the tokens of a prompt. */
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "server/api.h"

/* The variables that the template sees. New reference; NULL: no memory. */
static json_t *variables(const api_request *r, bool answer)
{
    json_t *vars = r->kwargs ? json_copy(r->kwargs) : json_object();
    if (!vars) return NULL;
    bool made = json_object_set(vars, "messages", r->messages) == 0 &&
                json_object_set_new(vars, "add_generation_prompt", json_boolean(answer)) == 0;
    if (made && r->tools) made = json_object_set(vars, "tools", r->tools) == 0;
    if (made) return vars;
    json_decref(vars);
    return NULL;
}

static sl_status render(const api_model *model, const api_request *r, bool answer, char **text,
                        size_t *size, sl_error *err)
{
    json_t *vars = variables(r, answer);
    char *json = vars ? json_dumps(vars, JSON_COMPACT) : NULL;
    json_decref(vars);
    if (!json) return SL_FAIL_NOMEM(err, "messages");
    sl_status status = sl_template_render(model->tmpl, json, strlen(json), text, size, err);
    free(json);
    return status;
}

/* Whether the text leaves the model inside of its reasoning. */
static bool ends_thinking(const char *text, size_t size)
{
    static const char tag[] = "<think>";
    const size_t n = sizeof tag - 1;
    while (size > 0 && strchr(" \n\r\t", text[size - 1]))
        size--;
    return size >= n && memcmp(text + size - n, tag, n) == 0;
}

static sl_status encode(const api_model *model, const char *text, size_t size, unsigned flags,
                        int32_t **ids, size_t *count, sl_error *err)
{
    return sl_tokenizer_encode(model->tok, text, size, flags, ids, count, err);
}

/* Where the conversation ends and the answer's own opening begins: what a next turn begins with,
 * too. A template that does not render without it has no such place. */
static sl_status find_turn(const api_model *model, const api_request *r, job *j, sl_error *err)
{
    char *text;
    size_t size, count, same = 0;
    int32_t *ids;
    sl_error ignored = {0};
    if (render(model, r, false, &text, &size, &ignored) != SL_OK) return SL_OK;
    sl_status status = encode(model, text, size, SL_ENCODE_ADDED, &ids, &count, err);
    free(text);
    if (status != SL_OK) return status;
    while (same < count && same < j->count && ids[same] == j->ids[same])
        same++;
    free(ids);
    j->turns = malloc(sizeof *j->turns);
    if (!j->turns) return SL_FAIL_NOMEM(err, "prompt");
    j->turns[0] = same;
    j->turn_count = same > 0;
    return SL_OK;
}

static sl_status prepare_chat(const api_model *model, api_request *r, job *j, sl_error *err)
{
    char *text;
    size_t size;
    if (!model->tmpl) return SL_FAIL(err, SL_EINVAL, "this model has no chat template");
    SL_TRY(render(model, r, true, &text, &size, err));
    r->options.thinking = ends_thinking(text, size);
    sl_status status = encode(model, text, size, SL_ENCODE_ADDED, &j->ids, &j->count, err);
    free(text);
    if (status != SL_OK) return status;
    return find_turn(model, r, j, err);
}

static sl_status take_ids(const api_model *model, const json_t *list, job *j, sl_error *err)
{
    j->count = json_array_size(list);
    j->ids = malloc((j->count + 1) * sizeof *j->ids);
    if (!j->ids) return SL_FAIL_NOMEM(err, "prompt");
    for (size_t i = 0; i < j->count; i++) {
        const json_t *id = json_array_get(list, i);
        json_int_t value = json_integer_value(id);
        if (!json_is_integer(id) || value < 0 || value >= (json_int_t)model->vocab_size) {
            return SL_FAIL(err, SL_EINVAL, "prompt[%zu]: expected the id of a token", i);
        }
        j->ids[i] = (int32_t)value;
    }
    return SL_OK;
}

sl_status api_prepare(const api_model *model, api_request *r, job *j, sl_error *err)
{
    if (r->messages) {
        SL_TRY(prepare_chat(model, r, j, err));
    } else if (r->ids) {
        SL_TRY(take_ids(model, r->ids, j, err));
    } else {
        SL_TRY(encode(model, r->prompt, strlen(r->prompt), SL_ENCODE_ADDED | SL_ENCODE_BOS, &j->ids,
                      &j->count, err));
    }
    j->stops = r->stops;
    r->stops = NULL;
    j->options = r->options;
    j->options.stops = (const char *const *)j->stops;
    j->options.end_ids = model->defaults.eos_ids;
    j->options.end_count = model->defaults.eos_count;
    if (j->options.max_tokens == 0) j->options.max_tokens = model->max_tokens;
    if (j->options.chat) { /* who has no tools is not told of calls: they are text */
        j->tools = r->tools ? json_dumps(r->tools, JSON_COMPACT) : strdup("[]");
        if (!j->tools) return SL_FAIL_NOMEM(err, "tools");
        j->options.tools = j->tools;
        j->options.tools_size = strlen(j->tools);
    }
    return SL_OK;
}
