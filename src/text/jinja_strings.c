/* Methods of strings, and what filters share with them. Positions count characters. */
#include <string.h>

#include "text/jinja_chars.h"
#include "text/jinja_eval.h"

/* A part of a string, which it shares the bytes of. */
static bool part(sl__jctx *c, sl__jval v, size_t from, size_t to, sl__jval *out)
{
    uint8_t flag = v.flag;
    if (!sl__jmake(c, v.u.str->text + from, to - from, out)) return false;
    out->flag = flag;
    return true;
}

/* ---- stripping ------------------------------------------------------------------------------- */

/* Where the character that ends at `at` begins. */
static size_t char_before(const sl__jstr *s, size_t at)
{
    do
        at--;
    while (((unsigned char)s->text[at] & 0xc0u) == 0x80u);
    return at;
}

/* Whether the character at text[0..length) is one of set; not, where the render's steps are spent.
 */
static bool among(sl__jctx *c, const sl__jstr *set, const char *text, size_t length)
{
    return sl__jwork(c, set->size / 64) && memmem(set->text, set->size, text, length) != NULL;
}

bool sl__jstrip(sl__jctx *c, sl__jval v, sl__jval chars, unsigned sides, sl__jval *out)
{
    const sl__jstr *s = v.u.str, *set = NULL;
    size_t from = 0, to = s->size, length;
    bool given = chars.kind != SL_J_MISSING && chars.kind != SL_J_NONE;
    if (given && !sl__jarg_str(c, chars, "the characters to strip", &set)) return false;
    if (!sl__jwork(c, s->size / 64)) return false;
    if (!set) {
        if (sides & SL_J_LEFT) from = sl__jspace_prefix(s->text, to);
        if (sides & SL_J_RIGHT) to -= sl__jspace_suffix(s->text + from, to - from);
        return part(c, v, from, to, out);
    }
    while ((sides & SL_J_LEFT) && from < to) {
        sl__jchar(s->text, from, &length);
        if (!among(c, set, s->text + from, length)) break;
        from += length;
    }
    while ((sides & SL_J_RIGHT) && to > from) {
        size_t at = char_before(s, to);
        if (!among(c, set, s->text + at, to - at)) break;
        to = at;
    }
    return c->status == SL_OK && part(c, v, from, to, out);
}

static bool run_strip(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    return sl__jstrip(c, call->self, call->arg[0], call->builtin->op, out);
}

static bool run_remove(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    const sl__jstr *s = call->self.u.str, *affix;
    if (!sl__jarg_str(c, call->arg[0], call->builtin->name, &affix)) return false;
    bool fits = affix->size <= s->size;
    if (call->builtin->op == SL_J_LEFT) {
        fits = fits && memcmp(s->text, affix->text, affix->size) == 0;
        return part(c, call->self, fits ? affix->size : 0, s->size, out);
    }
    fits = fits && memcmp(s->text + s->size - affix->size, affix->text, affix->size) == 0;
    return part(c, call->self, 0, s->size - (fits ? affix->size : 0), out);
}

/* ---- case ------------------------------------------------------------------------------------ */

static bool is_cased(uint32_t cp)
{
    return sl__jis_upper(cp) || sl__jis_lower(cp) || sl__jis_title(cp);
}

/* A sigma at the end of a word has a shape of its own. */
static bool ends_word(const sl__jstr *s, size_t at, bool after_letter)
{
    size_t length;
    if (!after_letter) return false;
    sl__jchar(s->text, at, &length);
    return at + length >= s->size || !is_cased(sl__jchar(s->text, at + length, &length));
}

static sl__jcase case_for(sl__jrecasing how, uint32_t cp, bool first, bool after_letter)
{
    switch (how) {
    case SL_J_ALL_UPPER:
        return SL_J_UPPER;
    case SL_J_CAPITAL:
        return first ? SL_J_TITLE : SL_J_LOWER;
    case SL_J_WORDS:
        return after_letter ? SL_J_LOWER : SL_J_TITLE;
    case SL_J_SWAPPED:
        return sl__jis_lower(cp) ? SL_J_UPPER : SL_J_LOWER;
    default:
        return SL_J_LOWER;
    }
}

