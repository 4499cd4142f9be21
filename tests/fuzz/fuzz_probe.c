/* The file of the probe's findings: whatever the bytes, nothing is remembered or a choice that
 * keeps every promise. */
#include <assert.h>
#include <string.h>

#include "io/probe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    sl_probe_result r = {.device = "8:0 DISK 6.1"};
    if (!sl__probe_parse(&r, (const char *)data, size, 7077888)) {
        assert(!r.remembered && r.depth == 0 && r.point_count == 0);
        return 0;
    }
    assert(r.remembered && strcmp(r.device, "8:0 DISK 6.1") == 0);
    assert(r.io == SL_IO_KIND_URING || r.io == SL_IO_KIND_PREAD);
    assert(r.depth >= 1 && r.depth <= 1024 && r.split_bytes >= 1);
    assert(r.bytes_per_s >= 1.0 && r.best_bytes_per_s >= 1.0);
    assert(r.point_count <= sizeof r.points / sizeof r.points[0]);
    for (uint32_t i = 0; i < r.point_count; i++)
        assert(r.points[i].depth >= 1 && r.points[i].bytes_per_s >= 0.0);
    return 0;
}
