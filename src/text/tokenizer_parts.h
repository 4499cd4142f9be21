/* Inside the tokenizer: one image that holds all its data, and the stages that read it.
 *
 * A tokenizer in memory is its compiled form plus the compiled regexes. Parsing a tokenizer.json
 * builds that same image, so both ways in are checked by the same code:
 *
 *     tokenizer.json ─ parse ─┐
 *                             ├─ draft ─ assemble ─┐
 *     tiktoken file  ─ parse ─┘                    ├─ image ─ attach (check all) ─ tokenizer
 *     tokenizer.bin ───────────────────────────────┘
 *
 * The image, little-endian, every section 8-aligned, in this order:
 *
 *     sl__tok_header │ merges[merge_slots] │ tokens[vocab_size] │ slots[token_slots] │
 *     added[added_count] │ steps[step_count] │ template ids │ strings │ XXH3 of all before
 *
 * merges is a hash table (left, right) → (rank, result); slots one from the bytes of a token to its
 * id. Both are open addressing with linear probing, a power of two long, and hold at least one
 * empty slot, which ends every probe.
 *
 * steps is three lists in a row: what normalises a text, what cuts it into pieces, and what makes
 * text of tokens again.
 *
 * Text flows: stretches of valid UTF-8 → added tokens cut out → normalised → added tokens that are
 * matched after normalisation cut out → pre-tokenised by steps → each piece merged. Bytes that are
 * not UTF-8 stand between stretches: each becomes its own byte token, unmerged, and what is left
 * and right of them is encoded as if it were a text of its own.
 *
 * There are two alphabets. Byte-level: merging starts from the bytes of a piece, and tokens are
 * bytes. SL__TOK_CHARS: it starts from its characters, and tokens are text; a character without a
 * token becomes the tokens of its bytes ("<0xE4>"), or the unknown one.
 */
#ifndef SL_TEXT_TOKENIZER_PARTS_H
#define SL_TEXT_TOKENIZER_PARTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifndef PCRE2_CODE_UNIT_WIDTH
#define PCRE2_CODE_UNIT_WIDTH 8
#endif
#include <pcre2.h>

#include "base/buffer.h"
#include "sluice.h"

#define SL__TOK_MAGIC       "SLUICTOK"
#define SL__TOK_VERSION     2u
#define SL__TOK_NONE        UINT32_MAX
#define SL__TOK_IDS_MAX     (1u << 22) /* ids lie below this */
#define SL__TOK_STRINGS_MAX (1u << 30)
#define SL__TOK_STEPS_MAX   64u /* of each of the three lists */
#define SL__STRIP_MAX       64u /* characters that SL__STEP_DECODE_STRIP takes on a side */
#define SL__TOK_ADDED_MAX   (1u << 16)
#define SL__TOK_WRAP_MAX    64u /* ids that the post-processor adds on a side */
#define SL__TOK_FILE_MAX    ((uint64_t)1 << 30)
#define SL__WORD_MARK       "\xe2\x96\x81" /* U+2581, which often stands for a space */

/* Flags of a header. */
enum {
    SL__TOK_CHARS = 1, /* tokens are text; else they are bytes */
    SL__TOK_IGNORE_MERGES = 2,
    SL__TOK_FUSE_UNK = 4,
    SL__TOK_BYTE_FALLBACK = 8, /* byte_ids are the tokens "<0x00>" to "<0xFF>" */
    SL__TOK_APART = 16,        /* decoding puts a space between tokens: there is no decoder */
};

typedef struct sl__tok_header {
    char magic[8];
    uint32_t version, flags;
    uint64_t image_bytes; /* checksum included */
    uint32_t vocab_size;  /* highest id + 1 */
    uint32_t merge_slots, token_slots;
    uint32_t added_count, added_raw; /* the first added_raw are matched before normalisation */
    uint32_t normalize_count, step_count, decode_count;
    uint32_t prefix_count, suffix_count; /* ids put before and after every text */
    uint32_t strings_bytes;
    uint32_t unk_id;    /* or SL__TOK_NONE: what has no token vanishes */
    uint32_t word_mark; /* 1: no merge joins a U+2581 to what is before it, see bpe.c */
    uint32_t zero;
    uint32_t byte_ids[256];
} sl__tok_header;

