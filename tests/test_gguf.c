/* GGUF headers: what is read back of what was written, parts, and every lie with its message. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gguf_writer.h"
#include "test_env.h"

static char dir[256];

static const char *at(const char *name)
{
    static char paths[4][400];
    static unsigned turn;
    char *path = paths[turn++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", dir, name);
    return path;
}

static void expect_error(const char *path, sl_status status, const char *message)
{
    sl__gguf_set set;
    sl_error err = {0};
    assert_int_equal(sl__gguf_open(&set, path, &err), status);
    if (!strstr(err.message, message)) fail_msg("\"%s\" lacks \"%s\"", err.message, message);
    sl__gguf_close(&set);
}

/* Saves w, destroys it, and expects that opening fails. */
static void refuse(gguf_writer *w, sl_status status, const char *message)
{
    gguf_writer_save(w, at("lie.gguf"));
    gguf_writer_destroy(w);
    expect_error(at("lie.gguf"), status, message);
}

static const uint64_t four[] = {4};

static gguf_writer *small(void)
{
    gguf_writer *w = gguf_writer_create();
    gguf_writer_string(w, "general.architecture", "qwen3moe");
    gguf_writer_tensor(w, "a", 0, 1, four, "0123456789abcdef", 16);
    return w;
}

static void reads_what_was_written(void **state)
{
    (void)state;
    for (uint32_t version = 2; version <= 3; version++) {
        gguf_writer *w = gguf_writer_create();
        gguf_writer_set_version(w, version);
        gguf_writer_set_align(w, 64);
        gguf_writer_int(w, "general.alignment", SL_GGUF_U32, 64);
        gguf_writer_strings(w, "list", (const char *const[]){"x", "", "yz"}, 3);
        gguf_writer_ints(w, "ints", SL_GGUF_I16, (const int64_t[]){-3, 7}, 2);
        gguf_writer_f32s(w, "floats", (const float[]){0.5f, -2.0f}, 2);
        gguf_writer_tensor(w, "z", 12, 3, (const uint64_t[]){2, 3, 256}, NULL, 6 * 144);
        gguf_writer_tensor(w, "b", 0, 1, four, "0123456789abcdef", 16);
        gguf_writer_tensor(w, "new", 137, 1, four, NULL, 3);
        gguf_writer_save(w, at("m.gguf"));
        gguf_writer_destroy(w);

        sl__gguf_set set;
        sl_error err = {0};
        sl__dtype dtype = SL_F32;
        size_t size;
        char *bytes = test_read_file(at("m.gguf"), &size);
        if (sl__gguf_open(&set, at("m.gguf"), &err)) fail_msg("%s", err.message);
        assert_int_equal(set.tensor_count, 3);
        const sl__gguf_tensor *z = sl__gguf_find(&set, "z"), *b = sl__gguf_find(&set, "b");
        assert_int_equal(z->dims, 3);
        assert_int_equal(z->shape[0], 2);
        assert_int_equal(z->shape[1], 3);
        assert_int_equal(z->shape[2], 256);
        assert_int_equal(z->bytes, 6 * 144);
        assert_int_equal(z->offset % 64, 0);
        assert_int_equal(sl__gguf_tensor_dtype(&set, z, &dtype, &err), SL_OK);
        assert_int_equal(dtype, SL_Q4_K);
        assert_memory_equal(bytes + b->offset, "0123456789abcdef", 16);
        assert_null(sl__gguf_find(&set, "c"));
        const sl__gguf_tensor *unknown = sl__gguf_find(&set, "new");
        assert_int_equal(unknown->type, 137);
        assert_int_equal(sl__gguf_tensor_dtype(&set, unknown, &dtype, &err), SL_EUNSUPPORTED);
        assert_non_null(strstr(err.message, "tensor new is of type 137, which is not known"));

        const char *text;
        int64_t whole;
        double number;
        const sl__gguf_key *key = sl__gguf_find_key(&set, "list");
        assert_int_equal(key->count, 3);
        assert_true(sl__gguf_string_at(&set, key, 2, &text, &size));
        assert_int_equal(size, 2);
        assert_memory_equal(text, "yz", 2);
        assert_false(sl__gguf_int_at(&set, key, 0, &whole));
        key = sl__gguf_find_key(&set, "ints");
        assert_true(sl__gguf_int_at(&set, key, 0, &whole));
        assert_int_equal(whole, -3);
        key = sl__gguf_find_key(&set, "floats");
        assert_true(sl__gguf_number_at(&set, key, 1, &number));
        assert_true(number == -2.0);
        sl__gguf_close(&set);
        free(bytes);
    }
}

