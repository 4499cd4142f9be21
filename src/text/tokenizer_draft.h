/* A tokenizer image while it is being put together from a tokenizer.json or a tiktoken file. */
#ifndef SL_TEXT_TOKENIZER_DRAFT_H
#define SL_TEXT_TOKENIZER_DRAFT_H

#include <jansson.h>

#include "text/tokenizer_parts.h"

typedef struct sl__tok_draft {
    sl__tok_header head;
    sl__buffer strings;
    sl__tok_token *tokens; /* [head.vocab_size] */
    uint32_t *slots;       /* [head.token_slots] */
    sl__tok_merge *merges; /* [head.merge_slots] */
    sl__tok_added *added;  /* [added_room], head.added_count of them used */
    uint8_t *added_set;    /* of each: 0 raw, 1 normalised */
    uint32_t added_room;
    sl__tok_step steps[3][SL__TOK_STEPS_MAX]; /* normalising, pre-tokenising, decoding */
    uint32_t prefix[SL__TOK_WRAP_MAX], suffix[SL__TOK_WRAP_MAX];
    const char *path; /* for messages */
} sl__tok_draft;

void sl__draft_init(sl__tok_draft *draft, const char *path);
void sl__draft_free(sl__tok_draft *draft);

/* Allocates the tables: ids below vocab_size, token_count of them in the vocabulary. */
sl_status sl__draft_size(sl__tok_draft *draft, uint32_t vocab_size, size_t token_count,
                         size_t merge_count, size_t added_count, sl_error *err);

/* A table for more merges, while there are none in it. */
sl_status sl__draft_merge_room(sl__tok_draft *draft, size_t merge_count, sl_error *err);

/* Appends bytes to the strings; *offset says where. */
sl_status sl__draft_string(sl__tok_draft *draft, const void *bytes, size_t size, uint32_t *offset,
                           sl_error *err);
/* A token of the vocabulary; its id is below vocab_size and free. */
sl_status sl__draft_token(sl__tok_draft *draft, uint32_t id, const void *bytes, size_t size,
                          uint32_t flag, sl_error *err);
/* A pair that is there already gets the new rank. */
void sl__draft_merge(sl__tok_draft *draft, uint32_t left, uint32_t right, uint32_t rank,
                     uint32_t result);

/* What the ByteLevel pre-tokenizer splits at. */
#define SL__GPT2_REGEX                                                                             \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

/* The steps and flags of a pre-tokenizer that has a name ("qwen2", "gpt-4o"): see
 * pretokenizer_names.c. SL_EUNSUPPORTED names one that is not known. */
sl_status sl__draft_pretokenizer(sl__tok_draft *draft, const char *name, sl_error *err);

#define SL__ALPHABET_END 0x144 /* behind the last character of the byte alphabet */

/* The byte alphabet, in which vocabularies and merges are written; see byte_alphabet.c. */
typedef struct sl__byte_alphabet {
    int16_t byte_of[SL__ALPHABET_END]; /* of a character of the alphabet; -1: of none */
} sl__byte_alphabet;
void sl__alphabet_init(sl__byte_alphabet *alphabet);
/* The bytes that text[size] stands for into out, which has room for size. False, and *out_size as
 * it was, where a character is not of the alphabet. */
bool sl__alphabet_read(const sl__byte_alphabet *alphabet, const char *text, size_t size, char *out,
                       size_t *out_size);

/* A step of one of the three lists, with the strings that its kind has; name is for messages. */
typedef enum sl__step_list { SL__NORMALIZE, SL__CUT, SL__DECODE } sl__step_list;
sl_status sl__draft_step(sl__tok_draft *draft, sl__step_list list, const sl__tok_step *step,
                         const char *pattern, const char *extra, sl_error *err);

/* An added token: marks the entry of its id, makes content what it decodes to, and, where it is not
 * empty, something to look for in a text: before normalisation, or after it and normalised too. Its
 * id is below vocab_size and not that of another token. */
typedef struct sl__new_added {
    uint32_t id, flags; /* SL__ADDED_… */
    const char *content;
    bool special, normalized;
} sl__new_added;
sl_status sl__draft_added(sl__tok_draft *draft, const sl__new_added *added, sl_error *err);

/* Sees whether words may be cut at SL__WORD_MARK; the merges are there. */
void sl__draft_word_mark(sl__tok_draft *draft);

/* Sorts the added tokens, makes the image of it all and opens that. */
sl_status sl__draft_open(sl__tok_draft *draft, sl_tokenizer **out, sl_error *err);

/* normalizer, pre_tokenizer, post_processor and decoder of a tokenizer.json; says whether it is
 * byte-level by SL__TOK_CHARS. */
sl_status sl__draft_pipeline(sl__tok_draft *draft, const json_t *root, sl_error *err);
/* decoder alone. */
sl_status sl__draft_decoder(sl__tok_draft *draft, const json_t *stage, sl_error *err);

/* ---- reading a stage of a tokenizer.json; what ("decoder") is for messages ------------------- */

sl_status sl__stage_type(const sl__tok_draft *draft, const json_t *stage, const char *what,
                         const char **type, sl_error *err);
sl_status sl__stage_unsupported(const sl__tok_draft *draft, const char *what, const char *type,
                                sl_error *err);
/* The replacement, the scheme and whether to split of a Metaspace; *mark is borrowed. */
sl_status sl__stage_metaspace(const sl__tok_draft *draft, const json_t *stage, const char *what,
                              const char **mark, sl__prepend_scheme *scheme, bool *splits,
                              sl_error *err);
/* pattern.String or pattern.Regex; *text is borrowed. */
sl_status sl__stage_pattern(const sl__tok_draft *draft, const json_t *stage, const char **text,
                            bool *regex, sl_error *err);
/* Whether text is one character. */
bool sl__is_one_char(const char *text);

/* obj[key], or fallback where it is missing or null. */
sl_status sl__draft_optional_bool(const json_t *obj, const char *key, const char *path,
                                  bool fallback, bool *out, sl_error *err);

#endif
