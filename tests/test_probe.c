/* The probe: which points are measured and chosen on made-up disks with a made-up clock; real reads
 * of small files; what is remembered, and what becomes of files that hold nonsense. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "io/probe.h"
#include "io/probe_search.h"
#include "test_env.h"

#define KB (UINT64_C(1) << 10)
#define MB (UINT64_C(1) << 20)
#define MS UINT64_C(1000000)

/* ---- made-up disks --------------------------------------------------------------------------- */

/* A piece takes latency_ns, pieces side by side share bytes_per_ns. */
typedef struct disk {
    double bytes_per_ns, latency_ns;
    double direct_gain; /* of the direct way's rate */
    double uring_gain;
    double noise;       /* of a run's rate: up to so much slower */
    bool broken[2][2];  /* [uring][direct]: nothing can be read */
    uint32_t reads_left; /* then every way is broken; 0: no end */
    test_rng rng;
    uint64_t now, reads;
    uint64_t most_in_flight;
} disk;

static disk disk_of(double bytes_per_s, double latency_us)
{
    return (disk){.bytes_per_ns = bytes_per_s * 1e-9,
                  .latency_ns = latency_us * 1e3,
                  .direct_gain = 1.0,
                  .uring_gain = 1.0,
                  .rng = {5}};
}

static double true_rate(const disk *d, const sl_probe_point *p)
{
    double rate = (double)p->read_bytes * p->depth / d->latency_ns;
    if (rate > d->bytes_per_ns) rate = d->bytes_per_ns;
    if (p->direct) rate *= d->direct_gain;
    if (p->io == SL_IO_KIND_URING) rate *= d->uring_gain;
    return rate;
}

static uint64_t disk_now(void *ctx) { return ((disk *)ctx)->now; }

static sl__probe_sample disk_read(void *ctx, const sl_probe_point *p, uint64_t ns)
{
    disk *d = ctx;
    d->reads++;
    d->now += 50000; /* to set up the engine */
    if (d->broken[p->io == SL_IO_KIND_URING][p->direct]) return (sl__probe_sample){0};
    if (d->reads_left > 0 && --d->reads_left == 0) memset(d->broken, 1, sizeof d->broken);
    uint64_t in_flight = p->depth * p->read_bytes;
    if (in_flight > d->most_in_flight) d->most_in_flight = in_flight;
    double rate = true_rate(d, p);
    rate *= 1.0 - d->noise * (double)test_rng_below(&d->rng, 1000) / 1000.0;
    /* At the end what is in flight is waited for. */
    sl__probe_sample sample = {.bytes = (uint64_t)(rate * (double)ns) + in_flight};
    sample.ns = (uint64_t)((double)sample.bytes / rate);
    d->now += sample.ns;
    return sample;
}

static sl_probe_result search(disk *d, uint64_t expert_bytes, uint64_t time_ns, bool uring,
                              bool direct)
{
    sl_probe_result r = {.depth = 99, .point_count = 99};
    const sl__probe_space space = {.uring = uring, .direct = direct, .expert_bytes = expert_bytes};
    const sl__probe_reader reader = {.ctx = d, .now_ns = disk_now, .read = disk_read};
    d->now = 1000;
    sl__probe_search(&r, &space, &reader, 1000 + time_ns);
    assert_true(d->most_in_flight <= SL_PROBE_IN_FLIGHT);
    assert_true(r.point_count <= SL_PROBE_POINTS);
    return r;
}

static double chosen_rate(const disk *d, const sl_probe_result *r)
{
    const sl_probe_point p = {
        .io = r->io, .direct = r->direct, .read_bytes = r->split_bytes, .depth = r->depth};
    return true_rate(d, &p);
}

