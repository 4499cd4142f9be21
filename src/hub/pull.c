/* Pulling a model: list ── select ── plan ── fetch and verify ── name it.
 *
 * Nothing is written before the plan is known to fit, and refs/ is written when everything is
 * there.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/fail.h"
#include "hub/hub_digest.h"
#include "hub/hub_download.h"
#include "hub/hub_partial.h"
#include "hub/hub_select.h"

#define CONNECTIONS_DEFAULT 8u
#define TRIES_MAX           100u
#define INDEX_BYTES_MAX     100000000u  /* as the reader of checkpoints takes */
#define SPARE_BYTES         (64u << 20) /* left free on the disk */

typedef struct pull {
    const sl_pull_options *opt;
    sl__hub_name name;
    const char *revision;
    sl__hub_client client;
    sl__hub_cache cache;
    sl__hub_list list;
    sl__hub_selection selection;
    sl__arena arena;
    sl__buffer index; /* the text of SL_HUB_INDEX_NAME, where it was read */
    sl_pull_plan plan;
    char path[SL_PATH_MAX];
} pull;

static sl_status tick(void *ctx, const char *note)
{
    const pull *p = ctx;
    sl_pull_progress progress = {.note = note};
    return p->opt->progress ? p->opt->progress(p->opt->ctx, &progress) : SL_OK;
}

/* ---- what there is --------------------------------------------------------------------------- */

static sl_status get(pull *p, const sl__buffer *start, const char *what, sl__buffer *out,
                     sl_error *err)
{
    if (start->failed) return SL_FAIL_NOMEM(err, "request");
    return sl__hub_get(&p->client, start->data, what, out, err);
}

static sl_status fetch_list(pull *p, sl_error *err)
{
    sl__buffer start, text;
    sl__buffer_init(&start, SL_HTTP_URL_MAX);
    sl__buffer_init(&text, SL_HUB_LIST_BYTES_MAX);
    sl__buffer_printf(&start, "/api/models/%s/revision/", p->name.repo);
    sl__hub_url_append(&start, p->revision, false);
    sl__buffer_append_str(&start, "?blobs=true");
    sl_status status = get(p, &start, p->revision, &text, err);
    if (status == SL_OK)
        status = sl__hub_list_parse(&p->list, text.data ? text.data : "", text.size, p->name.repo,
                                    &p->arena, err);
    sl__buffer_free(&text);
    sl__buffer_free(&start);
    return status;
}

static sl_status check_index(const pull *p, const sl__hub_file *file, const sl__buffer *text,
                             sl_error *err)
{
    sl__hub_digest *sum;
    if (!file->digest[0]) return SL_OK; /* noticed below */
    SL_TRY(sl__hub_digest_create(&sum, file->digest, file->size, err));
    sl__hub_digest_update(sum, text->data ? text->data : "", text->size);
    bool same = text->size == file->size && sl__hub_digest_matches(sum);
    sl__hub_digest_destroy(sum);
    if (same) return SL_OK;
    return SL_FAIL(err, SL_ECORRUPT, "%s: %s: what the hub sends differs from its checksum",
                   p->name.repo, file->path);
}

/* The index says which weight files belong to the model. It is looked at in memory, since nothing
 * is written before all is known to fit on the disk. */
static sl_status fetch_index(pull *p, const sl__hub_file *file, sl_error *err)
{
    sl__buffer start;
    sl__buffer_init(&start, SL_HTTP_URL_MAX);
    sl__buffer_printf(&start, "/%s/resolve/%s/%s", p->name.repo, p->list.commit, SL_HUB_INDEX_NAME);
    sl_status status = get(p, &start, SL_HUB_INDEX_NAME, &p->index, err);
    sl__buffer_free(&start);
    return status == SL_OK ? check_index(p, file, &p->index, err) : status;
}

/* The cache's own copy, where it has one. */
static bool cached_index(pull *p, const sl__hub_file *file)
{
    char path[SL_PATH_MAX];
    char *data;
    size_t size;
    if (!file->digest[0] || sl__hub_blob_path(path, &p->cache, file->digest, "", NULL) != SL_OK ||
        sl__file_read(path, INDEX_BYTES_MAX, &data, &size, NULL) != SL_OK)
        return false;
    bool ok = size == file->size && sl__buffer_append(&p->index, data, size);
    free(data);
    return ok;
}

