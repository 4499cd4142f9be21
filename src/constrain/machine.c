#include "constrain/machine.h"

#include <stdlib.h>
#include <string.h>

#include "base/fail.h"

sl_status sl__machine_init(sl__machine *m, const sl_grammar *grammar, sl_error *err)
{
    memset(m, 0, sizeof *m);
    m->grammar = grammar;
    m->configs = calloc(SL__CONFIGS_MAX, sizeof *m->configs);
    m->frames = calloc(SL__FRAMES_MAX, sizeof *m->frames);
    m->other = calloc(SL__FRAMES_MAX, sizeof *m->other);
    m->stamps = calloc(grammar->state_count, sizeof *m->stamps);
    if (m->configs && m->frames && m->other && m->stamps) return SL_OK;
    return SL_FAIL_NOMEM(err, "constraint");
}

void sl__machine_free(sl__machine *m)
{
    free(m->configs);
    free(m->frames);
    free(m->other);
    free(m->stamps);
}

/* ---- configs --------------------------------------------------------------------------------- */

static bool same_frames(const sl__machine *m, uint32_t a, uint32_t b)
{
    while (a != b) {
        const sl__frame *x = &m->frames[a], *y = &m->frames[b];
        if (!a || !b || x->state != y->state || x->count != y->count || x->depth != y->depth)
            return false;
        a = x->below;
        b = y->below;
    }
    return true;
}

static bool has(const sl__machine *m, const sl__config_set *set, sl__config config)
{
    if (m->stamps[config.state] != m->stamp) return false;
    for (uint32_t i = set->first; i < m->config_count; i++) {
        const sl__config *c = &m->configs[i];
        if (c->state == config.state && c->count == config.count &&
            same_frames(m, c->frame, config.frame))
            return true;
    }
    return false;
}

static bool fits(const sl__machine *m, uint32_t state, uint32_t depth)
{
    return depth + m->grammar->states[state].height <= SL__GRAMMAR_DEPTH;
}

/* Puts a config into the set at the end, unless it is there or leads nowhere. */
static void add(sl__machine *m, const sl__config_set *set, uint32_t state, uint32_t count,
                uint32_t frame)
{
    const sl__config config = {state, count, frame};
    if (!fits(m, state, m->frames[frame].depth) || has(m, set, config)) return;
    if (m->config_count == SL__CONFIGS_MAX || m->config_count - set->first == SL__SET_MAX) return;
    m->configs[m->config_count++] = config;
    m->stamps[state] = m->stamp;
}

/* What a new frame still needs. Apart from `call`, which runs for every byte of most tokens: in it,
 * this would take registers that a machine without a limit has better use for. */
static __attribute__((noinline)) uint32_t rest_behind(const sl__machine *m, uint32_t state,
                                                      uint32_t count, uint32_t frame)
{
    return sl__machine_least_of(m, &(sl__config){state, count, frame});
}

static void call(sl__machine *m, const sl__config_set *set, const sl__config *from,
                 const sl__move *move)
{
    const sl_grammar *g = m->grammar;
    uint32_t start = g->rules[move->rule].start, depth = m->frames[from->frame].depth;
    if (sl__state_is_end(g, move->to)) {
        add(m, set, start, 0, from->frame);
        return;
    }
    if (!fits(m, move->to, depth) || !fits(m, start, depth + 1)) return;
    if (m->frame_count == SL__FRAMES_MAX) return;
    uint32_t rest = m->least ? rest_behind(m, move->to, from->count, from->frame) : 0;
    uint32_t frame = m->frame_count++;
    m->frames[frame] = (sl__frame){move->to, from->count, from->frame, depth + 1, 0, rest};
    add(m, set, start, 0, frame);
}

/* Follows all that takes no byte, from the configs behind `i` on. */
static void follow(sl__machine *m, sl__config_set *set, uint32_t i)
{
    const sl_grammar *g = m->grammar;
    for (; i < m->config_count; i++) {
        const sl__config c = m->configs[i];
        const sl__state *state = &g->states[c.state];
        if (state->flags & SL__STATE_ACCEPT) {
            const sl__frame back = m->frames[c.frame];
            if (c.frame == 0)
                set->complete = true;
            else
                add(m, set, back.state, back.count, back.below);
        }
        for (uint32_t k = state->moves; k < state[1].moves; k++) {
            const sl__move *move = &g->moves[k];
            if ((move->flags & SL__EDGE_MIN) && c.count < g->rules[state->rule].min) continue;
            if (move->rule == SL__NO_RULE)
                add(m, set, move->to, c.count, c.frame);
            else
                call(m, set, &c, move);
        }
    }
}

