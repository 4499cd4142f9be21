/* The clock of a render, and strftime in English, as C's does it in the "C" locale. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "text/jinja_eval.h"

static const char *const days[] = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                   "Thursday", "Friday", "Saturday"};
static const char *const months[] = {"January",   "February", "March",    "April",
                                     "May",       "June",     "July",     "August",
                                     "September", "October",  "November", "December"};

static bool is_leap(int year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static int days_in(int year, int month)
{
    static const int counts[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return counts[month - 1] + (month == 2 && is_leap(year));
}

/* Days since the beginning of the year, from 0. */
static int year_day(const sl__jclock *t)
{
    int day = t->day - 1;
    for (int month = 1; month < t->month; month++)
        day += days_in(t->year, month);
    return day;
}

/* From Sunday, 0: Gauss' rule for the first of January. */
static int week_day(const sl__jclock *t)
{
    int y = t->year - 1;
    return (1 + 5 * (y % 4) + 4 * (y % 100) + 6 * (y % 400) + year_day(t)) % 7;
}

/* `count` digits, all of which must be there. */
static bool number(const char **at, const char *end, int count, int *out)
{
    *out = 0;
    for (int i = 0; i < count; i++, ++*at) {
        if (*at == end || **at < '0' || **at > '9') return false;
        *out = *out * 10 + (**at - '0');
    }
    return true;
}

static bool sign(const char **at, const char *end, const char *set)
{
    if (*at == end || !**at || !strchr(set, **at)) return false;
    ++*at;
    return true;
}

bool sl__jclock_parse(const char *text, size_t size, sl__jclock *out)
{
    const char *at = text, *end = text + size;
    sl__jclock t = {0};
    if (!number(&at, end, 4, &t.year) || !sign(&at, end, "-") || !number(&at, end, 2, &t.month) ||
        !sign(&at, end, "-") || !number(&at, end, 2, &t.day))
        return false;
    if (t.year < 1 || t.month < 1 || t.month > 12 || t.day < 1 || t.day > days_in(t.year, t.month))
        return false;
    if (at < end) {
        if (!sign(&at, end, "T ") || !number(&at, end, 2, &t.hour) || !sign(&at, end, ":") ||
            !number(&at, end, 2, &t.minute))
            return false;
        if (sign(&at, end, ":") && !number(&at, end, 2, &t.second)) return false;
        if (sign(&at, end, ".,") && !number(&at, end, 6, &t.micro)) return false;
        sign(&at, end, "Z");
    }
    *out = t;
    return at == end && t.hour < 24 && t.minute < 60 && t.second < 60;
}

void sl__jclock_now(sl__jclock *out)
{
    struct timespec now = {0};
    struct tm tm = {.tm_mday = 1, .tm_year = 70};
    clock_gettime(CLOCK_REALTIME, &now);
    localtime_r(&now.tv_sec, &tm);
    *out = (sl__jclock){
        tm.tm_year + 1900,        tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec % 60,
        (int)(now.tv_nsec / 1000)};
}

/* The week of ISO 8601 and the year that it belongs to. */
static int iso_week(const sl__jclock *t, int *year)
{
    int weekday = (week_day(t) + 6) % 7; /* from Monday, 0 */
    int week = (year_day(t) - weekday + 10) / 7;
    *year = t->year;
    if (week == 0) {
        const sl__jclock last = {.year = t->year - 1, .month = 12, .day = 31};
        return iso_week(&last, year);
    }
    if (week == 53 && 31 - t->day < 3 - weekday && t->month == 12) {
        ++*year;
        return 1;
    }
    return week;
}

/* A number of a directive: value, its width, and what fills it; width 0: none such. */
static int numeric(const sl__jclock *t, char letter, int *width)
{
    int year;
    *width = 2;
    switch (letter) {
    case 'Y':
        *width = 1;
        return t->year;
    case 'C':
        return t->year / 100;
    case 'y':
        return t->year % 100;
    case 'm':
        return t->month;
    case 'd':
    case 'e':
        return t->day;
    case 'H':
    case 'k':
        return t->hour;
    case 'I':
    case 'l':
        return (t->hour + 11) % 12 + 1;
    case 'M':
        return t->minute;
    case 'S':
        return t->second;
    case 'f':
        *width = 6;
        return t->micro;
    case 'j':
        *width = 3;
        return year_day(t) + 1;
    case 'w':
        *width = 1;
        return week_day(t);
    case 'u':
        *width = 1;
        return (week_day(t) + 6) % 7 + 1;
    case 'U':
        return (year_day(t) + 7 - week_day(t)) / 7;
    case 'W':
        return (year_day(t) + 7 - (week_day(t) + 6) % 7) / 7;
    case 'V':
        return iso_week(t, &year);
    case 'G':
        *width = 1;
        iso_week(t, &year);
        return year;
    default:
        *width = 0;
        return 0;
    }
}

/* What stands for several directives. */
static const char *several(char letter)
{
    switch (letter) {
    case 'c':
        return "%a %b %e %H:%M:%S %Y";
    case 'x':
    case 'D':
        return "%m/%d/%y";
    case 'X':
    case 'T':
        return "%H:%M:%S";
    case 'F':
        return "%Y-%m-%d";
    case 'R':
        return "%H:%M";
    case 'r':
        return "%I:%M:%S %p";
    default:
        return NULL;
    }
}

static bool put_text(sl__jctx *c, const sl__jclock *t, char letter, bool *known)
{
    const char *day = days[week_day(t)], *month = months[t->month - 1];
    *known = true;
    switch (letter) {
    case 'a':
        return sl__jput(c, day, 3);
    case 'A':
        return sl__jput_str(c, day);
    case 'b':
    case 'h':
        return sl__jput(c, month, 3);
    case 'B':
        return sl__jput_str(c, month);
    case 'p':
        return sl__jput_str(c, t->hour < 12 ? "AM" : "PM");
    case 'P':
        return sl__jput_str(c, t->hour < 12 ? "am" : "pm");
    case 'n':
        return sl__jput(c, "\n", 1);
    case 't':
        return sl__jput(c, "\t", 1);
    case '%':
        return sl__jput(c, "%", 1);
    case 'z':
    case 'Z':
        return true; /* a time without a zone */
    default:
        *known = false;
        return true;
    }
}

static bool put_directive(sl__jctx *c, const sl__jclock *t, char flag, char letter, bool *known)
{
    char text[20];
    int width, value = numeric(t, letter, &width);
    if (width == 0) return put_text(c, t, letter, known);
    *known = true;
    bool spaces = strchr("ekl", letter) != NULL ? flag != '0' : flag == '_';
    if (flag == '-') width = 1;
    int n = snprintf(text, sizeof text, spaces ? "%*d" : "%0*d", width, value);
    return sl__jput(c, text, (size_t)n);
}

static bool put_format(sl__jctx *c, const sl__jclock *t, const char *format, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        size_t from = i;
        bool known = false;
        char flag = 0;
        if (format[i] == '%' && i + 1 < size) {
            i++;
            if (i + 1 < size && strchr("-_0", format[i]) && format[i]) flag = format[i++];
            const char *more = several(format[i]);
            if (more) {
                if (!put_format(c, t, more, strlen(more))) return false;
                continue;
            }
            if (!put_directive(c, t, flag, format[i], &known)) return false;
        }
        if (!known && !sl__jput(c, format + from, i - from + 1)) return false;
    }
    return true;
}

bool sl__jput_time(sl__jctx *c, const sl__jclock *clock, const sl__jstr *format)
{
    return put_format(c, clock, format->text, format->size);
}
