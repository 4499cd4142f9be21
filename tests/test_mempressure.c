/* Memory pressure: the system's files read from folders made up here, the rule on readings made up
 * here, and both together. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mempressure.h"
#include "test_env.h"

#define KIB ((uint64_t)1 << 10)
#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)
#define MS  ((uint64_t)1000000)
#define S   (1000 * MS)

/* ---- the system's files ---------------------------------------------------------------------- */

#if defined(__linux__)

static char root[256];

/* Writes root/path, making its folders. */
static void put(const char *path, const char *text)
{
    char full[1024];
    snprintf(full, sizeof full, "%s/%s", root, path);
    for (char *p = full + strlen(root) + 1; (p = strchr(p, '/')); *p++ = '/') {
        *p = '\0';
        (void)mkdir(full, 0755);
    }
    test_write_file(full, text, strlen(text));
}

static int begin(void **state)
{
    (void)state;
    test_temp_dir(root, sizeof root);
    return 0;
}

static int end(void **state)
{
    (void)state;
    test_remove_tree(root);
    return 0;
}

static sl__mem_state look(void)
{
    sl__mem_state s;
    sl__mem_state_read(&s, root);
    return s;
}

static void put_meminfo(uint64_t total, uint64_t available)
{
    char text[300];
    snprintf(text, sizeof text,
             "MemTotal:       %8llu kB\nMemFree:          100 kB\nMemAvailable:   %8llu kB\n",
             (unsigned long long)(total / KIB), (unsigned long long)(available / KIB));
    put("proc/meminfo", text);
}

static void put_number(const char *path, uint64_t number)
{
    char text[40];
    snprintf(text, sizeof text, "%llu\n", (unsigned long long)number);
    put(path, text);
}

static void test_system_alone(void **state)
{
    (void)state;
    put_meminfo(8 * GIB, 3 * GIB);
    sl__mem_state s = look();
    assert_int_equal(s.limit_bytes, 8 * GIB);
    assert_int_equal(s.available_bytes, 3 * GIB);
    assert_false(s.stall_known);
    put("proc/pressure/memory", "some avg10=0.50 avg60=0.00 avg300=0.00 total=12345\n"
                                "full avg10=0.00 avg60=0.00 avg300=0.00 total=777\n");
    s = look();
    assert_true(s.stall_known);
    assert_int_equal(s.stall_us, 12345);
    assert_false(s.pressed);
}

static void test_cgroup_version_1(void **state)
{
    (void)state;
    put_meminfo(8 * GIB, 3 * GIB);
    put("proc/self/cgroup", "9:name=systemd:/\n4:cpu,memory:/a/b\n0::/\n");
    put_number("sys/fs/cgroup/memory/a/memory.limit_in_bytes", 2 * GIB);
    put_number("sys/fs/cgroup/memory/a/memory.usage_in_bytes", GIB);
    put_number("sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", 9223372036854771712u); /* none */
    put_number("sys/fs/cgroup/memory/a/b/memory.usage_in_bytes", GIB);
    sl__mem_state s = look();
    assert_int_equal(s.limit_bytes, 2 * GIB);
    assert_int_equal(s.available_bytes, GIB);
    /* Page cache is free, but for what lies in tmpfs. */
    put("sys/fs/cgroup/memory/a/memory.stat",
        "cache 5\nrss 9\ntotal_cache 629145600\ntotal_shmem 104857600\n");
    assert_int_equal(look().available_bytes, GIB + 500 * MIB);
    /* The tightest of all ancestors counts. */
    put_number("sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", GIB + 10 * MIB);
    s = look();
    assert_int_equal(s.limit_bytes, GIB + 10 * MIB);
    assert_int_equal(s.available_bytes, 10 * MIB);
    put_number("sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", GIB - 1);
    assert_int_equal(look().available_bytes, 0);
}

static void test_cgroup_version_2(void **state)
{
    (void)state;
    put_meminfo(8 * GIB, 3 * GIB);
    put("proc/pressure/memory", "some avg10=0.50 avg60=0.00 avg300=0.00 total=12345\n");
    put("proc/self/cgroup", "0::/x/y\n");
    put("sys/fs/cgroup/x/y/memory.max", "max\n");
    put_number("sys/fs/cgroup/x/y/memory.current", 700 * MIB);
    put_number("sys/fs/cgroup/x/memory.max", GIB);
    put_number("sys/fs/cgroup/x/memory.current", 900 * MIB);
    put("sys/fs/cgroup/x/memory.stat", "anon 1\nfile 104857600\nshmem 0\n");
    sl__mem_state s = look();
    assert_int_equal(s.limit_bytes, GIB);
    assert_int_equal(s.available_bytes, 224 * MIB);
    assert_int_equal(s.stall_us, 12345);
    put_number("sys/fs/cgroup/x/y/memory.high", 750 * MIB); /* slowed down beyond that */
    s = look();
    assert_int_equal(s.limit_bytes, 750 * MIB);
    assert_int_equal(s.available_bytes, 50 * MIB);
    /* The pressure of the nearest cgroup that has one. */
    put("sys/fs/cgroup/x/memory.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=8\n");
    assert_int_equal(look().stall_us, 8);
    put("sys/fs/cgroup/x/y/memory.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=4\n");
    assert_int_equal(look().stall_us, 4);
}

