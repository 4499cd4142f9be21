/* The model of a chat: opening it, prompts, and evaluating no more than is new. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fail.h"
#include "base/sysmem.h"
#include "cli/chat.h"

#define CONTEXT          16384u /* where nothing is said and memory allows it */
#define PREFIX_SHARE     16     /* of the budget, for states that later prompts may begin with */
#define PREFIX_BYTES_MAX ((uint64_t)2 << 30)

/* ---- opening --------------------------------------------------------------------------------- */

static void close_engine(chat_model *m)
{
    sl_prefix_cache_close(m->prefixes);
    sl_session_destroy(m->session);
    sl_engine_close(m->engine);
    free(m->logits);
    free(m->seen);
    m->prefixes = NULL;
    m->session = NULL;
    m->engine = NULL;
    m->logits = NULL;
    m->seen = NULL;
    m->seen_count = 0;
}

/* Memory for states of the session that later prompts may begin with; where the budget is too small
 * for any, there are none, and more is evaluated again. */
static uint64_t choose_prefix_bytes(const chat_model *m)
{
    uint64_t budget = m->options.engine.memory_bytes;
    if (budget == 0) budget = sl__mem_available();
    uint64_t bytes = budget / PREFIX_SHARE;
    return bytes < PREFIX_BYTES_MAX ? bytes : PREFIX_BYTES_MAX;
}

static sl_status open_within_budget(chat_model *m, sl_error *err)
{
    sl_error why = {0};
    cli_engine_options opt = m->options;
    opt.engine.prefix_bytes = choose_prefix_bytes(m);
    sl_status status = cli_engine_open(&m->engine, &m->session, m->path, &opt, &why);
    if (status == SL_EBUDGET)
        return cli_engine_open(&m->engine, &m->session, m->path, &m->options, err);
    if (status != SL_OK) return SL_FAIL(err, status, "%s", why.message);
    const sl_prefix_cache_options prefixes = {.memory_bytes = opt.engine.prefix_bytes};
    return sl_prefix_cache_open(&m->prefixes, m->engine, &prefixes, err);
}

static sl_status open_engine(chat_model *m, sl_error *err)
{
    m->options.engine.tokenizer = m->tok;
    m->options.engine.expected_tokens = CONTEXT;
    uint64_t start_ns = sl__now_ns();
    sl_status status = open_within_budget(m, err);
    if (status == SL_OK) {
        m->load_ns = sl__now_ns() - start_ns;
        sl_engine_info_get(m->engine, &m->info);
        sl_engine_generation_defaults(m->engine, &m->defaults);
        m->logits = calloc(m->info.vocab_size, sizeof *m->logits);
        m->seen = calloc(m->info.context_tokens, sizeof *m->seen);
        if (!m->logits || !m->seen) status = SL_FAIL_NOMEM(err, "logits");
    }
    if (status != SL_OK) close_engine(m);
    return status;
}

sl_status chat_model_open(chat_model *m, sl_error *err)
{
    SL_TRY(sl_tokenizer_open(&m->tok, m->path, err));
    SL_TRY(sl_template_open(&m->tmpl, m->path, err));
    return open_engine(m, err);
}

void chat_model_close(chat_model *m)
{
    close_engine(m);
    sl_template_close(m->tmpl);
    sl_tokenizer_close(m->tok);
}

sl_status chat_model_experts(chat_model *m, uint32_t experts, sl_error *err)
{
    uint32_t before = m->info.experts_per_token, trained = m->info.trained_experts_per_token;
    if (experts < 1 || experts > trained) {
        return SL_FAIL(err, SL_EINVAL,
                       "%s: a token has from 1 to %" PRIu32 " experts, not %" PRIu32, m->path,
                       trained, experts);
    }
    close_engine(m); /* two would not fit */
    m->options.engine.experts_per_token = experts;
    sl_status status = open_engine(m, err);
    if (status == SL_OK) return SL_OK;
    m->options.engine.experts_per_token = before;
    (void)open_engine(m, NULL);
    return status;
}

/* ---- prompts --------------------------------------------------------------------------------- */

static json_t *variables(const json_t *messages, const json_t *tools, bool think)
{
    json_t *vars = json_pack("{s:O, s:b}", "messages", messages, "add_generation_prompt", 1);
    bool made = vars != NULL;
    if (made && tools) made = json_object_set(vars, "tools", (json_t *)tools) == 0;
    if (made && !think) {
        made = json_object_set_new(vars, "enable_thinking", json_false()) == 0 &&
               json_object_set_new(vars, "thinking", json_false()) == 0;
    }
    if (made) return vars;
    json_decref(vars);
    return NULL;
}

