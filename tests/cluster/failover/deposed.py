"""A leader that was cut off answers no old reads: it still believes that it leads when the others have elected one and changed a pool,
and a GET through it must show that change, or be refused.

Each round: the leader is cut off from the others, clients still reach it; a writer raises a pool's maximum through the others as fast as they
take it, readers GET the pool through the leader of before all the while. BERTH_FAULT_ROUNDS (default 1) times three rounds.
"""
import os
import threading
import time

from machines import alone

alone()
from harness import run, wait_until  # noqa: E402
from machines import Machines  # noqa: E402

ROUNDS = 3 * int(os.environ.get("BERTH_FAULT_ROUNDS", "1"))
CUT_S, READERS = 4.0, 4
cluster = Machines(settings=["cooldown_min=1"], name="deposed").start()
cluster.import_image()


def leader():
    for n in (1, 2, 3):
        try:
            found = cluster.admin("GET", "/.berth/v1/cluster", node=n, timeout=5).json()["leader"]
        except OSError:
            continue
        if found:
            return found
    return None


class Reader(threading.Thread):
    """GETs through one node; each with what was acknowledged before it was sent."""

    def __init__(self, node, acknowledged):
        super().__init__()
        self.node, self.acknowledged, self.read, self.refused, self.old, self.stopping = node, acknowledged, 0, 0, [], False
        self.start()

    def run(self):
        while not self.stopping:
            known = self.acknowledged[0]
            try:
                a = cluster.admin("GET", cluster.arm_path("demo"), node=self.node, timeout=10)
            except OSError:
                self.refused += 1
                continue
            if a.status != 200:
                assert a.status in (429, 503, 504), a
                self.refused += 1
                continue
            self.read += 1
            seen = a.json()["properties"]["scaleConfiguration"]["maxConcurrentSessions"]
            if seen < known:
                self.old.append((known, seen))


def cut_off(acknowledged):
    """(reads, refusals, old reads, writes while it was cut off)"""
    victim = wait_until("there is a leader", 20, leader)
    others = [n for n in (1, 2, 3) if n != victim]
    readers = [Reader(victim, acknowledged) for _ in range(READERS)]
    writes, until = 0, time.monotonic() + CUT_S
    cluster.cut(victim)
    try:
        while time.monotonic() < until:
            maximum = acknowledged[0] + 1
            try:
                a = cluster.admin("PUT", cluster.arm_path("demo"), cluster.resource(max_sessions=maximum, ready=1, cooldown=3600),
                                  node=others[writes % 2], timeout=10)
            except OSError:
                continue
            if a.status in (200, 201):
                acknowledged[0] = maximum
                writes += 1
    finally:
        cluster.heal(victim)
        for r in readers:
            r.stopping = True
        for r in readers:
            r.join()
    wait_until("all nodes are ready", 30, lambda: all(cluster.admin("GET", "/ready", node=n, timeout=5).status == 200 for n in (1, 2, 3)))
    return sum(r.read for r in readers), sum(r.refused for r in readers), [o for r in readers for o in r.old], writes


def test_a_deposed_leader_shows_nothing_old():
    acknowledged = [10]
    assert cluster.put_pool("demo", max_sessions=10, ready=1, cooldown=3600)["status"] == "Succeeded"
    for round_ in range(ROUNDS):
        read, refused, old, writes = cut_off(acknowledged)
        print(f"        round {round_ + 1}: {writes} changes through the others, {read} reads through the leader of before, {refused} refused, "
              f"{len(old)} old", flush=True)
        assert writes > 0 and read + refused > 0
        assert not old, old[:5]


run([test_a_deposed_leader_shows_nothing_old], cluster)
