/* SPDX-License-Identifier: BSD-3-Clause */
#include "ckpt/pickle.h"

#include "base/bytes.h"
#include "ckpt/text.h"

#include <stdlib.h>
#include <string.h>

/* ---- what a pickle may name ---- */

typedef enum role {
    REBUILD_TENSOR,       /* (storage, offset, size, stride, requires_grad, hooks[, metadata]) */
    REBUILD_TENSOR_TYPED, /* the same with a dtype after the hooks */
    REBUILD_PARAMETER,    /* (tensor, requires_grad, hooks) */
    ORDERED_DICT,         /* () */
    SIZE,                 /* (tuple of integers) */
    STORAGE_TYPE,         /* named in a storage's id, never called */
    DTYPE,                /* an argument, never called */
} role;

struct anm_pickle_global {
    const char *module, *name;
    role role;
    anm_dtype dtype;
};

static const struct anm_pickle_global globals[] = {
    {"torch._utils", "_rebuild_tensor_v2", REBUILD_TENSOR, 0},
    {"torch._utils", "_rebuild_tensor_v3", REBUILD_TENSOR_TYPED, 0},
    {"torch._utils", "_rebuild_parameter", REBUILD_PARAMETER, 0},
    {"collections", "OrderedDict", ORDERED_DICT, 0},
    {"torch", "Size", SIZE, 0},
    {"torch", "FloatStorage", STORAGE_TYPE, ANM_DT_F32},
    {"torch", "HalfStorage", STORAGE_TYPE, ANM_DT_F16},
    {"torch", "BFloat16Storage", STORAGE_TYPE, ANM_DT_BF16},
    {"torch", "DoubleStorage", STORAGE_TYPE, ANM_DT_F64},
    {"torch", "LongStorage", STORAGE_TYPE, ANM_DT_I64},
    {"torch", "IntStorage", STORAGE_TYPE, ANM_DT_I32},
    {"torch", "ShortStorage", STORAGE_TYPE, ANM_DT_I16},
    {"torch", "CharStorage", STORAGE_TYPE, ANM_DT_I8},
    {"torch", "ByteStorage", STORAGE_TYPE, ANM_DT_U8},
    {"torch", "BoolStorage", STORAGE_TYPE, ANM_DT_BOOL},
    {"torch.storage", "UntypedStorage", STORAGE_TYPE, ANM_DT_NONE},
    {"torch", "float32", DTYPE, ANM_DT_F32},
    {"torch", "float16", DTYPE, ANM_DT_F16},
    {"torch", "bfloat16", DTYPE, ANM_DT_BF16},
    {"torch", "float64", DTYPE, ANM_DT_F64},
    {"torch", "int64", DTYPE, ANM_DT_I64},
    {"torch", "int32", DTYPE, ANM_DT_I32},
    {"torch", "int16", DTYPE, ANM_DT_I16},
    {"torch", "int8", DTYPE, ANM_DT_I8},
    {"torch", "uint8", DTYPE, ANM_DT_U8},
    {"torch", "uint16", DTYPE, ANM_DT_U16},
    {"torch", "uint32", DTYPE, ANM_DT_U32},
    {"torch", "uint64", DTYPE, ANM_DT_U64},
    {"torch", "bool", DTYPE, ANM_DT_BOOL},
};

/* ---- the machine ---- */

typedef struct machine {
    anm_rd in;
    anm_arena *arena;
    anm_error *err;
    anm_pickle **stack, **memo; /* these three are freed at the end; values stay in the arena */
    size_t depth, stack_room, memo_count, memo_room;
    size_t *mark; /* depths of the stack */
    size_t marks, mark_room;
} machine;

static anm_pickle none_value = {.kind = ANM_PICKLE_NONE}; /* never written to */
static anm_pickle true_value = {.kind = ANM_PICKLE_BOOL, .i = 1};
static anm_pickle false_value = {.kind = ANM_PICKLE_BOOL, .i = 0};

static int bad(machine *m, const char *what)
{
    return anm_fail_at(m->err, ANM_ERR_FORMAT, m->in.pos, "the pickle is malformed: %s, before its byte %llu",
                       what, (unsigned long long)m->in.pos);
}

static int no_memory(machine *m)
{
    return anm_fail_memory(m->err, "the pickle's values");
}

