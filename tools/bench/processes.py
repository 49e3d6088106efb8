"""CPU time, memory and placement of processes, from /proc."""
import os
import pathlib
import subprocess


def cpu_ns(pid):
    """What all threads of a process ran so far."""
    total = 0
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        try:
            total += int((task / "schedstat").read_text().split()[0])
        except FileNotFoundError:
            pass
    return total


def children(pid):
    found = []
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        found += [int(c) for c in (task / "children").read_text().split()]
    return found


def parent(pid):
    return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def family(pid):
    return [pid] + [p for child in children(pid) for p in family(child)]


def pss_kib(pids):
    total = 0
    for pid in pids:
        for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total


def place(pid, cpus):
    """Moves a process with all its threads; nothing on a machine with one CPU."""
    if cpus:
        subprocess.run(["taskset", "-apc", cpus, str(pid)], check=True, stdout=subprocess.DEVNULL)


def halves(n=1):
    """The first n CPUs for what is measured, the others for what loads and answers it; where there are not more, all share all."""
    cpus = list(map(str, sorted(os.sched_getaffinity(0))))
    return (",".join(cpus[:n]), ",".join(cpus[n:])) if len(cpus) > n else ("", "")
