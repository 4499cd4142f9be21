/* The memory of a case, random numbers, comparisons.
 *
 *     slot:   no access | usable pages                               | no access
 *                       |data… |guard|                               |          at the beginning
 *                       |                                |guard|data…|          at the end
 *
 * A byte too far on the side of the page ends the program with the name of the case; on the other
 * side a guard byte tells. */
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "checkkern.h"

#define SLOTS      64u
#define SLOT_BYTES ((size_t)4 << 20)
#define GUARD      0xa5
#define GUARD_BYTES 256u
#define SHOWN      5u /* failures of a kernel on a level that are printed */

typedef struct buffer {
    unsigned char *begin, *end; /* of the slot's usable pages */
    unsigned char *data;
    size_t bytes, before, after; /* guard bytes on either side */
    bool is_input;
    uint64_t sum; /* of an input, when sealed */
} buffer;

static buffer slots[SLOTS];
static unsigned used;
static const ck *running;

/* ---- slots ----------------------------------------------------------------------------------- */

static void say(const char *text)
{
    if (write(STDERR_FILENO, text, strlen(text)) < 0) return;
}

static void beyond(int signal)
{
    (void)signal;
    if (running && running->quiet) _exit(1);
    say("checkkern: touched what lies beyond its memory, or trapped: ");
    if (running) {
        say(running->name);
        say(" on ");
        say(running->kern->level);
        say(", ");
        say(running->what);
    }
    say("\n");
    _exit(1);
}

static void map_slots(void)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), step = SLOT_BYTES + 2 * page;
    unsigned char *all = mmap(NULL, SLOTS * step, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED) abort();
    for (unsigned i = 0; i < SLOTS; i++) {
        slots[i].begin = all + i * step + page;
        slots[i].end = slots[i].begin + SLOT_BYTES;
        if (mprotect(slots[i].begin, SLOT_BYTES, PROT_READ | PROT_WRITE) != 0) abort();
    }
    struct sigaction action = {.sa_handler = beyond};
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    sigaction(SIGILL, &action, NULL);
    sigaction(SIGFPE, &action, NULL);
}

static void *take(ck *k, size_t bytes, size_t align, bool is_input)
{
    if (!slots[0].begin) map_slots();
    if (used == SLOTS || bytes + 64 * align > SLOT_BYTES) {
        fprintf(stderr, "checkkern: %s: a case with too much memory\n", k->name);
        exit(2);
    }
    buffer *b = &slots[used++];
    if (ck_u32(k) % 2) {
        b->data = b->begin + align * ck_below(k, 16);
    } else {
        size_t up = (size_t)(b->end - b->begin) - bytes;
        b->data = b->begin + up / align * align;
    }
    size_t before = (size_t)(b->data - b->begin), after = (size_t)(b->end - b->data) - bytes;
    b->bytes = bytes;
    b->before = before < GUARD_BYTES ? before : GUARD_BYTES;
    b->after = after < GUARD_BYTES ? after : GUARD_BYTES;
    b->is_input = is_input;
    b->sum = 0;
    memset(b->data - b->before, GUARD, b->before);
    memset(b->data, 0xff, bytes);
    memset(b->data + bytes, GUARD, b->after);
    return b->data;
}

static uint64_t sum_of(const unsigned char *p, size_t bytes)
{
    uint64_t sum = bytes;
    for (size_t i = 0; i < bytes; i++)
        sum = (sum ^ p[i]) * UINT64_C(0x100000001b3);
    return sum;
}

static bool all_guard(const unsigned char *p, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        if (p[i] != GUARD) return false;
    return true;
}

/* ---- cases ----------------------------------------------------------------------------------- */

void ck_seal(ck *k)
{
    (void)k;
    for (unsigned i = 0; i < used; i++)
        if (slots[i].is_input) slots[i].sum = sum_of(slots[i].data, slots[i].bytes);
}

void ck_end(ck *k)
{
    for (; used > 0; used--) {
        const buffer *b = &slots[used - 1];
        if (!all_guard(b->data - b->before, b->before))
            ck_fail(k, "bytes before a buffer of %zu were written", b->bytes);
        if (!all_guard(b->data + b->bytes, b->after))
            ck_fail(k, "bytes after a buffer of %zu were written", b->bytes);
        if (b->is_input && b->sum != 0 && b->sum != sum_of(b->data, b->bytes))
            ck_fail(k, "an input of %zu bytes was changed", b->bytes);
    }
    running = NULL;
}

