/* The configurations that a GGUF file stands for. A key may ask for something that no model here
 * does: such keys are looked for by name, so that nothing is left out in silence. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/fail.h"
#include "store/gguf_arch.h"

#define KEY_MAX 160u

/* ---- keys ------------------------------------------------------------------------------------ */

static const char *key_of(const sl__gguf_model *m, const char *key, char out[KEY_MAX])
{
    snprintf(out, KEY_MAX, "%s.%s", m->arch->name, key);
    return out;
}

static const sl__gguf_key *find(const sl__gguf_model *m, const char *key)
{
    char name[KEY_MAX];
    return sl__gguf_find_key(m->set, key_of(m, key, name));
}

bool sl__gguf_has(const sl__gguf_model *m, const char *key) { return find(m, key) != NULL; }

/* A number for each layer: 0 where the layer has no such thing, and the same elsewhere. */
static sl_status get_list(const sl__gguf_model *m, const sl__gguf_key *key, int64_t *out,
                          sl_error *err)
{
    *out = 0;
    for (uint64_t i = 0; i < key->count; i++) {
        int64_t value;
        if (!sl__gguf_int_at(m->set, key, i, &value)) {
            return SL_FAIL(err, SL_EFORMAT, "%s: %s: is not a list of integers",
                           m->set->files[0].path, key->name);
        }
        if (*out != 0 && value != 0 && value != *out) {
            return SL_FAIL(err, SL_EUNSUPPORTED,
                           "%s: %s: %" PRId64 " and %" PRId64
                           " in one model, which is not supported",
                           m->set->files[0].path, key->name, *out, value);
        }
        if (value != 0) *out = value;
    }
    return SL_OK;
}

sl_status sl__gguf_get_int(const sl__gguf_model *m, const char *key, int64_t min, int64_t max,
                           int64_t *out, sl_error *err)
{
    char name[KEY_MAX];
    const sl__gguf_key *found = find(m, key);
    if (!found || !found->array) {
        return sl__gguf_int(m->set, key_of(m, key, name), min, max, out, err);
    }
    SL_TRY(get_list(m, found, out, err));
    if (*out >= min && *out <= max) return SL_OK;
    return SL_FAIL(err, SL_EFORMAT, "%s: %s: %" PRId64 " is not from %" PRId64 " to %" PRId64,
                   m->set->files[0].path, found->name, *out, min, max);
}

/* name: in full. */
static sl_status get_number(const sl__gguf_model *m, const char *name, double *out, sl_error *err)
{
    SL_TRY(sl__gguf_number(m->set, name, out, err));
    if (isfinite(*out)) return SL_OK;
    return SL_FAIL(err, SL_EFORMAT, "%s: %s: is not a finite number", m->set->files[0].path, name);
}

sl_status sl__gguf_get_number(const sl__gguf_model *m, const char *key, double *out, sl_error *err)
{
    char name[KEY_MAX];
    return get_number(m, key_of(m, key, name), out, err);
}

const sl__gguf_tensor *sl__gguf_layer_tensor(const sl__gguf_model *m, uint32_t layer,
                                             const char *name)
{
    char full[SL_GGUF_NAME_MAX];
    snprintf(full, sizeof full, "blk.%" PRIu32 ".%s", layer, name);
    return sl__gguf_find(m->set, full);
}

sl_status sl__gguf_put(json_t *config, const char *member, json_t *value, sl_error *err)
{
    return json_object_set_new(config, member, value) == 0 ? SL_OK : SL_FAIL_NOMEM(err, member);
}

sl_status sl__gguf_put_dialect(json_t *config, const char *flag, sl_error *err)
{
    static const char member[] = "sluice_dialect";
    json_t *dialect = json_object_get(config, member);
    if (!dialect) {
        dialect = json_object();
        SL_TRY(sl__gguf_put(config, member, dialect, err));
    }
    return sl__gguf_put(dialect, flag, json_true(), err);
}

/* ---- config.json ----------------------------------------------------------------------------- */

static sl_status put_setting(const sl__gguf_model *m, const sl__gguf_setting *s, json_t *config,
                             sl_error *err)
{
    char name[KEY_MAX];
    int64_t whole;
    double number;
    bool truth;
    if (s->optional && !sl__gguf_has(m, s->key)) return SL_OK;
    key_of(m, s->key, name);
    switch (s->kind) {
    case SL_GGUF_KIND_INT:
        SL_TRY(sl__gguf_get_int(m, s->key, 0, UINT32_MAX, &whole, err));
        if (s->optional && whole == 0) return SL_OK;
        return sl__gguf_put(config, s->member, json_integer(whole), err);
    case SL_GGUF_KIND_NUMBER:
        SL_TRY(get_number(m, name, &number, err));
        if (s->optional && number == 0) return SL_OK;
        return sl__gguf_put(config, s->member, json_real(number), err);
    default:
        SL_TRY(sl__gguf_bool(m->set, name, &truth, err));
        return sl__gguf_put(config, s->member, json_boolean(truth), err);
    }
}

