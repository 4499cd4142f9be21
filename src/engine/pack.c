/* Packing a model: every tensor that the family knows, re-encoded where that was asked for, a file
 * at a time, with little memory whatever the model's size. packer.h says which file does what.
 */
#include "engine/packer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fail.h"
#include "base/file.h"
#include "engine/template_config.h"
#include "text/tokenizer.h"

/* ---- small files ----------------------------------------------------------------------------- */

/* A dry run makes them, too: what is wrong with them is wrong with the model. */
static sl_status put_file(sl__packer *p, const char *name, const void *data, size_t size,
                          sl_error *err)
{
    return p->writer ? sl__pack_writer_file(p->writer, name, data, size, err) : SL_OK;
}

static sl_status pack_tokenizer(sl__packer *p, sl_error *err)
{
    char path[SL_PATH_MAX];
    sl_tokenizer *tok;
    void *data;
    size_t size;
    if (!sl__store_tokenizer_path(p->store, path, sizeof path)) return SL_OK;
    SL_TRY(sl_tokenizer_open(&tok, path, err));
    sl_status status = sl__tokenizer_compile(tok, &data, &size, err);
    sl_tokenizer_close(tok);
    if (status != SL_OK) return status;
    status = put_file(p, "tokenizer.bin", data, size, err);
    free(data);
    return status;
}

/* The template, and beside it what else rendering needs: the tokens that it may name and another
 * one for tools, as a small tokenizer_config.json. */
static sl_status write_template(sl__packer *p, json_t *config, sl_error *err)
{
    json_t *text = json_object_get(config, "chat_template");
    bool more = json_is_array(text);
    for (size_t i = 0; more && i < json_array_size(text); i++) {
        const json_t *entry = json_array_get(text, i);
        const char *name = json_string_value(json_object_get(entry, "name"));
        if (name && strcmp(name, "default") == 0) text = json_object_get(entry, "template");
    }
    if (json_is_string(text)) {
        SL_TRY(put_file(p, "chat_template.jinja", json_string_value(text),
                        json_string_length(text), err));
    }
    if (!more) json_object_del(config, "chat_template");
    if (json_object_size(config) == 0) return SL_OK;
    char *json = json_dumps(config, JSON_INDENT(1));
    if (!json) return SL_FAIL_NOMEM(err, "tokenizer_config.json");
    sl_status status = put_file(p, "tokenizer_config.json", json, strlen(json), err);
    free(json);
    return status;
}

static sl_status pack_template(sl__packer *p, const char *src, sl_error *err)
{
    json_t *config;
    SL_TRY(sl__template_config(&config, src, sl__store_folder(p->store), err));
    sl_status status = write_template(p, config, err);
    json_decref(config);
    return status;
}

/* Before the weights: what is wrong with these is not told after hours of writing those. */
static sl_status pack_small_files(sl__packer *p, const char *src, sl_error *err)
{
    SL_TRY(pack_tokenizer(p, err));
    return pack_template(p, src, err);
}

/* ---- reading back ---------------------------------------------------------------------------- */

/* Every tensor and record of a finished pack against its checksum. */
static sl_status verify_pack(sl__packer *p, const char *dst, sl_error *err)
{
    sl__store_close(p->store);
    p->store = NULL;
    SL_TRY(sl__store_open(&p->store, dst, err));
    for (size_t i = 0; i < sl__store_tensor_count(p->store); i++) {
        SL_TRY(sl__store_check_tensor(p->store, sl__store_tensor_at(p->store, i), p->check,
                                      SL_PACK_CHECK_BYTES, err));
    }
    for (size_t i = 0; i < p->layer_count; i++) {
        for (uint32_t e = 0; e < p->layers[i].expert_count; e++)
            SL_TRY(sl__pack_read_record(p, p->layers[i].layer, e, p->out[0], err));
    }
    return SL_OK;
}

/* ---- all of it ------------------------------------------------------------------------------- */

static void name_parts(sl_pack_report *report)
{
    static const char *const names[SL_PACK_PARTS] = {
        [SL_PACK_EXPERTS] = "experts", [SL_PACK_EMBEDDING] = "embedding",
        [SL_PACK_REST] = "the rest", [SL_PACK_DRAFTING] = "drafting layers"};
    *report = (sl_pack_report){.lossy = false};
    for (uint32_t i = 0; i < SL_PACK_PARTS; i++)
        report->parts[i].name = names[i];
}

static sl_status pack(sl__packer *p, const char *src, const char *dst, sl_error *err)
{
    uint64_t begin_ns = sl__now_ns();
    name_parts(p->report);
    SL_TRY(sl__pack_targets_parse(&p->targets, p->opt, err));
    SL_TRY(sl__store_open(&p->store, src, err));
    SL_TRY(sl__model_describe(&p->desc, &p->family, p->store, &p->arena, err));
    SL_TRY(sl__pack_plan_all(p, err));
    SL_TRY(sl__file_free_bytes(dst, &p->report->free_bytes, err));
    if (p->opt->dry_run) {
        SL_TRY(pack_small_files(p, src, err));
        SL_TRY(sl__pack_take_buffers(p, err));
        return sl__pack_estimate(p, err);
    }
    SL_TRY(sl__pack_open_writer(p, src, dst, err));
    SL_TRY(sl__pack_writer_check_room(p->writer, err));
    SL_TRY(pack_small_files(p, src, err));
    SL_TRY(sl__pack_take_buffers(p, err));
    SL_TRY(sl__pack_stream(p, err));
    SL_TRY(sl__pack_writer_commit(p->writer, err));
    p->report->seconds = (double)(sl__now_ns() - begin_ns) / 1e9;
    return p->opt->verify ? verify_pack(p, dst, err) : SL_OK;
}

sl_status sl_pack(const char *src, const char *dst, const sl_pack_options *opt, sl_error *err)
{
    const sl_pack_options defaults = {0};
    sl_pack_report unseen;
    sl__packer p = {.opt = opt ? opt : &defaults};
    p.report = p.opt->report ? p.opt->report : &unseen;
    sl__arena_init(&p.arena, 0);
    sl__kern_init(&p.kern, NULL);
    sl_status status = pack(&p, src, dst, err);
    sl__pack_writer_close(p.writer);
    sl__pool_destroy(p.pool);
    sl__store_close(p.store);
    sl__arena_free(&p.arena);
    return status;
}
