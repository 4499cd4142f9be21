/* Where weights lie: checkpoints and packs behind the same calls, and every damage noticed. */
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "pack_fixture.h"
#include "st_writer.h"
#include "store/store.h"
#include "store_case.h"
#include "test_env.h"

static sl__store *open_store(const char *path)
{
    sl__store *s = NULL;
    sl_error err = {0};
    case_must(sl__store_open(&s, path, &err), &err);
    return s;
}

static void refuse_store(const char *path, sl_status status, const char *text, const char *more)
{
    sl__store *s = NULL;
    sl_error err = {0};
    case_expect_clear(sl__store_open(&s, path, &err), &err, status, text, more, NULL);
    assert_null(s);
}

static void write_text(const char *path, const char *text)
{
    test_write_file(path, text, strlen(text));
}

static int open_descriptors(void)
{
    DIR *dir = opendir("/dev/fd");
    int n = 0;
    assert_non_null(dir);
    while (readdir(dir)) n++;
    closedir(dir);
    return n;
}

static uint64_t draw(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return *seed >> 33;
}

static uint8_t *random_bytes(uint64_t *seed, size_t n)
{
    uint8_t *data = malloc(n + 1);
    assert_non_null(data);
    for (size_t i = 0; i < n; i++) data[i] = (uint8_t)draw(seed);
    return data;
}

/* ---- checkpoints ----------------------------------------------------------------------------- */

/* One file with a norm, and fused experts [E, 2I, H], [E, H, I] in bf16. Returns both matrices'
 * bytes, malloc'd. */
static void write_fused(uint32_t experts, uint32_t inner, uint32_t hidden, uint64_t seed,
                        uint8_t **gate_up, uint8_t **down)
{
    st_writer *w = st_writer_create();
    const float norm[] = {1, 2, 3};
    size_t n = (size_t)experts * inner * hidden;
    *gate_up = random_bytes(&seed, n * 4);
    *down = random_bytes(&seed, n * 2);
    st_writer_add_f32(w, "norm", 1, (uint64_t[]){3}, norm);
    st_writer_add(w, "gate_up", "BF16", 3, (uint64_t[]){experts, 2 * inner, hidden}, *gate_up,
                  n * 4);
    st_writer_add(w, "down", "BF16", 3, (uint64_t[]){experts, hidden, inner}, *down, n * 2);
    st_writer_save(w, case_path("model.safetensors"));
    st_writer_destroy(w);
    write_text(case_path("config.json"), "{\"model_type\":\"tiny\",\"hidden_size\":7}");
}

/* The pieces of fused experts, malloc'd. */
static sl__expert_piece *fused_pieces(const sl__store *s, uint32_t experts, uint32_t inner,
                                      uint32_t hidden)
{
    sl__expert_piece *pieces = calloc((size_t)experts * SL_PART_COUNT, sizeof *pieces);
    for (uint32_t e = 0; e < experts; e++) {
        sl__expert_piece *p = &pieces[e * SL_PART_COUNT];
        p[SL_PART_GATE].tensor = p[SL_PART_UP].tensor = sl__store_find(s, "gate_up");
        p[SL_PART_GATE].first_row = (uint64_t)e * 2 * inner;
        p[SL_PART_UP].first_row = (uint64_t)e * 2 * inner + inner;
        p[SL_PART_DOWN].tensor = sl__store_find(s, "down");
        p[SL_PART_DOWN].first_row = (uint64_t)e * hidden;
    }
    return pieces;
}

/* Reads a record as the cache would. Spare bytes stay 0xa5. malloc'd. */
static uint8_t *read_record(const sl__store *s, uint32_t layer, uint32_t expert, uint32_t *reads)
{
    sl__extent x[SL_EXPERT_EXTENTS_MAX];
    const sl__expert_layout *l = sl__store_expert_layout(s, layer);
    assert_non_null(l);
    uint32_t n = sl__store_expert_extents(s, layer, expert, x);
    assert_true(n > 0);
    uint8_t *record = malloc(l->record_bytes);
    memset(record, 0xa5, l->record_bytes);
    sl_error err = {0};
    for (uint32_t i = 0; i < n; i++) {
        assert_true(x[i].dst + x[i].bytes <= l->record_bytes);
        case_must(sl__file_pread_all(sl__store_fd(s, x[i].file), sl__store_file_path(s, x[i].file),
                                record + x[i].dst, x[i].bytes, x[i].offset, &err), &err);
    }
    if (reads) *reads = n;
    return record;
}

