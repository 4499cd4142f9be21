/* The vocabulary of a GGUF file, as lines: one of settings (a letter a setting: l for a model
 * "llama", b and e for a BOS and an EOS, s for no space before a text), then a line a token, whose
 * first byte is its type, and, behind a line of ----, a line a merge. Of the scores, the low digit
 * of a token's number is one. All 256 bytes are put before what came. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "decode_check.h"
#include "text/tokenizer.h"

#define LINES_MAX 2000u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct input {
    sl__tok_text tokens[LINES_MAX + 256], merges[LINES_MAX];
    int64_t types[LINES_MAX + 256];
    double scores[LINES_MAX + 256];
    char bytes[256][8];
    sl__gguf_vocab vocab;
} input;

/* The 256 tokens of bytes: "<0x41>", or the character of the byte alphabet. */
static void put_bytes(input *in, bool chars)
{
    unsigned shifted = 0x100;
    for (unsigned byte = 0; byte < 256; byte++) {
        bool itself =
            (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
        unsigned cp = itself ? byte : shifted++;
        if (chars)
            snprintf(in->bytes[byte], sizeof in->bytes[byte], "<0x%02X>", byte);
        else if (cp < 0x80)
            snprintf(in->bytes[byte], sizeof in->bytes[byte], "%c", (int)cp);
        else
            snprintf(in->bytes[byte], sizeof in->bytes[byte], "%c%c", (int)(0xc0 | cp >> 6),
                     (int)(0x80 | (cp & 63)));
        in->tokens[byte] = (sl__tok_text){in->bytes[byte], strlen(in->bytes[byte])};
        in->types[byte] = chars ? SL__TOKEN_BYTE : SL__TOKEN_NORMAL;
    }
    in->vocab.token_count = 256;
}

static void take_line(input *in, const char *line, size_t n, bool *merges)
{
    sl__gguf_vocab *v = &in->vocab;
    if (n == 4 && memcmp(line, "----", 4) == 0) {
        *merges = true;
    } else if (*merges) {
        if (v->merge_count < LINES_MAX) in->merges[v->merge_count++] = (sl__tok_text){line, n};
    } else if (n > 0 && v->token_count < LINES_MAX + 256) {
        in->types[v->token_count] = line[0] - '0';
        in->scores[v->token_count] = (double)(v->token_count % 10);
        in->tokens[v->token_count++] = (sl__tok_text){line + 1, n - 1};
    }
}

static void take_input(input *in, const char *text, size_t size)
{
    bool merges = false, first = true;
    for (size_t at = 0; at < size;) {
        const char *line = text + at, *stop = memchr(line, '\n', size - at);
        size_t n = stop ? (size_t)(stop - line) : size - at;
        at += n + 1;
        if (!first) {
            take_line(in, line, n, &merges);
            continue;
        }
        first = false;
        bool chars = memchr(line, 'l', n) != NULL;
        in->vocab = (sl__gguf_vocab){.model = chars ? "llama" : "gpt2",
                                     .pre = "qwen2",
                                     .tokens = in->tokens,
                                     .types = in->types,
                                     .scores = in->scores,
                                     .merges = in->merges,
                                     .bos = memchr(line, 'b', n) ? 256 : -1,
                                     .eos = memchr(line, 'e', n) ? 257 : -1,
                                     .unknown = -1,
                                     .add_bos = -1,
                                     .add_eos = memchr(line, 'e', n) ? 1 : -1,
                                     .add_space_prefix = memchr(line, 's', n) ? 0 : -1};
        put_bytes(in, chars);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char text[] = "It's  12 <s>aab\r\n e\xcc\x81\xe4\xb8\xad\xff b-c <t> abcabc";
    sl_tokenizer *tok;
    sl_error err = {0};
    int32_t *ids;
    size_t count;
    if (size == 0) return 0;
    input *in = calloc(1, sizeof *in);
    if (!in) abort();
    take_input(in, (const char *)data, size);
    sl_status status = sl__tokenizer_parse_gguf(&tok, &in->vocab, "input", &err);
    free(in);
    if (status != SL_OK) {
        if (err.status == SL_OK || err.message[0] == '\0') abort();
        return 0;
    }
    if (sl_tokenizer_encode(tok, text, sizeof text, SL_ENCODE_ADDED | SL_ENCODE_BOS, &ids, &count,
                            NULL) == SL_OK) {
        decode_check(tok, ids, count);
        free(ids);
    }
    decode_check_all(tok);
    sl_tokenizer_close(tok);
    return 0;
}
