/* The page at /, for people; private to this room. */
#ifndef SL_SERVER_PAGE_H
#define SL_SERVER_PAGE_H

#include <stddef.h>

struct exchange;

/* page/index.html, made into C by cmake/embed_page.cmake. Its policy lets nothing in from elsewhere
 * and nothing out, and of scripts and styles only the page's own, by their hashes: text of a model
 * that slipped through as markup could still do nothing. */
extern const unsigned char page_bytes[];
extern const size_t page_size;
extern const char page_policy[]; /* Content-Security-Policy */

void page_answer(struct exchange *x);
void page_icon(struct exchange *x);

#endif
