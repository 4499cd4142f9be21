/* Selecting. GGUF files are gathered into models first: the list is sorted, so the parts of one
 * that was split lie side by side.
 *
 *     a-Q4_K_M.gguf                        stem "a-Q4_K_M", 1 part
 *     b/c-Q8_0-00001-of-00002.gguf   ┐
 *     b/c-Q8_0-00002-of-00002.gguf   ┘     stem "b/c-Q8_0", 2 parts
 */
#include "hub/hub_select.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/checked.h"
#include "base/fail.h"
#include "base/json.h"

static bool ends_with(const char *text, const char *end)
{
    size_t size = strlen(text), tail = strlen(end);
    return size >= tail && strcasecmp(text + size - tail, end) == 0;
}

static const char *base_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* ---- checkpoints and packs ------------------------------------------------------------------- */

/* A weight file of the folder itself; what other programs' copies are called is left out. */
static bool is_safetensors(const char *path)
{
    return !strchr(path, '/') && ends_with(path, ".safetensors") &&
           strncasecmp(path, "consolidated", 12) != 0;
}

/* What stands beside the weights: configuration, tokenizer, templates. */
static bool is_companion(const char *path)
{
    static const char *const ends[] = {".json", ".jinja", ".model", ".tiktoken", ".txt"};
    if (strncmp(path, "additional_chat_templates/", 26) == 0) return ends_with(path, ".jinja");
    if (strchr(path, '/')) return false;
    if (ends_with(path, ".safetensors.index.json")) return strcmp(path, SL_HUB_INDEX_NAME) == 0;
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++)
        if (ends_with(path, ends[i])) return true;
    return false;
}

static bool is_pack(const sl__hub_list *list)
{
    return sl__hub_list_find(list, "manifest.json") && sl__hub_list_find(list, "resident.bin");
}

static void choose_pack(sl__hub_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        sl__hub_file *file = &list->files[i];
        file->chosen =
            is_companion(file->path) || (!strchr(file->path, '/') && ends_with(file->path, ".bin"));
    }
}

/* False: there are no weights. */
static bool choose_checkpoint(sl__hub_list *list, sl__hub_selection *out)
{
    out->has_index = sl__hub_list_find(list, SL_HUB_INDEX_NAME) != NULL;
    bool single = !out->has_index && sl__hub_list_find(list, "model.safetensors");
    bool any = false;
    for (size_t i = 0; i < list->count; i++) {
        const char *path = list->files[i].path;
        bool weights = single ? strcmp(path, "model.safetensors") == 0 : is_safetensors(path);
        any = any || weights;
        list->files[i].chosen = weights || is_companion(path);
    }
    for (size_t i = 0; i < list->count && !any; i++)
        list->files[i].chosen = false;
    return any;
}

/* Marks the files that the index names in `named`, a flag a file of the list. */
static sl_status mark_named(const sl__hub_list *list, const char *repo, const json_t *map,
                            bool *named, sl_error *err)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)map, key, value)
    {
        const char *path = json_string_value(value);
        const sl__hub_file *file = path ? sl__hub_list_find(list, path) : NULL;
        if (!path)
            return SL_FAIL(err, SL_EFORMAT, "%s: %s: tensor %s names no file", repo,
                           SL_HUB_INDEX_NAME, key);
        if (!file)
            return SL_FAIL(err, SL_EFORMAT, "%s: %s names %s, which the hub does not list", repo,
                           SL_HUB_INDEX_NAME, path);
        named[file - list->files] = true;
    }
    return SL_OK;
}

sl_status sl__hub_select_indexed(sl__hub_list *list, const char *repo, const char *index,
                                 size_t size, sl_error *err)
{
    json_t *root;
    SL_TRY(sl__json_parse(index, size, repo, &root, err));
    const json_t *map = json_object_get(root, "weight_map");
    sl__arena arena;
    sl__arena_init(&arena, 0);
    bool *named = SL_ARENA_NEW(&arena, bool, list->count);
    sl_status status = SL_OK;
    if (!named)
        status = SL_FAIL_NOMEM(err, "list of files");
    else if (!json_is_object(map) || json_object_size(map) == 0)
        status = SL_FAIL(err, SL_EFORMAT, "%s: %s has no \"weight_map\"", repo, SL_HUB_INDEX_NAME);
    else
        status = mark_named(list, repo, map, named, err);
    for (size_t i = 0; status == SL_OK && i < list->count; i++)
        if (named[i] || ends_with(list->files[i].path, ".safetensors"))
            list->files[i].chosen = named[i];
    sl__arena_free(&arena);
    json_decref(root);
    return status;
}

/* ---- GGUF ------------------------------------------------------------------------------------ */

typedef struct gguf_group {
    size_t first, count; /* files of the list */
    size_t stem_size;    /* of the first file's path */
    uint32_t parts;      /* as the names say; count differs where some are missing */
    uint64_t bytes;
    char quant[SL_HUB_QUANT_MAX];
} gguf_group;