static void check_fused(uint32_t experts, uint32_t inner, uint32_t hidden, uint64_t seed)
{
    uint8_t *gate_up, *down;
    write_fused(experts, inner, hidden, seed, &gate_up, &down);
    sl__store *s = open_store(case_temp);
    sl__expert_piece *pieces = fused_pieces(s, experts, inner, hidden);
    const uint32_t rows[] = {inner, inner, hidden}, cols[] = {hidden, hidden, inner};
    sl_error err = {0};
    case_must(sl__store_bind_experts(s, 3, experts, rows, cols, pieces, &err), &err);
    const sl__expert_layout *l = sl__store_expert_layout(s, 3);
    size_t part = (size_t)inner * hidden * 2;
    for (uint32_t e = 0; e < experts; e++) {
        uint32_t reads;
        uint8_t *record = read_record(s, 3, e, &reads);
        /* The down matrix of a single expert follows as well. */
        assert_int_equal(reads, part % 64 != 0 ? 3 : experts == 1 ? 1 : 2);
        assert_memory_equal(record + l->part[0].offset, gate_up + e * 2 * part, part);
        assert_memory_equal(record + l->part[1].offset, gate_up + (e * 2 + 1) * part, part);
        assert_memory_equal(record + l->part[2].offset, down + e * part, part);
        case_must(sl__store_verify_record(s, 3, e, record, SL_VERIFY_ALL, &err), &err);
        free(record);
    }
    free(pieces);
    free(gate_up);
    free(down);
    sl__store_close(s);
}

static void fused_experts_need_two_reads_where_they_adjoin(void **state)
{
    (void)state;
    uint64_t seed = 3;
    check_fused(3, 8, 8, 1);  /* 128 bytes a part: gate and up are one read */
    check_fused(2, 5, 7, 2);  /* 70 bytes: three */
    check_fused(1, 32, 1, 4);
    for (int i = 0; i < 60; i++) {
        uint32_t experts = (uint32_t)(draw(&seed) % 5 + 1);
        uint32_t inner = (uint32_t)(draw(&seed) % 40 + 1);
        check_fused(experts, inner, (uint32_t)(draw(&seed) % 40 + 1), draw(&seed));
    }
}

/* Expert by expert, spread over two shards, each part of a type of its own. */
static void separate_experts_need_three_reads(void **state)
{
    (void)state;
    static const char *const parts[] = {"gate", "up", "down"};
    static const char *const types[] = {"F32", "F16", "BF16"};
    static const char *const files[] = {"a.safetensors", "b.safetensors"};
    const uint64_t shapes[][2] = {{4, 3}, {4, 3}, {3, 4}};
    const size_t bytes[] = {48, 24, 24};
    st_writer *w[] = {st_writer_create(), st_writer_create()};
    uint8_t *data[2][3];
    uint64_t seed = 5;
    for (uint32_t e = 0; e < 2; e++) {
        for (uint32_t p = 0; p < 3; p++) {
            char name[32];
            snprintf(name, sizeof name, "e%u.%s", e, parts[p]);
            data[e][p] = random_bytes(&seed, bytes[p]);
            st_writer_add(w[(e + p) % 2], name, types[p], 2, shapes[p], data[e][p], bytes[p]);
        }
    }
    st_writer_save_sharded(w, files, 2, case_temp);
    write_text(case_path("config.json"), "{}");
    sl__store *s = open_store(case_temp);
    assert_int_equal(sl__store_file_count(s), 2);
    sl__expert_piece pieces[2][SL_PART_COUNT] = {0};
    for (uint32_t e = 0; e < 2; e++) {
        for (uint32_t p = 0; p < 3; p++) {
            char name[32];
            snprintf(name, sizeof name, "e%u.%s", e, parts[p]);
            pieces[e][p].tensor = sl__store_find(s, name);
            assert_non_null(pieces[e][p].tensor);
        }
    }
    sl_error err = {0};
    const uint32_t rows[] = {4, 4, 3}, cols[] = {3, 3, 4};
    case_must(sl__store_bind_experts(s, 0, 2, rows, cols, pieces[0], &err), &err);
    case_must(sl__store_bind_experts(s, 0, 2, rows, cols, pieces[0], &err),
              &err); /* again: the same */
    const sl__expert_layout *l = sl__store_expert_layout(s, 0);
    assert_int_equal(l->record_bytes, 3 * 64);
    assert_int_equal(l->part[1].dtype, SL_F16);
    for (uint32_t e = 0; e < 2; e++) {
        uint32_t reads;
        uint8_t *record = read_record(s, 0, e, &reads);
        assert_int_equal(reads, 3);
        for (uint32_t p = 0; p < 3; p++) {
            assert_memory_equal(record + l->part[p].offset, data[e][p], bytes[p]);
            free(data[e][p]);
        }
        free(record);
        st_writer_destroy(w[e]);
    }
    sl__extent x[SL_EXPERT_EXTENTS_MAX];
    assert_int_equal(sl__store_expert_extents(s, 0, 2, x), 0);
    assert_int_equal(sl__store_expert_extents(s, 1, 0, x), 0);
    assert_null(sl__store_expert_layout(s, 1));
    sl__store_close(s);
}

