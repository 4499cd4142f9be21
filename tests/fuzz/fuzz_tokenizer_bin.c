/* A compiled tokenizer of any bytes. Its checksum is made right first, so that the checks behind it
 * are met; what opens is used on a fixed text. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "decode_check.h"
#include "text/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char text[] = "It's  12 <s>aab\r\n e\xcc\x81\xe4\xb8\xad\xff b-c <t> ";
    sl_tokenizer *tok;
    int32_t *ids;
    size_t count;
    uint8_t *copy = malloc(size ? size : 1);
    if (!copy) return 0;
    if (size) memcpy(copy, data, size);
    if (size >= 8) {
        uint64_t sum = sl__hash64(copy, size - 8);
        memcpy(copy + size - 8, &sum, 8);
    }
    sl_status status = sl__tokenizer_parse_compiled(&tok, copy, size, "input", NULL);
    free(copy);
    if (status != SL_OK) return 0;
    if (sl_tokenizer_encode(tok, text, sizeof text, SL_ENCODE_ADDED | SL_ENCODE_BOS, &ids, &count,
                            NULL) == SL_OK) {
        decode_check(tok, ids, count);
        free(ids);
    }
    decode_check_all(tok);
    sl_tokenizer_token_id(tok, "<s>");
    sl_tokenizer_close(tok);
    return 0;
}
