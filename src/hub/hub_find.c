/* Finding a model that was pulled, by its name: offline, and without what downloads need, so that a
 * program which only finds models loads none of that. */
#include <stdio.h>

#include "base/fail.h"
#include "hub/hub_cache.h"
#include "hub/hub_names.h"
#include "hub/hub_select.h"
#include "hub/hub_settings.h"

sl_status sl__hub_path_copy(char *out, size_t out_size, const char *path, sl_error *err)
{
    int n = snprintf(out, out_size, "%s", path);
    if (n >= 0 && (size_t)n < out_size) return SL_OK;
    return SL_FAIL(err, SL_EINVAL, "%s: the path is too long", path);
}

bool sl_hub_is_name(const char *text)
{
    sl__hub_name name;
    return sl__hub_name_parse(&name, text);
}

static sl_status find(const sl__hub_name *name, const char *full, sl__arena *arena, char *out,
                      size_t out_size, sl_error *err)
{
    char hub[SL_PATH_MAX], path[SL_PATH_MAX], commit[SL_HUB_COMMIT_TEXT];
    sl__hub_cache cache;
    sl__hub_list list;
    sl__hub_selection selection;
    SL_TRY(sl__hub_folder(hub, err));
    SL_TRY(sl__hub_cache_at(&cache, hub, name->repo, err));
    bool there = sl__hub_ref_read(&cache, "main", commit) &&
                 sl__hub_snapshot_list(&list, &cache, commit, arena, NULL) == SL_OK;
    if (!there)
        return SL_FAIL(err, SL_EIO,
                       "%s: no such file, and no such model in the hub's cache: 'sluice pull %s' "
                       "downloads one",
                       full, full);
    sl_error why = {0};
    sl_status status = sl__hub_select(&list, name->repo, name->selector, arena, &selection, &why);
    if (status != SL_OK)
        return SL_FAIL(err, status, "in the hub's cache, %s ('sluice pull' fetches more)",
                       why.message);
    SL_TRY(sl__hub_snapshot_path(path, &cache, commit, selection.main_path, err));
    return sl__hub_path_copy(out, out_size, path, err);
}

sl_status sl_hub_find(const char *name, char *out, size_t out_size, sl_error *err)
{
    sl__hub_name parsed;
    if (!sl__hub_name_parse(&parsed, name))
        return SL_FAIL(err, SL_EINVAL, "\"%.200s\" is no name of the form ORG/NAME", name);
    sl__arena arena;
    sl__arena_init(&arena, 0);
    sl_status status = find(&parsed, name, &arena, out, out_size, err);
    sl__arena_free(&arena);
    return status;
}