bool sl__jrecase_all(sl__jctx *c, sl__jval v, sl__jrecasing how, sl__jval *out)
{
    const sl__jstr *s = v.u.str;
    size_t mark = c->out->size;
    bool after_letter = false;
    for (size_t at = 0, length; at < s->size; at += length) {
        char text[12];
        uint32_t cp = sl__jchar(s->text, at, &length);
        sl__jcase to = case_for(how, cp, at == 0, after_letter);
        bool final = cp == 0x3a3 && to == SL_J_LOWER && ends_word(s, at, after_letter);
        size_t size = sl__jrecase(final ? 0x3c2 : cp, to, text);
        if (!sl__jput(c, text, size)) return false;
        after_letter = is_cased(cp);
    }
    if (!sl__jtake(c, mark, out)) return false;
    out->flag = v.flag;
    return true;
}

static bool run_recase(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    return sl__jrecase_all(c, call->self, (sl__jrecasing)call->builtin->op, out);
}

/* ---- finding --------------------------------------------------------------------------------- */

static const char *find_first(const char *text, size_t size, const sl__jstr *what)
{
    return what->size ? memmem(text, size, what->text, what->size) : text;
}

/* *out NULL: it is not there; false: failed. A look at a place may be as long as `what`. */
static bool find_last(sl__jctx *c, const char *text, size_t size, const sl__jstr *what,
                      const char **out)
{
    *out = NULL;
    if (what->size > size) return true;
    for (size_t at = size - what->size + 1; at-- > 0 && !*out;) {
        if (what->size && text[at] != what->text[0]) continue;
        if (!sl__jwork(c, what->size / 64)) return false;
        if (memcmp(text + at, what->text, what->size) == 0) *out = text + at;
    }
    return true;
}

/* The part of a string that start and end leave, in bytes; false: failed. *empty: past its end. */
static bool window(sl__jctx *c, const sl__jstr *s, sl__jval start, sl__jval end, size_t *from,
                   size_t *to, bool *empty)
{
    int64_t count = s->chars, first = 0, after = count;
    if (start.kind != SL_J_NONE && !sl__jarg_int(c, start, 0, "a position", &first)) return false;
    if (end.kind != SL_J_NONE && !sl__jarg_int(c, end, count, "a position", &after)) return false;
    if (first < 0) first = first + count < 0 ? 0 : first + count;
    if (after < 0) after = after + count < 0 ? 0 : after + count;
    if (after > count) after = count;
    *empty = first > after;
    if (*empty) first = after;
    *from = sl__jstr_offset(s, (size_t)first);
    *to = sl__jstr_offset(s, (size_t)after);
    return sl__jwork(c, 1 + s->size / 64);
}

static int64_t chars_before(const sl__jstr *s, const char *at)
{
    int64_t count = 0;
    if (s->size == s->chars) return at - s->text;
    for (const char *p = s->text; p < at; p++)
        count += ((unsigned char)*p & 0xc0u) != 0x80u;
    return count;
}

enum { FINDS = 0, FROM_RIGHT = 1, MUST = 2 };

static bool run_find(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    const sl__jstr *s = call->self.u.str, *what;
    unsigned op = call->builtin->op;
    size_t from, to;
    bool empty;
    if (!sl__jarg_str(c, call->arg[0], call->builtin->name, &what) ||
        !window(c, s, call->arg[1], call->arg[2], &from, &to, &empty))
        return false;
    const char *found = NULL;
    if (!empty && (op & FROM_RIGHT)) {
        if (!find_last(c, s->text + from, to - from, what, &found)) return false;
    } else if (!empty) {
        found = find_first(s->text + from, to - from, what);
    }
    if (!found && (op & MUST)) return sl__jfail(c, "%s: substring not found", call->builtin->name);
    *out = sl__jint(found ? chars_before(s, found) : -1);
    return true;
}

static bool run_count(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    const sl__jstr *s = call->self.u.str, *what;
    size_t from, to;
    bool empty;
    int64_t count = 0;
    if (!sl__jarg_str(c, call->arg[0], "count()", &what) ||
        !window(c, s, call->arg[1], call->arg[2], &from, &to, &empty))
        return false;
    if (what->size == 0) {
        *out = sl__jint(
            empty ? 0 : chars_before(s, s->text + to) - chars_before(s, s->text + from) + 1);
        return true;
    }
    const char *at = s->text + from, *end = s->text + to;
    while (!empty && (at = find_first(at, (size_t)(end - at), what))) {
        count++;
        at += what->size;
    }
    *out = sl__jint(count);
    return true;
}

