/* SPDX-License-Identifier: BSD-3-Clause */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "token/split.h"

#include "base/buf.h"
#include "base/utf8.h"

#include <pcre2.h>
#include <string.h>
#include <time.h>

/* ---- patterns in PCRE2's dialect ---- */

/* Unicode's White_Space, which \s is elsewhere; PCRE2's own \s has U+180E besides. */
#define SPACE "\\p{Z}\\t-\\r\\x85"
/* Unicode's word characters (UTS 18, annex C) are these and two joiners. Oniguruma does without the joiners, but takes the
 * superscripts and fractions of Latin-1 along, outside of classes. */
#define LETTERS "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"
#define WORD LETTERS "\\x{200C}\\x{200D}"
#define ONIG_WORD LETTERS "\\xB2\\xB3\\xB9\\xBC-\\xBE"

static bool is_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* The escape at p[i] == '\\' of n bytes, into `out`; gives the bytes read, 0 for one that has no counterpart. */
static size_t escape(anm_buf *out, const char *p, size_t n, size_t i, bool in_class, bool scripts, bool onig)
{
    char c = i + 1 < n ? p[i + 1] : 0;
    const char *word = onig ? ONIG_WORD : WORD;
    if (c == 's' || c == 'w') {
        if (in_class) anm_buf_puts(out, c == 's' ? SPACE : onig ? LETTERS : WORD);
        else anm_buf_printf(out, "[%s]", c == 's' ? SPACE : word);
        return 2;
    }
    if ((c == 'S' || c == 'W') && !in_class) {
        anm_buf_printf(out, "[^%s]", c == 'S' ? SPACE : word);
        return 2;
    }
    if (c == 'b' && !in_class) { /* PCRE2's goes by words of its own */
        anm_buf_printf(out, "(?:(?<=[%s])(?![%s])|(?<![%s])(?=[%s]))", word, word, word, word);
        return 2;
    }
    if (c == 'B' && !in_class) {
        anm_buf_printf(out, "(?:(?<=[%s])(?=[%s])|(?<![%s])(?![%s]))", word, word, word, word);
        return 2;
    }
    if (c == 'v') { /* the one character; to PCRE2 it is all that goes down */
        anm_buf_puts(out, "\\x0B");
        return 2;
    }
    if (c == 'V' || c == 'W' || c == 'h' || c == 'H') return 0; /* \h is a hexadecimal digit for one of them, a space for another */
    if (c == 'G') return 0; /* where a search begins: it begins anew now and then (anm_match) */
    if (c == 'u' && i + 5 < n && is_hex(p[i + 2]) && is_hex(p[i + 3]) && is_hex(p[i + 4]) && is_hex(p[i + 5])) {
        anm_buf_printf(out, "\\x{%.4s}", p + i + 2);
        return 6;
    }
    if (c == 'u' && i + 2 < n && p[i + 2] == '{') { /* \u{…} reads on as \x{…} */
        anm_buf_puts(out, "\\x");
        return 2;
    }
    if ((c == 'p' || c == 'P') && scripts && i + 2 < n && p[i + 2] == '{') {
        size_t from = i + 3, end = from; /* a long name is a script's; a plain one would take its extensions along */
        if (from < n && p[from] == '^') end++;
        while (end < n && p[end] != '}' && p[end] != ':' && p[end] != '=') end++;
        if (end < n && p[end] == '}' && end - from > 2 && p[from] != '^') {
            anm_buf_printf(out, "\\%c{sc:%.*s}", c, (int)(end - from), p + from);
            return end + 1 - i;
        }
    }
    size_t len = i + 1 < n ? 1 + anm_utf8_len(c) : 1;
    if (len > n - i) len = n - i;
    anm_buf_put(out, p + i, len);
    return len;
}

/* What Oniguruma reads otherwise outside of classes: the option m is PCRE2's s, {,n} begins at 0, and after an interval +
 * repeats it and ? may not make it lazy. Gives the bytes read, 0 where there is nothing of the kind. */
