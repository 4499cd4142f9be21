#include "tiny.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "damage.h"
#include "test_env.h"

const char *const tiny_models[TINY_MODELS] = {
    "data/qwen3_5_moe_text",
    "data/families/gpt_oss",
    "data/families/qwen3_moe",
    "data/families/deepseek_v3",
};

static void must(int good, const char *what)
{
    if (good) return;
    fprintf(stderr, "tiny: %s\n", what);
    abort();
}

void tiny_copy(const char *model, const char *dir)
{
    damage_copy(model, dir);
    const char *path = damage_own(dir, "config.json");
    json_t *config = json_load_file(path, 0, NULL);
    must(config != NULL, path);
    json_object_set_new(config, "max_position_embeddings", json_integer(TINY_CONTEXT));
    must(json_dump_file(config, path, 0) == 0, path);
    json_decref(config);
}

void tiny_pack(const char *model, const char *dir)
{
    char from[512];
    sl_error err = {0};
    const sl_pack_options opt = {.experts = "q4", .resident = "q8"};
    must(snprintf(from, sizeof from, "%s-from", dir) < (int)sizeof from, dir);
    tiny_copy(model, from);
    must(sl_pack(from, dir, &opt, &err) == SL_OK, err.message);
    test_remove_tree(from);
}

void tiny_ids(uint64_t seed, int32_t *ids, size_t count)
{
    test_rng rng = {seed};
    for (size_t i = 0; i < count; i++)
        ids[i] = (int32_t)test_rng_below(&rng, TINY_VOCAB);
}
