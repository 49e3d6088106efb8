"""Faults under load: warm sessions on all nodes whose clients enter by the nodes that stay, and new identifiers one after another.

The gap is the time from the fault until a new identifier that was asked for after it is served. Not one request of a warm session may
fail whose sandbox is on a node that stays; audited() afterwards: no session is lost or double. For scripts of their own namespaces (machines.py).
"""
import os
import signal
import threading
import time

import auditor
import machines
from harness import wait_until
from machines import Machines

WARM, READY, MOST = 9, 12, 60  # four ready ones a node: the gap is of placement, not of a pool that is used up
cluster = Machines(settings=["cooldown_min=1"], name="faults").start()
cluster.import_image()
history = auditor.History()


def leader(among=(1, 2, 3)):
    def known():
        for n in among:
            try:
                a = cluster.admin("GET", "/.berth/v1/cluster", node=n, timeout=5).json()
                if a["leader"]:
                    return a["leader"]
            except OSError:
                continue
        return None
    return wait_until("there is a leader", 10, known)


def ask(pool, identifier, node):
    """(status, instance or text)"""
    try:
        a = cluster.session(pool, identifier, "/instance", node=node, timeout=30)
    except Exception as error:  # the node is gone
        return 0, repr(error)
    return a.status, a.body.decode().strip()


class Warm(threading.Thread):
    """Requests of one warm session, through the nodes that stay."""

    def __init__(self, identifier, nodes):
        super().__init__()
        self.identifier, self.nodes, self.seen, self.stopping = identifier, nodes, [], False
        self.start()

    def run(self):
        turn = 0
        while not self.stopping:
            turn += 1
            at = time.monotonic()
            node = self.nodes[turn % len(self.nodes)]
            status, text = ask("warm", self.identifier, node)
            if status == 200:
                history.answered("warm", self.identifier, text, kept=turn == 1)
            self.seen.append((at, time.monotonic(), node, status, text))
            time.sleep(0.03)


class Opener(threading.Thread):
    """New identifiers, one after another; acks: (asked, answered)."""

    def __init__(self, nodes, name):
        super().__init__()
        self.nodes, self.name_, self.acks, self.bad, self.stopping = nodes, name, [], [], False
        self.start()

    def run(self):
        turn = 0
        while not self.stopping:
            turn += 1
            at, identifier = time.monotonic(), f"new-{self.name_}-{turn}"
            status, text = ask("fresh", identifier, self.nodes[turn % len(self.nodes)])
            if status == 200:
                self.acks.append((at, time.monotonic()))
                history.answered("fresh", identifier, text)
            else:
                self.bad.append((at, status, text))
            time.sleep(0.2)


def owners():
    return {s["identifier"]: s["node"] for s in cluster.sessions("warm")}


def settle():
    """All nodes up, the pools full."""
    def full():
        try:
            rows = cluster.admin("GET", "/.berth/v1/nodes", timeout=5).json()["value"]
            s = cluster.admin("GET", f"/.berth/v1{cluster.arm_path('fresh').split('?')[0]}/status", timeout=5).json()
            ready = [cluster.admin("GET", "/ready", node=n, timeout=5).status == 200 for n in (1, 2, 3)]
            return all(r["state"] == "up" for r in rows) and s["sandboxes"]["ready"] >= READY and all(ready)
        except (OSError, KeyError):
            return False
    wait_until("the cluster is whole", 30, full, 0.1)


rounds = 0
faults = []


def under_load(what, victim, inflict, heal=None, seconds=2.0):
    """The gap."""
    global rounds
    rounds += 1
    settle()
    stay = [n for n in (1, 2, 3) if n != victim]
    before = owners()
    warm = [Warm(f"warm-{i}", stay) for i in range(WARM)]
    openers = [Opener(stay, f"{rounds}-{i}") for i in range(2)]

    def served_since(at):
        return sorted(a[1] for o in openers for a in o.acks if a[0] > at)
    try:
        wait_until("new identifiers are served", 10, lambda: len(served_since(0)) >= 4)
        at, wall = time.monotonic(), time.time() * 1000
        inflict(victim)
        wait_until("a new identifier is served again", 30, lambda: served_since(at), 0.01)
        time.sleep(max(0, at + seconds - time.monotonic()))
    finally:
        if heal:
            heal(victim)
        faults.append((wall, time.time() * 1000))
        for t in [*warm, *openers]:
            t.stopping = True
        for t in [*warm, *openers]:
            t.join()
    bad = [(w.identifier, round(s[0] - at, 3), *s[2:]) for w in warm for s in w.seen if s[3] != 200 and before[w.identifier] != victim]
    assert not bad, (what, len(bad), bad[:5])
    slow = max((s[1] - s[0] for w in warm for s in w.seen if before[w.identifier] != victim), default=0)
    there = [s for w in warm for s in w.seen if before[w.identifier] == victim]
    new = [a[1] - a[0] for o in openers for a in o.acks if a[0] > at]
    failed = [(round(b[0] - at, 2), *b[1:]) for o in openers for b in o.bad if b[0] > at]
    gap = served_since(at)[0] - at
    print(f"        {what}: gap {gap:.2f} s; of {sum(len(w.seen) for w in warm)} warm requests none failed on the nodes that stay (slowest "
          f"{slow:.2f} s), {sum(s[3] != 200 for s in there)} of {len(there)} for node {victim}'s sessions (slowest "
          f"{max((s[1] - s[0] for s in there), default=0):.2f} s); new ones: {len(new)} served (slowest {max(new, default=0):.2f} s), "
          f"{len(failed)} failed {failed[:1] or ''}", flush=True)
    return gap


def audited(lost=()):
    e = auditor.collect(cluster, ["warm", "fresh"], history, lost=lost, faults=faults)
    wrong = auditor.audit(e)
    assert not wrong, (len(wrong), wrong[:5])
    return e


def berthd(sig):
    return lambda node: os.kill(cluster.pid(node, "berthd"), sig)


FAULTS = [("SIGSTOP", berthd(signal.SIGSTOP), berthd(signal.SIGCONT)),
          ("a partition", cluster.cut, cluster.heal),
          ("a partition one way, deaf", lambda n: cluster.cut(n, speak=True), cluster.heal),
          ("a partition one way, mute", lambda n: cluster.cut(n, hear=True), cluster.heal)]
if not machines.SMALL_DISK_MIB and cluster.slow(1):
    cluster.fast(1)
    FAULTS.append(("a disk of five writes a second", cluster.slow, cluster.fast))
elif not machines.SMALL_DISK_MIB:
    print("SKIPPED: a slow disk: this kernel does not throttle writes", flush=True)


def test_warm_sessions():
    for pool, how in (("warm", {"max_sessions": WARM, "ready": 0, "cooldown": 3600}),
                      ("fresh", {"max_sessions": MOST, "ready": READY, "cooldown": 1})):
        assert cluster.put_pool(pool, **how)["status"] == "Succeeded"
        history.pools.add(pool)
    for i in range(WARM):
        status, text = ask("warm", f"warm-{i}", i % 3 + 1)
        assert status == 200, text
        history.answered("warm", f"warm-{i}", text, kept=True)