static size_t onig_syntax(anm_buf *out, const char *p, size_t n, size_t i)
{
    size_t end = i;
    if (p[i] == '(' && i + 1 < n && p[i + 1] == '?') {
        end += 2;
        while (end < n && strchr("imx-", p[end]) && p[end]) end++;
        if (end == n || (p[end] != ')' && p[end] != ':')) return 0; /* another kind of group */
        for (size_t k = i; k < end; k++) anm_buf_u8(out, p[k] == 'm' ? 's' : (uint8_t)p[k]);
        return end - i;
    }
    if (p[i] != '{' || i + 1 >= n || p[i + 1] != ',') return 0;
    for (end = i + 2; end < n && p[end] >= '0' && p[end] <= '9';) end++;
    if (end == i + 2 || end == n || p[end] != '}') return 0;
    anm_buf_puts(out, "{0");
    return 1;
}

/* Is the brace at p[i] the end of an interval, and what follows it a + or, after a single number, a ? */
static bool odd_interval(const char *p, size_t n, size_t i)
{
    bool comma = false;
    size_t at = i;
    if (i + 1 >= n || (p[i + 1] != '+' && p[i + 1] != '?')) return false;
    while (at && ((p[at - 1] >= '0' && p[at - 1] <= '9') || p[at - 1] == ',')) comma |= p[--at] == ',';
    return at < i && at && p[at - 1] == '{' && (p[i + 1] == '+' || !comma);
}

static int translate(anm_buf *out, const char *p, size_t n, bool scripts, bool onig, anm_error *err)
{
    bool in_class = false;
    size_t first = 0; /* where a ] would be a literal */
    for (size_t i = 0; i < n;) {
        char c = p[i];
        if (c == '\\') {
            size_t len = escape(out, p, n, i, in_class, scripts, onig);
            if (!len)
                return anm_fail(err, ANM_ERR_UNSUPPORTED, "the pattern's escape \\%c is not one that we know", p[i + 1]);
            i += len;
            continue;
        }
        if (onig && !in_class) {
            size_t len = onig_syntax(out, p, n, i);
            if (len) {
                i += len;
                continue;
            }
            if (c == '}' && odd_interval(p, n, i))
                return anm_fail(err, ANM_ERR_UNSUPPORTED, "the pattern has a '%c' after an interval", p[i + 1]);
        }
        if (!in_class && c == '[') {
            in_class = true;
            first = i + 1 < n && p[i + 1] == '^' ? i + 2 : i + 1;
        } else if (in_class && c == ']' && i > first) {
            in_class = false;
        } else if (in_class && c == '[' && (i + 1 >= n || p[i + 1] != ':')) {
            return anm_fail(err, ANM_ERR_UNSUPPORTED, "the pattern nests one character class in another");
        } else if (in_class && c == '[') { /* [:name:] */
            size_t end = i + 2;
            while (end < n && p[end] != ']') end++;
            if (end < n) end++;
            anm_buf_put(out, p + i, end - i);
            i = end;
            continue;
        } else if (in_class && c == '&' && i + 1 < n && p[i + 1] == '&') {
            return anm_fail(err, ANM_ERR_UNSUPPORTED, "the pattern intersects character classes (&&)");
        }
        anm_buf_put(out, &c, 1);
        i++;
    }
    return out->bad ? anm_fail_memory(err, "a pattern") : 0;
}

static const uint32_t compile_options =
    PCRE2_UTF | PCRE2_UCP | PCRE2_DOLLAR_ENDONLY | PCRE2_NEVER_BACKSLASH_C | PCRE2_NO_UTF_CHECK | PCRE2_USE_OFFSET_LIMIT;

static pcre2_code *compile(const char *p, size_t n, uint32_t options, int *why, size_t *where)
{
    PCRE2_SIZE at = 0;
    pcre2_code *code = pcre2_compile((PCRE2_SPTR)p, n, options, why, &at, NULL);
    *where = at;
    if (code) pcre2_jit_compile(code, PCRE2_JIT_COMPLETE); /* where there is none, pcre2_match does without */
    return code;
}

