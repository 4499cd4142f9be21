/* Figures for those who watch: Prometheus' text format, and JSON for the page. */
#ifndef SL_SERVER_METRICS_H
#define SL_SERVER_METRICS_H

#include "base/buffer.h"
#include "server/scheduler.h"

void metrics_write(sl__buffer *out, const scheduler_figures *figures);
json_t *metrics_json(const scheduler_figures *figures); /* new; NULL: no memory */

#endif
