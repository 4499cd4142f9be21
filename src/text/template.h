/* Inside chat templates: opening them from where this room can look. Public calls are in sluice.h.
 */
#ifndef SL_TEXT_TEMPLATE_H
#define SL_TEXT_TEMPLATE_H

#include "sluice.h"

/* sl_template_open of all but GGUF files, which this room cannot read; the engine does. */
sl_status sl__template_open_files(sl_template **out, const char *path, sl_error *err);

/* As sl_template_parse, and then another one for conversations with tools. */
sl_status sl__template_add_tools(sl_template *tmpl, const char *text, size_t size,
                                 const char *name, sl_error *err);

#endif
