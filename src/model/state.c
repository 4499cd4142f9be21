#include "model/state.h"

#include <assert.h>
#include <string.h>

#include "base/checked.h"

#define ALIGN 64u

/* A cursor over memory that may not be there yet. */
struct cursor {
    char *base;
    uint64_t used;
    bool overflow;
};

static float *take(struct cursor *c, uint64_t rows, uint64_t width)
{
    float *out = c->base ? (float *)(void *)(c->base + c->used) : NULL;
    uint64_t bytes;
    bool fits = sl__mul_u64(&bytes, rows, width) && sl__mul_u64(&bytes, bytes, sizeof(float)) &&
                sl__align_u64(&bytes, bytes, ALIGN) && sl__add_u64(&c->used, c->used, bytes);
    if (!fits) c->overflow = true;
    return out;
}

static uint32_t attention_rows(const sl__attention_desc *a, uint32_t context, uint32_t chunk)
{
    if (a->window == 0) return context;
    uint64_t rows = (uint64_t)a->window - 1 + 2 * (uint64_t)chunk;
    return rows < context ? (uint32_t)rows : context;
}

static uint64_t delta_floats(const sl__delta_desc *d)
{
    return (uint64_t)sl__delta_value_width(d) * d->key_dim;
}

static uint64_t conv_floats(const sl__delta_desc *d)
{
    return (uint64_t)sl__delta_conv_width(d) * (d->conv_width - 1);
}

static sl__layer_state lay_layer(struct cursor *c, const sl__layer_desc *l, uint32_t context,
                                 uint32_t chunk)
{
    sl__layer_state s = {0};
    switch (l->mixer) {
    case SL_MIXER_ATTENTION:
        s.rows = attention_rows(&l->attention, context, chunk);
        s.k = take(c, s.rows, (uint64_t)l->attention.kv_heads * l->attention.head_dim);
        s.v = take(c, s.rows, (uint64_t)l->attention.kv_heads * l->attention.head_dim);
        break;
    case SL_MIXER_MLA:
        s.rows = context;
        s.latent = take(c, s.rows, (uint64_t)l->mla.kv_rank + l->mla.rope.dim);
        break;
    case SL_MIXER_DELTA:
        s.delta = take(c, 1, delta_floats(&l->delta));
        s.conv = take(c, 1, conv_floats(&l->delta));
        break;
    }
    return s;
}

uint64_t sl__state_layout(sl__layer_state *layers, const sl__model_desc *desc, uint32_t context,
                          uint32_t chunk, void *memory)
{
    struct cursor c = {memory, 0, false};
    for (uint32_t i = 0; i < desc->layer_count; i++) {
        sl__layer_state state = lay_layer(&c, &desc->layers[i], context, chunk);
        if (memory) layers[i] = state;
    }
    return c.overflow ? UINT64_MAX : c.used;
}

void sl__state_reset(sl__layer_state *layers, const sl__model_desc *desc)
{
    for (uint32_t i = 0; i < desc->layer_count; i++) {
        const sl__layer_desc *l = &desc->layers[i];
        layers[i].base = 0;
        if (l->mixer != SL_MIXER_DELTA) continue; /* a cache is only read below the position */
        memset(layers[i].delta, 0, (size_t)delta_floats(&l->delta) * sizeof(float));
        memset(layers[i].conv, 0, (size_t)conv_floats(&l->delta) * sizeof(float));
    }
}

uint32_t sl__state_row(sl__layer_state *state, uint32_t window, size_t width, uint32_t position,
                       uint32_t tokens)
{
    assert(position >= state->base && position - state->base <= state->rows);
    uint32_t row = position - state->base;
    if (tokens <= state->rows - row) return row;
    assert(window > 0 && row >= window - 1); /* without a window there is room for the context */
    uint32_t kept = window - 1, from = row - kept;
    memmove(state->k, state->k + from * width, kept * width * sizeof(float));
    memmove(state->v, state->v + from * width, kept * width * sizeof(float));
    state->base = position - kept;
    assert(tokens <= state->rows - kept);
    return kept;
}

uint64_t sl__state_token_bytes(const sl__layer_desc *layer)
{
    const sl__attention_desc *a = &layer->attention;
    switch (layer->mixer) {
    case SL_MIXER_ATTENTION:
        return a->window > 0 ? 0 : (uint64_t)a->kv_heads * a->head_dim * 2 * sizeof(float);
    case SL_MIXER_MLA:
        return ((uint64_t)layer->mla.kv_rank + layer->mla.rope.dim) * sizeof(float);
    case SL_MIXER_DELTA: break;
    }
    return 0;
}
