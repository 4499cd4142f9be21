/* Grammars: built as lists in any order, then sorted by state and checked.
 *
 *     edges  │ of 7 │ of 2 │ of 7 │      edges │ of 2 │ of 7 │ of 7 │
 *                                   →    state 2 ────┘       │
 *                                        state 7 ────────────┘ (its first)
 */
#include "constrain/grammar.h"

#include <stdlib.h>
#include <string.h>

#include "base/fail.h"

/* ---- building -------------------------------------------------------------------------------- */

void sl__builder_init(sl__builder *b)
{
    memset(b, 0, sizeof *b);
    sl__buffer_init(&b->states, (size_t)SL__GRAMMAR_STATES_MAX * sizeof(sl__state));
    sl__buffer_init(&b->edges, (size_t)SL__GRAMMAR_STATES_MAX * 16 * sizeof(sl__edge));
    sl__buffer_init(&b->moves, (size_t)SL__GRAMMAR_STATES_MAX * 16 * sizeof(sl__move));
    sl__buffer_init(&b->rules, (size_t)SL__GRAMMAR_STATES_MAX * sizeof(sl__rule));
    b->space = b->gap = b->string = b->integer = b->number = SL__NO_RULE;
    b->value = b->object = b->array = SL__NO_RULE;
}

void sl__builder_free(sl__builder *b)
{
    sl__buffer_free(&b->states);
    sl__buffer_free(&b->edges);
    sl__buffer_free(&b->moves);
    sl__buffer_free(&b->rules);
}

static sl__state *states(const sl__builder *b)
{
    return (sl__state *)(void *)b->states.data;
}

static sl__rule *rules(const sl__builder *b)
{
    return (sl__rule *)(void *)b->rules.data;
}

static uint32_t state_count(const sl__builder *b)
{
    return (uint32_t)(b->states.size / sizeof(sl__state));
}

/* After a failure state 0 and rule 0 stand for all new ones: nothing reads them then. */
uint32_t sl__state_new(sl__builder *b, uint32_t rule)
{
    const sl__state state = {.rule = rule, .height = SL__GRAMMAR_NEVER};
    uint32_t id = state_count(b);
    if (id == SL__GRAMMAR_STATES_MAX) b->full = true;
    if (b->full || !sl__buffer_append(&b->states, &state, sizeof state)) return 0;
    return id;
}

uint32_t sl__rule_new(sl__builder *b)
{
    uint32_t id = (uint32_t)(b->rules.size / sizeof(sl__rule));
    const sl__rule rule = {sl__state_new(b, id), 0, SL__NO_LIMIT};
    return !b->full && sl__buffer_append(&b->rules, &rule, sizeof rule) ? id : 0;
}

static bool failed(const sl__builder *b)
{
    return b->full || b->states.failed || b->edges.failed || b->moves.failed || b->rules.failed;
}

void sl__rule_counts(sl__builder *b, uint32_t rule, uint32_t min, uint32_t max)
{
    if (failed(b)) return;
    rules(b)[rule].min = min;
    rules(b)[rule].max = max;
}

uint32_t sl__rule_start(const sl__builder *b, uint32_t rule)
{
    return failed(b) ? 0 : rules(b)[rule].start;
}

uint32_t sl__state_rule(const sl__builder *b, uint32_t state)
{
    return failed(b) ? 0 : states(b)[state].rule;
}

void sl__state_mark(sl__builder *b, uint32_t state, unsigned flags, unsigned text)
{
    if (failed(b)) return;
    states(b)[state].flags |= (uint8_t)flags;
    if (text) states(b)[state].text = (uint8_t)text;
}

void sl__edge_add(sl__builder *b, sl__edge edge)
{
    sl__buffer_append(&b->edges, &edge, sizeof edge);
}

void sl__edge_range(sl__builder *b, uint32_t from, unsigned low, unsigned high, uint32_t to)
{
    sl__edge_add(b, (sl__edge){from, to, (uint8_t)low, (uint8_t)high, 0, 0});
}

void sl__edge_byte(sl__builder *b, uint32_t from, char byte, uint32_t to)
{
    sl__edge_range(b, from, (unsigned char)byte, (unsigned char)byte, to);
}

void sl__jump(sl__builder *b, uint32_t from, uint32_t to)
{
    sl__call(b, from, SL__NO_RULE, to);
}

void sl__move_add(sl__builder *b, sl__move move)
{
    sl__buffer_append(&b->moves, &move, sizeof move);
}

void sl__call(sl__builder *b, uint32_t from, uint32_t rule, uint32_t to)
{
    sl__move_add(b, (sl__move){from, to, rule, 0});
}

