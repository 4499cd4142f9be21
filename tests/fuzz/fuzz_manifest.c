/* The manifest of a pack: whatever the bytes, an error or tables that keep every promise. */
#include <assert.h>
#include <string.h>

#include "store/pack.h"
#include "store/pack_layout.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    sl__pack_manifest m;
    sl_error err = {0};
    if (sl__pack_manifest_parse(&m, (const char *)data, size, "fuzz", &err) != SL_OK) {
        assert(err.status != SL_OK && !m.root && !m.arena);
        return 0;
    }
    for (size_t i = 0; i < m.tensor_count; i++) {
        const sl__tensor *t = &m.tensors[i];
        assert(t->extent.offset + t->extent.bytes <= m.files[t->extent.file].bytes);
        assert(i == 0 || strcmp(m.tensors[i - 1].name, t->name) < 0);
    }
    for (size_t i = 0; i < m.layer_count; i++) {
        const sl__expert_layout *l = &m.layers[i].layout;
        assert(m.files[m.layers[i].file].bytes == l->expert_count * sl__pack_stride(l));
    }
    sl__pack_manifest_free(&m);
    return 0;
}
