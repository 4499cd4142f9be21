/* Writing a synthetic model: the configuration of a shape, the family's own list of tensors, and
 * for each of them random rows, a piece or a record at a time. Every tensor and every record has a
 * stream of random numbers of its own, so that an interrupted pack is resumed with the same bytes.
 */
#include "engine/synth.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/fail.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/panels.h"
#include "quant/quant.h"
#include "store/pack.h"

#define PIECE_BYTES ((uint64_t)8 << 20)
#define ROWS_BYTES   ((size_t)4 << 20) /* sixteen rows, far wider than those of any model */
#define TOPIC_STREAM 0x746f706963u

struct synth {
    const sl_synth_options *opt;
    const sl__synth_shape *shape;
    const char *experts_name, *resident_name;
    sl__dtype experts, resident;
    json_t *root;
    sl__model_desc desc;
    const sl__family *family;
    sl__synth_dials dials;
    sl__arena arena;
    sl__tensor_spec *specs; /* of tensors[] */
    uint32_t *spec_layers;  /* of tensors[]; layer_count: outside the layers */
    sl__pack_tensor_plan *tensors;
    size_t tensor_count;
    sl__pack_layer_plan *layers;
    sl__pack_plan plan;
    sl__pack_writer *writer;
    char *buffer;
    char *rows;             /* of a panel, one after the other */
    uint64_t buffer_bytes;
    sl_pack_progress progress;
};

/* ---- options --------------------------------------------------------------------------------- */

static sl_status parse_type(const char *text, const char *option, sl__dtype *out, sl_error *err)
{
    if (sl__dtype_parse(text, out) && *out != SL_F32 && sl__synth_can_fill(*out)) return SL_OK;
    return SL_FAIL(err, SL_EINVAL, "%s: %s is not one of bf16, q8, q4, q3, q2", option, text);
}

static sl_status find_shape(struct synth *s, sl_error *err)
{
    char names[256] = "";
    s->shape = s->opt->like ? sl__synth_shape_find(s->opt->like) : NULL;
    if (s->shape) return SL_OK;
    for (const char *const *name = sl_synth_shapes(); *name; name++) {
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", used ? ", " : "", *name);
    }
    return SL_FAIL(err, SL_EINVAL, "like: %s is not one of %s",
                   s->opt->like ? s->opt->like : "nothing", names);
}

static sl_status make_config(struct synth *s, sl_error *err)
{
    uint32_t most = sl__synth_shape_layers(s->shape);
    uint32_t layers = s->opt->layers ? s->opt->layers : most;
    if (layers > most) {
        return SL_FAIL(err, SL_EINVAL, "layers: %u, and %s has %u", layers, s->opt->like, most);
    }
    s->root = sl__synth_shape_config(s->shape, layers);
    return s->root ? SL_OK : SL_FAIL_NOMEM(err, "configuration");
}

/* What the families' own readers make of the configuration. */
static sl_status describe(struct synth *s, sl_error *err)
{
    sl__config config = {.path = "synthetic model", .root = s->root,
                         .text = json_object_get(s->root, "text_config")};
    SL_TRY(sl__family_find(&s->family, &config, err));
    s->desc.family = s->family->name;
    SL_TRY(s->family->describe(&s->desc, &config, false, &s->arena, err));
    snprintf(s->desc.prefix, sizeof s->desc.prefix, "%s", s->family->prefixes[0]);
    return SL_OK;
}

/* ---- the mark -------------------------------------------------------------------------------- */

#define MARK "sluice_synthetic"

bool sl__synth_read_mark(const sl__config *config, sl__synth_mark *out)
{
    const json_t *what = json_object_get(config->root, MARK);
    *out = (sl__synth_mark){0};
    if (!json_is_object(what)) return false;
    out->overlap = json_number_value(json_object_get(what, "overlap"));
    out->predictable = json_number_value(json_object_get(what, "predictable"));
    out->uniform = json_is_true(json_object_get(what, "uniform"));
    return true;
}

