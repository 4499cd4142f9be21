/* A trace of routing: whatever the bytes, an error or lists that can be replayed. */
#include <assert.h>

#include "cache/simulate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    sl__trace trace;
    sl_error err = {0};
    if (sl__trace_parse(&trace, data, size, "fuzz", &err) != SL_OK) {
        assert(err.status != SL_OK && !trace.ranked && !trace.predicted);
        return 0;
    }
    assert(trace.tokens > 0 && trace.layers > 0);
    sl__trace_overlap(&trace);
    sl__trace_predictable(&trace);
    if ((uint64_t)trace.layers * trace.experts < 10000) {
        sl__hits best, ours;
        sl_status a = sl__simulate_best(&trace, trace.k + 3, &best, NULL);
        sl_status b = sl__simulate_policy(&trace, SL_POLICY_DEFAULT, trace.k + 3, &ours, NULL);
        assert(a == SL_OK && b == SL_OK && ours.hits <= best.hits);
    }
    sl__trace_free(&trace);
    return 0;
}
