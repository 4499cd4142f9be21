#include "st_writer.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/dtype.h"

/* A growable run of bytes; grows by doubling and aborts where it cannot. */
typedef struct bytes_buf {
    uint8_t *data;
    size_t size, room;
} bytes_buf;

typedef struct entry {
    char *name, *dtype;
    uint32_t dims;
    uint64_t shape[ST_WRITER_DIMS_MAX];
    size_t begin, end; /* in the data */
} entry;

struct st_writer {
    entry *entries;
    size_t count, room;
    bytes_buf data;
    bool metadata;
    uint32_t align, shift;
};

static void die(const char *what, const char *detail)
{
    fprintf(stderr, "st_writer: %s (%s)\n", what, detail);
    abort();
}

static void *must(void *memory)
{
    if (!memory) die("out of memory", "test support");
    return memory;
}

static void buf_append(bytes_buf *buf, const void *data, size_t size)
{
    if (size > buf->room - buf->size) {
        size_t room = buf->room ? buf->room : 256;
        while (room - buf->size < size) room *= 2;
        buf->data = must(realloc(buf->data, room));
        buf->room = room;
    }
    if (size == 0) return;
    if (data)
        memcpy(buf->data + buf->size, data, size);
    else
        memset(buf->data + buf->size, 0, size);
    buf->size += size;
}

static void buf_text(bytes_buf *buf, const char *text)
{
    buf_append(buf, text, strlen(text));
}

__attribute__((format(printf, 2, 3))) static void buf_printf(bytes_buf *buf, const char *fmt, ...)
{
    char text[256];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof text) die("text too long", fmt);
    buf_append(buf, text, (size_t)n);
}

/* A JSON string: quotes, backslashes and control characters escaped, the rest as it is. */
static void buf_json(bytes_buf *buf, const char *text)
{
    buf_text(buf, "\"");
    for (const char *c = text; *c; c++) {
        if (*c == '"' || *c == '\\')
            buf_printf(buf, "\\%c", *c);
        else if ((unsigned char)*c < 0x20)
            buf_printf(buf, "\\u%04x", (unsigned)(unsigned char)*c);
        else
            buf_append(buf, c, 1);
    }
    buf_text(buf, "\"");
}

st_writer *st_writer_create(void)
{
    st_writer *w = must(calloc(1, sizeof *w));
    w->align = 8;
    return w;
}

void st_writer_destroy(st_writer *w)
{
    if (!w) return;
    for (size_t i = 0; i < w->count; i++) {
        free(w->entries[i].name);
        free(w->entries[i].dtype);
    }
    free(w->entries);
    free(w->data.data);
    free(w);
}

void st_writer_add(st_writer *w, const char *name, const char *dtype, uint32_t dims,
                   const uint64_t *shape, const void *data, size_t bytes)
{
    if (dims > ST_WRITER_DIMS_MAX) die("too many dimensions", name);
    if (w->count == w->room) {
        w->room = w->room ? w->room * 2 : 16;
        w->entries = must(realloc(w->entries, w->room * sizeof *w->entries));
    }
    entry *e = &w->entries[w->count++];
    memset(e, 0, sizeof *e);
    e->name = must(strdup(name));
    e->dtype = must(strdup(dtype));
    e->dims = dims;
    if (dims) memcpy(e->shape, shape, dims * sizeof *shape);
    e->begin = w->data.size;
    buf_append(&w->data, data, bytes);
    e->end = w->data.size;
}

static size_t element_count(uint32_t dims, const uint64_t *shape)
{
    size_t count = 1;
    for (uint32_t d = 0; d < dims; d++) count *= (size_t)shape[d];
    return count;
}

void st_writer_add_f32(st_writer *w, const char *name, uint32_t dims, const uint64_t *shape,
                       const float *values)
{
    size_t bytes = element_count(dims, shape) * sizeof *values;
    st_writer_add(w, name, "F32", dims, shape, values, bytes);
}

void st_writer_add_bf16(st_writer *w, const char *name, uint32_t dims, const uint64_t *shape,
                        const float *values)
{
    size_t count = element_count(dims, shape);
    uint16_t *halves = must(malloc(count ? count * sizeof *halves : 1));
    for (size_t i = 0; i < count; i++) halves[i] = sl__f32_to_bf16(values[i]);
    st_writer_add(w, name, "BF16", dims, shape, halves, count * sizeof *halves);
    free(halves);
}

void st_writer_set_metadata(st_writer *w, bool on)
{
    w->metadata = on;
}