/* Keys that may hold 0 or this number, where the architecture does not read them: others ask for
 * what no family of these does. */
static const struct fixed {
    const char *key;
    double value;
} fixed[] = {
    {"attention.clamp_kqv", 0},
    {"attention.scale", 0},
    {"attention.sliding_window", 0},
    {"attention.temperature_scale", 0},
    {"attn_logit_softcapping", 0},
    {"embedding_scale", 1},
    {"expert_group_count", 1},
    {"expert_weights_scale", 1},
    {"final_logit_softcapping", 0},
    {"logit_scale", 1},
    {"moe_every_n_layers", 1},
    {"residual_scale", 1},
    {"rope.scale_linear", 1},
    {"rope.scaling.attn_factor", 1},
    {"rope.scaling.yarn_attn_factor", 1},
    {"rope.scaling.yarn_log_multiplier", 0},
    {"router_logit_softcapping", 0},
};

static sl_status check_number(const sl__gguf_model *m, const char *key, double allowed,
                              sl_error *err)
{
    char name[KEY_MAX];
    double value;
    if (!sl__gguf_has(m, key)) return SL_OK;
    SL_TRY(get_number(m, key_of(m, key, name), &value, err));
    if (value == 0 || value == allowed) return SL_OK;
    return SL_FAIL(err, SL_EUNSUPPORTED, "%s: %s: %g is not supported", m->set->files[0].path, name,
                   value);
}

static const sl__gguf_setting *find_setting(const sl__gguf_model *m, const char *key)
{
    for (const sl__gguf_setting *s = m->arch->settings; s->key; s++)
        if (strcmp(s->key, key) == 0) return s;
    return NULL;
}

static bool is_read(const sl__gguf_model *m, const char *key)
{
    for (const char *const *own = m->arch->own_keys; own && *own; own++)
        if (strcmp(*own, key) == 0) return true;
    return find_setting(m, key) != NULL;
}

static sl_status check_fixed(const sl__gguf_model *m, sl_error *err)
{
    for (size_t i = 0; i < sizeof fixed / sizeof fixed[0]; i++)
        if (!is_read(m, fixed[i].key)) SL_TRY(check_number(m, fixed[i].key, fixed[i].value, err));
    return check_number(m, "expert_gating_func", m->arch->gating ? m->arch->gating : 1, err);
}

/* How much of YaRN's mix of frequencies is meant: all of it here, and 0 is not that. */
static sl_status check_mix(const sl__gguf_model *m, sl_error *err)
{
    static const char key[] = "rope.scaling.yarn_ext_factor";
    double part = 1;
    if (sl__gguf_has(m, key)) SL_TRY(sl__gguf_get_number(m, key, &part, err));
    if (part == 1) return SL_OK;
    return SL_FAIL(err, SL_EUNSUPPORTED, "%s: %s.%s: %g is not supported", m->set->files[0].path,
                   m->arch->name, key, part);
}

/* rope.scaling: a type, "none" where it is absent; a factor alone is the oldest one, "linear". */
static sl_status put_rope_scaling(const sl__gguf_model *m, json_t *config, sl_error *err)
{
    static const sl__gguf_setting yarn[] = {
        {"rope.scaling.factor", "factor", SL_GGUF_KIND_NUMBER, false},
        {"rope.scaling.original_context_length", "original_max_position_embeddings",
         SL_GGUF_KIND_INT, false},
        {"rope.scaling.yarn_beta_fast", "beta_fast", SL_GGUF_KIND_NUMBER, true},
        {"rope.scaling.yarn_beta_slow", "beta_slow", SL_GGUF_KIND_NUMBER, true},
    };
    char name[KEY_MAX];
    const char *type = "linear";
    size_t size = strlen(type);
    if (sl__gguf_has(m, "rope.scaling.type")) {
        key_of(m, "rope.scaling.type", name);
        SL_TRY(sl__gguf_string(m->set, name, &type, &size, err));
    } else if (!sl__gguf_has(m, "rope.scaling.factor")) {
        return SL_OK;
    }
    if (size == 4 && memcmp(type, "none", 4) == 0) return SL_OK;
    if (size != 4 || memcmp(type, "yarn", 4) != 0) {
        return SL_FAIL(err, SL_EUNSUPPORTED, "%s: %s: %.*s is not supported",
                       m->set->files[0].path, key_of(m, "rope.scaling.type", name),
                       (int)(size < 60 ? size : 60), type);
    }
    SL_TRY(check_mix(m, err));
    json_t *scaling = json_object();
    SL_TRY(sl__gguf_put(config, "rope_scaling", scaling, err)); /* finish may add to it */
    SL_TRY(sl__gguf_put(scaling, "rope_type", json_string("yarn"), err));
    for (size_t i = 0; i < sizeof yarn / sizeof yarn[0]; i++)
        SL_TRY(put_setting(m, &yarn[i], scaling, err));
    return SL_OK;
}

