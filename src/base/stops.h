/* SPDX-License-Identifier: BSD-3-Clause */
/* The signals that end a program politely: the command line handles them, and threads of a pool leave them to the thread
 * that makes files. */
#ifndef ANM_BASE_STOPS_H
#define ANM_BASE_STOPS_H

#include <signal.h>

static const int anm_stops[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGXCPU};
enum { ANM_N_STOPS = sizeof anm_stops / sizeof *anm_stops };

#endif