/* The array with room for one more than `count`, perhaps elsewhere; NULL when memory is out. */
static void *reserve(void *array, size_t *room, size_t count, size_t elem)
{
    if (count < *room) return array;
    size_t more = *room ? *room * 2 : 64;
    void *longer = more <= SIZE_MAX / elem ? realloc(array, more * elem) : NULL;
    if (longer) *room = more;
    return longer;
}

/* NULL stands for a value that memory was out for. */
static int push(machine *m, anm_pickle *v)
{
    anm_pickle **stack = v ? reserve(m->stack, &m->stack_room, m->depth, sizeof *stack) : NULL;
    if (!stack) return no_memory(m);
    m->stack = stack;
    stack[m->depth++] = v;
    return 0;
}

static anm_pickle *fresh(machine *m, anm_pickle_kind kind)
{
    anm_pickle *v = anm_arena_alloc(m->arena, sizeof *v);
    if (v) v->kind = kind;
    return v;
}

/* The lowest depth that may be popped now. */
static size_t floor_of(const machine *m)
{
    return m->marks ? m->mark[m->marks - 1] : 0;
}

static anm_pickle *pop(machine *m)
{
    return m->depth > floor_of(m) ? m->stack[--m->depth] : NULL;
}

static anm_pickle *top(machine *m)
{
    return m->depth > floor_of(m) ? m->stack[m->depth - 1] : NULL;
}

static int push_int(machine *m, int64_t i)
{
    anm_pickle *v = fresh(m, ANM_PICKLE_INT);
    if (v) v->i = i;
    return push(m, v);
}

static int push_string(machine *m, uint64_t n)
{
    const uint8_t *s = anm_rd_bytes(&m->in, n);
    if (!s) return bad(m, "a string ends after its end");
    anm_pickle *v = fresh(m, ANM_PICKLE_STRING);
    if (v) {
        v->s.at = (const char *)s;
        v->s.n = (size_t)n;
    }
    return push(m, v);
}

/* A little-endian two's complement integer of any width up to 8 bytes. */
static int push_long(machine *m, uint64_t n)
{
    const uint8_t *b = anm_rd_bytes(&m->in, n);
    if (!b) return bad(m, "an integer ends after its end");
    if (n > 8) return bad(m, "an integer has more than 64 bits");
    uint64_t u = n && b[n - 1] & 0x80 ? UINT64_MAX : 0;
    for (size_t i = (size_t)n; i-- > 0;)
        u = u << 8 | b[i];
    int64_t i;
    memcpy(&i, &u, 8);
    return push_int(m, i);
}

static int push_float(machine *m)
{
    const uint8_t *b = anm_rd_bytes(&m->in, 8); /* big-endian */
    if (!b) return bad(m, "a number ends after its end");
    uint8_t le[8];
    for (int i = 0; i < 8; i++)
        le[i] = b[7 - i];
    anm_pickle *v = fresh(m, ANM_PICKLE_FLOAT);
    if (v) v->f = anm_ldf64(le);
    return push(m, v);
}

static int put_memo(machine *m, uint64_t i)
{
    anm_pickle *v = top(m);
    if (!v) return bad(m, "nothing to remember");
    if (i > m->memo_count) return bad(m, "the memo is filled out of order");
    if (i < m->memo_count) {
        m->memo[i] = v;
        return 0;
    }
    anm_pickle **memo = reserve(m->memo, &m->memo_room, m->memo_count, sizeof *memo);
    if (!memo) return no_memory(m);
    m->memo = memo;
    memo[m->memo_count++] = v;
    return 0;
}

static int get_memo(machine *m, uint64_t i)
{
    return i < m->memo_count ? push(m, m->memo[i]) : bad(m, "the memo has no such entry");
}

/* ---- containers ---- */

/* Moves the values from depth `from` to the top of the stack to the end of a container. */
static int move_items(machine *m, anm_pickle *c, size_t from)
{
    size_t n = m->depth - from, need = c->items.n + n;
    if (need > c->items.room) {
        size_t room = c->items.n ? need * 2 : need;
        anm_pickle **at = anm_arena_array(m->arena, room, sizeof *at);
        if (!at) return no_memory(m);
        if (c->items.n) memcpy(at, c->items.at, c->items.n * sizeof *at);
        c->items.at = at;
        c->items.room = room;
    }
    if (n) memcpy(c->items.at + c->items.n, m->stack + from, n * sizeof *m->stack);
    c->items.n = need;
    m->depth = from;
    return 0;
}

