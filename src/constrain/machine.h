/* Running a grammar: all the ways that fit a text so far, a byte at a time.
 *
 *     configs  │ set now │ after 'a' │ after 'ab' │ …        a config: state, count, frame
 *     frames   │ 0: none │ of now    │ pushed …   │ …        a frame: where a call comes back
 *
 * Both are stacks: a step puts the next set behind the last one, and stepping back cuts them off
 * there, which is what a walk through a trie does. Frames point to the one below and are shared.
 * sl__machine_keep moves one set to the bottom and drops all frames that it does not need.
 *
 * Every config can be completed (see grammar.h), so where there are too many, further ones are left
 * out: that narrows what may follow, and what follows is right all the same. Each config is
 * followed to its end before the next one, so that those which are there are whole.
 */
#ifndef SL_CONSTRAIN_MACHINE_H
#define SL_CONSTRAIN_MACHINE_H

#include "constrain/least.h"

typedef struct sl__config {
    uint32_t state, count, frame;
} sl__config;

typedef struct sl__frame {
    uint32_t state, count; /* to come back to */
    uint32_t below;        /* 0: none */
    uint32_t depth;        /* of frames, with this one */
    uint32_t moved;        /* while frames are moved; else 0 */
    uint32_t rest;         /* tokens that suffice from there to the end of the text; else 0 */
} sl__frame;

/* Configs [first, first + count) that wait for a byte, and where the stacks stood before. */
typedef struct sl__config_set {
    uint32_t first, count, frames_before;
    bool complete; /* the text may end here */
} sl__config_set;

typedef struct sl__machine {
    const sl_grammar *grammar; /* borrowed */
    const sl__least *least;    /* borrowed; NULL: nobody asks how far the end is */
    sl__config *configs;       /* [SL__CONFIGS_MAX] */
    sl__frame *frames, *other; /* [SL__FRAMES_MAX] */
    uint32_t *stamps;          /* [state_count]: the last set that has the state */
    uint32_t config_count, frame_count, stamp;
} sl__machine;

#define SL__CONFIGS_MAX 32768u
#define SL__FRAMES_MAX  16384u
#define SL__SET_MAX     8192u /* what is met while a set is made */
#define SL__SET_FULL    2048u /* configs of a set, from which on no further one is followed */

sl_status sl__machine_init(sl__machine *m, const sl_grammar *grammar, sl_error *err);
void sl__machine_free(sl__machine *m); /* also after a failed init */

/* The set before any byte; forgets all others. */
void sl__machine_start(sl__machine *m, sl__config_set *set);
/* The set behind a byte; empty where the byte does not fit. tags: only along states that an added
 * token may stand for. */
void sl__machine_step(sl__machine *m, const sl__config_set *from, unsigned char byte, bool tags,
                      sl__config_set *to);
/* Forgets a set, and those that came behind it. */
static inline void sl__machine_back(sl__machine *m, const sl__config_set *set)
{
    m->config_count = set->first;
    m->frame_count = set->frames_before;
}
/* How many tokens suffice from a set, or one of its configs, to the end of the text; with `least`
 * from the start on. */
uint32_t sl__machine_least_of(const sl__machine *m, const sl__config *config);
uint32_t sl__machine_least(const sl__machine *m, const sl__config_set *set);
/* Makes a set the only one. */
void sl__machine_keep(sl__machine *m, sl__config_set *set);

#endif
