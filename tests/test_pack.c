/* Writing packs: layout, manifest, journal, interruption at every place, a full disk. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/hash.h"
#include "pack_fixture.h"
#include "store/pack.h"
#include "store/pack_layout.h"
#include "store_case.h"
#include "test_env.h"

static sl__pack_writer *open_writer(const char *dst)
{
    sl__pack_writer *w = NULL;
    sl_error err = {0};
    case_must(sl__pack_writer_open(&w, dst, &case_fix.plan, &err), &err);
    return w;
}

static void finish_and_close(sl__pack_writer *w)
{
    sl_error err = {0};
    case_must(pack_fixture_finish(&case_fix, w, &err), &err);
    sl__pack_writer_close(w);
}

static const char *const pack_files[] = {"manifest.json",   "resident.bin",    "experts-000.bin",
                                         "experts-002.bin", "experts-005.bin", "tokenizer.bin"};
#define PACK_FILES (sizeof pack_files / sizeof pack_files[0])

/* Both folders hold the same files with the same bytes, and nothing of the writing is left. */
static void assert_same_pack(const char *a, const char *b)
{
    for (size_t i = 0; i < PACK_FILES; i++) {
        char path[2][2048];
        size_t size[2];
        snprintf(path[0], sizeof path[0], "%s/%s", a, pack_files[i]);
        snprintf(path[1], sizeof path[1], "%s/%s", b, pack_files[i]);
        char *x = test_read_file(path[0], &size[0]), *y = test_read_file(path[1], &size[1]);
        if (size[0] != size[1] || memcmp(x, y, size[0]) != 0) fail_msg("%s differs", pack_files[i]);
        free(x);
        free(y);
    }
    char left[2048];
    snprintf(left, sizeof left, "%s/journal.jsonl", a);
    assert_false(sl__file_exists(left));
    snprintf(left, sizeof left, "%s.partial", a);
    assert_false(sl__file_exists(left));
}

static void flip(const char *path, long offset)
{
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, offset, SEEK_SET), 0);
    int c = fgetc(f);
    assert_int_equal(fseek(f, offset, SEEK_SET), 0);
    fputc(c ^ 0x10, f);
    assert_int_equal(fclose(f), 0);
}

/* ---- layout ---------------------------------------------------------------------------------- */

static void layout_of_a_record(void **state)
{
    (void)state;
    const sl__dtype dtype[] = {SL_Q4, SL_Q4, SL_Q8};
    const uint32_t rows[] = {64, 64, 70}, cols[] = {70, 70, 64};
    sl__expert_layout l;
    sl_error err = {0};
    case_must(sl__expert_layout_init(&l, 3, dtype, rows, cols, NULL, NULL, "x", &err), &err);
    /* 70 columns are two blocks of 36 bytes. */
    assert_int_equal(l.part[0].row_bytes, 72);
    assert_int_equal(l.part[0].offset, 0);
    assert_int_equal(l.part[1].offset, 64 * 72);
    assert_int_equal(l.part[2].offset, 2 * 64 * 72);
    assert_int_equal(l.part[2].row_bytes, 68);
    assert_int_equal(l.record_bytes, (2 * 64 * 72 + 70 * 68 + 63) / 64 * 64);
    assert_int_equal(sl__pack_stride(&l), 4 * 4096);
    assert_int_equal(sl__pack_layer_bytes(&l), 12 * 4096);
}

static uint64_t draw(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return *seed >> 33;
}

static void layouts_hold_their_rules(void **state)
{
    (void)state;
    uint64_t seed = 7;
    for (int round = 0; round < 2000; round++) {
        sl__dtype dtype[SL_PART_COUNT];
        uint32_t rows[SL_PART_COUNT], cols[SL_PART_COUNT];
        for (int p = 0; p < SL_PART_COUNT; p++) {
            dtype[p] = (sl__dtype)(draw(&seed) % SL_AFFINE2);
            rows[p] = (uint32_t)(draw(&seed) % 300 + 1);
            cols[p] = (uint32_t)(draw(&seed) % 300 + 1);
        }
        sl__expert_layout l;
        sl_error err = {0};
        case_must(sl__expert_layout_init(&l, 1, dtype, rows, cols, NULL, NULL, "x", &err), &err);
        uint64_t end = 0;
        for (int p = 0; p < SL_PART_COUNT; p++) {
            assert_int_equal(l.part[p].offset % 64, 0);
            assert_true(l.part[p].offset >= end && l.part[p].offset < end + 64);
            end = l.part[p].offset + sl__part_bytes(&l.part[p]);
            bool apart = dtype[p] == SL_MXFP4;
            assert_int_equal(l.part[p].scale_row_bytes, apart ? (cols[p] + 31) / 32 : 0);
            if (!apart) continue;
            assert_int_equal(l.part[p].scales_offset % 64, 0);
            assert_true(l.part[p].scales_offset >= end && l.part[p].scales_offset < end + 64);
            end = l.part[p].scales_offset + sl__part_scale_bytes(&l.part[p]);
        }
        assert_true(l.record_bytes % 64 == 0 && l.record_bytes >= end);
        assert_true(l.record_bytes < end + 64);
        uint64_t stride = sl__pack_stride(&l);
        assert_true(stride % 4096 == 0 && stride >= l.record_bytes);
        assert_true(stride < l.record_bytes + 4096);
    }
}

