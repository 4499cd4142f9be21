/* The manifest of a pack: what it says is computed again and compared, and no bit of it is idle. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "pack_fixture.h"
#include "store/pack.h"
#include "store/pack_manifest.h"
#include "store_case.h"
#include "test_env.h"

static void load_manifest(const char *pack, sl__pack_manifest *m)
{
    char path[2048];
    size_t size;
    snprintf(path, sizeof path, "%s/manifest.json", pack);
    char *text = test_read_file(path, &size);
    sl_error err = {0};
    case_must(sl__pack_manifest_parse(m, text, size, path, &err), &err);
    free(text);
}

/* The text of the fixture's manifest, malloc'd. */
static char *manifest_text(size_t *size)
{
    pack_fixture_build(&case_fix, case_path("m"));
    return test_read_file(case_path("m/manifest.json"), size);
}

/* Parsing fails with a message that names the file, and leaves nothing behind. */
static void expect_damage(const char *text, size_t size, const char *what, size_t at)
{
    sl__pack_manifest m;
    sl_error err = {0};
    if (sl__pack_manifest_parse(&m, text, size, "M", &err) == SL_OK) {
        fail_msg("%s %zu was not noticed", what, at);
    }
    assert_true(err.status != SL_OK);
    if (strncmp(err.message, "M:", 2) != 0) fail_msg("no path: %s", err.message);
    assert_null(m.root);
    assert_null(m.arena);
}

static void every_flipped_bit_is_noticed(void **state)
{
    (void)state;
    size_t size;
    char *text = manifest_text(&size);
    for (size_t bit = 0; bit < size * 8; bit++) {
        if (test_fast() && bit % 7 != 0) continue;
        text[bit / 8] = (char)(text[bit / 8] ^ (1 << (bit % 8)));
        expect_damage(text, size, "bit", bit);
        text[bit / 8] = (char)(text[bit / 8] ^ (1 << (bit % 8)));
    }
    sl__pack_manifest m;
    sl_error err = {0};
    case_must(sl__pack_manifest_parse(&m, text, size, "M", &err), &err);
    sl__pack_manifest_free(&m);
    free(text);
}

static void every_truncation_is_noticed(void **state)
{
    (void)state;
    size_t size;
    char *text = manifest_text(&size);
    for (size_t n = 0; n < size; n++) {
        char *exact = malloc(n ? n : 1); /* so that a sanitizer sees a read too far */
        memcpy(exact, text, n);
        expect_damage(exact, n, "truncation", n);
        free(exact);
    }
    free(text);
}

/* A value by its path, "layers/1/parts/0/rows"; *parent and *last are what holds it. */
static json_t *look_up(json_t *root, const char *path, json_t **parent, char last[64])
{
    json_t *value = root;
    while (*path) {
        size_t n = strcspn(path, "/");
        snprintf(last, 64, "%.*s", (int)n, path);
        path += n + (path[n] == '/');
        *parent = value;
        value = json_is_array(value) ? json_array_get(value, (size_t)atoi(last))
                                     : json_object_get(value, last);
    }
    return value;
}

/* Replaces the value at path (json NULL: removes it), makes the manifest's own checksum right again
 * and expects an error that holds text. */
