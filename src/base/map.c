/* SPDX-License-Identifier: BSD-3-Clause */
#include "base/map.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* The files mapped now, for the SIGBUS handler and for outputs that would replace one: slots are claimed and given back with
 * atomics, and a full table costs nothing but the file's name in that one message, and that one look. */
enum { SLOTS = 64, PATH = 256 };
static struct {
    _Atomic(const uint8_t *) data;
    _Atomic uint64_t size, device, inode;
    char path[PATH];
} mapped[SLOTS];
static atomic_flag claimed[SLOTS]; /* static storage: all clear */

static void note(const anm_map *m, const char *path, const struct stat *st)
{
    for (int i = 0; i < SLOTS; i++) {
        if (atomic_flag_test_and_set(&claimed[i])) continue;
        size_t n = strlen(path);
        if (n > PATH - 1) n = PATH - 1;
        memcpy(mapped[i].path, path, n);
        mapped[i].path[n] = 0;
        atomic_store(&mapped[i].size, m->size);
        atomic_store(&mapped[i].device, (uint64_t)st->st_dev);
        atomic_store(&mapped[i].inode, (uint64_t)st->st_ino);
        atomic_store(&mapped[i].data, m->data);
        return;
    }
}

static void forget(const anm_map *m)
{
    for (int i = 0; i < SLOTS; i++) {
        if (atomic_load(&mapped[i].data) != m->data) continue;
        atomic_store(&mapped[i].data, NULL);
        atomic_flag_clear(&claimed[i]);
        return;
    }
}

const char *anm_map_path_of(const void *p)
{
    for (int i = 0; i < SLOTS; i++) {
        uintptr_t at = (uintptr_t)atomic_load(&mapped[i].data);
        if (at && (uintptr_t)p >= at && (uintptr_t)p - at < atomic_load(&mapped[i].size)) return mapped[i].path;
    }
    return NULL;
}

bool anm_map_uses(uint64_t device, uint64_t inode)
{
    for (int i = 0; i < SLOTS; i++)
        if (atomic_load(&mapped[i].data) && atomic_load(&mapped[i].inode) == inode && atomic_load(&mapped[i].device) == device) return true;
    return false;
}

static int read_stream(anm_map *out, int fd, const char *path, anm_error *err)
{
    enum { FIRST = 1 << 16 };
    const size_t most = (size_t)1 << 30;
    size_t room = FIRST, size = 0;
    uint8_t *p = malloc(room);
    while (p) {
        ssize_t n = read(fd, p + size, room - size);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            int why = errno;
            free(p);
            return anm_fail(err, ANM_ERR_IO, "%s: cannot be read: %s", path, strerror(why));
        }
        if (n == 0) break;
        size += (size_t)n;
        if (size < room) continue;
        if (room >= most) {
            free(p);
            return anm_fail(err, ANM_ERR_LIMIT, "%s: a stream of more than 1 GiB; give a regular file", path);
        }
        uint8_t *q = realloc(p, room *= 2);
        if (!q) free(p);
        p = q;
    }
    if (!p) return anm_fail_memory(err, path);
    if (!size) {
        free(p);
        return anm_fail(err, ANM_ERR_FORMAT, "%s: is empty", path);
    }
    *out = (anm_map){p, size, false};
    return 0;
}

int anm_map_open(anm_map *out, const char *path, anm_error *err)
{
    *out = (anm_map){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC), rc = 0;
    struct stat st;
    if (fd < 0) return anm_fail(err, ANM_ERR_IO, "%s: cannot be opened: %s", path, strerror(errno));
    if (fstat(fd, &st)) {
        rc = anm_fail(err, ANM_ERR_IO, "%s: cannot be examined: %s", path, strerror(errno));
    } else if (S_ISDIR(st.st_mode)) {
        rc = anm_fail(err, ANM_ERR_IO, "%s: is a directory; a file is needed here", path);
    } else if (!S_ISREG(st.st_mode)) {
        rc = read_stream(out, fd, path, err);
    } else if (st.st_size == 0) {
        rc = anm_fail(err, ANM_ERR_FORMAT, "%s: is empty", path);
    } else if ((uint64_t)st.st_size > SIZE_MAX) {
        rc = anm_fail(err, ANM_ERR_LIMIT, "%s: is too large for this machine's addresses", path);
    } else {
        void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED) {
            rc = anm_fail(err, ANM_ERR_IO, "%s: cannot be mapped: %s", path, strerror(errno));
        } else {
            *out = (anm_map){p, (uint64_t)st.st_size, true};
            note(out, path, &st);
        }
    }
    close(fd);
    return rc;
}

void anm_map_close(anm_map *m)
{
    if (m->mapped) {
        forget(m);
        munmap((void *)(uintptr_t)m->data, (size_t)m->size);
    } else {
        free((void *)(uintptr_t)m->data);
    }
    *m = (anm_map){0};
}

void anm_map_done_with(const anm_map *m, uint64_t off, uint64_t n)
{
    if (!m->mapped || off >= m->size) return;
    if (n > m->size - off) n = m->size - off;
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), from = off / page * page;
    madvise((void *)(uintptr_t)(m->data + from), (size_t)(off + n - from), MADV_DONTNEED);
}
