/* Small tokenizer.json texts for tests: the 256 byte tokens (id = byte), ByteLevel without a regex,
 * no merges; what a test is about is then set or added. */
#ifndef SL_TEST_TOKENIZER_TEXT_H
#define SL_TEST_TOKENIZER_TEXT_H

#include <jansson.h>
#include <stdbool.h>

#include "sluice.h"

/* The bytes in the alphabet of vocab and merges; valid until the next call but one. */
const char *tokenizer_spell(const char *bytes, size_t size);

json_t *tokenizer_base(void); /* the caller owns it */

/* Sets root[key] from JSON text in which ' stands for " (and has no other use). */
void tokenizer_set(json_t *root, const char *key, const char *json);
/* The same within root.model. */
void tokenizer_set_model(json_t *root, const char *key, const char *json);
/* ByteLevel behind the pre-tokenizers given as a list of JSON objects, text as above. */
void tokenizer_set_steps(json_t *root, const char *steps);
/* One Split with this regex and behaviour before ByteLevel. */
void tokenizer_set_split(json_t *root, const char *regex, const char *behavior, bool invert);

/* A vocabulary entry for these bytes. */
void tokenizer_add_token(json_t *root, const char *bytes, int id);
/* A merge; its result is put into the vocabulary, where it is not there, with the next free id. */
void tokenizer_add_merge(json_t *root, const char *left, const char *right);
/* flags: any of "lstrip rstrip single_word normalized special", separated by spaces. */
void tokenizer_add_added(json_t *root, int id, const char *content, const char *flags);

/* Opens root; a failure ends the test with its message. */
sl_tokenizer *tokenizer_of(const json_t *root);
/* Opens root, decref'ing it. */
sl_tokenizer *tokenizer_take(json_t *root);
/* Through the compiled form. */
sl_tokenizer *tokenizer_recompiled(const sl_tokenizer *tok);
/* Opens root, decref'ing it, which must fail so. */
void tokenizer_expect_error(json_t *root, sl_status status, const char *message);

/* Pieces of a text, each between brackets, as tokenizer.json's pre-tokeniser makes them; malloc. */
char *tokenizer_pieces(const sl_tokenizer *tok, const char *text, size_t size);

#endif