void st_writer_set_align(st_writer *w, uint32_t align, uint32_t shift)
{
    if (align == 0) die("alignment of 0", "st_writer_set_align");
    w->align = align;
    w->shift = shift;
}

static void write_header(const st_writer *w, bytes_buf *out)
{
    buf_text(out, "{");
    if (w->metadata) buf_text(out, "\"__metadata__\":{\"format\":\"pt\"}");
    for (size_t i = 0; i < w->count; i++) {
        const entry *e = &w->entries[i];
        if (i > 0 || w->metadata) buf_text(out, ",");
        buf_json(out, e->name);
        buf_text(out, ":{\"dtype\":");
        buf_json(out, e->dtype);
        buf_text(out, ",\"shape\":[");
        for (uint32_t d = 0; d < e->dims; d++)
            buf_printf(out, "%s%" PRIu64, d ? "," : "", e->shape[d]);
        buf_printf(out, "],\"data_offsets\":[%zu,%zu]}", e->begin, e->end);
    }
    buf_text(out, "}");
    while ((8 + out->size) % w->align != 0) buf_text(out, " ");
    for (uint32_t i = 0; i < w->shift; i++) buf_text(out, " ");
}

static void append_length(bytes_buf *out, uint64_t length)
{
    uint8_t le[8];
    for (int i = 0; i < 8; i++) le[i] = (uint8_t)(length >> (8 * i));
    buf_append(out, le, sizeof le);
}

uint8_t *st_writer_bytes(const st_writer *w, size_t *size)
{
    bytes_buf header = {0}, out = {0};
    write_header(w, &header);
    append_length(&out, header.size);
    buf_append(&out, header.data, header.size);
    buf_append(&out, w->data.data, w->data.size);
    free(header.data);
    *size = out.size;
    return out.data;
}

void st_writer_save(const st_writer *w, const char *path)
{
    size_t size;
    uint8_t *data = st_writer_bytes(w, &size);
    st_write_bytes(path, data, size);
    free(data);
}

void st_write_bytes(const char *path, const void *data, size_t size)
{
    FILE *f = fopen(path, "wb");
    if (!f) die("cannot be created", path);
    if (size && fwrite(data, 1, size, f) != size) die("cannot be written", path);
    if (fclose(f) != 0) die("cannot be closed", path);
}

void st_write_raw(const char *path, const char *header, const void *data, size_t bytes)
{
    st_write_raw_sized(path, strlen(header), header, data, bytes);
}

void st_write_raw_sized(const char *path, uint64_t stated, const char *header, const void *data,
                        size_t bytes)
{
    bytes_buf out = {0};
    append_length(&out, stated);
    buf_text(&out, header);
    buf_append(&out, data, bytes);
    st_write_bytes(path, out.data, out.size);
    free(out.data);
}

static void index_line(bytes_buf *out, bool first, const char *tensor, const char *file)
{
    buf_text(out, first ? "\n    " : ",\n    ");
    buf_json(out, tensor);
    buf_text(out, ": ");
    buf_json(out, file);
}

void st_write_index(const char *path, const st_index_entry *entries, size_t count)
{
    bytes_buf out = {0};
    buf_text(&out, "{\n  \"metadata\": {\"total_size\": 0},\n  \"weight_map\": {");
    for (size_t i = 0; i < count; i++)
        index_line(&out, i == 0, entries[i].tensor, entries[i].file);
    buf_text(&out, "\n  }\n}\n");
    st_write_bytes(path, out.data, out.size);
    free(out.data);
}

void st_writer_save_sharded(st_writer *const *writers, const char *const *files, size_t count,
                            const char *dir)
{
    char path[4096];
    bytes_buf out = {0};
    size_t total = 0, lines = 0;
    for (size_t i = 0; i < count; i++) total += writers[i]->data.size;
    buf_printf(&out, "{\n  \"metadata\": {\"total_size\": %zu},\n  \"weight_map\": {", total);
    for (size_t i = 0; i < count; i++) {
        for (size_t t = 0; t < writers[i]->count; t++)
            index_line(&out, lines++ == 0, writers[i]->entries[t].name, files[i]);
        if ((size_t)snprintf(path, sizeof path, "%s/%s", dir, files[i]) >= sizeof path)
            die("path too long", dir);
        st_writer_save(writers[i], path);
    }
    buf_text(&out, "\n  }\n}\n");
    if ((size_t)snprintf(path, sizeof path, "%s/model.safetensors.index.json", dir) >= sizeof path)
        die("path too long", dir);
    st_write_bytes(path, out.data, out.size);
    free(out.data);
}
