/* The portable part of sysmem.h. */
#include "base/sysmem.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

bool sl__parse_size(const char *text, uint64_t *bytes)
{
    static const struct {
        const char *suffix;
        unsigned shift;
    } units[] = {{"", 0},     {"B", 0},    {"K", 10}, {"KB", 10},  {"KiB", 10}, {"M", 20},
                 {"MB", 20},  {"MiB", 20}, {"G", 30}, {"GB", 30},  {"GiB", 30}, {"T", 40},
                 {"TB", 40},  {"TiB", 40}};
    if (!isdigit((unsigned char)text[0])) return false;
    /* strtod would also take hexadecimal, exponents and "nan": digits and one point come first. */
    size_t digits = strspn(text, "0123456789.");
    char figure[32];
    if (digits >= sizeof figure) return false;
    memcpy(figure, text, digits);
    figure[digits] = '\0';
    char *end;
    double number = strtod(figure, &end);
    if (*end) return false;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (strcasecmp(text + digits, units[i].suffix) != 0) continue;
        double value = floor(number * (double)((uint64_t)1 << units[i].shift));
        if (!(value >= 0 && value < 9.2e18)) return false;
        *bytes = (uint64_t)value;
        return true;
    }
    return false;
}
