/* SPDX-License-Identifier: BSD-3-Clause */
#include "base/json.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/*
 * Where memory is out, jansson may call the text malformed, or take a shortened string for the whole and say nothing. So
 * errno is asked, which every allocation that fails sets; but jansson's numbers clear it. Hence the text is handed over in
 * parts that end around every digit and minus: between an allocation that failed and the end of a number lies always the
 * beginning of a part, where errno is looked at.
 */
typedef struct feed {
    const char *at, *end;
    bool no_memory;
} feed;

static bool in_number(char c)
{
    return (c >= '0' && c <= '9') || c == '-';
}

static size_t next_part(void *buffer, size_t room, void *ctx)
{
    feed *f = ctx;
    const char *from = f->at;
    f->no_memory |= errno == ENOMEM;
    if (f->no_memory) return (size_t)-1;
    if (f->at < f->end) f->at++;
    if (f->at > from && !in_number(*from))
        while (f->at < f->end && (size_t)(f->at - from) < room && !in_number(*f->at)) f->at++;
    memcpy(buffer, from, (size_t)(f->at - from));
    return (size_t)(f->at - from);
}

int anm_json_read(json_t **out, const void *data, uint64_t size, size_t flags, const char *what, anm_error *err)
{
    json_error_t why;
    feed f = {.at = data, .end = (const char *)data + size};
    int was = errno;
    errno = 0;
    *out = json_load_callback(next_part, &f, flags, &why);
    if (f.no_memory || errno == ENOMEM) {
        json_decref(*out);
        *out = NULL;
        errno = was;
        return anm_fail_memory(err, "JSON");
    }
    errno = was;
    return *out ? 0 : anm_fail_at(err, ANM_ERR_FORMAT, (uint64_t)why.position, "%s: line %d: %s", what, why.line, why.text);
}

int anm_json_write(char **out, const json_t *j, size_t flags, anm_error *err)
{
    int was = errno;
    errno = 0;
    *out = j ? json_dumps(j, flags) : NULL;
    if (errno == ENOMEM) {
        free(*out);
        *out = NULL;
    }
    errno = was;
    return *out ? 0 : anm_fail_memory(err, "JSON");
}