static bool has_affix(const char *text, size_t size, const sl__jstr *affix, bool right)
{
    return affix->size <= size &&
           memcmp(right ? text + size - affix->size : text, affix->text, affix->size) == 0;
}

/* startswith and endswith: one string, or a tuple of them. */
static bool run_affix(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    const sl__jstr *s = call->self.u.str, *affix;
    bool right = call->builtin->op == SL_J_RIGHT, empty, found = false;
    sl__jval what = call->arg[0];
    size_t from, to;
    if (!window(c, s, call->arg[1], call->arg[2], &from, &to, &empty)) return false;
    bool tuple = sl__jis_seq(what, SL_J_TUPLE);
    size_t count = tuple ? what.u.seq->count : 1;
    for (size_t i = 0; i < count && !found; i++) {
        sl__jval one = tuple ? what.u.seq->items[i] : what;
        if (!sl__jarg_str(c, one, call->builtin->name, &affix)) return false;
        found = !empty && has_affix(s->text + from, to - from, affix, right);
    }
    *out = sl__jbool(found);
    return true;
}

/* ---- replacing ------------------------------------------------------------------------------- */

/* An empty `old` is found before every character and at the end. */
static bool replace_empty(sl__jctx *c, const sl__jstr *s, const sl__jstr *with, int64_t count)
{
    for (size_t at = 0, length; at <= s->size; at += length) {
        if (count != 0 && !sl__jput(c, with->text, with->size)) return false;
        if (count > 0) count--;
        length = 1;
        if (at == s->size) break;
        sl__jchar(s->text, at, &length);
        if (!sl__jput(c, s->text + at, length)) return false;
    }
    return true;
}

bool sl__jreplace(sl__jctx *c, const sl__jstr *s, const sl__jstr *old, const sl__jstr *with,
                  int64_t count, sl__jval *out)
{
    size_t mark = c->out->size;
    if (old->size == 0) return replace_empty(c, s, with, count) && sl__jtake(c, mark, out);
    const char *from = s->text, *end = s->text + s->size, *at;
    for (; count != 0 && (at = find_first(from, (size_t)(end - from), old)); count -= count > 0) {
        if (!sl__jput(c, from, (size_t)(at - from)) || !sl__jput(c, with->text, with->size))
            return false;
        from = at + old->size;
    }
    return sl__jput(c, from, (size_t)(end - from)) && sl__jtake(c, mark, out);
}

static bool run_replace(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    const sl__jstr *old, *with;
    int64_t count;
    if (!sl__jarg_str(c, call->arg[0], "replace()", &old) ||
        !sl__jarg_str(c, call->arg[1], "replace()", &with) ||
        !sl__jarg_int(c, call->arg[2], -1, "replace()", &count) ||
        !sl__jreplace(c, call->self.u.str, old, with, count, out))
        return false;
    out->flag = call->self.flag;
    return true;
}

/* ---- splitting and joining ------------------------------------------------------------------- */

/* Pieces are gathered in a list that grows. */
static bool add_piece(sl__jctx *c, sl__jseq *list, size_t *room, sl__jval v, size_t from, size_t to)
{
    if (list->count == *room) {
        size_t more = *room ? *room * 2 : 4;
        sl__jval *items = sl__jmem_alloc(&c->mem, more * sizeof *items);
        if (!items) return sl__jnomem(c);
        if (list->count) memcpy(items, list->items, list->count * sizeof *items);
        list->items = items;
        *room = more;
    }
    return sl__jwork(c, 1) && part(c, v, from, to, &list->items[list->count++]);
}

static bool split_space(sl__jctx *c, sl__jval v, int64_t max, sl__jseq *list)
{
    const sl__jstr *s = v.u.str;
    size_t room = 0, at = sl__jspace_prefix(s->text, s->size), length;
    while (at < s->size) {
        size_t end = at;
        if (max-- == 0)
            end = s->size; /* with the space at its end */
        else
            while (end < s->size && !sl__jis_space(sl__jchar(s->text, end, &length)))
                end += length;
        if (!add_piece(c, list, &room, v, at, end)) return false;
        at = end + sl__jspace_prefix(s->text + end, s->size - end);
    }
    return true;
}