sl_status sl__gguf_put_expert_width(const sl__gguf_model *m, json_t *config, const char *member,
                                    sl_error *err)
{
    sl__gguf_setting width = {"expert_feed_forward_length", member, SL_GGUF_KIND_INT, false};
    if (!sl__gguf_has(m, width.key)) width.key = "feed_forward_length";
    return put_setting(m, &width, config, err);
}

/* A layer without a router is a dense one. */
static sl_status put_dense_layers(const sl__gguf_model *m, json_t *config, sl_error *err)
{
    static const sl__gguf_setting width = {"feed_forward_length", "intermediate_size",
                                           SL_GGUF_KIND_INT, false};
    json_t *dense = json_array();
    SL_TRY(sl__gguf_put(config, "mlp_only_layers", dense, err));
    for (uint32_t i = 0; i < m->layers; i++) {
        if (sl__gguf_layer_tensor(m, i, "ffn_gate_inp.weight") ||
            !sl__gguf_layer_tensor(m, i, "ffn_gate.weight")) {
            continue;
        }
        if (json_array_append_new(dense, json_integer(i)) != 0) {
            return SL_FAIL_NOMEM(err, "mlp_only_layers");
        }
    }
    return json_array_size(dense) > 0 ? put_setting(m, &width, config, err) : SL_OK;
}

/* What the shapes of tensors say, or that they are there. */
static sl_status put_from_tensors(const sl__gguf_model *m, json_t *config, sl_error *err)
{
    static const char embedding[] = "token_embd.weight";
    const sl__gguf_tensor *embed = sl__gguf_find(m->set, embedding);
    if (!embed || embed->dims != 2) {
        return SL_FAIL(err, SL_EFORMAT, "%s: tensor %s %s", m->set->files[0].path, embedding,
                       embed ? "is no matrix" : "is missing");
    }
    SL_TRY(sl__gguf_put(config, "vocab_size", json_integer((json_int_t)embed->shape[0]), err));
    bool tied = !sl__gguf_find(m->set, "output.weight");
    SL_TRY(sl__gguf_put(config, "tie_word_embeddings", json_boolean(tied), err));
    return put_dense_layers(m, config, err);
}

/* Heads of values are as wide as those of keys wherever those have a width of their own. */
static sl_status check_value_length(const sl__gguf_model *m, sl_error *err)
{
    static const char keys[] = "attention.key_length", values[] = "attention.value_length";
    int64_t key, value;
    if (!is_read(m, keys) || !sl__gguf_has(m, values)) return SL_OK;
    SL_TRY(sl__gguf_get_int(m, values, 0, UINT32_MAX, &value, err));
    if (sl__gguf_has(m, keys)) {
        SL_TRY(sl__gguf_get_int(m, keys, 0, UINT32_MAX, &key, err));
    } else {
        int64_t width, heads;
        SL_TRY(sl__gguf_get_int(m, "embedding_length", 1, UINT32_MAX, &width, err));
        SL_TRY(sl__gguf_get_int(m, "attention.head_count", 1, UINT32_MAX, &heads, err));
        key = width / heads;
    }
    if (key == value) return SL_OK;
    return SL_FAIL(err, SL_EUNSUPPORTED,
                   "%s: %s.attention.value_length: %" PRId64 ", but keys have %" PRId64,
                   m->set->files[0].path, m->arch->name, value, key);
}

