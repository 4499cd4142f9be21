/* Rules that JSON is made of, and the text around it. Each is made when it is first asked for;
 * those without arguments are made once in a builder. */
#ifndef SL_CONSTRAIN_RULES_H
#define SL_CONSTRAIN_RULES_H

#include "constrain/grammar.h"

/* White space is bounded: a model that has lost its way cannot fill its answer with it. */
#define SL__GAP_MAX    2u  /* spaces where no line ends */
#define SL__INDENT_MAX 64u /* spaces and tabs behind a line break */
/* So are numbers: what any reader takes without loss of range. */
#define SL__INTEGER_DIGITS  18u
#define SL__FRACTION_DIGITS 17u
#define SL__EXPONENT_DIGITS 2u

uint32_t sl__rule_gap(sl__builder *b);   /* a few spaces, or none */
uint32_t sl__rule_space(sl__builder *b); /* the same, or one line break and an indentation */
uint32_t sl__rule_integer(sl__builder *b);
uint32_t sl__rule_number(sl__builder *b);
uint32_t sl__rule_value(sl__builder *b);  /* any JSON */
uint32_t sl__rule_object(sl__builder *b); /* any object */
uint32_t sl__rule_array(sl__builder *b);  /* any array */
/* A string of min to max characters; SL__NO_LIMIT: any number. An escape is one character. */
uint32_t sl__rule_string(sl__builder *b, uint32_t min, uint32_t max);
uint32_t sl__rule_literal(sl__builder *b, const char *bytes, size_t size);
/* min to max values, each by a rule; min <= max. */
uint32_t sl__rule_items(sl__builder *b, uint32_t item, uint32_t min, uint32_t max);
/* A whole number of low to high; low <= high. */
uint32_t sl__rule_range(sl__builder *b, int64_t low, int64_t high);
/* The same with fractions in between; no exponents. */
uint32_t sl__rule_number_range(sl__builder *b, int64_t low, int64_t high);

/* Text of min to max characters as it is, up to and with "\n</parameter>". */
uint32_t sl__rule_parameter(sl__builder *b, uint32_t min, uint32_t max);

typedef struct sl__property {
    const char *name; /* JSON, with its quotes */
    size_t name_size;
    uint32_t rule;
    bool required;
} sl__property;
/* Properties in their order, then any others whose values are by `others` (SL__NO_RULE: none). */
uint32_t sl__rule_properties(sl__builder *b, const sl__property *list, size_t count,
                             uint32_t others);

#endif