/* Every width of integer, at its ends. */
static void takes_any_integer(void **state)
{
    (void)state;
    static const struct {
        sl__gguf_type type;
        int64_t value;
    } cases[] = {
        {SL_GGUF_U8, 255},          {SL_GGUF_I8, -128},        {SL_GGUF_U16, 65535},
        {SL_GGUF_I16, -32768},      {SL_GGUF_U32, 4294967295}, {SL_GGUF_I32, INT32_MIN},
        {SL_GGUF_U64, INT64_MAX},   {SL_GGUF_I64, INT64_MIN},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        gguf_writer *w = small();
        sl__gguf_set set;
        sl_error err = {0};
        int64_t value = 0;
        gguf_writer_int(w, "n", cases[i].type, cases[i].value);
        gguf_writer_save(w, at("int.gguf"));
        gguf_writer_destroy(w);
        assert_int_equal(sl__gguf_open(&set, at("int.gguf"), &err), SL_OK);
        assert_int_equal(sl__gguf_int(&set, "n", INT64_MIN, INT64_MAX, &value, &err), SL_OK);
        assert_true(value == cases[i].value);
        sl__gguf_close(&set);
    }
}

static void says_what_is_wrong_with_a_key(void **state)
{
    (void)state;
    gguf_writer *w = small();
    sl__gguf_set set;
    int64_t value;
    bool truth;
    const char *text;
    size_t size;
    gguf_writer_int(w, "big", SL_GGUF_U64, -1);
    gguf_writer_int(w, "yes", SL_GGUF_BOOL, 1);
    gguf_writer_ints(w, "list", SL_GGUF_U8, (const int64_t[]){1}, 1);
    gguf_writer_save(w, at("keys.gguf"));
    gguf_writer_destroy(w);
    assert_int_equal(sl__gguf_open(&set, at("keys.gguf"), NULL), SL_OK);
    static const struct {
        const char *name, *message;
    } cases[] = {
        {"none", "keys.gguf: none: is missing"},
        {"big", "big: is not an integer"},
        {"yes", "yes: is not an integer"},
        {"list", "list: is an array"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        sl_error err = {0};
        assert_int_equal(sl__gguf_int(&set, cases[i].name, 0, 9, &value, &err), SL_EFORMAT);
        assert_non_null(strstr(err.message, cases[i].message));
    }
    assert_int_equal(sl__gguf_bool(&set, "yes", &truth, NULL), SL_OK);
    assert_true(truth);
    assert_int_equal(sl__gguf_bool(&set, "big", &truth, NULL), SL_EFORMAT);
    assert_int_equal(sl__gguf_string(&set, "yes", &text, &size, NULL), SL_EFORMAT);
    assert_int_equal(sl__gguf_string(&set, "general.architecture", &text, &size, NULL), SL_OK);
    assert_int_equal(size, 8);
    sl__gguf_close(&set);
}

static void refuses_lies(void **state)
{
    (void)state;
    gguf_writer *w;
    test_write_file(at("lie.gguf"), "PK\3\4", 4);
    expect_error(at("lie.gguf"), SL_EFORMAT, "does not begin as a GGUF file");
    gguf_writer_set_version(w = small(), 1);
    refuse(w, SL_EUNSUPPORTED, "GGUF version 1 is not supported");
    gguf_writer_set_version(w = small(), 3u << 24);
    refuse(w, SL_EUNSUPPORTED, "big-endian machines, version 3");
    gguf_writer_string(w = small(), "general.architecture", "again");
    refuse(w, SL_EFORMAT, "key general.architecture occurs twice");
    gguf_writer_tensor(w = small(), "a", 0, 1, four, NULL, 16);
    refuse(w, SL_EFORMAT, "tensor a occurs in");
    gguf_writer_raw(w = small(), "k", 13, "", 0);
    refuse(w, SL_EFORMAT, "k: a value of type 13: not known");
    gguf_writer_raw(w = small(), "k", SL_GGUF_ARRAY, "\11\0\0\0\1\0\0\0\0\0\0\0", 12);
    refuse(w, SL_EUNSUPPORTED, "k: arrays of arrays");
    gguf_writer_raw(w = small(), "k", SL_GGUF_ARRAY, "\12\0\0\0\0\0\0\0\0\0\0\377", 12);
    refuse(w, SL_EFORMAT, "past the end of the file");
    gguf_writer_raw(w = small(), "k", SL_GGUF_STRING, "\377\377\377\377\377\377\377\377", 8);
    refuse(w, SL_EFORMAT, "past the end of the file");
    gguf_writer_int(w = small(), "k", SL_GGUF_BOOL, 2);
    refuse(w, SL_EFORMAT, "k: a boolean that is neither 0 nor 1");
    gguf_writer_int(w = small(), "", SL_GGUF_BOOL, 1);
    refuse(w, SL_EFORMAT, "key 1 (counted from 0) has a name of 0 bytes");
    gguf_writer_int(w = small(), "general.alignment", SL_GGUF_U32, 48);
    refuse(w, SL_EFORMAT, "general.alignment: is not a power of two");
    gguf_writer_tensor(w = small(), "t", 0, 5, (const uint64_t[]){1, 1, 1, 1, 1}, NULL, 4);
    refuse(w, SL_EFORMAT, "tensor t has 5 dimensions");
    gguf_writer_tensor(w = small(), "t", 0, 2, (const uint64_t[]){0, 4}, NULL, 4);
    refuse(w, SL_EFORMAT, "tensor t: its dimensions are zero or too large");
    gguf_writer_tensor(w = small(), "t", 0, 2, (const uint64_t[]){1ull << 62, 4}, NULL, 4);
    refuse(w, SL_EFORMAT, "tensor t: its dimensions are zero or too large");
    gguf_writer_tensor(w = small(), "t", 8, 1, (const uint64_t[]){40}, NULL, 64);
    refuse(w, SL_EFORMAT, "tensor t: rows of 40 are no whole blocks of 32 (q8_0)");
    gguf_writer_tensor(w = small(), "t", 0, 1, four, NULL, 15);
    refuse(w, SL_EFORMAT, "tensor t ends past the end of the file");
    gguf_writer_tensor(w = small(), "t", 0, 1, four, NULL, 64);
    gguf_writer_set_offset(w, 8);
    refuse(w, SL_EFORMAT, "tensor t: its offset 8 is no multiple of 32");
    gguf_writer_set_offset(w = small(), UINT64_MAX - 31);
    refuse(w, SL_EFORMAT, "tensor a ends past the end of the file");
}

/* A header that ends anywhere is an error, never more. */
static void refuses_every_beginning(void **state)
{
    (void)state;
    gguf_writer *w = small();
    size_t size;
    gguf_writer_strings(w, "list", (const char *const[]){"x", "yz"}, 2);
    uint8_t *bytes = gguf_writer_bytes(w, &size);
    gguf_writer_destroy(w);
    for (size_t n = 0; n < size; n++) {
        test_write_file(at("cut.gguf"), bytes, n);
        expect_error(at("cut.gguf"), SL_EFORMAT, "cut.gguf: ");
    }
    free(bytes);
}

/* Part `no` of `count` with one tensor; total: split.tensors.count, or -1 for none. */
static void save_part(const char *name, int64_t no, int64_t count, int64_t total,
                      const char *tensor)
{
    gguf_writer *w = gguf_writer_create();
    gguf_writer_int(w, "split.no", SL_GGUF_U16, no);
    gguf_writer_int(w, "split.count", SL_GGUF_U16, count);
    if (total >= 0) gguf_writer_int(w, "split.tensors.count", SL_GGUF_I32, total);
    if (no == 0) gguf_writer_string(w, "general.architecture", "qwen3moe");
    gguf_writer_tensor(w, tensor, 0, 1, four, NULL, 16);
    gguf_writer_save(w, at(name));
    gguf_writer_destroy(w);
}

static void finds_all_parts(void **state)
{
    (void)state;
    static const char *const names[] = {"p-00001-of-00003.gguf", "p-00002-of-00003.gguf",
                                        "p-00003-of-00003.gguf"};
    for (int i = 0; i < 3; i++)
        save_part(names[i], i, 3, 3, (const char *const[]){"c", "b", "a"}[i]);
    for (int i = 0; i < 3; i++) {
        sl__gguf_set set;
        sl_error err = {0};
        if (sl__gguf_open(&set, at(names[i]), &err)) fail_msg("%s", err.message);
        assert_int_equal(set.file_count, 3);
        assert_int_equal(set.tensor_count, 3);
        assert_string_equal(set.tensors[0].name, "a");
        assert_int_equal(set.tensors[0].file, 2);
        assert_non_null(sl__gguf_find_key(&set, "general.architecture"));
        sl__gguf_close(&set);
    }
    save_part(names[1], 1, 3, -1, "a");
    expect_error(at(names[0]), SL_EFORMAT, "tensor a occurs in");
    save_part(names[1], 2, 3, -1, "b");
    expect_error(at(names[0]), SL_EFORMAT, "split.no: 2, but by its name this is part 2 of 3");
    save_part(names[1], 1, 4, -1, "b");
    expect_error(at(names[0]), SL_EFORMAT, "split.count: 4, but");
    save_part(names[1], 1, 3, -1, "b");
    save_part(names[0], 0, 3, 4, "c");
    expect_error(at(names[2]), SL_EFORMAT, "split.tensors.count: 4, but all parts together have 3");
    remove(at(names[1]));
    expect_error(at(names[2]), SL_EIO, "p-00002-of-00003.gguf: is missing");
    save_part("alone.gguf", 0, 2, -1, "c");
    expect_error(at("alone.gguf"), SL_EFORMAT, "split.count: 2, but by its name");
}

/* What the Python package `gguf` wrote; tools/make_gguf_sample.py. */
static void reads_the_reference_writer(void **state)
{
    (void)state;
    sl__gguf_set set;
    sl_error err = {0};
    int64_t value = 0;
    double eps = 0;
    size_t size;
    const sl__gguf_tensor *t;
    char *bytes = test_read_file("data/gguf/sample.gguf", &size);
    if (sl__gguf_open(&set, "data/gguf/sample.gguf", &err)) fail_msg("%s", err.message);
    assert_int_equal(sl__gguf_int(&set, "qwen3moe.expert_count", 1, 99, &value, &err), SL_OK);
    assert_int_equal(value, 8);
    assert_int_equal(sl__gguf_number(&set, "qwen3moe.attention.layer_norm_rms_epsilon", &eps, &err),
                     SL_OK);
    assert_true((float)eps == 1e-6f);
    assert_int_equal(sl__gguf_find_key(&set, "tokenizer.ggml.tokens")->count, 3);
    t = sl__gguf_find(&set, "blk.0.ffn_down_exps.weight");
    assert_int_equal(t->dims, 3);
    assert_int_equal(t->shape[0], 2);
    assert_int_equal(t->shape[1], 3);
    assert_int_equal(t->shape[2], 32);
    assert_int_equal(t->bytes, 2 * 3 * 34);
    t = sl__gguf_find(&set, "output_norm.weight");
    for (unsigned i = 0; i < 5; i++) {
        float value_f;
        memcpy(&value_f, bytes + t->offset + 4 * i, 4);
        assert_true(value_f == (float)i);
    }
    sl__gguf_close(&set);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_was_written),
        cmocka_unit_test(takes_any_integer),
        cmocka_unit_test(says_what_is_wrong_with_a_key),
        cmocka_unit_test(refuses_lies),
        cmocka_unit_test(refuses_every_beginning),
        cmocka_unit_test(finds_all_parts),
        cmocka_unit_test(reads_the_reference_writer),
    };
    test_temp_dir(dir, sizeof dir);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    test_remove_tree(dir);
    return failed;
}
