/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * System calls that fail: the program is traced, and its N-th call is replaced by none, with an error as its answer.
 * Unlike wrappers of library functions this reaches the calls that the C library makes by itself. Calls are counted from
 * the program's first rt_sigaction: what stands before it is the dynamic linker's.
 */
#define _GNU_SOURCE
#include "faults.h"

#include <elf.h>
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

/* What each call is made to say. Calls that are not listed are left alone: those that cannot fail, those that do not
 * concern files, memory or threads, and the removal of what is no longer of use, of which no more than a note can be made. */
static const struct {
    long call;
    int error;
    const char *name;
} calls[] = {
#define CALL(name, error) {SYS_##name, error, #name},
    CALL(read, EIO) CALL(write, ENOSPC) CALL(pread64, EIO) CALL(pwrite64, ENOSPC) CALL(writev, EIO)
    CALL(openat, EMFILE) CALL(close, EIO) CALL(fsync, EIO) CALL(fdatasync, EIO) CALL(ftruncate, EIO)
    CALL(fallocate, ENOSPC) CALL(mkdirat, ENOSPC) CALL(renameat, EACCES) CALL(unlinkat, EACCES)
    CALL(mmap, ENOMEM) CALL(munmap, ENOMEM) CALL(mprotect, ENOMEM) CALL(brk, ENOMEM) CALL(madvise, ENOMEM)
    CALL(lseek, ESPIPE) CALL(getdents64, EIO) CALL(fstat, EIO) CALL(ioctl, EIO) CALL(rt_sigaction, EINVAL)
    CALL(clone, EAGAIN) CALL(sched_getaffinity, EINVAL) CALL(sysinfo, EFAULT) CALL(prlimit64, EPERM) CALL(flock, ENOLCK)
    CALL(prctl, EINVAL)
#ifdef SYS_landlock_create_ruleset
    CALL(landlock_create_ruleset, ENOMEM) CALL(landlock_add_rule, ENOMEM) CALL(landlock_restrict_self, E2BIG)
#endif
#ifdef SYS_newfstatat
    CALL(newfstatat, EACCES)
#endif
#ifdef SYS_renameat2
    CALL(renameat2, EACCES)
#endif
#ifdef SYS_clone3
    CALL(clone3, EAGAIN)
#endif
#ifdef SYS_getrandom
    CALL(getrandom, EAGAIN)
#endif
#ifdef SYS_open
    CALL(open, EMFILE) CALL(mkdir, ENOSPC) CALL(rename, EACCES) CALL(stat, EACCES) CALL(lstat, EACCES)
#endif
#undef CALL
};

static int find(long call)
{
    for (int i = 0; i < (int)(sizeof calls / sizeof *calls); i++)
        if (calls[i].call == call) return i;
    return -1;
}

const char *fault_call_name(long call)
{
    int i = find(call);
    return i < 0 ? "?" : calls[i].name;
}

/* At the call's entry: makes it no call. */
static bool skip_call(pid_t thread)
{
#if defined(__x86_64__)
    return ptrace(PTRACE_POKEUSER, thread, offsetof(struct user_regs_struct, orig_rax), -1L) == 0;
#elif defined(__aarch64__)
    int none = -1;
    struct iovec v = {&none, sizeof none};
    return ptrace(PTRACE_SETREGSET, thread, NT_ARM_SYSTEM_CALL, &v) == 0;
#else
    (void)thread;
    return false;
#endif
}

/* At its exit: the answer. */
static void answer(pid_t thread, long result)
{
#if defined(__x86_64__)
    ptrace(PTRACE_POKEUSER, thread, offsetof(struct user_regs_struct, rax), result);
#elif defined(__aarch64__)
    struct user_regs_struct regs;
    struct iovec v = {&regs, sizeof regs};
    if (ptrace(PTRACE_GETREGSET, thread, NT_PRSTATUS, &v)) return;
    regs.regs[0] = (unsigned long long)result;
    ptrace(PTRACE_SETREGSET, thread, NT_PRSTATUS, &v);
#else
    (void)thread;
    (void)result;
#endif
}

void (*fault_asked_for)(const char *path);

