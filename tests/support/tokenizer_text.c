#include "tokenizer_text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "text/tokenizer.h"
#include "text/tokenizer_parts.h"

const char *tokenizer_spell(const char *bytes, size_t size)
{
    static char out[2][4096];
    static unsigned turn;
    char *text = out[turn++ % 2];
    size_t n = 0;
    assert_true(size * 2 < sizeof out[0]);
    for (size_t i = 0; i < size; i++) {
        unsigned byte = (unsigned char)bytes[i], cp = byte;
        if (byte <= 0x20)
            cp = 0x100 + byte;
        else if (byte >= 0x7f && byte <= 0xa0)
            cp = 0x121 + byte - 0x7f;
        else if (byte == 0xad)
            cp = 0x143;
        if (cp < 0x80) {
            text[n++] = (char)cp;
        } else {
            text[n++] = (char)(0xc0 | cp >> 6);
            text[n++] = (char)(0x80 | (cp & 0x3f));
        }
    }
    text[n] = '\0';
    return text;
}

static json_t *quoted(const char *json)
{
    char *text = strdup(json);
    assert_non_null(text);
    for (char *p = text; *p; p++)
        if (*p == '\'') *p = '"';
    json_error_t where;
    json_t *value = json_loads(text, JSON_DECODE_ANY, &where);
    if (!value) fail_msg("%s: %s", text, where.text);
    free(text);
    return value;
}

json_t *tokenizer_base(void)
{
    json_t *root = quoted("{'version':'1.0','truncation':null,'padding':null,'added_tokens':[],"
                          "'normalizer':null,'post_processor':null,"
                          "'decoder':{'type':'ByteLevel'},"
                          "'model':{'type':'BPE','dropout':null,'unk_token':null,'vocab':{},"
                          "'merges':[]}}");
    tokenizer_set_steps(root, "");
    for (int byte = 0; byte < 256; byte++) {
        char c = (char)byte;
        json_object_set_new(json_object_get(json_object_get(root, "model"), "vocab"),
                            tokenizer_spell(&c, 1), json_integer(byte));
    }
    return root;
}

void tokenizer_set(json_t *root, const char *key, const char *json)
{
    assert_int_equal(json_object_set_new(root, key, quoted(json)), 0);
}

void tokenizer_set_model(json_t *root, const char *key, const char *json)
{
    tokenizer_set(json_object_get(root, "model"), key, json);
}

void tokenizer_set_steps(json_t *root, const char *steps)
{
    char text[4096];
    snprintf(text, sizeof text,
             "{'type':'Sequence','pretokenizers':[%s%s{'type':'ByteLevel',"
             "'add_prefix_space':false,'trim_offsets':true,'use_regex':false}]}",
             steps, steps[0] ? "," : "");
    tokenizer_set(root, "pre_tokenizer", text);
}

void tokenizer_set_split(json_t *root, const char *regex, const char *behavior, bool invert)
{
    json_t *split = json_pack("{s:s,s:{s:s},s:s,s:b}", "type", "Split", "pattern", "Regex", regex,
                              "behavior", behavior, "invert", invert);
    assert_non_null(split);
    tokenizer_set_steps(root, "");
    json_t *list = json_object_get(json_object_get(root, "pre_tokenizer"), "pretokenizers");
    json_array_insert_new(list, json_array_size(list) - 1, split);
}

void tokenizer_add_token(json_t *root, const char *bytes, int id)
{
    json_object_set_new(json_object_get(json_object_get(root, "model"), "vocab"),
                        tokenizer_spell(bytes, strlen(bytes)), json_integer(id));
}

void tokenizer_add_merge(json_t *root, const char *left, const char *right)
{
    json_t *model = json_object_get(root, "model"), *vocab = json_object_get(model, "vocab");
    char both[256];
    snprintf(both, sizeof both, "%s%s", left, right);
    const char *spelled = tokenizer_spell(both, strlen(both));
    if (!json_object_get(vocab, spelled)) {
        const char *key;
        json_t *id;
        json_int_t next = 256;
        json_object_foreach(vocab, key, id) next =
            json_integer_value(id) >= next ? json_integer_value(id) + 1 : next;
        tokenizer_add_token(root, both, (int)next);
    }
    json_array_append_new(json_object_get(model, "merges"),
                          json_pack("[s,s]", tokenizer_spell(left, strlen(left)),
                                    tokenizer_spell(right, strlen(right))));
}

void tokenizer_add_added(json_t *root, int id, const char *content, const char *flags)
{
    json_t *item = json_pack("{s:i,s:s}", "id", id, "content", content);
    static const char *const names[] = {"lstrip", "rstrip", "single_word", "normalized", "special"};
    for (size_t i = 0; i < 5; i++)
        json_object_set_new(item, names[i], json_boolean(strstr(flags, names[i]) != NULL));
    json_array_append_new(json_object_get(root, "added_tokens"), item);
}

static sl_status open_root(const json_t *root, sl_tokenizer **tok, sl_error *err)
{
    char *text = json_dumps(root, JSON_COMPACT);
    assert_non_null(text);
    sl_status status = sl__tokenizer_parse_json(tok, text, strlen(text), "t.json", err);
    free(text);
    return status;
}

sl_tokenizer *tokenizer_of(const json_t *root)
{
    sl_error err = {0};
    sl_tokenizer *tok = NULL;
    if (open_root(root, &tok, &err) != SL_OK) fail_msg("%s", err.message);
    return tok;
}

sl_tokenizer *tokenizer_take(json_t *root)
{
    sl_tokenizer *tok = tokenizer_of(root);
    json_decref(root);
    return tok;
}

sl_tokenizer *tokenizer_recompiled(const sl_tokenizer *tok)
{
    sl_error err = {0};
    void *data;
    size_t size;
    sl_tokenizer *again = NULL;
    assert_int_equal(sl__tokenizer_compile(tok, &data, &size, &err), SL_OK);
    if (sl__tokenizer_parse_compiled(&again, data, size, "t.bin", &err))
        fail_msg("%s", err.message);
    free(data);
    return again;
}

void tokenizer_expect_error(json_t *root, sl_status status, const char *message)
{
    sl_error err = {0};
    sl_tokenizer *tok = NULL;
    sl_status got = open_root(root, &tok, &err);
    if (got == SL_OK) fail_msg("opened, where \"%s\" was expected", message);
    assert_string_equal(err.message, message);
    assert_string_equal(sl_status_name(got), sl_status_name(status));
    assert_null(tok);
    json_decref(root);
}

static sl_status take_piece(void *ctx, const char *piece, size_t size, sl_error *err)
{
    (void)err;
    sl__buffer *out = ctx;
    sl__buffer_append_str(out, "[");
    sl__buffer_append(out, piece, size);
    sl__buffer_append_str(out, "]");
    return SL_OK;
}

char *tokenizer_pieces(const sl_tokenizer *tok, const char *text, size_t size)
{
    sl__pretok pretok;
    sl__buffer out;
    sl_error err = {0};
    sl__buffer_init(&out, 1u << 30);
    sl__buffer_append_str(&out, "");
    assert_int_equal(sl__pretok_init(&pretok, tok, take_piece, &out, &err), SL_OK);
    if (sl__pretokenize(&pretok, text, size, true, &err) != SL_OK) fail_msg("%s", err.message);
    sl__pretok_free(&pretok);
    assert_false(out.failed);
    return out.data;
}
