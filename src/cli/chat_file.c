/* Conversations on the disk: JSON that a person can read.
 *
 *     {"sluice_chat": 1, "model": "…", "system": "…", "tools_file": "…",
 *      "settings": {"thinking": "dim", "max_tokens": 500, "sampling": {"temp": 0.5}},
 *      "messages": [{"role": "user", "content": "…"}, …]}
 *
 * model and messages are always there. How many experts ran is not kept: fewer than trained has to
 * be asked for each time.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fail.h"
#include "base/hash.h"
#include "base/json.h"
#include "cli/chat.h"

#define VERSION        1
#define FILE_BYTES_MAX ((uint64_t)1 << 30)
#define MESSAGES_MAX   1000000u

/* ---- writing --------------------------------------------------------------------------------- */

static json_t *settings_of(const chat *c)
{
    json_t *settings = json_object(), *sampling = cli_sampling_save(&c->sampling);
    json_object_set_new(settings, "thinking", json_string(chat_thinking_name(c->screen.thinking)));
    if (c->limit) json_object_set_new(settings, "max_tokens", json_integer(c->limit));
    if (json_object_size(sampling) > 0) json_object_set(settings, "sampling", sampling);
    json_decref(sampling);
    return settings;
}

/* NULL: no memory. The caller frees it. */
static char *text_of(const chat *c)
{
    json_t *file = json_pack("{s:i, s:s, s:o, s:O}", "sluice_chat", VERSION, "model", c->model.path,
                             "settings", settings_of(c), "messages", c->messages);
    bool made = file != NULL;
    if (made && c->system) made = json_object_set_new(file, "system", json_string(c->system)) == 0;
    if (made && c->tools_path)
        made = json_object_set_new(file, "tools_file", json_string(c->tools_path)) == 0;
    char *text = made ? json_dumps(file, JSON_INDENT(2)) : NULL;
    json_decref(file);
    return text;
}

static sl_status write_chat(const chat *c, const char *path, sl_error *err)
{
    char *text = text_of(c);
    if (!text) return SL_FAIL_NOMEM(err, path);
    size_t size = strlen(text);
    text[size] = '\n'; /* in the place of the NUL */
    sl_status status = sl__file_write_atomic(path, text, size + 1, err);
    free(text);
    return status;
}

/* ---- reading --------------------------------------------------------------------------------- */

static bool is_text(const json_t *object, const char *key, bool needed)
{
    const json_t *value = json_object_get(object, key);
    return value ? json_is_string(value) : !needed;
}

static sl_status check_call(const json_t *call, const char *where, const char *path, sl_error *err)
{
    const json_t *function = json_object_get(call, "function");
    if (is_text(function, "name", true) && is_text(call, "id", false) &&
        json_is_object(json_object_get(function, "arguments")))
        return SL_OK;
    return SL_FAIL(err, SL_EFORMAT, "%s: %s: expected a function with a name and arguments", path,
                   where);
}

static sl_status check_message(const json_t *message, size_t index, const char *path, sl_error *err)
{
    static const char *const texts[] = {"reasoning_content", "tool_call_id", "name"};
    const char *role = json_string_value(json_object_get(message, "role"));
    const json_t *calls = json_object_get(message, "tool_calls");
    char where[96];
    if (!role || (strcmp(role, "user") != 0 && strcmp(role, "assistant") != 0 &&
                  strcmp(role, "tool") != 0)) {
        return SL_FAIL(err, SL_EFORMAT, "%s: messages[%zu].role: expected user, assistant or tool",
                       path, index);
    }
    if (!is_text(message, "content", true)) {
        return SL_FAIL(err, SL_EFORMAT, "%s: messages[%zu].content: expected text", path, index);
    }
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (!is_text(message, texts[i], false)) {
            return SL_FAIL(err, SL_EFORMAT, "%s: messages[%zu].%s: expected text", path, index,
                           texts[i]);
        }
    }
    if (calls && !json_is_array(calls)) {
        return SL_FAIL(err, SL_EFORMAT, "%s: messages[%zu].tool_calls: expected an array", path,
                       index);
    }
    for (size_t i = 0; i < json_array_size(calls); i++) {
        snprintf(where, sizeof where, "messages[%zu].tool_calls[%zu]", index, i);
        SL_TRY(check_call(json_array_get(calls, i), where, path, err));
    }
    return SL_OK;
}

static sl_status check_file(const json_t *file, const char *path, sl_error *err)
{
    const json_t *version = json_object_get(file, "sluice_chat");
    const json_t *messages = json_object_get(file, "messages");
    if (!json_is_integer(version)) {
        return SL_FAIL(err, SL_EFORMAT, "%s: not a conversation (no \"sluice_chat\")", path);
    }
    if (json_integer_value(version) != VERSION) {
        return SL_FAIL(err, SL_EUNSUPPORTED, "%s: a conversation of version %lld, not %d", path,
                       (long long)json_integer_value(version), VERSION);
    }
    static const char *const texts[] = {"model", "system", "tools_file"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (!is_text(file, texts[i], i == 0))
            return SL_FAIL(err, SL_EFORMAT, "%s: %s: expected text", path, texts[i]);
    }
    if (!json_is_array(messages) || json_array_size(messages) > MESSAGES_MAX) {
        return SL_FAIL(err, SL_EFORMAT, "%s: messages: expected an array of at most %u", path,
                       MESSAGES_MAX);
    }
    for (size_t i = 0; i < json_array_size(messages); i++)
        SL_TRY(check_message(json_array_get(messages, i), i, path, err));
    return SL_OK;
}

