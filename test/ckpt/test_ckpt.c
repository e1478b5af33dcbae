/* SPDX-License-Identifier: BSD-3-Clause */
/* The readers of checkpoints, on files that torch, safetensors and gguf wrote (tools/make_ckpt_tests.py). */
#include "scratch.h"

#include "base/bytes.h"
#include "base/half.h"
#include "base/map.h"
#include "ckpt/ckpt.h"
#include "ckpt/gguf.h"
#include "ckpt/pickle.h"
#include "ckpt/values.h"

#include <fcntl.h>
#include <math.h>

#define DATA "test/data/ckpt/"

static anm_ckpt *open_ok(const char *path)
{
    anm_ckpt *c = NULL;
    anm_error err = {0};
    if (anm_ckpt_open(&c, path, &err)) fail_msg("%s", err.text);
    return c;
}

/* The file is refused, by a message that holds both texts. */
static void refused(const char *path, const char *a, const char *b)
{
    anm_ckpt *c = NULL;
    anm_error err = {0};
    if (anm_ckpt_open(&c, path, &err) == 0) fail_msg("%s was read; it should say: %s", path, a);
    assert_null(c);
    if (!strstr(err.text, a) || !strstr(err.text, b)) fail_msg("'%s' should say '%s' and '%s'", err.text, a, b);
    assert_null(strchr(err.text, '\n'));
}

static void all_rows(float *out, const anm_tensor *t)
{
    anm_error err = {0};
    if (anm_tensor_rows_f32(out, t, 0, t->rank == 2 ? t->shape[0] : 1, &err)) fail_msg("%s", err.text);
}

/* ---- what torch.save does ---- */

static void odd_tensors_are_read(void **state)
{
    (void)state;
    anm_ckpt *c = open_ok(DATA "odd/types.pth");
    float v[8];
    assert_int_equal(anm_ckpt_kind_of(c), ANM_CKPT_PTH);
    assert_int_equal(anm_ckpt_count(c, 0), 5);
    const anm_tensor *t = anm_ckpt_find(c, 0, "u16");
    assert_int_equal(t->dtype, ANM_DT_U16);
    assert_int_equal(t->shape[0], 3);
    assert_int_equal(anm_ld16(t->data + 4), 3);
    t = anm_ckpt_find(c, 0, "empty");
    assert_int_equal(t->shape[0], 0);
    assert_int_equal(t->shape[1], 4);
    assert_int_equal(t->size, 0);
    t = anm_ckpt_find(c, 0, "scalar");
    assert_int_equal(t->rank, 0);
    assert_int_equal(t->size, 4);
    t = anm_ckpt_find(c, 0, "expanded");
    assert_int_equal(t->stride[0], 0);
    all_rows(v, t);
    for (int i = 0; i < 6; i++) assert_float_equal(v[i], (i % 2 ? 2.5f : 1.5f), 0);
    anm_error err;
    t = anm_ckpt_find(c, 0, "int");
    assert_int_equal(anm_tensor_rows_f32(v, t, 0, 1, &err), ANM_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "type int64"));
    assert_null(anm_ckpt_find(c, 0, "nothing"));
    anm_ckpt_close(c);

    c = open_ok(DATA "odd/module.pth");
    t = anm_ckpt_find(c, 0, "weight");
    all_rows(v, t);
    for (int i = 0; i < 4; i++) assert_float_equal(v[i], (float)(i + 1), 0);
    assert_int_equal(anm_tensor_rows_f32(v, t, 1, 2, &err), ANM_ERR_USAGE);
    anm_ckpt_close(c);
}

static void pickles_call_nothing(void **state)
{
    (void)state;
    refused(DATA "odd/system.pth", "odd/system.pth: ", "wants posix.system");
    refused(DATA "odd/system4.pth", "odd/system4.pth: ", "wants posix.system");
    refused(DATA "odd/float8.pth", "torch.float8_e4m3fn", "nothing was run");
}

static void other_pth_are_named(void **state)
{
    (void)state;
    refused(DATA "odd/legacy.pth", "old format", "torch.save");
    refused(DATA "odd/big.pth", "big-endian", "little-endian");
    refused(DATA "odd/deflated.pth", "'archive/data.pkl' is compressed (method 8)", "torch.save");
    refused(DATA "odd/script.pt", "TorchScript", "state_dict");
}

/* ---- pickles written by hand ---- */

static void pickle_refused(const void *data, size_t n, const char *text)
{
    anm_arena arena;
    anm_pickle *v;
    anm_error err = {0};
    anm_arena_init(&arena);
    if (!anm_pickle_parse(&v, &arena, data, n, &err)) fail_msg("a pickle was read that should be refused: %s", text);
    if (!strstr(err.text, text)) fail_msg("'%s' should say '%s'", err.text, text);
    anm_arena_free(&arena);
}