static void finds_what_a_disk_needs(void **state)
{
    (void)state;
    /* 5 GB/s at 100 us a piece: 512 KB in flight are enough, so one piece of 512 KB. */
    disk fast = disk_of(5e9, 100);
    sl_probe_result r = search(&fast, 7 * MB, 500 * MS, false, false);
    assert_int_equal(r.io, SL_IO_KIND_PREAD);
    assert_false(r.direct);
    assert_true(r.depth <= 2);
    assert_true(r.split_bytes * r.depth >= 480000);
    assert_true(r.bytes_per_s > 4.7e9 && r.best_bytes_per_s < 5.1e9);
    assert_false(r.remembered);

    /* 80 us for pieces of at most 28 KB: it takes 15 of them to make 5 GB/s. */
    disk small = disk_of(5e9, 80);
    r = search(&small, 28 * KB, 500 * MS, false, false);
    assert_int_equal(r.split_bytes, 28 * KB);
    assert_int_equal(r.depth, 16);

    /* A way that is faster is taken, one that is not is not. */
    disk direct = disk_of(5e9, 80);
    direct.direct_gain = 1.4;
    r = search(&direct, 7 * MB, 500 * MS, true, true);
    assert_true(r.direct);
    direct.direct_gain = 0.6;
    r = search(&direct, 7 * MB, 500 * MS, true, true);
    assert_false(r.direct);
    direct.uring_gain = 0.6;
    r = search(&direct, 7 * MB, 500 * MS, true, true);
    assert_int_equal(r.io, SL_IO_KIND_PREAD);
    direct.uring_gain = 1.5;
    r = search(&direct, 7 * MB, 500 * MS, true, true);
    assert_int_equal(r.io, SL_IO_KIND_URING);
}

/* Over all kinds of disks and experts: the time is kept, and the choice is good. */
static void keeps_to_its_time(void **state)
{
    (void)state;
    test_rng rng = {11};
    for (unsigned i = 0; i < 2000; i++) {
        double rate = 20e6, latency = 20.0;
        for (unsigned j = test_rng_below(&rng, 40); j > 0; j--)
            rate *= 1.17; /* up to 10 GB/s */
        for (unsigned j = test_rng_below(&rng, 30); j > 0; j--)
            latency *= 1.2; /* up to 5 ms */
        disk d = disk_of(rate, latency);
        d.direct_gain = 0.5 + 0.01 * test_rng_below(&rng, 100);
        d.uring_gain = 0.8 + 0.01 * test_rng_below(&rng, 40);
        d.noise = 0.01 * test_rng_below(&rng, 30);
        uint64_t expert = 1 + (test_rng_next(&rng) % (64 * MB) >> test_rng_below(&rng, 15));
        uint64_t time_ns = (100 + test_rng_below(&rng, 2000)) * MS;
        sl_probe_result r = search(&d, expert, time_ns, i % 2, i % 3);
        assert_true(d.now <= 1000 + time_ns);
        assert_true(r.bytes_per_s > 0.0 && r.best_bytes_per_s >= r.bytes_per_s);
        assert_true(r.io == SL_IO_KIND_PREAD || (i % 2 && r.io == SL_IO_KIND_URING));
        assert_true(!r.direct || i % 3);
        assert_true(r.depth >= 1 && r.depth <= SL_PROBE_DEPTH);
        assert_true(r.split_bytes < expert + 4096);
        for (uint32_t p = 0; p < r.point_count; p++)
            for (uint32_t q = 0; q < p; q++)
                assert_memory_not_equal(&r.points[p], &r.points[q],
                                        offsetof(sl_probe_point, bytes_per_s));
    }
}

