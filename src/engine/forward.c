/* The forward pass: one function for a chunk of T >= 1 tokens, of one session or of several.
 *
 *     x = embed(ids)
 *     for each layer:  x += mixer(norm(x));  x += experts(norm(x))
 *     logits = head(norm(x))
 */
#include "engine/engine.h"

#include <string.h>

#include "base/fail.h"
#include "base/file.h"
#include "base/panels.h"

/* Shows each session that is watched its own rows. */
static void observe(const sl__pass *pass, sl__observed what, uint32_t layer, uint32_t width,
                    const float *data)
{
    for (uint32_t i = 0; i < pass->chunk.count; i++) {
        const sl__stretch *p = &pass->stretches[i];
        const sl_session *session = pass->sessions[i];
        if (!session->observer || p->failed) continue;
        session->observer(session->observer_ctx, what, layer, p->position, p->tokens, width,
                          data + (size_t)p->first * width);
    }
}

/* Reads a row of the embedding, or of a plane of it. */
static sl_status read_row(sl_engine *engine, const sl__tensor *tensor, uint64_t row, size_t bytes,
                          void *to, sl_error *err)
{
    const sl__extent *extent = &tensor->extent;
    SL_TRY(sl__file_pread_all(sl__store_fd(engine->store, extent->file),
                              sl__store_file_path(engine->store, extent->file), to, bytes,
                              extent->offset + row * bytes, err));
    engine->embedding_bytes_read += bytes;
    return SL_OK;
}

/* The row of an id in the embedding; of one in panels, the panel that it is in. Where the embedding
 * stays on the disk it is read, and its planes' rows behind it. */
static sl_status embedding_row(sl_engine *engine, int32_t id, sl__rows *out, sl_error *err)
{
    const sl__weight *w = &engine->run.model[SL_ROLE_EMBED];
    const sl__tensor *tensor = engine->embedding;
    const uint32_t rows = w->panels ? SL_PANEL_ROWS : 1, row = (uint32_t)id / rows;
    const size_t bytes = rows * w->row_bytes;
    if (w->data) {
        *out = sl__weight_rows(w, row * rows);
        return SL_OK;
    }
    char *to = engine->embedding_row;
    *out = (sl__rows){.dtype = w->dtype, .data = to, .row_bytes = w->row_bytes,
                      .scaling = w->scaling, .scale_row_bytes = w->scale_row_bytes};
    SL_TRY(read_row(engine, tensor, row, bytes, to, err));
    if (!tensor->scales) return SL_OK;
    uint64_t plane_row = sl__tensor_plane_row(tensor, row, &out->first);
    out->scales = to += bytes;
    SL_TRY(read_row(engine, tensor->scales, plane_row, w->scale_row_bytes, to, err));
    if (!tensor->biases) return SL_OK;
    out->biases = to += w->scale_row_bytes;
    return read_row(engine, tensor->biases, plane_row, w->scale_row_bytes, to, err);
}

static sl_status embed_token(sl_engine *engine, int32_t id, float *to, sl_error *err)
{
    const sl__weight *w = &engine->run.model[SL_ROLE_EMBED];
    uint32_t hidden = engine->desc.hidden;
    sl__rows row;
    SL_TRY(embedding_row(engine, id, &row, err));
    if (w->panels) {
        char *apart = (char *)engine->embedding_row + SL_PANEL_ROWS * w->row_bytes;
        sl__panel_get_row(w->dtype, row.data, (uint32_t)id % SL_PANEL_ROWS, hidden, apart);
        row.data = apart;
    }
    engine->run.kern.dequant_row(&row, 0, to, hidden);
    return SL_OK;
}

