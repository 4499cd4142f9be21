/* A chat template and its variables, apart by a zero byte: any template, compiled and rendered
 * within limits. A failure names the template; what is rendered is rendered alike again. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "text/jinja.h"
#include "text/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char variables[] =
    "{\"messages\":[{\"role\":\"user\",\"content\":\"h\xc3\xa9\"},{\"role\":\"assistant\","
    "\"content\":[{\"type\":\"text\",\"text\":\"x\"}],\"tool_calls\":[{\"a\":1}]}],\"n\":3,"
    "\"f\":0.5,\"s\":\" ab\\n\",\"l\":[3,1,\"b\"],\"d\":{\"k\":[],\"v\":null,\"t\":true},"
    "\"now\":\"2026-01-02T03:04:05\"}";

static const sl__jinja_limits limits = {50000, 1 << 20, 1 << 16, 300};

static void require(int truth)
{
    if (!truth) abort();
}

static sl_status render(const sl__jinja *tmpl, json_t *vars, sl__buffer *out)
{
    sl_error err = {0};
    sl__buffer_init(out, SIZE_MAX / 2);
    sl_status status = sl__jinja_render(tmpl, vars, &limits, out, &err);
    require(err.status == status);
    require(status == SL_OK || strncmp(err.message, "fuzz: ", 6) == 0);
    require(out->size <= limits.output_bytes);
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    const char *end = size ? memchr(text, 0, size) : NULL;
    size_t length = end ? (size_t)(end - text) : size;
    sl__jinja *tmpl;
    sl_error err = {0};
    if (sl__jinja_parse(&tmpl, text, length, "fuzz", &err) != SL_OK) {
        require(err.status != SL_OK && strncmp(err.message, "fuzz: line ", 11) == 0);
        return 0;
    }
    json_t *vars = NULL;
    if (end && sl__json_parse(end + 1, size - length - 1, "vars", &vars, NULL) != SL_OK)
        vars = NULL;
    if (!json_is_object(vars)) {
        json_decref(vars);
        require(sl__json_parse(variables, sizeof variables - 1, "vars", &vars, NULL) == SL_OK);
    }
    json_object_set_new(vars, "now", json_string("2026-01-02T03:04:05"));
    sl__buffer once, again;
    sl_status status = render(tmpl, vars, &once);
    require(render(tmpl, vars, &again) == status);
    if (status == SL_OK) {
        require(once.size == again.size);
        require(once.size == 0 || memcmp(once.data, again.data, once.size) == 0);
        require(once.size == 0 || sl__utf8_valid(once.data, once.size) == once.size);
    }
    sl__buffer_free(&once);
    sl__buffer_free(&again);
    json_decref(vars);
    sl__jinja_free(tmpl);
    return 0;
}
