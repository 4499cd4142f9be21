/* Characters as Python's str sees them: Unicode's properties, from utf8proc. */
#include "text/jinja_chars.h"

#include <string.h>
#include <utf8proc.h>

#include "text/utf8.h"

static utf8proc_category_t category(uint32_t cp)
{
    return utf8proc_category((utf8proc_int32_t)cp);
}

bool sl__jis_space(uint32_t cp)
{
    return (cp >= 0x1c && cp <= 0x1f) || sl__utf8_is_space(cp);
}

bool sl__jis_printable(uint32_t cp)
{
    if (cp < 0x7f) return cp >= 0x20;
    switch (category(cp)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
        return false;
    default:
        return true;
    }
}

bool sl__jis_alpha(uint32_t cp)
{
    utf8proc_category_t c = category(cp);
    return c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO;
}

bool sl__jis_decimal(uint32_t cp)
{
    return category(cp) == UTF8PROC_CATEGORY_ND;
}

bool sl__jis_numeric(uint32_t cp)
{
    /* Ideographs that are numbers, which Unicode's categories do not tell. */
    static const uint32_t ideographs[] = {
        0x3405,  0x3483,  0x382a,  0x3b4d,  0x4e00,  0x4e03,  0x4e07,  0x4e09,  0x4e5d,
        0x4e8c,  0x4e94,  0x4e96,  0x4ebf,  0x4ec0,  0x4edf,  0x4ee8,  0x4f0d,  0x4f70,
        0x5104,  0x5146,  0x5169,  0x516b,  0x516d,  0x5341,  0x5343,  0x5344,  0x5345,
        0x534c,  0x53c1,  0x53c2,  0x53c3,  0x53c4,  0x56db,  0x58f1,  0x58f9,  0x5e7a,
        0x5efe,  0x5eff,  0x5f0c,  0x5f0d,  0x5f0e,  0x5f10,  0x62fe,  0x634c,  0x67d2,
        0x6f06,  0x7396,  0x767e,  0x8086,  0x842c,  0x8cae,  0x8cb3,  0x8d30,  0x9621,
        0x9646,  0x964c,  0x9678,  0x96f6,  0xf96b,  0xf973,  0xf978,  0xf9b2,  0xf9d1,
        0xf9d3,  0xf9fd,  0x20001, 0x20064, 0x200e2, 0x20121, 0x2092a, 0x20983, 0x2098c,
        0x2099c, 0x20aea, 0x20afd, 0x20b19, 0x22390, 0x22998, 0x23b1b, 0x2626d, 0x2f890};
    const utf8proc_category_t c = category(cp);
    bool found = c >= UTF8PROC_CATEGORY_ND && c <= UTF8PROC_CATEGORY_NO;
    for (size_t i = 0; !found && i < sizeof ideographs / sizeof ideographs[0]; i++)
        found = ideographs[i] == cp;
    return found;
}

bool sl__jis_digit(uint32_t cp)
{
    return sl__jis_decimal(cp) || cp == 0xb2 || cp == 0xb3 || cp == 0xb9 || cp == 0x2070 ||
           (cp >= 0x2074 && cp <= 0x2079) || (cp >= 0x2080 && cp <= 0x2089) ||
           (cp >= 0x2460 && cp <= 0x2468);
}

bool sl__jis_upper(uint32_t cp)
{
    return category(cp) == UTF8PROC_CATEGORY_LU;
}

bool sl__jis_title(uint32_t cp)
{
    return category(cp) == UTF8PROC_CATEGORY_LT;
}

bool sl__jis_lower(uint32_t cp)
{
    return category(cp) == UTF8PROC_CATEGORY_LL || cp == 0xaa || cp == 0xba;
}

size_t sl__jspace_prefix(const char *text, size_t size)
{
    size_t at = 0, length;
    while (at < size && sl__jis_space(sl__jchar(text, at, &length)))
        at += length;
    return at;
}

size_t sl__jspace_suffix(const char *text, size_t size)
{
    size_t end = size, length;
    while (end > 0) {
        size_t at = end - 1;
        while (at > 0 && ((unsigned char)text[at] & 0xc0u) == 0x80u)
            at--;
        if (!sl__jis_space(sl__jchar(text, at, &length))) break;
        end = at;
    }
    return size - end;
}

/* Characters that become several, those in living use: Unicode's SpecialCasing. */
static const char *several(uint32_t cp, sl__jcase to)
{
    if (to == SL_J_LOWER) return cp == 0x130 ? "i\xcc\x87" : NULL;
    bool upper = to == SL_J_UPPER;
    switch (cp) {
    case 0xdf:
        return upper ? "SS" : "Ss";
    case 0x149:
        return "\xca\xbcN";
    case 0xfb00:
        return upper ? "FF" : "Ff";
    case 0xfb01:
        return upper ? "FI" : "Fi";
    case 0xfb02:
        return upper ? "FL" : "Fl";
    case 0xfb03:
        return upper ? "FFI" : "Ffi";
    case 0xfb04:
        return upper ? "FFL" : "Ffl";
    case 0xfb05:
    case 0xfb06:
        return upper ? "ST" : "St";
    default:
        return NULL;
    }
}

size_t sl__jrecase(uint32_t cp, sl__jcase to, char out[12])
{
    const char *text = several(cp, to);
    if (text) {
        memcpy(out, text, strlen(text));
        return strlen(text);
    }
    utf8proc_int32_t c = (utf8proc_int32_t)cp;
    c = to == SL_J_LOWER   ? utf8proc_tolower(c)
        : to == SL_J_UPPER ? utf8proc_toupper(c)
                           : utf8proc_totitle(c);
    return sl__utf8_put((uint32_t)c, out);
}