static sl_status embed(sl_engine *engine, const sl__pass *pass, sl_error *err)
{
    uint32_t hidden = engine->desc.hidden;
    for (uint32_t i = 0; i < pass->chunk.count; i++) {
        const sl__stretch *p = &pass->stretches[i];
        const int32_t *ids = pass->sessions[i]->ids + p->position;
        float *to = engine->run.scratch.residual + (size_t)p->first * hidden;
        for (uint32_t t = 0; t < p->tokens; t++)
            SL_TRY(embed_token(engine, ids[t], to + (size_t)t * hidden, err));
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

static sl_status run_layer(sl__run *run, sl__pass *pass, uint32_t layer, sl_error *err)
{
    sl__scratch *s = &run->scratch;
    const sl__layer_desc *l = &run->desc->layers[layer];
    const sl__weight *w = run->layers[layer];
    const uint32_t hidden = run->desc->hidden, count = pass->chunk.tokens;
    /* A chunk's was guessed at while the layer before ran, but for the first. */
    if (count < SL_SCAN_TOKENS || layer == sl__next_moe_layer(run, 0)) {
        sl__predict_experts(run, layer, count, true);
    }
    sl__norm_rows(run, s->normed, s->residual, &w[SL_ROLE_MIXER_NORM], count, hidden);
    switch (l->mixer) {
    case SL_MIXER_ATTENTION: sl__attention_block(run, layer, &pass->chunk); break;
    case SL_MIXER_MLA: sl__mla_block(run, layer, &pass->chunk); break;
    case SL_MIXER_DELTA: sl__delta_block(run, layer, &pass->chunk); break;
    }
    add_to_stream(run, count);
    observe(pass, SL_OBSERVED_MIXED, layer, hidden, s->residual);
    sl__norm_rows(run, s->normed, s->residual, &w[SL_ROLE_FFN_NORM], count, hidden);
    const float *router;
    SL_TRY(sl__moe_block(run, layer, &pass->chunk, &router, err));
    if (router) { /* not a dense layer */
        observe(pass, SL_OBSERVED_ROUTER, layer, l->moe.experts, router);
    }
    add_to_stream(run, count);
    return SL_OK;
}

void sl__session_fail(sl_session *session, sl_status status)
{
    session->eval_status = status;
    session->failed = true;
}

/* `layers` layers are through: tells a session's caller so. */
static void report(sl__pass *pass, uint32_t index, uint32_t layers)
{
    sl_session *session = pass->sessions[index];
    if (!session->progress || session->eval_count == 1) return;
    double part = (double)layers / (double)session->engine->desc.layer_count;
    sl_status status =
        session->progress(session->progress_ctx,
                          (double)session->eval_done + pass->stretches[index].tokens * part,
                          session->eval_count);
    if (status == SL_OK) return;
    sl__session_fail(session, SL_FAIL(session->eval_err, status, "stopped by the caller"));
    pass->stretches[index].failed = true;
}

/* After a layer: what has become of each session. Whether any is still in it. */
static bool settle(sl__pass *pass, uint32_t layer)
{
    bool any = false;
    for (uint32_t i = 0; i < pass->chunk.count; i++) {
        sl_session *session = pass->sessions[i];
        if (!pass->stretches[i].failed) report(pass, i, layer + 1);
        any = any || !pass->stretches[i].failed;
        if (!pass->stretches[i].failed || session->eval_status != SL_OK) continue;
        sl_status status = SL_FAIL(session->eval_err, SL_ENUMERIC,
                                   "%s: layer %u: the router's output is not finite",
                                   sl__store_path(session->engine->store), layer);
        sl__session_fail(session, status);
    }
    return any;
}

/* A failure of the pass is one of all sessions that were still in it. */
static void fail_all(sl__pass *pass, sl_status status, const sl_error *why)
{
    for (uint32_t i = 0; i < pass->chunk.count; i++) {
        sl_session *session = pass->sessions[i];
        if (session->eval_status != SL_OK) continue;
        sl__fail(session->eval_err, status, "%s", why->message);
        sl__session_fail(session, status);
    }
}

/* All layers are through. */
static void finish(sl_engine *engine, sl__pass *pass)
{
    sl__run *run = &engine->run;
    sl__scratch *s = &run->scratch;
    const sl__model_desc *desc = run->desc;
    bool watched = false;
    for (uint32_t i = 0; i < pass->chunk.count; i++) {
        sl_session *session = pass->sessions[i];
        watched = watched || session->observer;
        if (session->eval_status == SL_OK) session->position += pass->stretches[i].tokens;
    }
    if (watched) {
        sl__norm_rows(run, s->normed, s->residual, &run->model[SL_ROLE_FINAL_NORM],
                      pass->chunk.tokens, desc->hidden);
        observe(pass, SL_OBSERVED_HIDDEN, desc->layer_count, desc->hidden, s->normed);
    }
    engine->tokens += pass->chunk.tokens;
}

void sl__forward(sl_engine *engine, sl__pass *pass)
{
    sl__run *run = &engine->run;
    sl_error err = {0};
    assert(pass->chunk.tokens >= 1 && pass->chunk.tokens <= run->scratch.tokens);
    sl_status status = embed(engine, pass, &err);
    for (uint32_t i = 0; i < run->desc->layer_count && status == SL_OK; i++) {
        observe(pass, SL_OBSERVED_HIDDEN, i, run->desc->hidden, run->scratch.residual);
        status = run_layer(run, pass, i, &err);
        if (status == SL_OK && !settle(pass, i)) return;
    }
    if (status == SL_OK) finish(engine, pass);
    else fail_all(pass, status, &err);
}

void sl__head(sl_engine *engine, const uint32_t *rows, uint32_t count)
{
    sl__run *run = &engine->run;
    sl__scratch *s = &run->scratch;
    const size_t hidden = run->desc->hidden;
    assert(count >= 1 && count <= engine->plan.logits_rows && count <= s->tokens);
    for (uint32_t i = 0; i < count; i++)
        memcpy(s->mixed + i * hidden, s->residual + rows[i] * hidden, hidden * sizeof(float));
    sl__norm_rows(run, s->normed, s->mixed, &run->model[SL_ROLE_FINAL_NORM], count,
                  (uint32_t)hidden);
    const sl__product head =
        sl__product_of(&run->model[SL_ROLE_HEAD], s->normed, engine->logits, count);
    sl__products(run, &head, 1);
}
