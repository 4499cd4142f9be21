/* The four normal forms of Unicode.
 *
 * NFC first. Most text is in NFC already and should cost one look at each byte. Characters below
 * U+0300, and those of the ranges below, are stable: they are starters, NFC leaves them as they
 * are, and none joins with a character before it. So the text is cut before every stable character
 * that a stable one follows, and only what remains, runs of other characters with the one stable
 * character before them, goes through utf8proc: decomposed a character at a time, marks put in
 * order here, composed.
 *
 *     q u a l i t [e ◌́] ␣ “ o k ” ␣ [A ◌̊] …        [ ] what utf8proc sees
 *
 * The other three are rare: a text that is not ASCII goes through utf8proc as a whole.
 */
#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

#include "base/checked.h"
#include "base/fail.h"
#include "text/tokenizer_parts.h"
#include "text/utf8.h"

/* Ranges of stable characters, in order. Unassigned ones count as such only inside blocks whose
 * unassigned places are few and will not be combining. */
static const struct {
    uint32_t first, last;
} stable[] = {
    {0x0000, 0x02ff}, {0x0388, 0x0482},   {0x048a, 0x0559},   {0x0e01, 0x0e37},   {0x1e00, 0x1eff},
    {0x2010, 0x205f}, {0x20a0, 0x20bf},   {0x2190, 0x2328},   {0x2460, 0x2adb},   {0x3001, 0x3029},
    {0x3041, 0x3096}, {0x30a1, 0x30fa},   {0x3400, 0x4dbf},   {0x4e00, 0x9fff},   {0xac00, 0xd7a3},
    {0xff01, 0xffef}, {0x1f300, 0x1f6ff}, {0x1f900, 0x1f9ff}, {0x20000, 0x2a6df},
};

static bool is_stable(uint32_t cp)
{
    size_t low = 0, high = sizeof stable / sizeof stable[0];
    while (high - low > 1) {
        size_t middle = (low + high) / 2;
        if (cp >= stable[middle].first)
            low = middle;
        else
            high = middle;
    }
    return cp <= stable[low].last && cp >= stable[low].first;
}

/* Whether a byte of U+0300 or above is there: its lead byte is CC or higher. */
static bool has_high(const char *text, size_t size)
{
    unsigned char high = 0;
    for (size_t i = 0; i < size; i++)
        high |= (unsigned char)((unsigned char)text[i] >= 0xcc);
    return high != 0;
}

static size_t previous_char(const char *text, size_t at)
{
    do
        at--;
    while (at > 0 && ((unsigned char)text[at] & 0xc0) == 0x80);
    return at;
}

/* The next run that is not stable, from `from`; *end == *begin where there is none. */
static void find_run(const char *text, size_t size, size_t from, size_t *begin, size_t *end)
{
    const unsigned char *p = (const unsigned char *)text;
    bool inside = false;
    size_t i = from;
    *begin = *end = size;
    while (i < size) {
        uint32_t cp = p[i];
        size_t n = 1;
        if (cp >= 0x80) n = (size_t)sl__utf8_step(p + i, size - i, &cp);
        bool calm = cp < 0x300 || is_stable(cp);
        if (!calm && !inside) {
            inside = true;
            *begin = i > from ? previous_char(text, i) : i;
        } else if (calm && inside) {
            *end = i;
            return;
        }
        i += n;
    }
}

/* Code points of a run, decomposed. */
typedef struct chars {
    utf8proc_int32_t *data;
    size_t count, room;
} chars;

static unsigned combining_class(utf8proc_int32_t cp)
{
    return (unsigned)utf8proc_get_property(cp)->combining_class;
}

static bool chars_reserve(chars *list, size_t more)
{
    if (more <= list->room - list->count) return true;
    uint64_t room = (uint64_t)list->room * 2 + more, bytes;
    if (!sl__mul_u64(&bytes, room, sizeof *list->data) || bytes > SIZE_MAX) return false;
    utf8proc_int32_t *grown = realloc(list->data, (size_t)bytes);
    if (!grown) return false;
    list->data = grown;
    list->room = (size_t)room;
    return true;
}

/* Puts marks in the order of their classes, equal ones as they stand. By counting: the marks of a
 * hostile text may be as many as it has characters. */
static bool order_marks(utf8proc_int32_t *marks, size_t count)
{
    size_t at[257] = {0};
    if (count < 2) return true;
    utf8proc_int32_t *sorted = malloc(count * sizeof *sorted);
    if (!sorted) return false;
    for (size_t i = 0; i < count; i++)
        at[(combining_class(marks[i]) & 0xff) + 1]++;
    for (unsigned i = 1; i < 257; i++)
        at[i] += at[i - 1];
    for (size_t i = 0; i < count; i++)
        sorted[at[combining_class(marks[i]) & 0xff]++] = marks[i];
    memcpy(marks, sorted, count * sizeof *sorted);
    free(sorted);
    return true;
}

