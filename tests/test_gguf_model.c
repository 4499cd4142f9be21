/* GGUF files run as they are: the logits of the checkpoint that they were made of, in float types
 * and in blocks, single and split, streamed, packed; and what they are. What is wrong with a file
 * is the matter of test_robust_gguf.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "gguf_convert.h"
#include "golden.h"
#include "store/gguf_arch.h"
#include "test_env.h"

#define FAMILY(name) "data/families/" name
#define TOKENS  40u

static char dir[256], three[300], latent[300]; /* three: 2 key heads, 6 value heads */
static const struct model {
    const char *path, *arch;
    bool same;  /* of the checkpoint's own numbers in the same order, so that no bit is another */
    bool older; /* there is an older form of the file, too */
} models[] = {
    {FAMILY("qwen3_moe"), "qwen3moe", true, false},
    {"data/qwen3_5_moe_text", "qwen35moe", false, false},
    {three, "qwen35moe", false, false},
    {FAMILY("qwen3_next"), "qwen3next", false, true},
    {FAMILY("deepseek_v3"), "deepseek2", false, true},
    {latent, "deepseek2", false, true},
    {FAMILY("glm4_moe"), "glm4moe", true, false},
    {FAMILY("gpt_oss"), "gpt-oss", false, false},
    {FAMILY("mixtral"), "llama", false, true},
    {FAMILY("olmoe"), "olmoe", true, false},
    {FAMILY("minimax_m2"), "minimax-m2", true, false},
};
#define MODELS (sizeof models / sizeof models[0])
#define ROUNDS (2 * MODELS) /* each as it is written now, then as it was */

static const gguf_recipe bf16 = {.matrices = GGUF_BF16,
                                 .experts = {GGUF_BF16, GGUF_BF16, GGUF_BF16}};
static const gguf_recipe mixed = {.matrices = GGUF_Q8_0,
                                  .experts = {GGUF_Q4_0, GGUF_Q8_0, GGUF_BF16},
                                  .vocabulary = true};

static const char *at(const char *name)
{
    static char paths[8][400];
    static unsigned turn;
    char *path = paths[turn++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", dir, name);
    return path;
}

static float *run(const char *path, const sl_engine_options *opt, size_t *count)
{
    int32_t ids[TOKENS];
    uint32_t vocab;
    for (unsigned i = 0; i < TOKENS; i++)
        ids[i] = (int32_t)(i * i * 7 % 251);
    float *logits = golden_run_with(path, opt, ids, TOKENS, &vocab);
    *count = (size_t)TOKENS * vocab;
    return logits;
}

static double difference(const char *a, const char *b)
{
    const sl_engine_options one = {.threads = 1}; /* where heads of one key share a task */
    size_t n, m;
    float *x = run(a, &one, &n), *y = run(b, &one, &m);
    assert_int_equal(n, m);
    double error = golden_relative(x, y, n);
    free(x);
    free(y);
    return error;
}

/* The model of a round, and how its file is written; NULL: there is no such file. */
static const struct model *round_of(size_t round, gguf_recipe *recipe)
{
    const struct model *model = &models[round / 2];
    recipe->older = round % 2 == 1;
    return recipe->older && !model->older ? NULL : model;
}

static void float_types(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROUNDS; i++) {
        gguf_recipe f32 = {.matrices = GGUF_F32, .plain = at("plain")}, half = bf16;
        const struct model *model = round_of(i, &f32);
        if (!model) continue;
        half.older = f32.older;
        mkdir(f32.plain, 0777);
        gguf_convert(model->path, at("bf16.gguf"), &half);
        gguf_convert(model->path, at("f32.gguf"), &f32);
        double as_bf16 = difference(at("bf16.gguf"), model->path);
        double as_f32 = difference(at("f32.gguf"), f32.plain);
        test_remove_tree(f32.plain);
        printf("%-12s%s bf16 %.1e, f32 %.1e\n", model->arch, f32.older ? " (older)" : "", as_bf16,
               as_f32);
        /* Routers are always float32 here. */
        if (model->same) assert_true(as_f32 == 0);
        assert_true(as_bf16 < 2e-6 && as_f32 < 2e-6);
    }
}

