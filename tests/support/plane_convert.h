/* Makes a checkpoint whose scales lie in tensors of their own out of a small bf16 one: as mlx-lm
 * lays them out, with floats of 8 bits in blocks of 128 or, as compressed-tensors also has them,
 * with a scale a row, or as that packs integers.
 *
 * Whatever goes wrong here is the test's own fault and aborts with a message.
 */
#ifndef SL_TEST_PLANE_CONVERT_H
#define SL_TEST_PLANE_CONVERT_H

#include <stdbool.h>

#include "st_writer.h"

typedef enum plane_format { PLANE_MLX, PLANE_FP8, PLANE_PACKED } plane_format;

typedef struct plane_recipe {
    plane_format format;
    unsigned bits;  /* MLX: 2 … 8, 0: nothing is quantised; packed: 4, 8 */
    unsigned group; /* MLX, packed; 0: the whole row (packed) */
    const char *scales;  /* "BF16", "F16", "F32"; NULL: BF16 */
    bool mxfp4;          /* MLX: in that mode, for what 32 divides */
    bool routers;        /* MLX: routers and their like are quantised too, to 8 bits */
    bool prefix;         /* MLX: "language_model." before all names */
    bool split_kv;       /* MLX, DeepSeek: kv_b_proj as embed_q and unembed_out */
    bool compressed;     /* FP8: as compressed-tensors; group 0: a scale a row, else blocks */
    bool fused;          /* FP8: gate_up_proj and down_proj of all experts in one tensor each */
    const char *skip;    /* the tensor that is left out, by its name in the file */
    const char *config;  /* members that are set in config.json, a JSON object */
    /* Called at the end with the writer; NULL: nothing. */
    void (*add)(st_writer *w, void *ctx);
    void *ctx;
    /* A folder that gets a float32 checkpoint of the weights as the file has them. */
    const char *plain;
} plane_recipe;

/* From the folder model to the folder dir, which is made. */
void plane_convert(const char *model, const char *dir, const plane_recipe *recipe);

#endif
