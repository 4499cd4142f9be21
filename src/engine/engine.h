/* Inside the engine: what sl_engine and sl_session are made of.
 *
 *     sl_engine   store ─ io ─ cache        lifetime of the model
 *                 weights (arena `load`), kernels, pool, scratch
 *     sl_session  token ids, each layer's state (model/state.h)
 *     sl__pass    the tokens of one session, or of several, that go through at once
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
    uint64_t state;    /* one session at full context, its token ids included */
    uint32_t sessions; /* that there is room for */
    uint64_t prefix;   /* kept free for prefix caches */
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
    return plan->process + plan->resident + plan->sessions * plan->state + plan->scratch +
           plan->io + plan->prefix;
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

/* Sessions that a plan can be asked for. */
#define SL_SESSIONS_MAX 4096u

/* Bytes of one session's state: the table of its layers, then what they hold. */
uint64_t sl__state_bytes(const sl__model_desc *desc, sl_kv_type kv, uint32_t context_tokens,
                         uint32_t chunk_tokens);
static inline uint64_t sl__state_table_bytes(const sl__model_desc *desc)
{
    uint64_t bytes = desc->layer_count * (uint64_t)sizeof(sl__layer_state);
    return (bytes + SL_ARENA_ALIGN - 1) / SL_ARENA_ALIGN * SL_ARENA_ALIGN;
}
/* The same with the session's token ids, which lie between the two. */
static inline uint64_t sl__session_ids_bytes(uint32_t context_tokens)
{
    uint64_t bytes = (uint64_t)context_tokens * sizeof(int32_t);
    return (bytes + SL_ARENA_ALIGN - 1) / SL_ARENA_ALIGN * SL_ARENA_ALIGN;
}

/* Sees what the forward pass computes of a session's tokens, those of others in the same pass left
 * out; for tests and research. data: [count, width], borrowed. */
typedef enum sl__observed {
    SL_OBSERVED_HIDDEN, /* layer 0: embeddings; j: after layer j-1, the last after the final norm */
    SL_OBSERVED_MIXED,  /* the stream where a layer's router sees it: after its mixer, not normed */
    SL_OBSERVED_ROUTER, /* router outputs of a layer, [count, experts]; scratch.moe.ids are set,
                         * of the pass's rows */
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
    uint64_t fingerprint;   /* 0: not made yet */
    uint64_t prefix_bytes;  /* that prefix caches may take */
};

struct sl_session {
    sl_engine *engine;
    uint32_t position;
    int32_t *ids;            /* [context_tokens]: of the tokens below position, and of a pass's */
    bool cut;                /* a call began where no inner chunk of DeltaNet ends */
    bool failed;             /* a call failed midway: the state is not to be used */
    char *memory;            /* all state, one block */
    size_t memory_bytes;
    sl__layer_state *layers; /* [layer_count] */
    sl__observer_fn observer;
    void *observer_ctx;
    sl_progress_fn progress;
    void *progress_ctx;
    /* Of the call that runs: tokens through all layers, and in all; what became of it. */
    size_t eval_done, eval_count;
    sl_status eval_status;
    sl_error *eval_err;           /* the caller's, may be NULL */
    float *eval_logits;           /* of the last token; NULL: not wanted */
    sl_logits_fn eval_fn;
    void *eval_ctx;
    bool in_batch;                /* one of the present call's */
};

/* What goes through the layers at once: stretch i of the chunk is of sessions[i], whose ids there
 * lie in its own list already. */
typedef struct sl__pass {
    sl__chunk chunk;
    sl__stretch stretches[SL_STRETCHES_MAX];
    sl_session *sessions[SL_STRETCHES_MAX];
} sl__pass;

/* What the budget has left beside the plan and, where they take more than it kept for them, the
 * prefix caches; for sessions and prefix caches beyond the plan's. */
uint64_t sl__engine_left(const sl_engine *engine);

void sl__session_observe(sl_session *session, sl__observer_fn fn, void *ctx);

/* Reads the resident weights into engine->weights and puts them in their roles. */
sl_status sl__load_weights(sl_engine *engine, sl_verify_rule verify, sl_error *err);
/* Bytes of resident weights in memory; *embedding is the embedding's part. */
sl_status sl__resident_bytes(const sl__store *store, const sl__family *family,
                             const sl__model_desc *desc, uint64_t *bytes, uint64_t *embedding,
                             sl_error *err);

/* The forward pass over at most plan.chunk_tokens rows: the one function for prefill and decode, of
 * one session and of several. Leaves the stream in scratch.residual. What becomes of each session
 * is in its eval_status: one that fails, or whose caller stops it, does not hurt the others; a
 * failure of the pass is one of all that are still in it. */
void sl__forward(sl_engine *engine, sl__pass *pass);
/* Final norm and head of rows[count] of the pass, count <= plan.logits_rows, into engine->logits in
 * this order. */
void sl__head(sl_engine *engine, const uint32_t *rows, uint32_t count);
/* The session's call ends so; the message is in its err already. */
void sl__session_fail(sl_session *session, sl_status status);

/* Whether a call can be made, without looking at other sessions. */
sl_status sl__session_check(const sl_session *session, const int32_t *ids, size_t count,
                            sl_error *err);
/* Whether the model has DeltaNet, which sees where calls are cut. */
static inline bool sl__model_has_delta(const sl__model_desc *desc)
{
    for (uint32_t i = 0; i < desc->layer_count; i++) {
        if (desc->layers[i].mixer == SL_MIXER_DELTA) return true;
    }
    return false;
}

/* How the files of a store are read best: remembered in probe_file (may be NULL) for their disk,
 * else measured, in half a second at most, and remembered there if that can be written. The experts
 * are bound already. The rest is as sl__probe_run says. */
sl_status sl__engine_probe(sl_probe_result *out, sl__store *store, uint64_t expert_bytes,
                           const char *probe_file, sl_error *err);

#endif
