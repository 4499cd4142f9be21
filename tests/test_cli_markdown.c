/* Markdown as it streams: which text gets which attributes, however it is cut into pieces. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/buffer.h"
#include "cli/markdown.h"

/* What was told, with a letter for each byte: its styles. */
typedef struct record {
    sl__buffer text, styles;
} record;

static char letter_of(unsigned styles)
{
    switch (styles) {
    case MARKDOWN_PLAIN:
        return '.';
    case MARKDOWN_BOLD:
        return 'B';
    case MARKDOWN_ITALIC:
        return 'I';
    case MARKDOWN_BOLD | MARKDOWN_ITALIC:
        return 'X';
    case MARKDOWN_CODE:
        return 'C';
    case MARKDOWN_BLOCK:
        return '#';
    case MARKDOWN_FENCE:
        return 'F';
    case MARKDOWN_HEADING:
        return 'H';
    default:
        return '?';
    }
}

static void listen(void *ctx, unsigned styles, const char *text, size_t size)
{
    record *r = ctx;
    assert_true(size > 0);
    assert_true(sl__buffer_append(&r->text, text, size));
    char letter = letter_of(styles);
    for (size_t i = 0; i < size; i++)
        assert_true(sl__buffer_append(&r->styles, &letter, 1));
}

/* cut: pieces of so many bytes; 0: pieces of any size, from *random. */
static record stream(const char *text, size_t size, size_t cut, uint64_t *random)
{
    record r;
    markdown m;
    sl__buffer_init(&r.text, 1 << 20);
    sl__buffer_init(&r.styles, 1 << 20);
    markdown_begin(&m, listen, &r);
    for (size_t at = 0; at < size;) {
        size_t n = cut;
        if (n == 0) {
            *random = *random * 6364136223846793005u + 1442695040888963407u;
            n = 1 + (size_t)(*random >> 61);
        }
        if (n > size - at) n = size - at;
        markdown_push(&m, text + at, n);
        at += n;
    }
    markdown_end(&m);
    return r;
}

static void record_free(record *r)
{
    sl__buffer_free(&r->text);
    sl__buffer_free(&r->styles);
}

static const struct {
    const char *text, *styles;
} cases[] = {
    {"plain text\n", "..........."},
    {"a **b c** d", "..BBBBBBB.."},
    {"a *b* d", "..III.."},
    {"a _b c_ d", "..IIIII.."},
    {"***x*** y", "XXXXXXX.."},
    {"**a *b* c**", "BBBBXXXBBBB"},
    {"snake_case_name", "..............."},
    {"2 * 3 * 4", "........."},
    {"* item\n* item", "............."},
    {"* **bold** item", "..BBBBBBBB....."},
    {"`a*b*c` d", "CCCCCCC.."},
    {"``a`b`` c", "CCCCCCC.."},
    {"\\*not\\* \\`x\\`", "............."},
    {"\\\\*it*", "..IIII"},
    {"## Head *x*\ntext", "HHHHHHHH???H...."},
    {"#no head\n", "........."},
    {"####### seven\n", ".............."},
    {"a # b\n", "......"},
    {"*open\nnext* line", "IIIIII.........."},
    {"```c\nint *x; **y\n```\n*z*", "FFFFF############FFFFIII"},
    {"  ```\n**x**\n  ```\nend", "..FFFF########FFFF..."},
    {"~~~\n```\n~~~\nx", "FFFF####FFFF."},
    {"````\n```\n````\nx", "FFFFF####FFFFF."},
    {"```a``` *b*", "FFFFCCC.III"},
    {"****\n", "....."},
    {"x **", "...."},
    {"***", "..."},
    {"caf\xc3\xa9 **\xe2\x82\xac**", "......BBBBBBB"},
    {"a*\xc3\xa9*b", ".IIII."},
};

static void test_cases(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *text = cases[i].text;
        for (size_t cut = 1; cut <= strlen(text); cut++) {
            record r = stream(text, strlen(text), cut, NULL);
            assert_string_equal(r.text.data, text);
            if (strcmp(r.styles.data, cases[i].styles) != 0)
                fail_msg("\"%s\" in pieces of %zu: %s, not %s", text, cut, r.styles.data,
                         cases[i].styles);
            record_free(&r);
        }
    }
}

/* Every byte comes out once, in order, and how the text was cut cannot be seen. */
static void test_pieces_do_not_matter(void **state)
{
    (void)state;
    static const char alphabet[] = "**__``~# \n\\ab\xc3\xa9\n  ```";
    uint64_t random = 7;
    for (int round = 0; round < 400; round++) {
        char text[301];
        size_t size = (size_t)round % 300 + 1;
        for (size_t i = 0; i < size; i++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            text[i] = alphabet[(random >> 33) % (sizeof alphabet - 1)];
        }
        text[size] = '\0';
        record whole = stream(text, size, size, NULL), cut = stream(text, size, 0, &random);
        assert_int_equal(whole.text.size, size);
        assert_memory_equal(whole.text.data, text, size);
        assert_memory_equal(cut.text.data, text, size);
        assert_string_equal(whole.styles.data, cut.styles.data);
        record_free(&whole);
        record_free(&cut);
    }
}

/* A run that never ends does not wait for ever, nor does a NUL begin one. */
static void test_long_runs_and_nul(void **state)
{
    (void)state;
    char text[1000];
    memset(text, '*', sizeof text);
    record r = stream(text, sizeof text, 3, NULL);
    assert_int_equal(r.text.size, sizeof text);
    assert_int_equal(strspn(r.styles.data, "."), sizeof text);
    record_free(&r);
    r = stream("a\0\0b", 4, 1, NULL);
    assert_int_equal(r.text.size, 4);
    assert_memory_equal(r.text.data, "a\0\0b", 4);
    record_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),
        cmocka_unit_test(test_pieces_do_not_matter),
        cmocka_unit_test(test_long_runs_and_nul),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
