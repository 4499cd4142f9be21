/* What the commands of the program share: options, messages, the terminal, input, the model.
 *
 *     main ── finds the command ── cmd_NAME.c ── cli_parse (a table) ── sluice.h
 *
 * A command returns its exit code. Messages go to stderr as one line, "sluice: MESSAGE"; results go
 * to stdout. The program sees the public header and the base room, nothing else of the library.
 */
#ifndef SL_CLI_H
#define SL_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/buffer.h"
#include "base/file.h"
#include "sluice.h"

enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2 }; /* exit codes */

/* ---- commands -------------------------------------------------------------------------------- */

typedef struct cli_call cli_call;

typedef struct cli_command {
    const char *name;    /* "run", "eval nll" */
    const char *args;    /* "[MODEL] -p TEXT"; where MODEL stands first, so does a model's path, or
                          * its name on the hub */
    const char *summary; /* a line of `sluice --help` */
    const char *details; /* what its own --help adds; NULL: nothing */
    size_t args_min, args_max;
    int (*run)(const cli_call *call);
} cli_command;

struct cli_call {
    const cli_command *command;
    const char *program; /* argv[0] */
    int argc;            /* of what follows the command's name */
    char **argv;
    char *model;         /* [SL_PATH_MAX], for a path that was found for a name; NULL: no names */
};

extern const cli_command cli_cmd_chat;
extern const cli_command cli_cmd_run, cli_cmd_logits, cli_cmd_eval_nll, cli_cmd_tokenize,
    cli_cmd_detokenize, cli_cmd_render, cli_cmd_serve, cli_cmd_inspect, cli_cmd_pull, cli_cmd_pack,
    cli_cmd_probe, cli_cmd_bench, cli_cmd_cpu, cli_cmd_synth, cli_cmd_trace_record,
    cli_cmd_trace_inspect, cli_cmd_trace_simulate;

/* ---- options --------------------------------------------------------------------------------- */

typedef enum cli_kind {
    CLI_FLAG,   /* bool; takes no value */
    CLI_U32,    /* uint32_t */
    CLI_U64,    /* uint64_t */
    CLI_F32,    /* float */
    CLI_SIZE,   /* uint64_t, bytes, at least 1; "512M" */
    CLI_TEXT,   /* const char *, borrowed from argv */
    CLI_CHOICE, /* const char *, one of the words of `value` */
} cli_kind;

typedef struct cli_option {
    char letter;       /* 'p'; 0: none */
    const char *name;  /* "memory"; NULL: none */
    const char *value; /* what --help calls the value: "SIZE"; of a choice "all|first|none" */
    cli_kind kind;
    void *target;      /* of the kind's type; left alone where the option is not given */
    double min, max;   /* of U32 and F32; max 0: the type's */
    const char *takes; /* for messages, "a number above 0, at most 1"; NULL: the kind's */
    const char *help;
    bool *given; /* may be NULL */
} cli_option;

typedef struct cli_group {
    const char *title; /* in --help; NULL: "options" */
    const cli_option *options;
    size_t count;
} cli_group;

/* Reads the options of a call, and its other arguments into args[args_max], unfilled ones NULL. A
 * MODEL that is no path but the name of a model in the hub's cache becomes the path of that.
 * False: the call is over, with help given or a message printed, and *code is the exit code. */
bool cli_parse(const cli_call *call, const cli_group *groups, size_t group_count, const char **args,
               int *code);

/* ---- messages -------------------------------------------------------------------------------- */

/* "sluice: MESSAGE" on stderr, control characters shown as '?'. Returns CLI_FAILED. */
int cli_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
int cli_fail_error(const sl_error *err);