static void pickle_shapes_are_checked(void **state)
{
    (void)state;
#define REFUSED(bytes, text) pickle_refused(bytes, sizeof bytes - 1, text)
    REFUSED("", "cut short");
    REFUSED("\x80\x02", "cut short");
    REFUSED("\x80\x06.", "newer than 5");
    REFUSED(".", "one value");
    REFUSED("NN.", "one value");
    REFUSED("(N.", "one value");
    REFUSED("]t.", "without a mark");
    REFUSED("\x85.", "more values than there are");
    REFUSED("(\x85.", "more values than there are");
    REFUSED("h\x01.", "no such entry");
    REFUSED("Nq\x01.", "out of order");
    REFUSED("q\x00.", "nothing to remember");
    REFUSED("X\xff\xff\xff\x7fhello", "ends after its end");
    REFUSED("\x8a\x09" "123456789.", "more than 64 bits");
    REFUSED("(NNu.", "without a container");
    REFUSED("](NNu.", "no dict");
    REFUSED("}(Nu.", "without a value");
    REFUSED("}Na.", "no list");
    REFUSED("]}b.", "no dict");
    REFUSED("NQ.", "no storage");
    REFUSED("N)R.", "cannot be called");
    REFUSED("cos\nsystem\n.", "wants os.system");
    REFUSED("c__builtin__\neval\n(U\x01" "1tR.", "wants __builtin__.eval");
    REFUSED("ctorch\nload\n.", "wants torch.load");
    REFUSED("ctorch._utils\n_rebuild_tensor_v2", "no end");
    REFUSED("ctorch._utils\n_rebuild_tensor_v2\n)R.", "calls torch._utils._rebuild_tensor_v2 in a way");
    REFUSED("ccollections\nOrderedDict\nN\x85R.", "calls collections.OrderedDict in a way");
    REFUSED("ctorch\nFloatStorage\n)R.", "calls torch.FloatStorage in a way");
    REFUSED("i__main__\nX\n.", "opcode 0x69"); /* INST */
    REFUSED("N2.", "opcode 0x32");             /* DUP, and whatever else tensors do not need */
    REFUSED("c\n\n.", "wants .,");
    /* a list that holds itself is only a value */
    anm_arena arena;
    anm_pickle *v;
    anm_arena_init(&arena);
    assert_int_equal(anm_pickle_parse(&v, &arena, (const uint8_t *)"]q\x00h\x00" "a.", 7, NULL), 0);
    assert_ptr_equal(v->items.at[0], v);
    anm_arena_free(&arena);
}

/* A tensor is made of six arguments of the right kinds; with any one of them replaced it is refused. */
static void tensor_arguments_are_checked(void **state)
{
    (void)state;
    static const char *const part[] = {"(U\x07storagectorch\nFloatStorage\nU\x01" "0U\x03" "cpuK\x01tQ", "K\x01", "K\x01\x85",
                                       "K\x01\x85", "\x89", "}"};
    static const char *const other[] = {"N", "J\xff\xff\xff\xff", "K\x01K\x01\x86", "U\x01x", "J\xff\xff\xff\xff\x85"};
    for (int k = -1; k < 6; k++) {
        for (int o = 0; o < 5; o++) {
            char text[200];
            size_t n = (size_t)sprintf(text, "ctorch._utils\n_rebuild_tensor_v2\n(");
            for (int i = 0; i < 6; i++) n += (size_t)sprintf(text + n, "%s", i == k ? other[o] : part[i]);
            n += (size_t)sprintf(text + n, "tR.");
            if (k >= 0) {
                pickle_refused(text, n, "calls torch._utils._rebuild_tensor_v2 in a way");
                continue;
            }
            anm_arena arena;
            anm_pickle *v;
            anm_error err;
            anm_arena_init(&arena);
            if (anm_pickle_parse(&v, &arena, (const uint8_t *)text, n, &err)) fail_msg("%s", err.text);
            assert_int_equal(v->kind, ANM_PICKLE_TENSOR);
            assert_int_equal(v->tensor.dtype, ANM_DT_F32);
            anm_arena_free(&arena);
        }
    }
}

/* Long runs of the opcodes that make the most of a byte: memory stays in bounds, time too. */
static void pickles_stay_small(void **state)
{
    (void)state;
    static const char ops[] = "(])}N";
    for (size_t k = 0; k < sizeof ops - 1; k++) {
        size_t n = 1 << 20;
        char *p = malloc(n);
        anm_arena arena;
        anm_pickle *v;
        memset(p, ops[k], n);
        anm_arena_init(&arena);
        assert_true(anm_pickle_parse(&v, &arena, (const uint8_t *)p, n, NULL) < 0);
        assert_true(arena.total <= 64 * n);
        anm_arena_free(&arena);
        free(p);
    }
}

/* ---- a zip archive beyond 4 GiB ---- */

typedef struct sparse {
    int fd;
    uint64_t at;
} sparse;

static void emit(sparse *s, const void *data, size_t n)
{
    assert_int_equal(pwrite(s->fd, data, n, (off_t)s->at), n);
    s->at += n;
}

static void emit_local(sparse *s, const char *name, uint64_t size)
{
    uint8_t h[30] = {0};
    bool wide = size >= UINT32_MAX;
    anm_st32(h, 0x04034b50);
    anm_st32(h + 18, wide ? UINT32_MAX : (uint32_t)size);
    anm_st32(h + 22, wide ? UINT32_MAX : (uint32_t)size);
    anm_st16(h + 26, (uint16_t)strlen(name));
    emit(s, h, sizeof h);
    emit(s, name, strlen(name));
}

static void emit_central(sparse *s, const char *name, uint64_t size, uint64_t local)
{
    uint8_t h[46] = {0}, x[28];
    anm_st32(h, 0x02014b50);
    anm_st32(h + 20, UINT32_MAX);
    anm_st32(h + 24, UINT32_MAX);
    anm_st16(h + 28, (uint16_t)strlen(name));
    anm_st16(h + 30, sizeof x);
    anm_st32(h + 42, UINT32_MAX);
    emit(s, h, sizeof h);
    emit(s, name, strlen(name));
    anm_st16(x, 1);
    anm_st16(x + 2, 24);
    anm_st64(x + 4, size);
    anm_st64(x + 12, size);
    anm_st64(x + 20, local);
    emit(s, x, sizeof x);
}

