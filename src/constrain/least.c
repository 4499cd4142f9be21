/* The fewest tokens: from the ends of rules backwards, until nothing becomes less.
 *
 *     edges  │ '"' │ 'n' │ 'a' │ 'm' │ 'e' │ '"' │ ':' │     a key; of each edge where the longest
 *     behind │  └──────────────────────────▶  └────────▶     token goes that begins with it
 */
#include "constrain/least.h"

#include <stdlib.h>
#include <string.h>

#include "base/fail.h"

static const sl__way no_way = {SL__LEAST_NEVER, 0}, one_token = {1, 0};

typedef struct search {
    sl__least *least;
    const sl_grammar *grammar;
    const sl_vocabulary *vocabulary;
    uint32_t ids;
    uint32_t *behind; /* [edge_count]: a state; SL__NO_RULE: no token begins so */
    uint32_t *before; /* of each state, from before_first[state] on: those with ways through it */
    uint32_t *before_first; /* [state_count + 2] */
    uint32_t *queue;        /* [state_count], round: states that wait to be looked at */
    bool *waits;            /* [state_count]: which do */
    uint32_t queue_first, queue_count;
    uint32_t children[256]; /* of the trie's root; 0: none */
    uint32_t bytes[257];    /* how many bytes below this one are tokens */
} search;

/* ---- ways ------------------------------------------------------------------------------------ */

/* One way behind another, `times` over. */
static sl__way behind(sl__way first, sl__way then, uint32_t times)
{
    uint64_t tokens = first.tokens + (uint64_t)then.tokens * times;
    if (tokens >= SL__LEAST_NEVER) return no_way;
    return (sl__way){(uint32_t)tokens, first.depth > then.depth ? first.depth : then.depth};
}

static bool is_less(sl__way a, sl__way b)
{
    return a.tokens < b.tokens || (a.tokens == b.tokens && a.depth < b.depth);
}

/* To the end of the state's rule. */
static sl__way way_at(const sl__least *l, sl__way_kind kind, uint32_t state, uint32_t count)
{
    const sl__ways *ways = &l->states[kind][state];
    uint32_t rule = l->grammar->states[state].rule, min = l->grammar->rules[rule].min;
    if (count >= min) return ways->end;
    const sl__turn *turn = &l->turns[kind][rule];
    if (turn->state == SL__NO_RULE) return no_way;
    sl__way rest = behind(l->states[kind][turn->state].end, turn->loop, min - count);
    return behind(ways->turn, rest, 1);
}

uint32_t sl__least_tokens(const sl__least *l, uint32_t state, uint32_t count, uint32_t depth)
{
    sl__way way = way_at(l, SL__WAY_SHORTEST, state, count);
    if (way.tokens != SL__LEAST_NEVER && depth + way.depth > SL__GRAMMAR_DEPTH)
        way = way_at(l, SL__WAY_FLAT, state, count);
    return way.tokens;
}

/* ---- tokens ---------------------------------------------------------------------------------- */

static bool has_token(const search *s, uint32_t node)
{
    const sl__trie_node *n = &s->vocabulary->nodes[node];
    for (uint32_t t = n->first; t < n[1].first; t++)
        if (s->vocabulary->tokens[t] < s->ids) return true;
    return false;
}

static void read_bytes(search *s)
{
    const sl__trie_node *nodes = s->vocabulary->nodes;
    for (uint32_t i = 1; i < s->vocabulary->node_count; i = nodes[i].end) {
        s->children[nodes[i].byte] = i;
        s->bytes[nodes[i].byte + 1] = has_token(s, i);
    }
    for (unsigned i = 0; i < 256; i++)
        s->bytes[i + 1] += s->bytes[i];
}

static uint32_t child_of(const sl_vocabulary *v, uint32_t node, uint8_t byte)
{
    for (uint32_t i = node + 1; i < v->nodes[node].end; i = v->nodes[i].end)
        if (v->nodes[i].byte == byte) return i;
    return 0;
}

