/* Small tokenizers of the kinds that real models have, against the reference: the ids of 300 texts,
 * what they and other ids decode to, whole and as a stream, straight and through the compiled form.
 * tools/make_tokenizer_families.py writes the data. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "test_env.h"
#include "text/tokenizer.h"
#include "text/utf8.h"
#include "tokenizer_text.h"

#define FOLDER "data/tokenizer/families/"

static json_t *load(const char *name)
{
    char path[256];
    json_error_t where;
    snprintf(path, sizeof path, FOLDER "%s.json", name);
    json_t *root = json_load_file(path, JSON_ALLOW_NUL, &where);
    if (!root) fail_msg("%s:%d: %s", path, where.line, where.text);
    return root;
}

/* A tiktoken file and the tokenizer_config.json beside it; opened by the folder where it can be. */
static sl_tokenizer *open_tiktoken(const json_t *root)
{
    char dir[256], path[512], config[512];
    const char *file = json_string_value(json_object_get(root, "file"));
    const json_t *lines = json_object_get(root, "lines");
    test_temp_dir(dir, sizeof dir);
    snprintf(path, sizeof path, "%s/%s", dir, file);
    snprintf(config, sizeof config, "%s/tokenizer_config.json", dir);
    test_write_file(path, json_string_value(lines), json_string_length(lines));
    if (json_object_get(root, "config"))
        assert_int_equal(json_dump_file(json_object_get(root, "config"), config, 0), 0);
    sl_tokenizer *tok = NULL;
    sl_error err = {0};
    bool whole_folder = strcmp(file, "tiktoken.model") == 0;
    if (sl_tokenizer_open(&tok, whole_folder ? dir : path, &err)) fail_msg("%s", err.message);
    test_remove_tree(dir);
    return tok;
}

static void expect_ids(const char *name, const sl_tokenizer *tok, const json_t *text,
                       const json_t *want, size_t skip, unsigned flags)
{
    int32_t *ids;
    size_t count;
    sl_error err = {0};
    const char *bytes = json_string_value(text);
    if (sl_tokenizer_encode(tok, bytes, json_string_length(text), flags, &ids, &count, &err)) {
        fail_msg("%s: %s", name, err.message);
    }
    bool same = count + skip == json_array_size(want);
    for (size_t i = 0; same && i < count; i++)
        same = ids[i] == json_integer_value(json_array_get(want, i + skip));
    if (!same) {
        fprintf(stderr, "%s: \"%s\":\n  got     ", name, bytes);
        for (size_t i = 0; i < count; i++)
            fprintf(stderr, " %d", ids[i]);
        fprintf(stderr, "\n  expected");
        for (size_t i = skip; i < json_array_size(want); i++)
            fprintf(stderr, " %d", (int)json_integer_value(json_array_get(want, i)));
        fail_msg("%s", name);
    }
    free(ids);
}

/* Whole, and a token at a time: never half a character, and the same in the end. */
static void expect_text(const char *name, const sl_tokenizer *tok, const json_t *row, bool skip,
                        const json_t *want)
{
    int32_t ids[1024];
    size_t count = json_array_size(row), size, at = 0;
    const char *text = json_string_value(want);
    char *whole;
    sl_error err = {0};
    assert_true(count <= 1024);
    for (size_t i = 0; i < count; i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(row, i));
    assert_int_equal(sl_tokenizer_decode(tok, ids, count, skip, &whole, &size, &err), SL_OK);
    if (size != json_string_length(want) || memcmp(whole, text, size) != 0) {
        fail_msg("%s: got \"%s\", expected \"%s\"", name, whole, text);
    }
    sl_detokenizer *detok;
    assert_int_equal(sl_detokenizer_create(&detok, tok, skip, &err), SL_OK);
    for (size_t i = 0; i <= count; i++) {
        size_t n;
        const char *part =
            i < count ? sl_detokenizer_push(detok, ids[i], &n) : sl_detokenizer_finish(detok, &n);
        assert_int_equal(part[n], '\0');
        assert_int_equal(sl__utf8_valid(part, n), n);
        assert_true(at + n <= size);
        assert_memory_equal(part, whole + at, n);
        at += n;
    }
    assert_int_equal(at, size);
    sl_detokenizer_destroy(detok);
    free(whole);
}

static void check_rows(const char *name, const json_t *root, const sl_tokenizer *tok)
{
    const unsigned all = SL_ENCODE_ADDED | SL_ENCODE_BOS;
    const json_t *decoded = json_object_get(root, "decoded");
    size_t wrap = (size_t)json_integer_value(json_object_get(root, "wrap")), i;
    json_t *texts = load("texts"), *row;
    json_array_foreach(json_object_get(root, "ids"), i, row)
    {
        const json_t *text = json_array_get(texts, i);
        char key[32];
        snprintf(key, sizeof key, "%zu", i);
        const json_t *back = json_object_get(decoded, key);
        expect_ids(name, tok, text, row, 0, all);
        expect_ids(name, tok, text, row, wrap, SL_ENCODE_ADDED);
        expect_text(name, tok, row, false, back ? back : text);
    }
    assert_int_equal(i, 300);
    json_array_foreach(json_object_get(root, "decode"), i, row)
        expect_text(name, tok, json_array_get(row, 0), json_is_true(json_array_get(row, 1)),
                    json_array_get(row, 2));
    assert_int_equal(i, 40);
    json_decref(texts);
}

static void check_kind(const char *name)
{
    json_t *root = load(name);
    sl_tokenizer *tok = json_object_get(root, "file")
                            ? open_tiktoken(root)
                            : tokenizer_of(json_object_get(root, "tokenizer"));
    sl_tokenizer *again = tokenizer_recompiled(tok);
    check_rows(name, root, tok);
    check_rows(name, root, again);
    sl_tokenizer_close(tok);
    sl_tokenizer_close(again);
    json_decref(root);
}

#define KIND(name)                                                                                 \
    static void name(void **state)                                                                 \
    {                                                                                              \
        (void)state;                                                                               \
        check_kind(#name);                                                                         \
    }

KIND(qwen)
KIND(o200k)
KIND(deepseek)
KIND(neox)
KIND(mixtral)
KIND(llama)
KIND(holes)
KIND(metaspace)
KIND(words)
KIND(punctuation)
KIND(tiktoken)
KIND(o200k_small)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(qwen),        cmocka_unit_test(o200k),     cmocka_unit_test(deepseek),
        cmocka_unit_test(neox),        cmocka_unit_test(mixtral),   cmocka_unit_test(llama),
        cmocka_unit_test(holes),       cmocka_unit_test(metaspace), cmocka_unit_test(words),
        cmocka_unit_test(punctuation), cmocka_unit_test(tiktoken),  cmocka_unit_test(o200k_small),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
