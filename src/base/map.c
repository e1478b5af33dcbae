/* SPDX-License-Identifier: BSD-3-Clause */
#include "base/map.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* The files mapped now, for the SIGBUS handler: slots are claimed and given back with atomics, and a full table costs nothing
 * but the file's name in that one message. */
enum { SLOTS = 64, PATH = 256 };
static struct {
    _Atomic(const uint8_t *) data;
    _Atomic uint64_t size;
    char path[PATH];
} mapped[SLOTS];
static atomic_flag claimed[SLOTS]; /* static storage: all clear */

/* The files themselves, for outputs that would replace one. An entry lives as long as the process; one that is mapped no more
 * is taken for the next file, unless all are remembered. */
typedef struct known {
    uint64_t device, inode;
    size_t maps; /* now */
    struct known *next;
} known;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static known *files;
static bool remember;

static known *find(uint64_t device, uint64_t inode)
{
    known *k = files;
    while (k && (k->device != device || k->inode != inode)) k = k->next;
    return k;
}

/* Without memory a file is not known: that costs one look at outputs, no more. */
static void know(const struct stat *st)
{
    pthread_mutex_lock(&lock);
    known *k = find((uint64_t)st->st_dev, (uint64_t)st->st_ino);
    for (known *old = files; old && !k && !remember; old = old->next)
        if (!old->maps) k = old;
    if (!k && (k = calloc(1, sizeof *k))) {
        k->next = files;
        files = k;
    }
    if (k) {
        k->device = (uint64_t)st->st_dev;
        k->inode = (uint64_t)st->st_ino;
        k->maps++;
    }
    pthread_mutex_unlock(&lock);
}

static void unknow(const anm_map *m)
{
    pthread_mutex_lock(&lock);
    known *k = find(m->device, m->inode);
    if (k && k->maps) k->maps--;
    pthread_mutex_unlock(&lock);
}

void anm_map_remember(void)
{
    pthread_mutex_lock(&lock);
    remember = true;
    pthread_mutex_unlock(&lock);
}

bool anm_map_uses(uint64_t device, uint64_t inode)
{
    pthread_mutex_lock(&lock);
    const known *k = find(device, inode);
    bool uses = k && (k->maps || remember);
    pthread_mutex_unlock(&lock);
    return uses;
}

static void note(const anm_map *m, const char *path)
{
    for (int i = 0; i < SLOTS; i++) {
        if (atomic_flag_test_and_set(&claimed[i])) continue;
        size_t n = strlen(path);
        if (n > PATH - 1) n = PATH - 1;
        memcpy(mapped[i].path, path, n);
        mapped[i].path[n] = 0;
        atomic_store(&mapped[i].size, m->size);
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
    *out = (anm_map){.data = p, .size = size};
    return 0;
}

static int not_opened(const char *path, int why, anm_error *err)
{
    struct stat st;
    if (why == ENOENT && lstat(path, &st) == 0 && S_ISLNK(st.st_mode))
        return anm_fail(err, ANM_ERR_IO, "%s: cannot be opened: it is a link that leads nowhere", path);
    return anm_fail(err, ANM_ERR_IO, "%s: cannot be opened: %s", path, strerror(why));
}

static int open_file(anm_map *out, const char *path, bool stream, anm_error *err)
{
    *out = (anm_map){0};
    /* A pipe that no one writes to would hold open() itself. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | (stream ? 0 : O_NONBLOCK)), rc = 0;
    struct stat st;
    if (fd < 0) return not_opened(path, errno, err);
    if (fstat(fd, &st)) {
        rc = anm_fail(err, ANM_ERR_IO, "%s: cannot be examined: %s", path, strerror(errno));
    } else if (S_ISDIR(st.st_mode)) {
        rc = anm_fail(err, ANM_ERR_IO, "%s: is a directory; a file is needed here", path);
    } else if (!S_ISREG(st.st_mode) && !stream) {
        rc = anm_fail(err, ANM_ERR_IO, "%s: is no regular file", path);
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
            *out = (anm_map){p, (uint64_t)st.st_size, true, (uint64_t)st.st_dev, (uint64_t)st.st_ino};
            note(out, path);
            know(&st);
        }
    }
    close(fd);
    return rc;
}

int anm_map_open(anm_map *out, const char *path, anm_error *err)
{
    return open_file(out, path, true, err);
}

int anm_map_open_found(anm_map *out, const char *path, anm_error *err)
{
    return open_file(out, path, false, err);
}

void anm_map_close(anm_map *m)
{
    if (m->mapped) {
        forget(m);
        unknow(m);
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
