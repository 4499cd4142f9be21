/* Large, page-aligned memory straight from the system: zero until touched, not counted as resident
 * until then, and given back at once. */
#ifndef SL_BASE_PAGES_H
#define SL_BASE_PAGES_H

#include <stdbool.h>
#include <stddef.h>

void *sl__pages_alloc(size_t bytes); /* 4096-aligned at least; NULL where memory is out */
void sl__pages_free(void *pages, size_t bytes);

/* The same for a block that will be filled: where the system has huge pages and the block is large
 * (8 MiB), it begins on one and is made of them. Touching a byte then takes 2 MiB, all of them
 * inside the block. Freed with sl__pages_free. */
void *sl__pages_alloc_huge(size_t bytes);
/* Whether new huge pages may come into such a block from now on; those that are there stay. */
void sl__pages_set_huge(void *pages, size_t bytes, bool huge);

/* Gives the whole pages that lie in the range back to the system; they stay reserved. What they
 * held is lost: their bytes are undefined until they are written. Before they are touched again
 * they must be taken again, with the same range. */
void sl__pages_release(void *pages, size_t bytes);
void sl__pages_retake(void *pages, size_t bytes);

#endif
