/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * SentencePiece's normalizer: rules that replace characters, what becomes of spaces. The rules are a double-array trie
 * (s-yata/darts-clone): a unit of 32 bits holds a label (bits 0-7), whether a value hangs below it (bit 8), and an
 * offset (bits 10-31, times 256 when bit 9 is set) that is xored with the position to find the children.
 */
#include "base/bytes.h"
#include "base/utf8.h"
#include "token/spm.h"

#include <string.h>

enum { LONGEST_LEFT = 256, LONGEST_RIGHT = 1024 }; /* bytes; the rules that SentencePiece brings along have 12 and 33 */
#define TOO_LONG SIZE_MAX

int anm_charsmap_open(anm_charsmap *m, const uint8_t *data, size_t n, anm_error *err)
{
    uint32_t trie = n > 4 ? anm_ld32(data) : 0;
    if (n <= 4 || trie >= n - 4 || trie < 1024 || trie % 1024)
        return anm_fail(err, ANM_ERR_FORMAT, "the normalizer's rules are cut short or malformed");
    *m = (anm_charsmap){data + 4, trie / 4, (const char *)data + 4 + trie, n - 4 - trie};
    if (m->text[m->text_n - 1] != 0)
        return anm_fail(err, ANM_ERR_FORMAT, "the normalizer's rules do not end with a zero");
    for (size_t i = 0, end; i < m->text_n; i = end + 1) {
        end = i + strlen(m->text + i);
        if (end - i > LONGEST_RIGHT)
            return anm_fail(err, ANM_ERR_LIMIT, "a normalizer's rule makes %zu bytes; at most %d are read", end - i, LONGEST_RIGHT);
        if (anm_utf8_valid(m->text + i, end - i) != end - i)
            return anm_fail(err, ANM_ERR_FORMAT, "a normalizer's rule makes what is not valid UTF-8");
    }
    return 0;
}

static uint32_t unit_at(const anm_charsmap *m, size_t i)
{
    return i < m->n_units ? anm_ld32(m->unit + 4 * i) : 0x80000000u; /* a label that no byte has */
}

static size_t offset_of(uint32_t unit)
{
    return (size_t)(unit >> 10) << ((unit & 0x200) >> 6);
}

/* Does a character begin here, in valid UTF-8? */
static bool begins_character(char c)
{
    return ((uint8_t)c & 0xC0) != 0x80;
}

/* The longest rule that begins text: the length of its left side (0: none; TOO_LONG: the rules go on and on, as a trie
 * may whose units lead back to themselves) and its right side. Text stays valid UTF-8: a side that cuts a character in two
 * is no rule's. */
static size_t longest_rule(const anm_charsmap *m, const char *text, size_t n, const char **right)
{
    size_t best = 0, at = offset_of(unit_at(m, 0));
    uint32_t value = 0;
    for (size_t i = 0; i < n; i++) {
        uint8_t byte = (uint8_t)text[i];
        if (!byte) break;
        at ^= byte;
        uint32_t unit = unit_at(m, at);
        if ((unit & 0x800000FFu) != byte) break;
        if (i == LONGEST_LEFT) return TOO_LONG;
        at ^= offset_of(unit);
        if (!(unit & 0x100) || (i + 1 < n && !begins_character(text[i + 1]))) continue;
        value = unit_at(m, at) & 0x7FFFFFFFu;
        best = i + 1;
    }
    if (!best || value >= m->text_n || !begins_character(m->text[value])) return 0;
    *right = m->text + value;
    return best;
}

/* One step through the text: how many bytes it takes (or TOO_LONG), and what they become. */
static size_t step(const anm_spm *s, const char *text, size_t n, const char **to, size_t *to_n)
{
    size_t len = 0;
    if (s->has_user && anm_trie_longest(&s->user, text, n, &len) >= 0) {
        *to = text;
        *to_n = len;
        return len;
    }
    if (s->charsmap.n_units && (len = longest_rule(&s->charsmap, text, n, to)) > 0) {
        *to_n = len == TOO_LONG ? 0 : strlen(*to);
        return len;
    }
    *to = text;
    return *to_n = anm_utf8_len(*text);
}

static void put(anm_buf *out, const char *text, size_t n, const char *space)
{
    for (size_t i = 0; i < n;) {
        const char *end = memchr(text + i, ' ', n - i);
        size_t run = end ? (size_t)(end - text) - i : n - i;
        anm_buf_put(out, text + i, run);
        if (end) anm_buf_puts(out, space);
        i += run + (end != NULL);
    }
}

int anm_spm_normalize(anm_buf *out, const anm_spm *s, const char *text, size_t n, anm_error *err)
{
    const char *space = s->o.escape_spaces ? ANM_SPM_SPACE : " ", *to;
    size_t space_n = strlen(space), to_n, len, i = 0;
    bool after_space = s->o.remove_extra_spaces;
    while (s->o.remove_extra_spaces && i < n) {
        len = step(s, text + i, n - i, &to, &to_n);
        if (len == TOO_LONG || to_n != 1 || *to != ' ') break;
        i += len;
    }
    if (i == n) return 0;
    out->limit = anm_most_of(n);
    if (s->o.dummy_prefix && !s->o.suffix) anm_buf_puts(out, space);
    if (!s->charsmap.n_units && !s->o.remove_extra_spaces) {
        put(out, text + i, n - i, space); /* every step would copy its text */
        i = n;
    }
    for (; i < n && !out->bad; i += len) {
        len = step(s, text + i, n - i, &to, &to_n);
        if (len == TOO_LONG)
            return anm_fail(err, ANM_ERR_LIMIT, "a normalizer's rule is longer than %d bytes", LONGEST_LEFT);
        while (after_space && to_n && *to == ' ') {
            to++;
            to_n--;
        }
        put(out, to, to_n, space);
        if (to_n) after_space = s->o.remove_extra_spaces && to[to_n - 1] == ' ';
    }
    while (s->o.remove_extra_spaces && out->size >= space_n &&
           memcmp(out->data + out->size - space_n, space, space_n) == 0)
        out->size -= space_n;
    if (s->o.dummy_prefix && s->o.suffix) anm_buf_puts(out, space);
    if (out->over) return anm_fail(err, ANM_ERR_LIMIT, "the normalizer's rules make more than %zu bytes of %zu", out->limit, n);
    return out->bad ? anm_fail_memory(err, "the normalized text") : 0;
}
