/* Reading one GGUF header. Where it ends is known only at its end, so its bytes are read as the
 * parser comes to them, into one growing copy:
 *
 *     header   [ read so far ........ at ......... ]      room doubles, up to the file's size and
 *                                     └ next byte         SL_GGUF_HEADER_MAX
 *
 * Values stay in that copy; the copy moves when it grows, so what points into it are offsets. No
 * count is believed that the bytes left in the file could not hold.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/checked.h"
#include "base/fail.h"
#include "base/file.h"
#include "format/gguf.h"

#define FIRST_READ    (1u << 18)
#define NAME_MAX      65535u /* bytes of a key or the name of a tensor */
#define KEYS_MAX      65536u
#define TENSORS_MAX   (1u << 20)
#define ALIGN_DEFAULT 32u
#define ALIGN_MAX     (1u << 20)

typedef struct header_reader {
    sl__gguf_set *set;
    const sl__gguf_file *file;
    uint32_t index; /* of the file */
    int fd;         /* -1: all bytes are there */
    char *bytes;    /* owned until the header is whole */
    size_t have, room;
    size_t at;
    uint64_t end;  /* where a header must have ended */
    uint64_t past; /* bytes that the file lacks at its end, where that is a problem of many */
    uint64_t key_count, tensor_count;
    sl__gguf_key *keys;
    sl__gguf_tensor *tensors; /* behind those of the set */
    sl_error *err;
} header_reader;

static sl_status ends_early(const header_reader *r)
{
    if (r->end == SL_GGUF_HEADER_MAX && r->file->size > r->end) {
        return SL_FAIL(r->err, SL_EFORMAT, "%s: a header of more than %u bytes", r->file->path,
                       SL_GGUF_HEADER_MAX);
    }
    return SL_FAIL(r->err, SL_EFORMAT,
                   "%s: the header goes past the end of the file (%" PRIu64 " bytes): truncated?",
                   r->file->path, r->file->size);
}

/* Sees to it that the next n bytes are there. */
static sl_status need(header_reader *r, uint64_t n)
{
    if (n > r->end - r->at) return ends_early(r);
    if (n <= r->have - r->at) return SL_OK;
    if (r->fd < 0) return ends_early(r);
    uint64_t room = r->room ? (uint64_t)r->room * 2 : FIRST_READ;
    while (room < r->at + n)
        room *= 2;
    if (room > r->end) room = r->end;
    char *grown = realloc(r->bytes, (size_t)room);
    if (!grown) return SL_FAIL_NOMEM(r->err, "GGUF header");
    r->bytes = grown;
    r->room = (size_t)room;
    SL_TRY(sl__file_pread_all(r->fd, r->file->path, grown + r->have, room - r->have, r->have,
                              r->err));
    r->have = (size_t)room;
    return SL_OK;
}

/* n little-endian bytes at p. */
static uint64_t little(const char *p, unsigned n)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < n; i++)
        value |= (uint64_t)(unsigned char)p[i] << (8 * i);
    return value;
}

static sl_status take_u32(header_reader *r, uint32_t *out)
{
    SL_TRY(need(r, 4));
    *out = (uint32_t)little(r->bytes + r->at, 4);
    r->at += 4;
    return SL_OK;
}

static sl_status take_u64(header_reader *r, uint64_t *out)
{
    SL_TRY(need(r, 8));
    *out = little(r->bytes + r->at, 8);
    r->at += 8;
    return SL_OK;
}

static sl_status take_text(header_reader *r, sl__gguf_text *out)
{
    uint64_t size = 0;
    SL_TRY(take_u64(r, &size));
    SL_TRY(need(r, size));
    *out = (sl__gguf_text){.offset = (uint32_t)r->at, .size = (uint32_t)size};
    r->at += (size_t)size;
    return SL_OK;
}