/* "sluice: run: MESSAGE (see 'sluice run --help')"; returns CLI_USAGE. */
int cli_usage(const cli_command *command, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* Sees that everything went out to stdout. A reader that went away is no failure. */
int cli_finish_stdout(int code);

/* ---- figures for people ---------------------------------------------------------------------- */

enum { CLI_FIGURE = 32 };

const char *cli_size(char out[CLI_FIGURE], uint64_t bytes);     /* "1.5 GiB" */
const char *cli_duration(char out[CLI_FIGURE], double seconds); /* "1:02:03" */
const char *cli_quantity(char out[CLI_FIGURE], uint64_t count); /* "35.6 million" */
const char *cli_exact(char out[CLI_FIGURE], double x); /* the shortest text that reads back as x */

/* "  label            value" */
void cli_row(FILE *to, const char *label, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Bits a weight of the routed experts as they are stored, scales included. */
double cli_expert_bits(const sl_model_info *info);

/* "LOSSY: 4 of 8 experts a token …" where fewer experts run than were trained, else "". */
const char *cli_lossy(char out[128], const sl_engine_info *info);

/* ---- the terminal ---------------------------------------------------------------------------- */

/* After this, Ctrl-C (or SIGTERM) sets a flag once; the next one ends the process. */
void cli_interrupt_catch(void);
bool cli_interrupted(void);

/* For a command that goes on: every Ctrl-C sets the flag, until it is forgotten; the third that
 * nobody took notice of ends the process. SIGTERM sets the flag for good, and cli_ending. */
void cli_interrupt_catch_each(void);
void cli_interrupt_forget(void);
bool cli_ending(void);

/* Waits until a file descriptor can be read, or is at its end; false: Ctrl-C or SIGTERM. */
bool cli_wait_input(int fd);

/* The folder of this program itself. */
bool cli_program_folder(char out[SL_PATH_MAX]);

bool cli_stderr_is_terminal(void);
size_t cli_terminal_width(void); /* in columns; 80 where it is not known */

/* One line of stderr that is written over by the next; nothing where stderr is no terminal. */
void cli_status_line(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void cli_status_clear(void);

/* Writes text of a model. What a terminal could take for a command is shown as '?'. */
bool cli_write_text(FILE *to, const char *text, size_t size, bool terminal);

typedef struct cli_progress {
    bool terminal;
    char what[64];
    uint64_t start_ns, start_bytes, drawn_ns;
} cli_progress;

/* On a terminal a bar with rate and time left; elsewhere a line whenever `what` changes. */
void cli_progress_show(cli_progress *progress, const sl_pack_progress *at);
void cli_progress_end(cli_progress *progress);

/* The same of tokens going through a model, shown where that takes more than a second, on a
 * terminal alone. A zeroed struct is ready. */
typedef struct cli_token_progress {
    uint64_t start_ns, drawn_ns;
} cli_token_progress;
void cli_token_progress_show(cli_token_progress *progress, const char *what, double done,
                             size_t count);
void cli_token_progress_end(cli_token_progress *progress);

/* ---- input ----------------------------------------------------------------------------------- */

/* Everything of a file, or of stdin where path is "-". data is freed with sl__buffer_free. */
sl_status cli_read(const char *path, sl__buffer *data, sl_error *err);
const char *cli_input_name(const char *path); /* for messages: "-" is "standard input" */

/* Token ids, in lines: line i is ids[ends[i - 1]] up to ids[ends[i]]. */
typedef struct cli_ids {
    sl__buffer ids_buffer, ends_buffer; /* own what follows */
    const int32_t *ids;
    size_t count;
    const size_t *ends;
    size_t lines;
    const char *name;      /* of the input, for messages; borrowed */
    const char *line_word; /* what messages call a line; NULL: there is but one */
    size_t first_line;     /* and the number of the first one */
} cli_ids;

void cli_ids_init(cli_ids *ids);
void cli_ids_free(cli_ids *ids);

/* Each reads into an initialised cli_ids, path "-" being stdin, and borrows path.
 * plain: ids apart by white space, one line of them; no id at all is no failure here.
 * lines: a JSON array of ids, or plain ids, a line of the file; one at least.
 * nested: a JSON array of arrays of ids, each of them a line here. */
sl_status cli_ids_read_plain(cli_ids *ids, const char *path, sl_error *err);
sl_status cli_ids_read_lines(cli_ids *ids, const char *path, sl_error *err);
sl_status cli_ids_read_nested(cli_ids *ids, const char *path, sl_error *err);

/* Fails, naming input and position, where an id is not below vocab_size. */
sl_status cli_ids_check(const cli_ids *ids, uint32_t vocab_size, sl_error *err);

/* ---- the model ------------------------------------------------------------------------------- */

enum { CLI_ENGINE_OPTIONS = 16 };

typedef struct cli_engine_options {
    sl_engine_options engine;
    const char *verify, *io, *direct, *prefetch, *map_advice, *activations, *kv; /* choices */
    bool exact;
} cli_engine_options;

/* The options of every command that runs a model. What is in *opt already is the default;
 * activations and kv NULL: f32. */
void cli_engine_table(cli_option table[CLI_ENGINE_OPTIONS], cli_engine_options *opt);

/* Opens a model, and a session on it where session is not NULL. On failure nothing is open. */
sl_status cli_engine_open(sl_engine **engine, sl_session **session, const char *path,
                          const cli_engine_options *opt, sl_error *err);

/* Where the probe's findings are remembered: disks.json in the user's cache folder, which is made
 * where it is missing, for the user alone. False where there is no home for it. */
bool cli_probe_file(char out[SL_PATH_MAX]);
/* A folder of this name in the program's own cache folder, which is made; the folder itself is not.
 * False: there is no such place. */
bool cli_cache_folder(char out[SL_PATH_MAX], const char *name);
/* A file in the user's folder of this program's state, such as histories; otherwise as above. */
bool cli_state_file(char out[SL_PATH_MAX], const char *name);
/* The folders of all programs' caches and states, which need not be there; false where none is
 * known. */
bool cli_cache_home(char *out, size_t out_size);
bool cli_state_home(char *out, size_t out_size);

/* Runs a model for `tokens` tokens of its own and prints how it routes. */
sl_status cli_measure_routing(const char *path, uint32_t tokens, sl_error *err);

/* Where *model is nothing on the disk and has the form of a name on the hub, makes it the path of
 * that model in the hub's cache, in room. SL_EIO where the cache has none; the message says how to
 * get it. */
sl_status cli_model_find(const char **model, char room[SL_PATH_MAX], sl_error *err);

/* Where the demo model lies; SL_EIO where it is nowhere. */
sl_status cli_demo_path(char *out, size_t out_size, const char *program, sl_error *err);

#endif
