/* SPDX-License-Identifier: BSD-3-Clause */
/* MIL text: what is accepted and verified prints as text that reads back to the same program. */
#include "fuzz.h"

#include "base/buf.h"
#include "mil/mil.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void expect(int ok, const char *what)
{
    if (ok) return;
    fprintf(stderr, "%s\n", what);
    abort();
}

static void round_trip(const anm_mil_program *p)
{
    anm_mil_program again;
    anm_buf text = {0}, second = {0};
    anm_error err;
    if (anm_mil_print(&text, p, true, &err) == 0) {
        expect(anm_mil_parse(&again, (const char *)text.data, text.size, &err) == 0, err.text);
        expect(anm_mil_verify(&again, false, &err) == 0, err.text);
        expect(anm_mil_print(&second, &again, true, &err) == 0, err.text);
        expect(second.size == text.size && (!text.size || !memcmp(second.data, text.data, text.size)),
               "printed, read back and printed again: another text");
        anm_mil_program_free(&again);
    }
    anm_buf_free(&text);
    anm_buf_free(&second);
}

const bool fuzz_bounded = true;

void fuzz_one(const uint8_t *data, size_t size)
{
    anm_mil_program p;
    anm_error err;
    if (anm_mil_parse(&p, (const char *)data, size, &err) == 0) {
        fuzz_read_program(&p);
        fuzz_limit_end();
        if (anm_mil_verify(&p, false, &err) == 0) round_trip(&p);
    }
    anm_mil_program_free(&p);
}
