/* Reading safetensors checkpoints: honest files of every shape, and each lie with its message. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/file.h"
#include "format/safetensors.h"
#include "st_writer.h"
#include "test_env.h"

#define INDEX "model.safetensors.index.json"

static char temp[1024]; /* the folder of the running test */

static int make_temp(void **state)
{
    (void)state;
    test_temp_dir(temp, sizeof temp);
    return 0;
}

static int drop_temp(void **state)
{
    (void)state;
    test_remove_tree(temp);
    return 0;
}

/* temp/name; the result lives until the fourth call after. */
static const char *in_temp(const char *name)
{
    static char paths[4][2048];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", temp, name);
    return path;
}

/* Opening path fails with status, and the message holds each of the texts (NULL ends them). */
static void expect_failure(const char *path, sl_status status, ...)
{
    sl__st_set set;
    memset(&set, 0x5a, sizeof set);
    sl_error err = {0};
    sl_status got = sl__st_open(&set, path, &err);
    if (got != status) fail_msg("%s: got %s: %s", path, sl_status_name(got), err.message);
    assert_int_equal(err.status, status);
    assert_null(set.arena);
    assert_null(set.tensors);
    va_list texts;
    va_start(texts, status);
    for (const char *text; (text = va_arg(texts, const char *));) {
        if (!strstr(err.message, text)) fail_msg("'%s' is not in: %s", text, err.message);
    }
    va_end(texts);
    sl__st_close(&set); /* what a failed open leaves may be closed */
}

/* What must hold of every set that was opened, whatever the file said. */
static void check_set(const sl__st_set *set)
{
    for (size_t i = 0; i < set->tensor_count; i++) {
        const sl__st_tensor *t = &set->tensors[i];
        assert_true(t->file < set->file_count);
        assert_true(t->dims <= SL_TENSOR_DIMS_MAX);
        assert_true(t->offset >= 10 && t->offset <= set->files[t->file].size);
        assert_true(t->bytes <= set->files[t->file].size - t->offset);
        assert_ptr_equal(sl__st_find(set, t->name), t);
        if (i > 0) assert_true(strcmp(set->tensors[i - 1].name, t->name) < 0);
    }
}

static void open_good(sl__st_set *set, const char *path)
{
    sl_error err = {0};
    if (sl__st_open(set, path, &err) != SL_OK) fail_msg("%s", err.message);
    check_set(set);
}

/* ---- honest files ---------------------------------------------------------------------------- */

static void test_one_file(void **state)
{
    (void)state;
    st_writer *w = st_writer_create();
    st_writer_set_metadata(w, true);
    st_writer_add_f32(w, "b.weight", 2, (uint64_t[]){2, 3}, (float[]){1, 2, 3, 4, 5, 6});
    st_writer_add_bf16(w, "a.weight", 1, (uint64_t[]){4}, (float[]){1, 2, 3, 4});
    st_writer_add_f32(w, "scalar", 0, NULL, (float[]){7});
    st_writer_add(w, "empty", "I64", 3, (uint64_t[]){5, 0, 2}, NULL, 0);
    st_writer_save(w, in_temp("model.safetensors"));

    sl__st_set set;
    for (int folder = 0; folder < 2; folder++) {
        open_good(&set, folder ? temp : in_temp("model.safetensors"));
        assert_int_equal(set.tensor_count, 4);
        assert_int_equal(set.file_count, 1);
        assert_string_equal(set.files[0].path, in_temp("model.safetensors"));
        size_t size;
        uint8_t *bytes = st_writer_bytes(w, &size);
        assert_int_equal(set.files[0].size, size);

        const sl__st_tensor *b = sl__st_find(&set, "b.weight");
        assert_non_null(b);
        assert_int_equal(b->dtype, SL_F32);
        assert_int_equal(b->dims, 2);
        assert_int_equal(b->shape[0], 2);
        assert_int_equal(b->shape[1], 3);
        assert_int_equal(b->bytes, 24);
        float six;
        memcpy(&six, bytes + b->offset + 20, sizeof six);
        assert_true(six == 6.0f);

        const sl__st_tensor *a = sl__st_find(&set, "a.weight");
        assert_non_null(a);
        assert_int_equal(a->dtype, SL_BF16);
        assert_int_equal(a->bytes, 8);
        assert_int_equal(a->offset, b->offset + 24);

        const sl__st_tensor *scalar = sl__st_find(&set, "scalar");
        assert_int_equal(scalar->dims, 0);
        assert_int_equal(scalar->bytes, 4);
        const sl__st_tensor *empty = sl__st_find(&set, "empty");
        assert_int_equal(empty->dims, 3);
        assert_int_equal(empty->bytes, 0);
        assert_int_equal(empty->offset, size);

        assert_null(sl__st_find(&set, "a.weigh"));
        assert_null(sl__st_find(&set, "a.weights"));
        assert_null(sl__st_find(&set, ""));
        assert_null(sl__st_find(&set, "__metadata__"));
        free(bytes);
        sl__st_close(&set);
        sl__st_close(&set); /* a closed set may be closed */
    }
    st_writer_destroy(w);
}

