/* Input: whole files and whole pipes. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/fail.h"
#include "cli/cli.h"

#define INPUT_BYTES_MAX ((size_t)1 << 30)

const char *cli_input_name(const char *path)
{
    return strcmp(path, "-") == 0 ? "standard input" : path;
}

/* Reads to the end, so that pipes do as well as files. */
sl_status cli_read(const char *path, sl__buffer *data, sl_error *err)
{
    const char *name = cli_input_name(path);
    sl__buffer_init(data, INPUT_BYTES_MAX);
    int fd = STDIN_FILENO;
    if (name == path) fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return SL_FAIL(err, SL_EIO, "%s: %s", name, strerror(errno));

    char part[1 << 16];
    ssize_t got;
    sl_status status = SL_OK;
    while (status == SL_OK && (got = read(fd, part, sizeof part)) != 0) {
        if (got < 0 && errno != EINTR)
            status = SL_FAIL(err, SL_EIO, "%s: %s", name, strerror(errno));
        else if (got > 0 && !sl__buffer_append(data, part, (size_t)got))
            status = SL_FAIL(err, SL_ENOMEM, "%s: more than memory or 1 GiB holds", name);
    }
    if (name == path) close(fd);
    if (status == SL_OK && !sl__buffer_reserve(data, 0)) status = SL_FAIL_NOMEM(err, name);
    if (status != SL_OK) sl__buffer_free(data);
    return status;
}
