/* One request and what is answered to it; private to this room. */
#ifndef SL_SERVER_HTTP_H
#define SL_SERVER_HTTP_H

#include "base/buffer.h"
#include "server/api.h"
#include "server/scheduler.h"
#include "server/server.h"

struct sl__server {
    sl__server_options opt;
    api_model model;
    scheduler *scheduler;
    sl_prefix_cache *prefixes; /* likewise; NULL: none */
    sl_engine *engine;         /* the scheduler's; for what does not change */
    struct MHD_Daemon *daemon;
    uint16_t port;
    bool loopback;
    atomic_uint exchanges;    /* that have begun and not ended */
    atomic_ullong body_bytes; /* of bodies that are held, all together */
};

typedef struct exchange exchange;

typedef struct route {
    const char *method, *path;
    void (*answer)(exchange *x);
    bool open; /* needs no key */
} route;

struct exchange {
    sl__server *server;
    struct MHD_Connection *connection;
    const route *route; /* NULL: there is none */
    const char *path;   /* borrowed from the connection */
    bool anthropic;     /* errors are in the form of that API */
    sl__buffer body;
    uint64_t body_bytes; /* that came, kept or not */
    uint64_t held_bytes; /* of them, of those that count for all */
    bool started;
    /* What is answered: a stream that a job writes, or these bytes. */
    stream *out;
    job *j;
    bool streaming;
    unsigned status;    /* 0: nothing is answered yet */
    const char *type;   /* static */
    const char *policy; /* of a page's content; static; NULL: none */
    sl__buffer bytes;
    const void *fixed; /* instead of bytes: static ones */
    size_t fixed_size;
    const char *allow; /* with 405: the method that the path is for */
    const char *code;  /* of an error, as OpenAI's API has them; static; NULL: none */
};

/* The route of a request; a route whose path ends with a slash is that of all paths below it. NULL:
 * there is none, and *other is the method that the path has one for, or NULL. */
const route *route_find(const char *method, const char *path, const char **other);

/* Answers with JSON, which is stolen. */
void exchange_json(exchange *x, unsigned status, json_t *value);
void exchange_error(exchange *x, unsigned status, const char *message);

#endif
