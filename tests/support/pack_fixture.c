#include "pack_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/panels.h"
#include "store/pack_layout.h"

#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "pack_fixture: %s\n", #condition);                                     \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

void pack_fixture_init(pack_fixture *f)
{
    memset(f, 0, sizeof *f);
    /* Whole numbers only: each has one spelling, so that a changed bit is a changed value. */
    f->config = json_pack("{s:s, s:{s:i, s:b}}", "model_type", "tiny", "text_config",
                          "hidden_size", 7, "tie_word_embeddings", 0);
    f->generation = json_pack("{s:b, s:[i,i]}", "do_sample", 1, "eos_token_id", 3, 4);
    f->provenance = json_pack("{s:s}", "tool", "test");
    MUST(f->config && f->generation && f->provenance);
    f->tensors[0] = (sl__pack_tensor_plan){
        .name = "norm.weight", .dtype = SL_F32, .dims = 1, .shape = {5}};
    f->tensors[1] = (sl__pack_tensor_plan){
        .name = "embed.weight", .dtype = SL_BF16, .dims = 2, .shape = {7, 3}};
    f->tensors[2] = (sl__pack_tensor_plan){
        .name = "q.weight", .dtype = SL_Q8, .dims = 2, .shape = {4, 70}, .panels = true};
    f->tensors[3] = (sl__pack_tensor_plan){.name = "scale", .dtype = SL_F32};
    f->layers[0] = (sl__pack_layer_plan){
        .layer = 0, .expert_count = 3, .dtype = {SL_BF16, SL_BF16, SL_BF16}, .rows = {5, 5, 7},
        .cols = {7, 7, 5}};
    f->layers[1] = (sl__pack_layer_plan){
        .layer = 2, .expert_count = 2, .dtype = {SL_Q4, SL_Q4, SL_Q8}, .rows = {64, 64, 70},
        .cols = {70, 70, 64}, .panels = {true, true, false}};
    f->layers[2] = (sl__pack_layer_plan){
        .layer = 5, .expert_count = 1, .dtype = {SL_F32, SL_F32, SL_F32}, .rows = {16, 16, 16},
        .cols = {16, 16, 16}};
    f->plan = (sl__pack_plan){
        .config = f->config, .generation = f->generation, .source = "tiny",
        .fingerprint = "tiny q4", .provenance = f->provenance, .tensors = f->tensors,
        .tensor_count = PACK_FIXTURE_TENSORS, .layers = f->layers,
        .layer_count = PACK_FIXTURE_LAYERS};
}

void pack_fixture_free(pack_fixture *f)
{
    json_decref(f->config);
    json_decref(f->generation);
    json_decref(f->provenance);
}

/* splitmix64: any seed gives bytes of its own. */
static uint8_t byte_at(uint64_t seed, uint64_t i)
{
    uint64_t z = seed * 0x9e3779b97f4a7c15u + i * 0xbf58476d1ce4e5b9u + 1;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (uint8_t)(z >> 32);
}

uint8_t *pack_fixture_tensor(const pack_fixture *f, size_t i, uint64_t *bytes)
{
    const sl__pack_tensor_plan *t = &f->plan.tensors[i];
    uint64_t total;
    MUST(sl__dtype_row_bytes(t->dtype, t->dims ? t->shape[t->dims - 1] : 1, &total));
    for (uint32_t d = 0; d + 1 < t->dims; d++) total *= sl__stored_rows(t->panels, t->shape[d]);
    uint8_t *data = malloc((size_t)total + 1);
    MUST(data);
    for (uint64_t b = 0; b < total; b++) data[b] = byte_at(i + 1, b);
    *bytes = total;
    return data;
}

uint8_t *pack_fixture_record(const sl__expert_layout *layout, uint32_t layer, uint32_t expert)
{
    uint8_t *record = calloc(1, (size_t)layout->record_bytes);
    MUST(record);
    for (int p = 0; p < SL_PART_COUNT; p++) {
        const sl__matrix_layout *part = &layout->part[p];
        for (uint64_t b = 0; b < sl__part_bytes(part); b++) {
            uint64_t seed = 1000u + layer * 100u + expert * 10u + (unsigned)p;
            record[part->offset + b] = byte_at(seed, b);
        }
        for (uint64_t b = 0; b < sl__part_scale_bytes(part); b++) {
            /* Any scale but NaN. */
            record[part->scales_offset + b] = byte_at(layer + expert + 50u, b) % 255u;
            if (part->scaling.biases) record[part->biases_offset + b] = (uint8_t)b % 127u;
        }
    }
    return record;
}

sl_status pack_fixture_write_resident(const pack_fixture *f, sl__pack_writer *w, sl_error *err)
{
    if (sl__pack_writer_has_resident(w)) return SL_OK;
    sl_status status = sl__pack_writer_resident_begin(w, err);
    for (size_t i = 0; status == SL_OK && i < f->plan.tensor_count; i++) {
        uint64_t bytes;
        uint8_t *data = pack_fixture_tensor(f, i, &bytes);
        status = sl__pack_writer_tensor(w, i, data, bytes, err);
        free(data);
    }
    return status == SL_OK ? sl__pack_writer_resident_end(w, err) : status;
}

sl_status pack_fixture_write_layer(const pack_fixture *f, sl__pack_writer *w, size_t i,
                                   sl_error *err)
{
    uint32_t layer = f->plan.layers[i].layer;
    if (sl__pack_writer_has_layer(w, layer)) return SL_OK;
    const sl__expert_layout *layout = sl__pack_writer_layout(w, layer);
    MUST(layout);
    sl_status status = sl__pack_writer_layer_begin(w, layer, err);
    for (uint32_t e = 0; status == SL_OK && e < layout->expert_count; e++) {
        uint8_t *record = pack_fixture_record(layout, layer, e);
        status = sl__pack_writer_record(w, layer, e, record, err);
        free(record);
    }
    return status == SL_OK ? sl__pack_writer_layer_end(w, layer, err) : status;
}

sl_status pack_fixture_finish(const pack_fixture *f, sl__pack_writer *w, sl_error *err)
{
    sl_status status = pack_fixture_write_resident(f, w, err);
    for (size_t i = 0; status == SL_OK && i < f->plan.layer_count; i++) {
        status = pack_fixture_write_layer(f, w, i, err);
    }
    if (status == SL_OK) {
        status = sl__pack_writer_file(w, "tokenizer.bin", PACK_FIXTURE_TOKENIZER,
                                      strlen(PACK_FIXTURE_TOKENIZER), err);
    }
    return status == SL_OK ? sl__pack_writer_commit(w, err) : status;
}

void pack_fixture_build(const pack_fixture *f, const char *dst)
{
    sl__pack_writer *w = NULL;
    sl_error err = {0};
    if (sl__pack_writer_open(&w, dst, &f->plan, &err) != SL_OK ||
        pack_fixture_finish(f, w, &err) != SL_OK) {
        fprintf(stderr, "pack_fixture: %s\n", err.message);
        abort();
    }
    sl__pack_writer_close(w);
}
