"""Sums up what ctest wrote: time and counts by label, each skipped test with its reason, each failed one.

usage: check-report.py [--phase NAME JUNIT TESTS_JSON]... [--unstable PHASE TEST]... [--broken TEXT]...

TESTS_JSON is `ctest --show-only=json-v1`, which knows the labels. Each --broken is a failed test: a phase
that was cut or did not build. The last line is "N passed, N failed, N skipped"; exit code 1 when something failed."""

import json
import sys
import xml.etree.ElementTree as ElementTree


def labels_of(path):
    with open(path, encoding="utf-8") as f:
        tests = json.load(f)["tests"]
    return {t["name"]: (p["value"] or ["none"])[0] for t in tests for p in t.get("properties", []) if p["name"] == "LABELS"}


def reason(case):
    """What the test says after SKIPPED, else its last line."""
    lines = [line for line in (case.findtext("system-out") or "").splitlines() if line.strip()]
    lines = [line for line in lines if "SKIPPED: " in line] or lines
    return lines[-1].strip() if lines else "no reason given"


def read_phase(name, junit, tests, rows, skipped, failed):
    labels = labels_of(tests)
    for case in ElementTree.parse(junit).getroot().iter("testcase"):
        row = rows.setdefault((name, labels.get(case.get("name"), "none")), [0, 0, 0, 0.0])
        row[3] += float(case.get("time") or 0)
        if case.find("skipped") is not None or case.get("status") in ("notrun", "disabled"):
            message = (case.find("skipped").get("message") or "") if case.find("skipped") is not None else ""
            if message.startswith("SKIP_RETURN_CODE"):
                row[2] += 1
                skipped.append(f"{name} {case.get('name')}: {reason(case)}")
                continue
            row[1] += 1  # not run for another cause: a missing program, a failed fixture
            failed.append(f"{name} {case.get('name')}: did not run: {message or case.get('status')}")
        elif case.get("status") == "run":
            row[0] += 1
        else:
            row[1] += 1
            failed.append(f"{name} {case.get('name')}")


def main(words):
    rows, skipped, failed, unstable = {}, [], [], []
    while words:
        if words[0] == "--phase":
            read_phase(*words[1:4], rows, skipped, failed)
            words = words[4:]
        elif words[0] == "--unstable":
            name = " ".join(words[1:3])
            if name not in failed:
                unstable.append(f"{name}: failed, then passed when it was run again")
            words = words[3:]
        else:
            failed.append(words[1])
            rows[(words[1].split(":")[0], "FAILED")] = [0, 1, 0, 0.0]
            words = words[2:]
    print(f"{'phase':10} {'label':12} {'passed':>7} {'failed':>7} {'skipped':>8} {'seconds':>9}")
    for (phase, label), (passed, bad, skips, seconds) in rows.items():
        print(f"{phase:10} {label:12} {passed:7} {bad:7} {skips:8} {seconds:9.1f}")
    for title, lines in (("skipped", skipped), ("UNSTABLE", unstable), ("FAILED", failed)):
        for line in lines:
            print(f"{title}: {line}")
    totals = [sum(row[i] for row in rows.values()) for i in range(3)]
    if totals[0] == 0:
        print("FAILED: nothing was run")
        totals[1] += not totals[1]
    print(f"{totals[0]} passed, {totals[1]} failed, {totals[2]} skipped")
    return 1 if totals[1] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
