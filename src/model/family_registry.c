/* The families. A new one is named here twice, and nowhere else outside its own file. */
#include "model/family.h"

extern const sl__family sl__family_qwen3_5_moe, sl__family_qwen3_next, sl__family_qwen3_moe,
    sl__family_deepseek, sl__family_glm4_moe, sl__family_gpt_oss, sl__family_mixtral,
    sl__family_olmoe, sl__family_minimax;

const sl__family *const sl__families[] = {
    &sl__family_qwen3_5_moe, &sl__family_qwen3_next, &sl__family_qwen3_moe,
    &sl__family_deepseek,    &sl__family_glm4_moe,   &sl__family_gpt_oss,
    &sl__family_mixtral,     &sl__family_olmoe,      &sl__family_minimax,
    NULL,
};
