/* A snapshot: whatever the bytes, an error that leaves a session to be used, or a session that goes
 * on. Checksums and settings are mended too, so that what lies behind them is reached. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "engine/snapshot.h"

#define CONTEXT 128u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static sl_session *session;
static sl__snapshot_settings settings;

static void begin(void)
{
    const sl_engine_options opt = {.kv = SL_KV_Q8, .context_tokens = CONTEXT, .threads = 1};
    static sl_engine *engine;
    sl_error err = {0};
    const char *model = SL_TEST_SOURCE_DIR "/data/families/deepseek_v3";
    if (sl_engine_open(&engine, model, &opt, &err) != SL_OK ||
        sl_session_create(&session, engine, &err) != SL_OK ||
        sl__snapshot_settings_of(engine, &settings, &err) != SL_OK) {
        abort();
    }
}

static void try_bytes(char *bytes, size_t size)
{
    const sl__snapshot_place place = {"fuzz", -1, bytes, size};
    sl__snapshot_header h;
    sl_error err = {0};
    int32_t *ids;
    sl_status status = sl__snapshot_read_header(&h, &place, &err);
    if (status == SL_OK && sl__snapshot_read_ids(&place, &h, &ids, NULL) == SL_OK) free(ids);
    if (status == SL_OK) status = sl__snapshot_read(session, &place, &h, h.position, &err);
    assert(status == err.status);
    uint32_t position = sl_session_position(session);
    assert(position <= CONTEXT && (status == SL_OK || position == 0));
    sl_session_reset(session);
}

/* Puts settings and hashes right, each where there is room for it. */
static void mend(char *bytes, size_t size)
{
    sl__snapshot_header h;
    uint64_t hash, at = SL_SNAPSHOT_HEADER, part;
    if (size < SL_SNAPSHOT_HEADER) return;
    hash = sl__hash64(bytes, 120);
    memcpy(bytes + 120, &hash, sizeof hash);
    if (sl__snapshot_header_get(&h, (unsigned char *)bytes, "fuzz", NULL) != SL_OK) return;
    uint64_t table = (uint64_t)h.sections * SL_SNAPSHOT_SECTION;
    if (table > size - at) return;
    at += table;
    for (uint32_t i = 0; i < h.sections; i++) {
        char *entry = bytes + SL_SNAPSHOT_HEADER + i * SL_SNAPSHOT_SECTION;
        memcpy(&part, entry, sizeof part);
        if (part > size - at) break;
        hash = sl__hash64(bytes + at, (size_t)part);
        memcpy(entry + 8, &hash, sizeof hash);
        at += part;
    }
    h.table_hash = sl__hash64(bytes + SL_SNAPSHOT_HEADER, (size_t)table);
    h.settings = settings;
    h.bytes = size;
    sl__snapshot_header_put((unsigned char *)bytes, &h);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *bytes = malloc(size + 1);
    if (!bytes) abort();
    if (!session) begin();
    if (size > 0) memcpy(bytes, data, size);
    try_bytes(bytes, size);
    mend(bytes, size);
    try_bytes(bytes, size);
    free(bytes);
    return 0;
}
