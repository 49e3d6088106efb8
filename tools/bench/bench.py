"""The benchmarks by name. Run them with tools/bench/run."""
import argparse
import datetime
import importlib
import os
import pathlib
import platform
import shlex
import shutil
import sys
import time

import page
from figures import write_machine

# name: (module, its function, the programs it needs beside what the build needs)
LOAD = ["wrk", "haproxy", "nginx", "nsenter", "taskset"]
BENCHES = {
    "warm": ("warm", "warm", LOAD),
    "tls": ("warm", "tls", LOAD),
    "hop": ("warm", "hop", LOAD),
    "loops": ("warm", "loops", LOAD),
    "bodies": ("bodies", "run", [*LOAD, "curl"]),
    "open": ("first_request", "run", []),
    "start": ("cold_start", "run", ["crun", "runc", "tar"]),
    "vm": ("vm.machines", "run", ["qemu-system-x86_64", "ip"]),
    "refill": ("refill", "run", []),
    "replication": ("replication", "run", ["wrk", "etcd"]),
}


def machine():
    model = next((line.split(":")[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.machine())
    memory = int(pathlib.Path("/proc/meminfo").read_text().split()[1]) >> 20
    return f"{os.cpu_count()} x {model}, {memory} GiB, Linux {platform.release().split('-')[0]}"


def arguments():
    p = argparse.ArgumentParser(prog="tools/bench/run")
    p.add_argument("what", nargs="*", metavar="what", help=f"all (the default), page, or of {', '.join(BENCHES)}")
    p.add_argument("--rounds", type=int, default=0, help="paired rounds; 0: as many as each benchmark likes")
    p.add_argument("--csv", help="appends every round's figures: table, figure, unit, peer, round, value")
    p.add_argument("--page", action="store_true",
                   help="puts the figures into docs/performance.md and its plots, in place of those of the same benchmarks")
    a = p.parse_args()
    if not 0 <= a.rounds <= 1000:
        p.error("--rounds: 0 to 1000 are allowed")
    unknown = [w for w in a.what if w not in (*BENCHES, "all", "page")]
    if unknown or ("page" in a.what and len(a.what) > 1):
        p.error(f"what to measure: all, page, or any of {' '.join(BENCHES)}")
    return a


def measure(names, a):
    """The tables; a benchmark that fails is told, and leaves the others their turn."""
    failed, all_tables = [], []
    for name in names:
        module, function, _ = BENCHES[name]
        began = time.monotonic()
        try:
            tables = getattr(importlib.import_module(module), function)(a.rounds)
        except Exception as e:  # whatever it is: the others' figures are still wanted
            failed.append(name)
            print(f"\n{name}: failed: {e!r}", file=sys.stderr)
            continue
        for table in tables:
            table.show()
            if a.csv:
                table.write(a.csv)
        all_tables += [(name, table) for table in tables]
        print(f"\n({name}: {time.monotonic() - began:.0f} s)", flush=True)
    return all_tables, failed


def main():
    a = arguments()
    if a.what == ["page"]:
        page.fill()
        return
    names = list(BENCHES) if not a.what or "all" in a.what else a.what
    if os.geteuid() != 0:
        sys.exit("tools/bench/run: containers need root")
    missing = sorted({t for n in names for t in BENCHES[n][2] if not shutil.which(t)})
    if missing:
        sys.exit("tools/bench/run: missing: " + " ".join(missing))
    where = f"{machine()}, load {os.getloadavg()[0]:.1f}, {datetime.date.today()}"
    print(f"machine: {where}")
    if a.csv:
        write_machine(a.csv, where)
    tables, failed = measure(names, a)
    print("\nMedians of paired rounds, ± the quartiles' distance; a ratio is the median over the rounds.")
    print("again: tools/bench/run " + shlex.join(sys.argv[1:]))
    if a.page:
        page.replace(tables, where)
        page.fill()
    if failed:
        sys.exit("failed: " + " ".join(failed))


main()