static void zip64_is_read(void **state)
{
    (void)state;
    if (sizeof(size_t) < 8) skip();
    /* One storage of 2^32 + 8 bytes, a hole but for its last four; a tensor at its end, a second entry behind it. */
    static const char pickle[] = "\x80\x02}X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n((U\x07storagectorch\nFloatStorage\n"
                                 "X\x01\0\0\0" "0X\x03\0\0\0" "cpu\x8a\x05\x02\0\0\x40\0tQ\x8a\x04\x01\0\0\x40K\x01\x85K\x01\x85"
                                 "\x89}tRs.";
    const char *path = scratch("wide.pth"), *names[] = {"a/data/0", "a/data.pkl"};
    const uint64_t big = ((uint64_t)1 << 32) + 8;
    sparse s = {.fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600)};
    assert_true(s.fd >= 0);
    uint64_t at[2], size[2] = {big, sizeof pickle - 1};
    float one = 1.25f;
    emit_local(&s, names[0], big);
    at[0] = 0;
    s.at += big - 4;
    emit(&s, &one, 4);
    at[1] = s.at;
    emit_local(&s, names[1], size[1]);
    emit(&s, pickle, size[1]);
    uint64_t dir = s.at;
    for (int i = 0; i < 2; i++) emit_central(&s, names[i], size[i], at[i]);
    uint64_t end = s.at;
    uint8_t e64[56] = {0}, loc[20] = {0}, e[22] = {0};
    anm_st32(e64, 0x06064b50);
    anm_st64(e64 + 4, 44);
    anm_st64(e64 + 24, 2);
    anm_st64(e64 + 32, 2);
    anm_st64(e64 + 40, end - dir);
    anm_st64(e64 + 48, dir);
    emit(&s, e64, sizeof e64);
    anm_st32(loc, 0x07064b50);
    anm_st64(loc + 8, end);
    anm_st32(loc + 16, 1);
    emit(&s, loc, sizeof loc);
    anm_st32(e, 0x06054b50);
    anm_st16(e + 8, 2);
    anm_st16(e + 10, 2);
    anm_st32(e + 12, UINT32_MAX);
    anm_st32(e + 16, UINT32_MAX);
    emit(&s, e, sizeof e);
    close(s.fd);

    anm_ckpt *c = open_ok(path);
    const anm_tensor *t = anm_ckpt_find(c, 0, "w");
    float v;
    assert_non_null(t);
    all_rows(&v, t);
    assert_float_equal(v, one, 0);
    anm_ckpt_close(c);
}

/* ---- archives written by hand ---- */

typedef struct member {
    const char *name, *data;
    size_t size;
} member;

static const char *archive(const member *m, int n)
{
    const char *path = scratch("made.pth");
    sparse s = {.fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600)};
    assert_true(s.fd >= 0);
    uint64_t at[4];
    for (int i = 0; i < n; i++) {
        at[i] = s.at;
        emit_local(&s, m[i].name, m[i].size);
        emit(&s, m[i].data, m[i].size);
    }
    uint64_t dir = s.at;
    for (int i = 0; i < n; i++) emit_central(&s, m[i].name, m[i].size, at[i]);
    uint8_t e[22] = {0};
    anm_st32(e, 0x06054b50);
    anm_st16(e + 8, (uint16_t)n);
    anm_st16(e + 10, (uint16_t)n);
    anm_st32(e + 12, (uint32_t)(s.at - dir));
    anm_st32(e + 16, (uint32_t)dir);
    emit(&s, e, sizeof e);
    close(s.fd);
    return path;
}

/* One pickle and a storage of four bytes. */
#define ARCHIVE(pickle) archive((const member[]){{"a/data/0", "\0\0\x80\x3f", 4}, {"a/data.pkl", pickle, sizeof pickle - 1}}, 2)
#define TENSOR_OF(shape, stride, more) \
    "ctorch._utils\n_rebuild_tensor_v2\n((U\x07storagectorch\nFloatStorage\nU\x01" "0U\x03" "cpuK\x01tQK\x00" shape stride "\x89}" more "tR"
#define TENSOR(more) TENSOR_OF("K\x01\x85", "K\x01\x85", more)
#define NAME(s) "U\x01" s

/* torch leaves the bytes as they are and says beside them that they are to be negated. */
static void flags_of_tensors_are_seen(void **state)
{
    (void)state;
    anm_ckpt_close(open_ok(ARCHIVE("}" NAME("w") TENSOR("") "s.")));
    anm_ckpt_close(open_ok(ARCHIVE("}" NAME("w") TENSOR("N") "s.")));
    anm_ckpt_close(open_ok(ARCHIVE("}" NAME("w") TENSOR("}") "s.")));
    anm_ckpt_close(open_ok(ARCHIVE("}" NAME("w") TENSOR("}U\x03neg\x89s") "s.")));
    refused(ARCHIVE("}" NAME("w") TENSOR("}U\x03neg\x88s") "s."), "tensor 'w' is a view whose values are negated", "resolve_neg");
    refused(ARCHIVE("}" NAME("w") TENSOR("}(U\x03neg\x89U\x04" "conj\x88u") "s."), "tensor 'w' is a view", "resolve_conj");
    refused(ARCHIVE("}" NAME("w") TENSOR("}U\x03newK\x01s") "s."), "tensor 'w' is a view", "");
    /* in a parameter, too */
    refused(ARCHIVE("}" NAME("w") "ctorch._utils\n_rebuild_parameter\n(" TENSOR("}U\x03neg\x88s") "\x88}tRs."), "tensor 'w' is a view", "");
}

static void keys_are_there_once(void **state)
{
    (void)state;
#define DICT "}" NAME("w") TENSOR("") "s"
    anm_ckpt_close(open_ok(ARCHIVE("}U\x05model" DICT "sU\x05other" DICT "s.")));
    refused(ARCHIVE("}U\x05model" DICT "sU\x05model" DICT "s."), "its pickle has 'model' twice", "");
    refused(ARCHIVE("}U\x05modelq\x00" DICT "sh\x00" DICT "s."), "its pickle has 'model' twice", "");
    refused(ARCHIVE("}" NAME("w") TENSOR("") "s" NAME("w") "Ns."), "its pickle has 'w' twice", "");
    refused(ARCHIVE("}U\x05model}" NAME("w") TENSOR("") "s" NAME("w") "Nss."), "its pickle has 'w' twice", "");
}

