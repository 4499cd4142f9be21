/* Writes GGUF files for tests, honest ones and lies.
 *
 *     gguf_writer *w = gguf_writer_create();
 *     gguf_writer_string(w, "general.architecture", "qwen3moe");
 *     gguf_writer_tensor(w, "output_norm.weight", 0, 1, (uint64_t[]){4}, data, 16);
 *     gguf_writer_save(w, "/tmp/x/model.gguf");
 *     gguf_writer_destroy(w);
 *
 * Whatever goes wrong here (no memory, no disk) is the test's own fault and aborts with a message.
 */
#ifndef SL_TEST_GGUF_WRITER_H
#define SL_TEST_GGUF_WRITER_H

#include <stddef.h>
#include <stdint.h>

#include "format/gguf.h"

typedef struct gguf_writer gguf_writer;

gguf_writer *gguf_writer_create(void);
void gguf_writer_destroy(gguf_writer *w); /* NULL is allowed */

/* Default 3, and an alignment of 32; the key of the latter is the caller's affair. */
void gguf_writer_set_version(gguf_writer *w, uint32_t version);
void gguf_writer_set_align(gguf_writer *w, uint32_t align);

/* A key whose value is of an integer type, a boolean's too. */
void gguf_writer_int(gguf_writer *w, const char *key, sl__gguf_type type, int64_t value);
void gguf_writer_f32(gguf_writer *w, const char *key, float value);
void gguf_writer_string(gguf_writer *w, const char *key, const char *text);
void gguf_writer_ints(gguf_writer *w, const char *key, sl__gguf_type type, const int64_t *values,
                      size_t count);
void gguf_writer_f32s(gguf_writer *w, const char *key, const float *values, size_t count);
void gguf_writer_strings(gguf_writer *w, const char *key, const char *const *texts, size_t count);
/* A value as the bytes that follow its type, whatever they are. */
void gguf_writer_raw(gguf_writer *w, const char *key, uint32_t type, const void *data, size_t size);

/* Appends a tensor; shape is row-major, data (NULL: zeros) is copied. That they agree is the
 * caller's affair. It lies behind the one before, aligned. */
void gguf_writer_tensor(gguf_writer *w, const char *name, uint32_t type, uint32_t dims,
                        const uint64_t *shape, const void *data, size_t bytes);
/* Makes the offset of the last tensor this. */
void gguf_writer_set_offset(gguf_writer *w, uint64_t offset);

/* Writes the file, replacing what was there; the builder stays as it is. */
void gguf_writer_save(const gguf_writer *w, const char *path);
/* The whole file in memory, malloc'd, owned by the caller. */
uint8_t *gguf_writer_bytes(const gguf_writer *w, size_t *size);

#endif
