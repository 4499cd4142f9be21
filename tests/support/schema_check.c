#include "schema_check.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "constrain/vocabulary.h"
#include "tokenizer_text.h"

/* ---- validating ------------------------------------------------------------------------------ */

/* One part of a pointer: %XX, then ~1 and ~0. */
static void unescape(char *part)
{
    char *to = part;
    for (const char *from = part; *from; from++) {
        unsigned byte;
        if (sscanf(from, "%%%2x", &byte) == 1) {
            *to++ = (char)byte;
            from += 2;
        } else if (from[0] == '~' && (from[1] == '0' || from[1] == '1')) {
            *to++ = *++from == '0' ? '~' : '/';
        } else {
            *to++ = *from;
        }
    }
    *to = '\0';
}

static const json_t *resolve(const json_t *root, const char *ref)
{
    char part[1024];
    for (ref++; *ref == '/';) {
        size_t n = strcspn(++ref, "/");
        if (n >= sizeof part) return NULL;
        memcpy(part, ref, n);
        part[n] = '\0';
        unescape(part);
        root = json_is_array(root) ? json_array_get(root, (size_t)atoi(part))
                                   : json_object_get(root, part);
        ref += n;
    }
    return root;
}

static bool is_type(const char *type, const json_t *v)
{
    if (!strcmp(type, "null")) return json_is_null(v);
    if (!strcmp(type, "boolean")) return json_is_boolean(v);
    if (!strcmp(type, "string")) return json_is_string(v);
    if (!strcmp(type, "array")) return json_is_array(v);
    if (!strcmp(type, "object")) return json_is_object(v);
    if (!strcmp(type, "number")) return json_is_number(v);
    return json_is_integer(v) ||
           (json_is_real(v) && json_real_value(v) == floor(json_real_value(v)));
}

static bool has_type(const json_t *type, const json_t *v)
{
    size_t i;
    const json_t *one;
    if (json_is_string(type)) return is_type(json_string_value(type), v);
    json_array_foreach(type, i, one) if (is_type(json_string_value(one), v)) return true;
    return false;
}

static bool same(const json_t *a, const json_t *b)
{
    if (json_is_number(a) && json_is_number(b)) return json_number_value(a) == json_number_value(b);
    return json_equal(a, b);
}

static size_t length_of(const json_t *text)
{
    size_t n = 0;
    for (const char *s = json_string_value(text); *s; s++)
        n += (*s & 0xc0) != 0x80;
    return n;
}

static bool below(const json_t *schema, const char *key, double x)
{
    const json_t *bound = json_object_get(schema, key);
    return bound && x < json_number_value(bound);
}

static bool above(const json_t *schema, const char *key, double x)
{
    const json_t *bound = json_object_get(schema, key);
    return bound && x > json_number_value(bound);
}

static bool at_bound(const json_t *schema, const char *key, double x)
{
    const json_t *bound = json_object_get(schema, key);
    return bound && x == json_number_value(bound);
}

static const char *wrong_plain(const json_t *schema, const json_t *v)
{
    if (json_is_number(v)) {
        double x = json_number_value(v);
        if (below(schema, "minimum", x) || above(schema, "maximum", x)) return "bounds";
        if (below(schema, "exclusiveMinimum", x) || at_bound(schema, "exclusiveMinimum", x) ||
            above(schema, "exclusiveMaximum", x) || at_bound(schema, "exclusiveMaximum", x))
            return "exclusive bounds";
    }
    if (json_is_string(v)) {
        double n = (double)length_of(v);
        if (below(schema, "minLength", n) || above(schema, "maxLength", n)) return "length";
    }
    if (json_is_array(v)) {
        double n = (double)json_array_size(v);
        if (below(schema, "minItems", n) || above(schema, "maxItems", n)) return "items";
    }
    return NULL;
}

static bool valid_list(const json_t *root, const json_t *schema, const json_t *v, const char **why)
{
    size_t i, good = 0;
    const json_t *one, *list;
    if ((list = json_object_get(schema, "enum"))) {
        json_array_foreach(list, i, one) good += same(one, v);
        *why = "enum";
        return good > 0;
    }
    if ((list = json_object_get(schema, "anyOf"))) {
        json_array_foreach(list, i, one) good += schema_valid(root, one, v, why);
        return good > 0;
    }
    if ((list = json_object_get(schema, "oneOf"))) {
        json_array_foreach(list, i, one) good += schema_valid(root, one, v, why);
        *why = "oneOf";
        return good == 1;
    }
    list = json_object_get(schema, "allOf");
    json_array_foreach(list, i, one) if (!schema_valid(root, one, v, why)) return false;
    return true;
}

