/* Tools of a chat: their file, and the command of a call. */
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/fail.h"
#include "base/json.h"
#include "cli/chat_tools.h"

#define FILE_BYTES_MAX  ((uint64_t)4 << 20)
#define WORD_BYTES_MAX  ((size_t)128 << 10) /* what systems take as one argument */
#define WORDS_BYTES_MAX ((size_t)1 << 20)
#define TOOLS_MAX       256u
#define WORDS_MAX       256u
#define NAME_BYTES_MAX  64u

/* ---- placeholders ---------------------------------------------------------------------------- */

static bool is_name_char(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_' ||
           c == '-';
}

typedef enum part_kind { PART_END, PART_TEXT, PART_NAME, PART_WRONG } part_kind;

/* A piece of a word: text, or the name of an argument. It lies in the word. */
typedef struct part {
    part_kind kind;
    const char *text;
    size_t size;
} part;

/* The piece at *word, which is moved behind it. */
static part next_part(const char **word)
{
    const char *at = *word;
    if (!*at) return (part){PART_END, at, 0};
    if (*at != '{' && *at != '}') {
        size_t size = strcspn(at, "{}");
        *word = at + size;
        return (part){PART_TEXT, at, size};
    }
    if (at[1] == at[0]) {
        *word = at + 2;
        return (part){PART_TEXT, at, 1};
    }
    size_t size = 0;
    while (is_name_char(at[1 + size]))
        size++;
    if (*at == '}' || size == 0 || at[1 + size] != '}') return (part){PART_WRONG, at, 0};
    *word = at + size + 2;
    return (part){PART_NAME, at + 1, size};
}

static const json_t *member(const json_t *object, const part *name)
{
    char key[256];
    if (name->size >= sizeof key) return NULL;
    memcpy(key, name->text, name->size);
    key[name->size] = '\0';
    return json_object_get(object, key);
}

/* ---- the file -------------------------------------------------------------------------------- */

static bool is_name(const char *name)
{
    size_t size = 0;
    while (is_name_char(name[size]))
        size++;
    return size > 0 && size <= NAME_BYTES_MAX && !name[size];
}

static sl_status check_word(const json_t *tool, size_t index, const char *path, const char *name,
                            sl_error *err)
{
    const char *word = json_string_value(json_array_get(json_object_get(tool, "command"), index));
    const json_t *properties = json_object_get(json_object_get(tool, "parameters"), "properties");
    if (!word) {
        return SL_FAIL(err, SL_EFORMAT, "%s: tool %s: command[%zu]: expected text", path, name,
                       index);
    }
    if (index == 0 && !word[0]) {
        return SL_FAIL(err, SL_EFORMAT, "%s: tool %s: command[0]: the program has no name", path,
                       name);
    }
    for (;;) {
        part p = next_part(&word);
        if (p.kind == PART_END) return SL_OK;
        if (p.kind == PART_WRONG) {
            return SL_FAIL(err, SL_EFORMAT,
                           "%s: tool %s: command[%zu]: a brace is not one of {name}, {{ and }}",
                           path, name, index);
        }
        if (p.kind == PART_TEXT) continue;
        if (index == 0) {
            return SL_FAIL(err, SL_EFORMAT,
                           "%s: tool %s: command[0]: the program cannot be filled in", path, name);
        }
        if (!member(properties, &p)) {
            return SL_FAIL(err, SL_EFORMAT,
                           "%s: tool %s: command[%zu]: {%.*s} is none of parameters.properties",
                           path, name, index, (int)p.size, p.text);
        }
    }
}

static sl_status check_tool(const json_t *tool, size_t index, const char *path, sl_error *err)
{
    const json_t *parameters = json_object_get(tool, "parameters");
    const json_t *command = json_object_get(tool, "command");
    const json_t *required = json_object_get(parameters, "required");
    const char *name = json_string_value(json_object_get(tool, "name"));
    if (!json_is_object(tool)) {
        return SL_FAIL(err, SL_EFORMAT, "%s: tool %zu: expected an object", path, index + 1);
    }
    if (!name || !is_name(name)) {
        return SL_FAIL(err, SL_EFORMAT,
                       "%s: tool %zu: name: expected 1 to 64 letters, digits, '_' and '-'", path,
                       index + 1);
    }
    if (!json_is_string(json_object_get(tool, "description"))) {
        return SL_FAIL(err, SL_EFORMAT, "%s: tool %s: description: expected text", path, name);
    }
    if (!json_is_object(parameters) || !json_is_object(json_object_get(parameters, "properties"))) {
        return SL_FAIL(err, SL_EFORMAT,
                       "%s: tool %s: parameters: expected a JSON schema with properties", path,
                       name);
    }
    for (size_t i = 0; i < json_array_size(required); i++) {
        if (!json_is_string(json_array_get(required, i))) {
            return SL_FAIL(err, SL_EFORMAT, "%s: tool %s: parameters.required[%zu]: expected text",
                           path, name, i);
        }
    }
    size_t words = json_array_size(command);
    if (words == 0 || words > WORDS_MAX) {
        return SL_FAIL(err, SL_EFORMAT, "%s: tool %s: command: expected an array of 1 to %u words",
                       path, name, WORDS_MAX);
    }
    for (size_t i = 0; i < words; i++)
        SL_TRY(check_word(tool, i, path, name, err));
    return SL_OK;
}

