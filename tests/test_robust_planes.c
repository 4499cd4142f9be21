/* What can be wrong with checkpoints whose scales lie apart (MLX, floats of 8 bits,
 * compressed-tensors): each with its message. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "damage.h"
#include "golden.h"
#include "plane_case.h"
#include "test_env.h"

#define QWEN3   "data/families/qwen3_moe"
#define QWEN3_5 "data/qwen3_5_moe_text"
#define Q_PROJ  "model.layers.0.self_attn.q_proj"
#define STACK   "model.layers.1.mlp.switch_mlp.up_proj"
#define EXPERT  "model.layers.2.mlp.experts.3.down_proj"

/* One damage: a tensor left out, another in its place, members of config.json. */
struct damage {
    const char *skip;
    const char *dtype; /* of the one in its place; NULL: none */
    uint64_t shape[3]; /* ends with 0 */
    uint8_t fill;
    const char *config;
    sl_status status;
    const char *file, *thing;
};

static void add_instead(st_writer *w, void *ctx)
{
    static uint8_t data[1u << 17];
    const struct damage *d = ctx;
    uint32_t dims = 0;
    size_t count = 1, width = strcmp(d->dtype, "I64") == 0                                ? 8
                              : d->dtype[1] == '8'                                        ? 1
                              : strstr(d->dtype, "16")                                    ? 2
                                                                                          : 4;
    for (; dims < 3 && d->shape[dims]; dims++)
        count *= (size_t)d->shape[dims];
    assert_true(count * width <= sizeof data);
    memset(data, d->fill, count * width);
    st_writer_add(w, d->skip, d->dtype, dims, d->shape, data, count * width);
}

static void expect(const char *model, const plane_recipe *recipe, const struct damage *d)
{
    plane_recipe r = *recipe;
    const char *made = plane_case_path("made");
    struct damage copy = *d;
    r.skip = d->skip;
    r.config = d->config;
    r.add = d->dtype ? add_instead : NULL;
    r.ctx = &copy;
    plane_convert(model, made, &r);
    if (d->status == SL_OK) {
        int32_t ids[] = {1, 2, 3};
        sl_error err = {0};
        if (damage_try(made, NULL, ids, 3, NULL, &err) != SL_OK) fail_msg("%s", err.message);
    } else {
        damage_expect(made, NULL, d->status, d->file, d->thing);
    }
    test_remove_tree(made);
}

#define EXPECT_ALL(model, recipe, list)                                                            \
    do {                                                                                           \
        for (size_t i_ = 0; i_ < sizeof(list) / sizeof(list)[0]; i_++)                             \
            expect(model, recipe, &(list)[i_]);                                                    \
    } while (0)

#define WEIGHTS "made/model.safetensors"
#define CONFIG  "made/config.json"

