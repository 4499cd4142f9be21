/* A model as data: what each layer is made of, and which tensor plays which role.
 *
 * A family (family.h) turns a configuration into a description; the blocks and the forward pass
 * read the description and the weights in their roles, and know no family and no tensor name.
 */
#ifndef SL_MODEL_MODEL_H
#define SL_MODEL_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/dtype.h"
#include "sluice.h"
#include "store/store.h"

/* ---- description ----------------------------------------------------------------------------- */

typedef enum sl__mixer { SL_MIXER_ATTENTION, SL_MIXER_MLA, SL_MIXER_DELTA } sl__mixer;

/* Rotary positions of the first `dim` channels of a head. */
typedef struct sl__rope_desc {
    uint32_t dim;    /* even; 0: none */
    bool adjacent;   /* pairs (2i, 2i + 1); else half-split (i, i + dim/2) */
    float theta;
    /* YaRN, where factor > 0: frequencies between beta_fast and beta_slow turns in the original
     * context are mixed with those divided by factor. */
    float factor, original_context, beta_fast, beta_slow;
    bool truncate;   /* the bounds of the mix are rounded outwards to whole channels */
    float amplitude; /* cos and sin are multiplied by it; 1 without YaRN */
} sl__rope_desc;

/* Where a norm of queries and keys takes its statistics. */
typedef enum sl__qk_norm { SL_QK_NORM_NONE, SL_QK_NORM_HEAD, SL_QK_NORM_WHOLE } sl__qk_norm;

/* Grouped-query softmax attention. Query head h reads KV head h / (heads / kv_heads). */
typedef struct sl__attention_desc {
    uint32_t heads, kv_heads, head_dim;
    sl__rope_desc rope;
    float scale;         /* of q·k */
    sl__qk_norm qk_norm; /* before rope; HEAD: weights [head_dim]; WHOLE: [heads·head_dim] */
    bool output_gate;    /* q_proj gives [query, gate] a head; output × sigmoid(gate) */
    bool bias;           /* of q, k and v */
    bool output_bias;
    bool sinks;          /* a score a head that takes part in the softmax and has no value */
    uint32_t window;     /* a token sees itself and the window - 1 before it; 0: all */
    float clip;          /* q, k and v are cut to ±clip, q and k after their norm; 0: not */
} sl__attention_desc;

/* Multi-head latent attention. Cached a position: the normed latent [kv_rank] and the rotated
 * shared key [rope.dim]. */
typedef struct sl__mla_desc {
    uint32_t heads;
    uint32_t q_rank;  /* 0: q_proj straight from the stream */
    uint32_t kv_rank, nope_dim, value_dim;
    bool split_up; /* what makes keys and values of the latent comes as two matrices */
    sl__rope_desc rope;
    float scale;
} sl__mla_desc;

/* Gated DeltaNet. Which key head a value head reads: sl__delta_key_head. */
typedef struct sl__delta_desc {
    uint32_t key_heads, value_heads, key_dim, value_dim, conv_width;
    bool tiled;          /* all weights have the value heads in the order of GGUF files */
    bool negative_decay; /* the tensor of A_log holds −exp(A_log) */
    bool split_qkvz;     /* Qwen3-Next: qkv and z come as two matrices, nothing interleaved */
} sl__delta_desc;

typedef enum sl__score {
    SL_SCORE_SOFTMAX,     /* over all experts, then the k largest */
    SL_SCORE_TOP_SOFTMAX, /* the k largest outputs, then softmax over those */
    SL_SCORE_SIGMOID,     /* of each, then the k largest */
} sl__score;

/* How a token's experts are chosen and weighted. */
typedef struct sl__routing_desc {
    sl__score score;
    bool bias;           /* added to the router's outputs */
    bool correction;     /* added to the scores for choosing only */
    uint32_t groups;     /* > 1: experts lie in groups; a group scores the sum of its two best */
    uint32_t top_groups; /* only experts of the best groups are chosen */
    bool renormalise;    /* weights are divided by their sum */
    float scale;         /* and then multiplied */
} sl__routing_desc;

/* What lies between an expert's first and second products, g and u being gate and up. */
typedef enum sl__activation {
    SL_ACTIVATION_SILU,    /* silu(g)·u */
    SL_ACTIVATION_CLAMPED, /* g' = min(g, limit), u' = clamp(u, ±limit): g'·σ(alpha·g')·(u' + 1) */
} sl__activation;

/* The feed-forward part: routed experts, and a shared expert that every token takes. A dense layer
 * is one with a shared expert and no routed ones. */
typedef struct sl__moe_desc {
    uint32_t experts, top_k, intermediate; /* experts 0: dense */
    uint32_t shared_intermediate;          /* 0: no shared expert */
    bool shared_gate;                      /* the shared output × sigmoid(a product) */
    sl__routing_desc routing;
    sl__activation activation;
    float alpha, limit;                    /* of SL_ACTIVATION_CLAMPED */
    bool interleaved;                      /* gate and up are one matrix, row 2i gate, 2i + 1 up */
    bool expert_bias;                      /* of both products */
} sl__moe_desc;