/* No noise, and a disk that is not too slow: no point of the grid is much better. */
static void finds_about_the_best(void **state)
{
    (void)state;
    test_rng rng = {13};
    for (unsigned i = 0; i < 300; i++) {
        disk d = disk_of(1e9 + 1e8 * test_rng_below(&rng, 90), 20 + test_rng_below(&rng, 180));
        d.direct_gain = 0.5 + 0.01 * test_rng_below(&rng, 100);
        d.uring_gain = 0.8 + 0.01 * test_rng_below(&rng, 40);
        uint64_t expert = 16 * KB + (test_rng_next(&rng) % (16 * MB) >> test_rng_below(&rng, 9));
        sl_probe_result r = search(&d, expert, 500 * MS, true, true);
        uint64_t sizes[SL_PROBE_SIZES];
        double best = 0.0;
        uint32_t count = sl__probe_sizes(sizes, expert);
        for (unsigned way = 0; way < 4; way++) {
            for (uint32_t s = 0; s < count; s++) {
                sl_probe_point p = {.io = way & 1 ? SL_IO_KIND_URING : SL_IO_KIND_PREAD,
                                    .direct = way & 2,
                                    .read_bytes = sizes[s],
                                    .depth = 32};
                while (p.depth * sizes[s] > SL_PROBE_IN_FLIGHT)
                    p.depth /= 2;
                if (true_rate(&d, &p) > best) best = true_rate(&d, &p);
            }
        }
        assert_true(chosen_rate(&d, &r) > 0.9 * best);
    }
}

static void slow_disks_are_asked_for_little(void **state)
{
    (void)state;
    disk d = disk_of(10e6, 8000); /* a share on a slow network */
    sl_probe_result r = search(&d, 28 * MB, 500 * MS, false, true);
    assert_true(d.now <= 1000 + 500 * MS);
    assert_true(d.most_in_flight <= 10 * MB / 4); /* of half a second, and half of that to spare */
    assert_true(r.bytes_per_s > 0.0);
    disk fast = disk_of(5e9, 80);
    (void)search(&fast, 28 * MB, 500 * MS, false, true);
    assert_int_equal(fast.most_in_flight, SL_PROBE_IN_FLIGHT);

    /* No time at all: nothing is read. */
    disk none = disk_of(5e9, 80);
    r = search(&none, 7 * MB, 0, true, true);
    assert_int_equal(none.reads, 0);
    assert_int_equal(r.point_count, 0);
    assert_int_equal(r.io, SL_IO_KIND_PREAD);
    assert_true(r.depth > 0 && r.split_bytes > 0);
    assert_true(r.bytes_per_s == 0.0);
}

static void ways_that_fail_are_left(void **state)
{
    (void)state;
    for (unsigned mask = 0; mask < 16; mask++) {
        disk d = disk_of(3e9, 80);
        for (unsigned way = 0; way < 4; way++)
            d.broken[way / 2][way % 2] = mask >> way & 1;
        sl_probe_result r = search(&d, 3 * MB, 500 * MS, true, true);
        if (mask == 15) {
            assert_true(r.bytes_per_s == 0.0);
            assert_int_equal(r.io, SL_IO_KIND_PREAD);
            assert_false(r.direct);
            continue;
        }
        assert_true(r.bytes_per_s > 0.0);
        assert_false(d.broken[r.io == SL_IO_KIND_URING][r.direct]);
    }
    /* Files that are read through after so many runs. */
    for (unsigned reads = 1; reads < 60; reads++) {
        disk d = disk_of(3e9, 80);
        d.reads_left = reads;
        sl_probe_result r = search(&d, 100 * KB, 500 * MS, true, true);
        assert_true(r.depth >= 1 && r.split_bytes >= 64 * KB);
        assert_true(r.bytes_per_s > 0.0); /* of the gauge, at least */
    }
}

/* ---- the parts of the search ----------------------------------------------------------------- */

