"""Runs a command and says what it left on the machine: processes, cgroups, interfaces (veth pairs, taps), mounts and scratch folders of
Berth's tests. A private libvirtd, QEMUs and the memory of their templates are processes, or go with these.

usage: check-leftovers.py REPORT COMMAND...

Processes that lose their parent come to this one, so every process that the command started, and none of another run on
this machine, is found when it is over. They get a few seconds to end, then they are named and ended. What is left
of the rest is named only if it is new and belongs to no living process. REPORT gets a line for each; it is empty if
nothing was left. The exit code is the command's; 124 when this process was told to end (SIGTERM)."""

import contextlib
import ctypes
import glob
import os
import re
import signal
import subprocess
import sys
import time

PR_SET_CHILD_SUBREAPER = 36
SECONDS_TO_END = 10
# What a sandbox's processes are called by: berth-<hash of cluster and node>-<sandbox>; a container's shim, a machine's QEMU and shim.
SANDBOX = re.compile(r"\bberth-([0-9a-f]{8})-")
# Its cgroup: of a container so, of a machine as libvirt names it, which may escape.
CGROUP = re.compile(r"berth(?:-|\\x2d)([0-9a-f]{8})(?:-|\\x2d)[0-9a-f]{1,16}\b")


def read(path):
    with contextlib.suppress(OSError), open(path, "rb") as f:
        return f.read().decode(errors="replace")
    return ""


def processes():
    """pid -> (parent, command) of all that are no zombies."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        stat = read(f"/proc/{pid}/stat").rpartition(")")[2].split()
        if len(stat) > 1 and stat[0] not in "ZX":
            command = read(f"/proc/{pid}/cmdline").replace("\0", " ").strip()
            found[int(pid)] = (int(stat[1]), command or read(f"/proc/{pid}/comm").strip())
    return found


def ours():
    """What runs below this process, the eldest first."""
    all_of_them = processes()
    found, todo = {}, [os.getpid()]
    while todo:
        parent = todo.pop(0)
        children = {pid: command for pid, (p, command) in all_of_them.items() if p == parent}
        found.update(children)
        todo += children
    return found


def reap():
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def host_objects():
    """What carries a name of Berth's tests on this machine and has no living owner."""
    alive = processes()
    hashes = {m.group(1) for _, command in alive.values() if (m := SANDBOX.search(command))}
    found = set()
    for folder, folders, _ in os.walk("/sys/fs/cgroup"):
        for name in folders:
            m = CGROUP.search(name)
            if m and m.group(1) not in hashes:
                found.add(f"cgroup {folder}/{name}")
    for link in os.listdir("/sys/class/net"):
        m = re.match(r"bth([0-9a-f]{6})n", link)
        if m and m.group(1) not in {h[2:] for h in hashes}:
            found.add(f"interface {link}")
    for path in glob.glob("/tmp/berth-test.*") + re.findall(r"/tmp/berth-test\S*", read("/proc/self/mounts")):
        m = re.match(r"/tmp/berth-test\.(?:\D+\.)?(\d+)(?!\w)", path)
        if m and int(m.group(1)) not in alive:
            found.add(f"{'mount' if os.path.ismount(path) else 'file'} {path}")
    return found


def end(pids):
    """SIGTERM first: a supervisor then ends its daemons."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + SECONDS_TO_END
        while ours() and time.monotonic() < deadline:
            reap()
            time.sleep(0.1)
        pids = ours()


def run(command):
    """The command's exit code."""
    told = []
    child = subprocess.Popen(command)

    def on_term(*_):
        told.append(True)
        child.terminate()
    signal.signal(signal.SIGTERM, on_term)
    status = None
    while status is None:
        pid, state = os.wait()
        if pid == child.pid:
            status = os.waitstatus_to_exitcode(state)
    return 124 if told else status if status >= 0 else 128 - status


def main():
    report, command = sys.argv[1], sys.argv[2:]
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    before = host_objects()
    status = run(command)
    deadline = time.monotonic() + SECONDS_TO_END
    while (ours() or host_objects() - before) and time.monotonic() < deadline:
        reap()
        time.sleep(0.2)
    left = ours()
    lines = [f"process {pid}: {text[:120]}" for pid, text in left.items()]
    end(left)
    lines += sorted(host_objects() - before)
    with open(report, "w", encoding="utf-8") as f:
        f.writelines(line + "\n" for line in lines)
    return status


if __name__ == "__main__":
    sys.exit(main())