static void bindings_are_checked(void **state)
{
    (void)state;
    st_writer *w = st_writer_create();
    st_writer_add(w, "fused", "BF16", 3, (uint64_t[]){2, 8, 6}, NULL, 192);
    st_writer_add(w, "down", "BF16", 3, (uint64_t[]){2, 6, 4}, NULL, 96);
    st_writer_add(w, "down32", "F32", 3, (uint64_t[]){2, 6, 4}, NULL, 192);
    st_writer_add(w, "ints", "I32", 3, (uint64_t[]){2, 6, 4}, NULL, 192);
    st_writer_add(w, "flat", "BF16", 1, (uint64_t[]){4}, NULL, 8);
    st_writer_save(w, case_path("model.safetensors"));
    st_writer_destroy(w);
    write_text(case_path("config.json"), "{}");
    sl__store *s = open_store(case_temp);
    const sl__tensor *fused = sl__store_find(s, "fused"), *down = sl__store_find(s, "down");
    const sl__expert_piece right[2][SL_PART_COUNT] = {
        {{.tensor = fused}, {.tensor = fused, .first_row = 4}, {.tensor = down}},
        {{.tensor = fused, .first_row = 8},
         {.tensor = fused, .first_row = 12},
         {.tensor = down, .first_row = 6}}};
    uint32_t rows[] = {4, 4, 6}, cols[] = {6, 6, 4};
    sl__expert_piece p[2][SL_PART_COUNT];
    sl_error err = {0};
#define REFUSED(status, ...)                                                                       \
    do {                                                                                           \
        case_expect_clear(sl__store_bind_experts(s, 1, 2, rows, cols, p[0], &err), &err, status,   \
                          "model.safetensors", __VA_ARGS__, NULL);                                 \
        assert_null(sl__store_expert_layout(s, 1));                                                \
        memcpy(p, right, sizeof p);                                                                \
    } while (0)
    memcpy(p, right, sizeof p);
    p[1][1].first_row = 13;
    REFUSED(SL_EFORMAT, "tensor fused: 16 rows; an expert would be at rows 13 to 17");
    p[1][2].first_row = UINT64_MAX - 2;
    REFUSED(SL_EFORMAT, "tensor down: 12 rows");
    p[1][2].tensor = sl__store_find(s, "down32");
    REFUSED(SL_EFORMAT, "tensor down32: f32 where other experts have bf16");
    p[0][2].tensor = sl__store_find(s, "ints");
    REFUSED(SL_EUNSUPPORTED, "tensor ints: i32 is no type of expert weights");
    p[1][2].tensor = sl__store_find(s, "flat");
    REFUSED(SL_EFORMAT, "tensor flat: the last of 1 dimensions is 4; expected 4");
    p[0][0].tensor = down;
    REFUSED(SL_EFORMAT, "tensor down: the last of 3 dimensions is 4; expected 6");
    cols[2] = 5;
    REFUSED(SL_EFORMAT, "tensor down", "expected 5");
    cols[2] = 4;
    rows[2] = 13;
    REFUSED(SL_EFORMAT, "tensor down: 12 rows");
    rows[2] = UINT32_MAX;
    REFUSED(SL_EFORMAT, "tensor down: 12 rows");
    rows[2] = 6;
#undef REFUSED
    case_expect_clear(sl__store_bind_experts(s, 1, 0, rows, cols, p[0], &err), &err, SL_EINVAL,
                 "layer 1: no experts", NULL);
    case_expect_clear(sl__store_bind_experts(s, 4096, 2, rows, cols, p[0], &err), &err, SL_EINVAL,
                 "layer 4096 is beyond the limit", NULL);
    uint64_t before = sl__store_footprint(s);
    case_must(sl__store_bind_experts(s, 1, 2, rows, cols, p[0], &err), &err);
    assert_true(sl__store_footprint(s) > before);
    sl__store_close(s);
}

static void tensors_of_a_checkpoint(void **state)
{
    (void)state;
    uint8_t *gate_up, *down;
    write_fused(2, 3, 5, 9, &gate_up, &down);
    int before = open_descriptors();
    sl__store *s = open_store(case_temp);
    assert_int_equal(open_descriptors(), before + 1);
    assert_true((fcntl(sl__store_fd(s, 0), F_GETFD) & FD_CLOEXEC) != 0);
    assert_int_equal(fcntl(sl__store_fd(s, 0), F_GETFL) & O_ACCMODE, O_RDONLY);
    assert_false(sl__store_is_pack(s));
    assert_string_equal(sl__store_path(s), case_temp);
    assert_string_equal(sl__store_folder(s), case_temp);
    assert_string_equal(sl__store_file_path(s, 0), case_path("model.safetensors"));
    assert_int_equal(sl__store_tensor_count(s), 3);
    assert_string_equal(sl__store_tensor_at(s, 0)->name, "down");
    assert_string_equal(sl__store_tensor_at(s, 2)->name, "norm");
    assert_null(sl__store_find(s, "nor"));
    assert_null(sl__store_find(s, "normal"));
    assert_null(sl__store_find(s, ""));
    const sl__tensor *t = sl__store_find(s, "norm");
    assert_int_equal(t->dims, 1);
    assert_int_equal(t->shape[0], 3);
    float norm[3];
    char buffer[5];
    sl_error err = {0};
    case_must(sl__store_read_tensor(s, t, norm, &err), &err);
    assert_true(norm[0] == 1 && norm[1] == 2 && norm[2] == 3);
    case_must(sl__store_check_tensor(s, t, buffer, sizeof buffer, &err), &err); /* has none */
    uint32_t hidden;
    case_must(sl__config_u32(sl__store_config(s), "hidden_size", 1, 100, &hidden, &err), &err);
    assert_int_equal(hidden, 7);
    assert_true(sl__store_footprint(s) > 1000);
    /* A file that is cut off after opening is an error at reading, too. */
    assert_int_equal(truncate(case_path("model.safetensors"), 100), 0);
    case_expect_clear(sl__store_read_tensor(s, t, norm, &err), &err, SL_EFORMAT,
                 "model.safetensors: the file ends early", NULL);
    sl__store_close(s);
    assert_int_equal(open_descriptors(), before);
    sl__store_close(NULL);
    free(gate_up);
    free(down);
}