/* What of a file's settings the command line did not decide. */
typedef struct settings {
    cli_sampling sampling;
    chat_thinking thinking;
    uint32_t limit;
} settings;

static sl_status read_settings(const chat *c, const json_t *file, const char *path, settings *out,
                               sl_error *err)
{
    *out = (settings){c->given_sampling, c->screen.thinking, c->given_limit};
    const json_t *given = json_object_get(file, "settings");
    if (!given) return SL_OK;
    if (!json_is_object(given)) {
        return SL_FAIL(err, SL_EFORMAT, "%s: settings: expected an object", path);
    }
    chat_thinking thinking;
    const json_t *name = json_object_get(given, "thinking");
    if (name &&
        (!json_is_string(name) || !chat_thinking_find(json_string_value(name), &thinking))) {
        return SL_FAIL(err, SL_EFORMAT, "%s: settings.thinking: expected show, dim, hide or off",
                       path);
    }
    /* How a terminal shows it is nothing for a pipe. */
    bool shown = name && thinking != CHAT_THINKING_OFF;
    if (name && !c->thinking_fixed && (c->screen.talks || !shown)) out->thinking = thinking;
    uint32_t limit = 0;
    if (json_object_get(given, "max_tokens"))
        SL_TRY(sl__json_u32(given, "max_tokens", path, 1, UINT32_MAX, &limit, err));
    if (!c->given_limit) out->limit = limit;
    const json_t *sampling = json_object_get(given, "sampling");
    return sampling ? cli_sampling_load(&out->sampling, sampling, path, err) : SL_OK;
}

/* Tools are only taken from a conversation where each call is asked about. */
static void take_named_tools(chat *c, const char *tools)
{
    sl_error why = {0};
    if (c->tools_fixed || !tools) return;
    if (c->yes_run_tools) {
        chat_screen_note(&c->screen, "its tools, %s, are not taken with --yes-run-tools", tools);
    } else if (chat_take_tools(c, tools, &why) != SL_OK) {
        chat_screen_note(&c->screen, "without its tools: %s", why.message);
    }
}

static sl_status take_file(chat *c, const json_t *file, const char *path, sl_error *err)
{
    settings s;
    SL_TRY(check_file(file, path, err));
    SL_TRY(read_settings(c, file, path, &s, err));
    const char *system = json_string_value(json_object_get(file, "system"));
    char *copy = system ? strdup(system) : NULL;
    if (system && !copy) return SL_FAIL_NOMEM(err, path);
    free(c->system);
    c->system = copy;
    json_decref(c->messages);
    c->messages = json_incref(json_object_get(file, "messages"));
    c->sampling = s.sampling;
    c->screen.thinking = s.thinking;
    c->limit = s.limit;
    take_named_tools(c, json_string_value(json_object_get(file, "tools_file")));
    return SL_OK;
}

sl_status chat_file_load(chat *c, const char *path, sl_error *err)
{
    json_t *file;
    SL_TRY(sl__json_load(path, FILE_BYTES_MAX, &file, err));
    sl_status status = take_file(c, file, path, err);
    json_decref(file);
    return status;
}

/* A file of something else is not written over. */
static sl_status check_target(const char *path, sl_error *err)
{
    json_t *file;
    sl_error why = {0};
    if (!sl__file_exists(path)) return SL_OK;
    sl_status status = sl__json_load(path, FILE_BYTES_MAX, &file, &why);
    if (status == SL_OK) {
        status = check_file(file, path, &why);
        json_decref(file);
    }
    if (status == SL_OK) return SL_OK;
    return SL_FAIL(err, SL_EINVAL, "%s: is there, and is no conversation; it stays as it is", path);
}

sl_status chat_file_save(const chat *c, const char *path, sl_error *err)
{
    SL_TRY(check_target(path, err));
    return write_chat(c, path, err);
}

/* ---- the last conversation ------------------------------------------------------------------- */

/* "chat-NAME-0123456789abcdef.json": the name for people, the hash of the whole path for the rest.
 */
bool chat_file_last(const chat *c, char out[SL_PATH_MAX])
{
    char *path = realpath(c->model.path, NULL), hash[SL_HASH_TEXT], name[128];
    if (!path) return false;
    sl__hash_format(sl__hash64(path, strlen(path)), hash);
    const char *slash = strrchr(path, '/');
    snprintf(name, sizeof name, "chat-%.80s-%s.json", slash ? slash + 1 : path, hash);
    free(path);
    return cli_state_file(out, name);
}

void chat_file_remember(chat *c)
{
    char path[SL_PATH_MAX];
    sl_error why = {0};
    if (c->forgets || c->remember_failed) return;
    mode_t before = umask(077); /* for its owner's eyes */
    sl_status status = SL_EIO;
    if (chat_file_last(c, path)) status = write_chat(c, path, &why);
    umask(before);
    if (status == SL_OK) return;
    c->remember_failed = true;
    chat_screen_note(&c->screen, "this conversation is not remembered: %s",
                     why.message[0] ? why.message : "there is no folder for it");
}

/* ---- tools ----------------------------------------------------------------------------------- */

sl_status chat_take_tools(chat *c, const char *path, sl_error *err)
{
    chat_tools tools = {NULL, NULL};
    char *whole = NULL;
    if (path) {
        SL_TRY(chat_tools_load(&tools, path, err));
        whole = realpath(path, NULL); /* a kept conversation may be loaded from elsewhere */
        if (!whole) {
            chat_tools_free(&tools);
            return SL_FAIL(err, SL_EIO, "%s: %s", path, strerror(errno));
        }
    }
    chat_tools_free(&c->tools);
    free(c->tools_path);
    c->tools = tools;
    c->tools_path = whole;
    return SL_OK;
}