static void blocks(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROUNDS; i++) {
        gguf_recipe recipe = mixed;
        const struct model *model = round_of(i, &recipe);
        if (!model) continue;
        recipe.plain = at("plain");
        mkdir(recipe.plain, 0777);
        gguf_convert(model->path, at("mixed.gguf"), &recipe);
        double error = difference(at("mixed.gguf"), recipe.plain);
        double loss = difference(at("mixed.gguf"), model->path);
        printf("%-12s%s %.1e from its weights, %.1e from bf16\n", model->arch,
               recipe.older ? " (older)" : "", error, loss);
        assert_true(error < 2e-6 && loss > 1e-3);
        test_remove_tree(recipe.plain);
    }
}

/* The same file in parts, with an eighth of the experts in memory, and packed: the same bits. */
static void parts_streams_and_packs(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROUNDS; i++) {
        gguf_recipe recipe = mixed;
        size_t n, m;
        sl_error err = {0};
        const struct model *model = round_of(i, &recipe);
        if (!model) continue;
        gguf_convert(model->path, at("m.gguf"), &recipe);
        recipe.parts = 3;
        gguf_convert(model->path, at("m-00001-of-00003.gguf"), &recipe);
        if (sl_pack(at("m-00003-of-00003.gguf"), at("pack"), NULL, &err) != SL_OK) {
            fail_msg("%s", err.message);
        }
        const sl_engine_options few = {.cache_bytes = 200000, .threads = 2, .chunk_tokens = 64};
        float *want = run(at("m.gguf"), NULL, &n);
        static const char *const others[] = {"m.gguf", "m-00001-of-00003.gguf",
                                             "m-00002-of-00003.gguf", "pack"};
        for (size_t k = 0; k < 4; k++) {
            float *got = run(at(others[k]), &few, &m);
            assert_int_equal(n, m);
            assert_memory_equal(got, want, n * sizeof *got);
            free(got);
        }
        free(want);
        test_remove_tree(at("pack"));
    }
}

static void expect_same_text(const char *path)
{
    static const char vars[] = "{\"messages\": [{\"content\": \"hey\"}]}";
    sl_template *tmpl;
    sl_error err = {0};
    char *text;
    size_t size;
    if (sl_template_open(&tmpl, path, &err) != SL_OK) fail_msg("%s", err.message);
    assert_int_equal(sl_template_render(tmpl, vars, sizeof vars - 1, &text, &size, &err), SL_OK);
    assert_string_equal(text, "hey!");
    free(text);
    sl_template_close(tmpl);
}

static void expect_vocabulary(const char *path)
{
    sl_generation_defaults defaults;
    int32_t *ids;
    size_t count;
    sl_engine *engine = golden_open(path, NULL);
    sl_engine_generation_defaults(engine, &defaults);
    assert_int_equal(defaults.eos_count, 2);
    assert_int_equal(defaults.eos_ids[0], 256);
    assert_int_equal(defaults.eos_ids[1], 257);
    assert_true(defaults.sampler.temperature == 0.0f);
    const sl_tokenizer *tok = sl_engine_tokenizer(engine);
    assert_non_null(tok);
    assert_int_equal(sl_tokenizer_encode(tok, "A<|im_end|>", 11, SL_ENCODE_ADDED, &ids, &count,
                                         NULL),
                     SL_OK);
    assert_int_equal(count, 2);
    assert_int_equal(ids[0], 'A');
    assert_int_equal(ids[1], 256);
    free(ids);
    sl_engine_close(engine);
}

static sl_model_info inspect(const char *path)
{
    sl_model_info info;
    sl_error err = {0};
    if (sl_model_inspect(path, &info, &err) != SL_OK) fail_msg("%s", err.message);
    return info;
}

