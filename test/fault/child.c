/* SPDX-License-Identifier: BSD-3-Clause */
#define _GNU_SOURCE
#include "faults.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

pid_t fault_start(char *const argv[], const char *to, const char *errors, void (*prepare)(const void *), const void *ctx)
{
    pid_t id = fork();
    if (id) return id;
    int in = open("/dev/null", O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    int err = open(errors, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (in < 0 || out < 0 || err < 0 || dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0) _exit(125);
    for (int fd = 3; fd < 64; fd++)
        if (fcntl(fd, F_GETFD) >= 0) fcntl(fd, F_SETFD, FD_CLOEXEC);
    const struct rlimit no_core = {0, 0}, busy = {60, 60};
    setrlimit(RLIMIT_CORE, &no_core);
    setrlimit(RLIMIT_CPU, &busy); /* a loop without an end dies of SIGXCPU */
    if (prepare) prepare(ctx);
    execv(argv[0], argv);
    _exit(126);
}

typedef struct preload {
    const fault *f;
    const char *shim;
    int report;
} preload;

static void set_environment(const void *ctx)
{
    const preload *p = ctx;
    char text[32];
    fcntl(p->report, F_SETFD, 0);
    snprintf(text, sizeof text, "%d", p->report);
    setenv("FAULT_REPORT", text, 1);
    snprintf(text, sizeof text, "%llu", (unsigned long long)p->f->at);
    setenv("FAULT_AT", text, 1);
    setenv("FAULT_STICKY", p->f->sticky ? "1" : "0", 1);
    setenv("LD_PRELOAD", p->shim, 1);
}

static void pause_for(uint64_t nanoseconds)
{
    struct timespec t = {(time_t)(nanoseconds / 1000000000), (long)(nanoseconds % 1000000000)};
    while (nanosleep(&t, &t) && errno == EINTR) {}
}

/* Waits at most two minutes. */
static void wait_for(outcome *out, pid_t id)
{
    int status = 0;
    for (int i = 0; waitpid(id, &status, WNOHANG) == 0; i++) {
        if (i == 120 * 1000) {
            out->hung = true;
            kill(id, SIGKILL);
        }
        pause_for(i < 200 ? 100000 : 1000000);
    }
    if (WIFEXITED(status)) out->code = WEXITSTATUS(status);
    else out->signal = WTERMSIG(status);
}

void fault_run(outcome *out, char *const argv[], const fault *f, const char *shim, const char *to, const char *errors)
{
    *out = (outcome){.code = -1, .call = -1};
    int pipes[2] = {-1, -1};
    uint64_t counts[2];
    preload p = {f, shim, -1};
    bool preloaded = shim && f->kind != FAULT_SIGNAL;
    if (preloaded && pipe(pipes)) return;
    p.report = pipes[1];
    pid_t id = fault_start(argv, to, errors, preloaded ? set_environment : NULL, &p);
    if (preloaded) close(pipes[1]);
    if (f->kind == FAULT_SIGNAL) {
        pause_for(f->at);
        kill(id, f->signal);
    }
    wait_for(out, id);
    if (preloaded && read(pipes[0], counts, sizeof counts) == (ssize_t)sizeof counts) {
        out->calls = counts[0];
        out->held = counts[1];
        out->counted = true;
    }
    if (preloaded) close(pipes[0]);
}

/* ---- files ---- */

static uint64_t mix(uint64_t h, const void *data, size_t n)
{
    const uint8_t *p = data;
    for (size_t i = 0; i < n; i++) h = (h ^ p[i]) * 0x100000001b3u;
    return h;
}

uint64_t fault_fingerprint(const char *path)
{
    struct stat st;
    uint64_t h = 0xcbf29ce484222325u;
    if (lstat(path, &st)) return 0;
    if (S_ISDIR(st.st_mode)) { /* a sum, so that the order of names has no part in it */
        DIR *d = opendir(path);
        struct dirent *e;
        while (d && (e = readdir(d))) {
            char below[4096];
            if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
            snprintf(below, sizeof below, "%s/%s", path, e->d_name);
            h += mix(fault_fingerprint(below), e->d_name, strlen(e->d_name));
        }
        if (d) closedir(d);
        return h | 1;
    }
    static uint64_t block[1 << 13];
    int fd = open(path, O_RDONLY);
    ssize_t n;
    while (fd >= 0 && (n = read(fd, block, sizeof block)) > 0) {
        if (n % 8) memset((char *)block + n, 0, 8 - (size_t)n % 8);
        for (size_t i = 0; i < ((size_t)n + 7) / 8; i++) {
            h = (h ^ block[i]) * 0x9e3779b97f4a7c15u;
            h ^= h >> 29;
        }
    }
    if (fd >= 0) close(fd);
    return mix(h, &st.st_size, sizeof st.st_size) | 1;
}

void fault_remove(const char *path)
{
    struct stat st;
    if (lstat(path, &st)) return;
    if (!S_ISDIR(st.st_mode)) {
        unlink(path);
        return;
    }
    DIR *d = opendir(path);
    struct dirent *e;
    while (d && (e = readdir(d))) {
        char below[4096];
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        snprintf(below, sizeof below, "%s/%s", path, e->d_name);
        fault_remove(below);
    }
    if (d) closedir(d);
    rmdir(path);
}