static bool split_at(sl__jctx *c, sl__jval v, const sl__jstr *by, int64_t max, sl__jseq *list)
{
    const sl__jstr *s = v.u.str;
    size_t room = 0, from = 0;
    const char *at;
    while (max-- != 0 && (at = find_first(s->text + from, s->size - from, by))) {
        if (!add_piece(c, list, &room, v, from, (size_t)(at - s->text))) return false;
        from = (size_t)(at - s->text) + by->size;
    }
    return add_piece(c, list, &room, v, from, s->size);
}

static void turn_around(sl__jseq *list)
{
    for (size_t i = 0; i < list->count / 2; i++) {
        sl__jval swap = list->items[i];
        list->items[i] = list->items[list->count - 1 - i];
        list->items[list->count - 1 - i] = swap;
    }
}

/* From the right, where `max` makes a difference. */
static bool split_right_at(sl__jctx *c, sl__jval v, const sl__jstr *by, int64_t max, sl__jseq *list)
{
    const sl__jstr *s = v.u.str;
    size_t room = 0, to = s->size;
    const char *at;
    while (max-- != 0) {
        if (!find_last(c, s->text, to, by, &at)) return false;
        if (!at) break;
        if (!add_piece(c, list, &room, v, (size_t)(at - s->text) + by->size, to)) return false;
        to = (size_t)(at - s->text);
    }
    if (!add_piece(c, list, &room, v, 0, to)) return false;
    turn_around(list);
    return true;
}

static bool split_right_space(sl__jctx *c, sl__jval v, int64_t max, sl__jseq *list)
{
    const sl__jstr *s = v.u.str;
    size_t room = 0, to = s->size - sl__jspace_suffix(s->text, s->size);
    while (to > 0) {
        size_t from = to;
        if (max-- == 0)
            from = 0;
        else
            while (from > 0 && sl__jspace_suffix(s->text, from) == 0)
                from = char_before(s, from);
        if (!add_piece(c, list, &room, v, from, to)) return false;
        to = max < 0 ? 0 : from - sl__jspace_suffix(s->text, from);
    }
    turn_around(list);
    return true;
}

static bool run_split(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    const sl__jstr *by = NULL;
    int64_t max;
    bool given = call->arg[0].kind != SL_J_MISSING && call->arg[0].kind != SL_J_NONE;
    if (given && !sl__jarg_str(c, call->arg[0], "what a string is split at", &by)) return false;
    if (!sl__jarg_int(c, call->arg[1], -1, "maxsplit", &max)) return false;
    if (by && by->size == 0) return sl__jfail(c, "a string is split at nothing");
    if (!sl__jwork(c, 1 + call->self.u.str->size / 64) || !sl__jmake_seq(c, SL_J_LIST, 0, out))
        return false;
    if (max < 0) max = INT64_MAX;
    if (call->builtin->op == SL_J_RIGHT) {
        return by ? split_right_at(c, call->self, by, max, out->u.seq)
                  : split_right_space(c, call->self, max, out->u.seq);
    }
    return by ? split_at(c, call->self, by, max, out->u.seq)
              : split_space(c, call->self, max, out->u.seq);
}

static bool run_partition(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    const sl__jstr *s = call->self.u.str, *by;
    bool right = call->builtin->op == SL_J_RIGHT;
    if (!sl__jarg_str(c, call->arg[0], call->builtin->name, &by)) return false;
    if (by->size == 0) return sl__jfail(c, "a string is split at nothing");
    if (!sl__jmake_seq(c, SL_J_TUPLE, 3, out)) return false;
    const char *at = find_first(s->text, s->size, by);
    if (at && right && !find_last(c, s->text, s->size, by, &at)) return false;
    size_t from = at ? (size_t)(at - s->text) : right ? 0 : s->size;
    size_t to = at ? from + by->size : from;
    sl__jval *items = out->u.seq->items;
    return part(c, call->self, 0, from, &items[0]) && part(c, call->self, from, to, &items[1]) &&
           part(c, call->self, to, s->size, &items[2]);
}