typedef struct sl__layer_desc {
    sl__mixer mixer;
    sl__attention_desc attention; /* of SL_MIXER_ATTENTION */
    sl__mla_desc mla;             /* of SL_MIXER_MLA */
    sl__delta_desc delta;         /* of SL_MIXER_DELTA */
    sl__moe_desc moe;
} sl__layer_desc;

#define SL_LAYERS_MAX 1024u

typedef struct sl__model_desc {
    const char *family;       /* static */
    uint32_t layer_count;     /* of the model proper */
    uint32_t mtp_layer_count; /* drafting layers, numbered after the others; never run here */
    uint32_t hidden, vocab, max_context;
    uint32_t trained_top_k;
    float eps;                /* of every RMS norm */
    bool tied_embedding;      /* the head is the embedding */
    bool shifted_norms;       /* norms that the family has zero-centred are stored as 1 + w */
    sl__layer_desc *layers;   /* [layer_count + mtp_layer_count]; owned by the arena given */
    char prefix[64];          /* before "layers.N." and "embed_tokens": "model.language_model." */
} sl__model_desc;

/* The first layer with routed experts; the first of all where none has any. */
static inline uint32_t sl__model_moe_layer(const sl__model_desc *desc)
{
    for (uint32_t i = 0; i < desc->layer_count; i++) {
        if (desc->layers[i].moe.experts > 0) return i;
    }
    return 0;
}

static inline uint32_t sl__delta_key_width(const sl__delta_desc *d)
{
    return d->key_heads * d->key_dim;
}
static inline uint32_t sl__delta_value_width(const sl__delta_desc *d)
{
    return d->value_heads * d->value_dim;
}
/* Grouped, value heads that share a key head lie together; tiled, they lie key_heads apart. */
static inline uint32_t sl__delta_key_head(const sl__delta_desc *d, uint32_t value_head)
{
    return d->tiled ? value_head % d->key_heads : value_head / (d->value_heads / d->key_heads);
}
/* Channels of the convolution: q, k and v. */
static inline uint32_t sl__delta_conv_width(const sl__delta_desc *d)
{
    return 2 * sl__delta_key_width(d) + sl__delta_value_width(d);
}

/* ---- weights --------------------------------------------------------------------------------- */

/* W[rows, cols] in memory, y = W·x unless transposed. */
typedef struct sl__weight {
    sl__dtype dtype;
    uint32_t rows, cols;
    size_t row_bytes;
    const void *data;
    /* Of types with planes (base/rows.h); else zero. */
    sl__scaling scaling;
    const void *scales, *biases;
    size_t scale_row_bytes;
    uint32_t first_row; /* the first row's number in its group of rows */
    bool transposed; /* y = Wᵀ·x: as some checkpoints store experts, [in, out] */
    bool panels;     /* lies in panels (base/panels.h) */
    bool precise;    /* its input is never rounded: it decides what is computed (routers, gates) */
} sl__weight;

/* As kernels see it, from row `first` on; not of one in panels. */
static inline sl__rows sl__weight_rows(const sl__weight *w, uint32_t first)
{
    const sl__rows all = {.dtype = w->dtype, .data = w->data, .row_bytes = w->row_bytes,
                          .scaling = w->scaling, .scales = w->scales, .biases = w->biases,
                          .scale_row_bytes = w->scale_row_bytes, .first = w->first_row};
    return sl__rows_from(&all, first);
}

