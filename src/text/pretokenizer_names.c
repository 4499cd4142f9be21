/* How text is cut into pieces, for vocabularies that say it by a name alone: GGUF files by
 * tokenizer.ggml.pre, tiktoken files by the name of the file. The patterns are those of the models'
 * own tokenizers. */
#include <string.h>

#include "base/fail.h"
#include "text/tokenizer_draft.h"

#define CONTRACTION "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define UPPER       "\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}"
#define LOWER       "\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}"
#define NOT_HAN     "&&[^\\p{Han}]"
#define BEFORE      "[^\\r\\n\\p{L}\\p{N}]?"
#define SPACE_RULES "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

#define O200K                                                                                      \
    BEFORE "[" UPPER "]*[" LOWER "]+" CONTRACTION "?|" BEFORE "[" UPPER "]+[" LOWER                \
           "]*" CONTRACTION "?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" SPACE_RULES
#define KIMI                                                                                       \
    "[\\p{Han}]+|" BEFORE "[" UPPER NOT_HAN "]*[" LOWER NOT_HAN "]+" CONTRACTION "?|" BEFORE       \
    "[" UPPER NOT_HAN "]+[" LOWER NOT_HAN "]*" CONTRACTION                                         \
    "?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" SPACE_RULES
/* Qwen2's, with how many digits a piece has, and with what is a letter. */
#define QWEN(letter, not_letter, digits)                                                           \
    CONTRACTION "|[^\\r\\n\\p{L}\\p{N}]?" letter "+|" digits " ?[^\\s" not_letter                  \
                "\\p{N}]+[\\r\\n]*" SPACE_RULES

/* The letters of DeepSeek LLM: those with case, as of the Unicode of its time. */
#define CASED_LETTERS                                                                              \
    "A-Za-z\\x{b5}\\x{c0}-\\x{d6}\\x{d8}-\\x{f6}\\x{f8}-\\x{1ba}\\x{1bc}-\\x{1bf}"                 \
    "\\x{1c4}-\\x{293}\\x{295}-\\x{2af}\\x{370}-\\x{373}\\x{376}\\x{377}"                          \
    "\\x{37b}-\\x{37d}\\x{37f}\\x{386}\\x{388}-\\x{38a}\\x{38c}\\x{38e}-\\x{3a1}"                  \
    "\\x{3a3}-\\x{3f5}\\x{3f7}-\\x{481}\\x{48a}-\\x{52f}\\x{531}-\\x{556}"                         \
    "\\x{10a0}-\\x{10c5}\\x{13a0}-\\x{13f5}\\x{13f8}-\\x{13fd}\\x{1c90}-\\x{1cba}"                 \
    "\\x{1cbd}-\\x{1cbf}\\x{1d00}-\\x{1d2b}\\x{1d6b}-\\x{1d77}\\x{1d79}-\\x{1d9a}"                 \
    "\\x{1e00}-\\x{1f15}\\x{1f18}-\\x{1f1d}\\x{1f20}-\\x{1f45}\\x{1f48}-\\x{1f4d}"                 \
    "\\x{1f50}-\\x{1f57}\\x{1f59}\\x{1f5b}\\x{1f5d}\\x{1f5f}-\\x{1f7d}"                            \
    "\\x{1f80}-\\x{1fb4}\\x{1fb6}-\\x{1fbc}\\x{1fbe}\\x{1fc2}-\\x{1fc4}"                           \
    "\\x{1fc6}-\\x{1fcc}\\x{1fd0}-\\x{1fd3}\\x{1fd6}-\\x{1fdb}\\x{1fe0}-\\x{1fec}"                 \
    "\\x{1ff2}-\\x{1ff4}\\x{1ff6}-\\x{1ffc}\\x{2102}\\x{2107}\\x{210a}-\\x{2113}"                  \
    "\\x{2115}\\x{2119}-\\x{211d}\\x{2124}\\x{2126}\\x{2128}\\x{212a}-\\x{212d}"                   \
    "\\x{212f}-\\x{2134}\\x{2139}\\x{213c}-\\x{213f}\\x{2145}-\\x{2149}\\x{214e}"                  \
    "\\x{2183}\\x{2184}\\x{2c00}-\\x{2c7b}\\x{2c7e}-\\x{2ce4}\\x{2ceb}-\\x{2cee}"                  \
    "\\x{2cf2}\\x{2cf3}\\x{a640}-\\x{a66d}\\x{a680}-\\x{a69b}\\x{a722}-\\x{a76f}"                  \
    "\\x{a771}-\\x{a787}\\x{a78b}-\\x{a78e}\\x{ab70}-\\x{abbf}\\x{fb00}-\\x{fb06}"                 \
    "\\x{fb13}-\\x{fb17}\\x{ff21}-\\x{ff3a}\\x{ff41}-\\x{ff5a}\\x{10400}-\\x{1044f}"               \
    "\\x{104b0}-\\x{104d3}\\x{104d8}-\\x{104fb}\\x{10c80}-\\x{10cb2}"                              \
    "\\x{10cc0}-\\x{10cf2}\\x{118a0}-\\x{118df}\\x{1e900}-\\x{1e943}"