static void one_archive_holds_one_model(void **state)
{
    (void)state;
    static const char pickle[] = DICT ".";
    const member m[] = {{"zzz/data/0", "\0\0\x80\x3f", 4}, {"zzz/data.pkl", pickle, sizeof pickle - 1},
                        {"aaa/data/0", "\0\0\x80\x3f", 4}, {"aaa/data.pkl", pickle, sizeof pickle - 1}};
    anm_ckpt_close(open_ok(archive(m, 3)));
    refused(archive(m, 4), "holds several models: 'aaa/data.pkl' and 'zzz/data.pkl'", "");
#undef DICT
}

static void what_follows_an_archive_is_named(void **state)
{
    (void)state;
    bytes f = read_bytes(DATA "odd/module.pth");
    f.data[f.size] = 'x'; /* one byte more than there are is there */
    write_bytes(scratch("mutated"), f.data, f.size + 1);
    refused(scratch("mutated"), "something follows it", "no end record");
    free(f.data);
}

/* ---- values ---- */

static void blocks_are_exact(void **state)
{
    (void)state;
    anm_ckpt *c = open_ok(DATA "blocks.gguf");
    bytes want = read_bytes(DATA "blocks.f32");
    size_t at = 0;
    assert_int_equal(anm_ckpt_kind_of(c), ANM_CKPT_GGUF);
    for (size_t i = 0; i < anm_ckpt_count(c, 0); i++) {
        const anm_tensor *t = anm_ckpt_at(c, 0, i);
        size_t n = (size_t)(t->shape[0] * t->shape[1]);
        float got[512];
        anm_error err;
        assert_true(n <= 512);
        for (int64_t r = 0; r < t->shape[0]; r++)
            assert_int_equal(anm_tensor_rows_f32(got + r * t->shape[1], t, r, 1, &err), 0);
        if (memcmp(got, want.data + at, n * 4)) fail_msg("%s differs", t->name);
        all_rows(got, t);
        assert_memory_equal(got, want.data + at, n * 4);
        at += n * 4;
    }
    assert_int_equal(at, want.size);
    free(want.data);
    anm_ckpt_close(c);
}

static void every_half_is_exact(void **state)
{
    (void)state;
    uint8_t *p = malloc(0x20001);
    float *got = malloc(0x10000 * sizeof *got);
    anm_tensor t = {.name = "h", .file = "f", .dtype = ANM_DT_F16, .rank = 1, .shape = {0x10000}, .stride = {1}, .data = p + 1};
    for (uint32_t h = 0; h < 0x10000; h++) anm_st16(p + 1 + 2 * h, (uint16_t)h); /* odd addresses */
    all_rows(got, &t);
    for (uint32_t h = 0; h < 0x10000; h++) assert_int_equal(anm_f32_bits(got[h]), anm_f32_bits(anm_f16_to_f32((uint16_t)h)));
    t.dtype = ANM_DT_BF16;
    all_rows(got, &t);
    for (uint32_t h = 0; h < 0x10000; h++) assert_int_equal(anm_f32_bits(got[h]), h << 16);
    free(p);
    free(got);
}

/* ---- metadata ---- */

static void metadata_is_read(void **state)
{
    (void)state;
    anm_ckpt *c = open_ok(DATA "llama.gguf");
    const anm_gguf *g = anm_ckpt_gguf(c);
    int64_t i;
    double f;
    const char *s;
    size_t n;
    char key[64], text[64];
    assert_string_equal(anm_gguf_kind(g, "llama.block_count"), "u32");
    assert_string_equal(anm_gguf_kind(g, "tokenizer.ggml.tokens"), "array");
    assert_null(anm_gguf_kind(g, "llama.expert_count"));
    assert_true(anm_gguf_string(g, "general.architecture", &s, &n));
    assert_int_equal(n, 5);
    assert_memory_equal(s, "llama", 5);
    assert_true(anm_gguf_int(g, "llama.block_count", &i));
    assert_int_equal(i, 2);
    assert_false(anm_gguf_int(g, "llama.rope.freq_base", &i));
    assert_true(anm_gguf_float(g, "llama.rope.freq_base", &f));
    assert_float_equal(f, 500000, 0);
    assert_true(anm_gguf_array(g, "tokenizer.ggml.tokens", &n));
    assert_int_equal(n, 3);
    assert_true(anm_gguf_array_string(g, "tokenizer.ggml.tokens", 1, &s, &n));
    assert_int_equal(n, 2);
    assert_memory_equal(s, "bc", 2);
    assert_true(anm_gguf_array_string(g, "tokenizer.ggml.tokens", 2, &s, &n));
    assert_int_equal(n, 0);
    assert_false(anm_gguf_array_string(g, "tokenizer.ggml.tokens", 3, &s, &n));
    assert_true(anm_gguf_array_int(g, "tokenizer.ggml.token_type", 1, &i));
    assert_int_equal(i, -3);
    assert_true(anm_gguf_array_float(g, "tokenizer.ggml.scores", 1, &f));
    assert_float_equal(f, -1, 0);
    assert_false(anm_gguf_array_float(g, "tokenizer.ggml.scores", 3, &f));
    assert_false(anm_gguf_string(g, "no.such.key", &s, &n));
    bool seen = false;
    for (size_t k = 0; k < anm_gguf_key_count(g); k++) {
        anm_gguf_key(g, k, key, sizeof key, text, sizeof text);
        if (!strcmp(key, "tokenizer.ggml.tokens")) seen = !strcmp(text, "3 x string");
    }
    assert_true(seen);
    anm_ckpt_close(c);
}

