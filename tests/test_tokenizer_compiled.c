/* The compiled form of a tokenizer: damage, stability, and the ways to open one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "test_env.h"
#include "text/tokenizer.h"
#include "tokenizer_text.h"

static json_t *small_tokenizer(void)
{
    json_t *root = tokenizer_base();
    tokenizer_add_merge(root, "a", "b");
    tokenizer_add_merge(root, "ab", "c");
    tokenizer_add_added(root, 300, "<s>", "special lstrip");
    tokenizer_add_added(root, 301, "<t>", "normalized");
    tokenizer_set(root, "normalizer", "{'type':'NFC'}");
    tokenizer_set_split(root, "\\s+|[a-z]+", "MergedWithNext", false);
    tokenizer_set(root, "post_processor",
                  "{'type':'TemplateProcessing','single':[{'SpecialToken':{'id':'s'}},{'Sequence':{"
                  "}}],'special_tokens':{'s':{'ids':[300]}}}");
    return root;
}

/* Tokens of text, every stage that bytes do not have. */
static json_t *text_tokenizer(void)
{
    json_t *root = tokenizer_base();
    tokenizer_set(root, "normalizer",
                  "{'type':'Sequence','normalizers':[{'type':'NFKD'},{'type':'Prepend','prepend':"
                  "'_'},{'type':'Replace','pattern':{'Regex':'[b-d]+'},'content':'b'},{'type':"
                  "'StripAccents'},{'type':'Lowercase'}]}");
    tokenizer_set(root, "pre_tokenizer", "{'type':'Metaspace','replacement':'_'}");
    tokenizer_set(root, "decoder",
                  "{'type':'Sequence','decoders':[{'type':'Metaspace','replacement':'_'},{'type':"
                  "'Replace','pattern':{'String':'a'},'content':'AA'},{'type':'ByteFallback'},"
                  "{'type':'Fuse'},{'type':'Strip','content':'A','start':1,'stop':2}]}");
    tokenizer_set(root, "model",
                  "{'type':'BPE','unk_token':'?','byte_fallback':true,'vocab':{'?':0,'_':1,'a':2,"
                  "'b':3,'_a':4,'ab':5,'_ab':6,'<0xFF>':7,'<0xE4>':8,'<0x31>':9,'s':10},"
                  "'merges':['_ a','a b','_a b']}");
    tokenizer_add_added(root, 20, "<s>", "special normalized");
    return root;
}

/* Uses whatever was opened in every way. */
static void exercise(const sl_tokenizer *tok)
{
    static const char text[] = "abc <s>ab e\xcc\x81 <t>\xff 12";
    int32_t *list;
    size_t count, size;
    char *back;
    sl_error err = {0};
    if (sl_tokenizer_encode(tok, text, sizeof text, SL_ENCODE_ADDED | SL_ENCODE_BOS, &list, &count,
                            &err) != SL_OK)
        return;
    if (sl_tokenizer_decode(tok, list, count, false, &back, &size, &err) == SL_OK) free(back);
    free(list);
    sl_tokenizer_token_id(tok, "ab");
    sl_tokenizer_token_id(tok, "<t>");
    sl__tokenizer_footprint(tok);
}

/* data in a block of exactly its size, so that a sanitizer sees a read too far. */
static sl_status open_exact(const unsigned char *data, size_t size, sl_error *err)
{
    sl_tokenizer *tok = NULL;
    unsigned char *exact = malloc(size ? size : 1);
    assert_non_null(exact);
    memcpy(exact, data, size);
    sl_status status = sl__tokenizer_parse_compiled(&tok, exact, size, "t.bin", err);
    free(exact);
    if (status == SL_OK) {
        exercise(tok);
        sl_tokenizer_close(tok);
    }
    return status;
}

