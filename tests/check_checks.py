#!/usr/bin/env python3
"""The checks of the source tree, checked: each rule is broken once in a tree made for it, and the
check must say so; then the summary of test reports."""
import contextlib
import io
import pathlib
import sys
import tempfile

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tools")]
import check_house  # noqa: E402
import check_includes  # noqa: E402
import junit_summary  # noqa: E402

CLEAN = {
    "include/sluice.h": "#ifndef SLUICE_H\n#define SLUICE_H\n#include <stdint.h>\n#endif\n",
    "src/base/arena.h": "#ifndef SL_BASE_ARENA_H\n#define SL_BASE_ARENA_H\n#endif\n",
    "src/io/io.h": '#ifndef SL_IO_IO_H\n#define SL_IO_IO_H\n#include "sluice.h"\n#endif\n',
    "src/cache/cache.h": "#ifndef SL_CACHE_CACHE_H\n#define SL_CACHE_CACHE_H\n#endif\n",
    "src/cache/cache.c": '#include "cache/cache.h"\n#include "base/arena.h"\n#include "io/io.h"\n',
    "src/cli/main.c": '#include "base/arena.h"\n#include "sluice.h"\nint main(void)\n{\n'
                      '    printf("x");\n}\n',
    "tests/test_cache.c": '#include "cache/cache.h"\n#include "helper.h"\n',
    "tests/support/helper.h": "#ifndef HELPER_H\n#define HELPER_H\n#endif\n",
}

LONG = "    x();\n"

# (files laid over the clean tree, a part of the message that must come)
BROKEN_INCLUDES = [
    ({"src/io/reader.c": '#include "cache/cache.h"\n'}, "io must not include cache"),
    ({"src/base/pool.c": '#include "io/io.h"\n'}, "base must not include io"),
    ({"src/cli/cmd_run.c": '#include "cache/cache.h"\n'}, "cli must not include cache"),
    ({"src/eval/nll.c": '#  include "io/io.h"\n'}, "eval must not include io"),
    ({"src/io/all.c": '#include "io/io.c"\n'}, "includes a .c file"),
    ({"tests/test_io.c": '#include "../src/io/io.c"\n'}, "includes a .c file"),
    ({"src/io/a.c": '#include "io/missing.h"\n'}, "is not a header of src/"),
    ({"src/io/b.c": '#include "../base/arena.h"\n'}, "is not a header of src/"),
    ({"src/io/c.c": "#include IO_HEADER\n"}, "through a macro"),
    ({"src/attic/d.c": "\n"}, "no rule for the room attic"),
    ({"include/sluice.h": '#include "base/arena.h"\n'}, "the public header includes"),
    ({"include/sluice.h": "#include <jansson.h>\n"}, "the public header includes"),
]

BROKEN_HOUSE = [
    ({"src/io/wide.c": "/* " + "x" * 98 + " */\n"}, "104 columns"),
    ({"src/io/tab.c": "\tx\n"}, "a tab"),
    ({"src/io/trail.c": "x; \n"}, "spaces at the end"),
    ({"docs/A.md": "trailing \n"}, "spaces at the end"),
    ({"src/io/open.c": "x;"}, "no line break"),
    ({"src/io/big.c": "x;\n" * 1000}, "1000 lines"),
    ({"src/io/long.c": "void f(void)\n{\n" + LONG * 69 + "}\n"}, "a function of 71 lines"),
    ({"src/io/word.c": "/* TO" "DO: later */\n"}, "says TO" "DO"),
    ({"docs/B.md": "This is a stu" "b.\n"}, "says stu" "b"),
    ({"src/io/path.c": 'x = "/wo' 'rk/me";\n'}, "a path of somebody's machine"),
    ({"tools/t.sh": "cd /ho" "me/me\n"}, "a path of somebody's machine"),
    ({"src/io/os.c": "#ifdef __linux__\n#endif\n"}, "__linux__ belongs"),
    ({"src/io/os.c": "#if defined(X) && defined(__APPLE__)\n#endif\n"}, "__APPLE__ belongs"),
    ({"src/kern/ref/dot.c": "#ifdef __AVX2__\n#endif\n"}, "__AVX2__ belongs"),
    ({"src/io/guard.h": "#ifndef GUARD_H\n#define GUARD_H\n#endif\n"}, "not SL_IO_GUARD_H"),
    ({"tests/support/bare.h": "int x;\n"}, "no header guard"),
    ({"src/base/io.h": "#ifndef SL_BASE_IO_H\n#define SL_BASE_IO_H\n#endif\n"}, "is taken by"),
    ({"src/io/print.c": 'void f(void)\n{\n    fprintf(stderr, "x");\n}\n'}, "calls fprintf"),
    ({"src/engine/quit.c": "void f(void)\n{\n    exit(1);\n}\n"}, "calls exit"),
]

