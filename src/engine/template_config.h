/* What a pack keeps of a model's chat template. */
#ifndef SL_ENGINE_TEMPLATE_CONFIG_H
#define SL_ENGINE_TEMPLATE_CONFIG_H

#include <jansson.h>

#include "sluice.h"

/* As sl__template_describe (text/template.h), of a model whatever its format. path: the model's;
 * folder: where its files lie. New reference. */
sl_status sl__template_config(json_t **out, const char *path, const char *folder, sl_error *err);

#endif