static int push_tuple(machine *m, size_t from)
{
    anm_pickle *v = fresh(m, ANM_PICKLE_TUPLE);
    if (!v) return no_memory(m);
    int rc = move_items(m, v, from);
    return rc ? rc : push(m, v);
}

static int push_small_tuple(machine *m, size_t n)
{
    if (m->depth - floor_of(m) < n) return bad(m, "a tuple of more values than there are");
    return push_tuple(m, m->depth - n);
}

static int push_mark(machine *m)
{
    size_t *mark = reserve(m->mark, &m->mark_room, m->marks, sizeof *mark);
    if (!mark) return no_memory(m);
    m->mark = mark;
    mark[m->marks++] = m->depth;
    return 0;
}

/* Takes the last mark away and gives its depth; false when there is none. */
static bool pop_mark(machine *m, size_t *from)
{
    if (!m->marks) return false;
    *from = m->mark[--m->marks];
    return true;
}

/* Adds the values above `from` to the list or dict right below them. */
static int add_items(machine *m, size_t from, anm_pickle_kind kind)
{
    if (from <= floor_of(m)) return bad(m, "items without a container");
    anm_pickle *c = m->stack[from - 1];
    if (c->kind != kind)
        return bad(m, kind == ANM_PICKLE_LIST ? "items for what is no list" : "pairs for what is no dict");
    if (kind == ANM_PICKLE_DICT && (m->depth - from) % 2) return bad(m, "a key without a value");
    return move_items(m, c, from);
}

/* ---- globals, and what stands for calling them ---- */

static int refuse_global(machine *m, const char *module, size_t nm, const char *name, size_t nn)
{
    char a[80], b[80];
    return anm_fail_at(
        m->err, ANM_ERR_UNSUPPORTED, m->in.pos,
        "the pickle wants %s.%s, which is not among the few things that tensors need; nothing was run",
        anm_show(a, sizeof a, module, nm), anm_show(b, sizeof b, name, nn));
}

static int refuse_call(machine *m, const struct anm_pickle_global *g)
{
    return anm_fail_at(m->err, ANM_ERR_UNSUPPORTED, m->in.pos,
                       "the pickle calls %s.%s in a way that no tensor needs; nothing was run", g->module,
                       g->name);
}

static int push_global(machine *m, const char *module, size_t nm, const char *name, size_t nn)
{
    for (size_t i = 0; i < sizeof globals / sizeof *globals; i++) {
        const struct anm_pickle_global *g = &globals[i];
        if (strlen(g->module) != nm || strlen(g->name) != nn || memcmp(g->module, module, nm) ||
            memcmp(g->name, name, nn))
            continue;
        anm_pickle *v = fresh(m, ANM_PICKLE_GLOBAL);
        if (v) v->global = g;
        return push(m, v);
    }
    return refuse_global(m, module, nm, name, nn);
}

/* Two lines of text. */
static int read_global(machine *m)
{
    const uint8_t *s = m->in.data + m->in.pos;
    size_t left = (size_t)anm_rd_left(&m->in);
    const uint8_t *a = memchr(s, '\n', left);
    const uint8_t *b = a ? memchr(a + 1, '\n', left - (size_t)(a + 1 - s)) : NULL;
    if (!b) return bad(m, "a global's name has no end");
    anm_rd_bytes(&m->in, (uint64_t)(b + 1 - s));
    return push_global(m, (const char *)s, (size_t)(a - s), (const char *)(a + 1), (size_t)(b - a - 1));
}

static int stack_global(machine *m)
{
    anm_pickle *name = pop(m), *module = pop(m);
    if (!module || module->kind != ANM_PICKLE_STRING || name->kind != ANM_PICKLE_STRING)
        return bad(m, "a global that is not named by two strings");
    return push_global(m, module->s.at, module->s.n, name->s.at, name->s.n);
}

static bool is(const anm_pickle *v, anm_pickle_kind kind)
{
    return v->kind == kind;
}

/* Sizes or strides. A tensor has 64 dimensions at most; a longer tuple that every tensor shares would cost
 * much time. */
static bool is_ints(const anm_pickle *v)
{
    if (!is(v, ANM_PICKLE_TUPLE) || v->items.n > 64) return false;
    for (size_t i = 0; i < v->items.n; i++)
        if (!is(v->items.at[i], ANM_PICKLE_INT) || v->items.at[i]->i < 0) return false;
    return true;
}

static bool is_empty_dict(const anm_pickle *v)
{
    return is(v, ANM_PICKLE_DICT) && !v->items.n;
}