static void what_it_is(void **state)
{
    (void)state;
    sl_error err = {0};
    gguf_convert(three, at("three.gguf"), &mixed);
    const sl_model_info from = inspect(three), info = inspect(at("three.gguf"));
    assert_string_equal(info.format, "gguf");
    assert_string_equal(info.family, "qwen3_5_moe");
    assert_string_equal(info.expert_types, "q4_0, q8_0, bf16");
    assert_string_equal(info.resident_types, "q8_0");
    assert_int_equal(info.parameters, from.parameters);
    assert_int_equal(info.active_parameters, from.active_parameters);
    assert_int_equal(info.linear_layers, 1);
    assert_int_equal(info.full_layers, 1);
    assert_int_equal(info.mtp_layers, 1);
    assert_int_equal(info.max_context, 256);
    assert_int_equal(info.expert_extents, 3);
    assert_int_equal(info.ignored_bytes, 0);
    assert_true(info.mtp_bytes > 0 && info.mtp_bytes < from.mtp_bytes);
    assert_true(info.has_tokenizer && info.has_chat_template);
    assert_true(info.minimum_memory_bytes < from.minimum_memory_bytes + (1u << 20));
    expect_same_text(at("three.gguf"));
    expect_vocabulary(at("three.gguf"));
    if (sl_pack(at("three.gguf"), at("three"), NULL, &err) != SL_OK) fail_msg("%s", err.message);
    const sl_model_info packed = inspect(at("three"));
    assert_true(packed.has_tokenizer && packed.has_chat_template);
    assert_string_equal(packed.expert_types, info.expert_types);
    expect_same_text(at("three"));
    expect_vocabulary(at("three"));
}

static void add_sampling(gguf_writer *w, const void *ctx)
{
    (void)ctx;
    gguf_writer_f32(w, "general.sampling.temp", 0.5f);
    gguf_writer_f32(w, "general.sampling.top_p", 0.75f);
    gguf_writer_int(w, "general.sampling.top_k", SL_GGUF_I32, 7);
    gguf_writer_int(w, "tokenizer.ggml.eot_token_id", SL_GGUF_U32, 9);
    gguf_writer_string(w, "tokenizer.chat_template.tool_use", "with {{ tools|length }} tools");
}

static void how_to_sample(void **state)
{
    (void)state;
    static const char vars[] = "{\"messages\": [], \"tools\": [1, 2]}";
    gguf_recipe recipe = mixed;
    sl_generation_defaults defaults;
    sl_template *tmpl;
    char *text;
    size_t size;
    recipe.add = add_sampling;
    gguf_convert(three, at("sampling.gguf"), &recipe);
    sl_engine *engine = golden_open(at("sampling.gguf"), NULL);
    sl_engine_generation_defaults(engine, &defaults);
    assert_true(defaults.sampler.temperature == 0.5f && defaults.sampler.top_p == 0.75f);
    assert_int_equal(defaults.sampler.top_k, 7);
    assert_int_equal(defaults.eos_count, 3);
    assert_int_equal(defaults.eos_ids[1], 9);
    sl_engine_close(engine);
    assert_int_equal(sl_template_open(&tmpl, at("sampling.gguf"), NULL), SL_OK);
    assert_int_equal(sl_template_render(tmpl, vars, sizeof vars - 1, &text, &size, NULL), SL_OK);
    assert_string_equal(text, "with 2 tools");
    free(text);
    sl_template_close(tmpl);
}

/* No vocabulary, no template: weights alone run too. */
static void weights_alone(void **state)
{
    (void)state;
    sl_template *tmpl;
    sl_error err = {0};
    gguf_convert(three, at("alone.gguf"), &bf16);
    const sl_model_info info = inspect(at("alone.gguf"));
    assert_false(info.has_tokenizer || info.has_chat_template);
    sl_engine *engine = golden_open(at("alone.gguf"), NULL);
    assert_null(sl_engine_tokenizer(engine));
    sl_engine_close(engine);
    assert_int_equal(sl_template_open(&tmpl, at("alone.gguf"), &err), SL_EIO);
    assert_non_null(strstr(err.message, "alone.gguf: tokenizer.chat_template is missing"));
}

/* A file is known by its beginning where its name does not say it, as in the stores of other
 * programs; a folder is none, whatever it is called. */
static void whatever_it_is_called(void **state)
{
    (void)state;
    static const char *const names[] = {"three.GGUF", "sha256-0a1b"};
    sl_error err = {0};
    for (size_t i = 0; i < 2; i++) {
        gguf_convert(three, at(names[i]), &mixed);
        assert_string_equal(inspect(at(names[i])).format, "gguf");
        expect_same_text(at(names[i]));
        expect_vocabulary(at(names[i]));
    }
    if (sl_pack(at(names[1]), at("pack.gguf"), NULL, &err) != SL_OK) fail_msg("%s", err.message);
    assert_string_equal(inspect(at("pack.gguf")).format, "pack");
    expect_same_text(at("pack.gguf"));
    expect_vocabulary(at("pack.gguf"));
    test_remove_tree(at("pack.gguf"));
}

