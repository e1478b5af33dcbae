/* SPDX-License-Identifier: BSD-3-Clause */
/* Makes a C source of a file's bytes, while the project is built: embed INPUT OUTPUT.c NAME gives NAME[] and NAME_size. */
#include <stdio.h>

int main(int argc, char **argv)
{
    FILE *in = argc == 4 ? fopen(argv[1], "rb") : NULL, *out = in ? fopen(argv[2], "wb") : NULL;
    unsigned long n = 0;
    int c;
    if (!out) {
        fprintf(stderr, "usage: embed INPUT OUTPUT.c NAME\n");
        return 1;
    }
    fprintf(out, "extern const unsigned char %s[];\nextern const unsigned long %s_size;\nconst unsigned char %s[] = {", argv[3], argv[3], argv[3]);
    for (; (c = getc(in)) != EOF; n++) fprintf(out, "%s%d,", n % 32 ? "" : "\n", c);
    fprintf(out, "0};\nconst unsigned long %s_size = %lu;\n", argv[3], n);
    return ferror(in) || fclose(out) ? 1 : 0;
}
