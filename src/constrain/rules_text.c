/* Strings: of JSON, keys that must not be certain others, and text as it stands.
 *
 * Characters are those of well-formed UTF-8: eight states, of which 0 is between two characters.
 */
#include <stdlib.h>
#include <string.h>

#include "constrain/rules.h"

/* ---- UTF-8 ----------------------------------------------------------------------------------- */

enum { UTF8_STATES = 8 };

typedef struct utf8_step {
    uint8_t from, low, high, to;
} utf8_step;

/* The table of well-formed sequences (Unicode, table 3-7), without ASCII. */
static const utf8_step utf8_steps[] = {
    {0, 0xc2, 0xdf, 1}, {0, 0xe0, 0xe0, 2}, {0, 0xe1, 0xec, 3}, {0, 0xed, 0xed, 4},
    {0, 0xee, 0xef, 3}, {0, 0xf0, 0xf0, 5}, {0, 0xf1, 0xf3, 6}, {0, 0xf4, 0xf4, 7},
    {1, 0x80, 0xbf, 0}, {2, 0xa0, 0xbf, 1}, {3, 0x80, 0xbf, 1}, {4, 0x80, 0x9f, 1},
    {5, 0x90, 0xbf, 3}, {6, 0x80, 0xbf, 3}, {7, 0x80, 0x8f, 3},
};
enum { UTF8_STEPS = sizeof utf8_steps / sizeof utf8_steps[0] };

/* Text between two characters is at[0]; the others are made. */
typedef struct characters {
    uint32_t at[UTF8_STATES];
} characters;

/* Edges of one state of the table from a state of the grammar, which need not be that of `c`.
 * proto: add and flags of those that begin a character. */
static void add_steps(sl__builder *b, uint32_t from, unsigned utf8, const characters *c,
                      sl__edge proto)
{
    for (unsigned i = 0; i < UTF8_STEPS; i++) {
        const utf8_step *s = &utf8_steps[i];
        if (s->from != utf8) continue;
        sl__edge edge = {from, c->at[s->to], s->low, s->high, 0, 0};
        if (utf8 == 0) edge.add = proto.add, edge.flags = proto.flags;
        sl__edge_add(b, edge);
    }
}

static void make_characters(sl__builder *b, characters *c, uint32_t rest, sl__edge proto)
{
    c->at[0] = rest;
    for (unsigned i = 1; i < UTF8_STATES; i++)
        c->at[i] = sl__state_new(b, sl__state_rule(b, rest));
    for (unsigned i = 0; i < UTF8_STATES; i++)
        add_steps(b, c->at[i], i, c, proto);
}

/* Edges for the bytes of low to high that are not in `but`. */
static void add_bytes(sl__builder *b, sl__edge proto, unsigned low, unsigned high, const char *but)
{
    while (low <= high) {
        unsigned end = low;
        while (end <= high && !strchr(but, (int)end))
            end++;
        proto.low = (uint8_t)low;
        proto.high = (uint8_t)(end - 1);
        if (end > low) sl__edge_add(b, proto);
        low = end + 1;
    }
}

/* ---- strings of JSON ------------------------------------------------------------------------- */

static uint32_t hex(sl__builder *b, uint32_t from, const char *ranges, uint32_t to)
{
    for (; ranges[0]; ranges += 2)
        sl__edge_range(b, from, (unsigned char)ranges[0], (unsigned char)ranges[1], to);
    return to;
}

static const char any_hex[] = "09afAF";

/* \uXXXX behind the u: every character but U+0000, which C strings end at; a high surrogate is
 * followed by a low one. */
static void add_unicode(sl__builder *b, uint32_t from, uint32_t rest)
{
    uint32_t rule = sl__state_rule(b, rest);
    uint32_t last = sl__state_new(b, rule), two = sl__state_new(b, rule);
    uint32_t three = sl__state_new(b, rule);
    hex(b, last, any_hex, rest);
    hex(b, two, any_hex, last);
    hex(b, three, any_hex, two);
    hex(b, from, "19acefACEF", three);

    uint32_t zero = sl__path(b, from, "0", 1, 0);
    hex(b, zero, "19afAF", two);
    zero = sl__path(b, zero, "0", 1, 0);
    hex(b, zero, "19afAF", last);
    hex(b, sl__path(b, zero, "0", 1, 0), "19afAF", rest);

    uint32_t d = hex(b, from, "ddDD", sl__state_new(b, rule));
    hex(b, d, "07", two);
    uint32_t high = hex(b, d, "89abAB", sl__state_new(b, rule));
    high = hex(b, high, any_hex, sl__state_new(b, rule));
    high = hex(b, high, any_hex, sl__state_new(b, rule));
    high = hex(b, sl__path(b, high, "\\u", 2, 0), "ddDD", sl__state_new(b, rule));
    hex(b, high, "cfCF", two);
}