static int fail_compile(const char *p, size_t n, int why, size_t where, anm_error *err)
{
    PCRE2_UCHAR text[128];
    if (why == PCRE2_ERROR_HEAP_FAILED) return anm_fail_memory(err, "a pattern");
    pcre2_get_error_message(why, text, sizeof text);
    return anm_fail(err, ANM_ERR_FORMAT, "PCRE2 refuses the pattern '%.*s%s' at byte %zu: %s", n > 80 ? 80 : (int)n, p,
                    n > 80 ? "…" : "", where, (const char *)text);
}

int anm_stage_open(anm_stage *s, const char *pattern, size_t n, anm_dialect dialect, anm_split_way way, bool invert,
                   anm_error *err)
{
    const bool onig = dialect == ANM_DIALECT_ONIGURUMA;
    const uint32_t options = compile_options | (onig ? PCRE2_MULTILINE : 0); /* its ^ and $ are of lines */
    *s = (anm_stage){.way = way, .invert = invert};
    int why = 0;
    size_t where = 0;
    if (anm_utf8_valid(pattern, n) != n) return anm_fail(err, ANM_ERR_FORMAT, "a pattern is not valid UTF-8");
    for (int scripts = 1; scripts >= 0 && !s->code; scripts--) { /* a long \p{name} may also be a property's */
        anm_buf text = {0};
        int rc = translate(&text, pattern, n, scripts, onig, err);
        if (!rc) s->code = compile(text.data ? (char *)text.data : "", text.size, options, &why, &where);
        anm_buf_free(&text);
        if (rc) return rc;
    }
    return s->code ? 0 : fail_compile(pattern, n, why, where, err);
}

int anm_stage_open_literal(anm_stage *s, const char *text, size_t n, anm_split_way way, bool invert, anm_error *err)
{
    *s = (anm_stage){.way = way, .invert = invert};
    int why = 0;
    size_t where = 0;
    if (anm_utf8_valid(text, n) != n) return anm_fail(err, ANM_ERR_FORMAT, "a pattern is not valid UTF-8");
    s->code = compile(text, n, PCRE2_UTF | PCRE2_LITERAL | PCRE2_NO_UTF_CHECK | PCRE2_USE_OFFSET_LIMIT, &why, &where);
    return s->code ? 0 : fail_compile(text, n, why, where, err);
}

void anm_stage_close(anm_stage *s)
{
    pcre2_code_free(s->code);
    s->code = NULL;
}

/* ---- matching ---- */

/* Every match may take SMALL steps. One that needs more takes them from the matcher's budget, in growing limits. But
 * PCRE2's steps are no measure of time: a loop over one character (a*) is a single step however far it runs, and so is
 * every place at which a search begins in vain. So searches stop after some places, and go on if there is time left. It
 * is time in proportion to the text, a hundred times what a real pattern takes: what is found never depends on it. (Real
 * ones take up to 34 ns a byte with the JIT of PCRE2, up to 145 without, on text made of nothing but borders; some tokenizers
 * cut three times over, and there are machines several times slower. So less a byte would leave too little.) */
enum { SMALL = 1000, GROWTH = 2 };
static const uint64_t budget_base = 50000000, budget_per_byte = 50;
static const uint64_t time_base = 2000000000, time_per_byte = 2000; /* ns */
static const uint64_t slow = 2000000; /* ns between two looks at a clock */
enum { NEAR = 64, FAR = 4096, MATCHES_A_LOOK = 64 };
/* Each step may run over all the rest of the text. So the more there is, the fewer places between two looks (FEW in any
 * case), and the sooner a look. */
enum { FEW = 16, REACH_BYTES = 16 << 20, LOOK_BYTES = 16 << 10 };
static const uint32_t heap_kib = 256 * 1024;
static const size_t jit_stack_most = (size_t)64 << 20;

