#!/usr/bin/env python3
"""Writes reference cases for chat templates: fragments of Jinja, and what the Python package jinja2
renders of them when it is set up as transformers does for chat templates.

    pip install jinja2
    tools/make_jinja_cases.py tests/data/jinja/cases.json
    tools/make_jinja_cases.py --seed 7 --random 20000 /tmp/more.json

A case is [template, text]; text is null where rendering fails. Fragments written by hand come
first, then random ones. Left out are those whose result is not Python's to define: addresses of
objects, whole numbers beyond 64 bits.
"""
import argparse
import copy
import datetime
import json
import pathlib
import random
import re

import jinja2
import jinja2.ext
import jinja2.sandbox

NOW = "2026-01-02T03:04:05"

VARIABLES = {
    "s": "Hello, World", "t": "  two  words\n", "u": "\u00e9\u4e2d\U0001f600-x", "e": "",
    "n": 7, "m": -3, "z": 0, "f": 2.5, "big": 1e22, "yes": True, "no": False, "nil": None,
    "l": [3, 1, 2], "words": ["b", "A", "c", "a"], "nested": [[1, 2], [3, [4]], []],
    "d": {"b": 1, "a": "x", "items": [1], "k y": None}, "empty": {}, "nothing": [],
    "people": [{"name": "Bo", "age": 3, "tags": ["x"]}, {"name": "al", "age": 1},
               {"name": "Cy", "age": 3, "tags": []}],
    "messages": [{"role": "system", "content": "Be <b>kind</b>."},
                 {"role": "user", "content": [{"type": "text", "text": "Hi"}, {"type": "image"}]},
                 {"role": "assistant", "content": None,
                  "tool_calls": [{"function": {"name": "go", "arguments": {"x": 1, "y": [0.5]}}}]},
                 {"role": "tool", "content": "42"}],
    "now": NOW,
}


class Generation(jinja2.ext.Extension):
    """The `generation` tag of transformers, without its bookkeeping."""
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("support"), [], [], body).set_lineno(line)

    def support(self, caller):
        return caller()


def refuse(message):
    raise jinja2.exceptions.TemplateError(message)


def to_json(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                      sort_keys=sort_keys)


def environment():
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True,
        extensions=[Generation, jinja2.ext.loopcontrols])
    env.filters["tojson"] = to_json
    env.globals["raise_exception"] = refuse
    env.globals["strftime_now"] = lambda form: datetime.datetime.fromisoformat(NOW).strftime(form)
    return env


# ---- by hand: every statement, operator, filter, test and method at least once ------------------

FRAGMENTS = pathlib.Path(__file__).resolve().parent.parent / "tests/data/jinja/fragments.txt"
HAND = FRAGMENTS.read_text(encoding="utf-8").split("\n----\n")

# ---- at random ----------------------------------------------------------------------------------

STRINGS = ["''", "'a'", "\"b c\"", "'A-b\\n'", "'\\u00df\\''", "'%s|%d'", "'x' 'y'", "' pad '"]
NAMES = [k for k in VARIABLES if k != "now"] + ["missing", "loop", "i", "ns"]
TESTS = ["defined", "undefined", "none", "string", "number", "integer", "float", "boolean",
         "mapping", "sequence", "iterable", "callable", "true", "false", "even", "odd", "lower",
         "upper", "divisibleby(2)", "in l", "in words", "equalto('a')", "eq 7", "ne(z)", "gt 1",
         "sameas none", "le(f)", "escaped"]
FILTERS = ["length", "trim", "upper", "lower", "title", "capitalize", "first", "last", "list",
           "join", "join('-')", "string", "int", "float", "abs", "round", "tojson", "reverse",
           "sort", "unique|list", "default('D')", "default('D', true)", "escape", "safe", "indent",
           "indent(2, true)", "wordcount", "min", "max", "sum", "items|list", "dictsort",
           "map('upper')|list", "map('string')|join(',')", "map(attribute='name')|list",
           "select|list", "reject('none')|list", "select('string')|list",
           "selectattr('age')|list", "selectattr('age', 'gt', 2)|list",
           "rejectattr('tags', 'defined')|list", "replace('a', 'b')", "batch(2)|list",
           "round(1)", "int(9)", "tojson(indent=2)", "sort(reverse=true)", "count",
           "sort(attribute='name')", "truncate(9)", "center(9)", "format(1, 'x')",
           "groupby('age')|list", "slice(2)|list", "map(attribute='age')|sum", "forceescape",
           "tojson(sort_keys=true, separators=(',', ':'))", "string|length", "float(1.5)"]
