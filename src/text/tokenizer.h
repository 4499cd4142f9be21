/* Inside the tokenizer: compiling it into a pack, and parsing foreign bytes. Public calls are in
 * sluice.h. */
#ifndef SL_TEXT_TOKENIZER_H
#define SL_TEXT_TOKENIZER_H

#include <stdbool.h>
#include <stdint.h>

#include "sluice.h"

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

/* The compiled form: everything the tokenizer needs, checksummed, little-endian, versioned, loads
 * without building tables. *data is allocated with malloc, owned by the caller. */
sl_status sl__tokenizer_compile(const sl_tokenizer *tok, void **data, size_t *size, sl_error *err);

/* From a compiled form; data is borrowed for the call only. A damaged one is SL_ECORRUPT or
 * SL_EFORMAT, never undefined behaviour. */
sl_status sl__tokenizer_parse_compiled(sl_tokenizer **out, const void *data, size_t size,
                                       const char *path, sl_error *err);

uint64_t sl__tokenizer_footprint(const sl_tokenizer *tok); /* bytes of heap, for the memory plan */

#endif
