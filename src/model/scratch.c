/* Scratch memory: one block, laid out once. The kinds of block share the space behind the
 * stream's own rows, since they never run at the same time. */
#include "model/run.h"

#include <string.h>

#include "model/lookback.h"
#include "model/moe.h"
#include "model/ranking.h"
#include "model/routing.h"

#define ALIGN 64u

/* A cursor over memory that may not be there yet. */
struct cursor {
    char *base;
    size_t used;
};

static void *take(struct cursor *c, size_t count, size_t size)
{
    void *out = c->base ? c->base + c->used : NULL;
    c->used += (count * size + ALIGN - 1) / ALIGN * ALIGN;
    return out;
}

static float *floats(struct cursor *c, size_t rows, size_t width)
{
    return take(c, rows * width, sizeof(float));
}

static uint32_t *numbers(struct cursor *c, size_t count)
{
    return take(c, count, sizeof(uint32_t));
}

static sl__rope_table rope_table(struct cursor *c, const sl__scratch *s, uint32_t dim)
{
    size_t half = dim / 2;
    sl__rope_table table;
    table.frequency = floats(c, 1, half);
    table.cos = floats(c, s->tokens, half);
    table.sin = floats(c, s->tokens, half);
    return table;
}

static void lay_attention(struct cursor *c, sl__scratch *s, const sl__attention_desc *a)
{
    size_t t = s->tokens, width = (size_t)a->heads * a->head_dim;
    size_t kv = (size_t)a->kv_heads * a->head_dim;
    s->attention.q = floats(c, t, a->output_gate ? 2 * width : width);
    s->attention.k = floats(c, t, kv);
    s->attention.v = floats(c, t, kv);
    s->attention.out = floats(c, t, width);
    s->attention.rope = rope_table(c, s, a->rope.dim);
}

static void lay_mla(struct cursor *c, sl__scratch *s, const sl__mla_desc *m)
{
    size_t t = s->tokens, heads = m->heads;
    s->mla.q_down = floats(c, t, m->q_rank);
    s->mla.q = floats(c, t, heads * (m->nope_dim + m->rope.dim));
    s->mla.kv = floats(c, t, (size_t)m->kv_rank + m->rope.dim);
    size_t asking = t < SL_MLA_TOKENS ? t : SL_MLA_TOKENS;
    s->mla.asked = floats(c, asking, heads * ((size_t)m->kv_rank + m->rope.dim));
    s->mla.found = floats(c, asking, heads * m->kv_rank);
    s->mla.out = floats(c, t, heads * m->value_dim);
    s->mla.rope = rope_table(c, s, m->rope.dim);
}

static void lay_delta(struct cursor *c, sl__scratch *s, const sl__delta_desc *d)
{
    size_t t = s->tokens;
    s->delta.qkv = floats(c, t, sl__delta_conv_width(d));
    s->delta.conv = floats(c, t, sl__delta_conv_width(d));
    s->delta.z = floats(c, t, sl__delta_value_width(d));
    s->delta.out = floats(c, t, sl__delta_value_width(d));
    s->delta.a = floats(c, t, d->value_heads);
    s->delta.b = floats(c, t, d->value_heads);
}

static void lay_moe_rounded(struct cursor *c, sl__scratch *s, const sl__moe_desc *m,
                            uint32_t hidden, const sl__scratch_needs *needs)
{
    size_t slots = (size_t)s->tokens * m->top_k, row = sl__q8_row_bytes(hidden);
    size_t q8 = needs->q8_experts ? slots : 0, bf16 = needs->bf16_experts ? slots : 0;
    s->moe.q8_tokens = take(c, s->tokens, row);
    s->moe.q8_rows = take(c, q8, row);
    s->moe.q8_inner = take(c, q8, sl__q8_row_bytes(m->intermediate));
    s->moe.q8_shared = take(c, s->tokens, sl__q8_row_bytes(m->shared_intermediate));
    s->moe.bf16_rows = take(c, needs->bf16_beside ? bf16 : 0, sl__bf16_bytes(hidden, 1));
    if (sl__bf16_inner_fits(m)) bf16 = 0;
    s->moe.bf16_inner = take(c, bf16, sl__bf16_bytes(m->intermediate, 1));
}

