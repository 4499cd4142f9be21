/* Inside the engine: what sl_engine and sl_session are made of.
 *
 *     sl_engine   store ─ io ─ cache        lifetime of the model
 *                 weights (arena `load`), kernels, pool, scratch
 *     sl_session  each layer's state (model/state.h), position
 */
#ifndef SL_ENGINE_ENGINE_H
#define SL_ENGINE_ENGINE_H

#include "base/arena.h"
#include "base/panels.h"
#include "base/mempressure.h"
#include "io/io.h"
#include "model/family.h"
#include "model/run.h"
#include "sluice.h"

/* How the memory budget is spent. All in bytes. */
typedef struct sl__plan {
    uint64_t budget;   /* of the whole process; UINT64_MAX where nothing limits it */
    uint64_t process;  /* held before the plan */
    uint64_t resident; /* weights, without the embedding where that is not resident */
    uint64_t state;    /* one session at full context */
    uint64_t scratch;  /* forward pass, logits */
    uint64_t io;
    uint64_t cache;
    uint32_t context_tokens, chunk_tokens, threads;
    uint32_t logits_rows; /* tokens whose logits are made at a time, at most SL_LOGITS_ROWS */
    sl_activations activations;
    sl_kv_type kv;
    bool embedding_resident;
} sl__plan;

/* All that a plan holds but the expert cache. */
static inline uint64_t sl__plan_used(const sl__plan *plan)
{
    return plan->process + plan->resident + plan->state + plan->scratch + plan->io;
}

/* How experts are read. */
typedef struct sl__reads {
    sl_io_kind kind; /* never AUTO */
    bool direct, bounce;
    uint32_t depth;       /* 0: the I/O engine's default, as split_bytes */
    uint64_t split_bytes;
    uint32_t max_reads;   /* in flight: a layer's experts at once, as far as that is sensible */
    double bytes_per_s;   /* as probed; 0: not probed */
} sl__reads;

static inline sl__io_options sl__reads_io(const sl__reads *reads)
{
    return (sl__io_options){.depth = reads->depth, .split_bytes = reads->split_bytes,
                            .max_reads = reads->max_reads,
                            .bounce = reads->bounce};
}

/* Chooses, probing the disk where something is left open and the experts of the first `layers`
 * layers do not fit in memory_bytes. */
sl_status sl__reads_choose(sl__reads *reads, sl__store *store, uint32_t layers,
                           uint64_t memory_bytes, const sl_engine_options *opt, sl_error *err);

/* What a plan is made from. */
typedef struct sl__plan_input {
    const sl__reads *reads;
    const sl__model_desc *desc;
    const sl__family *family;
    const sl__store *store;
    const char *path;      /* for messages */
    uint64_t process_bytes;
    uint64_t free_bytes;   /* the process could take this much more */
} sl__plan_input;

/* Tokens of logits that are computed at a time. */
#define SL_LOGITS_ROWS 8u

/* Splits the budget. SL_EBUDGET says how much is needed. opt's zeros are replaced by choices;
 * whatever they are, they do not change results (chunks are multiples of SL_DELTA_CHUNK). */
sl_status sl__plan_make(sl__plan *plan, const sl__plan_input *in, const sl_engine_options *opt,
                        sl_error *err);
/* The smallest budget that sl__plan_make takes with these options. */
uint64_t sl__plan_minimum(const sl__plan_input *in, const sl_engine_options *opt);

/* Room for one encoded row of the embedding, whatever its type, or for a panel and a row. */
static inline size_t sl__embedding_row_bytes(const sl__model_desc *desc)
{
    size_t row = ((size_t)desc->hidden + SL_GROUP) * sizeof(float); /* of the widest type */
    return row + SL_PANEL_ROWS * row / 2;                           /* q8 has a third of that */
}

/* Bytes of one session's state: the table of its layers, then what they hold. */
uint64_t sl__state_bytes(const sl__model_desc *desc, sl_kv_type kv, uint32_t context_tokens,
                         uint32_t chunk_tokens);
static inline uint64_t sl__state_table_bytes(const sl__model_desc *desc)
{
    uint64_t bytes = desc->layer_count * (uint64_t)sizeof(sl__layer_state);
    return (bytes + SL_ARENA_ALIGN - 1) / SL_ARENA_ALIGN * SL_ARENA_ALIGN;
}

/* Sees what the forward pass computes; for tests and research. data: [count, width], borrowed. */
typedef enum sl__observed {
    SL_OBSERVED_HIDDEN, /* layer 0: embeddings; j: after layer j-1, the last after the final norm */
    SL_OBSERVED_MIXED,  /* the stream where a layer's router sees it: after its mixer, not normed */
    SL_OBSERVED_ROUTER, /* router outputs of a layer, [count, experts]; scratch.moe.ids are set */
} sl__observed;
typedef void (*sl__observer_fn)(void *ctx, sl__observed what, uint32_t layer, uint32_t first,
                                uint32_t count, uint32_t width, const float *data);

struct sl_engine {
    sl__store *store;
    sl__arena arena; /* load: descriptions, weights' tables */
    const sl__family *family;
    sl__model_desc desc;
    sl__reads reads;
    sl__plan plan;
    sl__run run;
    sl__mempressure *pressure; /* NULL: the budget is not moved */
    sl__io *io;
    char *weights;          /* resident weights, one block */
    size_t weights_bytes;
    char *scratch;          /* forward scratch, then logits */
    size_t scratch_bytes;
    float *logits;          /* [plan.logits_rows, vocab] */
    char *embedding_row;    /* sl__embedding_row_bytes: a panel, then a row */
    const sl__tensor *embedding;
    const sl_tokenizer *tokenizer; /* borrowed or own_tokenizer */
    sl_tokenizer *own_tokenizer;
    sl_generation_defaults defaults;
    uint32_t session_count;
    uint64_t tokens, forward_ns, embedding_bytes_read;
};

struct sl_session {
    sl_engine *engine;
    uint32_t position;
    bool failed;             /* a call failed midway: the state is not to be used */
    char *memory;            /* all state, one block */
    size_t memory_bytes;
    sl__layer_state *layers; /* [layer_count] */
    sl__observer_fn observer;
    void *observer_ctx;
    sl_progress_fn progress;
    void *progress_ctx;
    size_t eval_done, eval_count; /* tokens of the call: through all layers, and in all */
};

void sl__session_observe(sl_session *session, sl__observer_fn fn, void *ctx);

/* Reads the resident weights into engine->weights and puts them in their roles. */
sl_status sl__load_weights(sl_engine *engine, sl_verify_rule verify, sl_error *err);
/* Bytes of resident weights in memory; *embedding is the embedding's part. */
sl_status sl__resident_bytes(const sl__store *store, const sl__family *family,
                             const sl__model_desc *desc, uint64_t *bytes, uint64_t *embedding,
                             sl_error *err);

/* The forward pass over `count` <= chunk tokens: the one function for prefill and decode. Leaves
 * the stream in scratch.residual. */
sl_status sl__forward(sl_session *session, const int32_t *ids, uint32_t count, sl_error *err);
/* Final norm and head of tokens [first, first + count) of the chunk, count <= plan.logits_rows,
 * into engine->logits. */
void sl__head(sl_session *session, uint32_t first, uint32_t count);

/* How the files of a store are read best: remembered in probe_file (may be NULL) for their disk,
 * else measured, in half a second at most, and remembered there if that can be written. The experts
 * are bound already. The rest is as sl__probe_run says. */
sl_status sl__engine_probe(sl_probe_result *out, sl__store *store, uint64_t expert_bytes,
                           const char *probe_file, sl_error *err);

#endif