/* ---- which files ---- */

static void files_are_found(void **state)
{
    (void)state;
    anm_ckpt *c = open_ok(DATA "by_cols");
    assert_int_equal(anm_ckpt_shards(c), 2);
    assert_string_equal(anm_ckpt_config_path(c), DATA "by_cols/params.json");
    assert_string_equal(anm_ckpt_path(c), DATA "by_cols");
    assert_string_equal(anm_ckpt_at(c, 1, 0)->file, DATA "by_cols/consolidated.01.pth");
    anm_ckpt_close(c);
    c = open_ok(DATA "by_cols/consolidated.*.pth");
    assert_int_equal(anm_ckpt_shards(c), 2);
    anm_ckpt_close(c);
    c = open_ok(DATA "hf/");
    assert_int_equal(anm_ckpt_shards(c), 1);
    assert_int_equal(anm_ckpt_kind_of(c), ANM_CKPT_SAFETENSORS);
    assert_int_equal(anm_ckpt_count(c, 0), 21);
    assert_string_equal(anm_ckpt_config_path(c), DATA "hf/config.json");
    anm_ckpt_close(c);
    c = open_ok(DATA "hf/model.safetensors.index.json");
    assert_int_equal(anm_ckpt_count(c, 0), 21);
    anm_ckpt_close(c);

    refused("no/such/file", "no/such/file: cannot be opened", "");
    refused("no/such/*.pth", "no/such/*.pth: matches no file", "");
    refused(DATA "odd", "several PyTorch files", "");
    refused("test/ckpt", "holds no checkpoint", "");
    refused("", "cannot be opened", "");
    write_bytes(scratch("empty"), "", 0);
    refused(scratch("empty"), "is empty", "");
    write_bytes(scratch("text"), "What is this?", 13);
    refused(scratch("text"), "no checkpoint that anemone knows", "");
    write_bytes(scratch("text"), "version https://git-lfs.github.com/spec/v1\n", 43);
    refused(scratch("text"), "Git LFS", "");
    write_bytes(scratch("i.json"), "{\"weight_map\": {\"a\": \"../x\"}}", 29);
    refused(scratch("i.json"), "outside the folder", "../x");
    write_bytes(scratch("i.json"), "{\"weight_map\": {\"a\": \"gone\"}}", 29);
    refused(scratch("i.json"), "gone: cannot be opened", "");
    write_bytes(scratch("i.json"), "{\"weight_map\": {\"a\": 3}}", 24);
    refused(scratch("i.json"), "no file for 'a'", "");
    write_bytes(scratch("i.json"), "{\"weight_map\": ", 15);
    refused(scratch("i.json"), "is not JSON", "i.json");
    write_bytes(scratch("i.json"), "{}", 2);
    refused(scratch("i.json"), "without a weight_map", "");
}

/* ---- broken on purpose ---- */

/* Replaces the first `from` in a file by `to`, of one length, and expects a refusal. */
static void mutated(const char *path, const char *from, const char *to, size_t n, const char *a, const char *b)
{
    bytes f = read_bytes(path);
    size_t i = 0;
    while (i + n <= f.size && memcmp(f.data + i, from, n)) i++;
    if (i + n > f.size) fail_msg("%s does not hold %s", path, from);
    memcpy(f.data + i, to, n);
    write_bytes(scratch("mutated"), f.data, f.size);
    refused(scratch("mutated"), a, b);
    free(f.data);
}

static void each_malformation_is_named(void **state)
{
    (void)state;
    const char *m = DATA "odd/module.pth", *s = DATA "qwen3/model.safetensors", *g = DATA "llama.gguf";
#define BREAK(path, from, to, a, b) mutated(path, from, to, sizeof from - 1, a, b)
    BREAK(m, "PK\x05\x06", "PK\x05\x07", "no end record", "cut short");
    BREAK(m, "PK\x01\x02", "PK\x01\x03", "directory is damaged", "");
    BREAK(m, "module/data/0", "module/data/1", "another name in its own header", "");
    BREAK(m, "module/data.pkl", "module/dota.pkl", "another name in its own header", "module/data.pkl");
    BREAK(m, "\x10\0\0\0\x10\0\0\0\x0d", "\x10\0\x10\0\x10\0\x10\0\x0d", "'module/data/0' lies outside the file", "cut short");
    BREAK(m, "\x10\0\0\0\x10\0\0\0\x0d", "\x10\0\0\0\x11\0\0\0\x0d", "'module/data/0' is stored, but its two sizes differ", "");
    BREAK(m, "\x10\0\0\0\x10\0\0\0\x0d", "\xff\xff\xff\xff\x10\0\0\0\x0d", "'module/data/0' lacks its zip64 sizes", "");
    BREAK(m, "little", "litter", "neither little nor big", "");
    BREAK(m, "FloatStorage", "BlastStorage", "wants torch.BlastStorage", "");
    BREAK(m, "K\x02K\x02\x86", "K\x02K\x03\x86", "reaches beyond its storage of 16 bytes", "weight");
    BREAK(m, "X\x01\0\0\0000", "X\x01\0\0\0007", "lies in storage '7', which the archive lacks", "weight");
    BREAK(s, "\"dtype\"", "\"dtypo\"", "has no dtype", "tensor '");
    BREAK(s, "\"shape\":[", "\"shapo\":[", "has no shape", "tensor '");
    BREAK(s, "\"shape\":[16", "\"shape\":[61", "is not what its shape needs", "tensor '");
    BREAK(s, "\"shape\":[16", "\"shape\":[-6", "not made of sizes", "tensor '");
    BREAK(s, "\"F32\"", "\"F99\"", "of type F99, which anemone cannot read", "tensor '");
    BREAK(s, "\"data_offsets\":[0", "\"data_offsetz\":[0", "has no data_offsets", "tensor '");
    BREAK(s, "{\"", "{ ", "header is not JSON", "");
    BREAK(g, "GGUF\x03", "GGUF\x01", "GGUF of version 1", "2 and 3");
    BREAK(g, "GGUF\x03\0\0\0", "GGUF\0\0\0\x03", "big-endian", "");
#define TOKENS "tokenizer.ggml.tokens\x09\0\0\0"
    BREAK(g, TOKENS "\x08\0\0\0\x03\0\0\0\0\0\0\0", TOKENS "\x08\0\0\0\xff\xff\xff\xff\xff\0\0\0", "metadata reach beyond its end", "");
    BREAK(g, TOKENS "\x08\0\0\0\x03\0\0\0\0\0\0\0", TOKENS "\x04\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff", "metadata reach beyond its end", "");
    BREAK(g, TOKENS "\x08", TOKENS "\x09", "is an array of values of kind 9, which is not read", "tokens");
#undef TOKENS
    BREAK(g, "ffn_norm.weight\x01\0\0\0", "ffn_norm.weight\x09\0\0\0", "has 9 dimensions", "ffn_norm.weight");
    BREAK(g, "attn_q.weight\x02\0\0\0\x10\0\0\0\0", "attn_q.weight\x02\0\0\0\x10\0\0\0\x10", "lies outside the file", "");
    BREAK(g, "blk.1.", "blk.0.", "is there twice", "'blk.0.");
    BREAK(g, "llama.block_count\x04", "llama.block_count\x63", "'llama.block_count' has a value of unknown kind 99", "");
    BREAK(g, "llama.block_count\x04", "general.alignment\x06", "general.alignment is of kind f32", "");
#undef BREAK
}