static void lay_moe(struct cursor *c, sl__scratch *s, const sl__moe_desc *m, uint32_t hidden,
                    const sl__scratch_needs *needs)
{
    size_t t = s->tokens, slots = t * m->top_k;
    s->moe.router = floats(c, t, m->experts);
    s->moe.route_tmp = floats(c, 1, sl__route_tmp(m->experts));
    s->moe.weights = floats(c, t, m->top_k);
    s->moe.ids = numbers(c, slots);
    s->moe.row = numbers(c, slots);
    s->moe.unique = numbers(c, m->experts);
    s->moe.first = numbers(c, (size_t)m->experts + 1);
    s->moe.token = numbers(c, slots);
    s->moe.rows = floats(c, slots, hidden);
    s->moe.inner = floats(c, needs->plain_experts ? slots : 0, 2 * (size_t)m->intermediate);
    s->moe.shared_gate = floats(c, t, m->shared_intermediate);
    s->moe.shared_up = floats(c, t, m->shared_intermediate);
    s->moe.shared_out = floats(c, t, hidden);
    s->moe.shared_scale = floats(c, t, 1);
    size_t p = t < SL_PREDICT_TOKENS ? t : SL_PREDICT_TOKENS;
    s->moe.predict_normed = floats(c, p, hidden);
    s->moe.predict_router = floats(c, p, m->experts);
    s->moe.scores = floats(c, 1, m->experts);
    s->moe.ranked = numbers(c, p * sl__rank_depth(m->experts, m->top_k));
    s->moe.predicted = numbers(c, m->experts);
    s->moe.listed = take(c, m->experts, sizeof(bool));
    if (needs->rounded) lay_moe_rounded(c, s, m, hidden, needs);
}

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

static void raise_to(uint32_t *a, uint32_t b)
{
    if (b > *a) *a = b;
}

/* Of the products inside the block. */
static uint32_t widest_mla_input(const sl__mla_desc *m)
{
    uint32_t most = m->heads * m->value_dim;
    raise_to(&most, m->kv_rank);
    raise_to(&most, m->q_rank);
    raise_to(&most, m->nope_dim);
    return most;
}

static size_t mixer_floats(const sl__layer_desc *l, uint32_t tokens)
{
    const sl__attention_desc *a = &l->attention;
    const sl__mla_desc *m = &l->mla;
    switch (l->mixer) {
    case SL_MIXER_ATTENTION:
        if (a->heads == 0) return 0;
        return larger(sl__kern_matmul_tmp(a->heads * a->head_dim, tokens),
                      sl__look_back_worker_floats(a->heads, a->kv_heads, a->head_dim, a->head_dim,
                                                  tokens));
    case SL_MIXER_MLA:
        return larger(sl__kern_matmul_tmp(widest_mla_input(m), tokens),
                      sl__look_back_worker_floats(m->heads, 1, m->kv_rank + m->rope.dim,
                                                  m->kv_rank, tokens));
    case SL_MIXER_DELTA:
        return larger(sl__kern_matmul_tmp(sl__delta_value_width(&l->delta), tokens),
                      sl__kern_delta_tmp(l->delta.key_dim, l->delta.value_dim));
    }
    return 0;
}