static void mlx(void **state)
{
    (void)state;
    const plane_recipe r = {.bits = 4, .group = 32};
    const struct damage list[] = {
        {.skip = Q_PROJ ".scales", .status = SL_EFORMAT, .file = WEIGHTS,
         .thing = "tensor " Q_PROJ ".scales is missing"},
        {.skip = Q_PROJ ".biases", .status = SL_EFORMAT, .file = WEIGHTS,
         .thing = "tensor " Q_PROJ ".weight: its biases are missing"},
        {.skip = STACK ".scales", .status = SL_EFORMAT, .file = WEIGHTS,
         .thing = "tensor " STACK ".scales is missing"},
        {.skip = STACK ".biases", .status = SL_EFORMAT, .file = WEIGHTS,
         .thing = "tensor " STACK ".weight: its biases are missing"},
        {.skip = STACK ".weight", .status = SL_EFORMAT, .file = "made",
         .thing = "up_proj is missing"},
        {.skip = "model.embed_tokens.scales", .status = SL_EFORMAT, .file = WEIGHTS,
         .thing = "tensor model.embed_tokens.scales is missing"},
        /* 128 weights in 3 groups, in none, in words of 2.5 bits */
        {.skip = Q_PROJ ".scales", .dtype = "BF16", .shape = {128, 3}, .status = SL_EFORMAT,
         .file = WEIGHTS, .thing = Q_PROJ ".weight: 16 words and 3 scales a row make no"},
        {.skip = Q_PROJ ".weight", .dtype = "U32", .shape = {128, 10}, .status = SL_EFORMAT,
         .file = WEIGHTS, .thing = "10 words and 4 scales a row make no 128 weights"},
        {.skip = Q_PROJ ".weight", .dtype = "U32", .shape = {128, 28}, .status = SL_EFORMAT,
         .file = WEIGHTS, .thing = "28 words"},
        {.skip = Q_PROJ ".weight", .dtype = "U32", .shape = {2048}, .status = SL_EFORMAT,
         .file = WEIGHTS, .thing = "2048 words"},
        {.skip = Q_PROJ ".weight", .dtype = "U32", .shape = {64, 16}, .status = SL_EFORMAT,
         .file = WEIGHTS, .thing = "tensor " Q_PROJ ".scales: shape [128, 4]"},
        {.skip = Q_PROJ ".scales", .dtype = "BF16", .shape = {64, 4}, .status = SL_EFORMAT,
         .file = WEIGHTS, .thing = "tensor " Q_PROJ ".scales: shape [64, 4]"},
        {.skip = Q_PROJ ".biases", .dtype = "BF16", .shape = {128, 8}, .status = SL_EFORMAT,
         .file = WEIGHTS, .thing = "tensor " Q_PROJ ".biases: shape [128, 8]"},
        {.skip = Q_PROJ ".biases", .dtype = "F16", .shape = {128, 4}, .status = SL_EUNSUPPORTED,
         .file = WEIGHTS, .thing = ".biases: type f16 where " Q_PROJ ".weight has bf16"},
        {.skip = Q_PROJ ".scales", .dtype = "I16", .shape = {128, 4}, .status = SL_EUNSUPPORTED,
         .file = WEIGHTS, .thing = "affine4 with i16"},
        {.skip = STACK ".scales", .dtype = "BF16", .shape = {8, 32, 2}, .status = SL_EFORMAT,
         .file = WEIGHTS, .thing = "tensor " STACK ".biases: shape [8, 32, 4]"},
        {.skip = STACK ".scales", .dtype = "BF16", .shape = {8, 32, 4}, .fill = 0xff,
         .status = SL_ENUMERIC, .file = WEIGHTS, .thing = "a scale of up is NaN"},
        {.skip = STACK ".biases", .dtype = "BF16", .shape = {8, 32, 4}, .fill = 0x3c,
         .status = SL_OK},
        {.skip = STACK ".biases", .dtype = "BF16", .shape = {8, 32, 4}, .fill = 0xff,
         .status = SL_ENUMERIC, .file = WEIGHTS, .thing = "a bias of up is NaN"},
        {.skip = STACK ".weight", .dtype = "U32", .shape = {7, 32, 16}, .status = SL_EFORMAT,
         .file = WEIGHTS, .thing = STACK ".scales: shape [8, 32, 4]"},
        /* other modes, by their scales of 8 bits */
        {.skip = Q_PROJ ".scales", .dtype = "U8", .shape = {128, 8}, .status = SL_EUNSUPPORTED,
         .file = WEIGHTS, .thing = "tensor " Q_PROJ ".weight: nvfp4 is not supported"},
        {.skip = Q_PROJ ".scales", .dtype = "U8", .shape = {128, 4}, .status = SL_EFORMAT,
         .file = WEIGHTS, .thing = "its biases are too many"},
        {.config = "{\"num_hidden_layers\": 5}", .status = SL_EFORMAT, .file = "made",
         .thing = "tensor model.layers.4."},
        {.config = "{\"hidden_size\": 96}", .status = SL_EFORMAT, .file = WEIGHTS,
         .thing = "make no 96 weights"},
    };
    EXPECT_ALL(QWEN3, &r, list);
}

