/* A grammar: what a text may be, as a machine over bytes with a stack.
 *
 *     rule ── start ─[ '{' ]→ state ─( rule WHITESPACE )→ state ─[ '"' ]→ … → accept
 *
 * A rule is a small automaton. Its states are left by edges, which take a byte of a range, and by
 * moves, which take none: a jump to another state, or a call of a rule that comes back to a state
 * when it accepts. Several may fit at once (alternatives, optional properties); machine.h follows
 * all of them.
 *
 * Each call of a rule has a count of its own: of characters of a string, of commas of an array.
 * Edges add to it, and may ask that it has reached the rule's `min`; none takes it beyond `max`.
 *
 * height is how many calls deep a text must become at least to end from a state. What does not end
 * within the depth that there is, is never begun: so every way that the machine follows can be
 * completed. SL__GRAMMAR_NEVER: it cannot end at all.
 */
#ifndef SL_CONSTRAIN_GRAMMAR_H
#define SL_CONSTRAIN_GRAMMAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "sluice.h"

#define SL__GRAMMAR_STATES_MAX 65536u
#define SL__GRAMMAR_AT_ONCE    4096u /* states that may follow one without a byte */
#define SL__GRAMMAR_DEPTH      64u /* calls within each other */
#define SL__GRAMMAR_NEVER      UINT16_MAX
#define SL__NO_RULE            UINT32_MAX
#define SL__NO_LIMIT           UINT32_MAX

/* Kinds of text in which most tokens of a vocabulary may stand, and so are not looked at one by
 * one; vocabulary.h knows of each token whether it is plain in them. */
typedef enum sl__text_class {
    SL__TEXT_NONE = 0,
    SL__TEXT_STRING, /* inside of a JSON string */
    SL__TEXT_VALUE,  /* inside of a parameter written as it is: UTF-8 up to a tag */
    SL__TEXT_FREE,   /* anything up to a tag */
} sl__text_class;
enum { SL__TEXT_CLASSES = 4 };

/* Flags of states. */
enum {
    SL__STATE_ACCEPT = 1,
    SL__STATE_TAG = 2,  /* an added token may stand for the bytes from here */
    SL__STATE_REST = 4, /* of a text class: every plain token leads back here */
    SL__STATE_NEAR = 8, /* of a text class: in a plain token, REST or a way out of it follows */
};

typedef struct sl__state {
    uint32_t edges, moves; /* where its own begin; those of the next state end them */
    uint32_t rule;
    uint16_t height;
    uint8_t flags, text;
} sl__state;

/* Flags of edges and moves. What they close must leave another way open. */
enum {
    SL__EDGE_MIN = 1,     /* only where the count has reached the rule's min */
    SL__EDGE_RESERVE = 2, /* must leave the count below max; of edges */
};

typedef struct sl__edge {
    uint32_t from, to;
    uint8_t low, high; /* bytes, both included */
    uint8_t add, flags;
} sl__edge;

typedef struct sl__move {
    uint32_t from, to;
    uint32_t rule; /* SL__NO_RULE: a jump */
    uint32_t flags;
} sl__move;

typedef struct sl__rule {
    uint32_t start;
    uint32_t min, max; /* of the count; max SL__NO_LIMIT: it counts up to min only */
} sl__rule;

struct sl_grammar {
    sl__state *states; /* [state_count + 1] */
    sl__edge *edges;   /* by `from` */
    sl__move *moves;   /* by `from` */
    sl__rule *rules;
    uint32_t state_count, edge_count, move_count, rule_count;
    uint32_t root; /* a rule */
};

/* Whether nothing is left of a rule in this state. What calls a rule and comes back to such a state
 * need not come back: the call takes no depth. */
static inline bool sl__state_is_end(const sl_grammar *g, uint32_t s)
{
    const sl__state *state = &g->states[s];
    return (state->flags & SL__STATE_ACCEPT) && state->edges == state[1].edges &&
           state->moves == state[1].moves;
}

/* ---- building -------------------------------------------------------------------------------- */

/* Grows; what fails is remembered, and told by finish. Rules and states are numbered from 0. */
typedef struct sl__builder {
    sl__buffer states, edges, moves, rules;
    bool full;    /* more states than there may be */
    bool guarded; /* set before any rule is made: in strings of JSON there is no "</" */
    /* Rules that all grammars share, made when first asked for: SL__NO_RULE before. */
    uint32_t space, gap, string, integer, number, value, object, array;
} sl__builder;

void sl__builder_init(sl__builder *b);
void sl__builder_free(sl__builder *b);

/* A new rule with its start. */
uint32_t sl__rule_new(sl__builder *b);
void sl__rule_counts(sl__builder *b, uint32_t rule, uint32_t min, uint32_t max);
uint32_t sl__rule_start(const sl__builder *b, uint32_t rule);
uint32_t sl__state_new(sl__builder *b, uint32_t rule);
uint32_t sl__state_rule(const sl__builder *b, uint32_t state);
/* text: an sl__text_class */
void sl__state_mark(sl__builder *b, uint32_t state, unsigned flags, unsigned text);
void sl__edge_add(sl__builder *b, sl__edge edge);
void sl__edge_byte(sl__builder *b, uint32_t from, char byte, uint32_t to);
void sl__edge_range(sl__builder *b, uint32_t from, unsigned low, unsigned high, uint32_t to);
void sl__move_add(sl__builder *b, sl__move move);
void sl__jump(sl__builder *b, uint32_t from, uint32_t to);
void sl__call(sl__builder *b, uint32_t from, uint32_t rule, uint32_t to);
/* A path for these bytes; returns its end. flags: of all states that it leaves. */
uint32_t sl__path(sl__builder *b, uint32_t from, const char *bytes, size_t size, unsigned flags);
/* A call; returns the new state where it comes back. */
uint32_t sl__path_call(sl__builder *b, uint32_t from, uint32_t rule);

/* Puts the grammar together, frees what was built. name is for messages: SL_EUNSUPPORTED where
 * nothing can be said in it, where it goes around in itself without a byte, or is too large. */
sl_status sl__builder_finish(sl__builder *b, uint32_t root, const char *name, sl_grammar **out,
                             sl_error *err);

#endif
