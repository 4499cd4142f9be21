/* JSON without a schema: white space, numbers, literals, any value. */
#include "constrain/rules.h"

static uint32_t end_of(sl__builder *b, uint32_t rule)
{
    uint32_t end = sl__state_new(b, rule);
    sl__state_mark(b, end, SL__STATE_ACCEPT, 0);
    return end;
}

/* ---- white space ----------------------------------------------------------------------------- */

/* A rule that accepts at once; what it calls is empty or a loop of these bytes, `max` at most. */
static uint32_t counted_bytes(sl__builder *b, const char *bytes, uint32_t max)
{
    uint32_t rule = sl__rule_new(b);
    uint32_t at = sl__rule_start(b, rule);
    sl__rule_counts(b, rule, 0, max);
    sl__state_mark(b, at, SL__STATE_ACCEPT, 0);
    for (; *bytes; bytes++)
        sl__edge_add(b, (sl__edge){at, at, (uint8_t)*bytes, (uint8_t)*bytes, 1, 0});
    return rule;
}

uint32_t sl__rule_gap(sl__builder *b)
{
    if (b->gap == SL__NO_RULE) b->gap = counted_bytes(b, " ", SL__GAP_MAX);
    return b->gap;
}

/* start ─( gap )→ end        start ─['\n']→ line ─( indentation )→ end */
uint32_t sl__rule_space(sl__builder *b)
{
    if (b->space != SL__NO_RULE) return b->space;
    uint32_t gap = sl__rule_gap(b), indent = counted_bytes(b, " \t", SL__INDENT_MAX);
    b->space = sl__rule_new(b);
    uint32_t start = sl__rule_start(b, b->space);
    uint32_t end = end_of(b, b->space), line = sl__state_new(b, b->space);
    sl__call(b, start, gap, end);
    sl__edge_byte(b, start, '\n', line);
    sl__edge_byte(b, sl__path(b, start, "\r", 1, 0), '\n', line);
    sl__call(b, line, indent, end);
    return b->space;
}

/* ---- numbers --------------------------------------------------------------------------------- */

/* One digit, then others up to `max` in all, added to the end of a path. */
static uint32_t digits(sl__builder *b, uint32_t from, char first, unsigned max)
{
    uint32_t rule = sl__state_rule(b, from);
    uint32_t end = end_of(b, rule);
    sl__edge_range(b, from, (unsigned char)first, '9', end);
    for (unsigned i = 1; i < max; i++) {
        uint32_t next = end_of(b, rule);
        sl__edge_range(b, end, '0', '9', next);
        end = next;
    }
    return end;
}

uint32_t sl__rule_integer(sl__builder *b)
{
    if (b->integer != SL__NO_RULE) return b->integer;
    b->integer = sl__rule_new(b);
    uint32_t start = sl__rule_start(b, b->integer), unsigned_ = sl__state_new(b, b->integer);
    sl__edge_byte(b, start, '-', unsigned_);
    sl__jump(b, start, unsigned_);
    sl__edge_byte(b, unsigned_, '0', end_of(b, b->integer));
    digits(b, unsigned_, '1', SL__INTEGER_DIGITS);
    return b->integer;
}

static uint32_t some_digits(sl__builder *b, unsigned max)
{
    uint32_t rule = sl__rule_new(b);
    digits(b, sl__rule_start(b, rule), '0', max);
    return rule;
}

/* A point and digits, or neither, between two states. */
static void maybe_fraction(sl__builder *b, uint32_t from, uint32_t to)
{
    sl__jump(b, from, to);
    sl__call(b, sl__path(b, from, ".", 1, 0), some_digits(b, SL__FRACTION_DIGITS), to);
}