static void test_all_dtypes(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        sl__dtype dtype;
        size_t bytes;
    } all[] = {
        {"BOOL", SL_BOOL, 1},       {"U8", SL_U8, 1},   {"I8", SL_I8, 1},
        {"F8_E4M3", SL_F8_E4M3, 1}, {"U16", SL_U16, 2}, {"F8_E5M2", SL_F8_E5M2, 1},
        {"F8_E8M0", SL_F8_E8M0, 1}, {"I16", SL_I16, 2}, {"F16", SL_F16, 2},
        {"BF16", SL_BF16, 2},       {"I32", SL_I32, 4}, {"U32", SL_U32, 4},
        {"F32", SL_F32, 4},         {"I64", SL_I64, 8}, {"U64", SL_U64, 8},
        {"F64", SL_F64, 8},
    };
    enum { COUNT = sizeof all / sizeof all[0] };
    st_writer *w = st_writer_create();
    st_writer_set_align(w, 1, 0); /* odd addresses are as good as any */
    for (size_t i = 0; i < COUNT; i++)
        st_writer_add(w, all[i].name, all[i].name, 2, (uint64_t[]){3, 5}, NULL, 15 * all[i].bytes);
    st_writer_save(w, in_temp("x.safetensors"));
    st_writer_destroy(w);
    sl__st_set set;
    open_good(&set, in_temp("x.safetensors"));
    assert_int_equal(set.tensor_count, COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        const sl__st_tensor *t = sl__st_find(&set, all[i].name);
        assert_non_null(t);
        assert_int_equal(t->dtype, all[i].dtype);
        assert_int_equal(t->bytes, 15 * all[i].bytes);
    }
    sl__st_close(&set);
}

/* Header text that is allowed although no exporter writes it. */
static void test_odd_but_good(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        size_t bytes, tensors;
    } good[] = {
        {"{}", 0, 0},
        {"{ }      \n\t ", 0, 0},
        {"{\"__metadata__\":{}}", 0, 0},
        {"{\"\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, 1},
        /* Unknown keys beside the known ones, the order of keys, and escapes. */
        {"{\"\\u00e9\\\"\":{\"data_offsets\":[0,2],\"x\":null,\"shape\":[1],"
         "\"dtype\":\"F16\"}}", 2, 1},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,3],\"data_offsets\":[0,3]}}", 3, 1},
        /* Tensors in another order than their data; empty ones at each border. */
        {"{\"c\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[3,5]},"
         "\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]},"
         "\"e\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[3,3]},"
         "\"f\":{\"dtype\":\"F64\",\"shape\":[9,0],\"data_offsets\":[0,0]},"
         "\"d\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[5,5]}}", 5, 5},
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        st_write_raw(in_temp("odd.safetensors"), good[i].header, NULL, good[i].bytes);
        sl__st_set set;
        open_good(&set, in_temp("odd.safetensors"));
        assert_int_equal(set.tensor_count, good[i].tensors);
        sl__st_close(&set);
    }
}

/* Tables that grow past every size at which they are moved keep what they hold. */
static void test_many_tensors(void **state)
{
    (void)state;
    enum { SHARDS = 7, EACH = 61 };
    st_writer *writers[SHARDS];
    char names[SHARDS][32];
    const char *files[SHARDS];
    uint8_t byte = 0;
    for (unsigned s = 0; s < SHARDS; s++) {
        writers[s] = st_writer_create();
        snprintf(names[s], sizeof names[s], "model-%u.safetensors", s);
        files[s] = names[s];
        for (unsigned i = 0; i < EACH; i++) {
            char name[32];
            snprintf(name, sizeof name, "t.%u", (i * 37 % EACH) * SHARDS + s);
            st_writer_add(writers[s], name, "U8", 1, (uint64_t[]){1}, &byte, 1);
        }
    }
    st_writer_save_sharded(writers, files, SHARDS, temp);
    for (unsigned s = 0; s < SHARDS; s++) st_writer_destroy(writers[s]);
    sl__st_set set;
    open_good(&set, temp);
    assert_int_equal(set.tensor_count, SHARDS * EACH);
    assert_int_equal(set.file_count, SHARDS);
    for (unsigned n = 0; n < SHARDS * EACH; n++) {
        char name[32];
        snprintf(name, sizeof name, "t.%u", n);
        const sl__st_tensor *t = sl__st_find(&set, name);
        assert_non_null(t);
        assert_int_equal(t->file, n % SHARDS);
    }
    sl__st_close(&set);
}