/* Later files have a number of key-value heads for each layer, 0 for linear ones. */
static void add_head_list(gguf_writer *w, const void *ctx)
{
    (void)ctx;
    gguf_writer_ints(w, "qwen35moe.attention.head_count_kv", SL_GGUF_I32,
                     (const int64_t[]){0, 1, 1}, 3);
}

/* An old one stretches its context. */
static void add_yarn(gguf_writer *w, const void *ctx)
{
    (void)ctx;
    gguf_writer_string(w, "qwen35moe.rope.scaling.type", "yarn");
    gguf_writer_f32(w, "qwen35moe.rope.scaling.factor", 4.0f);
    gguf_writer_int(w, "qwen35moe.rope.scaling.original_context_length", SL_GGUF_U32, 64);
}

static void other_keys(void **state)
{
    (void)state;
    gguf_recipe recipe = bf16;
    gguf_convert(three, at("plain.gguf"), &bf16);
    recipe.skip = "qwen35moe.attention.head_count_kv";
    recipe.add = add_head_list;
    gguf_convert(three, at("list.gguf"), &recipe);
    assert_true(difference(at("list.gguf"), at("plain.gguf")) == 0);
    recipe.skip = NULL;
    recipe.add = add_yarn;
    gguf_convert(three, at("yarn.gguf"), &recipe);
    sl_engine *engine = golden_open(at("yarn.gguf"), NULL);
    const sl__rope_desc *rope = &engine->desc.layers[1].attention.rope;
    assert_true(rope->factor == 4.0f && rope->original_context == 64.0f);
    sl_engine_close(engine);
}

/* Two files of one checkpoint give the same bits. */
static void expect_same_bits(const char *model, const gguf_recipe *one, const gguf_recipe *other)
{
    gguf_convert(model, at("one.gguf"), one);
    gguf_convert(model, at("other.gguf"), other);
    if (difference(at("other.gguf"), at("one.gguf")) != 0) fail_msg("%s", model);
}

/* Gate and up in one stack, as some converters write them, in any family but gpt-oss. */
static void gate_and_up_fused(void **state)
{
    (void)state;
    for (size_t i = 0; i < MODELS; i++) {
        gguf_recipe apart = {.matrices = GGUF_Q8_0, .experts = {GGUF_Q8_0, GGUF_Q8_0, GGUF_Q8_0}};
        gguf_recipe fused = apart;
        if (strcmp(models[i].arch, "gpt-oss") == 0) continue;
        fused.fused = true;
        expect_same_bits(models[i].path, &apart, &fused);
        assert_int_equal(inspect(at("other.gguf")).expert_extents, 2);
    }
}

/* gpt-oss as it comes: experts in MXFP4. */
static void mxfp4_blocks(void **state)
{
    (void)state;
    gguf_recipe recipe = {.matrices = GGUF_BF16,
                          .experts = {GGUF_MXFP4, GGUF_MXFP4, GGUF_MXFP4},
                          .plain = at("plain")};
    mkdir(recipe.plain, 0777);
    gguf_convert(FAMILY("gpt_oss"), at("mxfp4.gguf"), &recipe);
    assert_string_equal(inspect(at("mxfp4.gguf")).expert_types, "mxfp4_block");
    assert_true(difference(at("mxfp4.gguf"), recipe.plain) < 2e-6);
    test_remove_tree(recipe.plain);
}

/* Blocks behind the last are not read, whatever is in them. */
static void blocks_that_draft(void **state)
{
    (void)state;
    static const char *const paths[] = {FAMILY("glm4_moe"), FAMILY("deepseek_v3")};
    for (size_t i = 0; i < 2; i++) {
        gguf_recipe drafting = mixed;
        drafting.drafts = 2;
        expect_same_bits(paths[i], &mixed, &drafting);
        const sl_model_info info = inspect(at("other.gguf"));
        assert_int_equal(info.layers, 4);
        assert_int_equal(info.mtp_layers, 0);
        assert_true(info.ignored_tensors == 4 && info.ignored_bytes > 0);
    }
}

