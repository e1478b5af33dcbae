/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The bound on memory: while a reader reads, it may hold BASE bytes and TIMES bytes for each byte of its input, and no
 * more, whatever sizes that input declares. Under a sanitizer its hooks see every allocation; else, on the GNU C library,
 * these functions stand in front of the library's. Elsewhere nothing is measured.
 */
#include "fuzz.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* BASE: what does not depend on the input, as an arena's first block, a file's buffer, a library's tables. */
enum { TIMES = 64, BASE = 1 << 20 };

static atomic_bool measuring;
static atomic_int_fast64_t held;
static size_t input;

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#endif

#if defined(SANITIZED) || defined(ANM_FUZZ_LIBC) /* what sees allocations */

static void took(size_t n)
{
    if (!atomic_load(&measuring)) return;
    int64_t now = atomic_fetch_add(&held, (int64_t)n) + (int64_t)n;
    if (now <= BASE + (int64_t)input * TIMES) return;
    atomic_store(&measuring, false);
    fprintf(stderr, "%lld bytes are held (%zu by the last call) for an input of %zu\n", (long long)now, n, input);
    abort();
}

static void gave(size_t n)
{
    if (atomic_load(&measuring)) atomic_fetch_sub(&held, (int64_t)n);
}

#endif

#if defined(SANITIZED)

int __sanitizer_install_malloc_and_free_hooks(void (*)(const volatile void *, size_t), void (*)(const volatile void *));
size_t __sanitizer_get_allocated_size(const volatile void *);

static void on_malloc(const volatile void *p, size_t n)
{
    if (p) took(n);
}

static void on_free(const volatile void *p)
{
    if (p) gave(__sanitizer_get_allocated_size(p));
}

static void install(void)
{
    static bool done;
    if (!done) __sanitizer_install_malloc_and_free_hooks(on_malloc, on_free);
    done = true;
}

#elif defined(ANM_FUZZ_LIBC)

#include <malloc.h>
#include <string.h>

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t align, size_t n);
void __libc_free(void *p);

#define SEEN __attribute__((visibility("default")))

static void install(void) {}

/* By what was asked for, as the sanitizers count: a new page is not held before it is touched, but it was asked for. */
static void *noted(void *p)
{
    if (p) took(malloc_usable_size(p));
    return p;
}

SEEN void *malloc(size_t n)
{
    return noted(__libc_malloc(n));
}

SEEN void *calloc(size_t count, size_t size)
{
    return noted(__libc_calloc(count, size));
}

SEEN void *realloc(void *p, size_t n)
{
    size_t before = p ? malloc_usable_size(p) : 0;
    void *q = __libc_realloc(p, n);
    if (q || !n) gave(before);
    return noted(q);
}

SEEN void *memalign(size_t align, size_t n)
{
    return noted(__libc_memalign(align, n));
}

SEEN void *aligned_alloc(size_t align, size_t n)
{
    return memalign(align, n);
}

SEEN int posix_memalign(void **out, size_t align, size_t n)
{
    void *p = memalign(align, n);
    if (!p) return 12; /* ENOMEM */
    *out = p;
    return 0;
}

SEEN void free(void *p)
{
    if (p) gave(malloc_usable_size(p));
    __libc_free(p);
}

#else

static void install(void) {}

#endif

void fuzz_limit(size_t size)
{
    install();
    input = size;
    atomic_store(&held, 0);
    atomic_store(&measuring, true);
}

void fuzz_limit_end(void)
{
    atomic_store(&measuring, false);
}