static void expect_lie(const char *path, const char *json, sl_status status, const char *text)
{
    json_t *root = json_load_file(case_path("m/manifest.json"), 0, NULL), *parent = NULL;
    char last[64];
    assert_non_null(root);
    (void)look_up(root, path, &parent, last);
    json_t *value = json ? json_loads(json, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL) : NULL;
    if (json && !value) fail_msg("not JSON: %s", json);
    if (json_is_array(parent)) {
        size_t i = (size_t)atoi(last);
        assert_int_equal(!value ? json_array_remove(parent, i)
                         : i < json_array_size(parent)
                             ? json_array_set_new(parent, i, value)
                             : json_array_append_new(parent, value), 0);
    } else {
        assert_int_equal(value ? json_object_set_new(parent, last, value)
                               : json_object_del(parent, last), 0);
    }
    char *lie;
    size_t size;
    sl_error err = {0};
    case_must(sl__pack_compose_text(root, "M", &lie, &size, &err), &err);
    json_decref(root);
    sl__pack_manifest m;
    sl_status got = sl__pack_manifest_parse(&m, lie, size, "M", &err);
    free(lie);
    if (got == SL_OK && status == SL_OK) {
        sl__pack_manifest_free(&m);
        return;
    }
    if (got != status) {
        fail_msg("%s = %s: got %s: %s", path, json, sl_status_name(got), err.message);
    }
    if (!strstr(err.message, text)) {
        fail_msg("%s = %s: '%s' is not in: %s", path, json, text, err.message);
    }
}

static void lies_in_the_head(void **state)
{
    (void)state;
    pack_fixture_build(&case_fix, case_path("m"));
    expect_lie("format", "\"tar\"", SL_EFORMAT, "M: format: expected \"sluice-pack\"");
    expect_lie("format", NULL, SL_EFORMAT, "format: expected a string");
    expect_lie("version", "3", SL_EUNSUPPORTED, "pack version 3");
    expect_lie("version", "0", SL_EFORMAT, "version");
    expect_lie("source", NULL, SL_EFORMAT, "source");
    expect_lie("config", NULL, SL_EFORMAT, "config: expected an object");
    expect_lie("config", "[]", SL_EFORMAT, "config: expected an object");
    expect_lie("generation_config", "7", SL_EFORMAT, "generation_config: expected an object");
    expect_lie("generation_config", "null", SL_OK, "");
    expect_lie("generation_config", NULL, SL_OK, "");
    expect_lie("provenance", NULL, SL_OK, "");
    expect_lie("quality", "{\"kl\": 0.01}", SL_OK, "");
    expect_lie("files", NULL, SL_EFORMAT, "files: expected an array");
    expect_lie("files", "{}", SL_EFORMAT, "files: expected an array");
    expect_lie("files", "[]", SL_EFORMAT, "files: 0 entries");
    expect_lie("tensors", NULL, SL_EFORMAT, "tensors: expected an array");
    expect_lie("layers", NULL, SL_EFORMAT, "layers: expected an array");
    sl__pack_manifest m;
    sl_error err = {0};
    case_expect(sl__pack_manifest_parse(&m, "[]", 2, "M", &err), &err, SL_EFORMAT,
                 "M: not an object", NULL);
}

static void lies_about_files(void **state)
{
    (void)state;
    pack_fixture_build(&case_fix, case_path("m"));
    /* In order: experts-000, -002, -005, resident, tokenizer. */
    expect_lie("files/0", "3", SL_EFORMAT, "file 0: name");
    expect_lie("files/0/name", "\"../../etc/passwd\"", SL_EFORMAT, "no name for a file of a pack");
    expect_lie("files/4/name", "\"manifest.json\"", SL_EFORMAT, "no name for a file of a pack");
    expect_lie("files/4/name", "\"resident.bin\"", SL_EFORMAT, "twice, or out of order");
    expect_lie("files/4/name", "\"a\"", SL_EFORMAT, "twice, or out of order");
    expect_lie("files/0/bytes", "12287", SL_EFORMAT, "12287 bytes where the layout gives 12288");
    expect_lie("files/0/bytes", "-1", SL_EFORMAT, "file experts-000.bin: bytes");
    expect_lie("files/0/bytes", "1125899906842625", SL_EFORMAT, "file experts-000.bin: bytes");
    expect_lie("files/3/bytes", "8192", SL_EFORMAT, "8192 bytes where the layout gives 4096");
    expect_lie("files/0/xxh3", "\"0123456789abcdef\"", SL_EFORMAT, "checksums belong to its parts");
    expect_lie("files/3/xxh3", "\"0123456789abcdef\"", SL_EFORMAT, "checksums belong to its parts");
    expect_lie("files/4/xxh3", "\"0123456789abcdeF\"", SL_EFORMAT, "file tokenizer.bin: xxh3");
    expect_lie("files/4/xxh3", "null", SL_EFORMAT, "5 without a checksum");
    expect_lie("files/4/xxh3", NULL, SL_EFORMAT, "without a checksum");
    expect_lie("files/3", NULL, SL_EFORMAT, "file resident.bin is not listed");
    expect_lie("files/1", NULL, SL_EFORMAT, "layer 2: file experts-002.bin is not listed");
    expect_lie("files/4", NULL, SL_OK, "");
    expect_lie("layers/2", NULL, SL_EFORMAT, "without a checksum");
}

