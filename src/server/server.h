/* The server: HTTP in front of one engine. It sees sluice.h and the base room alone.
 *
 *     connections (libmicrohttpd's threads)            the engine's thread
 *       request ─ api ─ job ── queue ───────────────▶  scheduler: a batch of jobs, pass after pass
 *       response ◀─ stream of bytes ◀── sink ────────  events of each job
 */
#ifndef SL_SERVER_SERVER_H
#define SL_SERVER_SERVER_H

#include <stdbool.h>
#include <stdint.h>

#include "sluice.h"

typedef struct sl__server_options {
    const char *host;    /* a numeric address; NULL: 127.0.0.1 */
    uint16_t port;       /* 0: any free one */
    const char *api_key; /* NULL: none is asked for; needed where host is no loopback address */
    const char *cors;    /* the origin that browsers may send requests from; NULL: none */
    const char *model;   /* the model's name in answers */
    uint32_t queue;      /* requests that may wait; 0: 64 */
    uint64_t body_bytes; /* of a request at most; 0: 32 MiB */
    uint32_t max_tokens; /* of an answer, where a request says nothing; 0: what the context holds */
    const sl_vocabulary *words; /* the tokenizer's, for grammars; NULL: there are none */
    const char *prefixes;       /* folder that keeps prompts across restarts; NULL: memory alone */
    bool prefixes_asked;        /* for by name; else there is memory alone where it cannot be had */
    uint64_t prefix_memory_bytes, prefix_disk_bytes; /* both 0: nothing is kept */
    /* Told of what the operator should know, one line, from any thread; may be NULL. */
    void (*log)(void *ctx, const char *line);
    void *log_ctx;
} sl__server_options;

typedef struct sl__server sl__server;

/* Starts answering on threads of its own, with as many sessions at once as the engine was opened
 * for. From now on the engine is the server's: nobody else calls it until stop. All is borrowed.
 * tmpl NULL: there is no chat, /v1/completions alone. SL_EIO where the address cannot be had. */
sl_status sl__server_start(sl__server **out, const sl__server_options *opt, sl_engine *engine,
                           const sl_template *tmpl, sl_error *err);
uint16_t sl__server_port(const sl__server *server);
/* Ends what is being answered, and waits until all of it has ended. NULL is allowed. */
void sl__server_stop(sl__server *server);

#endif
