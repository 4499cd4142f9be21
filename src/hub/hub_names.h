/* Names of the hub: models, revisions, paths in a repository, URLs. What comes from outside is
 * checked here before it becomes a path on the disk or an address. Private to this room. */
#ifndef SL_HUB_HUB_NAMES_H
#define SL_HUB_HUB_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"

#define SL_HUB_REPO_MAX     200u  /* "ORG/NAME" and its NUL */
#define SL_HUB_REVISION_MAX 256u  /* of a branch, a tag or a commit, and its NUL */
#define SL_HUB_PATH_MAX     1024u /* of a file in a repository, and its NUL */
#define SL_HUB_COMMIT_TEXT  41u   /* 40 hex digits and a NUL */

typedef struct sl__hub_name {
    char repo[SL_HUB_REPO_MAX]; /* "ORG/NAME" */
    const char *selector;       /* what followed a ':', borrowed; NULL: nothing did */
} sl__hub_name;

/* "ORG/NAME" or "ORG/NAME:SELECTOR". Both halves are of letters, digits, '.', '_' and '-', begin
 * with a letter, a digit or '_', and hold neither ".." nor "--" (which stands for the slash in the
 * cache's folder names). False: text is not of this form. */
bool sl__hub_name_parse(sl__hub_name *out, const char *text);

/* A path that stays in its folder, on every system: parts apart by '/', none of them empty, ".",
 * ".." or longer than 255 bytes; no backslash, no control character. */
bool sl__hub_path_ok(const char *path);

/* The same of a branch, a tag, "refs/pr/1" or a commit, of letters, digits and "._-/". */
bool sl__hub_revision_ok(const char *revision);

bool sl__hub_is_hex(const char *text, size_t digits); /* exactly so many, lower-case */

/* Appends text to a URL; what is no letter, digit or one of "-._~" is percent-encoded, a '/' only
 * where keep_slashes is false. */
bool sl__hub_url_append(sl__buffer *url, const char *text, bool keep_slashes);

/* Where a URL leads. */
typedef struct sl__hub_origin {
    bool https;
    char host[256]; /* lower-case; an IPv6 address with its brackets */
    uint32_t port;
} sl__hub_origin;

/* False where url is none of http:// or https:// with a plain host: a user's name, a space, a
 * backslash or anything outside ASCII in it is refused, since others could read it differently. */
bool sl__hub_origin_of(sl__hub_origin *out, const char *url);
bool sl__hub_origin_local(const sl__hub_origin *origin); /* localhost, 127.x.x.x, [::1] */
/* Nobody on the way can read or change what goes there: https, or this machine itself. */
bool sl__hub_origin_safe(const sl__hub_origin *origin);
bool sl__hub_origin_same(const sl__hub_origin *a, const sl__hub_origin *b);

#endif
