/* The likelihood of a text, on a session that is played here: the four functions of the engine that
 * sl_eval_nll uses are defined in this program, and give out logits made by the test. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "sluice.h"

enum { VOCAB = 4, TOKENS_MAX = 16 };

struct sl_session {
    float logits[TOKENS_MAX][VOCAB];
    size_t chunk;
    sl_status failure; /* of the evaluation itself */
    unsigned resets, evals;
};

sl_engine *sl_session_engine(const sl_session *session)
{
    (void)session;
    return NULL;
}

void sl_engine_info_get(const sl_engine *engine, sl_engine_info *info)
{
    (void)engine;
    *info = (sl_engine_info){.path = "model", .vocab_size = VOCAB};
}

void sl_session_reset(sl_session *session)
{
    session->resets++;
}

sl_status sl_session_eval(sl_session *session, const int32_t *ids, size_t count, float *logits,
                          sl_logits_fn fn, void *ctx, sl_error *err)
{
    (void)err;
    assert_non_null(ids);
    assert_null(logits);
    assert_int_equal(session->resets, session->evals + 1);
    session->evals++;
    if (session->failure) return session->failure;
    for (size_t at = 0; at < count; at += session->chunk) {
        size_t n = count - at < session->chunk ? count - at : session->chunk;
        sl_status status = fn(ctx, at, n, session->logits[at]);
        if (status != SL_OK) return status;
    }
    return SL_OK;
}

static void log_softmax_by_hand(void **state)
{
    (void)state;
    const int32_t ids[] = {0, 1, 2, 3, 0};
    for (size_t chunk = 1; chunk <= 6; chunk++) {
        sl_session session = {.chunk = chunk,
                              .logits = {{0, 0, 0, 0},
                                         {1000, 1001, 1000, -1e30f},
                                         {-1e4f, -1e4f, -1e4f, -1e4f},
                                         {3, -INFINITY, -INFINITY, -INFINITY},
                                         {NAN, NAN, NAN, NAN}}}; /* of the last token: unused */
        float nll[5] = {-1, -1, -1, -1, -1};
        sl_error err = {0};
        assert_int_equal(sl_eval_nll(&session, ids, 5, nll, &err), SL_OK);
        assert_float_equal(nll[0], log(4), 1e-6);
        assert_float_equal(nll[1], log(2 + exp(1)), 1e-6);
        assert_float_equal(nll[2], log(4), 1e-6);
        assert_true(nll[3] == 0.0f);
        assert_true(nll[4] == -1.0f); /* not written: there are count - 1 values */
        assert_int_equal(session.resets, 1);
    }
}

/* Each row has its own distribution: a row read one too early or too late would show. */
static void rows_belong_to_the_token_before(void **state)
{
    (void)state;
    sl_session session = {.chunk = 3};
    int32_t ids[TOKENS_MAX];
    float nll[TOKENS_MAX];
    for (int t = 0; t < TOKENS_MAX; t++) {
        ids[t] = (t * t + 1) % VOCAB;
        for (int v = 0; v < VOCAB; v++)
            session.logits[t][v] = (float)((t * 7 + v * 3) % 5) - 2.0f;
    }
    assert_int_equal(sl_eval_nll(&session, ids, TOKENS_MAX, nll, NULL), SL_OK);
    for (int t = 0; t + 1 < TOKENS_MAX; t++) {
        double sum = 0.0;
        for (int v = 0; v < VOCAB; v++)
            sum += exp((double)session.logits[t][v]);
        float want = (float)(log(sum) - (double)session.logits[t][ids[t + 1]]);
        assert_float_equal(nll[t], want, 1e-6);
    }
}

static void assert_fails(sl_session *session, const int32_t *ids, size_t count, sl_status status,
                         const char *message)
{
    float nll[TOKENS_MAX];
    sl_error err = {0};
    assert_int_equal(sl_eval_nll(session, ids, count, nll, &err), status);
    assert_string_equal(err.message, message);
    assert_int_equal(err.status, status);
}

static void bad_input_is_refused(void **state)
{
    (void)state;
    sl_session session = {.chunk = 2};
    const int32_t ids[] = {0, 1, 4}, negative[] = {-1, 0};
    assert_fails(&session, ids, 0, SL_EINVAL, "evaluation: 0 tokens; at least two are needed");
    assert_fails(&session, ids, 1, SL_EINVAL, "evaluation: 1 token; at least two are needed");
    assert_fails(&session, ids, 3, SL_EINVAL,
                 "evaluation: id 4 at position 2 is outside the vocabulary of 4");
    assert_fails(&session, negative, 2, SL_EINVAL,
                 "evaluation: id -1 at position 0 is outside the vocabulary of 4");
    assert_int_equal(session.evals, 0);
}

static void logits_that_are_not_finite_are_refused(void **state)
{
    (void)state;
    static const float odd[] = {NAN, INFINITY, -INFINITY};
    const int32_t ids[] = {0, 1, 2};
    for (int i = 0; i < 3; i++) {
        sl_session session = {.chunk = 2};
        session.logits[1][2] = odd[i];
        assert_fails(&session, ids, 3, SL_ENUMERIC, "model: a logit of token 1 is not finite");
    }
    sl_session session = {.chunk = 2};
    session.logits[0][0] = NAN; /* the first one, against which the others are compared */
    assert_fails(&session, ids, 3, SL_ENUMERIC, "model: a logit of token 0 is not finite");
}

static void a_failure_below_comes_through(void **state)
{
    (void)state;
    sl_session session = {.chunk = 2, .failure = SL_ECORRUPT};
    const int32_t ids[] = {0, 1};
    float nll[1];
    assert_int_equal(sl_eval_nll(&session, ids, 2, nll, NULL), SL_ECORRUPT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(log_softmax_by_hand),
        cmocka_unit_test(rows_belong_to_the_token_before),
        cmocka_unit_test(bad_input_is_refused),
        cmocka_unit_test(logits_that_are_not_finite_are_refused),
        cmocka_unit_test(a_failure_below_comes_through),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