/* The last argument, a dict of flags that are set ('neg', 'conj') or None: does it say that the bytes are the values? */
static bool says_nothing(const anm_pickle *v)
{
    for (size_t i = 1; i < v->items.n; i += 2)
        if (!is(v->items.at[i], ANM_PICKLE_BOOL) || v->items.at[i]->i) return false;
    return true;
}

/* A tensor of the arguments of _rebuild_tensor_v2 or _v3; false when they are not those. */
static bool fill_tensor(anm_pickle *t, const anm_pickle *args, bool typed)
{
    size_t n = args->items.n, base = typed ? 7 : 6;
    anm_pickle **a = args->items.at;
    if (n != base && n != base + 1) return false;
    if (!is(a[0], ANM_PICKLE_STORAGE) || !is(a[1], ANM_PICKLE_INT) || a[1]->i < 0) return false;
    if (!is_ints(a[2]) || !is_ints(a[3]) || a[2]->items.n != a[3]->items.n) return false;
    if (!is(a[4], ANM_PICKLE_BOOL) || !is_empty_dict(a[5])) return false;
    if (n == base + 1 && !is(a[base], ANM_PICKLE_DICT) && !is(a[base], ANM_PICKLE_NONE)) return false;
    anm_dtype dtype = a[0]->storage.dtype;
    if (typed) {
        if (!is(a[6], ANM_PICKLE_GLOBAL) || a[6]->global->role != DTYPE) return false;
        dtype = a[6]->global->dtype;
    }
    if (dtype == ANM_DT_NONE) return false;
    t->kind = ANM_PICKLE_TENSOR;
    t->tensor.args = a;
    t->tensor.dtype = dtype;
    t->tensor.changed = n == base + 1 && is(a[base], ANM_PICKLE_DICT) && !says_nothing(a[base]);
    return true;
}

static int reduce(machine *m)
{
    anm_pickle *args = pop(m), *f = pop(m), *v = fresh(m, ANM_PICKLE_DICT);
    if (!v) return no_memory(m);
    if (!f || !is(f, ANM_PICKLE_GLOBAL) || !is(args, ANM_PICKLE_TUPLE))
        return bad(m, "a call of what cannot be called");
    anm_pickle **a = args->items.at;
    size_t n = args->items.n;
    bool fits = false;
    switch (f->global->role) {
    case REBUILD_TENSOR: fits = fill_tensor(v, args, false); break;
    case REBUILD_TENSOR_TYPED: fits = fill_tensor(v, args, true); break;
    case REBUILD_PARAMETER:
        fits = n == 3 && is(a[0], ANM_PICKLE_TENSOR) && is(a[1], ANM_PICKLE_BOOL) && is_empty_dict(a[2]);
        if (fits) v = a[0];
        break;
    case ORDERED_DICT: fits = n == 0; break;
    case SIZE:
        fits = n == 1 && is_ints(a[0]);
        if (fits) v = a[0];
        break;
    case STORAGE_TYPE:
    case DTYPE: break;
    }
    return fits ? push(m, v) : refuse_call(m, f->global);
}

/* ('storage', type, key, location, elements): the bytes of tensors, which lie in the archive under data/KEY.
 */
static int persistent_id(machine *m)
{
    anm_pickle *id = pop(m);
    if (!id || !is(id, ANM_PICKLE_TUPLE) || id->items.n != 5)
        return bad(m, "a reference to something that is no storage");
    anm_pickle **a = id->items.at;
    if (!is(a[0], ANM_PICKLE_STRING) || a[0]->s.n != 7 || memcmp(a[0]->s.at, "storage", 7) ||
        !is(a[1], ANM_PICKLE_GLOBAL) || a[1]->global->role != STORAGE_TYPE || !is(a[2], ANM_PICKLE_STRING) ||
        !is(a[3], ANM_PICKLE_STRING) || !is(a[4], ANM_PICKLE_INT) || a[4]->i < 0)
        return bad(m, "a reference to something that is no storage");
    anm_pickle *v = fresh(m, ANM_PICKLE_STORAGE);
    if (v) {
        v->storage.key = a[2];
        v->storage.dtype = a[1]->global->dtype;
        v->storage.n = (uint64_t)a[4]->i;
    }
    return push(m, v);
}

/* state_dict() hangs its version notes on the dict as attributes; they say nothing about tensors. */
static int build(machine *m)
{
    anm_pickle *state = pop(m), *v = top(m);
    if (!v || !is(v, ANM_PICKLE_DICT) || !is(state, ANM_PICKLE_DICT))
        return bad(m, "attributes for what is no dict");
    return 0;
}