uint32_t sl__rule_number(sl__builder *b)
{
    if (b->number != SL__NO_RULE) return b->number;
    uint32_t integer = sl__rule_integer(b);
    uint32_t exponent = some_digits(b, SL__EXPONENT_DIGITS);
    b->number = sl__rule_new(b);
    uint32_t end = end_of(b, b->number);
    uint32_t whole = sl__path_call(b, sl__rule_start(b, b->number), integer);
    uint32_t tenths = sl__state_new(b, b->number);
    uint32_t power = sl__state_new(b, b->number), sign = sl__state_new(b, b->number);
    maybe_fraction(b, whole, tenths);
    sl__jump(b, tenths, end);
    for (const char *e = "eE"; *e; e++)
        sl__edge_byte(b, tenths, *e, power);
    sl__edge_byte(b, power, '-', sign);
    sl__edge_byte(b, power, '+', sign);
    sl__jump(b, power, sign);
    sl__call(b, sign, exponent, end);
    return b->number;
}

/* Digits of low to high, which are as many, from their place `at` on: in the middle anything goes,
 * at either edge the rest of it is bounded. */
static void between(sl__builder *b, uint32_t from, const char *low, const char *high, size_t count,
                    uint32_t end)
{
    for (;;) {
        if (count == 0) {
            sl__jump(b, from, end);
            return;
        }
        if (*low != *high) break;
        from = sl__path(b, from, low, 1, 0);
        low++, high++, count--;
    }
    static const char nines[] = "9999999999999999999", zeros[] = "0000000000000000000";
    char first = *low, last = *high;
    bool whole_low = true, whole_high = true;
    for (size_t i = 1; i < count; i++) {
        whole_low = whole_low && low[i] == '0';
        whole_high = whole_high && high[i] == '9';
    }
    if (!whole_low) between(b, sl__path(b, from, low, 1, 0), low + 1, nines, count - 1, end);
    if (!whole_high) between(b, sl__path(b, from, high, 1, 0), zeros, high + 1, count - 1, end);
    first = (char)(first + !whole_low);
    last = (char)(last - !whole_high);
    if (first > last) return;
    uint32_t at = sl__state_new(b, sl__state_rule(b, from));
    sl__edge_range(b, from, (unsigned char)first, (unsigned char)last, at);
    for (size_t i = 1; i < count; i++) {
        uint32_t next = sl__state_new(b, sl__state_rule(b, from));
        sl__edge_range(b, at, '0', '9', next);
        at = next;
    }
    sl__jump(b, at, end);
}

static size_t spell(char out[24], uint64_t x)
{
    char backwards[24];
    size_t n = 0;
    do
        backwards[n++] = (char)('0' + x % 10);
    while (x /= 10);
    for (size_t i = 0; i < n; i++)
        out[i] = backwards[n - 1 - i];
    out[n] = '\0';
    return n;
}

/* Numbers of low to high without a sign, those of each length apart. */
static void range(sl__builder *b, uint32_t from, uint64_t low, uint64_t high, uint32_t end)
{
    char a[24], z[24];
    for (;;) {
        size_t n = spell(a, low);
        uint64_t longest = 9;
        for (size_t i = 1; i < n; i++)
            longest = longest * 10 + 9; /* below 10^19: low is at most 2^63 */
        uint64_t to = longest < high ? longest : high;
        spell(z, to);
        between(b, from, a, z, n, end);
        if (to == high) return;
        low = to + 1;
    }
}

uint32_t sl__rule_range(sl__builder *b, int64_t low, int64_t high)
{
    uint32_t rule = sl__rule_new(b);
    uint32_t start = sl__rule_start(b, rule), end = end_of(b, rule);
    if (high >= 0) range(b, start, low > 0 ? (uint64_t)low : 0, (uint64_t)high, end);
    if (low < 0) {
        uint32_t minus = sl__path(b, start, "-", 1, 0);
        uint64_t least = high < 0 ? 0 - (uint64_t)high : 1;
        range(b, minus, least, 0 - (uint64_t)low, end);
    }
    return rule;
}

/* Away from zero: whole numbers of least to most and what lies behind each of them, then the whole
 * number behind that. */
static void range_and_fractions(sl__builder *b, uint32_t from, uint64_t least, uint64_t end_whole,
                                uint32_t end)
{
    uint32_t rule = sl__state_rule(b, from), whole = sl__state_new(b, rule);
    if (least < end_whole) range(b, from, least, end_whole - 1, whole);
    maybe_fraction(b, whole, end);
    range(b, from, end_whole, end_whole, end);
}