static void layouts_beyond_bounds_are_refused(void **state)
{
    (void)state;
    sl__dtype dtype[] = {SL_F32, SL_F32, SL_F32};
    uint32_t rows[] = {4, 4, 4}, cols[] = {4, 4, 4};
    sl__expert_layout l;
    sl_error err = {0};
    case_expect(sl__expert_layout_init(&l, 0, dtype, rows, cols, NULL, NULL, "L", &err), &err,
                SL_EFORMAT, "L: 0 experts", NULL);
    sl_error_clear(&err);
    case_expect(sl__expert_layout_init(&l, 65537, dtype, rows, cols, NULL, NULL, "L", &err), &err,
                SL_EFORMAT, "65537 experts", NULL);
    sl_error_clear(&err);
    rows[1] = 0;
    case_expect(sl__expert_layout_init(&l, 1, dtype, rows, cols, NULL, NULL, "L", &err), &err,
                SL_EFORMAT, "up is 0 x 4", NULL);
    sl_error_clear(&err);
    cols[1] = 0; /* the one part that may be absent */
    case_must(sl__expert_layout_init(&l, 1, dtype, rows, cols, NULL, NULL, "L", &err), &err);
    assert_true(l.part[1].rows == 0 && sl__part_bytes(&l.part[1]) == 0 && l.record_bytes == 128);
    cols[1] = 4;
    for (int p = 0; p < SL_PART_COUNT; p += 2) {
        rows[1] = 4;
        rows[p] = cols[p] = 0;
        case_expect(sl__expert_layout_init(&l, 1, dtype, rows, cols, NULL, NULL, "L", &err), &err,
                SL_EFORMAT, "is 0 x 0", NULL);
        sl_error_clear(&err);
        rows[p] = cols[p] = 4;
    }
    rows[1] = cols[1] = UINT32_MAX;
    case_expect(sl__expert_layout_init(&l, 1, dtype, rows, cols, NULL, NULL, "L", &err), &err,
                SL_EFORMAT, "up is 4294967295", NULL);
    sl_error_clear(&err);
    rows[1] = cols[1] = 1u << 23; /* 2^48 bytes: a file, but not many times */
    case_must(sl__expert_layout_init(&l, 1, dtype, rows, cols, NULL, NULL, "L", &err), &err);
    case_expect(sl__expert_layout_init(&l, 16, dtype, rows, cols, NULL, NULL, "L", &err), &err,
                SL_EFORMAT, "more than a file holds", NULL);
    sl_error_clear(&err);
    rows[1] = cols[1] = 4;
    dtype[2] = SL_U8;
    case_expect(sl__expert_layout_init(&l, 1, dtype, rows, cols, NULL, NULL, "L", &err), &err,
                SL_EUNSUPPORTED, "down", NULL);
    uint64_t bytes;
    assert_false(sl__tensor_bytes(SL_F32, false, 9,
                                 (uint64_t[9]){1, 1, 1, 1, 1, 1, 1, 1, 1}, &bytes));
    assert_false(sl__tensor_bytes(SL_F32, false, 2, (uint64_t[2]){4, 0}, &bytes));
    assert_false(sl__tensor_bytes(SL_F32, false, 2, (uint64_t[2]){1ull << 40, 1ull << 40}, &bytes));
    assert_false(sl__tensor_bytes(SL_F32, false, 1, (uint64_t[1]){UINT64_MAX}, &bytes));
    assert_true(sl__tensor_bytes(SL_F32, false, 0, NULL, &bytes));
    assert_int_equal(bytes, 4);
}

static void names_of_files(void **state)
{
    (void)state;
    static const char *const good[] = {"tokenizer.bin", "chat_template.jinja", "a", "x.y-z_1"};
    static const char *const bad[] = {"",     ".",   "..",     ".hidden", "a/b",  "/a",
                                      "a\\b", "a b", "a\nb",   "\xc3\xa4", "a\x7f", "x.tmp",
                                      "manifest.json", "journal.jsonl"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_true(sl__pack_file_name_ok(good[i]));
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (sl__pack_file_name_ok(bad[i])) fail_msg("\"%s\" was accepted", bad[i]);
    }
    char longest[202];
    memset(longest, 'a', sizeof longest);
    longest[200] = '\0';
    assert_true(sl__pack_file_name_ok(longest));
    longest[200] = 'a';
    longest[201] = '\0';
    assert_false(sl__pack_file_name_ok(longest));
}

