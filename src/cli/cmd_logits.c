/* sluice logits: the logits of every token of a sequence, as a file of numbers.
 *
 *     FILE:  float32, little-endian, [tokens, vocabulary], row after row, no header
 *
 * Rows are written as chunks arrive, into FILE.tmp, which becomes FILE when it is complete.
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fail.h"
#include "base/file.h"
#include "cli/cli.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "rows are written as they lie in memory: little-endian is required"
#endif

typedef struct logits_sink {
    int fd;
    const char *path; /* of the temporary file */
    const char *model;
    uint64_t offset;
    uint32_t vocab_size;
    size_t count; /* of tokens in all */
    sl_error *err;
} logits_sink;

static bool all_finite(const float *row, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (!isfinite(row[i])) return false;
    return true;
}

static sl_status write_rows(void *ctx, size_t first, size_t count, const float *logits)
{
    logits_sink *sink = ctx;
    if (cli_interrupted()) return SL_FAIL(sink->err, SL_ECANCELLED, "stopped; nothing was written");
    for (size_t i = 0; i < count; i++) {
        if (all_finite(logits + i * sink->vocab_size, sink->vocab_size)) continue;
        return SL_FAIL(sink->err, SL_ENUMERIC, "%s: a logit of token %zu is not finite",
                       sink->model, first + i);
    }
    cli_status_line("logits: %zu of %zu tokens", first, sink->count);
    uint64_t bytes = (uint64_t)count * sink->vocab_size * sizeof(float);
    SL_TRY(sl__file_pwrite_all(sink->fd, sink->path, logits, bytes, sink->offset, sink->err));
    sink->offset += bytes;
    return SL_OK;
}

static sl_status open_temporary(char *tmp, size_t tmp_size, const char *path, int *fd,
                                sl_error *err)
{
    struct stat st;
    /* A rename would put a plain file in the place of a device or a pipe. */
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
        return SL_FAIL(err, SL_EINVAL, "%s: not a regular file", path);
    int n = snprintf(tmp, tmp_size, "%s.tmp", path);
    if (n < 0 || (size_t)n >= tmp_size)
        return SL_FAIL(err, SL_EINVAL, "%s: the path is too long", path);
    *fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (*fd < 0) return SL_FAIL(err, SL_EIO, "%s: %s", tmp, strerror(errno));
    return SL_OK;
}

static sl_status write_logits(sl_session *session, const cli_ids *ids, uint32_t vocab_size,
                              const char *model, const char *path, sl_error *err)
{
    char tmp[SL_PATH_MAX];
    logits_sink sink = {.path = tmp,
                        .model = model,
                        .vocab_size = vocab_size,
                        .count = ids->count,
                        .err = err,
                        .fd = -1};
    SL_TRY(open_temporary(tmp, sizeof tmp, path, &sink.fd, err));
    cli_interrupt_catch();
    sl_status status = sl_session_eval(session, ids->ids, ids->count, NULL, write_rows, &sink, err);
    cli_status_clear();
    if (status == SL_OK && sl__file_sync(sink.fd) != 0)
        status = SL_FAIL(err, SL_EIO, "%s: %s", tmp, strerror(errno));
    if (close(sink.fd) != 0 && status == SL_OK)
        status = SL_FAIL(err, SL_EIO, "%s: %s", tmp, strerror(errno));
    if (status == SL_OK && rename(tmp, path) != 0)
        status = SL_FAIL(err, SL_EIO, "%s: %s", path, strerror(errno));
    if (status != SL_OK) unlink(tmp);
    return status;
}

static sl_status compute(const char *model, const char *ids_path, const char *out_path,
                         cli_engine_options *opt, cli_ids *ids, sl_error *err)
{
    SL_TRY(cli_ids_read_plain(ids, ids_path, err));
    if (ids->count == 0) return SL_FAIL(err, SL_EINVAL, "%s: holds no token id", ids->name);
    if (ids->count > UINT32_MAX) return SL_FAIL(err, SL_EINVAL, "%s: too many tokens", ids->name);
    if (opt->engine.context_tokens == 0) opt->engine.context_tokens = (uint32_t)ids->count;

    sl_engine *engine;
    sl_session *session;
    SL_TRY(cli_engine_open(&engine, &session, model, opt, err));
    sl_engine_info info;
    sl_engine_info_get(engine, &info);
    char lossy[128];
    if (cli_lossy(lossy, &info)[0]) fprintf(stderr, "%s\n", lossy);
    sl_status status = cli_ids_check(ids, info.vocab_size, err);
    if (status == SL_OK) status = write_logits(session, ids, info.vocab_size, model, out_path, err);
    sl_session_destroy(session);
    sl_engine_close(engine);
    return status;
}

static int run_command(const cli_call *call)
{
    const char *model, *ids_path = NULL, *out_path = NULL;
    cli_engine_options opt = {0};
    const cli_option options[] = {
        {0, "ids", "FILE", CLI_TEXT, &ids_path, 0, 0, NULL,
         "token ids apart by white space ('-': standard input)", NULL},
        {0, "out", "FILE", CLI_TEXT, &out_path, 0, 0, NULL,
         "where to: float32, little-endian, [tokens, vocabulary]", NULL},
    };
    cli_option engine_options[CLI_ENGINE_OPTIONS];
    cli_engine_table(engine_options, &opt);
    const cli_group groups[] = {{NULL, options, 2},
                                {"the model", engine_options, CLI_ENGINE_OPTIONS}};
    int code;
    if (!cli_parse(call, groups, 2, &model, &code)) return code;
    if (!ids_path) return cli_usage(call->command, "--ids FILE is missing");
    if (!out_path) return cli_usage(call->command, "--out FILE is missing");

    sl_error err = {0};
    cli_ids ids;
    cli_ids_init(&ids);
    sl_status status = compute(model, ids_path, out_path, &opt, &ids, &err);
    cli_ids_free(&ids);
    return status == SL_OK ? CLI_OK : cli_fail_error(&err);
}

const cli_command cli_cmd_logits = {
    .name = "logits",
    .args = "MODEL --ids FILE --out FILE [options]",
    .summary = "Write the logits of every token of a sequence",
    .details = "The context is as long as the sequence where --ctx is not given. The file appears\n"
               "when it is complete.\n",
    .args_min = 1,
    .args_max = 1,
    .run = run_command,
};