/* Whatever the files hold, the answer is one to go on with. */
static void test_odd_files(void **state)
{
    (void)state;
    static const char *const odd[] = {
        "", "\n", "max", "-1\n", "abc\n", "99999999999999999999999999\n", "MemAvailable:\n",
        "MemAvailable: 99999999999999999999 kB\nMemTotal: x\n", "0::\n", ":::\n", "4:memory\n",
        "4:memory:/\n0::/\n", "some\n", "some total=\nfull total=7\n", "file \nfile 3",
        "some avg10=0.00 total=99999999999999999999999\n", "total_cache -5\n",
    };
    static const char *const paths[] = {
        "proc/meminfo", "proc/self/cgroup", "proc/pressure/memory", "sys/fs/cgroup/memory.max",
        "sys/fs/cgroup/memory.current", "sys/fs/cgroup/memory.stat",
        "sys/fs/cgroup/memory/memory.limit_in_bytes", "sys/fs/cgroup/memory/memory.stat",
        "sys/fs/cgroup/memory/memory.usage_in_bytes", "sys/fs/cgroup/memory.pressure",
    };
    const unsigned count = sizeof odd / sizeof *odd, files = sizeof paths / sizeof *paths;
    test_rng rng = {4};
    sl__mem_state s = look(); /* no files at all: half of the physical memory */
    assert_true(s.available_bytes > 0 && s.available_bytes == s.limit_bytes / 2);
    for (unsigned i = 0; i < (test_fast() ? 300u : 3000u); i++) {
        put(paths[test_rng_below(&rng, files)], odd[test_rng_below(&rng, count)]);
        if (i % 7 == 0) put("proc/self/cgroup", "4:memory:/\n0::/\n");
        if (i % 11 == 0) put_number("sys/fs/cgroup/memory.max", test_rng_next(&rng) >> (i % 64));
        s = look();
        assert_true(s.limit_bytes < (uint64_t)1 << 62 && s.available_bytes < (uint64_t)1 << 62);
    }
}

static void test_long_paths(void **state)
{
    (void)state;
    char line[6000];
    put_meminfo(8 * GIB, 3 * GIB);
    memset(line, 'a', sizeof line);
    memcpy(line, "4:memory:/", 10);
    memcpy(line + sizeof line - 2, "\n", 2);
    put("proc/self/cgroup", line);
    assert_int_equal(look().available_bytes, 3 * GIB);
    sl__mempressure *p = NULL;
    sl_error err = {0};
    line[4000] = '\0';
    assert_int_equal(sl__mempressure_create(&p, 0, line, &err), SL_EINVAL);
    assert_non_null(strstr(err.message, "the path is too long"));
    assert_null(p);
}

/* From the files to the target. */
static void test_target_follows_the_files(void **state)
{
    (void)state;
    sl__mempressure *p;
    uint64_t t = 5 * S, plan = 640 * MIB, now = plan;
    put_meminfo(8 * GIB, 4 * GIB);
    put("proc/self/cgroup", "4:memory:/a\n");
    put_number("sys/fs/cgroup/memory/a/memory.limit_in_bytes", 2 * GIB);
    put_number("sys/fs/cgroup/memory/a/memory.usage_in_bytes", GIB);
    assert_int_equal(sl__mempressure_create(&p, 10 * MIB, root, NULL), SL_OK);
    assert_int_equal(sl__mempressure_target(p, plan, now, t), plan);
    /* The limit is lowered: nothing is seen within 100 ms, then what is missing is given back. */
    put_number("sys/fs/cgroup/memory/a/memory.limit_in_bytes", GIB + 5 * MIB);
    assert_int_equal(sl__mempressure_target(p, plan, now, t + 99 * MS), plan);
    now = sl__mempressure_target(p, plan, now, t + 100 * MS);
    assert_int_equal(now, plan - (2 * 20 * MIB - 5 * MIB)); /* 20 MiB: a 32nd of the plan */
    put_number("sys/fs/cgroup/memory/a/memory.usage_in_bytes", GIB - 35 * MIB);
    assert_int_equal(sl__mempressure_target(p, plan, now, t + 200 * MS), now);
    /* Raised again: it grows back in steps, ten seconds apart, and never beyond the plan. */
    put_number("sys/fs/cgroup/memory/a/memory.limit_in_bytes", 2 * GIB);
    uint64_t before = now;
    for (uint64_t ms = 300; ms < 9900; ms += 100)
        assert_int_equal(sl__mempressure_target(p, plan, now, t + ms * MS), before);
    for (uint64_t ms = 9900; ms < 60000; ms += 100)
        now = sl__mempressure_target(p, plan, now, t + ms * MS);
    assert_int_equal(now, plan);
    sl__mempressure_destroy(p);
    sl__mempressure_destroy(NULL);
}

