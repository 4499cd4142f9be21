/* Opening a GGUF model: the headers of all its parts become one table of tensors.
 *
 *     NAME-00001-of-00003.gguf   keys · tensors        any of them may be given; all are read,
 *     NAME-00002-of-00003.gguf   split.* · tensors     from the last to the first, whose keys are
 *     NAME-00003-of-00003.gguf   split.* · tensors     those of the model
 */
#include "format/gguf.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/fail.h"
#include "base/file.h"

#define PARTS_MAX 1000u
#define ENDING    ".gguf"
#define PART_TAIL (sizeof "-00001-of-00001.gguf" - 1)

static bool has_ending(const char *path)
{
    const size_t tail = sizeof ENDING - 1;
    size_t size = strlen(path);
    return size > tail && strcasecmp(path + size - tail, ENDING) == 0;
}

bool sl__gguf_is(const char *path)
{
    int fd;
    uint64_t size;
    char start[4] = "";
    if (has_ending(path)) return !sl__file_is_dir(path);
    if (sl__file_open(path, &fd, &size, NULL) != SL_OK) return false;
    bool whole = sl__file_pread_all(fd, path, start, sizeof start, 0, NULL) == SL_OK;
    close(fd);
    return whole && memcmp(start, "GGUF", sizeof start) == 0;
}

static bool five_digits(const char *text, uint32_t *out)
{
    *out = 0;
    for (unsigned i = 0; i < 5; i++) {
        if (text[i] < '0' || text[i] > '9') return false;
        *out = *out * 10 + (uint32_t)(text[i] - '0');
    }
    return true;
}

/* Whether path is named as a part: *number of *count, from 1; *stem, the bytes before that. */
static bool part_name(const char *path, size_t *stem, uint32_t *number, uint32_t *count)
{
    size_t size = strlen(path);
    if (size <= PART_TAIL || !has_ending(path)) return false;
    const char *tail = path + size - PART_TAIL;
    *stem = size - PART_TAIL;
    return tail[0] == '-' && five_digits(tail + 1, number) && memcmp(tail + 6, "-of-", 4) == 0 &&
           five_digits(tail + 10, count) && *number >= 1 && *number <= *count;
}

static sl_status name_files(sl__gguf_set *set, const char *path, sl_error *err)
{
    size_t stem = 0;
    uint32_t number = 1, count = 1;
    bool part = part_name(path, &stem, &number, &count);
    if (part && count > PARTS_MAX) {
        return SL_FAIL(err, SL_EUNSUPPORTED, "%s: more than %u parts", path, PARTS_MAX);
    }
    if (!part) count = 1;
    set->files = SL_ARENA_NEW(set->arena, sl__gguf_file, count);
    if (!set->files) return SL_FAIL_NOMEM(err, "file table");
    set->file_count = count;
    for (uint32_t i = 0; i < count; i++) {
        char *name = sl__arena_strdup(set->arena, path);
        if (!name) return SL_FAIL_NOMEM(err, "file table");
        set->files[i].path = name;
        if (!part) continue;
        char digits[12];
        snprintf(digits, sizeof digits, "%05" PRIu32, i + 1);
        memcpy(name + stem + 1, digits, 5);
        if (sl__file_exists(name)) continue;
        sl_error why = {0};
        set->files[i].absent = true;
        (void)SL_FAIL(&why, SL_EIO, "%s: is missing; %s is one of %" PRIu32 " parts", name, path,
                      count);
        SL_TRY(sl__problems_pass(i > 0 ? set->problems : NULL, &why, err));
    }
    return SL_OK;
}

/* What the keys of part `index`, which was read last, say about being one. */
static sl_status check_split(const sl__gguf_set *set, uint32_t index, sl_error *err)
{
    const char *path = set->files[index].path;
    const struct {
        const char *name;
        int64_t want;
    } keys[] = {{"split.no", index}, {"split.count", set->file_count}};
    for (unsigned i = 0; i < 2; i++) {
        const sl__gguf_key *key = sl__gguf_find_key(set, keys[i].name);
        int64_t value = 0;
        if (!key && set->file_count == 1) continue;
        if (key && !key->array && sl__gguf_int_at(set, key, 0, &value) &&
            (value == keys[i].want || (i == 1 && value == 0 && set->file_count == 1))) {
            continue;
        }
        if (!key) return SL_FAIL(err, SL_EFORMAT, "%s: %s: is missing", path, keys[i].name);
        return SL_FAIL(err, SL_EFORMAT,
                       "%s: %s: %" PRId64 ", but by its name this is part %" PRIu32 " of %" PRIu32
                       " (%s counts from %d)",
                       path, keys[i].name, value, index + 1, set->file_count, keys[i].name,
                       i == 0 ? 0 : 1);
    }
    return SL_OK;
}