/* "STEM-00002-of-00003.gguf" or "STEM.gguf": the stem's size, the part and how many there are. */
static size_t split_name(const char *path, uint32_t *part, uint32_t *parts)
{
    enum { SUFFIX = 15 }; /* "-00002-of-00003" */
    size_t size = strlen(path) - strlen(".gguf");
    *part = *parts = 1;
    if (size <= SUFFIX) return size;
    const char *tail = path + size - SUFFIX;
    if (tail[0] != '-' || strspn(tail + 1, "0123456789") != 5 ||
        strncmp(tail + 6, "-of-", 4) != 0 || strspn(tail + 10, "0123456789") != 5)
        return size;
    uint32_t numbers[2] = {0, 0};
    for (int i = 0; i < 5; i++) {
        numbers[0] = numbers[0] * 10 + (uint32_t)(tail[1 + i] - '0');
        numbers[1] = numbers[1] * 10 + (uint32_t)(tail[10 + i] - '0');
    }
    if (numbers[0] == 0 || numbers[0] > numbers[1]) return size;
    *part = numbers[0];
    *parts = numbers[1];
    return size - SUFFIX;
}

/* A GGUF file that is a model: not a vision tower, not what quantising was tuned with. */
static bool is_gguf_model(const char *path)
{
    const char *base = base_of(path);
    return ends_with(path, ".gguf") && strncasecmp(base, "mmproj", 6) != 0 &&
           strncasecmp(base, "imatrix", 7) != 0;
}

static bool is_quant_word(const char *word, size_t size)
{
    static const char *const floats[] = {"F16", "BF16", "F32", "FP16", "FP32"};
    for (size_t i = 0; i < sizeof floats / sizeof floats[0]; i++)
        if (strlen(floats[i]) == size && memcmp(word, floats[i], size) == 0) return true;
    if (size >= 5 && memcmp(word, "MXFP4", 5) == 0) return true;
    size_t at = size > 1 && (word[0] == 'I' || word[0] == 'T') ? 1 : 0;
    return size > at + 1 && word[at] == 'Q' && isdigit((unsigned char)word[at + 1]);
}

void sl__hub_quant_of(char out[SL_HUB_QUANT_MAX], const char *name, size_t size)
{
    out[0] = '\0';
    for (size_t at = 0; at < size;) {
        char word[SL_HUB_QUANT_MAX - 3]; /* room for "UD-" */
        size_t length = 0;
        while (at + length < size &&
               (isalnum((unsigned char)name[at + length]) || name[at + length] == '_'))
            length++;
        if (length > 0 && length < sizeof word) {
            for (size_t i = 0; i < length; i++)
                word[i] = (char)toupper((unsigned char)name[at + i]);
            word[length] = '\0';
            bool dynamic = at >= 3 && strncasecmp(name + at - 3, "UD-", 3) == 0 &&
                           (at == 3 || !isalnum((unsigned char)name[at - 4]));
            if (is_quant_word(word, length))
                snprintf(out, SL_HUB_QUANT_MAX, "%s%s", dynamic ? "UD-" : "", word);
        }
        at += length + 1;
    }
}

/* Adds the file at `index`; it continues the last group or begins one. False: sizes overflow. */
static bool add_part(gguf_group *groups, size_t *count, const sl__hub_list *list, size_t index)
{
    const char *path = list->files[index].path;
    uint32_t part, parts;
    size_t stem_size = split_name(path, &part, &parts);
    gguf_group *last = *count ? &groups[*count - 1] : NULL;
    bool continues = last && part == last->count + 1 && parts == last->parts &&
                     index == last->first + last->count && stem_size == last->stem_size &&
                     memcmp(path, list->files[last->first].path, stem_size) == 0;
    if (!continues) {
        last = &groups[(*count)++];
        /* A first part that is missing is noticed by its number. */
        *last = (gguf_group){.first = index, .stem_size = stem_size, .parts = parts};
        if (part != 1) last->parts = UINT32_MAX;
        sl__hub_quant_of(last->quant, path, stem_size);
    }
    last->count++;
    return sl__add_u64(&last->bytes, last->bytes, list->files[index].size);
}

static bool holds(const char *text, size_t size, const char *part)
{
    size_t length = strlen(part);
    for (size_t i = 0; length > 0 && i + length <= size; i++)
        if (strncasecmp(text + i, part, length) == 0) return true;
    return false;
}

static bool names_file(const sl__hub_list *list, const gguf_group *group, const char *selector)
{
    for (size_t i = 0; i < group->count; i++) {
        const char *path = list->files[group->first + i].path;
        if (strcmp(path, selector) == 0 || strcmp(base_of(path), selector) == 0) return true;
    }
    return false;
}

/* How many groups the selector fits, and the last of them. A file's name fits its model alone; a
 * quantisation those that have it, else those whose names hold it anywhere. */
