/* Chat templates: Jinja, compiled once and rendered many times.
 *
 *     text ── jinja_lex ── tokens ── jinja_parse ── tree ─┐
 *     JSON ── jinja_json ── values ───────────────────────┴─ jinja_eval ── text
 *
 * The language is Jinja 3's as transformers sets it up for chat templates: trim_blocks and
 * lstrip_blocks, loop controls, `generation` blocks, an immutable sandbox, `tojson` as Python's
 * json.dumps. docs/internals/text.md lists what there is. A compiled template never changes and may
 * be shared by threads; a render's memory is its own.
 */
#ifndef SL_TEXT_JINJA_H
#define SL_TEXT_JINJA_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "sluice.h"

typedef struct sl__jinja sl__jinja;

/* What a render may take at most. A template is a program from elsewhere: it may loop, nest and
 * double its strings, and must not take the process with it. */
typedef struct sl__jinja_limits {
    uint64_t steps;        /* evaluations of a node, and the like of them inside of filters */
    uint64_t memory_bytes; /* of values */
    uint64_t output_bytes;
    uint32_t depth; /* of evaluation: of nesting and of calls together */
} sl__jinja_limits;
extern const sl__jinja_limits sl__jinja_default_limits;

#define SL_JINJA_TEXT_MAX ((size_t)1 << 20) /* bytes of a template */

/* Compiles `size` bytes of UTF-8; name (copied) is for messages, which say line and column:
 * SL_EFORMAT for what is not Jinja, SL_EUNSUPPORTED for statements that are refused. */
sl_status sl__jinja_parse(sl__jinja **out, const char *text, size_t size, const char *name,
                          sl_error *err);
void sl__jinja_free(sl__jinja *tmpl); /* NULL is allowed */

/* Renders with the variables of a JSON object, as sl_template_render does. limits may be NULL.
 * Appends to `out`, which is initialised; after a failure what is in it means nothing. SL_EINVAL
 * where the template fails on what it was given, SL_EBUDGET where a limit is reached. */
sl_status sl__jinja_render(const sl__jinja *tmpl, json_t *vars, const sl__jinja_limits *limits,
                           sl__buffer *out, sl_error *err);

#endif
