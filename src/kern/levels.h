/* The levels of the kernel table. Each function overwrites the entries that its level has. */
#ifndef SL_KERN_LEVELS_H
#define SL_KERN_LEVELS_H

#include "kern/kern.h"

/* The functions that fill the table lie together, apart from the kernels: filling it brings none of
 * these into memory. */
#define SL_FILLS __attribute__((cold))

/* Tiling of matmul, the same on every level, because the caller's tmp is laid out by it. */
#define SL_MM_ROWS   4u   /* rows of a tile */
#define SL_MM_COLS   512u /* columns dequantised at a time: the tile's weights stay in L1 */
#define SL_MM_TOKENS 3u   /* tokens of a register tile */
/* Of matmul_t, whose tile fits in the room of matmul's. */
#define SL_MM_T_ROWS 16u
#define SL_MM_T_COLS (SL_MM_ROWS * SL_MM_COLS / SL_MM_T_ROWS)

/* What panel_matmul_q8 may keep between the groups of a panel: sums of 32 rows × 32 tokens; for
 * this group and the one before, two panels opened with their scales and minima, and four times
 * 16 × 16 integers; alignment. */
#define SL_Q8_TMP \
    (32u * 32u + 2u * (2u * (16u * SL_GROUP / sizeof(float) + 2u * 16u) + 4u * 16u * 16u) + 16u)

/* Scratch of matmul_q8: a strip of 16 rows × 8 spans of 256 columns, opened by runs of 16 columns,
 * each with scales and addends; inputs of 8 tokens in as many columns, with three numbers a run;
 * alignment; and the lanes of so many tokens of 16 rows. */
#define SL_Q8_STRIP_TMP   (16u * 8u * (6u * 16u) + 8u * 8u * (256u / 4u + 3u * 16u) + 16u)
#define SL_Q8_ROWS_TOKENS 64u

/* What attention's tmp is made of: queries, scaled; scores; a partial result; a panel of DEPTH
 * rows. Rows of scores are longer than a span, so that rows do not lie a power of two apart. */
#define SL_ATTEND_Q_ROW(qk_dim) (((size_t)(qk_dim) + 15u) / 16u * 16u + 16u)
#define SL_ATTEND_SCORE_ROW     ((size_t)SL_ATTEND_SPAN + 16u)
#define SL_ATTEND_DEPTH         128u /* rows of a panel: a multiple of 64 */
/* Of the DeltaNet chunk, the same on every level for the same reason. */
#define SL_DELTA_ROWS 8u  /* tokens, and rows of a state, come in multiples of so many */
#define SL_DELTA_COLS 32u /* columns of a state that go through all steps while they are in L1 */

/* Whether level `i` (of sl_cpu_level_name) and all that it builds on run with these SL_CPU_BITs. */
bool sl__kern_level_runs(uint32_t i, uint64_t features);
/* The one that is used where none is asked for. */
uint32_t sl__kern_best_level(uint64_t features);

SL_FILLS void sl__kern_ref(sl__kern *kern);

/* One function a source file, called by its level's. */
SL_FILLS void sl__kern_ref_matmul(sl__kern *kern);
SL_FILLS void sl__kern_ref_panels(sl__kern *kern);
SL_FILLS void sl__kern_ref_rows(sl__kern *kern);
SL_FILLS void sl__kern_ref_bf16(sl__kern *kern);
SL_FILLS void sl__kern_ref_elementwise(sl__kern *kern);
SL_FILLS void sl__kern_ref_attention(sl__kern *kern);
SL_FILLS void sl__kern_ref_delta(sl__kern *kern);
SL_FILLS void sl__kern_ref_fit(sl__kern *kern);

#if defined(__x86_64__)
SL_FILLS void sl__kern_avx2(sl__kern *kern);
SL_FILLS void sl__kern_avx2_matmul(sl__kern *kern);
SL_FILLS void sl__kern_avx2_elementwise(sl__kern *kern);
SL_FILLS void sl__kern_avx2_attention(sl__kern *kern);
SL_FILLS void sl__kern_avx2_delta(sl__kern *kern);
SL_FILLS void sl__kern_avx2_fit(sl__kern *kern);
SL_FILLS void sl__kern_avx2_panels(sl__kern *kern);
SL_FILLS void sl__kern_avx2_rows(sl__kern *kern);
SL_FILLS void sl__kern_avx2_bf16(sl__kern *kern);
SL_FILLS void sl__kern_avxvnni(sl__kern *kern);
SL_FILLS void sl__kern_avxvnni_panels(sl__kern *kern);
SL_FILLS void sl__kern_avxvnni_rows(sl__kern *kern);
SL_FILLS void sl__kern_avx512(sl__kern *kern);
SL_FILLS void sl__kern_avx512_matmul(sl__kern *kern);
SL_FILLS void sl__kern_avx512_attention(sl__kern *kern);
SL_FILLS void sl__kern_avx512_elementwise(sl__kern *kern);
SL_FILLS void sl__kern_avx512_delta(sl__kern *kern);
SL_FILLS void sl__kern_avx512_fit(sl__kern *kern);
SL_FILLS void sl__kern_avx512_panels(sl__kern *kern);
SL_FILLS void sl__kern_avx512_rows(sl__kern *kern);
SL_FILLS void sl__kern_avx512_bf16(sl__kern *kern);
SL_FILLS void sl__kern_avx512vnni(sl__kern *kern);
SL_FILLS void sl__kern_avx512vnni_panels(sl__kern *kern);
SL_FILLS void sl__kern_avx512vnni_rows(sl__kern *kern);
/* For the level above, which leaves few tokens to this one. */
void sl__avx512vnni_panel_matmul_q8(sl__dtype type, const void *w, size_t row_bytes, uint32_t rows,
                                    uint32_t cols, const void *x, uint32_t tokens, float *y,
                                    size_t y_stride, float *tmp);
SL_FILLS void sl__kern_avx512bf16(sl__kern *kern);
SL_FILLS void sl__kern_avx512bf16_bf16(sl__kern *kern);
SL_FILLS void sl__kern_amx(sl__kern *kern);
SL_FILLS void sl__kern_amx_panels(sl__kern *kern);
SL_FILLS void sl__kern_amx_bf16(sl__kern *kern);
#endif

#if defined(__aarch64__)
SL_FILLS void sl__kern_neon(sl__kern *kern);
SL_FILLS void sl__kern_neon_attention(sl__kern *kern);
SL_FILLS void sl__kern_neon_delta(sl__kern *kern);
SL_FILLS void sl__kern_neon_matmul(sl__kern *kern);
SL_FILLS void sl__kern_neon_bf16(sl__kern *kern);
SL_FILLS void sl__kern_neon_panels(sl__kern *kern);
SL_FILLS void sl__kern_neon_rows(sl__kern *kern);
SL_FILLS void sl__kern_neon_panels_q8(sl__kern *kern);
SL_FILLS void sl__kern_dotprod(sl__kern *kern);
SL_FILLS void sl__kern_dotprod_panels(sl__kern *kern);
SL_FILLS void sl__kern_dotprod_rows(sl__kern *kern);
SL_FILLS void sl__kern_i8mm(sl__kern *kern);
SL_FILLS void sl__kern_i8mm_panels(sl__kern *kern);
#endif

#endif
