#include "text/utf8.h"

#include <string.h>

#include <utf8proc.h>

#define REPLACEMENT "\xef\xbf\xbd"

/* What may follow a lead byte: the length of the sequence, and the range of its second byte; later
 * bytes are 80..BF. Length 0: no sequence starts so. */
static unsigned lead_info(unsigned char lead, unsigned char *low, unsigned char *high)
{
    *low = 0x80;
    *high = 0xbf;
    if (lead < 0x80) return 1;
    if (lead < 0xc2) return 0;
    if (lead < 0xe0) return 2;
    if (lead < 0xf0) {
        if (lead == 0xe0) *low = 0xa0;
        if (lead == 0xed) *high = 0x9f;
        return 3;
    }
    if (lead > 0xf4) return 0;
    if (lead == 0xf0) *low = 0x90;
    if (lead == 0xf4) *high = 0x8f;
    return 4;
}

int sl__utf8_step(const unsigned char *p, size_t n, uint32_t *cp)
{
    unsigned char low, high;
    unsigned length = lead_info(p[0], &low, &high);
    if (length == 0) return -1;
    if (length == 1) {
        *cp = p[0];
        return 1;
    }
    uint32_t value = p[0] & (0xffu >> (length + 1));
    for (unsigned i = 1; i < length; i++) {
        if (i == n) return 0;
        if (p[i] < low || p[i] > high) return -(int)i;
        low = 0x80;
        high = 0xbf;
        value = value << 6 | (p[i] & 0x3fu);
    }
    *cp = value;
    return (int)length;
}

size_t sl__utf8_valid(const char *text, size_t size)
{
    const unsigned char *p = (const unsigned char *)text;
    size_t i = 0;
    while (i < size) {
        uint64_t word;
        if (size - i >= sizeof word) {
            memcpy(&word, p + i, sizeof word);
            if (!(word & 0x8080808080808080u)) {
                i += sizeof word;
                continue;
            }
        }
        uint32_t cp;
        int step = sl__utf8_step(p + i, size - i, &cp);
        if (step <= 0) break;
        i += (size_t)step;
    }
    return i;
}

unsigned sl__utf8_put(uint32_t cp, char out[4])
{
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    if (cp < 0x800) {
        out[0] = (char)(0xc0 | cp >> 6);
        out[1] = (char)(0x80 | (cp & 0x3f));
        return 2;
    }
    if (cp < 0x10000) {
        out[0] = (char)(0xe0 | cp >> 12);
        out[1] = (char)(0x80 | (cp >> 6 & 0x3f));
        out[2] = (char)(0x80 | (cp & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | cp >> 18);
    out[1] = (char)(0x80 | (cp >> 12 & 0x3f));
    out[2] = (char)(0x80 | (cp >> 6 & 0x3f));
    out[3] = (char)(0x80 | (cp & 0x3f));
    return 4;
}

bool sl__utf8_is_word(uint32_t cp)
{
    switch (utf8proc_category((utf8proc_int32_t)cp)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
        return true;
    default:
        break;
    }
    /* Alphabetic symbols (letters in circles and squares), and the two joiners. */
    return (cp >= 0x24b6 && cp <= 0x24e9) || (cp >= 0x1f130 && cp <= 0x1f149) ||
           (cp >= 0x1f150 && cp <= 0x1f169) || (cp >= 0x1f170 && cp <= 0x1f189) || cp == 0x200c ||
           cp == 0x200d;
}

bool sl__utf8_is_space(uint32_t cp)
{
    return (cp >= 0x09 && cp <= 0x0d) || cp == 0x20 || cp == 0x85 || cp == 0xa0 || cp == 0x1680 ||
           (cp >= 0x2000 && cp <= 0x200a) || cp == 0x2028 || cp == 0x2029 || cp == 0x202f ||
           cp == 0x205f || cp == 0x3000;
}

/* Adds bytes to the held ones until they are decided. Returns how many of `bytes` were used. */
static size_t mend_held(sl__utf8_mender *mender, const unsigned char *bytes, size_t size,
                        sl__buffer *out)
{
    size_t used = 0;
    while (mender->held_size > 0 && used < size) {
        mender->held[mender->held_size] = bytes[used];
        uint32_t cp;
        int step = sl__utf8_step(mender->held, mender->held_size + 1, &cp);
        if (step < 0) {
            /* The new byte does not belong to what was held; it is looked at again as a start. */
            sl__buffer_append_str(out, REPLACEMENT);
            mender->held_size = 0;
            break;
        }
        used++;
        mender->held_size++;
        if (step > 0) {
            sl__buffer_append(out, mender->held, mender->held_size);
            mender->held_size = 0;
        }
    }
    return used;
}

bool sl__utf8_mend(sl__utf8_mender *mender, const void *bytes, size_t size, sl__buffer *out)
{
    const unsigned char *p = bytes;
    size_t i = mend_held(mender, p, size, out);
    while (i < size) {
        size_t good = sl__utf8_valid((const char *)p + i, size - i);
        sl__buffer_append(out, p + i, good);
        i += good;
        if (i == size) break;
        uint32_t cp;
        int step = sl__utf8_step(p + i, size - i, &cp);
        if (step == 0) {
            mender->held_size = (unsigned)(size - i);
            memcpy(mender->held, p + i, size - i);
            break;
        }
        sl__buffer_append_str(out, REPLACEMENT);
        i += (size_t)-step;
    }
    return !out->failed;
}

bool sl__utf8_mend_end(sl__utf8_mender *mender, sl__buffer *out)
{
    if (mender->held_size > 0) sl__buffer_append_str(out, REPLACEMENT);
    mender->held_size = 0;
    return !out->failed;
}
