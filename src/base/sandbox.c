/* SPDX-License-Identifier: BSD-3-Clause */
#define _GNU_SOURCE /* O_PATH, CLONE_THREAD */
#include "base/sandbox.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#endif

#if defined(__linux__) && (defined(__x86_64__) || defined(__aarch64__)) && !defined(SANITIZED)

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- Landlock: what may be opened ----
 *
 * Its calls and rights by number: they are the same on every processor, and the kernel decides what there is, not the
 * headers at hand. */

enum { CREATE_RULESET = 444, ADD_RULE = 445, RESTRICT_SELF = 446 };

typedef struct ruleset {
    uint64_t files, net, scope; /* what is forbidden unless a rule allows it */
} ruleset;

#pragma pack(push, 1)
typedef struct below {
    uint64_t allowed;
    int32_t folder;
} below;
#pragma pack(pop)

#define RIGHT(i) (UINT64_C(1) << (i))
#define WRITE_FILE RIGHT(1)
#define READ_FILE RIGHT(2)
#define READ_FOLDER RIGHT(3)
#define REMOVE_FILE RIGHT(5)
#define MAKE_FILE RIGHT(8)
#define CUT_FILE RIGHT(14)

/* How much of ruleset a version of Landlock knows, and which rights over files. */
static ruleset all_of(long version, size_t *size)
{
    ruleset r = {RIGHT(13) - 1, 0, 0};
    *size = version >= 6 ? 24 : version >= 4 ? 16 : 8;
    if (version >= 2) r.files |= RIGHT(13); /* moving files to other folders */
    if (version >= 3) r.files |= CUT_FILE;
    if (version >= 5) r.files |= RIGHT(15); /* controlling devices that are opened from now on */
    if (version >= 4) r.net = 3;            /* bind and connect, TCP */
    if (version >= 6) r.scope = 3;          /* abstract sockets, signals */
    return r;
}

/* 0, or errno. What is not there needs no rule, and what is no file of a file system (a pipe) takes none. */
static int allow(int rules, const anm_sandbox_path *p, uint64_t known)
{
    int fd = open(p->path, O_PATH | O_CLOEXEC), rc = 0;
    struct stat st;
    if (fd < 0) return errno == EMFILE || errno == ENFILE || errno == ENOMEM ? errno : 0;
    if (fstat(fd, &st)) rc = errno;
    bool folder = !rc && S_ISDIR(st.st_mode);
    uint64_t rights = READ_FILE | (folder ? READ_FOLDER : 0) | (p->write ? WRITE_FILE | CUT_FILE : 0) |
                      (p->write && folder ? MAKE_FILE | REMOVE_FILE : 0);
    const below rule = {rights & known, fd};
    if (!rc && syscall(ADD_RULE, rules, 1L, &rule, 0L) && errno != EBADFD) rc = errno;
    close(fd);
    return rc;
}

static int lock_files(const anm_sandbox_path *path, size_t n)
{
    static const char *const systems[] = {
        "/dev/null", "/dev/urandom", "/etc/localtime", "/etc/terminfo", "/lib/terminfo", "/usr/lib/terminfo", "/usr/lib/locale",
        "/usr/share/locale", "/usr/share/terminfo", "/usr/share/zoneinfo", "/sys/devices/system/cpu",
    };
    long version = syscall(CREATE_RULESET, NULL, 0L, 1L); /* the flag that asks for the version */
    if (version < 1) return version < 0 ? errno : ENOSYS;
    size_t size;
    const ruleset all = all_of(version, &size);
    int rules = (int)syscall(CREATE_RULESET, &all, size, 0L), rc = 0;
    if (rules < 0) return errno;
    for (size_t i = 0; i < sizeof systems / sizeof *systems && !rc; i++)
        rc = allow(rules, &(anm_sandbox_path){systems[i], false}, all.files);
    for (size_t i = 0; i < n && !rc; i++) rc = allow(rules, &path[i], all.files);
    if (!rc && syscall(RESTRICT_SELF, rules, 0L)) rc = errno;
    close(rules);
    return rc;
}

/* ---- seccomp: what may be called ---- */

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#else
#define ARCH AUDIT_ARCH_AARCH64
#endif

/* Calls younger than the headers may be; all processors have the same numbers for them. */
enum { PROCESS_MADVISE = 440, MOUNT_SETATTR = 442, QUOTACTL_FD = 443, PROCESS_MRELEASE = 448, FCHMODAT2 = 452, UNKNOWN = 463 };

/* Calls by which a process reaches beyond itself, and which this program never makes. No list of what is allowed: the C
 * library makes calls for its own ends, others in each version, and one that is not listed would end runs at random. */
