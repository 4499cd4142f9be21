/* A tiny pack for tests: four resident tensors and three layers of experts of different types and
 * sizes, with bytes that depend on where they are. What goes wrong here aborts with a message. */
#ifndef SL_TEST_PACK_FIXTURE_H
#define SL_TEST_PACK_FIXTURE_H

#include <stddef.h>
#include <stdint.h>

#include "store/pack.h"

#define PACK_FIXTURE_TENSORS 4
#define PACK_FIXTURE_LAYERS 3
#define PACK_FIXTURE_TOKENIZER "not really a vocabulary"

typedef struct pack_fixture {
    sl__pack_plan plan; /* points into the rest; change it as you like */
    json_t *config, *generation, *provenance;
    sl__pack_tensor_plan tensors[PACK_FIXTURE_TENSORS];
    sl__pack_layer_plan layers[PACK_FIXTURE_LAYERS]; /* numbers 0, 2 and 5 */
} pack_fixture;

void pack_fixture_init(pack_fixture *f);
void pack_fixture_free(pack_fixture *f);

/* Bytes of tensor i, malloc'd; a record of an expert, with zero pads, malloc'd. */
uint8_t *pack_fixture_tensor(const pack_fixture *f, size_t i, uint64_t *bytes);
uint8_t *pack_fixture_record(const sl__expert_layout *layout, uint32_t layer, uint32_t expert);

/* Each writes what is not there yet. */
sl_status pack_fixture_write_resident(const pack_fixture *f, sl__pack_writer *w, sl_error *err);
sl_status pack_fixture_write_layer(const pack_fixture *f, sl__pack_writer *w, size_t i,
                                   sl_error *err);
/* All of it, with tokenizer.bin, and the commit. */
sl_status pack_fixture_finish(const pack_fixture *f, sl__pack_writer *w, sl_error *err);

/* A whole pack at dst. */
void pack_fixture_build(const pack_fixture *f, const char *dst);

#endif