static size_t fit(const sl__hub_list *list, const gguf_group *groups, size_t count,
                  const char *selector, const gguf_group **found)
{
    bool is_file = ends_with(selector, ".gguf");
    for (int pass = 0; pass < 2; pass++) {
        size_t fitting = 0;
        for (size_t i = 0; i < count; i++) {
            const gguf_group *group = &groups[i];
            bool fits = is_file ? names_file(list, group, selector)
                        : pass == 0
                            ? strcasecmp(group->quant, selector) == 0
                            : holds(list->files[group->first].path, group->stem_size, selector);
            if (!fits) continue;
            *found = group;
            fitting++;
        }
        if (fitting > 0 || is_file) return fitting;
    }
    return 0;
}

static sl_status offer_choices(sl__hub_selection *out, const sl__hub_list *list,
                               const gguf_group *groups, size_t count, sl__arena *arena,
                               sl_error *err)
{
    out->choices = SL_ARENA_NEW(arena, sl_pull_choice, count);
    if (!out->choices) return SL_FAIL_NOMEM(err, "list of files");
    for (size_t i = 0; i < count; i++) {
        const gguf_group *group = &groups[i], *found;
        bool by_quant = group->quant[0] && fit(list, groups, count, group->quant, &found) == 1;
        const char *selector =
            by_quant ? sl__arena_strdup(arena, group->quant) : list->files[group->first].path;
        if (!selector) return SL_FAIL_NOMEM(err, "list of files");
        out->choices[i] = (sl_pull_choice){
            .selector = selector, .bytes = group->bytes, .files = (uint32_t)group->count};
    }
    out->choice_count = count;
    return SL_OK;
}

/* "Q4_K_M (18.6 GB), Q8_0 (32.5 GB)", as many as there is room for. */
static void list_choices(char *out, size_t out_size, const sl__hub_selection *from)
{
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < from->choice_count; i++) {
        int n = snprintf(out + used, out_size - used, "%s%s (%.1f GB)", i ? ", " : "",
                         from->choices[i].selector, (double)from->choices[i].bytes / 1e9);
        if (n < 0 || (size_t)n + 8 >= out_size - used) {
            snprintf(out + used, out_size - used, ", …");
            return;
        }
        used += (size_t)n;
    }
}

static sl_status choose_gguf(sl__hub_list *list, const char *repo, const char *selector,
                             const gguf_group *groups, size_t count, sl__arena *arena,
                             sl__hub_selection *out, sl_error *err)
{
    const gguf_group *found = groups;
    size_t fitting = selector ? fit(list, groups, count, selector, &found) : count;
    if (fitting != 1) {
        char all[700];
        SL_TRY(offer_choices(out, list, groups, count, arena, err));
        list_choices(all, sizeof all, out);
        if (!selector)
            return SL_FAIL(err, SL_EINVAL,
                           "%s holds several GGUF models: name one, as in %s:%s: %s", repo, repo,
                           out->choices[0].selector, all);
        return SL_FAIL(err, SL_EINVAL, "%s: \"%.100s\" fits %s of its GGUF models: %s", repo,
                       selector, fitting ? "several" : "none", all);
    }
    const char *first = list->files[found->first].path;
    if (found->count != found->parts)
        return SL_FAIL(err, SL_EFORMAT, "%s: %s: not all parts of it are there (%zu)", repo, first,
                       found->count);
    out->main_path = first;
    for (size_t i = 0; i < found->count; i++)
        list->files[found->first + i].chosen = true;
    return SL_OK;
}

sl_status sl__hub_select(sl__hub_list *list, const char *repo, const char *selector,
                         sl__arena *arena, sl__hub_selection *out, sl_error *err)
{
    *out = (sl__hub_selection){0};
    for (size_t i = 0; i < list->count; i++)
        list->files[i].chosen = false;
    if (selector && !selector[0])
        return SL_FAIL(err, SL_EINVAL, "%s: nothing follows the ':'", repo);
    if (!selector && is_pack(list)) {
        choose_pack(list);
        return SL_OK;
    }
    if (!selector && choose_checkpoint(list, out)) return SL_OK;

    gguf_group *groups = SL_ARENA_NEW(arena, gguf_group, list->count);
    if (!groups) return SL_FAIL_NOMEM(err, "list of files");
    size_t count = 0;
    for (size_t i = 0; i < list->count; i++)
        if (is_gguf_model(list->files[i].path) && !add_part(groups, &count, list, i))
            return SL_FAIL(err, SL_EFORMAT, "%s: the sizes of its files are no sizes", repo);
    if (count > 0) return choose_gguf(list, repo, selector, groups, count, arena, out, err);
    if (selector)
        return SL_FAIL(err, SL_EINVAL,
                       "%s holds no GGUF files, which \":%.100s\" would choose among", repo,
                       selector);
    return SL_FAIL(err, SL_EUNSUPPORTED, "%s holds no model in safetensors, GGUF or a pack", repo);
}
