/* Matrices whose scales lie in tensors of their own: planes are found, and it is found out what the
 * codes are.
 *
 *     join    at opening: NAME#scales and NAME#biases are tied to NAME; floats of 8 bits and MXFP4
 *             are known for what they are (with a scale a row, or for a block), and all is checked
 *     settle  when the model says how many weights `cols` a row has:
 *                 MLX                 words of 32 bits a row      bits  = 32 · words / cols
 *                                     scales a row                group = cols / scales
 *                 compressed-tensors  likewise; 1 scale: the row is the group
 */
#include <stdio.h>
#include <string.h>

#include "base/checked.h"
#include "base/fail.h"
#include "store/pack_layout.h"
#include "store/store_names.h"

#define F8_BLOCK 128u /* rows and columns to a scale, where the configuration does not say */

/* ---- shapes ---------------------------------------------------------------------------------- */

const char *sl__tensor_show_shape(const sl__tensor *tensor, char *out, size_t size)
{
    size_t n = (size_t)snprintf(out, size, "[");
    for (uint32_t i = 0; i < tensor->dims && n < size; i++) {
        n += (size_t)snprintf(out + n, size - n, "%s%llu", i ? ", " : "",
                              (unsigned long long)tensor->shape[i]);
    }
    if (n < size) snprintf(out + n, size - n, "]");
    return out;
}

static uint64_t rows_of(const sl__tensor *t)
{
    return t->dims >= 2 ? t->shape[t->dims - 2] : 1;
}

static uint64_t cols_of(const sl__tensor *t)
{
    return t->dims >= 1 ? t->shape[t->dims - 1] : 1;
}

/* As the file calls it. */
static const char *shown(const sl__tensor *t)
{
    return t->stored ? t->stored : t->name;
}

uint64_t sl__tensor_all_bytes(const sl__tensor *tensor)
{
    uint64_t bytes = tensor->extent.bytes; /* all lie in files: no overflow */
    if (tensor->scales) bytes += tensor->scales->extent.bytes;
    if (tensor->biases) bytes += tensor->biases->extent.bytes;
    return bytes;
}

uint64_t sl__tensor_plane_row(const sl__tensor *tensor, uint64_t row, uint32_t *first)
{
    uint64_t rows = rows_of(tensor), matrix = row / rows, in_matrix = row % rows;
    *first = (uint32_t)(in_matrix % tensor->scaling.group_rows);
    return matrix * sl__scaling_rows(&tensor->scaling, rows) +
           in_matrix / tensor->scaling.group_rows;
}

/* A plane has the dimensions of its matrix, but the last two are as many as there are groups. */
static sl_status check_plane(const sl__store *s, const sl__tensor *t, const sl__tensor *plane,
                             sl_error *err)
{
    uint64_t rows = sl__scaling_rows(&t->scaling, rows_of(t));
    uint64_t cols = sl__scaling_cols(&t->scaling, cols_of(t));
    bool same = plane->dims == t->dims && t->dims >= 2 && rows_of(plane) == rows &&
                cols_of(plane) == cols;
    for (uint32_t d = 0; same && d + 2 < t->dims; d++)
        same = plane->shape[d] == t->shape[d];
    char shape[128];
    if (!same) {
        return SL_FAIL(err, SL_EFORMAT, "%s: tensor %s: shape %s; %s asks for %llu x %llu a matrix",
                       sl__store_file_path(s, plane->extent.file), shown(plane),
                       sl__tensor_show_shape(plane, shape, sizeof shape), shown(t),
                       (unsigned long long)rows, (unsigned long long)cols);
    }
    bool e8m0 = t->scaling.type == SL_F8_E8M0 && plane->dtype == SL_U8;
    if (plane->dtype == t->scaling.type || e8m0) return SL_OK;
    return SL_FAIL(err, SL_EUNSUPPORTED, "%s: tensor %s: type %s where %s has %s",
                   sl__store_file_path(s, plane->extent.file), shown(plane),
                   sl__dtype_name(plane->dtype), shown(t), sl__dtype_name(t->scaling.type));
}

/* The tensor with its type and groups known. */
static sl_status check_planes(const sl__store *s, const sl__tensor *t, sl_error *err)
{
    const char *path = sl__store_file_path(s, t->extent.file);
    if (!sl__scaling_fits(t->dtype, &t->scaling)) {
        return SL_FAIL(err, SL_EUNSUPPORTED,
                       "%s: tensor %s: %s with %s for %u columns of %u rows is not supported", path,
                       shown(t), sl__dtype_name(t->dtype), sl__dtype_name(t->scaling.type),
                       t->scaling.group, t->scaling.group_rows);
    }
    if (t->scaling.biases != (t->biases != NULL)) {
        return SL_FAIL(err, SL_EFORMAT, "%s: tensor %s: its biases are %s", path, shown(t),
                       t->biases ? "too many" : "missing");
    }
    SL_TRY(check_plane(s, t, t->scales, err));
    return t->biases ? check_plane(s, t, t->biases, err) : SL_OK;
}

