/* checkkern [KERNEL [LEVEL]]       checks
 * checkkern --bench [KERNEL]       measures
 *
 * One line a kernel and level. A level whose entry is that of a lower one is not checked again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkkern.h"
#include "sluice.h"

static const ck_kernel *const families[] = {
    ck_weights,   ck_panels, ck_rows_q8, ck_vectors, ck_activations,
    ck_attention, ck_delta,  ck_bf16,    ck_fit,
};
#define FAMILIES (sizeof families / sizeof families[0])

static sl__kern levels[8];
const sl__kern *ck_levels = levels;
unsigned ck_level_count;

typedef void (*any_fn)(void);

static any_fn entry_of(const sl__kern *kern, size_t entry)
{
    any_fn fn;
    memcpy(&fn, (const char *)kern + entry, sizeof fn);
    return fn;
}

static void find_levels(void)
{
    for (uint32_t i = 0; sl_cpu_level_name(i); i++) {
        if (ck_level_count < sizeof levels / sizeof levels[0] &&
            sl__kern_init(&levels[ck_level_count], sl_cpu_level_name(i)))
            ck_level_count++;
    }
}

/* The level that has had this entry already; NULL where it is new. */
static const char *known_from(const ck_kernel *kernel, unsigned level)
{
    for (unsigned i = 0; i < level; i++) {
        if (entry_of(&levels[i], kernel->entry) == entry_of(&levels[level], kernel->entry))
            return levels[i].level;
    }
    return NULL;
}

static bool is_asked(const char *filter, const char *name)
{
    return !filter || strcmp(filter, name) == 0;
}

static uint64_t check_one(const ck_kernel *kernel, unsigned level, bool fast)
{
    ck k = {.ref = &levels[0], .kern = &levels[level], .is_ref = level == 0, .fast = fast,
            .name = kernel->name, .random = 1};
    kernel->check(&k);
    ck_end(&k);
    char error[32] = "exact";
    if (k.worst > 0) snprintf(error, sizeof error, "%.2f of the bound", k.worst);
    printf("%-18s %-11s %6llu cases   %s%s\n", kernel->name, levels[level].level,
           (unsigned long long)k.cases, error, k.failures ? "   FAILED" : "");
    fflush(stdout);
    return k.failures + (k.cases == 0);
}

/* Every entry of the table has its cases. */
static uint64_t find_unchecked(void)
{
    uint64_t missing = 0;
    for (size_t at = offsetof(sl__kern, level) + sizeof(char *); at < sizeof(sl__kern);
         at += sizeof(any_fn)) {
        bool found = false;
        for (size_t f = 0; f < FAMILIES; f++) {
            for (const ck_kernel *kernel = families[f]; kernel->name; kernel++)
                found = found || kernel->entry == at;
        }
        if (found) continue;
        printf("FAILED  entry %zu of sl__kern has no cases\n",
               (at - sizeof(char *)) / sizeof(any_fn) + 1);
        missing++;
    }
    return missing;
}

static int check_all(const char *kernel_name, const char *level_name)
{
    const char *text = getenv("SLUICE_TEST_FAST");
    const bool fast = text && *text && strcmp(text, "0") != 0;
    uint64_t failures = find_unchecked(), checked = 0;
    for (size_t f = 0; f < FAMILIES; f++) {
        for (const ck_kernel *kernel = families[f]; kernel->name; kernel++) {
            for (unsigned i = 0; i < ck_level_count; i++) {
                if (!is_asked(kernel_name, kernel->name) || !is_asked(level_name, levels[i].level))
                    continue;
                const char *known = known_from(kernel, i);
                checked++;
                if (known) printf("%-18s %-11s as %s\n", kernel->name, levels[i].level, known);
                else failures += check_one(kernel, i, fast);
            }
        }
    }
    if (!kernel_name) failures += ck_self();
    if (checked == 0) printf("no such kernel or level here\n");
    if (failures) printf("%llu failures\n", (unsigned long long)failures);
    return failures || checked == 0;
}

static int bench_all(const char *kernel_name)
{
    unsigned benched = 0;
    for (size_t f = 0; f < FAMILIES; f++) {
        for (const ck_kernel *kernel = families[f]; kernel->name; kernel++) {
            if (!kernel->bench || !is_asked(kernel_name, kernel->name)) continue;
            kernel->bench();
            benched++;
        }
    }
    if (benched == 0) printf("no such kernel, or it has no bench\n");
    return benched == 0;
}

int main(int argc, char **argv)
{
    const bool bench = argc > 1 && strcmp(argv[1], "--bench") == 0;
    const int first = bench ? 2 : 1;
    if (argc > 3 || (argc > first && argv[first][0] == '-')) {
        fprintf(stderr, "usage: checkkern [KERNEL [LEVEL]] | --bench [KERNEL]\n");
        return 2;
    }
    const char *kernel = argc > first ? argv[first] : NULL;
    find_levels();
    return bench ? bench_all(kernel) : check_all(kernel, argc > 2 ? argv[2] : NULL);
}
