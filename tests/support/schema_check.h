/* A JSON schema held against a value, for the keywords that constrained decoding knows: written
 * apart from it, the plain way. And texts made under a grammar by choosing among what it allows. */
#ifndef SL_TEST_SCHEMA_CHECK_H
#define SL_TEST_SCHEMA_CHECK_H

#include <jansson.h>

#include "base/buffer.h"
#include "sluice.h"
#include "test_env.h"

/* Whether value is valid; *why says of what is not. */
bool schema_valid(const json_t *root, const json_t *schema, const json_t *value, const char **why);

/* A random schema of an object. */
void schema_random(sl__buffer *out, test_rng *rng);

/* A tokenizer of the 256 bytes, tokens of several ones that cross what JSON keeps apart, and added
 * tokens: 300 <tool_call>, 301 </tool_call>, 302 <|end|> (special). */
sl_tokenizer *schema_tokenizer(void);
enum { SCHEMA_OPEN = 300, SCHEMA_CLOSE, SCHEMA_END, SCHEMA_IDS };

/* Chooses tokens among those allowed, until the text is complete, and ever more towards its end;
 * appends it to out. False where it did not come to an end within so many tokens; what is refused
 * ends the program. */
bool schema_generate(const sl_grammar *grammar, const sl_vocabulary *vocabulary, test_rng *rng,
                     size_t tokens, sl__buffer *out);

/* The same within so many tokens more than the text needs, whatever is chosen; false where it needs
 * more than `tokens`. One that is not whole then ends the program. */
bool schema_generate_within(const sl_grammar *grammar, const sl_vocabulary *vocabulary,
                            test_rng *rng, uint32_t more, uint32_t tokens, sl__buffer *out);

#endif