/* ---- writing --------------------------------------------------------------------------------- */

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

static void a_pack_holds_what_was_given(void **state)
{
    (void)state;
    const char *dst = case_path("model");
    pack_fixture_build(&case_fix, dst);
    assert_false(sl__file_exists(case_path("model.partial")));
    assert_false(sl__file_exists(case_path("model/journal.jsonl")));
    sl__pack_manifest m;
    load_manifest(dst, &m);
    assert_int_equal(m.file_count, 5);
    assert_int_equal(m.tensor_count, PACK_FIXTURE_TENSORS);
    assert_int_equal(m.layer_count, PACK_FIXTURE_LAYERS);
    assert_true(json_equal(json_object_get(m.root, "config"), case_fix.config));
    assert_true(json_equal(json_object_get(m.root, "generation_config"), case_fix.generation));
    assert_true(json_equal(json_object_get(m.root, "provenance"), case_fix.provenance));
    assert_string_equal(json_string_value(json_object_get(m.root, "source")), "tiny");
    size_t size;
    uint64_t total = 0;
    char *resident = test_read_file(case_path("model/resident.bin"), &size);
    assert_int_equal(size, 4096);
    for (size_t i = 0; i < m.tensor_count; i++) {
        const sl__tensor *t = &m.tensors[i];
        size_t plan = 0;
        while (strcmp(case_fix.tensors[plan].name, t->name) != 0) plan++;
        uint64_t bytes;
        uint8_t *data = pack_fixture_tensor(&case_fix, plan, &bytes);
        assert_int_equal(t->extent.bytes, bytes);
        total += bytes;
        assert_int_equal(t->extent.offset % 64, 0);
        assert_int_equal(t->dtype, case_fix.tensors[plan].dtype);
        assert_memory_equal(resident + t->extent.offset, data, bytes);
        assert_true(t->has_checksum && t->checksum == sl__hash64(data, bytes));
        assert_string_equal(m.files[t->extent.file].name, "resident.bin");
        free(data);
    }
    free(resident);
    for (size_t i = 0; i < m.layer_count; i++) {
        const sl__expert_layout *l = &m.layers[i].layout;
        uint64_t stride = sl__pack_stride(l);
        char name[64];
        snprintf(name, sizeof name, "model/%s", m.files[m.layers[i].file].name);
        char *file = test_read_file(case_path(name), &size);
        assert_int_equal(size, stride * l->expert_count);
        total += l->record_bytes * l->expert_count;
        for (uint32_t e = 0; e < l->expert_count; e++) {
            uint8_t *record = pack_fixture_record(l, m.layers[i].layer, e);
            assert_memory_equal(file + e * stride, record, l->record_bytes);
            assert_int_equal(m.layers[i].checksums[e], sl__hash64(record, l->record_bytes));
            free(record);
        }
        free(file);
    }
    assert_int_equal(total, sl__pack_plan_bytes(&case_fix.plan));
    sl__pack_manifest_free(&m);
    sl__pack_manifest_free(&m); /* a freed one may be freed again */
}

static void the_same_plan_gives_the_same_bytes(void **state)
{
    (void)state;
    pack_fixture_build(&case_fix, case_path("one"));
    pack_fixture_build(&case_fix, case_path("two///")); /* slashes at the end mean nothing */
    assert_same_pack(case_path("one"), case_path("two"));
}

static void tensors_may_come_in_parts(void **state)
{
    (void)state;
    sl_error err = {0};
    pack_fixture_build(&case_fix, case_path("whole"));
    sl__pack_writer *w = open_writer(case_path("parts"));
    case_must(sl__pack_writer_resident_begin(w, &err), &err);
    for (size_t i = 0; i < PACK_FIXTURE_TENSORS; i++) {
        uint64_t bytes, part = i == 2 ? 2 * 68 : 3;
        uint8_t *data = pack_fixture_tensor(&case_fix, i, &bytes);
        for (uint64_t at = 0; at < bytes; at += part) {
            uint64_t n = bytes - at < part ? bytes - at : part;
            case_must(sl__pack_writer_tensor(w, i, data + at, n, &err), &err);
        }
        free(data);
    }
    case_must(sl__pack_writer_resident_end(w, &err), &err);
    finish_and_close(w);
    assert_same_pack(case_path("whole"), case_path("parts"));
}

static void a_pack_may_hold_no_tensor_and_no_layer(void **state)
{
    (void)state;
    case_fix.plan.tensor_count = case_fix.plan.layer_count = 0;
    case_fix.plan.generation = case_fix.plan.provenance = NULL;
    assert_int_equal(sl__pack_plan_bytes(&case_fix.plan), 0);
    pack_fixture_build(&case_fix, case_path("empty"));
    sl__pack_manifest m;
    load_manifest(case_path("empty"), &m);
    assert_int_equal(m.tensor_count + m.layer_count, 0);
    assert_null(json_object_get(m.root, "generation_config"));
    sl__pack_manifest_free(&m);
}

