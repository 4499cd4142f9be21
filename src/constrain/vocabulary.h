/* The tokens of a vocabulary as a trie of their bytes, made once and shared by all constraints.
 *
 *     tokens  │ "a" │ "ab" │ "abc" │ "b" │ …   sorted by bytes
 *     nodes   │ root │ a │ ab │ abc │ b │ …    depth first: a node's tokens and those below it are
 *                                              neighbours, and `end` skips them
 *
 * Added tokens (<tool_call>) are no text that a model writes: they lie apart. Those of white space
 * are text.
 */
#ifndef SL_CONSTRAIN_VOCABULARY_H
#define SL_CONSTRAIN_VOCABULARY_H

#include "constrain/grammar.h"

typedef struct sl__trie_node {
    uint32_t first; /* of tokens: its own, then those below it; the next node's ends its own */
    uint32_t end;   /* the next node that is not below it */
    uint8_t byte;
    uint8_t odd; /* bit of a text class: a token here or below is not plain in it */
} sl__trie_node;

struct sl_vocabulary {
    uint32_t size;     /* ids lie below it */
    uint32_t *offsets; /* [size + 1]: of each token's bytes; nothing: never chosen */
    unsigned char *bytes;
    uint32_t *tokens;                  /* [token_count]: ids, sorted */
    sl__trie_node *nodes;              /* [node_count + 1]; 0 is the root */
    uint32_t *added;                   /* [added_count], increasing */
    uint64_t *plain[SL__TEXT_CLASSES]; /* [words]: bit id; NULL of NONE and FREE */
    uint16_t *characters;              /* [size]: of a token, at most UINT16_MAX */
    uint32_t token_count, node_count, added_count, words, token_bytes_max;
};

static inline const unsigned char *sl__vocabulary_token(const sl_vocabulary *v, uint32_t id,
                                                        uint32_t *size)
{
    *size = v->offsets[id + 1] - v->offsets[id];
    return v->bytes + v->offsets[id];
}

#endif