/* What may follow between two characters of a string: others, and its end. Behind a '<' of a
 * guarded one, which is a state of its own, no '/'; "<\/" says the same. Returns that state, else
 * rest. */
static uint32_t make_string(sl__builder *b, uint32_t rest, uint32_t end, bool counts)
{
    characters c;
    const sl__edge plain = {rest, rest, 0, 0, counts, 0};
    make_characters(b, &c, rest, plain);
    uint32_t escape = sl__state_new(b, sl__state_rule(b, rest));
    uint32_t less = b->guarded ? sl__state_new(b, sl__state_rule(b, rest)) : rest;
    for (const char *e = "\"\\/bfnrt"; *e; e++)
        sl__edge_byte(b, escape, *e, rest);
    add_unicode(b, sl__path(b, escape, "u", 1, 0), rest);
    sl__state_mark(b, rest, SL__STATE_REST | SL__STATE_NEAR, SL__TEXT_STRING);
    for (uint32_t from = rest;; from = less) {
        sl__edge edge = plain;
        edge.from = from;
        add_bytes(b, edge, 0x20, 0x7f, from == rest ? "\"\\<" : "\"\\</");
        sl__edge_add(b, (sl__edge){from, less, '<', '<', counts, 0});
        sl__edge_add(b, (sl__edge){from, escape, '\\', '\\', counts, 0});
        sl__edge_add(b, (sl__edge){from, end, '"', '"', 0, SL__EDGE_MIN});
        if (from == less) return less;
        add_steps(b, less, 0, &c, plain);
    }
}

uint32_t sl__rule_string(sl__builder *b, uint32_t min, uint32_t max)
{
    bool counts = min > 0 || max != SL__NO_LIMIT;
    if (!counts && b->string != SL__NO_RULE) return b->string;
    uint32_t rule = sl__rule_new(b), end = sl__state_new(b, rule);
    sl__rule_counts(b, rule, min, max);
    sl__state_mark(b, end, SL__STATE_ACCEPT, 0);
    make_string(b, sl__path(b, sl__rule_start(b, rule), "\"", 1, 0), end, counts);
    if (!counts) b->string = rule;
    return rule;
}

/* ---- keys ------------------------------------------------------------------------------------ */

/* A key that is none of the names: along the names (in order, all with the same first `depth`
 * bytes) until it leaves them. An escape may spell what a name has, so there is none before. */
typedef struct other_keys {
    sl__builder *b;
    const sl__property *const *names; /* by their bytes */
    characters c;                     /* behind where it left */
    uint32_t less, end;               /* less: behind a '<' */
} other_keys;

static unsigned utf8_next(unsigned state, unsigned char byte)
{
    for (unsigned i = 0; i < UTF8_STEPS; i++) {
        const utf8_step *s = &utf8_steps[i];
        if (s->from == state && byte >= s->low && byte <= s->high) return s->to;
    }
    return 0;
}

static void leave_names(const other_keys *k, uint32_t at, unsigned utf8, const bool taken[256])
{
    bool may[256] = {false};
    uint32_t to[256];
    for (unsigned i = 0; i < UTF8_STEPS; i++) {
        const utf8_step *s = &utf8_steps[i];
        for (unsigned byte = s->low; s->from == utf8 && byte <= s->high; byte++)
            may[byte] = true, to[byte] = k->c.at[s->to];
    }
    for (unsigned byte = 0x20; utf8 == 0 && byte < 0x80; byte++)
        if (byte != '"' && byte != '\\')
            may[byte] = true, to[byte] = byte == '<' ? k->less : k->c.at[0];
    for (unsigned low = 0; low < 256;) {
        unsigned high = low;
        bool good = may[low] && !taken[low];
        while (good && high + 1 < 256 && may[high + 1] && !taken[high + 1] &&
               to[high + 1] == to[low])
            high++;
        if (good) sl__edge_range(k->b, at, low, high, to[low]);
        low = high + 1;
    }
}

typedef struct key_node {
    size_t first, last, depth;
    uint32_t state;
    unsigned utf8;
    bool less; /* its last byte is a '<' */
} key_node;

/* The names of a node share its first `depth` bytes, the quote before them among these. Those that
 * go on with an escape cannot be told apart from others: nothing goes on there. */
