/* SPDX-License-Identifier: BSD-3-Clause */
#include "calib/store.h"
#include "base/bytes.h"
#include "base/spill.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

enum { PAGE = 16384, VERSION = 2 };
static const char magic[8] = "anmcalib";

typedef struct digest {
    uint64_t low, high;
} digest;

typedef struct head {
    char magic[8];
    uint64_t version;
    uint8_t key[16];
    uint64_t size, stages, carried;
    digest sizes; /* of the stages' */
    digest own;   /* of all above */
} head;

typedef struct record {
    uint64_t stage; /* number + 1 */
    digest bytes, carried;
    uint8_t note[ANM_STORE_NOTE];
    digest own; /* of all above */
} record;

struct anm_store {
    anm_spill file;
    char *path;
    size_t stages;
    uint64_t *at, *size; /* of each stage */
    uint64_t carried_at[2], carried;
};

static digest digest_of(const void *data, uint64_t n)
{
    XXH128_hash_t h = XXH3_128bits(data, (size_t)n);
    return (digest){h.low64, h.high64};
}

static bool same(digest a, digest b)
{
    return a.low == b.low && a.high == b.high;
}

static bool pages(uint64_t *at, uint64_t n)
{
    return anm_add_u64(*at, n, at) && anm_add_u64(*at, PAGE - 1, at) && (*at &= ~(uint64_t)(PAGE - 1), true);
}

static record *record_of(const anm_store *s, size_t i)
{
    return (record *)(void *)(s->file.data + PAGE) + i;
}

void *anm_store_stage(const anm_store *s, size_t i)
{
    return s->file.data + s->at[i];
}

void *anm_store_carried(const anm_store *s, size_t i)
{
    return s->file.data + s->carried_at[i & 1];
}

void *anm_store_note(const anm_store *s, size_t i)
{
    return record_of(s, i)->note;
}

/* Places of everything; the file's size. */
static int lay_out(anm_store *s, const anm_store_plan *p, uint64_t *size, anm_error *err)
{
    s->stages = p->stages;
    s->carried = p->carried;
    s->at = malloc(p->stages * sizeof *s->at);
    s->size = malloc(p->stages * sizeof *s->size);
    if (!s->at || !s->size) return anm_fail_memory(err, "the work file");
    memcpy(s->size, p->size, p->stages * sizeof *s->size);
    bool fits = true;
    *size = PAGE;
    fits = fits && pages(size, p->stages * sizeof(record));
    for (size_t i = 0; i < p->stages; i++) {
        s->at[i] = *size;
        fits = fits && pages(size, p->size[i]);
    }
    for (int i = 0; i < 2; i++) {
        s->carried_at[i] = *size;
        fits = fits && pages(size, p->carried);
    }
    return fits ? 0 : anm_fail(err, ANM_ERR_LIMIT, "the work file would be too large");
}

static head make_head(const anm_store_plan *p, uint64_t size)
{
    head h;
    memset(&h, 0, sizeof h);
    memcpy(h.magic, magic, sizeof h.magic);
    memcpy(h.key, p->key, sizeof h.key);
    h.version = VERSION;
    h.size = size;
    h.stages = p->stages;
    h.carried = p->carried;
    h.sizes = digest_of(p->size, p->stages * sizeof *p->size);
    h.own = digest_of(&h, offsetof(head, own));
    return h;
}

static bool is_done(const anm_store *s, size_t i)
{
    const record *r = record_of(s, i);
    return r->stage == i + 1 && same(r->own, digest_of(r, offsetof(record, own))) && same(r->bytes, digest_of(anm_store_stage(s, i), s->size[i]));
}

/* Stages done in order, and the state after the last of them at hand. */
static size_t count_done(const anm_store *s)
{
    size_t n = 0;
    while (n < s->stages && is_done(s, n)) n++;
    if (n == s->stages) return n; /* nothing is left that would need the state */
    /* The state after the one before the last is overwritten by the stage that now works, not by the last. */
    if (n && same(record_of(s, n - 1)->carried, digest_of(anm_store_carried(s, n - 1), s->carried))) return n;
    if (n > 1 && same(record_of(s, n - 2)->carried, digest_of(anm_store_carried(s, n - 2), s->carried))) return n - 1;
    return 0;
}

static int go_on(anm_store *s, const anm_store_plan *p, const head *h, size_t *done, bool *there, anm_error *err)
{
    int rc = anm_spill_open(&s->file, p->path, there, err);
    if (rc || !*there) return rc;
    static const char nothing[sizeof magic];
    if (s->file.size == h->size && !memcmp(s->file.data, nothing, sizeof nothing)) { /* made, and not begun */
        anm_spill_close(&s->file);
        *there = false;
        return 0;
    }
    if (s->file.size < PAGE || memcmp(s->file.data, magic, sizeof magic))
        return anm_fail(err, ANM_ERR_USAGE, "%s: is no work of a calibration; remove it, or leave --resume out", p->path);
    if (s->file.size != h->size || memcmp(s->file.data, h, sizeof *h))
        return anm_fail(err, ANM_ERR_USAGE, "%s: belongs to a calibration with another checkpoint, text or options; remove it, or leave --resume out", p->path);
    *done = count_done(s);
    return 0;
}

int anm_store_open(anm_store **out, const anm_store_plan *plan, size_t *done, anm_error *err)
{
    uint64_t size = 0;
    bool there = false;
    anm_store *s = *out = calloc(1, sizeof *s);
    *done = 0;
    int rc = s ? lay_out(s, plan, &size, err) : anm_fail_memory(err, "the work file");
    if (!rc && plan->path && !(s->path = strdup(plan->path))) rc = anm_fail_memory(err, "the work file's name");
    head h = make_head(plan, size);
    if (!rc && plan->path && plan->resume) rc = go_on(s, plan, &h, done, &there, err);
    if (!rc && !there) {
        rc = plan->path ? anm_spill_new(&s->file, plan->path, size, err) : anm_spill_temp(&s->file, plan->beside, size, err);
        if (!rc) memcpy(s->file.data, &h, sizeof h);
    }
    if (rc) {
        anm_store_close(s);
        *out = NULL;
    }
    return rc;
}

void anm_store_commit(anm_store *s, size_t i)
{
    record *r = record_of(s, i);
    r->stage = i + 1;
    r->bytes = digest_of(anm_store_stage(s, i), s->size[i]);
    r->carried = digest_of(anm_store_carried(s, i), s->carried);
    r->own = digest_of(r, offsetof(record, own));
}

void anm_store_remove(anm_store *s)
{
    if (s && s->path) anm_spill_remove(&s->file, s->path);
}

void anm_store_close(anm_store *s)
{
    if (!s) return;
    anm_spill_close(&s->file);
    free(s->path);
    free(s->at);
    free(s->size);
    free(s);
}
