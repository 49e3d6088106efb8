"""One cluster of nodes that differ: node3 runs virtual machines, the others say why not. A pool of machines runs on node3 alone and is
reached through all; when node3 is configured to run none any more, what runs there goes on, nobody gets a container in its place, and who
comes anew is told why; when it is back, so is the pool."""
import json
import os
import re
import signal

import harness
from harness import Cluster, in_own_network, run, wait_until

in_own_network()
harness.need_vms()
cluster = Cluster(settings=["cooldown_min=2", "vm=off", "vm_emulation=on", "queue_ms=30000"], name="mixed")


def configure(node, vm):
    path = cluster.node_dir(node) / "berth.conf"
    path.write_text(re.sub(r"(?m)^vm *=.*$", f"vm = {vm}", path.read_text()))


configure(3, "on")
cluster.start()
cluster.import_image()


def runs(node):
    return cluster.nodes()[f"node{node}"]["isolations"]


def put(pool, isolation, ready=1):
    resource = cluster.resource(max_sessions=4, ready=ready)
    resource["tags"] = {"berth.isolation": isolation}
    a = cluster.admin("PUT", cluster.arm_path(pool), resource)
    assert a.status == 201, a
    return cluster.wait_operation(a, seconds=120)


def status(pool):
    return cluster.admin("GET", f"/.berth/v1{cluster.arm_path(pool).split('?')[0]}/status").json()


def restart_sandboxd(node):
    os.kill(cluster.pid(node, "sandboxd"), signal.SIGKILL)


def test_a_pool_waits_for_who_has_not_said():
    """node3 is still finding out: nothing is decided until it has."""
    assert put("machines", "vm")["status"] == "Succeeded"
    assert runs(3) == ["container", "vm"] and runs(1) == runs(2) == ["container"]
    assert "noVm" not in cluster.nodes()["node3"] and "vm = off" in cluster.nodes()["node1"]["noVm"], cluster.nodes()


def test_it_runs_where_it_can():
    wait_until("a machine is ready", 180, lambda: status("machines")["sandboxes"]["ready"] == 1, 0.5)
    assert {name: row["ready"] for name, row in cluster.nodes().items()} == {"node1": 0, "node2": 0, "node3": 1}
    for node in (1, 2, 3):
        a = cluster.session("machines", "alice-1", "/instance", node=node)
        assert a.status == 200, a
    assert [(s["nodeName"], s["isolation"]) for s in cluster.sessions("machines")] == [("node3", "vm")]


def test_containers_go_anywhere():
    assert put("plain", "container", ready=3)["status"] == "Succeeded"
    wait_until("three are ready", 60, lambda: status("plain")["sandboxes"]["ready"] == 3)
    assert cluster.session("plain", "bob-1", "/instance").status == 200


def test_nothing_is_downgraded():
    instance = cluster.session("machines", "alice-1", "/instance").body
    configure(3, "off")
    restart_sandboxd(3)
    wait_until("node3 says that it cannot", 60, lambda: runs(3) == ["container"], 0.5)
    assert "vm = off" in status("machines")["unable"], status("machines")
    a = cluster.session("machines", "alice-1", "/instance", timeout=90)
    assert a.status == 200 and a.body == instance, (a, instance)
    # One may have been ready; whoever comes after it gets none, and no container.
    answers = [cluster.session("machines", f"late-{i}", "/instance", timeout=90) for i in (1, 2)]
    assert answers[-1].status == 503 and answers[-1].json()["error"]["code"] == "SessionPoolCannotStart", answers
    assert "virtual machines" in answers[-1].json()["error"]["message"], answers
    assert {s["nodeName"] for s in cluster.sessions("machines") if "nodeName" in s} == {"node3"}
    assert cluster.session("plain", "bob-2", "/instance").status == 200


def test_it_comes_back():
    configure(3, "on")
    restart_sandboxd(3)
    wait_until("node3 says that it can", 120, lambda: runs(3) == ["container", "vm"], 0.5)
    wait_until("late-2 is served", 180, lambda: cluster.session("machines", "late-2", "/instance", timeout=90).status == 200, 1)
    assert "unable" not in status("machines"), json.dumps(status("machines"))


run([test_a_pool_waits_for_who_has_not_said, test_it_runs_where_it_can, test_containers_go_anywhere, test_nothing_is_downgraded,
     test_it_comes_back], cluster)
