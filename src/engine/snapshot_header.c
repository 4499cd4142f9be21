/* The header of a snapshot: put, got, and compared with an engine. All numbers are little-endian.
 *
 *       0  magic       24  kv           40  level       80  bytes of all
 *       8  version     28  activations  56  position    88  hash of the table
 *      12  0           32  experts      60  flags       96  0 …
 *      16  model       36  grid         64  prefix     120  hash of bytes 0 … 119
 *                                       72  sections
 */
#include <stdio.h>
#include <string.h>

#include "base/fail.h"
#include "base/hash.h"
#include "engine/snapshot.h"

static const char magic[8] = {'S', 'L', 'S', 'N', 'A', 'P', '\r', '\n'};

#define FLAG_CUT 1u
#define HASHED   120u

static void put_u32(unsigned char *out, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        out[i] = (unsigned char)(value >> 8 * i);
}

static void put_u64(unsigned char *out, uint64_t value)
{
    put_u32(out, (uint32_t)value);
    put_u32(out + 4, (uint32_t)(value >> 32));
}

static uint32_t get_u32(const unsigned char *in)
{
    return (uint32_t)in[0] | (uint32_t)in[1] << 8 | (uint32_t)in[2] << 16 | (uint32_t)in[3] << 24;
}

static uint64_t get_u64(const unsigned char *in)
{
    return get_u32(in) | (uint64_t)get_u32(in + 4) << 32;
}

void sl__snapshot_header_put(unsigned char out[SL_SNAPSHOT_HEADER], const sl__snapshot_header *h)
{
    const sl__snapshot_settings *s = &h->settings;
    memset(out, 0, SL_SNAPSHOT_HEADER);
    memcpy(out, magic, sizeof magic);
    put_u32(out + 8, SL_SNAPSHOT_VERSION);
    put_u64(out + 16, s->fingerprint);
    put_u32(out + 24, s->kv);
    put_u32(out + 28, s->activations);
    put_u32(out + 32, s->experts_per_token);
    put_u32(out + 36, s->grid);
    memcpy(out + 40, s->level, sizeof s->level);
    put_u32(out + 56, h->position);
    put_u32(out + 60, h->cut ? FLAG_CUT : 0);
    put_u64(out + 64, h->prefix);
    put_u32(out + 72, h->sections);
    put_u64(out + 80, h->bytes);
    put_u64(out + 88, h->table_hash);
    put_u64(out + HASHED, sl__hash64(out, HASHED));
}

sl_status sl__snapshot_header_get(sl__snapshot_header *h,
                                  const unsigned char in[SL_SNAPSHOT_HEADER], const char *name,
                                  sl_error *err)
{
    if (memcmp(in, magic, sizeof magic) != 0) {
        return SL_FAIL(err, SL_EFORMAT, "%s: not a snapshot", name);
    }
    if (get_u32(in + 8) != SL_SNAPSHOT_VERSION) {
        return SL_FAIL(err, SL_EUNSUPPORTED, "%s: a snapshot of version %u; this is %u", name,
                       get_u32(in + 8), SL_SNAPSHOT_VERSION);
    }
    if (get_u64(in + HASHED) != sl__hash64(in, HASHED)) {
        return SL_FAIL(err, SL_ECORRUPT, "%s: the snapshot's header differs from its checksum",
                       name);
    }
    *h = (sl__snapshot_header){.position = get_u32(in + 56),
                               .cut = (get_u32(in + 60) & FLAG_CUT) != 0,
                               .prefix = get_u64(in + 64),
                               .sections = get_u32(in + 72),
                               .bytes = get_u64(in + 80),
                               .table_hash = get_u64(in + 88)};
    sl__snapshot_settings *s = &h->settings;
    s->fingerprint = get_u64(in + 16);
    s->kv = get_u32(in + 24);
    s->activations = get_u32(in + 28);
    s->experts_per_token = get_u32(in + 32);
    s->grid = get_u32(in + 36);
    memcpy(s->level, in + 40, sizeof s->level);
    bool flags = get_u32(in + 60) <= FLAG_CUT, level = s->level[sizeof s->level - 1] == '\0';
    if (!flags || !level || h->sections < 2 || h->sections > SL_LAYERS_MAX + 1) {
        return SL_FAIL(err, SL_EFORMAT, "%s: the snapshot's header makes no sense", name);
    }
    return SL_OK;
}

static const char *kv_name(uint32_t kv)
{
    return kv <= SL_KV_Q8 ? sl_kv_type_name((sl_kv_type)kv) : "unknown";
}

static const char *activations_name(uint32_t activations)
{
    return activations == SL_ACTIVATIONS_F32  ? "f32"
           : activations == SL_ACTIVATIONS_Q8 ? "q8"
                                              : "unknown";
}

sl_status sl__snapshot_check(const sl__snapshot_settings *have,
                             const sl__snapshot_settings *want, const char *name, sl_error *err)
{
    if (have->fingerprint != want->fingerprint) {
        return SL_FAIL(err, SL_EINVAL, "%s: a snapshot of another model", name);
    }
    if (have->kv != want->kv) {
        return SL_FAIL(err, SL_EINVAL, "%s: keys and values are kept as %s in the snapshot, as %s "
                       "here", name, kv_name(have->kv), kv_name(want->kv));
    }
    if (have->activations != want->activations) {
        return SL_FAIL(err, SL_EINVAL, "%s: the snapshot was made with activations of %s, here "
                       "they are %s", name, activations_name(have->activations),
                       activations_name(want->activations));
    }
    if (have->experts_per_token != want->experts_per_token) {
        return SL_FAIL(err, SL_EINVAL, "%s: the snapshot was made with %u experts a token, here "
                       "there are %u", name, have->experts_per_token, want->experts_per_token);
    }
    if (have->grid != want->grid) {
        return SL_FAIL(err, SL_EINVAL, "%s: the snapshot was made with DeltaNet in runs of %u "
                       "tokens, here they are %u", name, have->grid, want->grid);
    }
    if (memcmp(have->level, want->level, sizeof have->level) != 0) {
        return SL_FAIL(err, SL_EINVAL, "%s: the snapshot was made with kernels of level %s, here "
                       "they are %s", name, have->level, want->level);
    }
    return SL_OK;
}

sl_status sl__snapshot_settings_of(sl_engine *engine, sl__snapshot_settings *out, sl_error *err)
{
    sl_engine_info info; /* which says of activations what is, not what was asked for */
    sl_engine_info_get(engine, &info);
    *out = (sl__snapshot_settings){
        .kv = (uint32_t)info.kv,
        .activations = (uint32_t)info.activations,
        .experts_per_token = info.experts_per_token,
        .grid = sl__model_has_delta(&engine->desc) ? sl__delta_grid(&engine->run) : 0,
    };
    snprintf(out->level, sizeof out->level, "%s", engine->run.kern.level);
    return sl__fingerprint(engine, &out->fingerprint, err);
}

uint64_t sl__prefix_hash_next(uint64_t hash, int32_t id)
{
    hash = (hash ^ (uint32_t)id) * 0x9e3779b97f4a7c15u; /* an odd number: nothing is lost */
    hash = (hash ^ hash >> 32) * 0xd6e8feb86659fd93u;
    return hash ^ hash >> 29;
}

uint64_t sl__prefix_hash(const int32_t *ids, size_t count)
{
    uint64_t hash = SL_PREFIX_HASH_BEGIN;
    for (size_t i = 0; i < count; i++)
        hash = sl__prefix_hash_next(hash, ids[i]);
    return hash;
}
