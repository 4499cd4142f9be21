/* Small drawings as SVG text. Colours are such that they can be read on white and on black; fonts
 * are the reader's own. */
#ifndef SL_CLI_SVG_H
#define SL_CLI_SVG_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buffer.h"

typedef struct svg {
    sl__buffer text; /* owned; failed where memory ran out */
} svg;

typedef enum svg_anchor { SVG_START = 0, SVG_MIDDLE, SVG_END } svg_anchor;

typedef struct svg_point {
    double x, y; /* pixels, y downwards */
} svg_point;

void svg_begin(svg *s, double width, double height);
void svg_end(svg *s);
void svg_free(svg *s);

/* What follows is cut off at a rectangle, until the end of the clip. One clip a drawing. */
void svg_clip_begin(svg *s, double x, double y, double width, double height);
void svg_clip_end(svg *s);

/* colour: "#rrggbb"; dash: as stroke-dasharray has it, NULL: none. */
void svg_path(svg *s, const svg_point *points, size_t count, const char *colour, double width,
              const char *dash);
void svg_dot(svg *s, svg_point at, double radius, const char *colour);
void svg_text(svg *s, svg_point at, double size, svg_anchor anchor, const char *colour,
              const char *text); /* any text: it is escaped */
void svg_text_upright(svg *s, svg_point at, double size, const char *colour, const char *text);

/* A step between ticks, 1, 2 or 5 times a power of ten, so that [0, span] has at most `most`. */
double svg_tick_step(double span, int most);

#endif
