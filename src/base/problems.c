#include "base/problems.h"

#include "base/fail.h"

sl_status sl__problems_pass(sl__problems *list, const sl_error *why, sl_error *err)
{
    if (why->status == SL_OK) return SL_OK;
    if (!list || why->status == SL_ENOMEM) return SL_FAIL(err, why->status, "%s", why->message);
    if (list->count < SL_PROBLEMS_MAX) list->found[list->count] = *why;
    list->count++;
    return SL_OK;
}
