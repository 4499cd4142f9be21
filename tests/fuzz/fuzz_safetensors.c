/* One header of a safetensors file. The first 8 bytes are the size of the file that it is said to
 * begin (little-endian), the rest is the header's text. What is accepted must lie in the file and
 * fill it. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "format/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int truth)
{
    if (!truth) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 8) return 0;
    uint64_t file_size = 0;
    for (unsigned i = 0; i < 8; i++) file_size |= (uint64_t)data[i] << (8 * i);
    const char *json = (const char *)data + 8;
    size_t json_size = size - 8;

    sl__arena arena;
    sl__arena_init(&arena, 0);
    char path[] = "fuzz";
    sl__st_file file = {.path = path, .size = file_size};
    sl__st_set set = {.files = &file, .file_count = 1, .arena = &arena};
    sl_error err = {0};
    if (sl__st_parse_header(&set, 0, json, json_size, file_size, &err) == SL_OK) {
        uint64_t total = 8 + (uint64_t)json_size;
        for (size_t i = 0; i < set.tensor_count; i++) {
            const sl__st_tensor *t = &set.tensors[i];
            require(t->dims <= SL_TENSOR_DIMS_MAX && t->dtype < SL_DTYPE_ALL);
            require(t->offset >= 8 + (uint64_t)json_size && t->offset <= file_size);
            require(t->bytes <= file_size - t->offset);
            require(memchr(t->name, '\0', json_size + 1) != NULL);
            total += t->bytes;
        }
        require(total == file_size);
        require(err.status == SL_OK);
    } else {
        require(set.tensor_count == 0);
        require(err.status != SL_OK && strncmp(err.message, "fuzz: ", 6) == 0);
    }
    sl__arena_free(&arena);
    return 0;
}