/* ---- lies of a header ------------------------------------------------------------------------ */

typedef struct lie {
    const char *header;
    size_t bytes; /* of data */
    const char *text, *more; /* both in the message; more may be NULL */
    sl_status status; /* SL_OK stands for SL_EFORMAT */
} lie;

static void expect_lies(const lie *lies, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const char *path = in_temp("lie.safetensors");
        st_write_raw(path, lies[i].header, NULL, lies[i].bytes);
        sl_status status = lies[i].status == SL_OK ? SL_EFORMAT : lies[i].status;
        expect_failure(path, status, path, lies[i].text, lies[i].more, NULL);
    }
}

/* One tensor "w" with the given members. */
#define W(members) "{\"w\":{" members "}}"
#define WITH_SHAPE(shape) W("\"dtype\":\"U8\",\"shape\":" shape ",\"data_offsets\":[0,4]")
#define WITH_OFFSETS(offsets) W("\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":" offsets)
#define T(name, size, begin, end)                                                                  \
    "\"" name "\":{\"dtype\":\"U8\",\"shape\":[" #size "],\"data_offsets\":[" #begin "," #end "]}"

static void test_not_json(void **state)
{
    (void)state;
    static const lie lies[] = {
        {"", 0, "does not begin with '{'", NULL, SL_OK},
        {" {}", 0, "does not begin with '{'", NULL, SL_OK},
        {"[]", 0, "does not begin with '{'", NULL, SL_OK},
        {"{", 0, "line 1", NULL, SL_OK},
        {"{} x", 0, "line 1", NULL, SL_OK},
        {"{}{}", 0, "line 1", NULL, SL_OK},
        {"{" T("w", 1, 0, 1) "," T("w", 1, 1, 2) "}", 2, "duplicate", "w", SL_OK},
        {"{\"a\\u0000b\":{}}", 0, "line 1", NULL, SL_OK},
        {"{\"\xff\":{}}", 0, "line 1", NULL, SL_OK},
        {"{\"__metadata__\":[]}", 0, "__metadata__: expected an object", NULL, SL_OK},
        {"{\"w\":[]}", 0, "tensor w: expected an object", NULL, SL_OK},
        {"{\"w\":null}", 0, "tensor w: expected an object", NULL, SL_OK},
    };
    expect_lies(lies, sizeof lies / sizeof lies[0]);
}

static void test_deep_nesting(void **state)
{
    (void)state;
    enum { DEEP = 100000 };
    char *header = malloc(DEEP + 8);
    assert_non_null(header);
    memcpy(header, "{\"w\":", 5);
    memset(header + 5, '[', DEEP);
    header[5 + DEEP] = '\0';
    st_write_raw(in_temp("deep.safetensors"), header, NULL, 0);
    expect_failure(in_temp("deep.safetensors"), SL_EFORMAT, "deep.safetensors", "depth", NULL);
    free(header);
}

static void test_wrong_members(void **state)
{
    (void)state;
    static const lie lies[] = {
        {W(""), 0, "tensor w: dtype: expected a string", NULL, SL_OK},
        {W("\"dtype\":3"), 0, "tensor w: dtype: expected a string", NULL, SL_OK},
        {W("\"dtype\":\"U8\\u0000\""), 0, "tensor w: dtype: expected a string", NULL, SL_OK},
        {W("\"dtype\":\"F4\""), 0, "tensor w: dtype F4 is not known", NULL, SL_EUNSUPPORTED},
        {W("\"dtype\":\"bf16\""), 0, "dtype bf16 is not known", NULL, SL_EUNSUPPORTED},
        {W("\"dtype\":\"\""), 0, "is not known", NULL, SL_EUNSUPPORTED},
        {W("\"dtype\":\"U8\""), 0, "tensor w: shape: expected an array", NULL, SL_OK},
        {WITH_SHAPE("4"), 4, "tensor w: shape: expected an array", NULL, SL_OK},
        {WITH_SHAPE("{}"), 4, "tensor w: shape: expected an array", NULL, SL_OK},
        {WITH_SHAPE("[1,1,1,1,1,1,1,1,4]"), 4, "tensor w: 9 dimensions, more than 8", NULL,
         SL_EUNSUPPORTED},
        {W("\"dtype\":\"U8\",\"shape\":[4]"), 4, "data_offsets: expected two", NULL, SL_OK},
        {WITH_OFFSETS("4"), 4, "tensor w: data_offsets: expected two numbers", NULL, SL_OK},
        {WITH_OFFSETS("[4]"), 4, "tensor w: data_offsets: expected two numbers", NULL, SL_OK},
        {WITH_OFFSETS("[0,4,4]"), 4, "data_offsets: expected two numbers", NULL, SL_OK},
    };
    expect_lies(lies, sizeof lies / sizeof lies[0]);
}