typedef struct sl__tok_merge {
    uint32_t left, right;
    uint32_t rank; /* SL__TOK_NONE: an empty slot */
    uint32_t result;
} sl__tok_merge;

/* What a token is. A token may be in the vocabulary and an added one. */
enum {
    SL__TOK_BYTES = 1,   /* in the vocabulary, written in the byte alphabet; its string is bytes */
    SL__TOK_LITERAL = 2, /* its string is its text as written */
    SL__TOK_ADDED = 4,
    SL__TOK_SPECIAL = 8,
};

typedef struct sl__tok_token {
    uint32_t offset;     /* into strings */
    uint32_t size_flags; /* size << 8 | flags; 0: a hole */
} sl__tok_token;

enum { SL__ADDED_LSTRIP = 1, SL__ADDED_RSTRIP = 2, SL__ADDED_SINGLE_WORD = 4 };

/* Sorted by text within each of the two sets. */
typedef struct sl__tok_added {
    uint32_t id, flags;
    uint32_t offset, size; /* what is searched for; normalised in the second set */
} sl__tok_added;

/* What `behavior`, `pattern` and `extra` of a step mean is said behind each kind. */
typedef enum sl__step_kind {
    /* Pre-tokenising. */
    SL__STEP_SPLIT_REGEX = 1, /* an sl__step_behavior; pattern */
    SL__STEP_SPLIT_LITERAL = 2,
    SL__STEP_ADD_SPACE = 3, /* a space before a piece that has none */
    SL__STEP_METASPACE = 4, /* an sl__prepend_scheme; pattern stands for a space */

    /* Normalising. */
    SL__STEP_FORM = 16,            /* an sl__normal_form */
    SL__STEP_PREPEND = 17,         /* pattern goes before a text that is not empty */
    SL__STEP_REPLACE_LITERAL = 18, /* pattern by extra */
    SL__STEP_REPLACE_REGEX = 19,
    SL__STEP_TRIM = 20, /* of White_Space; 1: at the left, 2: at the right */
    SL__STEP_STRIP_MARKS = 21,
    SL__STEP_LOWERCASE = 22,

    /* Decoding; see detokenizer.c. */
    SL__STEP_DECODE_METASPACE = 32, /* 1: nothing for pattern in the first token; else a space */
    SL__STEP_DECODE_REPLACE = 33,   /* pattern by extra */
    SL__STEP_DECODE_BYTES = 34,     /* runs of "<0xE4>" to characters */
    SL__STEP_DECODE_FUSE = 35,      /* from here on all tokens are one */
    SL__STEP_DECODE_STRIP = 36,     /* at most `behavior` of pattern at the left, `invert` right */
} sl__step_kind;

typedef enum sl__normal_form { SL__NFC = 0, SL__NFD, SL__NFKC, SL__NFKD } sl__normal_form;

/* When SL__STEP_METASPACE puts its pattern before a piece that does not begin so. */
typedef enum sl__prepend_scheme {
    SL__PREPEND_NEVER = 0,
    SL__PREPEND_ALWAYS,
    SL__PREPEND_FIRST, /* at the beginning of the whole text */
} sl__prepend_scheme;

typedef enum sl__step_behavior {
    SL__ISOLATED = 0,
    SL__REMOVED,
    SL__MERGED_WITH_PREVIOUS,
    SL__MERGED_WITH_NEXT,
    SL__CONTIGUOUS,
} sl__step_behavior;

typedef struct sl__tok_step {
    uint32_t kind, behavior, invert;
    uint32_t offset, size; /* the pattern, as the tokenizer.json has it */
    uint32_t extra_offset, extra_size;
    uint32_t zero;
} sl__tok_step;