/* Whether a byte of an edge is a token. */
static bool is_byte(const search *s, const sl__edge *edge)
{
    return s->bytes[edge->high + 1] > s->bytes[edge->low];
}

/* One byte, whatever the count. */
static bool is_certain(const sl__edge *edge)
{
    return edge->low == edge->high && edge->add == 0 && edge->flags == 0;
}

/* Where the longest token leads that begins with an edge and goes on with what must follow it. */
static uint32_t longest(const search *s, const sl__edge *edge)
{
    const sl_grammar *g = s->grammar;
    uint32_t best = SL__NO_RULE, node = s->children[edge->low];
    while (node) {
        const sl__state *to = &g->states[edge->to];
        if (has_token(s, node)) best = edge->to;
        if (to[1].edges != to->edges + 1 || to[1].moves != to->moves) break;
        edge = &g->edges[to->edges];
        if (!is_certain(edge)) break;
        node = child_of(s->vocabulary, node, edge->low);
    }
    return best;
}

static void find_tokens(search *s)
{
    const sl_grammar *g = s->grammar;
    read_bytes(s);
    for (uint32_t i = 0; i < g->edge_count; i++) {
        const sl__edge *edge = &g->edges[i];
        uint32_t to = is_byte(s, edge) ? edge->to : SL__NO_RULE;
        s->behind[i] = is_certain(edge) ? longest(s, edge) : to;
    }
}

/* ---- states ---------------------------------------------------------------------------------- */

static void find_turns(const search *s)
{
    const sl_grammar *g = s->grammar;
    for (uint32_t i = g->state_count; i-- > 0;) {
        const sl__state *state = &g->states[i];
        bool asks = false;
        for (uint32_t k = state->edges; k < state[1].edges; k++)
            asks = asks || (g->edges[k].flags & SL__EDGE_MIN);
        for (uint32_t k = state->moves; k < state[1].moves; k++)
            asks = asks || (g->moves[k].flags & SL__EDGE_MIN);
        if (!asks || g->rules[state->rule].min == 0) continue;
        for (unsigned kind = 0; kind < SL__WAY_KINDS; kind++)
            s->least->turns[kind][state->rule].state = i;
    }
}

static void find_loop(const search *s, sl__way_kind kind, uint32_t rule)
{
    const sl_grammar *g = s->grammar;
    sl__turn *turn = &s->least->turns[kind][rule];
    if (turn->state == SL__NO_RULE) return;
    const sl__state *state = &g->states[turn->state];
    for (uint32_t k = state->edges; k < state[1].edges; k++) {
        if (g->edges[k].add == 0 || s->behind[k] == SL__NO_RULE) continue;
        sl__way way = behind(one_token, s->least->states[kind][g->edges[k].to].turn, 1);
        if (is_less(way, turn->loop)) turn->loop = way;
    }
}

static sl__way goal(const search *s, sl__way_kind kind, uint32_t state, bool turn)
{
    const sl__ways *ways = &s->least->states[kind][state];
    return turn ? ways->turn : ways->end;
}

/* Over a move, to the end or the turn of the state's own rule. */
static sl__way over(const search *s, sl__way_kind kind, const sl__move *move, bool turn)
{
    const sl_grammar *g = s->grammar;
    sl__way way = goal(s, kind, move->to, turn);
    if (move->rule == SL__NO_RULE) return way;
    sl__way inside = way_at(s->least, kind, g->rules[move->rule].start, 0);
    if (!sl__state_is_end(g, move->to)) inside.depth++;
    return behind(way, inside, 1);
}

static bool is_flat(const search *s, uint32_t from, uint32_t to, uint32_t rule)
{
    const sl_grammar *g = s->grammar;
    uint32_t height = g->states[from].height;
    if (g->states[to].height > height) return false;
    if (rule == SL__NO_RULE) return true;
    uint32_t inside = g->states[g->rules[rule].start].height;
    return inside + (sl__state_is_end(g, to) ? 0u : 1u) <= height;
}