static void plans_are_checked_first(void **state)
{
    (void)state;
    sl__pack_writer *w = NULL;
    sl_error err = {0};
    char dst[2048];
    snprintf(dst, sizeof dst, "%s", case_path("never"));
#define REFUSED(status, ...)                                                                       \
    do {                                                                                           \
        sl_error_clear(&err);                                                                      \
        sl_status got_ = sl__pack_writer_open(&w, dst, &case_fix.plan, &err);                      \
        case_expect(got_, &err, status, dst, __VA_ARGS__, NULL);                                   \
        assert_false(sl__file_exists(case_path("never.partial")));                                 \
        pack_fixture_free(&case_fix);                                                              \
        pack_fixture_init(&case_fix);                                                              \
    } while (0)
    case_fix.tensors[1].name = "norm.weight";
    REFUSED(SL_EFORMAT, "tensor norm.weight: twice");
    case_fix.tensors[1].name = "";
    REFUSED(SL_EFORMAT, "the name is empty");
    case_fix.tensors[1].name = "caf\xe9";
    REFUSED(SL_EINVAL, "not UTF-8");
    case_fix.plan.source = "\xff";
    REFUSED(SL_EINVAL, "source", "not UTF-8");
    case_fix.plan.fingerprint = "\xff";
    REFUSED(SL_EINVAL, "fingerprint", "not UTF-8");
    case_fix.tensors[2].shape[0] = 0;
    assert_true(sl__pack_plan_bytes(&case_fix.plan) == UINT64_MAX);
    REFUSED(SL_EINVAL, "tensor q.weight");
    case_fix.tensors[2].shape[0] = UINT64_MAX;
    REFUSED(SL_EINVAL, "tensor q.weight");
    case_fix.tensors[2].dims = 9;
    REFUSED(SL_EINVAL, "tensor q.weight");
    case_fix.layers[1].dtype[2] = SL_I64;
    assert_true(sl__pack_plan_bytes(&case_fix.plan) == UINT64_MAX);
    REFUSED(SL_EUNSUPPORTED, "layer 2: down");
    case_fix.layers[1].expert_count = 0;
    REFUSED(SL_EFORMAT, "layer 2: 0 experts");
    case_fix.layers[1].layer = 0;
    REFUSED(SL_EINVAL, "layer 0: twice, or out of order");
    case_fix.layers[2].layer = 1;
    REFUSED(SL_EINVAL, "layer 1: twice, or out of order");
    case_fix.layers[2].layer = 4096;
    REFUSED(SL_EFORMAT, "layer: expected a whole number from 0 to 4095");
#undef REFUSED
}

static void steps_out_of_turn_are_refused(void **state)
{
    (void)state;
    sl_error err = {0};
    sl__pack_writer *w = open_writer(case_path("turns"));
    uint64_t bytes;
    uint8_t *data = pack_fixture_tensor(&case_fix, 0, &bytes);
    uint8_t *record = pack_fixture_record(sl__pack_writer_layout(w, 0), 0, 0);
    assert_null(sl__pack_writer_layout(w, 1));
#define REFUSED(call)                                                                              \
    do {                                                                                           \
        sl_error_clear(&err);                                                                      \
        case_expect((call), &err, SL_EINVAL, "turns.partial", NULL);                              \
    } while (0)
    REFUSED(sl__pack_writer_tensor(w, 0, data, bytes, &err));
    REFUSED(sl__pack_writer_resident_end(w, &err));
    REFUSED(sl__pack_writer_layer_begin(w, 1, &err));
    REFUSED(sl__pack_writer_record(w, 0, 0, record, &err));
    REFUSED(sl__pack_writer_layer_end(w, 0, &err));
    REFUSED(sl__pack_writer_commit(w, &err));
    sl_error_clear(&err);
    case_must(sl__pack_writer_resident_begin(w, &err), &err);
    REFUSED(sl__pack_writer_layer_begin(w, 0, &err));
    REFUSED(sl__pack_writer_tensor(w, 1, data, bytes, &err)); /* gives the file up */
    assert_false(sl__file_exists(case_path("turns.partial/resident.bin")));
    sl_error_clear(&err);
    case_must(sl__pack_writer_resident_begin(w, &err), &err);
    REFUSED(sl__pack_writer_tensor(w, 0, data, bytes + 1, &err));
    sl_error_clear(&err);
    case_must(sl__pack_writer_layer_begin(w, 0, &err), &err);
    case_must(sl__pack_writer_record(w, 0, 0, record, &err), &err);
    REFUSED(sl__pack_writer_record(w, 0, 2, record, &err));
    sl_error_clear(&err);
    case_must(sl__pack_writer_layer_begin(w, 0, &err), &err);
    REFUSED(sl__pack_writer_layer_end(w, 0, &err)); /* experts are missing */
    assert_false(sl__file_exists(case_path("turns.partial/experts-000.bin")));
    sl_error_clear(&err);
    case_must(pack_fixture_write_resident(&case_fix, w, &err), &err);
    REFUSED(sl__pack_writer_resident_begin(w, &err));
    sl_error_clear(&err);
    case_must(pack_fixture_write_layer(&case_fix, w, 0, &err), &err);
    REFUSED(sl__pack_writer_layer_begin(w, 0, &err));
    REFUSED(sl__pack_writer_commit(w, &err));
    assert_non_null(strstr(err.message, "layer 2 is not written yet"));
    REFUSED(sl__pack_writer_file(w, "../x", "", 0, &err));
    REFUSED(sl__pack_writer_file(w, "manifest.json", "", 0, &err));
    REFUSED(sl__pack_writer_file(w, "resident.bin", "", 0, &err));
    REFUSED(sl__pack_writer_file(w, "experts-002.bin", "", 0, &err));
#undef REFUSED
    finish_and_close(w);
    free(data);
    free(record);
    pack_fixture_build(&case_fix, case_path("plain"));
    assert_same_pack(case_path("turns"), case_path("plain"));
}

