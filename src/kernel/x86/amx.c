/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Products of int8 with AMX: a tile register takes 16 rows of activations by the 32 inputs of a group, another the
 * group's weights, whose packing (inputs by fours, 16 rows side by side) is the one that the instruction wants; a third
 * gets the 16 x 16 sums, which are scaled with AVX-512. Few rows go by avx512vnni.c, which is as good there.
 *
 * The tiles: 0 and 1 the sums of rows 0 … 15 for even and odd groups, 2 and 3 those of rows 16 … 31, 4 and 5 the
 * activations of either half, 6 and 7 the weights of even and odd groups.
 */
#include "kernel/x86/rows512.h"

#include <stdatomic.h>

enum { LEAST_ROWS = 8, TILE_ROWS = 16, ROW_BYTES = 64, GROUP_STEPS = 8 };

/* What LDTILECFG reads. */
typedef struct tile_config {
    uint8_t palette, start_row, zero[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_config;
_Static_assert(sizeof(tile_config) == 64, "the processor's layout");

static void set_tile(tile_config *c, int tile, int rows, int row_bytes)
{
    c->rows[tile] = (uint8_t)rows;
    c->row_bytes[tile] = (uint16_t)row_bytes;
}

/* Not every compiler knows what the tile instructions read. */
static inline void written(void)
{
    atomic_signal_fence(memory_order_seq_cst);
}

/* A group's weights as bytes: a row of a tile for every 4 inputs. */
static inline void unpack(uint8_t to[GROUP_STEPS][ROW_BYTES], const uint8_t *nibbles)
{
    const __m512i low = _mm512_set1_epi8(15);
    for (int j = 0; j < 4; j++) {
        __m512i p = _mm512_load_si512(nibbles + 64 * j);
        _mm_prefetch((const char *)nibbles + ANM_512_AHEAD + 64 * j, _MM_HINT_T0);
        _mm512_store_si512(to[2 * j], _mm512_and_si512(p, low));
        _mm512_store_si512(to[2 * j + 1], _mm512_and_si512(_mm512_srli_epi16(p, 4), low));
    }
}

static inline __attribute__((always_inline)) void q4_q8(float *out, const anm_q4 *w, const uint8_t *t, const anm_q8 *x,
                                                        int32_t row, int32_t rows, anm_scales kind)
{
    const bool grouped = kind != ANM_SCALES_ROW;
    const int64_t stride = x->groups * ANM_GROUP;
    const int32_t more = rows - TILE_ROWS;
    _Alignas(64) int32_t dot[2][ANM_ROWS_MAX][ANM_TILE];
    _Alignas(64) uint8_t weights[2][GROUP_STEPS][ROW_BYTES];
    for (int32_t r = 0; r < rows; r++) _mm512_storeu_ps(out + r * ANM_TILE, _mm512_setzero_ps());
    for (int64_t g = 0; g <= w->groups; g++) {
#define MULTIPLY(odd, sums, more_sums, weight_tile)                                                                    \
    do {                                                                                                               \
        _tile_loadd(weight_tile, weights[odd], ROW_BYTES);                                                             \
        _tile_loadd(4, q, stride);                                                                                     \
        _tile_zero(sums);                                                                                              \
        _tile_dpbssd(sums, 4, weight_tile);                                                                            \
        _tile_stored(sums, dot[odd], ROW_BYTES);                                                                       \
        if (more > 0) {                                                                                                \
            _tile_loadd(5, q + TILE_ROWS * stride, stride);                                                            \
            _tile_zero(more_sums);                                                                                     \
            _tile_dpbssd(more_sums, 5, weight_tile);                                                                   \
            _tile_stored(more_sums, dot[odd][TILE_ROWS], ROW_BYTES);                                                   \
        }                                                                                                              \
    } while (0)
        if (g < w->groups) {
            const int8_t *q = x->q + (row * x->groups + g) * ANM_GROUP;
            unpack(weights[g & 1], t + anm_q4_nibbles_at(kind, g));
            written();
            if (g & 1) MULTIPLY(1, 1, 3, 7);
            else MULTIPLY(0, 0, 2, 6);
            written();
        }
#undef MULTIPLY
        if (g == 0) continue;
        /* Meanwhile the group before is scaled and added up. */
        __m512 ws = grouped ? anm_512_scales(kind, t, g - 1) : _mm512_setzero_ps();
        for (int32_t r = 0; r < rows; r++) {
            int64_t at = (row + r) * x->groups + g - 1;
            __m512i d = _mm512_add_epi32(_mm512_load_si512(dot[(g - 1) & 1][r]), _mm512_set1_epi32(x->offset[at]));
            __m512 s = _mm512_set1_ps(x->scale[at]);
            if (grouped) s = _mm512_mul_ps(s, ws);
            float *sum = out + r * ANM_TILE;
            _mm512_storeu_ps(sum, _mm512_fmadd_ps(_mm512_cvtepi32_ps(d), s, _mm512_loadu_ps(sum)));
        }
    }
    if (grouped) return;
    __m512 ws = anm_512_scales(ANM_SCALES_ROW, t, 0);
    for (int32_t r = 0; r < rows; r++)
        _mm512_storeu_ps(out + r * ANM_TILE, _mm512_mul_ps(_mm512_loadu_ps(out + r * ANM_TILE), ws));
}

void anm_k_q4_q8_amx(float *out, const anm_q4 *w, int64_t tile, const anm_q8 *x, int32_t row, int32_t rows)
{
    if (rows < LEAST_ROWS) {
        anm_k_q4_q8_avx512vnni(out, w, tile, x, row, rows);
        return;
    }
    const uint8_t *t = w->data + (size_t)tile * w->tile_bytes;
    int first = rows < TILE_ROWS ? rows : TILE_ROWS, more = rows - first;
    tile_config c = {.palette = 1};
    for (int i = 0; i < 2; i++) {
        set_tile(&c, i, first, ROW_BYTES);
        set_tile(&c, 6 + i, GROUP_STEPS, ROW_BYTES);
        if (more) set_tile(&c, 2 + i, more, ROW_BYTES);
    }
    set_tile(&c, 4, first, ANM_GROUP);
    if (more) set_tile(&c, 5, more, ANM_GROUP);
    written();
    _tile_loadconfig(&c);
    if (w->scales == ANM_SCALES_ROW) q4_q8(out, w, t, x, row, rows, ANM_SCALES_ROW);
    else if (w->scales == ANM_SCALES_GROUP_F16) q4_q8(out, w, t, x, row, rows, ANM_SCALES_GROUP_F16);
    else q4_q8(out, w, t, x, row, rows, ANM_SCALES_GROUP_F32);
    _tile_release();
}

/* ---- the most that can be multiplied ---- */

void anm_k_peak_amx(int32_t *sum, const uint8_t *w, const int8_t *x, int64_t times)
{
    tile_config c = {.palette = 1};
    for (int i = 0; i < 8; i++) set_tile(&c, i, TILE_ROWS, ROW_BYTES);
    written();
    _tile_loadconfig(&c);
    _tile_loadd(0, sum, ROW_BYTES);
    _tile_loadd(1, sum + 256, ROW_BYTES);
    _tile_loadd(2, sum + 512, ROW_BYTES);
    _tile_loadd(3, sum + 768, ROW_BYTES);
    _tile_loadd(4, x, ROW_BYTES);
    _tile_loadd(5, x + 1024, ROW_BYTES);
    _tile_loadd(6, w, ROW_BYTES);
    _tile_loadd(7, w + 1024, ROW_BYTES);
    for (int64_t t = 0; t < times; t++) {
        _tile_dpbssd(0, 4, 6);
        _tile_dpbssd(1, 4, 7);
        _tile_dpbssd(2, 5, 6);
        _tile_dpbssd(3, 5, 7);
    }
    _tile_stored(0, sum, ROW_BYTES);
    _tile_stored(1, sum + 256, ROW_BYTES);
    _tile_stored(2, sum + 512, ROW_BYTES);
    _tile_stored(3, sum + 768, ROW_BYTES);
    _tile_release();
    written();
}
