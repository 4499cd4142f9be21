/* Inside sl_pack, whose parts are files of their own:
 *
 *     pack.c           the order of things; small files, reading back
 *     pack_types.c     what was asked for → the type of each matrix
 *     pack_plan.c      the plan of the pack, and what it will change
 *     pack_convert.c   rows of one form → rows of another, on all threads
 *     pack_stream.c    every piece of a tensor and every record: read ahead, converted, written
 *                      behind
 *     pack_estimate.c  how long it would take
 */
#ifndef SL_ENGINE_PACKER_H
#define SL_ENGINE_PACKER_H

#include "base/panels.h"
#include "base/pool.h"
#include "engine/engine.h"
#include "store/pack.h"

#define SL_PACK_THREADS_MAX 256u

/* What each kind of weights is to be stored as; SL_DTYPE_ALL: as it is. */
typedef struct sl__pack_targets {
    sl__dtype experts[SL_PART_COUNT], resident;
} sl__pack_targets;

/* Places in sl_pack_report.parts. */
enum { SL_PACK_EXPERTS, SL_PACK_EMBEDDING, SL_PACK_REST, SL_PACK_DRAFTING };

typedef struct sl__packer {
    const sl_pack_options *opt;
    sl_pack_report *report;
    sl__pack_targets targets;
    sl__store *store;
    const sl__family *family;
    sl__model_desc desc;
    sl__arena arena;
    sl__kern kern;
    sl__pool *pool;

    /* The plan. */
    sl__pack_tensor_plan *tensors; /* [tensor_count], in the order of the pack */
    const sl__tensor **sources;    /* of tensors[] */
    size_t tensor_count;
    sl__pack_layer_plan *layers; /* [layer_count] */
    size_t layer_count;
    uint32_t widest; /* columns */
    bool turns;      /* experts that lie transposed are turned */
    sl__pack_writer *writer; /* NULL: a dry run */

    /* Memory: two pieces or records as they come, two as they go; or one and one. */
    char *in[2], *out[2]; /* [slots] */
    unsigned slots;
    char *turned;     /* one more, where experts are turned */
    char *check;      /* SL_PACK_CHECK_BYTES, for checksums of tensors */
    uint64_t in_bytes, out_bytes;
    float *rows;      /* [threads][row_floats] */
    size_t row_floats;
    sl_pack_progress progress;
} sl__packer;

#define SL_PACK_CHECK_BYTES ((size_t)1 << 20)

/* ---- pack_types.c ---------------------------------------------------------------------------- */

/* SL_EINVAL names the option and what it takes. */
sl_status sl__pack_targets_parse(sl__pack_targets *out, const sl_pack_options *opt, sl_error *err);

/* The type that a matrix gets. Where rows of cols are no whole number of the target's blocks it is
 * the pack's own type of as many bits, or the next wider: that is noted in the report, under
 * `name`. What is kept may still change its form, where that has the same numbers. */
sl__dtype sl__pack_type_of(sl__packer *p, sl__dtype target, sl__dtype source,
                           const sl__scaling *scaling, uint64_t cols, const char *name);
/* Whether every number of the one type is one of the other. */
bool sl__pack_type_keeps(sl__dtype from, const sl__scaling *scaling, sl__dtype to);

/* ---- pack_plan.c ----------------------------------------------------------------------------- */

/* Plans all tensors and layers, and fills the report's parts. */
sl_status sl__pack_plan_all(sl__packer *p, sl_error *err);
/* The plan for the writer, for the duration of fn. */
sl_status sl__pack_open_writer(sl__packer *p, const char *src, const char *dst, sl_error *err);
sl_status sl__pack_take_buffers(sl__packer *p, sl_error *err);

/* Rows and columns of a tensor of the plan: the last dimension, and all before it. */
void sl__pack_matrix_of(const sl__pack_tensor_plan *t, uint64_t *rows, uint32_t *cols);

/* ---- pack_convert.c -------------------------------------------------------------------------- */

/* How a matrix lies. */
typedef struct sl__pack_form {
    sl__dtype type;
    bool panels;
    size_t row_bytes;
} sl__pack_form;

sl__pack_form sl__pack_form_of(sl__dtype type, bool panels, uint32_t cols);
uint64_t sl__pack_form_bytes(const sl__pack_form *form, uint64_t rows);

/* rows rows of one form, in, into another. Planes are not copied. what: "tensor NAME" for
 * messages. */
sl_status sl__pack_convert(sl__packer *p, const sl__pack_form *from, const sl__rows *in,
                           const sl__pack_form *to, void *out, uint32_t rows, uint32_t cols,
                           const char *what, sl_error *err);

/* A record as it lies in the source → one of the pack, record_bytes of `to`. */
sl_status sl__pack_convert_record(sl__packer *p, const char *in, const sl__expert_layout *from,
                                  const sl__expert_layout *to, char *out, const char *what,
                                  sl_error *err);

/* ---- pack_stream.c --------------------------------------------------------------------------- */

/* Writes resident.bin and every layer that is not there yet. */
sl_status sl__pack_stream(sl__packer *p, sl_error *err);

/* Reads one record and compares what it has of checksums. in: record_bytes. */
sl_status sl__pack_read_record(const sl__packer *p, uint32_t layer, uint32_t expert, char *in,
                               sl_error *err);

/* ---- pack_estimate.c ------------------------------------------------------------------------- */

/* Converts a sample, reads one, and says in the report how long all would take. */
sl_status sl__pack_estimate(sl__packer *p, sl_error *err);

#endif