/* The length of the line break at text[at]; 0: none. */
static size_t line_break(const sl__jstr *s, size_t at)
{
    size_t length;
    uint32_t cp = sl__jchar(s->text, at, &length);
    if (cp == '\r' && at + 1 < s->size && s->text[at + 1] == '\n') return 2;
    bool is = (cp >= 0xa && cp <= 0xd) || (cp >= 0x1c && cp <= 0x1e) || cp == 0x85 ||
              cp == 0x2028 || cp == 0x2029;
    return is ? length : 0;
}

bool sl__jsplit_lines(sl__jctx *c, const sl__jstr *s, bool keep_ends, sl__jval *out)
{
    size_t room = 0, from = 0, length;
    const sl__jval v = sl__jof_str(s);
    if (!sl__jwork(c, 1 + s->size / 64) || !sl__jmake_seq(c, SL_J_LIST, 0, out)) return false;
    for (size_t at = 0; at < s->size; at += length) {
        size_t ending = line_break(s, at);
        length = ending;
        if (!ending) {
            sl__jchar(s->text, at, &length);
            continue;
        }
        if (!add_piece(c, out->u.seq, &room, v, from, at + (keep_ends ? ending : 0))) return false;
        from = at + ending;
    }
    return from >= s->size || add_piece(c, out->u.seq, &room, v, from, s->size);
}

static bool run_lines(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    return sl__jsplit_lines(c, call->self.u.str, sl__jtrue(call->arg[0]), out);
}

static bool run_join(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    sl__jwalk walk;
    sl__jval item;
    const sl__jstr *between = call->self.u.str, *text;
    size_t mark = c->out->size;
    bool more = true;
    if (!sl__jwalk_begin(c, call->arg[0], &walk)) return false;
    for (bool first = true;; first = false) {
        if (!sl__jwalk_next(c, &walk, &item, &more)) return false;
        if (!more) break;
        if (!sl__jarg_str(c, item, "what is joined", &text)) return false;
        if (!first && !sl__jput(c, between->text, between->size)) return false;
        if (!sl__jput(c, text->text, text->size)) return false;
    }
    return sl__jtake(c, mark, out);
}

/* ---- asking ---------------------------------------------------------------------------------- */

static bool is_alnum(uint32_t cp)
{
    return sl__jis_alpha(cp) || sl__jis_numeric(cp);
}
static bool is_ascii(uint32_t cp)
{
    return cp < 0x80;
}

static bool run_is(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    static bool (*const kinds[])(uint32_t) = {sl__jis_alpha,     sl__jis_digit,  sl__jis_decimal,
                                              is_alnum,          sl__jis_space,  is_ascii,
                                              sl__jis_printable, sl__jis_numeric};
    enum { ASCII = 5, PRINTABLE = 6 };
    const sl__jstr *s = call->self.u.str;
    unsigned op = call->builtin->op;
    bool all = s->size > 0 || op == ASCII || op == PRINTABLE;
    for (size_t at = 0, length; all && at < s->size; at += length)
        all = kinds[op](sl__jchar(s->text, at, &length));
    *out = sl__jbool(all);
    return sl__jwork(c, s->size / 16);
}

enum { IS_LOWER, IS_UPPER, IS_TITLE };

static bool run_is_case(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    const sl__jstr *s = call->self.u.str;
    unsigned op = call->builtin->op;
    bool some = false, ok = true, after_letter = false;
    for (size_t at = 0, length; ok && at < s->size; at += length) {
        uint32_t cp = sl__jchar(s->text, at, &length);
        bool upper = sl__jis_upper(cp) || sl__jis_title(cp), lower = sl__jis_lower(cp);
        if (op == IS_TITLE)
            ok = upper ? !after_letter : !lower || after_letter;
        else
            ok = op == IS_LOWER ? !upper : !lower && !sl__jis_title(cp);
        after_letter = upper || lower;
        some = some || after_letter;
    }
    *out = sl__jbool(some && ok);
    return sl__jwork(c, s->size / 16);
}

/* ---- filling --------------------------------------------------------------------------------- */

enum { FILL_RIGHT, FILL_LEFT, FILL_BOTH, FILL_ZERO };

static bool fill(sl__jctx *c, const sl__jstr *with, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        if (!sl__jput(c, with->text, with->size)) return false;
    return true;
}