static sl_status read_file(sl__gguf_set *set, uint32_t index, sl_error *err)
{
    sl__gguf_file *file = &set->files[index];
    int fd;
    SL_TRY(sl__file_open(file->path, &fd, &file->size, err));
    sl_status status = sl__gguf_read_header(set, index, fd, NULL, 0, err);
    close(fd);
    return status == SL_OK ? check_split(set, index, err) : status;
}

static int compare_tensors(const void *a, const void *b)
{
    const sl__gguf_tensor *x = a, *y = b;
    int order = strcmp(x->name, y->name);
    return order ? order : (x->file > y->file) - (x->file < y->file);
}

sl_status sl__gguf_sort_tensors(sl__gguf_set *set, sl_error *err)
{
    if (set->tensor_count == 0) return SL_OK;
    qsort(set->tensors, set->tensor_count, sizeof *set->tensors, compare_tensors);
    for (size_t i = 1; i < set->tensor_count; i++) {
        const sl__gguf_tensor *a = &set->tensors[i - 1], *b = &set->tensors[i];
        if (strcmp(a->name, b->name) == 0) {
            return SL_FAIL(err, SL_EFORMAT, "%s: tensor %s occurs in %s as well",
                           set->files[a->file].path, a->name, set->files[b->file].path);
        }
    }
    return SL_OK;
}

static sl_status check_total(const sl__gguf_set *set, sl_error *err)
{
    static const char name[] = "split.tensors.count";
    int64_t total = 0;
    if (!sl__gguf_find_key(set, name)) return SL_OK;
    SL_TRY(sl__gguf_int(set, name, 0, INT64_MAX, &total, err));
    if ((uint64_t)total == set->tensor_count) return SL_OK;
    return SL_FAIL(err, SL_EFORMAT, "%s: %s: %" PRId64 ", but all parts together have %zu",
                   set->files[0].path, name, total, set->tensor_count);
}

static sl_status open_all(sl__gguf_set *set, const char *path, sl_error *err)
{
    SL_TRY(name_files(set, path, err));
    for (uint32_t i = set->file_count; i-- > 0;) {
        sl_error why = {0};
        if (set->files[i].absent) continue;
        set->files[i].absent = read_file(set, i, &why) != SL_OK;
        SL_TRY(sl__problems_pass(i > 0 ? set->problems : NULL, &why, err));
    }
    if (!set->problems || set->problems->count == 0) SL_TRY(check_total(set, err));
    return sl__gguf_sort_tensors(set, err);
}

sl_status sl__gguf_open(sl__gguf_set *out, const char *path, sl_error *err)
{
    return sl__gguf_survey(out, path, NULL, err);
}

sl_status sl__gguf_survey(sl__gguf_set *out, const char *path, sl__problems *problems,
                          sl_error *err)
{
    sl__gguf_set set = {.problems = problems};
    *out = (sl__gguf_set){0};
    set.arena = malloc(sizeof *set.arena);
    if (!set.arena) return SL_FAIL_NOMEM(err, "tensor table");
    sl__arena_init(set.arena, 0);
    sl_status status = open_all(&set, path, err);
    if (status != SL_OK)
        sl__gguf_close(&set);
    else
        *out = set;
    return status;
}

void sl__gguf_close(sl__gguf_set *set)
{
    if (set->arena) sl__arena_free(set->arena);
    free(set->arena);
    free(set->header);
    *set = (sl__gguf_set){0};
}

static int compare_with_name(const void *name, const void *tensor)
{
    return strcmp(name, ((const sl__gguf_tensor *)tensor)->name);
}

const sl__gguf_tensor *sl__gguf_find(const sl__gguf_set *set, const char *name)
{
    if (set->tensor_count == 0) return NULL;
    return bsearch(name, set->tensors, set->tensor_count, sizeof *set->tensors, compare_with_name);
}