static uint64_t nanoseconds(clockid_t clock)
{
    struct timespec t = {0};
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Looks at the clock; fits the reach of the next search to what the last ones took. */
static bool late(anm_matcher *m)
{
    uint64_t before = m->now;
    m->now = nanoseconds(CLOCK_MONOTONIC);
    m->matches = 0;
    if (m->now - before > slow) m->reach = m->reach / 8 + 1;
    else if (m->reach < FAR) m->reach *= 2;
    if (m->now - m->asked < slow) return false;
    m->asked = m->now;
    return nanoseconds(CLOCK_THREAD_CPUTIME_ID) > m->until;
}

/* How many places the next call may try, of a text that has `left` bytes more. */
static size_t reach_of(const anm_matcher *m, size_t left)
{
    size_t most = REACH_BYTES / (left + 1);
    if (most < FEW) most = FEW;
    return m->reach < most ? m->reach : most;
}

static int open_matcher(anm_matcher *m, anm_error *err)
{
    *m = (anm_matcher){.budget = budget_base, .reach = NEAR};
    m->now = m->asked = nanoseconds(CLOCK_MONOTONIC);
    m->until = nanoseconds(CLOCK_THREAD_CPUTIME_ID) + time_base;
    m->context = pcre2_match_context_create(NULL);
    m->stack = pcre2_jit_stack_create((size_t)64 << 10, jit_stack_most, NULL); /* NULL where there is no JIT */
    if (!m->context) {
        anm_matcher_close(m);
        return anm_fail_memory(err, "matching");
    }
    if (m->stack) pcre2_jit_stack_assign(m->context, NULL, m->stack);
    pcre2_set_heap_limit(m->context, heap_kib);
    return 0;
}

int anm_matcher_allow(anm_matcher *m, size_t text_bytes, anm_error *err)
{
    int rc = m->context ? 0 : open_matcher(m, err);
    m->budget += budget_per_byte * text_bytes;
    m->until += time_per_byte * text_bytes;
    return rc;
}

void anm_matcher_close(anm_matcher *m)
{
    for (int i = 0; i < ANM_MAX_STAGES; i++) pcre2_match_data_free(m->data[i]);
    pcre2_jit_stack_free(m->stack);
    pcre2_match_context_free(m->context);
    *m = (anm_matcher){0};
}

int anm_match(anm_matcher *m, unsigned depth, const pcre2_code *code, const char *text, size_t n, size_t from,
              size_t *start, size_t *end, anm_error *err)
{
    if (!m->data[depth] && !(m->data[depth] = pcre2_match_data_create(1, NULL))) return anm_fail_memory(err, "matching");
    uint64_t limit = SMALL;
    size_t at = from;
    int rc;
    for (;;) {
        const size_t left = n - at, reach = reach_of(m, left), last = left > reach ? at + reach : n; /* place that this call tries */
        pcre2_set_offset_limit(m->context, last);
        pcre2_set_match_limit(m->context, limit < UINT32_MAX ? (uint32_t)limit : UINT32_MAX);
        rc = pcre2_match(code, (PCRE2_SPTR)text, n, at, PCRE2_NO_UTF_CHECK, m->data[depth], m->context);
        bool goes_on = rc == PCRE2_ERROR_NOMATCH && last < n, again = rc == PCRE2_ERROR_MATCHLIMIT;
        m->matches += 1 + (unsigned)(left / LOOK_BYTES);
        if ((goes_on || again || m->matches >= MATCHES_A_LOOK) && late(m))
            return anm_fail(err, ANM_ERR_LIMIT, "the tokenizer's pattern takes too long on this text (at byte %zu of a part of %zu)",
                            at, n);
        if (goes_on) {
            at = last + 1;
            while (at < n && ((uint8_t)text[at] & 0xC0) == 0x80) at++;
            limit = SMALL;
        } else if (again) {
            limit *= GROWTH;
            if (limit > m->budget || limit > UINT32_MAX)
                return anm_fail(err, ANM_ERR_LIMIT,
                                "the tokenizer's pattern takes too many steps on this text (at byte %zu of a part of %zu)",
                                at, n);
            m->budget -= limit;
        } else {
            break;
        }
    }
    if (rc == PCRE2_ERROR_NOMATCH) return 0;
    if (rc == PCRE2_ERROR_NOMEMORY) return anm_fail_memory(err, "matching");
    if (rc < 0) {
        PCRE2_UCHAR why[128];
        pcre2_get_error_message(rc, why, sizeof why);
        return anm_fail(err, ANM_ERR_LIMIT, "the tokenizer's pattern fails on this text: %s", (const char *)why);
    }
    PCRE2_SIZE *found = pcre2_get_ovector_pointer(m->data[depth]);
    if (found[0] > found[1] || found[0] < from) /* \K inside a lookaround */
        return anm_fail(err, ANM_ERR_UNSUPPORTED, "the tokenizer's pattern moves the start of its match");
    *start = found[0];
    *end = found[1];
    return 1;
}

/* ---- cutting ---- */

struct cutter {
    anm_matcher *m;
    const anm_stage *stage;
    unsigned n_stages, at;
    const char *text;
    anm_word_fn *word;
    void *ctx;
    anm_error *err;
    size_t start, end; /* the piece that the next one may still join */
    bool pending, matched;
};

static int emit(const struct cutter *c, size_t start, size_t end)
{
    if (start == end) return 0;
    if (c->at + 1 == c->n_stages) return c->word(c->ctx, c->text + start, end - start);
    return anm_split(c->m, c->stage, c->n_stages, c->at + 1, c->text + start, end - start, c->word, c->ctx, c->err);
}

/* The next piece of the text, a match or what lies between two. */
static int piece(struct cutter *c, size_t start, size_t end, bool matched)
{
    matched = matched != c->stage[c->at].invert;
    switch (c->stage[c->at].way) {
    case ANM_SPLIT_ISOLATED: return emit(c, start, end);
    case ANM_SPLIT_REMOVED: return matched ? 0 : emit(c, start, end);
    case ANM_SPLIT_WITH_PREVIOUS:
        if (c->pending && matched && !c->matched) {
            c->end = end;
            c->matched = true;
            return 0;
        }
        break;
    case ANM_SPLIT_WITH_NEXT:
        if (c->pending && c->matched && !matched) {
            c->end = end;
            c->matched = false;
            return 0;
        }
        break;
    case ANM_SPLIT_CONTIGUOUS:
        if (c->pending && matched == c->matched) {
            c->end = end;
            return 0;
        }
        break;
    }
    int rc = c->pending ? emit(c, c->start, c->end) : 0;
    c->pending = true;
    c->start = start;
    c->end = end;
    c->matched = matched;
    return rc;
}

int anm_split(anm_matcher *m, const anm_stage *stage, unsigned n_stages, unsigned at, const char *text, size_t n,
              anm_word_fn *word, void *ctx, anm_error *err)
{
    if (at == n_stages) return n ? word(ctx, text, n) : 0;
    struct cutter c = {m, stage, n_stages, at, text, word, ctx, err, 0, 0, false, false};
    size_t done = 0, from = 0, start, end;
    int rc = 0;
    while (from <= n && (rc = anm_match(m, at, stage[at].code, text, n, from, &start, &end, err)) == 1) {
        if (start == end) { /* an empty match: a cut, unless it touches the match before */
            from = end < n ? end + anm_utf8_len(text[end]) : n + 1;
            if (start == done) continue;
        } else {
            from = end;
        }
        if (start > done && (rc = piece(&c, done, start, false))) return rc;
        if ((rc = piece(&c, start, end, true))) return rc;
        done = end;
    }
    if (rc < 0) return rc; /* 1: an empty match was the last thing there is */
    if (done < n && (rc = piece(&c, done, n, false))) return rc;
    return c.pending ? emit(&c, c.start, c.end) : 0;
}
