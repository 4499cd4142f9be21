/* Opening a tokenizer that lies in files of its own, closing, and what is asked of it besides
 * encoding and decoding. */
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/file.h"
#include "text/tokenizer.h"
#include "text/tokenizer_parts.h"

/* Of a folder, the first of these that is there. */
static sl_status find_file(char *file, size_t file_size, const char *dir, sl_error *err)
{
    static const char *const names[] = {"tokenizer.bin", "tokenizer.json", "tiktoken.model"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        SL_TRY(sl__path_join(file, file_size, dir, names[i], err));
        if (sl__file_exists(file)) return SL_OK;
    }
    return SL_FAIL(err, SL_EIO, "%s: no tokenizer here: expected tokenizer.bin, tokenizer.json or "
                   "tiktoken.model", dir);
}

static bool is_compiled(const char *data, size_t size)
{
    return sl__begins_with(data, size, SL__TOK_MAGIC, sizeof SL__TOK_MAGIC - 1);
}

/* A model may be named by its one file of weights: its tokenizer lies beside it. */
static bool is_weights(const char *path)
{
    static const char ending[] = ".safetensors";
    size_t size = strlen(path), tail = sizeof ending - 1;
    return size > tail && strcmp(path + size - tail, ending) == 0;
}

sl_status sl__tokenizer_open_files(sl_tokenizer **out, const char *path, sl_error *err)
{
    char file[SL_PATH_MAX], dir[SL_PATH_MAX];
    *out = NULL;
    if (is_weights(path)) {
        sl__path_parent(dir, path);
        path = dir;
    }
    if (sl__file_is_dir(path)) {
        SL_TRY(find_file(file, sizeof file, path, err));
        path = file;
    }
    char *data;
    size_t size;
    SL_TRY(sl__file_read(path, SL__TOK_FILE_MAX, &data, &size, err));
    if (is_compiled(data, size)) {
        return sl__tokenizer_attach(out, (unsigned char *)data, size, path, err);
    }
    sl_status status = sl__tiktoken_is(path) ? sl__tiktoken_open(out, data, size, path, err)
                                             : sl__tokenizer_parse_json(out, data, size, path, err);
    free(data);
    return status;
}

void sl_tokenizer_close(sl_tokenizer *tok)
{
    if (!tok) return;
    for (uint32_t i = 0; tok->codes && i < sl__step_total(tok->header); i++)
        pcre2_code_free(tok->codes[i]);
    free(tok->codes);
    free(tok->image);
    free(tok);
}

uint32_t sl_tokenizer_vocab_size(const sl_tokenizer *tok)
{
    return tok->header->vocab_size;
}

int32_t sl_tokenizer_token_id(const sl_tokenizer *tok, const char *text)
{
    const sl__tok_header *h = tok->header;
    size_t size = strlen(text);
    for (uint32_t i = 0; i < h->added_count; i++) {
        uint32_t n;
        const char *bytes = sl__token_bytes(tok, tok->added[i].id, &n);
        if (n == size && memcmp(bytes, text, n) == 0) return (int32_t)tok->added[i].id;
    }
    uint32_t id = sl__token_find(tok->tokens, tok->slots, h->token_slots, tok->strings, text, size,
                                 SL__TOK_BYTES);
    if (id == SL__TOK_NONE) {
        id = sl__token_find(tok->tokens, tok->slots, h->token_slots, tok->strings, text, size,
                            SL__TOK_LITERAL);
    }
    return id == SL__TOK_NONE ? -1 : (int32_t)id;
}

uint64_t sl__tokenizer_footprint(const sl_tokenizer *tok)
{
    uint64_t bytes = sizeof *tok + tok->header->image_bytes;
    for (uint32_t i = 0; i < sl__step_total(tok->header); i++) {
        size_t part = 0;
        bytes += sizeof *tok->codes;
        if (!tok->codes[i]) continue;
        if (pcre2_pattern_info(tok->codes[i], PCRE2_INFO_SIZE, &part) == 0) bytes += part;
        if (pcre2_pattern_info(tok->codes[i], PCRE2_INFO_JITSIZE, &part) == 0) bytes += part;
    }
    return bytes;
}
