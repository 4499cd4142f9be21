/* Running tokens through sessions: one, or several as a batch.
 *
 *     items      A: 700 tokens    B: 1    C: 1        chunk_tokens 512
 *     pass 1     | A 0 … 447 | B | C |                longer ones first, in whole inner chunks
 *     pass 2     | A 448 … 699 |
 *
 * Every pass reads each expert that it needs once, for all rows. Sessions of a single token are in
 * the first pass, whatever else there is, so that they never wait for another pass; and they are
 * its last rows, of which the expert cache hears what it should keep.
 *
 * Where a session's tokens are cut cannot be seen in a result: attention gives the same bits
 * however they come, and DeltaNet where cuts lie on its grid (sl__delta_grid), which they do.
 */
#include "engine/engine.h"

#include <string.h>

#include "base/clock.h"
#include "base/fail.h"

/* The expert cache gives back what others need, and takes it again when they do not. */
static void follow_memory(sl_engine *engine)
{
    if (!engine->pressure) return;
    sl__cache_stats stats;
    sl__cache_stats_get(engine->run.cache, &stats);
    uint64_t target = sl__mempressure_target(engine->pressure, engine->plan.cache,
                                             stats.budget_bytes, sl__now_ns());
    if (target != stats.budget_bytes) sl__cache_resize(engine->run.cache, target);
}

/* ---- making a pass --------------------------------------------------------------------------- */

static size_t left_of(const sl_batch_item *item)
{
    const sl_session *session = item->session;
    return item->status == SL_OK ? session->eval_count - session->eval_done : 0;
}

/* How many of an item's tokens go into `room` rows: all that are left, or up to where they may be
 * cut, which may be none. */
static uint32_t portion(const sl_engine *engine, const sl_batch_item *item, uint32_t room)
{
    const uint32_t position = item->session->position;
    if (left_of(item) <= room) return (uint32_t)left_of(item);
    if (!sl__model_has_delta(&engine->desc)) return room;
    const uint32_t grid = sl__delta_grid(&engine->run);
    uint64_t end = ((uint64_t)position + room) / grid * grid;
    return end > position ? (uint32_t)(end - position) : 0;
}

static void add(sl__pass *pass, const sl_batch_item *item, uint32_t tokens)
{
    sl_session *session = item->session;
    uint32_t i = pass->chunk.count++;
    memcpy(session->ids + session->position, item->ids + session->eval_done,
           tokens * sizeof *item->ids);
    pass->sessions[i] = session;
    pass->stretches[i] = (sl__stretch){.layers = session->layers, .position = session->position,
                                       .first = pass->chunk.tokens, .tokens = tokens};
    pass->chunk.tokens += tokens;
}

/* Whether anything is left to run. */
static bool make_pass(sl_engine *engine, const sl_batch_item *items, size_t count, sl__pass *pass)
{
    const uint32_t most = engine->plan.chunk_tokens;
    uint32_t single = 0;
    pass->chunk = (sl__chunk){.stretches = pass->stretches};
    for (size_t i = 0; i < count && single < most && single < SL_STRETCHES_MAX; i++)
        single += left_of(&items[i]) == 1;
    for (size_t i = 0; i < count; i++) {
        uint32_t room = most - single - pass->chunk.tokens;
        if (left_of(&items[i]) <= 1 || room == 0) continue;
        if (pass->chunk.count == SL_STRETCHES_MAX - single) break;
        uint32_t n = portion(engine, &items[i], room);
        if (n > 0) add(pass, &items[i], n);
    }
    for (size_t i = 0; i < count && single > 0; i++) {
        if (left_of(&items[i]) != 1) continue;
        add(pass, &items[i], 1);
        single--;
    }
    return pass->chunk.count > 0;
}

/* ---- logits ---------------------------------------------------------------------------------- */

/* Logits of rows [first, first + n) of a session's stretch that its caller's function hears. */
static sl_status tell_rows(sl_engine *engine, sl_session *session, const sl__stretch *p)
{
    uint32_t rows[SL_LOGITS_ROWS], n;
    for (uint32_t t = 0; t < p->tokens; t += n) {
        n = p->tokens - t < engine->plan.logits_rows ? p->tokens - t : engine->plan.logits_rows;
        for (uint32_t i = 0; i < n; i++)
            rows[i] = p->first + t + i;
        sl__head(engine, rows, n);
        sl_status status =
            session->eval_fn(session->eval_ctx, session->eval_done + t, n, engine->logits);
        if (status != SL_OK) return SL_FAIL(session->eval_err, status, "stopped by the caller");
    }
    return SL_OK;
}

/* Rows whose logits are made together, and where they go. */
struct wanted {
    uint32_t rows[SL_LOGITS_ROWS], count;
    float *to[SL_LOGITS_ROWS];
};

