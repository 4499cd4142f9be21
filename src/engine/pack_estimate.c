/* How long a pack would take: one expert is converted again and again for a moment, so is a piece
 * of the rest, and the disk is asked how fast it reads. What the destination can take is not tried:
 * nothing is written.
 */
#include <stdio.h>

#include "base/clock.h"
#include "base/fail.h"
#include "base/file.h"
#include "engine/packer.h"
#include "store/pack_layout.h"

#define SAMPLE_NS UINT64_C(200000000)

/* Bytes a second of source that the experts' conversion takes in; 0: nothing to convert. */
static sl_status sample_experts(sl__packer *p, double *out, sl_error *err)
{
    *out = 0;
    if (p->layer_count == 0) return SL_OK;
    const sl__pack_layer_plan *plan = &p->layers[0];
    const sl__expert_layout *from = sl__store_expert_layout(p->store, plan->layer);
    sl__expert_layout to;
    SL_TRY(sl__expert_layout_init(&to, plan->expert_count, plan->dtype, plan->rows, plan->cols,
                                  plan->panels, plan->planes, "plan", err));
    SL_TRY(sl__pack_read_record(p, plan->layer, 0, p->in[0], err));
    uint64_t begin = sl__now_ns(), ns, times = 0;
    do {
        SL_TRY(sl__pack_convert_record(p, p->in[0], from, &to, p->out[0], "a sample", err));
        times++;
        ns = sl__now_ns() - begin;
    } while (ns < SAMPLE_NS);
    *out = (double)(times * from->record_bytes) * 1e9 / (double)ns;
    return SL_OK;
}

/* The same of the largest tensor that changes its type. */
static sl_status sample_rest(sl__packer *p, double *out, sl_error *err)
{
    size_t best = SIZE_MAX;
    *out = 0;
    for (size_t i = 0; i < p->tensor_count; i++) {
        const sl__tensor *t = p->sources[i];
        if (t->scales || t->dtype == p->tensors[i].dtype) continue;
        if (best == SIZE_MAX || t->extent.bytes > p->sources[best]->extent.bytes) best = i;
    }
    if (best == SIZE_MAX) return SL_OK;
    const sl__tensor *t = p->sources[best];
    const sl__pack_tensor_plan *plan = &p->tensors[best];
    uint64_t rows;
    uint32_t cols;
    sl__pack_matrix_of(plan, &rows, &cols);
    const sl__pack_form from = sl__pack_form_of(t->dtype, t->panels, cols);
    const sl__pack_form to = sl__pack_form_of(plan->dtype, plan->panels, cols);
    uint64_t most = p->in_bytes / from.row_bytes, fits = p->out_bytes / to.row_bytes;
    if (fits < most) most = fits;
    most = most / SL_PANEL_ROWS * SL_PANEL_ROWS;
    if (rows > most) rows = most;
    uint64_t bytes = sl__pack_form_bytes(&from, rows);
    SL_TRY(sl__file_pread_all(sl__store_fd(p->store, t->extent.file),
                              sl__store_file_path(p->store, t->extent.file), p->in[0], bytes,
                              t->extent.offset, err));
    const sl__rows in = {.dtype = t->dtype, .data = p->in[0], .row_bytes = from.row_bytes};
    uint64_t begin = sl__now_ns(), ns, times = 0;
    do {
        SL_TRY(sl__pack_convert(p, &from, &in, &to, p->out[0], (uint32_t)rows, cols, plan->name,
                                err));
        times++;
        ns = sl__now_ns() - begin;
    } while (ns < SAMPLE_NS);
    *out = (double)(times * bytes) * 1e9 / (double)ns;
    return SL_OK;
}

static double seconds(double bytes, double bytes_per_s)
{
    return bytes_per_s > 0 ? bytes / bytes_per_s : 0;
}

sl_status sl__pack_estimate(sl__packer *p, sl_error *err)
{
    sl_pack_report *r = p->report;
    sl_probe_result disk;
    double experts, rest, rest_bytes = 0;
    SL_TRY(sample_experts(p, &experts, err));
    SL_TRY(sample_rest(p, &rest, err));
    for (uint32_t i = 0; i < SL_PACK_PARTS; i++) {
        r->read_bytes += r->parts[i].from_bytes;
        if (i != SL_PACK_EXPERTS) rest_bytes += (double)r->parts[i].from_bytes;
    }
    uint64_t expert = r->from_expert_bytes > 0 ? r->from_expert_bytes : (uint64_t)1 << 20;
    if (sl__engine_probe(&disk, p->store, expert, NULL, NULL) == SL_OK) {
        r->disk_bytes_per_s = disk.bytes_per_s;
    }
    r->convert_bytes_per_s = experts;
    double convert = seconds((double)r->parts[SL_PACK_EXPERTS].from_bytes, experts) +
                     seconds(rest_bytes, rest);
    double read = seconds((double)r->read_bytes, r->disk_bytes_per_s);
    r->seconds = convert > read ? convert : read;
    return SL_OK;
}