static void a_destination_that_exists_is_left_alone(void **state)
{
    (void)state;
    sl__pack_writer *w = NULL;
    sl_error err = {0};
    const char *dst = case_path("there");
    test_write_file(dst, "mine", 4);
    case_expect(sl__pack_writer_open(&w, dst, &case_fix.plan, &err), &err, SL_EINVAL, dst,
                 "already there", NULL);
    sl_error_clear(&err);
    unlink(dst);
    assert_int_equal(symlink("nowhere", dst), 0);
    case_expect(sl__pack_writer_open(&w, dst, &case_fix.plan, &err), &err, SL_EINVAL, dst,
                 "already there", NULL);
    sl_error_clear(&err);
    unlink(dst);
    /* It may also appear while the pack is written. */
    w = open_writer(dst);
    case_must(pack_fixture_write_resident(&case_fix, w, &err), &err);
    test_write_file(dst, "mine", 4);
    case_expect(pack_fixture_finish(&case_fix, w, &err), &err, SL_EINVAL, "already there", NULL);
    sl__pack_writer_close(w);
    size_t size;
    char *text = test_read_file(dst, &size);
    assert_string_equal(text, "mine");
    free(text);
    unlink(dst);
    w = open_writer(dst);
    assert_true(sl__pack_writer_has_resident(w) && sl__pack_writer_has_layer(w, 5));
    finish_and_close(w);
    sl_error_clear(&err);
    case_expect(sl__pack_writer_open(&w, case_path("no/such/folder"), &case_fix.plan, &err), &err,
                SL_EIO, "no/such/folder.partial: No such file or directory", NULL);
    sl_error_clear(&err);
    case_expect(sl__pack_writer_open(&w, "", &case_fix.plan, &err), &err, SL_EINVAL, NULL);
}

/* ---- resuming -------------------------------------------------------------------------------- */

/* Writes the first `files` of resident.bin and the layers. */
static void write_some(sl__pack_writer *w, size_t files)
{
    sl_error err = {0};
    if (files > 0) case_must(pack_fixture_write_resident(&case_fix, w, &err), &err);
    for (size_t i = 0; i + 1 < files; i++) {
        case_must(pack_fixture_write_layer(&case_fix, w, i, &err), &err);
    }
}

static size_t finished(const sl__pack_writer *w)
{
    size_t n = sl__pack_writer_has_resident(w);
    for (size_t i = 0; i < PACK_FIXTURE_LAYERS; i++) {
        n += sl__pack_writer_has_layer(w, case_fix.layers[i].layer);
    }
    return n;
}

static void a_pack_resumes_after_each_file(void **state)
{
    (void)state;
    pack_fixture_build(&case_fix, case_path("whole"));
    for (size_t files = 0; files <= 4; files++) {
        sl__pack_writer *w = open_writer(case_path("cut"));
        write_some(w, files);
        sl__pack_writer_close(w);
        assert_int_equal(sl__file_exists(case_path("cut.partial")), files > 0);
        assert_false(sl__file_exists(case_path("cut")));
        w = open_writer(case_path("cut"));
        assert_int_equal(finished(w), files);
        finish_and_close(w);
        assert_same_pack(case_path("cut"), case_path("whole"));
        test_remove_tree(case_path("cut"));
    }
}

