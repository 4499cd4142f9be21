/* The map of experts, from the engine's thread to those who watch. */
#include "server/experts_map.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/fail.h"

#define WATCHED_NS ((uint64_t)2000000000) /* after a question somebody is there */
#define EVERY_NS   ((uint64_t)100000000)

struct experts_map {
    const sl_engine *engine;
    uint32_t layers, experts;
    size_t size;
    pthread_mutex_t lock; /* of all that follows */
    sl_expert_map copy;   /* its state: [size] */
    uint64_t asked_at, copied_at;
};

sl_status experts_map_create(experts_map **out, const sl_engine *engine, sl_error *err)
{
    experts_map *m = *out = calloc(1, sizeof *m);
    if (!m) return SL_FAIL_NOMEM(err, "map of experts");
    m->engine = engine;
    pthread_mutex_init(&m->lock, NULL);
    sl_engine_experts_get(engine, &m->copy);
    m->layers = m->copy.layers;
    m->experts = m->copy.experts;
    m->size = (size_t)m->layers * m->experts;
    m->copy.state = malloc(m->size + 1);
    if (!m->copy.state) {
        experts_map_destroy(m);
        *out = NULL;
        return SL_FAIL_NOMEM(err, "map of experts");
    }
    sl_engine_experts_get(engine, &m->copy);
    return SL_OK;
}

void experts_map_destroy(experts_map *m)
{
    if (!m) return;
    free(m->copy.state);
    pthread_mutex_destroy(&m->lock);
    free(m);
}

void experts_map_update(experts_map *m)
{
    const uint64_t now = sl__now_ns();
    pthread_mutex_lock(&m->lock);
    if (m->asked_at && now - m->asked_at < WATCHED_NS && now - m->copied_at >= EVERY_NS) {
        sl_engine_experts_get(m->engine, &m->copy);
        m->copied_at = now;
    }
    pthread_mutex_unlock(&m->lock);
}

/* RFC 4648, with padding; out: 4 characters for 3 bytes or what is left of them. */
static void write_base64(char *out, const uint8_t *bytes, size_t size)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < size; i += 3, out += 4) {
        size_t left = size - i;
        uint32_t bits = (uint32_t)bytes[i] << 16;
        if (left > 1) bits |= (uint32_t)bytes[i + 1] << 8;
        if (left > 2) bits |= bytes[i + 2];
        out[0] = digits[bits >> 18];
        out[1] = digits[bits >> 12 & 63];
        out[2] = digits[bits >> 6 & 63];
        out[3] = digits[bits & 63];
        if (left < 3) out[3] = '=';
        if (left < 2) out[2] = '=';
    }
}

json_t *experts_map_json(experts_map *m)
{
    const size_t length = (m->size + 2) / 3 * 4;
    char *text = malloc(length + 1);
    if (!text) return NULL;
    pthread_mutex_lock(&m->lock);
    m->asked_at = sl__now_ns();
    write_base64(text, m->copy.state, m->size);
    pthread_mutex_unlock(&m->lock);
    json_t *value = json_pack("{s:I, s:I, s:s%}", "layers", (json_int_t)m->layers, "experts",
                              (json_int_t)m->experts, "map", text, length);
    free(text);
    return value;
}