/* Floats that one worker may need at once, in the largest of its jobs. */
static size_t worker_floats(const sl__model_desc *desc, const sl__scratch_needs *needs)
{
    const uint32_t tokens = needs->tokens;
    size_t most = sl__kern_matmul_tmp(desc->hidden, tokens);
    if (needs->rounded) {
        size_t tmp = sl__kern_q8_tmp(desc->hidden, tokens);
        if (needs->q8_rows) tmp = larger(tmp, sl__kern_q8_rows_tmp(desc->hidden, tokens));
        most = larger(most, tmp + SL_FUSED_FLOATS);
    }
    if (needs->bf16_experts) most = larger(most, (size_t)SL_BF16_TOKENS_MAX * desc->hidden);
    for (uint32_t i = 0; i < desc->layer_count; i++) {
        const sl__layer_desc *l = &desc->layers[i];
        most = larger(most, sl__kern_matmul_tmp(l->moe.intermediate, tokens));
        most = larger(most, sl__kern_matmul_tmp(l->moe.shared_intermediate, tokens));
        if (l->moe.interleaved || l->moe.expert_bias) { /* a row, and a row of biases */
            most = larger(most, larger(2 * (size_t)l->moe.intermediate, desc->hidden));
        }
        most = larger(most, mixer_floats(l, tokens));
    }
    return (most + 15) / 16 * 16;
}

/* Of the layer with the most. */
static size_t partials_floats(const sl__model_desc *desc, uint32_t context, uint32_t threads)
{
    size_t most = 0;
    for (uint32_t i = 0; i < desc->layer_count; i++) {
        const sl__layer_desc *l = &desc->layers[i];
        bool latent = l->mixer == SL_MIXER_MLA;
        if (l->mixer == SL_MIXER_DELTA) continue;
        uint32_t heads = latent ? l->mla.heads : l->attention.heads;
        uint32_t v_dim = latent ? l->mla.kv_rank : l->attention.head_dim;
        most = larger(most, sl__look_back_partials(heads, v_dim, context, threads));
    }
    return most;
}

static void raise_mixer(sl__layer_desc *m, const sl__layer_desc *l)
{
    switch (l->mixer) {
    case SL_MIXER_ATTENTION:
        raise_to(&m->attention.heads, l->attention.heads);
        raise_to(&m->attention.kv_heads, l->attention.kv_heads);
        raise_to(&m->attention.head_dim, l->attention.head_dim);
        raise_to(&m->attention.rope.dim, l->attention.rope.dim);
        m->attention.output_gate |= l->attention.output_gate;
        break;
    case SL_MIXER_MLA:
        raise_to(&m->mla.heads, l->mla.heads);
        raise_to(&m->mla.q_rank, l->mla.q_rank);
        raise_to(&m->mla.kv_rank, l->mla.kv_rank);
        raise_to(&m->mla.nope_dim, l->mla.nope_dim);
        raise_to(&m->mla.value_dim, l->mla.value_dim);
        raise_to(&m->mla.rope.dim, l->mla.rope.dim);
        break;
    case SL_MIXER_DELTA:
        raise_to(&m->delta.key_heads, l->delta.key_heads);
        raise_to(&m->delta.value_heads, l->delta.value_heads);
        raise_to(&m->delta.key_dim, l->delta.key_dim);
        raise_to(&m->delta.value_dim, l->delta.value_dim);
        break;
    }
}

/* A layer that is in every dimension as large as the largest. */
static sl__layer_desc largest_layer(const sl__model_desc *desc)
{
    sl__layer_desc m = {0};
    for (uint32_t i = 0; i < desc->layer_count; i++) {
        const sl__layer_desc *l = &desc->layers[i];
        raise_to(&m.moe.experts, l->moe.experts);
        raise_to(&m.moe.top_k, l->moe.top_k);
        raise_to(&m.moe.intermediate, l->moe.intermediate);
        raise_to(&m.moe.shared_intermediate, l->moe.shared_intermediate);
        raise_mixer(&m, l);
    }
    return m;
}

/* A row in every way that it may be rounded: the weights of a batch may be of several types. */
static size_t rounded_row(uint32_t width)
{
    return sl__rounded_bytes(SL_ROUND_Q8, width, 1) + sl__rounded_bytes(SL_ROUND_BF16, width, 1);
}

