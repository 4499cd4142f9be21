/* The plan of a pack: every tensor that the family knows and every layer's experts, each with the
 * type that it gets; and what that changes, for the report.
 */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cpus.h"
#include "base/fail.h"
#include "base/file.h"
#include "base/hash.h"
#include "engine/packer.h"

#define PIECE_BYTES  ((uint64_t)8 << 20)
#define MEMORY_BYTES ((uint64_t)1 << 30) /* where nothing is said */

/* ---- what changes ---------------------------------------------------------------------------- */

static void count_weights(sl_pack_part *part, uint64_t weights, sl__dtype from, sl__dtype to,
                          uint64_t from_bytes, uint64_t to_bytes, bool named)
{
    part->weights += weights;
    part->from_bytes += from_bytes;
    part->to_bytes += to_bytes;
    if (!named) return;
    sl__dtype_list_add(part->from, sizeof part->from, from);
    sl__dtype_list_add(part->to, sizeof part->to, to);
}

static void count_tensor(sl__packer *p, size_t index, bool drafting, const sl__tensor_spec *spec)
{
    const sl__pack_tensor_plan *t = &p->tensors[index];
    const sl__tensor *source = p->sources[index];
    uint64_t rows, planes = 0;
    uint32_t cols;
    sl__pack_matrix_of(t, &rows, &cols);
    if (sl__dtype_has_planes(t->dtype)) {
        planes = sl__tensor_all_bytes(source) - source->extent.bytes; /* go over as they are */
    }
    const sl__pack_form form = sl__pack_form_of(t->dtype, t->panels, cols);
    uint32_t kind = drafting || spec->klass == SL_CLASS_UNREAD ? SL_PACK_DRAFTING : SL_PACK_REST;
    if (spec->role == SL_ROLE_EMBED && strstr(spec->name, "embed_tokens")) kind = SL_PACK_EMBEDDING;
    count_weights(&p->report->parts[kind], rows * cols, source->dtype, t->dtype,
                  sl__tensor_all_bytes(source), sl__pack_form_bytes(&form, rows) + planes,
                  spec->klass == SL_CLASS_MATRIX || kind == SL_PACK_DRAFTING);
    if (sl__pack_type_keeps(source->dtype, &source->scaling, t->dtype)) return;
    p->report->lossy = true;
    p->report->parts[kind].lossy = true;
}

static void count_layer(sl__packer *p, const sl__pack_layer_plan *plan, bool drafting)
{
    const sl__expert_layout *from = sl__store_expert_layout(p->store, plan->layer);
    sl_pack_part *kind = &p->report->parts[drafting ? SL_PACK_DRAFTING : SL_PACK_EXPERTS];
    const sl__pack_plan one = {.layers = plan, .layer_count = 1};
    for (uint32_t part = 0; part < SL_PART_COUNT; part++) {
        const sl__matrix_layout *m = &from->part[part];
        if (m->rows == 0) continue;
        count_weights(kind, (uint64_t)m->rows * m->cols * from->expert_count, m->dtype,
                      plan->dtype[part], 0, 0, true);
        if (sl__pack_type_keeps(m->dtype, &m->scaling, plan->dtype[part])) continue;
        kind->lossy = p->report->lossy = true;
    }
    sl__extent extents[SL_EXPERT_EXTENTS_MAX];
    uint32_t reads = sl__store_expert_extents(p->store, plan->layer, 0, extents);
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < reads; i++)
        bytes += extents[i].bytes;
    kind->from_bytes += bytes * from->expert_count;
    kind->to_bytes += sl__pack_plan_bytes(&one);
    if (drafting || p->report->from_expert_bytes > 0) return;
    p->report->from_expert_bytes = bytes;
    p->report->from_expert_reads = reads;
    p->report->to_expert_bytes = sl__pack_plan_bytes(&one) / from->expert_count;
}

/* ---- planning -------------------------------------------------------------------------------- */

void sl__pack_matrix_of(const sl__pack_tensor_plan *t, uint64_t *rows, uint32_t *cols)
{
    *rows = 1;
    *cols = t->dims ? (uint32_t)t->shape[t->dims - 1] : 1;
    for (uint32_t i = 0; i + 1 < t->dims; i++)
        *rows *= t->shape[i];
}

/* What a tensor keeps of planes are tensors of the pack, too. */
static void plan_planes(sl__packer *p, sl__pack_tensor_plan *t, const sl__tensor *source)
{
    const sl__tensor *const planes[] = {source->scales, source->biases};
    t->scaling = source->scaling;
    for (int i = 0; i < 2 && planes[i]; i++) {
        sl__pack_tensor_plan *plane = &p->tensors[p->tensor_count];
        p->sources[p->tensor_count++] = planes[i];
        *plane = (sl__pack_tensor_plan){.name = planes[i]->name, .dtype = planes[i]->dtype,
                                        .dims = planes[i]->dims};
        memcpy(plane->shape, planes[i]->shape, sizeof plane->shape);
    }
}