static void one_file_may_be_named(void **state)
{
    (void)state;
    uint8_t *gate_up, *down;
    write_fused(1, 3, 5, 9, &gate_up, &down);
    assert_int_equal(rename(case_path("model.safetensors"), case_path("x.safetensors")), 0);
    sl__store *s = open_store(case_path("x.safetensors"));
    assert_string_equal(sl__store_folder(s), case_temp);
    assert_int_equal(sl__store_tensor_count(s), 3);
    sl__store_close(s);
    /* Relative, too. */
    char here[2048];
    assert_non_null(getcwd(here, sizeof here));
    assert_int_equal(chdir(case_temp), 0);
    s = open_store("x.safetensors");
    assert_string_equal(sl__store_folder(s), ".");
    sl__store_close(s);
    assert_int_equal(chdir(here), 0);
    free(gate_up);
    free(down);
}

static void what_a_folder_must_hold(void **state)
{
    (void)state;
    refuse_store(case_path("none"), SL_EIO, "none: No such file or directory", "");
    refuse_store("", SL_EINVAL, "no path of a model", "");
    refuse_store(case_temp, SL_EFORMAT, case_temp,
                 ": no model here: expected manifest.json, model.safetensors or "
                 "model.safetensors.index.json");
    uint8_t *gate_up, *down;
    write_fused(1, 3, 5, 9, &gate_up, &down);
    free(gate_up);
    free(down);
    unlink(case_path("config.json"));
    refuse_store(case_temp, SL_EFORMAT, case_path("config.json"), "needed beside the weights");
    write_text(case_path("config.json"), "{");
    refuse_store(case_temp, SL_EFORMAT, case_path("config.json"), "");
    write_text(case_path("config.json"), "{}");
    write_text(case_path("generation_config.json"), "[1]");
    refuse_store(case_temp, SL_EFORMAT, case_path("generation_config.json"), "expected an object");
    write_text(case_path("generation_config.json"), "{\"top_k\":20}");
    const char *path = NULL;
    char tokenizer[2048];
    sl__store *s = open_store(case_temp);
    const json_t *generation = sl__store_generation_config(s, &path);
    assert_int_equal(json_integer_value(json_object_get(generation, "top_k")), 20);
    assert_string_equal(path, case_path("generation_config.json"));
    assert_false(sl__store_tokenizer_path(s, tokenizer, sizeof tokenizer));
    write_text(case_path("tokenizer.json"), "{}");
    assert_true(sl__store_tokenizer_path(s, tokenizer, sizeof tokenizer));
    assert_string_equal(tokenizer, case_path("tokenizer.json"));
    write_text(case_path("tokenizer.bin"), "x");
    assert_true(sl__store_tokenizer_path(s, tokenizer, sizeof tokenizer));
    assert_string_equal(tokenizer, case_path("tokenizer.bin"));
    assert_false(sl__store_tokenizer_path(s, tokenizer, 10));
    sl__store_close(s);
    unlink(case_path("generation_config.json"));
    s = open_store(case_temp);
    assert_null(sl__store_generation_config(s, &path));
    assert_non_null(path);
    sl__store_close(s);
    assert_int_equal(truncate(case_path("model.safetensors"), 100), 0);
    int before = open_descriptors();
    refuse_store(case_temp, SL_EFORMAT, case_path("model.safetensors"), "");
    assert_int_equal(open_descriptors(), before);
}

static void too_many_files_is_a_clear_error(void **state)
{
    (void)state;
    pack_fixture_build(&case_fix, case_path("p"));
    int before = open_descriptors();
    struct rlimit was, low;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
    low = was;
    /* The listing itself held one, and two names are "." and "..": room for two of the files. */
    low.rlim_cur = (rlim_t)before - 3 + 2;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    sl__store *s = NULL;
    sl_error err = {0};
    sl_status status = sl__store_open(&s, case_path("p"), &err);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
    case_expect_clear(status, &err, SL_EIO, case_path("p"), "Too many open files", NULL);
    assert_int_equal(open_descriptors(), before);
}

