"""All nodes killed at once under load, and a machine that is booted anew.

After the first every acknowledged write is there, every session has the container that it had, and none has two. After the second nothing is
started again: the machine's sessions end at its last lease, what it left behind is removed, and it is ready again by itself. The boot is
played: all processes of the node are killed and its mounts taken away, and the kernel's boot id is another one for what is
started afterwards; its cgroups and folders stay, which a real boot would take away as well.
"""
import contextlib
import os
import pathlib
import signal
import subprocess
import threading
import time
import uuid

import auditor
import recount
import sandboxes
from harness import run, wait_until
from machines import Machines, alone

WARM, LEASE_S, LOST_S = 9, 6, 10
alone()
cluster = Machines(settings=["cooldown_min=1", f"lease_ms={LEASE_S * 1000}", f"lost_ms={LOST_S * 1000}"], name="restart").start()
cluster.import_image()
history = auditor.History()
stopping = threading.Event()
counts = {"pools": 0, "sessions": 0}


def ask(pool, identifier, node):
    try:
        a = cluster.session(pool, identifier, "/instance", node=node, timeout=30)
    except Exception:  # the node is gone
        return None
    return a.body.decode().strip() if a.status == 200 else None


def put_pools():
    while not stopping.is_set():
        counts["pools"] += 1
        name = f"acked-{counts['pools']}"
        with contextlib.suppress(OSError, AssertionError):
            cluster.put_pool(name, node=counts["pools"] % 3 + 1, wait=False, max_sessions=2, ready=0)
            history.pools.add(name)
        time.sleep(0.05)


def open_sessions():
    while not stopping.is_set():
        counts["sessions"] += 1
        identifier = f"kept-{counts['sessions']}"
        instance = ask("warm", identifier, counts["sessions"] % 3 + 1)
        if instance:
            history.answered("warm", identifier, instance, kept=True)
        time.sleep(0.1)


def use_sessions():
    turn = 0
    while not stopping.is_set():
        turn += 1
        instance = ask("warm", f"warm-{turn % WARM}", turn % 3 + 1)
        if instance:
            history.answered("warm", f"warm-{turn % WARM}", instance)


def tree(pid):
    """A process and all below it."""
    found = [pid]
    for task in pathlib.Path(f"/proc/{pid}/task").glob("*"):
        with contextlib.suppress(OSError):
            for child in (task / "children").read_text().split():
                found += tree(int(child))
    return found


def kill_all(pids):
    """At once: none sees another one's end."""
    for which in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            with contextlib.suppress(OSError):
                os.kill(pid, which)


def ready(node):
    with contextlib.suppress(OSError):
        return cluster.admin("GET", "/ready", node=node, timeout=5).status == 200
    return False


def test_sessions_open():
    assert cluster.put_pool("warm", max_sessions=60, ready=6, cooldown=3600)["status"] == "Succeeded"
    history.pools.add("warm")
    for i in range(WARM):
        history.answered("warm", f"warm-{i}", wait_until("it opens", 20, lambda: ask("warm", f"warm-{i}", i % 3 + 1)), kept=True)
    assert sandboxes.groups(cluster)  # while the containers hang on their supervisors: their names are kept


def test_all_nodes_killed_at_once_under_load():
    threads = [threading.Thread(target=work) for work in (put_pools, open_sessions, use_sessions)]
    for t in threads:
        t.start()
    time.sleep(3)
    before = {s["identifier"]: (s["sandbox"], s["generation"], s["node"]) for s in cluster.sessions("warm")}
    kill_all([s.pid for s in cluster.supervisors.values()] + [cluster.pid(n, p) for n in (1, 2, 3) for p in ("berthd", "sandboxd")])
    killed = time.monotonic()
    stopping.set()
    for t in threads:
        t.join()
    for node, supervisor in cluster.supervisors.items():
        supervisor.wait()
        cluster.start_node(node)
    wait_until("all nodes are ready", 30, lambda: all(ready(n) for n in (1, 2, 3)))
    took = time.monotonic() - killed
    for identifier in {i for _, i in history.opened}:
        instance = wait_until(f"{identifier} answers", 20, lambda: ask("warm", identifier, 1))
        history.answered("warm", identifier, instance)
    after = {s["identifier"]: (s["sandbox"], s["generation"], s["node"]) for s in cluster.sessions("warm")}
    assert {i: after.get(i) for i in before} == before
    e = auditor.collect(cluster, ["warm"], history)
    wrong = auditor.audit(e)
    assert not wrong, (len(wrong), wrong[:5])
    print(f"        {len(history.pools)} acknowledged pools and {len(history.opened)} sessions, all there with their containers; all nodes ready "
          f"{took:.1f} s after they were killed", flush=True)