static bool run_fill(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    static const sl__jstr space = {" ", 1, 1}, zero = {"0", 1, 1};
    const sl__jstr *s = call->self.u.str, *with = &space;
    unsigned op = call->builtin->op;
    size_t mark = c->out->size, sign = 0;
    int64_t width;
    if (!sl__jarg_int(c, call->arg[0], 0, "a width", &width)) return false;
    if (call->arg[1].kind != SL_J_MISSING &&
        !sl__jarg_str(c, call->arg[1], "the fill character", &with))
        return false;
    if (with->chars != 1) return sl__jfail(c, "the fill character must be one character");
    int64_t room = width > (int64_t)s->chars ? width - (int64_t)s->chars : 0, left = 0;
    if (op == FILL_LEFT || op == FILL_ZERO) left = room;
    if (op == FILL_BOTH) left = room / 2 + (room & width & 1);
    if (op == FILL_ZERO) {
        with = &zero;
        sign = s->size > 0 && (s->text[0] == '-' || s->text[0] == '+');
    }
    return sl__jput(c, s->text, sign) && fill(c, with, left) &&
           sl__jput(c, s->text + sign, s->size - sign) && fill(c, with, room - left) &&
           sl__jtake(c, mark, out);
}

static bool run_format(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    size_t mark = c->out->size;
    return sl__jput_fields(c, call->self.u.str, call->args) && sl__jtake(c, mark, out);
}

static const sl__jbuiltin methods[] = {
    {"strip", run_strip, "chars", 0, SL_J_LEFT | SL_J_RIGHT},
    {"lstrip", run_strip, "chars", 0, SL_J_LEFT},
    {"rstrip", run_strip, "chars", 0, SL_J_RIGHT},
    {"removeprefix", run_remove, "prefix", 1, SL_J_LEFT},
    {"removesuffix", run_remove, "suffix", 1, SL_J_RIGHT},
    {"lower", run_recase, "", 0, SL_J_ALL_LOWER},
    {"upper", run_recase, "", 0, SL_J_ALL_UPPER},
    {"capitalize", run_recase, "", 0, SL_J_CAPITAL},
    {"title", run_recase, "", 0, SL_J_WORDS},
    {"swapcase", run_recase, "", 0, SL_J_SWAPPED},
    {"find", run_find, "sub start end", 1, FINDS},
    {"rfind", run_find, "sub start end", 1, FROM_RIGHT},
    {"index", run_find, "sub start end", 1, MUST},
    {"rindex", run_find, "sub start end", 1, MUST | FROM_RIGHT},
    {"count", run_count, "sub start end", 1, 0},
    {"startswith", run_affix, "prefix start end", 1, SL_J_LEFT},
    {"endswith", run_affix, "suffix start end", 1, SL_J_RIGHT},
    {"replace", run_replace, "old new count", 2, 0},
    {"split", run_split, "sep maxsplit", 0, SL_J_LEFT},
    {"rsplit", run_split, "sep maxsplit", 0, SL_J_RIGHT},
    {"partition", run_partition, "sep", 1, SL_J_LEFT},
    {"rpartition", run_partition, "sep", 1, SL_J_RIGHT},
    {"splitlines", run_lines, "keepends", 0, 0},
    {"join", run_join, "iterable", 1, 0},
    {"isalpha", run_is, "", 0, 0},
    {"isdigit", run_is, "", 0, 1},
    {"isnumeric", run_is, "", 0, 7},
    {"isdecimal", run_is, "", 0, 2},
    {"isalnum", run_is, "", 0, 3},
    {"isspace", run_is, "", 0, 4},
    {"isascii", run_is, "", 0, 5},
    {"isprintable", run_is, "", 0, 6},
    {"islower", run_is_case, "", 0, IS_LOWER},
    {"isupper", run_is_case, "", 0, IS_UPPER},
    {"istitle", run_is_case, "", 0, IS_TITLE},
    {"ljust", run_fill, "width fillchar", 1, FILL_RIGHT},
    {"rjust", run_fill, "width fillchar", 1, FILL_LEFT},
    {"center", run_fill, "width fillchar", 1, FILL_BOTH},
    {"zfill", run_fill, "width", 1, FILL_ZERO},
    {"format", run_format, NULL, 0, 0},
};

const sl__jbuiltin *sl__jfind_str_method(const sl__jstr *name)
{
    return sl__jfind(methods, sizeof methods / sizeof methods[0], name);
}
