/* One generation held to a grammar: which tokens may come next.
 *
 *     set of configs ── known? ──────────────────────────────┬─ mask, a bit a token ─ logits
 *                          └─ plain tokens at once (a copy) ──┤
 *                             others through the trie ────────┘
 *
 * Most tokens are plain: inside of a string they may all come, so their bits are copied, and the
 * walk goes only where others are. The last few masks are kept by what the text had come to, so
 * that the next token of the same string finds its mask there. Everything is allocated when a
 * constraint is created or told to watch its end.
 *
 * Within a limit of tokens, a mask has none that would leave the text further from its end than
 * there are tokens. Such a mask is made only where a choice has shown that it is needed, and is
 * not kept.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "constrain/machine.h"
#include "constrain/vocabulary.h"

enum { MASKS = 12, KEY_WORDS = 512 };

#define ANY_DISTANCE SL__LEAST_NEVER

typedef struct known_mask {
    uint64_t *allowed; /* [words] */
    uint32_t key[KEY_WORDS];
    uint32_t key_size; /* 0: empty */
    uint64_t used;     /* when last */
} known_mask;

/* A node of the trie on the path that is walked, with what its bytes come to. */
typedef struct level {
    sl__config_set set;
    uint32_t end;
} level;

struct sl_constraint {
    const sl_vocabulary *vocabulary; /* borrowed */
    uint32_t vocab_size, words;
    int32_t eos[SL_CONSTRAINT_EOS_MAX];
    size_t eos_count;
    sl__machine machine;
    sl__config_set now;
    bool ended, failed;
    level *levels; /* [token_bytes_max + 1] */
    known_mask known[MASKS];
    uint64_t *bits;   /* of all known masks */
    sl__least *least; /* NULL: the end is not watched */
    uint64_t *narrow; /* [words], with `least`: a mask within a limit */
    uint64_t clock;
};

/* ---- creating -------------------------------------------------------------------------------- */

static sl_status allocate(sl_constraint *c, const sl_grammar *grammar, sl_error *err)
{
    c->levels = calloc((size_t)c->vocabulary->token_bytes_max + 1, sizeof *c->levels);
    c->bits = calloc((size_t)c->words * MASKS, sizeof *c->bits);
    if (!c->levels || !c->bits) return SL_FAIL_NOMEM(err, "constraint");
    for (size_t i = 0; i < MASKS; i++)
        c->known[i].allowed = c->bits + i * c->words;
    return sl__machine_init(&c->machine, grammar, err);
}

sl_status sl_constraint_create(sl_constraint **out, const sl_grammar *grammar,
                               const sl_vocabulary *vocabulary, uint32_t vocab_size,
                               const int32_t *eos, size_t eos_count, sl_error *err)
{
    *out = NULL;
    if (vocab_size == 0 || vocab_size > INT32_MAX)
        return SL_FAIL(err, SL_EINVAL, "constraint: a vocabulary of %u tokens", vocab_size);
    if (eos_count > SL_CONSTRAINT_EOS_MAX)
        return SL_FAIL(err, SL_EINVAL, "constraint: %zu end tokens (at most %d)", eos_count,
                       SL_CONSTRAINT_EOS_MAX);
    sl_constraint *c = calloc(1, sizeof *c);
    if (!c) return SL_FAIL_NOMEM(err, "constraint");
    c->vocabulary = vocabulary;
    c->vocab_size = vocab_size;
    c->words = (vocab_size + 63) / 64;
    c->eos_count = eos_count;
    if (eos_count) memcpy(c->eos, eos, eos_count * sizeof *eos);
    sl_status status = allocate(c, grammar, err);
    if (status != SL_OK) {
        sl_constraint_destroy(c);
        return status;
    }
    sl_constraint_reset(c);
    *out = c;
    return SL_OK;
}

void sl_constraint_destroy(sl_constraint *c)
{
    if (!c) return;
    sl__machine_free(&c->machine);
    sl__least_destroy(c->least);
    free(c->narrow);
    free(c->levels);
    free(c->bits);
    free(c);
}