static bool valid_object(const json_t *root, const json_t *schema, const json_t *v,
                         const char **why)
{
    const char *key;
    json_t *value;
    size_t i;
    const json_t *name, *more = json_object_get(schema, "additionalProperties");
    json_array_foreach(json_object_get(schema, "required"), i, name)
    {
        *why = "required";
        if (!json_object_get(v, json_string_value(name))) return false;
    }
    json_object_foreach((json_t *)v, key, value)
    {
        const json_t *part = json_object_get(json_object_get(schema, "properties"), key);
        *why = "additionalProperties";
        if (!part) part = more;
        if (part && !schema_valid(root, part, value, why)) return false;
    }
    return true;
}

bool schema_valid(const json_t *root, const json_t *schema, const json_t *v, const char **why)
{
    size_t i;
    const json_t *item, *part;
    *why = "false";
    if (!json_is_object(schema)) return json_is_true(schema);
    if ((part = json_object_get(schema, "$ref")))
        return schema_valid(root, resolve(root, json_string_value(part)), v, why);
    *why = "type";
    if ((part = json_object_get(schema, "type")) && !has_type(part, v)) return false;
    *why = "const";
    if ((part = json_object_get(schema, "const")) && !same(part, v)) return false;
    if (!valid_list(root, schema, v, why)) return false;
    const char *plain = wrong_plain(schema, v);
    if (plain) *why = plain;
    if (plain) return false;
    part = json_object_get(schema, "items");
    if (json_is_array(v) && part)
        json_array_foreach(v, i, item) if (!schema_valid(root, part, item, why)) return false;
    return !json_is_object(v) || valid_object(root, schema, v, why);
}

/* ---- random schemas -------------------------------------------------------------------------- */

static void add_random(sl__buffer *out, test_rng *rng, int depth);

static void add_random_object(sl__buffer *out, test_rng *rng, int depth)
{
    static const char *const keys[] = {"a", "ab", "abc", "\xc3\xa9", "d e", "<x>"};
    unsigned first = test_rng_below(rng, 6), count = 1 + test_rng_below(rng, 4);
    sl__buffer_append_str(out, "{\"type\":\"object\",\"properties\":{");
    for (unsigned i = 0; i < count; i++) {
        sl__buffer_printf(out, "%s\"%s\":", i ? "," : "", keys[(first + i) % 6]);
        add_random(out, rng, depth - 1);
    }
    sl__buffer_append_str(out, "}");
    if (test_rng_below(rng, 2)) sl__buffer_printf(out, ",\"required\":[\"%s\"]", keys[first]);
    if (test_rng_below(rng, 3) == 0) {
        sl__buffer_append_str(out, ",\"additionalProperties\":");
        add_random(out, rng, depth - 1);
    }
    sl__buffer_append_str(out, "}");
}

static void add_random(sl__buffer *out, test_rng *rng, int depth)
{
    static const char *const leaves[] = {
        "{\"type\":\"string\"}",
        "{\"type\":\"integer\"}",
        "{\"type\":[\"number\",\"null\"]}",
        "{}",
        "{\"type\":\"boolean\"}",
        "{\"enum\":[\"abc\",\"a\",12,\"ab\\\"\"]}",
        "true",
        "{\"const\":\"\xe2\x82\xac\"}",
    };
    unsigned kind = depth > 0 ? test_rng_below(rng, 9) : 8;
    unsigned low = test_rng_below(rng, 4), more = test_rng_below(rng, 4);
    if (kind < 3) {
        add_random_object(out, rng, depth);
    } else if (kind < 5) {
        sl__buffer_printf(
            out, "{\"type\":\"array\",\"minItems\":%u,\"maxItems\":%u,\"items\":", low, low + more);
        add_random(out, rng, depth - 1);
        sl__buffer_append_str(out, "}");
    } else if (kind == 5) {
        sl__buffer_append_str(out, "{\"anyOf\":[");
        add_random(out, rng, depth - 1);
        sl__buffer_append_str(out, ",");
        add_random(out, rng, depth - 1);
        sl__buffer_append_str(out, "]}");
    } else if (kind == 6) {
        sl__buffer_printf(out, "{\"type\":\"string\",\"minLength\":%u,\"maxLength\":%u}", low,
                          low + more);
    } else if (kind == 7) {
        int from = (int)test_rng_below(rng, 2000) - 1000;
        sl__buffer_printf(out, "{\"type\":\"%s\",\"minimum\":%d,\"maximum\":%d}",
                          low & 1 ? "integer" : "number", from,
                          from + (int)test_rng_below(rng, more == 0 ? 3 : 1500));
    } else {
        sl__buffer_append_str(out, leaves[test_rng_below(rng, 8)]);
    }
}

void schema_random(sl__buffer *out, test_rng *rng)
{
    add_random_object(out, rng, 3);
}

/* ---- generating ------------------------------------------------------------------------------ */