static sl_status plan_tensors(sl__packer *p, const sl__tensor_spec *specs, size_t count,
                              bool drafting, sl_error *err)
{
    for (size_t i = 0; i < count; i++) {
        const sl__tensor *source;
        SL_TRY(sl__model_find(&source, p->store, &specs[i], err));
        if (sl__spec_repeats(&specs[i])) continue;
        size_t index = p->tensor_count++;
        sl__pack_tensor_plan *t = &p->tensors[index];
        p->sources[index] = source;
        bool encode = specs[i].klass == SL_CLASS_MATRIX ||
                      (specs[i].klass == SL_CLASS_UNREAD && specs[i].rows > 1);
        uint64_t cols = source->dims ? source->shape[source->dims - 1] : 1;
        t->name = source->name;
        t->dtype = source->dtype;
        if (encode) {
            t->dtype = sl__pack_type_of(p, p->targets.resident, source->dtype, &source->scaling,
                                        cols, source->name);
        }
        t->dims = source->dims;
        memcpy(t->shape, source->shape, sizeof t->shape);
        t->panels = specs[i].klass == SL_CLASS_MATRIX && !specs[i].by_rows && t->dims == 2 &&
                    sl__dtype_has_panels(t->dtype);
        count_tensor(p, index, drafting, &specs[i]);
        if (sl__dtype_has_planes(t->dtype)) plan_planes(p, t, source);
        if (cols > p->widest) p->widest = (uint32_t)cols;
    }
    return SL_OK;
}

static sl_status plan_layer(sl__packer *p, uint32_t layer, sl_error *err)
{
    static const char *const names[SL_PART_COUNT] = {"gate", "up", "down"};
    SL_TRY(sl__model_bind_experts(p->store, p->family, &p->desc, layer, err));
    const sl__expert_layout *layout = sl__store_expert_layout(p->store, layer);
    if (!layout) return SL_OK; /* a dense layer */
    sl__pack_layer_plan *plan = &p->layers[p->layer_count++];
    plan->layer = layer;
    plan->expert_count = layout->expert_count;
    for (uint32_t part = 0; part < SL_PART_COUNT; part++) {
        const sl__matrix_layout *m = &layout->part[part];
        char name[64];
        snprintf(name, sizeof name, "layer %u, %s of its experts", layer, names[part]);
        plan->rows[part] = m->transposed ? m->cols : m->rows;
        plan->cols[part] = m->transposed ? m->rows : m->cols;
        plan->dtype[part] = sl__pack_type_of(p, p->targets.experts[part], m->dtype, &m->scaling,
                                             plan->cols[part], name);
        if (sl__dtype_has_planes(plan->dtype[part])) plan->planes[part].scaling = m->scaling;
        if (m->first > 0) plan->planes[part].scaling.group_rows = 1; /* a group begins earlier */
        plan->panels[part] = sl__dtype_has_panels(plan->dtype[part]) && plan->rows[part] > 0;
        p->turns = p->turns || m->transposed;
        if (plan->cols[part] > p->widest) p->widest = plan->cols[part];
    }
    count_layer(p, plan, layer >= p->desc.layer_count);
    return SL_OK;
}

sl_status sl__pack_plan_all(sl__packer *p, sl_error *err)
{
    sl__tensor_spec specs[SL_SPECS_MAX];
    uint32_t all = p->desc.layer_count + p->desc.mtp_layer_count;
    size_t most = (size_t)(all + 1) * SL_SPECS_MAX * 3; /* with planes */
    p->tensors = SL_ARENA_NEW(&p->arena, sl__pack_tensor_plan, most);
    p->sources = SL_ARENA_NEW(&p->arena, const sl__tensor *, most);
    p->layers = SL_ARENA_NEW(&p->arena, sl__pack_layer_plan, all);
    if (!p->tensors || !p->sources || !p->layers) return SL_FAIL_NOMEM(err, "pack plan");
    SL_TRY(plan_tensors(p, specs, p->family->model_tensors(&p->desc, specs), false, err));
    for (uint32_t i = 0; i < all; i++) {
        SL_TRY(plan_tensors(p, specs, p->family->layer_tensors(&p->desc, i, specs),
                            i >= p->desc.layer_count, err));
        SL_TRY(plan_layer(p, i, err));
    }
    const sl__pack_plan plan = {.tensors = p->tensors, .tensor_count = p->tensor_count,
                                .layers = p->layers, .layer_count = p->layer_count};
    p->progress.total_bytes = sl__pack_plan_bytes(&plan);
    p->report->disk_bytes = sl__pack_plan_disk_bytes(&plan);
    return SL_OK;
}

/* ---- opening --------------------------------------------------------------------------------- */

