/* SPDX-License-Identifier: BSD-3-Clause */
#include "calib/report.h"
#include "eager/eager.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* ---- text ---- */

static void text(anm_buf *b, const char *s)
{
    for (; *s; s++) switch (*s) {
        case '<': anm_buf_puts(b, "&lt;"); break;
        case '>': anm_buf_puts(b, "&gt;"); break;
        case '&': anm_buf_puts(b, "&amp;"); break;
        case '"': anm_buf_puts(b, "&quot;"); break;
        default: anm_buf_u8(b, (uint8_t)*s);
        }
}

static void begin_page(anm_buf *b, const char *title)
{
    anm_buf_puts(b, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
                    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>");
    text(b, title);
    anm_buf_puts(b, "</title>\n<style>\n"
                    ":root { --ink: #1c2024; --dim: #687076; --line: #dfe3e6; --back: #fff; --before: #e5484d; --after: #0b68cb; --limit: #a16207 }\n"
                    "@media (prefers-color-scheme: dark) { :root { --ink: #ecedee; --dim: #9ba1a6; --line: #3a3f42; --back: #151718;"
                    " --before: #ff6369; --after: #52a9ff; --limit: #f5d90a } }\n"
                    "body { font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--back); max-width: 1080px; margin: 2em auto; padding: 0 1em }\n"
                    "h1 { font-size: 1.5em } h2 { font-size: 1.15em; margin-top: 2em } p { max-width: 48em } figure { margin: 0 }\n"
                    "table { border-collapse: collapse } td, th { padding: .25em .9em .25em 0; text-align: left; border-bottom: 1px solid var(--line) }\n"
                    "td.n, th.n { text-align: right; font-variant-numeric: tabular-nums } .dim, figcaption { color: var(--dim) }\n"
                    ".grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(320px, 1fr)); gap: 1.2em }\n"
                    "svg { width: 100%; height: auto; display: block } svg text { font: 11px system-ui, sans-serif; fill: var(--dim) }\n"
                    ".axis { stroke: var(--line) } .before { stroke: var(--before) } .after { stroke: var(--after) } .limit { stroke: var(--limit); stroke-dasharray: 5 4 }\n"
                    "path { fill: none; stroke-width: 1.8 } .bar { fill: var(--after) } .bar0 { fill: var(--before); opacity: .45 }\n"
                    ".key { display: inline-block; width: 1.4em; height: .25em; vertical-align: middle; margin: 0 .4em 0 1em }\n"
                    "</style></head><body>\n<h1>");
    text(b, title);
    anm_buf_puts(b, "</h1>\n");
}

/* ---- line plots ---- */

enum { WIDE = 340, HIGH = 190, LEFT = 46, RIGHT = 8, TOP = 10, BOTTOM = 24 };

typedef struct plot {
    double low, high; /* powers of ten, as exponents */
    size_t n;         /* points along x */
} plot;

static double at_x(const plot *p, size_t i)
{
    return LEFT + (WIDE - LEFT - RIGHT) * (p->n > 1 ? (double)i / (double)(p->n - 1) : 0.5);
}

static double at_y(const plot *p, double v)
{
    double l = v > 0 ? log10(v) : p->low, part = (l - p->low) / (p->high - p->low);
    part = part < 0 ? 0 : part > 1 ? 1 : part;
    return TOP + (HIGH - TOP - BOTTOM) * (1 - part);
}

/* Grows the plot's range so that v is in it. */
static void hold(plot *p, double v)
{
    if (!(v > 0 && v <= DBL_MAX)) return; /* a work file may say anything */
    double l = log10(v);
    if (p->low > p->high) p->low = p->high = l;
    p->low = l < p->low ? l : p->low;
    p->high = l > p->high ? l : p->high;
}

static void begin_plot(anm_buf *b, plot *p)
{
    if (p->low > p->high) p->low = 0, p->high = 1;
    p->low = floor(p->low);
    p->high = ceil(p->high);
    if (p->high <= p->low) p->high = p->low + 1;
    anm_buf_printf(b, "<svg viewBox=\"0 0 %d %d\">", WIDE, HIGH);
    int step = p->high - p->low > 6 ? (int)ceil((p->high - p->low) / 6) : 1;
    for (int e = (int)p->low; e <= (int)p->high; e += step) {
        double y = at_y(p, pow(10, e));
        anm_buf_printf(b, "<line class=\"axis\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/><text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">", LEFT,
                       WIDE - RIGHT, y, y, LEFT - 6, y + 4);
        if (e >= 0 && e < 5) anm_buf_printf(b, "%.0f</text>", pow(10, e));
        else anm_buf_printf(b, "1e%d</text>", e);
    }
    for (size_t i = 0; i < p->n; i += p->n > 20 ? 5 : p->n > 8 ? 2 : 1)
        anm_buf_printf(b, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%zu</text>", at_x(p, i), HIGH - 8, i + 1);
}

/* `get` gives the value of point i. */
typedef double getter(const anm_report *r, size_t i, int which);

static void line(anm_buf *b, const plot *p, const char *class, const char *name, const anm_report *r, getter *get, int which)
{
    anm_buf_printf(b, "<path class=\"%s\" d=\"", class);
    for (size_t i = 0; i < p->n; i++) anm_buf_printf(b, "%c%.1f %.1f", i ? 'L' : 'M', at_x(p, i), at_y(p, get(r, i, which)));
    anm_buf_puts(b, "\"/>");
    for (size_t i = 0; i < p->n; i++)
        anm_buf_printf(b, "<circle class=\"%s\" fill=\"var(--back)\" cx=\"%.1f\" cy=\"%.1f\" r=\"2.4\"><title>layer %zu, %s: %.4g</title></circle>", class,
                       at_x(p, i), at_y(p, get(r, i, which)), i + 1, name, get(r, i, which));
}

static void limit(anm_buf *b, const plot *p, double v, const char *what)
{
    double y = at_y(p, v);
    anm_buf_printf(b, "<line class=\"limit\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/><text x=\"%d\" y=\"%.1f\">%s</text>", LEFT, WIDE - RIGHT, y, y,
                   LEFT + 4, y - 4, what);
}

/* ---- what is plotted ---- */

static double rounding(const anm_report *r, size_t i, int which)
{
    return r->notes[i + 1].linear[which].rounding;
}

static double reached(const anm_report *r, size_t i, int which)
{
    return r->notes[i + 1].linear[which].reached;
}

static double residual(const anm_report *r, size_t i, int which)
{
    (void)which;
    return r->notes[i + 1].largest;
}

static double inside(const anm_report *r, size_t i, int which)
{
    return r->notes[i + 1].inside[which];
}

static void legend(anm_buf *b)
{
    anm_buf_puts(b, "<p><span class=\"key\" style=\"background: var(--before); margin-left: 0\"></span>rounded to nearest"
                    "<span class=\"key\" style=\"background: var(--after)\"></span>calibrated</p>\n");
}

static void errors(anm_buf *b, const anm_report *r)
{
    static const char *const names[ANM_LINEARS] = {"wq: queries", "wk: keys", "wv: values", "wo: attention's output", "w1: gate", "w2: down", "w3: up"};
    anm_buf_puts(b, "<h2>Error of each linear, layer by layer</h2>\n<p>The squared error of a linear's outputs over the calibration text, summed over rows and "
                    "tokens, logarithmic. Both stand on the same inputs: those that the quantised layers below give.</p>\n");
    legend(b);
    anm_buf_puts(b, "<div class=\"grid\">\n");
    for (int j = 0; j < ANM_LINEARS; j++) {
        plot p = {1, 0, r->n_layers};
        double before = 0, after = 0;
        for (size_t i = 0; i < r->n_layers; i++) {
            hold(&p, rounding(r, i, j));
            hold(&p, reached(r, i, j));
            before += rounding(r, i, j);
            after += reached(r, i, j);
        }
        anm_buf_puts(b, "<figure>");
        begin_plot(b, &p);
        line(b, &p, "before", "rounded", r, rounding, j);
        line(b, &p, "after", "calibrated", r, reached, j);
        anm_buf_printf(b, "</svg><figcaption>%s; in all %.1f %% of rounding's</figcaption></figure>\n", names[j], before > 0 ? 100 * after / before : 100);
    }
    const anm_calib_figure *head = &r->notes[r->n_layers + 1].linear[0];
    anm_buf_printf(b, "</div>\n<p>The head: %.4g by rounding, %.4g calibrated, %.1f %% of it.</p>\n", head->rounding, head->reached,
                   head->rounding > 0 ? 100 * head->reached / head->rounding : 100);
}

static void ranges(anm_buf *b, const anm_report *r)
{
    static const char *const points[4] = {"into wq, wk, wv", "into wo", "into w1, w3", "into w2"};
    anm_buf_puts(b, "<h2>Range of fp16</h2>\n<p>The largest absolute values on the calibration text, of the rotated and quantised model. fp16 holds 65504; the "
                    "reference's norms square their input, and hold 255 (<code>--norm safe</code> has no such limit).</p>\n<div class=\"grid\">\n");
    plot p = {1, 0, r->n_layers};
    hold(&p, 65504);
    for (size_t i = 0; i < r->n_layers; i++) hold(&p, residual(r, i, 0));
    anm_buf_puts(b, "<figure>");
    begin_plot(b, &p);
    limit(b, &p, 65504, "fp16's largest");
    limit(b, &p, 255, "squared, fp16's largest");
    line(b, &p, "after", "residual", r, residual, 0);
    anm_buf_puts(b, "</svg><figcaption>residual stream after each layer</figcaption></figure>\n");
    for (int j = 0; j < 4; j++) {
        plot q = {1, 0, r->n_layers};
        hold(&q, 65504);
        for (size_t i = 0; i < r->n_layers; i++) hold(&q, inside(r, i, j));
        anm_buf_puts(b, "<figure>");
        begin_plot(b, &q);
        limit(b, &q, 65504, "fp16's largest");
        line(b, &q, "after", points[j], r, inside, j);
        anm_buf_printf(b, "</svg><figcaption>%s</figcaption></figure>\n", points[j]);
    }
    float low = 0, high = 0;
    uint64_t subnormal = 0;
    for (size_t i = 1; i < r->n_layers + 2; i++)
        for (int j = 0; j < (i > r->n_layers ? 1 : ANM_LINEARS); j++) {
            const anm_calib_figure *f = &r->notes[i].linear[j];
            low = low > 0 && low < f->low ? low : f->low;
            high = f->high > high ? f->high : high;
            subnormal += f->subnormal;
        }
    anm_buf_printf(b, "</div>\n<p>Scales lie between %.3g and %.3g; the smallest normal number of fp16 is %.3g, below which it loses bits and some devices flush to "
                      "zero. Rounding the rotated weights to nearest would have made %llu scales below it%s.</p>\n",
                   (double)low, (double)high, 0x1p-14, (unsigned long long)subnormal, r->fp16 ? "; calibration makes none" : "");
}

/* ---- worst rows ---- */

typedef struct worst_row {
    const anm_calib_figure *f;
    size_t layer;
    int which;
    double ratio;
} worst_row;

enum { WORST = 9 };

/* The linears that keep most of rounding's error, their worst row each. */
static size_t find_worst(worst_row w[WORST], const anm_report *r)
{
    size_t n = 0;
    for (size_t i = 1; i < r->n_layers + 2; i++)
        for (int j = 0; j < (i > r->n_layers ? 1 : ANM_LINEARS); j++) {
            const anm_calib_figure *f = &r->notes[i].linear[j];
            worst_row now = {f, i, j, f->rounding > 0 ? f->reached / f->rounding : 0};
            size_t at = n < WORST ? n : WORST;
            while (at > 0 && w[at - 1].ratio < now.ratio) at--;
            if (at == WORST) continue;
            if (n < WORST) n++;
            memmove(w + at + 1, w + at, (n - at - 1) * sizeof *w);
            w[at] = now;
        }
    return n;
}

static void histogram(anm_buf *b, const anm_calib_figure *f)
{
    enum { DEEP = 110, EACH = 8 };
    unsigned most = 1;
    for (int i = 0; i < ANM_CALIB_BINS; i++) most = f->weights[i] > most ? f->weights[i] : most;
    for (int i = 0; i < 16; i++) most = f->integers[i] / 2u > most ? f->integers[i] / 2u : most;
    anm_buf_printf(b, "<svg viewBox=\"0 0 %d %d\">", ANM_CALIB_BINS * EACH + 10, DEEP + 22);
    for (int i = 0; i < 16; i++) { /* integer q covers the weights from q - 1/2 to q + 1/2 */
        int first = 2 * (i - 8) - 1 + ANM_CALIB_BINS / 2; /* of the bins it covers */
        double h = (double)f->integers[i] / 2 / most * DEEP, x = 5 + EACH * first;
        anm_buf_printf(b, "<rect class=\"bar\" x=\"%.1f\" y=\"%.1f\" width=\"%d\" height=\"%.1f\"><title>integer %d: %u weights</title></rect>", x + 1, DEEP - h,
                       2 * EACH - 2, h, i - 8, f->integers[i]);
    }
    for (int i = 0; i < ANM_CALIB_BINS; i++) {
        double h = (double)f->weights[i] / most * DEEP;
        anm_buf_printf(b, "<rect class=\"bar0\" x=\"%d\" y=\"%.1f\" width=\"%d\" height=\"%.1f\"/>", 5 + i * EACH, DEEP - h, EACH, h);
    }
    for (int q = -8; q <= 8; q += 4)
        anm_buf_printf(b, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">%d</text>", 5 + EACH * (2 * q + ANM_CALIB_BINS / 2), DEEP + 16, q);
    anm_buf_puts(b, "</svg>");
}

static void worst_rows(anm_buf *b, const anm_report *r)
{
    worst_row w[WORST + 1];
    size_t n = find_worst(w, r);
    anm_buf_puts(b, "<h2>Weights of the worst rows</h2>\n<p>Of the linears that keep most of rounding's error, the row with the largest error: its weights after the "
                    "rotation, in units of the scale that was chosen (the outermost bars hold all beyond), and the integers that stand for them.</p>\n"
                    "<p><span class=\"key\" style=\"background: var(--before); margin-left: 0; opacity: .45\"></span>weights"
                    "<span class=\"key\" style=\"background: var(--after)\"></span>integers</p>\n<div class=\"grid\">\n");
    for (size_t i = 0; i < n; i++) {
        anm_buf_puts(b, "<figure>");
        histogram(b, w[i].f);
        if (w[i].layer > r->n_layers) anm_buf_puts(b, "<figcaption>head");
        else anm_buf_printf(b, "<figcaption>layer %zu, %s", w[i].layer, anm_linear_names[w[i].which]);
        anm_buf_printf(b, ", row %llu; the linear keeps %.0f %%</figcaption></figure>\n", (unsigned long long)w[i].f->worst, 100 * w[i].ratio);
    }
    anm_buf_puts(b, "</div>\n");
}

/* ---- tables ---- */

static void scores(anm_buf *b, const anm_report *r)
{
    anm_buf_puts(b, "<h2>Perplexity</h2>\n");
    if (!r->n_scores) {
        anm_buf_puts(b, "<p class=\"dim\">");
        text(b, r->no_scores ? r->no_scores : "Not measured.");
        anm_buf_puts(b, "</p>\n");
        return;
    }
    anm_buf_printf(b, "<p>On %zu tokens of the calibration text that the calibration did not see. Of the same kind as what it saw; other text tells more "
                      "(<code>anemone eval</code>).</p>\n<table><tr><th></th><th class=\"n\">perplexity</th><th class=\"n\">over full</th>"
                      "<th class=\"n\">mean KL, nats</th><th class=\"n\">same top token</th></tr>\n", r->score_tokens);
    for (size_t i = 0; i < r->n_scores; i++) {
        const anm_report_score *s = &r->scores[i];
        anm_buf_puts(b, "<tr><td>");
        text(b, s->name);
        anm_buf_printf(b, "</td><td class=\"n\">%.3f ± %.3f</td>", s->perplexity, s->perplexity_se);
        if (i) anm_buf_printf(b, "<td class=\"n\">%.4f ± %.4f</td><td class=\"n\">%.4f</td><td class=\"n\">%.1f %%</td></tr>\n", s->ratio, s->ratio_se, s->kl, 100 * s->top1);
        else anm_buf_puts(b, "<td></td><td></td><td></td></tr>\n");
    }
    anm_buf_puts(b, "</table>\n");
}

void anm_report_page(anm_buf *b, const anm_report *r)
{
    begin_page(b, r->title);
    anm_buf_puts(b, "<table>\n");
    for (size_t i = 0; i < r->n_facts; i++) {
        anm_buf_puts(b, "<tr><td class=\"dim\">");
        text(b, r->facts[i].name);
        anm_buf_puts(b, "</td><td>");
        text(b, r->facts[i].value);
        anm_buf_puts(b, "</td></tr>\n");
    }
    anm_buf_puts(b, "</table>\n");
    scores(b, r);
    errors(b, r);
    ranges(b, r);
    worst_rows(b, r);
    anm_buf_puts(b, "</body></html>\n");
}
