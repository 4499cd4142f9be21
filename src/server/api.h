/* What the APIs have in common: from the JSON of a request to a job, and from its events to bytes.
 *
 *     body ─ parse ─ request {messages, tools, options} ─ prompt ─ job ─▶ scheduler
 *                                                   reply ◀─ events ◀──────┘
 *
 * Errors of a request are one line that names the member, SL_EINVAL; each API gives them its own
 * form.
 */
#ifndef SL_SERVER_API_H
#define SL_SERVER_API_H

#include "base/buffer.h"
#include "server/job.h"
#include "server/stream.h"

/* What requests are answered with. All is borrowed, and the same for all of them. */
typedef struct api_model {
    const char *name;
    const sl_tokenizer *tok;
    const sl_template *tmpl;    /* NULL: there is no chat */
    const sl_vocabulary *words; /* for grammars; NULL: the tokenizer is of no such kind */
    sl_tool_form tool_form;     /* in which the model writes calls */
    sl_generation_defaults defaults;
    uint32_t vocab_size, context_tokens, max_tokens;
    int64_t since; /* Unix time */
} api_model;

/* What a request asks for, in the form of the job. Zero-initialise; free with api_request_free. */
typedef struct api_request {
    json_t *messages;   /* as templates take them; owned */
    json_t *tools;      /* likewise; NULL: none */
    json_t *kwargs;     /* further variables of the template; NULL: none */
    json_t *prompt;     /* instead of messages: a string, or an array of token ids; owned */
    bool stream, usage; /* usage: the stream ends with it */
    sl_generation_options options;
    char **stops; /* ended by NULL; owned */
    /* The form of the answer. */
    bool json;       /* a JSON object, */
    json_t *schema;  /* by this schema; NULL: any; owned */
    bool must_call;  /* a tool, */
    char *call_name; /* of this name; NULL: any; owned */
    bool one_call;   /* at most one */
    bool too_long;   /* what api_prepare failed for: the context does not hold the prompt */
} api_request;
void api_request_free(api_request *r);

/* Renders and encodes the prompt of a job: its ids and turns. */
sl_status api_prompt(const api_model *model, api_request *r, job *j, sl_error *err);
/* The same, and moves what else the request owns into the job. */
sl_status api_prepare(const api_model *model, api_request *r, job *j, sl_error *err);

/* The grammar that the request's form of answer asks for, into the job. */
sl_status api_grammar(const api_model *model, const api_request *r, job *j, sl_error *err);
sl_tool_form api_tool_form(const sl_template *tmpl); /* tmpl may be NULL */

/* ---- members of requests --------------------------------------------------------------------- */

/* An optional member; NULL where it is absent or null. Borrowed. */
json_t *api_member(const json_t *body, const char *key);
/* Each reads an optional member; null counts as absent. */
sl_status api_number(const json_t *body, const char *key, double min, double max, float *out,
                     sl_error *err);
sl_status api_whole(const json_t *body, const char *key, uint64_t min, uint64_t max, uint64_t *out,
                    bool *given, sl_error *err);
sl_status api_flag(const json_t *body, const char *key, bool *out, sl_error *err);
sl_status api_string(const json_t *body, const char *key, const char **out, sl_error *err);
/* Fails where one of the members, which cannot be done, is there and asks for something: is neither
 * null, false nor empty. keys are ended by NULL. */
sl_status api_refuse(const json_t *body, const char *const *keys, sl_error *err);
/* A string, or an array of strings. */
sl_status api_stops(const json_t *body, const char *key, api_request *r, sl_error *err);
/* temperature, top_p, top_k, min_p, seed and the penalties, where they are there. */
sl_status api_sampling(const json_t *body, sl_sampler_options *out, sl_error *err);
/* Sets a variable of the template; steals value. */
sl_status api_kwarg(api_request *r, const char *name, json_t *value, sl_error *err);
/* A new string of a line that may hold bytes that are not UTF-8, as messages of errors may where
 * they were cut: those show as '?'. NULL: no memory. */
json_t *api_line(const char *line);
/* The text of `content`: a string, null, or an array of parts of text. New reference. where: for
 * messages, "messages[2].content". */
sl_status api_text(const json_t *content, const char *where, json_t **out, sl_error *err);

/* ---- replies --------------------------------------------------------------------------------- */

/* One answer in the form of an API. Made by the functions of the API; the rest is alike. */
typedef struct reply reply;

typedef struct reply_form {
    const char *prefix, *call_prefix; /* of ids */
    /* A stream's events, as they come; unused (NULL) where the answer comes whole. */
    void (*begin)(reply *r);
    void (*event)(reply *r, const sl_event *event);
    void (*alive)(reply *r); /* nothing to say: a sign of life */
    void (*end)(reply *r);   /* of a stream */
    /* The whole answer. */
    void (*whole)(reply *r);
    /* Instead of an answer, or in the middle of a stream (streaming). */
    void (*error)(reply *r, unsigned status, const char *message, bool streaming);
} reply_form;

/* A call of a tool, as far as it was written. */
typedef struct reply_call {
    char id[40];
    sl__buffer name, arguments; /* arguments: where the answer is not streamed */
} reply_call;

struct reply {
    const reply_form *form;
    const api_model *model;
    stream *out;
    bool streaming, begun, usage_wanted, logprobs;
    char id[48];
    int64_t created;
    sl__buffer text, reasoning; /* so far */
    reply_call *calls;          /* [call_count] */
    size_t call_count;
    json_t *chances;   /* of the answer's tokens, as the API has them; NULL: not asked for */
    size_t characters; /* of the tokens whose chances were told */
    int block;         /* the form's own, as the next two */
    bool block_open;
    sl_event_kind block_kind;
    sl_finish finish;
    int stop; /* which of the stops ended it; -1: none */
    job_usage usage;
    char *const *stops;
};

extern const job_sink reply_sink; /* its ctx is the reply, which it owns */

/* "prefix" and 24 letters, as far as they fit. */
void reply_random_id(char *out, size_t size, const char *prefix);
/* NULL: no memory. out is held. */
reply *reply_create(const reply_form *form, const api_model *model, stream *out, bool streaming);
void reply_free(reply *r);

/* Writes JSON, and steals it. */
void reply_json(reply *r, json_t *value);
/* One server-sent event; name NULL: it has none. Steals the value. What cannot be made for want of
 * memory breaks the stream: no client takes a part for the whole. */
void reply_sse(reply *r, const char *name, json_t *value);
/* The HTTP status for a failure. */
unsigned reply_status(sl_status status);

/* ---- the APIs -------------------------------------------------------------------------------- */

/* Reads the body of a request of the API. */
sl_status openai_chat_parse(const api_model *model, const json_t *body, api_request *out,
                            sl_error *err);
sl_status openai_completion_parse(const api_model *model, const json_t *body, api_request *out,
                                  sl_error *err);
sl_status anthropic_parse(const api_model *model, const json_t *body, api_request *out,
                          sl_error *err);
/* What of it makes the prompt. */
sl_status anthropic_parse_prompt(const json_t *body, api_request *out, sl_error *err);
extern const reply_form openai_chat_form, openai_completion_form, anthropic_form;

#endif
