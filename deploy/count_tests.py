"""Counts test cases: those of gtest's JSON reports, and ctest's own tests that write none.

usage: count_tests.py REPORT_DIR CTEST_LOG
"""

import json
import pathlib
import re
import sys


def main() -> None:
    reports, log = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]).read_text(errors="replace")
    passed = failed = skipped = 0
    for report in sorted(reports.glob("*.json")):
        for suite in json.loads(report.read_text())["testsuites"]:
            for case in suite["testsuite"]:
                name = f'{suite["name"]}.{case["name"]}'
                if case.get("failures"):
                    failed += 1
                    print("failed:", name)
                elif case["result"] == "SKIPPED":
                    skipped += 1
                    print("skipped:", name)
                elif case["result"] == "COMPLETED":
                    passed += 1
    with_report = {report.stem for report in reports.glob("*.json")}
    for name, outcome in re.findall(r"Test +#\d+: (\S+) \.+ *\**(Passed|Failed|Timeout|Exception|Not Run|Subprocess)", log):
        if name not in with_report:
            if outcome == "Passed":
                passed += 1
            else:
                failed += 1
                print("failed:", name, outcome)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")


main()