/* ---- join ------------------------------------------------------------------------------------ */

/* The side of a block of floats of 8 bits, as the configuration has it. */
static sl_status block_side(const sl__store *s, size_t which, uint32_t *side, sl_error *err)
{
    static const char key[] = "quantization_config.weight_block_size";
    const json_t *size = sl__config_find(&s->config, key);
    *side = F8_BLOCK;
    if (!size) return SL_OK;
    const json_t *number = json_array_get(size, which);
    json_int_t n = json_integer_value(number);
    if (json_array_size(size) == 2 && n >= 16 && n <= 65536 && (n & (n - 1)) == 0) {
        *side = (uint32_t)n;
        return SL_OK;
    }
    return SL_FAIL(err, SL_EUNSUPPORTED, "%s: %s: expected two powers of 2 from 16 to 65536",
                   s->config.path, key);
}

/* One scale makes the row the group. */
static uint32_t row_group(uint64_t cols)
{
    uint32_t group = 16;
    while (group < cols && group < 1u << 31)
        group *= 2;
    return group;
}

static sl_status join_f8(const sl__store *s, sl__tensor *t, sl_error *err)
{
    bool a_row = cols_of(t->scales) == 1 && rows_of(t->scales) == rows_of(t);
    t->scaling = (sl__scaling){.type = t->scales->dtype, .group_rows = 1};
    if (s->flavour == SL_FLAVOUR_COMPRESSED && a_row) {
        t->scaling.group = row_group(cols_of(t));
        return check_planes(s, t, err);
    }
    SL_TRY(block_side(s, 0, &t->scaling.group_rows, err));
    SL_TRY(block_side(s, 1, &t->scaling.group, err));
    return check_planes(s, t, err);
}

/* u8 [.., rows, cols/32, 16] becomes [.., rows, cols]. */
static sl_status join_mxfp4(const sl__store *s, sl__tensor *t, sl_error *err)
{
    t->dtype = SL_MXFP4;
    t->scaling = sl__dtype_scaling(SL_MXFP4);
    t->dims--;
    t->shape[t->dims - 1] *= SL_MX_GROUP; /* 16 bytes of each lie in a file: no overflow */
    return check_planes(s, t, err);
}

static sl_status join(const sl__store *s, sl__tensor *t, sl_error *err)
{
    size_t all = strlen(t->name);
    t->scales = sl__name_sibling(s, t->name, all, SL_PLANE_SCALES);
    t->biases = sl__name_sibling(s, t->name, all, SL_PLANE_BIASES);
    if (sl__store_is_pack(s) && sl__dtype_has_planes(t->dtype)) {
        if (t->scales) return check_planes(s, t, err);
        return SL_FAIL(err, SL_EFORMAT, "%s: tensor %s" SL_PLANE_SCALES " is missing", s->path,
                       t->name);
    }
    if (!t->scales) return SL_OK; /* refused when it is used */
    if (t->dtype == SL_F8_E4M3) return join_f8(s, t, err);
    bool blocks = t->dtype == SL_U8 && t->dims >= 3 && cols_of(t) == SL_MX_GROUP / 2;
    return blocks ? join_mxfp4(s, t, err) : SL_OK;
}

sl_status sl__store_join_planes(sl__store *store, sl_error *err)
{
    for (size_t i = 0; i < store->tensor_count; i++) {
        sl__tensor *t = &store->tensors[i];
        bool packed = t->dtype == SL_U32 || t->dtype == SL_I32 || t->dtype == SL_U8;
        if (packed || sl__dtype_has_planes(t->dtype)) SL_TRY(join(store, t, err));
    }
    return SL_OK;
}

/* ---- settle ---------------------------------------------------------------------------------- */

static bool affine_of(uint64_t bits, sl__dtype *out)
{
    for (sl__dtype type = SL_AFFINE2; type <= SL_AFFINE8; type++) {
        if (sl__dtype_affine_bits(type) != bits) continue;
        *out = type;
        return true;
    }
    return false;
}

static sl_status no_such_rows(const sl__store *s, const sl__tensor *t, uint64_t cols, sl_error *err)
{
    return SL_FAIL(err, SL_EFORMAT,
                   "%s: tensor %s: %llu words and %llu scales a row make no %llu weights",
                   sl__store_file_path(s, t->extent.file), shown(t),
                   (unsigned long long)cols_of(t), (unsigned long long)cols_of(t->scales),
                   (unsigned long long)cols);
}