/* No decomposition of a character is longer than eighteen (U+FDFA). */
#define DECOMPOSED_MAX 32

/* The decomposition of text, with room for one more. */
static sl_status decompose(chars *list, const char *text, size_t size, utf8proc_option_t options,
                           sl_error *err)
{
    size_t marks = 0; /* how many of the last characters are marks that are not in order yet */
    for (size_t i = 0; i < size;) {
        uint32_t cp = 0;
        int boundary = 0;
        i += (size_t)sl__utf8_step((const unsigned char *)text + i, size - i, &cp);
        if (!chars_reserve(list, DECOMPOSED_MAX + 1)) return SL_FAIL_NOMEM(err, "normaliser");
        utf8proc_ssize_t n = utf8proc_decompose_char((utf8proc_int32_t)cp, list->data + list->count,
                                                     DECOMPOSED_MAX, options, &boundary);
        if (n < 0 || n > DECOMPOSED_MAX) {
            return SL_FAIL(err, SL_EFORMAT, "normaliser: U+%04X", (unsigned)cp);
        }
        for (utf8proc_ssize_t k = 0; k < n; k++) {
            bool mark = combining_class(list->data[list->count]) != 0;
            if (!mark && !order_marks(list->data + list->count - marks, marks)) {
                return SL_FAIL_NOMEM(err, "normaliser");
            }
            marks = mark ? marks + 1 : 0;
            list->count++;
        }
    }
    if (!order_marks(list->data + list->count - marks, marks)) {
        return SL_FAIL_NOMEM(err, "normaliser");
    }
    return SL_OK;
}

/* Appends a form of text, which is not empty and joins with nothing before or behind it. */
static sl_status append_form(sl__buffer *out, sl__normal_form form, const char *text, size_t size,
                             sl_error *err)
{
    utf8proc_option_t apart = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE;
    utf8proc_option_t together = UTF8PROC_STABLE;
    if (form == SL__NFKC || form == SL__NFKD) apart |= UTF8PROC_COMPAT;
    if (form == SL__NFC || form == SL__NFKC) together |= UTF8PROC_COMPOSE;
    chars list = {.data = NULL};
    sl_status status = decompose(&list, text, size, apart, err);
    if (status == SL_OK) {
        /* Writes UTF-8 over the code points, and a NUL behind it: hence the room for one more. */
        utf8proc_ssize_t n = utf8proc_reencode(list.data, (utf8proc_ssize_t)list.count, together);
        if (n < 0)
            status = SL_FAIL(err, SL_EFORMAT, "normaliser: %s", utf8proc_errmsg(n));
        else if (!sl__buffer_append(out, list.data, (size_t)n)) {
            status = SL_FAIL_NOMEM(err, "normaliser");
        }
    }
    free(list.data);
    return status;
}

static sl_status normalize_nfc(const char **text, size_t *size, sl__buffer *scratch, sl_error *err)
{
    const char *from = *text;
    size_t n = *size, done = 0, begin, end;
    if (!has_high(from, n)) return SL_OK;
    find_run(from, n, 0, &begin, &end);
    if (begin == end) return SL_OK;
    sl__buffer_clear(scratch);
    while (begin < end) {
        if (!sl__buffer_append(scratch, from + done, begin - done)) {
            return SL_FAIL_NOMEM(err, "normaliser");
        }
        SL_TRY(append_form(scratch, SL__NFC, from + begin, end - begin, err));
        done = end;
        find_run(from, n, done, &begin, &end);
    }
    if (!sl__buffer_append(scratch, from + done, n - done)) return SL_FAIL_NOMEM(err, "normaliser");
    *text = scratch->data;
    *size = scratch->size;
    return SL_OK;
}

static bool is_ascii(const char *text, size_t size)
{
    unsigned char all = 0;
    for (size_t i = 0; i < size; i++)
        all |= (unsigned char)text[i];
    return all < 0x80;
}

sl_status sl__normalize_form(sl__normal_form form, const char **text, size_t *size,
                             sl__buffer *scratch, sl_error *err)
{
    if (form == SL__NFC) return normalize_nfc(text, size, scratch, err);
    if (is_ascii(*text, *size)) return SL_OK;
    sl__buffer_clear(scratch);
    SL_TRY(append_form(scratch, form, *text, *size, err));
    *text = scratch->data;
    *size = scratch->size;
    return SL_OK;
}
