/* The grammars of JSON: any object, and what a schema allows. */
#include "base/fail.h"
#include "base/json.h"
#include "constrain/rules.h"
#include "constrain/schema.h"

/* White space may come first: some models begin their answers so. */
static sl_status finish(sl__builder *b, uint32_t rule, const char *name, sl_grammar **out,
                        sl_error *err)
{
    uint32_t root = sl__rule_new(b), end = sl__state_new(b, root);
    uint32_t begin = sl__path_call(b, sl__rule_start(b, root), sl__rule_space(b));
    sl__state_mark(b, end, SL__STATE_ACCEPT, 0);
    sl__call(b, begin, rule, end);
    return sl__builder_finish(b, root, name, out, err);
}

sl_status sl_grammar_json(sl_grammar **out, sl_error *err)
{
    sl__builder b;
    sl__builder_init(&b);
    return finish(&b, sl__rule_object(&b), "json", out, err);
}

static sl_status compile(sl__schema_compiler *c, json_t *root, sl_grammar **out, sl_error *err)
{
    const sl__schema_place at = {"json_schema", root, root, "#", 0};
    uint32_t rule;
    SL_TRY(sl__schema_rule(c, &at, &rule, err));
    SL_TRY(sl__schema_run(c, err));
    return finish(&c->builder, rule, "json_schema", out, err);
}

sl_status sl_grammar_json_schema(sl_grammar **out, const char *schema, size_t size, sl_error *err)
{
    json_t *root;
    *out = NULL;
    if (size > SL__SCHEMA_BYTES_MAX)
        return SL_FAIL(err, SL_EINVAL, "json_schema: %zu bytes (at most %zu)", size,
                       SL__SCHEMA_BYTES_MAX);
    SL_TRY(sl__json_parse(schema, size, "json_schema", &root, err));
    sl__schema_compiler c;
    sl__schema_init(&c);
    sl_status status = compile(&c, root, out, err);
    sl__schema_free(&c);
    json_decref(root);
    return status;
}
