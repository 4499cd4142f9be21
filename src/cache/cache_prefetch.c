/* Reading ahead: what a prediction says that the next request of a layer will ask for.
 *
 *     predict ──> QUEUED ──a slot, room──> LOADING, ahead ──read──> READY, ahead
 *                   │                         │    │                  │    │
 *              no slot yet               given up  asked: late     asked   evicted
 *                   v                         v    v               v       v
 *               cancelled               cancelled  demand        useful    wasted
 *
 * - A read ahead takes a slot only when it begins: when demand has every slot and every place in
 *   the io engine that it wants. At most a quarter of the slots are on their way ahead, and a
 *   quarter of the io engine's places; what has come in is evictable like any other record.
 * - It evicts nothing that the policy expects sooner than the predicted record, nor one that was
 *   read ahead for the same request.
 * - When its layer is asked for, or a prediction for another one comes, what has not begun is given
 *   up; the slot is free when the io engine hands the reads back. A layer may be guessed at twice:
 *   a layer ahead, and again, nearer; the second guess replaces what is left of the first.
 * - A failed read ahead fails nothing: its slot is forgotten, and who asks for it reads it again.
 *
 * Which experts are worth it is the predictor's to say (cache_predictor.h).
 */
#include <assert.h>

#include "cache/cache_private.h"

#define SHARE_OF_SLOTS 4u /* one in so many */
#define SHARE_OF_READS 4u
#define READS_MOST     128u /* enough for a device's depth many times over */

uint32_t sl__prefetch_share(const sl__cache *cache)
{
    uint32_t share = cache->target_count / SHARE_OF_SLOTS;
    return share < SL_AHEAD_MAX ? share : SL_AHEAD_MAX;
}

static uint32_t reads_allowed(const sl__cache *cache)
{
    uint32_t most = cache->io->max_reads / SHARE_OF_READS;
    return most < READS_MOST ? most : READS_MOST;
}

/* ---- what becomes of a read ahead ------------------------------------------------------------ */

static void off_the_way(sl__cache *cache, uint32_t s)
{
    uint32_t i = 0;
    while (i < cache->ahead_count && cache->ahead[i] != s)
        i++;
    assert(i < cache->ahead_count);
    cache->ahead[i] = cache->ahead[--cache->ahead_count];
}

static void waste(sl__cache *cache, sl__slot *slot, uint64_t bytes)
{
    cache->stats.prefetch_wasted++;
    cache->stats.prefetch_wasted_bytes += bytes;
    if (!slot->astray) sl__predictor_astray(&cache->predictor, slot->ahead_scan, bytes);
    slot->ahead = slot->astray = false;
}

void sl__prefetch_asked(sl__cache *cache, uint32_t s)
{
    sl__slot *slot = &cache->slots[s];
    assert(slot->ahead && !slot->doomed);
    if (slot->astray) {
        sl__predictor_redeem(&cache->predictor, slot->ahead_scan,
                             sl__record_disk_bytes(cache, slot->layer, slot->expert));
    }
    slot->ahead = slot->astray = false;
    if (slot->state == SL_SLOT_READY) {
        cache->stats.prefetch_useful++;
        return;
    }
    cache->stats.prefetch_late++;
    off_the_way(cache, s);
    for (uint32_t e = 0; e < slot->submitted; e++)
        sl__io_promote(cache->io, sl__read_tag(cache, s, e));
}

void sl__prefetch_load_ended(sl__cache *cache, uint32_t s)
{
    sl__slot *slot = &cache->slots[s];
    bool asked = !slot->ahead;
    slot->early = false;
    if (slot->doomed)
        cache->doomed_count--;
    else if (!asked)
        off_the_way(cache, s);
    bool refused = slot->submitted == 0;
    if (!asked && slot->got_bytes == 0 && (refused || slot->status == SL_ECANCELLED)) {
        cache->stats.prefetch_cancelled++;
        slot->ahead = slot->astray = false;
        return;
    }
    cache->stats.prefetch_reads++;
    cache->stats.prefetch_bytes += slot->got_bytes;
    if (!asked && (slot->status != SL_OK || slot->doomed)) waste(cache, slot, slot->got_bytes);
}

