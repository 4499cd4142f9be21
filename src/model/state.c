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

static void *take(struct cursor *c, uint64_t count, uint64_t size)
{
    void *out = c->base ? c->base + c->used : NULL;
    uint64_t bytes;
    bool fits = sl__mul_u64(&bytes, count, size) && sl__align_u64(&bytes, bytes, ALIGN) &&
                sl__add_u64(&c->used, c->used, bytes);
    if (!fits) c->overflow = true;
    return out;
}

/* What a layer keeps of a position. */
struct shape {
    uint32_t heads, key_dim, value_dim; /* value_dim 0: none; heads 0: nothing is kept */
    uint32_t window;
};

static struct shape shape_of(const sl__layer_desc *l)
{
    const sl__attention_desc *a = &l->attention;
    switch (l->mixer) {
    case SL_MIXER_ATTENTION:
        return (struct shape){a->kv_heads, a->head_dim, a->head_dim, a->window};
    case SL_MIXER_MLA: return (struct shape){1, l->mla.kv_rank + l->mla.rope.dim, 0, 0};
    case SL_MIXER_DELTA: break;
    }
    return (struct shape){0};
}

/* Rounded up to whole blocks. With a window there are up to a block's positions less one before
 * the first that is seen. */
static uint64_t positions(const struct shape *shape, uint32_t context, uint32_t chunk)
{
    uint64_t rows = context;
    if (shape->window > 0) {
        uint64_t kept = (uint64_t)shape->window - 1 + SL_KV_BLOCK - 1 + 2 * (uint64_t)chunk;
        rows = kept < rows ? kept : rows;
    }
    return (rows + SL_KV_BLOCK - 1) / SL_KV_BLOCK * SL_KV_BLOCK;
}

static uint64_t delta_floats(const sl__delta_desc *d)
{
    return (uint64_t)sl__delta_value_width(d) * d->key_dim;
}

static uint64_t conv_floats(const sl__delta_desc *d)
{
    return (uint64_t)sl__delta_conv_width(d) * (d->conv_width - 1);
}

static void lay_cache(struct cursor *c, sl__layer_state *s, const struct shape *shape,
                      uint64_t rows)
{
    uint64_t blocks = rows / SL_KV_BLOCK, keys, values;
    bool fits = sl__mul_u64(&keys, blocks, sl__kv_key_bytes(s->kv, shape->key_dim)) &&
                sl__mul_u64(&values, blocks, sl__kv_value_bytes(s->kv, shape->value_dim));
    if (!fits || rows > UINT32_MAX) {
        c->overflow = true;
        return;
    }
    s->rows = (uint32_t)rows;
    s->k_head_bytes = keys;
    s->v_head_bytes = values;
    s->k = take(c, shape->heads, keys);
    if (shape->value_dim > 0) s->v = take(c, shape->heads, values);
}

static sl__layer_state lay_layer(struct cursor *c, const sl__layer_desc *l, sl_kv_type kv,
                                 uint32_t context, uint32_t chunk)
{
    sl__layer_state s = {.kv = kv};
    struct shape shape = shape_of(l);
    if (shape.heads > 0) lay_cache(c, &s, &shape, positions(&shape, context, chunk));
    if (l->mixer == SL_MIXER_DELTA) {
        s.delta = take(c, delta_floats(&l->delta), sizeof(float));
        s.conv = take(c, conv_floats(&l->delta), sizeof(float));
    }
    return s;
}

