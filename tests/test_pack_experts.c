/* Packing experts that a checkpoint stores otherwise than a pack: transposed, with gate and up
 * interleaved, as MXFP4. No family of the tiny checkpoint is like that, so the test describes it
 * through one of its own: the linker sends the engine's calls of sl__model_describe here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "golden.h"
#include "st_writer.h"
#include "test_env.h"

#define ORIGINAL "data/qwen3_5_moe_text"
#define TOKENS   70u

typedef enum layout { INTERLEAVED, TRANSPOSED, BLOCKS, DECODED } layout;
static const char *const layout_name[] = {"interleaved", "transposed", "blocks", "decoded"};

static char temp[512];
static sl__family family; /* what the engine gets; set by each test */
static bool own_family;

/* ---- in the engine's place ------------------------------------------------------------------- */

#define ARGUMENTS                                                                                  \
    sl__model_desc *desc, const sl__family **out, sl__store *store, sl__arena *arena,              \
        sl_error *err

sl_status __real_sl__model_describe(ARGUMENTS);
sl_status __wrap_sl__model_describe(ARGUMENTS);

sl_status __wrap_sl__model_describe(ARGUMENTS)
{
    sl_status status = __real_sl__model_describe(desc, out, store, arena, err);
    if (status != SL_OK || !own_family) return status;
    sl__expert_names names = family.experts;
    family = **out;
    family.experts = names;
    *out = &family;
    for (uint32_t i = 0; i < desc->layer_count; i++)
        desc->layers[i].moe.interleaved = true;
    return SL_OK;
}

static void use_family(layout l)
{
    own_family = true;
    family.experts = (sl__expert_names){.fused_gate_up = "mlp.experts.gate_up_proj",
                                        .fused_down = "mlp.experts.down_proj",
                                        .fused_transposed = l == TRANSPOSED};
}

/* ---- checkpoints ----------------------------------------------------------------------------- */

static void *room(size_t size)
{
    void *p = calloc(1, size ? size : 1);
    assert_non_null(p);
    return p;
}

/* [experts, rows, cols] of 2-byte numbers with the rows of gate and up interleaved, or turned. */
static uint16_t *moved(const uint16_t *w, const uint64_t *shape, bool interleave, bool turn)
{
    size_t rows = (size_t)shape[1], cols = (size_t)shape[2];
    uint16_t *out = room((size_t)shape[0] * rows * cols * sizeof *out);
    for (size_t i = 0; i < shape[0] * rows * cols; i++) {
        size_t e = i / (rows * cols), r = i / cols % rows, c = i % cols;
        if (interleave) r = r < rows / 2 ? 2 * r : 2 * (r - rows / 2) + 1;
        out[e * rows * cols + (turn ? c * rows + r : r * cols + c)] = w[i];
    }
    return out;
}