void sl_constraint_reset(sl_constraint *c)
{
    sl__machine_start(&c->machine, &c->now);
    c->ended = c->failed = false;
}

sl_status sl_constraint_watch(sl_constraint *c, sl_error *err)
{
    if (!c->narrow) c->narrow = calloc(c->words, sizeof *c->narrow);
    if (!c->narrow) return SL_FAIL_NOMEM(err, "constraint");
    if (!c->least)
        SL_TRY(sl__least_create(&c->least, c->machine.grammar, c->vocabulary, c->vocab_size, err));
    c->machine.least = c->least;
    sl_constraint_reset(c);
    return SL_OK;
}

/* ---- the end --------------------------------------------------------------------------------- */

uint32_t sl_constraint_needs(const sl_constraint *c)
{
    return c->least && !c->ended ? sl__machine_least(&c->machine, &c->now) : 0;
}

/* How far from its end a text may be behind the next of `left` tokens. One that is too far already
 * must come nearer. */
static uint32_t distance(const sl_constraint *c, uint32_t left)
{
    uint32_t needs = sl_constraint_needs(c);
    if (!c->least || needs == SL__LEAST_NEVER) return ANY_DISTANCE;
    if (left < needs) left = needs;
    return left ? left - 1 : 0;
}

static bool is_near(const sl_constraint *c, const sl__config_set *set, uint32_t most)
{
    return most == ANY_DISTANCE || sl__machine_least(&c->machine, set) <= most;
}

/* ---- masks ----------------------------------------------------------------------------------- */

static void set_bit(sl_constraint *c, uint64_t *allowed, uint32_t id, bool may)
{
    uint64_t bit = (uint64_t)1 << id % 64;
    if (id >= c->vocab_size) return;
    if (may)
        allowed[id / 64] |= bit;
    else
        allowed[id / 64] &= ~bit;
}

static const sl__state *state_of(const sl_constraint *c, const sl__config *config)
{
    return &c->machine.grammar->states[config->state];
}

/* The plain tokens that may come, and how the rest is to be found. */
typedef struct start {
    unsigned text; /* the class they are plain in; SL__TEXT_NONE: no token is known yet */
    bool all;      /* every plain token that may come is known */
    bool clear;    /* tokens are known that may not come after all */
} start;

/* Characters that a config's string has left. */
static uint32_t room_of(const sl_constraint *c, const sl__config *config)
{
    const sl__state *state = state_of(c, config);
    uint32_t max = c->machine.grammar->rules[state->rule].max;
    if (max == SL__NO_LIMIT) return SL__NO_LIMIT;
    return max - config->count - (state->text == SL__TEXT_VALUE && max > config->count);
}

/* Those of `need` to `room` characters. */
static void copy_plain(sl_constraint *c, uint64_t *allowed, unsigned text, uint32_t need,
                       uint32_t room)
{
    const sl_vocabulary *v = c->vocabulary;
    uint32_t words = v->words < c->words ? v->words : c->words;
    if (text == SL__TEXT_FREE) {
        memset(allowed, 0xff, (size_t)c->words * sizeof *allowed);
        if (c->vocab_size % 64) allowed[c->words - 1] = ~(uint64_t)0 >> (64 - c->vocab_size % 64);
        return;
    }
    memcpy(allowed, v->plain[text], (size_t)words * sizeof *allowed);
    if (v->size > c->vocab_size && c->vocab_size % 64)
        allowed[c->words - 1] &= ~(uint64_t)0 >> (64 - c->vocab_size % 64);
    if (need == 0 && room >= UINT16_MAX) return;
    for (uint32_t id = 0; id < v->size && id < c->vocab_size; id++)
        if (v->characters[id] < need || v->characters[id] > room) set_bit(c, allowed, id, false);
}