METHODS = ["strip()", "lstrip()", "rstrip('d\\n ')", "split()", "split('o')", "split('l', 1)",
           "rsplit(None, 1)", "rsplit('l', 1)", "upper()", "title()", "startswith('He')",
           "endswith(('d', 'x'))", "replace('l', 'LL', 1)", "find('o')", "rfind('o')", "index('o')",
           "count('l')", "splitlines()", "isdigit()", "join(words)", "items()", "keys()|list",
           "values()|list", "get('a')", "get('q', 1)", "capitalize()", "swapcase()",
           "partition(' ')", "rpartition('o')", "zfill(9)", "center(15, '*')", "format(1, n=2)",
           "isalnum()", "islower()", "istitle()", "removeprefix('He')", "pop()", "append(1)",
           "index(1)", "count(1)", "name", "age", "a", "items", "foo", "0", "lower().upper()",
           "ljust(14, '.')", "isspace()", "expand"]
BINARY = ["+", "-", "*", "/", "//", "%", "**", "~", "==", "!=", "<", "<=", ">", ">=", "in",
          "not in", "and", "or"]


def expression(r, depth):
    if depth <= 0 or r.random() < 0.2:
        return r.choice([r.choice(NAMES), r.choice(NAMES), r.choice(STRINGS),
                         str(r.randint(0, 12)), r.choice(["0.5", "1e3", "2.0", "0x1f", "1_000"]),
                         r.choice(["true", "False", "none"])])
    kind = r.randrange(15)
    sub = lambda: expression(r, depth - 1)  # noqa: E731
    if kind < 3:
        return f"{sub()} {r.choice(BINARY)} {sub()}"
    if kind == 3:
        return f"({sub()})"
    if kind == 4:
        return f"{r.choice(['not ', '-', '+'])}{sub()}"
    if kind < 7:
        return f"{sub()}|{r.choice(FILTERS)}"
    if kind == 7:
        return f"({sub()}) is {r.choice(['', 'not '])}{r.choice(TESTS)}"
    if kind < 10:
        return f"{r.choice(NAMES + STRINGS)}.{r.choice(METHODS)}"
    if kind == 10:
        return f"{sub()}[{sub()}]"
    if kind == 11:
        part = lambda: r.choice(["", "", str(r.randint(-4, 5))])  # noqa: E731
        step = r.choice(["", ":", ":2", ":-1", ":-2", ":1"])
        return f"{r.choice(NAMES)}[{part()}:{part()}{step}]"
    if kind == 12:
        return f"{sub()} if {sub()}" + (f" else {sub()}" if r.random() < 0.8 else "")
    if kind == 13:
        return r.choice([f"[{sub()}, {sub()}]", f"({sub()},)", f"{{{sub()}: {sub()}}}",
                         f"{{'a': {sub()}, 'b': {sub()}}}", "[]", "{}", "()"])
    return r.choice([f"range({r.randint(0, 5)})", f"range(1, {r.randint(0, 9)}, 2)|list",
                     f"dict(a={sub()})", f"namespace(x={sub()}).x", "loop.index", "loop.last",
                     f"{sub()} < {sub()} < {sub()}", "mac(1)", f"mac({sub()}, b={sub()})"])


SPACES = ["", "", "", " ", "\n", "\n  ", "  \n\n", "\t"]
TEXTS = ["a", "b c", "\n", " ", "x\n", "\n  y", "<p>", "{", "}", "%", "#", "\r\n", "\u00a0"]


def tag(r, text):
    return f"{{%{r.choice(['', '', '', '-', '+'])} {text} {r.choice(['', '', '', '-', '+'])}%}}"


