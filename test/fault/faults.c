/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Bad days: every command meets every failing allocation and every failing system call, one run for each, and exports
 * are killed at random moments. A run must end in one of two ways: with exit code 0 and the right output; or with exit
 * code 1 (2 of compare), one line on standard error, the old files as they were, no new ones, and (allocations) nothing left allocated.
 *
 *     faults ANEMONE SHIM SOURCE-FOLDER [every|SAMPLE [NAME|kills]]
 *
 * prints TAP. The short form takes a sample, so many of each kind spread evenly (12). SHIM is failing_malloc.c as a shared library.
 */
#define _GNU_SOURCE
#include "faults.h"

#include <dirent.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Commands. A word that begins with @ is a path in the source folder; OUT is what the command makes, if anything. */
#define PTH "-c", "@test/cli/data/whole.pth", "-p", "@test/cli/data/params.json", "--max_context_len", "32", "--input_len", "8"
#define ANSWER "--max_new_tokens", "3", "--greedy", "--print_tokens"

typedef struct job {
    const char *name;
    const char *argv[MOST_ARGS];
    const char *out;
    bool folder;
    bool timed; /* its output holds times, or "?" for a type that there was no memory to spell: not compared */
} job;

static const job jobs[] = {
    {"export .pth", {"export", "-q", PTH, "-o", "out.pte", "--threads", "1"}, "out.pte", false, false},
    {"export .pth, multifunction", {"export", "-q", PTH, "-o", "out.pte", "--threads", "2", "--multifunction"}, "out.pte", false, false},
    {"export GGUF", {"export", "-q", "-c", "@test/data/ckpt/llama.gguf", "-o", "out.pte", "--threads", "1", "-E", ""}, "out.pte", false, false},
    {"export a folder of safetensors", {"export", "-q", "-c", "@test/data/ckpt/hf", "-o", "out.pte", "--threads", "1", "-E", ""}, "out.pte", false, false},
    {"export, dumped", {"export", "-q", PTH, "-o", "out.pte", "--dump", "after:build", "--threads", "1"}, "out.pte", false, false},
    {"export, calibrated", {"export", "-q", "-c", "@models/tiny/tiny.gguf", "--calibrate", "text.txt", "--calibrate_windows", "1",
     "-o", "out.pte", "--threads", "1"}, "out.pte", false, false},
    {"run, tokens", {"run", "-m", "small.pte", "--tokens", "1,2,3", ANSWER, "-j", "1"}, NULL, false, false},
    {"run, two threads", {"run", "-m", "multi.pte", "--tokens", "1,2,3", ANSWER, "-j", "2", "--seed", "1"}, NULL, false, false},
    {"run, logits", {"run", "-m", "small.pte", "--tokens", "1,2,3", ANSWER, "-j", "1", "--logits", "out.npy", "--exact"}, "out.npy", false, false},
    {"run, every operation rounded", {"run", "-m", "small.pte", "--tokens", "1,2,3", ANSWER, "-j", "1", "--precision", "fp16"}, NULL, false, false},
    {"run, lookahead", {"run", "-m", "small.pte", "--tokens", "1,2,3", ANSWER, "-j", "1", "--lookahead=always", "--ngram_size", "2",
     "--window_size", "2", "--n_verifications", "2"}, NULL, false, false},
    {"run, a prompt", {"run", "-m", "tiny.pte", "-t", "@models/tiny/tiny.gguf", "--prompt", "Hello", ANSWER, "-j", "1"}, NULL, false, false},
    {"eval", {"eval", "-m", "tiny.pte", "-t", "@models/tiny/tiny.gguf", "--text", "text.txt", "--window", "32", "--max_windows", "1",
     "-j", "1", "--quiet", "--json"}, NULL, false, true},
    {"inspect a program", {"inspect", "small.pte"}, NULL, false, false},
    {"inspect a program's operations", {"inspect", "--ops", "small.pte"}, NULL, false, false},
    {"inspect, JSON", {"inspect", "--json", "multi.pte"}, NULL, false, false},
    {"inspect a checkpoint", {"inspect", "@test/data/ckpt/hf"}, NULL, false, false},
    {"extract", {"extract", "small.pte", "-o", "out"}, "out", true, false},
    {"compare", {"compare", "small.pte", "small.pte"}, NULL, false, false},
    {"compare, unlike", {"compare", "small.pte", "multi.pte"}, NULL, false, true},
    {"tokenize, tiktoken", {"tokenize", "-t", "@test/data/token/tiktoken.model", "text.txt"}, NULL, false, false},
    {"tokenize, SentencePiece", {"tokenize", "-t", "@test/data/token/spm_unigram.model", "text.txt"}, NULL, false, false},
    {"tokenize, Hugging Face", {"tokenize", "-t", "@test/data/token/hf_llama3.json", "text.txt"}, NULL, false, false},
    {"tokenize, GGUF", {"tokenize", "-t", "@models/tiny/tiny.gguf", "text.txt"}, NULL, false, false},
};
enum { JOBS = sizeof jobs / sizeof *jobs };

