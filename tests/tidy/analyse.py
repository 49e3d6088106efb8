"""clang-tidy or cppcheck over every source that the build compiles.

usage: analyse.py clang-tidy|cppcheck --root DIR --build DIR

Prints how many files were looked at and fails on none. fixtures/analyse/faulty.c is looked at too and must be caught."""

import argparse
import concurrent.futures
import json
import os
import re
import subprocess
import sys
import time
import zlib

HERE = os.path.dirname(os.path.abspath(__file__))
FIXTURE = os.path.join(HERE, "fixtures", "analyse", "faulty.c")
SECONDS_MAX = 280
# As CMakeLists.txt says to clang; the build that is read may be gcc's.
LIKE_THE_BUILD = ["--extra-arg=-Wno-" + w for w in ("sign-conversion", "missing-field-initializers", "string-plus-int")]


def run(command, seconds):
    found = subprocess.run(command, capture_output=True, text=True, timeout=max(seconds, 1), check=False)
    return found.stdout + found.stderr


def clang_tidy(root, build, files, deadline):
    def one(path):
        out = run(["clang-tidy", "--quiet", *LIKE_THE_BUILD, "-p", build, path], deadline - time.monotonic())
        return [line for line in out.splitlines() if re.search(r": (warning|error): ", line)]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        faults = sorted({line for lines in pool.map(one, files) for line in lines})
    fixture = run(["clang-tidy", "--quiet", "--config-file", os.path.join(root, ".clang-tidy"), FIXTURE, "--"], 60)
    return faults, "bugprone-suspicious-semicolon" in fixture


def cppcheck(root, build, files, deadline):
    common = ["cppcheck", "--quiet", "--enable=warning,portability", "--inline-suppr", "--std=c11",
              "--library=" + os.path.join(HERE, "cppcheck-macros.cfg"),
              "--suppressions-list=" + os.path.join(HERE, "cppcheck-suppressions.txt"),
              "--template={file}:{line}: {severity}: {message} [{id}]"]
    with open(os.path.join(HERE, "cppcheck-macros.cfg"), "rb") as f:  # cppcheck does not notice that it changed
        cache = os.path.join(build, f"cppcheck-{zlib.crc32(f.read()):08x}")
    os.makedirs(cache, exist_ok=True)
    out = run(common + ["--project=" + os.path.join(build, "compile_commands.json"), f"-j{os.cpu_count()}",
                        "--cppcheck-build-dir=" + cache, "-i" + os.path.join(root, "build"), "-i/usr"], deadline - time.monotonic())
    faults = sorted({line for line in out.splitlines() if re.match(r"\S+:\d+: \w+: ", line)})
    return faults, "arrayIndexOutOfBounds" in run(common + [FIXTURE], 60)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("tool", choices=["clang-tidy", "cppcheck"])
    parser.add_argument("--root", required=True)
    parser.add_argument("--build", required=True)
    args = parser.parse_args()
    with open(os.path.join(args.build, "compile_commands.json"), encoding="utf-8") as f:
        files = sorted({c["file"] for c in json.load(f) if not c["file"].startswith("/usr/")})  # llhttp: a peer in tests
    analyse = clang_tidy if args.tool == "clang-tidy" else cppcheck
    began = time.monotonic()
    try:
        faults, sees = analyse(args.root, args.build, files, began + SECONDS_MAX)
    except subprocess.TimeoutExpired:
        print(f"{args.tool}: not finished within {SECONDS_MAX} s")
        return 1
    for line in faults:
        print(line)
    if not sees:
        print(f"{args.tool}: did not see the fault in {FIXTURE}")
    print(f"{args.tool}: {len(files)} files checked, {len(faults)} faults, {time.monotonic() - began:.0f} s")
    return 1 if faults or not sees or not files else 0


if __name__ == "__main__":
    sys.exit(main())
