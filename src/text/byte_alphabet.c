/* The byte alphabet of GPT-2, in which every byte is a printable character: 21..7E, A1..AC and
 * AE..FF stand for themselves, the other 68 bytes, in order, for U+0100 and on. */
#include "text/tokenizer_draft.h"
#include "text/utf8.h"

void sl__alphabet_init(sl__byte_alphabet *alphabet)
{
    int16_t shifted = 0x100;
    for (int i = 0; i < SL__ALPHABET_END; i++)
        alphabet->byte_of[i] = -1;
    for (int16_t byte = 0; byte < 256; byte++) {
        bool itself =
            (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
        alphabet->byte_of[itself ? byte : shifted++] = byte;
    }
}

bool sl__alphabet_read(const sl__byte_alphabet *alphabet, const char *text, size_t size, char *out,
                       size_t *out_size)
{
    const unsigned char *from = (const unsigned char *)text;
    size_t n = 0;
    for (size_t i = 0; i < size;) {
        uint32_t cp = 0;
        int step = sl__utf8_step(from + i, size - i, &cp);
        if (step <= 0 || cp >= SL__ALPHABET_END || alphabet->byte_of[cp] < 0) return false;
        out[n++] = (char)alphabet->byte_of[cp];
        i += (size_t)step;
    }
    *out_size = n;
    return true;
}