static const unsigned denied[] = {
    SYS_execve, SYS_ptrace, SYS_process_vm_readv, SYS_process_vm_writev, SYS_kcmp,
    SYS_socket, SYS_socketpair, SYS_connect, SYS_bind, SYS_listen, SYS_accept, SYS_accept4, SYS_sendto, SYS_sendmsg,
    SYS_sendmmsg, SYS_recvfrom, SYS_recvmsg, SYS_recvmmsg,
    SYS_mount, SYS_umount2, SYS_chroot, SYS_pivot_root, SYS_unshare, SYS_setns, SYS_swapon, SYS_swapoff, SYS_reboot,
    SYS_sethostname, SYS_setdomainname, SYS_acct, SYS_quotactl, SYS_settimeofday, SYS_clock_settime, SYS_adjtimex,
    SYS_init_module, SYS_delete_module, SYS_add_key, SYS_request_key, SYS_keyctl, SYS_perf_event_open, SYS_bpf,
    SYS_userfaultfd, SYS_name_to_handle_at, SYS_open_by_handle_at, SYS_mknodat, SYS_setuid, SYS_setgid, SYS_setreuid, SYS_setregid,
    SYS_setresuid, SYS_setresgid, SYS_setfsuid, SYS_setfsgid, SYS_setgroups, SYS_capset, SYS_personality, SYS_clock_adjtime,
    /* a file's mode, owner, times and attributes: Landlock guards none of them, nor do they need it open for writing */
    SYS_fchmod, SYS_fchmodat, FCHMODAT2, SYS_fchown, SYS_fchownat, SYS_utimensat, SYS_setxattr, SYS_lsetxattr, SYS_fsetxattr,
    SYS_removexattr, SYS_lremovexattr, SYS_fremovexattr, SYS_getxattr, SYS_lgetxattr, SYS_fgetxattr, SYS_listxattr, SYS_llistxattr,
    SYS_flistxattr, SYS_inotify_add_watch,
    /* other processes: their memory in common, their messages, their priorities */
    SYS_shmget, SYS_shmat, SYS_shmctl, SYS_shmdt, SYS_semget, SYS_semop, SYS_semctl, SYS_semtimedop, SYS_msgget, SYS_msgsnd, SYS_msgrcv,
    SYS_msgctl, SYS_mq_open, SYS_mq_unlink, SYS_mq_timedsend, SYS_mq_timedreceive, SYS_mq_notify, SYS_mq_getsetattr,
    SYS_setpriority, SYS_ioprio_set, SYS_sched_setaffinity, SYS_sched_setparam, SYS_sched_setscheduler, SYS_sched_setattr,
    PROCESS_MADVISE, PROCESS_MRELEASE, SYS_rt_sigqueueinfo, SYS_rt_tgsigqueueinfo,
    MOUNT_SETATTR, QUOTACTL_FD, SYS_syslog, SYS_vhangup, SYS_io_setup, SYS_fanotify_init, SYS_move_pages, SYS_migrate_pages,
#ifdef SYS_execveat
    SYS_execveat,
#endif
#ifdef SYS_fork
    SYS_fork, SYS_vfork, SYS_chmod, SYS_chown, SYS_lchown, SYS_utime, SYS_utimes, SYS_futimesat, SYS_mknod, SYS_iopl, SYS_ioperm, SYS_modify_ldt,
#endif
#ifdef SYS_finit_module
    SYS_finit_module,
#endif
#ifdef SYS_kexec_load
    SYS_kexec_load,
#endif
#ifdef SYS_kexec_file_load
    SYS_kexec_file_load,
#endif
#ifdef SYS_io_uring_setup
    SYS_io_uring_setup, SYS_io_uring_enter, SYS_io_uring_register,
#endif
#ifdef SYS_pidfd_open
    SYS_pidfd_open, SYS_pidfd_send_signal,
#endif
#ifdef SYS_pidfd_getfd
    SYS_pidfd_getfd,
#endif
#ifdef SYS_open_tree
    SYS_open_tree, SYS_move_mount, SYS_fsopen, SYS_fsconfig, SYS_fsmount, SYS_fspick,
#endif
};

enum { MOST = 2 * (sizeof denied / sizeof *denied) + 96 };

typedef struct filter {
    struct sock_filter code[MOST];
    unsigned short n;
} filter;

static void put(filter *f, unsigned code, uint32_t k, unsigned yes, unsigned no)
{
    f->code[f->n++] = (struct sock_filter){(unsigned short)code, (unsigned char)yes, (unsigned char)no, k};
}

