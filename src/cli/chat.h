/* A chat: what its parts share.
 *
 *     cmd_chat ─ lines ─┬─ chat_commands       "/save FILE"
 *                       └─ chat_answer: messages ─ template ─ ids ─ chat_model ─ logits ─┐
 *                            ▲    │                                        ▲── id ─ sl_generation
 *                            │    └─ calls ─ y/n ─ tool_process                     │ events
 *                            └── messages, with the answer ◄── chat_screen ◄────────┘
 *
 * The conversation is a JSON array of messages as templates take them; every turn renders all of it
 * anew, and what the session already has of the result is not evaluated again.
 */
#ifndef SL_CLI_CHAT_H
#define SL_CLI_CHAT_H

#include <jansson.h>

#include "cli/chat_tools.h"
#include "cli/cli.h"
#include "cli/cmd_run.h"
#include "cli/line.h"
#include "cli/markdown.h"
#include "cli/sampling.h"

/* ---- the model (chat_model.c) ---------------------------------------------------------------- */

typedef struct chat_model {
    const char *path;
    cli_engine_options options;
    sl_tokenizer *tok;
    sl_template *tmpl;
    sl_engine *engine;
    sl_session *session;
    sl_prefix_cache *prefixes; /* NULL: the budget has no room for one */
    sl_generation_defaults defaults;
    sl_engine_info info;
    uint64_t load_ns; /* that opening took */
    float *logits;    /* [vocab_size], of the last token evaluated */
    int32_t *seen;    /* [context_tokens] ids that the session has evaluated: */
    size_t seen_count;
} chat_model;

/* path and options are set; what was opened before a failure is closed by chat_model_close. */
sl_status chat_model_open(chat_model *m, sl_error *err);
void chat_model_close(chat_model *m);
/* Another number of experts a token: the engine is opened anew. On failure it is as it was, or, in
 * the worst case, closed: m->engine is NULL then. */
sl_status chat_model_experts(chat_model *m, uint32_t experts, sl_error *err);

/* tools NULL: none. think: false asks the template for an answer without reasoning. */
sl_status chat_model_prompt(const chat_model *m, const json_t *messages, const json_t *tools,
                            bool think, sl_prompt *prompt, sl_error *err);
/* Makes the session one that has evaluated exactly these ids, m->logits being those of the last;
 * *reused of them it had already. SL_ECANCELLED where progress says so. */
sl_status chat_model_evaluate(chat_model *m, const sl_prompt *prompt, sl_progress_fn progress,
                              void *ctx, size_t *reused, sl_error *err);
/* One token more; there is room in the context. */
sl_status chat_model_step(chat_model *m, int32_t id, sl_error *err);

/* ---- the screen (chat_screen.c) -------------------------------------------------------------- */

typedef enum chat_thinking {
    CHAT_THINKING_SHOW = 0,
    CHAT_THINKING_DIM,
    CHAT_THINKING_HIDE,
    CHAT_THINKING_OFF, /* the model is asked for none */
} chat_thinking;

/* "show", "dim", "hide", "off"; NULL after the last. */
const char *chat_thinking_name(unsigned i);
bool chat_thinking_find(const char *name, chat_thinking *out);

typedef struct chat_screen {
    bool asks;       /* somebody sits there, and can be asked */
    bool talks;      /* and types messages: prompts, a line of figures */
    bool terminal;   /* stdout is one: no control characters of a model's */
    bool attributes; /* bold and the like */
    chat_thinking thinking;
    bool reader_gone; /* nobody reads stdout any more */
    /* of the present answer: */
    enum { CHAT_NOTHING = 0, CHAT_THOUGHT, CHAT_ANSWER } part;
    bool mid_line;
    unsigned styles;   /* that the terminal has now */
    uint32_t thoughts; /* pieces */
    uint64_t drawn_ns;
    markdown markdown;
} chat_screen;

void chat_screen_open(chat_screen *s, bool one_message);
void chat_screen_begin(chat_screen *s); /* an answer */
void chat_screen_thought(chat_screen *s, const char *text, size_t size);
void chat_screen_text(chat_screen *s, const char *text, size_t size);
void chat_screen_end(chat_screen *s); /* the cursor is at the beginning of a line after it */
/* A remark for whoever sits there: dim, on stderr, one line. Control characters become '?'. */
void chat_screen_note(const chat_screen *s, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* The figures of an answer, as many as the width has room for. */
void chat_screen_figures(const chat_screen *s, const run_report *report, size_t position);

/* ---- the chat -------------------------------------------------------------------------------- */

typedef struct chat {
    chat_model model;
    cli_sampling sampling, given_sampling; /* given: on the command line, which goes first */
    uint32_t limit, given_limit;           /* tokens an answer; 0: what the context has room for */
    char *system;                          /* NULL: none; owned */
    json_t *messages;                      /* without the system's */
    chat_tools tools;
    char *tools_path; /* NULL: none; owned */
    bool tools_fixed; /* the command line names them: no conversation does */
    bool yes_run_tools;
    bool thinking_fixed;
    uint32_t tool_seconds;
    bool forgets;         /* nothing is kept in the state folder */
    bool remember_failed; /* was said already */
    chat_screen screen;
    line_reader *lines;
    run_report report; /* of the last answer; model NULL: there was none */
    bool failed;       /* something went wrong that did not end the chat: the exit code */
} chat;

/* ---- turns (chat_answer.c) ------------------------------------------------------------------- */

/* Takes a user's message, and answers it, running tools as far as they are allowed. On failure, or
 * where it is interrupted before a token was there, the conversation is as it was before. */
sl_status chat_turn(chat *c, const char *text, size_t size, sl_error *err);

/* Bytes as a JSON string: what is no UTF-8, and NUL, become U+FFFD. New reference; NULL: no
 * memory. */
json_t *chat_json_text(const char *bytes, size_t size);

/* One call of a tool: asks, runs, and gives the text of the tool's message. New reference; NULL: no
 * memory. (chat_call.c) */
json_t *chat_call_run(const chat *c, const char *name, const json_t *arguments);

/* ---- kept conversations (chat_file.c) -------------------------------------------------------- */

sl_status chat_file_save(const chat *c, const char *path, sl_error *err);
/* Replaces conversation and settings, or changes nothing and says in one line why. */
sl_status chat_file_load(chat *c, const char *path, sl_error *err);
/* Where the last conversation of the model is remembered; false where there is no home for it. */
bool chat_file_last(const chat *c, char out[SL_PATH_MAX]);
void chat_file_remember(chat *c);
/* Takes the tools of a file (NULL: none), or changes nothing. */
sl_status chat_take_tools(chat *c, const char *path, sl_error *err);

/* ---- commands (chat_commands.c) -------------------------------------------------------------- */

/* Runs a line that begins with '/'; false: the chat is over. */
bool chat_command(chat *c, const char *line);

#endif
