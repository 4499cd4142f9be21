/* A tokenizer image while it is being put together from a tokenizer.json. */
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
    sl__tok_step steps[SL__TOK_STEPS_MAX];
    uint32_t prefix[SL__TOK_WRAP_MAX], suffix[SL__TOK_WRAP_MAX];
    const char *path; /* for messages */
} sl__tok_draft;

void sl__draft_init(sl__tok_draft *draft, const char *path);
void sl__draft_free(sl__tok_draft *draft);

/* Allocates the tables: ids below vocab_size, token_count of them in the vocabulary. */
sl_status sl__draft_size(sl__tok_draft *draft, uint32_t vocab_size, size_t token_count,
                         size_t merge_count, size_t added_count, sl_error *err);

/* Appends bytes to the strings; *offset says where. */
sl_status sl__draft_string(sl__tok_draft *draft, const void *bytes, size_t size, uint32_t *offset,
                           sl_error *err);
/* A token of the vocabulary; its id is below vocab_size and free. */
sl_status sl__draft_token(sl__tok_draft *draft, uint32_t id, const void *bytes, size_t size,
                          uint32_t flag, sl_error *err);
/* A pair that is there already gets the new rank. */
void sl__draft_merge(sl__tok_draft *draft, uint32_t left, uint32_t right, uint32_t rank,
                     uint32_t result);

/* The image, malloc'ed, checksummed. Sorts the added tokens. */
sl_status sl__draft_assemble(sl__tok_draft *draft, unsigned char **image, size_t *size,
                             sl_error *err);

/* normalizer, pre_tokenizer, post_processor and decoder of a tokenizer.json. */
sl_status sl__draft_pipeline(sl__tok_draft *draft, const json_t *root, sl_error *err);

/* obj[key], or fallback where it is missing or null. */
sl_status sl__draft_optional_bool(const json_t *obj, const char *key, const char *path,
                                  bool fallback, bool *out, sl_error *err);

#endif
