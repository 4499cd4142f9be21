/* The variables of a render, from JSON. */
#ifndef SL_TEXT_JINJA_FROM_JSON_H
#define SL_TEXT_JINJA_FROM_JSON_H

#include <jansson.h>

#include "text/jinja_chars.h"
#include "text/jinja_eval.h"

/* Strings are borrowed: json must outlive the render. */
bool sl__jfrom_json(sl__jctx *c, json_t *json, sl__jval *out);

#endif
