#include "base/fail.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

sl_status sl__fail(sl_error *err, sl_status status, const char *fmt, ...)
{
    assert(status != SL_OK);
    if (!err || err->status != SL_OK) return status;
    err->status = status;
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(err->message, sizeof err->message, fmt, args);
    va_end(args);
    if (n < 0) err->message[0] = '\0';
    for (char *p = err->message; *p; p++) {
        if ((unsigned char)*p < 0x20 || *p == 0x7f) *p = '?';
    }
    return status;
}

void sl_error_clear(sl_error *err)
{
    if (!err) return;
    err->status = SL_OK;
    err->message[0] = '\0';
}

const char *sl_status_name(sl_status status)
{
    switch (status) {
    case SL_OK: return "SL_OK";
    case SL_ENOMEM: return "SL_ENOMEM";
    case SL_EIO: return "SL_EIO";
    case SL_EFORMAT: return "SL_EFORMAT";
    case SL_EUNSUPPORTED: return "SL_EUNSUPPORTED";
    case SL_EINVAL: return "SL_EINVAL";
    case SL_EBUDGET: return "SL_EBUDGET";
    case SL_ECORRUPT: return "SL_ECORRUPT";
    case SL_ENUMERIC: return "SL_ENUMERIC";
    case SL_ECANCELLED: return "SL_ECANCELLED";
    }
    return "unknown status";
}

const char *sl_version(void) { return SLUICE_VERSION; }
