/* Rendering: from the JSON of the variables to the text. */
#include <string.h>

#include "base/fail.h"
#include "text/jinja_eval.h"
#include "text/jinja_from_json.h"

/* All of them; "now" sets the clock besides. */
static bool take_variables(sl__jctx *c, json_t *json)
{
    const json_t *now = json_object_get(json, "now");
    sl__jclock_now(&c->now);
    if (now && !json_is_null(now)) {
        if (!json_is_string(now) ||
            !sl__jclock_parse(json_string_value(now), json_string_length(now), &c->now)) {
            c->status = SL_FAIL(c->err, SL_EINVAL,
                                "%s: the variable now: expected a time such as "
                                "\"2026-01-02T03:04:05\"",
                                c->tmpl->name);
            return false;
        }
    }
    sl__jval vars;
    if (!sl__jfrom_json(c, json, &vars)) return false;
    c->vars = vars.u.dict;
    return true;
}

sl_status sl__jinja_render(const sl__jinja *tmpl, json_t *vars, const sl__jinja_limits *limits,
                           sl__buffer *out, sl_error *err)
{
    if (!json_is_object(vars)) return SL_FAIL(err, SL_EINVAL, "variables: not a JSON object");
    sl__jctx ctx = {.tmpl = tmpl,
                    .limits = limits ? limits : &sl__jinja_default_limits,
                    .out = out,
                    .err = err};
    sl__jctx *c = &ctx;
    sl__jmem_init(&c->mem, c->limits->memory_bytes);
    if (take_variables(c, vars)) {
        c->scope = sl__jscope_push(c, NULL);
        if (c->scope) sl__jexec(c, tmpl->root);
    }
    sl__jmem_free(&c->mem);
    return c->status;
}