void sl__prefetch_dropped(sl__cache *cache, uint32_t s)
{
    sl__slot *slot = &cache->slots[s];
    assert(slot->state == SL_SLOT_READY);
    waste(cache, slot, sl__record_disk_bytes(cache, slot->layer, slot->expert));
}

/* ---- giving up ------------------------------------------------------------------------------- */

/* Whether the load had not begun. Its extents are begun in their order, so the first one tells; one
 * that begins meanwhile is waited for and counted as wasted. */
static bool give_up(sl__cache *cache, uint32_t s)
{
    sl__slot *slot = &cache->slots[s];
    assert(slot->state == SL_SLOT_LOADING && slot->ahead && !slot->doomed);
    if (slot->completed > 0) return false;
    if (sl__io_cancel(cache->io, sl__read_tag(cache, s, 0)) == 0) return false;
    for (uint32_t e = 1; e < slot->submitted; e++)
        sl__io_cancel(cache->io, sl__read_tag(cache, s, e));
    off_the_way(cache, s);
    /* Whoever asks for it from now on reads it into another slot. */
    *sl__cache_index_at(cache, slot->layer, slot->expert) = SL_SLOT_NONE;
    slot->doomed = true;
    cache->doomed_count++;
    return true;
}

/* What was begun and not asked for has gone astray, unless it can still be given up. */
static void close_prediction(sl__cache *cache, sl__prediction *p)
{
    for (uint32_t i = 0; i < p->count; i++) {
        if (p->fate[i] != SL_FATE_QUEUED) continue;
        if (i >= p->cursor) {
            cache->stats.prefetch_cancelled++;
            continue;
        }
        uint32_t s = *sl__cache_index_at(cache, p->layer, p->ids[i]);
        if (s == SL_SLOT_NONE) continue;
        sl__slot *slot = &cache->slots[s];
        if (!slot->ahead || slot->astray) continue;
        if (slot->state == SL_SLOT_LOADING && give_up(cache, s)) continue;
        slot->astray = true;
        /* The next one read ahead takes its place rather than that of what was asked for. */
        sl__ring_take_in(cache, s);
        sl__predictor_astray(&cache->predictor, slot->ahead_scan,
                             sl__record_disk_bytes(cache, p->layer, p->ids[i]));
    }
    p->open = false;
}

bool sl__prefetch_yield(sl__cache *cache)
{
    bool any = false;
    for (uint32_t i = cache->ahead_count; i-- > 0;) {
        if (give_up(cache, cache->ahead[i])) any = true;
    }
    if (any) sl__loads_collect(cache, false);
    return any;
}

static void close_both(sl__cache *cache)
{
    if (cache->prediction.open) close_prediction(cache, &cache->prediction);
    if (cache->earlier.open) close_prediction(cache, &cache->earlier);
}

void sl__prefetch_forget(sl__cache *cache)
{
    close_both(cache);
    sl__prefetch_yield(cache);
}

/* ---- learning -------------------------------------------------------------------------------- */

static void learn(sl__cache *cache, const sl__prediction *p, const uint32_t *ids, uint32_t n)
{
    bool *asked = cache->ticket.seen;
    for (uint32_t i = 0; i < n; i++)
        asked[ids[i]] = true;
    for (uint32_t i = 0; i < p->count; i++) {
        bool right = asked[p->ids[i]];
        if (p->fate[i] != SL_FATE_PRESENT) {
            sl__predictor_learn(&cache->predictor, p->guess, i, right);
        }
        if (p->guess == SL_GUESS_AHEAD && i < p->chosen) {
            cache->stats.predicted++;
            cache->stats.predicted_right += right;
        }
    }
    for (uint32_t i = 0; i < n; i++)
        asked[ids[i]] = false;
}