/* The roles that the blocks know. Comments give [rows, cols] or [length]. */
typedef enum sl__role {
    /* of the model */
    SL_ROLE_EMBED,      /* [vocab, hidden] */
    SL_ROLE_FINAL_NORM, /* [hidden] */
    SL_ROLE_HEAD,       /* [vocab, hidden] */
    SL_ROLE_MODEL_COUNT,

    /* of every layer */
    SL_ROLE_MIXER_NORM = 0, /* [hidden] */
    SL_ROLE_FFN_NORM,       /* [hidden] */
    /* attention; D = head_dim */
    SL_ROLE_Q,      /* [heads·D, or heads·2D with the gate, hidden] */
    SL_ROLE_K,      /* [kv_heads·D, hidden] */
    SL_ROLE_V,      /* [kv_heads·D, hidden] */
    SL_ROLE_O,      /* [hidden, heads·D] */
    SL_ROLE_Q_NORM, /* [D] or [heads·D] */
    SL_ROLE_K_NORM, /* [D] or [kv_heads·D] */
    SL_ROLE_Q_BIAS, /* as the rows of Q; K, V, O likewise */
    SL_ROLE_K_BIAS,
    SL_ROLE_V_BIAS,
    SL_ROLE_O_BIAS,
    SL_ROLE_SINKS, /* [heads] */
    /* MLA; also SL_ROLE_O [hidden, heads·value_dim] and, where q_rank is 0, SL_ROLE_Q */
    SL_ROLE_MLA_Q_DOWN,  /* [q_rank, hidden] */
    SL_ROLE_MLA_Q_NORM,  /* [q_rank] */
    SL_ROLE_MLA_Q_UP,    /* [heads·(nope_dim + rope.dim), q_rank] */
    SL_ROLE_MLA_KV_DOWN, /* [kv_rank + rope.dim, hidden] */
    SL_ROLE_MLA_KV_NORM, /* [kv_rank] */
    SL_ROLE_MLA_KV_UP,   /* [heads·(nope_dim + value_dim), kv_rank]: a head's keys, then values */
    SL_ROLE_MLA_K_UP,    /* split_up: [heads·kv_rank, nope_dim]: each head's keys, transposed */
    SL_ROLE_MLA_V_UP,    /* split_up: [heads·value_dim, kv_rank] */
    /* Gated DeltaNet */
    SL_ROLE_DELTA_QKV,     /* [conv width, hidden] */
    SL_ROLE_DELTA_Z,       /* [value width, hidden] */
    SL_ROLE_DELTA_A,       /* [value_heads, hidden] */
    SL_ROLE_DELTA_B,       /* [value_heads, hidden] */
    SL_ROLE_DELTA_CONV,    /* [conv width · conv_width] */
    SL_ROLE_DELTA_A_LOG,   /* [value_heads] */
    SL_ROLE_DELTA_DT_BIAS, /* [value_heads] */
    SL_ROLE_DELTA_NORM,    /* [value_dim] */
    SL_ROLE_DELTA_OUT,     /* [hidden, value width] */
    /* mixture of experts; S = shared_intermediate */
    SL_ROLE_ROUTER,            /* [experts, hidden] */
    SL_ROLE_ROUTER_BIAS,       /* [experts] */
    SL_ROLE_ROUTER_CORRECTION, /* [experts] */
    SL_ROLE_EXPERT_IN_BIAS,    /* [experts, 2·intermediate]: as the interleaved rows; else
                                * [experts, intermediate] of gate */
    SL_ROLE_EXPERT_UP_BIAS,    /* [experts, intermediate], where gate and up are apart */
    SL_ROLE_EXPERT_OUT_BIAS,   /* [experts, hidden] */
    SL_ROLE_SHARED_GATE_PROJ, /* [S, hidden] */
    SL_ROLE_SHARED_UP_PROJ,   /* [S, hidden] */
    SL_ROLE_SHARED_DOWN_PROJ, /* [hidden, S] */
    SL_ROLE_SHARED_GATE,      /* [1, hidden] */
    SL_ROLE_LAYER_COUNT,
} sl__role;

/* How a tensor is kept. */
typedef enum sl__tensor_class {
    SL_CLASS_MATRIX,  /* computed with as stored; pack re-encodes it as the resident type */
    SL_CLASS_PRECISE, /* a matrix that pack leaves in its precision (routers, gates) */
    SL_CLASS_VECTOR,  /* few numbers: float32 in memory, left in its precision by pack */
    SL_CLASS_UNREAD,  /* kept by pack, never loaded (drafting head) */
} sl__tensor_class;

/* Rows taken out of a tensor whose rows are interleaved: from each of `groups` blocks of `stride`
 * rows, `count` rows from `offset` on. groups 0: all rows as they lie. */
typedef struct sl__row_picks {
    uint32_t groups, stride, offset, count;
} sl__row_picks;

typedef struct sl__tensor_spec {
    int role;           /* sl__role; -1 for SL_CLASS_UNREAD */
    char name[256];     /* in full, as published */
    uint32_t rows, cols; /* vectors: rows 1; their elements may be shaped otherwise in the file */
    sl__tensor_class klass;
    float add;          /* added to every element of a vector: 1 for zero-centred norms */
    bool by_rows;       /* a matrix that is cut where it is used: never in panels */
    bool minus_exp;     /* a vector that is stored as −exp of what the role is */
    /* Where a role is put together from interleaved rows: the rows of this tensor that go to
     * rows [first_row, first_row + groups·count) of the role; one spec a piece, in order. */
    sl__row_picks picks;
    uint32_t first_row, role_rows;
} sl__tensor_spec;

/* Whether an earlier spec of the list names the same tensor: the picks of a tensor begin with its
 * first rows. */
static inline bool sl__spec_repeats(const sl__tensor_spec *spec)
{
    return spec->picks.groups > 0 && spec->picks.offset > 0;
}

#define SL_SPECS_MAX 48u /* tensors of one layer, or of the model outside its layers */

#endif
