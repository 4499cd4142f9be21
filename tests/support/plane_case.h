/* What the tests of converted checkpoints (plane_convert.h) do with each. */
#ifndef SL_TEST_PLANE_CASE_H
#define SL_TEST_PLANE_CASE_H

#include "plane_convert.h"
#include "sluice.h"

void plane_case_begin(void); /* makes a folder for all of it */
void plane_case_end(void);
const char *plane_case_path(const char *name); /* in that folder; valid until the eighth next */

/* Converts the model and compares its logits with those of the weights as float32. */
void plane_case_expect_same(const char *model, const plane_recipe *recipe);

/* Converts it, runs it with few experts in memory and the embedding on the disk, and packs it: the
 * logits of the pack are the same bits, or where `exact` is not set, near. */
void plane_case_expect_pack(const char *model, const plane_recipe *recipe,
                            const sl_pack_options *opt, bool exact);

sl_model_info plane_case_inspect(const char *model, const plane_recipe *recipe);

#endif