static void sizes_of_pieces(void **state)
{
    (void)state;
    uint64_t sizes[SL_PROBE_SIZES];
    const struct {
        uint64_t expert;
        uint32_t count;
        uint64_t first, last;
    } cases[] = {
        {1, 1, 4 * KB, 4 * KB},           {28 * KB, 1, 28 * KB, 28 * KB},
        {64 * KB, 1, 64 * KB, 64 * KB},   {64 * KB + 1, 2, 64 * KB, 68 * KB},
        {100 * KB, 2, 64 * KB, 100 * KB}, {MB, 5, 64 * KB, MB},
        {2 * MB - 1, 6, 64 * KB, 2 * MB}, {2 * MB, 4, 256 * KB, 2 * MB},
        {3 * MB, 5, 256 * KB, 3 * MB},    {4 * MB, 5, 256 * KB, 4 * MB},
        {7 * MB, 5, 256 * KB, 4 * MB},    {UINT64_MAX / 2, 5, 256 * KB, 4 * MB},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint32_t count = sl__probe_sizes(sizes, cases[i].expert);
        assert_int_equal(count, cases[i].count);
        assert_int_equal(sizes[0], cases[i].first);
        assert_int_equal(sizes[count - 1], cases[i].last);
        for (uint32_t j = 1; j < count; j++)
            assert_true(sizes[j] > sizes[j - 1]);
    }
}

static void cheapest_of_the_good(void **state)
{
    (void)state;
    const sl_io_kind U = SL_IO_KIND_URING, P = SL_IO_KIND_PREAD;
    const sl_probe_point points[] = {
        {U, true, MB, 16, 5.00e9},  {P, false, MB, 8, 4.70e9},      {P, false, 256 * KB, 8, 4.80e9},
        {P, false, MB, 8, 4.80e9},  {P, true, MB, 8, 4.76e9},       {U, true, MB, 8, 4.755e9},
        {U, true, 2 * MB, 8, 0.0},  {U, true, 4 * MB, 1, 4.749e9},
    };
    assert_int_equal(sl__probe_choose(points, 8), 5);
    assert_int_equal(sl__probe_choose(points, 5), 4);
    assert_int_equal(sl__probe_choose(points, 4), 3);
    assert_int_equal(sl__probe_choose(points, 3), 2);
    assert_int_equal(sl__probe_choose(points, 2), 0);
    assert_int_equal(sl__probe_choose(points + 6, 1), 1); /* nothing was measured */
    assert_int_equal(sl__probe_choose(points, 0), 0);
    const sl_probe_point twins[] = {{U, true, MB, 8, 4.8e9}, {U, true, MB, 8, 4.9e9}};
    assert_int_equal(sl__probe_choose(twins, 2), 1);
}

static void medians(void **state)
{
    (void)state;
    double five[] = {5, 1, 9, 2, 3}, four[] = {4, 1, 3, 2}, one[] = {7};
    assert_true(sl__probe_median(five, 5) == 3.0);
    assert_true(sl__probe_median(four, 4) == 2.5);
    assert_true(sl__probe_median(one, 1) == 7.0);
}

static void every_place_once(void **state)
{
    (void)state;
    static unsigned char seen[5000];
    for (uint64_t places = 1; places < 5000; places += 1 + places / 7) {
        memset(seen, 0, sizeof seen);
        uint64_t before = 0, near = 0;
        for (uint64_t i = 0; i < places; i++) {
            uint64_t at = sl__probe_place(i, places, UINT64_MAX - places);
            assert_true(at < places);
            assert_int_equal(seen[at]++, 0);
            near += i > 0 && (at > before ? at - before : before - at) < places / 8;
            before = at;
        }
        assert_int_equal(near, 0);
    }
    assert_true(sl__probe_place(SL_PROBE_PLACES - 1, SL_PROBE_PLACES, 3) < SL_PROBE_PLACES);
}

/* ---- real files ------------------------------------------------------------------------------ */

static char *dir_setup(char dir[256], const char *name, char path[300])
{
    test_temp_dir(dir, 256);
    snprintf(path, 300, "%s/%s", dir, name);
    return path;
}

static void write_bytes(const char *path, size_t size)
{
    char *data = malloc(size + 1);
    memset(data, 'x', size);
    test_write_file(path, data, size);
    free(data);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    fsync(fd); /* what is not yet written stays in the page cache */
    close(fd);
}