static sl_status narrow_by_index(pull *p, sl_error *err)
{
    const sl__hub_file *file = sl__hub_list_find(&p->list, SL_HUB_INDEX_NAME);
    if (!cached_index(p, file)) SL_TRY(fetch_index(p, file, err));
    return sl__hub_select_indexed(&p->list, p->name.repo, p->index.data ? p->index.data : "",
                                  p->index.size, err);
}

/* ---- the plan -------------------------------------------------------------------------------- */

static sl_status plan_file(pull *p, sl_pull_file *out, const sl__hub_file *file, sl_error *err)
{
    if (!file->digest[0])
        return SL_FAIL(err, SL_EFORMAT, "%s: %s: the hub gives no size and checksum of it",
                       p->name.repo, file->path);
    bool there = sl__hub_cache_has(&p->cache, p->list.commit, file);
    *out = (sl_pull_file){.path = file->path, .bytes = file->size};
    out->there_bytes = there ? file->size : sl__hub_partial_there(&p->cache, file);
    p->plan.there_bytes += out->there_bytes; /* at most the total */
    if (!sl__add_u64(&p->plan.total_bytes, p->plan.total_bytes, file->size))
        return SL_FAIL(err, SL_EFORMAT, "%s: the sizes of its files are no sizes", p->name.repo);
    return SL_OK;
}

static sl_status make_plan(pull *p, sl_error *err)
{
    sl_pull_plan *plan = &p->plan;
    sl_pull_file *files = SL_ARENA_NEW(&p->arena, sl_pull_file, p->list.count);
    if (!files) return SL_FAIL_NOMEM(err, "list of files");
    for (size_t i = 0; i < p->list.count; i++)
        if (p->list.files[i].chosen)
            SL_TRY(plan_file(p, &files[plan->file_count++], &p->list.files[i], err));
    plan->files = files;
    plan->path = p->path;
    SL_TRY(sl__hub_snapshot_path(p->path, &p->cache, p->list.commit, p->selection.main_path, err));
    return sl__file_free_bytes(p->cache.hub, &plan->free_bytes, err);
}

static sl_status check_space(const pull *p, sl_error *err)
{
    const sl_pull_plan *plan = &p->plan;
    uint64_t wanted = plan->total_bytes - plan->there_bytes;
    if (wanted == 0 ||
        (plan->free_bytes >= SPARE_BYTES && wanted <= plan->free_bytes - SPARE_BYTES))
        return SL_OK;
    return SL_FAIL(err, SL_EIO,
                   "%s: too little room for %s: %.1f GB are missing of it, and %.1f GB are free "
                   "(HF_HUB_CACHE names another place)",
                   p->cache.hub, p->name.repo, (double)wanted / 1e9,
                   (double)plan->free_bytes / 1e9);
}

static sl_status show_plan(const pull *p)
{
    return p->opt->plan ? p->opt->plan(p->opt->ctx, &p->plan) : SL_OK;
}

/* Which files, and whether they fit. Where the user has to choose, the plan shows among what. */
static sl_status plan_pull(pull *p, sl_error *err)
{
    p->plan = (sl_pull_plan){.name = p->name.repo, .revision = p->revision};
    SL_TRY(fetch_list(p, err));
    p->plan.commit = p->list.commit;
    sl_status status =
        sl__hub_select(&p->list, p->name.repo, p->name.selector, &p->arena, &p->selection, err);
    p->plan.choices = p->selection.choices;
    p->plan.choice_count = p->selection.choice_count;
    if (status != SL_OK) {
        sl_status shown = p->plan.choice_count ? show_plan(p) : SL_OK;
        return shown != SL_OK ? shown : status;
    }
    if (p->selection.has_index) SL_TRY(narrow_by_index(p, err));
    SL_TRY(make_plan(p, err));
    SL_TRY(show_plan(p));
    return p->opt->dry_run ? SL_OK : check_space(p, err);
}

/* ---- fetching -------------------------------------------------------------------------------- */

/* What was read and verified need not come again. */
static sl_status keep_index(const pull *p, sl_error *err)
{
    char path[SL_PATH_MAX];
    if (!p->selection.has_index) return SL_OK;
    const sl__hub_file *file = sl__hub_list_find(&p->list, SL_HUB_INDEX_NAME);
    if (sl__hub_cache_has(&p->cache, p->list.commit, file)) return SL_OK;
    SL_TRY(sl__hub_blob_path(path, &p->cache, file->digest, "", err));
    return sl__file_write_atomic(path, p->index.data, p->index.size, err);
}

