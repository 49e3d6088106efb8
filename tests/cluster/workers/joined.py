"""Workers that join by tokens: a cluster of one voter that gets two of them. They hold no key, run sandboxes with secrets, come back
from kill -9 while their voter is away too, are no voters whatever they claim, and can be removed again.
"""
import os
import signal

from harness import Cluster, run, wait_until

SECRET = "sealed by the voter, opened for the sandbox"
IDENTIFIERS = [f"user-{i}" for i in range(8)]

cluster = Cluster(nodes=1, settings=["cooldown_min=2", "lease_ms=5000", "lost_ms=20000"], name="joined", more=2).start()


def rows(node=1):
    return {s["identifier"]: s for s in cluster.sessions("demo", node=node) if s["state"] == "live"}


def served(node, seconds=15):
    for identifier in IDENTIFIERS:
        def once():
            try:
                return cluster.session("demo", identifier, "/count", node=node, timeout=5).status == 200
            except OSError:
                return False
        wait_until(f"{identifier} is served through node {node}", seconds, once)


def test_they_join():
    for node in (2, 3):
        cluster.join(node, cluster.join_token("--role", "worker"))
    wait_until("both are up", 15, lambda: cluster.roles() == {"node1": "voter", "node2": "worker", "node3": "worker"} and
               all(n["state"] == "up" for n in cluster.nodes().values()))
    for node in (2, 3):
        files = {p.name for p in cluster.node_dir(node).rglob("*")}
        assert not files & {"keyring", "first-keys", "issuer.key", "ca.key", "raft"}, files
        assert cluster.roles(node) == cluster.roles(), "and it shows what the voter shows"


def test_sessions_on_them():
    cluster.import_image()
    resource = cluster.resource(max_sessions=20, ready=4, env=[{"name": "WORD", "secretRef": "word"}])
    resource["properties"]["secrets"] = [{"name": "word", "value": SECRET}]
    assert cluster.put_pool("demo", resource=resource)["status"] == "Succeeded"
    for i, identifier in enumerate(IDENTIFIERS):
        a = cluster.session("demo", identifier, "/env", node=i % 3 + 1)
        assert a.status == 200 and a.json()["WORD"] == SECRET, a
    assert {r["node"] for r in rows().values()} >= {n["id"] for n in cluster.nodes().values() if n["role"] == "worker"}
    for node in (1, 2, 3):
        served(node)


def test_kill_each_and_all():
    known = {i: r["sandbox"] for i, r in rows().items()}
    for victims in ((2,), (1,), (1, 2, 3)):
        for node in victims:
            os.kill(cluster.pid(node, "berthd"), signal.SIGKILL)
        for node in (1, 2, 3):
            served(node)
        assert {i: r["sandbox"] for i, r in rows().items()} == known, victims
    for node in (2, 3):  # they began with one that was made for them, and keep what they got in its place
        assert cluster.log(node).count("the certificate between nodes was renewed") <= 1


def test_a_worker_is_removed():
    """Not while it has sessions; by force they end, and nothing of it is left."""
    number = cluster.nodes()["node3"]["id"]
    stay = {i: r["sandbox"] for i, r in rows().items() if r["node"] != number}
    r = cluster.berth("node", "remove", "node3", check=False)
    assert r.returncode == 1 and "drain it first" in r.stderr, r
    cluster.berth("node", "remove", "node3", "--force", timeout=60)
    wait_until("it ended", 30, lambda: cluster.ended(3))
    assert "node3" not in cluster.nodes()
    cluster.berth("node", "purge", "node3", "--dir", str(cluster.dir))
    assert not cluster.node_dir(3).exists()
    assert {i: r["sandbox"] for i, r in rows().items() if i in stay} == stay
    for node in (1, 2):
        served(node)


run([test_they_join, test_sessions_on_them, test_kill_each_and_all, test_a_worker_is_removed], cluster)
