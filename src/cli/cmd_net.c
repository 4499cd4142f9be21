/* Commands that speak over a network are in a program of their own, sluice-net, which lies beside
 * this one and is all of it and more: the libraries that they need would be in the memory of every
 * other command, too, which has better use for it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/net.h"

static int run_there(const cli_call *call)
{
    char folder[SL_PATH_MAX], path[SL_PATH_MAX], name[16];
    char **words = calloc((size_t)call->argc + 3, sizeof *words);
    if (!words) return cli_fail("out of memory");
    words[0] = strdup(call->program);
    snprintf(name, sizeof name, "%s", call->command->name);
    words[1] = name;
    for (int i = 0; i < call->argc; i++)
        words[2 + i] = call->argv[i];
    path[0] = '\0';
    if (words[0] && cli_program_folder(folder) &&
        sl__path_join(path, sizeof path, folder, "sluice-net", NULL) == SL_OK) {
        execv(path, words);
    }
    int code = cli_fail("'sluice %s' is in the program sluice-net, which cannot be run (%s: %s)",
                        call->command->name, path, strerror(errno));
    free(words[0]);
    free(words);
    return code;
}

const cli_command cli_cmd_pull = {
    .name = "pull",
    .summary = CLI_PULL_SUMMARY,
    .run = run_there,
};

const cli_command cli_cmd_serve = {
    .name = "serve",
    .summary = CLI_SERVE_SUMMARY,
    .run = run_there,
};