static sl__way find_way(const search *s, sl__way_kind kind, uint32_t i, bool turn)
{
    const sl_grammar *g = s->grammar;
    const sl__state *state = &g->states[i];
    bool there = turn ? s->least->turns[kind][state->rule].state == i
                      : (state->flags & SL__STATE_ACCEPT) != 0;
    sl__way best = there ? (sl__way){0, 0} : no_way;
    for (uint32_t k = state->edges; k < state[1].edges; k++) {
        const uint32_t to[2] = {s->behind[k], g->edges[k].to};
        unsigned count = to[0] == SL__NO_RULE                         ? 0
                         : is_byte(s, &g->edges[k]) && to[0] != to[1] ? 2
                                                                      : 1;
        for (unsigned n = 0; n < count; n++) {
            if (kind == SL__WAY_FLAT && !is_flat(s, i, to[n], SL__NO_RULE)) continue;
            sl__way way = behind(one_token, goal(s, kind, to[n], turn), 1);
            if (is_less(way, best)) best = way;
        }
    }
    for (uint32_t k = state->moves; k < state[1].moves; k++) {
        const sl__move *move = &g->moves[k];
        if (kind == SL__WAY_FLAT && !is_flat(s, i, move->to, move->rule)) continue;
        sl__way way = over(s, kind, move, turn);
        if (is_less(way, best)) best = way;
    }
    return best;
}

static bool improve(const search *s, sl__way_kind kind, uint32_t i)
{
    sl__ways *ways = &s->least->states[kind][i];
    bool counts = s->least->turns[kind][s->grammar->states[i].rule].state != SL__NO_RULE;
    sl__way end = find_way(s, kind, i, false);
    sl__way turn = counts ? find_way(s, kind, i, true) : no_way;
    bool less = is_less(end, ways->end) || is_less(turn, ways->turn);
    if (is_less(end, ways->end)) ways->end = end;
    if (is_less(turn, ways->turn)) ways->turn = turn;
    return less;
}

/* ---- one after the other --------------------------------------------------------------------- */

/* One state before one or two others: counted in the first pass, noted in the second. */
static void note_before(search *s, unsigned pass, uint32_t from, uint32_t to, uint32_t also)
{
    uint32_t *first = s->before_first;
    const uint32_t both[2] = {to, also};
    for (unsigned n = 0; n < (to == also ? 1 : 2); n++) {
        if (pass == 0)
            first[both[n] + 2]++;
        else
            s->before[first[both[n] + 1]++] = from;
    }
}

/* Which states have ways through each: where its edges, moves and calls come from. A start has the
 * calls of its rule. */
static void find_before(search *s)
{
    const sl_grammar *g = s->grammar;
    memset(s->before_first, 0, ((size_t)g->state_count + 2) * sizeof *s->before_first);
    for (unsigned pass = 0; pass < 2; pass++) {
        for (uint32_t i = 0; i < g->edge_count; i++) {
            const sl__edge *edge = &g->edges[i];
            uint32_t token = s->behind[i] == SL__NO_RULE ? edge->to : s->behind[i];
            note_before(s, pass, edge->from, edge->to, token);
        }
        for (uint32_t i = 0; i < g->move_count; i++) {
            const sl__move *move = &g->moves[i];
            bool calls = move->rule != SL__NO_RULE;
            note_before(s, pass, move->from, move->to,
                        calls ? g->rules[move->rule].start : move->to);
        }
        for (uint32_t i = 0; pass == 0 && i < g->state_count; i++)
            s->before_first[i + 2] += s->before_first[i + 1];
    }
}

static void wait_for(search *s, uint32_t state)
{
    if (s->waits[state]) return;
    s->waits[state] = true;
    s->queue[(s->queue_first + s->queue_count++) % s->grammar->state_count] = state;
}

