/* A family: a configuration turned into a description, and published tensor names mapped to roles.
 * One small file each; the registry lists them. */
#ifndef SL_MODEL_FAMILY_H
#define SL_MODEL_FAMILY_H

#include "base/arena.h"
#include "model/model.h"

/* Names of the experts' tensors after "layers.N.". A checkpoint has one of the layouts; they are
 * looked for in this order: fused, stacked, single. GGUF files have them stacked, or gate and up
 * fused, and MLX folders stacked, by the same names in all families: store/gguf_arch.h,
 * store/store_names.h. */
typedef struct sl__expert_names {
    /* [experts, 2·intermediate, hidden], gate first or as moe_desc.interleaved says; NULL: only in
     * GGUF files */
    const char *fused_gate_up;
    const char *fused_down; /* [experts, hidden, intermediate] */
    /* [experts, hidden, 2·intermediate], [experts, intermediate, hidden]; not where they have
     * planes (base/rows.h) */
    bool fused_transposed;
    /* One tensor an expert, "%u" is its number; where gate and up are interleaved the first name is
     * of both and the second NULL. NULL: never */
    const char *single[SL_PART_COUNT];
} sl__expert_names;

typedef struct sl__family {
    const char *name;
    const char *const *model_types; /* values of config's model_type; NULL-terminated */
    const char *const *prefixes;    /* tried in order before "embed_tokens.weight" */
    const char *const *unread;      /* prefixes of tensors that belong to the model, not read */
    sl__expert_names experts;

    /* Fills desc but for prefix; layers come from arena. Every value is range-checked. */
    sl_status (*describe)(sl__model_desc *desc, const sl__config *config, bool has_mtp,
                          sl__arena *arena, sl_error *err);
    /* Tensors outside the layers, and of one layer without its experts; each returns the count. */
    size_t (*model_tensors)(const sl__model_desc *desc, sl__tensor_spec specs[SL_SPECS_MAX]);
    size_t (*layer_tensors)(const sl__model_desc *desc, uint32_t layer,
                            sl__tensor_spec specs[SL_SPECS_MAX]);
    /* "model.layers.3." and the like, drafting layers included. */
    void (*layer_prefix)(const sl__model_desc *desc, uint32_t layer, char out[128]);
} sl__family;

/* The family whose model_type the configuration names; SL_EUNSUPPORTED names the type. */
sl_status sl__family_find(const sl__family **out, const sl__config *config, sl_error *err);

/* Describes the model of a store: family, prefix, drafting layers. Settles the tensors outside the
 * experts (sl__store_settle). */
sl_status sl__model_describe(sl__model_desc *desc, const sl__family **family, sl__store *store,
                             sl__arena *arena, sl_error *err);

/* The tensor of a spec, its shape and dtype checked; missing or wrong ones are errors that name
 * the store and the tensor. */
sl_status sl__model_find(const sl__tensor **out, const sl__store *store,
                         const sl__tensor_spec *spec, sl_error *err);

/* Binds the experts of a layer in the store, whichever layout it has. A dense layer has none: a
 * pack that gives it some is an error. */
sl_status sl__model_bind_experts(sl__store *store, const sl__family *family,
                                 const sl__model_desc *desc, uint32_t layer, sl_error *err);

/* True for a tensor that the family knows and leaves unread: by its prefix, or because it belongs
 * to a layer after the last (the drafting layer of some families). */
bool sl__family_leaves_unread(const sl__family *family, const sl__model_desc *desc,
                              const char *name);

/* The known families, NULL-terminated (family_registry.c). */
extern const sl__family *const sl__families[];

#endif
