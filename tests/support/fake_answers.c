#include "fake_answers.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "test_env.h"

sl__io_step __wrap_sl__io_piece_came(sl__io_piece *p, int64_t answer);
sl__io_step __real_sl__io_piece_came(sl__io_piece *p, int64_t answer);

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Guarded by lock. */
    fake_answers_rules rules;
    test_rng rng;
    uint64_t calls;
    bool closed;
    unsigned at_gate;
} fake = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

void fake_answers_set(uint64_t seed, const fake_answers_rules *rules)
{
    pthread_mutex_lock(&fake.lock);
    fake.rules = rules ? *rules : (fake_answers_rules){0};
    fake.rng.state = seed;
    fake.calls = 0;
    fake.closed = false;
    pthread_cond_broadcast(&fake.changed);
    pthread_mutex_unlock(&fake.lock);
}

uint64_t fake_answers_calls(void)
{
    pthread_mutex_lock(&fake.lock);
    uint64_t calls = fake.calls;
    pthread_mutex_unlock(&fake.lock);
    return calls;
}

void fake_answers_close_gate(void)
{
    pthread_mutex_lock(&fake.lock);
    fake.closed = true;
    pthread_mutex_unlock(&fake.lock);
}

void fake_answers_open_gate(void)
{
    pthread_mutex_lock(&fake.lock);
    fake.closed = false;
    pthread_cond_broadcast(&fake.changed);
    pthread_mutex_unlock(&fake.lock);
}

void fake_answers_await_gate(unsigned calls)
{
    pthread_mutex_lock(&fake.lock);
    while (fake.at_gate < calls)
        pthread_cond_wait(&fake.changed, &fake.lock);
    pthread_mutex_unlock(&fake.lock);
}

static bool chance(unsigned of_1000)
{
    return of_1000 > 0 && test_rng_below(&fake.rng, 1000) < of_1000;
}

static int64_t change(int64_t answer)
{
    const fake_answers_rules *r = &fake.rules;
    if (r->eagain_for_ever) return -EAGAIN;
    if (r->eio_at_call != 0 && fake.calls == r->eio_at_call) return -EIO;
    if (chance(r->eintr)) return -EINTR;
    if (chance(r->eagain)) return -EAGAIN;
    if (chance(r->eio)) return -EIO;
    if (answer > 1 && chance(r->cut)) {
        int64_t most = answer - 1 < 1 << 20 ? answer - 1 : 1 << 20;
        return 1 + test_rng_below(&fake.rng, (unsigned)most);
    }
    return answer;
}

/* Overwrites bytes [from, to) of what was asked for. */
static void spoil(const sl__io_piece *p, uint64_t from, uint64_t to)
{
    uint64_t begin = 0;
    for (uint32_t i = p->next; i < p->iov_count; i++) {
        uint64_t end = begin + p->iov[i].iov_len;
        uint64_t low = from > begin ? from : begin, high = to < end ? to : end;
        if (low < high) {
            memset((unsigned char *)p->iov[i].iov_base + (low - begin), 0xee, (size_t)(high - low));
        }
        begin = end;
    }
}

sl__io_step __wrap_sl__io_piece_came(sl__io_piece *p, int64_t answer)
{
    pthread_mutex_lock(&fake.lock);
    fake.calls++;
    int64_t changed = change(answer);
    if (fake.closed) {
        fake.at_gate++;
        pthread_cond_broadcast(&fake.changed);
        while (fake.closed)
            pthread_cond_wait(&fake.changed, &fake.lock);
        fake.at_gate--;
    }
    pthread_mutex_unlock(&fake.lock);
    if (changed < answer) {
        spoil(p, changed > 0 ? (uint64_t)changed : 0, (uint64_t)answer);
    }
    return __real_sl__io_piece_came(p, changed);
}
