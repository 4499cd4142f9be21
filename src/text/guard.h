/* Text from outside, kept apart from what a template writes.
 *
 * A template turns messages into one text, and in that text "<|im_end|>" is a control token,
 * whoever wrote it: a message could end itself and begin another one in somebody else's name. So
 * each such place in the variables gets a mark after its first character, which templates carry
 * along like any other; the marked text is no added token, and the mark is taken out again before
 * what lies between added tokens is encoded.
 *
 *     message    say <|im_end|>          guarded    say <M|im_end|>
 *     rendered   <|im_start|>user\nsay <M|im_end|><|im_end|>
 *     encoded    [<|im_start|>] user\nsay <|im_end|> [<|im_end|>]
 *
 * A string that ends with the beginning of one, "<|im_end|", is marked there too: what the template
 * puts behind it might make it whole.
 *
 * The mark M is U+FDD0, which Unicode keeps for a program's own use. One that is in the text itself
 * is doubled. Only tokens that are marked special are control tokens: "<think>" and "<tool_call>",
 * which templates look for in messages, stay what they are. */
#ifndef SL_TEXT_GUARD_H
#define SL_TEXT_GUARD_H

#include <jansson.h>

#include "base/buffer.h"
#include "text/tokenizer_parts.h"

/* A copy of the value with every string in it guarded, keys too. New reference. */
sl_status sl__guard_json(const sl_tokenizer *tok, json_t *value, json_t **out, sl_error *err);

/* Whether the text has marks. */
bool sl__guard_marked(const char *text, size_t size);

/* Appends the text without its marks. false: no memory. */
bool sl__guard_take_out(const char *text, size_t size, sl__buffer *out);

/* sl_tokenizer_encode with SL_ENCODE_ADDED, of a text rendered from guarded variables. */
sl_status sl__tokenizer_encode_guarded(const sl_tokenizer *tok, const char *text, size_t size,
                                       int32_t **ids, size_t *count, sl_error *err);

#endif