uint64_t sl__state_layout(sl__layer_state *layers, const sl__model_desc *desc, sl_kv_type kv,
                          uint32_t context, uint32_t chunk, void *memory)
{
    struct cursor c = {memory, 0, false};
    for (uint32_t i = 0; i < desc->layer_count; i++) {
        sl__layer_state state = lay_layer(&c, &desc->layers[i], kv, context, chunk);
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

static void move_blocks(char *heads, uint32_t count, size_t head_bytes, size_t from, size_t bytes)
{
    for (uint32_t h = 0; h < count; h++)
        memmove(heads + h * head_bytes, heads + h * head_bytes + from, bytes);
}

void sl__state_make_room(sl__layer_state *state, const sl__layer_desc *layer, uint32_t position,
                         uint32_t tokens)
{
    const struct shape shape = shape_of(layer);
    assert(position >= state->base && position - state->base <= state->rows);
    if (tokens <= state->rows - (position - state->base)) return;
    /* Without a window there is room for the context. */
    assert(shape.window > 0 && position - state->base >= shape.window - 1);
    uint32_t base = (position - (shape.window - 1)) / SL_KV_BLOCK * SL_KV_BLOCK;
    size_t first = (base - state->base) / SL_KV_BLOCK;
    size_t kept = (position - base + SL_KV_BLOCK - 1) / SL_KV_BLOCK;
    uint64_t key = sl__kv_key_bytes(state->kv, shape.key_dim);
    uint64_t value = sl__kv_value_bytes(state->kv, shape.value_dim);
    move_blocks(state->k, shape.heads, state->k_head_bytes, first * key, kept * key);
    move_blocks(state->v, shape.heads, state->v_head_bytes, first * value, kept * value);
    state->base = base;
    assert(tokens <= state->rows - (position - base));
}

uint32_t sl__state_blocks(uint32_t position, uint32_t tokens)
{
    return (position % SL_KV_BLOCK + tokens + SL_KV_BLOCK - 1) / SL_KV_BLOCK;
}

void sl__state_store(const sl__layer_state *state, const sl__layer_desc *layer, uint32_t head,
                     uint32_t block, uint32_t position, uint32_t tokens, const float *k,
                     size_t k_stride, const float *v, size_t v_stride)
{
    const struct shape shape = shape_of(layer);
    uint32_t skipped = position % SL_KV_BLOCK, end = skipped + tokens;
    uint32_t from = block * SL_KV_BLOCK, to = from + SL_KV_BLOCK;
    if (from < skipped) from = skipped;
    if (to > end) to = end;
    size_t at = (position - skipped - state->base) / SL_KV_BLOCK + block;
    char *keys = state->k + head * state->k_head_bytes +
                 at * sl__kv_key_bytes(state->kv, shape.key_dim);
    char *values = state->v ? state->v + head * state->v_head_bytes +
                                  at * sl__kv_value_bytes(state->kv, shape.value_dim)
                            : NULL;
    for (uint32_t i = from; i < to; i++) {
        size_t t = i - skipped;
        sl__kv_store_key(state->kv, keys, i % SL_KV_BLOCK,
                         k + t * k_stride + (size_t)head * shape.key_dim, shape.key_dim);
        if (!values) continue;
        sl__kv_store_value(state->kv, values, i % SL_KV_BLOCK,
                           v + t * v_stride + (size_t)head * shape.value_dim, shape.value_dim);
    }
}

/* ---- taking it apart ------------------------------------------------------------------------- */

/* The first position of the first block that a token at `position` sees. */
static uint32_t first_seen(const struct shape *shape, uint32_t position)
{
    if (shape->window == 0 || position < shape->window) return 0;
    return (position - (shape->window - 1)) / SL_KV_BLOCK * SL_KV_BLOCK;
}

uint32_t sl__state_part_count(const sl__layer_desc *layer)
{
    const struct shape shape = shape_of(layer);
    if (layer->mixer == SL_MIXER_DELTA) return 2;
    return shape.value_dim > 0 ? 2 * shape.heads : shape.heads;
}

/* Of a block of the KV head that a part is of. */
static uint64_t block_bytes(const struct shape *shape, sl_kv_type kv, uint32_t index)
{
    return index < shape->heads ? sl__kv_key_bytes(kv, shape->key_dim)
                                : sl__kv_value_bytes(kv, shape->value_dim);
}

uint64_t sl__state_part_bytes(const sl__layer_desc *layer, sl_kv_type kv, uint32_t index,
                              uint32_t position)
{
    const struct shape shape = shape_of(layer);
    if (layer->mixer == SL_MIXER_DELTA) {
        uint64_t floats = index == 0 ? delta_floats(&layer->delta) : conv_floats(&layer->delta);
        return floats * sizeof(float);
    }
    uint64_t end = ((uint64_t)position + SL_KV_BLOCK - 1) / SL_KV_BLOCK;
    uint64_t blocks = end - first_seen(&shape, position) / SL_KV_BLOCK;
    return blocks * block_bytes(&shape, kv, index);
}

sl__state_part sl__state_part_of(const sl__layer_state *state, const sl__layer_desc *layer,
                                 uint32_t index, uint32_t position)
{
    const struct shape shape = shape_of(layer);
    sl__state_part part = {.bytes = sl__state_part_bytes(layer, state->kv, index, position)};
    assert(index < sl__state_part_count(layer));
    if (layer->mixer == SL_MIXER_DELTA) {
        part.data = (char *)(index == 0 ? state->delta : state->conv);
        return part;
    }
    uint32_t first = first_seen(&shape, position), head = index % shape.heads;
    char *heads = index < shape.heads ? state->k + head * state->k_head_bytes
                                      : state->v + head * state->v_head_bytes;
    assert(first >= state->base);
    part.data = heads + (first - state->base) / SL_KV_BLOCK *
                            block_bytes(&shape, state->kv, index);
    return part;
}

void sl__state_place(sl__layer_state *state, const sl__layer_desc *layer, uint32_t position)
{
    const struct shape shape = shape_of(layer);
    state->base = first_seen(&shape, position);
    assert(layer->mixer == SL_MIXER_DELTA || position - state->base <= state->rows);
}

void sl__state_blank(const sl__layer_state *state, const sl__layer_desc *layer, uint32_t position,
                     const float *zeros)
{
    const struct shape shape = shape_of(layer);
    size_t last = (position - state->base) / SL_KV_BLOCK;
    for (uint32_t h = 0; h < shape.heads; h++) {
        char *keys = state->k + h * state->k_head_bytes + last * block_bytes(&shape, state->kv, 0);
        char *values = state->v ? state->v + h * state->v_head_bytes +
                                      last * block_bytes(&shape, state->kv, shape.heads)
                                : NULL;
        for (uint32_t i = position % SL_KV_BLOCK; i > 0 && i < SL_KV_BLOCK; i++) {
            sl__kv_store_key(state->kv, keys, i, zeros, shape.key_dim);
            if (values) sl__kv_store_value(state->kv, values, i, zeros, shape.value_dim);
        }
    }
}

uint32_t sl__state_width(const sl__layer_desc *layer)
{
    const struct shape shape = shape_of(layer);
    return shape.key_dim > shape.value_dim ? shape.key_dim : shape.value_dim;
}

uint64_t sl__state_token_bytes(const sl__layer_desc *layer, sl_kv_type kv)
{
    const struct shape shape = shape_of(layer);
    if (shape.window > 0) return 0;
    return shape.heads * (sl__kv_key_bytes(kv, shape.key_dim) +
                          sl__kv_value_bytes(kv, shape.value_dim)) / SL_KV_BLOCK;
}