/* ---- packs ----------------------------------------------------------------------------------- */

static void a_pack_gives_back_what_was_packed(void **state)
{
    (void)state;
    pack_fixture_build(&case_fix, case_path("p"));
    int before = open_descriptors();
    sl__store *s = open_store(case_path("p/"));
    sl_error err = {0};
    assert_true(sl__store_is_pack(s));
    assert_int_equal(sl__store_tensor_count(s), PACK_FIXTURE_TENSORS);
    for (size_t i = 0; i < PACK_FIXTURE_TENSORS; i++) {
        uint64_t bytes;
        uint8_t *expected = pack_fixture_tensor(&case_fix, i, &bytes), buffer[7];
        const sl__tensor *t = sl__store_find(s, case_fix.tensors[i].name);
        assert_non_null(t);
        uint8_t *got = malloc(bytes);
        case_must(sl__store_read_tensor(s, t, got, &err), &err);
        assert_memory_equal(got, expected, bytes);
        case_must(sl__store_check_tensor(s, t, buffer, sizeof buffer, &err), &err);
        free(got);
        free(expected);
    }
    for (size_t i = 0; i < PACK_FIXTURE_LAYERS; i++) {
        const sl__pack_layer_plan *l = &case_fix.layers[i];
        case_must(
            sl__store_bind_experts(s, l->layer, l->expert_count, l->rows, l->cols, NULL, &err),
            &err);
        const sl__expert_layout *layout = sl__store_expert_layout(s, l->layer);
        for (uint32_t e = 0; e < l->expert_count; e++) {
            uint32_t reads;
            uint8_t *got = read_record(s, l->layer, e, &reads);
            uint8_t *expected = pack_fixture_record(layout, l->layer, e);
            assert_int_equal(reads, 1);
            assert_memory_equal(got, expected, layout->record_bytes);
            sl__extent x[SL_EXPERT_EXTENTS_MAX];
            sl__store_expert_extents(s, l->layer, e, x);
            assert_int_equal(x[0].offset % 4096, 0);
            case_must(sl__store_verify_record(s, l->layer, e, got, SL_VERIFY_FIRST, &err), &err);
            free(got);
            free(expected);
        }
    }
    const char *path;
    char text[2048];
    const json_t *generation = sl__store_generation_config(s, &path);
    assert_true(json_equal((json_t *)generation, case_fix.generation));
    assert_non_null(strstr(path, "manifest.json"));
    assert_true(json_equal(sl__store_config(s)->root, case_fix.config));
    assert_non_null(sl__store_config(s)->text);
    assert_true(sl__store_tokenizer_path(s, text, sizeof text));
    assert_non_null(strstr(text, "/p/tokenizer.bin"));
    assert_true(sl__store_footprint(s) > 1000);
    sl__store_close(s);
    assert_int_equal(open_descriptors(), before);
}

/* Layer 2 of gate and up as one matrix, in a type whose scales lie apart. */
static void set_joined_mxfp4(void)
{
    case_fix.layers[1] = (sl__pack_layer_plan){
        .layer = 2, .expert_count = 2, .dtype = {SL_MXFP4, SL_MXFP4, SL_MXFP4}, .rows = {6, 0, 70},
        .cols = {70, 0, 33}};
}

static void records_may_have_planes_of_scales(void **state)
{
    (void)state;
    set_joined_mxfp4();
    pack_fixture_build(&case_fix, case_path("p"));
    sl__store *s = open_store(case_path("p"));
    sl_error err = {0};
    const sl__pack_layer_plan *plan = &case_fix.layers[1];
    case_must(sl__store_bind_experts(s, 2, 2, plan->rows, plan->cols, NULL, &err), &err);
    const sl__expert_layout *l = sl__store_expert_layout(s, 2);
    assert_true(l->part[0].row_bytes == 48 && l->part[0].scale_row_bytes == 3);
    assert_true(l->part[0].scales_offset == 320); /* 288, aligned */
    assert_true(l->part[1].rows == 0 && l->part[1].offset == 384);
    assert_true(l->part[2].offset == 384 && l->part[2].scales_offset == 384 + 2240);
    for (uint32_t e = 0; e < 2; e++) {
        uint8_t *got = read_record(s, 2, e, NULL), *expected = pack_fixture_record(l, 2, e);
        assert_memory_equal(got, expected, l->record_bytes);
        case_must(sl__store_verify_record(s, 2, e, got, SL_VERIFY_ALL, &err), &err);
        free(got);
        free(expected);
    }
    uint32_t rows[] = {3, 3, 70}, cols[] = {70, 70, 33};
    case_expect_clear(sl__store_bind_experts(s, 2, 2, rows, cols, NULL, &err), &err, SL_EFORMAT,
                 "layer 2: gate is 6 x 70; the configuration asks for 3 x 70", NULL);
    rows[0] = 6;
    case_expect_clear(sl__store_bind_experts(s, 2, 2, rows, cols, NULL, &err), &err, SL_EFORMAT,
                 "layer 2: up is 0 x 0; the configuration asks for 3 x 70", NULL);
    sl__store_close(s);
}