/* Of several configs the one with the most room is taken: what it allows is allowed. */
static start begin_mask(sl_constraint *c, uint64_t *allowed)
{
    start base = {SL__TEXT_NONE, false, false};
    uint32_t best = 0;
    memset(allowed, 0, (size_t)c->words * sizeof *allowed);
    for (uint32_t i = 0; i < c->now.count; i++) {
        const sl__config *config = &c->machine.configs[c->now.first + i];
        const sl__state *state = state_of(c, config);
        if (!(state->flags & (c->now.count == 1 ? SL__STATE_NEAR : SL__STATE_REST))) continue;
        uint32_t room = room_of(c, config);
        if (base.text && room <= best) continue;
        best = room;
        base.text = state->text;
        base.all = (state->flags & SL__STATE_REST) && (c->now.count == 1 || room >= UINT16_MAX);
        base.clear = state->text == SL__TEXT_FREE || !(state->flags & SL__STATE_REST);
    }
    if (base.text) copy_plain(c, allowed, base.text, 0, best);
    return base;
}

/* Characters that a string needs to come as near to its end as `most`; SL__NO_LIMIT: it is not
 * characters that it needs. */
static uint32_t need_of(const sl_constraint *c, const sl__config *config, uint32_t most)
{
    sl__config next = *config;
    uint32_t min = c->machine.grammar->rules[state_of(c, config)->rule].min;
    uint32_t least = sl__machine_least_of(&c->machine, config);
    if (least <= most) return 0;
    if (next.count++ >= min) return SL__NO_LIMIT;
    uint32_t each = least - sl__machine_least_of(&c->machine, &next);
    assert(each > 0);
    uint32_t need = (least - most - 1) / each + 1;
    return need <= min - config->count ? need : SL__NO_LIMIT;
}

/* The same within a limit. Only where the text is at one place, in a string, are plain tokens
 * known: each of its characters brings the string as far. */
static start begin_narrow(sl_constraint *c, uint64_t *allowed, uint32_t most)
{
    memset(allowed, 0, (size_t)c->words * sizeof *allowed);
    const sl__config *config = &c->machine.configs[c->now.first];
    if (c->now.count != 1 || !(state_of(c, config)->flags & SL__STATE_REST) ||
        state_of(c, config)->text != SL__TEXT_STRING)
        return (start){SL__TEXT_NONE, false, true};
    uint32_t need = need_of(c, config, most), room = room_of(c, config);
    if (need <= room && need <= UINT16_MAX) copy_plain(c, allowed, SL__TEXT_STRING, need, room);
    return (start){SL__TEXT_STRING, true, true};
}

static bool at_rest(const sl_constraint *c, const sl__config_set *set, unsigned text)
{
    if (set->count != 1) return false;
    const sl__state *state = state_of(c, &c->machine.configs[set->first]);
    return (state->flags & SL__STATE_REST) && state->text == text;
}

/* Looks at all tokens but those that are known to be right. most: how far from the end. Made twice
 * by the compiler, so that the walk of most masks does not ask. */
static inline __attribute__((always_inline)) void walk_trie(sl_constraint *c, uint64_t *allowed,
                                                            start base, uint32_t most)
{
    const sl_vocabulary *v = c->vocabulary;
    uint32_t depth = 0;
    c->levels[0] = (level){c->now, v->node_count};
    for (uint32_t i = 1; i < v->node_count;) {
        const sl__trie_node *node = &v->nodes[i];
        while (i >= c->levels[depth].end)
            sl__machine_back(&c->machine, &c->levels[depth--].set);
        const level *above = &c->levels[depth];
        if (base.text && !(node->odd & 1u << base.text) &&
            (base.all || at_rest(c, &above->set, base.text))) {
            i = node->end;
            continue;
        }
        level *here = &c->levels[depth + 1];
        sl__machine_step(&c->machine, &above->set, node->byte, false, &here->set);
        bool may = here->set.count > 0 || here->set.complete;
        if (may || base.clear) {
            bool good = may && is_near(c, &here->set, most);
            uint32_t last = v->nodes[may ? i + 1 : node->end].first;
            for (uint32_t t = node->first; t < last; t++)
                set_bit(c, allowed, v->tokens[t], good);
        }
        if (may && here->set.count > 0 && node->end > i + 1) {
            here->end = node->end;
            depth++;
            i++;
        } else {
            if (here->set.count == 0 && may && base.clear)
                for (uint32_t t = v->nodes[i + 1].first; t < v->nodes[node->end].first; t++)
                    set_bit(c, allowed, v->tokens[t], false);
            sl__machine_back(&c->machine, &here->set);
            i = node->end;
        }
    }
    while (depth > 0)
        sl__machine_back(&c->machine, &c->levels[depth--].set);
}