static void mlx_nans(void **state)
{
    (void)state;
    static const char *const scales[] = {"F16", "F32"};
    for (size_t i = 0; i < 2; i++) {
        const plane_recipe r = {.bits = 3, .group = 64, .scales = scales[i]};
        const struct damage list[] = {
            {.skip = STACK ".scales", .dtype = scales[i], .shape = {8, 32, 2}, .fill = 0xff,
             .status = SL_ENUMERIC, .file = WEIGHTS, .thing = "a scale of up is NaN"},
            {.skip = STACK ".biases", .dtype = scales[i], .shape = {8, 32, 2}, .fill = 0xff,
             .status = SL_ENUMERIC, .file = WEIGHTS, .thing = "a bias of up is NaN"},
        };
        EXPECT_ALL(QWEN3, &r, list);
    }
}

static void mlx_config(void **state)
{
    (void)state;
    const plane_recipe r = {.bits = 4, .group = 32};
    const struct damage list[] = {
        {.config = "{\"quantization\": {\"" Q_PROJ "\": {\"bits\": 8, \"group_size\": 32}}}",
         .status = SL_EFORMAT, .file = CONFIG,
         .thing = "quantization." Q_PROJ " says otherwise than the tensor in "},
        {.config = "{\"quantization\": {\"" Q_PROJ "\": {\"bits\": 4, \"group_size\": 64}}}",
         .status = SL_EFORMAT, .file = CONFIG, .thing = "which has 4 bits in groups of 32"},
        {.config = "{\"quantization\": {\"" Q_PROJ "\": false}}", .status = SL_EFORMAT,
         .file = CONFIG, .thing = "quantization." Q_PROJ},
        {.config = "{\"quantization\": {\"" Q_PROJ "\": {\"bits\": \"4\"}}}", .status = SL_EFORMAT,
         .file = CONFIG, .thing = "quantization." Q_PROJ},
        {.config = "{\"quantization\": {\"" STACK "\": {\"bits\": 3}}}", .status = SL_EFORMAT,
         .file = CONFIG, .thing = "quantization." STACK},
        {.config = "{\"quantization\": {\"mode\": \"nvfp4\"}}", .status = SL_EUNSUPPORTED,
         .file = CONFIG, .thing = "quantization: mode nvfp4 is not supported"},
        {.config = "{\"quantization\": {\"mode\": 4}}", .status = SL_EUNSUPPORTED,
         .file = CONFIG, .thing = "mode that is no string is not supported"},
        {.config = "{\"quantization\": {\"" Q_PROJ "\": {\"mode\": \"mxfp8\"}}}",
         .status = SL_EUNSUPPORTED, .file = CONFIG,
         .thing = "quantization." Q_PROJ ": mode mxfp8 is not supported"},
        /* What the tensors say goes, where nothing says otherwise of the very tensor. */
        {.config = "{\"quantization\": null}", .status = SL_OK},
        {.config = "{\"quantization\": {\"bits\": 8, \"group_size\": 64}}", .status = SL_OK},
        {.config = "{\"quantization\": {\"" Q_PROJ "\": true, \"else\": 7}}", .status = SL_OK},
        {.config = "{\"quantization\": {\"" Q_PROJ "\": {\"bits\": 4, \"group_size\": 32}}}",
         .status = SL_OK},
    };
    EXPECT_ALL(QWEN3, &r, list);
    const plane_recipe named = {.bits = 4, .group = 32, .prefix = true};
    const struct damage prefixed = {.skip = "language_model.model.norm.weight",
                                    .status = SL_EFORMAT, .file = "made",
                                    .thing = "tensor language_model.model.norm.weight is missing"};
    expect(QWEN3_5, &named, &prefixed);
    const plane_recipe eight = {.bits = 8, .group = 32};
    const struct damage mxfp8 = {.skip = Q_PROJ ".scales", .dtype = "U8", .shape = {128, 4},
                                 .status = SL_EUNSUPPORTED, .file = WEIGHTS,
                                 .thing = Q_PROJ ".weight: mxfp8 is not supported"};
    expect(QWEN3, &eight, &mxfp8);
}