/* Checksums can be right and a scale NaN all the same: then the writer was wrong. */
static void a_nan_scale_in_a_pack_is_refused(void **state)
{
    (void)state;
    set_joined_mxfp4();
    sl__pack_writer *w = NULL;
    sl_error err = {0};
    case_must(sl__pack_writer_open(&w, case_path("p"), &case_fix.plan, &err), &err);
    case_must(sl__pack_writer_layer_begin(w, 2, &err), &err);
    const sl__expert_layout *l = sl__pack_writer_layout(w, 2);
    for (uint32_t e = 0; e < 2; e++) {
        uint8_t *record = pack_fixture_record(l, 2, e);
        if (e == 1) record[l->part[2].scales_offset + 139] = 255; /* the last */
        case_must(sl__pack_writer_record(w, 2, e, record, &err), &err);
        free(record);
    }
    case_must(sl__pack_writer_layer_end(w, 2, &err), &err);
    case_must(pack_fixture_finish(&case_fix, w, &err), &err);
    sl__pack_writer_close(w);
    sl__store *s = open_store(case_path("p"));
    for (uint32_t e = 0; e < 2; e++) {
        uint8_t *record = read_record(s, 2, e, NULL);
        case_must(sl__store_verify_record(s, 2, e, record, SL_VERIFY_NONE, &err), &err);
        for (int again = 0; again < 2; again++) {
            sl_status got = sl__store_verify_record(s, 2, e, record, SL_VERIFY_FIRST, &err);
            if (e == 0) case_must(got, &err);
            else case_expect_clear(got, &err, SL_ENUMERIC, "p/experts-002.bin: layer 2, expert 1: ",
                              "a scale of down is NaN", NULL);
        }
        free(record);
    }
    sl__store_close(s);
}

static void a_pack_of_other_shapes_is_refused(void **state)
{
    (void)state;
    pack_fixture_build(&case_fix, case_path("p"));
    sl__store *s = open_store(case_path("p"));
    sl_error err = {0};
    sl__pack_layer_plan l = case_fix.layers[1];
    case_expect_clear(sl__store_bind_experts(s, 1, 2, l.rows, l.cols, NULL, &err), &err, SL_EFORMAT,
                 case_path("p"), "layer 1: holds no experts", NULL);
    case_expect_clear(sl__store_bind_experts(s, 9, 2, l.rows, l.cols, NULL, &err), &err, SL_EFORMAT,
                 "layer 9: holds no experts", NULL);
    case_expect_clear(sl__store_bind_experts(s, 2, 3, l.rows, l.cols, NULL, &err), &err, SL_EFORMAT,
                 "layer 2: 2 experts; the configuration asks for 3", NULL);
    l.rows[1]++;
    case_expect_clear(sl__store_bind_experts(s, 2, 2, l.rows, l.cols, NULL, &err), &err, SL_EFORMAT,
                 "layer 2: up is 64 x 70; the configuration asks for 65 x 70", NULL);
    l.rows[1]--;
    l.cols[2]--;
    case_expect_clear(sl__store_bind_experts(s, 2, 2, l.rows, l.cols, NULL, &err), &err, SL_EFORMAT,
                 "layer 2: down is 70 x 64; the configuration asks for 70 x 63", NULL);
    sl__store_close(s);
}

static void flip_bit(const char *path, uint64_t bit)
{
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, (long)(bit / 8), SEEK_SET), 0);
    int c = fgetc(f);
    assert_int_equal(fseek(f, (long)(bit / 8), SEEK_SET), 0);
    fputc(c ^ (1 << (bit % 8)), f);
    assert_int_equal(fclose(f), 0);
}

static void every_flipped_bit_of_a_tensor_is_noticed(void **state)
{
    (void)state;
    pack_fixture_build(&case_fix, case_path("p"));
    sl__store *s = open_store(case_path("p"));
    sl_error err = {0};
    for (size_t i = 0; i < PACK_FIXTURE_TENSORS; i++) {
        const sl__tensor *t = sl__store_tensor_at(s, i);
        uint8_t *data = malloc(t->extent.bytes), buffer[16];
        char named[64];
        snprintf(named, sizeof named, "tensor %s: ", t->name);
        for (uint64_t bit = 0; bit < t->extent.bytes * 8; bit += t->extent.bytes > 100 ? 13 : 1) {
            flip_bit(case_path("p/resident.bin"), t->extent.offset * 8 + bit);
            case_expect_clear(sl__store_read_tensor(s, t, data, &err), &err, SL_ECORRUPT,
                         "p/resident.bin: ", named, NULL);
            case_expect_clear(sl__store_check_tensor(s, t, buffer, sizeof buffer, &err), &err,
                         SL_ECORRUPT, "p/resident.bin: ", named, NULL);
            flip_bit(case_path("p/resident.bin"), t->extent.offset * 8 + bit);
        }
        case_must(sl__store_read_tensor(s, t, data, &err), &err);
        free(data);
    }
    sl__store_close(s);
}

