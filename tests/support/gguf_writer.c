#include "gguf_writer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "test_env.h"

/* A growable run of bytes; aborts where it cannot grow. */
typedef struct byte_run {
    uint8_t *data;
    size_t size, room;
} byte_run;

struct gguf_writer {
    uint32_t version, align;
    uint64_t keys, tensors;
    byte_run key_bytes, info_bytes, data;
};

static void *must(void *memory)
{
    if (memory) return memory;
    fprintf(stderr, "gguf_writer: out of memory\n");
    abort();
}

static void put(byte_run *run, const void *data, size_t size)
{
    if (size > run->room - run->size) {
        run->room = (run->size + size) * 2;
        run->data = must(realloc(run->data, run->room));
    }
    if (size == 0) return;
    if (data)
        memcpy(run->data + run->size, data, size);
    else
        memset(run->data + run->size, 0, size);
    run->size += size;
}

static void put_le(byte_run *run, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++) {
        uint8_t byte = (uint8_t)(value >> (8 * i));
        put(run, &byte, 1);
    }
}

static void put_text(byte_run *run, const char *text)
{
    put_le(run, strlen(text), 8);
    put(run, text, strlen(text));
}

static void put_align(byte_run *run, size_t align)
{
    if (run->size % align) put(run, NULL, align - run->size % align);
}

gguf_writer *gguf_writer_create(void)
{
    gguf_writer *w = must(calloc(1, sizeof *w));
    w->version = 3;
    w->align = 32;
    return w;
}

void gguf_writer_destroy(gguf_writer *w)
{
    if (!w) return;
    free(w->key_bytes.data);
    free(w->info_bytes.data);
    free(w->data.data);
    free(w);
}

void gguf_writer_set_version(gguf_writer *w, uint32_t version)
{
    w->version = version;
}

void gguf_writer_set_align(gguf_writer *w, uint32_t align)
{
    w->align = align;
}

/* ---- keys ------------------------------------------------------------------------------------ */

static byte_run *begin_key(gguf_writer *w, const char *key, uint32_t type)
{
    put_text(&w->key_bytes, key);
    put_le(&w->key_bytes, type, 4);
    w->keys++;
    return &w->key_bytes;
}

static byte_run *begin_array(gguf_writer *w, const char *key, uint32_t type, size_t count)
{
    byte_run *run = begin_key(w, key, SL_GGUF_ARRAY);
    put_le(run, type, 4);
    put_le(run, count, 8);
    return run;
}

static unsigned width_of(sl__gguf_type type)
{
    switch (type) {
    case SL_GGUF_U8:
    case SL_GGUF_I8:
    case SL_GGUF_BOOL:
        return 1;
    case SL_GGUF_U16:
    case SL_GGUF_I16:
        return 2;
    case SL_GGUF_U64:
    case SL_GGUF_I64:
        return 8;
    default:
        return 4;
    }
}

static void put_f32(byte_run *run, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    put_le(run, bits, 4);
}

void gguf_writer_int(gguf_writer *w, const char *key, sl__gguf_type type, int64_t value)
{
    put_le(begin_key(w, key, type), (uint64_t)value, width_of(type));
}

void gguf_writer_f32(gguf_writer *w, const char *key, float value)
{
    put_f32(begin_key(w, key, SL_GGUF_F32), value);
}

void gguf_writer_string(gguf_writer *w, const char *key, const char *text)
{
    put_text(begin_key(w, key, SL_GGUF_STRING), text);
}

void gguf_writer_ints(gguf_writer *w, const char *key, sl__gguf_type type, const int64_t *values,
                      size_t count)
{
    byte_run *run = begin_array(w, key, type, count);
    for (size_t i = 0; i < count; i++)
        put_le(run, (uint64_t)values[i], width_of(type));
}

void gguf_writer_f32s(gguf_writer *w, const char *key, const float *values, size_t count)
{
    byte_run *run = begin_array(w, key, SL_GGUF_F32, count);
    for (size_t i = 0; i < count; i++)
        put_f32(run, values[i]);
}

void gguf_writer_strings(gguf_writer *w, const char *key, const char *const *texts, size_t count)
{
    byte_run *run = begin_array(w, key, SL_GGUF_STRING, count);
    for (size_t i = 0; i < count; i++)
        put_text(run, texts[i]);
}

void gguf_writer_raw(gguf_writer *w, const char *key, uint32_t type, const void *data, size_t size)
{
    put(begin_key(w, key, type), data, size);
}

/* ---- tensors --------------------------------------------------------------------------------- */

void gguf_writer_tensor(gguf_writer *w, const char *name, uint32_t type, uint32_t dims,
                        const uint64_t *shape, const void *data, size_t bytes)
{
    put_text(&w->info_bytes, name);
    put_le(&w->info_bytes, dims, 4);
    for (uint32_t i = dims; i-- > 0;)
        put_le(&w->info_bytes, shape[i], 8);
    put_le(&w->info_bytes, type, 4);
    put_align(&w->data, w->align);
    put_le(&w->info_bytes, w->data.size, 8);
    put(&w->data, data, bytes);
    w->tensors++;
}

void gguf_writer_set_offset(gguf_writer *w, uint64_t offset)
{
    w->info_bytes.size -= 8;
    put_le(&w->info_bytes, offset, 8);
}

/* ---- the file -------------------------------------------------------------------------------- */

uint8_t *gguf_writer_bytes(const gguf_writer *w, size_t *size)
{
    byte_run out = {0};
    put(&out, "GGUF", 4);
    put_le(&out, w->version, 4);
    put_le(&out, w->tensors, 8);
    put_le(&out, w->keys, 8);
    put(&out, w->key_bytes.data, w->key_bytes.size);
    put(&out, w->info_bytes.data, w->info_bytes.size);
    if (w->tensors > 0) put_align(&out, w->align);
    put(&out, w->data.data, w->data.size);
    *size = out.size;
    return out.data;
}

void gguf_writer_save(const gguf_writer *w, const char *path)
{
    size_t size;
    uint8_t *bytes = gguf_writer_bytes(w, &size);
    test_write_file(path, bytes, size);
    free(bytes);
}
