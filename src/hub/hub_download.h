/* Fetching files of one commit into the cache, in pieces, several at a time, each file verified
 * before it gets its name. Private to this room. */
#ifndef SL_HUB_HUB_DOWNLOAD_H
#define SL_HUB_HUB_DOWNLOAD_H

#include "hub/hub_cache.h"
#include "hub/hub_request.h"

#define SL_HUB_CONNECTIONS_MAX 64u

typedef struct sl__hub_download {
    sl__hub_client *client;
    const sl__hub_cache *cache;
    const sl__hub_list
        *list;            /* files that are chosen are fetched, or linked where they are there */
    uint32_t connections; /* 1 to SL_HUB_CONNECTIONS_MAX */
    /* As in sl_pull_options; may be NULL. */
    sl_status (*progress)(void *ctx, const sl_pull_progress *progress);
    void *ctx;
    sl_pull_progress at; /* total and what was there before, filled by the caller */
} sl__hub_download;

/* After a failure, what has come stays, to be resumed. */
sl_status sl__hub_download_run(sl__hub_download *download, sl_error *err);

#endif