/* What sluice inspect says of a file is what it says of the checkpoint. */
static void what_families_are(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROUNDS; i++) {
        gguf_recipe recipe = bf16;
        const struct model *model = round_of(i, &recipe);
        if (!model) continue;
        gguf_convert(model->path, at("what.gguf"), &recipe);
        const sl_model_info from = inspect(model->path), info = inspect(at("what.gguf"));
        assert_string_equal(info.format, "gguf");
        assert_string_equal(info.family, from.family);
        assert_int_equal(info.layers, from.layers);
        assert_int_equal(info.dense_layers, from.dense_layers);
        assert_int_equal(info.linear_layers, from.linear_layers);
        assert_int_equal(info.window_layers, from.window_layers);
        assert_int_equal(info.latent_layers, from.latent_layers);
        assert_int_equal(info.parameters, from.parameters);
        assert_int_equal(info.active_parameters, from.active_parameters);
        assert_int_equal(info.experts_bytes, from.experts_bytes);
        assert_int_equal(info.kv_bytes_per_token, from.kv_bytes_per_token);
        assert_int_equal(info.max_context, from.max_context);
        assert_int_equal(info.experts_per_token, from.experts_per_token);
        assert_int_equal(info.shared_intermediate_size, from.shared_intermediate_size);
        assert_true(info.ignored_tensors == 0 && info.ignored_bytes == 0);
    }
}

/* Packed at 8 bits: tensors of three dimensions are encoded, and stay in rows. */
static void packed_smaller(void **state)
{
    (void)state;
    const sl_pack_options opt = {.experts = "q8", .resident = "q8", .verify = true};
    for (size_t i = 0; i < ROUNDS; i++) {
        gguf_recipe recipe = bf16;
        sl_error err = {0};
        const struct model *model = round_of(i, &recipe);
        if (!model) continue;
        gguf_convert(model->path, at("big.gguf"), &recipe);
        if (sl_pack(at("big.gguf"), at("small"), &opt, &err) != SL_OK) fail_msg("%s", err.message);
        double error = difference(at("small"), model->path);
        printf("%-12s%s q8 %.1e\n", model->arch, recipe.older ? " (older)" : "", error);
        assert_true(error < 0.5);
        test_remove_tree(at("small"));
    }
}

/* ---- other forms of keys --------------------------------------------------------------------- */

struct change {
    const char *checkpoint, *skip;
    void (*add)(gguf_writer *w, const void *ctx);
};

static void add_lists(gguf_writer *w, const void *ctx)
{
    (void)ctx;
    gguf_writer_ints(w, "deepseek2.feed_forward_length", SL_GGUF_I32,
                     (const int64_t[]){96, 0, 0, 0}, 4);
}

static void add_one_kv_head(gguf_writer *w, const void *ctx)
{
    (void)ctx;
    gguf_writer_int(w, "deepseek2.attention.head_count_kv", SL_GGUF_U32, 1);
}

static void add_pattern(gguf_writer *w, const void *ctx)
{
    (void)ctx;
    const unsigned char head[] = {SL_GGUF_BOOL, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0};
    gguf_writer_raw(w, "gpt-oss.attention.sliding_window_pattern", SL_GGUF_ARRAY, head,
                    sizeof head);
}

static void add_round(gguf_writer *w, const void *ctx)
{
    (void)ctx;
    gguf_writer_int(w, "gpt-oss.attention.sliding_window_pattern", SL_GGUF_U32, 2);
    gguf_writer_int(w, "gpt-oss.expert_gating_func", SL_GGUF_U32, 3);
}

static void add_betas(gguf_writer *w, const void *ctx)
{
    (void)ctx;
    gguf_writer_f32(w, "gpt-oss.rope.scaling.yarn_beta_fast", 32);
    gguf_writer_f32(w, "gpt-oss.rope.scaling.yarn_beta_slow", 1);
    gguf_writer_f32(w, "gpt-oss.rope.scaling.yarn_ext_factor", 1);
    gguf_writer_f32(w, "gpt-oss.rope.freq_base_swa", 150000);
    gguf_writer_int(w, "gpt-oss.attention.key_length_swa", SL_GGUF_U32, 32);
    gguf_writer_f32(w, "gpt-oss.rope.scaling.yarn_attn_factor", 1);
}

static void add_width(gguf_writer *w, const void *ctx)
{
    (void)ctx;
    gguf_writer_int(w, "minimax-m2.expert_feed_forward_length", SL_GGUF_U32, 32);
}