/* What a resume must find unchanged: the source's files and headers, and the options. */
static sl_status fingerprint(const sl__packer *p, char out[SL_HASH_TEXT], sl_error *err)
{
    uint64_t hash = 0;
    for (uint32_t i = 0; i < sl__store_file_count(p->store); i++) {
        struct stat st;
        const char *path = sl__store_file_path(p->store, i);
        if (stat(path, &st) != 0) return SL_FAIL(err, SL_EIO, "%s: cannot be read", path);
        const uint64_t facts[] = {hash, (uint64_t)st.st_size, (uint64_t)st.st_mtime};
        hash = sl__hash64(facts, sizeof facts);
    }
    for (size_t i = 0; i < p->tensor_count; i++) {
        const sl__extent *e = &p->sources[i]->extent;
        const uint64_t facts[] = {hash, sl__hash64(p->tensors[i].name, strlen(p->tensors[i].name)),
                                  (uint64_t)p->tensors[i].dtype, e->file, e->offset, e->bytes};
        hash = sl__hash64(facts, sizeof facts);
    }
    const sl__dtype *experts = p->targets.experts;
    const uint64_t facts[] = {hash, (uint64_t)experts[SL_PART_GATE], (uint64_t)experts[SL_PART_UP],
                              (uint64_t)experts[SL_PART_DOWN], (uint64_t)p->targets.resident,
                              SL_PACK_VERSION};
    sl__hash_format(sl__hash64(facts, sizeof facts), out);
    return SL_OK;
}

static const char *base_name(const char *path, char *out, size_t size)
{
    snprintf(out, size, "%s", path);
    for (size_t n = strlen(out); n > 1 && out[n - 1] == '/'; n--)
        out[n - 1] = '\0';
    const char *slash = strrchr(out, '/');
    return slash && slash[1] ? slash + 1 : out;
}

sl_status sl__pack_open_writer(sl__packer *p, const char *src, const char *dst, sl_error *err)
{
    char print[SL_HASH_TEXT], name[SL_PATH_MAX];
    SL_TRY(fingerprint(p, print, err));
    json_t *provenance = json_pack("{s:s, s:s, s:s}", "tool_version", sl_version(), "experts",
                                   p->opt->experts ? p->opt->experts : "keep", "resident",
                                   p->opt->resident ? p->opt->resident : "keep");
    if (!provenance) return SL_FAIL_NOMEM(err, "provenance");
    const char *generation_path;
    const sl__pack_plan plan = {
        .config = sl__store_config(p->store)->root,
        .generation = sl__store_generation_config(p->store, &generation_path),
        .source = base_name(src, name, sizeof name),
        .fingerprint = print,
        .provenance = provenance,
        .tensors = p->tensors,
        .tensor_count = p->tensor_count,
        .layers = p->layers,
        .layer_count = p->layer_count,
    };
    sl_status status = sl__pack_writer_open(&p->writer, dst, &plan, err);
    json_decref(provenance);
    return status;
}

/* ---- memory ---------------------------------------------------------------------------------- */

static char *buffer(sl__packer *p, uint64_t bytes)
{
    return sl__arena_alloc(&p->arena, (size_t)bytes, 1);
}

/* Two of each buffer, so that reading, converting and writing go on at once, if memory allows. */
static unsigned count_slots(const sl__packer *p)
{
    uint64_t most = p->opt->memory_bytes > 0 ? p->opt->memory_bytes : MEMORY_BYTES;
    uint64_t turned = p->turns ? p->in_bytes : 0;
    return 2 * (p->in_bytes + p->out_bytes) + turned <= most ? 2 : 1;
}

/* Buffers hold a piece of rows, or a record. */
sl_status sl__pack_take_buffers(sl__packer *p, sl_error *err)
{
    uint64_t widest_row = SL_PANEL_ROWS * (uint64_t)p->widest * sizeof(double);
    p->in_bytes = p->out_bytes = widest_row > PIECE_BYTES ? widest_row : PIECE_BYTES;
    for (size_t i = 0; i < p->layer_count; i++) {
        const sl__pack_plan one = {.layers = &p->layers[i], .layer_count = 1};
        uint64_t in = sl__store_expert_layout(p->store, p->layers[i].layer)->record_bytes;
        uint64_t out = sl__pack_plan_bytes(&one) / p->layers[i].expert_count;
        if (in > p->in_bytes) p->in_bytes = in;
        if (out > p->out_bytes) p->out_bytes = out;
    }
    uint32_t threads = p->opt->threads ? p->opt->threads : sl__core_count();
    if (threads > SL_PACK_THREADS_MAX) threads = SL_PACK_THREADS_MAX;
    p->row_floats = 2 * ((size_t)p->widest + SL_GROUP); /* a panel's row has 8.5 bits at most */
    p->rows = sl__arena_alloc(&p->arena, threads * p->row_floats, sizeof *p->rows);
    p->check = buffer(p, SL_PACK_CHECK_BYTES);
    bool whole = p->rows && p->check;
    p->slots = count_slots(p);
    for (unsigned i = 0; i < p->slots && whole; i++) {
        p->in[i] = buffer(p, p->in_bytes);
        p->out[i] = buffer(p, p->out_bytes);
        whole = p->in[i] && p->out[i];
    }
    if (whole && p->turns) whole = (p->turned = buffer(p, p->in_bytes)) != NULL;
    if (!whole) return SL_FAIL_NOMEM(err, "pack buffers");
    return sl__pool_create(&p->pool, threads, err);
}
