#include "hub/hub_settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"

#define DEFAULT_ENDPOINT "https://huggingface.co"

/* A variable that is set to something; NULL: it is not. */
static const char *variable(const char *name)
{
    const char *value = getenv(name);
    return value && value[0] ? value : NULL;
}

static bool home_folder(char out[SL_PATH_MAX])
{
    const char *named = variable("HF_HOME"), *cache = variable("XDG_CACHE_HOME");
    const char *home = variable("HOME");
    int n = -1;
    if (named)
        n = snprintf(out, SL_PATH_MAX, "%s", named);
    else if (cache)
        n = snprintf(out, SL_PATH_MAX, "%s/huggingface", cache);
    else if (home)
        n = snprintf(out, SL_PATH_MAX, "%s/.cache/huggingface", home);
    return n > 0 && (size_t)n < SL_PATH_MAX;
}

sl_status sl__hub_folder(char out[SL_PATH_MAX], sl_error *err)
{
    char home[SL_PATH_MAX];
    const char *named = variable("HF_HUB_CACHE");
    if (!named) named = variable("HUGGINGFACE_HUB_CACHE");
    int n = -1;
    if (named)
        n = snprintf(out, SL_PATH_MAX, "%s", named);
    else if (home_folder(home))
        n = snprintf(out, SL_PATH_MAX, "%s/hub", home);
    if (n > 0 && (size_t)n < SL_PATH_MAX) return SL_OK;
    return SL_FAIL(err, SL_EINVAL,
                   "the hub's cache has no place: set HF_HUB_CACHE, HF_HOME or HOME");
}

/* ---- the token ------------------------------------------------------------------------------- */

/* Without the white space around it. A line break in the middle would end the header it goes into.
 */
static sl_status take_token(sl__hub_settings *out, const char *text, const char *from,
                            sl_error *err)
{
    static const char space[] = " \t\r\n";
    text += strspn(text, space);
    size_t size = strlen(text);
    while (size > 0 && strchr(space, text[size - 1]))
        size--;
    if (size >= sizeof out->token) return SL_FAIL(err, SL_EINVAL, "%s: too long a token", from);
    for (size_t i = 0; i < size; i++)
        if (text[i] <= 0x20 || text[i] >= 0x7f)
            return SL_FAIL(err, SL_EINVAL, "%s: a token is one word of ASCII", from);
    memcpy(out->token, text, size);
    out->token[size] = '\0';
    return SL_OK;
}

static sl_status token_from_file(sl__hub_settings *out, const char *path, sl_error *err)
{
    char *text;
    size_t size;
    SL_TRY(sl__file_read(path, 2 * SL_HUB_TOKEN_MAX, &text, &size, err));
    sl_status status = take_token(out, text, path, err);
    free(text);
    return status;
}

static sl_status read_token(sl__hub_settings *out, sl_error *err)
{
    char path[SL_PATH_MAX];
    const char *token = variable("HF_TOKEN"), *file = variable("HF_TOKEN_PATH");
    if (!token) token = variable("HUGGING_FACE_HUB_TOKEN");
    if (token) SL_TRY(take_token(out, token, "HF_TOKEN", err));
    if (out->token[0]) return SL_OK;
    if (!file && home_folder(path)) {
        size_t used = strlen(path);
        int n = snprintf(path + used, sizeof path - used, "/token");
        if (n > 0 && (size_t)n < sizeof path - used) file = path;
    }
    if (!file || !sl__file_exists(file)) return SL_OK;
    return token_from_file(out, file, err);
}

sl_status sl__hub_settings_read(sl__hub_settings *out, sl_error *err)
{
    *out = (sl__hub_settings){0};
    const char *endpoint = variable("HF_ENDPOINT");
    if (!endpoint) endpoint = DEFAULT_ENDPOINT;
    size_t size = strlen(endpoint);
    while (size > 0 && endpoint[size - 1] == '/')
        size--;
    if (size >= sizeof out->endpoint) return SL_FAIL(err, SL_EINVAL, "HF_ENDPOINT is too long");
    memcpy(out->endpoint, endpoint, size);
    out->endpoint[size] = '\0';
    if (!sl__hub_origin_of(&out->origin, out->endpoint) || strpbrk(out->endpoint, "?#"))
        return SL_FAIL(err, SL_EINVAL, "HF_ENDPOINT: %s is not https://HOST", out->endpoint);
    if (!sl__hub_origin_safe(&out->origin))
        return SL_FAIL(
            err, SL_EINVAL,
            "HF_ENDPOINT: %s is not https, which only this machine itself may be without",
            out->endpoint);
    return read_token(out, err);
}
