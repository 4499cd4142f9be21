#include "fake_store.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fail.h"
#include "base/hash.h"

#define LAYERS_MAX 16u
#define FILES      2u /* a layer */

struct sl__store {
    fake_layer layers[LAYERS_MAX];
    sl__expert_layout layouts[LAYERS_MAX];
    uint32_t layer_count;
    int fds[LAYERS_MAX * FILES];
    char paths[LAYERS_MAX * FILES][512];
    uint64_t verify_calls;
};

static void die(const char *what)
{
    fprintf(stderr, "fake store: %s\n", what);
    exit(1);
}

static uint64_t room_bytes(const fake_layer *l)
{
    return ((uint64_t)l->extent_bytes + 63) / 64 * 64;
}

static unsigned char byte_at(uint32_t layer, uint32_t expert, uint32_t extent, uint32_t i)
{
    uint64_t x = (uint64_t)layer << 48 ^ (uint64_t)expert << 32 ^ (uint64_t)extent << 24 ^ i / 8;
    x = (x + 0x9e3779b97f4a7c15u) * 0xbf58476d1ce4e5b9u;
    x ^= x >> 31;
    return (unsigned char)(x >> (i % 8 * 8));
}

uint32_t sl__store_expert_extents(const sl__store *store, uint32_t layer, uint32_t expert,
                                  sl__extent out[SL_EXPERT_EXTENTS_MAX])
{
    if (layer >= store->layer_count || expert >= store->layers[layer].experts) return 0;
    const fake_layer *l = &store->layers[layer];
    for (uint32_t x = 0; x < l->extents; x++) {
        /* Extents alternate between the files and go through them backwards. */
        uint32_t place = (l->experts - 1 - expert) * l->extents + x;
        out[x] = (sl__extent){.file = layer * FILES + x % FILES,
                              .offset = 24 + (uint64_t)place * l->extent_bytes,
                              .bytes = l->extent_bytes,
                              .dst = x * room_bytes(l)};
    }
    return l->extents;
}

const sl__expert_layout *sl__store_expert_layout(const sl__store *store, uint32_t layer)
{
    if (layer >= store->layer_count || store->layers[layer].experts == 0) return NULL;
    return &store->layouts[layer];
}

int sl__store_fd(const sl__store *store, uint32_t file)
{
    return store->fds[file];
}

const char *sl__store_file_path(const sl__store *store, uint32_t file)
{
    return store->paths[file];
}

/* Its files are no pack's: no descriptor past the page cache, nothing to map. */
int sl__store_direct_fd(sl__store *store, uint32_t file)
{
    (void)store;
    (void)file;
    return -1;
}

bool sl__store_is_pack(const sl__store *store)
{
    (void)store;
    return false;
}

const char *sl__store_path(const sl__store *store)
{
    return store->paths[0];
}

const void *sl__store_map(sl__store *store, uint32_t file, sl_error *err)
{
    (void)err;
    (void)store;
    (void)file;
    return NULL;
}

void sl__store_map_advise(sl__store *store, uint32_t file, uint64_t offset, uint64_t bytes,
                          sl__map_advice advice)
{
    (void)store;
    (void)file;
    (void)offset;
    (void)bytes;
    (void)advice;
}

bool fake_store_matches(const sl__store *store, uint32_t layer, uint32_t expert, const void *record)
{
    sl__extent extents[SL_EXPERT_EXTENTS_MAX];
    uint32_t n = sl__store_expert_extents(store, layer, expert, extents);
    for (uint32_t x = 0; x < n; x++) {
        const unsigned char *p = (const unsigned char *)record + extents[x].dst;
        for (uint32_t i = 0; i < extents[x].bytes; i++) {
            if (p[i] != byte_at(layer, expert, x, i)) return false;
        }
    }
    return n > 0;
}

sl_status sl__store_verify_record(sl__store *store, uint32_t layer, uint32_t expert,
                                  const void *record, sl_verify_rule verify, sl_error *err)
{
    store->verify_calls++;
    if (verify == SL_VERIFY_NONE || fake_store_matches(store, layer, expert, record)) return SL_OK;
    return SL_FAIL(err, SL_ECORRUPT, "%s: layer %u expert %u: differs from its checksum",
                   store->paths[layer * FILES], layer, expert);
}

static void write_at(int fd, const void *data, size_t bytes, uint64_t offset)
{
    if (pwrite(fd, data, bytes, (off_t)offset) != (ssize_t)bytes) die("cannot write");
}

static void write_layer(sl__store *store, uint32_t layer)
{
    const fake_layer *l = &store->layers[layer];
    unsigned char *data = malloc(l->extent_bytes);
    if (!data) die("out of memory");
    for (uint32_t e = 0; e < l->experts; e++) {
        sl__extent extents[SL_EXPERT_EXTENTS_MAX];
        uint32_t n = sl__store_expert_extents(store, layer, e, extents);
        for (uint32_t x = 0; x < n; x++) {
            for (uint32_t i = 0; i < l->extent_bytes; i++)
                data[i] = byte_at(layer, e, x, i);
            write_at(store->fds[extents[x].file], data, l->extent_bytes, extents[x].offset);
        }
    }
    free(data);
}

sl__store *fake_store_open(const char *dir, const fake_layer *layers, uint32_t layer_count)
{
    sl__store *store = calloc(1, sizeof *store);
    if (!store || layer_count > LAYERS_MAX) die("cannot open");
    store->layer_count = layer_count;
    for (uint32_t f = 0; f < layer_count * FILES; f++) {
        snprintf(store->paths[f], sizeof store->paths[f], "%s/layer-%u-%u.bin", dir, f / FILES,
                 f % FILES);
        store->fds[f] = open(store->paths[f], O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (store->fds[f] < 0) die("cannot make a file");
    }
    for (uint32_t l = 0; l < layer_count; l++) {
        store->layers[l] = layers[l];
        store->layouts[l].expert_count = layers[l].experts;
        store->layouts[l].record_bytes = layers[l].extents * room_bytes(&layers[l]);
        if (layers[l].experts > 0) write_layer(store, l);
    }
    return store;
}

void fake_store_close(sl__store *store)
{
    for (uint32_t f = 0; f < store->layer_count * FILES; f++)
        close(store->fds[f]);
    free(store);
}

uint64_t fake_store_disk_bytes(const sl__store *store, uint32_t layer)
{
    return (uint64_t)store->layers[layer].extents * store->layers[layer].extent_bytes;
}

void fake_store_damage(sl__store *store, uint32_t layer, uint32_t expert)
{
    sl__extent extents[SL_EXPERT_EXTENTS_MAX];
    unsigned char byte;
    uint32_t n = sl__store_expert_extents(store, layer, expert, extents);
    const sl__extent *x = &extents[n - 1];
    if (pread(store->fds[x->file], &byte, 1, (off_t)(x->offset + x->bytes - 1)) != 1) die("read");
    byte ^= 16;
    write_at(store->fds[x->file], &byte, 1, x->offset + x->bytes - 1);
}

uint64_t fake_store_verify_calls(const sl__store *store)
{
    return store->verify_calls;
}
