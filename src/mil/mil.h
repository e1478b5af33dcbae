/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The graph that both roads meet in: a program in the Model Intermediate Language (MIL) of Core ML.
 *
 *   program -> functions -> ops in order of execution -> values
 *
 * The exporter builds it (mil/build), the package reader fills it, the package writer, printer, verifier,
 * passes, interpreter and engine walk it. Every value is made once (SSA): by the function's signature, by one
 * op, or as a constant. Constants are values and not ops here; the package writer makes `const` ops of them
 * where the format wants it, the reader folds those back.
 *
 * Everything lives in the program's arena and is freed with it. The op set is in ops.def.
 * Format: apple/coremltools, mlmodel/format/MIL.proto; op semantics: coremltools'
 * converters/mil/mil/ops/defs.
 */
#ifndef ANM_MIL_MIL_H
#define ANM_MIL_MIL_H

#include "base/arena.h"
#include "base/dtype.h"
#include "base/error.h"

#include <stdbool.h>

enum { ANM_MIL_MAX_RANK = 8 };
#define ANM_MIL_UNKNOWN_DIM (-1) /* a dimension that is not known before the program runs */

/* The type of a value: a tensor of `rank` dimensions; rank 0 is a scalar (also of strings). */
typedef struct anm_mil_type {
    anm_dtype dtype;
    int32_t rank;
    int64_t dim[ANM_MIL_MAX_RANK];
} anm_mil_type;

/* The opcodes: ANM_OP_MUL, …; ANM_OP_FOREIGN stands for an op of another's file that ops.def does not have.
 */
typedef enum anm_mil_opcode {
    ANM_OP_FOREIGN = 0,
#define ANM_OP(id, name, params, infer) ANM_OP_##id,
#include "mil/ops.def"
#undef ANM_OP
    ANM_OP_COUNT
} anm_mil_opcode;

/* The names of ops' parameters, over all ops: ANM_P_X, …  */
typedef enum anm_mil_param {
    ANM_P_END = 0,
#define ANM_PARAM(id, name) ANM_P_##id,
#include "mil/ops.def"
#undef ANM_PARAM
    ANM_P_COUNT
} anm_mil_param;

const char *anm_mil_op_name(anm_mil_opcode op);
anm_mil_opcode anm_mil_op_of_name(const char *name);   /* ANM_OP_FOREIGN when there is none */
const char *anm_mil_param_name(anm_mil_param p);       /* "end" for ANM_P_END_INDEX; "?" for ANM_P_END */
anm_mil_param anm_mil_param_of_name(const char *name); /* ANM_P_END when there is none */

/* What ops.def says of one parameter of an op. */
typedef struct anm_mil_slot {
    anm_mil_param param;
    bool optional; /* may be left out */
    bool list;     /* takes several values */
} anm_mil_slot;

/* The parameters of `op` in their order; the number of them (0 for ANM_OP_FOREIGN). */
enum { ANM_MIL_MAX_SLOTS = 8 };
int anm_mil_op_slots(anm_mil_opcode op, const anm_mil_slot **slots);

/* The bytes of a constant: here (`data`), or made later by whoever writes the file (`source`, see quant/).
 * 4-bit values are packed two in a byte, low half first; a bool is a byte; a string its characters. All
 * little-endian, any alignment: weights are used where they lie in a mapped file. */
typedef struct anm_blob {
    uint64_t size;       /* bytes */
    const uint8_t *data; /* not owned; NULL while `source` has not made them */
    const void *source;  /* opaque to the graph */
    uint32_t part;       /* which of the things that `source` makes */
    bool in_file;        /* written to the weight file, not into the graph's own text */
    uint64_t offset;     /* where a reader found it: the metadata's offset in the weight file, for people */
} anm_blob;

struct anm_mil_op;

typedef struct anm_mil_value {
    const char *name; /* unique in its function */
    anm_mil_type type;
    struct anm_mil_op *def;   /* the op that makes it, or NULL (an input or a constant) */
    const anm_blob *constant; /* a constant's bytes, or NULL */
    uint32_t id;              /* dense, from 0, unique in its function: an index for side tables */
} anm_mil_value;

/* What one parameter of an op is bound to: a value, or several for a list parameter (`values` of concat). */
typedef struct anm_mil_arg {
    anm_mil_param param; /* ANM_P_END: one of a foreign op's that ops.def does not name: */
    uint32_t count;
    anm_mil_value **value;
    const char *foreign; /* … its name */
} anm_mil_arg;

