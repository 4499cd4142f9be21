#!/usr/bin/env python3
"""Fails where an #include goes against the layering of docs/ARCHITECTURE.md.

    check_includes.py [REPOSITORY]

A room is a folder of src/. DIRECT is the whole rule: a room may include itself, the rooms named
here, what those may include in turn, and the public header.
"""
import pathlib
import re
import sys

DIRECT = {
    "base": [],
    "format": ["base"],
    "kern": ["base"],
    "io": ["base"],
    "store": ["format", "io"],
    "cache": ["store"],
    "quant": ["kern", "format"],
    "model": ["kern", "cache"],
    "text": ["base"],
    "sample": ["base"],
    "constrain": ["text"],
    "chat": ["text", "sample"],
    "engine": ["model", "text", "sample", "quant"],
    "eval": ["base"],
    "hub": ["base"],
    "cli": ["base", "server"],
    "server": ["base"],
    "tune": ["base"],
}
PUBLIC = "sluice.h"
# The public header may need nothing but the C library.
PUBLIC_MAY_INCLUDE = {"stdbool.h", "stddef.h", "stdint.h"}

INCLUDE = re.compile(r'^\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>|(\S+))')


def reachable(room):
    """The rooms that `room` may include, itself among them."""
    seen, waiting = set(), [room]
    while waiting:
        current = waiting.pop()
        if current not in seen:
            seen.add(current)
            waiting.extend(DIRECT[current])
    return seen


def check_target(root, path, room, target):
    """What is wrong with `#include "target"` in a file of a room (None: outside src/), or None."""
    if target.endswith(".c"):
        return f'includes a .c file: "{target}"'
    if target == PUBLIC:
        return None
    if (path.parent / target).is_file() and "/" not in target:
        return None  # its own neighbour
    source = root / "src"
    if not (source / target).is_file():
        if room is None and (root / "tests" / "support" / target).is_file():
            return None
        return f'"{target}" is not a header of src/ (written as "room/name.h")'
    if room is None:
        return None  # tests and benches see everything
    other = target.split("/")[0]
    if other not in reachable(room):
        return f'{room} must not include {other} ("{target}")'
    return None


def check_file(root, path):
    relative = path.relative_to(root)
    room = relative.parts[1] if relative.parts[0] == "src" else None
    if room is not None and room not in DIRECT:
        yield f"{relative}: no rule for the room {room}"
        return
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        quoted, system, other = match.groups()
        if other:
            yield f"{relative}:{number}: an include through a macro hides what it names"
        elif relative.parts[0] == "include":
            if system not in PUBLIC_MAY_INCLUDE:
                yield f"{relative}:{number}: the public header includes {quoted or system}"
        elif quoted:
            problem = check_target(root, path, room, quoted)
            if problem:
                yield f"{relative}:{number}: {problem}"


def check_tree(root):
    """All problems, and the number of files that were looked at."""
    problems, count = [], 0
    for folder in ("include", "src", "tests", "bench"):
        for path in sorted((root / folder).rglob("*.[ch]")):
            count += 1
            problems.extend(check_file(root, path))
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
