#include "store/pack_layout.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/fail.h"
#include "base/hash.h"
#include "base/panels.h"

_Static_assert(SL_PACK_SUM_DIGITS + 1 == SL_HASH_TEXT, "a checksum's digits");

const char *const sl__part_name[SL_PART_COUNT] = {"gate", "up", "down"};

bool sl__tensor_bytes(sl__dtype dtype, bool panels, uint32_t dims, const uint64_t *shape,
                      uint64_t *bytes)
{
    if (dims > SL_STORE_DIMS_MAX) return false;
    if (panels && (dims != 2 || !sl__dtype_has_panels(dtype) || shape[0] > UINT32_MAX)) {
        return false;
    }
    for (uint32_t i = 0; i < dims; i++) {
        if (shape[i] == 0) return false;
    }
    uint64_t total;
    if (!sl__dtype_row_bytes(dtype, dims ? shape[dims - 1] : 1, &total)) return false;
    for (uint32_t i = 0; i + 1 < dims; i++) {
        if (!sl__mul_u64(&total, total, sl__stored_rows(panels, shape[i]))) return false;
    }
    if (total > SL_PACK_BYTES_MAX) return false;
    *bytes = total;
    return true;
}

static bool is_power_of_2(uint32_t n)
{
    return n > 0 && (n & (n - 1)) == 0;
}

bool sl__scaling_fits(sl__dtype dtype, const sl__scaling *scaling)
{
    const sl__scaling own = sl__dtype_scaling(dtype);
    if (!sl__dtype_has_planes(dtype)) return !sl__has_planes(scaling);
    if (sl__has_planes(&own)) return sl__scaling_equal(scaling, &own);
    bool floats = scaling->type == SL_F32 || scaling->type == SL_F16 || scaling->type == SL_BF16;
    return floats && scaling->group >= 16 && is_power_of_2(scaling->group) &&
           is_power_of_2(scaling->group_rows) && !(scaling->biases && dtype == SL_F8_E4M3);
}

uint64_t sl__part_bytes(const sl__matrix_layout *part)
{
    return sl__stored_rows(part->panels, part->rows) * part->row_bytes;
}

uint64_t sl__part_scale_bytes(const sl__matrix_layout *part)
{
    if (part->rows == 0 || !sl__has_planes(&part->scaling)) return 0;
    return sl__scaling_rows(&part->scaling, (uint64_t)part->first + part->rows) *
           part->scale_row_bytes;
}

/* Places a part behind *end and moves it. False where no matrix has such a size. */
static bool place_part(sl__matrix_layout *part, uint64_t *end)
{
    uint64_t bytes;
    if (part->rows == 0 || part->cols == 0 ||
        !sl__dtype_row_bytes(part->dtype, part->cols, &part->row_bytes) ||
        !sl__mul_u64(&bytes, sl__stored_rows(part->panels, part->rows), part->row_bytes) ||
        bytes > SL_PACK_BYTES_MAX) {
        return false;
    }
    part->offset = *end;
    /* At most 2^50 a plane, and scales are few bytes a code: far from an overflow. */
    bool fits = sl__align_u64(end, *end + bytes, SL_PACK_PART_ALIGN);
    if (sl__has_planes(&part->scaling)) {
        part->scale_row_bytes = sl__scaling_row_bytes(&part->scaling, part->cols);
        part->scales_offset = *end;
        fits = fits && sl__align_u64(end, *end + sl__part_scale_bytes(part), SL_PACK_PART_ALIGN);
        part->biases_offset = part->scaling.biases ? *end : 0;
        uint64_t biases = part->scaling.biases ? sl__part_scale_bytes(part) : 0;
        fits = fits && sl__align_u64(end, *end + biases, SL_PACK_PART_ALIGN);
    }
    assert(fits);
    return true;
}