static void probes_real_files(void **state)
{
    (void)state;
    char dir[256], path[300];
    sl_error err = {0};
    static const size_t sizes[] = {0, 1, 4095, 4096, 70000, 3000000, 20000000};
    static const uint64_t experts[] = {1, 28 * KB, 100001, 3 * MB, 100 * MB};
    dir_setup(dir, "data", path);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        write_bytes(path, sizes[i]);
        for (size_t j = 0; j < sizeof experts / sizeof experts[0]; j++) {
            const sl_probe_options opt = {.expert_bytes = experts[j], .time_ns = 100 * MS};
            sl_probe_result r;
            memset(&r, 0xa5, sizeof r);
            assert_int_equal(sl_probe(path, &opt, &r, &err), SL_OK);
            assert_true(r.io == SL_IO_KIND_PREAD || r.io == SL_IO_KIND_URING);
            assert_true(r.depth >= 1 && r.split_bytes >= 1);
            assert_true(r.bytes_per_s >= 0.0 && r.took_ns > 0 && !r.remembered);
            assert_true(strlen(r.device) < sizeof r.device);
            if (sizes[i] == 0) assert_true(r.bytes_per_s == 0.0 && r.point_count == 0);
        }
    }
    test_remove_tree(dir);
}

static void several_files_and_none(void **state)
{
    (void)state;
    char dir[256], path[300];
    sl_error err = {0};
    sl_probe_result r;
    dir_setup(dir, "data", path);
    sl__probe_file files[3] = {{0}};
    for (unsigned i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%u", dir, i);
        write_bytes(path, i == 1 ? 100 : 500001 * (i + 1)); /* one is shorter than an expert */
        files[i].path = path;
        files[i].direct_fd = -1;
        assert_int_equal(sl__file_open(path, &files[i].fd, &files[i].bytes, &err), SL_OK);
        /* Nobody can take an open file away. */
        assert_int_equal(unlink(path), 0);
    }
    assert_int_equal(sl__probe_run(&r, files, 3, 50000, 100 * MS, &err), SL_OK);
    for (uint32_t i = 0; i < r.point_count; i++)
        assert_false(r.points[i].direct);
    assert_int_equal(sl__probe_run(&r, files, 0, 50000, 100 * MS, &err), SL_OK);
    assert_true(r.bytes_per_s == 0.0);
    assert_string_equal(r.device, "");
    for (unsigned i = 0; i < 3; i++)
        close(files[i].fd);
    test_remove_tree(dir);
}

static void files_that_fail(void **state)
{
    (void)state;
    char dir[256], path[300];
    sl_error err = {0};
    sl_probe_result r;
    dir_setup(dir, "data", path);
    assert_int_equal(sl_probe(path, NULL, &r, &err), SL_EIO);
    assert_non_null(strstr(err.message, "data: No such file"));

    /* Shorter than it was when it was looked at: truncated meanwhile. */
    write_bytes(path, 10000);
    sl__probe_file file = {.path = path, .direct_fd = -1};
    sl_error_clear(&err);
    assert_int_equal(sl__file_open(path, &file.fd, &file.bytes, &err), SL_OK);
    file.bytes = 4000000;
    assert_int_equal(truncate(path, 0), 0);
    assert_int_equal(sl__probe_run(&r, &file, 1, 100000, 100 * MS, &err), SL_EFORMAT);
    assert_non_null(strstr(err.message, "data: "));
    assert_non_null(strstr(err.message, "the file ends early"));
    close(file.fd);

    /* A descriptor that cannot be read. */
    sl_error_clear(&err);
    file.fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_int_equal(sl__probe_run(&r, &file, 1, 100000, 100 * MS, &err), SL_EIO);
    assert_non_null(strstr(err.message, strerror(EBADF)));
    close(file.fd);
    test_remove_tree(dir);
}

static void devices(void **state)
{
    (void)state;
    char dir[256], path[300], device[64], again[64];
    dir_setup(dir, "data", path);
    write_bytes(path, 10);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    sl__probe_device(device, fd);
    sl__probe_device(again, fd);
    assert_string_equal(device, again);
    assert_true(device[0] >= '0' && device[0] <= '9');
    for (const char *c = device; *c; c++)
        assert_true(*c >= ' ' && *c <= '~');
    close(fd);
    sl__probe_device(device, fd);
    assert_string_equal(device, "");
    test_remove_tree(dir);
}

