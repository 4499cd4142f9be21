#!/usr/bin/env python3
"""Fails where a file breaks one of the house's rules (CONTRIBUTING.md lists them).

    check_house.py [REPOSITORY]

Only what a few lines can decide without doubt is checked here; the rest is for readers.
"""
import pathlib
import re
import subprocess
import sys

COLUMNS = 100
FILE_LINES = 1000
FUNCTION_LINES = 70  # from the opening brace to the closing one

C_FILES = {".c", ".h"}
CODE_FILES = C_FILES | {".py", ".sh"}
TEXT_FILES = CODE_FILES | {".md", ".txt", ".cmake", ".json", ".jinja"}
# What the files of these folders hold is data from elsewhere, kept as it came.
DATA_FOLDERS = ("models/", "tests/data/", "tests/corpus/")

# Split, so that this file does not hold them.
FORBIDDEN_WORDS = re.compile(r"\b(TO" r"DO|FIX" r"ME|X" r"XX)\b|\b[Ss]tu" r"b(s|bed)?\b")
PRIVATE_PATH = re.compile(r"(?<![\w.$}>])/(ho" r"me|wo" r"rk|ro" r"ot|Us" r"ers)/\w")

PLATFORM_MACRO = re.compile(
    r"^\s*#\s*(?:if|ifdef|ifndef|elif)\b.*\b(__linux__|__APPLE__|_WIN32|__FreeBSD__|__unix__|"
    r"__x86_64__|__i386__|__aarch64__|__arm__|__AVX\w*__|__SSE\w*__|__FMA__|__ARM_\w+)\b")
# Where a platform or an instruction set is chosen; everywhere else it is a file's name.
PLATFORM_FILES = re.compile(
    r"(_linux|_darwin)\.[ch]$|^src/kern/(x86|arm)/|^src/kern/(kern\.c|levels\.h)$|^(tests|bench)/")

# The library neither prints nor ends the process.
LIBRARY_CALL = re.compile(r"\b(printf|fprintf|vprintf|puts|fputs|putchar|perror|exit|_exit|abort)"
                          r"\s*\(")

COMMENT_OR_STRING = re.compile(
    r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)


def blank(match):
    """Spaces in the place of a comment or a string; line breaks stay, for the line numbers."""
    return re.sub(r"[^\n]", " ", match.group(0))


def check_lines(name, suffix, lines):
    for number, line in enumerate(lines, 1):
        where = f"{name}:{number}"
        if suffix in CODE_FILES and len(line) > COLUMNS:
            yield f"{where}: {len(line)} columns (at most {COLUMNS})"
        if line != line.rstrip():
            yield f"{where}: spaces at the end of the line"
        if suffix in CODE_FILES and "\t" in line:
            yield f"{where}: a tab"
        if FORBIDDEN_WORDS.search(line):
            yield f"{where}: says {FORBIDDEN_WORDS.search(line).group(0)}"
        if PRIVATE_PATH.search(line):
            yield f"{where}: a path of somebody's machine: {PRIVATE_PATH.search(line).group(0)}…"
        if suffix in C_FILES and PLATFORM_MACRO.match(line) and not PLATFORM_FILES.search(name):
            yield (f"{where}: {PLATFORM_MACRO.match(line).group(1)} belongs into a _linux.c or "
                   "_darwin.c file, or under kern/x86 or kern/arm")


def check_functions(name, lines):
    """A function's body opens with a brace in the first column and ends with one there."""
    start = None
    for number, line in enumerate(lines, 1):
        if line == "{":
            start = number
        elif line.startswith("}") and start is not None:
            length = number - start + 1
            if length > FUNCTION_LINES:
                yield f"{name}:{start}: a function of {length} lines (at most {FUNCTION_LINES})"
            start = None


def check_guard(name, text):
    guards = re.findall(r"^#ifndef (\w+_H)\n#define \1$", text, re.MULTILINE)
    parts = pathlib.PurePosixPath(name).parts
    stem = pathlib.PurePosixPath(name).stem.upper()
    if parts[0] == "src":
        rooms = [part.upper() for part in parts[1:-1]]
        wanted = ["_".join(["SL", *rooms, stem, "H"])]
        if rooms[-1:] == [stem]:
            wanted.append("_".join(["SL", *rooms, "H"]))  # of cli/cli.h, SL_CLI_H will do
        if not guards or guards[0] not in wanted:
            yield f"{name}: the header guard is not {wanted[0]}"
    elif not guards:
        yield f"{name}: no header guard"


def check_library_calls(name, text):
    parts = pathlib.PurePosixPath(name).parts
    if parts[0] != "src" or parts[1] == "cli":
        return
    code = COMMENT_OR_STRING.sub(blank, text)
    for number, line in enumerate(code.splitlines(), 1):
        match = LIBRARY_CALL.search(line)
        if match:
            yield f"{name}:{number}: the library calls {match.group(1)}"


def check_text(name, text):
    """All problems of one file, given its path in the repository and its content."""
    suffix = pathlib.PurePosixPath(name).suffix
    lines = text.splitlines()
    yield from check_lines(name, suffix, lines)
    if suffix in CODE_FILES and len(lines) >= FILE_LINES:
        yield f"{name}: {len(lines)} lines (under {FILE_LINES})"
    if text and not text.endswith("\n"):
        yield f"{name}: no line break at the end"
    if suffix in C_FILES:
        yield from check_functions(name, lines)
        yield from check_library_calls(name, text)
    if suffix == ".h":
        yield from check_guard(name, text)


def check_names(names):
    seen = {}
    for name in names:
        if not name.startswith(("src/", "include/")) or not name.endswith((".c", ".h")):
            continue
        base = pathlib.PurePosixPath(name).name
        if base in seen:
            yield f"{name}: the name {base} is taken by {seen[base]}"
        seen[base] = name


def list_files(root):
    """Files that belong to the repository; without git, every file outside build folders."""
    try:
        result = subprocess.run(
            ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others",
             "--exclude-standard"], capture_output=True, check=True)
        names = result.stdout.decode().split("\0")
    except (OSError, subprocess.CalledProcessError):
        names = [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()]
        names = [name for name in names if not name.startswith(("build/", ".git/", ".venv/"))]
    return sorted(name for name in set(names) if name and (root / name).is_file())


def is_checked(name):
    if name.startswith(DATA_FOLDERS):
        return False
    path = pathlib.PurePosixPath(name)
    return path.suffix in TEXT_FILES or path.name in ("Makefile", "run")


def check_tree(root):
    """All problems, and the number of files that were looked at."""
    names = list_files(root)
    problems, count = list(check_names(names)), 0
    for name in filter(is_checked, names):
        count += 1
        try:
            text = (root / name).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            problems.append(f"{name}: not UTF-8")
            continue
        problems.extend(check_text(name, text))
    return problems, count


def main(arguments):
    root = pathlib.Path(arguments[0] if arguments else ".").resolve()
    problems, count = check_tree(root)
    for problem in problems:
        print(problem)
    print(f"{count} files, {len(problems)} problems")
    return 1 if problems or count == 0 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
