/* The map of experts as those who watch see it: the engine's thread copies it while somebody has
 * asked for it lately, at most ten times a second; readers get the last copy.
 *
 *     engine ── update, its own thread ──▶ copy ── json, any thread ──▶ a page
 */
#ifndef SL_SERVER_EXPERTS_MAP_H
#define SL_SERVER_EXPERTS_MAP_H

#include <jansson.h>
#include <stdbool.h>

#include "sluice.h"

typedef struct experts_map experts_map;

/* Borrows the engine, which is looked at here and in update alone. */
sl_status experts_map_create(experts_map **out, const sl_engine *engine, sl_error *err);
void experts_map_destroy(experts_map *m); /* NULL is allowed */

/* Called by whoever drives the engine, between its layers; copies where that is wanted. */
void experts_map_update(experts_map *m);
/* {"layers": L, "experts": E, "map": L × E bytes of sl_expert_map in base64}; an update soon is
 * wanted. NULL: no memory. */
json_t *experts_map_json(experts_map *m);

#endif