void sl__prefetch_settle(sl__cache *cache, uint32_t layer, const uint32_t *ids, uint32_t n,
                         bool scan)
{
    sl__prediction *both[] = {&cache->earlier, &cache->prediction};
    bool any = false;
    for (unsigned i = 0; i < 2; i++) {
        sl__prediction *p = both[i];
        if (!p->open || p->layer != layer) continue;
        /* Else it foresaw another kind of request. */
        if ((p->guess == SL_GUESS_SCAN) == scan) learn(cache, p, ids, n);
        close_prediction(cache, p);
        any = true;
    }
    if (any) sl__loads_collect(cache, false); /* slots given up are free again */
    sl__predictor_visit(&cache->predictor, scan);
}

/* ---- reading --------------------------------------------------------------------------------- */

/* How soon a predicted record is expected, in tokens: its layer comes within this token. */
static float expected_tokens(const sl__cache *cache, uint32_t i)
{
    const sl__prediction *p = &cache->prediction;
    uint32_t layers = cache->plan.layer_count, work = cache->ticket.layer;
    uint32_t distance = (p->layer + layers - work) % layers;
    if (distance == 0) distance = layers;
    double right = sl__predictor_precision(&cache->predictor, p->guess, i);
    float predicted = (float)distance / (float)layers / (right > 0.01 ? (float)right : 0.01f);
    float usual = sl__policy_expected(&cache->policy, work, p->layer, p->ids[i]);
    return predicted < usual ? predicted : usual;
}

static float slot_tokens(const sl__cache *cache, uint32_t s)
{
    const sl__slot *slot = &cache->slots[s];
    return sl__policy_expected(&cache->policy, cache->ticket.layer, slot->layer, slot->expert);
}

static uint32_t acquire(sl__cache *cache, uint32_t i, bool *join)
{
    const sl__prediction *p = &cache->prediction;
    uint32_t work = cache->ticket.layer;
    float tokens = expected_tokens(cache, i), coldest_tokens = 0;
    uint32_t s = sl__slot_take_free(cache);
    *join = p->guess == SL_GUESS_SCAN && s == SL_SLOT_NONE;
    if (s != SL_SLOT_NONE) return s;
    /* What went astray, or what the scan of the layer at work is through with, makes room first. */
    s = sl__ring_spent(cache);
    if (s != SL_SLOT_NONE && slot_tokens(cache, s) >= tokens) return sl__slot_evict(cache, s);
    if (p->guess == SL_GUESS_SCAN && cache->ring_count >= sl__ring_size(cache)) return SL_SLOT_NONE;
    s = sl__policy_coldest(&cache->policy, work, &coldest_tokens);
    if (s == SL_SLOT_NONE || coldest_tokens < tokens) return SL_SLOT_NONE;
    /* What the layer at work asked for is held; its other records come last of all. */
    return sl__slot_is_promised(&cache->slots[s]) ? SL_SLOT_NONE : sl__slot_evict(cache, s);
}

/* Whether the i-th of the prediction could be begun. */
static bool begin(sl__cache *cache, uint32_t i)
{
    const sl__prediction *p = &cache->prediction;
    sl__extent extents[SL_EXPERT_EXTENTS_MAX];
    uint32_t reads = sl__store_expert_extents(cache->store, p->layer, p->ids[i], extents);
    bool join;
    if (cache->ahead_count + cache->doomed_count >= sl__prefetch_share(cache)) return false;
    if (cache->early_reads_in_flight + reads > reads_allowed(cache)) return false;
    if (cache->reads_in_flight + reads > cache->io->max_reads) return false;
    uint32_t s = acquire(cache, i, &join);
    if (s == SL_SLOT_NONE) return false;
    sl__load_ahead(cache, s, p->layer, p->ids[i],
                  p->guess == SL_GUESS_SCAN);
    /* A load that was refused is over already. */
    if (join && cache->slots[s].state == SL_SLOT_LOADING) sl__ring_join(cache, s);
    return true;
}