void ck_case(ck *k, const char *format, ...)
{
    va_list args;
    ck_end(k);
    va_start(args, format);
    vsnprintf(k->what, sizeof k->what, format, args);
    va_end(args);
    k->cases++;
    running = k;
}

void ck_fail(ck *k, const char *format, ...)
{
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (k->failures++ < SHOWN && !k->quiet)
        printf("FAILED  %s on %s, %s: %s\n", k->name, k->kern->level, k->what, text);
}

/* ---- numbers --------------------------------------------------------------------------------- */

uint32_t ck_u32(ck *k)
{
    k->random += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t z = k->random;
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (uint32_t)(z >> 32);
}

uint32_t ck_below(ck *k, uint32_t n)
{
    return ck_u32(k) % n;
}

float ck_float(ck *k, float lowest, float highest)
{
    return lowest + (highest - lowest) * ((float)(ck_u32(k) >> 8) * 0x1p-24f);
}

void *ck_input(ck *k, size_t bytes, size_t align)
{
    return take(k, bytes, align, true);
}

void *ck_output(ck *k, size_t bytes, size_t align)
{
    return take(k, bytes, align, false);
}

float *ck_floats(ck *k, size_t n)
{
    return ck_output(k, n * sizeof(float), sizeof(float));
}

float *ck_random(ck *k, size_t n, float lowest, float highest)
{
    float *p = ck_input(k, n * sizeof(float), sizeof(float));
    for (size_t i = 0; i < n; i++)
        p[i] = ck_float(k, lowest, highest);
    return p;
}

float *ck_copy(ck *k, const float *x, size_t n)
{
    float *p = ck_floats(k, n);
    memcpy(p, x, n * sizeof(float));
    return p;
}

double *ck_doubles(ck *k, size_t n)
{
    return ck_output(k, n * sizeof(double), sizeof(double));
}

double ck_silu(double x)
{
    return x / (1 + exp(-x));
}

/* ---- comparisons ----------------------------------------------------------------------------- */

bool ck_is_poison(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits == UINT32_MAX;
}

void ck_same(ck *k, const char *what, const float *got, const float *want, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (memcmp(&got[i], &want[i], sizeof(float)) == 0) continue;
        if (isnan(got[i]) && isnan(want[i]) && !ck_is_poison(got[i]) && !ck_is_poison(want[i]))
            continue;
        ck_fail(k, "%s: [%zu] of %zu is %a, not %a", what, i, n, (double)got[i], (double)want[i]);
        return;
    }
}

void ck_same_bytes(ck *k, const char *what, const void *got, const void *want, size_t bytes)
{
    const unsigned char *a = got, *b = want;
    for (size_t i = 0; i < bytes; i++) {
        if (a[i] == b[i]) continue;
        ck_fail(k, "%s: byte %zu of %zu is %u, not %u", what, i, bytes, a[i], b[i]);
        return;
    }
}

static void judge(ck *k, const char *what, double error, double bound)
{
    if (error <= bound) {
        if (bound > 0 && error / bound > k->worst) k->worst = error / bound;
    } else {
        k->worst = INFINITY;
        ck_fail(k, "%s: off by %g, not %g", what, error, bound);
    }
}

void ck_near(ck *k, const char *what, const float *got, const float *want, size_t n, double bound)
{
    double difference = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        if (ck_is_poison(want[i]) != ck_is_poison(got[i])) {
            ck_fail(k, "%s: [%zu] of %zu is %a, not %a", what, i, n, (double)got[i],
                    (double)want[i]);
            return;
        }
        if (ck_is_poison(want[i])) continue;
        double d = (double)got[i] - (double)want[i];
        difference += d * d;
        norm += (double)want[i] * (double)want[i];
    }
    judge(k, what, sqrt(difference), bound * sqrt(norm));
}

void ck_within(ck *k, const char *what, const float *got, const double *want, size_t n,
               double bound, double size)
{
    double difference = 0;
    for (size_t i = 0; i < n; i++) {
        if (isnan(want[i]) != ck_is_poison(got[i])) {
            ck_fail(k, "%s: [%zu] of %zu is %a, not %g", what, i, n, (double)got[i], want[i]);
            return;
        }
        if (isnan(want[i])) continue;
        double d = (double)got[i] - want[i];
        difference += d * d;
    }
    judge(k, what, sqrt(difference), bound * size + 1e-300);
}

void ck_near_exact(ck *k, const char *what, const float *got, const double *want, size_t n,
                   double bound)
{
    double norm = 0;
    for (size_t i = 0; i < n; i++)
        norm += isnan(want[i]) ? 0 : want[i] * want[i];
    ck_within(k, what, got, want, n, bound, sqrt(norm));
}
