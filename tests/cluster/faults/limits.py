"""The maximum of a pool's sessions under many first requests at once: exactly that many, the others wait and get 429."""
import time

import sandboxes
from harness import Cluster, in_parallel, run, wait_until

QUEUE_MS = 10_000 # the default

cluster = Cluster(settings=["cooldown_min=2"]).start()
cluster.import_image()


def settled(pool):
    return cluster.admin("GET", f"/.berth/v1{cluster.arm_path(pool).split('?')[0]}/status").json()


def open_at_once(pool, n, timeout=60):
    """First requests of n identifiers at once, through all nodes: (seconds, answer) of each."""
    def ask(i):
        began = time.monotonic()
        a = cluster.session(pool, f"user-{i:04d}", "/instance", node=i % 3 + 1, timeout=timeout)
        return time.monotonic() - began, a
    return in_parallel(n, ask)


def check_refused(seconds, answer, most):
    assert answer.status == 429, answer
    assert int(answer.headers["retry-after"]) >= 1, answer.headers
    assert answer.json()["error"]["code"], answer
    assert seconds >= QUEUE_MS / 1000 - 0.1, (seconds, answer)
    assert seconds < most, (seconds, answer)


def test_a_hundred_identifiers_fill_fifty_places():
    assert cluster.put_pool("full", max_sessions=50, ready=50)["status"] == "Succeeded"
    wait_until("fifty sandboxes are ready", 120, lambda: settled("full")["sandboxes"]["ready"] == 50, 0.2)
    results = open_at_once("full", 100)
    errors = [r for r in results if isinstance(r, Exception)]
    assert not errors, errors[:3]
    served = [(s, a) for s, a in results if a.status == 200]
    refused = [(s, a) for s, a in results if a.status != 200]
    for seconds, a in refused:
        check_refused(seconds, a, QUEUE_MS / 1000 + 15)
    assert len(served) == 50, (len(served), refused[:2])
    assert len({a.body for _, a in served}) == 50, "each in a container of its own"
    live = [s for s in cluster.sessions("full") if s["state"] == "live"]
    assert len(live) == 50 and len({s["sandbox"] for s in live}) == 50, len(live)
    n = settled("full")
    assert n["sessions"] == {"waiting": 0, "live": 50, "closing": 0}, n
    assert n["sandboxes"]["bound"] == 50 and n["sandboxes"]["ready"] + n["sandboxes"]["booting"] == 0, n
    running = [p for p in sandboxes.below(cluster) if sandboxes._command(p) == "berth-sample"]
    assert len(running) in (0, 50), len(running)


def test_the_fifty_are_still_served_by_their_own():
    before = {s["identifier"]: s["sandbox"] for s in cluster.sessions("full")}
    def ask(i):
        return cluster.session("full", sorted(before)[i], "/instance", node=(i + 1) % 3 + 1)
    first = in_parallel(50, ask)
    again = in_parallel(50, lambda i: cluster.session("full", sorted(before)[i], "/instance", node=i % 3 + 1))
    assert [a.body for a in first] == [a.body for a in again]
    assert {s["identifier"]: s["sandbox"] for s in cluster.sessions("full")} == before


def test_a_freed_place_goes_to_one_who_waits():
    taken = sorted(s["identifier"] for s in cluster.sessions("full"))
    def work(i):
        if i == 0:
            time.sleep(0.5)
            a = cluster.admin("POST", cluster.pool_path("full") +
                              f"/.management/stopSession?identifier={taken[0]}&api-version=2024-08-02-preview")
            return a
        return cluster.session("full", f"late-{i}", "/instance", node=i % 3 + 1)
    stopped, *others = in_parallel(4, work)
    assert stopped.status == 200, stopped
    statuses = sorted(a.status for a in others)
    assert statuses == [200, 429, 429], others


def test_cold_starts_stay_within_the_maximum():
    a = cluster.admin("DELETE", cluster.arm_path("full"))
    cluster.wait_operation(a, seconds=120)
    assert cluster.put_pool("cold", max_sessions=8, ready=0)["status"] == "Succeeded"
    results = open_at_once("cold", 24)
    errors = [r for r in results if isinstance(r, Exception)]
    assert not errors, errors[:3]
    served = [a for _, a in results if a.status == 200]
    for seconds, a in ((s, a) for s, a in results if a.status != 200):
        check_refused(seconds, a, QUEUE_MS / 1000 + 15)
    assert 1 <= len(served) <= 8, [a for _, a in results][:3]
    assert len({a.body for a in served}) == len(served)
    n = settled("cold")
    assert sum(n["sessions"].values()) <= 8 and sum(n["sandboxes"][k] for k in ("booting", "ready", "bound", "stopping")) <= 8, n


def test_a_pool_deleted_leaves_nothing():
    a = cluster.admin("DELETE", cluster.arm_path("cold"))
    cluster.wait_operation(a)
    left = sandboxes.left(cluster)
    assert sorted(set(left["programs"])) == ["berth-shims", "berth-superviso", "berthd", "sandboxd"], left
    assert len(left["programs"]) == 12 and not left["folders"] and not left["cgroups"] and not left["mounts"], left


run([test_a_hundred_identifiers_fill_fifty_places, test_the_fifty_are_still_served_by_their_own,
     test_a_freed_place_goes_to_one_who_waits, test_cold_starts_stay_within_the_maximum,
     test_a_pool_deleted_leaves_nothing], cluster)
