/* Where the hub is, where what it gave is kept, and who asks: from the environment, with the names
 * and the order of huggingface_hub, so that both programs share one cache. Private to this room.
 *
 *     endpoint   $HF_ENDPOINT, else https://huggingface.co
 *     home       $HF_HOME, else $XDG_CACHE_HOME/huggingface, else ~/.cache/huggingface
 *     hub        $HF_HUB_CACHE, else home/hub
 *     token      $HF_TOKEN, else the file $HF_TOKEN_PATH, else the file home/token, else none
 */
#ifndef SL_HUB_HUB_SETTINGS_H
#define SL_HUB_HUB_SETTINGS_H

#include "base/file.h"
#include "hub/hub_names.h"

#define SL_HUB_TOKEN_MAX 1024u

typedef struct sl__hub_settings {
    char endpoint[1024];          /* without a '/' at its end */
    sl__hub_origin origin;        /* of the endpoint; what alone gets the token */
    char token[SL_HUB_TOKEN_MAX]; /* "": none */
} sl__hub_settings;

/* The folder of the cache, which need not be there. SL_EINVAL where no variable says where. */
sl_status sl__hub_folder(char out[SL_PATH_MAX], sl_error *err);

/* SL_EINVAL where the endpoint is not https (or this machine), or the token is none. */
sl_status sl__hub_settings_read(sl__hub_settings *out, sl_error *err);

#endif