uint32_t sl__path(sl__builder *b, uint32_t from, const char *bytes, size_t size, unsigned flags)
{
    uint32_t rule = sl__state_rule(b, from);
    for (size_t i = 0; i < size && !failed(b); i++) {
        uint32_t to = sl__state_new(b, rule);
        sl__state_mark(b, from, flags, 0);
        sl__edge_byte(b, from, bytes[i], to);
        from = to;
    }
    return from;
}

uint32_t sl__path_call(sl__builder *b, uint32_t from, uint32_t rule)
{
    uint32_t to = sl__state_new(b, sl__state_rule(b, from));
    sl__call(b, from, rule, to);
    return to;
}

/* ---- putting together ------------------------------------------------------------------------ */

/* Moves `count` records of `size` bytes, which begin with their state, into that order; where those
 * of each state begin goes to first[states + 1]. */
static void sort_by_state(void *to, const char *from, size_t count, size_t size, uint32_t *first,
                          uint32_t state_total)
{
    uint32_t state;
    memset(first, 0, (state_total + 1) * sizeof *first);
    for (size_t i = 0; i < count; i++) {
        memcpy(&state, from + i * size, sizeof state);
        first[state + 1]++;
    }
    for (uint32_t s = 0; s < state_total; s++)
        first[s + 1] += first[s];
    for (size_t i = 0; i < count; i++) {
        memcpy(&state, from + i * size, sizeof state);
        memcpy((char *)to + first[state]++ * size, from + i * size, size);
    }
    for (uint32_t s = state_total; s > 0; s--)
        first[s] = first[s - 1];
    first[0] = 0;
}

static void *copy_of(const sl__buffer *from)
{
    void *to = malloc(from->size ? from->size : 1);
    if (to && from->size) memcpy(to, from->data, from->size);
    return to;
}

static bool assemble(sl_grammar *g, const sl__builder *b)
{
    g->state_count = state_count(b);
    g->edge_count = (uint32_t)(b->edges.size / sizeof(sl__edge));
    g->move_count = (uint32_t)(b->moves.size / sizeof(sl__move));
    g->rule_count = (uint32_t)(b->rules.size / sizeof(sl__rule));
    g->states = calloc((size_t)g->state_count + 1, sizeof *g->states);
    g->edges = malloc(b->edges.size ? b->edges.size : 1);
    g->moves = malloc(b->moves.size ? b->moves.size : 1);
    g->rules = copy_of(&b->rules);
    uint32_t *first = malloc(((size_t)g->state_count + 1) * sizeof *first);
    bool ok = g->states && g->edges && g->moves && g->rules && first;
    if (ok) {
        memcpy(g->states, b->states.data, b->states.size);
        sort_by_state(g->edges, b->edges.data, g->edge_count, sizeof(sl__edge), first,
                      g->state_count);
        for (uint32_t s = 0; s <= g->state_count; s++)
            g->states[s].edges = first[s];
        sort_by_state(g->moves, b->moves.data, g->move_count, sizeof(sl__move), first,
                      g->state_count);
        for (uint32_t s = 0; s <= g->state_count; s++)
            g->states[s].moves = first[s];
    }
    free(first);
    return ok;
}

/* ---- heights --------------------------------------------------------------------------------- */

static uint32_t height_of(const sl_grammar *g, uint32_t s)
{
    const sl__state *state = &g->states[s];
    uint32_t best = state->flags & SL__STATE_ACCEPT ? 0 : SL__GRAMMAR_NEVER;
    for (uint32_t i = state->edges; i < state[1].edges; i++) {
        uint32_t h = g->states[g->edges[i].to].height;
        if (h < best) best = h;
    }
    for (uint32_t i = state->moves; i < state[1].moves; i++) {
        const sl__move *move = &g->moves[i];
        uint32_t h = g->states[move->to].height;
        if (move->rule != SL__NO_RULE) {
            uint32_t inside = g->states[g->rules[move->rule].start].height;
            if (!sl__state_is_end(g, move->to)) inside++;
            if (inside > h) h = inside;
        }
        if (h < best) best = h;
    }
    return best;
}

/* Paths mostly lead to states that were made later, or else to such that were made before: from
 * either end in turn, most heights are found in the first rounds. */
static void find_heights(sl_grammar *g)
{
    bool changed = true;
    for (bool backwards = true; changed; backwards = !backwards) {
        changed = false;
        for (uint32_t i = 0; i < g->state_count; i++) {
            uint32_t s = backwards ? g->state_count - 1 - i : i;
            uint32_t h = height_of(g, s);
            if (h >= g->states[s].height) continue;
            g->states[s].height = (uint16_t)h;
            changed = true;
        }
    }
}

/* ---- going around ---------------------------------------------------------------------------- */

/* The states that follow one without a byte, itself among them, where those of its targets are
 * known: an upper bound, because ways may meet again. */
