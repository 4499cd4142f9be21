#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "damage.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/dtype.h"
#include "format/safetensors.h"
#include "st_writer.h"
#include "test_env.h"

static _Noreturn void die(const char *what, const char *path)
{
    fprintf(stderr, "damage: %s %s\n", what, path);
    exit(1);
}

/* ---- copies ---------------------------------------------------------------------------------- */

const char *damage_path(const char *dir, const char *name)
{
    static char paths[4][4096];
    static unsigned next;
    char *out = paths[next++ % 4];
    int n = snprintf(out, sizeof paths[0], "%s/%s", dir, name);
    if (n < 0 || (size_t)n >= sizeof paths[0]) die("path too long", dir);
    return out;
}

static void link_one(const char *src, const char *dir, const char *name)
{
    char *target = realpath(damage_path(src, name), NULL);
    if (!target || symlink(target, damage_path(dir, name)) != 0) die("cannot link", name);
    free(target);
}

void damage_copy(const char *src, const char *dir)
{
    if (mkdir(dir, 0777) != 0) die("cannot make", dir);
    DIR *folder = opendir(src);
    if (!folder) die("cannot open", src);
    for (struct dirent *e; (e = readdir(folder));)
        if (e->d_name[0] != '.') link_one(src, dir, e->d_name);
    closedir(folder);
}

const char *damage_own(const char *dir, const char *name)
{
    const char *path = damage_path(dir, name);
    struct stat st;
    if (lstat(path, &st) != 0) die("cannot find", path);
    if (!S_ISLNK(st.st_mode)) return path;
    size_t size;
    char *data = test_read_file(path, &size);
    if (unlink(path) != 0) die("cannot remove", path);
    test_write_file(path, data, size);
    free(data);
    return path;
}

void damage_restore(const char *src, const char *dir, const char *name)
{
    if (remove(damage_path(dir, name)) != 0 && access(damage_path(dir, name), F_OK) == 0)
        die("cannot remove", name);
    link_one(src, dir, name);
}

void damage_truncate(const char *path, uint64_t bytes)
{
    if (truncate(path, (off_t)bytes) != 0) die("cannot truncate", path);
}

uint64_t damage_size(const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0) die("cannot find", path);
    return (uint64_t)st.st_size;
}

void damage_flip(const char *path, uint64_t offset, uint8_t mask)
{
    uint8_t byte;
    int fd = open(path, O_RDWR);
    if (fd < 0 || pread(fd, &byte, 1, (off_t)offset) != 1) die("cannot read", path);
    byte ^= mask;
    if (pwrite(fd, &byte, 1, (off_t)offset) != 1 || close(fd) != 0) die("cannot write", path);
}

void damage_patch(const char *path, uint64_t offset, const void *data, size_t size)
{
    int fd = open(path, O_RDWR);
    if (fd < 0 || pwrite(fd, data, size, (off_t)offset) != (ssize_t)size || close(fd) != 0)
        die("cannot write", path);
}

void damage_text(const char *path, const char *text)
{
    unlink(path); /* it may be a link to the sound one */
    test_write_file(path, text, strlen(text));
}

/* ---- checkpoints ----------------------------------------------------------------------------- */

static void load_tensor(damage_tensor *out, const sl__st_tensor *t, const char *path)
{
    if (strlen(t->name) >= sizeof out->name || t->dims > 4) die("cannot hold", t->name);
    *out = (damage_tensor){.dims = t->dims, .bytes = (size_t)t->bytes, .shard = t->file};
    strcpy(out->name, t->name);
    strcpy(out->dtype, "BF16");
    if (t->dtype != SL_BF16) die("is no BF16:", t->name);
    memcpy(out->shape, t->shape, t->dims * sizeof out->shape[0]);
    out->data = malloc(out->bytes);
    int fd = open(path, O_RDONLY);
    if (!out->data || fd < 0 ||
        pread(fd, out->data, out->bytes, (off_t)t->offset) != (ssize_t)out->bytes)
        die("cannot read", path);
    close(fd);
}

void damage_model_load(damage_model *m, const char *dir)
{
    sl__st_set set = {0};
    sl_error err = {0};
    if (sl__st_open(&set, dir, &err) != SL_OK) die("cannot open:", err.message);
    m->count = set.tensor_count;
    m->tensors = calloc(m->count, sizeof *m->tensors);
    if (!m->tensors) die("no memory for", dir);
    for (size_t i = 0; i < m->count; i++)
        load_tensor(&m->tensors[i], &set.tensors[i], set.files[set.tensors[i].file].path);
    sl__st_close(&set);
}

