/* The system's answers to the engines' reads, changed on their way: both engines take every answer
 * in through sl__io_piece_came, and there they can be stopped at a gate, cut short or turned into
 * errors. What an answer did not bring is overwritten, so that it must be asked for again.
 *
 * A program that includes this says so to the linker with the line
 *     sl__io_step __wrap_sl__io_piece_came(sl__io_piece *p, int64_t answer);
 */
#ifndef SL_TEST_FAKE_ANSWERS_H
#define SL_TEST_FAKE_ANSWERS_H

#include "io/io_piece.h"

typedef struct fake_answers_rules {
    unsigned eintr, eagain, eio, cut; /* chances in 1000, tried in this order */
    uint64_t eio_at_call;             /* the answer of this number (from 1) is EIO; 0: none */
    bool eagain_for_ever;
} fake_answers_rules;

/* Sets the rules, opens the gate and starts to count from 0. NULL: answers come as they are. */
void fake_answers_set(uint64_t seed, const fake_answers_rules *rules);
uint64_t fake_answers_calls(void);

void fake_answers_close_gate(void);
void fake_answers_open_gate(void);
void fake_answers_await_gate(unsigned calls); /* until so many have stopped there */

#endif
