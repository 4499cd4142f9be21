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

typedef enum sl__mixer { SL_MIXER_ATTENTION, SL_MIXER_DELTA } sl__mixer;

/* Grouped-query softmax attention. Query head h reads KV head h / (heads / kv_heads). */
typedef struct sl__attention_desc {
    uint32_t heads, kv_heads, head_dim;
    uint32_t rotary_dim; /* the first channels of a head, rotated in half-split pairs */
    float rope_theta;
    float scale;         /* of q·k */
    bool output_gate;    /* q_proj gives [query, gate] a head; output × sigmoid(gate) */
} sl__attention_desc;

/* Gated DeltaNet. Value head h reads key head h / (value_heads / key_heads). */
typedef struct sl__delta_desc {
    uint32_t key_heads, value_heads, key_dim, value_dim, conv_width;
} sl__delta_desc;

/* Routed experts: softmax over all, the k largest, renormalised; and an optional shared expert
 * with a sigmoid gate. */
typedef struct sl__moe_desc {
    uint32_t experts, top_k, intermediate;
    uint32_t shared_intermediate; /* 0: none */
} sl__moe_desc;

typedef struct sl__layer_desc {
    sl__mixer mixer;
    sl__attention_desc attention; /* of SL_MIXER_ATTENTION */
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
    sl__layer_desc *layers;   /* [layer_count + mtp_layer_count]; owned by the arena given */
    char prefix[64];          /* before "layers.N." and "embed_tokens": "model.language_model." */
} sl__model_desc;

static inline uint32_t sl__delta_key_width(const sl__delta_desc *d)
{
    return d->key_heads * d->key_dim;
}
static inline uint32_t sl__delta_value_width(const sl__delta_desc *d)
{
    return d->value_heads * d->value_dim;
}
/* Channels of the convolution: q, k and v. */
static inline uint32_t sl__delta_conv_width(const sl__delta_desc *d)
{
    return 2 * sl__delta_key_width(d) + sl__delta_value_width(d);
}

/* ---- weights --------------------------------------------------------------------------------- */

/* W[rows, cols] in memory, y = W·x. */
typedef struct sl__weight {
    sl__dtype dtype;
    uint32_t rows, cols;
    size_t row_bytes;
    const void *data;
} sl__weight;

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
    SL_ROLE_Q_NORM, /* [D] */
    SL_ROLE_K_NORM, /* [D] */
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
    SL_ROLE_ROUTER,           /* [experts, hidden] */
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

typedef struct sl__tensor_spec {
    int role;           /* sl__role; -1 for SL_CLASS_UNREAD */
    char name[256];     /* in full, as published */
    uint32_t rows, cols; /* vectors: rows 1; their elements may be shaped otherwise in the file */
    sl__tensor_class klass;
    float add;          /* added to every element of a vector: 1 for zero-centred norms */
} sl__tensor_spec;

#define SL_SPECS_MAX 32u /* tensors of one layer, or of the model outside its layers */

#endif