static sl_status mark(struct synth *s, sl_error *err)
{
    const sl__synth_dials *d = &s->dials;
    char seed[32]; /* more digits than a number in JSON has */
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)s->opt->seed);
    json_t *what = json_pack("{s:s, s:f, s:f, s:b, s:s}", "like", s->opt->like, "overlap",
                             d->overlap, "predictable", d->predictable, "uniform", (int)d->uniform,
                             "seed", seed);
    if (what && json_object_set_new(s->root, MARK, what) == 0) return SL_OK;
    return SL_FAIL_NOMEM(err, "configuration");
}

/* ---- planning -------------------------------------------------------------------------------- */

static sl__dtype type_of(const struct synth *s, const sl__tensor_spec *spec)
{
    if (spec->klass == SL_CLASS_MATRIX) return s->resident;
    /* As they are published. */
    bool exact = spec->klass == SL_CLASS_VECTOR &&
                 (spec->role == SL_ROLE_DELTA_A_LOG || spec->role == SL_ROLE_DELTA_NORM);
    return exact ? SL_F32 : SL_BF16;
}

static void plan_tensors(struct synth *s, uint32_t layer, const sl__tensor_spec *specs,
                         size_t count)
{
    for (size_t i = 0; i < count; i++) {
        size_t at = s->tensor_count++;
        sl__tensor_spec *spec = &s->specs[at];
        sl__pack_tensor_plan *t = &s->tensors[at];
        *spec = specs[i];
        s->spec_layers[at] = layer;
        t->name = spec->name;
        t->dtype = type_of(s, spec);
        t->dims = spec->klass == SL_CLASS_VECTOR ? 1 : 2;
        t->shape[0] = t->dims == 1 ? spec->cols : spec->rows;
        t->shape[1] = spec->cols;
        t->panels = spec->klass == SL_CLASS_MATRIX && !spec->by_rows && t->dims == 2 &&
                    sl__dtype_has_panels(t->dtype);
        bool conv = layer < s->desc.layer_count && spec->role == SL_ROLE_DELTA_CONV;
        if (!conv) continue;
        t->dims = 3;
        t->shape[2] = s->desc.layers[layer].delta.conv_width;
        t->shape[1] = 1;
        t->shape[0] = spec->cols / t->shape[2];
    }
}

static void plan_layer(struct synth *s, uint32_t layer)
{
    const sl__moe_desc *m = &s->desc.layers[layer].moe;
    sl__pack_layer_plan *plan = &s->layers[layer];
    plan->layer = layer;
    plan->expert_count = m->experts;
    for (uint32_t part = 0; part < SL_PART_COUNT; part++) {
        bool down = part == SL_PART_DOWN;
        plan->dtype[part] = s->experts;
        plan->rows[part] = down ? s->desc.hidden : m->intermediate;
        plan->cols[part] = down ? m->intermediate : s->desc.hidden;
        plan->panels[part] = sl__dtype_has_panels(s->experts);
    }
}

static sl_status plan_all(struct synth *s, sl_error *err)
{
    sl__tensor_spec specs[SL_SPECS_MAX];
    uint32_t layers = s->desc.layer_count;
    size_t most = ((size_t)layers + 1) * SL_SPECS_MAX;
    s->specs = SL_ARENA_NEW(&s->arena, sl__tensor_spec, most);
    s->spec_layers = SL_ARENA_NEW(&s->arena, uint32_t, most);
    s->tensors = SL_ARENA_NEW(&s->arena, sl__pack_tensor_plan, most);
    s->layers = SL_ARENA_NEW(&s->arena, sl__pack_layer_plan, layers);
    if (!s->specs || !s->spec_layers || !s->tensors || !s->layers) {
        return SL_FAIL_NOMEM(err, "pack plan");
    }
    plan_tensors(s, layers, specs, s->family->model_tensors(&s->desc, specs));
    for (uint32_t i = 0; i < layers; i++) {
        plan_tensors(s, i, specs, s->family->layer_tensors(&s->desc, i, specs));
        plan_layer(s, i);
    }
    s->plan.config = s->root;
    s->plan.source = s->opt->like;
    s->plan.tensors = s->tensors;
    s->plan.tensor_count = s->tensor_count;
    s->plan.layers = s->layers;
    s->plan.layer_count = layers;
    s->progress.total_bytes = sl__pack_plan_bytes(&s->plan);
    return SL_OK;
}

