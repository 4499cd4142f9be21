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
    sl_engine *engine; /* the scheduler's; for what does not change */
    struct MHD_Daemon *daemon;
    uint16_t port;
    bool loopback;
};

typedef struct exchange exchange;

typedef struct route {
    const char *method, *path;
    void (*answer)(exchange *x);
    bool open;      /* needs no key */
    bool anthropic; /* errors are in the form of that API */
} route;

struct exchange {
    sl__server *server;
    struct MHD_Connection *connection;
    const route *route; /* NULL: there is none */
    sl__buffer body;
    bool too_large, started;
    /* What is answered: a stream that a job writes, or these bytes. */
    stream *out;
    job *j;
    bool streaming;
    unsigned status;
    const char *type; /* static */
    sl__buffer bytes;
    const void *fixed; /* instead of bytes: static ones */
    size_t fixed_size;
    bool retry_later;
};

/* The route of a request; NULL, and *other: the path has one for another method. */
const route *route_find(const char *method, const char *path, bool *other);

/* Answers with JSON, which is stolen. */
void exchange_json(exchange *x, unsigned status, json_t *value);
void exchange_error(exchange *x, unsigned status, const char *message);

#endif