static void a_killed_process_leaves_what_can_be_resumed(void **state)
{
    (void)state;
    pack_fixture_build(&case_fix, case_path("whole"));
    for (size_t files = 0; files < 4; files++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            sl__pack_writer *w = open_writer(case_path("killed"));
            sl_error err = {0};
            write_some(w, files);
            /* In the middle of the next one. */
            sl_status s =
                files == 0 ? sl__pack_writer_resident_begin(w, &err)
                           : sl__pack_writer_layer_begin(w, case_fix.layers[files - 1].layer, &err);
            if (s == SL_OK) s = sl__pack_writer_file(w, "old.txt", "old", 3, &err);
            _exit(s == SL_OK ? 0 : 1);
        }
        int how;
        assert_int_equal(waitpid(child, &how, 0), child);
        assert_true(WIFEXITED(how) && WEXITSTATUS(how) == 0);
        assert_true(sl__file_exists(case_path("killed.partial/old.txt")));
        sl__pack_writer *w = open_writer(case_path("killed"));
        assert_int_equal(finished(w), files);
        assert_false(sl__file_exists(case_path("killed.partial/old.txt")));
        assert_false(sl__file_exists(case_path("killed.partial/experts-005.bin")));
        finish_and_close(w);
        assert_same_pack(case_path("killed"), case_path("whole"));
        test_remove_tree(case_path("killed"));
    }
}

/* An interrupted pack with everything but layer 5; its journal, malloc'd. */
static char *interrupt(const char *dst, size_t *journal_size)
{
    char path[2048];
    sl__pack_writer *w = open_writer(dst);
    write_some(w, 3);
    sl__pack_writer_close(w);
    snprintf(path, sizeof path, "%s.partial/journal.jsonl", dst);
    return test_read_file(path, journal_size);
}

static void a_torn_journal_loses_its_last_line_only(void **state)
{
    (void)state;
    size_t size, kept;
    pack_fixture_build(&case_fix, case_path("whole"));
    for (size_t cut = 0;; cut += 5) {
        char *journal = interrupt(case_path("torn"), &size);
        size_t lines = 0;
        for (size_t i = 0; i < cut && i < size; i++) lines += journal[i] == '\n';
        if (cut < size) test_write_file(case_path("torn.partial/journal.jsonl"), journal, cut);
        free(journal);
        sl__pack_writer *w = open_writer(case_path("torn"));
        assert_int_equal(finished(w), cut >= size ? 3 : lines > 0 ? lines - 1 : 0);
        char *healed = test_read_file(case_path("torn.partial/journal.jsonl"), &kept);
        assert_true(kept > 0 && healed[kept - 1] == '\n');
        free(healed);
        if (cut % 20 == 0) {
            finish_and_close(w);
            assert_same_pack(case_path("torn"), case_path("whole"));
        } else {
            sl__pack_writer_close(w);
        }
        test_remove_tree(case_path("torn"));
        test_remove_tree(case_path("torn.partial"));
        if (cut >= size) break;
    }
}

static void a_strange_line_ends_the_journal(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "nonsense\n", "{}\n", "[]\n", "\n", "{\"file\":\"resident.bin\"}\n",
        "{\"file\":\"resident.bin\",\"bytes\":-1,\"xxh3\":\"\"}\n",
        "{\"file\":\"resident.bin\",\"bytes\":4096,\"xxh3\":\"0123\"}\n",
        "{\"file\":\"resident.bin\",\"bytes\":4096,\"xxh3\":\"0123456789abcdeX\"}\n",
    };
    /* Well-formed, but of files that the plan does not have, or not so: ignored. */
    static const char *const ignored[] = {
        "{\"file\":\"experts-007.bin\",\"bytes\":4096,\"xxh3\":\"0123456789abcdef\"}\n",
        "{\"file\":\"../etc\",\"bytes\":4096,\"xxh3\":\"\"}\n",
        "{\"file\":\"experts-000.bin\",\"bytes\":1,\"xxh3\":\"0123456789abcdef\"}\n",
        "{\"file\":\"experts-000.bin\",\"bytes\":12288,\"xxh3\":\"0123456789abcdef\"}\n",
        "{\"file\":\"resident.bin\",\"bytes\":4096,\"xxh3\":\"0123456789abcdef\"}\n",
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0] + sizeof ignored / sizeof ignored[0];
         i++) {
        size_t size, strange = sizeof lines / sizeof lines[0];
        const char *line = i < strange ? lines[i] : ignored[i - strange];
        char *journal = interrupt(case_path("odd"), &size);
        char *second = strchr(journal, '\n') + 1;
        char *text = malloc(size + 200);
        int n = snprintf(text, size + 200, "%.*s%s%s", (int)(second - journal), journal, line,
                         second);
        test_write_file(case_path("odd.partial/journal.jsonl"), text, (size_t)n);
        sl__pack_writer *w = open_writer(case_path("odd"));
        if (finished(w) != (i < strange ? 0 : 3)) fail_msg("%zu finished: %s", finished(w), line);
        finish_and_close(w);
        test_remove_tree(case_path("odd"));
        free(text);
        free(journal);
    }
}

