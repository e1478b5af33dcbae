/* SPDX-License-Identifier: BSD-3-Clause */
/* The curves of a benchmark as SVG that needs nothing else: two panels over the number of tokens, which doubles from
 * step to step, each from zero, so that heights can be compared by eye. */
#include "cli/bench.h"
#include "base/buf.h"
#include "base/outfile.h"

#include <math.h>
#include <string.h>

enum { WIDTH = 760, HEIGHT = 340, PANEL = 300, TALL = 200, TOP = 70, FIRST = 60, SECOND = 440 };

static void put_text(anm_buf *out, double x, double y, const char *anchor, const char *style, const char *text)
{
    anm_buf_printf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\"%s>", x, y, anchor, style);
    for (; *text; text++) switch (*text) {
        case '<': anm_buf_puts(out, "&lt;"); break;
        case '>': anm_buf_puts(out, "&gt;"); break;
        case '&': anm_buf_puts(out, "&amp;"); break;
        default:
            if ((uint8_t)*text >= 32) anm_buf_u8(out, (uint8_t)*text);
        }
    anm_buf_puts(out, "</text>\n");
}

/* 1, 2 or 5 times a power of ten, so that about four of them make `most`. */
static double grid_step(double most)
{
    double step = pow(10, floor(log10(most / 4))), left = most / 4 / step;
    return step * (left < 1.5 ? 1 : left < 3.5 ? 2 : left < 7.5 ? 5 : 10);
}

static double across(int64_t tokens, double first, double last)
{
    return last > first ? (log2((double)tokens) - first) / (last - first) * PANEL : 0;
}

static void panel(anm_buf *out, int left, const char *title, const bench_point *p, int n, double factor, const char *colour)
{
    char text[32];
    double most = 0, first, last;
    put_text(out, left, TOP - 16, "start", " class=\"h\"", title);
    if (n == 0) return;
    for (int i = 0; i < n; i++) most = fmax(most, p[i].value * factor);
    if (!(most > 0)) most = 1;
    first = log2((double)p[0].tokens);
    last = log2((double)p[n - 1].tokens);
    double step = grid_step(most), top = ceil(most / step) * step;
    for (int k = 0; k * step <= top * 1.001; k++) {
        double y = TOP + TALL * (1 - k * step / top);
        anm_buf_printf(out, "<path class=\"g\" d=\"M%d %.1fh%d\"/>\n", left, y, PANEL);
        snprintf(text, sizeof text, "%g", k * step);
        put_text(out, left - 6, y + 4, "end", "", text);
    }
    double written = -100;
    for (int i = 0; i < n; i++) {
        double x = left + across(p[i].tokens, first, last);
        snprintf(text, sizeof text, "%lld", (long long)p[i].tokens);
        if (x - written < 26) continue;
        put_text(out, x, TOP + TALL + 18, "middle", "", text);
        written = x;
    }
    anm_buf_printf(out, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"2\" points=\"", colour);
    for (int i = 0; i < n; i++)
        anm_buf_printf(out, "%.1f,%.1f ", left + across(p[i].tokens, first, last),
                       TOP + TALL * (1 - p[i].value * factor / top));
    anm_buf_puts(out, "\"/>\n");
    for (int i = 0; i < n; i++)
        anm_buf_printf(out, "<circle r=\"3\" fill=\"%s\" cx=\"%.1f\" cy=\"%.1f\"/>\n", colour,
                       left + across(p[i].tokens, first, last), TOP + TALL * (1 - p[i].value * factor / top));
}

int bench_plot(const char *path, const bench *b, anm_error *err)
{
    anm_buf out = {0};
    anm_outfile file = {0};
    char line[256];
    const char *name = strrchr(b->model, '/');
    anm_buf_printf(&out,
                   "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" "
                   "font-family=\"sans-serif\" font-size=\"12\" fill=\"#333\">\n"
                   "<style>.g{stroke:#ddd;fill:none}.h{font-weight:bold}</style>\n"
                   "<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n",
                   WIDTH, HEIGHT, WIDTH, HEIGHT);
    snprintf(line, sizeof line, "%.120s: %s, %s, %u thread%s, %s", name ? name + 1 : b->model, b->form, b->isa, b->threads,
             b->threads == 1 ? "" : "s", b->precision);
    put_text(&out, FIRST, 24, "start", " class=\"h\" font-size=\"14\"", line);
    panel(&out, FIRST, "the next token, ms", b->decode_at, b->n_decode, 1e3, "#1769aa");
    panel(&out, SECOND, "a prompt, tokens per second", b->prefill_at, b->n_prefill, 1, "#b5500b");
    put_text(&out, FIRST + PANEL / 2, TOP + TALL + 40, "middle", "", "tokens in the cache");
    put_text(&out, SECOND + PANEL / 2, TOP + TALL + 40, "middle", "", "tokens of the prompt");
    snprintf(line, sizeof line, "%lld and %lld tokens: prefill %.0f tokens/s, decode %.0f tokens/s", (long long)b->prompt_len,
             (long long)b->decode_len, b->prefill, b->decode);
    put_text(&out, FIRST, TOP + TALL + 62, "start", "", line);
    anm_buf_puts(&out, "</svg>\n");
    int rc = out.bad ? anm_fail_memory(err, "the plot") : 0;
    if (!rc) rc = anm_outfile_open(&file, path, err);
    if (!rc) rc = anm_outfile_write(&file, 0, out.data, out.size, err);
    if (!rc) rc = anm_outfile_commit(&file, false, err);
    anm_outfile_abort(&file);
    anm_buf_free(&out);
    return rc;
}