/* One opcode; 1 when it was the last. */
static int step(machine *m)
{
    anm_rd *in = &m->in;
    size_t from;
    uint8_t op = anm_rd_u8(in);
    if (!anm_rd_ok(in)) return bad(m, "it is cut short");
    switch (op) {
    case 0x80: /* PROTO */ return anm_rd_u8(in) <= 5 ? 0 : bad(m, "its protocol is newer than 5");
    case 0x95: /* FRAME */ anm_rd_u64(in); return 0;
    case '.': return 1;
    case 'N': return push(m, &none_value);
    case 0x88: return push(m, &true_value);
    case 0x89: return push(m, &false_value);
    case 'J': return push_long(m, 4);
    case 'K': return push_int(m, anm_rd_u8(in));
    case 'M': return push_int(m, anm_rd_u16(in));
    case 0x8a: return push_long(m, anm_rd_u8(in));
    case 'G': return push_float(m);
    case 'X': return push_string(m, anm_rd_u32(in));
    case 0x8c: return push_string(m, anm_rd_u8(in));
    case 0x8d: return push_string(m, anm_rd_u64(in));
    case 'U': return push_string(m, anm_rd_u8(in)); /* Python 2's str */
    case 'q': return put_memo(m, anm_rd_u8(in));
    case 'r': return put_memo(m, anm_rd_u32(in));
    case 0x94: return put_memo(m, m->memo_count);
    case 'h': return get_memo(m, anm_rd_u8(in));
    case 'j': return get_memo(m, anm_rd_u32(in));
    case '(': return push_mark(m);
    case '}': return push(m, fresh(m, ANM_PICKLE_DICT));
    case ']': return push(m, fresh(m, ANM_PICKLE_LIST));
    case ')': return push_small_tuple(m, 0);
    case 0x85: return push_small_tuple(m, 1);
    case 0x86: return push_small_tuple(m, 2);
    case 0x87: return push_small_tuple(m, 3);
    case 't': return pop_mark(m, &from) ? push_tuple(m, from) : bad(m, "a tuple without a mark");
    case 'e':
        return pop_mark(m, &from) ? add_items(m, from, ANM_PICKLE_LIST) : bad(m, "items without a mark");
    case 'u':
        return pop_mark(m, &from) ? add_items(m, from, ANM_PICKLE_DICT) : bad(m, "pairs without a mark");
    case 'a':
        return m->depth - floor_of(m) < 2 ? bad(m, "an item without a list")
                                          : add_items(m, m->depth - 1, ANM_PICKLE_LIST);
    case 's':
        return m->depth - floor_of(m) < 3 ? bad(m, "a pair without a dict")
                                          : add_items(m, m->depth - 2, ANM_PICKLE_DICT);
    case 'c': return read_global(m);
    case 0x93: return stack_global(m);
    case 'R': return reduce(m);
    case 'b': return build(m);
    case 'Q': return persistent_id(m);
    default:
        return anm_fail_at(m->err, ANM_ERR_UNSUPPORTED, in->pos - 1,
                           "the pickle holds an opcode 0x%02x that no tensor needs, at its byte %llu", op,
                           (unsigned long long)(in->pos - 1));
    }
}

int anm_pickle_parse(anm_pickle **out, anm_arena *arena, const uint8_t *data, uint64_t size, anm_error *err)
{
    machine m = {.in = anm_rd_of(data, size), .arena = arena, .err = err};
    int rc;
    do {
        rc = step(&m);
        if (rc >= 0 && !anm_rd_ok(&m.in)) rc = bad(&m, "it is cut short");
    } while (rc == 0);
    if (rc > 0) rc = m.depth == 1 && !m.marks ? 0 : bad(&m, "it does not end with one value");
    if (!rc) *out = m.stack[0];
    free(m.stack);
    free(m.memo);
    free(m.mark);
    return rc;
}

const anm_pickle *anm_pickle_get(const anm_pickle *dict, const char *key)
{
    size_t n = strlen(key);
    for (size_t i = 0; i + 1 < dict->items.n; i += 2) {
        const anm_pickle *k = dict->items.at[i];
        if (k->kind == ANM_PICKLE_STRING && k->s.n == n && !memcmp(k->s.at, key, n))
            return dict->items.at[i + 1];
    }
    return NULL;
}
