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
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>

enum { NONE = 41 }; /* the exit code where there is no sandbox */

static char folder[] = "/tmp/anemone_sandbox_XXXXXX";
static char named[64], other[64], room[64], inside[80], outside[64];

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
    if (WIFEXITED(status) && WEXITSTATUS(status) == NONE) skip();
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

static int talks(void)
{
    int pair[2];
    if (refused(socket(AF_INET, SOCK_STREAM, 0)) || refused(socket(AF_UNIX, SOCK_STREAM, 0))) return 1;
    if (refused(socketpair(AF_UNIX, SOCK_STREAM, 0, pair))) return 2;
    return refused(ioctl(0, TIOCSTI, "x")) ? 3 : 0;
}

static void *in_thread(void *ctx)
{
    *(int *)ctx = opens() || starts() || talks();
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
    return opens() || starts() || talks();
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