static void add_key_node(const other_keys *k, const key_node *node, sl__buffer *waiting)
{
    bool taken[256] = {false}, is_name = false;
    for (size_t i = node->first; i < node->last;) {
        const sl__property *p = k->names[i];
        unsigned char byte = (unsigned char)p->name[node->depth];
        size_t last = i + 1;
        while (last < node->last && (unsigned char)k->names[last]->name[node->depth] == byte)
            last++;
        taken[byte] = true;
        if (node->depth == p->name_size - 1) {
            is_name = true;
        } else if (byte != '\\') {
            key_node next = {i, last, node->depth + 1, 0, utf8_next(node->utf8, byte), byte == '<'};
            char text = (char)byte;
            next.state = sl__path(k->b, node->state, &text, 1, 0);
            sl__buffer_append(waiting, &next, sizeof next);
        }
        i = last;
    }
    if (node->utf8 == 0 && !is_name) sl__edge_byte(k->b, node->state, '"', k->end);
    if (node->less && k->b->guarded) taken['/'] = true;
    leave_names(k, node->state, node->utf8, taken);
}

static int by_name(const void *x, const void *y)
{
    const sl__property *a = *(const sl__property *const *)x, *b = *(const sl__property *const *)y;
    size_t n = a->name_size < b->name_size ? a->name_size : b->name_size;
    int order = memcmp(a->name, b->name, n);
    return order ? order : (a->name_size > b->name_size) - (a->name_size < b->name_size);
}

static uint32_t make_other_keys(sl__builder *b, const sl__property **names, size_t count)
{
    uint32_t rule = sl__rule_new(b), end = sl__state_new(b, rule);
    sl__state_mark(b, end, SL__STATE_ACCEPT, 0);
    other_keys k = {.b = b, .names = names, .end = end};
    uint32_t rest = sl__state_new(b, rule);
    k.less = make_string(b, rest, end, false);
    k.c.at[0] = rest;
    for (unsigned i = 1; i < UTF8_STATES; i++)
        k.c.at[i] = sl__state_new(b, rule);
    for (unsigned i = 1; i < UTF8_STATES; i++)
        add_steps(b, k.c.at[i], i, &k.c, (sl__edge){0});
    sl__buffer waiting;
    sl__buffer_init(&waiting, SIZE_MAX / 2);
    key_node node = {0, count, 1, sl__path(b, sl__rule_start(b, rule), "\"", 1, 0), 0, false};
    sl__buffer_append(&waiting, &node, sizeof node);
    for (size_t done = 0; done < waiting.size && !waiting.failed; done += sizeof node) {
        memcpy(&node, waiting.data + done, sizeof node);
        add_key_node(&k, &node, &waiting);
    }
    if (waiting.failed) b->rules.failed = true;
    sl__buffer_free(&waiting);
    return rule;
}

/* A key that is none of these. */
static uint32_t other_key(sl__builder *b, const sl__property *list, size_t count)
{
    if (count == 0) return sl__rule_string(b, 0, SL__NO_LIMIT);
    const sl__property **names = malloc(count * sizeof *names);
    if (!names) {
        b->rules.failed = true;
        return 0;
    }
    for (size_t i = 0; i < count; i++)
        names[i] = &list[i];
    qsort(names, count, sizeof *names, by_name);
    uint32_t rule = make_other_keys(b, names, count);
    free(names);
    return rule;
}

/* ---- objects --------------------------------------------------------------------------------- */

/* key ─[':']─( gap )→ ─( value )→ after */
static void add_value(sl__builder *b, uint32_t key, uint32_t rule, uint32_t after)
{
    uint32_t colon = sl__path(b, key, ":", 1, 0);
    sl__call(b, sl__path_call(b, colon, sl__rule_gap(b)), rule, after);
}

/*     '{' ─( space )→ open(0) ┄→ open(1) ┄→ …        ┄: property i may be missing
 *                       │ key and value of 0
 *                       ▼
 *                     after(1) ─[',']─( space )→ more(1) ┄→ more(2) …
 *                       └─( space )→ ['}'], where none of 1… must be there
 */
uint32_t sl__rule_properties(sl__builder *b, const sl__property *list, size_t count,
                             uint32_t others)
{
    uint32_t space = sl__rule_space(b), rule = sl__rule_new(b), end = sl__state_new(b, rule);
    uint32_t brace = sl__state_new(b, rule);
    sl__state_mark(b, end, SL__STATE_ACCEPT, 0);
    sl__edge_byte(b, brace, '}', end);
    /* From the last to the first: what is jumped to is there. */
    uint32_t after = sl__state_new(b, rule), open = sl__state_new(b, rule);
    uint32_t more = sl__state_new(b, rule), close = sl__path_call(b, after, space);
    bool may_close = true;
    sl__jump(b, open, brace);
    sl__jump(b, close, brace);
    sl__call(b, sl__path(b, after, ",", 1, 0), space, more);
    if (others != SL__NO_RULE) {
        uint32_t key = sl__path_call(b, more, other_key(b, list, count));
        add_value(b, key, others, after);
        sl__jump(b, open, more);
    }
    for (size_t i = count; i-- > 0 && !b->full;) {
        const sl__property *p = &list[i];
        uint32_t key = sl__state_new(b, rule);
        add_value(b, sl__path(b, key, p->name, p->name_size, 0), p->rule, after);
        uint32_t next_open = open, next_more = more;
        open = sl__state_new(b, rule);
        more = sl__state_new(b, rule);
        after = sl__state_new(b, rule);
        sl__jump(b, open, key);
        sl__jump(b, more, key);
        may_close = may_close && !p->required;
        if (!p->required) {
            sl__jump(b, open, next_open);
            sl__jump(b, more, next_more);
        }
        sl__call(b, sl__path(b, after, ",", 1, 0), space, more);
        if (may_close) sl__jump(b, sl__path_call(b, after, space), brace);
    }
    sl__call(b, sl__path(b, sl__rule_start(b, rule), "{", 1, 0), space, open);
    return rule;
}

