/* Writes SVG elements into a buffer. Numbers are printed with one digit after the point. */
#include "cli/svg.h"

#include <math.h>
#include <string.h>

#define SVG_BYTES_MAX ((size_t)16 << 20)

void svg_begin(svg *s, double width, double height)
{
    sl__buffer_init(&s->text, SVG_BYTES_MAX);
    sl__buffer_printf(&s->text,
                      "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
                      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" "
                      "viewBox=\"0 0 %.0f %.0f\" font-family=\"system-ui, sans-serif\">\n",
                      width, height, width, height);
}

void svg_end(svg *s)
{
    sl__buffer_append_str(&s->text, "</svg>\n");
}

void svg_free(svg *s)
{
    sl__buffer_free(&s->text);
}

void svg_clip_begin(svg *s, double x, double y, double width, double height)
{
    sl__buffer_printf(&s->text,
                      "<clipPath id=\"frame\"><rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" "
                      "height=\"%.1f\"/></clipPath>\n<g clip-path=\"url(#frame)\">\n",
                      x, y, width, height);
}

void svg_clip_end(svg *s)
{
    sl__buffer_append_str(&s->text, "</g>\n");
}

void svg_path(svg *s, const svg_point *points, size_t count, const char *colour, double width,
              const char *dash)
{
    sl__buffer_printf(&s->text, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"%.1f\"",
                      colour, width);
    if (dash) sl__buffer_printf(&s->text, " stroke-dasharray=\"%s\"", dash);
    sl__buffer_append_str(&s->text, " points=\"");
    for (size_t i = 0; i < count; i++)
        sl__buffer_printf(&s->text, "%s%.1f,%.1f", i ? " " : "", points[i].x, points[i].y);
    sl__buffer_append_str(&s->text, "\"/>\n");
}

void svg_dot(svg *s, svg_point at, double radius, const char *colour)
{
    sl__buffer_printf(&s->text, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\" fill=\"%s\"/>\n", at.x,
                      at.y, radius, colour);
}

/* Text as XML has it. Control characters are not allowed there at all. */
static void append_escaped(sl__buffer *out, const char *text)
{
    for (const char *c = text; *c; c++) {
        if (*c == '<')
            sl__buffer_append_str(out, "&lt;");
        else if (*c == '>')
            sl__buffer_append_str(out, "&gt;");
        else if (*c == '&')
            sl__buffer_append_str(out, "&amp;");
        else
            sl__buffer_append(out, (unsigned char)*c < 0x20 ? "?" : c, 1);
    }
}

void svg_text(svg *s, svg_point at, double size, svg_anchor anchor, const char *colour,
              const char *text)
{
    static const char *const anchors[] = {"start", "middle", "end"};
    sl__buffer_printf(&s->text,
                      "<text x=\"%.1f\" y=\"%.1f\" font-size=\"%.0f\" text-anchor=\"%s\" "
                      "fill=\"%s\">",
                      at.x, at.y, size, anchors[anchor], colour);
    append_escaped(&s->text, text);
    sl__buffer_append_str(&s->text, "</text>\n");
}

void svg_text_upright(svg *s, svg_point at, double size, const char *colour, const char *text)
{
    sl__buffer_printf(&s->text,
                      "<text transform=\"translate(%.1f %.1f) rotate(-90)\" font-size=\"%.0f\" "
                      "text-anchor=\"middle\" fill=\"%s\">",
                      at.x, at.y, size, colour);
    append_escaped(&s->text, text);
    sl__buffer_append_str(&s->text, "</text>\n");
}

double svg_tick_step(double span, int most)
{
    if (!(span > 0.0) || !isfinite(span) || most < 1) return 1.0;
    double power = pow(10.0, floor(log10(span / most)));
    static const double steps[] = {1.0, 2.0, 5.0, 10.0};
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++)
        if (span / (steps[i] * power) <= most) return steps[i] * power;
    return 10.0 * power;
}
