"""What a pool's sandboxes run in, on nodes that run containers alone: the cluster's default is vm, and a pool that takes it fails at
once with each node's reason and answers 503, never 429 and never with a container; a pool of containers works; neither ever changes,
whatever is asked of whichever node, and whoever was killed meanwhile."""
import json
import os
import signal
import subprocess
import time

from harness import BUILD, Cluster, run, wait_until

cluster = Cluster(settings=["cooldown_min=2", "vm=off"], options=["--isolation", "vm"], workers=1, name="isolation").start()
cluster.import_image()
WORKER = 4
TAG = "berth.isolation"


def rows(node=1):
    return cluster.nodes(node)


def known(row):
    return row["noVm"] not in ("", "not known yet")


def reasons():
    return {name: row["noVm"] for name, row in rows().items()}


def tagged(isolation=None, **how):
    r = cluster.resource(ready=1, **how)
    if isolation:
        r["tags"] = {TAG: isolation}
    return r


def shown(pool, node=1):
    a = cluster.pool(pool, node)
    assert a.status == 200, a
    return a.json()["tags"][TAG]


def status(pool, node=1):
    return cluster.admin("GET", f"/.berth/v1{cluster.arm_path(pool).split('?')[0]}/status", node=node).json()


def runs():
    """How many containers there are on the machine, of these nodes."""
    return len([1 for _, command in cluster._processes() if command.startswith("berth-shim")])


def test_nodes_say_what_they_cannot():
    wait_until("each node has said why not", 20, lambda: len(rows()) == 4 and all(known(r) for r in rows().values()))
    for node in (1, 2, 3, WORKER):
        assert all(r["isolations"] == ["container"] for r in rows(node).values()), rows(node)
    table = cluster.berth("node", "show", "node2", "--output", "table").stdout
    assert "RUNS" in table and "NO VM" in table and reasons()["node2"] in table, table
    assert json.loads(cluster.berth("cluster", "status", "--output", "json").stdout)["settings"]["isolation"] == "vm"


def test_the_default_is_not_downgraded():
    """Nobody named an isolation: the cluster's is vm, which no node can run."""
    began = time.monotonic()
    document = cluster.put_pool("machines", wait=True, resource=tagged(), node=2)
    assert document["status"] == "Failed" and document["error"]["code"] == "IsolationUnavailable", document
    for name, why in reasons().items():
        assert f'node "{name}": {why}' in document["error"]["message"], document
    assert time.monotonic() - began < 30, "it was not told at once"
    assert shown("machines") == "vm" and status("machines")["isolation"] == "vm"
    for node in (1, 3, WORKER):
        a = cluster.session("machines", f"user-{node}", "/", node=node)
        assert a.status == 503 and a.json()["error"]["code"] == "SessionPoolCannotStart", a
        assert "virtual machines" in a.json()["error"]["message"] and reasons()["node1"] in a.json()["error"]["message"], a
    assert runs() == 0
    assert reasons()["node1"] in status("machines")["unable"], status("machines")
    metrics = cluster.admin("GET", "/metrics").body.decode()
    assert "\nberth_pools_unable 1\n" in metrics and "\nberth_runs_vm 0\n" in metrics, metrics
    r = cluster.berth("pool", "create", "--name", "asked", "--image", "berth/sample:1", "--target-port", "80", "--isolation", "vm",
                      check=False)
    assert r.returncode == 1 and "virtual machines" in r.stderr and reasons()["node1"] in r.stderr, r


def test_containers_when_they_are_named():
    assert cluster.put_pool("plain", resource=tagged("container"), node=3)["status"] == "Succeeded"
    for node in (1, 2, 3, WORKER):
        wait_until("the node shows it", 10, lambda n=node: cluster.pool("plain", n).status == 200 and shown("plain", n) == "container")
        assert cluster.session("plain", "alice-1", "/", node=node).status == 200
    assert "unable" not in status("plain")
    assert [s["isolation"] for s in cluster.sessions("plain")] == ["container"]
    where = dict(os.environ, BERTH_SOCKET=str(cluster.socket(1)), BERTH_SUBSCRIPTION=cluster.arm_path().split("/")[2])
    listed = subprocess.run([str(BUILD / "bin/berth"), "pool", "list", "--output", "table"], env=where, capture_output=True, text=True,
                            check=True).stdout
    assert "ISOLATION" in listed and any(line.startswith("plain") and line.endswith("container") for line in listed.splitlines()), listed
    assert any(line.startswith("machines") and line.endswith("vm") for line in listed.splitlines()), listed


def asked(method, path, body, node):
    """With a token: a worker's admin socket changes nothing at all."""
    return cluster._request(cluster.connection(node, tls=True), method, path, body,
                            {"Authorization": "Bearer " + cluster.token("management"), "Content-Type": "application/json"})


def changes_nothing(pool, now, other):
    for node in (1, 2, 3, WORKER):
        for method, body in (("PUT", tagged(other, max_sessions=77)),
                             ("PATCH", {"tags": {TAG: other}, "properties": {"scaleConfiguration": {"maxConcurrentSessions": 77}}})):
            a = asked(method, cluster.arm_path(pool), body, node)
            assert a.status == 409 and a.json()["error"]["code"] == "PropertyChangeNotAllowed", (node, method, a)
            assert "tags.berth.isolation" in a.json()["error"]["message"] and "cannot change" in a.json()["error"]["message"], a
    a = cluster.admin("PATCH", cluster.arm_path(pool), {"tags": {TAG: "kvm"}})
    assert a.status == 400 and 'must be "vm" or "container"' in a.json()["error"]["message"], a
    assert shown(pool) == now and status(pool)["maxSessions"] == 10, status(pool)


def test_it_never_changes():
    changes_nothing("plain", "container", "vm")
    changes_nothing("machines", "vm", "container")
    a = cluster.session("plain", "alice-1", "/")
    assert a.status == 200 and a.headers.get("x-ms-new-allocation", "false") != "true", a


def ready(node):
    try:
        return cluster.admin("GET", "/ready", node=node, timeout=5).status == 200
    except OSError:
        return False


def test_it_outlives_its_daemons():
    why = reasons()
    for node in (1, 2, 3, WORKER):
        os.kill(cluster.pid(node, "berthd"), signal.SIGKILL)
    time.sleep(1)
    wait_until("all serve again", 60, lambda: all(ready(n) for n in (1, 2, 3, WORKER)), 0.5)
    for node in (1, 2, 3, WORKER):
        assert shown("plain", node) == "container" and shown("machines", node) == "vm"
        wait_until("the reasons are there", 20, lambda n=node: {name: r["noVm"] for name, r in rows(n).items()} == why)
    changes_nothing("plain", "container", "vm")
    a = cluster.session("machines", "user-9", "/")
    assert a.status == 503 and why["node1"] in a.json()["error"]["message"], a


run([test_nodes_say_what_they_cannot, test_the_default_is_not_downgraded, test_containers_when_they_are_named, test_it_never_changes,
     test_it_outlives_its_daemons], cluster)