static const json_t *find_tool(const json_t *file, const char *name, size_t before)
{
    for (size_t i = 0; i < before; i++) {
        const json_t *tool = json_array_get(file, i);
        if (strcmp(json_string_value(json_object_get(tool, "name")), name) == 0) return tool;
    }
    return NULL;
}

static sl_status check_file(const json_t *file, const char *path, sl_error *err)
{
    if (!json_is_array(file) || json_array_size(file) > TOOLS_MAX) {
        return SL_FAIL(err, SL_EFORMAT, "%s: expected an array of at most %u tools", path,
                       TOOLS_MAX);
    }
    for (size_t i = 0; i < json_array_size(file); i++) {
        const json_t *tool = json_array_get(file, i);
        SL_TRY(check_tool(tool, i, path, err));
        const char *name = json_string_value(json_object_get(tool, "name"));
        if (find_tool(file, name, i)) {
            return SL_FAIL(err, SL_EFORMAT, "%s: tool %s is there twice", path, name);
        }
    }
    return SL_OK;
}

/* What a model is told of the tools: all but the commands. NULL: no memory. */
static json_t *make_templates(const json_t *file)
{
    json_t *list = json_array();
    for (size_t i = 0; list && i < json_array_size(file); i++) {
        json_t *function = json_copy(json_array_get(file, i));
        json_object_del(function, "command");
        json_t *tool = json_pack("{s:s, s:o}", "type", "function", "function", function);
        if (json_array_append_new(list, tool) == 0) continue;
        json_decref(list);
        list = NULL;
    }
    return list;
}

static sl_status take_file(chat_tools *tools, json_t *file, const char *path, sl_error *err)
{
    sl_status status = check_file(file, path, err);
    json_t *templates = status == SL_OK ? make_templates(file) : NULL;
    if (status == SL_OK && !templates) status = SL_FAIL_NOMEM(err, "tools");
    if (status == SL_OK)
        *tools = (chat_tools){.file = file, .templates = templates};
    else
        json_decref(file);
    return status;
}

sl_status chat_tools_parse(chat_tools *tools, const char *text, size_t size, const char *path,
                           sl_error *err)
{
    json_t *file;
    SL_TRY(sl__json_parse(text, size, path, &file, err));
    return take_file(tools, file, path, err);
}

sl_status chat_tools_load(chat_tools *tools, const char *path, sl_error *err)
{
    json_t *file;
    SL_TRY(sl__json_load(path, FILE_BYTES_MAX, &file, err));
    return take_file(tools, file, path, err);
}

void chat_tools_free(chat_tools *tools)
{
    json_decref(tools->file);
    json_decref(tools->templates);
    *tools = (chat_tools){.file = NULL};
}

/* ---- the command of a call ------------------------------------------------------------------- */

static sl_status append_value(sl__buffer *words, const json_t *value, const part *name,
                              sl_error *err)
{
    bool fits;
    if (json_is_string(value)) {
        const char *text = json_string_value(value);
        if (strlen(text) != json_string_length(value)) {
            return SL_FAIL(err, SL_EINVAL, "argument %.*s holds a NUL", (int)name->size,
                           name->text);
        }
        fits = sl__buffer_append_str(words, text);
    } else {
        char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
        if (!text) return SL_FAIL_NOMEM(err, "arguments");
        fits = sl__buffer_append_str(words, text);
        free(text);
    }
    if (fits) return SL_OK;
    return SL_FAIL(err, SL_EINVAL, "argument %.*s is too long", (int)name->size, name->text);
}

/* Appends a filled word and its NUL, or nothing where an argument of it was not given. */
static sl_status fill_word(sl__buffer *words, size_t *count, const char *word,
                           const json_t *arguments, sl_error *err)
{
    size_t begin = words->size;
    for (part p = next_part(&word); p.kind != PART_END; p = next_part(&word)) {
        if (p.kind == PART_TEXT) {
            if (!sl__buffer_append(words, p.text, p.size)) return SL_FAIL_NOMEM(err, "command");
            continue;
        }
        const json_t *value = member(arguments, &p);
        if (!value || json_is_null(value)) {
            words->size = begin;
            return SL_OK;
        }
        SL_TRY(append_value(words, value, &p, err));
        if (words->size - begin > WORD_BYTES_MAX) {
            return SL_FAIL(err, SL_EINVAL, "argument %.*s is too long", (int)p.size, p.text);
        }
    }
    if (!sl__buffer_append(words, "", 1)) return SL_FAIL_NOMEM(err, "command");
    ++*count;
    return SL_OK;
}