static const char *program, *shim, *source;
static bool every;
static uint64_t sample = 12; /* faults of a kind for each command */
static int tests;
static uint64_t felt[FAULT_SIGNAL]; /* faults of each kind that a command told of */
static bool failed;

/* The command's words with paths put in; NULL at the end. Lives until the next call. */
static char *const *words(const char *const *argv)
{
    static char text[MOST_ARGS][4096];
    static char *list[MOST_ARGS + 2];
    int n = 0;
    list[n++] = (char *)(uintptr_t)program;
    for (; argv[n - 1]; n++) {
        const char *w = argv[n - 1];
        snprintf(text[n], sizeof text[n], "%s%s%s", *w == '@' ? source : "", *w == '@' ? "/" : "", *w == '@' ? w + 1 : w);
        list[n] = text[n];
    }
    list[n] = NULL;
    return list;
}

static void verdict(bool good, const char *what, const char *name)
{
    printf("%sok %d - %s: %s\n", good ? "" : "not ", ++tests, name, what);
    failed |= !good;
    fflush(stdout);
}

/* ---- judgement ---- */

/* What a command leaves when all goes well. */
typedef struct truth {
    int code;
    uint64_t text, made; /* fingerprints of standard output, and of what it makes */
    uint64_t held;       /* what the C library keeps for threads that have ended */
} truth;

static const char old_text[] = "the old file\n";

static void put_old(const job *j)
{
    if (!j->out) return;
    fault_remove(j->out);
    if (j->folder) return;
    FILE *f = fopen(j->out, "w");
    if (f) {
        fputs(old_text, f);
        fclose(f);
    }
}

/* The first name in the current folder that does not belong there; NULL: none. */
static const char *stray(const job *j)
{
    static const char *const known[] = {".", "..", "small.pte", "multi.pte", "tiny.pte", "text.txt", "big", NULL};
    static char name[256];
    DIR *d = opendir(".");
    struct dirent *e;
    bool found = false;
    while (d && !found && (e = readdir(d))) {
        bool mine = j->out && !strcmp(e->d_name, j->out);
        for (int i = 0; known[i] && !mine; i++) mine = !strcmp(e->d_name, known[i]);
        if (mine) continue;
        snprintf(name, sizeof name, "%s", e->d_name);
        found = true;
    }
    if (d) closedir(d);
    return found ? name : NULL;
}

static bool old_is_there(const job *j)
{
    char text[sizeof old_text] = "";
    if (!j->out) return true;
    if (j->folder) return fault_fingerprint(j->out) == 0;
    FILE *f = fopen(j->out, "r");
    size_t n = f ? fread(text, 1, sizeof text, f) : 0;
    if (f) fclose(f);
    return n == sizeof old_text - 1 && !memcmp(text, old_text, n);
}

/* One line "anemone: …", behind nothing but the figures of a run? */
static bool one_line(bool memory, const char **why, char *line, size_t room)
{
    FILE *f = fopen("../errors", "r");
    size_t n = f ? fread(line, 1, room - 1, f) : 0;
    if (f) fclose(f);
    line[n] = 0;
    char *ours = strstr(line, "anemone: "), *end = ours ? strchr(ours, '\n') : NULL;
    *why = !n ? "no message" : !ours || (ours > line && ours[-1] != '\n') ? "not our message" : !end || end[1] ? "not one line"
           : memory && !strcasestr(ours, "memory") ? "does not say that memory is out" : NULL;
    return !*why;
}