/* The name of key or tensor number i, NUL-terminated. */
static sl_status take_name(header_reader *r, const char *what, uint64_t i, const char **out)
{
    sl__gguf_text text = {0};
    SL_TRY(take_text(r, &text));
    const char *bytes = r->bytes + text.offset;
    if (text.size == 0 || text.size > NAME_MAX || memchr(bytes, '\0', text.size)) {
        return SL_FAIL(r->err, SL_EFORMAT,
                       "%s: %s %" PRIu64 " (counted from 0) has a name of %" PRIu32 " bytes%s",
                       r->file->path, what, i, text.size,
                       text.size > 0 && text.size <= NAME_MAX ? " with a NUL" : "");
    }
    *out = sl__arena_strndup(r->set->arena, bytes, text.size);
    return *out ? SL_OK : SL_FAIL_NOMEM(r->err, "GGUF names");
}

/* ---- keys ------------------------------------------------------------------------------------ */

/* Bytes of a number of a type; 0 for what is none. */
static unsigned number_bytes(uint32_t type)
{
    static const uint8_t bytes[SL_GGUF_TYPE_COUNT] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return type < SL_GGUF_TYPE_COUNT ? bytes[type] : 0;
}

static sl_status take_strings(header_reader *r, sl__gguf_key *key)
{
    if (key->count > (r->end - r->at) / 8) return ends_early(r);
    sl__gguf_text *strings = SL_ARENA_NEW(r->set->arena, sl__gguf_text, (size_t)key->count);
    if (!strings) return SL_FAIL_NOMEM(r->err, "GGUF strings");
    for (uint64_t i = 0; i < key->count; i++)
        SL_TRY(take_text(r, &strings[i]));
    key->strings = strings;
    return SL_OK;
}

static sl_status take_numbers(header_reader *r, sl__gguf_key *key)
{
    unsigned width = number_bytes(key->type);
    uint64_t bytes;
    if (!sl__mul_u64(&bytes, key->count, width)) return ends_early(r);
    SL_TRY(need(r, bytes));
    key->offset = (uint32_t)r->at;
    if (key->type == SL_GGUF_BOOL) {
        for (uint64_t i = 0; i < bytes; i++) {
            if ((unsigned char)r->bytes[r->at + i] <= 1) continue;
            return SL_FAIL(r->err, SL_EFORMAT, "%s: %s: a boolean that is neither 0 nor 1",
                           r->file->path, key->name);
        }
    }
    r->at += (size_t)bytes;
    return SL_OK;
}

static sl_status take_key(header_reader *r, uint64_t index)
{
    sl__gguf_key *key = &r->keys[index];
    uint32_t type = 0;
    SL_TRY(take_name(r, "key", index, &key->name));
    SL_TRY(take_u32(r, &type));
    key->array = type == SL_GGUF_ARRAY;
    key->count = 1;
    if (key->array) {
        SL_TRY(take_u32(r, &type));
        SL_TRY(take_u64(r, &key->count));
    }
    if (type >= SL_GGUF_TYPE_COUNT) {
        return SL_FAIL(r->err, SL_EFORMAT, "%s: %s: a value of type %" PRIu32 ": not known",
                       r->file->path, key->name, type);
    }
    if (type == SL_GGUF_ARRAY) {
        return SL_FAIL(r->err, SL_EUNSUPPORTED, "%s: %s: arrays of arrays are not supported",
                       r->file->path, key->name);
    }
    key->type = (sl__gguf_type)type;
    return type == SL_GGUF_STRING ? take_strings(r, key) : take_numbers(r, key);
}