#endif

/* ---- the rule -------------------------------------------------------------------------------- */

struct sim {
    sl__mempressure_memory memory;
    sl__mem_state state;
    uint64_t least, plan, now, t;
};

static void tick(struct sim *s, uint64_t ms)
{
    s->t += ms * MS;
    s->now = sl__mempressure_decide(&s->memory, &s->state, s->least, s->plan, s->now, s->t);
    assert_true(s->now <= s->plan && (s->now >= s->least || s->now == s->plan));
}

static struct sim sim_begin(uint64_t available)
{
    struct sim s = {.state = {.available_bytes = available, .limit_bytes = 16 * GIB,
                              .stall_known = true},
                    .least = 100 * MIB, .plan = 8 * GIB, .now = 8 * GIB, .t = 3 * S};
    tick(&s, 0);
    return s;
}

static void test_shrinks_in_proportion(void **state)
{
    (void)state;
    struct sim s = sim_begin(2 * GIB);
    assert_int_equal(s.now, 8 * GIB);
    s.state.available_bytes = 256 * MIB; /* the reserve: a 32nd of the plan */
    tick(&s, 100);
    assert_int_equal(s.now, 8 * GIB);
    s.state.available_bytes = 250 * MIB;
    tick(&s, 100);
    assert_int_equal(s.now, 8 * GIB - 262 * MIB);
    s.state.available_bytes = 0;
    tick(&s, 100);
    assert_int_equal(s.now, 8 * GIB - 262 * MIB - 512 * MIB);
    for (int i = 0; i < 40; i++)
        tick(&s, 100);
    assert_int_equal(s.now, 100 * MIB); /* the floor */
}

static void test_grows_back_slowly(void **state)
{
    (void)state;
    struct sim s = sim_begin(2 * GIB);
    s.state.available_bytes = 0;
    for (int i = 0; i < 8; i++)
        tick(&s, 100);
    assert_int_equal(s.now, 4 * GIB);
    s.state.available_bytes = 400 * MIB; /* neither short nor plenty: it stays for ever */
    for (int i = 0; i < 500; i++)
        tick(&s, 100);
    assert_int_equal(s.now, 4 * GIB);
    s.state.available_bytes = 5 * GIB;
    for (int i = 0; i < 99; i++)
        tick(&s, 100);
    assert_int_equal(s.now, 4 * GIB);
    tick(&s, 100);
    assert_int_equal(s.now, 4 * GIB + 512 * MIB); /* a sixteenth */
    tick(&s, 9999);
    assert_int_equal(s.now, 4 * GIB + 512 * MIB);
    s.state.available_bytes = 512 * MIB + 10 * MIB; /* no more than is there */
    tick(&s, 1);
    assert_int_equal(s.now, 4 * GIB + 522 * MIB);
    s.state.available_bytes = 5 * GIB;
    for (int i = 0; i < 20; i++)
        tick(&s, 10000);
    assert_int_equal(s.now, 8 * GIB);
}

static void test_stalls(void **state)
{
    (void)state;
    struct sim s = sim_begin(3 * GIB);
    s.state.stall_us += 100000; /* all of the time, but much is free: page cache turned over */
    tick(&s, 100);
    assert_int_equal(s.now, 8 * GIB);
    s.state.available_bytes = GIB; /* under an eighth of the limit */
    s.state.stall_us += 9000;      /* 9 %: too few */
    tick(&s, 100);
    assert_int_equal(s.now, 8 * GIB);
    s.state.stall_us += 50000; /* half of the time: an eighth goes */
    tick(&s, 100);
    assert_in_range(s.now, 7 * GIB - MIB, 7 * GIB + MIB);
    uint64_t once = s.now;
    s.state.stall_us += 100000; /* at most once a second */
    tick(&s, 100);
    assert_int_equal(s.now, once);
    s.state.stall_us += 900000;
    tick(&s, 900);
    assert_in_range(s.now, once / 4 * 3 - MIB, once / 4 * 3 + MIB);
    /* Stalls keep it from growing. */
    once = s.now;
    for (int i = 0; i < 300; i++) {
        s.memory.stalled_ns = s.t + 100 * MS;
        s.state.stall_us += 20000;
        tick(&s, 100);
    }
    assert_int_equal(s.now, once);
    s.state.stall_us = 0; /* another cgroup's figure: no stall */
    tick(&s, 9900);
    assert_int_equal(s.now, once);
    tick(&s, 10000);
    assert_true(s.now > once);
    s.state.pressed = true; /* the system says so itself */
    once = s.now;
    tick(&s, 10000);
    assert_in_range(s.now, once / 8 * 7 - MIB, once / 8 * 7 + MIB);
}

