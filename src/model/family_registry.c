/* The families. A new one is named here twice, and nowhere else outside its own file. */
#include "model/family.h"

extern const sl__family sl__family_qwen3_5_moe;

const sl__family *const sl__families[] = {&sl__family_qwen3_5_moe, NULL};