static void wait_before(search *s, uint32_t state)
{
    for (uint32_t i = s->before_first[state]; i < s->before_first[state + 1]; i++)
        wait_for(s, s->before[i]);
}

/* From the ends and the turns on, whoever may have a shorter way since another has one. */
static void find_ways(search *s, sl__way_kind kind)
{
    const sl_grammar *g = s->grammar;
    s->queue_first = s->queue_count = 0;
    for (uint32_t i = g->state_count; i-- > 0;) {
        const sl__state *state = &g->states[i];
        bool turn = s->least->turns[kind][state->rule].state == i;
        if (turn || (state->flags & SL__STATE_ACCEPT)) wait_for(s, i);
    }
    while (s->queue_count > 0) {
        uint32_t i = s->queue[s->queue_first], rule = g->states[i].rule;
        s->queue_first = (s->queue_first + 1) % g->state_count;
        s->queue_count--;
        s->waits[i] = false;
        if (!improve(s, kind, i)) continue;
        wait_before(s, i);
        bool counts = s->least->turns[kind][rule].state != SL__NO_RULE;
        if (counts) find_loop(s, kind, rule);
        if (counts) wait_before(s, g->rules[rule].start); /* who calls it counts */
    }
}

/* ---- the whole ------------------------------------------------------------------------------- */

static bool allocate(search *s)
{
    sl__least *l = s->least;
    const sl_grammar *g = s->grammar;
    size_t states = g->state_count, edges = g->edge_count;
    s->behind = malloc((edges + 1) * sizeof *s->behind);
    s->before = malloc((2 * (edges + g->move_count) + 1) * sizeof *s->before);
    s->before_first = malloc((states + 2) * sizeof *s->before_first);
    s->queue = malloc(states * sizeof *s->queue);
    s->waits = calloc(states, sizeof *s->waits);
    if (!s->behind || !s->before || !s->before_first || !s->queue || !s->waits) return false;
    for (unsigned kind = 0; kind < SL__WAY_KINDS; kind++) {
        l->states[kind] = malloc((size_t)g->state_count * sizeof(sl__ways));
        l->turns[kind] = malloc((size_t)g->rule_count * sizeof(sl__turn));
        if (!l->states[kind] || !l->turns[kind]) return false;
        for (uint32_t i = 0; i < g->state_count; i++)
            l->states[kind][i] = (sl__ways){no_way, no_way};
        for (uint32_t i = 0; i < g->rule_count; i++)
            l->turns[kind][i] = (sl__turn){SL__NO_RULE, no_way};
    }
    return true;
}

sl_status sl__least_create(sl__least **out, const sl_grammar *grammar,
                           const sl_vocabulary *vocabulary, uint32_t ids, sl_error *err)
{
    *out = NULL;
    sl__least *l = calloc(1, sizeof *l);
    if (!l) return SL_FAIL_NOMEM(err, "constraint");
    l->grammar = grammar;
    search s = {.least = l, .grammar = grammar, .vocabulary = vocabulary, .ids = ids};
    bool ok = allocate(&s);
    if (ok) {
        find_tokens(&s);
        find_before(&s);
        find_turns(&s);
        for (unsigned kind = 0; kind < SL__WAY_KINDS; kind++)
            find_ways(&s, (sl__way_kind)kind);
        *out = l;
    } else {
        sl__least_destroy(l);
    }
    free(s.behind);
    free(s.before);
    free(s.before_first);
    free(s.queue);
    free(s.waits);
    return ok ? SL_OK : SL_FAIL_NOMEM(err, "constraint");
}

void sl__least_destroy(sl__least *l)
{
    if (!l) return;
    for (unsigned kind = 0; kind < SL__WAY_KINDS; kind++) {
        free(l->states[kind]);
        free(l->turns[kind]);
    }
    free(l);
}
