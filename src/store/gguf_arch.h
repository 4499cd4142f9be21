/* What the GGUF files of an architecture hold, in the words of the checkpoint that they were made
 * of. A table for each architecture says it; the model above reads the published words alone.
 *
 *     GGUF                              published
 *     blk.3.attn_q.weight          <->  model.layers.3.self_attn.q_proj.weight
 *     qwen3moe.expert_used_count    ->  config: "num_experts_per_tok"
 *     tokenizer.ggml.eos_token_id   ->  generation config: "eos_token_id"
 *
 * Experts of all architectures are three stacks a layer, [experts, rows, cols], named
 * mlp.experts.{gate,up,down}_proj, or two, gate_up_proj and down_proj, as some are published; in
 * the oldest files one tensor each, as published.
 *
 * Converters do more than rename: where the numbers themselves differ from the published ones the
 * configuration says so, in the object "sluice_dialect", and goes on saying so in a pack:
 *
 *     shifted_norms   norms that are published zero-centred hold 1 + w
 *     negative_decay  A_log holds −exp(A_log)
 *     tiled_heads     value heads lie in another order: head h reads key head h % key heads
 *     adjacent_rope   rows of queries and keys lie so that channels 2i and 2i + 1 are a pair
 *     split_qkvz      what is published as one interleaved in_proj_qkvz is in_proj_qkv, in_proj_z
 *     split_kv_b      kv_b_proj is k_b_proj [heads, kv rank, nope], transposed, and v_b_proj
 *                     [heads, value, kv rank]
 *     split_gate_up   gate and up of experts, published as interleaved rows, are apart, and so are
 *                     their biases: mlp.experts.{gate,up}_proj_bias
 */
#ifndef SL_STORE_GGUF_ARCH_H
#define SL_STORE_GGUF_ARCH_H

#include <jansson.h>

#include "format/gguf.h"

#define SL_GGUF_NAME_MAX 192u /* room for a name of either kind */

/* "%u" in both stands for the same number. */
typedef struct sl__gguf_pair {
    const char *gguf, *published;
} sl__gguf_pair;

typedef enum sl__gguf_kind {
    SL_GGUF_KIND_INT,    /* 0 to 2^32 - 1; an array too, whose elements other than 0 are equal */
    SL_GGUF_KIND_NUMBER, /* finite */
    SL_GGUF_KIND_BOOL,
} sl__gguf_kind;

/* A key and the member of the configuration that it becomes. */
typedef struct sl__gguf_setting {
    const char *key; /* behind "ARCHITECTURE." */
    const char *member;
    sl__gguf_kind kind;
    bool optional; /* may be missing; 0 is as good as that */
} sl__gguf_setting;

/* A model in a GGUF file: its architecture and how many blocks are what. */
typedef struct sl__gguf_model {
    const sl__gguf_set *set; /* borrowed */
    const struct sl__gguf_arch *arch;
    uint32_t layers, drafts; /* blocks of the model proper; those behind them, which draft */
} sl__gguf_model;

/* All lists end with an entry of NULLs. */
typedef struct sl__gguf_arch {
    const char *name;       /* general.architecture */
    const char *model_type; /* in the configuration */
    const sl__gguf_pair *layer_tensors;   /* behind "blk.N." and "model.layers.N." */
    const sl__gguf_pair *draft_tensors;   /* behind "blk.N." of the first drafting block; published
                                           * ones are whole names */
    /* Drafting blocks are published as layers after the last, which no family reads. */
    bool drafts_follow;
    const sl__gguf_setting *settings;
    const char *const *own_keys; /* those that finish reads; NULL: none */
    const char *const *stops; /* tokens that end a text, whether or not the file names them so */
    uint32_t gating;          /* expert_gating_func of its models, 1 where it is 0 */
    bool plain_weights; /* where the file does not say, weights of experts need not sum to 1 */
    /* Refuses what the architecture's name stands for besides; NULL: nothing. */
    sl_status (*check)(const sl__gguf_model *model, sl_error *err);
    /* Adds what no table says. NULL: nothing. */
    sl_status (*finish)(const sl__gguf_model *model, json_t *config, sl_error *err);
} sl__gguf_arch;

/* The known ones, NULL-terminated. */
extern const sl__gguf_arch *const sl__gguf_archs[];

/* Finds the architecture and counts the blocks; errors name file and key. */
sl_status sl__gguf_model_find(sl__gguf_model *out, const sl__gguf_set *set, sl_error *err);

/* ---- names ----------------------------------------------------------------------------------- */

/* The published name of a tensor; false for one that the architecture does not have. */
bool sl__gguf_published(const sl__gguf_model *model, const char *name,
                        char out[SL_GGUF_NAME_MAX]);
/* The file's name of a published one, likewise. */
bool sl__gguf_name_of(const sl__gguf_model *model, const char *published,
                      char out[SL_GGUF_NAME_MAX]);
/* Whether a tensor belongs to drafting and is nothing that is read or kept. */
bool sl__gguf_left_out(const sl__gguf_model *model, const char *name);

/* ---- configuration --------------------------------------------------------------------------- */

/* What config.json would hold; owned by the caller. A key that is missing, of the wrong type or of
 * a value that no file of the architecture has is SL_EFORMAT, one that asks for what is not
 * supported SL_EUNSUPPORTED; both name file and key. */
sl_status sl__gguf_config(const sl__gguf_model *model, json_t **out, sl_error *err);
/* What generation_config.json would hold. */
sl_status sl__gguf_generation(const sl__gguf_model *model, json_t **out, sl_error *err);

/* For finish. Keys are without "ARCHITECTURE."; tensors without "blk.N.". */
bool sl__gguf_has(const sl__gguf_model *model, const char *key);
sl_status sl__gguf_get_int(const sl__gguf_model *model, const char *key, int64_t min, int64_t max,
                           int64_t *out, sl_error *err);
/* A finite number. */
sl_status sl__gguf_get_number(const sl__gguf_model *model, const char *key, double *out,
                              sl_error *err);
/* Sets config[member] to expert_feed_forward_length, or where that is missing to the
 * feed_forward_length that stands for it. */
sl_status sl__gguf_put_expert_width(const sl__gguf_model *model, json_t *config,
                                    const char *member, sl_error *err);
const sl__gguf_tensor *sl__gguf_layer_tensor(const sl__gguf_model *model, uint32_t layer,
                                             const char *name);
/* Sets config[member], stealing value; SL_ENOMEM where value is NULL or there is no memory. */
sl_status sl__gguf_put(json_t *config, const char *member, json_t *value, sl_error *err);
/* Sets sluice_dialect[flag]. */
sl_status sl__gguf_put_dialect(json_t *config, const char *flag, sl_error *err);

#endif