void damage_model_free(damage_model *m)
{
    for (size_t i = 0; i < m->count; i++)
        free(m->tensors[i].data);
    free(m->tensors);
    *m = (damage_model){0};
}

damage_tensor *damage_model_find(const damage_model *m, const char *name)
{
    for (size_t i = 0; i < m->count; i++)
        if (strcmp(m->tensors[i].name, name) == 0) return &m->tensors[i];
    die("no tensor", name);
}

void damage_model_save(const damage_model *m, const char *dir)
{
    static const char *const files[] = {"model-00001-of-00002.safetensors",
                                        "model-00002-of-00002.safetensors"};
    st_writer *writers[2] = {st_writer_create(), st_writer_create()};
    for (size_t i = 0; i < m->count; i++) {
        const damage_tensor *t = &m->tensors[i];
        if (t->left_out) continue;
        st_writer_add(writers[t->shard], t->name, t->dtype, t->dims, t->shape, t->data, t->bytes);
    }
    for (int i = 0; i < 2; i++)
        unlink(damage_path(dir, files[i])); /* links to the sound ones */
    unlink(damage_path(dir, "model.safetensors.index.json"));
    st_writer_save_sharded(writers, files, 2, dir);
    for (int i = 0; i < 2; i++)
        st_writer_destroy(writers[i]);
}

void damage_set(damage_tensor *t, size_t index, float value)
{
    uint16_t half = sl__f32_to_bf16(value);
    if ((index + 1) * sizeof half > t->bytes) die("no such element in", t->name);
    memcpy(t->data + index * sizeof half, &half, sizeof half);
}

/* ---- trying ---------------------------------------------------------------------------------- */

static sl_status run(sl_engine *engine, const int32_t *ids, size_t count, float *logits,
                     sl_error *err)
{
    sl_session *session = NULL;
    sl_sampler *sampler = NULL;
    sl_sampler_options greedy;
    sl_engine_info info;
    int32_t id;
    sl_sampler_options_default(&greedy);
    sl_engine_info_get(engine, &info);
    float *row = malloc(info.vocab_size * sizeof *row);
    assert_non_null(row);
    sl_status status = sl_session_create(&session, engine, err);
    if (status == SL_OK) status = sl_session_eval(session, ids, count, row, NULL, NULL, err);
    if (status == SL_OK) status = sl_sampler_create(&sampler, info.vocab_size, &greedy, err);
    if (status == SL_OK) status = sl_sampler_sample(sampler, row, &id, err);
    if (status == SL_OK && logits) memcpy(logits, row, info.vocab_size * sizeof *row);
    sl_sampler_destroy(sampler);
    sl_session_destroy(session);
    free(row);
    return status;
}

sl_status damage_try(const char *path, const sl_engine_options *opt, const int32_t *ids,
                     size_t count, float *logits, sl_error *err)
{
    sl_engine *engine = NULL;
    sl_status status = sl_engine_open(&engine, path, opt, err);
    if (status == SL_OK)
        status = run(engine, ids, count, logits, err);
    else
        assert_null(engine);
    sl_engine_close(engine);
    return status;
}

/* Whether the message holds the file's name with nothing but its end, or a stop, behind it. */
static bool names_file(const char *message, const char *file)
{
    for (const char *at = message; (at = strstr(at, file)); at++) {
        char next = at[strlen(file)];
        if (next == '\0' || strchr(": ,;/\"", next)) return true;
    }
    return false;
}

void damage_check(const char *what, sl_status got, const sl_error *err, sl_status status,
                  const char *file, const char *thing)
{
    if (got != status || err->status != got)
        fail_msg("%s: %s (%s), not %s", what, sl_status_name(got), err->message,
                 sl_status_name(status));
    if (strpbrk(err->message, "\n\r") || !err->message[0])
        fail_msg("%s: not one line: %s", what, err->message);
    if (!names_file(err->message, file))
        fail_msg("%s: the message names no %s: %s", what, file, err->message);
    if (!strstr(err->message, thing))
        fail_msg("%s: the message lacks \"%s\": %s", what, thing, err->message);
}

void damage_expect(const char *path, const sl_engine_options *opt, sl_status status,
                   const char *file, const char *thing)
{
    static const int32_t ids[] = {1, 2, 3, 4, 5, 6, 7, 8};
    sl_error err = {0};
    sl_status got = damage_try(path, opt, ids, 8, NULL, &err);
    damage_check(thing, got, &err, status, file, thing);
}