/* A string of the traced program's, cut at the room there is. */
static void read_string(char *out, size_t room, pid_t thread, unsigned long long at)
{
    size_t n = 0;
    for (bool end = false; !end && n + sizeof(long) < room;) {
        errno = 0;
        long word = ptrace(PTRACE_PEEKDATA, thread, (void *)(uintptr_t)(at + n), NULL);
        if (errno) break;
        memcpy(out + n, &word, sizeof word);
        end = memchr(&word, 0, sizeof word) != NULL;
        n += sizeof word;
    }
    out[n] = 0;
}

static void note_open(pid_t thread, const struct __ptrace_syscall_info *info)
{
    char path[4096];
    long call = (long)info->entry.nr;
    bool plain = false;
#ifdef SYS_open
    plain = call == SYS_open;
#endif
    if (!plain && call != SYS_openat) return;
    read_string(path, sizeof path, thread, info->entry.args[plain ? 0 : 1]);
    fault_asked_for(path);
}

static void ask_to_be_traced(const void *ctx)
{
    (void)ctx;
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL)) _exit(125);
}

static volatile sig_atomic_t child;
static volatile sig_atomic_t too_long;

static void on_alarm(int sig)
{
    (void)sig;
    too_long = 1;
    kill(child, SIGKILL);
}

bool fault_run_traced(outcome *out, char *const argv[], const fault *f, const char *to, const char *errors)
{
    *out = (outcome){.code = -1, .call = -1};
    const struct sigaction alarmed = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    pid_t main_id = fault_start(argv, to, errors, ask_to_be_traced, NULL), pending = 0;
    int status;
    long result = 0, heap = 0, last = -1;
    bool begun = false;
    if (waitpid(main_id, &status, 0) != main_id || !WIFSTOPPED(status)) return false;
    child = main_id;
    too_long = 0;
    sigaction(SIGALRM, &alarmed, NULL);
    alarm(300);
    ptrace(PTRACE_SETOPTIONS, main_id, NULL, PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL);
    ptrace(PTRACE_SYSCALL, main_id, NULL, 0L);
    for (;;) {
        pid_t id = waitpid(-1, &status, __WALL);
        if (id < 0) return false;
        if (!WIFSTOPPED(status)) {
            if (id == main_id) break;
            continue;
        }
        long deliver = 0;
        if (WSTOPSIG(status) == (SIGTRAP | 0x80)) {
            struct __ptrace_syscall_info info;
            memset(&info, 0, sizeof info);
            if (ptrace(PTRACE_GET_SYSCALL_INFO, id, sizeof info, &info) < 0) {
                kill(main_id, SIGKILL);
                continue;
            }
            if (info.op == PTRACE_SYSCALL_INFO_ENTRY) {
                long call = (long)info.entry.nr;
                if (id == main_id) last = call;
                int known = find(call);
                begun |= call == SYS_rt_sigaction;
                if (begun && fault_asked_for) note_open(id, &info);
                if (begun && known >= 0 && ++out->calls == f->at && skip_call(id)) {
                    pending = id;
                    result = call == SYS_brk ? heap : -calls[known].error; /* brk says where the heap ends, moved or not */
                    out->call = call;
                    out->argument = (long)info.entry.args[0];
                }
            } else if (info.op == PTRACE_SYSCALL_INFO_EXIT && id == pending) {
                answer(id, result);
                pending = 0;
            } else if (info.op == PTRACE_SYSCALL_INFO_EXIT && id == main_id && last == SYS_brk) {
                heap = (long)info.exit.rval;
            }
        } else if (WSTOPSIG(status) != SIGTRAP && WSTOPSIG(status) != SIGSTOP) {
            deliver = WSTOPSIG(status); /* a signal for the program itself */
        }
        ptrace(PTRACE_SYSCALL, id, NULL, deliver);
    }
    alarm(0);
    if (WIFEXITED(status)) out->code = WEXITSTATUS(status);
    else out->signal = WTERMSIG(status);
    out->hung = too_long;
    return true;
}

bool fault_can_trace(void)
{
    char path[] = "/bin/true", *const argv[] = {path, NULL};
    outcome o;
    return fault_run_traced(&o, argv, &(fault){0}, "/dev/null", "/dev/null") && o.code == 0;
}