/* What is wrong with this outcome; NULL: nothing. */
static const char *judge(const job *j, const truth *t, const fault *f, const outcome *o, char *line, size_t room)
{
    const char *why = NULL, *left = stray(j);
    static char text[320];
    if (left && !strcmp(left, "out.pte.calib") && o->code == 1) { /* the work of a calibration is kept, to go on with */
        remove(left);
        left = stray(j);
    }
    line[0] = 0;
    if (o->hung) return "did not end";
    if (o->signal) {
        snprintf(text, sizeof text, "died of signal %d", o->signal);
        return text;
    }
    if (left) {
        snprintf(text, sizeof text, "left %s (exit code %d)", left, o->code);
        fault_remove(left);
        return text;
    }
    if (f->kind == FAULT_ALLOCATION && o->counted && o->held > t->held) {
        snprintf(text, sizeof text, "%" PRIu64 " blocks not freed", o->held - t->held);
        why = text;
    }
    bool same_text = j->timed || fault_fingerprint("../text") == t->text, same_file = !j->out || fault_fingerprint(j->out) == t->made;
    if (o->code == t->code && same_text && same_file) return why;
    if (o->code == 0) return same_text ? "exit code 0, and another file" : "exit code 0, and other text";
    bool voiceless = f->kind == FAULT_SYSTEM_CALL && !strcmp(fault_call_name(o->call), "write") && o->argument == 2;
    const char *wrong;
    const int trouble = strcmp(j->argv[0], "compare") ? 1 : 2; /* whose 1 is a difference */
    if (o->code != trouble) {
        snprintf(text, sizeof text, "exit code %d", o->code);
        why = text;
    }
    if (!voiceless && !one_line(f->kind == FAULT_ALLOCATION, &wrong, line, room)) why = wrong;
    if (!same_file && !old_is_there(j)) why = "the file is neither the old one nor the new one";
    return why;
}

/* ---- each fault in turn ---- */

static bool run_one(outcome *o, const job *j, const fault *f)
{
    put_old(j);
    if (f->kind == FAULT_SYSTEM_CALL) return fault_run_traced(o, words(j->argv), f, "../text", "../errors");
    fault_run(o, words(j->argv), f, shim, "../text", "../errors");
    return true;
}

static void try_all(const job *j, int kind, bool sticky)
{
    static uint64_t offset; /* each job's sample begins elsewhere */
    fault f = {.kind = kind};
    outcome o;
    truth t;
    char what[96];
    const int right = !strcmp(j->name, "compare, unlike"); /* whose answer is that they differ */
    if (!run_one(&o, j, &f) || o.signal || !o.calls || o.code != right) {
        printf("# code %d, signal %d\n", o.code, o.signal);
        verdict(false, "the run without a fault", j->name);
        return;
    }
    t = (truth){o.code, fault_fingerprint("../text"), j->out ? fault_fingerprint(j->out) : 0, o.held};
    uint64_t n = o.calls, wanted = every ? n : sample, step = n < wanted ? 1 : n / wanted, runs = 0, bad = 0, survived = 0;
    for (uint64_t at = 1 + offset++ % step; at <= n; at += step) {
        char line[2048];
        f = (fault){.kind = kind, .at = at, .sticky = sticky};
        if (!run_one(&o, j, &f)) continue;
        const char *why = judge(j, &t, &f, &o, line, sizeof line);
        runs++;
        survived += !why && o.code == t.code;
        felt[kind] += !why && o.code != t.code;
        if (why && bad++ < 12)
            printf("# %s: %s %" PRIu64 "%s%s: %s\n#   %s\n", j->name, kind == FAULT_ALLOCATION ? "allocation" : "call", at,
                   kind == FAULT_SYSTEM_CALL ? " " : "", kind == FAULT_SYSTEM_CALL ? fault_call_name(o.call) : "", why, line);
    }
    snprintf(what, sizeof what, "%s %" PRIu64 " of %" PRIu64 "%s, %" PRIu64 " harmless, %" PRIu64 " defects",
             kind == FAULT_ALLOCATION ? "allocations" : "system calls", runs, n, sticky ? " and all after" : "", survived, bad);
    verdict(!bad, what, j->name);
    if (j->out) fault_remove(j->out);
}

