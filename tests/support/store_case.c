#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "store_case.h"
#include "test_env.h"

char case_temp[1024];
pack_fixture case_fix;

int case_begin(void **state)
{
    (void)state;
    test_temp_dir(case_temp, sizeof case_temp);
    pack_fixture_init(&case_fix);
    return 0;
}

int case_end(void **state)
{
    (void)state;
    test_remove_tree(case_temp);
    pack_fixture_free(&case_fix);
    return 0;
}

const char *case_path(const char *name)
{
    static char paths[8][2048];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", case_temp, name);
    return path;
}

void case_must(sl_status status, const sl_error *err)
{
    if (status != SL_OK) fail_msg("%s: %s", sl_status_name(status), err->message);
}

void case_expect(sl_status got, const sl_error *err, sl_status status, ...)
{
    if (got != status) {
        fail_msg("got %s (%s), expected %s", sl_status_name(got), err->message,
                 sl_status_name(status));
    }
    assert_int_equal(err->status, status);
    va_list texts;
    va_start(texts, status);
    for (const char *text; (text = va_arg(texts, const char *));) {
        if (!strstr(err->message, text)) fail_msg("'%s' is not in: %s", text, err->message);
    }
    va_end(texts);
}
