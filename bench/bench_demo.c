/* What `sluice bench` does not measure of the demo: the time from starting the program to its first
 * token, and the tokenizer's MB/s.
 *
 *     bench_demo [OUT.json]
 *
 * Each figure is the median of several rounds; the rounds of different measurements alternate, so
 * that a busy machine disturbs all alike. Cold starts: the model's files are dropped from the page
 * cache (posix_fadvise) before a new process is started; the program and its libraries stay warm.
 */
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/cpus.h"
#include "sluice.h"

#define ROUNDS 7
#define TOKENIZER_BYTES ((size_t)4 << 20)

typedef struct series {
    const char *name, *unit;
    double values[ROUNDS];
    int count;
} series;

enum {
    FIRST_TOKEN_COLD,
    FIRST_TOKEN_WARM,
    TOKENIZER,
    SERIES_COUNT
};

static series all[SERIES_COUNT] = {
    [FIRST_TOKEN_COLD] = {"first token, process start included, cold", "ms", {0}, 0},
    [FIRST_TOKEN_WARM] = {"first token, process start included, warm", "ms", {0}, 0},
    [TOKENIZER] = {"tokenizer", "MB/s", {0}, 0},
};

static _Noreturn void die(const char *message)
{
    fprintf(stderr, "bench: %s\n", message);
    exit(1);
}

static void note(int which, double value) { all[which].values[all[which].count++] = value; }

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(series *s)
{
    qsort(s->values, (size_t)s->count, sizeof s->values[0], by_value);
    return s->count ? s->values[s->count / 2] : 0;
}

static double seconds_since(uint64_t begin_ns) { return (double)(sl__now_ns() - begin_ns) / 1e9; }

/* ---- text ------------------------------------------------------------------------------------ */

/* The windows of the reference file, whose text the tokenizer gets. */
static int32_t *window_ids(size_t wanted)
{
    json_t *root = json_load_file(BENCH_TEXT, 0, NULL);
    const json_t *list = json_object_get(root, "nll_windows");
    int32_t *ids = malloc(wanted * sizeof *ids);
    if (!root || !ids) die("cannot read " BENCH_TEXT);
    size_t count = 0;
    for (size_t w = 0; w < json_array_size(list) && count < wanted; w++) {
        const json_t *tokens = json_object_get(json_array_get(list, w), "tokens");
        for (size_t i = 0; i < json_array_size(tokens) && count < wanted; i++)
            ids[count++] = (int32_t)json_integer_value(json_array_get(tokens, i));
    }
    if (count < wanted) die(BENCH_TEXT " is too short");
    json_decref(root);
    return ids;
}

static void bench_tokenizer(const sl_tokenizer *tok, const char *text, size_t size)
{
    int32_t *ids;
    size_t count;
    sl_error err = {0};
    uint64_t begin = sl__now_ns();
    if (sl_tokenizer_encode(tok, text, size, SL_ENCODE_ADDED, &ids, &count, &err) != SL_OK)
        die(err.message);
    note(TOKENIZER, (double)size / 1e6 / seconds_since(begin));
    free(ids);
}

/* The windows' text again and again, TOKENIZER_BYTES long. */
static char *long_text(const sl_tokenizer *tok)
{
    const size_t count = 24 * 512;
    int32_t *ids = window_ids(count);
    char *piece, *text = malloc(TOKENIZER_BYTES);
    size_t size;
    sl_error err = {0};
    if (!text) die("out of memory");
    if (sl_tokenizer_decode(tok, ids, count, true, &piece, &size, &err) != SL_OK) die(err.message);
    for (size_t at = 0; at < TOKENIZER_BYTES; at += size)
        memcpy(text + at, piece, TOKENIZER_BYTES - at < size ? TOKENIZER_BYTES - at : size);
    free(piece);
    free(ids);
    return text;
}

/* ---- cold starts ----------------------------------------------------------------------------- */

static void drop_from_page_cache(void)
{
#if defined(POSIX_FADV_DONTNEED)
    static const char *const files[] = {"manifest.json", "resident.bin", "tokenizer.bin"};
    char path[1024];
    for (int i = 0; i < 3 + 16; i++) {
        if (i < 3) snprintf(path, sizeof path, BENCH_DEMO "/%s", files[i]);
        else snprintf(path, sizeof path, BENCH_DEMO "/experts-%03d.bin", i - 3);
        int fd = open(path, O_RDONLY);
        if (fd < 0) continue;
        fdatasync(fd); /* dirty pages are not dropped */
        posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        close(fd);
    }
#endif
}

/* From fork to the first byte of generated text. */
static void bench_start(int which)
{
    int out[2];
    if (pipe(out) != 0) die("no pipe");
    uint64_t begin = sl__now_ns();
    pid_t child = fork();
    if (child < 0) die("cannot fork");
    if (child == 0) {
        int null = open("/dev/null", O_WRONLY);
        if (dup2(out[1], 1) < 0 || dup2(null, 2) < 0) _exit(1);
        execl(BENCH_PROGRAM, BENCH_PROGRAM, "run", BENCH_DEMO, "-p",
              "It was a bright cold morning, and the old sailor", "-n", "1", "--temp", "0",
              (char *)NULL);
        _exit(1);
    }
    close(out[1]);
    char byte;
    if (read(out[0], &byte, 1) != 1) die("the program wrote nothing");
    note(which, seconds_since(begin) * 1e3);
    while (read(out[0], &byte, 1) == 1)
        ;
    close(out[0]);
    int status;
    waitpid(child, &status, 0);
}

/* ---- report ---------------------------------------------------------------------------------- */

static void report(const char *json_path)
{
    json_t *root = json_object();
    json_object_set_new(root, "version", json_string(sl_version()));
    json_object_set_new(root, "threads", json_integer((json_int_t)sl__core_count()));
    printf("%-44s %12s %12s %12s\n", "", "median", "least", "most");
    for (int i = 0; i < SERIES_COUNT; i++) {
        double middle = median(&all[i]);
        double least = all[i].values[0], most = all[i].values[all[i].count - 1];
        printf("%-44s %12.1f %12.1f %12.1f  %s\n", all[i].name, middle, least, most, all[i].unit);
        json_t *row = json_pack("{s:s, s:f, s:f, s:f}", "unit", all[i].unit, "median", middle,
                                "least", least, "most", most);
        json_object_set_new(root, all[i].name, row);
    }
    if (json_path && json_dump_file(root, json_path, JSON_INDENT(1) | JSON_REAL_PRECISION(6)) != 0)
        die("the JSON file could not be written");
    json_decref(root);
}

int main(int argc, char **argv)
{
    sl_tokenizer *tok;
    sl_error err = {0};
    if (argc > 2) die("usage: bench_demo [OUT.json]");
    if (sl_tokenizer_open(&tok, BENCH_DEMO, &err) != SL_OK) die(err.message);
    char *text = long_text(tok);
    for (int round = 0; round < ROUNDS; round++) {
        bench_tokenizer(tok, text, TOKENIZER_BYTES);
        drop_from_page_cache();
        bench_start(FIRST_TOKEN_COLD);
        bench_start(FIRST_TOKEN_WARM);
    }
    report(argc == 2 ? argv[1] : NULL);
    free(text);
    sl_tokenizer_close(tok);
    return 0;
}