#define STEPS_MAX 6u

/* Each pattern cuts what the one before left; its matches stand alone. */
typedef struct named {
    const char *name;
    uint32_t flags; /* SL__TOK_… */
    bool nfc;       /* the text is normalised first */
    const char *patterns[STEPS_MAX];
} named;

static const named known[] = {
    {"gpt-2", 0, false, {SL__GPT2_REGEX}},
    {"olmo", 0, true, {SL__GPT2_REGEX}},
    {"qwen2", 0, true, {QWEN("\\p{L}", "\\p{L}", "\\p{N}|")}},
    {"qwen35", 0, true, {QWEN("[\\p{L}\\p{M}]", "\\p{L}\\p{M}", "\\p{N}|")}},
    {"glm4", 0, false, {QWEN("\\p{L}", "\\p{L}", "\\p{N}{1,3}|")}},
    {"chatglm-bpe", 0, false, {QWEN("\\p{L}", "\\p{L}", "\\p{N}{1,3}|")}}, /* glm4's older name */
    {"llama-bpe", SL__TOK_IGNORE_MERGES, false, {QWEN("\\p{L}", "\\p{L}", "\\p{N}{1,3}|")}},
    {"gpt-4o", SL__TOK_IGNORE_MERGES, false, {O200K}},
    {"minimax-m2", SL__TOK_IGNORE_MERGES, false, {O200K}},
    {"kimi-k2", SL__TOK_IGNORE_MERGES, false, {KIMI}},
    {"deepseek-llm",
     0,
     false,
     {"[\\r\\n]", "\\s?[" CASED_LETTERS "]+",
      "\\s?[!-/:-~\\x{ff01}-\\x{ff0f}\\x{ff1a}-\\x{ff5e}\\x{2018}-\\x{201f}\\x{3000}-\\x{3002}]+",
      "\\s+$", "[\\x{4e00}-\\x{9fa5}\\x{800}-\\x{4e00}\\x{ac00}-\\x{d7ff}]+", "\\p{N}"}},
    {"deepseek-v3",
     0,
     false,
     {"\\p{N}{1,3}", "[\\x{4e00}-\\x{9fa5}\\x{3040}-\\x{309f}\\x{30a0}-\\x{30ff}]+",
      "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?"
      "[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*" SPACE_RULES}},
};

sl_status sl__draft_pretokenizer(sl__tok_draft *draft, const char *name, sl_error *err)
{
    const sl__tok_step form = {.kind = SL__STEP_FORM, .behavior = SL__NFC};
    const sl__tok_step cut = {.kind = SL__STEP_SPLIT_REGEX, .behavior = SL__ISOLATED};
    size_t at = 0, count = sizeof known / sizeof known[0];
    while (at < count && strcmp(known[at].name, name) != 0)
        at++;
    if (at == count) {
        return SL_FAIL(err, SL_EUNSUPPORTED,
                       "%s: it is not known how pre-tokenizer \"%.100s\" splits text", draft->path,
                       name);
    }
    draft->head.flags |= known[at].flags;
    if (known[at].nfc) SL_TRY(sl__draft_step(draft, SL__NORMALIZE, &form, "", "", err));
    for (unsigned i = 0; i < STEPS_MAX && known[at].patterns[i]; i++)
        SL_TRY(sl__draft_step(draft, SL__CUT, &cut, known[at].patterns[i], "", err));
    return SL_OK;
}