/* ---- text as it stands ----------------------------------------------------------------------- */

static const char closing[] = "</parameter>";
enum { CLOSING = sizeof closing - 1 };

/* Characters of a parameter from a state, but for '\n' and '<'. */
static void add_text(sl__builder *b, uint32_t from, const characters *c, char but, sl__edge plain)
{
    const char not_these[] = {'\n', '<', but, '\0'};
    plain.from = from;
    plain.to = c->at[0];
    add_bytes(b, plain, 1, 0x7f, not_these);
    if (from != c->at[0]) add_steps(b, from, 0, c, plain);
}

/*     rest ⟲ text          rest ─['\n']→ line ─['<']→ … "</parameter>" → end
 *     rest ─['<']→ … the same bytes, but never the last of them
 *
 * Of the count: the line break before the tag is in it, so bounds are one higher; what may become
 * the tag is not, until it is clear that it is none. */
uint32_t sl__rule_parameter(sl__builder *b, uint32_t min, uint32_t max)
{
    bool counts = min > 0 || max != SL__NO_LIMIT;
    uint32_t rule = sl__rule_new(b), rest = sl__rule_start(b, rule), end = sl__state_new(b, rule);
    if (counts) sl__rule_counts(b, rule, min + 1, max == SL__NO_LIMIT ? max : max + 1);
    sl__state_mark(b, end, SL__STATE_ACCEPT, 0);
    sl__state_mark(b, rest, SL__STATE_REST | SL__STATE_NEAR, SL__TEXT_VALUE);
    characters c;
    const sl__edge plain = {0, 0, 0, 0, counts, SL__EDGE_RESERVE};
    make_characters(b, &c, rest, plain);
    add_text(b, rest, &c, '<', plain);

    uint32_t line = sl__state_new(b, rule), tag = line, word = rest;
    uint32_t first_word = sl__state_new(b, rule);
    sl__edge_add(b, (sl__edge){rest, line, '\n', '\n', counts, 0});
    sl__edge_add(b, (sl__edge){rest, first_word, '<', '<', counts, SL__EDGE_RESERVE});
    for (uint8_t i = 0; i < CLOSING; i++) {
        bool last = i == CLOSING - 1;
        uint32_t next_tag = last ? end : sl__state_new(b, rule);
        uint32_t next_word = last ? 0 : i == 0 ? first_word : sl__state_new(b, rule);
        sl__edge go = {
            tag, next_tag, (uint8_t)closing[i], (uint8_t)closing[i], 0, i == 0 ? SL__EDGE_MIN : 0};
        sl__edge_add(b, go);
        /* No tag after all: what was held back counts, and the byte that shows it. */
        sl__edge off = plain;
        off.add = counts ? (uint8_t)(i + 1) : 0;
        add_text(b, tag, &c, closing[i], off);
        sl__edge line_off = {tag, line, '\n', '\n', off.add, 0};
        sl__edge_add(b, line_off);
        sl__edge word_off = {tag, first_word, '<', '<', off.add, SL__EDGE_RESERVE};
        if (i > 0) sl__edge_add(b, word_off);
        if (i > 0) {
            add_text(b, word, &c, closing[i], plain);
            sl__edge_add(b, (sl__edge){word, line, '\n', '\n', counts, 0});
            sl__edge_add(b, (sl__edge){word, first_word, '<', '<', counts, SL__EDGE_RESERVE});
            sl__edge on = {word,   next_word,       (uint8_t)closing[i], (uint8_t)closing[i],
                           counts, SL__EDGE_RESERVE};
            if (!last) sl__edge_add(b, on);
        }
        unsigned near = counts ? 0 : SL__STATE_NEAR;
        sl__state_mark(b, tag, near, SL__TEXT_VALUE);
        if (i > 0) sl__state_mark(b, word, near, SL__TEXT_VALUE);
        tag = next_tag;
        word = next_word;
    }
    return rule;
}