/* ---- remembering ----------------------------------------------------------------------------- */

static sl_probe_result finding(const char *device)
{
    sl_probe_result r = {.io = SL_IO_KIND_PREAD,
                         .direct = true,
                         .split_bytes = MB,
                         .depth = 8,
                         .bytes_per_s = 4.7e9,
                         .best_bytes_per_s = 5e9,
                         .took_ns = 3,
                         .point_count = 2,
                         .points = {{SL_IO_KIND_PREAD, true, MB, 8, 4.7e9},
                                    {SL_IO_KIND_URING, false, 256 * KB, 32, 0.0}}};
    snprintf(r.device, sizeof r.device, "%s", device);
    return r;
}

static bool recalls(const char *path, const char *device, uint64_t expert_bytes,
                    sl_probe_result *r)
{
    memset(r, 0, sizeof *r);
    snprintf(r->device, sizeof r->device, "%s", device);
    const sl_probe_result before = *r;
    bool found = sl__probe_recall(r, path, expert_bytes);
    assert_string_equal(r->device, device);
    assert_int_equal(r->remembered, found);
    if (!found) assert_memory_equal(r, &before, sizeof before);
    return found;
}

static void remembers(void **state)
{
    (void)state;
    char dir[256], path[300];
    sl_error err = {0};
    dir_setup(dir, "disks.json", path);
    sl_probe_result a = finding("8:0 A \"quoted\" 6.1"), b = finding("8:16 B 6.1"), r;
    b.depth = 32;
    assert_false(recalls(path, a.device, MB, &r));
    assert_int_equal(sl__probe_save(&a, path, 7 * MB, &err), SL_OK);
    assert_int_equal(sl__probe_save(&b, path, 7 * MB, &err), SL_OK);
    a.depth = 4;
    assert_int_equal(sl__probe_save(&a, path, 30000, &err), SL_OK);
    assert_true(recalls(path, a.device, 7 * MB, &r));
    assert_int_equal(r.depth, 8);
    assert_int_equal(r.io, SL_IO_KIND_PREAD);
    assert_true(r.direct);
    assert_int_equal(r.split_bytes, MB);
    assert_true(r.bytes_per_s == 4.7e9 && r.best_bytes_per_s == 5e9);
    assert_int_equal(r.point_count, 2);
    assert_memory_equal(r.points, a.points, 2 * sizeof a.points[0]);
    assert_int_equal(r.took_ns, 0);
    assert_true(recalls(path, b.device, 7 * MB, &r) && r.depth == 32);
    assert_true(recalls(path, a.device, 16384, &r) && r.depth == 4);
    /* Sizes within a factor of two share one: from a power of two up to the next. */
    assert_true(recalls(path, a.device, 4 * MB, &r) && r.depth == 8);
    assert_true(recalls(path, a.device, 8 * MB - 1, &r) && r.depth == 8);
    assert_false(recalls(path, a.device, 8 * MB, &r));
    assert_false(recalls(path, a.device, 4 * MB - 1, &r));
    assert_false(recalls(path, "8:0 A", 7 * MB, &r));
    assert_false(recalls(path, "", 7 * MB, &r));
    /* The same again replaces. */
    a.depth = 2;
    assert_int_equal(sl__probe_save(&a, path, 5 * MB, &err), SL_OK);
    assert_true(recalls(path, a.device, 7 * MB, &r) && r.depth == 2);
    assert_true(recalls(path, a.device, 16384, &r) && r.depth == 4);
    /* A guess is not remembered, nor what belongs to no device. */
    a.bytes_per_s = 0.0;
    a.depth = 1;
    assert_int_equal(sl__probe_save(&a, path, 7 * MB, &err), SL_OK);
    assert_true(recalls(path, a.device, 7 * MB, &r) && r.depth == 2);
    /* A choice that cannot be followed here is none. */
    b.io = SL_IO_KIND_URING;
    assert_int_equal(sl__probe_save(&b, path, 7 * MB, &err), SL_OK);
    assert_int_equal(recalls(path, b.device, 7 * MB, &r), sl__io_has_uring());
    test_remove_tree(dir);
}

