/* What a model may write, any bytes of it: the input of the events in turn is the input, and how it
 * was cut into pieces shows in nothing but how texts are cut. The first byte chooses the tools, and
 * whether the answer begins inside of reasoning; the second the size of the pieces. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "text/chat_parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char tools_text[] =
    "[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"type\":\"object\","
    "\"properties\":{\"s\":{\"type\":\"string\"},\"n\":{\"type\":\"integer\"},\"o\":{}}}}},"
    "{\"type\":\"function\",\"function\":{\"name\":\"g\"}}]";

static void require(int truth)
{
    if (!truth) abort();
}

struct heard {
    sl__buffer raw, told;
    sl__chat_kind last;
    bool open; /* a call */
};

/* Pieces of a text count as one. */
static sl_status hear(void *ctx, const sl__chat_event *event)
{
    struct heard *h = ctx;
    require(event->kind <= SL_CHAT_SYNTAX);
    require(sl__buffer_append(&h->raw, event->raw, event->raw_size));
    if (event->kind == SL_CHAT_SYNTAX) return SL_OK;
    require(h->open == (event->kind == SL_CHAT_ARGUMENTS || event->kind == SL_CHAT_CALL_END));
    h->open = event->kind == SL_CHAT_CALL || event->kind == SL_CHAT_ARGUMENTS;
    if (event->text_size == 0 && event->kind != SL_CHAT_CALL && event->kind != SL_CHAT_CALL_END)
        return SL_OK;
    bool goes_on = h->told.size > 0 && h->last == event->kind && event->kind != SL_CHAT_CALL &&
                   event->kind != SL_CHAT_CALL_END;
    if (!goes_on) require(sl__buffer_printf(&h->told, "\n#%d%d ", event->kind, event->complete));
    require(sl__buffer_append(&h->told, event->text, event->text_size));
    h->last = event->kind;
    return SL_OK;
}

static void parse(struct heard *h, json_t *tools, bool thinking, const char *text, size_t size,
                  size_t piece)
{
    sl_error err = {0};
    sl__chat_parser *parser;
    memset(h, 0, sizeof *h);
    sl__buffer_init(&h->raw, SIZE_MAX / 2);
    sl__buffer_init(&h->told, SIZE_MAX / 2);
    require(sl__chat_parser_create(&parser, tools, thinking, hear, h, &err) == SL_OK);
    for (size_t at = 0; at < size; at += piece) {
        size_t n = size - at < piece ? size - at : piece;
        require(sl__chat_feed(parser, text + at, n, &err) == SL_OK);
    }
    require(sl__chat_finish(parser, &err) == SL_OK);
    sl__chat_parser_destroy(parser);
    require(h->raw.size == size && (size == 0 || memcmp(h->raw.data, text, size) == 0));
    require(!h->open);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct heard whole, cut;
    if (size < 2) return 0;
    const char *text = (const char *)data + 2;
    json_t *tools = NULL;
    if (data[0] & 2) tools = data[0] & 4 ? json_array() : json_loads(tools_text, 0, NULL);
    parse(&whole, tools, data[0] & 1, text, size - 2, size);
    parse(&cut, tools, data[0] & 1, text, size - 2, data[1] % 32 + 1u);
    require(whole.told.size == cut.told.size);
    require(whole.told.size == 0 || memcmp(whole.told.data, cut.told.data, cut.told.size) == 0);
    sl__buffer_free(&whole.raw);
    sl__buffer_free(&whole.told);
    sl__buffer_free(&cut.raw);
    sl__buffer_free(&cut.told);
    json_decref(tools);
    return 0;
}