static void lies_about_tensors(void **state)
{
    (void)state;
    pack_fixture_build(&case_fix, case_path("m"));
    expect_lie("tensors/1", "[]", SL_EFORMAT, "tensor 1: name");
    expect_lie("tensors/1/name", "\"norm.weight\"", SL_EFORMAT, "tensor norm.weight: twice");
    expect_lie("tensors/1/name", "\"\"", SL_EFORMAT, "tensor 1: the name is empty");
    expect_lie("tensors/1/name", "\"a\\u0000b\"", SL_EFORMAT, "tensor 1: name: expected a string");
    expect_lie("tensors/1/dtype", "\"q5\"", SL_EUNSUPPORTED, "tensor embed.weight: dtype: \"q5\"");
    expect_lie("tensors/1/dtype", "\"f32\"", SL_EFORMAT, "tensor embed.weight: bytes: 42");
    expect_lie("tensors/1/shape", "[7, 4]", SL_EFORMAT, "tensor embed.weight: bytes");
    expect_lie("tensors/1/shape", "[3, 7]", SL_OK, "");
    expect_lie("tensors/1/shape", "[21, 0]", SL_EFORMAT, "shape: expected whole numbers above 0");
    expect_lie("tensors/1/shape", "[-7, -3]", SL_EFORMAT, "shape: expected whole numbers above 0");
    expect_lie("tensors/1/shape", "[7, 3.0]", SL_EFORMAT, "shape: expected whole numbers above 0");
    expect_lie("tensors/1/shape", "[1,1,1,1,1,1,1,7,3]", SL_EFORMAT, "shape: 9 entries");
    expect_lie("tensors/1/shape", "[4294967296, 4294967296, 4]", SL_EFORMAT, "larger than any");
    expect_lie("tensors/1/shape", "21", SL_EFORMAT, "shape: expected an array");
    expect_lie("tensors/1/offset", "0", SL_EFORMAT, "offset: 0 where the layout gives 64");
    expect_lie("tensors/1/offset", "128", SL_EFORMAT, "offset: 128 where the layout gives 64");
    expect_lie("tensors/1/offset", "9223372036854775807", SL_EFORMAT, "where the layout gives 64");
    expect_lie("tensors/1/bytes", "41", SL_EFORMAT, "bytes: 41 where the layout gives 42");
    expect_lie("tensors/1/xxh3", "7", SL_EFORMAT, "tensor embed.weight: xxh3");
    expect_lie("tensors/1/xxh3", "\"0123456789abcde\"", SL_EFORMAT, "16 hexadecimal digits");
    expect_lie("tensors/0", NULL, SL_EFORMAT, "offset: 64 where the layout gives 0");
    expect_lie("tensors/3", NULL, SL_OK, ""); /* the file's size is rounded up */
}

