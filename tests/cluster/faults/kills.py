"""kill -9 of one process at a time under load: only what hung on it notices, it comes back, and nothing is left behind."""
import os
import signal
import time

import sandboxes
from harness import Cluster, run, wait_until
from sandboxes import Load

IDENTIFIERS = [f"user-{i:02d}" for i in range(9)]
BACK_S = 10

cluster = Cluster(settings=["cooldown_min=2"]).start()
cluster.import_image()
before = sandboxes.left(cluster)


def rows():
    return {s["identifier"]: s for s in cluster.sessions("demo", node=serving_node()) if s["state"] == "live"}


def serving_node():
    """A node whose management API answers."""
    for node in (1, 2, 3):
        try:
            if cluster.admin("GET", "/.berth/v1/cluster", node=node, timeout=5).status == 200:
                return node
        except OSError:
            continue
    raise AssertionError("no node answers")


def facts():
    return sandboxes.facts(cluster, rows())


def instances():
    return {i: cluster.session("demo", i, "/instance").body for i in IDENTIFIERS}


def pick_node_with_sessions(known):
    return max((1, 2, 3), key=lambda n: sum(f[1] == n for f in known.values()))


def check_counters(seen, identifiers, since=0.0):
    """The counter in memory only ever grows, by one a request or by one more where an answer was lost."""
    for identifier in identifiers:
        last = None
        for _, _, status, count, *_ in seen[identifier]:
            if status != 200:
                continue
            assert last is None or count > last, (identifier, last, count)
            last = count
        assert last is not None, identifier


def check_untouched(seen, identifiers, through):
    """No request through these nodes failed."""
    failed = [(i, s) for i in identifiers for s in seen[i] if s[1] in through and s[2] != 200]
    assert not failed, (len(failed), failed[:5])


def served_again(identifiers, since, nodes=(1, 2, 3)):
    """Each identifier answers through each node within BACK_S."""
    for identifier in identifiers:
        for node in nodes:
            def once():
                try:
                    return cluster.session("demo", identifier, "/count", node=node, timeout=10).status == 200
                except OSError:
                    return False
            wait_until(f"{identifier} answers through node {node}", max(0.1, since + BACK_S - time.monotonic()), once)


def kill_under_load(pid, seconds=2.0):
    """(moment, what the load saw)"""
    with Load(cluster, "demo", IDENTIFIERS) as load:
        time.sleep(1.0)
        at = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        time.sleep(seconds)
    return at, load.seen


def check_refusals(seen, identifiers, killed_node, at):
    """Through other nodes: at most what was in flight is lost; the rest is 503 with Retry-After."""
    for identifier in identifiers:
        for moment, node, status, _, _, retry, text, _ in seen[identifier]:
            if node == killed_node or status == 200:
                continue
            if moment >= at + 0.1:
                assert status == 503 and retry and int(retry) >= 1, (identifier, moment - at, node, status, retry, text)
            else:
                assert status in (502, 503, 0), (identifier, moment - at, node, status, retry, text)


def test_sessions_open():
    assert cluster.put_pool("demo", max_sessions=20, ready=3)["status"] == "Succeeded"
    for i, identifier in enumerate(IDENTIFIERS):
        assert cluster.session("demo", identifier, "/count", node=i % 3 + 1).status == 200
    wait_until("node 1 lists them", 5, lambda: len(rows()) == len(IDENTIFIERS))
    assert {f[1] for f in facts().values()} == {1, 2, 3}, "on all nodes"


def kill_one_sandbox(find):
    known, inside = facts(), instances()
    victim = IDENTIFIERS[0]
    others = IDENTIFIERS[1:]
    at, seen = kill_under_load(find(known[victim][2]), 3.0)
    check_untouched(seen, others, (1, 2, 3))
    check_counters(seen, others)
    served_again([victim], at)
    wait_until("the sandbox is replaced in the tables", BACK_S, lambda: facts().get(victim, known[victim])[0] != known[victim][0])
    now = facts()
    assert {i: now[i] for i in others} == {i: known[i] for i in others}
    after = instances()
    assert {i: after[i] for i in others} == {i: inside[i] for i in others}
    assert after[victim] != inside[victim]
    assert sandboxes.start_time(known[victim][2]) != known[victim][3], "its process is gone"
    wrong = [s for s in seen[victim] if s[2] not in (200, 502, 503)]
    assert not wrong, wrong[:3]


def test_kill_a_containers_process():
    kill_one_sandbox(lambda pid: pid)


def test_kill_a_shim():
    kill_one_sandbox(sandboxes.shim)


def test_kill_sandboxd():
    known, inside = facts(), instances()
    node = pick_node_with_sessions(known)
    there = [i for i in IDENTIFIERS if known[i][1] == node]
    others = [i for i in IDENTIFIERS if i not in there]
    old = cluster.pid(node, "sandboxd")
    at, seen = kill_under_load(old, 2.0)
    check_untouched(seen, others, (1, 2, 3))
    check_counters(seen, IDENTIFIERS)
    check_refusals(seen, there, 0, at)
    served_again(IDENTIFIERS, at)
    assert cluster.pid(node, "sandboxd") not in (0, old)
    assert facts() == known and instances() == inside


def kill_berthd(node):
    known, inside = facts(), instances()
    there = [i for i in IDENTIFIERS if known[i][1] == node]
    others = [i for i in IDENTIFIERS if i not in there]
    old = cluster.pid(node, "berthd")
    at, seen = kill_under_load(old, 4.0)
    check_untouched(seen, others, [n for n in (1, 2, 3) if n != node])
    check_counters(seen, IDENTIFIERS)
    check_refusals(seen, there, node, at)
    served_again(IDENTIFIERS, at)
    assert cluster.pid(node, "berthd") not in (0, old)
    assert facts() == known and instances() == inside
    return at


def leader():
    return wait_until("there is a leader", 10, lambda: cluster.admin("GET", "/.berth/v1/cluster", node=serving_node()).json()["leader"])


def test_kill_a_followers_berthd():
    lead = leader()
    known = facts()
    kill_berthd(max((n for n in (1, 2, 3) if n != lead), key=lambda n: sum(f[1] == n for f in known.values())))


def test_kill_the_leaders_berthd():
    kill_berthd(leader())


def test_new_identifiers_soon_after_the_leaders_death():
    lead = leader()
    other = lead % 3 + 1
    os.kill(cluster.pid(lead, "berthd"), signal.SIGKILL)
    began = time.monotonic()
    a = cluster.session("demo", "newcomer-1", "/count", node=other, timeout=30)
    took = time.monotonic() - began
    assert a.status == 200 and int(a.body) == 1, a
    assert took < BACK_S, took
    print(f"        a new identifier {took:.1f} s after the leader's death", flush=True)
    served_again(IDENTIFIERS, began)


def test_nothing_is_left():
    node = serving_node()
    cluster.wait_operation(cluster.admin("DELETE", cluster.arm_path("demo"), node=node), node)
    sandboxes.wait_until_gone(cluster, before)


run([test_sessions_open, test_kill_a_containers_process, test_kill_a_shim, test_kill_sandboxd,
     test_kill_a_followers_berthd, test_kill_the_leaders_berthd, test_new_identifiers_soon_after_the_leaders_death,
     test_nothing_is_left], cluster)
