/* Inside chat templates: opening them from where this room can look. Public calls are in sluice.h.
 */
#ifndef SL_TEXT_TEMPLATE_H
#define SL_TEXT_TEMPLATE_H

#include <jansson.h>

#include "sluice.h"

/* sl_template_open of all but GGUF files, which this room cannot read; the engine does. */
sl_status sl__template_open_files(sl_template **out, const char *path, sl_error *err);

/* What a folder says of its template, as a small tokenizer_config.json would: chat_template (a
 * text, or a list of {name, template}), bos_token and its like as texts; what is not there is left
 * out. New reference. Templates are not looked into. */
sl_status sl__template_describe(json_t **out, const char *dir, sl_error *err);

/* Of a tokenizer_config.json: the tokens that templates may name, as texts. They are what variables
 * of their names are where the caller of a render gives none. */
sl_status sl__template_add_tokens(sl_template *tmpl, const json_t *config, sl_error *err);

/* As sl_template_parse, and then another one for conversations with tools. */
sl_status sl__template_add_tools(sl_template *tmpl, const char *text, size_t size, const char *name,
                                 sl_error *err);

#endif