static bool is_power_of_2(uint64_t n)
{
    return n > 0 && (n & (n - 1)) == 0;
}

/* Scales of 8 bits: MXFP4 has 32 weights to one, and 8 words for 64; others are told apart. */
static sl_status settle_fp4(const sl__store *s, sl__tensor *t, uint64_t bits, uint64_t group,
                            sl_error *err)
{
    t->scaling = sl__dtype_scaling(SL_MXFP4);
    t->dtype = SL_MXFP4;
    if (bits == 4 && group == SL_MX_GROUP) return SL_OK;
    return SL_FAIL(err, SL_EUNSUPPORTED, "%s: tensor %s: %s is not supported",
                   sl__store_file_path(s, t->extent.file), shown(t),
                   bits == 8 ? "mxfp8" : "nvfp4");
}

static sl_status settle_mlx(const sl__store *s, sl__tensor *t, uint64_t cols, sl_error *err)
{
    uint64_t words = cols_of(t), scales = cols_of(t->scales);
    if (scales == 0 || 32 * words % cols != 0 || cols % scales != 0) {
        return no_such_rows(s, t, cols, err);
    }
    uint64_t bits = 32 * words / cols, group = cols / scales;
    bool bytes = t->scales->dtype == SL_U8 || t->scales->dtype == SL_F8_E8M0;
    sl__dtype type = SL_U32;
    if (!bytes && (!affine_of(bits, &type) || !is_power_of_2(group) || group < 16)) {
        return no_such_rows(s, t, cols, err);
    }
    SL_TRY(sl__mlx_check_config(s, t, (uint32_t)bits, group, err));
    t->shape[t->dims - 1] = cols;
    if (bytes) return settle_fp4(s, t, bits, group, err);
    t->dtype = type;
    t->scaling = (sl__scaling){.type = t->scales->dtype, .group = (uint32_t)group, .group_rows = 1,
                               .biases = true};
    return SL_OK;
}

static sl_status settle_compressed(const sl__store *s, sl__tensor *t, uint64_t cols, sl_error *err)
{
    uint64_t words = cols_of(t), scales = cols_of(t->scales), group;
    sl__dtype type = SL_I32;
    if (scales == 0 || cols % 8 != 0 || 32 * words % cols != 0 ||
        !affine_of(32 * words / cols, &type) || (type != SL_AFFINE4 && type != SL_AFFINE8) ||
        (scales > 1 && cols % scales != 0)) {
        return no_such_rows(s, t, cols, err);
    }
    group = scales > 1 ? cols / scales : row_group(cols);
    if (!is_power_of_2(group) || group < 16) return no_such_rows(s, t, cols, err);
    t->shape[t->dims - 1] = cols;
    t->dtype = type;
    t->scaling = (sl__scaling){.type = t->scales->dtype, .group = (uint32_t)group, .group_rows = 1};
    return SL_OK;
}

/* The matrix's file has the codes; its scales are not where they belong. */
static sl_status scales_missing(const sl__store *s, const sl__tensor *t, sl_error *err)
{
    const char *stored = shown(t), *tail = ".scales";
    size_t stem = strlen(stored);
    if (t->dtype == SL_F8_E4M3) {
        tail = sl__f8_tail(s);
    } else if (t->dtype == SL_I32) {
        tail = "_scale";
        (void)sl__name_ends(stored, "_packed", &stem);
    } else {
        (void)sl__name_ends(stored, ".weight", &stem);
    }
    return SL_FAIL(err, SL_EFORMAT, "%s: tensor %.*s%s is missing",
                   sl__store_file_path(s, t->extent.file), (int)stem, stored, tail);
}

sl_status sl__store_settle(sl__store *store, const char *name, uint64_t cols, sl_error *err)
{
    sl__tensor *t = (sl__tensor *)sl__store_find(store, name);
    if (!t || cols == 0 || cols > INT32_MAX || sl__store_is_pack(store)) return SL_OK;
    bool mlx = t->dtype == SL_U32 && store->flavour == SL_FLAVOUR_MLX;
    bool compressed = t->dtype == SL_I32 && store->flavour == SL_FLAVOUR_COMPRESSED;
    if (!mlx && !compressed && t->dtype != SL_F8_E4M3) return SL_OK;
    if (!t->scales) return scales_missing(store, t, err);
    if (t->dtype == SL_F8_E4M3) return SL_OK;
    if (t->dims < 2) return no_such_rows(store, t, cols, err);
    if (mlx) SL_TRY(settle_mlx(store, t, cols, err));
    else SL_TRY(settle_compressed(store, t, cols, err));
    return check_planes(store, t, err);
}
