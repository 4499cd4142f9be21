/* Writes safetensors files for tests: honest ones through a builder, and lies as raw bytes.
 *
 *     st_writer *w = st_writer_create();
 *     st_writer_add_f32(w, "norm.weight", 1, (uint64_t[]){4}, (float[]){1, 2, 3, 4});
 *     st_writer_save(w, "/tmp/x/model.safetensors");
 *     st_writer_destroy(w);
 *
 * Whatever goes wrong here (no memory, no disk) is the test's own fault and aborts with a message.
 */
#ifndef SL_TEST_ST_WRITER_H
#define SL_TEST_ST_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ST_WRITER_DIMS_MAX 16u /* more than a reader takes: for lies */

typedef struct st_writer st_writer;

st_writer *st_writer_create(void);
void st_writer_destroy(st_writer *w); /* NULL is allowed */

/* Appends a tensor; data (`bytes` of them) is copied, NULL means zeros. dtype is the format's own
 * name ("BF16") and goes into the header unchecked, as do shape and bytes: that they agree is the
 * caller's affair. shape may be NULL where dims is 0. Tensors lie in the order of the calls. */
void st_writer_add(st_writer *w, const char *name, const char *dtype, uint32_t dims,
                   const uint64_t *shape, const void *data, size_t bytes);
/* The same from values[product of shape], written as F32, or rounded to BF16. */
void st_writer_add_f32(st_writer *w, const char *name, uint32_t dims, const uint64_t *shape,
                       const float *values);
void st_writer_add_bf16(st_writer *w, const char *name, uint32_t dims, const uint64_t *shape,
                        const float *values);

/* The header gets a "__metadata__" of {"format":"pt"}, as exporters write it (default: none). */
void st_writer_set_metadata(st_writer *w, bool on);
/* The header is padded with spaces so that the data starts at a multiple of align, then `shift`
 * more (default 8 and 0; align 1 pads nothing): data at odd addresses occurs in real files. */
void st_writer_set_align(st_writer *w, uint32_t align, uint32_t shift);

/* Writes the file, replacing what was there; the builder stays as it is. */
void st_writer_save(const st_writer *w, const char *path);
/* The whole file in memory, malloc'd, owned by the caller. */
uint8_t *st_writer_bytes(const st_writer *w, size_t *size);

/* A file of any bytes. */
void st_write_bytes(const char *path, const void *data, size_t size);
/* Header text as given, its true length before it, then data (NULL: zeros). */
void st_write_raw(const char *path, const char *header, const void *data, size_t bytes);
/* The same with a stated length that need not be the true one. */
void st_write_raw_sized(const char *path, uint64_t stated, const char *header, const void *data,
                        size_t bytes);

/* One line of a shard index. */
typedef struct st_index_entry {
    const char *tensor, *file;
} st_index_entry;

/* Writes {"metadata":{…},"weight_map":{tensor: file, …}} to path. */
void st_write_index(const char *path, const st_index_entry *entries, size_t count);
/* Writes DIR/model.safetensors.index.json for every tensor of `count` builders, and builder i as
 * DIR/files[i]. */
void st_writer_save_sharded(st_writer *const *writers, const char *const *files, size_t count,
                            const char *dir);

#endif
