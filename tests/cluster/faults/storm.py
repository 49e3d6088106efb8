"""Random kills while sessions come and go: afterwards tables, containers and cgroups agree, and nothing is stuck.

The seed is printed; STORM_SEED and STORM_SECONDS choose others.
"""
import os
import random
import signal
import threading
import time

import sandboxes
from harness import Cluster, run, wait_until

SEED = int(os.environ.get("STORM_SEED", time.time_ns() % 1000000))
SECONDS = float(os.environ.get("STORM_SECONDS", 20))
MAX, READY, VISITORS = 12, 3, 8
TARGETS = ("berthd", "sandboxd", "container", "shim", "berthd", "sandboxd")

print(f"seed {SEED}", flush=True)
cluster = Cluster(settings=["cooldown_min=1", "queue_ms=4000"]).start()
cluster.import_image()
before = sandboxes.left(cluster)
instances = {}  # identifier -> instance -> times it answered, in order
wrong = []
stopping = threading.Event()


def visit(k):
    """Opens identifiers one after another, uses each for a while, stops some."""
    draw = random.Random(SEED * 1000 + k)
    for turn in range(10 ** 6):
        identifier, last = f"visitor-{k}-{turn}", 0
        for _ in range(draw.randint(1, 12)):
            if stopping.is_set():
                return
            node = draw.randint(1, 3)
            try:
                a = cluster.session("storm", identifier, "/echo", node=node, timeout=30)
            except Exception:  # the node was killed
                time.sleep(0.05)
                continue
            if a.status == 200:
                seen = a.json()["instance"]
                if seen not in instances.setdefault(identifier, []):
                    instances[identifier].append(seen)
                elif instances[identifier][-1] != seen:
                    wrong.append(f"{identifier} went back to an earlier container: {instances[identifier]}, {seen}")
            elif a.status in (503, 429) and not a.headers.get("retry-after"):
                wrong.append(f"{a.status} without Retry-After: {a}")
            elif a.status not in (502, 503, 429):
                wrong.append(f"{identifier} through node {node}: {a}")
            time.sleep(draw.random() * 0.1)
        if draw.random() < 0.5:
            try:
                cluster.admin("POST", cluster.pool_path("storm") +
                              f"/.management/stopSession?identifier={identifier}&api-version=2024-08-02-preview",
                              node=draw.randint(1, 3), timeout=20)
            except Exception:
                pass


def victim(draw, what, node):
    if what in ("berthd", "sandboxd"):
        return cluster.pid(node, what)
    shims = [p for p in sandboxes.below(cluster) if sandboxes._command(p) == "berth-shim"
             and sandboxes._command(sandboxes.parent(p)) != "berth-shim"]
    if not shims:
        return 0
    shim = draw.choice(shims)
    if what == "shim":
        return shim
    firsts = [e["pid"] for n in (1, 2, 3) for e in sandboxes.events(cluster, n)[-40:] if e["event"] == "started"]
    firsts = [p for p in firsts if sandboxes.start_time(p) is not None]
    return draw.choice(firsts) if firsts else 0


def status(node=1):
    return cluster.admin("GET", f"/.berth/v1{cluster.arm_path('storm').split('?')[0]}/status", node=node).json()


def test_storm():
    assert cluster.put_pool("storm", max_sessions=MAX, ready=READY, cooldown=1)["status"] == "Succeeded"
    draw = random.Random(SEED)
    threads = [threading.Thread(target=visit, args=(k,)) for k in range(VISITORS)]
    for t in threads:
        t.start()
    until = time.monotonic() + SECONDS
    kills = 0
    try:
        while time.monotonic() < until:
            time.sleep(draw.uniform(0.2, 2.5))
            what, node = draw.choice(TARGETS), draw.randint(1, 3)
            try:
                pid = victim(draw, what, node)
                if pid:
                    os.kill(pid, signal.SIGKILL)
                    kills += 1
            except (OSError, AssertionError):
                pass
    finally:
        stopping.set()
        for t in threads:
            t.join()
    print(f"        {kills} kills, {len(instances)} identifiers served", flush=True)
    assert not wrong, wrong[:5]
    assert len(instances) > 10, len(instances)
    owners = [i for found in instances.values() for i in found]
    assert len(owners) == len(set(owners)), "a container served two identifiers"


def test_the_pool_recovers():
    def calm():
        try:
            s = status()
        except OSError:  # killed last: it is not back yet
            return None
        return s if "sessions" in s and s["sessions"] == {"waiting": 0, "live": 0, "closing": 0} and \
            {k: s["sandboxes"][k] for k in ("booting", "ready", "bound", "stopping")} == \
            {"booting": 0, "ready": READY, "bound": 0, "stopping": 0} else None
    try:
        wait_until("all sessions ended and the pool is full", 40, calm, 0.2)
    except AssertionError:
        print(status(), cluster.sessions("storm"), flush=True)
        raise


def test_what_runs_is_what_the_tables_say():
    def running():
        return sum(len(list((cluster.node_dir(n) / "state/sandboxd/sandboxes").glob("*"))) for n in (1, 2, 3))
    wait_until("as many sandboxes as rows", 20, lambda: running() == READY, 0.2)
    for node in (1, 2, 3):
        wait_until(f"node {node} knows the same", 10, lambda: status(node)["sandboxes"]["ready"] == READY)


def test_everybody_is_served():
    for i in range(6):
        a = cluster.session("storm", f"after-{i}", "/count", node=i % 3 + 1)
        assert a.status == 200 and int(a.body) == 1, a


def test_nothing_is_left():
    cluster.wait_operation(cluster.admin("DELETE", cluster.arm_path("storm")))
    sandboxes.wait_until_gone(cluster, before)


run([test_storm, test_the_pool_recovers, test_what_runs_is_what_the_tables_say, test_everybody_is_served,
     test_nothing_is_left], cluster)
