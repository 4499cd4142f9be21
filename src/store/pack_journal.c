#include "store/pack_journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fail.h"
#include "base/hash.h"
#include "base/json.h"
#include "store/pack_layout.h"
#include "store/pack_manifest.h"

/* Opens and locks. What was locked must still be the file of that name: the one who held the lock
 * before may have finished and renamed the folder meanwhile. */
static sl_status open_locked(sl__pack_journal *j, sl_error *err)
{
    j->fd = open(j->path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (j->fd < 0) return SL_FAIL(err, SL_EIO, "%s: %s", j->path, strerror(errno));
    if (flock(j->fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK) {
            return SL_FAIL(err, SL_EINVAL, "%s: this pack is being written by another process",
                           j->path);
        }
        return SL_FAIL(err, SL_EIO, "%s: cannot be locked: %s", j->path, strerror(errno));
    }
    struct stat held, named;
    if (fstat(j->fd, &held) != 0 || stat(j->path, &named) != 0 || held.st_ino != named.st_ino ||
        held.st_dev != named.st_dev) {
        return SL_FAIL(err, SL_EIO, "%s: was replaced by another process", j->path);
    }
    return SL_OK;
}

/* Appends one line and syncs; takes over obj. */
static sl_status append(sl__pack_journal *j, json_t *obj, sl_error *err)
{
    char *text = NULL;
    size_t size;
    if (!obj) return SL_FAIL_NOMEM(err, "journal");
    sl_status status = sl__pack_dump(obj, JSON_COMPACT, &text, &size, err);
    json_decref(obj);
    if (status != SL_OK) return status;
    text[size] = '\n'; /* in place of the NUL */
    status = sl__file_pwrite_all(j->fd, j->path, text, size + 1, j->end, err);
    free(text);
    if (status == SL_OK && sl__file_sync(j->fd) != 0) {
        status = SL_FAIL(err, SL_EIO, "%s: %s", j->path, strerror(errno));
    }
    if (status != SL_OK) {
        /* Should this fail as well, the next reader takes the rest for a torn line. */
        (void)!ftruncate(j->fd, (off_t)j->end);
        return status;
    }
    j->end += size + 1;
    return SL_OK;
}

static json_t *header_json(const char *fingerprint, uint64_t plan)
{
    char hash[SL_HASH_TEXT];
    sl__hash_format(plan, hash);
    return json_pack("{s:s, s:i, s:s, s:s}", "journal", SL_PACK_FORMAT, "version", SL_PACK_VERSION,
                     "fingerprint", fingerprint, "plan", hash);
}

/* Gives one line to fn; *whole is false where the line is none of ours. */
static sl_status read_line(json_t *line, sl__pack_journal_fn fn, void *ctx, bool *whole,
                           sl_error *err)
{
    const char *name = json_string_value(json_object_get(line, "file"));
    const json_t *bytes = json_object_get(line, "bytes");
    const char *digits = json_string_value(json_object_get(line, "xxh3"));
    size_t size = digits ? strlen(digits) : 1; /* 1: no whole number of checksums */
    *whole = false;
    if (!name || !json_is_integer(bytes) || json_integer_value(bytes) < 0 ||
        size % SL_PACK_SUM_DIGITS != 0) {
        return SL_OK;
    }
    size_t count = size / SL_PACK_SUM_DIGITS;
    uint64_t *sums = malloc(count ? count * sizeof *sums : 1);
    if (!sums) return SL_FAIL_NOMEM(err, "journal");
    sl_status status = SL_OK;
    if (sl__pack_sums_parse(digits, sums, count)) {
        *whole = true;
        status = fn(ctx, name, (uint64_t)json_integer_value(bytes), sums, count, err);
    }
    free(sums);
    return status;
}

/* One whole line, parsed; NULL in *line where it is no JSON. */
static sl_status parse_line(const char *text, size_t size, json_t **line, sl_error *err)
{
    *line = NULL;
    sl_error quiet = {0};
    if (sl__json_parse(text, size, "journal", line, &quiet) == SL_ENOMEM) {
        return SL_FAIL_NOMEM(err, "journal");
    }
    return SL_OK;
}

/* Reads the lines after the first from text[*at], and moves *at behind the last good one. */
static sl_status read_lines(const char *text, size_t size, size_t *at, sl__pack_journal_fn fn,
                            void *ctx, sl_error *err)
{
    for (;;) {
        const char *start = text + *at, *newline = memchr(start, '\n', size - *at);
        if (!newline) return SL_OK;
        json_t *line;
        bool whole = false;
        SL_TRY(parse_line(start, (size_t)(newline - start), &line, err));
        sl_status status = line ? read_line(line, fn, ctx, &whole, err) : SL_OK;
        json_decref(line);
        if (status != SL_OK || !whole) return status;
        *at = (size_t)(newline - text) + 1;
    }
}

/* Reads what is there. j->end stays 0 where the journal must be begun anew. */
static sl_status read_journal(sl__pack_journal *j, const char *text, size_t size,
                              const json_t *expected, sl__pack_journal_fn fn, void *ctx,
                              sl_error *err)
{
    const char *newline = memchr(text, '\n', size);
    if (!newline) return SL_OK;
    size_t at = (size_t)(newline - text) + 1;
    json_t *header;
    SL_TRY(parse_line(text, at, &header, err));
    bool same = json_equal(header, expected);
    json_decref(header);
    if (!same) {
        if (at == size) return SL_OK; /* nothing was finished under it */
        return SL_FAIL(err, SL_EINVAL,
                       "%s: belongs to an interrupted pack of another source or other options; "
                       "remove its folder to begin anew",
                       j->path);
    }
    SL_TRY(read_lines(text, size, &at, fn, ctx, err));
    j->end = at;
    return SL_OK;
}

static sl_status begin_or_resume(sl__pack_journal *j, json_t *header, sl__pack_journal_fn fn,
                                 void *ctx, sl_error *err)
{
    char *text;
    size_t size;
    SL_TRY(sl__file_read(j->path, SL_PACK_MANIFEST_BYTES_MAX, &text, &size, err));
    sl_status status = read_journal(j, text, size, header, fn, ctx, err);
    free(text);
    if (status != SL_OK) return status;
    if (ftruncate(j->fd, (off_t)j->end) != 0) {
        return SL_FAIL(err, SL_EIO, "%s: %s", j->path, strerror(errno));
    }
    return j->end > 0 ? SL_OK : append(j, json_incref(header), err);
}

sl_status sl__pack_journal_open(sl__pack_journal *journal, const char *folder,
                                const char *fingerprint, uint64_t plan, sl__pack_journal_fn fn,
                                void *ctx, sl_error *err)
{
    journal->fd = -1;
    journal->end = 0;
    SL_TRY(sl__path_join(journal->path, sizeof journal->path, folder, SL_PACK_JOURNAL, err));
    json_t *header = header_json(fingerprint, plan);
    if (!header) return SL_FAIL_NOMEM(err, "journal");
    sl_status status = open_locked(journal, err);
    if (status == SL_OK) status = begin_or_resume(journal, header, fn, ctx, err);
    if (status == SL_OK) status = sl__file_sync_dir(folder, err);
    json_decref(header);
    if (status != SL_OK) sl__pack_journal_close(journal);
    return status;
}

sl_status sl__pack_journal_add(sl__pack_journal *journal, const char *name, uint64_t bytes,
                               const uint64_t *sums, size_t count, sl_error *err)
{
    char *digits = sl__pack_sums_format(sums, count);
    if (!digits) return SL_FAIL_NOMEM(err, "journal");
    json_t *line = json_pack("{s:s, s:I, s:s}", "file", name, "bytes", (json_int_t)bytes, "xxh3",
                             digits);
    free(digits);
    return append(journal, line, err);
}

void sl__pack_journal_close(sl__pack_journal *journal)
{
    if (journal->fd >= 0) close(journal->fd);
    journal->fd = -1;
}
