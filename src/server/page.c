/* The page: one file that was built in (page/index.html), and what it may do in a browser. */
#include "server/page.h"

#include "server/http.h"

void page_answer(exchange *x)
{
    x->status = MHD_HTTP_OK;
    x->type = "text/html; charset=utf-8";
    x->policy = page_policy;
    x->fixed = page_bytes;
    x->fixed_size = page_size;
}

/* The page brings its own; browsers ask all the same. */
void page_icon(exchange *x)
{
    x->status = MHD_HTTP_NO_CONTENT;
}