static void truncated(void **state)
{
    (void)state;
    const plane_recipe r = {.bits = 4, .group = 32};
    const char *made = plane_case_path("made");
    char path[500];
    plane_convert(QWEN3, made, &r);
    snprintf(path, sizeof path, "%s/model.safetensors", made);
    for (uint64_t bytes = damage_size(path) - 1; bytes > 8; bytes /= 3) {
        damage_truncate(path, bytes);
        damage_expect(made, NULL, SL_EFORMAT, WEIGHTS, "");
    }
    test_remove_tree(made);
}

static void floats_of_8_bits(void **state)
{
    (void)state;
    const plane_recipe r = {.format = PLANE_FP8, .scales = "F32"};
    const struct damage list[] = {
        {.skip = Q_PROJ ".weight_scale_inv", .status = SL_EFORMAT, .file = WEIGHTS,
         .thing = "tensor " Q_PROJ ".weight_scale_inv is missing"},
        {.skip = EXPERT ".weight_scale_inv", .status = SL_EFORMAT, .file = WEIGHTS,
         .thing = "tensor " EXPERT ".weight_scale_inv is missing"},
        {.skip = Q_PROJ ".weight_scale_inv", .dtype = "F32", .shape = {2, 1}, .status = SL_EFORMAT,
         .file = WEIGHTS, .thing = Q_PROJ ".weight_scale_inv: shape [2, 1]; " Q_PROJ
                                          ".weight asks for 1 x 1"},
        {.skip = Q_PROJ ".weight_scale_inv", .dtype = "F32", .shape = {1}, .status = SL_EFORMAT,
         .file = WEIGHTS, .thing = "shape [1]"},
        {.skip = Q_PROJ ".weight_scale_inv", .dtype = "I32", .shape = {1, 1},
         .status = SL_EUNSUPPORTED, .file = WEIGHTS, .thing = "f8_e4m3 with i32"},
        {.skip = EXPERT ".weight_scale_inv", .dtype = "BF16", .shape = {1, 1}, .fill = 0x3f,
         .status = SL_EFORMAT, .file = WEIGHTS, .thing = "its scales lie otherwise"},
        {.skip = EXPERT ".weight", .dtype = "F8_E5M2", .shape = {128, 32},
         .status = SL_EUNSUPPORTED, .file = WEIGHTS, .thing = "f8_e5m2 is no type of expert"},
        {.config = "{\"quantization_config\": {\"quant_method\": \"fp8\", "
                   "\"weight_block_size\": [128, 100]}}",
         .status = SL_EUNSUPPORTED, .file = CONFIG,
         .thing = "quantization_config.weight_block_size: expected two powers of 2"},
        {.config = "{\"quantization_config\": {\"quant_method\": \"fp8\", "
                   "\"weight_block_size\": 128}}",
         .status = SL_EUNSUPPORTED, .file = CONFIG, .thing = "weight_block_size"},
        {.config = "{\"quantization_config\": {\"quant_method\": \"fp8\", "
                   "\"weight_block_size\": [64, 128]}}",
         .status = SL_EFORMAT, .file = WEIGHTS, .thing = "asks for 2 x 1"},
        {.config = "{\"quantization_config\": {\"quant_method\": \"awq\"}}",
         .status = SL_EUNSUPPORTED, .file = CONFIG, .thing = "quant_method awq is not supported"},
        {.config = "{\"quantization_config\": {\"quant_method\": 8}}", .status = SL_EFORMAT,
         .file = CONFIG, .thing = "quant_method"},
        {.config = "{\"quantization_config\": null}", .status = SL_OK},
    };
    EXPECT_ALL(QWEN3, &r, list);
}

