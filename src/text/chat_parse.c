/* Taking a model's output apart. What cannot be decided yet waits in `input`; each step looks at
 * its beginning and takes something, or says that it needs more:
 *
 *     TEXT ─ <tool_call> ─┬─ <function=NAME> ── BODY ⇄ VALUE ── CLOSE ──┬─ TEXT
 *                         └─ {"name": …, "arguments": ── OBJECT ── TAIL ┘
 */
#include "text/chat_parse.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/fail.h"

#define HELD_MAX       ((size_t)64 << 20) /* bytes that may wait */
#define NAME_MAX_BYTES 256u               /* of a tool or a parameter */

typedef enum state { TEXT, BODY, VALUE, CLOSE, OBJECT, TAIL } state;
typedef enum step { MORE, TAKEN } step; /* MORE: nothing can be taken before more input comes */
typedef enum found { NO, PERHAPS, YES } found;

struct sl__chat_parser {
    json_t *tools; /* may be NULL */
    sl__chat_fn fn;
    void *ctx;
    sl__buffer input, made;
    size_t at;      /* of input: what was taken */
    size_t scanned; /* behind `at`: where the end of something is known not to begin */
    state state;
    bool reasoning;
    bool begun;               /* something was told, so that <think> is a word like others */
    bool stripped;            /* behind a tag: line breaks belong to it */
    bool final;               /* no more input comes */
    const json_t *properties; /* of the call's parameters; borrowed from tools */
    const json_t *schema;     /* VALUE: of one that is no string, borrowed; NULL: a string */
    bool started, some;       /* VALUE: begun. BODY: there was a parameter */
    size_t depth;             /* OBJECT */
    bool quoted, escaped;
    sl_status status;
    sl_error *err;
};

static const char call_open[] = "<tool_call>", call_close[] = "</tool_call>";
static const char value_close[] = "</parameter>";

/* ---- telling --------------------------------------------------------------------------------- */

static const char *rest(const sl__chat_parser *p, size_t *size)
{
    *size = p->input.size - p->at;
    return p->input.data + p->at;
}

/* Takes raw_size bytes of the input for an event. */
static step tell(sl__chat_parser *p, sl__chat_kind kind, const char *text, size_t size,
                 size_t raw_size)
{
    const sl__chat_event event = {kind, true, text, p->input.data + p->at, size, raw_size};
    assert(raw_size <= p->input.size - p->at);
    p->at += raw_size;
    p->scanned = 0;
    p->begun = true;
    if (p->status == SL_OK) p->status = p->fn(p->ctx, &event);
    return TAKEN;
}

static step tell_syntax(sl__chat_parser *p, size_t size)
{
    return size ? tell(p, SL_CHAT_SYNTAX, "", 0, size) : TAKEN;
}

static step tell_text(sl__chat_parser *p, size_t size)
{
    sl__chat_kind kind = p->reasoning ? SL_CHAT_REASONING : SL_CHAT_CONTENT;
    p->stripped = false;
    return tell(p, kind, p->input.data + p->at, size, size);
}

static step tell_end(sl__chat_parser *p, bool complete)
{
    const sl__chat_event event = {SL_CHAT_CALL_END, complete, "", p->input.data + p->at, 0, 0};
    if (p->status == SL_OK) p->status = p->fn(p->ctx, &event);
    p->state = TEXT;
    p->reasoning = false;
    p->stripped = true;
    return TAKEN;
}

/* Arguments that were put together in p->made. */
static step tell_made(sl__chat_parser *p, size_t raw_size)
{
    if (p->made.failed && p->status == SL_OK) p->status = SL_FAIL_NOMEM(p->err, "tool call");
    tell(p, SL_CHAT_ARGUMENTS, p->made.data ? p->made.data : "", p->made.size, raw_size);
    sl__buffer_clear(&p->made);
    return TAKEN;
}