/* The inputs of one batch of products, which are all the same, but for those of experts. */
static size_t rounded_bytes(const sl__model_desc *desc, uint32_t tokens)
{
    size_t most = rounded_row(desc->hidden);
    for (uint32_t i = 0; i < desc->layer_count; i++) {
        const sl__layer_desc *l = &desc->layers[i];
        uint32_t width = 0;
        switch (l->mixer) {
        case SL_MIXER_ATTENTION: width = l->attention.heads * l->attention.head_dim; break;
        case SL_MIXER_MLA:
            width = l->mla.heads * l->mla.value_dim;
            most = larger(most, rounded_row(l->mla.q_rank));
            break;
        case SL_MIXER_DELTA: width = sl__delta_value_width(&l->delta); break;
        }
        most = larger(most, rounded_row(width));
        most = larger(most, rounded_row(l->moe.shared_intermediate));
    }
    return tokens * most;
}

sl__scratch_needs sl__scratch_needs_of(const sl__model_desc *desc, const sl__store *store,
                                       sl_activations activations, uint32_t tokens,
                                       uint32_t context, uint32_t threads)
{
    sl__scratch_needs needs = {.tokens = tokens, .context = context, .threads = threads,
                               .rounded = activations == SL_ACTIVATIONS_Q8};
    /* Of a pack alone it is plain to see what will be a weight, and that lies in panels mostly. */
    needs.q8_rows = needs.rounded && !sl__store_is_pack(store);
    for (size_t i = 0; needs.rounded && i < sl__store_tensor_count(store); i++) {
        const sl__tensor *tensor = sl__store_tensor_at(store, i);
        needs.q8_rows |= !tensor->panels && sl__dtype_has_q8_rows(tensor->dtype);
    }
    for (uint32_t i = 0; i < desc->layer_count; i++) {
        const sl__expert_layout *layout = sl__store_expert_layout(store, i);
        if (!layout) continue;
        bool fused = sl__experts_fused(&desc->layers[i].moe, layout, activations);
        needs.plain_experts |= !fused;
        for (uint32_t p = 0; p < SL_PART_COUNT; p++) {
            sl__rounding to = sl__part_rounding(layout, (sl__expert_part)p, activations);
            needs.q8_experts |= to == SL_ROUND_Q8;
            needs.q8_rows |= to == SL_ROUND_Q8 && !layout->part[p].panels;
            needs.bf16_experts |= to == SL_ROUND_BF16;
            needs.bf16_beside |= to == SL_ROUND_BF16 && p != SL_PART_DOWN &&
                                 !sl__first_takes_bf16(layout, activations, desc->hidden);
        }
    }
    return needs;
}

size_t sl__scratch_layout(sl__scratch *scratch, const sl__model_desc *desc,
                          const sl__scratch_needs *needs, void *base)
{
    const uint32_t tokens = needs->tokens, context = needs->context, threads = needs->threads;
    struct cursor c = {base, 0};
    memset(scratch, 0, sizeof *scratch);
    scratch->tokens = tokens;
    scratch->context = context;
    scratch->residual = floats(&c, tokens, desc->hidden);
    scratch->normed = floats(&c, tokens, desc->hidden);
    scratch->mixed = floats(&c, tokens, desc->hidden);
    scratch->worker_floats = worker_floats(desc, needs);
    scratch->worker = floats(&c, threads, scratch->worker_floats);
    if (needs->rounded) scratch->rounded_bytes = rounded_bytes(desc, tokens);
    scratch->rounded = take(&c, scratch->rounded_bytes, 1);
    scratch->partials_floats = partials_floats(desc, context, threads);
    scratch->partials = floats(&c, 1, scratch->partials_floats);
    const sl__layer_desc widest = largest_layer(desc);
    scratch->predicted_first = numbers(&c, widest.moe.top_k);
    size_t shared = c.used, most;
    lay_attention(&c, scratch, &widest.attention);
    most = c.used;
    c.used = shared;
    lay_mla(&c, scratch, &widest.mla);
    most = larger(most, c.used);
    c.used = shared;
    lay_delta(&c, scratch, &widest.delta);
    most = larger(most, c.used);
    c.used = shared;
    lay_moe(&c, scratch, &widest.moe, desc->hidden, needs);
    return larger(most, c.used);
}
