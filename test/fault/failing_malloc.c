/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Loaded before the C library (LD_PRELOAD), this makes an allocation of a program fail, whoever asks for it: the
 * program, a library, or the C library itself. It also counts what is never given back.
 *
 *     FAULT_AT=N        the N-th allocation after start-up fails; 0 or unset: none
 *     FAULT_STICKY=1    and so do all that follow
 *     FAULT_TRACE=1     shows who asked for the allocation that failed (addr2line -e reads the addresses)
 *     FAULT_REPORT=FD   when the program ends, two uint64_t are written there: allocations asked for since start-up,
 *                       and how many blocks are still held
 *
 * For the GNU C library, whose own functions stand behind the names that start with __libc_.
 */
#include <errno.h>
#include <execinfo.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t align, size_t n);
void __libc_free(void *p);
void *memalign(size_t align, size_t n);

static atomic_bool started;
static atomic_uint_fast64_t asked, held;
static uint64_t fail_at;
static bool sticky;
static int report = -1;
static bool trace;

static uint64_t number(const char *name, uint64_t otherwise)
{
    const char *s = getenv(name);
    return s && *s ? strtoull(s, NULL, 10) : otherwise;
}

__attribute__((constructor)) static void start(void)
{
    fail_at = number("FAULT_AT", 0);
    sticky = number("FAULT_STICKY", 0) != 0;
    trace = number("FAULT_TRACE", 0) != 0;
    report = (int)number("FAULT_REPORT", (uint64_t)-1);
    atomic_store(&started, true);
}

__attribute__((destructor)) static void finish(void)
{
    const uint64_t counts[2] = {atomic_load(&asked), atomic_load(&held)};
    if (report >= 0 && write(report, counts, sizeof counts) != (ssize_t)sizeof counts) _exit(125);
}

static void show_caller(void)
{
    void *frame[32];
    atomic_store(&started, false); /* it may allocate */
    backtrace_symbols_fd(frame, backtrace(frame, 32), STDERR_FILENO);
    atomic_store(&started, true);
}

/* Is this the allocation that fails? */
static bool fails(void)
{
    if (!atomic_load(&started)) return false;
    uint64_t n = atomic_fetch_add(&asked, 1) + 1;
    if (!fail_at || n < fail_at || (n > fail_at && !sticky)) return false;
    if (trace && n == fail_at) show_caller();
    errno = ENOMEM;
    return true;
}

static void *take(void *p)
{
    if (p) atomic_fetch_add(&held, 1);
    return p;
}

void *malloc(size_t n)
{
    return fails() ? NULL : take(__libc_malloc(n));
}

void *calloc(size_t count, size_t size)
{
    return fails() ? NULL : take(__libc_calloc(count, size));
}

void *realloc(void *p, size_t n)
{
    if (fails()) return NULL;
    void *q = __libc_realloc(p, n);
    if (!p) return take(q);
    if (!q && !n) atomic_fetch_sub(&held, 1); /* the GNU C library's realloc(p, 0) is free(p) */
    return q;
}

void *memalign(size_t align, size_t n)
{
    return fails() ? NULL : take(__libc_memalign(align, n));
}

void *aligned_alloc(size_t align, size_t n)
{
    return memalign(align, n);
}

int posix_memalign(void **out, size_t align, size_t n)
{
    int was = errno;
    void *p = memalign(align, n);
    errno = was;
    if (!p) return ENOMEM;
    *out = p;
    return 0;
}

void free(void *p)
{
    if (p) atomic_fetch_sub(&held, 1);
    __libc_free(p);
}
