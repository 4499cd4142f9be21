#include "model/lookback.h"

#include <assert.h>

#include "model/run.h"

#define SLOTS 64u /* spans of a wave, for one token */
/* Queries of a tile: enough that opening what is cached costs little beside using it. */
#define TILE_ROWS 32u
/* Tiles a thread from which on they are tasks: then the last one keeps nobody waiting for long. */
#define TILES_A_THREAD 4u

/* How the queries of a chunk are cut into tiles. */
struct tiling {
    uint32_t group;         /* query heads of a KV head */
    uint32_t heads, tokens; /* of a tile, at most */
    uint32_t head_tiles;    /* of a group */
    uint32_t token_tiles;
};

static struct tiling tile(uint32_t heads, uint32_t kv_heads, uint32_t tokens)
{
    struct tiling t = {.group = heads / kv_heads};
    uint32_t rows = t.group > TILE_ROWS ? SL_ATTEND_ROWS : TILE_ROWS;
    t.heads = t.group < rows ? t.group : rows;
    t.tokens = rows / t.heads < tokens ? rows / t.heads : tokens;
    t.head_tiles = (t.group + t.heads - 1) / t.heads;
    t.token_tiles = (tokens + t.tokens - 1) / t.tokens;
    return t;
}

struct job {
    const sl__run *run;
    const sl__lookback *look;
    struct tiling tiling;
    uint32_t tiles;
    uint32_t first, last; /* spans: those that are left */
    uint64_t work;        /* of all, in multiply-adds */
    size_t row, slot;     /* floats of a row, and of a slot, of partial results */
    uint32_t first_slot;  /* where a wave's partial results begin */
    uint32_t slots;       /* that are folded */
    bool ends;            /* and that is all */
};

/* A tile's queries; its first head and token besides. */
static sl__attend queries(const struct job *job, uint32_t index, uint32_t *head, uint32_t *token)
{
    const sl__lookback *l = job->look;
    const struct tiling *t = &job->tiling;
    uint32_t i = index / t->token_tiles % t->head_tiles;
    uint32_t kv_head = index / t->token_tiles / t->head_tiles;
    *token = index % t->token_tiles * t->tokens;
    *head = kv_head * t->group + i * t->heads;
    uint32_t heads_left = t->group - i * t->heads, tokens_left = l->tokens - *token;
    const sl__layer_state *s = l->state;
    return (sl__attend){
        .type = s->kv, .base = s->base, .qk_dim = l->qk_dim, .v_dim = l->v_dim,
        .k = s->k + kv_head * s->k_head_bytes,
        .v = s->v ? s->v + kv_head * s->v_head_bytes : NULL,
        .q = l->q + *token * l->q_token + *head * l->q_head,
        .q_token = l->q_token, .q_head = l->q_head,
        .tokens = tokens_left < t->tokens ? tokens_left : t->tokens,
        .heads = heads_left < t->heads ? heads_left : t->heads,
        .position = l->position + *token, .window = l->window, .scale = l->scale};
}

static void end_row(const struct job *job, const float *partial, uint32_t head, uint32_t token)
{
    const sl__lookback *l = job->look;
    const sl__kern *kern = &job->run->kern;
    float *out = l->out + ((size_t)token * l->heads + head) * l->v_dim;
    kern->attend_end(partial, l->sinks ? l->sinks + head : NULL, out, l->v_dim);
    if (l->gate == 0) return;
    float *gate = l->q + token * l->q_token + head * l->q_head + l->gate;
    kern->sigmoid(gate, l->v_dim);
    for (uint32_t i = 0; i < l->v_dim; i++)
        out[i] *= gate[i];
}

/* All spans of a tile. */
static void whole_tile(void *ctx, uint32_t index, uint32_t worker)
{
    const struct job *job = ctx;
    uint32_t head, token;
    const sl__attend a = queries(job, index, &head, &token);
    uint32_t rows = a.tokens * a.heads;
    float *partial = sl__worker_scratch(job->run, worker);
    job->run->kern.attend(&a, job->first, job->last, partial, partial + rows * job->row);
    for (uint32_t r = 0; r < rows; r++)
        end_row(job, partial + r * job->row, head + r % a.heads, token + r / a.heads);
}

static float *partial_of(const struct job *job, uint32_t slot, uint32_t tile_index)
{
    size_t rows = (size_t)job->tiling.heads * job->tiling.tokens;
    return job->run->scratch.partials + slot * job->slot + tile_index * rows * job->row;
}

/* One span of a tile: index = span of the wave · tiles + tile. */
static void span_of_tile(void *ctx, uint32_t index, uint32_t worker)
{
    const struct job *job = ctx;
    uint32_t head, token, span = index / job->tiles, i = index % job->tiles;
    const sl__attend a = queries(job, i, &head, &token);
    job->run->kern.attend(&a, job->first + span, job->first + span + 1,
                          partial_of(job, job->first_slot + span, i),
                          sl__worker_scratch(job->run, worker));
}

