/* A GGUF file of any bytes. The first byte says how much longer the file is said to be than what
 * is there, as a power of two. What is accepted must lie in the file, and every value must be
 * readable. Then the configuration that it stands for, as far as the description of the model; and
 * the names of tensors there and back. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/fail.h"
#include "format/gguf.h"
#include "model/family.h"
#include "store/gguf_arch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int truth)
{
    if (!truth) abort();
}

static unsigned sink(const char *text, size_t size)
{
    unsigned sum = 0;
    for (size_t i = 0; i < size; i++)
        sum += (unsigned char)text[i];
    return sum;
}

static void read_values(const sl__gguf_set *set)
{
    for (size_t i = 0; i < set->key_count; i++) {
        const sl__gguf_key *key = &set->keys[i];
        require(sl__gguf_find_key(set, key->name) == key);
        for (uint64_t k = 0; k < key->count; k++) {
            int64_t whole;
            double number;
            bool truth;
            const char *text;
            size_t size;
            sl__gguf_int_at(set, key, k, &whole);
            sl__gguf_number_at(set, key, k, &number);
            sl__gguf_bool_at(set, key, k, &truth);
            if (sl__gguf_string_at(set, key, k, &text, &size)) sink(text, size);
        }
    }
}

static sl_status describe(const sl__gguf_model *model, json_t *root, sl__arena *arena,
                          sl_error *err)
{
    sl__config config;
    const sl__family *family;
    sl__model_desc desc = {0};
    SL_TRY(sl__config_take(&config, root, "fuzz", err));
    sl_status status = sl__family_find(&family, &config, err);
    require(status == SL_OK);
    status = family->describe(&desc, &config, model->drafts > 0, arena, err);
    require(status != SL_OK || desc.layer_count == model->layers);
    sl__config_free(&config);
    return status;
}

static sl_status read_model(sl__gguf_set *set, sl_error *err)
{
    sl__gguf_model model;
    json_t *config, *generation;
    SL_TRY(sl__gguf_sort_tensors(set, err));
    SL_TRY(sl__gguf_model_find(&model, set, err));
    for (size_t i = 0; i < set->tensor_count; i++) {
        char there[SL_GGUF_NAME_MAX], back[SL_GGUF_NAME_MAX];
        if (!sl__gguf_published(&model, set->tensors[i].name, there)) continue;
        require(sl__gguf_name_of(&model, there, back));
        require(strcmp(back, set->tensors[i].name) == 0);
    }
    SL_TRY(sl__gguf_generation(&model, &generation, err));
    json_decref(generation);
    SL_TRY(sl__gguf_config(&model, &config, err));
    return describe(&model, config, set->arena, err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) return 0;
    uint64_t more = data[0] ? (uint64_t)1 << data[0] % 48 : 0;
    sl__arena arena;
    sl__arena_init(&arena, 0);
    char path[] = "fuzz";
    sl__gguf_file file = {.path = path, .size = size - 1 + more};
    sl__gguf_set set = {.files = &file, .file_count = 1, .arena = &arena};
    sl_error err = {0};
    if (sl__gguf_read_header(&set, 0, -1, data + 1, size - 1, &err) == SL_OK) {
        require(err.status == SL_OK);
        for (size_t i = 0; i < set.tensor_count; i++) {
            const sl__gguf_tensor *t = &set.tensors[i];
            sl__dtype dtype;
            require(t->dims >= 1 && t->dims <= SL_GGUF_DIMS_MAX);
            require(t->offset <= file.size && t->bytes <= file.size - t->offset);
            require((sl__gguf_tensor_dtype(&set, t, &dtype, NULL) == SL_OK) == (t->bytes > 0));
        }
        read_values(&set);
        if (read_model(&set, &err) != SL_OK) {
            require(strncmp(err.message, "fuzz: ", 6) == 0);
        }
    } else {
        require(set.tensor_count == 0);
        require(err.status != SL_OK && strncmp(err.message, "fuzz: ", 6) == 0);
    }
    free(set.header);
    sl__arena_free(&arena);
    return 0;
}
