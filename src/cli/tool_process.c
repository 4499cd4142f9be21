/* A tool's program while it runs.
 *
 *     posix_spawnp ─ own process group ─┬─ stdout, stderr ─ pipe ─ poll ─ output, up to its limit
 *                                       └─ exit, time limit or stop ─ kill the group ─ wait
 *
 * Spawning does not copy the address space of a process that may hold most of the memory.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/tool_process.h"

#define SLICE_MS 20 /* between looks at the clock and the child */

extern char **environ;

static int set_actions(posix_spawn_file_actions_t *actions, int out)
{
    int rc = posix_spawn_file_actions_addopen(actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (rc == 0) rc = posix_spawn_file_actions_adddup2(actions, out, STDOUT_FILENO);
    if (rc == 0) rc = posix_spawn_file_actions_adddup2(actions, out, STDERR_FILENO);
    return rc;
}

/* The signals as a program expects them: this one ignores some, and catches others. */
static int set_attributes(posix_spawnattr_t *attributes)
{
    sigset_t defaults, none;
    sigemptyset(&none);
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    sigaddset(&defaults, SIGXFSZ);
    sigaddset(&defaults, SIGINT);
    sigaddset(&defaults, SIGTERM);
    short flags = (short)(POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
    int rc = posix_spawnattr_setflags(attributes, flags);
    if (rc == 0) rc = posix_spawnattr_setpgroup(attributes, 0);
    if (rc == 0) rc = posix_spawnattr_setsigdefault(attributes, &defaults);
    if (rc == 0) rc = posix_spawnattr_setsigmask(attributes, &none);
    return rc;
}

static int spawn(pid_t *child, char *const *argv, int out)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    int rc = posix_spawn_file_actions_init(&actions);
    if (rc != 0) return rc;
    rc = posix_spawnattr_init(&attributes);
    if (rc == 0) {
        rc = set_actions(&actions, out);
        if (rc == 0) rc = set_attributes(&attributes);
        if (rc == 0) rc = posix_spawnp(child, argv[0], &actions, &attributes, argv, environ);
        posix_spawnattr_destroy(&attributes);
    }
    posix_spawn_file_actions_destroy(&actions);
    return rc;
}

/* Reads what is there; false: there will be nothing more. */
static bool take_output(int in, size_t limit, sl__buffer *output, bool *cut)
{
    char part[4096];
    ssize_t got = read(in, part, sizeof part);
    if (got < 0) return errno == EINTR || errno == EAGAIN;
    if (got == 0) return false;
    size_t room = limit - output->size, size = (size_t)got;
    if (size > room) *cut = true;
    if (!sl__buffer_append(output, part, size < room ? size : room)) *cut = true;
    return true;
}

typedef struct watch {
    pid_t child;
    int in;
    bool exited, open; /* open: somebody may still write */
    int status;        /* of waitpid, once exited */
} watch;

/* Waits a little for output or the exit; true: there is nothing more to wait for. */
static bool look(watch *w, const tool_limits *limits, sl__buffer *output, bool *cut)
{
    struct pollfd fd = {.fd = w->open ? w->in : -1, .events = POLLIN};
    if (poll(&fd, 1, SLICE_MS) > 0)
        w->open = take_output(w->in, limits->output_bytes, output, cut);
    else if (w->exited)
        return true; /* what it left behind is silent */
    if (!w->exited) w->exited = waitpid(w->child, &w->status, WNOHANG) == w->child;
    return w->exited && !w->open;
}

static tool_result watch_child(watch *w, const tool_limits *limits, sl__buffer *output)
{
    tool_result result = {.end = TOOL_EXITED};
    uint64_t start_ns = sl__now_ns();
    bool done = false;
    while (!done) {
        done = look(w, limits, output, &result.cut);
        if (done) break;
        if (limits->stop && limits->stop())
            result.end = TOOL_STOPPED;
        else if (sl__now_ns() - start_ns >= limits->time_ns)
            result.end = TOOL_TOO_LONG;
        done = result.end != TOOL_EXITED;
    }
    (void)kill(-w->child, SIGKILL);
    while (!w->exited)
        w->exited = waitpid(w->child, &w->status, 0) == w->child || errno != EINTR;
    if (result.end != TOOL_EXITED) return result;
    if (WIFSIGNALED(w->status)) {
        result.end = TOOL_KILLED;
        result.code = WTERMSIG(w->status);
    } else {
        result.code = WEXITSTATUS(w->status);
    }
    return result;
}

/* Both ends are closed in programs that are started. */
static bool make_pipe(int ends[2])
{
    if (pipe(ends) != 0) return false;
    for (int i = 0; i < 2; i++)
        (void)fcntl(ends[i], F_SETFD, FD_CLOEXEC);
    (void)fcntl(ends[0], F_SETFL, O_NONBLOCK);
    return true;
}

tool_result tool_process_run(char *const *argv, const tool_limits *limits, sl__buffer *output)
{
    int ends[2];
    if (!make_pipe(ends)) return (tool_result){.end = TOOL_NOT_BEGUN, .code = errno};
    watch w = {.in = ends[0], .open = true};
    int rc = spawn(&w.child, argv, ends[1]);
    close(ends[1]);
    tool_result result = {.end = TOOL_NOT_BEGUN, .code = rc};
    if (rc == 0) result = watch_child(&w, limits, output);
    close(ends[0]);
    return result;
}
