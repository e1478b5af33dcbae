/* SPDX-License-Identifier: BSD-3-Clause */
/* What is given up is refused, what was named stays: each seen by a child that locked itself in. */
#define _GNU_SOURCE
#include "test.h"

#include "base/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__linux__)
#include <linux/sockios.h>
#include <sched.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/xattr.h>

enum { NONE = 41 }; /* the exit code where there is no sandbox */

static char folder[] = "/tmp/anemone_sandbox_XXXXXX";
static char named[64], other[64], room[64], inside[80], outside[64];

/* Do the build and the system have both halves, by their own word? A sandbox that fails all the same is no reason to skip. */
static bool system_has_it(void)
{
    if (TEST_SANITIZED) return false;
    return syscall(444, NULL, 0L, 1L) >= 1 && prctl(PR_GET_SECCOMP, 0L, 0L, 0L, 0L) >= 0; /* 444: landlock_create_ruleset */
}

/* In a child that has locked itself in: what `what` says (0: all is as it should be). */
static void in_child(int (*what)(void))
{
    pid_t id = fork();
    if (!id) {
        anm_error err;
        const anm_sandbox_path keep[] = {{named, false}, {room, true}, {"/does/not/exist", false}};
        if (anm_sandbox_enter(keep, 3, &err)) _exit(NONE);
        _exit(what());
    }
    int status;
    assert_int_equal(waitpid(id, &status, 0), id);
    if (WIFEXITED(status) && WEXITSTATUS(status) == NONE && !system_has_it()) skip();
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static int refused(long answer)
{
    return answer < 0 && (errno == EPERM || errno == EACCES) ? 0 : 1;
}

static int opens(void)
{
    if (open(named, O_RDONLY) < 0) return 1;
    if (refused(open(named, O_WRONLY)) || refused(open(named, O_RDONLY | O_TRUNC))) return 2;
    if (refused(open(other, O_RDONLY)) || refused(open("/etc/passwd", O_RDONLY)) || refused(open("/", O_RDONLY | O_DIRECTORY))) return 3;
    if (refused(open(outside, O_WRONLY | O_CREAT, 0600)) || refused(unlink(other)) || refused(rename(other, outside))) return 4;
    if (refused(mkdir(outside, 0700)) || refused(symlink("x", outside)) || refused(truncate(named, 0)) || refused(link(named, outside))) return 5;
    return open("/dev/urandom", O_RDONLY) < 0 ? 6 : 0;
}

static int writes(void)
{
    char again[96];
    snprintf(again, sizeof again, "%s2", inside);
    int fd = open(inside, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (fd < 0 || write(fd, "x", 1) != 1 || ftruncate(fd, 0) || fsync(fd)) return 1;
    if (rename(inside, again) || unlink(again)) return 2;
    return refused(rename(named, again)) ? 3 : 0;
}

static int starts(void)
{
    char *const argv[] = {(char *)"true", NULL};
    if (refused(execv("/bin/true", argv)) || refused(fork()) || refused(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0))) return 1;
    if (refused(ptrace(PTRACE_TRACEME, 0, NULL, NULL)) || refused(kill(getppid(), 0))) return 2;
    if (refused(kill(1, 0)) || kill(getpid(), 0) || kill(0, 0)) return 3;
    return 0;
}

/* What is no opening: Landlock has no say in it. */
static int changes(void)
{
    int fd = open(named, O_RDONLY);
    const struct timespec now[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
    if (fd < 0) return 1;
    if (refused(chmod(other, 0777)) || refused(fchmod(fd, 0777)) || refused(fchmodat(AT_FDCWD, other, 0777, 0))) return 2;
    if (refused(syscall(452, AT_FDCWD, other, 0777, 0))) return 3; /* fchmodat2 */
    if (refused(chown(other, getuid(), getgid())) || refused(fchown(fd, getuid(), getgid())) || refused(lchown(other, getuid(), getgid()))) return 4;
    if (refused(utimensat(AT_FDCWD, other, now, 0)) || refused(futimens(fd, now))) return 5;
#ifdef SYS_utimes
    if (refused(syscall(SYS_utime, other, NULL)) || refused(syscall(SYS_utimes, other, NULL)) || refused(syscall(SYS_futimesat, AT_FDCWD, other, NULL)))
        return 6;
#endif
    if (refused(setxattr(other, "user.x", "x", 1, 0)) || refused(fsetxattr(fd, "user.x", "x", 1, 0))) return 7;
    if (refused(removexattr(other, "user.x")) || refused(lremovexattr(other, "user.x")) || refused(fremovexattr(fd, "user.x"))) return 8;
    if (refused(getxattr(other, "user.x", NULL, 0)) || refused(listxattr(other, NULL, 0)) || refused(inotify_add_watch(fd, room, IN_CREATE))) return 9;
    for (long call = 463; call < 520; call++) /* setxattrat, removexattrat, and what there will be */
        if (syscall(call, AT_FDCWD, other, 0, "user.x", NULL, 0) != -1 || errno != ENOSYS) return 10;
    if (refused(fcntl(fd, F_SETOWN, getppid())) || refused(fcntl(fd, F_SETSIG, SIGTERM)) || refused(ioctl(fd, FIOSETOWN, &fd))) return 11;
    return fcntl(fd, F_GETFL) < 0 ? 12 : 0;
}

static int shares(void)
{
    struct rlimit limit;
    struct sched_param normal = {0};
    cpu_set_t set;
    siginfo_t info = {.si_code = SI_QUEUE};
    pid_t parent = getppid();
    if (refused(syscall(SYS_prlimit64, parent, RLIMIT_CORE, NULL, &limit))) return 1;
    if (syscall(SYS_prlimit64, 0, RLIMIT_CORE, NULL, &limit) || getrlimit(RLIMIT_STACK, &limit)) return 2;
    if (refused(setpriority(PRIO_PROCESS, (id_t)parent, 0)) || refused(syscall(SYS_ioprio_set, 1, parent, 4 << 13))) return 3;
    if (sched_getaffinity(0, sizeof set, &set) || refused(sched_setaffinity(parent, sizeof set, &set))) return 4;
    if (refused(sched_setscheduler(parent, SCHED_OTHER, &normal)) || refused(sched_setparam(parent, &normal))) return 5;
    if (refused(syscall(SYS_sched_setattr, parent, &(uint32_t[14]){56}, 0))) return 6;
    if (refused(syscall(SYS_rt_sigqueueinfo, parent, 0, &info)) || refused(syscall(SYS_rt_tgsigqueueinfo, parent, parent, 0, &info))) return 7;
    if (refused(shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600)) || refused(semget(IPC_PRIVATE, 1, IPC_CREAT | 0600)) || refused(msgget(IPC_PRIVATE, IPC_CREAT | 0600)))
        return 8;
    if (refused((long)shmat(0, NULL, 0)) || refused(shmctl(0, IPC_RMID, NULL)) || refused(msgctl(0, IPC_RMID, NULL))) return 9;
    return refused(syscall(SYS_mq_open, "anemone", O_CREAT | O_RDWR, 0600, NULL)) || refused(syscall(SYS_mq_unlink, "anemone")) ? 10 : 0;
}

static int talks(void)
{
    int pair[2];
    if (refused(socket(AF_INET, SOCK_STREAM, 0)) || refused(socket(AF_UNIX, SOCK_STREAM, 0))) return 1;
    if (refused(socketpair(AF_UNIX, SOCK_STREAM, 0, pair))) return 2;
    return refused(ioctl(0, TIOCSTI, "x")) ? 3 : 0;
}

static void *in_thread(void *ctx)
{
    *(int *)ctx = opens() || changes() || shares() || starts() || talks();
    return NULL;
}

/* Threads can be made, and are locked in as well. */
static int threads(void)
{
    pthread_t t;
    int bad = 1;
    if (pthread_create(&t, NULL, in_thread, &bad) || pthread_join(t, NULL)) return 1;
    return bad ? 2 : 0;
}

/* It cannot be undone by doing it again. */
static int again(void)
{
    anm_error err;
    const anm_sandbox_path all = {"/", true};
    if (anm_sandbox_enter(&all, 1, &err)) return 1;
    return opens() || changes() || shares() || starts() || talks();
}

static void only_named_files_open(void **state)
{
    (void)state;
    in_child(opens);
}
static void files_are_made_only_where_that_was_named(void **state)
{
    (void)state;
    in_child(writes);
}
static void no_program_is_started_and_no_process_reached(void **state)
{
    (void)state;
    in_child(starts);
}
static void no_file_is_changed_by_other_ways(void **state)
{
    (void)state;
    in_child(changes);
}
static void nothing_is_shared_with_other_processes(void **state)
{
    (void)state;
    in_child(shares);
}
static void there_is_no_network(void **state)
{
    (void)state;
    in_child(talks);
}
static void threads_are_locked_in_too(void **state)
{
    (void)state;
    in_child(threads);
}
static void it_cannot_be_undone(void **state)
{
    (void)state;
    in_child(again);
}

static void make_file(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0);
    close(fd);
}

static int set_up(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(named, sizeof named, "%s/named", folder);
    snprintf(other, sizeof other, "%s/other", folder);
    snprintf(outside, sizeof outside, "%s/new", folder);
    snprintf(room, sizeof room, "%s/room", folder);
    snprintf(inside, sizeof inside, "%s/new", room);
    make_file(named);
    make_file(other);
    return mkdir(room, 0700);
}

static int tear_down(void **state)
{
    (void)state;
    return unlink(named) | unlink(other) | rmdir(room) | rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_named_files_open),
        cmocka_unit_test(files_are_made_only_where_that_was_named),
        cmocka_unit_test(no_program_is_started_and_no_process_reached),
        cmocka_unit_test(no_file_is_changed_by_other_ways),
        cmocka_unit_test(nothing_is_shared_with_other_processes),
        cmocka_unit_test(there_is_no_network),
        cmocka_unit_test(threads_are_locked_in_too),
        cmocka_unit_test(it_cannot_be_undone),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

#else

static void there_is_none_here(void **state)
{
    (void)state;
    anm_error err;
    assert_int_equal(anm_sandbox_enter(NULL, 0, &err), ANM_ERR_UNSUPPORTED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(there_is_none_here)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#endif