static void every_flipped_bit_of_a_record_is_noticed(void **state)
{
    (void)state;
    pack_fixture_build(&case_fix, case_path("p"));
    sl__store *s = open_store(case_path("p"));
    sl_error err = {0};
    const sl__expert_layout *l = sl__store_expert_layout(s, 0);
    for (uint32_t e = 0; e < 3; e++) {
        char named[64];
        snprintf(named, sizeof named, "layer 0, expert %u: ", e);
        for (uint64_t bit = 0; bit < l->record_bytes * 8; bit += 11) {
            flip_bit(case_path("p/experts-000.bin"), e * (uint64_t)4096 * 8 + bit);
            uint8_t *record = read_record(s, 0, e, NULL);
            case_expect_clear(sl__store_verify_record(s, 0, e, record, SL_VERIFY_FIRST, &err), &err,
                         SL_ECORRUPT, "p/experts-000.bin: ", named, NULL);
            free(record);
            flip_bit(case_path("p/experts-000.bin"), e * (uint64_t)4096 * 8 + bit);
        }
    }
    sl__store_close(s);
}

static void records_are_verified_as_the_rule_says(void **state)
{
    (void)state;
    pack_fixture_build(&case_fix, case_path("p"));
    sl__store *s = open_store(case_path("p"));
    sl_error err = {0};
    uint8_t *good = read_record(s, 2, 1, NULL), *bad = read_record(s, 2, 1, NULL);
    bad[100] ^= 1;
    case_must(sl__store_verify_record(s, 2, 1, bad, SL_VERIFY_NONE, &err), &err);
    case_expect_clear(sl__store_verify_record(s, 2, 1, bad, SL_VERIFY_FIRST, &err), &err,
                      SL_ECORRUPT, "layer 2, expert 1", NULL);
    case_expect_clear(sl__store_verify_record(s, 2, 1, bad, SL_VERIFY_FIRST, &err), &err,
                      SL_ECORRUPT, "layer 2, expert 1", NULL); /* a failure marks nothing */
    case_must(sl__store_verify_record(s, 2, 1, good, SL_VERIFY_FIRST, &err), &err);
    case_must(sl__store_verify_record(s, 2, 1, bad, SL_VERIFY_FIRST, &err), &err);
    case_expect_clear(sl__store_verify_record(s, 2, 1, bad, SL_VERIFY_ALL, &err), &err, SL_ECORRUPT,
                 "layer 2, expert 1", NULL);
    /* Another expert's bytes in its place are as wrong as random ones. */
    case_expect_clear(sl__store_verify_record(s, 2, 0, good, SL_VERIFY_FIRST, &err), &err,
                      SL_ECORRUPT, "layer 2, expert 0", NULL);
    free(good);
    free(bad);
    sl__store_close(s);
}

static void files_of_another_size_are_noticed_at_opening(void **state)
{
    (void)state;
    static const char *const names[] = {"resident.bin", "experts-000.bin", "experts-002.bin",
                                        "experts-005.bin", "tokenizer.bin"};
    pack_fixture_build(&case_fix, case_path("p"));
    int before = open_descriptors();
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char name[64];
        size_t size;
        snprintf(name, sizeof name, "p/%s", names[i]);
        char *data = test_read_file(case_path(name), &size);
        static const int changes[] = {-1, 1, -20};
        for (size_t c = 0; c < 3; c++) {
            assert_int_equal(truncate(case_path(name), (off_t)size + changes[c]), 0);
            refuse_store(case_path("p"), SL_EFORMAT, case_path(name), "bytes; expected");
        }
        unlink(case_path(name));
        refuse_store(case_path("p"), SL_EIO, case_path(name), "No such file or directory");
        assert_int_equal(mkdir(case_path(name), 0777), 0);
        refuse_store(case_path("p"), SL_EIO, case_path(name), "not a regular file");
        rmdir(case_path(name));
        test_write_file(case_path(name), data, size);
        free(data);
    }
    flip_bit(case_path("p/tokenizer.bin"), 5);
    refuse_store(case_path("p"), SL_ECORRUPT, case_path("p/tokenizer.bin"),
                 "differ from their checksum");
    flip_bit(case_path("p/tokenizer.bin"), 5);
    flip_bit(case_path("p/manifest.json"), 800);
    refuse_store(case_path("p"), SL_EFORMAT, case_path("p/manifest.json"), "");
    flip_bit(case_path("p/manifest.json"), 800);
    sl__store_close(open_store(case_path("p")));
    assert_int_equal(open_descriptors(), before);
}

/* ---- threads --------------------------------------------------------------------------------- */

struct verifier {
    sl__store *store;
    uint8_t *const *records;
    uint32_t count;
    bool failed;
};

