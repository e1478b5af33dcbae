/* SPDX-License-Identifier: BSD-3-Clause */
#include "base/json.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

int anm_json_read(json_t **out, const void *data, uint64_t size, size_t flags, const char *what, anm_error *err)
{
    json_error_t why;
    int was = errno;
    errno = 0;
    *out = json_loadb(data, (size_t)size, flags, &why);
    bool no_memory = !*out && errno == ENOMEM; /* as every allocation that fails says */
    errno = was;
    if (*out) return 0;
    if (no_memory) return anm_fail_memory(err, "JSON");
    return anm_fail_at(err, ANM_ERR_FORMAT, (uint64_t)why.position, "%s: line %d: %s", what, why.line, why.text);
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
