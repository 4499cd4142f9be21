/* UTF-8: stepping through bytes that may not be, and mending them for output. */
#ifndef SL_TEXT_UTF8_H
#define SL_TEXT_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"

/* Looks at the sequence that starts at p (n >= 1 bytes are there).
 *   > 0  its length; *cp is its code point
 *   < 0  ill-formed: minus the length of its maximal subpart, the bytes one U+FFFD stands for
 *     0  all n bytes are the beginning of a sequence that more bytes may complete */
int sl__utf8_step(const unsigned char *p, size_t n, uint32_t *cp);

/* The length of the longest well-formed text at p. */
size_t sl__utf8_valid(const char *text, size_t size);

/* Writes cp (a scalar value), returns 1 to 4. */
unsigned sl__utf8_put(uint32_t cp, char out[4]);

/* Letters, marks, decimal digits, letter-like numbers, connector punctuation: what \w means. */
bool sl__utf8_is_word(uint32_t cp);
bool sl__utf8_is_space(uint32_t cp); /* Unicode White_Space */

/* Bytes in, well-formed text out: ill-formed sequences become U+FFFD, one for each maximal subpart;
 * a sequence that is not yet complete is held back. */
typedef struct sl__utf8_mender {
    unsigned char held[4];
    unsigned held_size; /* 0..3 */
} sl__utf8_mender;

/* Appends at most 3 * (held + size) bytes. False where out refused them. */
bool sl__utf8_mend(sl__utf8_mender *mender, const void *bytes, size_t size, sl__buffer *out);
bool sl__utf8_mend_end(sl__utf8_mender *mender, sl__buffer *out);

#endif