static void lies_about_layers(void **state)
{
    (void)state;
    pack_fixture_build(&case_fix, case_path("m"));
    expect_lie("layers/1", "null", SL_EFORMAT, "entry 1 of layers: layer");
    expect_lie("layers/1/layer", "0", SL_EFORMAT, "layer 0: twice, or out of order");
    expect_lie("layers/1/layer", "4096", SL_EFORMAT, "entry 1 of layers: layer");
    expect_lie("layers/1/layer", "3", SL_EFORMAT, "layer 3: file: expected \"experts-003.bin\"");
    expect_lie("layers/1/file", "\"experts-000.bin\"", SL_EFORMAT, "expected \"experts-002.bin\"");
    expect_lie("layers/1/experts", "0", SL_EFORMAT, "layer 2: experts");
    expect_lie("layers/1/experts", "65537", SL_EFORMAT, "layer 2: experts");
    expect_lie("layers/1/experts", "3", SL_EFORMAT, "layer 2: file experts-002.bin");
    expect_lie("layers/1/stride", "12288", SL_EFORMAT, "12288 where the layout gives 16384");
    expect_lie("layers/1/record_bytes", "13952", SL_EFORMAT, "layer 2: record_bytes: 13952");
    expect_lie("layers/1/parts", "[]", SL_EFORMAT, "layer 2: parts: 0 entries");
    expect_lie("layers/1/parts/2", NULL, SL_EFORMAT, "layer 2: parts: 2 entries");
    expect_lie("layers/1/parts/0/role", "\"up\"", SL_EFORMAT, "part 0: expected role \"gate\"");
    expect_lie("layers/1/parts/0/dtype", "\"i8\"", SL_EUNSUPPORTED, "layer 2: gate");
    expect_lie("layers/1/parts/0/dtype", "\"q3\"", SL_EFORMAT, "layer 2: row_bytes");
    expect_lie("layers/1/parts/2/dtype", "\"q4\"", SL_EFORMAT, "layer 2: row_bytes");
    expect_lie("layers/1/parts/0/rows", "0", SL_EFORMAT, "layer 2: rows");
    expect_lie("layers/1/parts/0/rows", "4294967296", SL_EFORMAT, "layer 2: rows");
    expect_lie("layers/1/parts/0/cols", "129", SL_EFORMAT, "layer 2");
    expect_lie("layers/1/parts/1/offset", "4544", SL_EFORMAT, "offset: 4544 where the layout");
    expect_lie("layers/1/parts/1/row_bytes", "71", SL_EFORMAT, "row_bytes: 71 where the layout");
    expect_lie("layers/1/xxh3", NULL, SL_EFORMAT, "layer 2: xxh3: expected a string");
    expect_lie("layers/1/xxh3", "\"\"", SL_EFORMAT, "layer 2: xxh3: expected 16 hexadecimal");
    expect_lie("layers/1/xxh3", "\"0123456789abcdef0123456789abcde\"", SL_EFORMAT,
               "layer 2: xxh3: expected 16 hexadecimal digits for each of 2");
    expect_lie("layers/1/xxh3", "\"0123456789abcdef0123456789abcdef0123456789abcdef\"", SL_EFORMAT,
               "layer 2: xxh3");
    expect_lie("layers/1/xxh3", "\"0123456789abcdef0123456789abcdeg\"", SL_EFORMAT, "2: xxh3");
    expect_lie("layers/1/xxh3", "\"0123456789abcdef0123456789ABCDEF\"", SL_EFORMAT, "2: xxh3");
    expect_lie("layers/1/xxh3", "\"0123456789abcdef0123456789abcdef\"", SL_OK, "");
}