void sl__prefetch_pump(sl__cache *cache)
{
    sl__prediction *p = &cache->prediction;
    const sl__ticket *t = &cache->ticket;
    bool wanting = t->waiting_head < t->waiting_tail || t->failure.status != SL_OK;
    if (!p->open || (t->active && wanting) || cache->submit_head != SL_SLOT_NONE) return;
    for (; p->cursor < p->count; p->cursor++) {
        if (p->fate[p->cursor] != SL_FATE_QUEUED) continue;
        if (*sl__cache_index_at(cache, p->layer, p->ids[p->cursor]) != SL_SLOT_NONE) continue;
        if (!begin(cache, p->cursor)) return;
    }
}

bool sl__cache_wants_prediction(const sl__cache *cache)
{
    if (sl__prefetch_share(cache) == 0) return cache->predictor.measure;
    if (sl__predictor_idles(&cache->predictor, cache->plan.slot_bytes)) return false;
    return sl__predictor_wants(&cache->predictor);
}

static sl__fate fate_of(sl__cache *cache, uint32_t i, uint32_t queued)
{
    const sl__prediction *p = &cache->prediction;
    uint32_t s = *sl__cache_index_at(cache, p->layer, p->ids[i]);
    if (s != SL_SLOT_NONE) return cache->slots[s].ahead ? SL_FATE_SHADOW : SL_FATE_PRESENT;
    uint64_t bytes = sl__record_disk_bytes(cache, p->layer, p->ids[i]);
    bool read = queued < sl__prefetch_share(cache) &&
                sl__predictor_bet(&cache->predictor, p->guess, i, p->chosen, bytes);
    return read ? SL_FATE_QUEUED : SL_FATE_SHADOW;
}

/* A better guess at the same request has come: of the one a layer ahead nothing more is begun, what
 * has not begun in the io engine is given up, and it is still learnt from. */
static void keep_earlier(sl__cache *cache)
{
    sl__prediction *p = &cache->prediction, earlier = *p;
    for (uint32_t i = 0; i < p->count; i++) {
        if (p->fate[i] != SL_FATE_QUEUED) continue;
        uint32_t s = *sl__cache_index_at(cache, p->layer, p->ids[i]);
        bool waits = s != SL_SLOT_NONE && cache->slots[s].state == SL_SLOT_LOADING &&
                     cache->slots[s].ahead && !cache->slots[s].astray;
        if (i >= p->cursor) cache->stats.prefetch_cancelled++;
        if (i >= p->cursor || (waits && give_up(cache, s))) p->fate[i] = SL_FATE_SHADOW;
    }
    *p = cache->earlier;
    cache->earlier = earlier;
}

void sl__cache_predict(sl__cache *cache, uint32_t layer, const uint32_t *ids, uint32_t n,
                       uint32_t chosen, sl__guess guess)
{
    sl__prediction *p = &cache->prediction;
    if (cache->mapped || (cache->predictor.mode == SL_OFF && !cache->predictor.measure)) return;
    if (layer >= cache->plan.layer_count) return;
    uint32_t experts = cache->first[layer + 1] - cache->first[layer], queued = 0;
    sl__loads_collect(cache, false);
    if (p->open && p->layer == layer && p->guess == SL_GUESS_AHEAD && guess == SL_GUESS_NEAR)
        keep_earlier(cache);
    else
        close_both(cache);
    p->open = true;
    p->guess = guess;
    p->layer = layer;
    p->chosen = chosen;
    p->cursor = p->count = 0;
    for (uint32_t i = 0; i < n && i < experts && ids[i] < experts; i++) {
        p->ids[i] = ids[i];
        p->fate[i] = (uint8_t)fate_of(cache, i, queued);
        queued += p->fate[i] == SL_FATE_QUEUED;
        p->count++;
    }
    sl__loads_collect(cache, false); /* slots given up are free again */
    sl__prefetch_pump(cache);
}