/* Puts the set behind a token on top; false where it does not fit. tags: it is an added one. */
static bool follow(sl_constraint *c, uint32_t id, bool tags, sl__config_set *set)
{
    uint32_t size;
    const unsigned char *bytes = sl__vocabulary_token(c->vocabulary, id, &size);
    *set = c->now;
    for (uint32_t i = 0; i < size; i++) {
        sl__config_set next;
        sl__machine_step(&c->machine, set, bytes[i], tags, &next);
        if (next.count == 0 && !(next.complete && i + 1 == size)) return false;
        *set = next;
    }
    return size > 0;
}

static void mask_added(sl_constraint *c, uint64_t *allowed, uint32_t most)
{
    const sl_vocabulary *v = c->vocabulary;
    sl__config_set above, behind;
    above =
        (sl__config_set){.first = c->machine.config_count, .frames_before = c->machine.frame_count};
    for (uint32_t i = 0; i < v->added_count; i++) {
        bool may = follow(c, v->added[i], true, &behind) && is_near(c, &behind, most);
        set_bit(c, allowed, v->added[i], may);
        sl__machine_back(&c->machine, &above);
    }
    for (size_t i = 0; i < c->eos_count; i++)
        if (c->eos[i] >= 0) set_bit(c, allowed, (uint32_t)c->eos[i], c->now.complete);
}

/* What the text has come to, as numbers; 0 where they are too many. */
static uint32_t make_key(const sl_constraint *c, uint32_t key[KEY_WORDS])
{
    uint32_t n = 0;
    key[n++] = c->now.complete;
    for (uint32_t i = 0; i < c->now.count; i++) {
        const sl__config *config = &c->machine.configs[c->now.first + i];
        const sl__frame *frames = c->machine.frames;
        if (n + 3 + 2 * frames[config->frame].depth > KEY_WORDS) return 0;
        key[n++] = config->state;
        key[n++] = config->count;
        key[n++] = frames[config->frame].depth;
        for (uint32_t f = config->frame; f; f = frames[f].below) {
            key[n++] = frames[f].state;
            key[n++] = frames[f].count;
        }
    }
    return n;
}

static const uint64_t *find_mask(sl_constraint *c)
{
    uint32_t key[KEY_WORDS];
    uint32_t size = make_key(c, key);
    known_mask *slot = &c->known[0];
    for (size_t i = 0; i < MASKS; i++) {
        known_mask *k = &c->known[i];
        if (size && k->key_size == size && memcmp(k->key, key, size * sizeof *key) == 0) {
            k->used = ++c->clock;
            return k->allowed;
        }
        if (k->used < slot->used) slot = k;
    }
    c->machine.least = NULL; /* what is put on top of now is taken off again */
    start base = begin_mask(c, slot->allowed);
    walk_trie(c, slot->allowed, base, ANY_DISTANCE);
    mask_added(c, slot->allowed, ANY_DISTANCE);
    c->machine.least = c->least;
    slot->key_size = size;
    slot->used = ++c->clock;
    if (size) memcpy(slot->key, key, size * sizeof *key);
    return slot->allowed;
}

static bool apply(const sl_constraint *c, const uint64_t *allowed, float *logits)
{
    bool any = false;
    for (uint32_t w = 0; w < c->words; w++) {
        uint32_t left = c->vocab_size - w * 64;
        uint64_t may = allowed[w], whole = left < 64 ? ~(uint64_t)0 >> (64 - left) : ~(uint64_t)0;
        float *row = logits + (size_t)w * 64;
        any = any || may != 0;
        if (may == 0) {
            for (uint32_t i = 0; i < 64 && i < left; i++)
                row[i] = -INFINITY;
            continue;
        }
        for (uint64_t off = ~may & whole; off; off &= off - 1)
            row[__builtin_ctzll(off)] = -INFINITY;
    }
    return any;
}

