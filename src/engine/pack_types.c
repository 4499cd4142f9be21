/* What was asked for → the type of each matrix. */
#include <stdio.h>
#include <string.h>

#include "base/fail.h"
#include "engine/packer.h"
#include "quant/quant.h"

static const char *const part_names[SL_PART_COUNT] = {"gate", "up", "down"};

/* ---- options --------------------------------------------------------------------------------- */

/* One scale and its codes together is how a pack has MXFP4 that it encodes itself. */
static bool parse_name(const char *name, size_t size, sl__dtype *out)
{
    char text[16];
    if (size >= sizeof text) return false;
    memcpy(text, name, size);
    text[size] = '\0';
    *out = SL_DTYPE_ALL;
    if (strcmp(text, "keep") == 0) return true;
    if (strcmp(text, "mxfp4") == 0) memcpy(text, "mxfp4_block", sizeof "mxfp4_block");
    return sl__dtype_parse(text, out) && sl__dtype_has_encoder(*out);
}

static sl_status refuse(const char *option, const char *name, size_t size, sl_error *err)
{
    char list[256] = "keep";
    for (unsigned i = 0; i < SL_DTYPE_COUNT; i++) {
        const sl__dtype type = (sl__dtype)i;
        if (!sl__dtype_has_encoder(type) || type == SL_MXFP4) continue;
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, ", %s",
                 type == SL_MXFP4_BLOCK ? "mxfp4" : sl__dtype_name(type));
    }
    return SL_FAIL(err, SL_EINVAL, "%s: %.*s is not one of %s", option,
                   (int)(size < 40 ? size : 40), name, list);
}

/* "gate=q4,down=q6_k": parts that are not named are kept. */
static sl_status parse_parts(const char *text, sl__dtype out[SL_PART_COUNT], sl_error *err)
{
    for (const char *at = text; *at;) {
        size_t size = strcspn(at, ","), part = 0, name = strcspn(at, "=");
        while (part < SL_PART_COUNT && (strlen(part_names[part]) != name ||
                                        strncmp(at, part_names[part], name) != 0))
            part++;
        if (name >= size || part == SL_PART_COUNT) {
            return SL_FAIL(err, SL_EINVAL, "experts: \"%.40s\" names none of gate=, up=, down=",
                           at);
        }
        const char *type = at + name + 1;
        if (!parse_name(type, size - name - 1, &out[part])) {
            return refuse("experts", type, size - name - 1, err);
        }
        at += size;
        if (*at == ',') at++;
    }
    return SL_OK;
}

sl_status sl__pack_targets_parse(sl__pack_targets *out, const sl_pack_options *opt, sl_error *err)
{
    const char *experts = opt->experts ? opt->experts : "keep";
    const char *resident = opt->resident ? opt->resident : "keep";
    *out = (sl__pack_targets){{SL_DTYPE_ALL, SL_DTYPE_ALL, SL_DTYPE_ALL}, SL_DTYPE_ALL};
    if (!parse_name(resident, strlen(resident), &out->resident)) {
        return refuse("resident", resident, strlen(resident), err);
    }
    if (strchr(experts, '=')) return parse_parts(experts, out->experts, err);
    if (!parse_name(experts, strlen(experts), &out->experts[0])) {
        return refuse("experts", experts, strlen(experts), err);
    }
    out->experts[1] = out->experts[2] = out->experts[0];
    return SL_OK;
}

/* ---- choosing -------------------------------------------------------------------------------- */

/* The pack's own type of as many bits, or of more where it has none: those take rows of any length.
 */
static sl__dtype own_type(sl__dtype type)
{
    switch (type) {
    case SL_Q2_K:
        return SL_Q2;
    case SL_Q3_K:
        return SL_Q3;
    case SL_Q4_0:
    case SL_Q4_1:
    case SL_Q4_K:
    case SL_IQ4_NL:
    case SL_IQ4_XS:
    case SL_MXFP4_BLOCK:
        return SL_Q4;
    default:
        return SL_Q8;
    }
}

static void note(sl_pack_report *report, sl__dtype wanted, sl__dtype taken, const char *name)
{
    sl_pack_substitute *s = report->substitutes;
    uint32_t i = 0;
    while (i < report->substitute_count && strcmp(s[i].wanted, sl__dtype_name(wanted)) != 0) i++;
    if (i == SL_PACK_SUBSTITUTES) return; /* a pack has no more targets than that */
    if (i == report->substitute_count) {
        report->substitute_count++;
        s[i] = (sl_pack_substitute){.matrices = 0};
        snprintf(s[i].wanted, sizeof s[i].wanted, "%s", sl__dtype_name(wanted));
        snprintf(s[i].taken, sizeof s[i].taken, "%s", sl__dtype_name(taken));
        snprintf(s[i].first, sizeof s[i].first, "%s", name);
    }
    s[i].matrices++;
}

sl__dtype sl__pack_type_of(sl__packer *p, sl__dtype target, sl__dtype source,
                           const sl__scaling *scaling, uint64_t cols, const char *name)
{
    sl__dtype same;
    if (target == SL_DTYPE_ALL) return sl__regroup_type(source, scaling, &same) ? same : source;
    if (target == SL_MXFP4_BLOCK && source == SL_MXFP4) return source; /* as it is published */
    if (!sl__dtype_is_block(target) || cols % sl__dtype_block_weights(target) == 0) return target;
    note(p->report, target, own_type(target), name);
    return own_type(target);
}

bool sl__pack_type_keeps(sl__dtype from, const sl__scaling *scaling, sl__dtype to)
{
    sl__dtype same;
    return from == to || to == SL_F32 || (sl__regroup_type(from, scaling, &same) && same == to);
}