static void remembers_a_bounded_number(void **state)
{
    (void)state;
    char dir[256], path[300], device[64];
    sl_error err = {0};
    sl_probe_result r;
    dir_setup(dir, "disks.json", path);
    for (unsigned i = 0; i < 40; i++) {
        snprintf(device, sizeof device, "8:%u", i);
        sl_probe_result f = finding(device);
        f.point_count = SL_PROBE_POINTS;
        for (unsigned j = 2; j < SL_PROBE_POINTS; j++)
            f.points[j] = f.points[1];
        assert_int_equal(sl__probe_save(&f, path, MB, &err), SL_OK);
        assert_true(recalls(path, device, MB, &r));
        assert_int_equal(r.point_count, SL_PROBE_POINTS);
    }
    assert_true(recalls(path, "8:39", MB, &r) && recalls(path, "8:8", MB, &r));
    assert_false(recalls(path, "8:0", MB, &r) || recalls(path, "8:7", MB, &r));
    test_remove_tree(dir);
}

/* Each byte of a good file changed or the rest cut off: nothing worse than forgetting. */
static void forgets_what_is_damaged(void **state)
{
    (void)state;
    char dir[256], path[300];
    sl_error err = {0};
    dir_setup(dir, "disks.json", path);
    sl_probe_result a = finding("8:0 A"), r;
    assert_int_equal(sl__probe_save(&a, path, MB, &err), SL_OK);
    size_t size;
    char *text = test_read_file(path, &size);
    test_rng rng = {3};
    for (size_t i = 0; i < size; i++) {
        r = (sl_probe_result){.device = "8:0 A"};
        if (i + 1 < size) assert_false(sl__probe_parse(&r, text, i, MB));
        char kept = text[i];
        text[i] = (char)test_rng_next(&rng);
        if (sl__probe_parse(&r, text, size, MB)) {
            assert_true(r.depth >= 1 && r.depth <= 1024 && r.split_bytes >= 1);
            assert_true(r.point_count <= SL_PROBE_POINTS);
        }
        text[i] = kept;
    }
    r = (sl_probe_result){.device = "8:0 A"};
    assert_true(sl__probe_parse(&r, text, size, MB));
    free(text);

    static const char *const others[] = {
        "", "[]", "{}", "{\"version\": 1}", "{\"version\": 2, \"disks\": {}}",
        "{\"version\": 1, \"disks\": []}", "{\"version\": 1, \"disks\": {\"8:0 A\": 5}}",
        "{\"version\": 1, \"disks\": {\"8:0 A\": {\"1048576\": 5}}}",
        "{\"version\": 1, \"disks\": {\"8:0 A\": {\"1048576\": {\"io\": \"mmap\"}}}}",
    };
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        test_write_file(path, others[i], strlen(others[i]));
        assert_false(recalls(path, "8:0 A", MB, &r));
        assert_int_equal(sl__probe_save(&a, path, MB, &err), SL_OK); /* begins anew */
        assert_true(recalls(path, "8:0 A", MB, &r));
    }
    test_remove_tree(dir);
}

