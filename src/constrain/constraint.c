/* One generation held to a grammar: which tokens may come next.
 *
 *     set of configs ── known? ──────────────────────────────┬─ mask, a bit a token ─ logits
 *                          └─ plain tokens at once (a copy) ──┤
 *                             others through the trie ────────┘
 *
 * Most tokens are plain: inside of a string they may all come, so their bits are copied, and the
 * walk goes only where others are. The last few masks are kept by what the text had come to, so
 * that the next token of the same string finds its mask there. Everything is allocated when a
 * constraint is created.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "constrain/machine.h"
#include "constrain/vocabulary.h"

enum { MASKS = 12, KEY_WORDS = 512 };

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
    uint64_t *bits; /* of all known masks */
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
    free(c->levels);
    free(c->bits);
    free(c);
}

void sl_constraint_reset(sl_constraint *c)
{
    sl__machine_start(&c->machine, &c->now);
    c->ended = c->failed = false;
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

static void copy_plain(sl_constraint *c, uint64_t *allowed, unsigned text, uint32_t room)
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
    if (room >= UINT16_MAX) return;
    for (uint32_t id = 0; id < v->size && id < c->vocab_size; id++)
        if (v->characters[id] > room) set_bit(c, allowed, id, false);
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
    if (base.text) copy_plain(c, allowed, base.text, best);
    return base;
}

static bool at_rest(const sl_constraint *c, const sl__config_set *set, unsigned text)
{
    if (set->count != 1) return false;
    const sl__state *state = state_of(c, &c->machine.configs[set->first]);
    return (state->flags & SL__STATE_REST) && state->text == text;
}

/* Looks at all tokens but those that are known to be right. */
static void walk_trie(sl_constraint *c, uint64_t *allowed, start base)
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
            uint32_t last = v->nodes[may ? i + 1 : node->end].first;
            for (uint32_t t = node->first; t < last; t++)
                set_bit(c, allowed, v->tokens[t], may);
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

static void mask_added(sl_constraint *c, uint64_t *allowed)
{
    const sl_vocabulary *v = c->vocabulary;
    sl__config_set above, behind;
    above =
        (sl__config_set){.first = c->machine.config_count, .frames_before = c->machine.frame_count};
    for (uint32_t i = 0; i < v->added_count; i++) {
        set_bit(c, allowed, v->added[i], follow(c, v->added[i], true, &behind));
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
    start base = begin_mask(c, slot->allowed);
    walk_trie(c, slot->allowed, base);
    mask_added(c, slot->allowed);
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

sl_status sl_constraint_mask(sl_constraint *c, float *logits, sl_error *err)
{
    if (c->ended || c->failed)
        return SL_FAIL(err, SL_EINVAL, "constraint: nothing follows %s",
                       c->ended ? "an end token" : "a token that did not fit");
    if (!apply(c, find_mask(c), logits))
        return SL_FAIL(err, SL_EUNSUPPORTED,
                       "constraint: no token of the vocabulary can continue the text");
    return SL_OK;
}

/* ---- accepting ------------------------------------------------------------------------------- */

static bool is_added(const sl_vocabulary *v, uint32_t id)
{
    for (uint32_t i = 0; i < v->added_count; i++)
        if (v->added[i] == id) return true;
    return false;
}

/* Ids that are no text (a model's padding) may stand in free text, where they mean nothing. */
static bool accept_nothing(const sl_constraint *c)
{
    for (uint32_t i = 0; i < c->now.count; i++)
        if (state_of(c, &c->machine.configs[c->now.first + i])->text == SL__TEXT_FREE) return true;
    return false;
}

static bool accept(sl_constraint *c, int32_t id)
{
    const sl_vocabulary *v = c->vocabulary;
    sl__config_set behind;
    if (c->ended || c->failed || id < 0 || (uint32_t)id >= c->vocab_size) return false;
    for (size_t i = 0; i < c->eos_count; i++) {
        if (c->eos[i] != id) continue;
        c->ended = c->now.complete;
        return c->ended;
    }
    if ((uint32_t)id >= v->size || v->offsets[id] == v->offsets[id + 1]) return accept_nothing(c);
    if (!follow(c, (uint32_t)id, is_added(v, (uint32_t)id), &behind)) return false;
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
