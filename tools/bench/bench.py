"""The benchmarks by name. Run them with tools/bench/run."""
import argparse
import importlib
import os
import pathlib
import platform
import shlex
import shutil
import sys

NAMES = ["warm", "open", "start"]
MODULES = {"warm": "warm", "open": "first_request", "start": "cold_start"}
NEEDS = {"warm": ["wrk", "haproxy", "nsenter", "taskset"], "open": [], "start": ["crun", "tar"]}


def machine():
    model = next((line.split(":")[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.machine())
    memory = int(pathlib.Path("/proc/meminfo").read_text().split()[1]) >> 20
    return f"{os.cpu_count()} x {model}, {memory} GiB, Linux {platform.release().split('-')[0]}"


def main():
    p = argparse.ArgumentParser(prog="tools/bench/run")
    p.add_argument("what", nargs="?", default="all", choices=[*NAMES, "all"])
    p.add_argument("--rounds", type=int, default=0, help="paired rounds; 0: as many as each benchmark likes")
    p.add_argument("--csv", help="appends every round's figures: table, figure, unit, peer, round, value")
    p.add_argument("--build", help="a build directory to measure instead of build/release")
    a = p.parse_args()
    if not 0 <= a.rounds <= 1000:
        sys.exit("--rounds: 0 to 1000 are allowed")
    names = NAMES if a.what == "all" else [a.what]
    if os.geteuid() != 0:
        sys.exit("tools/bench/run: containers need root")
    missing = [t for n in names for t in NEEDS[n] if not shutil.which(t)]
    if missing:
        sys.exit("tools/bench/run: missing: " + " ".join(missing))
    print(f"machine: {machine()}, load {os.getloadavg()[0]:.1f}")
    for name in names:
        for table in importlib.import_module(MODULES[name]).run(a.rounds):
            table.show()
            if a.csv:
                table.write(a.csv)
    print("\nMedians of paired rounds, ± the quartiles' distance; a ratio is the median over the rounds.")
    print("again: tools/bench/run " + shlex.join(sys.argv[1:]))


main()
