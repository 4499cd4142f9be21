/* A GGUF file of any bytes. The first byte says how much longer the file is said to be than what
 * is there, as a power of two. What is accepted must lie in the file, and every value must be
 * readable. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "format/gguf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int truth)
{
    if (!truth) abort();
}

static unsigned sink(const char *text, size_t size)
{
    unsigned sum = 0;
    for (size_t i = 0; i < size; i++)
        sum += (unsigned char)text[i];
    return sum;
}

static void read_values(const sl__gguf_set *set)
{
    for (size_t i = 0; i < set->key_count; i++) {
        const sl__gguf_key *key = &set->keys[i];
        require(sl__gguf_find_key(set, key->name) == key);
        for (uint64_t k = 0; k < key->count; k++) {
            int64_t whole;
            double number;
            bool truth;
            const char *text;
            size_t size;
            sl__gguf_int_at(set, key, k, &whole);
            sl__gguf_number_at(set, key, k, &number);
            sl__gguf_bool_at(set, key, k, &truth);
            if (sl__gguf_string_at(set, key, k, &text, &size)) sink(text, size);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) return 0;
    uint64_t more = data[0] ? (uint64_t)1 << data[0] % 48 : 0;
    sl__arena arena;
    sl__arena_init(&arena, 0);
    char path[] = "fuzz";
    sl__gguf_file file = {.path = path, .size = size - 1 + more};
    sl__gguf_set set = {.files = &file, .file_count = 1, .arena = &arena};
    sl_error err = {0};
    if (sl__gguf_read_header(&set, 0, -1, data + 1, size - 1, &err) == SL_OK) {
        require(err.status == SL_OK);
        for (size_t i = 0; i < set.tensor_count; i++) {
            const sl__gguf_tensor *t = &set.tensors[i];
            sl__dtype dtype;
            require(t->dims >= 1 && t->dims <= SL_GGUF_DIMS_MAX);
            require(t->offset <= file.size && t->bytes <= file.size - t->offset);
            require((sl__gguf_tensor_dtype(&set, t, &dtype, NULL) == SL_OK) == (t->bytes > 0));
        }
        read_values(&set);
    } else {
        require(set.tensor_count == 0);
        require(err.status != SL_OK && strncmp(err.message, "fuzz: ", 6) == 0);
    }
    free(set.header);
    sl__arena_free(&arena);
    return 0;
}