/* Leaves the configs that wait for a byte. */
static void close_set(sl__machine *m, sl__config_set *set)
{
    const sl_grammar *g = m->grammar;
    uint32_t kept = set->first;
    for (uint32_t i = set->first; i < m->config_count; i++) {
        const sl__state *state = &g->states[m->configs[i].state];
        if (state->edges < state[1].edges) m->configs[kept++] = m->configs[i];
    }
    m->config_count = kept;
    set->count = kept - set->first;
}

static void open_set(sl__machine *m, sl__config_set *set)
{
    *set = (sl__config_set){.first = m->config_count, .frames_before = m->frame_count};
    if (++m->stamp) return;
    memset(m->stamps, 0, m->grammar->state_count * sizeof *m->stamps);
    m->stamp = 1;
}

void sl__machine_start(sl__machine *m, sl__config_set *set)
{
    m->config_count = 0;
    m->frame_count = 1; /* 0 is none */
    memset(m->frames, 0, sizeof *m->frames);
    open_set(m, set);
    add(m, set, m->grammar->rules[m->grammar->root].start, 0, 0);
    follow(m, set, set->first);
    close_set(m, set);
}

/* The count behind an edge; false where the edge is not open at this count. */
static bool count_on(const sl__rule *rule, const sl__edge *edge, uint32_t *count)
{
    if ((edge->flags & SL__EDGE_MIN) && *count < rule->min) return false;
    if (edge->add == 0) return true;
    uint32_t next = *count + edge->add;
    if (rule->max == SL__NO_LIMIT) {
        *count = next < rule->min ? next : rule->min;
        return true;
    }
    if (next + (edge->flags & SL__EDGE_RESERVE ? 1u : 0u) > rule->max) return false;
    *count = next;
    return true;
}

void sl__machine_step(sl__machine *m, const sl__config_set *from, unsigned char byte, bool tags,
                      sl__config_set *to)
{
    const sl_grammar *g = m->grammar;
    open_set(m, to);
    for (uint32_t i = from->first; i < from->first + from->count; i++) {
        const sl__config c = m->configs[i];
        const sl__state *state = &g->states[c.state];
        uint32_t begun = m->config_count;
        if (tags && !(state->flags & SL__STATE_TAG)) continue;
        if (begun - to->first >= SL__SET_FULL) break;
        for (uint32_t k = state->edges; k < state[1].edges; k++) {
            const sl__edge *edge = &g->edges[k];
            uint32_t count = c.count;
            if (byte >= edge->low && byte <= edge->high &&
                count_on(&g->rules[state->rule], edge, &count))
                add(m, to, edge->to, count, c.frame);
        }
        follow(m, to, begun);
    }
    close_set(m, to);
}

/* ---- the end --------------------------------------------------------------------------------- */

uint32_t sl__machine_least_of(const sl__machine *m, const sl__config *config)
{
    const sl__frame *frame = &m->frames[config->frame];
    uint32_t tokens = sl__least_tokens(m->least, config->state, config->count, frame->depth);
    return sl__least_add(tokens, frame->rest);
}

uint32_t sl__machine_least(const sl__machine *m, const sl__config_set *set)
{
    uint32_t least = set->complete ? 0 : SL__LEAST_NEVER;
    for (uint32_t i = 0; i < set->count && least > 0; i++) {
        uint32_t tokens = sl__machine_least_of(m, &m->configs[set->first + i]);
        if (tokens < least) least = tokens;
    }
    return least;
}

/* ---- moving ---------------------------------------------------------------------------------- */

/* Copies a frame, and those below it that are not there yet. */
static uint32_t move_frame(sl__machine *m, uint32_t frame)
{
    uint32_t chain[SL__GRAMMAR_DEPTH], n = 0;
    for (; frame && !m->frames[frame].moved; frame = m->frames[frame].below)
        chain[n++] = frame;
    uint32_t below = frame ? m->frames[frame].moved : 0;
    while (n-- > 0) {
        sl__frame *old = &m->frames[chain[n]];
        old->moved = m->frame_count;
        m->other[m->frame_count] = *old;
        m->other[m->frame_count].below = below;
        m->other[m->frame_count].moved = 0;
        below = m->frame_count++;
    }
    return below;
}

void sl__machine_keep(sl__machine *m, sl__config_set *set)
{
    m->frame_count = 1;
    memset(m->other, 0, sizeof *m->other);
    for (uint32_t i = 0; i < set->count; i++) {
        sl__config c = m->configs[set->first + i];
        c.frame = move_frame(m, c.frame);
        m->configs[i] = c;
    }
    sl__frame *frames = m->frames;
    m->frames = m->other;
    m->other = frames;
    m->config_count = set->count;
    set->first = 0;
    set->frames_before = 1;
}
