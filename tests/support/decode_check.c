#include "decode_check.h"

#include <stdlib.h>
#include <string.h>

#include "text/utf8.h"

static void check(const sl_tokenizer *tok, const int32_t *ids, size_t count, bool skip_special)
{
    sl_detokenizer *detok;
    char *whole;
    size_t size, at = 0, n;
    if (sl_tokenizer_decode(tok, ids, count, skip_special, &whole, &size, NULL) != SL_OK) return;
    if (sl_detokenizer_create(&detok, tok, skip_special, NULL) != SL_OK) abort();
    for (size_t i = 0; i <= count; i++) {
        const char *part =
            i < count ? sl_detokenizer_push(detok, ids[i], &n) : sl_detokenizer_finish(detok, &n);
        if (n > size - at || memcmp(part, whole + at, n) != 0) abort();
        if (sl__utf8_valid(part, n) != n) abort();
        at += n;
    }
    if (at != size) abort();
    sl_detokenizer_destroy(detok);
    free(whole);
}

void decode_check(const sl_tokenizer *tok, const int32_t *ids, size_t count)
{
    check(tok, ids, count, false);
    check(tok, ids, count, true);
}

void decode_check_all(const sl_tokenizer *tok)
{
    int32_t ids[1024];
    size_t count = 0;
    uint32_t vocab = sl_tokenizer_vocab_size(tok);
    for (uint32_t id = 0; id < vocab && count < 512; id++)
        ids[count++] = (int32_t)id;
    for (uint32_t id = vocab; id > 2 && count < 1024; id -= 3)
        ids[count++] = (int32_t)id - 1;
    decode_check(tok, ids, count);
}
