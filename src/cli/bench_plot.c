/* The plot of a sweep: tokens a second against the budget, and what would bound them.
 *
 *     tok/s │            ───── compute alone
 *           │    ╱ disk alone
 *           │  ╱   ●───●───●  measured
 *           └───────────────── budget
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/file.h"
#include "cli/bench_report.h"
#include "cli/svg.h"

#define INK "#808080"
#define MEASURED "#2f81f7"
#define DISK "#d97706"
#define COMPUTE "#2da44e"

static const double width = 760, height = 440, left = 74, right = 24, top = 84, bottom = 62;

typedef struct plot {
    svg drawing;
    size_t count;
    svg_point *measured, *disk, *compute; /* [count], in data's units; y NaN: not measured */
    double x_low, x_high, y_high, unit;   /* bytes; bytes; tok/s; bytes a GiB or MiB */
    const char *unit_name;
} plot;

static svg_point place(const plot *p, svg_point at)
{
    double x = (at.x - p->x_low) / (p->x_high - p->x_low), y = at.y / p->y_high;
    return (svg_point){left + x * (width - left - right), height - bottom -
                                                              y * (height - top - bottom)};
}

/* The settings of a sweep come largest first; points go from left to right. */
static void gather(plot *p, const bench *b)
{
    double fastest = 0.0, compute = 0.0;
    for (size_t i = b->setting_count; i-- > 0;) {
        bench_spread speed = bench_figure_spread(b, i, offsetof(bench_figures, decode_tok_s));
        if (speed.count == 0) continue;
        double x = (double)b->settings[i].options.engine.memory_bytes;
        double disk_ns = bench_figure_spread(b, i, offsetof(bench_figures, disk_ns)).median;
        double compute_ns = bench_figure_spread(b, i, offsetof(bench_figures, compute_ns)).median;
        p->measured[p->count] = (svg_point){x, speed.median};
        p->disk[p->count] = (svg_point){x, 1e9 / disk_ns}; /* infinite where nothing is missing */
        p->compute[p->count] = (svg_point){x, 1e9 / compute_ns};
        p->count++;
        if (speed.median > fastest) fastest = speed.median;
        if (1e9 / compute_ns > compute) compute = 1e9 / compute_ns;
    }
    /* The bounds may lie far above: they are cut off there. */
    p->y_high = fmax(fastest * 1.15, fmin(compute * 1.08, fastest * 3.0));
    if (p->count == 0) return;
    p->x_low = p->measured[0].x;
    p->x_high = p->measured[p->count - 1].x;
    double margin = p->count > 1 ? (p->x_high - p->x_low) * 0.05 : p->x_low * 0.25;
    p->x_low -= margin;
    p->x_high += margin;
    bool large = p->x_high >= 2.0 * 1073741824.0;
    p->unit = large ? 1073741824.0 : 1048576.0;
    p->unit_name = large ? "GiB" : "MiB";
}

static void draw_axes(plot *p)
{
    svg *s = &p->drawing;
    char label[CLI_FIGURE];
    double y_step = svg_tick_step(p->y_high, 6);
    for (double y = 0; y <= p->y_high; y += y_step) {
        const svg_point ends[] = {place(p, (svg_point){p->x_low, y}),
                                  place(p, (svg_point){p->x_high, y})};
        svg_path(s, ends, 2, INK, y > 0 ? 0.3 : 1, NULL);
        snprintf(label, sizeof label, "%g", y);
        svg_text(s, (svg_point){ends[0].x - 8, ends[0].y + 4}, 12, SVG_END, INK, label);
    }
    double x_step = svg_tick_step((p->x_high - p->x_low) / p->unit, 9) * p->unit;
    for (double x = ceil(p->x_low / x_step) * x_step; x <= p->x_high; x += x_step) {
        svg_point at = place(p, (svg_point){x, 0});
        const svg_point tick[] = {at, {at.x, at.y + 5}};
        svg_path(s, tick, 2, INK, 1, NULL);
        snprintf(label, sizeof label, "%g", x / p->unit);
        svg_text(s, (svg_point){at.x, at.y + 20}, 12, SVG_MIDDLE, INK, label);
    }
    snprintf(label, sizeof label, "memory budget, %s", p->unit_name);
    svg_text(s, (svg_point){(left + width - right) / 2, height - 18}, 13, SVG_MIDDLE, INK, label);
    svg_text_upright(s, (svg_point){20, (top + height - bottom) / 2}, 13, INK,
                     "decode, tokens a second");
}

