/* Characters as Python's str sees them. All sizes are in bytes of well-formed UTF-8. */
#ifndef SL_TEXT_JINJA_CHARS_H
#define SL_TEXT_JINJA_CHARS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool sl__jis_space(uint32_t cp); /* str.isspace, and \s */
bool sl__jis_printable(uint32_t cp);
bool sl__jis_alpha(uint32_t cp);
bool sl__jis_digit(uint32_t cp);   /* decimal digits, superscripts too */
bool sl__jis_decimal(uint32_t cp); /* what int() reads */
bool sl__jis_upper(uint32_t cp);   /* title case is neither */
bool sl__jis_lower(uint32_t cp);
bool sl__jis_title(uint32_t cp);

/* Bytes of white space at the beginning, at the end. */
size_t sl__jspace_prefix(const char *text, size_t size);
size_t sl__jspace_suffix(const char *text, size_t size);

/* One character in another case, at most three characters long; bytes written. */
typedef enum sl__jcase { SL_J_LOWER, SL_J_UPPER, SL_J_TITLE } sl__jcase;
size_t sl__jrecase(uint32_t cp, sl__jcase to, char out[12]);

/* The character at text[at], and its length. */
static inline uint32_t sl__jchar(const char *text, size_t at, size_t *length)
{
    const unsigned char *p = (const unsigned char *)text + at;
    if (p[0] < 0x80u) return *length = 1, p[0];
    if (p[0] < 0xe0u) return *length = 2, (p[0] & 0x1fu) << 6 | (p[1] & 0x3fu);
    if (p[0] < 0xf0u)
        return *length = 3, (p[0] & 0xfu) << 12 | (p[1] & 0x3fu) << 6 | (p[2] & 0x3fu);
    *length = 4;
    return (p[0] & 0x7u) << 18 | (p[1] & 0x3fu) << 12 | (p[2] & 0x3fu) << 6 | (p[3] & 0x3fu);
}

#endif
