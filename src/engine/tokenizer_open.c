/* Opening the tokenizer of a model, wherever it lies: in files of its own, or in a GGUF file, whose
 * keys are made plain lists here. */
#include <string.h>

#include "base/arena.h"
#include "base/fail.h"
#include "format/gguf.h"
#include "text/tokenizer.h"

#define PREFIX "tokenizer.ggml."

/* A list that must be there, of strings; *out lives as long as the set. */
static sl_status strings(const sl__gguf_set *set, const char *name, const sl__tok_text **out,
                         size_t *count, sl_error *err)
{
    const sl__gguf_key *key = sl__gguf_find_key(set, name);
    if (!key || !key->array || key->type != SL_GGUF_STRING) {
        return SL_FAIL(err, SL_EFORMAT, "%s: %s: %s", set->files[0].path, name,
                       key ? "is not a list of strings" : "is missing");
    }
    *count = (size_t)key->count;
    sl__tok_text *list = SL_ARENA_NEW(set->arena, sl__tok_text, *count);
    if (!list) return SL_FAIL_NOMEM(err, "vocabulary");
    for (size_t i = 0; i < *count; i++)
        sl__gguf_string_at(set, key, i, &list[i].data, &list[i].size);
    *out = list;
    return SL_OK;
}

/* A list of `count` numbers, or NULL where there is none; integers too where whole is not NULL. */
static sl_status numbers(const sl__gguf_set *set, const char *name, size_t count,
                         const int64_t **whole, const double **real, sl_error *err)
{
    const sl__gguf_key *key = sl__gguf_find_key(set, name);
    bool fits = true;
    if (!key) return SL_OK;
    int64_t *wholes = whole ? SL_ARENA_NEW(set->arena, int64_t, count) : NULL;
    double *reals = real ? SL_ARENA_NEW(set->arena, double, count) : NULL;
    if ((whole && !wholes) || (real && !reals)) return SL_FAIL_NOMEM(err, "vocabulary");
    fits = key->array && key->count == count;
    for (size_t i = 0; fits && i < count; i++) {
        fits = whole ? sl__gguf_int_at(set, key, i, &wholes[i])
                     : sl__gguf_number_at(set, key, i, &reals[i]);
    }
    if (!fits) {
        return SL_FAIL(err, SL_EFORMAT, "%s: %s: is not a list of %zu %s", set->files[0].path, name,
                       count, whole ? "integers" : "numbers");
    }
    if (whole) *whole = wholes;
    if (real) *real = reals;
    return SL_OK;
}

static sl_status text(const sl__gguf_set *set, const char *name, const char **out, sl_error *err)
{
    const char *bytes;
    size_t size;
    SL_TRY(sl__gguf_string(set, name, &bytes, &size, err));
    *out = sl__arena_strndup(set->arena, bytes, size);
    return *out ? SL_OK : SL_FAIL_NOMEM(err, "vocabulary");
}

/* Ids and switches: -1 where the file has none. */
static sl_status options(const sl__gguf_set *set, sl__gguf_vocab *v, sl_error *err)
{
    const struct {
        const char *name;
        int64_t *out;
    } ids[] = {{PREFIX "bos_token_id", &v->bos},
               {PREFIX "eos_token_id", &v->eos},
               {PREFIX "unknown_token_id", &v->unknown}};
    int remove_spaces = -1;
    const struct {
        const char *name;
        int *out;
    } switches[] = {{PREFIX "add_bos_token", &v->add_bos},
                    {PREFIX "add_eos_token", &v->add_eos},
                    {PREFIX "add_space_prefix", &v->add_space_prefix},
                    {PREFIX "remove_extra_whitespaces", &remove_spaces}};
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        *ids[i].out = -1;
        if (!sl__gguf_find_key(set, ids[i].name)) continue;
        SL_TRY(sl__gguf_int(set, ids[i].name, 0, INT32_MAX, ids[i].out, err));
    }
    for (size_t i = 0; i < sizeof switches / sizeof switches[0]; i++) {
        bool on = false;
        *switches[i].out = -1;
        if (!sl__gguf_find_key(set, switches[i].name)) continue;
        SL_TRY(sl__gguf_bool(set, switches[i].name, &on, err));
        *switches[i].out = on;
    }
    v->remove_extra_whitespaces = remove_spaces > 0;
    return SL_OK;
}

static sl_status open_set(sl_tokenizer **out, const sl__gguf_set *set, sl_error *err)
{
    sl__gguf_vocab v = {.pre = NULL};
    SL_TRY(text(set, PREFIX "model", &v.model, err));
    if (sl__gguf_find_key(set, PREFIX "pre")) SL_TRY(text(set, PREFIX "pre", &v.pre, err));
    SL_TRY(strings(set, PREFIX "tokens", &v.tokens, &v.token_count, err));
    SL_TRY(numbers(set, PREFIX "token_type", v.token_count, &v.types, NULL, err));
    SL_TRY(numbers(set, PREFIX "scores", v.token_count, NULL, &v.scores, err));
    if (strcmp(v.model, "gpt2") == 0) {
        SL_TRY(strings(set, PREFIX "merges", &v.merges, &v.merge_count, err));
    }
    SL_TRY(options(set, &v, err));
    return sl__tokenizer_parse_gguf(out, &v, set->files[0].path, err);
}

sl_status sl_tokenizer_open(sl_tokenizer **out, const char *path, sl_error *err)
{
    sl__gguf_set set;
    *out = NULL;
    if (!sl__gguf_is(path)) return sl__tokenizer_open_files(out, path, err);
    SL_TRY(sl__gguf_open(&set, path, err));
    sl_status status = open_set(out, &set, err);
    sl__gguf_close(&set);
    return status;
}