static void places_that_cannot_be_written(void **state)
{
    (void)state;
    char dir[256], path[300], data[300], none[300];
    sl_error err = {0};
    sl_probe_result a = finding("8:0 A"), r;
    dir_setup(dir, "data", data);
    snprintf(none, sizeof none, "%s/none/disks.json", dir);
    assert_int_equal(sl__probe_save(&a, none, MB, &err), SL_EIO);
    assert_non_null(strstr(err.message, "none/disks.json"));
    sl_error_clear(&err);
    snprintf(path, sizeof path, "%s/folder", dir);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(sl__probe_save(&a, path, MB, &err), SL_EIO);
    assert_false(recalls(path, "8:0 A", MB, &r));

    /* The probe itself does not mind. */
    sl_error_clear(&err);
    write_bytes(data, 300000);
    const sl_probe_options opt = {
        .expert_bytes = 30000, .time_ns = 50 * MS, .probe_file = none};
    assert_int_equal(sl_probe(data, &opt, &r, &err), SL_OK);
    assert_int_equal(err.status, SL_OK);
    assert_false(r.remembered);
    test_remove_tree(dir);
}

static void probes_once(void **state)
{
    (void)state;
    char dir[256], data[300], path[300];
    sl_error err = {0};
    sl_probe_result first, r;
    dir_setup(dir, "data", data);
    snprintf(path, sizeof path, "%s/disks.json", dir);
    write_bytes(data, 3000000);
    sl_probe_options opt = {.expert_bytes = 30000, .time_ns = 50 * MS, .probe_file = path};
    assert_int_equal(sl_probe(data, &opt, &first, &err), SL_OK);
    if (first.bytes_per_s > 0.0) { /* else the folder lies in memory */
        assert_int_equal(sl_probe(data, &opt, &r, &err), SL_OK);
        assert_true(r.remembered);
        assert_int_equal(r.depth, first.depth);
        assert_int_equal(r.point_count, first.point_count);
        opt.again = true;
        assert_int_equal(sl_probe(data, &opt, &r, &err), SL_OK);
        assert_false(r.remembered);
    }
    test_remove_tree(dir);
}

/* Several processes save at once: afterwards there is a file, and it is whole or nothing of it. */
static void writers_side_by_side(void **state)
{
    (void)state;
    enum { WRITERS = 4, TIMES = 20 };
    char dir[256], path[300], device[64];
    sl_probe_result r;
    dir_setup(dir, "disks.json", path);
    for (unsigned w = 0; w < WRITERS; w++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child > 0) continue;
        snprintf(device, sizeof device, "8:%u", w);
        sl_probe_result f = finding(device);
        for (unsigned i = 0; i < TIMES; i++)
            (void)sl__probe_save(&f, path, MB, NULL);
        _exit(0);
    }
    int code;
    while (wait(&code) > 0)
        assert_true(WIFEXITED(code) && WEXITSTATUS(code) == 0);
    sl_probe_result last = finding("8:99");
    assert_int_equal(sl__probe_save(&last, path, MB, NULL), SL_OK);
    assert_true(recalls(path, "8:99", MB, &r));
    test_remove_tree(dir);
}

static void memory_has_a_speed(void **state)
{
    (void)state;
    assert_true(sl_probe_memory(2, 0) > 0.0); /* one pass at least */
    assert_true(sl_probe_memory(0, 1) > 0.0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_what_a_disk_needs),
        cmocka_unit_test(keeps_to_its_time),
        cmocka_unit_test(finds_about_the_best),
        cmocka_unit_test(slow_disks_are_asked_for_little),
        cmocka_unit_test(ways_that_fail_are_left),
        cmocka_unit_test(sizes_of_pieces),
        cmocka_unit_test(cheapest_of_the_good),
        cmocka_unit_test(medians),
        cmocka_unit_test(every_place_once),
        cmocka_unit_test(probes_real_files),
        cmocka_unit_test(several_files_and_none),
        cmocka_unit_test(files_that_fail),
        cmocka_unit_test(devices),
        cmocka_unit_test(remembers),
        cmocka_unit_test(remembers_a_bounded_number),
        cmocka_unit_test(forgets_what_is_damaged),
        cmocka_unit_test(places_that_cannot_be_written),
        cmocka_unit_test(probes_once),
        cmocka_unit_test(writers_side_by_side),
        cmocka_unit_test(memory_has_a_speed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