static void lies_about_planes_and_absent_parts(void **state)
{
    (void)state;
    case_fix.layers[1] = (sl__pack_layer_plan){
        .layer = 2, .expert_count = 2, .dtype = {SL_MXFP4, SL_MXFP4, SL_BF16}, .rows = {6, 0, 70},
        .cols = {70, 0, 3}};
    pack_fixture_build(&case_fix, case_path("m"));
    expect_lie("layers/1/parts/0/scales_offset", "384", SL_EFORMAT,
               "layer 2: scales_offset: 384 where the layout gives 320");
    expect_lie("layers/1/parts/0/scales_offset", NULL, SL_EFORMAT, "layer 2: scales_offset");
    expect_lie("layers/1/parts/0/scale_row_bytes", "2", SL_EFORMAT,
               "scale_row_bytes: 2 where the layout gives 3");
    expect_lie("layers/1/parts/0/scale_row_bytes", NULL, SL_EFORMAT, "layer 2: scale_row_bytes");
    expect_lie("layers/1/parts/0/dtype", "\"q4\"", SL_EFORMAT, "layer 2: row_bytes");
    expect_lie("layers/1/parts/2/dtype", "\"mxfp4\"", SL_EFORMAT, "layer 2: row_bytes");
    expect_lie("layers/1/parts/1/rows", "6", SL_EFORMAT, "layer 2: up is 6 x 0");
    expect_lie("layers/1/parts/1/cols", "70", SL_EFORMAT, "layer 2: up is 0 x 70");
    expect_lie("layers/1/parts/1/offset", "0", SL_EFORMAT, "offset: 0 where the layout gives 384");
    expect_lie("layers/1/parts/1/dtype", "\"i8\"", SL_EUNSUPPORTED, "layer 2: up");
    expect_lie("layers/1/parts/2/cols", "0", SL_EFORMAT, "layer 2: cols");
    expect_lie("tensors/1/dtype", "\"mxfp4\"", SL_EFORMAT, "bytes: 42 where the layout gives 112");
}

static void lies_about_scaling(void **state)
{
    (void)state;
    const sl__scaling scaling = {.type = SL_BF16, .group = 64, .group_rows = 1, .biases = true};
    case_fix.layers[1] = (sl__pack_layer_plan){
        .layer = 2, .expert_count = 2, .dtype = {SL_AFFINE4, SL_AFFINE4, SL_F8_E4M3},
        .rows = {6, 0, 70}, .cols = {128, 0, 64},
        .planes = {{.scaling = scaling}, {.first = 0}, {.scaling = scaling}}};
    case_fix.layers[1].planes[2].scaling.biases = false;
    case_fix.layers[1].planes[2].scaling.group_rows = 64;
    pack_fixture_build(&case_fix, case_path("m"));
    const char *const no_such = "affine4 has no such scales";
    /* 6 rows of 64 bytes, then of 4 and 4 */
    expect_lie("layers/1/parts/0/scales_offset", "448", SL_EFORMAT, "448 where the layout gives");
    expect_lie("layers/1/parts/0/biases_offset", "384", SL_EFORMAT, "384 where the layout gives");
    expect_lie("layers/1/parts/0/biases_offset", NULL, SL_EFORMAT, "layer 2: biases_offset");
    expect_lie("layers/1/parts/0/scaling", NULL, SL_EFORMAT, no_such);
    expect_lie("layers/1/parts/0/scaling", "7", SL_EFORMAT, "layer 2: ");
    expect_lie("layers/1/parts/0/scaling/group", "48", SL_EFORMAT, no_such);
    expect_lie("layers/1/parts/0/scaling/group", "8", SL_EFORMAT, no_such);
    expect_lie("layers/1/parts/0/scaling/group", "0", SL_EFORMAT, "layer 2: group");
    expect_lie("layers/1/parts/0/scaling/group", "32", SL_EFORMAT, "scale_row_bytes: 4 where");
    expect_lie("layers/1/parts/0/scaling/group_rows", "3", SL_EFORMAT, no_such);
    expect_lie("layers/1/parts/0/scaling/dtype", "\"q4\"", SL_EFORMAT, no_such);
    expect_lie("layers/1/parts/0/scaling/dtype", "\"f32\"", SL_EFORMAT, "layout gives");
    expect_lie("layers/1/parts/0/scaling/biases", "0", SL_EFORMAT, "layer 2: biases");
    expect_lie("layers/1/parts/0/scaling/biases", "false", SL_EFORMAT, "where the layout gives");
    expect_lie("layers/1/parts/2/scaling/biases", "true", SL_EFORMAT, "f8_e4m3 has no such");
    expect_lie("layers/1/parts/0/dtype", "\"bf16\"", SL_EFORMAT, "bf16 has no such scales");
    expect_lie("layers/1/parts/0/dtype", "\"mxfp4\"", SL_EFORMAT, "mxfp4 has no such scales");
    expect_lie("tensors/1/dtype", "\"affine4\"", SL_EFORMAT, no_such);
    expect_lie("tensors/1/scaling", "{\"dtype\": \"bf16\", \"group\": 64, \"group_rows\": 1, "
               "\"biases\": true}", SL_EFORMAT, "bf16 has no such scales");
}

