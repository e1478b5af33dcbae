/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Fault injection from outside: the program runs as a child, something goes wrong at one chosen point, and whatever is
 * seen afterwards (exit code, messages, files) is judged.
 */
#ifndef ANM_TEST_FAULTS_H
#define ANM_TEST_FAULTS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { MOST_ARGS = 24 };

/* What goes wrong in a run. */
typedef struct fault {
    enum { FAULT_NONE, FAULT_ALLOCATION, FAULT_SYSTEM_CALL, FAULT_SIGNAL } kind;
    uint64_t at;           /* the N-th allocation or system call; for a signal, nanoseconds after the start */
    bool sticky;           /* allocations: all later ones fail, too */
    int signal;
} fault;

/* What was seen. */
typedef struct outcome {
    int code;              /* exit code, or -1 */
    int signal;            /* that ended it, or 0 */
    bool hung;
    uint64_t calls;        /* allocations or system calls counted; 0 where the program could not report */
    uint64_t held;         /* blocks still allocated at the end */
    bool counted;
    long call;             /* the system call that failed, and its first argument */
    long argument;
} outcome;

/* Runs argv in the current folder with standard output and error in the files named. */
void fault_run(outcome *out, char *const argv[], const fault *f, const char *shim, const char *to, const char *errors);

/* The same, where a system call fails: by ptrace. False when this machine does not let us. */
bool fault_run_traced(outcome *out, char *const argv[], const fault *f, const char *to, const char *errors);
bool fault_can_trace(void);
/* Where it is set, fault_run_traced calls it for every file that the program asks for once it has begun. */
extern void (*fault_asked_for)(const char *path);
const char *fault_call_name(long call);

/* Starts argv as both do; returns the child's id. Before it becomes the program, the child calls `prepare`. */
pid_t fault_start(char *const argv[], const char *to, const char *errors, void (*prepare)(const void *), const void *ctx);

/* A number for what lies at `path`: a file's bytes, or a folder's tree. 0: nothing is there. */
uint64_t fault_fingerprint(const char *path);
void fault_remove(const char *path); /* with all that is below it */

#endif