typedef struct anm_mil_op {
    anm_mil_opcode code;
    const char *foreign; /* the type's name when code is ANM_OP_FOREIGN */
    uint32_t n_args, n_outs;
    anm_mil_arg *args;    /* in the order of ops.def's parameters (a foreign op's: as they came) */
    anm_mil_value **outs; /* most ops have one */
    struct anm_mil_op *prev, *next;
} anm_mil_op;

typedef struct anm_mil_function {
    struct anm_mil_program *program;
    const char *name;  /* "main", "forward", "prefill" */
    const char *opset; /* "CoreML8" */
    uint32_t n_inputs, n_outputs, n_values;
    anm_mil_value **inputs, **outputs;
    anm_mil_op *first, *last;
    struct anm_mil_function *next;
    struct anm_mil_names *names; /* of its values, once a name had to be made unique (build.c) */
    bool distinct; /* its reader has seen that each value has a name of its own; until a value is made */
} anm_mil_function;

typedef struct anm_mil_program {
    anm_arena arena; /* holds all of it */
    anm_mil_function *functions;
} anm_mil_program;

/* ---- types ---- */

anm_mil_type anm_mil_scalar(anm_dtype t);
anm_mil_type anm_mil_tensor(anm_dtype t, int rank, const int64_t *dim);
bool anm_mil_type_equal(const anm_mil_type *a,
                        const anm_mil_type *b); /* an unknown dimension equals only itself */
bool anm_mil_type_known(const anm_mil_type *t); /* no unknown dimension */
/* The product of all dimensions; false when one is unknown or negative, or the product overflows int64. */
bool anm_mil_type_count(const anm_mil_type *t, int64_t *count);
/* "fp16[1,16,128]", "int32[]", "fp16[?,16]". Writes at most `n` bytes and a 0; returns `out`. */
const char *anm_mil_type_print(const anm_mil_type *t, char *out, size_t n);

/* ---- building ----
 *
 * A builder appends to one function. It fails once and stays failed (its `err` holds the first reason), and
 * then hands out a harmless value, so that graph code reads as a list of ops and is checked once at its end.
 * The type of every result is inferred (mil/infer.h): a graph that does not type is refused where it is
 * built. */

typedef struct anm_mil_builder {
    anm_mil_function *fn;
    anm_mil_op *before;   /* ops are put before this one; NULL: at the end */
    anm_error err;        /* err.code is 0 while all is well */
    anm_mil_value failed; /* what a failed builder hands out */
} anm_mil_builder;

void anm_mil_program_init(anm_mil_program *p);
void anm_mil_program_free(anm_mil_program *p);
anm_mil_function *anm_mil_function_new(anm_mil_program *p, const char *name,
                                       const char *opset); /* NULL: no memory */
anm_mil_function *anm_mil_function_find(const anm_mil_program *p, const char *name);

anm_mil_builder anm_mil_build(anm_mil_function *fn);

anm_mil_value *anm_mil_input(anm_mil_builder *b, const char *name, anm_mil_type type);
void anm_mil_output(anm_mil_builder *b, anm_mil_value *v);

/* Appends an op with one result (NULL name: the op's). The arguments are pairs (anm_mil_param, anm_mil_value
 * *) and end with ANM_P_END; a NULL value leaves that parameter out. `name` becomes the result's name, made
 * unique with a number if need be. */
anm_mil_value *anm_mil_emit(anm_mil_builder *b, anm_mil_opcode op, const char *name, ...);

/* As anm_mil_emit for the ops whose `param` takes a list of `n` values (concat, stack); the pairs follow. */
anm_mil_value *anm_mil_emit_list(anm_mil_builder *b, anm_mil_opcode op, const char *name, anm_mil_param param,
                                 uint32_t n, anm_mil_value *const *list, ...);

/* As anm_mil_emit for ops with several results (split): their names are `name` with a number. The results are
 * put in outs[0 … n_outs). */
void anm_mil_emit_outs(anm_mil_builder *b, anm_mil_opcode op, const char *name, uint32_t n_outs,
                       anm_mil_value **outs, ...);

/* The general form, for readers: any arguments, results with given types (not inferred; verify later). `args`
 * and `outs` are copied. `foreign` names the op when code is ANM_OP_FOREIGN. NULL when memory is out. */