/* A cache of a few large slots holds whole ones only: smaller steps add up to one. */
static void test_grows_in_whole_slots(void **state)
{
    (void)state;
    const uint64_t slot = 900 * MIB;
    struct sim s = sim_begin(2 * GIB);
    s.plan = s.now = 5 * slot;
    s.state.available_bytes = 0;
    for (int i = 0; i < 10; i++) {
        tick(&s, 100);
        s.now = s.now / slot * slot;
    }
    assert_int_equal(s.now, 0);
    s.state.available_bytes = 8 * GIB;
    for (int i = 0; i < 2000; i++) {
        tick(&s, 100);
        s.now = s.now / slot * slot;
    }
    assert_int_equal(s.now, 5 * slot);
}

/* A cgroup of some 64 MiB: the reserve is a part of the limit. */
static void test_small_limit(void **state)
{
    (void)state;
    struct sim s = {.state = {.available_bytes = 3 * MIB, .limit_bytes = 64 * MIB},
                    .least = MIB, .plan = 40 * MIB, .now = 40 * MIB, .t = S};
    tick(&s, 0);
    assert_int_equal(s.now, 40 * MIB);
    s.state.available_bytes = MIB;
    tick(&s, 100);
    assert_int_equal(s.now, 37 * MIB);
}

static void test_floor_above_the_plan(void **state)
{
    (void)state;
    struct sim s = {.state = {.limit_bytes = 64 * MIB}, .least = 50 * MIB, .plan = 40 * MIB,
                    .now = 40 * MIB, .t = S};
    tick(&s, 0);
    assert_int_equal(s.now, 40 * MIB);
}

/* A system with others on it: the cache holds what they leave, never more than the plan, and they
 * are never short for long. */
static void test_random_neighbours(void **state)
{
    (void)state;
    test_rng rng = {77};
    struct sim s = sim_begin(2 * GIB);
    uint64_t others = 5 * GIB, total = 16 * GIB;
    unsigned short_for = 0;
    for (int i = 0; i < 200000; i++) {
        if (test_rng_below(&rng, 300) == 0) others = test_rng_below(&rng, 15000) * MIB;
        uint64_t used = others + s.now;
        s.state.available_bytes = used < total ? total - used : 0;
        short_for = s.state.available_bytes < 200 * MIB ? short_for + 1 : 0;
        tick(&s, 100);
        assert_true(short_for < 25 || s.now == s.least);
    }
}

static void test_here_and_now(void **state)
{
    (void)state;
    sl__mempressure *p;
    sl__mem_state s;
    sl__mem_state_read(&s, "");
    assert_true(s.limit_bytes > 0 && s.available_bytes <= s.limit_bytes);
    assert_int_equal(sl__mempressure_create(&p, 100, NULL, NULL), SL_OK);
    for (uint64_t t = 1; t < 100; t++) {
        uint64_t target = sl__mempressure_target(p, 1000, 900, t * 50 * MS);
        assert_true(target >= 100 && target <= 1000);
    }
    sl__mempressure_destroy(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#if defined(__linux__)
        cmocka_unit_test_setup_teardown(test_system_alone, begin, end),
        cmocka_unit_test_setup_teardown(test_cgroup_version_1, begin, end),
        cmocka_unit_test_setup_teardown(test_cgroup_version_2, begin, end),
        cmocka_unit_test_setup_teardown(test_odd_files, begin, end),
        cmocka_unit_test_setup_teardown(test_long_paths, begin, end),
        cmocka_unit_test_setup_teardown(test_target_follows_the_files, begin, end),
#endif
        cmocka_unit_test(test_shrinks_in_proportion),
        cmocka_unit_test(test_grows_back_slowly),
        cmocka_unit_test(test_stalls),
        cmocka_unit_test(test_grows_in_whole_slots),
        cmocka_unit_test(test_small_limit),
        cmocka_unit_test(test_floor_above_the_plan),
        cmocka_unit_test(test_random_neighbours),
        cmocka_unit_test(test_here_and_now),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
