/* XXH3, 64 bits: the checksum of everything in a pack. */
#ifndef SL_BASE_HASH_H
#define SL_BASE_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

uint64_t sl__hash64(const void *data, size_t size);

/* The same over bytes that come in parts. create returns NULL where memory is out. */
typedef struct sl__hasher sl__hasher;
sl__hasher *sl__hasher_create(void);
void sl__hasher_reset(sl__hasher *hasher); /* as new */
void sl__hasher_update(sl__hasher *hasher, const void *data, size_t size);
uint64_t sl__hasher_digest(const sl__hasher *hasher);
void sl__hasher_destroy(sl__hasher *hasher); /* NULL is allowed */

/* 16 lower-case hex digits and a NUL; parsing takes exactly such text. */
#define SL_HASH_TEXT 17u
void sl__hash_format(uint64_t hash, char out[SL_HASH_TEXT]);
bool sl__hash_parse(const char *text, uint64_t *hash);

#endif