static void test_wrong_numbers(void **state)
{
    (void)state;
    static const lie lies[] = {
        {WITH_SHAPE("[-4]"), 4, "tensor w: shape[0]: expected a whole number from 0", "-4", SL_OK},
        {WITH_SHAPE("[2,-2]"), 4, "tensor w: shape[1]", "-2", SL_OK},
        {WITH_SHAPE("[4.5]"), 4, "tensor w: shape[0]: expected a whole number", NULL, SL_OK},
        {WITH_SHAPE("[4.0]"), 4, "tensor w: shape[0]: expected a whole number", NULL, SL_OK},
        {WITH_SHAPE("[\"4\"]"), 4, "tensor w: shape[0]: expected a whole number", NULL, SL_OK},
        {WITH_SHAPE("[null]"), 4, "tensor w: shape[0]: expected a whole number", NULL, SL_OK},
        {WITH_SHAPE("[[4]]"), 4, "tensor w: shape[0]: expected a whole number", NULL, SL_OK},
        {WITH_SHAPE("[1e999]"), 4, "line 1", NULL, SL_OK},
        {WITH_SHAPE("[18446744073709551620]"), 4, "line 1", NULL, SL_OK},
        {WITH_SHAPE("[4294967296,4294967296]"), 4, "tensor w: its shape is too large", NULL, SL_OK},
        {WITH_SHAPE("[4294967296,4294967297]"), 4, "tensor w: its shape is too large", NULL, SL_OK},
        {W("\"dtype\":\"F64\",\"shape\":[2305843009213693952],\"data_offsets\":[0,0]"), 0,
         "tensor w: its shape is too large", NULL, SL_OK},
        {WITH_OFFSETS("[-1,3]"), 4, "tensor w: data_offsets[0]", "-1", SL_OK},
        {WITH_OFFSETS("[0,-4]"), 4, "tensor w: data_offsets[1]", "-4", SL_OK},
        {WITH_OFFSETS("[0,4.0]"), 4, "data_offsets[1]: expected a whole number", NULL, SL_OK},
        {WITH_OFFSETS("[4,0]"), 4, "tensor w: begins at 4, after its end at 0", NULL, SL_OK},
    };
    expect_lies(lies, sizeof lies / sizeof lies[0]);
}

static void test_wrong_layout(void **state)
{
    (void)state;
    static const lie lies[] = {
        {WITH_OFFSETS("[0,3]"), 3, "its shape takes 4 bytes, its offsets 3", "tensor w", SL_OK},
        {WITH_OFFSETS("[0,5]"), 5, "its shape takes 4 bytes, its offsets 5", "tensor w", SL_OK},
        {WITH_SHAPE("[0]"), 4, "its shape takes 0 bytes, its offsets 4", "tensor w", SL_OK},
        {WITH_SHAPE("[7,0]"), 4, "its shape takes 0 bytes, its offsets 4", "tensor w", SL_OK},
        {WITH_OFFSETS("[0,4]"), 3, "tensor w ends 1 bytes past the end of the file", "truncated?",
         SL_OK},
        {WITH_OFFSETS("[9223372036854775803,9223372036854775807]"), 4, "past the end", "tensor w",
         SL_OK},
        {WITH_OFFSETS("[0,4]"), 5, "1 bytes lie after the last tensor", NULL, SL_OK},
        {"{}", 8, "8 bytes lie after the last tensor", NULL, SL_OK},
        {"{" T("a", 4, 0, 4) "," T("b", 4, 3, 7) "}", 7, "tensor b overlaps tensor a", NULL, SL_OK},
        {"{" T("a", 4, 0, 4) "," T("b", 4, 0, 4) "}", 4, "overlaps tensor", NULL, SL_OK},
        {"{" T("a", 9, 0, 9) "," T("b", 2, 3, 5) "}", 9, "tensor b overlaps tensor a", NULL, SL_OK},
        {"{" T("a", 4, 0, 4) "," T("b", 0, 2, 2) "}", 4, "tensor b overlaps tensor a", NULL, SL_OK},
        {"{" T("a", 4, 0, 4) "," T("b", 4, 6, 10) "}", 10, "a hole of 2 bytes lies before tensor b",
         NULL, SL_OK},
        {"{" T("a", 4, 1, 5) "}", 5, "a hole of 1 bytes lies before tensor a", NULL, SL_OK},
    };
    expect_lies(lies, sizeof lies / sizeof lies[0]);
}

