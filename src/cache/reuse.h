/* How likely each expert is to be chosen at the next token, learned from what the router says.
 *
 * A router ranks all experts, and the rank of one that was not chosen says much: the ninth of a top
 * 8 comes next far more often than the last. So each token's ranks are cut into bands of half a
 * top k,
 *
 *     rank      1 … k/2 … k │ k+1 … 3k/2 … 2k …   … 4k │ beyond, or not told
 *     band        0     1   │   2      3    4 …      7 │ 8
 *
 * and how often an expert of each band is chosen at the next token is counted. Of these rates an
 * expert has three running averages: of this token alone, of the last few, of the last twenty. A
 * fourth one, of the last two hundred tokens, is how often it was chosen: what the text is about.
 *
 *     chance = 1 / (1 + 2^-z),   z = w0 + Σ w[i] · log2(average[i])
 *
 * The five weights are shared by all experts and learned as they go: after each token the chances
 * are compared with what was chosen (logistic regression, one step a token and layer, AdaGrad).
 * All of it is a function of the notes alone, in a fixed order: the same in every run.
 */
#ifndef SL_CACHE_REUSE_H
#define SL_CACHE_REUSE_H

#include <stdbool.h>
#include <stdint.h>

enum { SL_REUSE_BANDS = 9, SL_REUSE_TERMS = 4 };

typedef struct sl__reuse {
    uint32_t layers, records;
    const uint32_t *first; /* [layers + 1]: record of a layer's expert 0; borrowed */
    float *chance;         /* [records]: chosen at the next token */
    float *average[SL_REUSE_TERMS]; /* [records] each */
    float *term[SL_REUSE_TERMS];    /* [records]: their logarithms, as they made the chance */
    uint8_t *band;                  /* [records]: at the last note */
    uint8_t *known;                 /* [layers]: was noted */
    double weight[SL_REUSE_TERMS + 1], squares[SL_REUSE_TERMS + 1];
    uint64_t seen[SL_REUSE_BANDS], returned[SL_REUSE_BANDS]; /* returned ≤ seen */
} sl__reuse;

/* A multiple of SL_ARENA_ALIGN; UINT64_MAX: too many. */
uint64_t sl__reuse_bytes(uint32_t layers, uint32_t records);
/* memory: sl__reuse_bytes, zeroed, aligned as an arena's block; the caller's. first is looked at
 * from the first note on. */
void sl__reuse_init(sl__reuse *reuse, uint32_t layers, uint32_t records, const uint32_t *first,
                    void *memory);
/* As sl__cache_note. Changes the chances of this layer's experts only. */
void sl__reuse_note(sl__reuse *reuse, uint32_t layer, const uint32_t *ranked, uint32_t n,
                    uint32_t chosen);

#endif