/* Random MXFP4 of the shape, the same for BLOCKS and DECODED. */
static void add_mxfp4(st_writer *w, const char *name, const uint64_t *shape, layout l)
{
    static const float value[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
    test_rng rng = {strlen(name) * 1000 + (unsigned char)name[13]};
    size_t blocks = (size_t)(shape[0] * shape[1] * shape[2] / 32);
    uint8_t *codes = room(blocks * 16), *scales = room(blocks);
    float *values = room(blocks * 32 * sizeof *values);
    for (size_t b = 0; b < blocks; b++) {
        scales[b] = (uint8_t)(121 + test_rng_below(&rng, 3));
        for (unsigned i = 0; i < 32; i++) {
            unsigned code = test_rng_below(&rng, 16);
            codes[b * 16 + i / 2] |= (uint8_t)(code << (i % 2 * 4));
            float f = value[code & 7] * sl__e8m0_to_f32(scales[b]);
            values[b * 32 + i] = code & 8 ? -f : f;
        }
    }
    char text[256];
    if (l == DECODED) {
        st_writer_add_bf16(w, name, 3, shape, values);
    } else {
        snprintf(text, sizeof text, "%s_blocks", name);
        st_writer_add(w, text, "U8", 4, (uint64_t[]){shape[0], shape[1], shape[2] / 32, 16}, codes,
                      blocks * 16);
        snprintf(text, sizeof text, "%s_scales", name);
        st_writer_add(w, text, "U8", 3, (uint64_t[]){shape[0], shape[1], shape[2] / 32}, scales,
                      blocks);
    }
    free(codes);
    free(scales);
    free(values);
}

#define LAYERS  4u
#define EXPERTS 8u
#define HIDDEN  128u
#define INNER   32u

/* The original has a tensor an expert and part: those of one part, at `step` from each other. */
static void gather(const sl__store *s, uint32_t layer, const char *part, char *out, size_t step)
{
    for (uint32_t e = 0; e < EXPERTS; e++) {
        char name[256];
        sl_error err = {0};
        snprintf(name, sizeof name, "model.layers.%u.mlp.experts.%u.%s_proj.weight", layer, e,
                 part);
        const sl__tensor *t = sl__store_find(s, name);
        assert_true(t && t->dtype == SL_BF16 && t->extent.bytes == HIDDEN * INNER * 2);
        if (sl__store_read_tensor(s, t, out + e * step, &err) != SL_OK) fail_msg("%s", err.message);
    }
}

static void add_fused(st_writer *w, const char *name, const uint64_t *shape, const void *data,
                      layout l)
{
    if (l == BLOCKS || l == DECODED) {
        add_mxfp4(w, name, shape, l);
        return;
    }
    bool turn = l == TRANSPOSED;
    uint16_t *to = moved(data, shape, strstr(name, "gate_up") != NULL, turn);
    const uint64_t lying[] = {shape[0], shape[turn ? 2 : 1], shape[turn ? 1 : 2]};
    st_writer_add(w, name, "BF16", 3, lying, to, (size_t)(shape[0] * shape[1] * shape[2] * 2));
    free(to);
}

static void add_experts(st_writer *w, const sl__store *s, uint32_t layer, layout l)
{
    const size_t part = (size_t)HIDDEN * INNER * 2;
    char *both = room(EXPERTS * 2 * part), *down = room(EXPERTS * part), name[256];
    gather(s, layer, "gate", both, 2 * part);
    gather(s, layer, "up", both + part, 2 * part);
    gather(s, layer, "down", down, part);
    snprintf(name, sizeof name, "model.layers.%u.mlp.experts.gate_up_proj", layer);
    add_fused(w, name, (const uint64_t[]){EXPERTS, 2 * INNER, HIDDEN}, both, l);
    snprintf(name, sizeof name, "model.layers.%u.mlp.experts.down_proj", layer);
    add_fused(w, name, (const uint64_t[]){EXPERTS, HIDDEN, INNER}, down, l);
    free(both);
    free(down);
}

static void path_of(char *out, size_t size, const char *folder, const char *name)
{
    snprintf(out, size, "%s/%s%s%s", temp, folder, name ? "/" : "", name ? name : "");
}

/* The tiny checkpoint with its experts in another layout, in a folder of the layout's name. */
static void write_checkpoint(layout l)
{
    sl__store *s;
    sl_error err = {0};
    size_t size;
    char path[1024], command[1100];
    if (sl__store_open(&s, ORIGINAL, &err) != SL_OK) fail_msg("%s", err.message);
    st_writer *w = st_writer_create();
    for (size_t i = 0; i < sl__store_tensor_count(s); i++) {
        const sl__tensor *t = sl__store_tensor_at(s, i);
        if (strstr(t->name, "mlp.experts.")) continue;
        void *data = room((size_t)t->extent.bytes);
        if (sl__store_read_tensor(s, t, data, &err) != SL_OK) fail_msg("%s", err.message);
        st_writer_add(w, t->name, t->dtype == SL_F32 ? "F32" : "BF16", t->dims, t->shape, data,
                      (size_t)t->extent.bytes);
        free(data);
    }
    for (uint32_t layer = 0; layer < LAYERS; layer++)
        add_experts(w, s, layer, l);
    sl__store_close(s);
    path_of(path, sizeof path, layout_name[l], NULL);
    snprintf(command, sizeof command, "mkdir '%s'", path);
    assert_int_equal(system(command), 0);
    path_of(path, sizeof path, layout_name[l], "model.safetensors");
    st_writer_save(w, path);
    st_writer_destroy(w);
    char *config = test_read_file(ORIGINAL "/config.json", &size);
    path_of(path, sizeof path, layout_name[l], "config.json");
    test_write_file(path, config, size);
    free(config);
}

static int write_all(void **state)
{
    (void)state;
    test_temp_dir(temp, sizeof temp);
    for (int l = INTERLEAVED; l <= DECODED; l++)
        write_checkpoint((layout)l);
    return 0;
}

static int remove_all(void **state)
{
    (void)state;
    test_remove_tree(temp);
    return 0;
}

/* ---- tests ----------------------------------------------------------------------------------- */

static size_t logit_count;

/* Logits of a fixed sequence; folder: in temp. malloc'ed. */
static float *logits_of(const char *folder)
{
    int32_t ids[TOKENS];
    uint32_t vocab;
    char path[1024];
    for (unsigned i = 0; i < TOKENS; i++)
        ids[i] = (int32_t)(i * 37 % 500);
    path_of(path, sizeof path, folder, NULL);
    float *logits = golden_run_with(own_family ? path : ORIGINAL, NULL, ids, TOKENS, &vocab);
    logit_count = (size_t)TOKENS * vocab;
    return logits;
}

static sl_status try_pack(const char *from, const char *to, const char *experts, sl_error *err)
{
    char src[1024], dst[1024];
    const sl_pack_options opt = {.experts = experts, .resident = "keep", .verify = true};
    path_of(src, sizeof src, from, NULL);
    path_of(dst, sizeof dst, to, NULL);
    return sl_pack(src, dst, &opt, err);
}

static void pack(const char *from, const char *to, const char *experts)
{
    sl_error err = {0};
    if (try_pack(from, to, experts, &err) != SL_OK) fail_msg("%s", err.message);
}

static void same_logits(const float *a, const char *folder)
{
    float *b = logits_of(folder);
    assert_memory_equal(a, b, logit_count * sizeof *a);
    free(b);
}

static void same_file(const char *folder, const char *other, const char *name)
{
    size_t a_size, b_size;
    char path[1024];
    path_of(path, sizeof path, folder, name);
    char *a = test_read_file(path, &a_size);
    path_of(path, sizeof path, other, name);
    char *b = test_read_file(path, &b_size);
    assert_int_equal(a_size, b_size);
    assert_memory_equal(a, b, a_size);
    free(a);
    free(b);
}

/* Interleaved rows are the same sums as rows apart. */
static void interleaved_is_the_same_model(void **state)
{
    (void)state;
    own_family = false;
    float *want = logits_of(NULL);
    use_family(INTERLEAVED);
    same_logits(want, "interleaved");
    pack("interleaved", "interleaved-keep", "keep");
    same_logits(want, "interleaved-keep");
    free(want);
}

/* Turned, they are summed in another order; a pack turns them back, to the bit. */
static void packs_turn_transposed_experts(void **state)
{
    (void)state;
    use_family(INTERLEAVED);
    float *want = logits_of("interleaved");
    pack("interleaved", "straight-q4", "q4");
    use_family(TRANSPOSED);
    float *got = logits_of("transposed");
    double off = golden_relative(got, want, logit_count);
    printf("transposed: off by %.2g\n", off);
    assert_true(off > 0 && off < 1e-5);
    pack("transposed", "transposed-keep", "keep");
    same_logits(want, "transposed-keep");
    pack("transposed", "transposed-q4", "q4");
    same_file("straight-q4", "transposed-q4", "experts-000.bin");
    same_file("straight-q4", "transposed-q4", "experts-003.bin");
    free(got);
    free(want);
}

static void mxfp4_is_computed_with_as_it_is(void **state)
{
    (void)state;
    use_family(BLOCKS);
    float *want = logits_of("decoded");
    same_logits(want, "blocks");
    pack("blocks", "blocks-keep", "keep");
    same_logits(want, "blocks-keep");
    /* Any other type is encoded from the same numbers. */
    pack("blocks", "blocks-q8", "q8");
    pack("decoded", "decoded-q8", "q8");
    same_file("blocks-q8", "decoded-q8", "experts-001.bin");
    pack("blocks", "blocks-bf16", "bf16");
    same_logits(want, "blocks-bf16");
    /* From a pack, too. */
    pack("blocks-keep", "again-q8", "q8");
    same_file("blocks-q8", "again-q8", "experts-002.bin");
    sl_error err = {0};
    assert_int_equal(try_pack("decoded", "none", "mxfp5", &err), SL_EINVAL);
    assert_non_null(strstr(err.message, "experts: mxfp5 is not one of keep"));
    /* What is mxfp4 already stays as it is. */
    pack("blocks", "blocks-mxfp4", "mxfp4");
    same_file("blocks-keep", "blocks-mxfp4", "experts-003.bin");
    free(want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(interleaved_is_the_same_model),
        cmocka_unit_test(packs_turn_transposed_experts),
        cmocka_unit_test(mxfp4_is_computed_with_as_it_is),
    };
    return cmocka_run_group_tests(tests, write_all, remove_all);
}
