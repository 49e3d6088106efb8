"""`berth node show`: each kind of what a node keeps with bytes, bound, oldest and age bound, through any node; what it is asked at night:
state, lease, disk, versions, counters; a node that does not answer is shown from the tables."""
import json
import os
import signal
import time

from harness import Cluster, run, wait_until

cluster = Cluster(settings=["cooldown_min=2", "log_retention=2d", "events_retention=30d", "records_retention=100d"], name="node-show").start()
cluster.import_image()
cluster.put_pool("talk", ready=2)

# kind: whether it has a bound of bytes, of age
KINDS = {"logs of ended": (True, True), "logs of running": (True, False), "writable layers": (True, False),
         "events of sandboxd": (True, True), "events of berthd": (True, True), "billing records": (True, True),
         "images": (True, True), "raft": (False, False), "memory of suspended": (False, False)}
OF_SANDBOXES = ("logs of running", "writable layers")


def show(name, node=1, form="json"):
    r = cluster.berth("node", "show", "--name", name, "--output", form, env={"BERTH_SOCKET": str(cluster.socket(node))})
    return json.loads(r.stdout) if form == "json" else r.stdout


def kinds(document):
    return {k["kind"]: k for k in document["storage"]}


def end(identifier):
    a = cluster.admin("POST", f"/.berth/v1{cluster.arm_path('talk').split('?')[0]}/stopSession?identifier={identifier}")
    assert a.status < 300, a
    wait_until("it ended", 30, lambda: not any(s.get("identifier") == identifier for s in cluster.sessions("talk")))


def test_each_kind_has_its_bounds():
    for i in range(3):
        wait_until("a session", 30, lambda i=i: cluster.session("talk", f"user-{i:04}", "/", node=1 + i).status == 200)
    end("user-0001")
    documents = {f"node{n}": show(f"node{n}", node=1 + n % 3) for n in (1, 2, 3)}
    for name, d in documents.items():
        seen = kinds(d)
        assert set(seen) == set(KINDS), (name, set(seen) ^ set(KINDS))
        for kind, bounds in KINDS.items():
            if seen[kind]["count"] or kind not in OF_SANDBOXES:  # a node without a sandbox has no bound of theirs
                assert (("bytesMax" in seen[kind]), ("ageSecondsMax" in seen[kind])) == bounds, seen[kind]
            assert seen[kind]["bytes"] <= seen[kind].get("bytesMax", 1 << 40), seen[kind]
        assert seen["logs of ended"]["ageSecondsMax"] == 2 * 86400
        assert seen["events of berthd"]["ageSecondsMax"] == 30 * 86400
        assert seen["images"]["count"] == 1 and seen["images"]["bytes"] > 0
        assert seen["raft"]["bytes"] > 0
    total = {k: sum(kinds(d)[k]["count"] for d in documents.values()) for k in KINDS}
    assert total["logs of ended"] == 1, total
    assert total["writable layers"] == total["logs of running"] >= 3, total
    ended = next(k for d in documents.values() for k in d["storage"] if k["kind"] == "logs of ended" and k["count"])
    assert ended["oldest"][:4] == time.strftime("%Y", time.gmtime()), ended


def test_how_it_is():
    d = show("node2", node=3)
    assert d["answered"] is True and d["state"] == "up" and d["epoch"] > 0
    assert 0 < d["leaseMs"] <= 15000 and 0 < d["diskBytesFree"] < d["diskBytes"]
    assert d["version"] == d["sandboxdVersion"] and d["uptimeSeconds"] < 600
    before = d["figures"]["requests"]
    for _ in range(5):
        cluster.admin("GET", "/health", node=2)
    assert show("node2", node=1)["figures"]["requests"] >= before + 5
    table = show("node2", form="table")
    assert "LEASE MS" in table and "logs of ended" in table and "AGE BOUND S" in table, table
    lines = show("node2", form="tsv").splitlines()
    assert len(lines) == 1 + len(KINDS), lines
    assert {line.split("\t")[0] for line in lines[1:]} == set(KINDS)


def test_a_node_that_does_not_answer():
    pid = cluster.pid(3, "berthd")
    os.kill(pid, signal.SIGSTOP)
    try:
        d = show("node3")
        assert d["answered"] is False and d["name"] == "node3" and "storage" not in d, d
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_until("it answers again", 40, lambda: show("node3").get("answered"))


run([test_each_kind_has_its_bounds, test_how_it_is, test_a_node_that_does_not_answer], cluster)
