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
bool sl__jis_numeric(uint32_t cp); /* fractions, letters of numbers and such besides */
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
    *length = p[0] < 0x80u ? 1 : p[0] < 0xe0u ? 2 : p[0] < 0xf0u ? 3 : 4;
    uint32_t cp = *length == 1 ? p[0] : p[0] & (0x7fu >> *length);
    for (size_t i = 1; i < *length; i++)
        cp = cp << 6 | (p[i] & 0x3fu);
    return cp;
}

#endif