/* A small file of many tensors that are all the same bytes. */
static void bytes_are_not_shared_without_end(void **state)
{
    (void)state;
    enum { MANY = 1000, SHARED = 1 << 16, ENTRY = 8 + 4 + 4 + 8 + 4 + 8 };
    uint8_t *f = calloc(1, MANY * 100 + SHARED + 64), *at = f + 24;
    assert_non_null(f);
    memcpy(f, "GGUF\x03", 5);
    anm_st64(f + 8, MANY);
    for (int i = 0; i < MANY; i++, at += ENTRY) {
        char name[8];
        snprintf(name, sizeof name, "t%03d", i);
        anm_st64(at, 4);
        memcpy(at + 8, name, 4);
        anm_st32(at + 12, 1);
        anm_st64(at + 16, SHARED);
        anm_st32(at + 24, 24); /* I8 */
    }
    at = f + anm_align_up((uint64_t)(at - f), 32);
    write_bytes(scratch("mutated"), f, (size_t)(at - f) + SHARED);
    refused(scratch("mutated"), "mutated: its tensors overlap", "");
    /* a value that a stride of 0 repeats */
    refused(ARCHIVE("}" NAME("w") TENSOR_OF("J\0\0\0\x40\x85", "K\0\x85", "") "s."), "its tensors share their bytes more than 64 times", "");

    int n = sprintf((char *)f + 8, "{");
    for (int i = 0; i < MANY; i++)
        n += sprintf((char *)f + 8 + n, "\"t%d\":{\"dtype\":\"U8\",\"shape\":[1024],\"data_offsets\":[0,1024]}%s", i, i < MANY - 1 ? "," : "}");
    anm_st64(f, (uint64_t)n);
    write_bytes(scratch("mutated"), f, (size_t)n + 8 + 1024);
    refused(scratch("mutated"), "mutated: its tensors overlap", "");
    free(f);
}

/* A name that ends before its end would stand for another. */
static void names_are_whole(void **state)
{
    (void)state;
    mutated(DATA "odd/module.pth", "X\x06\0\0\0weight", "X\x06\0\0\0weigh\0", 11, "empty or broken name", "");
    mutated(DATA "llama.gguf", "blk.0.ffn_norm", "blk.0.\0fn_norm", 14, "empty or broken name", "");
    static const char nameless[] = "\x38\0\0\0\0\0\0\0{\"\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}   \0\0\0";
    write_bytes(scratch("mutated"), nameless, sizeof nameless);
    refused(scratch("mutated"), "empty or broken name", "");
}

static const char *safetensors(const char *header, size_t size)
{
    uint8_t f[1000] = {0};
    size_t n = strlen(header);
    anm_st64(f, n);
    memcpy(f + 8, header, n);
    write_bytes(scratch("mutated"), f, 8 + n + size);
    return scratch("mutated");
}

/* Every byte belongs to one tensor. */
static void tensors_lie_side_by_side(void **state)
{
    (void)state;
#define T(name, n, from, to) "\"" name "\":{\"dtype\":\"F32\",\"shape\":[" n "],\"data_offsets\":[" from "," to "]}"
    anm_ckpt_close(open_ok(safetensors("{" T("b", "1", "8", "12") "," T("none", "0", "8", "8") "," T("a", "2", "0", "8") "," T("z", "0", "12", "12") "}", 12)));
    refused(safetensors("{" T("a", "2", "0", "8") "," T("b", "2", "4", "12") "}", 12), "its tensors overlap: 'b' begins inside", "");
    refused(safetensors("{" T("a", "1", "0", "4") "," T("b", "1", "0", "4") "}", 8), "its tensors overlap", "");
    refused(safetensors("{" T("a", "1", "0", "4") "," T("b", "1", "8", "12") "}", 12), "4 bytes before tensor 'b' belong to none", "");
    refused(safetensors("{" T("a", "1", "4", "8") "}", 8), "4 bytes before tensor 'a'", "");
    refused(safetensors("{" T("a", "1", "0", "4") "}", 9), "5 bytes after its last tensor", "");
#undef T
}

