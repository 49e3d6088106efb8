"""A node whose berthd stands still: after its lease its sandboxes are frozen and nobody is served by them; within the time
until it is lost everything goes on where it stopped, afterwards its sandboxes are gone and identifiers get new ones.
"""
import os
import signal
import threading
import time

import sandboxes
from harness import VM, Cluster, run, wait_until

LEASE_S, LOST_S = 5, 14 if VM else 9
IDENTIFIERS = [f"user-{i:02d}" for i in range(6)]

cluster = Cluster(settings=["cooldown_min=2", "queue_ms=4000", f"lease_ms={LEASE_S * 1000}", f"lost_ms={LOST_S * 1000}"]).start()
cluster.import_image()
before = sandboxes.left(cluster)
answers = []


def rows(node=1):
    return {s["identifier"]: s for s in cluster.sessions("demo", node=node) if s["state"] == "live"}


def leader():
    return wait_until("there is a leader", 10, lambda: cluster.admin("GET", "/.berth/v1/cluster").json()["leader"])


def test_sessions_open():
    assert cluster.put_pool("demo", max_sessions=12, ready=2)["status"] == "Succeeded"
    for i, identifier in enumerate(IDENTIFIERS):
        wait_until("one is ready", 10, lambda: cluster.status("demo")["sandboxes"]["ready"])
        assert cluster.session("demo", identifier, "/count", node=i % 3 + 1).status == 200
    wait_until("node 1 lists them", 5, lambda: len(rows()) == len(IDENTIFIERS))


def in_background(identifier):
    """A request that the standing node gets, and that it never answers: others do, once its lease is over."""
    def ask():
        began = time.monotonic()
        a = cluster.session("demo", identifier, "/count", timeout=30)
        answers.append((time.monotonic() - began, a))
    thread = threading.Thread(target=ask)
    thread.start()
    return thread


def still(seconds, check):
    """Stops berthd of a follower that owns sessions for so long; (identifier there, its row, pid)."""
    lead = leader()
    there = {i: r for i, r in rows().items() if r["node"] not in (lead, 1)}
    assert there, "a follower owns some"
    identifier, row = sorted(there.items())[0]
    node, pid = row["node"], sandboxes.first_process(cluster, row["node"], row["sandbox"])
    berthd = cluster.pid(node, "berthd")
    os.kill(berthd, signal.SIGSTOP)
    began = time.monotonic()
    waiting = in_background(identifier)
    try:
        wait_until("its sandboxes are frozen", LEASE_S + 4, lambda: sandboxes.frozen(pid))
        assert time.monotonic() - began >= LEASE_S - 3, "not before its lease ended"  # renewed within the last 2 s
        check(identifier, node)
        waiting.join()
        time.sleep(max(0, began + seconds - time.monotonic()))
    finally:
        os.kill(berthd, signal.SIGCONT)
    return identifier, row, pid


def others_are_served(node):
    for identifier, row in rows().items():
        if row["node"] != node:
            a = cluster.session("demo", identifier, "/count", timeout=10)
            assert a.status == 200, (identifier, a)


def test_a_lease_that_ended_freezes_and_thaws():
    first = {}

    def check(identifier, node):
        others_are_served(node)
        began = time.monotonic()
        a = cluster.session("demo", identifier, "/count", timeout=20)
        assert a.status == 503 and int(a.headers["retry-after"]) >= 1, a
        assert time.monotonic() - began < 8, "an answer within bounds"
    for identifier in IDENTIFIERS:
        first[identifier] = cluster.session("demo", identifier, "/instance").body
    identifier, row, pid = still(LEASE_S + 1, check)
    seconds, a = answers[0]
    assert a.status == 503 and int(a.headers["retry-after"]) >= 1, a
    assert seconds < LEASE_S + 4, seconds
    wait_until("it is thawed", 10, lambda: not sandboxes.frozen(pid))
    a = wait_until("it is served again", 10,
                   lambda: next((x for x in [cluster.session("demo", identifier, "/instance")] if x.status == 200), None))
    assert a.body == first[identifier]
    assert rows()[identifier]["sandbox"] == row["sandbox"]


def test_without_a_majority_warm_sessions_go_on_to_the_leases_end():
    """Both others stand still: what the third has is served until its lease is over, then refused and frozen; with them it goes on."""
    alone = leader()
    there = {i: r for i, r in rows(alone).items() if r["node"] == alone}
    assert there, "the leader owns some"
    identifier, row = sorted(there.items())[0]
    pid = sandboxes.first_process(cluster, alone, row["sandbox"])
    first = cluster.session("demo", identifier, "/instance", node=alone).body
    stopped = [cluster.pid(n, "berthd") for n in (1, 2, 3) if n != alone]
    for other in stopped:
        os.kill(other, signal.SIGSTOP)
    began = time.monotonic()
    try:
        a = wait_until("it is refused", LEASE_S + 4, lambda: next(
            (x for x in [cluster.session("demo", identifier, "/instance", node=alone, timeout=20)] if x.status != 200), None))
        took = time.monotonic() - began
        assert a.status == 503 and int(a.headers["retry-after"]) >= 1, a
        assert took >= LEASE_S - 3, took  # renewed within the last 2 s
        wait_until("its sandboxes are frozen", 3, lambda: sandboxes.frozen(pid))
    finally:
        for other in stopped:
            os.kill(other, signal.SIGCONT)
    print(f"        served for {took:.1f} s without a majority, then refused and frozen", flush=True)
    wait_until("it is thawed", 10, lambda: not sandboxes.frozen(pid))
    a = wait_until("it is served again", 10,
                   lambda: next((x for x in [cluster.session("demo", identifier, "/instance", node=alone)] if x.status == 200), None))
    assert a.body == first


def test_a_lost_nodes_identifiers_get_new_sandboxes():
    identifier, row, pid = still(LOST_S + 3, lambda *_: None)
    node = row["node"]
    a = wait_until("the identifier is served elsewhere or anew", 15,
                   lambda: next((x for x in [cluster.session("demo", identifier, "/count")] if x.status == 200), None))
    assert int(a.body) == 1, "a new sandbox"
    wait_until("the old one's process is gone", 20, lambda: sandboxes.start_time(pid) is None)
    wait_until("the node is up again", 10, lambda: [n for n in cluster.admin("GET", "/.berth/v1/nodes").json()["value"]
                                                    if n["id"] == node][0]["state"] == "up")
    def agrees():
        here = len(list((cluster.node_dir(node) / "state/sandboxd/sandboxes").glob("*")))
        n = [n for n in cluster.admin("GET", "/.berth/v1/nodes").json()["value"] if n["id"] == node][0]
        return here == n["ready"] + n["bound"] and n["booting"] == 0
    wait_until("it runs what the tables say", 20, agrees, 0.2)


def test_nothing_is_left():
    cluster.wait_operation(cluster.admin("DELETE", cluster.arm_path("demo")))
    sandboxes.wait_until_gone(cluster, before)


run([test_sessions_open, test_a_lease_that_ended_freezes_and_thaws, test_without_a_majority_warm_sessions_go_on_to_the_leases_end,
     test_a_lost_nodes_identifiers_get_new_sandboxes,
     test_nothing_is_left], cluster)