static sl_status fill_config(const sl__gguf_model *m, json_t *config, sl_error *err)
{
    static const sl__gguf_setting norm = {"expert_weights_norm", "norm_topk_prob",
                                          SL_GGUF_KIND_BOOL, true};
    SL_TRY(sl__gguf_put(config, "model_type", json_string(m->arch->model_type), err));
    SL_TRY(sl__gguf_put(config, "num_hidden_layers", json_integer(m->layers), err));
    for (const sl__gguf_setting *s = m->arch->settings; s->key; s++)
        SL_TRY(put_setting(m, s, config, err));
    SL_TRY(sl__gguf_put(config, "norm_topk_prob", json_boolean(!m->arch->plain_weights), err));
    SL_TRY(put_setting(m, &norm, config, err));
    SL_TRY(check_fixed(m, err));
    SL_TRY(check_value_length(m, err));
    SL_TRY(put_rope_scaling(m, config, err));
    SL_TRY(put_from_tensors(m, config, err));
    return m->arch->finish ? m->arch->finish(m, config, err) : SL_OK;
}

sl_status sl__gguf_config(const sl__gguf_model *m, json_t **out, sl_error *err)
{
    json_t *config = json_object();
    sl_status status = config ? fill_config(m, config, err) : SL_FAIL_NOMEM(err, "configuration");
    if (status != SL_OK) {
        json_decref(config);
        config = NULL;
    }
    *out = config;
    return status;
}

/* ---- generation_config.json ------------------------------------------------------------------ */

#define TOKENS "tokenizer.ggml.tokens"

static sl_status add_stop(json_t *stops, int64_t id, sl_error *err)
{
    return json_array_append_new(stops, json_integer(id)) == 0 ? SL_OK
                                                               : SL_FAIL_NOMEM(err, "stop tokens");
}

/* The ids that the file names, and the tokens that every model of the architecture ends with:
 * files often name only one of several. */
static sl_status put_stops(const sl__gguf_model *m, json_t *config, sl_error *err)
{
    static const char *const keys[] = {"tokenizer.ggml.eos_token_id",
                                       "tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"};
    json_t *stops = json_array();
    SL_TRY(sl__gguf_put(config, "eos_token_id", stops, err));
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        int64_t id;
        if (!sl__gguf_find_key(m->set, keys[i])) continue;
        SL_TRY(sl__gguf_int(m->set, keys[i], 0, INT32_MAX, &id, err));
        SL_TRY(add_stop(stops, id, err));
    }
    const sl__gguf_key *tokens = sl__gguf_find_key(m->set, TOKENS);
    if (!tokens || tokens->type != SL_GGUF_STRING) return SL_OK;
    for (uint64_t i = 0; i < tokens->count && i <= INT32_MAX; i++) {
        const char *text;
        size_t size;
        sl__gguf_string_at(m->set, tokens, i, &text, &size);
        if (size < 3 || (text[0] != '<' && text[0] != '[')) continue;
        for (const char *const *stop = m->arch->stops; *stop; stop++) {
            if (strlen(*stop) == size && memcmp(*stop, text, size) == 0)
                SL_TRY(add_stop(stops, (int64_t)i, err));
        }
    }
    return SL_OK;
}

/* How the model's makers sample, where the file says so. */
static sl_status put_sampling(const sl__gguf_model *m, json_t *config, sl_error *err)
{
    static const sl__gguf_pair numbers[] = {
        {"general.sampling.temp", "temperature"},
        {"general.sampling.top_p", "top_p"},
        {"general.sampling.min_p", "min_p"},
        {"general.sampling.penalty_repeat", "repetition_penalty"},
    };
    static const char top_k[] = "general.sampling.top_k";
    bool any = false;
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        double value;
        if (!sl__gguf_find_key(m->set, numbers[i].gguf)) continue;
        SL_TRY(get_number(m, numbers[i].gguf, &value, err));
        SL_TRY(sl__gguf_put(config, numbers[i].published, json_real(value), err));
        any = true;
    }
    if (sl__gguf_find_key(m->set, top_k)) {
        int64_t value;
        SL_TRY(sl__gguf_int(m->set, top_k, 0, INT32_MAX, &value, err));
        SL_TRY(sl__gguf_put(config, "top_k", json_integer(value), err));
        any = true;
    }
    return any ? sl__gguf_put(config, "do_sample", json_true(), err) : SL_OK;
}

sl_status sl__gguf_generation(const sl__gguf_model *m, json_t **out, sl_error *err)
{
    json_t *config = json_object();
    sl_status status = config ? SL_OK : SL_FAIL_NOMEM(err, "generation settings");
    if (status == SL_OK) status = put_stops(m, config, err);
    if (status == SL_OK) status = put_sampling(m, config, err);
    if (status != SL_OK) {
        json_decref(config);
        config = NULL;
    }
    *out = config;
    return status;
}