static void add_key_length(gguf_writer *w, const void *ctx)
{
    (void)ctx;
    gguf_writer_int(w, "llama.attention.key_length", SL_GGUF_U32, 32);
    gguf_writer_int(w, "llama.attention.value_length", SL_GGUF_U32, 32);
    gguf_writer_f32(w, "llama.expert_weights_scale", 0);
}

static void add_no_clamp(gguf_writer *w, const void *ctx)
{
    (void)ctx;
    gguf_writer_f32(w, "olmoe.attention.clamp_kqv", 0);
    gguf_writer_int(w, "olmoe.expert_weights_norm", SL_GGUF_BOOL, 0);
}

static void same_said_otherwise(void **state)
{
    (void)state;
    static const struct change changes[] = {
        {FAMILY("deepseek_v3"), "deepseek2.feed_forward_length", add_lists},
        {FAMILY("deepseek_v3"), "deepseek2.attention.head_count_kv", add_one_kv_head},
        {FAMILY("gpt_oss"), NULL, add_pattern},
        {FAMILY("gpt_oss"), NULL, add_round},
        {FAMILY("gpt_oss"), NULL, add_betas},
        {FAMILY("minimax_m2"), "minimax-m2.feed_forward_length", add_width},
        {FAMILY("minimax_m2"), "minimax-m2.expert_gating_func", NULL},
        {FAMILY("mixtral"), NULL, add_key_length},
        {FAMILY("mixtral"), "llama.rope.dimension_count", NULL},
        {FAMILY("olmoe"), NULL, add_no_clamp},
        {FAMILY("olmoe"), "olmoe.rope.dimension_count", NULL},
        {FAMILY("glm4_moe"), "glm4moe.expert_gating_func", NULL},
    };
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        gguf_recipe other = bf16;
        other.skip = changes[i].skip;
        other.add = changes[i].add;
        expect_same_bits(changes[i].checkpoint, &bf16, &other);
    }
}

static void add_clamp(gguf_writer *w, const void *ctx)
{
    (void)ctx;
    gguf_writer_f32(w, "olmoe.attention.clamp_kqv", 0.25f);
    gguf_writer_int(w, "olmoe.expert_weights_norm", SL_GGUF_BOOL, 1);
}

static void add_full_blocks(gguf_writer *w, const void *ctx)
{
    (void)ctx;
    const unsigned char head[] = {SL_GGUF_BOOL, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1};
    gguf_writer_raw(w, "gpt-oss.attention.sliding_window_pattern", SL_GGUF_ARRAY, head,
                    sizeof head);
}

/* What the configuration of a file without weights holds. */
static json_int_t member_of(const char *path, const char *member)
{
    sl__gguf_set set;
    sl__gguf_model model;
    json_t *config = NULL;
    sl_error err = {0};
    if (sl__gguf_open(&set, path, &err) != SL_OK ||
        sl__gguf_model_find(&model, &set, &err) != SL_OK ||
        sl__gguf_config(&model, &config, &err) != SL_OK) {
        fail_msg("%s", err.message);
    }
    json_int_t value = json_integer_value(json_object_get(config, member));
    json_decref(config);
    sl__gguf_close(&set);
    return value;
}

/* Older files of DeepSeek say nothing of groups: DeepSeek-V3 has them, Kimi-K2 has none. */
static void groups_that_go_without_saying(void **state)
{
    (void)state;
    static const char *const numbers[] = {
        "block_count", "context_length", "embedding_length", "attention.head_count",
        "expert_used_count", "expert_feed_forward_length", "expert_shared_count",
        "leading_dense_block_count", "attention.kv_lora_rank", "attention.value_length"};
    for (unsigned experts = 256; experts <= 384; experts += 128) {
        gguf_writer *w = gguf_writer_create();
        gguf_writer_string(w, "general.architecture", "deepseek2");
        for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
            char key[80];
            snprintf(key, sizeof key, "deepseek2.%s", numbers[i]);
            gguf_writer_int(w, key, SL_GGUF_U32, 8);
        }
        gguf_writer_int(w, "deepseek2.attention.key_length", SL_GGUF_U32, 192);
        gguf_writer_int(w, "deepseek2.rope.dimension_count", SL_GGUF_U32, 64);
        gguf_writer_int(w, "deepseek2.expert_count", SL_GGUF_U32, experts);
        gguf_writer_int(w, "deepseek2.expert_weights_norm", SL_GGUF_BOOL, 1);
        gguf_writer_f32(w, "deepseek2.attention.layer_norm_rms_epsilon", 1e-6f);
        gguf_writer_f32(w, "deepseek2.rope.freq_base", 10000);
        gguf_writer_tensor(w, "token_embd.weight", GGUF_F32, 2, (uint64_t[]){4, 4}, NULL, 64);
        gguf_writer_save(w, at("groups.gguf"));
        gguf_writer_destroy(w);
        assert_int_equal(member_of(at("groups.gguf"), "n_group"), experts == 256 ? 8 : 1);
        assert_int_equal(member_of(at("groups.gguf"), "topk_group"), experts == 256 ? 4 : 1);
        assert_int_equal(member_of(at("groups.gguf"), "qk_nope_head_dim"), 128);
        assert_int_equal(member_of(at("groups.gguf"), "v_head_dim"), 8);
    }
}