/* Everything up to the first byte on the disk. */
static sl_status prepare(struct synth *s, sl_error *err)
{
    s->experts_name = s->opt->experts ? s->opt->experts : "q4";
    s->resident_name = s->opt->resident ? s->opt->resident : "q8";
    SL_TRY(find_shape(s, err));
    SL_TRY(parse_type(s->experts_name, "experts", &s->experts, err));
    SL_TRY(parse_type(s->resident_name, "resident", &s->resident, err));
    SL_TRY(make_config(s, err));
    SL_TRY(describe(s, err));
    SL_TRY(sl__synth_dials_make(&s->dials, s->opt, &s->desc, err));
    SL_TRY(mark(s, err));
    return plan_all(s, err);
}

/* ---- the resident part ----------------------------------------------------------------------- */

static sl_status report(struct synth *s, const char *what, uint64_t bytes, sl_error *err)
{
    s->progress.what = what;
    s->progress.done_bytes += bytes;
    if (!s->opt->progress) return SL_OK;
    if (s->opt->progress(s->opt->progress_ctx, &s->progress) == SL_OK) return SL_OK;
    return SL_FAIL(err, SL_ECANCELLED, "writing the synthetic model was stopped");
}

/* One number of a vector, less what is added to it when it is read. */
static double vector_value(const sl__tensor_spec *spec, bool in_layer, sl__synth_rng *rng)
{
    double add = (double)spec->add;
    if (!in_layer) return 1 - add;
    switch (spec->role) {
    case SL_ROLE_Q_NORM:
    case SL_ROLE_K_NORM: return SL_SYNTH_QK_GAIN - add;
    case SL_ROLE_DELTA_CONV: return sl__synth_rng_unit(rng) * 1.732 - 0.866; /* variance 1/4 */
    case SL_ROLE_DELTA_A_LOG: return log(1 + 15 * sl__synth_rng_unit(rng));
    /* Steps of 0.001 to 0.1, evenly in their logarithm, before softplus. */
    case SL_ROLE_DELTA_DT_BIAS:
        return log(expm1(exp(log(0.001) + log(100.0) * sl__synth_rng_unit(rng))));
    case SL_ROLE_DELTA_NORM: return 1;
    default: return 1 - add; /* norms of the stream */
    }
}

static sl_status write_vector(struct synth *s, size_t index, sl__synth_rng *rng, sl_error *err)
{
    const sl__tensor_spec *spec = &s->specs[index];
    float *values = (float *)(void *)s->buffer;
    uint64_t bytes;
    bool fits = sl__dtype_row_bytes(s->tensors[index].dtype, spec->cols, &bytes);
    assert(fits && bytes + spec->cols * sizeof *values <= s->buffer_bytes);
    (void)fits;
    for (uint32_t i = 0; i < spec->cols; i++)
        values[i] = (float)vector_value(spec, s->spec_layers[index] < s->desc.layer_count, rng);
    char *out = s->buffer + spec->cols * sizeof *values;
    SL_TRY(sl__quant_row(NULL, s->tensors[index].dtype, values, spec->cols, out, NULL, err));
    return sl__pack_writer_tensor(s->writer, index, out, bytes, err);
}

/* Rows [first, first + rows) of a matrix as it lies in a pack; where that is in panels, first is
 * the first row of one. */
static void fill_matrix(struct synth *s, sl__synth_rng *rng, const sl__synth_fill *fill,
                        uint64_t topic_seed, const sl__matrix_layout *m, char *out, uint64_t first,
                        uint64_t rows)
{
    if (!m->panels) {
        sl__synth_fill_matrix(rng, fill, &s->dials, topic_seed, m->dtype, out, first, rows,
                              m->cols);
        return;
    }
    const size_t row_bytes = (size_t)m->row_bytes;
    assert(SL_PANEL_ROWS * row_bytes <= ROWS_BYTES);
    for (uint64_t done = 0; done < rows; done += SL_PANEL_ROWS) {
        uint64_t n = rows - done < SL_PANEL_ROWS ? rows - done : SL_PANEL_ROWS;
        char *panel = out + done * row_bytes;
        if (n < SL_PANEL_ROWS) memset(panel, 0, SL_PANEL_ROWS * row_bytes);
        sl__synth_fill_matrix(rng, fill, &s->dials, topic_seed, m->dtype, s->rows, first + done, n,
                              m->cols);
        for (uint32_t r = 0; r < n; r++)
            sl__panel_put_row(m->dtype, s->rows + r * row_bytes, m->cols, panel, r);
    }
}