static void give(sl_engine *engine, struct wanted *wanted)
{
    const size_t vocab = engine->desc.vocab;
    if (wanted->count == 0) return;
    sl__head(engine, wanted->rows, wanted->count);
    for (uint32_t i = 0; i < wanted->count; i++)
        memcpy(wanted->to[i], engine->logits + i * vocab, vocab * sizeof(float));
    wanted->count = 0;
}

/* The logits that callers want of a pass, and how far their calls are then. */
static void finish_pass(sl_engine *engine, const sl__pass *pass)
{
    struct wanted wanted = {.count = 0};
    for (uint32_t i = 0; i < pass->chunk.count; i++) {
        const sl__stretch *p = &pass->stretches[i];
        sl_session *session = pass->sessions[i];
        if (session->eval_status != SL_OK) continue;
        if (session->eval_fn) {
            sl_status status = tell_rows(engine, session, p);
            if (status != SL_OK) sl__session_fail(session, status);
        }
        session->eval_done += p->tokens;
        if (session->eval_done < session->eval_count || !session->eval_logits) continue;
        wanted.rows[wanted.count] = p->first + p->tokens - 1;
        wanted.to[wanted.count++] = session->eval_logits;
        if (wanted.count == engine->plan.logits_rows) give(engine, &wanted);
    }
    give(engine, &wanted);
}

/* ---- calls ----------------------------------------------------------------------------------- */

/* Runs all items whose status is SL_OK, and leaves it as it then is. */
static void run_items(sl_engine *engine, sl_batch_item *items, size_t count)
{
    uint64_t begin = sl__now_ns();
    sl__pass pass;
    while (make_pass(engine, items, count, &pass)) {
        follow_memory(engine);
        sl__forward(engine, &pass);
        finish_pass(engine, &pass);
        for (size_t i = 0; i < count; i++) {
            if (items[i].status == SL_OK) items[i].status = items[i].session->eval_status;
        }
    }
    engine->forward_ns += sl__now_ns() - begin;
}

static void begin_item(const sl_batch_item *item, sl_logits_fn fn, void *ctx, sl_error *err)
{
    sl_session *session = item->session;
    const uint32_t grid = sl__delta_grid(&session->engine->run);
    if (sl__model_has_delta(&session->engine->desc) && session->position % grid != 0) {
        session->cut = true;
    }
    session->eval_done = 0;
    session->eval_count = item->count;
    session->eval_logits = item->logits;
    session->eval_status = SL_OK;
    session->eval_err = err;
    session->eval_fn = fn;
    session->eval_ctx = ctx;
}

sl_status sl_session_eval(sl_session *session, const int32_t *ids, size_t count, float *logits,
                          sl_logits_fn fn, void *ctx, sl_error *err)
{
    SL_TRY(sl__session_check(session, ids, count, err));
    sl_batch_item item = {.session = session, .ids = ids, .count = count, .logits = logits};
    begin_item(&item, fn, ctx, err);
    run_items(session->engine, &item, 1);
    return item.status;
}

/* Every session is there, of this engine, and there once. */
static sl_status check_sessions(const sl_engine *engine, const sl_batch_item *items, size_t count,
                                sl_error *err)
{
    size_t i = 0;
    sl_status status = SL_OK;
    for (; i < count && status == SL_OK; i++) {
        sl_session *session = items[i].session;
        if (!session) {
            status = SL_FAIL(err, SL_EINVAL, "item %zu of the batch has no session", i);
        } else if (session->engine != engine) {
            status = SL_FAIL(err, SL_EINVAL, "item %zu of the batch is a session of another engine",
                             i);
        } else if (session->in_batch) {
            status = SL_FAIL(err, SL_EINVAL, "item %zu of the batch has a session that is in it "
                             "already", i);
        } else {
            session->in_batch = true;
        }
    }
    if (status != SL_OK) i--; /* the last one was not marked */
    for (size_t j = 0; j < i; j++)
        items[j].session->in_batch = false;
    return status;
}

sl_status sl_engine_eval_batch(sl_engine *engine, sl_batch_item *items, size_t count,
                               sl_error *err)
{
    if (count == 0) return SL_FAIL(err, SL_EINVAL, "the batch is empty");
    SL_TRY(check_sessions(engine, items, count, err));
    for (size_t i = 0; i < count; i++) {
        sl_batch_item *item = &items[i];
        item->error = (sl_error){0};
        item->status = sl__session_check(item->session, item->ids, item->count, &item->error);
        if (item->status == SL_OK) begin_item(item, NULL, NULL, &item->error);
    }
    run_items(engine, items, count);
    return SL_OK;
}
