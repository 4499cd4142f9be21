/* A tiktoken file of any bytes, and behind a line of ---- a tokenizer_config.json. A file must hold
 * all 256 bytes: they are put before what came. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "decode_check.h"
#include "text/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void put_bytes(sl__buffer *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (unsigned byte = 0; byte < 256; byte++)
        sl__buffer_printf(out, "%c%c== %u\n", digits[byte >> 2], digits[(byte & 3) << 4], byte);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char text[] = "It's  12 <s>aab\r\n e\xcc\x81\xe4\xb8\xad\xff b-c <t> abcabc";
    static const char apart[] = "----\n";
    const char *config = NULL;
    size_t lines = size, count;
    sl__buffer all;
    sl_tokenizer *tok;
    sl_error err = {0};
    int32_t *ids;
    for (size_t i = 0; !config && i + 5 <= size; i++) {
        if (memcmp(data + i, apart, 5) != 0) continue;
        config = (const char *)data + i + 5;
        lines = i;
    }
    sl__buffer_init(&all, 1u << 26);
    put_bytes(&all);
    if (!sl__buffer_append(&all, data, lines)) abort();
    sl_status status = sl__tiktoken_parse(&tok, all.data, all.size, SL__TIKTOKEN_KIMI, config,
                                          config ? size - lines - 5 : 0, "input", &err);
    sl__buffer_free(&all);
    if (status != SL_OK) {
        if (err.status == SL_OK || err.message[0] == '\0') abort();
        return 0;
    }
    if (sl_tokenizer_encode(tok, text, sizeof text, SL_ENCODE_ADDED, &ids, &count, NULL) == SL_OK) {
        decode_check(tok, ids, count);
        free(ids);
    }
    decode_check_all(tok);
    sl_tokenizer_close(tok);
    return 0;
}