static sl_status check_required(const json_t *tool, const json_t *arguments, sl_error *err)
{
    const json_t *required = json_object_get(json_object_get(tool, "parameters"), "required");
    for (size_t i = 0; i < json_array_size(required); i++) {
        const char *name = json_string_value(json_array_get(required, i));
        const json_t *value = json_object_get(arguments, name);
        if (!value || json_is_null(value)) {
            return SL_FAIL(err, SL_EINVAL, "argument %s is missing", name);
        }
    }
    return SL_OK;
}

/* count words, each with its NUL, as an argv. */
static char **make_argv(const sl__buffer *words, size_t count)
{
    size_t table = (count + 1) * sizeof(char *);
    char **argv = malloc(table + words->size);
    if (!argv) return NULL;
    char *text = (char *)argv + table;
    memcpy(text, words->data, words->size);
    for (size_t i = 0; i < count; i++) {
        argv[i] = text;
        text += strlen(text) + 1;
    }
    argv[count] = NULL;
    return argv;
}

sl_status chat_tools_command(const chat_tools *tools, const char *name, const json_t *arguments,
                             char ***argv, sl_error *err)
{
    const json_t *tool = find_tool(tools->file, name, json_array_size(tools->file));
    if (!tool) return SL_FAIL(err, SL_EINVAL, "there is no tool %s", name);
    if (!json_is_object(arguments)) {
        return SL_FAIL(err, SL_EINVAL, "the arguments are no JSON object");
    }
    SL_TRY(check_required(tool, arguments, err));
    const json_t *command = json_object_get(tool, "command");
    sl__buffer words;
    sl__buffer_init(&words, WORDS_BYTES_MAX);
    size_t count = 0;
    sl_status status = SL_OK;
    for (size_t i = 0; status == SL_OK && i < json_array_size(command); i++) {
        status = fill_word(&words, &count, json_string_value(json_array_get(command, i)), arguments,
                           err);
    }
    *argv = status == SL_OK ? make_argv(&words, count) : NULL;
    if (status == SL_OK && !*argv) status = SL_FAIL_NOMEM(err, "command");
    sl__buffer_free(&words);
    return status;
}

/* ---- the command for a reader ---------------------------------------------------------------- */

static bool is_plain_word(const char *word)
{
    static const char also[] = "_-./:=@%+,";
    if (!*word) return false;
    for (; *word; word++)
        if (!is_name_char(*word) && !strchr(also, *word)) return false;
    return true;
}

/* Characters that a terminal obeys, or that a reader does not see. */
static bool is_hidden(utf8proc_int32_t c)
{
    switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
        return true;
    case UTF8PROC_CATEGORY_ZS:
        return c != ' ';
    default: /* fillers, and selectors of variants */
        return c == 0x34f || c == 0x115f || c == 0x1160 || c == 0x3164 || c == 0xffa0 ||
               (c >= 0x180b && c <= 0x180f) || (c >= 0xfe00 && c <= 0xfe0f) || c >= 0xe0000;
    }
}

static bool show_char(sl__buffer *line, const char *text, size_t size, utf8proc_int32_t code)
{
    if (code == '"' || code == '\\') return sl__buffer_printf(line, "\\%c", (int)code);
    if (code == '\n') return sl__buffer_append_str(line, "\\n");
    if (code == '\t') return sl__buffer_append_str(line, "\\t");
    if (is_hidden(code)) return sl__buffer_printf(line, "\\u{%x}", (unsigned)code);
    return sl__buffer_append(line, text, size);
}

static bool show_quoted(sl__buffer *line, const char *word)
{
    bool fits = sl__buffer_append(line, "\"", 1);
    while (fits && *word) {
        utf8proc_int32_t code;
        utf8proc_ssize_t size = utf8proc_iterate((const utf8proc_uint8_t *)word, -1, &code);
        if (size > 0) {
            fits = show_char(line, word, (size_t)size, code);
            word += size;
        } else {
            fits = sl__buffer_printf(line, "\\x%02x", (unsigned)(unsigned char)*word++);
        }
    }
    return fits && sl__buffer_append(line, "\"", 1);
}

bool chat_tools_show(sl__buffer *line, char *const *argv)
{
    bool fits = true;
    for (size_t i = 0; fits && argv[i]; i++) {
        if (i > 0) fits = sl__buffer_append(line, " ", 1);
        if (fits && is_plain_word(argv[i]))
            fits = sl__buffer_append_str(line, argv[i]);
        else if (fits)
            fits = show_quoted(line, argv[i]);
    }
    return fits;
}