# Things that look like a breach and are none.
CLEAN_HOUSE = [
    {"src/io/edge.c": "void f(void)\n{\n" + LONG * 68 + "}\n"},
    {"src/io/wide.c": "/* " + "·" * 94 + " */\n"},
    {"src/io/text.c": '/* printf( */ const char *s = "exit(1)"; int n = snprintf(b, 1, "x");\n'},
    {"src/base/mem_linux.c": "#ifdef __x86_64__\n#endif\n"},
    {"src/kern/x86/dot.c": "#ifdef __AVX2__\n#endif\n"},
    {"tests/test_tmp.c": 'char t[] = "/tmp/x-XXXXXX";\n'},
    {"tests/corpus/json/a.json": "{}  \t"},
]


def write_tree(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def problems_of(check, *layers):
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        for files in layers:
            write_tree(root, files)
        return check.check_tree(root)[0]


def check_rules():
    for check, broken in ((check_includes, BROKEN_INCLUDES), (check_house, BROKEN_HOUSE)):
        assert problems_of(check, CLEAN) == [], problems_of(check, CLEAN)
        for files, message in broken:
            problems = problems_of(check, CLEAN, files)
            assert len(problems) == 1 and message in problems[0], (files, message, problems)
    for files in CLEAN_HOUSE:
        assert problems_of(check_house, CLEAN, files) == [], files


def summary_of(reports):
    with tempfile.TemporaryDirectory() as folder:
        arguments = []
        for i, report in enumerate(reports):
            path = pathlib.Path(folder) / f"{i}.xml"
            if report is not None:
                path.write_text(report, encoding="utf-8")
            arguments.append(f"run{i}={path}")
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            status = junit_summary.main(arguments)
        return status, printed.getvalue().splitlines()


def check_summary():
    passed = '<testsuite><testcase name="a" status="run"/></testsuite>'
    skipped = ('<testsuite><testcase name="b" status="notrun"><skipped message="77"/>'
               "<system-out>first\nno reference data\n</system-out></testcase></testsuite>")
    failed = ('<testsuite><testcase name="c" status="fail"><failure message="Timeout"/>'
              "</testcase></testsuite>")
    assert summary_of([passed]) == (0, ["1 passed, 0 failed"])
    assert summary_of([passed, skipped]) == (
        0, ["skipped: run1: b: no reference data", "1 passed, 0 failed, 1 skipped"])
    assert summary_of([passed, failed]) == (
        1, ["failed: run1: c: Timeout", "1 passed, 1 failed"])
    for nothing in (None, "", "<testsuite/>", "<testsuite>"):
        status, lines = summary_of([passed, nothing])
        assert status == 1 and lines[-1] == "1 passed, 1 failed", (nothing, lines)


if __name__ == "__main__":
    check_rules()
    check_summary()
    print(f"{len(BROKEN_INCLUDES) + len(BROKEN_HOUSE)} breaches seen, "
          f"{len(CLEAN_HOUSE)} near misses let through")