/* A name from the file cannot break the message's line. */
static void test_hostile_names(void **state)
{
    (void)state;
    st_write_raw(in_temp("n.safetensors"), "{\"a\\n\\u001b[2J%s%n\":7}", NULL, 0);
    expect_failure(in_temp("n.safetensors"), SL_EFORMAT, "tensor a??[2J%s%n: expected", NULL);
    enum { LONG = 5000 };
    char *header = malloc(LONG + 8);
    assert_non_null(header);
    header[0] = '{';
    header[1] = '"';
    memset(header + 2, 'n', LONG);
    memcpy(header + 2 + LONG, "\":7}", 5);
    st_write_raw(in_temp("n.safetensors"), header, NULL, 0);
    expect_failure(in_temp("n.safetensors"), SL_EFORMAT, "n.safetensors: tensor nnn", NULL);
    free(header);
}

static void test_wrong_length(void **state)
{
    (void)state;
    const char *path = in_temp("len.safetensors");
    for (size_t n = 0; n < 8; n++) {
        char text[32];
        snprintf(text, sizeof text, ": %zu bytes are too few", n);
        st_write_bytes(path, "\2\0\0\0\0\0\0\0", n);
        expect_failure(path, SL_EFORMAT, path, text, "truncated?", NULL);
    }
    st_write_bytes(path, "\0\0\0\0\0\0\0\0", 8);
    expect_failure(path, SL_EFORMAT, path, "does not begin with '{'", NULL);
    st_write_raw_sized(path, 3, "{}", NULL, 0);
    expect_failure(path, SL_EFORMAT, path, "header of 3 bytes ends past the end", NULL);
    st_write_raw_sized(path, 100000000, "{}", NULL, 0);
    expect_failure(path, SL_EFORMAT, "header of 100000000 bytes ends past the end", NULL);
    st_write_raw_sized(path, 100000001, "{}", NULL, 0);
    expect_failure(path, SL_EFORMAT, "header of 100000001 bytes: more than 100000000", NULL);
    st_write_raw_sized(path, UINT64_MAX, "{}", NULL, 0);
    expect_failure(path, SL_EFORMAT, "header of 18446744073709551615 bytes: more than", NULL);
    st_write_raw_sized(path, UINT64_MAX - 7, "{}", NULL, 0);
    expect_failure(path, SL_EFORMAT, "header of 18446744073709551608 bytes: more than", NULL);
    st_write_raw_sized(path, 1, "{}", NULL, 0);
    expect_failure(path, SL_EFORMAT, path, "line 1", NULL);
}

static void test_no_file(void **state)
{
    (void)state;
    expect_failure(in_temp("none.safetensors"), SL_EIO, "none.safetensors", NULL);
    expect_failure(temp, SL_EIO, temp, "neither " INDEX " nor model.safetensors", NULL);
    assert_int_equal(mkdir(in_temp("model.safetensors"), 0700), 0);
    expect_failure(temp, SL_EIO, "model.safetensors: not a regular file", NULL);
}

/* ---- shards ---------------------------------------------------------------------------------- */

/* A shard of one-byte tensors named by the letters of `names`. */
static void write_shard(const char *file, const char *names)
{
    st_writer *w = st_writer_create();
    for (const char *c = names; *c; c++) {
        char name[2] = {*c, '\0'};
        st_writer_add(w, name, "U8", 1, (uint64_t[]){1}, NULL, 1);
    }
    st_writer_save(w, in_temp(file));
    st_writer_destroy(w);
}

