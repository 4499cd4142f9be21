/* Finding added tokens in a text: leftmost first, at each place the longest.
 *
 * The texts of a set lie sorted, so those with a given first byte are a range, those of them with a
 * given second byte a range within it, and so on: a match is narrowed byte by byte, with no tree.
 *
 *     "<" → [ </think>  <think>  <|im_end|>  <|im_start|> ]
 *     "<|" →                    [ <|im_end|>  <|im_start|> ]
 *
 * A byte that starts none of the texts costs one look into a table.
 */
#include <string.h>

#include "text/tokenizer_parts.h"
#include "text/utf8.h"

static unsigned char added_byte(const sl_tokenizer *tok, uint32_t index, size_t at)
{
    return (unsigned char)tok->strings[tok->added[index].offset + at];
}

/* The first of [low, high), which share `depth` bytes and are longer than that, whose byte at
 * depth is >= byte (or > byte where above). */
static uint32_t bound(const sl_tokenizer *tok, uint32_t low, uint32_t high, size_t depth,
                      unsigned char byte, bool above)
{
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        unsigned char b = added_byte(tok, middle, depth);
        if (b < byte || (above && b == byte))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

typedef struct range {
    uint32_t low, high;
} range;

/* The longest text of a set that stands at text: its index, or SL__TOK_NONE. longer: those that all
 * of text is the beginning of. */
static uint32_t longest_at(const sl_tokenizer *tok, unsigned set, const unsigned char *text,
                           size_t size, range *longer)
{
    uint32_t low = tok->added_first[set][text[0]], high = tok->added_first[set][text[0] + 1];
    uint32_t best = SL__TOK_NONE;
    *longer = (range){0, 0};
    for (size_t depth = 1; low < high; depth++) {
        /* The shortest come first; equal texts (after normalisation) count once. */
        if (tok->added[low].size == depth) best = low;
        while (low < high && tok->added[low].size == depth)
            low++;
        if (depth == size) {
            *longer = (range){low, high};
            break;
        }
        uint32_t first = bound(tok, low, high, depth, text[depth], false);
        high = bound(tok, first, high, depth, text[depth], true);
        low = first;
    }
    return best;
}

static bool is_special(const sl_tokenizer *tok, uint32_t index)
{
    return (tok->tokens[tok->added[index].id].size_flags & SL__TOK_SPECIAL) != 0;
}

bool sl__added_special_at(const sl_tokenizer *tok, const char *text, size_t size)
{
    for (unsigned set = 0; set < 2; set++) {
        range longer;
        uint32_t index = longest_at(tok, set, (const unsigned char *)text, size, &longer);
        if (index != SL__TOK_NONE && is_special(tok, index)) return true;
        for (uint32_t i = longer.low; i < longer.high; i++)
            if (is_special(tok, i)) return true;
    }
    return false;
}

static uint32_t char_at(const char *text, size_t size, size_t at)
{
    uint32_t cp = 0;
    sl__utf8_step((const unsigned char *)text + at, size - at, &cp);
    return cp;
}

static size_t char_before(const char *text, size_t at)
{
    do
        at--;
    while (at > 0 && ((unsigned char)text[at] & 0xc0) == 0x80);
    return at;
}

static bool stands_alone(const char *text, size_t size, size_t begin, size_t end)
{
    if (begin > 0 && sl__utf8_is_word(char_at(text, size, char_before(text, begin)))) return false;
    return end == size || !sl__utf8_is_word(char_at(text, size, end));
}

static size_t strip_left(const char *text, size_t size, size_t from, size_t begin)
{
    while (begin > from) {
        size_t at = char_before(text, begin);
        if (!sl__utf8_is_space(char_at(text, size, at))) break;
        begin = at;
    }
    return begin;
}

static size_t strip_right(const char *text, size_t size, size_t end)
{
    while (end < size) {
        uint32_t cp;
        int n = sl__utf8_step((const unsigned char *)text + end, size - end, &cp);
        if (n <= 0 || !sl__utf8_is_space(cp)) break;
        end += (size_t)n;
    }
    return end;
}

bool sl__added_next(const sl_tokenizer *tok, unsigned set, const char *text, size_t size,
                    size_t from, sl__added_match *match)
{
    const uint32_t *first = tok->added_first[set];
    for (size_t at = from; at < size;) {
        unsigned char byte = (unsigned char)text[at];
        if (first[byte] == first[byte + 1]) {
            at++;
            continue;
        }
        range longer;
        uint32_t index = longest_at(tok, set, (const unsigned char *)text + at, size - at, &longer);
        if (index == SL__TOK_NONE) {
            at++;
            continue;
        }
        const sl__tok_added *added = &tok->added[index];
        size_t begin = at, end = at + added->size;
        if ((added->flags & SL__ADDED_SINGLE_WORD) && !stands_alone(text, size, begin, end)) {
            at = end;
            continue;
        }
        if (added->flags & SL__ADDED_LSTRIP) begin = strip_left(text, size, from, begin);
        if (added->flags & SL__ADDED_RSTRIP) end = strip_right(text, size, end);
        *match = (sl__added_match){.begin = begin, .end = end, .id = added->id};
        return true;
    }
    return false;
}
