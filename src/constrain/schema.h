/* JSON schemas to rules. What a schema may say is listed in docs/internals/constrain.md; all else
 * is refused by name and place. */
#ifndef SL_CONSTRAIN_SCHEMA_H
#define SL_CONSTRAIN_SCHEMA_H

#include <jansson.h>

#include "base/arena.h"
#include "constrain/grammar.h"

#define SL__SCHEMA_BYTES_MAX ((size_t)1 << 20)
#define SL__SCHEMA_NESTING   64u
#define SL__SCHEMA_REFS_MAX  64u /* that lead from one to the next */

/* The keywords that are understood; schema_keywords.c says what else may be there. */
typedef enum sl__keyword {
    SL__KEY_TYPE,
    SL__KEY_PROPERTIES,
    SL__KEY_REQUIRED,
    SL__KEY_ADDITIONAL,
    SL__KEY_ITEMS,
    SL__KEY_MIN_ITEMS,
    SL__KEY_MAX_ITEMS,
    SL__KEY_MIN_LENGTH,
    SL__KEY_MAX_LENGTH,
    SL__KEY_MINIMUM,
    SL__KEY_MAXIMUM,
    SL__KEY_ABOVE,
    SL__KEY_BELOW,
    SL__KEY_ENUM,
    SL__KEY_CONST,
    SL__KEY_ANY_OF,
    SL__KEY_ONE_OF,
    SL__KEY_ALL_OF,
    SL__KEY_REF,
    SL__KEYWORDS,
} sl__keyword;

/* Bits of types; a number is an integer too. */
enum {
    SL__TYPE_NULL = 1,
    SL__TYPE_BOOLEAN = 2,
    SL__TYPE_INTEGER = 4,
    SL__TYPE_NUMBER = 8,
    SL__TYPE_STRING = 16,
    SL__TYPE_ARRAY = 32,
    SL__TYPE_OBJECT = 64,
    SL__TYPE_ANY = 127,
};

/* One schema, and where it stands, for messages. */
typedef struct sl__schema_place {
    const char *name;   /* of the whole: "json_schema" */
    json_t *root;       /* what $ref starts from */
    const json_t *json; /* this part */
    const char *path;   /* "#/properties/a" */
    uint32_t nesting;
} sl__schema_place;

typedef struct sl__schema_compiler {
    sl__builder builder;
    sl__arena arena; /* of paths */
    sl__buffer jobs; /* what is still to be compiled; read from `done` on */
    size_t done;
    uint32_t *slots; /* a hash table: which job has a schema; index + 1 */
    uint32_t slot_count;
} sl__schema_compiler;

void sl__schema_init(sl__schema_compiler *c);
void sl__schema_free(sl__schema_compiler *c); /* with its builder */

/* The rule of a schema, which sl__schema_run fills in. */
sl_status sl__schema_rule(sl__schema_compiler *c, const sl__schema_place *at, uint32_t *rule,
                          sl_error *err);
sl_status sl__schema_run(sl__schema_compiler *c, sl_error *err);

/* A part of a schema: found[] is what it says, or NULL. */
typedef struct sl__schema_words {
    json_t *found[SL__KEYWORDS];
    unsigned types; /* of `type`, or what the other keywords are about, or any */
} sl__schema_words;
/* Fails on what is not supported, or not well-formed. at->json is an object. */
sl_status sl__schema_read(const sl__schema_place *at, sl__schema_words *words, sl_error *err);
/* A number of `min` or more, which stands under a keyword; *out is left alone where it does not. */
sl_status sl__schema_count(const sl__schema_place *at, const sl__schema_words *words,
                           sl__keyword keyword, uint32_t *out, sl_error *err);
const char *sl__schema_keyword(sl__keyword keyword);
unsigned sl__type_of(const json_t *value);

/* What a schema's $ref leads to, through others; *at is changed to that place. */
sl_status sl__schema_follow(sl__arena *arena, sl__schema_place *at, sl_error *err);
/* A place below this one: "#/anyOf/0". key NULL: index. */
sl_status sl__schema_below(sl__arena *arena, const sl__schema_place *at, const json_t *json,
                           const char *word, const char *key, size_t index, sl__schema_place *out,
                           sl_error *err);

/* Whether two schemas may both hold for a value; true where that is not clear. */
bool sl__schema_overlap(json_t *root, const json_t *a, const json_t *b, unsigned depth);

/* "NAME: PATH: MESSAGE" */
sl_status sl__schema_fail(sl_error *err, sl_status status, const sl__schema_place *at,
                          const char *fmt, ...) __attribute__((format(printf, 4, 5)));

#endif
