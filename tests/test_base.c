/* The base room: arena, buffer, checked sizes, files, JSON access, hash text, sizes, pool. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/buffer.h"
#include "base/checked.h"
#include "base/clock.h"
#include "base/fail.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/pages.h"
#include "base/sysmem.h"
#include "test_env.h"

static void first_failure_is_kept_in_one_line(void **state)
{
    (void)state;
    sl_error err = {0};
    assert_int_equal(sl__fail(&err, SL_EFORMAT, "a\nb %d", 7), SL_EFORMAT);
    assert_string_equal(err.message, "a?b 7");
    assert_int_equal(sl__fail(&err, SL_EIO, "later"), SL_EIO);
    assert_int_equal(err.status, SL_EFORMAT);
    assert_string_equal(err.message, "a?b 7");
    sl_error_clear(&err);
    assert_int_equal(err.status, SL_OK);
    assert_int_equal(sl__fail(NULL, SL_EIO, "nobody listens"), SL_EIO);
    char long_text[3000];
    memset(long_text, 'x', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = '\0';
    sl__fail(&err, SL_EIO, "%s", long_text);
    assert_int_equal(strlen(err.message), sizeof err.message - 1);
}

static void every_status_has_a_name(void **state)
{
    (void)state;
    for (int s = SL_ECANCELLED; s <= 0; s++)
        assert_int_equal(strncmp(sl_status_name((sl_status)s), "SL_", 3), 0);
    assert_true(strlen(sl_version()) >= 5);
}

static void arena_memory_is_aligned_zeroed_and_apart(void **state)
{
    (void)state;
    sl__arena arena;
    sl__arena_init(&arena, 256);
    unsigned char *seen[200];
    for (size_t i = 0; i < 200; i++) {
        size_t n = i * 7 % 500;
        seen[i] = sl__arena_alloc(&arena, n, 1);
        assert_non_null(seen[i]);
        assert_int_equal((uintptr_t)seen[i] % SL_ARENA_ALIGN, 0);
        for (size_t j = 0; j < n; j++)
            assert_int_equal(seen[i][j], 0);
        memset(seen[i], (int)i, n);
    }
    for (size_t i = 0; i < 200; i++) {
        for (size_t j = 0; j < i * 7 % 500; j++)
            assert_int_equal(seen[i][j], (unsigned char)i);
    }
    assert_string_equal(sl__arena_strndup(&arena, "abcdef", 3), "abc");
    assert_string_equal(sl__arena_strdup(&arena, ""), "");
    assert_null(sl__arena_alloc(&arena, SIZE_MAX / 2, 3));
    assert_null(sl__arena_alloc(&arena, SIZE_MAX, 1));
    sl__arena_free(&arena);
    assert_non_null(sl__arena_alloc(&arena, 1, 1));
    sl__arena_free(&arena);
}

static void buffer_stays_within_its_limit(void **state)
{
    (void)state;
    sl__buffer buf;
    sl__buffer_init(&buf, 10);
    assert_true(sl__buffer_append_str(&buf, "12345"));
    assert_true(sl__buffer_printf(&buf, "%d", 678));
    assert_string_equal(buf.data, "12345678");
    assert_false(sl__buffer_append_str(&buf, "abc"));
    assert_true(buf.failed);
    assert_false(sl__buffer_append_str(&buf, "a"));
    assert_string_equal(buf.data, "12345678");
    sl__buffer_clear(&buf);
    assert_true(sl__buffer_append(&buf, "a\0b", 3));
    assert_int_equal(buf.size, 3);
    sl__buffer_free(&buf);
}

static void sizes_do_not_wrap(void **state)
{
    (void)state;
    uint64_t r = 5;
    assert_false(sl__mul_u64(&r, UINT64_MAX / 2, 3));
    assert_false(sl__add_u64(&r, UINT64_MAX, 1));
    assert_false(sl__align_u64(&r, UINT64_MAX - 3, 4096));
    assert_int_equal(r, 5);
    assert_true(sl__align_u64(&r, 4097, 4096));
    assert_int_equal(r, 8192);
}

static void size_texts(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {{"0", 0},           {"4096", 4096},        {"512M", 512ull << 20},
                {"1.5G", 3ull << 29}, {"2GiB", 2ull << 30}, {"10kb", 10240},
                {"1T", 1ull << 40},   {"7B", 7}};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        uint64_t bytes = 1;
        assert_true(sl__parse_size(good[i].text, &bytes));
        assert_int_equal(bytes, good[i].bytes);
    }
    static const char *const bad[] = {"",     "M",    "-1",  "1e9", "0x10", "12Q", "1.2.3",
                                      "nan",  " 1",   "1 M", "1Mi", "inf",  "99999999999G"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        uint64_t bytes;
        assert_false(sl__parse_size(bad[i], &bytes));
    }
}

static void hash_text_round_trips(void **state)
{
    (void)state;
    char text[SL_HASH_TEXT];
    uint64_t back = 0;
    sl__hash_format(0x0123456789abcdefull, text);
    assert_string_equal(text, "0123456789abcdef");
    assert_true(sl__hash_parse(text, &back));
    assert_int_equal(back, 0x0123456789abcdefull);
    assert_false(sl__hash_parse("0123456789abcdeg", &back));
    assert_false(sl__hash_parse("0123456789abcde", &back));
    assert_false(sl__hash_parse("0123456789abcdef0", &back));
    assert_int_equal(sl__hash64("", 0), 0x2d06800538d394c2ull); /* XXH3's published value */
}

