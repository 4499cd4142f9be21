/* The forward pass: one function for a chunk of T >= 1 tokens.
 *
 *     x = embed(ids)
 *     for each layer:  x += mixer(norm(x));  x += experts(norm(x))
 *     logits = head(norm(x))
 */
#include "engine/engine.h"

#include "base/fail.h"
#include "base/file.h"
#include "base/panels.h"

static void observe(const sl_session *session, sl__observed what, uint32_t layer, uint32_t count,
                    uint32_t width, const float *data)
{
    if (!session->observer) return;
    session->observer(session->observer_ctx, what, layer, session->position, count, width, data);
}

/* The row of an id in the embedding; of one in panels, the panel that it is in. Where the embedding
 * stays on the disk it is read. */
static sl_status embedding_row(sl_engine *engine, int32_t id, const void **out, sl_error *err)
{
    const sl__weight *w = &engine->run.model[SL_ROLE_EMBED];
    const uint32_t rows = w->panels ? SL_PANEL_ROWS : 1;
    size_t bytes = rows * w->row_bytes;
    uint64_t at = (uint64_t)id / rows * bytes;
    *out = w->data ? (const char *)w->data + at : engine->embedding_row;
    if (w->data) return SL_OK;
    const sl__extent *extent = &engine->embedding->extent;
    SL_TRY(sl__file_pread_all(sl__store_fd(engine->store, extent->file),
                              sl__store_file_path(engine->store, extent->file),
                              engine->embedding_row, bytes, extent->offset + at, err));
    engine->embedding_bytes_read += bytes;
    return SL_OK;
}

static sl_status embed(sl_engine *engine, const int32_t *ids, uint32_t count, sl_error *err)
{
    const sl__weight *w = &engine->run.model[SL_ROLE_EMBED];
    uint32_t hidden = engine->desc.hidden;
    for (uint32_t t = 0; t < count; t++) {
        const void *row;
        SL_TRY(embedding_row(engine, ids[t], &row, err));
        if (w->panels) {
            char *apart = (char *)engine->embedding_row + SL_PANEL_ROWS * w->row_bytes;
            sl__panel_get_row(w->dtype, row, (uint32_t)ids[t] % SL_PANEL_ROWS, hidden, apart);
            row = apart;
        }
        const sl__rows one = {.dtype = w->dtype, .data = row, .row_bytes = w->row_bytes};
        engine->run.kern.dequant_row(&one, 0, engine->run.scratch.residual + (size_t)t * hidden,
                                     hidden);
    }
    return SL_OK;
}

/* residual += mixed */
static void add_to_stream(sl__run *run, uint32_t count)
{
    uint32_t hidden = run->desc->hidden;
    for (uint32_t t = 0; t < count; t++) {
        size_t at = (size_t)t * hidden;
        run->kern.axpy(run->scratch.residual + at, 1.0f, run->scratch.mixed + at, hidden);
    }
}

static void mix(sl_session *session, uint32_t layer, uint32_t count)
{
    sl__run *run = &session->engine->run;
    sl__layer_state *state = &session->layers[layer];
    switch (run->desc->layers[layer].mixer) {
    case SL_MIXER_ATTENTION:
        sl__attention_block(run, layer, state, session->position, count);
        break;
    case SL_MIXER_MLA: sl__mla_block(run, layer, state, session->position, count); break;
    case SL_MIXER_DELTA: sl__delta_block(run, layer, state, count); break;
    }
}

static sl_status run_layer(sl_session *session, uint32_t layer, uint32_t count, sl_error *err)
{
    sl__run *run = &session->engine->run;
    sl__scratch *s = &run->scratch;
    const sl__weight *w = run->layers[layer];
    uint32_t hidden = run->desc->hidden;
    /* A chunk's was guessed at while the layer before ran, but for the first. */
    if (count < SL_SCAN_TOKENS || layer == sl__next_moe_layer(run, 0)) {
        sl__predict_experts(run, layer, count, true);
    }
    sl__norm_rows(run, s->normed, s->residual, &w[SL_ROLE_MIXER_NORM], count, hidden);
    mix(session, layer, count);
    add_to_stream(run, count);
    observe(session, SL_OBSERVED_MIXED, layer, count, hidden, s->residual);
    sl__norm_rows(run, s->normed, s->residual, &w[SL_ROLE_FFN_NORM], count, hidden);
    const float *router;
    SL_TRY(sl__moe_block(run, layer, count, &router, err));
    if (router) { /* not a dense layer */
        observe(session, SL_OBSERVED_ROUTER, layer, count, run->desc->layers[layer].moe.experts,
                router);
    }
    add_to_stream(run, count);
    return SL_OK;
}

/* `layers` layers of a chunk of `tokens` tokens are through. */
static sl_status report(const sl_session *session, uint32_t layers, uint32_t tokens, sl_error *err)
{
    if (!session->progress || session->eval_count == 1) return SL_OK;
    double part = (double)layers / (double)session->engine->desc.layer_count;
    sl_status status = session->progress(session->progress_ctx,
                                         (double)session->eval_done + tokens * part,
                                         session->eval_count);
    return status == SL_OK ? SL_OK : SL_FAIL(err, status, "stopped by the caller");
}

sl_status sl__forward(sl_session *session, const int32_t *ids, uint32_t count, sl_error *err)
{
    sl_engine *engine = session->engine;
    sl__run *run = &engine->run;
    sl__scratch *s = &run->scratch;
    const sl__model_desc *desc = run->desc;
    assert(count >= 1 && count <= s->tokens);
    SL_TRY(embed(engine, ids, count, err));
    for (uint32_t i = 0; i < desc->layer_count; i++) {
        observe(session, SL_OBSERVED_HIDDEN, i, count, desc->hidden, s->residual);
        SL_TRY(run_layer(session, i, count, err));
        SL_TRY(report(session, i + 1, count, err));
    }
    if (session->observer) {
        sl__norm_rows(run, s->normed, s->residual, &run->model[SL_ROLE_FINAL_NORM], count,
                      desc->hidden);
        observe(session, SL_OBSERVED_HIDDEN, desc->layer_count, count, desc->hidden, s->normed);
    }
    session->position += count;
    engine->tokens += count;
    return SL_OK;
}

void sl__head(sl_session *session, uint32_t first, uint32_t count)
{
    sl__run *run = &session->engine->run;
    sl__scratch *s = &run->scratch;
    uint32_t hidden = run->desc->hidden;
    assert(count >= 1 && count <= session->engine->plan.logits_rows);
    sl__norm_rows(run, s->normed, s->residual + (size_t)first * hidden,
                  &run->model[SL_ROLE_FINAL_NORM], count, hidden);
    const sl__product head = sl__product_of(&run->model[SL_ROLE_HEAD], s->normed,
                                            session->engine->logits, count);
    sl__products(run, &head, 1);
}