static uint32_t ways_from(const sl_grammar *g, uint32_t s, uint32_t *ways)
{
    uint64_t sum = 1;
    for (uint32_t i = g->states[s].moves; i < g->states[s + 1].moves; i++) {
        const sl__move *move = &g->moves[i];
        sum += ways[move->to];
        if (move->rule != SL__NO_RULE) sum += ways[g->rules[move->rule].start];
    }
    ways[s] = sum < SL__GRAMMAR_AT_ONCE * 2 ? (uint32_t)sum : SL__GRAMMAR_AT_ONCE * 2;
    return ways[s];
}

/* Whether states follow each other without a byte between them, back to the first: the machine
 * would not come to an end. A state counts as waiting for those that moves lead to: what they jump
 * to, the start of what they call, and where they come back, as if it could be empty. States that
 * wait for none are taken away, again and again; what is left goes around. */
static bool goes_around(const sl_grammar *g, uint32_t *waits, uint32_t *queue, uint32_t *into,
                        uint32_t *into_first, uint32_t *ways, bool *many)
{
    memset(waits, 0, g->state_count * sizeof *waits);
    memset(into_first, 0, ((size_t)g->state_count + 1) * sizeof *into_first);
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t i = 0; i < g->move_count; i++) {
            const sl__move *move = &g->moves[i];
            uint32_t targets[2] = {move->to, move->to};
            if (move->rule != SL__NO_RULE) targets[1] = g->rules[move->rule].start;
            for (int t = 0; t < 2; t++) {
                if (pass == 0) {
                    waits[move->from]++;
                    into_first[targets[t] + 1]++;
                } else {
                    into[into_first[targets[t]]++] = move->from;
                }
            }
        }
        if (pass == 0)
            for (uint32_t s = 0; s < g->state_count; s++)
                into_first[s + 1] += into_first[s];
    }
    uint32_t head = 0, tail = 0;
    for (uint32_t s = 0; s < g->state_count; s++)
        if (waits[s] == 0) queue[tail++] = s;
    while (head < tail) {
        uint32_t s = queue[head++];
        if (ways_from(g, s, ways) > SL__GRAMMAR_AT_ONCE) *many = true;
        /* The second pass moved each beginning to its end. */
        for (uint32_t i = s ? into_first[s - 1] : 0; i < into_first[s]; i++)
            if (--waits[into[i]] == 0) queue[tail++] = into[i];
    }
    return tail < g->state_count;
}

static sl_status check_around(const sl_grammar *g, const char *name, sl_error *err)
{
    size_t n = (size_t)g->state_count + 1;
    uint32_t *room = malloc((4 * n + 2 * (size_t)g->move_count) * sizeof *room);
    if (!room) return SL_FAIL_NOMEM(err, "grammar");
    bool many = false;
    bool around =
        goes_around(g, room, room + n, room + 4 * n, room + 2 * n, room + 3 * n, &many);
    free(room);
    if (around)
        return SL_FAIL(err, SL_EUNSUPPORTED, "%s: an alternative is the whole that it is part of",
                       name);
    if (many)
        return SL_FAIL(err, SL_EUNSUPPORTED, "%s: more than %u alternatives at one place", name,
                       SL__GRAMMAR_AT_ONCE);
    return SL_OK;
}

/* ---- the whole ------------------------------------------------------------------------------- */

/* Whether it was the limit that an append failed on. */
static bool is_full(const sl__buffer *buf)
{
    return buf->failed && buf->size + sizeof(sl__edge) > buf->limit;
}

static sl_status finish(sl_grammar *g, const sl__builder *b, const char *name, sl_error *err)
{
    if (b->full || is_full(&b->edges) || is_full(&b->moves))
        return SL_FAIL(err, SL_EUNSUPPORTED, "%s: too large: more than %u steps", name,
                       SL__GRAMMAR_STATES_MAX);
    if (failed(b) || !assemble(g, b)) return SL_FAIL_NOMEM(err, "grammar");
    find_heights(g);
    if (g->states[g->rules[g->root].start].height > SL__GRAMMAR_DEPTH)
        return SL_FAIL(err, SL_EUNSUPPORTED, "%s: no value fits it", name);
    return check_around(g, name, err);
}

sl_status sl__builder_finish(sl__builder *b, uint32_t root, const char *name, sl_grammar **out,
                             sl_error *err)
{
    *out = NULL;
    sl_grammar *g = calloc(1, sizeof *g);
    if (!g) {
        sl__builder_free(b);
        return SL_FAIL_NOMEM(err, "grammar");
    }
    g->root = root;
    sl_status status = finish(g, b, name, err);
    sl__builder_free(b);
    if (status == SL_OK)
        *out = g;
    else
        sl_grammar_close(g);
    return status;
}

void sl_grammar_close(sl_grammar *g)
{
    if (!g) return;
    free(g->states);
    free(g->edges);
    free(g->moves);
    free(g->rules);
    free(g);
}