static void damage_is_an_error(void **state)
{
    (void)state;
    sl_tokenizer *tok = tokenizer_take(small_tokenizer());
    sl_error err = {0};
    void *data;
    size_t size;
    assert_int_equal(sl__tokenizer_compile(tok, &data, &size, &err), SL_OK);
    unsigned char *bytes = data;
    assert_int_equal(open_exact(bytes, size, &err), SL_OK);
    for (size_t n = 0; n < size; n++)
        assert_int_not_equal(open_exact(bytes, n, NULL), SL_OK);
    for (size_t bit = 0; bit < size * 8; bit++) {
        bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
        sl_status status = open_exact(bytes, size, NULL);
        assert_true(status == SL_ECORRUPT || status == SL_EFORMAT || status == SL_EUNSUPPORTED);
        bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
    unsigned char *longer = calloc(1, size + 8);
    memcpy(longer, bytes, size);
    assert_int_equal(open_exact(longer, size + 8, NULL), SL_ECORRUPT);
    free(longer);

    bytes[size - 1] ^= 1;
    assert_int_equal(open_exact(bytes, size, &err), SL_ECORRUPT);
    assert_string_equal(err.message, "t.bin: compiled tokenizer: the checksum differs");
    sl_error_clear(&err);
    bytes[8]++;
    assert_int_equal(open_exact(bytes, size, &err), SL_EUNSUPPORTED);
    assert_string_equal(err.message, "t.bin: compiled tokenizer of version 3; this program reads "
                                     "version 2");
    free(data);
    sl_tokenizer_close(tok);
}

/* With the checksum made right again, damage may go unnoticed but does no harm. */
static void damage_with_a_right_checksum(sl_tokenizer *tok)
{
    sl_error err = {0};
    void *data;
    size_t size, refused = 0;
    assert_int_equal(sl__tokenizer_compile(tok, &data, &size, &err), SL_OK);
    unsigned char *bytes = data;
    test_rng rng = {5};
    size_t rounds = test_fast() ? 1000 : 10000;
    for (size_t k = 0; k < rounds; k++) {
        /* The header, without its byte table, is met more often than the tables. */
        size_t at = test_rng_below(&rng, 3) ? test_rng_below(&rng, (unsigned)size - 8)
                                            : test_rng_below(&rng, 80);
        unsigned char old = bytes[at];
        bytes[at] = (unsigned char)test_rng_below(&rng, 256);
        uint64_t sum = sl__hash64(bytes, size - 8);
        memcpy(bytes + size - 8, &sum, 8);
        if (open_exact(bytes, size, NULL) != SL_OK) refused++;
        bytes[at] = old;
    }
    assert_true(refused > rounds / 20);
    free(data);
    sl_tokenizer_close(tok);
}

static void damage_under_a_right_checksum_is_harmless(void **state)
{
    (void)state;
    damage_with_a_right_checksum(tokenizer_take(small_tokenizer()));
    damage_with_a_right_checksum(tokenizer_take(text_tokenizer()));
}

static void opening_paths(void **state)
{
    (void)state;
    char dir[256], path[512];
    sl_error err = {0};
    sl_tokenizer *tok = tokenizer_take(small_tokenizer()), *other = NULL;
    void *data;
    size_t size;
    assert_int_equal(sl__tokenizer_compile(tok, &data, &size, &err), SL_OK);
    test_temp_dir(dir, sizeof dir);

    assert_int_equal(sl_tokenizer_open(&other, dir, &err), SL_EIO);
    assert_non_null(strstr(err.message, ": no tokenizer here: expected "));
    char weights[600];
    snprintf(weights, sizeof weights, "%s/model.safetensors", dir); /* its folder is looked at */
    sl_error_clear(&err);
    assert_int_equal(sl_tokenizer_open(&other, weights, &err), SL_EIO);
    assert_non_null(strstr(err.message, ": no tokenizer here: expected "));
    assert_null(other);
    sl_error_clear(&err);

    json_t *root = tokenizer_base();
    snprintf(path, sizeof path, "%s/tokenizer.json", dir);
    assert_int_equal(json_dump_file(root, path, 0), 0);
    json_decref(root);
    assert_int_equal(sl_tokenizer_open(&other, dir, &err), SL_OK);
    assert_int_equal(sl_tokenizer_vocab_size(other), 256);
    sl_tokenizer_close(other);
    assert_int_equal(sl_tokenizer_open(&other, path, &err), SL_OK);
    sl_tokenizer_close(other);

    snprintf(path, sizeof path, "%s/tokenizer.bin", dir);
    test_write_file(path, data, size);
    assert_int_equal(sl_tokenizer_open(&other, dir, &err), SL_OK); /* the compiled one first */
    assert_int_equal(sl_tokenizer_vocab_size(other), 302);
    sl_tokenizer_close(other);
    snprintf(path, sizeof path, "%s/by-another-name", dir);
    test_write_file(path, data, size);
    assert_int_equal(sl_tokenizer_open(&other, path, &err), SL_OK);
    assert_true(sl__tokenizer_footprint(other) >= size);
    sl_tokenizer_close(other);
    test_write_file(path, data, size - 1);
    assert_int_equal(sl_tokenizer_open(&other, path, &err), SL_ECORRUPT);
    sl_tokenizer_close(NULL);
    sl_detokenizer_destroy(NULL);
    test_remove_tree(dir);
    free(data);
    sl_tokenizer_close(tok);
}

static sl_tokenizer *open_demo(void)
{
    sl_error err = {0};
    sl_tokenizer *tok;
    if (sl_tokenizer_open(&tok, "data/tokenizer/demo.json", &err)) fail_msg("%s", err.message);
    return tok;
}

/* Compiling what was compiled gives the same bytes. */
static void compiling_is_stable(void **state)
{
    (void)state;
    sl_tokenizer *tok = open_demo(), *again = tokenizer_recompiled(tok);
    sl_error err = {0};
    void *a, *b;
    size_t n, m;
    assert_int_equal(sl__tokenizer_compile(tok, &a, &n, &err), SL_OK);
    assert_int_equal(sl__tokenizer_compile(again, &b, &m, &err), SL_OK);
    assert_int_equal(n, m);
    assert_memory_equal(a, b, n);
    assert_int_equal(sl_tokenizer_vocab_size(tok), 8192);
    assert_int_equal(sl_tokenizer_token_id(again, "<|im_end|>"), 8185);
    free(a);
    free(b);
    sl_tokenizer_close(tok);
    sl_tokenizer_close(again);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(damage_is_an_error),
        cmocka_unit_test(damage_under_a_right_checksum_is_harmless),
        cmocka_unit_test(opening_paths),
        cmocka_unit_test(compiling_is_stable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