static void files_are_whole_or_not_there(void **state)
{
    (void)state;
    char dir[256], path[300], other[300];
    sl_error err = {0};
    test_temp_dir(dir, sizeof dir);
    snprintf(path, sizeof path, "%s/a.bin", dir);
    assert_int_equal(sl__file_write_atomic(path, "hello", 5, &err), SL_OK);
    char *data;
    size_t size;
    assert_int_equal(sl__file_read(path, 5, &data, &size, &err), SL_OK);
    assert_int_equal(size, 5);
    assert_string_equal(data, "hello");
    free(data);
    assert_int_equal(sl__file_read(path, 4, &data, &size, &err), SL_EFORMAT);
    assert_non_null(strstr(err.message, "a.bin"));
    sl_error_clear(&err);
    snprintf(other, sizeof other, "%s/none/a.bin", dir);
    assert_int_equal(sl__file_write_atomic(other, "x", 1, &err), SL_EIO);
    sl_error_clear(&err);
    assert_int_equal(sl__file_read(dir, 100, &data, &size, &err), SL_EIO);
    assert_non_null(strstr(err.message, "not a regular file"));
    sl_error_clear(&err);
    int fd;
    uint64_t bytes;
    assert_int_equal(sl__file_open(path, &fd, &bytes, &err), SL_OK);
    char part[8];
    assert_int_equal(sl__file_pread_all(fd, path, part, 3, 3, &err), SL_EFORMAT);
    assert_non_null(strstr(err.message, "ends early"));
    close(fd);
    assert_true(sl__file_is_dir(dir));
    assert_false(sl__file_exists(other));
    test_remove_tree(dir);
}

static void a_name_does_not_lead_out(void **state)
{
    (void)state;
    char out[64];
    static const char *const bad[] = {"", "/etc/passwd", "../x", "a/../b", "..", "a/.."};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(sl__path_join(out, sizeof out, "d", bad[i], NULL), SL_EINVAL);
    assert_int_equal(sl__path_join(out, sizeof out, "d/", "a..b/c", NULL), SL_OK);
    assert_string_equal(out, "d/a..b/c");
    assert_int_equal(sl__path_join(out, 4, "d", "long", NULL), SL_EINVAL);
}

static json_t *parse(const char *text)
{
    json_t *root = NULL;
    sl_error err = {0};
    assert_int_equal(sl__json_parse(text, strlen(text), "f.json", &root, &err), SL_OK);
    return root;
}