sl_status chat_model_prompt(const chat_model *m, const json_t *messages, const json_t *tools,
                            bool think, sl_prompt *prompt, sl_error *err)
{
    json_t *vars = variables(messages, tools, think);
    char *json = vars ? json_dumps(vars, JSON_COMPACT) : NULL;
    json_decref(vars);
    if (!json) return SL_FAIL_NOMEM(err, "messages");
    sl_status status = sl_template_prompt(m->tmpl, m->tok, json, strlen(json), prompt, err);
    free(json);
    if (status != SL_OK) return status;
    if (prompt->count > 0) return SL_OK;
    return SL_FAIL(err, SL_EINVAL, "%s: the chat template gives an empty prompt", m->path);
}

/* ---- evaluating ------------------------------------------------------------------------------ */

/* After a failure the session knows nothing. */
static void forget(chat_model *m)
{
    sl_session_reset(m->session);
    m->seen_count = 0;
}

/* Whether the session itself is at a beginning of the ids. */
static bool goes_on(const chat_model *m, const sl_prompt *prompt)
{
    size_t count = m->seen_count;
    if (count == 0 || count >= prompt->count) return false; /* one is evaluated for its logits */
    return memcmp(m->seen, prompt->ids, count * sizeof *m->seen) == 0;
}

/* Brings the session to the longest beginning of the prompt that is known. It does not go back by
 * itself: a template may have dropped thoughts that it has evaluated, for one. */
static sl_status find_beginning(chat_model *m, const sl_prompt *prompt, sl_error *err)
{
    if (goes_on(m, prompt)) return SL_OK;
    size_t found = 0;
    m->seen_count = 0;
    if (!m->prefixes)
        sl_session_reset(m->session);
    else
        SL_TRY(
            sl_prefix_cache_find(m->prefixes, m->session, prompt->ids, prompt->count, &found, err));
    memcpy(m->seen, prompt->ids, found * sizeof *m->seen);
    m->seen_count = found;
    return SL_OK;
}

static sl_status evaluate_to(chat_model *m, const sl_prompt *prompt, size_t end, sl_error *err)
{
    size_t from = m->seen_count;
    if (end <= from) return SL_OK;
    SL_TRY(sl_session_eval(m->session, prompt->ids + from, end - from, m->logits, NULL, NULL, err));
    memcpy(m->seen + from, prompt->ids + from, (end - from) * sizeof *m->seen);
    m->seen_count = end;
    return SL_OK;
}

/* Keeps the session on its way, as late as it can be kept: the next prompt begins with this one,
 * but not always with its answer as it was generated. */
static sl_status evaluate_rest(chat_model *m, const sl_prompt *prompt, sl_error *err)
{
    if (m->prefixes) {
        size_t end = sl_prefix_cache_boundary(m->prefixes, prompt->count);
        if (end > m->seen_count) {
            SL_TRY(evaluate_to(m, prompt, end, err));
            SL_TRY(sl_prefix_cache_keep(m->prefixes, m->session, err));
        }
    }
    return evaluate_to(m, prompt, prompt->count, err);
}

sl_status chat_model_evaluate(chat_model *m, const sl_prompt *prompt, sl_progress_fn progress,
                              void *ctx, size_t *reused, sl_error *err)
{
    if (prompt->count > m->info.context_tokens) {
        return SL_FAIL(err, SL_EINVAL,
                       "the conversation has %zu tokens, the context %" PRIu32
                       " (/clear begins anew, --ctx takes more)",
                       prompt->count, m->info.context_tokens);
    }
    *reused = 0;
    sl_status status = find_beginning(m, prompt, err);
    if (status == SL_OK) {
        *reused = m->seen_count;
        sl_session_set_progress(m->session, progress, ctx);
        status = evaluate_rest(m, prompt, err);
        sl_session_set_progress(m->session, NULL, NULL);
    }
    if (status != SL_OK) forget(m);
    return status;
}

sl_status chat_model_step(chat_model *m, int32_t id, sl_error *err)
{
    sl_status status = sl_session_eval(m->session, &id, 1, m->logits, NULL, NULL, err);
    if (status == SL_OK)
        m->seen[m->seen_count++] = id;
    else
        forget(m);
    return status;
}
