/* The hub without a network: names and addresses from outside, which files are chosen, whose token
 * is taken, and the cache's layout with what is left there by others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "hub/hub_cache.h"
#include "hub/hub_digest.h"
#include "hub/hub_http.h"
#include "hub/hub_names.h"
#include "hub/hub_partial.h"
#include "hub/hub_select.h"
#include "hub/hub_settings.h"
#include "test_env.h"

#define COMMIT "0123456789abcdef0123456789abcdef01234567"
#define SHA256 "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" /* of "abc" */

/* ---- names ----------------------------------------------------------------------------------- */

static void test_names(void **state)
{
    (void)state;
    static const char *const good[] = {"a/b",        "Qwen/Qwen3.5-397B-A17B", "_x/y_1",
                                       "a/b:Q4_K_M", "a/b:d/e.gguf",           "a/b:"};
    static const char *const bad[] = {"",       "a",      "/b",         "a/",    "a/b/c", "../b",
                                      "a/..",   "a/.b",   "-a/b",       "a b/c", "a/b\n", "a//b",
                                      "a/b--c", "a/b..c", "\xc3\xa4/b", "./b",   "a\\b/c"};
    sl__hub_name name;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_true(sl__hub_name_parse(&name, good[i]));
    assert_string_equal(name.repo, "a/b");
    assert_string_equal(name.selector, "");
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(sl__hub_name_parse(&name, bad[i]));
    char lengthy[300];
    memset(lengthy, 'a', sizeof lengthy);
    lengthy[96] = '/';
    lengthy[193] = '\0';
    assert_true(sl__hub_name_parse(&name, lengthy));
    lengthy[193] = 'a';
    lengthy[194] = '\0';
    assert_false(sl__hub_name_parse(&name, lengthy));
}