static void test_shards(void **state)
{
    (void)state;
    assert_int_equal(mkdir(in_temp("sub"), 0700), 0);
    write_shard("two.safetensors", "ca");
    write_shard("sub/one.safetensors", "bdx"); /* x is not in the index: taken too */
    write_shard("mtp.safetensors", "y");       /* nor is this file: left alone */
    write_shard("model.safetensors", "z");     /* the index outranks it */
    const st_index_entry entries[] = {
        {"a", "two.safetensors"},
        {"b", "sub/one.safetensors"},
        {"c", "two.safetensors"},
        {"d", "sub/one.safetensors"},
    };
    st_write_index(in_temp(INDEX), entries, 4);
    sl__st_set set;
    open_good(&set, temp);
    assert_int_equal(set.file_count, 2);
    assert_int_equal(set.tensor_count, 5);
    assert_string_equal(set.files[0].path, in_temp("sub/one.safetensors"));
    assert_string_equal(set.files[1].path, in_temp("two.safetensors"));
    assert_int_equal(sl__st_find(&set, "a")->file, 1);
    assert_int_equal(sl__st_find(&set, "c")->file, 1);
    assert_int_equal(sl__st_find(&set, "x")->file, 0);
    assert_null(sl__st_find(&set, "y"));
    assert_null(sl__st_find(&set, "z"));
    sl__st_close(&set);
}

static void test_lying_index(void **state)
{
    (void)state;
    write_shard("one.safetensors", "ab");
    write_shard("two.safetensors", "cd");
    static const struct {
        const char *tensor, *file, *text, *more;
        sl_status status;
    } lies[] = {
        {"n", "one.safetensors", "tensor n is not in one.safetensors, nor in any", INDEX,
         SL_EFORMAT},
        {"c", "one.safetensors", "tensor c is not in one.safetensors but in", "two.safetensors",
         SL_EFORMAT},
        {"n", "three.safetensors", "three.safetensors: is missing", INDEX, SL_EIO},
        {"n", "../one.safetensors", "leads out of the folder", "../one.safetensors", SL_EFORMAT},
        {"n", "sub/../one.safetensors", "leads out of the folder", "tensor n", SL_EFORMAT},
        {"n", "..", "leads out of the folder", "tensor n", SL_EFORMAT},
        {"n", "/etc/passwd", "leads out of the folder", "/etc/passwd", SL_EFORMAT},
        {"n", "", "tensor n: expected a file name", INDEX, SL_EFORMAT},
        {"n", ".", "not a regular file", NULL, SL_EIO},
        {"n", INDEX, INDEX, "not a safetensors file?", SL_EFORMAT},
        /* The same file under a second name holds every tensor twice. */
        {"a", "./one.safetensors", "occurs in", "./one.safetensors", SL_EFORMAT},
    };
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        const st_index_entry entries[] = {
            {"b", "one.safetensors"},
            {"d", "two.safetensors"},
            {lies[i].tensor, lies[i].file},
        };
        st_write_index(in_temp(INDEX), entries, 3);
        expect_failure(temp, lies[i].status, lies[i].text, lies[i].more, NULL);
    }
}

static void test_broken_index(void **state)
{
    (void)state;
    static const struct {
        const char *json, *text;
    } broken[] = {
        {"", "line 1"},
        {"[]", "weight_map: expected an object"},
        {"{}", "weight_map: expected an object"},
        {"{\"weight_map\":[]}", "weight_map: expected an object"},
        {"{\"weight_map\":{}}", "weight_map: names no tensor"},
        {"{\"weight_map\":{\"n\":3}}", "tensor n: expected a file name"},
        {"{\"weight_map\":{\"n\":null}}", "tensor n: expected a file name"},
        {"{\"weight_map\":{\"n\":\"a\\u0000b\"}}", "tensor n: expected a file name"},
        {"{\"weight_map\":{\"n\":\"a\",\"n\":\"a\"}}", "duplicate"},
        {"{\"weight_map\":{\"n\":\"a\"}} x", "line 1"},
    };
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        st_write_bytes(in_temp(INDEX), broken[i].json, strlen(broken[i].json));
        expect_failure(temp, SL_EFORMAT, INDEX, broken[i].text, NULL);
    }
    char longest[SL_PATH_MAX + 1];
    memset(longest, 'n', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    st_write_index(in_temp(INDEX), &(st_index_entry){"n", longest}, 1);
    expect_failure(temp, SL_EFORMAT, INDEX, "tensor n: file name nnn", NULL);
}

static void test_twice_in_shards(void **state)
{
    (void)state;
    write_shard("one.safetensors", "ab");
    write_shard("two.safetensors", "bc");
    const st_index_entry entries[] = {
        {"a", "one.safetensors"}, {"b", "one.safetensors"}, {"c", "two.safetensors"}};
    st_write_index(in_temp(INDEX), entries, 3);
    expect_failure(temp, SL_EFORMAT, "one.safetensors: tensor b occurs in", "two.safetensors",
                   NULL);
}

