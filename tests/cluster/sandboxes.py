"""What of a cluster runs on this machine: sandboxes, shims, cgroups, mounts; and load on sessions that counts in memory.

Sandboxes are found by what sandboxd writes about them (<state>/sandboxd/events), never by asking berthd. The first process of a
machine is its QEMU.
"""
import contextlib
import json
import pathlib
import re
import threading
import time

import harness


def start_time(pid):
    """Clock ticks after boot at which the process began; None when it is gone or a zombie."""
    with contextlib.suppress(OSError):
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return None if fields[0] in "ZX" else int(fields[19])
    return None


def frozen(pid):
    """Whether the kernel holds a process in a frozen cgroup, by either version; or, of a QEMU, has stopped it."""
    if machine(pid):
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "Tt"
    for line in pathlib.Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "freezer" in controllers.split(","):
            for root in ("/sys/fs/cgroup/freezer", "/sys/fs/cgroup"):
                state = pathlib.Path(root + path) / "freezer.state"
                if state.exists():
                    return state.read_text().strip() == "FROZEN"
        if controllers == "":
            events = pathlib.Path("/sys/fs/cgroup" + path) / "cgroup.events"
            if events.exists() and "frozen 1" in events.read_text():
                return True
    return False


def parent(pid):
    return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def command(pid):
    return pathlib.Path(f"/proc/{pid}/comm").read_text().strip()


def events(cluster, node):
    """What sandboxd wrote when it started, lost and stopped sandboxes (docs/events.md)."""
    path = cluster.node_dir(node) / "state/sandboxd/events"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def first_process(cluster, node, sandbox):
    """The host's pid of a sandbox's first process."""
    pids = [e["pid"] for e in events(cluster, node) if e["event"] == "started" and e["sandbox"] == sandbox]
    assert pids, f"node {node} never started sandbox {sandbox}"
    return pids[-1]


def facts(cluster, rows):
    """Of each session, by identifier as in `rows`: sandbox, node, pid and start time of its container."""
    found = {}
    for identifier, row in rows.items():
        pid = first_process(cluster, row["node"], row["sandbox"])
        found[identifier] = (row["sandbox"], row["node"], pid, start_time(pid))
    return found


def machine(pid):
    """The directory of the machine that a QEMU is; None: it is none."""
    found = re.search(r"(/[^\0,=]+/vm/machines/[^/]+)/", pathlib.Path(f"/proc/{pid}/cmdline").read_text())
    return found and found.group(1)


def shim(pid):
    """The berth-shim above a container's first process, or the berth-vmshim beside a QEMU."""
    folder = machine(pid)
    for each in pathlib.Path("/proc").glob("[0-9]*/cmdline") if folder else ():
        with contextlib.suppress(OSError):
            if each.read_text().split("\0")[:2] == ["berth-vmshim", folder]:
                return int(each.parent.name)
    while pid > 1:
        pid = parent(pid)
        if command(pid) == "berth-shim" and command(parent(pid)) != "berth-shim":
            return pid
    raise AssertionError("no shim above it")


def below(cluster):
    """All processes of the cluster's supervisors, with them."""
    children = {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit() and start_time(entry.name) is not None:
            with contextlib.suppress(OSError):
                children.setdefault(parent(entry.name), []).append(int(entry.name))
    todo = [int((cluster.node_dir(n) / "run/supervisor.pid").read_text()) for n in range(1, cluster.n + 1)]
    found = []
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += children.get(pid, [])
    return found


def group_prefixes(cluster):
    """Names that the cluster's cgroups begin with: seen in the paths of its containers, then kept."""
    for pid in below(cluster):
        with contextlib.suppress(OSError):
            for line in pathlib.Path(f"/proc/{pid}/cgroup").read_text().splitlines():
                for part in line.split("/"):
                    at = part.find("berth-")
                    if at >= 0 and len(part) >= at + 31:
                        cluster.__dict__.setdefault("prefixes", set()).add(part[at:at + 14])
    return cluster.__dict__.get("prefixes", set())


def groups(cluster):
    return sorted(path for prefix in group_prefixes(cluster) for path in harness.cgroups(prefix))


def mounts(cluster):
    return [line for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines() if str(cluster.dir) in line]


def left(cluster):
    """What must be the same before a pool and after it: programs that run, cgroups, mounts, sandboxes' folders. A node's own libvirtd comes
    with the proof that machines run, and goes when it was idle for a while."""
    programs = sorted(c for c in map(_command, below(cluster)) if c and c not in ("berth-libvirtd", "libvirtd"))
    folders = [str(p) for n in range(1, cluster.n + 1)
               for kind in ("sandboxes", "vm/machines") for p in (cluster.node_dir(n) / "state/sandboxd" / kind).glob("*")]
    return {"programs": programs, "cgroups": groups(cluster), "mounts": mounts(cluster), "folders": folders}


def wait_until_gone(cluster, before, seconds=15):
    """Until nothing more is left than before."""
    try:
        harness.wait_until("all of it is gone", seconds, lambda: left(cluster) == before, 0.5)
    except AssertionError as e:
        now = left(cluster)
        raise AssertionError(f"{e}: {({k: (before[k], now[k]) for k in now if now[k] != before[k]})}") from None


def _command(pid):
    with contextlib.suppress(OSError):
        return command(pid)
    return None


class Load:
    """One thread an identifier: /count through the nodes in turn, until stop(). seen[i] lists (time, node, status,
    count or None, guid, retry-after, error, seconds)."""

    def __init__(self, cluster, pool, identifiers, nodes=None, pause=0.02):
        self.cluster, self.pool, self.identifiers, self.pause = cluster, pool, identifiers, pause
        self.nodes = nodes or list(range(1, cluster.n + 1))
        self.seen = {i: [] for i in identifiers}
        self.stopping = False
        self.threads = [threading.Thread(target=self._run, args=(i, k)) for k, i in enumerate(identifiers)]
        for t in self.threads:
            t.start()

    def _run(self, identifier, turn):
        while not self.stopping:
            node = self.nodes[turn % len(self.nodes)]
            turn += 1
            at = time.monotonic()
            try:
                a = self.cluster.session(self.pool, identifier, "/count", node=node, timeout=120 if harness.VM else 30)
                count = int(a.body) if a.status == 200 else None
                self.seen[identifier].append((at, node, a.status, count, a.headers.get("x-ms-session-guid"),
                                              a.headers.get("retry-after"), a.body[:200] if a.status != 200 else b"",
                                              time.monotonic() - at))
            except OSError as e:
                self.seen[identifier].append((at, node, 0, None, None, None, repr(e), time.monotonic() - at))
            except Exception as e:  # http.client: the connection ended before an answer
                self.seen[identifier].append((at, node, 0, None, None, None, repr(e), time.monotonic() - at))
            time.sleep(self.pause)

    def stop(self):
        self.stopping = True
        for t in self.threads:
            t.join()
        return self.seen

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
