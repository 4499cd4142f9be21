/* A session: the state of one sequence. batch.c runs tokens through it. */
#include "engine/engine.h"

#include <stdlib.h>

#include "base/fail.h"
#include "base/pages.h"

/* Lays the table of layers, the token ids and the layers' state into one block. */
static void lay_state(sl_session *session)
{
    const sl__model_desc *desc = &session->engine->desc;
    const sl__plan *plan = &session->engine->plan;
    size_t table = (size_t)sl__state_table_bytes(desc);
    size_t before = table + (size_t)sl__session_ids_bytes(plan->context_tokens);
    session->layers = (sl__layer_state *)(void *)session->memory;
    session->ids = (int32_t *)(void *)(session->memory + table);
    uint64_t used = sl__state_layout(session->layers, desc, plan->kv, plan->context_tokens,
                                     plan->chunk_tokens, session->memory + before);
    assert(used <= session->memory_bytes - before);
}

uint64_t sl__engine_left(const sl_engine *engine)
{
    const sl__plan *plan = &engine->plan;
    uint64_t taken = sl__plan_used(plan) + plan->cache;
    if (engine->prefix_bytes > plan->prefix) taken += engine->prefix_bytes - plan->prefix;
    return plan->budget > taken ? plan->budget - taken : 0;
}

/* The plan has room for some sessions; what it left over decides about others. */
static sl_status check_room(const sl_engine *engine, sl_error *err)
{
    const sl__plan *plan = &engine->plan;
    if (engine->session_count < plan->sessions) return SL_OK;
    uint64_t more = engine->session_count + 1 - plan->sessions; /* than were planned for */
    if (sl__engine_left(engine) / more >= plan->state) return SL_OK;
    const double mib = 1048576.0;
    return SL_FAIL(err, SL_EBUDGET, "%s: another session takes %.1f MiB, and the budget of %.1f "
                   "MiB has no room for it beside the %u that there are; a shorter context or a "
                   "smaller expert cache would do", sl__store_path(engine->store),
                   (double)plan->state / mib, (double)plan->budget / mib, engine->session_count);
}

sl_status sl_session_create(sl_session **out, sl_engine *engine, sl_error *err)
{
    SL_TRY(check_room(engine, err));
    sl_session *session = calloc(1, sizeof *session);
    if (!session) return SL_FAIL_NOMEM(err, "session");
    session->engine = engine;
    session->memory_bytes = (size_t)engine->plan.state;
    session->memory = sl__pages_alloc(session->memory_bytes);
    if (!session->memory) {
        free(session);
        return SL_FAIL_NOMEM(err, "session state");
    }
    lay_state(session);
    engine->session_count++;
    *out = session;
    return SL_OK;
}

void sl_session_destroy(sl_session *session)
{
    if (!session) return;
    session->engine->session_count--;
    sl__pages_free(session->memory, session->memory_bytes);
    free(session);
}

void sl_session_reset(sl_session *session)
{
    sl__state_reset(session->layers, &session->engine->desc);
    session->position = 0;
    session->cut = false;
    session->failed = false;
}

sl_engine *sl_session_engine(const sl_session *session) { return session->engine; }

const int32_t *sl_session_ids(const sl_session *session) { return session->ids; }

uint32_t sl_session_position(const sl_session *session) { return session->position; }

void sl__session_observe(sl_session *session, sl__observer_fn fn, void *ctx)
{
    session->observer = fn;
    session->observer_ctx = ctx;
}

void sl_session_set_progress(sl_session *session, sl_progress_fn fn, void *ctx)
{
    session->progress = fn;
    session->progress_ctx = ctx;
}

sl_status sl__session_check(const sl_session *session, const int32_t *ids, size_t count,
                            sl_error *err)
{
    const sl_engine *engine = session->engine;
    if (session->failed) {
        return SL_FAIL(err, SL_EINVAL, "the session failed before and must be reset");
    }
    if (count == 0) return SL_FAIL(err, SL_EINVAL, "no tokens were given");
    if (count > engine->plan.context_tokens - session->position) {
        return SL_FAIL(err, SL_EINVAL, "the context of %u tokens is full: %u are in it, %zu more "
                       "were given", engine->plan.context_tokens, session->position, count);
    }
    for (size_t i = 0; i < count; i++) {
        if (ids[i] < 0 || (uint32_t)ids[i] >= engine->desc.vocab) {
            return SL_FAIL(err, SL_EINVAL, "token %zu: id %d is outside the vocabulary of %u", i,
                           (int)ids[i], engine->desc.vocab);
        }
    }
    return SL_OK;
}
