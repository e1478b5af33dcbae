/* SPDX-License-Identifier: BSD-3-Clause */
#if defined(__linux__)
#define _GNU_SOURCE /* sync_file_range */
#endif
#include "base/outfile.h"
#include "base/map.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Temporary names now on disk, for the signal handler. */
enum { SLOTS = 16 };
static _Atomic(char *) temps[SLOTS];

void anm_outfile_note(char *temp)
{
    for (int i = 0; i < SLOTS; i++) {
        char *none = NULL;
        if (atomic_compare_exchange_strong(&temps[i], &none, temp)) return;
    }
}

void anm_outfile_forget(char *temp)
{
    for (int i = 0; i < SLOTS; i++) {
        char *t = temp;
        if (atomic_compare_exchange_strong(&temps[i], &t, NULL)) return;
    }
}

void anm_outfile_abort_all(void)
{
    for (int i = 0; i < SLOTS; i++) {
        char *t = atomic_load(&temps[i]);
        if (t) unlink(t);
    }
}

/* The folder that `path` lies in; free it. NULL: no memory. */
static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash) return strdup(".");
    return strndup(path, slash == path ? 1 : (size_t)(slash - path));
}

static int check_folder(const char *path, anm_error *err)
{
    char *dir = folder_of(path);
    if (!dir) return anm_fail_memory(err, "output file's name");
    int why = access(dir, W_OK | X_OK) ? errno : 0;
    free(dir);
    return why ? anm_fail(err, ANM_ERR_IO, "%s: cannot be written: %s", path, strerror(why)) : 0;
}

int anm_outfile_check(const char *path, anm_error *err)
{
    struct stat st;
    size_t n = strlen(path);
    if (!n) return anm_fail(err, ANM_ERR_IO, "the output file has no name");
    bool there = !stat(path, &st);
    if (path[n - 1] == '/' || (there && S_ISDIR(st.st_mode))) return anm_fail(err, ANM_ERR_IO, "%s: is a directory; name a file to write", path);
    if (!there) {
        if (!lstat(path, &st) && S_ISLNK(st.st_mode)) return anm_fail(err, ANM_ERR_IO, "%s: is a link that leads to no file; name a file to write", path);
        return check_folder(path, err);
    }
    if (!S_ISREG(st.st_mode)) return anm_fail(err, ANM_ERR_IO, "%s: is no regular file; name a file to write", path);
    if (anm_map_uses((uint64_t)st.st_dev, (uint64_t)st.st_ino)) return anm_fail(err, ANM_ERR_IO, "%s: is being read; name another file to write", path);
    return 0;
}

bool anm_outfile_same(const char *a, const char *b)
{
    struct stat x, y;
    return a && b && !stat(a, &x) && !stat(b, &y) && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

int anm_outfile_check_beside(const char *path, const char *const *read, size_t n, anm_error *err)
{
    int rc = anm_outfile_check(path, err);
    for (size_t i = 0; i < n && !rc; i++)
        if (anm_outfile_same(path, read[i])) rc = anm_fail(err, ANM_ERR_IO, "%s: is what is read; name another file to write", path);
    return rc;
}

char *anm_outfile_behind(const char *path)
{
    struct stat st;
    return !lstat(path, &st) && S_ISLNK(st.st_mode) ? realpath(path, NULL) : strdup(path);
}

int anm_outfile_temp(char **temp, int *fd, const char *stem, mode_t mode)
{
    size_t n = strlen(stem) + 32;
    char *name = malloc(n);
    *temp = NULL;
    *fd = -1;
    if (!name) {
        errno = ENOMEM;
        return -1;
    }
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(name, n, "%s.tmp-%ld-%u", stem, (long)getpid(), i);
        anm_outfile_note(name); /* before there is a file: a signal may come right after it is made */
        *fd = open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode);
        if (*fd >= 0) {
            *temp = name;
            return 0;
        }
        int why = errno;
        anm_outfile_forget(name);
        errno = why;
        if (why != EEXIST) break;
    }
    int why = errno;
    free(name);
    errno = why;
    return -1;
}