static void the_manifest_guards_itself(void **state)
{
    (void)state;
    size_t size;
    char *text = manifest_text(&size);
    json_t *root = json_loadb(text, size, 0, NULL);
    sl__pack_manifest m;
    sl_error err = {0};
    /* How it is written down does not matter, what it says does. */
    char *compact = json_dumps(root, JSON_COMPACT | JSON_SORT_KEYS);
    case_must(sl__pack_manifest_parse(&m, compact, strlen(compact), "M", &err), &err);
    sl__pack_manifest_free(&m);
    free(compact);
    json_object_set_new(json_object_get(root, "config"), "model_type", json_string("other"));
    char *changed = json_dumps(root, 0);
    case_expect(sl__pack_manifest_parse(&m, changed, strlen(changed), "M", &err), &err,
                 SL_ECORRUPT, "M: the manifest differs from its own checksum", NULL);
    free(changed);
    json_object_set_new(root, "self", json_string("short"));
    changed = json_dumps(root, 0);
    sl_error_clear(&err);
    case_expect(sl__pack_manifest_parse(&m, changed, strlen(changed), "M", &err), &err, SL_EFORMAT,
                 "M: self", NULL);
    free(changed);
    json_decref(root);
    /* The last member, so that a reader's eye finds it. */
    assert_non_null(strstr(text + size - 40, "\"self\": \""));
    free(text);
}

/* Reals and names beyond ASCII keep their value, and thereby the checksum. */
static void configurations_survive_as_they_are(void **state)
{
    (void)state;
    json_t *config = json_loads("{\"rope_theta\": 1e7, \"eps\": 1e-06, \"x\": 0.1, \"y\": -0.0,"
                                " \"big\": 9007199254740993, \"n\": null, \"s\": \"\\u0000\\u00e9"
                                "\\ud83d\\ude00/\\\\\", \"nested\": [[], {}, [1.5e300]]}",
                                JSON_ALLOW_NUL, NULL);
    assert_non_null(config);
    case_fix.plan.config = config;
    case_fix.plan.source = "Qwen \xc3\xa9";
    pack_fixture_build(&case_fix, case_path("config"));
    sl__pack_manifest m;
    load_manifest(case_path("config"), &m);
    assert_true(json_equal(json_object_get(m.root, "config"), config));
    sl__pack_manifest_free(&m);
    json_decref(config);
}

#define WITH_TEMP(test) cmocka_unit_test_setup_teardown(test, case_begin, case_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_TEMP(every_flipped_bit_is_noticed),
        WITH_TEMP(every_truncation_is_noticed),
        WITH_TEMP(lies_in_the_head),
        WITH_TEMP(lies_about_files),
        WITH_TEMP(lies_about_tensors),
        WITH_TEMP(lies_about_layers),
        WITH_TEMP(lies_about_planes_and_absent_parts),
        WITH_TEMP(lies_about_scaling),
        WITH_TEMP(the_manifest_guards_itself),
        WITH_TEMP(configurations_survive_as_they_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