/* Text as it stands inside of a JSON string. */
static void make_escaped(sl__chat_parser *p, const char *text, size_t size)
{
    static const char plain[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
    for (size_t i = 0; i < size; i++) {
        unsigned char byte = (unsigned char)text[i];
        const char *letter = byte ? strchr(plain, text[i]) : NULL;
        if (letter)
            sl__buffer_printf(&p->made, "\\%c", letters[letter - plain]);
        else if (byte < 0x20)
            sl__buffer_printf(&p->made, "\\u%04x", byte);
        else
            sl__buffer_append(&p->made, text + i, 1);
    }
}

/* ---- looking --------------------------------------------------------------------------------- */

static found begins(const char *s, size_t size, const char *word)
{
    size_t n = strlen(word);
    if (memcmp(s, word, size < n ? size : n) != 0) return NO;
    return size < n ? PERHAPS : YES;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static size_t skip_space(const char *s, size_t size, size_t at)
{
    while (at < size && is_space(s[at]))
        at++;
    return at;
}

/* Where `word` begins, looking on from where the last look ended; SIZE_MAX: it is not there yet. */
static size_t search(sl__chat_parser *p, const char *word)
{
    size_t size, n = strlen(word);
    const char *s = rest(p, &size);
    const char *at = memmem(s + p->scanned, size - p->scanned, word, n);
    if (at) return (size_t)(at - s);
    if (size >= n) p->scanned = size - n + 1;
    return SIZE_MAX;
}

/* A name up to `end`; *size is its length. */
static found name_until(const char *s, size_t size, char end, size_t *name_size)
{
    for (*name_size = 0; *name_size < size; ++*name_size) {
        char c = s[*name_size];
        if (c == end) return *name_size > 0 ? YES : NO;
        if (c == '<' || c == '\n' || c == '"' || c == '\\' || *name_size == NAME_MAX_BYTES)
            return NO;
    }
    return PERHAPS;
}

/* Whether there is such a tool; its parameters' schemas. */
static bool find_tool(sl__chat_parser *p, const char *name, size_t size)
{
    size_t i;
    json_t *tool;
    p->properties = NULL;
    if (!p->tools) return true;
    json_array_foreach(p->tools, i, tool)
    {
        const json_t *inner = json_object_get(tool, "function");
        const json_t *function = json_is_object(inner) ? inner : tool;
        const json_t *known = json_object_get(function, "name");
        if (!json_is_string(known) || json_string_length(known) != size ||
            memcmp(json_string_value(known), name, size) != 0)
            continue;
        p->properties = json_object_get(json_object_get(function, "parameters"), "properties");
        return true;
    }
    return false;
}

/* Whether a schema's type is this one, or may be. */
static bool says(const json_t *type, const char *name)
{
    size_t i;
    const json_t *one;
    if (json_is_string(type)) return strcmp(json_string_value(type), name) == 0;
    json_array_foreach(type, i, one) if (says(one, name)) return true;
    return false;
}

/* Whether a value is of the schema's type, among its values, and so for one of its alternatives;
 * other words are not looked at. */
static bool fits(const json_t *schema, const json_t *value)
{
    static const char *const names[] = {
        [JSON_OBJECT] = "object",   [JSON_ARRAY] = "array", [JSON_STRING] = "string",
        [JSON_INTEGER] = "integer", [JSON_REAL] = "number", [JSON_TRUE] = "boolean",
        [JSON_FALSE] = "boolean",   [JSON_NULL] = "null"};
    static const char *const several[] = {"anyOf", "oneOf"};
    const json_t *type = json_object_get(schema, "type"), *values = json_object_get(schema, "enum");
    const json_t *only = json_object_get(schema, "const"), *one;
    size_t i;
    bool right = !values;
    json_array_foreach(values, i, one) right = right || json_equal(one, value);
    if (!right || (only && !json_equal(only, value))) return false;
    if (type && !says(type, names[json_typeof(value)]) &&
        !(json_is_integer(value) && says(type, "number")))
        return false;
    for (size_t k = 0; k < 2; k++) {
        const json_t *list = json_object_get(schema, several[k]);
        right = !json_is_array(list);
        json_array_foreach(list, i, one) right = right || fits(one, value);
        if (!right) return false;
    }
    return true;
}

/* The schema of a parameter whose value is something else than a string; NULL: it is one. */
static const json_t *typed(const sl__chat_parser *p, const char *key, size_t size)
{
    char name[NAME_MAX_BYTES + 1];
    assert(size < sizeof name);
    memcpy(name, key, size);
    name[size] = '\0';
    const json_t *schema = json_object_get(p->properties, name);
    return says(json_object_get(schema, "type"), "string") ? NULL : schema;
}

/* ---- the form of parameters ------------------------------------------------------------------ */

/* The end of a call that broke off: what was begun is closed. */
static step break_off(sl__chat_parser *p)
{
    if (p->state == VALUE && !p->schema) sl__buffer_append_str(&p->made, "\"");
    if (p->state == BODY || p->state == VALUE)
        sl__buffer_append_str(&p->made, p->state == BODY && !p->some ? "{}" : "}");
    if (p->made.size) tell_made(p, 0);
    return tell_end(p, false);
}

static step step_body(sl__chat_parser *p)
{
    size_t size, name_size;
    const char *s = rest(p, &size);
    size_t at = skip_space(s, size, 0);
    found key = begins(s + at, size - at, "<parameter=");
    found end = begins(s + at, size - at, "</function>");
    if (key == YES) {
        const char *name = s + at + 11;
        key = name_until(name, size - at - 11, '>', &name_size);
        if (key == YES) {
            sl__buffer_append_str(&p->made, p->some ? ", \"" : "{\"");
            make_escaped(p, name, name_size);
            p->schema = typed(p, name, name_size);
            sl__buffer_append_str(&p->made, p->schema ? "\": " : "\": \"");
            p->state = VALUE;
            p->some = true;
            p->started = false;
            tell_syntax(p, at + 11 + name_size + 1);
            return tell_made(p, 0);
        }
    }
    if (end == YES) {
        sl__buffer_append_str(&p->made, p->some ? "}" : "{}");
        p->state = CLOSE;
        tell_syntax(p, at + 11);
        return tell_made(p, 0);
    }
    if (!p->final && (key == PERHAPS || end == PERHAPS)) return MORE;
    return break_off(p);
}

/* Whether a text means itself, though it is JSON: that is nothing that the schema allows. */
static bool means_text(const json_t *schema, const json_t *json, const char *s, size_t size)
{
    if (fits(schema, json)) return false;
    json_t *text = json_stringn(s, size);
    bool so = text && fits(schema, text);
    json_decref(text);
    return so;
}

/* A value that is no string by its schema's type: JSON if it is, else a string all the same. */
static void make_typed(sl__chat_parser *p, const char *s, size_t size)
{
    static const char *const words[][2] = {{"True", "true"}, {"False", "false"}, {"None", "null"}};
    while (size && is_space(s[0]))
        s++, size--;
    while (size && is_space(s[size - 1]))
        size--;
    const char *as = s;
    size_t as_size = size;
    for (size_t i = 0; i < 3; i++) {
        if (strlen(words[i][0]) != size || memcmp(words[i][0], s, size) != 0) continue;
        as = words[i][1];
        as_size = strlen(as);
    }
    json_t *json = json_loadb(as, as_size, JSON_DECODE_ANY, NULL);
    bool taken = json && !means_text(p->schema, json, s, size);
    json_decref(json);
    if (taken) {
        sl__buffer_append(&p->made, as, as_size);
        return;
    }
    sl__buffer_append_str(&p->made, "\"");
    make_escaped(p, s, size);
    sl__buffer_append_str(&p->made, "\"");
}

static step step_typed(sl__chat_parser *p)
{
    size_t size, end = search(p, value_close);
    const char *s = rest(p, &size);
    if (end == SIZE_MAX && !p->final) return MORE;
    make_typed(p, s, end == SIZE_MAX ? size : end);
    tell_made(p, end == SIZE_MAX ? size : end);
    if (end == SIZE_MAX) return break_off(p);
    p->state = BODY;
    return tell_syntax(p, sizeof value_close - 1);
}

/* A string goes on as it comes, but for what may be the end of it. */
static step step_string(sl__chat_parser *p)
{
    size_t size, plain = 0;
    const char *s = rest(p, &size);
    while (plain < size && s[plain] != '\n' && s[plain] != '<')
        plain++;
    if (plain > 0) {
        make_escaped(p, s, plain);
        return tell_made(p, plain);
    }
    if (size == 0) return p->final ? break_off(p) : MORE;
    size_t line = s[0] == '\n';
    found end = begins(s + line, size - line, value_close);
    if (end == PERHAPS && !p->final) return MORE;
    if (end != YES) {
        make_escaped(p, s, 1);
        return tell_made(p, 1);
    }
    sl__buffer_append_str(&p->made, "\"");
    tell_syntax(p, line + sizeof value_close - 1);
    p->state = BODY;
    return tell_made(p, 0);
}

static step step_value(sl__chat_parser *p)
{
    size_t size;
    const char *s = rest(p, &size);
    if (!p->started) {
        if (size == 0 && !p->final) return MORE;
        p->started = true;
        if (size && s[0] == '\n') return tell_syntax(p, 1);
    }
    return p->schema ? step_typed(p) : step_string(p);
}

static step step_close(sl__chat_parser *p)
{
    size_t size;
    const char *s = rest(p, &size);
    size_t at = skip_space(s, size, 0);
    found end = begins(s + at, size - at, call_close);
    if (end == PERHAPS && !p->final) return MORE;
    if (end == YES) tell_syntax(p, at + sizeof call_close - 1);
    return tell_end(p, end == YES);
}

/* ---- the form of JSON ------------------------------------------------------------------------ */

/* The object, up to the brace that closes it. */
static step step_object(sl__chat_parser *p)
{
    size_t size, at = 0;
    const char *s = rest(p, &size);
    if (size == 0) return p->final ? tell_end(p, false) : MORE;
    do {
        char c = s[at++];
        if (p->escaped)
            p->escaped = false;
        else if (p->quoted && c == '\\')
            p->escaped = true;
        else if (c == '"')
            p->quoted = !p->quoted;
        else if (!p->quoted && (c == '{' || c == '['))
            p->depth++;
        else if (!p->quoted && (c == '}' || c == ']'))
            p->depth--;
    } while (at < size && p->depth > 0);
    if (p->depth == 0) p->state = TAIL;
    return tell(p, SL_CHAT_ARGUMENTS, s, at, at);
}

/* "} </tool_call>" */
static step step_tail(sl__chat_parser *p)
{
    size_t size;
    const char *s = rest(p, &size);
    size_t at = skip_space(s, size, 0);
    found end = begins(s + at, size - at, "}");
    if (end == YES) {
        at = skip_space(s, size, at + 1);
        end = begins(s + at, size - at, call_close);
    }
    if (end == PERHAPS && !p->final) return MORE;
    if (end == YES) tell_syntax(p, at + sizeof call_close - 1);
    return tell_end(p, end == YES);
}

/* Whether s begins with {"name": "NAME", "arguments": and a brace; the places of both. */
static found object_head(const char *s, size_t size, size_t *name, size_t *name_size, size_t *brace)
{
    static const char *const words[] = {"{", "\"name\"", ":", "\"", ",", "\"arguments\"", ":", "{"};
    size_t at = 0;
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        at = skip_space(s, size, at);
        found word = begins(s + at, size - at, words[i]);
        if (word != YES) return word;
        *brace = at;
        at += strlen(words[i]);
        if (i != 3) continue;
        *name = at;
        found end = name_until(s + at, size - at, '"', name_size);
        if (end != YES) return end;
        at += *name_size + 1;
    }
    return YES;
}

/* A call in JSON of another order, whole; false: it is none. before: bytes up to the JSON. */
static bool tell_whole(sl__chat_parser *p, size_t before, size_t end)
{
    size_t size;
    const char *s = rest(p, &size);
    json_t *call = json_loadb(s + before, end - before, JSON_REJECT_DUPLICATES, NULL);
    const json_t *name = json_object_get(call, "name");
    json_t *arguments = json_incref(json_object_get(call, "arguments"));
    if (json_is_string(arguments)) { /* JSON in a string */
        json_t *inner =
            json_loadb(json_string_value(arguments), json_string_length(arguments), 0, NULL);
        json_decref(arguments);
        arguments = inner;
    }
    char *text = json_is_object(arguments) ? json_dumps(arguments, 0) : NULL;
    bool good = text && json_is_string(name) && json_string_length(name) > 0 &&
                find_tool(p, json_string_value(name), json_string_length(name));
    if (good) {
        tell_syntax(p, end + sizeof call_close - 1);
        tell(p, SL_CHAT_CALL, json_string_value(name), json_string_length(name), 0);
        tell(p, SL_CHAT_ARGUMENTS, text, strlen(text), 0);
        tell_end(p, true);
    }
    free(text);
    json_decref(arguments);
    json_decref(call);
    return good;
}

static found begin_object(sl__chat_parser *p, size_t at)
{
    size_t size, name = 0, name_size = 0, brace = 0;
    const char *s = rest(p, &size);
    found head = object_head(s + at, size - at, &name, &name_size, &brace);
    if (head == PERHAPS && !p->final) return PERHAPS;
    if (head == YES) {
        if (!find_tool(p, s + at + name, name_size)) return NO;
        tell_syntax(p, at + name);
        tell(p, SL_CHAT_CALL, s + at + name, name_size, name_size);
        tell_syntax(p, brace - name - name_size);
        p->state = OBJECT;
        p->depth = 0;
        p->quoted = p->escaped = false;
        return YES;
    }
    size_t end = search(p, call_close);
    if (end == SIZE_MAX) return p->final ? NO : PERHAPS;
    return tell_whole(p, at, end) ? YES : NO;
}

/* ---- text ------------------------------------------------------------------------------------ */

/* A call at `at`, where <tool_call> stands: begun, not to be told yet, or none. */
static found begin_call(sl__chat_parser *p, size_t at)
{
    size_t size, name_size;
    const char *s = rest(p, &size);
    at = skip_space(s, size, at + sizeof call_open - 1);
    if (at == size) return PERHAPS;
    if (s[at] == '{') return begin_object(p, at);
    found word = begins(s + at, size - at, "<function=");
    if (word != YES) return word;
    at += 10;
    word = name_until(s + at, size - at, '>', &name_size);
    if (word != YES) return word;
    if (!find_tool(p, s + at, name_size)) return NO;
    tell_syntax(p, at);
    tell(p, SL_CHAT_CALL, s + at, name_size, name_size);
    tell_syntax(p, 1);
    p->state = BODY;
    p->some = false;
    return YES;
}

/* At a '<', behind `line` line breaks. */
static step step_tag(sl__chat_parser *p, size_t line)
{
    size_t size;
    const char *s = rest(p, &size);
    const char *think = p->reasoning ? "</think>" : "<think>";
    found tag = p->reasoning || !p->begun ? begins(s + line, size - line, think) : NO;
    found call = begins(s + line, size - line, call_open);
    if (tag == YES) {
        p->reasoning = !p->reasoning;
        p->stripped = true;
        return tell_syntax(p, line + strlen(think));
    }
    size_t text = line + 1;
    if (call == YES) {
        text = line + sizeof call_open - 1;
        call = begin_call(p, line);
        if (call == YES) return TAKEN;
    }
    if (!p->final && (tag == PERHAPS || call == PERHAPS)) return MORE;
    return tell_text(p, text);
}

static step step_text(sl__chat_parser *p)
{
    size_t size, at = 0;
    const char *s = rest(p, &size);
    if (size == 0) return MORE;
    while (at < size && s[at] != '\n' && s[at] != '<')
        at++;
    if (at > 0) return tell_text(p, at);
    while (at < size && s[at] == '\n')
        at++;
    if (at > 0 && p->stripped) return tell_syntax(p, at);
    if (at == size) return p->final ? tell_text(p, at) : MORE;
    return s[at] == '<' ? step_tag(p, at) : tell_text(p, at);
}

/* ---- the whole ------------------------------------------------------------------------------- */

static void run(sl__chat_parser *p)
{
    static step (*const steps[])(sl__chat_parser *) = {
        [TEXT] = step_text,   [BODY] = step_body,     [VALUE] = step_value,
        [CLOSE] = step_close, [OBJECT] = step_object, [TAIL] = step_tail};
    while (p->status == SL_OK && steps[p->state](p) == TAKEN) {
    }
    size_t left = p->input.size - p->at;
    if (p->at < left) return; /* moved when that is worth it */
    if (left) memmove(p->input.data, p->input.data + p->at, left);
    p->input.size = left;
    p->at = 0;
}

sl_status sl__chat_parser_create(sl__chat_parser **out, json_t *tools, bool thinking,
                                 sl__chat_fn fn, void *ctx, sl_error *err)
{
    *out = NULL;
    sl__chat_parser *p = calloc(1, sizeof *p);
    if (!p) return SL_FAIL_NOMEM(err, "parser of a model's output");
    sl__buffer_init(&p->input, HELD_MAX);
    sl__buffer_init(&p->made, HELD_MAX * 6 + 64);
    p->tools = json_is_array(tools) ? json_incref(tools) : NULL;
    p->fn = fn;
    p->ctx = ctx;
    p->reasoning = p->begun = p->stripped = thinking;
    *out = p;
    return SL_OK;
}

void sl__chat_parser_destroy(sl__chat_parser *parser)
{
    if (!parser) return;
    json_decref(parser->tools);
    sl__buffer_free(&parser->input);
    sl__buffer_free(&parser->made);
    free(parser);
}

sl_status sl__chat_feed(sl__chat_parser *parser, const char *text, size_t size, sl_error *err)
{
    assert(!parser->final);
    parser->err = err;
    if (parser->status == SL_OK && !sl__buffer_append(&parser->input, text, size))
        parser->status = SL_FAIL_NOMEM(err, "a model's output");
    if (parser->status == SL_OK && size) run(parser);
    return parser->status;
}

sl_status sl__chat_finish(sl__chat_parser *parser, sl_error *err)
{
    parser->err = err;
    parser->final = true;
    if (parser->status == SL_OK && !sl__buffer_reserve(&parser->input, 0))
        parser->status = SL_FAIL_NOMEM(err, "a model's output");
    if (parser->status == SL_OK) run(parser);
    return parser->status;
}