static int compare_keys(const void *a, const void *b)
{
    const sl__gguf_key *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static sl_status take_keys(header_reader *r)
{
    r->keys = SL_ARENA_NEW(r->set->arena, sl__gguf_key, (size_t)r->key_count);
    if (!r->keys) return SL_FAIL_NOMEM(r->err, "GGUF keys");
    for (uint64_t i = 0; i < r->key_count; i++)
        SL_TRY(take_key(r, i));
    qsort(r->keys, (size_t)r->key_count, sizeof *r->keys, compare_keys);
    for (uint64_t i = 1; i < r->key_count; i++) {
        if (strcmp(r->keys[i - 1].name, r->keys[i].name) != 0) continue;
        return SL_FAIL(r->err, SL_EFORMAT, "%s: key %s occurs twice", r->file->path,
                       r->keys[i].name);
    }
    return SL_OK;
}

/* ---- tensors --------------------------------------------------------------------------------- */

static sl_status take_tensor(header_reader *r, uint64_t index)
{
    sl__gguf_tensor *t = &r->tensors[index];
    uint64_t elements = 1;
    SL_TRY(take_name(r, "tensor", index, &t->name));
    SL_TRY(take_u32(r, &t->dims));
    if (t->dims < 1 || t->dims > SL_GGUF_DIMS_MAX) {
        return SL_FAIL(r->err, SL_EFORMAT, "%s: tensor %s has %" PRIu32 " dimensions, not 1 to %u",
                       r->file->path, t->name, t->dims, SL_GGUF_DIMS_MAX);
    }
    for (uint32_t i = t->dims; i-- > 0;) {
        SL_TRY(take_u64(r, &t->shape[i]));
        if (t->shape[i] > 0 && sl__mul_u64(&elements, elements, t->shape[i])) continue;
        return SL_FAIL(r->err, SL_EFORMAT, "%s: tensor %s: its dimensions are zero or too large",
                       r->file->path, t->name);
    }
    SL_TRY(take_u32(r, &t->type));
    t->file = r->index;
    return take_u64(r, &t->offset);
}

/* Of the tensor's type, where it is known: whole blocks, and how many bytes. */
static sl_status measure(header_reader *r, sl__gguf_tensor *t)
{
    sl__dtype dtype = SL_F32;
    uint64_t cols = t->shape[t->dims - 1], bytes = 0;
    if (!sl__gguf_dtype(t->type, &dtype)) return SL_OK;
    if (cols % sl__dtype_block_weights(dtype) != 0) {
        return SL_FAIL(r->err, SL_EFORMAT,
                       "%s: tensor %s: rows of %" PRIu64 " are no whole blocks of %" PRIu32 " (%s)",
                       r->file->path, t->name, cols, sl__dtype_block_weights(dtype),
                       sl__dtype_name(dtype));
    }
    bool fits = sl__dtype_row_bytes(dtype, cols, &bytes);
    for (uint32_t i = 0; fits && i + 1 < t->dims; i++)
        fits = sl__mul_u64(&bytes, bytes, t->shape[i]);
    if (!fits) {
        return SL_FAIL(r->err, SL_EFORMAT, "%s: tensor %s: its dimensions are zero or too large",
                       r->file->path, t->name);
    }
    t->bytes = bytes;
    return SL_OK;
}

/* Makes the offset one from the start of the file. */
static sl_status place(header_reader *r, sl__gguf_tensor *t, uint64_t data, uint64_t align)
{
    uint64_t offset, end;
    SL_TRY(measure(r, t));
    if (t->offset % align != 0) {
        return SL_FAIL(r->err, SL_EFORMAT,
                       "%s: tensor %s: its offset %" PRIu64 " is no multiple of %" PRIu64,
                       r->file->path, t->name, t->offset, align);
    }
    bool fits = sl__add_u64(&offset, t->offset, data) && sl__add_u64(&end, offset, t->bytes);
    if (fits && end > r->file->size && r->set->problems) {
        if (end - r->file->size > r->past) r->past = end - r->file->size;
    } else if (!fits || end > r->file->size) {
        return SL_FAIL(r->err, SL_EFORMAT,
                       "%s: tensor %s ends past the end of the file (%" PRIu64
                       " bytes): truncated?",
                       r->file->path, t->name, r->file->size);
    }
    t->offset = offset;
    return SL_OK;
}

/* Room for the tensors of this file behind those of the set. */
static sl_status grow_tensors(header_reader *r)
{
    sl__gguf_set *set = r->set;
    size_t count = set->tensor_count + (size_t)r->tensor_count;
    sl__gguf_tensor *all = SL_ARENA_NEW(set->arena, sl__gguf_tensor, count);
    if (!all) return SL_FAIL_NOMEM(r->err, "tensor table");
    if (set->tensor_count > 0) memcpy(all, set->tensors, set->tensor_count * sizeof *all);
    set->tensors = all;
    r->tensors = all + set->tensor_count;
    return SL_OK;
}

static sl_status take_tensors(header_reader *r)
{
    SL_TRY(grow_tensors(r));
    for (uint64_t i = 0; i < r->tensor_count; i++)
        SL_TRY(take_tensor(r, i));
    return SL_OK;
}

static sl_status place_tensors(header_reader *r)
{
    const sl__gguf_key *key = sl__gguf_find_key(r->set, "general.alignment");
    int64_t align = ALIGN_DEFAULT;
    uint64_t data = 0;
    if (key && (key->array || !sl__gguf_int_at(r->set, key, 0, &align) || align < 1 ||
                align > ALIGN_MAX || (align & (align - 1)) != 0)) {
        return SL_FAIL(r->err, SL_EFORMAT,
                       "%s: general.alignment: is not a power of two of at most %u", r->file->path,
                       ALIGN_MAX);
    }
    (void)sl__align_u64(&data, r->at, (uint64_t)align); /* both are small */
    for (uint64_t i = 0; i < r->tensor_count; i++)
        SL_TRY(place(r, &r->tensors[i], data, (uint64_t)align));
    if (r->past == 0) return SL_OK;
    sl_error why = {0};
    (void)SL_FAIL(&why, SL_EFORMAT, "%s: %" PRIu64 " bytes are missing at its end: truncated?",
                  r->file->path, r->past);
    return sl__problems_pass(r->set->problems, &why, r->err);
}

/* ---- the whole ------------------------------------------------------------------------------- */

static sl_status take_start(header_reader *r)
{
    uint32_t version = 0;
    if (r->file->size >= 4) SL_TRY(need(r, 4));
    if (r->file->size < 4 || memcmp(r->bytes, "GGUF", 4) != 0) {
        return SL_FAIL(r->err, SL_EFORMAT, "%s: does not begin as a GGUF file", r->file->path);
    }
    r->at = 4;
    SL_TRY(take_u32(r, &version));
    if (version != 2 && version != 3) {
        bool big = version == 2u << 24 || version == 3u << 24;
        return SL_FAIL(r->err, SL_EUNSUPPORTED, "%s: GGUF %s%" PRIu32 " is not supported",
                       r->file->path, big ? "of big-endian machines, version " : "version ",
                       big ? version >> 24 : version);
    }
    SL_TRY(take_u64(r, &r->tensor_count));
    SL_TRY(take_u64(r, &r->key_count));
    if (r->tensor_count > TENSORS_MAX || r->key_count > KEYS_MAX) {
        return SL_FAIL(r->err, SL_EFORMAT,
                       "%s: %" PRIu64 " tensors and %" PRIu64 " keys are too many", r->file->path,
                       r->tensor_count, r->key_count);
    }
    /* The least that each takes: a name of a byte, a type, a value; and dims and an offset. */
    if (r->key_count * 14 + r->tensor_count * 33 > r->end - r->at) return ends_early(r);
    return SL_OK;
}

static sl_status read_all(header_reader *r)
{
    SL_TRY(take_start(r));
    SL_TRY(take_keys(r));
    SL_TRY(take_tensors(r));
    /* The header is whole: its bytes become the set's. */
    free(r->set->header);
    r->set->header = r->bytes;
    r->bytes = NULL;
    r->set->keys = r->keys;
    r->set->key_count = (size_t)r->key_count;
    SL_TRY(place_tensors(r));
    r->set->tensor_count += (size_t)r->tensor_count;
    return SL_OK;
}

sl_status sl__gguf_read_header(sl__gguf_set *set, uint32_t file, int fd, const void *bytes,
                               size_t have, sl_error *err)
{
    header_reader r = {.set = set, .file = &set->files[file], .index = file, .fd = fd, .err = err};
    r.end = r.file->size < SL_GGUF_HEADER_MAX ? r.file->size : SL_GGUF_HEADER_MAX;
    if (fd < 0) {
        r.bytes = malloc(have ? have : 1);
        if (!r.bytes) return SL_FAIL_NOMEM(err, "GGUF header");
        if (have > 0) memcpy(r.bytes, bytes, have);
        r.have = r.room = have;
    }
    sl_status status = read_all(&r);
    free(r.bytes);
    return status;
}
