/* Sampling: one table, for the command line and for what is kept of a conversation. */
#include <errno.h>
#include <float.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/json.h"
#include "cli/sampling.h"

void cli_sampling_table(cli_option table[CLI_SAMPLING_OPTIONS], cli_sampling *s)
{
    sl_sampler_options *v = &s->values;
    const cli_option options[] = {
        {0, "temp", "T", CLI_F32, &v->temperature, 0, 0, "a number of at least 0",
         "temperature; 0 takes the likeliest token", &s->temperature},
        {0, "top-k", "K", CLI_U32, &v->top_k, 0, 0, NULL, "the likeliest K tokens; 0: all",
         &s->top_k},
        {0, "top-p", "P", CLI_F32, &v->top_p, (double)FLT_MIN, 1, "a number above 0, at most 1",
         "the fewest tokens that hold this share", &s->top_p},
        {0, "min-p", "P", CLI_F32, &v->min_p, 0, 1, "a number from 0 to 1",
         "tokens at least this likely beside the likeliest", &s->min_p},
        {0, "repetition-penalty", "R", CLI_F32, &v->repetition_penalty, (double)FLT_MIN, 0,
         "a number above 0", "against tokens of the prompt and the text; 1: off", &s->repetition},
        {0, "presence-penalty", "R", CLI_F32, &v->presence_penalty, -(double)FLT_MAX, 0, NULL,
         "against tokens of the text; 0: off", &s->presence},
        {0, "frequency-penalty", "R", CLI_F32, &v->frequency_penalty, -(double)FLT_MAX, 0, NULL,
         "the same, for each time that one is in it; 0: off", &s->frequency},
        {0, "seed", "S", CLI_U64, &v->seed, 0, 0, NULL,
         "another seed gives another text (default: 0)", &s->seed},
        {0, "greedy", NULL, CLI_FLAG, &s->greedy, 0, 0, NULL, "the same as --temp 0", NULL},
    };
    _Static_assert(sizeof options == CLI_SAMPLING_OPTIONS * sizeof options[0], "table size");
    memcpy(table, options, sizeof options);
}

sl_sampler_options cli_sampling_resolve(const sl_sampler_options *defaults, const cli_sampling *s)
{
    sl_sampler_options opt = *defaults;
    if (s->temperature) opt.temperature = s->values.temperature;
    if (s->top_k) opt.top_k = s->values.top_k;
    if (s->top_p) opt.top_p = s->values.top_p;
    if (s->min_p) opt.min_p = s->values.min_p;
    if (s->repetition) opt.repetition_penalty = s->values.repetition_penalty;
    if (s->presence) opt.presence_penalty = s->values.presence_penalty;
    if (s->frequency) opt.frequency_penalty = s->values.frequency_penalty;
    if (s->seed) opt.seed = s->values.seed;
    if (s->greedy) opt.temperature = 0.0f;
    return opt;
}

/* ---- kept with a conversation ---------------------------------------------------------------- */

static json_t *value_of(const cli_option *option)
{
    switch (option->kind) {
    case CLI_U32:
        return json_integer((json_int_t) * (const uint32_t *)option->target);
    case CLI_U64: /* text: JSON's integers have a sign */
        return json_sprintf("%llu", (unsigned long long)*(const uint64_t *)option->target);
    case CLI_F32:
        return json_real((double)*(const float *)option->target);
    default:
        return json_true();
    }
}

static bool is_given(const cli_option *option)
{
    return option->given ? *option->given : *(const bool *)option->target;
}

json_t *cli_sampling_save(const cli_sampling *s)
{
    cli_sampling copy = *s;
    cli_option table[CLI_SAMPLING_OPTIONS];
    cli_sampling_table(table, &copy);
    json_t *object = json_object();
    for (size_t i = 0; object && i < CLI_SAMPLING_OPTIONS; i++) {
        if (!is_given(&table[i])) continue;
        if (json_object_set_new(object, table[i].name, value_of(&table[i])) == 0) continue;
        json_decref(object);
        object = NULL;
    }
    return object;
}

static const cli_option *find(const cli_option table[CLI_SAMPLING_OPTIONS], const char *name)
{
    for (size_t i = 0; i < CLI_SAMPLING_OPTIONS; i++)
        if (strcmp(table[i].name, name) == 0) return &table[i];
    return NULL;
}

static bool in_range(const cli_option *option, double value, double max)
{
    if (option->max > 0) max = option->max;
    return value >= option->min && value <= max;
}

/* Writes a value to where its option has it; false: it is not one. */
static bool take_value(const cli_option *option, const json_t *value)
{
    double number = json_number_value(value);
    if (option->kind == CLI_FLAG) {
        *(bool *)option->target = json_is_true(value);
        return json_is_boolean(value);
    }
    if (option->kind == CLI_U64) {
        const char *text = json_string_value(value);
        if (!text || !text[0] || text[strspn(text, "0123456789")]) return false;
        errno = 0;
        *(uint64_t *)option->target = strtoull(text, NULL, 10);
        return errno == 0;
    }
    if (option->kind == CLI_U32) {
        if (!json_is_integer(value) || !in_range(option, number, (double)UINT32_MAX)) return false;
        *(uint32_t *)option->target = (uint32_t)json_integer_value(value);
        return true;
    }
    if (!json_is_number(value) || !in_range(option, number, (double)FLT_MAX)) return false;
    *(float *)option->target = (float)number;
    return true;
}

sl_status cli_sampling_load(cli_sampling *s, const json_t *object, const char *path, sl_error *err)
{
    cli_sampling loaded = *s;
    cli_option table[CLI_SAMPLING_OPTIONS];
    cli_sampling_table(table, &loaded);
    const char *name;
    json_t *value;
    if (!json_is_object(object)) {
        return SL_FAIL(err, SL_EFORMAT, "%s: settings.sampling: expected an object", path);
    }
    json_object_foreach((json_t *)object, name, value)
    {
        const cli_option *option = find(table, name);
        if (!option) {
            return SL_FAIL(err, SL_EFORMAT, "%s: settings.sampling.%s: no such option", path, name);
        }
        if (is_given(option)) continue;
        if (!take_value(option, value)) {
            return SL_FAIL(err, SL_EFORMAT, "%s: settings.sampling.%s: not a value of this option",
                           path, name);
        }
        if (option->given) *option->given = true;
    }
    *s = loaded;
    return SL_OK;
}