struct sl_tokenizer {
    unsigned char *image; /* owned */
    const sl__tok_header *header;
    const sl__tok_merge *merges;
    const sl__tok_token *tokens;
    const uint32_t *slots;
    const sl__tok_added *added;
    const sl__tok_step *steps;
    const sl__tok_step *cuts;    /* the pre-tokenising ones among the steps */
    const sl__tok_step *decodes; /* and the decoding ones */
    const uint32_t *wrap;        /* prefix ids, then suffix ids */
    const char *strings;
    pcre2_code **codes;           /* one a step; NULL where it needs none */
    pcre2_code **cut_codes;       /* those of cuts */
    uint32_t added_first[2][257]; /* raw, normalised: where texts with each first byte begin */
    uint32_t token_bytes_max;
    size_t decode_room; /* bytes that a token may become at most, see detokenizer.c */
};

static inline uint32_t sl__step_total(const sl__tok_header *h)
{
    return h->normalize_count + h->step_count + h->decode_count;
}

/* Whether size bytes at text begin with those of what. */
static inline bool sl__begins_with(const char *text, size_t size, const char *what, size_t n)
{
    return size >= n && memcmp(text, what, n) == 0;
}

/* The place of what[n], n >= 1, in text[size] from `from`; size where it is not there. */
size_t sl__find_bytes(const char *text, size_t size, size_t from, const char *what, size_t n);

/* Takes image over, whatever the outcome; path is for messages. */
sl_status sl__tokenizer_attach(sl_tokenizer **out, unsigned char *image, size_t size,
                               const char *path, sl_error *err);

/* Borrowed; *size 0 for a hole. */
static inline const char *sl__token_bytes(const sl_tokenizer *tok, uint32_t id, uint32_t *size)
{
    *size = tok->tokens[id].size_flags >> 8;
    return tok->strings + tok->tokens[id].offset;
}

/* ---- hash tables of the image ---------------------------------------------------------------- */

static inline uint32_t sl__merge_slot(uint32_t left, uint32_t right, uint32_t slots)
{
    uint64_t h = ((uint64_t)left << 32 | right) * 0x9e3779b97f4a7c15u;
    return (uint32_t)(h >> 32) & (slots - 1);
}

/* The id of the token with these bytes and this flag (SL__TOK_BYTES or SL__TOK_LITERAL). */
uint32_t sl__token_find(const sl__tok_token *tokens, const uint32_t *slots, uint32_t slot_count,
                        const char *strings, const void *bytes, size_t size, uint32_t flag);

/* ---- regexes --------------------------------------------------------------------------------- */

/* From a regex in Oniguruma's Ruby syntax, that of tokenizer.json, to PCRE2's; appends to out. what
 * ("pre_tokenizer") is for messages. */
sl_status sl__regex_translate(sl__buffer *out, const char *pattern, size_t size, const char *what,
                              const char *path, sl_error *err);

/* Compiles the pattern of a step; *out stays NULL where it has none to compile. */
sl_status sl__step_compile(pcre2_code **out, const sl__tok_step *step, const char *strings,
                           const char *path, sl_error *err);

/* The matches of a pattern in a text, from left to right. */
typedef struct sl__matches {
    const pcre2_code *code;
    pcre2_match_data *data;
    pcre2_match_context *limits;
    const char *what; /* "pre_tokenizer", for messages */
    const char *text; /* valid UTF-8 */
    size_t size;
    size_t from, done; /* zero at first */
    bool any;
} sl__matches;

/* Bounds the work of one match, and so of all that use limits, on a text of this size. */
void sl__matches_bound(pcre2_match_context *limits, size_t size);
/* *found false: there is no further match. An empty match right behind the last one is none. */
sl_status sl__matches_next(sl__matches *m, size_t *begin, size_t *end, bool *found, sl_error *err);

/* ---- stages ---------------------------------------------------------------------------------- */

