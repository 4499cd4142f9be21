#include "base/hash.h"

#include <xxhash.h>
#ifdef SLUICE_XXHASH_DISPATCH
#include <xxh_x86dispatch.h> /* the same names and results, two to three times as fast */
#endif

uint64_t sl__hash64(const void *data, size_t size) { return XXH3_64bits(data, size); }

/* The name hides the library's state type: a hasher is nothing else. */
static XXH3_state_t *state_of(sl__hasher *hasher) { return (XXH3_state_t *)(void *)hasher; }

sl__hasher *sl__hasher_create(void)
{
    XXH3_state_t *state = XXH3_createState();
    if (state) XXH3_64bits_reset(state);
    return (sl__hasher *)(void *)state;
}

void sl__hasher_reset(sl__hasher *hasher) { XXH3_64bits_reset(state_of(hasher)); }

void sl__hasher_update(sl__hasher *hasher, const void *data, size_t size)
{
    XXH3_64bits_update(state_of(hasher), data, size);
}

uint64_t sl__hasher_digest(const sl__hasher *hasher)
{
    return XXH3_64bits_digest((const XXH3_state_t *)(const void *)hasher);
}

void sl__hasher_destroy(sl__hasher *hasher) { XXH3_freeState(state_of(hasher)); }

void sl__hash_format(uint64_t hash, char out[SL_HASH_TEXT])
{
    static const char digits[] = "0123456789abcdef";
    for (int i = 15; i >= 0; i--) {
        out[i] = digits[hash & 15u];
        hash >>= 4;
    }
    out[16] = '\0';
}

bool sl__hash_parse(const char *text, uint64_t *hash)
{
    uint64_t value = 0;
    for (int i = 0; i < 16; i++) {
        char c = text[i];
        unsigned digit;
        if (c >= '0' && c <= '9') digit = (unsigned)(c - '0');
        else if (c >= 'a' && c <= 'f') digit = (unsigned)(c - 'a') + 10u;
        else return false;
        value = value << 4 | digit;
    }
    if (text[16] != '\0') return false;
    *hash = value;
    return true;
}