static sl_status fetch(pull *p, sl_error *err)
{
    SL_TRY(keep_index(p, err));
    sl__hub_download download = {.client = &p->client,
                                 .cache = &p->cache,
                                 .list = &p->list,
                                 .connections = p->opt->connections,
                                 .progress = p->opt->progress,
                                 .ctx = p->opt->ctx};
    download.at.total_bytes = p->plan.total_bytes;
    download.at.total_files = (uint32_t)p->plan.file_count;
    for (size_t i = 0; i < p->list.count; i++) {
        const sl__hub_file *file = &p->list.files[i];
        if (!file->chosen || !sl__hub_cache_has(&p->cache, p->list.commit, file)) continue;
        download.at.done_bytes += file->size;
        download.at.done_files++;
    }
    return sl__hub_download_run(&download, err);
}

/* A ref says that all is there: what it speaks of goes to the disk before it. */
static sl_status sync_folders(const pull *p, sl_error *err)
{
    char path[SL_PATH_MAX];
    SL_TRY(sl__hub_snapshot_path(path, &p->cache, p->list.commit, NULL, err));
    SL_TRY(sl__file_sync_dir(path, err));
    SL_TRY(sl__hub_blob_path(path, &p->cache, "", "", err));
    return sl__file_sync_dir(path, err);
}

static sl_status fetch_locked(pull *p, sl_error *err)
{
    int lock;
    SL_TRY(sl__hub_cache_create(&p->cache, err));
    SL_TRY(sl__hub_lock(&p->cache, "sluice", &lock, err));
    if (lock < 0) return SL_FAIL(err, SL_EIO, "%s: another pull of it is running", p->name.repo);
    sl_status status = fetch(p, err);
    if (status == SL_OK) status = sync_folders(p, err);
    if (status == SL_OK && !sl__hub_is_hex(p->revision, SL_HUB_COMMIT_TEXT - 1))
        status = sl__hub_ref_write(&p->cache, p->revision, p->list.commit, err);
    close(lock);
    return status;
}

static sl_status pull_model(pull *p, sl_error *err)
{
    char hub[SL_PATH_MAX];
    SL_TRY(sl__hub_settings_read(&p->client.settings, err));
    SL_TRY(sl__hub_folder(hub, err));
    SL_TRY(sl__hub_cache_at(&p->cache, hub, p->name.repo, err));
    SL_TRY(sl__http_create(&p->client.http, p->opt->connections, err));
    SL_TRY(plan_pull(p, err));
    return p->opt->dry_run ? SL_OK : fetch_locked(p, err);
}

static sl_status take_options(pull *p, sl_pull_options *opt, sl_error *err)
{
    p->opt = opt;
    p->revision = opt->revision ? opt->revision : "main";
    if (!opt->connections) opt->connections = CONNECTIONS_DEFAULT;
    if (!opt->tries) opt->tries = SL_HUB_TRIES_DEFAULT;
    if (opt->connections > SL_HUB_CONNECTIONS_MAX || opt->tries > TRIES_MAX)
        return SL_FAIL(err, SL_EINVAL, "at most %u connections and %u tries",
                       SL_HUB_CONNECTIONS_MAX, TRIES_MAX);
    if (!sl__hub_revision_ok(p->revision))
        return SL_FAIL(err, SL_EINVAL, "\"%.200s\" is no revision", p->revision);
    p->client.tries = opt->tries;
    p->client.repo = p->name.repo;
    p->client.tick = tick;
    p->client.tick_ctx = p;
    return SL_OK;
}

sl_status sl_pull(const char *name, const sl_pull_options *opt, char *out, size_t out_size,
                  sl_error *err)
{
    sl_pull_options options = {0};
    if (opt) options = *opt;
    pull *p = calloc(1, sizeof *p);
    if (!p) return SL_FAIL_NOMEM(err, "pull");
    sl__arena_init(&p->arena, 0);
    sl__buffer_init(&p->index, INDEX_BYTES_MAX);
    sl_status status;
    if (!sl__hub_name_parse(&p->name, name))
        status = SL_FAIL(err, SL_EINVAL, "\"%.200s\" is no name of the form ORG/NAME", name);
    else
        status = take_options(p, &options, err);
    if (status == SL_OK) status = pull_model(p, err);
    if (status == SL_OK) status = sl__hub_path_copy(out, out_size, p->path, err);
    sl__http_destroy(p->client.http);
    sl__buffer_free(&p->index);
    sl__arena_free(&p->arena);
    free(p);
    return status;
}