#define PACKED(member)                                                                             \
    "{\"quantization_config\": {\"quant_method\": \"compressed-tensors\", " member "}}"
#define TURN(where) "{\"location\": \"" where "\"}"
#define TURNED(where)                                                                              \
    PACKED("\"transform_config\": {\"config_groups\": {\"u\": {\"apply\": ["                       \
           TURN("weight_input") ", " TURN(where) "]}}}")
#define GROUP(member)  PACKED("\"config_groups\": {\"group_7\": {\"weights\": {" member "}}}")

static void packed_integers(void **state)
{
    (void)state;
    const plane_recipe r = {.format = PLANE_PACKED, .bits = 4, .group = 32};
    const struct damage list[] = {
        {.skip = Q_PROJ ".weight_scale", .status = SL_EFORMAT, .file = WEIGHTS,
         .thing = "tensor " Q_PROJ ".weight_scale is missing"},
        {.skip = EXPERT ".weight_packed", .status = SL_EFORMAT, .file = "made",
         .thing = "tensor " EXPERT ".weight is missing"},
        {.skip = Q_PROJ ".weight_packed", .dtype = "I32", .shape = {128, 12}, .status = SL_EFORMAT,
         .file = WEIGHTS, .thing = Q_PROJ ".weight_packed: 12 words and 4 scales a row"},
        {.skip = Q_PROJ ".weight_scale", .dtype = "BF16", .shape = {128, 3}, .status = SL_EFORMAT,
         .file = WEIGHTS, .thing = "16 words and 3 scales a row make no 128 weights"},
        {.skip = Q_PROJ ".weight_scale", .dtype = "BF16", .shape = {120, 4}, .status = SL_EFORMAT,
         .file = WEIGHTS, .thing = "tensor " Q_PROJ ".weight_scale: shape [120, 4]"},
        {.skip = Q_PROJ ".weight_scale", .dtype = "F8_E4M3", .shape = {128, 8},
         .status = SL_EUNSUPPORTED, .file = WEIGHTS, .thing = "affine4 with f8_e4m3"},
        {.skip = Q_PROJ ".weight_zero_point", .dtype = "I32", .shape = {16, 4},
         .status = SL_EUNSUPPORTED, .file = WEIGHTS, .thing = Q_PROJ ".weight_zero_point"},
        {.skip = Q_PROJ ".weight_global_scale", .dtype = "F32", .shape = {1},
         .status = SL_EUNSUPPORTED, .file = WEIGHTS, .thing = Q_PROJ ".weight_global_scale"},
        {.skip = Q_PROJ ".weight_g_idx", .dtype = "I32", .shape = {128}, .status = SL_EUNSUPPORTED,
         .file = WEIGHTS, .thing = Q_PROJ ".weight_g_idx: columns in another order"},
        {.skip = Q_PROJ ".weight_g_idx", .dtype = "I32", .shape = {128}, .fill = 0xff,
         .status = SL_OK},
        {.config = PACKED("\"format\": \"nvfp4-pack-quantized\""), .status = SL_EUNSUPPORTED,
         .file = CONFIG, .thing = "quantization_config: format nvfp4-pack-quantized"},
        {.config = PACKED("\"format\": 4"), .status = SL_EUNSUPPORTED, .file = CONFIG,
         .thing = "format that is no string"},
        {.config = GROUP("\"symmetric\": false"), .status = SL_EUNSUPPORTED, .file = CONFIG,
         .thing = "quantization_config.config_groups.group_7: symmetric false"},
        {.config = GROUP("\"type\": \"float\""), .status = SL_EUNSUPPORTED, .file = CONFIG,
         .thing = "group_7: type float"},
        {.config = GROUP("\"strategy\": \"tensor\""), .status = SL_EUNSUPPORTED, .file = CONFIG,
         .thing = "group_7: strategy tensor"},
        {.config = GROUP("\"num_bits\": 3"), .status = SL_EUNSUPPORTED, .file = CONFIG,
         .thing = "group_7: num_bits 3 is neither 4 nor 8"},
        {.config = GROUP("\"num_bits\": 4"), .status = SL_OK},
        {.config = PACKED("\"sparsity_config\": {\"format\": \"sparse-24-bitmask\"}"),
         .status = SL_EUNSUPPORTED, .file = CONFIG,
         .thing = "quantization_config.sparsity_config: format sparse-24-bitmask"},
        /* Turned weights need turned activations, unless both turns lie in weights. */
        {.config = TURNED("output"), .status = SL_EUNSUPPORTED, .file = CONFIG,
         .thing = "quantization_config.transform_config.config_groups.u: location output"},
        {.config = TURNED("weight_output"), .status = SL_OK},
        {.config = PACKED("\"transform_config\": {}, \"sparsity_config\": {}"),
         .status = SL_OK},
    };
    EXPECT_ALL(QWEN3, &r, list);
}