uint32_t sl__rule_number_range(sl__builder *b, int64_t low, int64_t high)
{
    uint32_t rule = sl__rule_new(b);
    uint32_t start = sl__rule_start(b, rule), end = end_of(b, rule);
    if (high >= 0) range_and_fractions(b, start, low > 0 ? (uint64_t)low : 0, (uint64_t)high, end);
    if (low < 0) {
        uint64_t least = high < 0 ? 0 - (uint64_t)high : 0;
        range_and_fractions(b, sl__path(b, start, "-", 1, 0), least, 0 - (uint64_t)low, end);
    }
    return rule;
}

/* ---- any value ------------------------------------------------------------------------------- */

uint32_t sl__rule_literal(sl__builder *b, const char *bytes, size_t size)
{
    uint32_t rule = sl__rule_new(b);
    uint32_t end = sl__path(b, sl__rule_start(b, rule), bytes, size, 0);
    sl__state_mark(b, end, SL__STATE_ACCEPT, 0);
    return rule;
}

uint32_t sl__rule_value(sl__builder *b)
{
    if (b->value != SL__NO_RULE) return b->value;
    b->value = sl__rule_new(b);
    uint32_t start = sl__rule_start(b, b->value), end = end_of(b, b->value);
    sl__call(b, start, sl__rule_object(b), end);
    sl__call(b, start, sl__rule_array(b), end);
    sl__call(b, start, sl__rule_string(b, 0, SL__NO_LIMIT), end);
    sl__call(b, start, sl__rule_number(b), end);
    sl__jump(b, sl__path(b, start, "true", 4, 0), end);
    sl__jump(b, sl__path(b, start, "false", 5, 0), end);
    sl__jump(b, sl__path(b, start, "null", 4, 0), end);
    return b->value;
}

uint32_t sl__rule_object(sl__builder *b)
{
    if (b->object != SL__NO_RULE) return b->object;
    b->object = sl__rule_new(b); /* before what it is made of, which may ask for it */
    uint32_t end = end_of(b, b->object);
    uint32_t inner = sl__rule_properties(b, NULL, 0, sl__rule_value(b));
    sl__call(b, sl__rule_start(b, b->object), inner, end);
    return b->object;
}

uint32_t sl__rule_array(sl__builder *b)
{
    if (b->array != SL__NO_RULE) return b->array;
    b->array = sl__rule_new(b);
    uint32_t end = end_of(b, b->array);
    uint32_t inner = sl__rule_items(b, sl__rule_value(b), 0, SL__NO_LIMIT);
    sl__call(b, sl__rule_start(b, b->array), inner, end);
    return b->array;
}

/*     '[' ─( space )→ first ─( item )→ after ─[',']─( space )→ next ─( item )→ after
 *                         └[']']→ end       └─( space )→ close ─[']']→ end
 * It is the commas that are counted. */
uint32_t sl__rule_items(sl__builder *b, uint32_t item, uint32_t min, uint32_t max)
{
    uint32_t space = sl__rule_space(b), rule = sl__rule_new(b), end = end_of(b, rule);
    uint32_t open = sl__path(b, sl__rule_start(b, rule), "[", 1, 0);
    uint32_t first = sl__path_call(b, open, space);
    if (min == 0) sl__edge_byte(b, first, ']', end);
    if (max == 0) return rule;
    sl__rule_counts(b, rule, min ? min - 1 : 0, max == SL__NO_LIMIT ? max : max - 1);
    uint32_t after = sl__path_call(b, first, item), comma = sl__state_new(b, rule);
    uint32_t close = sl__state_new(b, rule);
    sl__move_add(b, (sl__move){after, close, space, SL__EDGE_MIN});
    sl__edge_add(b, (sl__edge){after, comma, ',', ',', 1, 0});
    sl__call(b, sl__path_call(b, comma, space), item, after);
    sl__edge_byte(b, close, ']', end);
    return rule;
}