sl_status sl__expert_layout_init(sl__expert_layout *out, uint32_t expert_count,
                                 const sl__dtype dtype[SL_PART_COUNT],
                                 const uint32_t rows[SL_PART_COUNT],
                                 const uint32_t cols[SL_PART_COUNT],
                                 const bool panels[SL_PART_COUNT],
                                 const sl__part_planes planes[SL_PART_COUNT], const char *where,
                                 sl_error *err)
{
    if (expert_count == 0 || expert_count > SL_PACK_EXPERTS_MAX) {
        return SL_FAIL(err, SL_EFORMAT, "%s: %u experts; expected 1 to %u", where, expert_count,
                       SL_PACK_EXPERTS_MAX);
    }
    sl__expert_layout layout = {.expert_count = expert_count};
    uint64_t end = 0;
    for (int p = 0; p < SL_PART_COUNT; p++) {
        sl__matrix_layout *part = &layout.part[p];
        if ((uint32_t)dtype[p] >= SL_DTYPE_COUNT) {
            return SL_FAIL(err, SL_EUNSUPPORTED, "%s: %s is of a type that no weight has", where,
                           sl__part_name[p]);
        }
        if (panels && panels[p] && !sl__dtype_has_panels(dtype[p])) {
            return SL_FAIL(err, SL_EFORMAT, "%s: %s is %s, which has no panels", where,
                           sl__part_name[p], sl__dtype_name(dtype[p]));
        }
        *part = (sl__matrix_layout){.dtype = dtype[p], .rows = rows[p], .cols = cols[p],
                                    .panels = panels && panels[p], .offset = end};
        if (p == SL_PART_UP && rows[p] == 0 && cols[p] == 0) continue; /* absent */
        part->scaling = sl__dtype_scaling(dtype[p]);
        if (planes && sl__has_planes(&planes[p].scaling)) {
            part->scaling = planes[p].scaling;
            part->first = planes[p].first;
        }
        if (!sl__scaling_fits(dtype[p], &part->scaling)) {
            return SL_FAIL(err, SL_EFORMAT, "%s: %s is %s, which has no such scales", where,
                           sl__part_name[p], sl__dtype_name(dtype[p]));
        }
        if (!place_part(part, &end)) {
            return SL_FAIL(err, SL_EFORMAT, "%s: %s is %u x %u, which no matrix is", where,
                           sl__part_name[p], rows[p], cols[p]);
        }
    }
    layout.record_bytes = end;
    if (sl__pack_stride(&layout) > SL_PACK_BYTES_MAX / expert_count) {
        return SL_FAIL(err, SL_EFORMAT, "%s: %u experts of %llu bytes are more than a file holds",
                       where, expert_count, (unsigned long long)end);
    }
    *out = layout;
    return SL_OK;
}

uint64_t sl__pack_stride(const sl__expert_layout *layout)
{
    return (layout->record_bytes + SL_PACK_ALIGN - 1) / SL_PACK_ALIGN * SL_PACK_ALIGN;
}

uint64_t sl__pack_layer_bytes(const sl__expert_layout *layout)
{
    return layout->expert_count * sl__pack_stride(layout);
}

void sl__pack_layer_name(uint32_t layer, char out[SL_PACK_LAYER_NAME])
{
    snprintf(out, SL_PACK_LAYER_NAME, "experts-%03u.bin", layer);
}

bool sl__pack_place(uint64_t *end, uint64_t bytes, uint64_t *offset)
{
    uint64_t at, after;
    if (!sl__align_u64(&at, *end, SL_PACK_PART_ALIGN) || !sl__add_u64(&after, at, bytes) ||
        after > SL_PACK_BYTES_MAX) {
        return false;
    }
    *offset = at;
    *end = after;
    return true;
}

uint64_t sl__pack_resident_bytes(uint64_t end)
{
    return (end + SL_PACK_ALIGN - 1) / SL_PACK_ALIGN * SL_PACK_ALIGN;
}

bool sl__pack_sums_parse(const char *digits, uint64_t *sums, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char one[SL_HASH_TEXT] = {0};
        memcpy(one, digits + i * SL_PACK_SUM_DIGITS, SL_PACK_SUM_DIGITS);
        if (!sl__hash_parse(one, &sums[i])) return false;
    }
    return true;
}

char *sl__pack_sums_format(const uint64_t *sums, size_t count)
{
    uint64_t bytes;
    if (!sl__mul_u64(&bytes, count, SL_PACK_SUM_DIGITS) || bytes >= SIZE_MAX) return NULL;
    char *digits = malloc((size_t)bytes + 1);
    if (!digits) return NULL;
    digits[0] = '\0';
    for (size_t i = 0; i < count; i++) sl__hash_format(sums[i], digits + i * SL_PACK_SUM_DIGITS);
    return digits;
}

bool sl__pack_file_name_ok(const char *name)
{
    size_t n = strlen(name);
    if (n == 0 || n > 200 || name[0] == '.') return false;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)name[i];
        if (c <= 0x20 || c >= 0x7f || c == '/' || c == '\\') return false;
    }
    static const char *const taken[] = {SL_PACK_MANIFEST, SL_PACK_JOURNAL};
    for (size_t i = 0; i < sizeof taken / sizeof taken[0]; i++) {
        if (strcmp(name, taken[i]) == 0) return false;
    }
    return n < 4 || strcmp(name + n - 4, ".tmp") != 0;
}