static void test_broken_shard(void **state)
{
    (void)state;
    write_shard("one.safetensors", "ab");
    st_write_raw(in_temp("two.safetensors"), "{" T("c", 4, 0, 4) "}", NULL, 3);
    const st_index_entry entries[] = {{"a", "one.safetensors"}, {"c", "two.safetensors"}};
    st_write_index(in_temp(INDEX), entries, 2);
    expect_failure(temp, SL_EFORMAT, "two.safetensors: tensor c ends 1 bytes past", NULL);
}

/* ---- damage ---------------------------------------------------------------------------------- */

/* Parses a file that lies in memory as sl__st_open would, without the disk. */
static void parse_damaged(const uint8_t *bytes, size_t size)
{
    if (size < 8) return;
    uint64_t length = 0;
    for (unsigned i = 0; i < 8; i++) length |= (uint64_t)bytes[i] << (8 * i);
    if (length > size - 8) return;
    /* Exactly as long as it claims: a read past it is seen by the sanitizer. */
    char *json = malloc(length ? (size_t)length : 1);
    assert_non_null(json);
    memcpy(json, bytes + 8, (size_t)length);
    sl__arena arena;
    sl__arena_init(&arena, 0);
    sl__st_file file = {.path = (char[]){"damaged"}, .size = size};
    sl__st_set set = {.files = &file, .file_count = 1, .arena = &arena};
    sl_error err = {0};
    sl_status status = sl__st_parse_header(&set, 0, json, (size_t)length, size, &err);
    if (status == SL_OK) {
        uint64_t total = 8 + length;
        for (size_t i = 0; i < set.tensor_count; i++) {
            assert_true(set.tensors[i].offset >= 8 + length);
            assert_true(set.tensors[i].offset + set.tensors[i].bytes <= size);
            total += set.tensors[i].bytes;
        }
        assert_int_equal(total, size);
    } else {
        assert_int_equal(set.tensor_count, 0);
        assert_non_null(strstr(err.message, "damaged"));
    }
    sl__arena_free(&arena);
    free(json);
}

static uint8_t *small_file(size_t *size)
{
    st_writer *w = st_writer_create();
    st_writer_set_metadata(w, true);
    st_writer_add_f32(w, "b.weight", 2, (uint64_t[]){2, 3}, (float[]){1, 2, 3, 4, 5, 6});
    st_writer_add_bf16(w, "a", 1, (uint64_t[]){12}, (float[12]){0});
    st_writer_add(w, "e", "U8", 1, (uint64_t[]){0}, NULL, 0);
    uint8_t *bytes = st_writer_bytes(w, size);
    st_writer_destroy(w);
    return bytes;
}

static void test_truncated_everywhere(void **state)
{
    (void)state;
    size_t size;
    uint8_t *bytes = small_file(&size);
    for (size_t n = 0; n < size; n++) {
        st_write_bytes(in_temp("cut.safetensors"), bytes, n);
        expect_failure(in_temp("cut.safetensors"), SL_EFORMAT, "cut.safetensors", "truncated?",
                       NULL);
        parse_damaged(bytes, n);
    }
    /* The header alone cut short, with a length that says so: never a set. */
    uint64_t header = 0;
    for (unsigned i = 0; i < 8; i++) header |= (uint64_t)bytes[i] << (8 * i);
    while (bytes[8 + header - 1] == ' ') header--;
    for (uint64_t n = 0; n < header; n++) {
        char text[512];
        assert_true(n < sizeof text);
        memcpy(text, bytes + 8, (size_t)n);
        text[n] = '\0';
        st_write_raw(in_temp("cut.safetensors"), text, NULL, 48);
        expect_failure(in_temp("cut.safetensors"), SL_EFORMAT, "cut.safetensors", NULL);
    }
    free(bytes);
}

