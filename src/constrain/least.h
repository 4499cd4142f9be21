/* How few tokens of a vocabulary bring a text to its end, from wherever a machine stands.
 *
 *     state ── tokens ─▶ end of its rule ─ what the frames below still need ─▶ end of the text
 *         └─── tokens ─▶ turn ⟲ loop, as often as the count lacks of the rule's min
 *
 * Found once for a grammar and a vocabulary, and never too low: each is the length of a way that is
 * there. A byte takes a token, or a longer token is taken where the bytes to come are certain (the
 * keys of a schema, most of all). Tokens that reach from one rule into another are left out of
 * account, so a text may take fewer.
 *
 * Every way is kept twice: the shortest, with the depth of calls that it takes, and the shortest of
 * those that become no deeper than the state's height, which always fit.
 */
#ifndef SL_CONSTRAIN_LEAST_H
#define SL_CONSTRAIN_LEAST_H

#include "constrain/vocabulary.h"

#define SL__LEAST_NEVER UINT32_MAX

typedef struct sl__way {
    uint32_t tokens, depth; /* tokens SL__LEAST_NEVER: there is none */
} sl__way;

/* turn: of a rule whose count must reach a min, the first state that asks for it. */
typedef struct sl__ways {
    sl__way end, turn; /* end: where the count has reached the min */
} sl__ways;

typedef struct sl__turn {
    uint32_t state; /* SL__NO_RULE: none */
    sl__way loop;   /* from there back to it, counting once */
} sl__turn;

typedef enum sl__way_kind { SL__WAY_SHORTEST = 0, SL__WAY_FLAT } sl__way_kind;
enum { SL__WAY_KINDS = 2 };

typedef struct sl__least {
    const sl_grammar *grammar;       /* borrowed */
    sl__ways *states[SL__WAY_KINDS]; /* [state_count] */
    sl__turn *turns[SL__WAY_KINDS];  /* [rule_count] */
} sl__least;

/* ids: those below it can be chosen. */
sl_status sl__least_create(sl__least **out, const sl_grammar *grammar,
                           const sl_vocabulary *vocabulary, uint32_t ids, sl_error *err);
void sl__least_destroy(sl__least *least); /* NULL is allowed */

/* To the end of the state's rule, `depth` calls deep; SL__LEAST_NEVER where no token goes on. */
uint32_t sl__least_tokens(const sl__least *least, uint32_t state, uint32_t count, uint32_t depth);

static inline uint32_t sl__least_add(uint32_t a, uint32_t b)
{
    return a < SL__LEAST_NEVER - b ? a + b : SL__LEAST_NEVER;
}

#endif
