/* What stands for the server where libmicrohttpd was not there. */
#include "base/fail.h"
#include "server/server.h"

sl_status sl__server_start(sl__server **out, const sl__server_options *opt, sl_engine *engine,
                           const sl_template *tmpl, sl_error *err)
{
    (void)opt;
    (void)engine;
    (void)tmpl;
    *out = NULL;
    return SL_FAIL(err, SL_EUNSUPPORTED, "this build has no server: libmicrohttpd was not there");
}

uint16_t sl__server_port(const sl__server *server)
{
    (void)server;
    return 0;
}

void sl__server_stop(sl__server *server)
{
    (void)server;
}
