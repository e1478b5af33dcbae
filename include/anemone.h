/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * anemone: Llama models for Apple's Neural Engine, and the same files run anywhere.
 *
 * The one public header. Everything is prefixed anm_ (functions, types) or ANM_ (constants).
 * Functions return 0 or a negative enum anm_code; the reason stands in the caller's anm_error.
 */
#ifndef ANEMONE_H
#define ANEMONE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum anm_code {
    ANM_OK = 0,
    ANM_ERR_USAGE = -1,       /* the call or the command's words are off */
    ANM_ERR_IO = -2,          /* the system refused a file operation */
    ANM_ERR_FORMAT = -3,      /* a file is malformed */
    ANM_ERR_UNSUPPORTED = -4, /* well-formed, but something that anemone does not do; named in the text */
    ANM_ERR_MEMORY = -5,      /* an allocation failed */
    ANM_ERR_LIMIT = -6,       /* a context, vocabulary or size bound was reached */
    ANM_ERR_STOPPED = -7,     /* a callback or a signal asked to stop */
};

#define ANM_NO_OFFSET UINT64_MAX

/* Why a call failed. The caller owns it; one line of text, ready to print. */
typedef struct anm_error {
    int code;        /* enum anm_code */
    uint64_t offset; /* where in the file, in bytes; ANM_NO_OFFSET where that has no meaning */
    char text[504];
} anm_error;

/* The version of the library, "MAJOR.MINOR.PATCH". */
const char *anm_version(void);

#ifdef __cplusplus
}
#endif

#endif