static void gguf_tensors_share_nothing(void **state)
{
    (void)state;
    bytes f = read_bytes(DATA "llama.gguf");
    anm_ckpt *c = open_ok(DATA "llama.gguf");
    const char *a = "blk.0.ffn_gate.weight", *b = "blk.0.ffn_up.weight";
    const uint64_t back = (uint64_t)(anm_ckpt_find(c, 0, b)->data - anm_ckpt_find(c, 0, a)->data);
    anm_ckpt_close(c);
    for (size_t i = 0; i + 60 < f.size; i++) { /* the one is moved to where the other is */
        if (memcmp(f.data + i, b, strlen(b))) continue;
        uint8_t *offset = f.data + i + strlen(b) + 4 + 16 + 4;
        anm_st64(offset, anm_ld64(offset) - back);
        break;
    }
    write_bytes(scratch("mutated"), f.data, f.size);
    refused(scratch("mutated"), "its tensors overlap: '", "blk.0.ffn_");
    free(f.data);
}

/* An index and one file that holds a tensor 'a' beside it. */
static void indexes_tell_the_truth(void **state)
{
    (void)state;
    static const char lies[] = "{\"weight_map\":{\"a\":\"mutated\",\"b\":\"mutated\"}}", right[] = "{\"weight_map\":{\"a\":\"mutated\"}}";
    static const char other[] = "{\"weight_map\":{\"a\":\"other\",\"b\":\"mutated\"}}";
    safetensors("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4);
    write_bytes(scratch("i.json"), right, sizeof right - 1);
    anm_ckpt_close(open_ok(scratch("i.json")));
    write_bytes(scratch("i.json"), lies, sizeof lies - 1);
    refused(scratch("i.json"), "i.json: names 'mutated' for tensor 'b', which that file does not hold", "");
    bytes f = read_bytes(scratch("mutated"));
    f.data[10] = 'b';
    write_bytes(scratch("other"), f.data, f.size);
    free(f.data);
    write_bytes(scratch("i.json"), other, sizeof other - 1);
    refused(scratch("i.json"), "i.json: names 'other' for tensor 'a', which that file does not hold", "");
}

/* What nobody named is no pipe that is waited for. */
static void what_is_found_is_a_file(void **state)
{
    (void)state;
    static const char index[] = "{\"weight_map\":{\"a\":\"pipe\"}}";
    unlink(scratch("pipe"));
    assert_int_equal(mkfifo(scratch("pipe"), 0600), 0);
    write_bytes(scratch("i.json"), index, sizeof index - 1);
    refused(scratch("i.json"), "pipe: is no regular file", "");
    safetensors("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4);
    assert_int_equal(symlink("nowhere", scratch("params.json")), 0);
    anm_ckpt *c = open_ok(scratch("mutated"));
    anm_map m;
    anm_error err;
    assert_non_null(anm_ckpt_config_path(c)); /* it is there, and opening it says what is wrong with it */
    assert_int_equal(anm_map_open_found(&m, anm_ckpt_config_path(c), &err), ANM_ERR_IO);
    assert_non_null(strstr(err.text, "params.json: cannot be opened: it is a link that leads nowhere"));
    anm_ckpt_close(c);
    write_bytes(scratch("config.json"), "{}", 2); /* one that is a file goes before one that is not */
    c = open_ok(scratch("mutated"));
    assert_non_null(strstr(anm_ckpt_config_path(c), "config.json"));
    anm_ckpt_close(c);
    unlink(scratch("config.json"));
    unlink(scratch("params.json"));
}

/* Every proper beginning of a checkpoint is refused. */
static void cut_files_are_refused(void **state)
{
    (void)state;
    static const char *const path[] = {DATA "odd/types.pth", DATA "hf/model-00002-of-00002.safetensors", DATA "qwen2.gguf"};
    for (int k = 0; k < 3; k++) {
        bytes f = read_bytes(path[k]);
        anm_ckpt *c;
        anm_error err;
        for (size_t n = 1; n < f.size; n += n < 64 || n + 64 > f.size ? 1 : 13) {
            write_bytes(scratch("cut"), f.data, n);
            if (!anm_ckpt_open(&c, scratch("cut"), &err)) fail_msg("%s cut to %zu bytes was read", path[k], n);
        }
        free(f.data);
    }
}

/* Random bytes changed: whatever comes of it, nothing crashes, and what is read can be read to its end. */
static void changed_files_never_crash(void **state)
{
    (void)state;
    static const char *const path[] = {DATA "odd/types.pth", DATA "odd/module.pth", DATA "hf/model-00002-of-00002.safetensors",
                                       DATA "qwen2.gguf", DATA "blocks.gguf"};
    uint64_t seed = 1;
    size_t read = 0;
    for (int k = 0; k < 5; k++) {
        bytes f = read_bytes(path[k]);
        uint8_t *p = malloc(f.size);
        for (int round = 0; round < 400; round++) {
            memcpy(p, f.data, f.size);
            for (uint32_t n = next_random(&seed) % 4 + 1; n-- > 0;) {
                /* heads and tails hold the structure */
                size_t near = next_random(&seed) % (f.size < 1500 ? f.size : 1500);
                p[next_random(&seed) % 2 ? near : f.size - 1 - near] = (uint8_t)next_random(&seed);
            }
            anm_ckpt *c;
            anm_error err;
            write_bytes(scratch("changed"), p, f.size);
            if (anm_ckpt_open(&c, scratch("changed"), &err)) continue;
            read++;
            for (size_t i = 0; i < anm_ckpt_count(c, 0); i++) {
                const anm_tensor *t = anm_ckpt_at(c, 0, i);
                int64_t rows = t->rank == 2 ? t->shape[0] : 1, cols = t->rank ? t->shape[t->rank - 1] : 0;
                if (cols > 1 << 16 || !anm_tensor_readable(t)) continue;
                float *out = malloc((size_t)cols * sizeof *out + 1);
                for (int64_t r = 0; r < rows && r < 100; r++) anm_tensor_rows_f32(out, t, r, 1, &err);
                if (rows) anm_tensor_rows_f32(out, t, rows - 1, 1, &err);
                free(out);
            }
            anm_ckpt_close(c);
        }
        free(p);
        free(f.data);
    }
    assert_true(read > 100); /* some changes touch only values */
}

/* Any bytes, at any address, of every type: the vector forms give the plain one's bits. */
static void vector_values_equal_plain(void **state)
{
    (void)state;
    enum { ROOM = 256 * 12 + 7 };
    static uint8_t raw[ROOM * 8];
    static float a[ROOM], b[ROOM];
    uint32_t s = 5;
    for (size_t i = 0; i < sizeof raw; i++) raw[i] = (uint8_t)((s = s * 1664525u + 1013904223u) >> 24);
    for (anm_dtype t = 1; t < ANM_DT_COUNT; t++) {
        const anm_tensor of = {.dtype = t};
        if (!anm_tensor_readable(&of)) continue;
        for (size_t at = 0; at < 5; at++)
            for (size_t blocks = 1; blocks < 12; blocks++) {
                size_t n = anm_dtype_block(t) * (blocks + (anm_dtype_block(t) == 1 ? at * 13 : 0));
                memset(a, 1, sizeof a);
                memset(b, 1, sizeof b);
                anm_values_plain(a, t, raw + at * 31, n);
                anm_values_best()(b, t, raw + at * 31, n);
                for (size_t i = 0; i < ROOM; i++) /* which NaN it is may differ where one was made by adding */
                    if (a[i] == a[i] || b[i] == b[i]) assert_memory_equal(a + i, b + i, sizeof *a);
            }
    }
}

/* Any bytes of the types that have levels: a level is the value, bit for bit but for a zero's sign. */
static void levels_are_values(void **state)
{
    (void)state;
    enum { ROWS = 40, COLS = 512 };
    static uint8_t raw[ROWS * COLS];
    static float x[ROWS * COLS];
    static anm_levels l[ROWS * COLS / ANM_LEVEL_RUN];
    uint32_t s = 11;
    for (size_t i = 0; i < sizeof raw; i++) raw[i] = (uint8_t)((s = s * 1664525u + 1013904223u) >> 24);
    int seen = 0;
    for (anm_dtype d = 1; d < ANM_DT_COUNT; d++) {
        const anm_tensor t = {.name = "t", .file = "f", .dtype = d, .rank = 2, .shape = {ROWS, COLS}, .stride = {COLS, 1}, .data = raw};
        if (!anm_tensor_has_levels(&t)) continue;
        seen++;
        anm_error err;
        assert_int_equal(anm_tensor_rows_f32(x, &t, 1, ROWS - 1, &err), 0);
        anm_tensor_rows_levels(l, &t, 1, ROWS - 1);
        for (size_t i = 0; i < (ROWS - 1) * COLS; i++) {
            const anm_levels *of = l + i / ANM_LEVEL_RUN;
            assert_in_range(of->index[i % ANM_LEVEL_RUN], 0, ANM_LEVELS - 1);
            float product = of->step * (float)of->index[i % ANM_LEVEL_RUN], value = product + of->base;
            assert_true(value == x[i] || (value != value && x[i] != x[i]));
        }
    }
    assert_int_equal(seen, 3);
}

static int tidy(void **state)
{
    static const char *const names[] = {"wide.pth", "empty", "text", "i.json", "mutated", "cut", "changed", "made.pth", "other", "pipe"};
    (void)state;
    drop_scratch(names, sizeof names / sizeof *names);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(odd_tensors_are_read),
        cmocka_unit_test(pickles_call_nothing),
        cmocka_unit_test(other_pth_are_named),
        cmocka_unit_test(pickle_shapes_are_checked),
        cmocka_unit_test(tensor_arguments_are_checked),
        cmocka_unit_test(pickles_stay_small),
        cmocka_unit_test(zip64_is_read),
        cmocka_unit_test(blocks_are_exact),
        cmocka_unit_test(vector_values_equal_plain),
        cmocka_unit_test(levels_are_values),
        cmocka_unit_test(every_half_is_exact),
        cmocka_unit_test(metadata_is_read),
        cmocka_unit_test(files_are_found),
        cmocka_unit_test(each_malformation_is_named),
        cmocka_unit_test(bytes_are_not_shared_without_end),
        cmocka_unit_test(names_are_whole),
        cmocka_unit_test(flags_of_tensors_are_seen),
        cmocka_unit_test(keys_are_there_once),
        cmocka_unit_test(one_archive_holds_one_model),
        cmocka_unit_test(what_follows_an_archive_is_named),
        cmocka_unit_test(tensors_lie_side_by_side),
        cmocka_unit_test(gguf_tensors_share_nothing),
        cmocka_unit_test(indexes_tell_the_truth),
        cmocka_unit_test(what_is_found_is_a_file),
        cmocka_unit_test(cut_files_are_refused),
        cmocka_unit_test(changed_files_never_crash),
    };
    return cmocka_run_group_tests_name("ckpt", tests, NULL, tidy);
}