static void *verify_all(void *arg)
{
    struct verifier *v = arg;
    for (uint32_t round = 0; round < 20; round++) {
        for (uint32_t e = 0; e < v->count; e++) {
            sl_error err = {0};
            if (sl__store_verify_record(v->store, 0, e, v->records[e], SL_VERIFY_FIRST, &err)) {
                v->failed = true;
            }
        }
    }
    return NULL;
}

static void records_may_be_verified_by_many_threads(void **state)
{
    (void)state;
    enum { EXPERTS = 130, THREADS = 4 };
    case_fix.plan.layer_count = 1;
    case_fix.layers[0].expert_count = EXPERTS;
    pack_fixture_build(&case_fix, case_path("p"));
    sl__store *s = open_store(case_path("p"));
    uint8_t *records[EXPERTS];
    for (uint32_t e = 0; e < EXPERTS; e++) records[e] = read_record(s, 0, e, NULL);
    pthread_t threads[THREADS];
    struct verifier v[THREADS];
    for (int i = 0; i < THREADS; i++) {
        v[i] = (struct verifier){s, records, EXPERTS, false};
        assert_int_equal(pthread_create(&threads[i], NULL, verify_all, &v[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_false(v[i].failed);
    }
    /* Every record carries its own mark now. */
    for (uint32_t e = 0; e < EXPERTS; e++) {
        sl_error err = {0};
        records[e][0] ^= 1;
        case_must(sl__store_verify_record(s, 0, e, records[e], SL_VERIFY_FIRST, &err), &err);
        free(records[e]);
    }
    sl__store_close(s);
}

#define WITH_TEMP(test) cmocka_unit_test_setup_teardown(test, case_begin, case_end)

/* ---- descriptors past the page cache --------------------------------------------------------- */

static void a_direct_descriptor_is_of_the_same_file(void **state)
{
    (void)state;
    uint8_t *gate_up, *down;
    write_fused(2, 4, 8, 5, &gate_up, &down);
    int there = sl__file_open_direct(case_path("model.safetensors"));
    sl__store *s = open_store(case_temp);
    assert_int_equal(sl__store_file_count(s), 1);
    struct stat st, direct;
    assert_int_equal(fstat(sl__store_fd(s, 0), &st), 0);
    assert_int_equal(sl__store_file_bytes(s, 0), st.st_size);
    int fd = sl__store_direct_fd(s, 0);
    assert_int_equal(fd >= 0, there >= 0);
    if (fd >= 0) {
        assert_int_equal(fstat(fd, &direct), 0);
        assert_int_equal(direct.st_ino, st.st_ino);
    }
    assert_int_equal(sl__store_direct_fd(s, 0), fd); /* the same again */
    sl__store_close(s);
    if (fd >= 0) assert_int_equal(fcntl(fd, F_GETFD), -1);

    /* Another file under the name, or more in the same: neither was checked. */
    s = open_store(case_temp);
    char other[SL_PATH_MAX];
    snprintf(other, sizeof other, "%s", case_path("other"));
    size_t size;
    char *data = test_read_file(case_path("model.safetensors"), &size);
    test_write_file(other, data, size);
    assert_int_equal(rename(other, case_path("model.safetensors")), 0);
    assert_int_equal(sl__store_direct_fd(s, 0), -1);
    sl__store_close(s);
    s = open_store(case_temp);
    assert_int_equal(unlink(case_path("model.safetensors")), 0);
    assert_int_equal(sl__store_direct_fd(s, 0), -1);
    test_write_file(case_path("model.safetensors"), data, size);
    assert_int_equal(sl__store_direct_fd(s, 0), -1); /* is remembered */
    sl__store_close(s);
    if (there >= 0) close(there);
    free(data);
    free(gate_up);
    free(down);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_TEMP(fused_experts_need_two_reads_where_they_adjoin),
        WITH_TEMP(separate_experts_need_three_reads),
        WITH_TEMP(bindings_are_checked),
        WITH_TEMP(tensors_of_a_checkpoint),
        WITH_TEMP(one_file_may_be_named),
        WITH_TEMP(what_a_folder_must_hold),
        WITH_TEMP(too_many_files_is_a_clear_error),
        WITH_TEMP(a_pack_gives_back_what_was_packed),
        WITH_TEMP(records_may_have_planes_of_scales),
        WITH_TEMP(a_nan_scale_in_a_pack_is_refused),
        WITH_TEMP(a_pack_of_other_shapes_is_refused),
        WITH_TEMP(every_flipped_bit_of_a_tensor_is_noticed),
        WITH_TEMP(every_flipped_bit_of_a_record_is_noticed),
        WITH_TEMP(records_are_verified_as_the_rule_says),
        WITH_TEMP(files_of_another_size_are_noticed_at_opening),
        WITH_TEMP(records_may_be_verified_by_many_threads),
        WITH_TEMP(a_direct_descriptor_is_of_the_same_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