static void test_paths(void **state)
{
    (void)state;
    static const char *const good[] = {"a", "a/b.c", "..a", "a..", ".hidden", "a b", "\xc3\xa4"};
    static const char *const bad[] = {"",    "/a",  "a/",   "a//b", ".",     "..",   "a/../b",
                                      "a/.", "./a", "a\\b", "a\nb", "a\x7f", "\x01", "b/.."};
    char lengthy[SL_HUB_PATH_MAX + 1];
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_true(sl__hub_path_ok(good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(sl__hub_path_ok(bad[i]));
    memset(lengthy, 'a', sizeof lengthy);
    lengthy[255] = '\0';
    assert_true(sl__hub_path_ok(lengthy));
    lengthy[255] = 'a';
    lengthy[256] = '\0';
    assert_false(sl__hub_path_ok(lengthy));
    for (size_t i = 0; i < sizeof lengthy; i++)
        lengthy[i] = i % 2 ? '/' : 'a';
    lengthy[SL_HUB_PATH_MAX - 1] = '\0';
    assert_true(sl__hub_path_ok(lengthy)); /* 1023 bytes, "a/a/…/a" */
    lengthy[SL_HUB_PATH_MAX - 1] = '/';
    lengthy[SL_HUB_PATH_MAX] = '\0';
    assert_false(sl__hub_path_ok(lengthy));

    assert_true(sl__hub_revision_ok("refs/pr/1"));
    assert_true(sl__hub_revision_ok("v1.0_x-2"));
    assert_false(sl__hub_revision_ok("../main"));
    assert_false(sl__hub_revision_ok("a b"));
    assert_false(sl__hub_revision_ok("-x"));
    assert_false(sl__hub_revision_ok(""));
}

static void test_urls(void **state)
{
    (void)state;
    static const struct {
        const char *url, *host;
        uint32_t port;
        bool safe, local;
    } good[] = {
        {"https://huggingface.co", "huggingface.co", 443, true, false},
        {"https://Cdn.Example.com:8443/a?b#c", "cdn.example.com", 8443, true, false},
        {"http://example.com/", "example.com", 80, false, false},
        {"http://127.0.0.1:80", "127.0.0.1", 80, true, true},
        {"http://localhost?x", "localhost", 80, true, true},
        {"http://[::1]:1/", "[::1]", 1, true, true},
        {"http://[::2]/", "[::2]", 80, false, false},
        {"http://127.1/", "127.1", 80, false, false},
        {"http://127.0.0.256/", "127.0.0.256", 80, false, false},
        {"http://127.0.0.1.example.com/", "127.0.0.1.example.com", 80, false, false},
        {"http://localhost.example.com/", "localhost.example.com", 80, false, false},
    };
    static const char *const bad[] = {"",
                                      "ftp://x",
                                      "file:///etc/passwd",
                                      "https://",
                                      "https://a@b/",
                                      "https://a b",
                                      "https://a\\@b/",
                                      "https://a:0/",
                                      "http://a:x/",
                                      "https://a:65536/",
                                      "http:/a",
                                      "https://a:/",
                                      "https://[::1",
                                      "HTTPS://a/",
                                      "https://a\n/",
                                      "https://a%2fb/",
                                      "https://\xc3\xa4/"};
    sl__hub_origin origin, other;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_true(sl__hub_origin_of(&origin, good[i].url));
        assert_string_equal(origin.host, good[i].host);
        assert_int_equal(origin.port, good[i].port);
        assert_int_equal(sl__hub_origin_safe(&origin), good[i].safe);
        assert_int_equal(sl__hub_origin_local(&origin), good[i].local);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(sl__hub_origin_of(&origin, bad[i]));
    assert_true(sl__hub_origin_of(&origin, "https://a/x"));
    assert_true(sl__hub_origin_of(&other, "https://A:443/y"));
    assert_true(sl__hub_origin_same(&origin, &other));
    static const char *const others[] = {"http://a:443/", "https://a:444/", "https://b/"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        assert_true(sl__hub_origin_of(&other, others[i]));
        assert_false(sl__hub_origin_same(&origin, &other));
    }
    sl__buffer url;
    sl__buffer_init(&url, 100);
    assert_true(sl__hub_url_append(&url, "a b/\xc3\xa4?#%.gguf", true));
    assert_string_equal(url.data, "a%20b/%C3%A4%3F%23%25.gguf");
    sl__buffer_clear(&url);
    assert_true(sl__hub_url_append(&url, "refs/pr/1", false));
    assert_string_equal(url.data, "refs%2Fpr%2F1");
    sl__buffer_free(&url);
}

/* ---- settings -------------------------------------------------------------------------------- */

static void clear_environment(void)
{
    static const char *const names[] = {
        "HF_ENDPOINT", "HF_HOME",       "HF_HUB_CACHE",           "HUGGINGFACE_HUB_CACHE",
        "HF_TOKEN",    "HF_TOKEN_PATH", "HUGGING_FACE_HUB_TOKEN", "XDG_CACHE_HOME"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        unsetenv(names[i]);
}

static void expect_folder(const char *want)
{
    char out[SL_PATH_MAX];
    assert_int_equal(sl__hub_folder(out, NULL), SL_OK);
    assert_string_equal(out, want);
}

static void expect_token(const char *want)
{
    sl__hub_settings settings;
    sl_error err = {0};
    if (sl__hub_settings_read(&settings, &err) != SL_OK) fail_msg("%s", err.message);
    assert_string_equal(settings.token, want);
}

static void test_settings(void **state)
{
    (void)state;
    char folder[SL_PATH_MAX], path[SL_PATH_MAX], other[SL_PATH_MAX];
    test_temp_dir(folder, sizeof folder);
    clear_environment();
    setenv("HOME", "/nowhere", 1);
    expect_folder("/nowhere/.cache/huggingface/hub");
    setenv("XDG_CACHE_HOME", "/x", 1);
    expect_folder("/x/huggingface/hub");
    setenv("HF_HOME", folder, 1);
    snprintf(path, sizeof path, "%.4000s/hub", folder);
    expect_folder(path);
    setenv("HF_HUB_CACHE", "/h", 1);
    expect_folder("/h");

    expect_token("");
    snprintf(path, sizeof path, "%.4000s/token", folder);
    test_write_file(path, "hf_home\n", 8);
    expect_token("hf_home");
    snprintf(other, sizeof other, "%.4000s/other", folder);
    test_write_file(other, "  hf_path \r\n", 12);
    setenv("HF_TOKEN_PATH", other, 1);
    expect_token("hf_path");
    setenv("HF_TOKEN", " ", 1); /* none */
    expect_token("hf_path");
    setenv("HF_TOKEN", "hf_env", 1);
    expect_token("hf_env");
    setenv("HF_TOKEN", "a\r\nX-Evil: b", 1);
    sl__hub_settings settings;
    assert_int_equal(sl__hub_settings_read(&settings, NULL), SL_EINVAL);
    clear_environment();

    setenv("HF_ENDPOINT", "https://mirror.example/hf//", 1);
    assert_int_equal(sl__hub_settings_read(&settings, NULL), SL_OK);
    assert_string_equal(settings.endpoint, "https://mirror.example/hf");
    static const char *const bad[] = {"http://example.com", "mirror", "https://a?b", "https://u@h"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        setenv("HF_ENDPOINT", bad[i], 1);
        assert_int_equal(sl__hub_settings_read(&settings, NULL), SL_EINVAL);
    }
    clear_environment();
    test_remove_tree(folder);
}

/* ---- choosing -------------------------------------------------------------------------------- */

typedef struct chooser {
    sl__arena arena;
    sl__hub_list list;
    sl__hub_selection selection;
    sl_error err;
    char chosen[512]; /* "a b " */
} chooser;

/* files: apart by spaces, each of 1000 bytes. */
static sl_status choose(chooser *c, const char *files, const char *selector)
{
    static sl__hub_file room[32];
    char *copy = strdup(files), *rest = copy;
    memset(c, 0, sizeof *c);
    memset(room, 0, sizeof room);
    sl__arena_init(&c->arena, 0);
    c->list.files = room;
    for (char *word; (word = strsep(&rest, " ")) != NULL;)
        room[c->list.count++] =
            (sl__hub_file){.path = sl__arena_strdup(&c->arena, word), .size = 1000};
    free(copy);
    assert_int_equal(sl__hub_list_sort(&c->list, "r", &c->err), SL_OK);
    sl_status status = sl__hub_select(&c->list, "r", selector, &c->arena, &c->selection, &c->err);
    for (size_t i = 0; i < c->list.count; i++) {
        if (!room[i].chosen) continue;
        strcat(c->chosen, room[i].path);
        strcat(c->chosen, " ");
    }
    return status;
}

static void expect_choice(const char *files, const char *selector, const char *want,
                          const char *main_path)
{
    chooser c;
    if (choose(&c, files, selector) != SL_OK) fail_msg("%s", c.err.message);
    assert_string_equal(c.chosen, want);
    assert_int_equal(c.selection.main_path == NULL, main_path == NULL);
    if (main_path) assert_string_equal(c.selection.main_path, main_path);
    sl__arena_free(&c.arena);
}

static void expect_none(const char *files, const char *selector, const char *message,
                        size_t choices)
{
    chooser c;
    assert_int_not_equal(choose(&c, files, selector), SL_OK);
    assert_string_equal(c.chosen, "");
    if (!strstr(c.err.message, message)) fail_msg("%s", c.err.message);
    assert_int_equal(c.selection.choice_count, choices);
    sl__arena_free(&c.arena);
}

static void test_choosing_checkpoints(void **state)
{
    (void)state;
    expect_choice("README.md config.json model.safetensors other.safetensors tokenizer.json "
                  "chat_template.jinja merges.txt x.py tokenizer.model consolidated.safetensors "
                  "pytorch_model.bin original/config.json onnx/model.onnx q.gguf",
                  NULL,
                  "chat_template.jinja config.json merges.txt model.safetensors tokenizer.json "
                  "tokenizer.model ",
                  NULL);
    expect_choice("manifest.json resident.bin experts-000.bin tokenizer.bin README.md", NULL,
                  "experts-000.bin manifest.json resident.bin tokenizer.bin ", NULL);
    expect_none("config.json pytorch_model.bin", NULL, "holds no model", 0);
    expect_none("config.json original/model.safetensors", NULL, "holds no model", 0);
    expect_none("config.json model.safetensors", "Q4_K_M", "holds no GGUF files", 0);

    chooser c;
    static const char index[] = "{\"weight_map\": {\"x\": \"b.safetensors\", \"y\": "
                                "\"c.safetensors\"}}";
    assert_int_equal(choose(&c,
                            "a.safetensors b.safetensors c.safetensors config.json "
                            "model.safetensors.index.json",
                            NULL),
                     SL_OK);
    assert_true(c.selection.has_index);
    assert_int_equal(sl__hub_select_indexed(&c.list, "r", index, sizeof index - 1, &c.err), SL_OK);
    assert_false(c.list.files[0].chosen);
    for (size_t i = 1; i < 5; i++)
        assert_true(c.list.files[i].chosen);
    static const char *const bad[] = {"{\"weight_map\": {\"x\": \"d.safetensors\"}}",
                                      "{}",
                                      "[]",
                                      "{\"weight_map\": {\"x\": 1}}",
                                      "{\"weight_map\": {}}",
                                      ""};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        sl_error_clear(&c.err);
        assert_int_equal(sl__hub_select_indexed(&c.list, "r", bad[i], strlen(bad[i]), &c.err),
                         SL_EFORMAT);
        assert_true(strncmp(c.err.message, "r: ", 3) == 0 || strncmp(c.err.message, "r:", 2) == 0);
    }
    sl__arena_free(&c.arena);
}

static void test_choosing_gguf(void **state)
{
    (void)state;
    static const char split[] = "m-Q4_K_M-00001-of-00002.gguf m-Q4_K_M-00002-of-00002.gguf "
                                "m-Q4_K_S.gguf m-UD-Q4_K_M.gguf mmproj-F16.gguf imatrix.gguf";
    expect_choice("m.gguf mmproj-F16.gguf README.md config.json", NULL, "m.gguf ", "m.gguf");
    expect_choice(split, "q4_k_m", "m-Q4_K_M-00001-of-00002.gguf m-Q4_K_M-00002-of-00002.gguf ",
                  "m-Q4_K_M-00001-of-00002.gguf");
    expect_choice(split, "m-Q4_K_M-00002-of-00002.gguf",
                  "m-Q4_K_M-00001-of-00002.gguf m-Q4_K_M-00002-of-00002.gguf ",
                  "m-Q4_K_M-00001-of-00002.gguf");
    expect_choice(split, "UD-Q4_K_M", "m-UD-Q4_K_M.gguf ", "m-UD-Q4_K_M.gguf");
    expect_choice(split, "K_S", "m-Q4_K_S.gguf ", "m-Q4_K_S.gguf");
    expect_choice("a/m-Q8_0.gguf b/m-BF16.gguf", "m-Q8_0.gguf", "a/m-Q8_0.gguf ", "a/m-Q8_0.gguf");
    expect_choice("Q8_0/m.gguf BF16/m.gguf", "q8_0", "Q8_0/m.gguf ", "Q8_0/m.gguf");
    expect_none(split, NULL, "r holds several GGUF models: name one, as in r:Q4_K_M: Q4_K_M (", 3);
    expect_none(split, "Q4", "\"Q4\" fits several", 3);
    expect_none(split, "Q8_0", "\"Q8_0\" fits none", 3);
    expect_none(split, "F16", "\"F16\" fits none", 3);
    expect_none(split, "", "nothing follows", 0);
    expect_none("a/m.gguf b/m.gguf", "m.gguf", "fits several", 2);
    expect_none("m-00001-of-00003.gguf m-00003-of-00003.gguf", "m-00001-of-00003.gguf",
                "not all parts of it are there (1)", 0);
    expect_none("m-00002-of-00002.gguf", NULL, "not all parts of it are there (1)", 0);

    /* What is offered can be chosen, and is that alone. */
    chooser c, again;
    assert_int_equal(choose(&c, "a-Q8_0.gguf b-Q8_0.gguf c-F16.gguf", NULL), SL_EINVAL);
    assert_string_equal(c.selection.choices[0].selector, "a-Q8_0.gguf");
    assert_string_equal(c.selection.choices[2].selector, "F16");
    assert_int_equal(choose(&again, "a-Q8_0.gguf b-Q8_0.gguf c-F16.gguf", "a-Q8_0.gguf"), SL_OK);
    assert_string_equal(again.chosen, "a-Q8_0.gguf ");
    sl__arena_free(&c.arena);
    sl__arena_free(&again.arena);
}

static void test_quants(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {
        {"Qwen3-30B-A3B-Q4_K_M", "Q4_K_M"},
        {"m-UD-IQ2_XXS", "UD-IQ2_XXS"},
        {"m.q8_0", "Q8_0"},
        {"m-bf16", "BF16"},
        {"m-MXFP4_MOE", "MXFP4_MOE"},
        {"Qwen3", ""},
        {"TQ1_0/m", "TQ1_0"},
        {"", ""},
        {"m-Q4_K_M-F16", "F16"},
        {"xUD-Q4_0", "Q4_0"},
    };
    char out[SL_HUB_QUANT_MAX];
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        sl__hub_quant_of(out, pairs[i][0], strlen(pairs[i][0]));
        assert_string_equal(out, pairs[i][1]);
    }
}

/* ---- the cache ------------------------------------------------------------------------------- */

static void test_cache(void **state)
{
    (void)state;
    char folder[SL_PATH_MAX], path[SL_PATH_MAX], target[SL_PATH_MAX] = "", found[SL_PATH_MAX];
    sl__hub_cache cache;
    sl_error err = {0};
    test_temp_dir(folder, sizeof folder);
    clear_environment();
    setenv("HF_HUB_CACHE", folder, 1);
    assert_int_equal(sl_hub_find("o/n", found, sizeof found, &err), SL_EIO);
    assert_non_null(strstr(err.message, "'sluice pull o/n'"));
    sl_error_clear(&err);

    const sl__hub_file file = {.path = "a/b/m.gguf", .size = 3, .digest = SHA256};
    assert_int_equal(sl__hub_cache_at(&cache, folder, "o/n", &err), SL_OK);
    assert_int_equal(sl__hub_cache_create(&cache, &err), SL_OK);
    assert_false(sl__hub_cache_has(&cache, COMMIT, &file));
    assert_int_equal(sl__hub_blob_path(path, &cache, SHA256, "", &err), SL_OK);
    test_write_file(path, "abc", 3);
    assert_true(sl__hub_cache_has(&cache, COMMIT, &file));
    for (int i = 0; i < 2; i++) /* twice is once */
        assert_int_equal(sl__hub_cache_link(&cache, COMMIT, &file, &err), SL_OK);
    assert_int_equal(sl__hub_snapshot_path(path, &cache, COMMIT, file.path, &err), SL_OK);
    assert_true(readlink(path, target, sizeof target - 1) > 0);
    assert_string_equal(target, "../../../../blobs/" SHA256);

    char commit[SL_HUB_COMMIT_TEXT];
    assert_false(sl__hub_ref_read(&cache, "main", commit));
    assert_int_equal(sl__hub_ref_write(&cache, "refs/pr/1", COMMIT, &err), SL_OK);
    assert_int_equal(sl__hub_ref_write(&cache, "main", COMMIT, &err), SL_OK);
    assert_true(sl__hub_ref_read(&cache, "main", commit));
    assert_string_equal(commit, COMMIT);
    assert_int_equal(sl_hub_find("o/n", found, sizeof found, &err), SL_OK);
    assert_string_equal(found, path);
    assert_int_equal(sl_hub_find("o/n:m.gguf", found, sizeof found, &err), SL_OK);
    assert_int_equal(sl_hub_find("o/n:Q4_0", found, sizeof found, &err), SL_EINVAL);
    assert_non_null(strstr(err.message, "in the hub's cache, o/n: \"Q4_0\" fits none"));

    int first, second;
    assert_int_equal(sl__hub_lock(&cache, "x", &first, NULL), SL_OK);
    assert_int_equal(sl__hub_lock(&cache, "x", &second, NULL), SL_OK);
    assert_true(first >= 0 && second == -1);
    close(first);
    assert_int_equal(sl__hub_lock(&cache, "x", &second, NULL), SL_OK);
    assert_true(second >= 0);
    close(second);
    clear_environment();
    test_remove_tree(folder);
}

static void test_partial(void **state)
{
    (void)state;
    char folder[SL_PATH_MAX];
    sl__hub_cache cache;
    sl__hub_partial partial;
    sl_error err = {0};
    const uint64_t piece = SL_HUB_PIECE_BYTES;
    sl__hub_file file = {.path = "m", .size = 2 * piece + 5, .digest = SHA256};
    test_temp_dir(folder, sizeof folder);
    assert_int_equal(sl__hub_cache_at(&cache, folder, "o/n", &err), SL_OK);
    assert_int_equal(sl__hub_cache_create(&cache, &err), SL_OK);

    assert_int_equal(sl__hub_partial_open(&partial, &cache, &file, &err), SL_OK);
    assert_int_equal(partial.piece_count, 3);
    assert_int_equal(sl__hub_piece_end(&partial, 2), file.size);
    assert_int_equal(sl__hub_partial_mark(&partial, 2, &err), SL_OK);
    assert_int_equal(sl__hub_partial_mark(&partial, 2, &err), SL_OK);
    sl__hub_partial_close(&partial);
    assert_int_equal(sl__hub_partial_there(&cache, &file), 5);
    assert_int_equal(sl__hub_partial_open(&partial, &cache, &file, &err), SL_OK);
    assert_int_equal(partial.there_bytes, 5);
    assert_int_equal(partial.pieces[0], SL_PIECE_MISSING);
    assert_int_equal(partial.pieces[2], SL_PIECE_THERE);
    assert_int_equal(sl__hub_partial_mark(&partial, 0, &err), SL_OK);
    assert_int_equal(sl__hub_partial_reset(&partial, &err), SL_OK);
    sl__hub_partial_close(&partial);
    assert_int_equal(sl__hub_partial_there(&cache, &file), 0);

    /* Of another size: nothing of it counts. */
    file.size = piece;
    assert_int_equal(sl__hub_partial_there(&cache, &file), 0);
    assert_int_equal(sl__hub_partial_open(&partial, &cache, &file, &err), SL_OK);
    assert_int_equal(partial.piece_count, 1);
    assert_int_equal(partial.there_bytes, 0);
    assert_int_equal(sl__hub_partial_finish(&partial, &err), SL_OK);
    assert_true(sl__hub_cache_has(&cache, COMMIT, &file));

    file = (sl__hub_file){.path = "e", .size = 0, .digest = COMMIT};
    assert_int_equal(sl__hub_partial_open(&partial, &cache, &file, &err), SL_OK);
    assert_int_equal(partial.piece_count, 0);
    sl__hub_partial_discard(&partial);
    assert_false(sl__hub_cache_has(&cache, COMMIT, &file));
    test_remove_tree(folder);
}

static void test_digests(void **state)
{
    (void)state;
    static const struct {
        const char *text, *sum;
        bool same;
    } cases[] = {
        {"abc", SHA256, true},
        {"abd", SHA256, false},
        {"", "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391", true}, /* git's empty file */
        {"test content\n", "d670460b4b4aece5915caf5c68d12f560a9fe3e4", true},
        {"test content", "d670460b4b4aece5915caf5c68d12f560a9fe3e4", false},
    };
    sl__http *http;
    sl_error err = {0};
    if (sl__http_create(&http, 1, &err) != SL_OK) {
        assert_int_equal(err.status, SL_EUNSUPPORTED);
        skip();
    }
    sl__http_destroy(http);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        sl__hub_digest *digest;
        size_t size = strlen(cases[i].text);
        assert_int_equal(sl__hub_digest_create(&digest, cases[i].sum, size, &err), SL_OK);
        for (size_t at = 0; at < size; at++)
            sl__hub_digest_update(digest, cases[i].text + at, 1);
        assert_int_equal(sl__hub_digest_matches(digest), cases[i].same);
        sl__hub_digest_destroy(digest);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_urls),
        cmocka_unit_test(test_settings),
        cmocka_unit_test(test_choosing_checkpoints),
        cmocka_unit_test(test_choosing_gguf),
        cmocka_unit_test(test_quants),
        cmocka_unit_test(test_cache),
        cmocka_unit_test(test_partial),
        cmocka_unit_test(test_digests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
