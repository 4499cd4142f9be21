/* A tokenizer.json of any bytes; what opens is used on a fixed text and goes through its compiled
 * form, which must open and encode alike; what it decodes is the same as a stream. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "decode_check.h"
#include "text/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char text[] = "It's  12 <s>aab\r\n e\xcc\x81\xe4\xb8\xad\xff b-c <t> ";

static void use(const sl_tokenizer *tok, int32_t **ids, size_t *count)
{
    if (sl_tokenizer_encode(tok, text, sizeof text, SL_ENCODE_ADDED | SL_ENCODE_BOS, ids, count,
                            NULL) != SL_OK)
        return;
    decode_check(tok, *ids, *count);
    decode_check_all(tok);
    sl_tokenizer_token_id(tok, "<s>");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    sl_tokenizer *tok, *again;
    sl_error err = {0};
    int32_t *ids[2];
    size_t count[2], bytes;
    void *compiled;
    if (sl__tokenizer_parse_json(&tok, (const char *)data, size, "input", &err) != SL_OK) {
        if (err.status == SL_OK || err.message[0] == '\0') abort();
        return 0;
    }
    use(tok, &ids[0], &count[0]);
    if (sl__tokenizer_compile(tok, &compiled, &bytes, NULL) != SL_OK) abort();
    if (sl__tokenizer_parse_compiled(&again, compiled, bytes, "input", NULL) != SL_OK) abort();
    use(again, &ids[1], &count[1]);
    if (count[0] != count[1]) abort();
    if (count[0] > 0 && memcmp(ids[0], ids[1], count[0] * sizeof **ids) != 0) abort();
    free(ids[0]);
    free(ids[1]);
    free(compiled);
    sl_tokenizer_close(tok);
    sl_tokenizer_close(again);
    return 0;
}
