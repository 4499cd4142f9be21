/* Large, page-aligned memory straight from the system: zero until touched, not counted as resident
 * until then, and given back at once. */
#ifndef SL_BASE_PAGES_H
#define SL_BASE_PAGES_H

#include <stddef.h>

void *sl__pages_alloc(size_t bytes); /* 4096-aligned at least; NULL where memory is out */
void sl__pages_free(void *pages, size_t bytes);

#endif