#define FLOATS(member)                                                                             \
    PACKED("\"format\": \"float-quantized\", \"config_groups\": {\"group_0\": "                    \
           "{\"weights\": {\"type\": \"float\", \"num_bits\": 8, " member "}}}")

/* Each group says its own format. */
#define MIXED(format)                                                                              \
    PACKED("\"format\": \"mixed-precision\", \"config_groups\": {\"group_0\": "                    \
           "{\"format\": \"" format "\"}}")

static void floats_of_compressed_tensors(void **state)
{
    (void)state;
    const plane_recipe r = {.format = PLANE_FP8, .compressed = true};
    const struct damage list[] = {
        {.skip = Q_PROJ ".weight_scale", .status = SL_EFORMAT, .file = WEIGHTS,
         .thing = "tensor " Q_PROJ ".weight_scale is missing"},
        {.skip = Q_PROJ ".weight_scale", .dtype = "BF16", .shape = {120, 1}, .status = SL_EFORMAT,
         .file = WEIGHTS, .thing = "shape [120, 1]"},
        {.skip = Q_PROJ ".weight_scale", .dtype = "BF16", .shape = {1}, .status = SL_EFORMAT,
         .file = WEIGHTS, .thing = "shape [1]"},
        {.skip = EXPERT ".weight_scale", .dtype = "F32", .shape = {128, 1}, .fill = 0x3f,
         .status = SL_EFORMAT, .file = WEIGHTS, .thing = "its scales lie otherwise"},
        {.config = FLOATS("\"strategy\": \"tensor\""), .status = SL_EUNSUPPORTED, .file = CONFIG,
         .thing = "group_0: strategy tensor is not supported"},
        {.config = FLOATS("\"strategy\": \"group\""), .status = SL_EUNSUPPORTED, .file = CONFIG,
         .thing = "group_0: strategy group is not supported"},
        {.config = FLOATS("\"block_structure\": [64, 128]"), .status = SL_EUNSUPPORTED,
         .file = CONFIG, .thing = "group_0: block_structure that is not [128, 128]"},
        {.config = FLOATS("\"num_bits\": 4"), .status = SL_EUNSUPPORTED, .file = CONFIG,
         .thing = "group_0: num_bits 4 is not 8"},
        {.config = FLOATS("\"strategy\": \"channel\""), .status = SL_OK},
        {.config = MIXED("float-quantized"), .status = SL_OK},
        {.config = MIXED("nvfp4-pack-quantized"), .status = SL_EUNSUPPORTED, .file = CONFIG,
         .thing = "group_0: format nvfp4-pack-quantized is not supported"},
    };
    EXPECT_ALL(QWEN3, &r, list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mlx),
        cmocka_unit_test(mlx_nans),
        cmocka_unit_test(mlx_config),
        cmocka_unit_test(truncated),
        cmocka_unit_test(floats_of_8_bits),
        cmocka_unit_test(packed_integers),
        cmocka_unit_test(floats_of_compressed_tensors),
    };
    plane_case_begin();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    plane_case_end();
    return failed;
}