static bool any_bit(const uint64_t *bits, uint32_t words)
{
    for (uint32_t w = 0; w < words; w++)
        if (bits[w]) return true;
    return false;
}

/* Where no token is near enough, which a set of configs that was cut off can lead to, the grammar
 * alone decides. */
static const uint64_t *find_narrow(sl_constraint *c, uint32_t most)
{
    start base = begin_narrow(c, c->narrow, most);
    walk_trie(c, c->narrow, base, most);
    mask_added(c, c->narrow, most);
    return any_bit(c->narrow, c->words) ? c->narrow : find_mask(c);
}

static sl_status mask(sl_constraint *c, float *logits, uint32_t most, sl_error *err)
{
    if (c->ended || c->failed)
        return SL_FAIL(err, SL_EINVAL, "constraint: nothing follows %s",
                       c->ended ? "an end token" : "a token that did not fit");
    if (!apply(c, most == ANY_DISTANCE ? find_mask(c) : find_narrow(c, most), logits))
        return SL_FAIL(err, SL_EUNSUPPORTED,
                       "constraint: no token of the vocabulary can continue the text");
    return SL_OK;
}

sl_status sl_constraint_mask(sl_constraint *c, float *logits, sl_error *err)
{
    return mask(c, logits, ANY_DISTANCE, err);
}

sl_status sl_constraint_mask_within(sl_constraint *c, uint32_t left, float *logits, sl_error *err)
{
    return mask(c, logits, distance(c, left), err);
}

/* ---- accepting ------------------------------------------------------------------------------- */

static bool is_added(const sl_vocabulary *v, uint32_t id)
{
    uint32_t low = 0, high = v->added_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (v->added[middle] < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < v->added_count && v->added[low] == id;
}

/* Ids that are no text (a model's padding) may stand in free text, where they mean nothing. */
static bool accept_nothing(const sl_constraint *c)
{
    for (uint32_t i = 0; i < c->now.count; i++)
        if (state_of(c, &c->machine.configs[c->now.first + i])->text == SL__TEXT_FREE) return true;
    return false;
}

static bool is_eos(const sl_constraint *c, int32_t id)
{
    for (size_t i = 0; i < c->eos_count; i++)
        if (c->eos[i] == id) return true;
    return false;
}

/* Whether a token may come; *behind: the set behind it, on top, or that of now where the text stays
 * as it is. */
static bool may_come(sl_constraint *c, int32_t id, sl__config_set *behind)
{
    const sl_vocabulary *v = c->vocabulary;
    *behind = c->now;
    if (c->ended || c->failed || id < 0 || (uint32_t)id >= c->vocab_size) return false;
    if (is_eos(c, id)) return c->now.complete;
    if ((uint32_t)id >= v->size || v->offsets[id] == v->offsets[id + 1]) return accept_nothing(c);
    return follow(c, (uint32_t)id, is_added(v, (uint32_t)id), behind);
}

bool sl_constraint_fits(sl_constraint *c, int32_t id, uint32_t left)
{
    sl__config_set behind,
        above = {.first = c->machine.config_count, .frames_before = c->machine.frame_count};
    bool fits =
        may_come(c, id, &behind) && (is_eos(c, id) || is_near(c, &behind, distance(c, left)));
    sl__machine_back(&c->machine, &above);
    return fits;
}

static bool accept(sl_constraint *c, int32_t id)
{
    sl__config_set behind;
    if (!may_come(c, id, &behind)) return false;
    if (is_eos(c, id)) c->ended = true;
    sl__machine_keep(&c->machine, &behind);
    c->now = behind;
    return true;
}

sl_status sl_constraint_accept(sl_constraint *c, int32_t id, sl_error *err)
{
    if (accept(c, id)) return SL_OK;
    c->failed = true;
    return SL_FAIL(err, SL_EINVAL, "constraint: token %d cannot continue the text", (int)id);
}

bool sl_constraint_done(const sl_constraint *c)
{
    return c->ended || (c->now.count == 0 && c->now.complete);
}
