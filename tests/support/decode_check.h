/* Decoding as a stream and as a whole, for fuzz targets. */
#ifndef SL_TEST_DECODE_CHECK_H
#define SL_TEST_DECODE_CHECK_H

#include "sluice.h"

/* Ends the program where the two differ, or where one gives half a character. */
void decode_check(const sl_tokenizer *tok, const int32_t *ids, size_t count);

/* Every id in turn, then the ids from the other end by threes. */
void decode_check_all(const sl_tokenizer *tok);

#endif