static void damaged_files_are_written_again(void **state)
{
    (void)state;
    size_t size;
    pack_fixture_build(&case_fix, case_path("whole"));
    for (int how = 0; how < 6; how++) {
        free(interrupt(case_path("hurt"), &size));
        const char *resident = case_path("hurt.partial/resident.bin");
        const char *experts = case_path("hurt.partial/experts-002.bin");
        switch (how) {
        case 0: flip(resident, 19); break;
        case 1: flip(experts, 4 * 4096 + 3); break;
        case 2: assert_int_equal(truncate(experts, 4096), 0); break;
        case 3: assert_int_equal(unlink(experts), 0); break;
        case 4: assert_int_equal(truncate(resident, 4097), 0); break;
        case 5:
            assert_int_equal(unlink(experts), 0);
            assert_int_equal(symlink("experts-000.bin", experts), 0);
            break;
        }
        sl__pack_writer *w = open_writer(case_path("hurt"));
        bool resident_hurt = how == 0 || how == 4;
        assert_int_equal(sl__pack_writer_has_resident(w), !resident_hurt);
        assert_int_equal(sl__pack_writer_has_layer(w, 2), resident_hurt);
        assert_true(sl__pack_writer_has_layer(w, 0));
        finish_and_close(w);
        assert_same_pack(case_path("hurt"), case_path("whole"));
        test_remove_tree(case_path("hurt"));
    }
}

static void another_pack_is_not_resumed(void **state)
{
    (void)state;
    sl__pack_writer *w = NULL;
    sl_error err = {0};
    const char *dst = case_path("mine");
    size_t size;
    free(interrupt(dst, &size));
    case_fix.plan.fingerprint = "tiny q8";
    case_expect(sl__pack_writer_open(&w, dst, &case_fix.plan, &err), &err, SL_EINVAL,
                 "mine.partial/journal.jsonl", "another source or other options", NULL);
    case_fix.plan.fingerprint = "tiny q4";
    case_fix.layers[0].dtype[0] = SL_F16; /* the same bytes, another meaning */
    sl_error_clear(&err);
    case_expect(sl__pack_writer_open(&w, dst, &case_fix.plan, &err), &err, SL_EINVAL,
                 "another source or other options", NULL);
    case_fix.layers[0].dtype[0] = SL_BF16;
    case_fix.plan.provenance = NULL; /* when and by what is no reason */
    w = open_writer(dst);
    assert_int_equal(finished(w), 3);
    sl__pack_writer_close(w);
}

static void a_journal_without_a_finished_file_is_begun_anew(void **state)
{
    (void)state;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        open_writer(case_path("anew"));
        _exit(0);
    }
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_true(sl__file_exists(case_path("anew.partial/journal.jsonl")));
    case_fix.plan.fingerprint = "other";
    sl__pack_writer *w = open_writer(case_path("anew"));
    finish_and_close(w);
}

static void a_folder_of_somebody_else_is_left_alone(void **state)
{
    (void)state;
    sl__pack_writer *w = NULL;
    sl_error err = {0};
    assert_int_equal(mkdir(case_path("x.partial"), 0777), 0);
    test_write_file(case_path("x.partial/thesis.txt"), "x", 1);
    case_expect(sl__pack_writer_open(&w, case_path("x"), &case_fix.plan, &err), &err, SL_EINVAL,
                 "x.partial: is there, but is no interrupted pack", NULL);
    assert_true(sl__file_exists(case_path("x.partial/thesis.txt")));
    unlink(case_path("x.partial/thesis.txt"));
    w = open_writer(case_path("x")); /* an empty one is taken */
    sl__pack_writer_close(w);
    assert_false(sl__file_exists(case_path("x.partial")));
    test_write_file(case_path("x.partial"), "x", 1);
    sl_error_clear(&err);
    case_expect(sl__pack_writer_open(&w, case_path("x"), &case_fix.plan, &err), &err, SL_EINVAL,
                 "x.partial: is there, but is no folder", NULL);
    sl__pack_writer_close(NULL);
}

static void two_writers_exclude_each_other(void **state)
{
    (void)state;
    sl__pack_writer *second = NULL;
    sl_error err = {0};
    sl__pack_writer *first = open_writer(case_path("both"));
    case_expect(sl__pack_writer_open(&second, case_path("both"), &case_fix.plan, &err), &err,
                SL_EINVAL, "both.partial", "by another process", NULL);
    assert_true(sl__file_exists(case_path("both.partial/journal.jsonl")));
    write_some(first, 2);
    sl_error_clear(&err);
    case_expect(sl__pack_writer_open(&second, case_path("both"), &case_fix.plan, &err), &err,
                SL_EINVAL, "by another process", NULL);
    finish_and_close(first);
    pack_fixture_build(&case_fix, case_path("whole"));
    assert_same_pack(case_path("both"), case_path("whole"));
}