def statement(r, depth):
    body = lambda: template(r, depth - 1)  # noqa: E731
    e = lambda: expression(r, 2)  # noqa: E731
    kind = r.randrange(13) if depth > 0 else r.randrange(3)
    if kind < 3:
        return f"{{{{{r.choice(['', '', '-'])} {e()} {r.choice(['', '', '-'])}}}}}"
    if kind == 3:
        out = tag(r, f"if {e()}") + body()
        if r.random() < 0.4:
            out += tag(r, f"elif {e()}") + body()
        if r.random() < 0.6:
            out += tag(r, "else") + body()
        return out + tag(r, "endif")
    if kind < 6:
        target = r.choice(["i", "i", "i, j", "s"])
        over = r.choice([e(), r.choice(["l", "words", "people", "messages", "d", "u", "nested",
                                        "d.items()", "range(3)", "l|select", "nothing"])])
        out = tag(r, f"for {target} in {over}" + (f" if {e()}" if r.random() < 0.3 else ""))
        out += body()
        if r.random() < 0.3:
            out += tag(r, f"if {e()}") + tag(r, r.choice(["break", "continue"])) + tag(r, "endif")
        out += r.choice(["", "{{ loop.index }}", "{{ loop.previtem }}|{{ loop.nextitem }}",
                         "{{ loop.revindex0 }}{{ loop.first }}{{ loop.length }}",
                         "{{ loop.cycle('x', 'y') }}", "{{ loop.changed(i) }}"])
        if r.random() < 0.2:
            out += tag(r, "else") + body()
        return out + tag(r, "endfor")
    if kind == 6:
        return tag(r, f"set {r.choice(['i', 's', 'ns', 'i, j', 'ns.x'])} = {e()}")
    if kind == 7:
        return tag(r, f"set i{r.choice(['', ' | upper', ' | trim'])}") + body() + tag(r, "endset")
    if kind == 8:
        return (tag(r, f"macro mac(a, b={e()})") + "{{ a }}" + body() +
                r.choice(["", "{{ caller() }}", "{{ kwargs }}{{ varargs }}"]) + tag(r, "endmacro"))
    if kind == 9:
        return tag(r, f"call mac({e()})") + body() + tag(r, "endcall")
    if kind == 10:
        return tag(r, f"filter {r.choice(['upper', 'trim', 'indent', 'replace(1, 2)'])}") + \
            body() + tag(r, "endfilter")
    if kind == 11:
        return r.choice([tag(r, f"with i = {e()}") + body() + tag(r, "endwith"),
                         tag(r, "generation") + body() + tag(r, "endgeneration"),
                         tag(r, "raw") + r.choice(TEXTS) + "{{ x }}" + tag(r, "endraw")])
    return f"{{#{r.choice(['', '-', '+'])} note {r.choice(['', '-', '+'])}#}}"


def template(r, depth):
    out = ""
    for _ in range(r.randint(1, 3)):
        out += r.choice(SPACES) + (statement(r, depth) if r.random() < 0.75 else r.choice(TEXTS))
    return out + r.choice(SPACES)


# ---- the cases ----------------------------------------------------------------------------------

UNDEFINED_BY_PYTHON = re.compile(r" at 0x|<generator|<built-in|<bound method|<function|<class|"
                                 r"_iterator object|<Macro|<jinja2|iterator object|<LoopContext|"
                                 r"<Namespace|<filter|Undefined|MISSING")


def too_large(text):
    return any(int(x) >= 2**63 for x in re.findall(r"[0-9]{19,}", text) if len(x) < 4000)


def case(env, source):
    """[template, text], or None where the result is not Python's to define."""
    try:
        text = env.from_string(source).render(**copy.deepcopy(VARIABLES))
    except RecursionError:
        return None
    except Exception as error:  # pylint: disable=broad-except
        if isinstance(error, (OverflowError, MemoryError)) or "complex" in str(error):
            return None
        return [source, None]
    if UNDEFINED_BY_PYTHON.search(text) or too_large(text) or len(text) > 3000 or "j)" in text:
        return None
    return [source, text]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--random", type=int, default=400)
    parser.add_argument("out")
    args = parser.parse_args()
    env, r = environment(), random.Random(args.seed)
    cases = [case(env, source) for source in HAND if source]
    missing = [source for source, got in zip(HAND, cases) if got is None]
    if missing:
        raise SystemExit(f"not Python's to define: {missing}")
    failing, wanted = 0, len(cases) + args.random
    while len(cases) < wanted:
        prefix = r.choice(["", "", "{% set ns = namespace(x=1) %}",
                           "{% macro mac(a, b=2) %}[{{ a }}{{ b }}]{% endmacro %}"])
        if r.random() < 0.6:
            source = prefix + "{{ " + expression(r, 3) + " }}"
        else:
            source = prefix + template(r, 3)
        got = case(env, source)
        if got is None or (got[1] is None and failing * 4 > len(cases)):
            continue
        failing += got[1] is None
        cases.append(got)
    rows = ",\n".join(json.dumps(c, ensure_ascii=True) for c in cases)
    with open(args.out, "w", encoding="utf-8") as f:
        f.write('{"variables":' + json.dumps(VARIABLES) + ',\n"cases":[\n' + rows + "\n]}\n")


if __name__ == "__main__":
    main()