/* A normal form of valid UTF-8. *text and *size are left alone where nothing changes; else they
 * point into scratch, which the caller owns. */
sl_status sl__normalize_form(sl__normal_form form, const char **text, size_t *size,
                             sl__buffer *scratch, sl_error *err);

/* The normalising steps with their working memory. */
typedef struct sl__normalizer {
    const sl__tok_step *steps; /* all borrowed */
    uint32_t count;
    const char *strings;
    pcre2_code *const *codes;
    pcre2_match_data *match; /* NULL where no step has a regex */
    pcre2_match_context *limits;
    sl__buffer scratch[2]; /* a step reads one and writes the other */
} sl__normalizer;

sl_status sl__normalizer_init(sl__normalizer *n, const sl__tok_step *steps, uint32_t count,
                              const char *strings, pcre2_code *const *codes, sl_error *err);
void sl__normalizer_free(sl__normalizer *n); /* also after a failed init */
/* Of valid UTF-8. *text and *size may come to point into n, until the next run. *moved: the text no
 * longer begins with what stood at its beginning. */
sl_status sl__normalizer_run(sl__normalizer *n, const char **text, size_t *size, bool *moved,
                             sl_error *err);

typedef struct sl__added_match {
    size_t begin, end; /* whitespace taken by lstrip and rstrip included */
    uint32_t id;
} sl__added_match;

/* The next added token of a set (0 raw, 1 normalised) in text, which is valid UTF-8, from a place
 * that no earlier match covers. */
bool sl__added_next(const sl_tokenizer *tok, unsigned set, const char *text, size_t size,
                    size_t from, sl__added_match *match);

/* Whether the longest added token of either set that stands at text is a special one, or all of
 * text is the beginning of one. size > 0. */
bool sl__added_special_at(const sl_tokenizer *tok, const char *text, size_t size);

/* Receives the pieces of a text in order, each not empty, borrowed for the call. */
typedef sl_status (*sl__piece_fn)(void *ctx, const char *piece, size_t size, sl_error *err);

/* The working memory of one encode call. */
typedef struct sl__pretok {
    const sl_tokenizer *tok;
    pcre2_match_data **match; /* one a step: steps nest */
    pcre2_match_context *limits;
    sl__buffer *changed; /* one a step: the text of those that change it */
    sl__piece_fn fn;
    void *ctx;
} sl__pretok;

sl_status sl__pretok_init(sl__pretok *pretok, const sl_tokenizer *tok, sl__piece_fn fn, void *ctx,
                          sl_error *err);
void sl__pretok_free(sl__pretok *pretok); /* also after a failed init */
/* text is valid UTF-8; first: it stands at the beginning of the whole text. */
sl_status sl__pretokenize(sl__pretok *pretok, const char *text, size_t size, bool first,
                          sl_error *err);

typedef struct sl__id_list {
    int32_t *data;
    size_t count, room;
} sl__id_list;
sl_status sl__id_push(sl__id_list *list, uint32_t id, sl_error *err);

/* Merging, with a cache of pieces seen; see bpe.c. */
typedef struct sl__bpe {
    const sl_tokenizer *tok;
    sl__id_list ids; /* the result so far */
    struct sl__bpe_seen *seen;
    uint32_t seen_mask;
    void *scratch; /* of long pieces */
    size_t scratch_bytes;
} sl__bpe;

sl_status sl__bpe_init(sl__bpe *bpe, const sl_tokenizer *tok, size_t text_size, sl_error *err);
void sl__bpe_free(sl__bpe *bpe); /* also after a failed init */
sl_status sl__bpe_piece(sl__bpe *bpe, const char *piece, size_t size, sl_error *err);
/* The byte token of a byte on its own. */
sl_status sl__bpe_byte(sl__bpe *bpe, unsigned char byte, sl_error *err);

/* The room of tok->decode_room, or 0 where it would be too large; the steps are checked. */
size_t sl__decode_room(const sl_tokenizer *tok);

#endif