int anm_outfile_open(anm_outfile *out, const char *path, anm_error *err)
{
    *out = (anm_outfile){.fd = -1};
    int rc = anm_outfile_check(path, err);
    if (rc) return rc;
    out->path = anm_outfile_behind(path);
    if (!out->path) return anm_fail_memory(err, "output file's name");
    path = out->path;
    if (!anm_outfile_temp(&out->temp, &out->fd, path, 0666)) return 0;
    int why = errno;
    if (why == ENOMEM) anm_fail_memory(err, "output file's name");
    else anm_fail(err, ANM_ERR_IO, "%s: cannot be written: %s", path, strerror(why));
    anm_outfile_abort(out);
    return why == ENOMEM ? ANM_ERR_MEMORY : ANM_ERR_IO;
}

void anm_outfile_write_early(anm_outfile *f)
{
    f->early = true;
}

/* Whoever writes the last byte of a stretch starts the disk on all that is there. An error is the sync's to report. */
static void start_writing(anm_outfile *f, uint64_t wrote)
{
    enum { STRETCH = 32 << 20 };
    uint64_t before = atomic_fetch_add(&f->written, wrote);
    if (before / STRETCH == (before + wrote) / STRETCH) return;
#if defined(__linux__)
    int why = errno;
    sync_file_range(f->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
    errno = why;
#endif
}

int anm_outfile_write(anm_outfile *f, uint64_t off, const void *data, size_t n, anm_error *err)
{
    const uint8_t *p = data;
    size_t all = n;
    while (n) {
        ssize_t w = pwrite(f->fd, p, n, (off_t)off);
        if (w < 0 && errno == EINTR) continue;
        if (w <= 0) return anm_fail(err, ANM_ERR_IO, "%s: cannot be written: %s", f->path, strerror(w ? errno : ENOSPC));
        p += w;
        off += (uint64_t)w;
        n -= (size_t)w;
    }
    if (f->early) start_writing(f, all);
    return 0;
}

int anm_outfile_resize(anm_outfile *f, uint64_t size, anm_error *err)
{
#if defined(__linux__)
    int rc = posix_fallocate(f->fd, 0, (off_t)size);
    if (rc == ENOSPC || rc == EFBIG || rc == EIO)
        return anm_fail(err, ANM_ERR_IO, "%s: cannot be written: %s", f->path, strerror(rc));
#endif
    if (ftruncate(f->fd, (off_t)size))
        return anm_fail(err, ANM_ERR_IO, "%s: cannot be written: %s", f->path, strerror(errno));
    return 0;
}

static void sync_folder(const char *path)
{
    char *dir = folder_of(path);
    if (!dir) return;
    int fd = open(dir, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        fsync(fd); /* the data is safe already; a folder that cannot be synced is no reason to fail */
        close(fd);
    }
    free(dir);
}

int anm_outfile_commit(anm_outfile *f, bool sync, anm_error *err)
{
    int rc = 0, fd = f->fd;
    f->fd = -1;
    if (sync && fsync(fd)) rc = errno;
    if (close(fd) && !rc) rc = errno;
    if (!rc && rename(f->temp, f->path)) rc = errno;
    if (rc) {
        anm_fail(err, ANM_ERR_IO, "%s: cannot be written: %s", f->path, strerror(rc));
        anm_outfile_abort(f);
        return ANM_ERR_IO;
    }
    anm_outfile_forget(f->temp);
    if (sync) sync_folder(f->path);
    free(f->temp);
    f->temp = NULL;
    anm_outfile_abort(f);
    return 0;
}

void anm_outfile_abort(anm_outfile *f)
{
    if (f->temp) {
        if (f->fd >= 0) close(f->fd);
        unlink(f->temp);
        anm_outfile_forget(f->temp);
        free(f->temp);
    }
    free(f->path);
    *f = (anm_outfile){.fd = -1};
}