/* A curve through the points that are known; what is infinite is drawn just above the frame. */
static void draw_curve(plot *p, const svg_point *points, const char *colour, double stroke,
                       const char *dash)
{
    svg_point *line = calloc(p->count, sizeof *line);
    size_t count = 0;
    for (size_t i = 0; line && i < p->count; i++) {
        if (isnan(points[i].y)) continue;
        svg_point at = points[i];
        if (at.y > p->y_high * 4) at.y = p->y_high * 4;
        line[count++] = place(p, at);
    }
    if (count == 1) { /* one budget: a level across the frame */
        svg_point level[] = {{left, line[0].y}, {width - right, line[0].y}};
        svg_path(&p->drawing, level, 2, colour, stroke, dash);
    } else if (count > 1) {
        svg_path(&p->drawing, line, count, colour, stroke, dash);
    }
    free(line);
}

static bool any_known(const svg_point *points, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!isnan(points[i].y)) return true;
    return false;
}

static void draw_legend(plot *p)
{
    const struct {
        const char *text, *colour, *dash;
        bool shown;
    } entries[] = {
        {"measured", MEASURED, NULL, true},
        {"disk alone", DISK, "6 3", any_known(p->disk, p->count)},
        {"compute alone", COMPUTE, "2 3", any_known(p->compute, p->count)},
    };
    double x = left;
    for (size_t i = 0; i < sizeof entries / sizeof entries[0]; i++) {
        if (!entries[i].shown) continue;
        const svg_point line[] = {{x, top - 20}, {x + 26, top - 20}};
        svg_path(&p->drawing, line, 2, entries[i].colour, i == 0 ? 2.5 : 1.2, entries[i].dash);
        if (i == 0) svg_dot(&p->drawing, (svg_point){x + 13, top - 20}, 3.5, entries[i].colour);
        svg_text(&p->drawing, (svg_point){x + 33, top - 16}, 12, SVG_START, INK, entries[i].text);
        x += 60 + 7 * (double)strlen(entries[i].text);
    }
}

/* Bits and experts stand beside every speed. */
static void draw_title(plot *p, const bench *b)
{
    const sl_engine_info *info = NULL;
    for (size_t i = 0; i < b->result_count && !info; i++)
        if (!b->results[i].refused[0]) info = &b->results[i].info;
    if (!info) return;
    char line[256];
    snprintf(line, sizeof line, "%s: speed against memory", info->family);
    svg_text(&p->drawing, (svg_point){left, 26}, 15, SVG_START, INK, line);
    snprintf(line, sizeof line, "%u of %u experts a token%s, %s, %.2f bits a weight; %u thread%s%s",
             info->experts_per_token, info->experts,
             info->experts_per_token < info->trained_experts_per_token ? " (LOSSY)" : "",
             info->expert_types, info->expert_bits, info->threads, info->threads == 1 ? "" : "s",
             info->synthetic ? "; SYNTHETIC weights" : "");
    svg_text(&p->drawing, (svg_point){left, 46}, 12, SVG_START, INK, line);
}

static void draw(plot *p, const bench *b)
{
    svg *s = &p->drawing;
    svg_begin(s, width, height);
    draw_title(p, b);
    if (p->count == 0) {
        svg_text(s, (svg_point){width / 2, height / 2}, 14, SVG_MIDDLE, INK,
                 "no budget was measured");
    } else {
        draw_axes(p);
        svg_clip_begin(s, left, top - 4, width - left - right, height - top - bottom + 5);
        draw_curve(p, p->disk, DISK, 1.2, "6 3");
        draw_curve(p, p->compute, COMPUTE, 1.2, "2 3");
        if (p->count > 1) draw_curve(p, p->measured, MEASURED, 2.5, NULL);
        svg_clip_end(s);
        for (size_t i = 0; i < p->count; i++)
            svg_dot(s, place(p, p->measured[i]), 4, MEASURED);
        draw_legend(p);
    }
    svg_end(s);
}

sl_status bench_write_plot(const bench *b, const char *path, sl_error *err)
{
    svg_point *points = calloc(3 * b->setting_count, sizeof *points);
    if (!points) return SL_FAIL_NOMEM(err, "plot");
    plot p = {.measured = points,
              .disk = points + b->setting_count,
              .compute = points + 2 * b->setting_count};
    gather(&p, b);
    draw(&p, b);
    sl_status status = SL_OK;
    if (p.drawing.text.failed)
        status = SL_FAIL_NOMEM(err, "plot");
    else
        status = sl__file_write_atomic(path, p.drawing.text.data, p.drawing.text.size, err);
    svg_free(&p.drawing);
    free(points);
    return status;
}
