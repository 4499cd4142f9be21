#!/usr/bin/env python3
"""Sums up the reports of one or several test runs.

    junit_summary.py LABEL=REPORT.xml ...

Prints the failed tests, the skipped ones with their reasons, and last one line
"N passed, N failed" (", N skipped" where there are any). A report that is missing, unreadable or
empty counts as one failure, so that a run that never began cannot pass. Exits with 1 where
something failed.
"""
import sys
import xml.etree.ElementTree as ElementTree


def read_report(path):
    """[(name, outcome, reason)] with outcome "passed", "failed" or "skipped"."""
    results = []
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        failure = case.find("failure")
        skipped = case.find("skipped")
        output = case.findtext("system-out") or ""
        lines = [line.strip() for line in output.splitlines() if line.strip()]
        if failure is not None or case.get("status") == "fail":
            message = failure.get("message") if failure is not None else None
            outcome, reason = "failed", message or "failed"
        elif skipped is not None or case.get("status") in ("notrun", "disabled"):
            reason = lines[-1].removeprefix("skipped: ") if lines else "no reason given"
            outcome = "skipped"
        else:
            outcome, reason = "passed", ""
        results.append((case.get("name"), outcome, reason))
    return results


def main(arguments):
    if not arguments:
        print(__doc__.strip(), file=sys.stderr)
        return 2
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    details = {"failed": [], "skipped": []}
    for argument in arguments:
        label, _, path = argument.partition("=")
        try:
            results = read_report(path)
        except (OSError, ElementTree.ParseError) as error:
            results = [("no report", "failed", str(error))]
        if not results:
            results = [("no report", "failed", "the run held no test")]
        for name, outcome, reason in results:
            counts[outcome] += 1
            if outcome != "passed":
                details[outcome].append(f"{label}: {name}: {reason}")
    for outcome in ("failed", "skipped"):
        for line in details[outcome]:
            print(f"{outcome}: {line}")
    skipped = f", {counts['skipped']} skipped" if counts["skipped"] else ""
    print(f"{counts['passed']} passed, {counts['failed']} failed{skipped}")
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
