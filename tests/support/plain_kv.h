/* Cached keys and values once more, a number at a time and by the words of kern/kv_blocks.h alone.
 */
#ifndef SL_TEST_PLAIN_KV_H
#define SL_TEST_PLAIN_KV_H

#include <stdbool.h>
#include <stdint.h>

#include "kern/kv_blocks.h"

/* Number i of slot `slot` of a block, of keys or of values. */
float plain_kv(sl_kv_type type, const unsigned char *block, uint32_t slot, uint32_t i, bool value);

#endif