static void json_values_are_checked(void **state)
{
    (void)state;
    json_t *root = parse("{\"a\":3,\"b\":8.0,\"c\":-1,\"d\":1.5,\"e\":true,\"f\":\"x\",\"g\":null,"
                         "\"h\":\"a\\u0000b\",\"i\":1e300}");
    uint32_t u;
    double d;
    bool flag;
    const char *text;
    assert_int_equal(sl__json_u32(root, "a", "f.json", 0, 9, &u, NULL), SL_OK);
    assert_int_equal(u, 3);
    assert_int_equal(sl__json_u32(root, "b", "f.json", 0, 9, &u, NULL), SL_OK);
    assert_int_equal(u, 8);
    sl_error err = {0};
    assert_int_equal(sl__json_u32(root, "c", "f.json", 0, 9, &u, &err), SL_EFORMAT);
    assert_string_equal(err.message, "f.json: c: expected a whole number from 0 to 9, got -1");
    static const char *const not_whole[] = {"d", "e", "f", "g", "i", "zz"};
    for (size_t i = 0; i < sizeof not_whole / sizeof not_whole[0]; i++)
        assert_int_equal(sl__json_u32(root, not_whole[i], "f", 0, 9, &u, NULL), SL_EFORMAT);
    assert_int_equal(sl__json_f64(root, "d", "f", 0, 2, &d, NULL), SL_OK);
    assert_int_equal(sl__json_f64(root, "i", "f", 0, 2, &d, NULL), SL_EFORMAT);
    assert_int_equal(sl__json_bool(root, "e", "f", &flag, NULL), SL_OK);
    assert_true(flag);
    assert_int_equal(sl__json_bool(root, "a", "f", &flag, NULL), SL_EFORMAT);
    assert_int_equal(sl__json_str(root, "f", "f", &text, NULL), SL_OK);
    assert_int_equal(sl__json_str(root, "h", "f", &text, NULL), SL_EFORMAT);
    assert_false(sl__json_has(root, "g"));
    json_decref(root);
    static const char *const bad[] = {"", "{", "{\"a\":1,\"a\":2}", "{} x", "[1,]"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        sl_error_clear(&err);
        assert_int_equal(sl__json_parse(bad[i], strlen(bad[i]), "f.json", &root, &err),
                         SL_EFORMAT);
        assert_int_equal(strncmp(err.message, "f.json: line ", 13), 0);
    }
}

static void the_system_can_be_asked(void **state)
{
    (void)state;
    assert_true(sl__mem_available() > 1u << 20);
    assert_true(sl__mem_rss() > 1u << 16);
    assert_true(sl__mem_rss_peak() > 1u << 16);
    assert_true(sl__cpu_count() >= 1);
    uint64_t before = sl__now_ns();
    assert_true(sl__now_ns() >= before);
    char *pages = sl__pages_alloc(1 << 20);
    assert_non_null(pages);
    assert_int_equal((uintptr_t)pages % 4096, 0);
    assert_int_equal(pages[12345], 0);
    pages[(1 << 20) - 1] = 1;
    sl__pages_free(pages, 1 << 20);
}

/* What was resident for a moment stays in the peak until that is reset. */
static void memory_has_a_peak(void **state)
{
    (void)state;
    const size_t bytes = (size_t)64 << 20, slack = (size_t)16 << 20;
    uint64_t before = sl__mem_rss();
    char *pages = sl__pages_alloc(bytes);
    assert_non_null(pages);
    memset(pages, 1, bytes);
    sl__pages_free(pages, bytes);
    assert_true(sl__mem_rss_peak() + slack >= before + bytes);
    if (sl__mem_rss_peak_reset()) assert_true(sl__mem_rss_peak() <= sl__mem_rss() + slack);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_failure_is_kept_in_one_line),
        cmocka_unit_test(every_status_has_a_name),
        cmocka_unit_test(arena_memory_is_aligned_zeroed_and_apart),
        cmocka_unit_test(buffer_stays_within_its_limit),
        cmocka_unit_test(sizes_do_not_wrap),
        cmocka_unit_test(size_texts),
        cmocka_unit_test(hash_text_round_trips),
        cmocka_unit_test(files_are_whole_or_not_there),
        cmocka_unit_test(a_name_does_not_lead_out),
        cmocka_unit_test(json_values_are_checked),
        cmocka_unit_test(the_system_can_be_asked),
        cmocka_unit_test(memory_has_a_peak),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
