/* sluice: finds the command and runs it. */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "cli/cli.h"

static const cli_command *const commands[] = {
    &cli_cmd_run,
    &cli_cmd_chat,
    &cli_cmd_serve,
    &cli_cmd_bench,
    &cli_cmd_inspect,
    &cli_cmd_pull,
    &cli_cmd_pack,
    &cli_cmd_synth,
    &cli_cmd_tokenize,
    &cli_cmd_detokenize,
    &cli_cmd_render,
    &cli_cmd_logits,
    &cli_cmd_eval_nll,
    &cli_cmd_probe,
    &cli_cmd_cpu,
    &cli_cmd_trace_record,
    &cli_cmd_trace_inspect,
    &cli_cmd_trace_simulate,
};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

static void print_help(void)
{
    printf("usage: sluice COMMAND [ARGUMENTS] [OPTIONS]\n\n"
           "Runs Mixture-of-Experts language models whose experts stay on the disk.\n\n"
           "commands:\n");
    for (size_t i = 0; i < COMMANDS; i++)
        printf("  %-15s %s\n", commands[i]->name, commands[i]->summary);
    printf("\n'sluice COMMAND --help' says more. Exit codes: 0 done, 1 failed, 2 wrong usage.\n");
}

/* How many of the words match the command's name: all of them, or 0. */
static int match(const cli_command *command, int argc, char **argv)
{
    int words = 0;
    for (const char *name = command->name; *name;) {
        size_t size = strcspn(name, " ");
        if (words == argc || strlen(argv[words]) != size || memcmp(argv[words], name, size) != 0)
            return 0;
        words++;
        name += size + (name[size] == ' ');
    }
    return words;
}

/* The first word of a command of two, such as "eval": lists what may follow. */
static bool half_a_command(int argc, char **argv, int *code)
{
    char names[256] = "";
    size_t size = strlen(argv[0]);
    for (size_t i = 0; i < COMMANDS; i++) {
        const char *name = commands[i]->name;
        if (strncmp(name, argv[0], size) != 0 || name[size] != ' ') continue;
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s'sluice %s'", used ? ", " : "", name);
    }
    if (!names[0]) return false;
    bool help = argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0);
    if (help) printf("%s is followed by what to do: %s\n", argv[0], names);
    *code = help ? CLI_OK : cli_usage(NULL, "%s is followed by what to do: %s", argv[0], names);
    return true;
}

static int dispatch(const char *program, int argc, char **argv);

/* "help eval nll" is "eval nll --help". */
static int help_on(const char *program, int argc, char **argv)
{
    char help[] = "--help", *words[4];
    int count = 0;
    for (; count < argc && count < 3; count++)
        words[count] = argv[count];
    words[count++] = help;
    return dispatch(program, count, words);
}

static int dispatch(const char *program, int argc, char **argv)
{
    if (argc == 0) return cli_usage(NULL, "no command was given");
    if (strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0) {
        print_help();
        return CLI_OK;
    }
    if (strcmp(argv[0], "help") == 0) return help_on(program, argc - 1, argv + 1);
    if (strcmp(argv[0], "--version") == 0) {
        printf("sluice %s\n", sl_version());
        return CLI_OK;
    }
    for (size_t i = 0; i < COMMANDS; i++) {
        int words = match(commands[i], argc, argv);
        if (!words) continue;
        char model[SL_PATH_MAX];
        cli_call call = {.command = commands[i],
                         .program = program,
                         .argc = argc - words,
                         .argv = argv + words,
                         .model = model};
        return commands[i]->run(&call);
    }
    int code;
    if (half_a_command(argc, argv, &code)) return code;
    return cli_usage(NULL, "unknown %s '%s'", argv[0][0] == '-' ? "option" : "command", argv[0]);
}

/* A standard stream that was closed would lend its number to the next file that is opened, and
 * text for it would land there. It is opened such that writing to it fails. */
static void occupy_standard_streams(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) == -1 && open("/dev/null", fd ? O_RDONLY : O_WRONLY) != fd) return;
}

/* Every file of a model is held open, and again where it is read past the page cache. macOS lets a
 * program have 256 that does not ask for more. */
static void raise_file_limit(void)
{
    const rlim_t wanted = 4096;
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted) return;
    limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
    (void)setrlimit(RLIMIT_NOFILE, &limit); /* then opening the files says what is wrong */
}

int main(int argc, char **argv)
{
    occupy_standard_streams();
    raise_file_limit();
    signal(SIGPIPE, SIG_IGN); /* a reader that goes away is seen where it is written to */
    signal(SIGXFSZ, SIG_IGN); /* so is a limit on the size of files */
    int code = dispatch(argc > 0 ? argv[0] : "sluice", argc > 0 ? argc - 1 : 0, argv + 1);
    return cli_finish_stdout(code);
}
