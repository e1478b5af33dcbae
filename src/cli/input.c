/* SPDX-License-Identifier: BSD-3-Clause */
#include "cli/input.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int cli_read_text(anm_buf *out, const char *path, anm_error *err)
{
    bool input = strcmp(path, "-") == 0;
    FILE *f = input ? stdin : fopen(path, "rb");
    if (!f) return anm_fail(err, ANM_ERR_IO, "%s: cannot be opened: %s", path, strerror(errno));
    char part[1 << 16];
    size_t n;
    while ((n = fread(part, 1, sizeof part, f)) > 0)
        anm_buf_put(out, part, n);
    int why = ferror(f) ? errno : 0;
    if (!input) fclose(f);
    if (why) return anm_fail(err, ANM_ERR_IO, "%s: cannot be read: %s", path, strerror(why));
    return out->bad ? anm_fail_memory(err, path) : 0;
}

size_t cli_read_head(void *out, size_t n, const char *path)
{
    int fd = open(path, O_RDONLY);
    size_t at = 0;
    while (fd >= 0 && at < n) {
        ssize_t got = read(fd, (char *)out + at, n - at);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break;
        at += (size_t)got;
    }
    if (fd >= 0) close(fd);
    return at;
}

int cli_read_ids(int32_t **ids, size_t *count, const char *text, size_t n, const char *name, anm_error *err)
{
    size_t room = n / 2 + 1;
    int32_t *p = room > SIZE_MAX / sizeof *p ? NULL : malloc(room * sizeof *p);
    if (!p) return anm_fail_memory(err, name);
    *count = 0;
    for (size_t i = 0; i < n;) {
        if (strchr(" ,\n\r\t", text[i]) && text[i]) {
            i++;
            continue;
        }
        int64_t v = 0;
        size_t from = i;
        while (i < n && text[i] >= '0' && text[i] <= '9' && v <= INT32_MAX)
            v = v * 10 + (text[i++] - '0');
        if (i == from || v > INT32_MAX) {
            free(p);
            return anm_fail_at(err, ANM_ERR_USAGE, from, "%s: not a token id at byte %zu", name, from);
        }
        p[(*count)++] = (int32_t)v;
    }
    *ids = p;
    return 0;
}
