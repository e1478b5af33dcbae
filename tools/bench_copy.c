/* SPDX-License-Identifier: BSD-3-Clause */
/* The yardstick of tools/bench_export.py: reads a file and writes as many bytes as wanted, and does nothing else.
 * usage: bench_copy IN OUT BYTES [sync] */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CHUNK = 1 << 20 };

int main(int argc, char **argv)
{
    if (argc < 4) return 2;
    static char buffer[CHUNK];
    int in = open(argv[1], O_RDONLY), out = open(argv[2], O_WRONLY | O_CREAT | O_TRUNC, 0666);
    long long left = atoll(argv[3]);
    ssize_t n;
    if (in < 0 || out < 0) return 1;
    while ((n = read(in, buffer, CHUNK)) > 0) {
        ssize_t put = left < n ? (ssize_t)left : n;
        if (write(out, buffer, (size_t)put) != put) return 1;
        left -= put;
    }
    if (n < 0 || left) return 1;
    if (argc > 4 && !strcmp(argv[4], "sync") && fsync(out)) return 1;
    return close(out) ? 1 : 0;
}
