/* cpus.h on Linux: the calling thread's affinity, and which CPUs are one core as sysfs says. */
#include "base/cpus.h"

#include <sched.h>
#include <stdio.h>

#include "base/sysmem.h"

/* "0,64" or "0-1": the first is the least. Where the system does not say, a CPU is a core. */
static uint32_t core_of(uint32_t cpu, const char *root)
{
    char path[4200];
    unsigned first = cpu;
    int n = snprintf(path, sizeof path,
                     "%s/sys/devices/system/cpu/cpu%u/topology/thread_siblings_list", root, cpu);
    FILE *f = n > 0 && (size_t)n < sizeof path ? fopen(path, "re") : NULL;
    if (!f) return cpu;
    if (fscanf(f, "%u", &first) != 1 || first > cpu) first = cpu;
    fclose(f);
    return first;
}

uint32_t sl__cpu_list(sl__cpu list[SL_CPUS_MAX], const char *root)
{
    cpu_set_t set;
    uint32_t count = 0;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 0;
    for (uint32_t cpu = 0; cpu < CPU_SETSIZE && count < SL_CPUS_MAX; cpu++) {
        if (CPU_ISSET(cpu, &set)) list[count++] = (sl__cpu){cpu, core_of(cpu, root)};
    }
    return count;
}

/* Whether this is the first CPU of its core in the list. */
static bool begins_core(const sl__cpu *list, uint32_t at)
{
    for (uint32_t i = 0; i < at; i++) {
        if (list[i].core == list[at].core) return false;
    }
    return true;
}

uint32_t sl__core_count(void)
{
    sl__cpu list[SL_CPUS_MAX];
    uint32_t cpus = sl__cpu_count(), n = sl__cpu_list(list, ""), cores = 0;
    for (uint32_t i = 0; i < n; i++)
        cores += begins_core(list, i);
    return cores > 0 && cores < cpus ? cores : cpus;
}

static bool bind_to_core(pthread_t thread, const sl__cpu *list, uint32_t n, uint32_t core)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    for (uint32_t i = 0; i < n; i++) {
        if (list[i].core == core) CPU_SET(list[i].number, &set);
    }
    return pthread_setaffinity_np(thread, sizeof set, &set) == 0;
}

static void unbind(const pthread_t *threads, uint32_t count)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return;
    for (uint32_t i = 0; i < count; i++)
        (void)pthread_setaffinity_np(threads[i], sizeof set, &set);
}

bool sl__cpu_bind(const pthread_t threads[], uint32_t count)
{
    sl__cpu list[SL_CPUS_MAX];
    uint32_t n = sl__cpu_list(list, ""), here = UINT32_MAX, bound = 0;
    int cpu = sched_getcpu();
    for (uint32_t i = 0; i < n; i++) {
        if (cpu >= 0 && list[i].number == (uint32_t)cpu) here = list[i].core;
    }
    for (uint32_t i = 0; i < n && bound < count && here != UINT32_MAX; i++) {
        if (list[i].core == here || !begins_core(list, i)) continue;
        if (!bind_to_core(threads[bound], list, n, list[i].core)) break;
        bound++;
    }
    if (bound < count) unbind(threads, bound);
    return bound == count;
}