anm_mil_op *anm_mil_append(anm_mil_function *fn, anm_mil_op *before, anm_mil_opcode code, const char *foreign,
                           uint32_t n_args, const anm_mil_arg *args, uint32_t n_outs,
                           anm_mil_value *const *outs);
/* A value of the function with no definition yet; `name` is copied (NULL: "vN"). NULL when memory is out. */
anm_mil_value *anm_mil_value_new(anm_mil_function *fn, const char *name, anm_mil_type type);

/* An input whose name the caller has seen to be new, as anm_mil_value_new makes values. NULL: no memory. */
anm_mil_value *anm_mil_input_new(anm_mil_function *fn, const char *name, anm_mil_type type);

/* A value whose name comes later, and a name for it: "v" and its id. For readers, which must not take a
 * name that another value further down has. NULL, false: no memory. */
anm_mil_value *anm_mil_value_unnamed(anm_mil_function *fn, anm_mil_type type);
bool anm_mil_value_number(anm_mil_function *fn, anm_mil_value *v);

/* Constants. Bytes are copied into the arena but for anm_mil_const_blob, which keeps `blob`'s pointers. */
anm_mil_value *anm_mil_const_i32(anm_mil_builder *b, int32_t v);
anm_mil_value *anm_mil_const_i32s(anm_mil_builder *b, int n, const int64_t *v);
anm_mil_value *anm_mil_const_bool(anm_mil_builder *b, bool v);
anm_mil_value *anm_mil_const_bools(anm_mil_builder *b, int n, const bool *v);
anm_mil_value *anm_mil_const_float(anm_mil_builder *b, anm_dtype t, float v); /* F16 (rounded) or F32 */
anm_mil_value *anm_mil_const_string(anm_mil_builder *b, const char *s);
anm_mil_value *anm_mil_const_blob(anm_mil_builder *b, const char *name, anm_mil_type type, anm_blob blob);

/* ---- reading and rewriting ---- */

/* The value of that name (constants count once they are used), or NULL. */
anm_mil_value *anm_mil_value_find(anm_mil_function *fn, const char *name);

/* The value bound to `p`, or NULL. For a list parameter: the first one. */
anm_mil_value *anm_mil_arg_of(const anm_mil_op *op, anm_mil_param p);
const anm_mil_arg *anm_mil_args_of(const anm_mil_op *op, anm_mil_param p); /* the whole binding, or NULL */

/* Constants' values; false (and *out untouched) when `v` is not a constant of that kind with bytes at hand.
 */
bool anm_mil_get_i64(const anm_mil_value *v, int64_t *out); /* any integer scalar, or one element */
bool anm_mil_get_i64s(const anm_mil_value *v, int64_t *out, int max,
                      int *n); /* any integer tensor up to max */
bool anm_mil_get_bool(const anm_mil_value *v, bool *out);
bool anm_mil_get_f32(const anm_mil_value *v, float *out); /* F16 or F32 scalar, or one element */
bool anm_mil_get_string(const anm_mil_value *v, const char **s, size_t *n);

/* Each argument v of the op with to[v->id] becomes that. For one walk that replaces many values: `to`, of fn->n_values places,
 * is filled as the walk goes (NULL: the value itself stays), and followed by each op that it comes to. */
void anm_mil_replace_args(anm_mil_op *op, anm_mil_value *const *to);
/* Takes the op out of its function; its results must have no uses left. */
void anm_mil_remove(anm_mil_function *fn, anm_mil_op *op);

/* ---- the type rules (infer.h) ---- */

/* The types of the op's results from its arguments' types and constant arguments: outs[0 … n_outs). Fails
 * with the rule that is broken, e.g. "linear: x has 128 columns, weight 64". ANM_ERR_UNSUPPORTED for
 * ANM_OP_FOREIGN. */
int anm_mil_infer(anm_mil_type *outs, const anm_mil_op *op, anm_error *err);

/* ---- checking (verify.c) ---- */

/* Every rule that later stages trust: unique names (where no reader has seen to that), each value defined before its use, arguments that ops.def
 * allows and none missing, types as inferred (a declared unknown dimension admits any), constants whose bytes
 * have the size of their type, no product of dimensions that overflows. Ops that are not in ops.def are
 * allowed (their results are taken as declared) unless `strict`. */
int anm_mil_verify(const anm_mil_program *p, bool strict, anm_error *err);

/* ---- text (print.c, parse.c), pictures (dot.c) ---- */

struct anm_buf;