static void load(filter *f, size_t offset)
{
    put(f, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}

static void answer(filter *f, unsigned error)
{
    put(f, BPF_RET | BPF_K, error ? SECCOMP_RET_ERRNO | error : SECCOMP_RET_ALLOW, 0, 0);
}

/* `call` is answered with an error. The number of the call is what is loaded, before and after. */
static void deny(filter *f, unsigned call, unsigned error)
{
    put(f, BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1);
    answer(f, error);
}

/* The low half of an argument. */
static void load_argument(filter *f, unsigned i)
{
    load(f, offsetof(struct seccomp_data, args) + 8 * (size_t)i);
}

/* `call` may only mean this process; 0: for kill its group, for the others itself. */
static void only_self(filter *f, unsigned call, uint32_t self)
{
    put(f, BPF_JMP | BPF_JEQ | BPF_K, call, 0, 5);
    load_argument(f, 0);
    put(f, BPF_JMP | BPF_JEQ | BPF_K, self, 1, 0);
    put(f, BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1);
    answer(f, 0);
    answer(f, EPERM);
}

/* `call` is refused where argument `i` is one of these. */
static void deny_values(filter *f, unsigned call, unsigned i, const uint32_t *value, size_t n)
{
    put(f, BPF_JMP | BPF_JEQ | BPF_K, call, 0, (unsigned)n + 3);
    load_argument(f, i);
    for (size_t k = 0; k < n; k++) put(f, BPF_JMP | BPF_JEQ | BPF_K, value[k], (unsigned)(n - k), 0);
    answer(f, 0);
    answer(f, EPERM);
}

static int lock_calls(void)
{
    static const uint32_t threads = CLONE_THREAD;
    /* keystrokes for whoever reads the terminal next; signals to whomever a descriptor is made over */
    static const uint32_t requests[] = {TIOCSTI, TIOCLINUX, FIOSETOWN, SIOCSPGRP}, owners[] = {F_SETOWN, F_SETOWN_EX, F_SETSIG};
    filter f;
    f.n = 0;
    load(&f, offsetof(struct seccomp_data, arch));
    put(&f, BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0);
    answer(&f, EPERM);
    load(&f, offsetof(struct seccomp_data, nr));
#if defined(__x86_64__)
    put(&f, BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1); /* x32's numbers for the same calls */
    answer(&f, ENOSYS);
#endif
    put(&f, BPF_JMP | BPF_JGE | BPF_K, UNKNOWN, 0, 1); /* setxattrat and what came after it */
    answer(&f, ENOSYS);
    for (size_t i = 0; i < sizeof denied / sizeof *denied; i++) deny(&f, denied[i], EPERM);
#ifdef SYS_clone3
    deny(&f, SYS_clone3, ENOSYS); /* its flags lie in memory; the C library then takes clone */
#endif
    only_self(&f, SYS_kill, (uint32_t)getpid());
    only_self(&f, SYS_tgkill, (uint32_t)getpid());
    only_self(&f, SYS_tkill, (uint32_t)getpid());
    only_self(&f, SYS_prlimit64, (uint32_t)getpid());
    put(&f, BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 4); /* threads, but no processes */
    load_argument(&f, 0);
    put(&f, BPF_JMP | BPF_JSET | BPF_K, threads, 0, 1);
    answer(&f, 0);
    answer(&f, EPERM);
    deny_values(&f, SYS_ioctl, 1, requests, sizeof requests / sizeof *requests);
    deny_values(&f, SYS_fcntl, 1, owners, sizeof owners / sizeof *owners);
    answer(&f, 0);
    const struct sock_fprog program = {f.n, f.code};
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) ? errno : 0;
}

int anm_sandbox_enter(const anm_sandbox_path *path, size_t n, anm_error *err)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1L, 0L, 0L, 0L))
        return anm_fail(err, ANM_ERR_UNSUPPORTED, "this system has no sandbox: %s", strerror(errno));
    int files = lock_files(path, n), calls = lock_calls();
    if (files) return anm_fail(err, ANM_ERR_UNSUPPORTED, "this system has no Landlock: %s", strerror(files));
    if (calls) return anm_fail(err, ANM_ERR_UNSUPPORTED, "this system has no seccomp filters: %s", strerror(calls));
    return 0;
}

#else

int anm_sandbox_enter(const anm_sandbox_path *path, size_t n, anm_error *err)
{
    (void)path;
    (void)n;
    return anm_fail(err, ANM_ERR_UNSUPPORTED, "there is no sandbox in this build");
}

#endif