/* ---- exports that are killed ---- */

/* A checkpoint of random weights, some `megabytes`, in Hugging Face's form. */
static bool make_checkpoint(const char *folder, int megabytes)
{
    enum { DIM = 256, HIDDEN = 768, HEADS = 8 };
    static const struct {
        const char *name;
        int rows, cols;
    } part[] = {{"self_attn.q_proj", DIM, DIM}, {"self_attn.k_proj", DIM, DIM}, {"self_attn.v_proj", DIM, DIM},
                {"self_attn.o_proj", DIM, DIM}, {"mlp.gate_proj", HIDDEN, DIM}, {"mlp.up_proj", HIDDEN, DIM},
                {"mlp.down_proj", DIM, HIDDEN}, {"input_layernorm", DIM, 0}, {"post_attention_layernorm", DIM, 0}};
    const int layers = 8;
    const long vocab = ((long)megabytes * 1000000 / 2 / DIM - layers * (4L * DIM + 3L * HIDDEN)) / 64 * 64;
    char path[64];
    char *head = malloc(65536), *p = head;
    uint64_t at = 0, seed = 88172645463325252u;
    if (!head || mkdir(folder, 0777)) return false;
    snprintf(path, sizeof path, "%s/config.json", folder);
    FILE *f = fopen(path, "w");
    if (!f) return false;
    fprintf(f, "{\"model_type\":\"llama\",\"architectures\":[\"LlamaForCausalLM\"],\"hidden_size\":%d,\"intermediate_size\":%d,"
            "\"num_attention_heads\":%d,\"num_key_value_heads\":%d,\"num_hidden_layers\":%d,\"vocab_size\":%ld,"
            "\"rms_norm_eps\":1e-5,\"rope_theta\":10000.0,\"tie_word_embeddings\":true,\"hidden_act\":\"silu\"}\n",
            DIM, HIDDEN, HEADS, HEADS, layers, vocab);
    fclose(f);
#define TENSOR(bytes, shape, ...) \
    do { \
        p += sprintf(p, "%s\"" __VA_ARGS__); \
        p += sprintf(p, "\":{\"dtype\":\"BF16\",\"shape\":%s,\"data_offsets\":[%llu,%llu]}", shape, (unsigned long long)at, \
                     (unsigned long long)(at + (uint64_t)(bytes))); \
        at += (uint64_t)(bytes); \
    } while (0)
    char shape[48];
    snprintf(shape, sizeof shape, "[%ld,%d]", vocab, DIM);
    TENSOR(vocab * DIM * 2, shape, "model.embed_tokens.weight", "{");
    TENSOR(DIM * 2, "[256]", "model.norm.weight", ",");
    for (int i = 0; i < layers; i++)
        for (size_t k = 0; k < sizeof part / sizeof *part; k++) {
            if (part[k].cols) snprintf(shape, sizeof shape, "[%d,%d]", part[k].rows, part[k].cols);
            else snprintf(shape, sizeof shape, "[%d]", part[k].rows);
            TENSOR((part[k].cols ? part[k].cols : 1) * part[k].rows * 2, shape, "model.layers.%d.%s.weight", ",", i, part[k].name);
        }
    p += sprintf(p, "}");
    while ((p - head) % 8) *p++ = ' ';
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    f = fopen(path, "wb");
    if (!f) return false;
    uint64_t n = (uint64_t)(p - head);
    fwrite(&n, sizeof n, 1, f);
    fwrite(head, 1, n, f);
    free(head);
    static uint16_t block[1 << 15];
    for (uint64_t done = 0; done < at;) {
        for (size_t i = 0; i < sizeof block / sizeof *block; i++) {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            block[i] = (uint16_t)(0x3c00 | (seed & 0x80ff)); /* bf16 of either sign, between 0.008 and 0.03 */
        }
        size_t part_size = at - done < sizeof block ? (size_t)(at - done) : sizeof block;
        fwrite(block, 1, part_size, f);
        done += part_size;
    }
    return fclose(f) == 0;
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void kill_exports(int times, int megabytes)
{
    static const int signals[] = {SIGKILL, SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGXCPU};
    const job j = {"export", {"export", "-q", "-c", "big", "-o", "out.pte", every ? "--quiet" : "--no_sync", "--max_context_len", "64"}, "out.pte", false, false};
    char what[128];
    outcome o;
    uint64_t seed = 0x2545f4914f6cdd1du;
    if (!make_checkpoint("big", megabytes)) {
        verdict(false, "could not be made", "a large checkpoint");
        return;
    }
    put_old(&j);
    double start = seconds();
    fault_run(&o, words(j.argv), &(fault){0}, NULL, "../text", "../errors");
    double whole = seconds() - start;
    const uint64_t made = fault_fingerprint("out.pte");
    if (o.code) {
        char line[512];
        const char *why;
        one_line(false, &why, line, sizeof line);
        printf("# %s\n", line);
    }
    int bad = o.code != 0, kept = 0, replaced = 0, temps = 0;
    for (int i = 0; i < times && !(o.code && i == 0); i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        const fault f = {.kind = FAULT_SIGNAL, .signal = signals[(size_t)i % (sizeof signals / sizeof *signals)], .at = (uint64_t)((double)(seed >> 40) / 16777216.0 * whole * 1e9)};
        const char *left, *why = NULL;
        put_old(&j);
        fault_run(&o, words(j.argv), &f, NULL, "../text", "../errors");
        bool is_old = old_is_there(&j), is_new = !is_old && fault_fingerprint("out.pte") == made;
        kept += is_old;
        replaced += is_new;
        if (!is_old && !is_new) why = "neither the old file nor the new one";
        else if (o.hung || (o.signal ? o.signal != f.signal : o.code != 0)) why = "did not die of it";
        else if (o.code == 0 && is_old) why = "exit code 0, and the old file";
        while ((left = stray(&j))) {
            if (f.signal != SIGKILL) why = "left a temporary file";
            temps++;
            fault_remove(left);
        }
        if (why && bad++ < 12) printf("# signal %d after %.4f s: %s (code %d, signal %d)\n", f.signal, (double)f.at * 1e-9, why, o.code, o.signal);
    }
    snprintf(what, sizeof what, "%d times within %.2f s: %d old, %d new; %d temporary files after SIGKILL; %d defects", times,
             whole, kept, replaced, temps, bad);
    verdict(!bad, what, "an export killed");
    verdict(kept > 0, "some were struck before the end", "an export killed");
    fault_remove("big");
    fault_remove("out.pte");
}

/* ---- files that are asked for ---- */

static char *const *asking; /* the words of the command that runs */
static char unnamed[4096];  /* the first file that it was not told of */

static size_t folder_length(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? (size_t)(slash - path) : 0;
}

/* Is it what a word names, below that, a temporary file beside it, its folder (to be synced), or a file of settings beside it? */
static bool word_names(const char *word, const char *path)
{
    static const char *const beside[] = {"params.json", "config.json", "tokenizer_config.json", "chat_template.jinja", "added_tokens.json"};
    size_t n = folder_length(word);
    if (!strncmp(path, word, strlen(word))) return true;
    if (n ? strlen(path) == n && !strncmp(path, word, n) : !strcmp(path, ".")) return true;
    if (folder_length(path) != n || strncmp(path, word, n)) return false;
    for (size_t i = 0; i < sizeof beside / sizeof *beside; i++)
        if (!strcmp(path + n + (n > 0), beside[i])) return true;
    return false;
}

static void judge_file(const char *path)
{
    static const char *const systems[] = {"/dev/null", "/dev/urandom", "/etc/localtime", "/etc/terminfo", "/lib/terminfo", "/proc/",
                                          "/sys/", "/usr/lib/", "/usr/share/locale", "/usr/share/terminfo", "/usr/share/zoneinfo"};
    for (size_t i = 0; i < sizeof systems / sizeof *systems; i++)
        if (!strncmp(path, systems[i], strlen(systems[i]))) return;
    for (char *const *w = asking + 1; *w; w++)
        if (**w && **w != '-' && word_names(*w, path)) return; /* an empty word names nothing */
    if (!*unnamed) snprintf(unnamed, sizeof unnamed, "%s", path);
}

/* A command opens what it was told of and what is the system's. */
static void watch_files(const job *j)
{
    outcome o;
    char what[128];
    put_old(j);
    *unnamed = 0;
    asking = words(j->argv);
    fault_asked_for = judge_file;
    bool ran = fault_run_traced(&o, asking, &(fault){.kind = FAULT_SYSTEM_CALL}, "../text", "../errors");
    fault_asked_for = NULL;
    snprintf(what, sizeof what, *unnamed ? "asks for a file that it was not told of: %.60s" : "asks for no file but those named", unnamed);
    verdict(ran && !*unnamed, what, j->name);
}

/* ---- the whole ---- */

static bool prepare(void)
{
    static const char *const makes[][MOST_ARGS] = {
        {"export", "-q", PTH, "-o", "small.pte"},
        {"export", "-q", PTH, "-o", "multi.pte", "--multifunction"},
        {"export", "-q", "-c", "@models/tiny/tiny.gguf", "-o", "tiny.pte", "--max_context_len", "64"},
    };
    for (size_t i = 0; i < sizeof makes / sizeof *makes; i++) {
        outcome o;
        fault_run(&o, words(makes[i]), &(fault){0}, NULL, "../text", "../errors");
        if (o.code) return false;
    }
    FILE *f = fopen("text.txt", "w");
    for (int i = 0; f && i < 120; i++) fprintf(f, "Once upon a time there was a small fox, and it had %d eggs.\n", i);
    return f && fclose(f) == 0;
}

static char folder[] = "/tmp/anemone-faults-XXXXXX";

int main(int argc, char **argv)
{
    static char paths[3][4096];
    if (argc < 4) {
        fprintf(stderr, "usage: faults ANEMONE SHIM SOURCE-FOLDER [every|SAMPLE [NAME]]\n");
        return 2;
    }
    for (int i = 0; i < 3; i++)
        if (!realpath(argv[i + 1], paths[i])) {
            perror(argv[i + 1]);
            return 2;
        }
    program = paths[0];
    shim = paths[1];
    source = paths[2];
    every = argc > 4 && !strcmp(argv[4], "every");
    if (argc > 4 && !every) sample = strtoull(argv[4], NULL, 10);
    if (!sample) sample = 1;
    const char *only = argc > 5 ? argv[5] : NULL;
    if (!mkdtemp(folder) || chdir(folder) || mkdir("work", 0777) || chdir("work")) {
        perror(folder);
        return 2;
    }
    bool ready = prepare(), traces = fault_can_trace();
    if (!ready) verdict(false, "could not be made", "programs to work on");
    for (int i = 0; i < JOBS && ready; i++) {
        if (only && strcmp(only, jobs[i].name)) continue;
        try_all(&jobs[i], FAULT_ALLOCATION, false);
        if (every) try_all(&jobs[i], FAULT_ALLOCATION, true);
        if (traces) watch_files(&jobs[i]);
        if (traces) try_all(&jobs[i], FAULT_SYSTEM_CALL, false);
        else printf("ok %d - %s: system calls # SKIP this machine does not let us trace\n", ++tests, jobs[i].name);
    }
    if (ready && !only) verdict(felt[FAULT_ALLOCATION] > 0, "failing allocations are felt", "all commands");
    if (ready && !only && traces) verdict(felt[FAULT_SYSTEM_CALL] > 0, "failing calls are felt", "all commands");
    if (ready && (!only || !strcmp(only, "kills"))) kill_exports(every ? 1200 : 24, every ? 100 : 24);
    printf("1..%d\n", tests);
    if (chdir("/") == 0) fault_remove(folder);
    return failed;
}
