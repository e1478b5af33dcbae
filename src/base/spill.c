/* SPDX-License-Identifier: BSD-3-Clause */
#include "base/spill.h"
#include "base/outfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Maps `fd`, which is closed unless it is `locked` and all went well. */
static int map(anm_spill *out, int fd, bool locked, const char *path, uint64_t size, anm_error *err)
{
    void *p = size == (size_t)size ? mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
    int why = errno;
    if (p == MAP_FAILED || !locked) close(fd);
    if (p == MAP_FAILED) return anm_fail(err, ANM_ERR_IO, "%s: cannot be mapped: %s", path, strerror(why));
    *out = (anm_spill){p, size, false, locked ? fd + 1 : 0};
    return 0;
}

/* One process at a time: its descriptor's end is the lock's. Not every file system has locks. */
static int lock(int fd, const char *path, anm_error *err)
{
    if (!flock(fd, LOCK_EX | LOCK_NB) || errno != EWOULDBLOCK) return 0;
    return anm_fail(err, ANM_ERR_USAGE, "%s: another process is at work on it; wait until it is done, or name another output", path);
}

static int take_space(int fd, uint64_t size)
{
#if defined(__linux__)
    int rc = posix_fallocate(fd, 0, (off_t)size);
    if (rc == ENOSPC || rc == EFBIG || rc == EIO) return rc;
    if (!rc) return 0;
#endif
    return ftruncate(fd, (off_t)size) ? errno : 0;
}

/* Takes the name `temp` from the disk. */
static void take_away(char *temp)
{
    unlink(temp);
    anm_outfile_forget(temp);
}

/* A new file, *temp (noted; free it), which is named `stem` and more. `nameless`: its name goes at once. */
static int make(int *fd, char **temp, const char *stem, bool nameless, uint64_t size, anm_error *err)
{
    int rc = 0;
    if (anm_outfile_temp(temp, fd, stem, 0600)) rc = errno ? errno : EIO;
    if (!rc && nameless) take_away(*temp);
    if (!rc) rc = take_space(*fd, size);
    if (!rc) return 0;
    if (rc == ENOMEM) anm_fail_memory(err, "a temporary file's name");
    else anm_fail(err, ANM_ERR_IO, "%s: %.1f MB cannot be written there: %s", *temp ? *temp : stem, (double)size / 1e6, strerror(rc));
    if (*temp) {
        if (!nameless) take_away(*temp);
        close(*fd);
    }
    free(*temp);
    *temp = NULL;
    return rc == ENOMEM ? ANM_ERR_MEMORY : ANM_ERR_IO;
}

int anm_spill_room(anm_spill *out, const char *what, const char *beside, uint64_t size, anm_error *err)
{
    enum { IN_MEMORY = 1 << 29 };
    if (size > IN_MEMORY) return anm_spill_temp(out, beside, size, err);
    *out = (anm_spill){malloc(size ? (size_t)size : 1), size, true, 0};
    return out->data ? 0 : anm_fail_memory(err, what);
}

int anm_spill_temp(anm_spill *out, const char *beside, uint64_t size, anm_error *err)
{
    *out = (anm_spill){0};
    const char *dir = getenv("TMPDIR"), *slash = beside ? strrchr(beside, '/') : NULL;
    int n = -1;
    if (dir && *dir) n = (int)strlen(dir);
    else if (!beside) dir = "/tmp", n = 4;
    else if (!slash) dir = ".", n = 1;
    else dir = beside, n = slash == beside ? 1 : (int)(slash - beside);
    size_t room = (size_t)n + sizeof "/anemone";
    char *stem = malloc(room), *temp = NULL;
    if (!stem) return anm_fail_memory(err, "a temporary file's name");
    snprintf(stem, room, "%.*s/anemone", n, dir);
    int fd, rc = make(&fd, &temp, stem, true, size, err);
    if (!rc) rc = map(out, fd, false, temp, size, err);
    free(temp);
    free(stem);
    return rc;
}

int anm_spill_new(anm_spill *out, const char *path, uint64_t size, anm_error *err)
{
    *out = (anm_spill){0};
    char *temp = NULL;
    int fd = -1, old = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC), rc = old >= 0 ? lock(old, path, err) : 0;
    if (!rc) rc = make(&fd, &temp, path, false, size, err);
    if (!rc && ((rc = lock(fd, path, err)) || rename(temp, path))) {
        if (!rc) rc = anm_fail(err, ANM_ERR_IO, "%s: cannot be written: %s", path, strerror(errno));
        unlink(temp);
        close(fd);
    }
    if (temp) anm_outfile_forget(temp);
    if (old >= 0) close(old); /* its lock was kept until the new file stood in its place */
    if (!rc) rc = map(out, fd, true, path, size, err);
    free(temp);
    return rc;
}

int anm_spill_open(anm_spill *out, const char *path, bool *there, anm_error *err)
{
    struct stat st;
    *out = (anm_spill){0};
    *there = false;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) return 0;
    if (fd < 0 || fstat(fd, &st) || !S_ISREG(st.st_mode)) {
        int why = fd < 0 ? errno : EINVAL;
        if (fd >= 0) close(fd);
        return anm_fail(err, ANM_ERR_IO, "%s: cannot be opened: %s", path, strerror(why));
    }
    *there = true;
    int rc = lock(fd, path, err);
    if (!rc && st.st_size > 0) return map(out, fd, true, path, (uint64_t)st.st_size, err);
    close(fd);
    return rc;
}

void anm_spill_remove(const anm_spill *s, const char *path)
{
    struct stat own, there;
    if (!s->lock) return;
    bool known = !fstat(s->lock - 1, &own) && !stat(path, &there);
    if (!known || (own.st_dev == there.st_dev && own.st_ino == there.st_ino)) unlink(path);
}

void anm_spill_close(anm_spill *s)
{
    if (s->in_memory) free(s->data);
    else if (s->data) munmap(s->data, (size_t)s->size);
    if (s->lock) close(s->lock - 1);
    *s = (anm_spill){0};
}
