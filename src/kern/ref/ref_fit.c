/* The level that every machine has: src/kern/body_fit.h at the compiler's baseline. */
#define SL_VW 4
#include "kern/lanes.h"

typedef int32_t mask4 __attribute__((vector_size(16)));

SL_INLINE vec fit_select(mask4 mask, vec a, vec b)
{
    return (vec)((mask & (mask4)a) | (~mask & (mask4)b));
}

SL_INLINE vec fit_most(vec a, vec b)
{
    return fit_select(a > b, a, b);
}

SL_INLINE vec fit_least(vec a, vec b)
{
    return fit_select(a < b, a, b);
}

SL_INLINE vec fit_step(vec s, vec a, vec b, vec step)
{
    return s + (vec)((a > b) & (mask4)step);
}

SL_INLINE vec fit_choose(vec a, vec b, vec c, vec d)
{
    return fit_select(a > b, c, d);
}

#include "kern/body_fit.h"

void sl__kern_ref_fit(sl__kern *kern)
{
    fill_fit(kern);
}
