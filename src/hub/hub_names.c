#include "hub/hub_names.h"

#include <string.h>

static bool is_alnum(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* ---- models, revisions, paths ---------------------------------------------------------------- */

enum { NAME_HALF_MAX = 96, PART_MAX = 255 };

static bool half_ok(const char *half, size_t size)
{
    if (size == 0 || size > NAME_HALF_MAX || !(is_alnum(half[0]) || half[0] == '_')) return false;
    for (size_t i = 0; i < size; i++) {
        if (!is_alnum(half[i]) && !strchr("._-", half[i])) return false;
        if (i > 0 && half[i] != '_' && half[i] == half[i - 1] && !is_alnum(half[i])) return false;
    }
    return true;
}

bool sl__hub_name_parse(sl__hub_name *out, const char *text)
{
    size_t size = strcspn(text, ":");
    const char *slash = memchr(text, '/', size);
    if (!slash || size >= sizeof out->repo) return false;
    size_t org = (size_t)(slash - text);
    if (!half_ok(text, org) || !half_ok(slash + 1, size - org - 1)) return false;
    memcpy(out->repo, text, size);
    out->repo[size] = '\0';
    out->selector = text[size] ? text + size + 1 : NULL;
    return true;
}

bool sl__hub_path_ok(const char *path)
{
    size_t total = strlen(path);
    if (total == 0 || total >= SL_HUB_PATH_MAX) return false;
    for (size_t i = 0; i < total; i++)
        if ((unsigned char)path[i] < 0x20 || path[i] == 0x7f || path[i] == '\\') return false;
    for (const char *part = path;;) {
        size_t size = strcspn(part, "/");
        if (size == 0 || size > PART_MAX) return false;
        if (part[0] == '.' && (size == 1 || (size == 2 && part[1] == '.'))) return false;
        if (!part[size]) return true;
        part += size + 1;
    }
}

bool sl__hub_revision_ok(const char *revision)
{
    if (strlen(revision) >= SL_HUB_REVISION_MAX || !sl__hub_path_ok(revision)) return false;
    for (const char *c = revision; *c; c++)
        if (!is_alnum(*c) && !strchr("._-/", *c)) return false;
    return revision[0] != '-';
}

bool sl__hub_is_hex(const char *text, size_t digits)
{
    return strlen(text) == digits && strspn(text, "0123456789abcdef") == digits;
}

/* ---- URLs ------------------------------------------------------------------------------------ */

bool sl__hub_url_append(sl__buffer *url, const char *text, bool keep_slashes)
{
    for (const char *c = text; *c; c++) {
        bool plain = is_alnum(*c) || strchr("-._~", *c) || (keep_slashes && *c == '/');
        bool ok = plain ? sl__buffer_append(url, c, 1)
                        : sl__buffer_printf(url, "%%%02X", (unsigned)(unsigned char)*c);
        if (!ok) return false;
    }
    return true;
}

/* The host at the front of text, lower-cased; its size, or 0 where it is none. */
static size_t take_host(char host[256], const char *text)
{
    bool bracketed = text[0] == '[';
    size_t size = bracketed ? strcspn(text, "]") + 1 : strcspn(text, ":/?#");
    if (size == 0 || size >= 256 || (bracketed && text[size - 1] != ']')) return 0;
    for (size_t i = 0; i < size; i++) {
        char c = text[i];
        bool ok = bracketed ? is_alnum(c) || strchr("[]:.", c) : is_alnum(c) || strchr("-._", c);
        if (!ok || c == '\0') return 0;
        host[i] = c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
    }
    host[size] = '\0';
    return size;
}

bool sl__hub_origin_of(sl__hub_origin *out, const char *url)
{
    for (const char *c = url; *c; c++)
        if (*c <= 0x20 || *c >= 0x7f || *c == '\\') return false;
    out->https = strncmp(url, "https://", 8) == 0;
    if (!out->https && strncmp(url, "http://", 7) != 0) return false;
    const char *rest = url + (out->https ? 8 : 7);
    size_t size = take_host(out->host, rest);
    if (size == 0) return false;
    rest += size;
    out->port = out->https ? 443 : 80;
    if (*rest == ':') {
        size_t digits = strspn(++rest, "0123456789");
        if (digits == 0 || digits > 5) return false;
        out->port = 0;
        for (size_t i = 0; i < digits; i++)
            out->port = out->port * 10 + (uint32_t)(rest[i] - '0');
        if (out->port == 0 || out->port > 65535) return false;
        rest += digits;
    }
    return *rest == '\0' || strchr("/?#", *rest) != NULL;
}

/* "127.x.x.x", each part of one to three digits and at most 255. */
static bool is_loopback_address(const char *host)
{
    if (strncmp(host, "127.", 4) != 0) return false;
    const char *part = host + 4;
    for (int left = 3; left > 0; left--) {
        size_t digits = strspn(part, "0123456789");
        if (digits == 0 || digits > 3) return false;
        unsigned value = 0;
        for (size_t i = 0; i < digits; i++)
            value = value * 10 + (unsigned)(part[i] - '0');
        if (value > 255 || part[digits] != (left > 1 ? '.' : '\0')) return false;
        part += digits + (left > 1);
    }
    return true;
}

bool sl__hub_origin_local(const sl__hub_origin *origin)
{
    return strcmp(origin->host, "localhost") == 0 || strcmp(origin->host, "[::1]") == 0 ||
           is_loopback_address(origin->host);
}

bool sl__hub_origin_safe(const sl__hub_origin *origin)
{
    return origin->https || sl__hub_origin_local(origin);
}

bool sl__hub_origin_same(const sl__hub_origin *a, const sl__hub_origin *b)
{
    return a->https == b->https && a->port == b->port && strcmp(a->host, b->host) == 0;
}
