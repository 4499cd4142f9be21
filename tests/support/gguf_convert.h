/* Makes a GGUF file of a small bf16 checkpoint of any family, as converters do: renamed, and with
 * what they change in numbers and in the order of rows.
 *
 * Whatever goes wrong here is the test's own fault and aborts with a message.
 */
#ifndef SL_TEST_GGUF_CONVERT_H
#define SL_TEST_GGUF_CONVERT_H

#include <stdbool.h>
#include <stdint.h>

#include "gguf_writer.h"

/* The numbers of types that it can write. */
enum { GGUF_F32 = 0, GGUF_Q4_0 = 2, GGUF_Q8_0 = 8, GGUF_BF16 = 30, GGUF_MXFP4 = 39 };

typedef struct gguf_recipe {
    uint32_t matrices;   /* type of matrices that are no experts; where rows are no whole number of
                          * its blocks they are bf16 */
    uint32_t experts[3]; /* of gate, up and down in layer 0; in layer i each takes that of the part
                          * i places on */
    unsigned parts;      /* 0: one file; else NAME-0000i-of-0000N.gguf, path being the first */
    bool older; /* as older files have it: attn_kv_b, ssm_in, llama's experts a tensor each */
    bool fused; /* gate and up in one stack, ffn_gate_up_exps; not of gpt-oss */
    unsigned drafts; /* GLM, DeepSeek: blocks behind the last, of zeros */
    bool vocabulary;     /* bytes, <|im_end|> (256, also as eos), <|endoftext|> (257), a template */
    /* The key or tensor that is left out, by its name; NULL: none. */
    const char *skip;
    /* Called at the end, with the writer of the first part; NULL: nothing. */
    void (*add)(gguf_writer *w, const void *ctx);
    const void *ctx;
    /* A folder that gets a float32 checkpoint of the weights as the file's types have them. */
    const char *plain;
} gguf_recipe;

void gguf_convert(const char *model, const char *path, const gguf_recipe *recipe);

/* Writes a checkpoint of random weights into the folder dir: Qwen3.5 with 2 key heads and 6 value
 * heads in its one linear layer, one full layer, and one that drafts. */
void gguf_random_checkpoint(const char *dir);
/* One of DeepSeek's: 2 heads, keys 32 and 16 wide, values 32, latents 32; its first layer is dense.
 * There are no groups, no YaRN, and no latent of queries. */
void gguf_random_latent(const char *dir);

#endif