/* ---- a disk that fills up -------------------------------------------------------------------- */

/* A limit on the size of files behaves like a full disk, one file at a time. */
static void limit_files(rlim_t bytes)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes < limit.rlim_max ? bytes : limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void a_full_disk_leaves_what_can_be_resumed(void **state)
{
    (void)state;
    static const rlim_t limits[] = {0,    1,    100,  140,   300,   400,   1000,  4095, 4096,
                                    4097, 8192, 9000, 12287, 12288, 16384, 32767, 32768};
    void (*before)(int) = signal(SIGXFSZ, SIG_IGN);
    pack_fixture_build(&case_fix, case_path("whole"));
    bool failed_open = false, failed_layer = false, succeeded = false;
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        sl__pack_writer *w = NULL;
        sl_error err = {0};
        limit_files(limits[i]);
        sl_status status = sl__pack_writer_open(&w, case_path("full"), &case_fix.plan, &err);
        failed_open = failed_open || status != SL_OK;
        if (status == SL_OK) status = pack_fixture_finish(&case_fix, w, &err);
        limit_files(RLIM_INFINITY);
        if (status == SL_OK) {
            succeeded = true;
        } else {
            case_expect(status, &err, SL_EIO, "full.partial/", ": File too large", NULL);
            assert_false(sl__file_exists(case_path("full")));
            failed_layer = failed_layer || strstr(err.message, "experts-002.bin");
            if (w) {
                for (size_t f = 0; f < 4; f++) {
                    char name[64];
                    snprintf(name, sizeof name, "full.partial/%s", pack_files[f + 1]);
                    bool done = f == 0 ? sl__pack_writer_has_resident(w)
                                       : sl__pack_writer_has_layer(w, case_fix.layers[f - 1].layer);
                    assert_int_equal(sl__file_exists(case_path(name)), done);
                }
            }
            sl__pack_writer_close(w);
            w = open_writer(case_path("full"));
            sl_error_clear(&err);
            case_must(pack_fixture_finish(&case_fix, w, &err), &err);
        }
        sl__pack_writer_close(w);
        assert_same_pack(case_path("full"), case_path("whole"));
        test_remove_tree(case_path("full"));
    }
    signal(SIGXFSZ, before);
    assert_true(failed_open && failed_layer && succeeded);
}

static void a_writer_goes_on_after_a_full_disk(void **state)
{
    (void)state;
    sl_error err = {0};
    void (*before)(int) = signal(SIGXFSZ, SIG_IGN);
    sl__pack_writer *w = open_writer(case_path("again"));
    write_some(w, 2);
    limit_files(5000);
    sl_status status = pack_fixture_write_layer(&case_fix, w, 1, &err);
    limit_files(RLIM_INFINITY);
    signal(SIGXFSZ, before);
    case_expect(status, &err, SL_EIO, "experts-002.bin: File too large", NULL);
    finish_and_close(w); /* the same writer, once there is room */
    pack_fixture_build(&case_fix, case_path("whole"));
    assert_same_pack(case_path("again"), case_path("whole"));
}

#define WITH_TEMP(test) cmocka_unit_test_setup_teardown(test, case_begin, case_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layout_of_a_record),
        cmocka_unit_test(layouts_hold_their_rules),
        cmocka_unit_test(layouts_beyond_bounds_are_refused),
        cmocka_unit_test(names_of_files),
        WITH_TEMP(a_pack_holds_what_was_given),
        WITH_TEMP(the_same_plan_gives_the_same_bytes),
        WITH_TEMP(tensors_may_come_in_parts),
        WITH_TEMP(a_pack_may_hold_no_tensor_and_no_layer),
        WITH_TEMP(plans_are_checked_first),
        WITH_TEMP(steps_out_of_turn_are_refused),
        WITH_TEMP(a_destination_that_exists_is_left_alone),
        WITH_TEMP(a_pack_resumes_after_each_file),
        WITH_TEMP(a_killed_process_leaves_what_can_be_resumed),
        WITH_TEMP(a_torn_journal_loses_its_last_line_only),
        WITH_TEMP(a_strange_line_ends_the_journal),
        WITH_TEMP(damaged_files_are_written_again),
        WITH_TEMP(another_pack_is_not_resumed),
        WITH_TEMP(a_journal_without_a_finished_file_is_begun_anew),
        WITH_TEMP(a_folder_of_somebody_else_is_left_alone),
        WITH_TEMP(two_writers_exclude_each_other),
        WITH_TEMP(a_full_disk_leaves_what_can_be_resumed),
        WITH_TEMP(a_writer_goes_on_after_a_full_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
