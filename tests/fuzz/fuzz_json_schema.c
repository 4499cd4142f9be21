/* A JSON schema from anywhere: refused with a message, or compiled; then tokens chosen among those
 * that it allows give JSON that is valid by it, and whole within a limit. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "constrain/grammar.h"
#include "schema_check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int truth)
{
    if (!truth) abort();
}

static void generate(const sl_grammar *grammar, const json_t *schema, test_rng *rng)
{
    sl_error err = {0};
    sl_tokenizer *tok = schema_tokenizer();
    sl_vocabulary *vocabulary;
    require(sl_vocabulary_create(&vocabulary, tok, &err) == SL_OK);
    for (int i = 0; i < 4; i++) {
        sl__buffer text;
        const char *why;
        sl__buffer_init(&text, 1 << 20);
        bool whole = i < 3 ? schema_generate(grammar, vocabulary, rng, 300, &text)
                           : schema_generate_within(grammar, vocabulary, rng, 5, 400, &text);
        if (whole) {
            json_t *value =
                json_loadb(text.data, text.size, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
            require(value && schema_valid(schema, schema, value, &why));
            json_decref(value);
        }
        sl__buffer_free(&text);
    }
    sl_vocabulary_destroy(vocabulary);
    sl_tokenizer_close(tok);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    sl_grammar *grammar;
    sl_error err = {0};
    test_rng rng = {size};
    sl_status status = sl_grammar_json_schema(&grammar, (const char *)data, size, &err);
    require(err.status == status);
    if (status != SL_OK) {
        require(!grammar && strncmp(err.message, "json_schema: ", 13) == 0);
        return 0;
    }
    json_t *schema;
    require(sl__json_parse((const char *)data, size, "again", &schema, NULL) == SL_OK);
    if (grammar->state_count < 20000) generate(grammar, schema, &rng);
    json_decref(schema);
    sl_grammar_close(grammar);
    return 0;
}