/* One row through the slots: index = tile · rows of a tile + row. */
static void fold_row(void *ctx, uint32_t index, uint32_t worker)
{
    (void)worker;
    const struct job *job = ctx;
    uint32_t head, token, most = job->tiling.heads * job->tiling.tokens;
    uint32_t i = index / most, r = index % most;
    const sl__attend a = queries(job, i, &head, &token);
    if (r >= a.tokens * a.heads) return;
    float *into = partial_of(job, 0, i) + r * job->row;
    for (uint32_t s = 1; s < job->slots; s++)
        job->run->kern.attend_fold(into, partial_of(job, s, i) + r * job->row, a.v_dim);
    if (job->ends) end_row(job, into, head + r % a.heads, token + r / a.heads);
}

/* All spans, as many at a time as there are slots. */
static void in_waves(struct job *job, uint32_t slots)
{
    uint32_t rows = job->tiles * job->tiling.heads * job->tiling.tokens, last = job->last;
    for (job->first_slot = 0; job->first < last; job->first_slot = 1) {
        uint32_t room = slots - job->first_slot, spans = last - job->first;
        if (spans > room) spans = room;
        job->slots = job->first_slot + spans;
        job->ends = job->first + spans == last;
        sl__run_parallel(job->run, span_of_tile, job, spans * job->tiles, job->work);
        sl__run_parallel(job->run, fold_row, job, rows, (uint64_t)job->slots * rows * job->row);
        job->first += spans;
    }
}

/* The jobs whose tasks are tiles. */
struct tile_jobs {
    struct job jobs[SL_STRETCHES_MAX];
    sl__spread tiles;
};

static void any_tile(void *ctx, uint32_t index, uint32_t worker)
{
    struct tile_jobs *all = ctx;
    struct job *job = &all->jobs[sl__spread_find(&all->tiles, &index)];
    whole_tile(job, index, worker);
}

static struct job job_of(const sl__run *run, const sl__lookback *l)
{
    struct job job = {.run = run, .look = l, .tiling = tile(l->heads, l->kv_heads, l->tokens)};
    const struct tiling *t = &job.tiling;
    uint32_t first = 0;
    if (l->window > 0 && l->position + 1 > l->window) first = l->position + 1 - l->window;
    job.tiles = l->kv_heads * t->head_tiles * t->token_tiles;
    job.first = first / SL_ATTEND_SPAN;
    job.last = (l->position + l->tokens - 1) / SL_ATTEND_SPAN + 1;
    job.row = sl__attend_row(l->v_dim);
    job.slot = (size_t)job.tiles * t->heads * t->tokens * job.row;
    job.work = (uint64_t)l->tokens * l->heads * (l->qk_dim + l->v_dim) *
               (l->position + l->tokens - first);
    return job;
}

/* Whether one tile takes so little of all the work that threads do not wait for it. */
static bool tiles_suffice(const struct job *job, uint64_t work)
{
    uint64_t share = TILES_A_THREAD * (uint64_t)sl__pool_threads(job->run->pool);
    size_t slots = job->run->scratch.partials_floats / job->slot;
    return slots < 2 || job->last - job->first < 2 || job->work / job->tiles <= work / share;
}

void sl__look_back(const sl__run *run, const sl__lookback *looks, uint32_t count)
{
    struct tile_jobs all;
    uint32_t whole = 0, tiles = 0;
    uint64_t work = 0, whole_work = 0;
    assert(count >= 1 && count <= SL_STRETCHES_MAX);
    for (uint32_t i = 0; i < count; i++)
        work += job_of(run, &looks[i]).work;
    for (uint32_t i = 0; i < count; i++) {
        struct job job = job_of(run, &looks[i]);
        if (!tiles_suffice(&job, work)) {
            size_t slots = run->scratch.partials_floats / job.slot;
            in_waves(&job, slots < UINT32_MAX ? (uint32_t)slots : UINT32_MAX);
            continue;
        }
        whole_work += job.work;
        all.tiles.end[whole] = tiles += job.tiles;
        all.jobs[whole++] = job;
    }
    if (whole > 0) sl__run_parallel(run, any_tile, &all, tiles, whole_work);
}

size_t sl__look_back_worker_floats(uint32_t heads, uint32_t kv_heads, uint32_t qk_dim,
                                   uint32_t v_dim, uint32_t tokens)
{
    const struct tiling t = tile(heads, kv_heads, tokens);
    uint32_t rows = t.heads * t.tokens;
    return rows * sl__attend_row(v_dim) + sl__attend_tmp(rows, qk_dim, v_dim);
}

size_t sl__look_back_partials(uint32_t heads, uint32_t v_dim, uint32_t context, uint32_t threads)
{
    uint32_t spans = (context - 1) / SL_ATTEND_SPAN + 1;
    if (threads == 1 || spans == 1) return 0;
    return (size_t)heads * (spans < SLOTS ? spans : SLOTS) * sl__attend_row(v_dim);
}