def booted(node):
    """The node's machine is booted anew; the moment of its end, in wall_ms."""
    folder, supervisor = str(cluster.node_dir(node)), cluster.supervisors[node]
    adopted = [e["pid"] for e in sandboxes.events(cluster, node) if e["event"] == "started"]
    shims = {sandboxes.shim(p) for p in adopted if sandboxes.start_time(p) is not None}
    kill_all([*tree(supervisor.pid), *(p for shim in shims for p in tree(shim))])
    ended = time.time() * 1000
    supervisor.wait()
    for line in reversed(pathlib.Path("/proc/self/mounts").read_text().splitlines()):
        if folder in line.split()[1]:
            subprocess.run(["umount", "-l", line.split()[1]], check=True)
    boot = cluster.dir / "boot_id"
    boot.write_text(f"{uuid.uuid4()}\n")
    boot.chmod(0o644)
    # Containers may mount a proc of their own only beside one that nothing is mounted upon.
    whole = cluster.dir / "proc"
    whole.mkdir()
    cluster.start_node(node, ["unshare", "--mount", "--propagation", "private", "sh", "-ec",
                              'mount -t proc proc "$1"; mount --bind "$0" /proc/sys/kernel/random/boot_id; shift; exec "$@"',
                              str(boot), str(whole)])
    return ended


def test_a_booted_node_starts_nothing_again():
    node = max((1, 2, 3), key=lambda n: sum(s["node"] == n for s in cluster.sessions("warm")))
    other = node % 3 + 1
    there = {s["identifier"]: s for s in cluster.sessions("warm", node=other) if s["node"] == node}
    assert there
    old = {int(p.name, 16) for p in (cluster.node_dir(node) / "state/sandboxd/sandboxes").glob("*")}
    groups = [g for g in sandboxes.groups(cluster) if any(f"-{s:016x}" in g for s in old)]
    assert len(groups) >= len(old), "there is something to clean"
    ended = booted(node)
    wait_until("its sessions are closed", LOST_S + 20, lambda: not {s["generation"] for s in cluster.sessions("warm", node=other)} &
               {s["generation"] for s in there.values()})
    wait_until("it is ready again", 30, lambda: ready(node))
    took = time.time() * 1000 - ended
    wait_until("what it left is removed", 20, lambda: not [g for g in groups if os.path.exists(g)] and not
               old & {int(p.name, 16) for p in (cluster.node_dir(node) / "state/sandboxd/sandboxes").glob("*")}, 0.2)
    again = [e for e in sandboxes.events(cluster, node) if e["event"] == "started" and e["sandbox"] in old and e["wall_ms"] > ended]
    assert not again, again
    export = cluster.admin("GET", "/.berth/v1/billing?from=2020-01-01T00:00:00Z&to=2100-01-01T00:00:00Z", node=other).json()
    closed = {r["sandbox"]: recount.ms(r["closed"]) for r in export["records"] if "closed" in r}
    for s in there.values():
        assert -1500 < closed[s["sandbox"]] - ended < LEASE_S * 1000, (s, closed[s["sandbox"]] - ended)
    for identifier, s in there.items():
        a = wait_until("the identifier is served", 20, lambda: ask("warm", identifier, other))
        assert a != history.opened.get(("warm", identifier)), "a new container"  # none: its answer was lost when all were killed
        history.answered("warm", identifier, a, kept=True)
    e = auditor.collect(cluster, ["warm"], history, lost=[node])
    wrong = auditor.audit(e)
    assert not wrong, (len(wrong), wrong[:5])
    print(f"        booted: {len(there)} sessions closed within their last lease, ready {took / 1000:.1f} s after the end, {len(groups)} cgroups "
          f"and {len(old)} folders removed", flush=True)


run([test_sessions_open, test_all_nodes_killed_at_once_under_load, test_a_booted_node_starts_nothing_again], cluster)