/* The program as text that anm_mil_parse reads back to an equal program:
 *
 *     func main(%tokens: int32[1,16]) -> (%h) opset "CoreML8" {
 *       %table: fp16[512,128] = weight(@64)                         # in the weight file; const(…) when it is
 * not %e: fp16[1,16,128] = gather(x=%table, indices=%tokens, axis=0) %n: fp16[1,16,1] = reduce_mean(x=%e,
 * axes=[-1], keep_dims=true) %a: fp16[1,16,1] = add(x=%n, y=fp16(1e-05)) %h: fp16[2,16,1] =
 * concat(values=(%n, %a), axis=0)
 *     }
 *
 * Constants of up to 64 bytes and all scalars stand inline (-1, [1,2], true, [true,false], "text" are int32,
 * bool and string; else the type and the values in parentheses). Larger ones and those of the weight file are
 * named on a line before their first use: with their bytes as hex when `with_data`, else as @offset, which
 * parses to a constant of that type without bytes. Names with other characters than letters, digits, _ and .
 * are quoted; # begins a comment. */
int anm_mil_print(struct anm_buf *out, const anm_mil_program *p, bool with_data, anm_error *err);
int anm_mil_print_function(struct anm_buf *out, const anm_mil_function *fn, bool with_data, anm_error *err);

/* Reads text into `p` (initialised by the call, freed by the caller also after a failure). Errors name line
 * and column. Only the text is checked (each value defined once and before its use, numbers that fit their
 * type); verify next. */
int anm_mil_parse(anm_mil_program *p, const char *text, size_t n, anm_error *err);

int anm_mil_dot(struct anm_buf *out, const anm_mil_function *fn, anm_error *err);

/* ---- comparing (equal.c) ---- */

/* Are two functions, which must verify, the same dataflow graph? Names (also the function's and the opset's), the order
 * of independent ops, repeated constants and where a constant is kept are free; op types, how often an op occurs,
 * operands, attribute values, types and constants' bytes are not (constants without bytes are told apart by where
 * those will come from). 0 and *same; when not the same, `where` says in words the first place at which they part,
 * walking down from the first differing output. */
int anm_mil_equal(bool *same, struct anm_buf *where, const anm_mil_function *a, const anm_mil_function *b,
                  anm_error *err);

/* ---- the plain interpreter (interp.c): the truth ---- */

/* A tensor in memory: floats as fp32 (whatever the declared float type), integers and bools as int32. */
typedef struct anm_mil_array {
    anm_mil_type type; /* every dimension known */
    union {
        float *f;
        int32_t *i;
    };
} anm_mil_array;

struct anm_pool;

/* Numbers of `bits` bits (2 … 24, a sign among them) with an fp32 scale for every `block` of them. */
typedef struct anm_rounding {
    int32_t bits, block; /* bits 0: not rounded */
} anm_rounding;

typedef struct anm_mil_interp_opts {
    bool round_fp16; /* round inputs and each result to their declared type: what an fp16 device could do at
                        best */
    /* Called after each op (but for those that decode weights) with its first result, e.g. to collect
     * magnitudes; may be NULL. */
    void (*after)(void *ctx, const anm_mil_op *op, const anm_mil_array *result);
    void *ctx;
    struct anm_pool *pool; /* linear runs on it; may be NULL. Results do not depend on it. */
    int64_t most;          /* elements that a result may have (else ANM_ERR_LIMIT); 0: as many as memory holds */
    anm_rounding linear;   /* what linear's inputs are rounded to, in blocks from the beginning of each row */
} anm_mil_interp_opts;

/* Runs `fn`, which must verify, on inputs in the order of its signature. Results are allocated with malloc,
 * in the order of its outputs: free each with anm_mil_array_free (after a failure there are none). Weights
 * are scale times integer, rounded to the declared type; everything else is computed in fp32 (inside an op,
 * sums in fp64) unless round_fp16. A value's memory goes back after its last use; weights are decoded piece
 * by piece where they are used, and never held. A row of linear, matmul or attention does not depend on the
 * rows beside it. Fails where the program cannot say what it means: an index outside its table
 * (ANM_ERR_LIMIT), inputs or computed shapes that are not of the declared type (ANM_ERR_USAGE), an op that
 * ops.def does not have (ANM_ERR_UNSUPPORTED). */
int anm_mil_interp(anm_mil_array *outputs, const anm_mil_function *fn, const anm_mil_array *inputs,
                   const anm_mil_interp_opts *opts, anm_error *err);
void anm_mil_array_free(anm_mil_array *a);

#endif