static sl_status write_matrix(struct synth *s, size_t index, sl__synth_rng *rng, sl_error *err)
{
    const sl__tensor_spec *spec = &s->specs[index];
    uint32_t layer = s->spec_layers[index];
    sl__synth_fill fill = layer < s->desc.layer_count
                              ? sl__synth_layer_matrix(&s->dials, &s->desc, layer, spec->role)
                              : sl__synth_model_matrix(&s->dials, &s->desc, spec->role);
    sl__matrix_layout m = {.dtype = s->tensors[index].dtype, .cols = spec->cols,
                           .panels = s->tensors[index].panels};
    bool fits = sl__dtype_row_bytes(m.dtype, m.cols, &m.row_bytes);
    assert(fits && SL_PANEL_ROWS * m.row_bytes <= s->buffer_bytes);
    (void)fits;
    uint64_t piece = s->buffer_bytes / m.row_bytes / SL_PANEL_ROWS * SL_PANEL_ROWS;
    for (uint64_t done = 0; done < spec->rows;) {
        uint64_t n = spec->rows - done < piece ? spec->rows - done : piece;
        uint64_t bytes = sl__stored_rows(m.panels, n) * m.row_bytes;
        fill_matrix(s, rng, &fill, s->opt->seed ^ TOPIC_STREAM, &m, s->buffer, done, n);
        SL_TRY(sl__pack_writer_tensor(s->writer, index, s->buffer, bytes, err));
        SL_TRY(report(s, "resident part", bytes, err));
        done += n;
    }
    return SL_OK;
}

static sl_status write_resident(struct synth *s, sl_error *err)
{
    const sl__pack_plan resident = {.tensors = s->tensors, .tensor_count = s->tensor_count};
    if (sl__pack_writer_has_resident(s->writer)) {
        return report(s, "resident part", sl__pack_plan_bytes(&resident), err);
    }
    SL_TRY(sl__pack_writer_resident_begin(s->writer, err));
    for (size_t i = 0; i < s->tensor_count; i++) {
        const sl__tensor_spec *spec = &s->specs[i];
        sl__synth_rng rng;
        sl__synth_rng_seed(&rng, s->opt->seed, sl__hash64(spec->name, strlen(spec->name)));
        SL_TRY(spec->klass == SL_CLASS_VECTOR ? write_vector(s, i, &rng, err)
                                              : write_matrix(s, i, &rng, err));
    }
    return sl__pack_writer_resident_end(s->writer, err);
}

/* ---- experts --------------------------------------------------------------------------------- */

static void fill_record(struct synth *s, uint32_t layer, uint32_t expert,
                        const sl__synth_fill fill[SL_PART_COUNT])
{
    const sl__expert_layout *layout = sl__pack_writer_layout(s->writer, layer);
    const uint64_t facts[] = {layer, expert};
    sl__synth_rng rng;
    sl__synth_rng_seed(&rng, s->opt->seed, sl__hash64(facts, sizeof facts));
    for (uint32_t part = 0; part < SL_PART_COUNT; part++) {
        const sl__matrix_layout *m = &layout->part[part];
        fill_matrix(s, &rng, &fill[part], 0, m, s->buffer + m->offset, 0, m->rows);
    }
}