sl_tokenizer *schema_tokenizer(void)
{
    static const char *const tokens[] = {
        "\",\"",    "\"},",         "\": ",  "\":",   "{\"",   "\"}",    "\"]",
        "],",       "}\n",          "ab",    "abc",   "12",    "1.5",    ", ",
        "\n  ",     "  ",           "\\n",   "\\\"",  "\\u",   "d83d",   "\xc3\xa9",
        "\xf0\x9f", "\x98\x80",     "a\xc3", "\xa9z", "</",    "<",      "parameter>\n",
        ">\n",      "</parameter>", "true",  "null,", "e\":",  "\"a\":", "\xe2\x82\xac\"",
        "e+",       "-1",           "00",    "\t",    "<tool", "_call>",
    };
    json_t *root = tokenizer_base();
    int id = 256;
    for (size_t i = 0; i < sizeof tokens / sizeof tokens[0]; i++)
        if (strlen(tokens[i]) > 1) tokenizer_add_token(root, tokens[i], id++);
    tokenizer_add_added(root, SCHEMA_OPEN, "<tool_call>", "");
    tokenizer_add_added(root, SCHEMA_CLOSE, "</tool_call>", "");
    tokenizer_add_added(root, SCHEMA_END, "<|end|>", "special");
    return tokenizer_take(root);
}

static void refuse(const char *what, const sl_error *err, const sl__buffer *text)
{
    fprintf(stderr, "%s: %s, behind: %s\n", what, err->message, text->data ? text->data : "");
    abort();
}

/* One of those allowed; late in a text mostly one that ends something. */
static int32_t choose(const float *logits, uint32_t size, bool late, test_rng *rng)
{
    int32_t ids[4096], ends[4096];
    uint32_t count = 0, end_count = 0;
    for (uint32_t id = 0; id < size && count < 4096; id++) {
        if (logits[id] == -INFINITY || id == SCHEMA_END) continue;
        if (id < 256 && strchr("\"]}.", (int)id) && id) ends[end_count++] = (int32_t)id;
        ids[count++] = (int32_t)id;
    }
    if (late && end_count && test_rng_below(rng, 8)) return ends[test_rng_below(rng, end_count)];
    return count ? ids[test_rng_below(rng, count)] : SCHEMA_END;
}

bool schema_generate(const sl_grammar *grammar, const sl_vocabulary *vocabulary, test_rng *rng,
                     size_t tokens, sl__buffer *out)
{
    sl_error err = {0};
    sl_constraint *c;
    const int32_t eos = SCHEMA_END;
    float logits[SCHEMA_IDS];
    bool ended = false;
    if (sl_constraint_create(&c, grammar, vocabulary, SCHEMA_IDS, &eos, 1, &err) != SL_OK)
        refuse("create", &err, out);
    for (size_t i = 0; i < tokens && !ended; i++) {
        memset(logits, 0, sizeof logits);
        if (sl_constraint_mask(c, logits, &err) != SL_OK) refuse("mask", &err, out);
        bool may_end = logits[SCHEMA_END] == 0;
        int32_t id = may_end && (i > tokens / 4 || test_rng_below(rng, 4) == 0)
                         ? SCHEMA_END
                         : choose(logits, SCHEMA_IDS, i > tokens / 4, rng);
        ended = id == SCHEMA_END;
        if (sl_constraint_accept(c, id, &err) != SL_OK) refuse("accept", &err, out);
        if (ended) break;
        uint32_t size;
        const unsigned char *bytes = sl__vocabulary_token(vocabulary, (uint32_t)id, &size);
        sl__buffer_append(out, bytes, size);
    }
    sl_constraint_destroy(c);
    return ended;
}

bool schema_generate_within(const sl_grammar *grammar, const sl_vocabulary *vocabulary,
                            test_rng *rng, uint32_t more, uint32_t tokens, sl__buffer *out)
{
    sl_error err = {0};
    sl_constraint *c;
    const int32_t eos = SCHEMA_END;
    float logits[SCHEMA_IDS];
    if (sl_constraint_create(&c, grammar, vocabulary, SCHEMA_IDS, &eos, 1, &err) != SL_OK ||
        sl_constraint_watch(c, &err) != SL_OK)
        refuse("create", &err, out);
    bool tried = sl_constraint_needs(c) <= tokens;
    uint32_t left = sl_constraint_needs(c) + more, size;
    for (; tried && left > 0 && !sl_constraint_done(c); left--) {
        memset(logits, 0, sizeof logits);
        if (sl_constraint_mask(c, logits, &err) != SL_OK) refuse("mask", &err, out);
        int32_t id = choose(logits, SCHEMA_IDS, false, rng);
        if (!sl_constraint_fits(c, id, left)) {
            if (sl_constraint_mask_within(c, left, logits, &err) != SL_OK)
                refuse("mask_within", &err, out);
            id = choose(logits, SCHEMA_IDS, false, rng);
        }
        if (sl_constraint_accept(c, id, &err) != SL_OK) refuse("accept", &err, out);
        if (id == SCHEMA_END) break;
        const unsigned char *bytes = sl__vocabulary_token(vocabulary, (uint32_t)id, &size);
        sl__buffer_append(out, bytes, size);
    }
    if (tried && sl_constraint_needs(c) > 0) refuse("not whole", &err, out);
    sl_constraint_destroy(c);
    return tried;
}