/* What keys say arrives in the description. */
static void what_keys_say(void **state)
{
    (void)state;
    gguf_recipe recipe = bf16;
    recipe.add = add_clamp;
    gguf_convert(FAMILY("olmoe"), at("clamp.gguf"), &recipe);
    sl_engine *engine = golden_open(at("clamp.gguf"), NULL);
    assert_true(engine->desc.layers[0].attention.clip == 0.25f);
    assert_true(engine->desc.layers[0].moe.routing.renormalise);
    sl_engine_close(engine);
    recipe.add = add_full_blocks;
    gguf_convert(FAMILY("gpt_oss"), at("windows.gguf"), &recipe);
    engine = golden_open(at("windows.gguf"), NULL);
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(engine->desc.layers[i].attention.window, i < 2 ? 0 : 8);
    assert_false(engine->desc.layers[0].attention.rope.truncate);
    sl_engine_close(engine);
    recipe = (gguf_recipe){.skip = "deepseek2.rope.scaling.yarn_log_multiplier"};
    gguf_convert(FAMILY("deepseek_v3"), at("flat.gguf"), &recipe);
    engine = golden_open(at("flat.gguf"), NULL);
    const sl__mla_desc *mla = &engine->desc.layers[0].mla;
    assert_true(mla->rope.amplitude == 1 && mla->rope.factor == 4 && mla->rope.adjacent);
    assert_true(mla->scale == 1.0f / sqrtf(32));
    assert_true(engine->desc.layers[1].moe.routing.groups == 4);
    sl_engine_close(engine);
    recipe.skip = "olmoe.expert_weights_norm";
    gguf_convert(FAMILY("olmoe"), at("plain.gguf"), &recipe);
    engine = golden_open(at("plain.gguf"), NULL);
    assert_false(engine->desc.layers[0].moe.routing.renormalise);
    sl_engine_close(engine);
}

/* Without a head the embedding is one. */
static void tied(void **state)
{
    (void)state;
    gguf_recipe recipe = bf16;
    recipe.skip = "output.weight";
    gguf_convert(three, at("tied.gguf"), &recipe);
    sl_engine *engine = golden_open(at("tied.gguf"), NULL);
    assert_true(engine->desc.tied_embedding);
    sl_engine_close(engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(float_types),
        cmocka_unit_test(blocks),
        cmocka_unit_test(parts_streams_and_packs),
        cmocka_unit_test(what_it_is),
        cmocka_unit_test(how_to_sample),
        cmocka_unit_test(weights_alone),
        cmocka_unit_test(whatever_it_is_called),
        cmocka_unit_test(other_keys),
        cmocka_unit_test(tied),
        cmocka_unit_test(gate_and_up_fused),
        cmocka_unit_test(mxfp4_blocks),
        cmocka_unit_test(blocks_that_draft),
        cmocka_unit_test(what_families_are),
        cmocka_unit_test(packed_smaller),
        cmocka_unit_test(same_said_otherwise),
        cmocka_unit_test(groups_that_go_without_saying),
        cmocka_unit_test(what_keys_say),
    };
    test_temp_dir(dir, sizeof dir);
    snprintf(three, sizeof three, "%s/checkpoint", dir);
    mkdir(three, 0777);
    gguf_random_checkpoint(three);
    snprintf(latent, sizeof latent, "%s/latent", dir);
    mkdir(latent, 0777);
    gguf_random_latent(latent);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    test_remove_tree(dir);
    return failed;
}