static sl_status write_layer(struct synth *s, uint32_t layer, sl_error *err)
{
    const sl__expert_layout *layout = sl__pack_writer_layout(s->writer, layer);
    sl__synth_fill fill[SL_PART_COUNT];
    char what[32];
    snprintf(what, sizeof what, "layer %u", layer);
    if (sl__pack_writer_has_layer(s->writer, layer)) {
        return report(s, what, layout->record_bytes * layout->expert_count, err);
    }
    for (uint32_t part = 0; part < SL_PART_COUNT; part++)
        fill[part] = sl__synth_expert_part(&s->dials, &s->desc, layer, part);
    memset(s->buffer, 0, (size_t)layout->record_bytes); /* the space between parts */
    SL_TRY(sl__pack_writer_layer_begin(s->writer, layer, err));
    for (uint32_t e = 0; e < layout->expert_count; e++) {
        fill_record(s, layer, e, fill);
        SL_TRY(sl__pack_writer_record(s->writer, layer, e, s->buffer, err));
        SL_TRY(report(s, what, layout->record_bytes, err));
    }
    return sl__pack_writer_layer_end(s->writer, layer, err);
}

/* ---- the whole ------------------------------------------------------------------------------- */

/* What a resume must find unchanged. */
static void fingerprint(const struct synth *s, char out[SL_HASH_TEXT])
{
    const sl__synth_dials *d = &s->dials;
    const uint64_t facts[] = {sl__hash64(s->opt->like, strlen(s->opt->like)), s->opt->seed,
                              s->desc.layer_count, s->experts, s->resident, d->uniform,
                              sl__hash64(&d->overlap, sizeof d->overlap),
                              sl__hash64(&d->predictable, sizeof d->predictable),
                              SL_SYNTH_VERSION};
    sl__hash_format(sl__hash64(facts, sizeof facts), out);
}

static sl_status open_writer(struct synth *s, const char *dst, sl_error *err)
{
    char print[SL_HASH_TEXT];
    fingerprint(s, print);
    s->plan.fingerprint = print;
    json_t *provenance = json_pack("{s:s, s:s, s:s}", "tool_version", sl_version(), "experts",
                                   s->experts_name, "resident", s->resident_name);
    if (!provenance) return SL_FAIL_NOMEM(err, "provenance");
    s->plan.provenance = provenance;
    sl_status status = sl__pack_writer_open(&s->writer, dst, &s->plan, err);
    s->plan.provenance = NULL;
    s->plan.fingerprint = NULL;
    json_decref(provenance);
    return status;
}

/* The largest record, else a piece; a vector needs room for its floats besides. */
static sl_status take_buffer(struct synth *s, sl_error *err)
{
    s->buffer_bytes = PIECE_BYTES;
    for (uint32_t i = 0; i < s->desc.layer_count; i++) {
        uint64_t record = sl__pack_writer_layout(s->writer, i)->record_bytes;
        if (record > s->buffer_bytes) s->buffer_bytes = record;
    }
    s->buffer = sl__arena_alloc(&s->arena, (size_t)s->buffer_bytes, 1);
    s->rows = sl__arena_alloc(&s->arena, ROWS_BYTES, 1);
    return s->buffer && s->rows ? SL_OK : SL_FAIL_NOMEM(err, "synth buffer");
}

static sl_status write_all(struct synth *s, const char *dst, sl_error *err)
{
    SL_TRY(prepare(s, err));
    SL_TRY(open_writer(s, dst, err));
    SL_TRY(sl__pack_writer_check_room(s->writer, err));
    SL_TRY(take_buffer(s, err));
    SL_TRY(write_resident(s, err));
    for (uint32_t i = 0; i < s->desc.layer_count; i++)
        SL_TRY(write_layer(s, i, err));
    return sl__pack_writer_commit(s->writer, err);
}

static void begin(struct synth *s, const sl_synth_options *opt)
{
    *s = (struct synth){.opt = opt};
    sl__arena_init(&s->arena, 0);
}

static void end(struct synth *s)
{
    sl__pack_writer_close(s->writer);
    json_decref(s->root);
    sl__arena_free(&s->arena);
}

sl_status sl_synth(const char *dst, const sl_synth_options *opt, sl_error *err)
{
    struct synth s;
    begin(&s, opt);
    sl_status status = write_all(&s, dst, err);
    end(&s);
    return status;
}

uint64_t sl_synth_bytes(const sl_synth_options *opt)
{
    struct synth s;
    begin(&s, opt);
    uint64_t bytes = prepare(&s, NULL) == SL_OK ? s.progress.total_bytes : 0;
    end(&s);
    return bytes;
}
