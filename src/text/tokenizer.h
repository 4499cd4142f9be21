/* Inside the tokenizer: compiling it into a pack, and parsing foreign bytes. Public calls are in
 * sluice.h. */
#ifndef SL_TEXT_TOKENIZER_H
#define SL_TEXT_TOKENIZER_H

#include <stdbool.h>
#include <stdint.h>

#include "sluice.h"

/* sl_tokenizer_open of all but GGUF files, which this room cannot read; the engine does. */
sl_status sl__tokenizer_open_files(sl_tokenizer **out, const char *path, sl_error *err);

/* From the bytes of a tokenizer.json; path is for messages. What is not supported is an error that
 * names it. */
sl_status sl__tokenizer_parse_json(sl_tokenizer **out, const char *text, size_t size,
                                   const char *path, sl_error *err);

/* Whether a path is that of a tiktoken file: tiktoken.model or NAME.tiktoken. */
bool sl__tiktoken_is(const char *path);
/* From the bytes of a tiktoken file at path, whose name says what goes with it: tiktoken.model,
 * Kimi's regex and the special tokens of the tokenizer_config.json beside it; o200k*.tiktoken, that
 * regex and no special tokens. */
sl_status sl__tiktoken_open(sl_tokenizer **out, const char *text, size_t size, const char *path,
                            sl_error *err);

/* The regexes that go with tiktoken files. */
typedef enum sl__tiktoken_kind { SL__TIKTOKEN_O200K, SL__TIKTOKEN_KIMI } sl__tiktoken_kind;
/* The same from bytes alone. config: those of a tokenizer_config.json, or NULL for none. */
sl_status sl__tiktoken_parse(sl_tokenizer **out, const char *text, size_t size,
                             sl__tiktoken_kind kind, const char *config, size_t config_size,
                             const char *path, sl_error *err);

/* Bytes, borrowed; no NUL behind. */
typedef struct sl__tok_text {
    const char *data;
    size_t size;
} sl__tok_text;

/* What a token is, as GGUF files number it. */
typedef enum sl__token_type {
    SL__TOKEN_NORMAL = 1,
    SL__TOKEN_UNKNOWN,
    SL__TOKEN_CONTROL,      /* added and special: found in text, hidden on request */
    SL__TOKEN_USER_DEFINED, /* added */
    SL__TOKEN_UNUSED,
    SL__TOKEN_BYTE, /* "<0xE4>" */
} sl__token_type;

/* The vocabulary of a GGUF file, as plain lists; all borrowed. The id of a token is its index. */
typedef struct sl__gguf_vocab {
    const char *model;          /* "gpt2": merges of bytes; "llama": merges of text by score */
    const char *pre;            /* gpt2: the name of its pre-tokenizer; NULL: the file has none */
    const sl__tok_text *tokens; /* [token_count] */
    size_t token_count;
    const int64_t *types; /* [token_count], sl__token_type; NULL: all are normal */
    const double *scores; /* [token_count]; llama: the highest merges first; NULL: none */
    const sl__tok_text *merges; /* [merge_count] "a b"; gpt2 */
    size_t merge_count;
    int64_t bos, eos, unknown;         /* ids; -1: the file has none */
    int add_bos, add_eos;              /* 1, 0; -1: the file does not say */
    int add_space_prefix;              /* llama; likewise */
    bool remove_extra_whitespaces;     /* llama: refused */
} sl__gguf_vocab;

/* From a GGUF file's lists; path is for messages. What is not supported is an error that names it.
 */
sl_status sl__tokenizer_parse_gguf(sl_tokenizer **out, const sl__gguf_vocab *vocab,
                                   const char *path, sl_error *err);

/* The compiled form: everything the tokenizer needs, checksummed, little-endian, versioned, loads
 * without building tables. *data is allocated with malloc, owned by the caller. */
sl_status sl__tokenizer_compile(const sl_tokenizer *tok, void **data, size_t *size, sl_error *err);

/* From a compiled form; data is borrowed for the call only. A damaged one is SL_ECORRUPT or
 * SL_EFORMAT, never undefined behaviour. */
sl_status sl__tokenizer_parse_compiled(sl_tokenizer **out, const void *data, size_t size,
                                       const char *path, sl_error *err);

/* What tokens stand for, each on its own. */
typedef struct sl__speller sl__speller;
typedef enum sl__spelled {
    SL__SPELLED_HOLE,    /* there is no such token */
    SL__SPELLED_TEXT,    /* bytes, not always whole characters */
    SL__SPELLED_ADDED,   /* added: its text as written */
    SL__SPELLED_SPECIAL, /* added and special; the unknown token */
} sl__spelled;
/* Borrows tok. SL_EUNSUPPORTED where a token alone has no meaning. */
sl_status sl__speller_create(sl__speller **out, const sl_tokenizer *tok, sl_error *err);
void sl__speller_destroy(sl__speller *speller); /* NULL is allowed */
/* id is below the vocabulary's size; *text is borrowed until the next call. */
sl__spelled sl__speller_spell(sl__speller *speller, uint32_t id, const char **text, size_t *size);

uint64_t sl__tokenizer_footprint(const sl_tokenizer *tok); /* bytes of heap, for the memory plan */

#endif
