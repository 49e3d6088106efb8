"""Workers: nodes without the log and without keys, fed by a voter. They run sandboxes, serve clients and answer the API."""
import os
import signal
import time

import sandboxes
from harness import Cluster, run, wait_until
from sandboxes import Load

WORKERS = int(os.environ.get("BERTH_WORKERS", "5"))  # more is the long form
IDENTIFIERS = [f"user-{i:02d}" for i in range(3 + 2 * WORKERS)]

cluster = Cluster(workers=WORKERS, settings=["cooldown_min=2", "lease_ms=5000", "lost_ms=9000"]).start()
cluster.import_image()
before = sandboxes.left(cluster)


def rows(node=1):
    return {s["identifier"]: s for s in cluster.sessions("demo", node=node) if s["state"] == "live"}


def test_workers_are_nodes():
    for node in (1, cluster.n):
        nodes = cluster.admin("GET", "/.berth/v1/nodes", node=node).json()["value"]
        assert [(n["id"], n["role"], n["state"]) for n in nodes] == [
            (i, "voter" if i in cluster.voters else "worker", "up") for i in range(1, cluster.n + 1)], nodes


def test_sessions_live_on_workers():
    assert cluster.put_pool("demo", max_sessions=40, ready=WORKERS + 3)["status"] == "Succeeded"
    for i, identifier in enumerate(IDENTIFIERS):
        a = cluster.session("demo", identifier, "/count", node=i % cluster.n + 1)
        assert a.status == 200, (identifier, a)
    used = {r["node"] for r in rows().values()}
    assert used >= set(cluster.workers), used
    for node in range(1, cluster.n + 1):
        assert set(rows(node)) == set(IDENTIFIERS), node
        for identifier in IDENTIFIERS:
            assert cluster.session("demo", identifier, "/count", node=node).status == 200, (identifier, node)


def test_nothing_is_left():
    cluster.wait_operation(cluster.admin("DELETE", cluster.arm_path("demo")))
    wait_until("all of it is gone", 15, lambda: sandboxes.left(cluster) == before, 0.5)


run([test_workers_are_nodes, test_sessions_live_on_workers, test_nothing_is_left], cluster)