static void test_flipped_everywhere(void **state)
{
    (void)state;
    size_t size;
    uint8_t *bytes = small_file(&size);
    for (size_t bit = 0; bit < (size - 48) * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        parse_damaged(bytes, size);
        bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    /* Through the disk as well, for the bits of the length. */
    for (unsigned bit = 0; bit < 64; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        st_write_bytes(in_temp("flip.safetensors"), bytes, size);
        expect_failure(in_temp("flip.safetensors"), SL_EFORMAT, "flip.safetensors", NULL);
        bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    free(bytes);
}

/* A header that fails leaves the set as it was, and the next one still goes in. */
static void test_failed_header_leaves_set(void **state)
{
    (void)state;
    sl__arena arena;
    sl__arena_init(&arena, 0);
    sl__st_file files[] = {{.path = (char[]){"one"}}, {.path = (char[]){"two"}}};
    sl__st_set set = {.files = files, .file_count = 2, .arena = &arena};
    const char good[] = "{" T("a", 4, 0, 4) "}";
    const char bad[] = "{" T("b", 4, 0, 4) "," T("c", 1, 0, 1) "}";
    sl_error err = {0};
    assert_int_equal(
        sl__st_parse_header(&set, 0, good, sizeof good - 1, sizeof good + 11, &err), SL_OK);
    assert_int_equal(sl__st_parse_header(&set, 1, bad, sizeof bad - 1, sizeof bad + 11, &err),
                     SL_EFORMAT);
    assert_int_equal(set.tensor_count, 1);
    assert_string_equal(set.tensors[0].name, "a");
    sl_error_clear(&err);
    assert_int_equal(
        sl__st_parse_header(&set, 1, good, sizeof good - 1, sizeof good + 11, &err), SL_OK);
    assert_int_equal(set.tensor_count, 2);
    assert_int_equal(set.tensors[1].file, 1);
    assert_int_equal(sl__st_parse_header(&set, 1, good, sizeof good - 1, 8, &err), SL_EFORMAT);
    assert_non_null(strstr(err.message, "two: header of"));
    sl__arena_free(&arena);
}

/* ---- reference files ------------------------------------------------------------------------- */

static void test_demo(void **state)
{
    (void)state;
    char path[2048];
    if (!test_shared_path(path, sizeof path, "models/demo")) skip();
    sl__st_set set;
    open_good(&set, path);
    assert_int_equal(set.file_count, 2);
    assert_int_equal(set.tensor_count, 72 + 88);
    const sl__st_tensor *head = sl__st_find(&set, "lm_head.weight");
    assert_non_null(head);
    assert_int_equal(head->dtype, SL_BF16);
    assert_int_equal(head->dims, 2);
    assert_int_equal(head->shape[0], 8192);
    assert_int_equal(head->shape[1], 256);
    assert_int_equal(head->file, 0);
    assert_int_equal(head->offset, 8 + 9088);
    assert_int_equal(head->bytes, 4194304);
    const sl__st_tensor *norm =
        sl__st_find(&set, "model.language_model.layers.4.input_layernorm.weight");
    assert_non_null(norm);
    assert_int_equal(norm->file, 1);
    assert_int_equal(norm->dims, 1);
    assert_int_equal(norm->shape[0], 256);
    assert_int_equal(norm->offset, 8 + 10720);
    uint64_t total = 8 + 9088 + 8 + 10720;
    for (size_t i = 0; i < set.tensor_count; i++) total += set.tensors[i].bytes;
    assert_int_equal(total, set.files[0].size + set.files[1].size);
    sl__st_close(&set);
}

static void test_families(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        size_t tensors;
    } families[] = {
        {"deepseek_v3", 201}, {"glm4_moe", 209}, {"gpt_oss", 71},
        {"minimax_m2", 139},  {"mixtral", 127},  {"olmoe", 135},
        {"qwen3_moe", 135},   {"qwen3_next", 154}, {"qwen3_5_moe_text", 160},
    };
    char path[2048], name[128];
    if (!test_shared_path(path, sizeof path, "golden/families")) skip();
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        snprintf(name, sizeof name, "golden/families/%s/model.safetensors", families[i].name);
        assert_true(test_shared_path(path, sizeof path, name));
        sl__st_set set;
        open_good(&set, path);
        assert_int_equal(set.file_count, 1);
        assert_int_equal(set.tensor_count, families[i].tensors);
        const sl__st_tensor *head = sl__st_find(&set, "lm_head.weight");
        assert_non_null(head);
        assert_int_equal(head->shape[0], 512);
        assert_int_equal(head->shape[1], 128);
        sl__st_close(&set);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_temp, drop_temp)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_one_file),
        TEST(test_all_dtypes),
        TEST(test_odd_but_good),
        TEST(test_many_tensors),
        TEST(test_not_json),
        TEST(test_deep_nesting),
        TEST(test_wrong_members),
        TEST(test_wrong_numbers),
        TEST(test_wrong_layout),
        TEST(test_hostile_names),
        TEST(test_wrong_length),
        TEST(test_no_file),
        TEST(test_shards),
        TEST(test_lying_index),
        TEST(test_broken_index),
        TEST(test_twice_in_shards),
        TEST(test_broken_shard),
        TEST(test_truncated_everywhere),
        TEST(test_flipped_everywhere),
        TEST(test_failed_header_leaves_set),
        TEST(test_demo),
        TEST(test_families),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
