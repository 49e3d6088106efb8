"""Sessions of real virtual machines that count in memory: one is suspended and woken, and one goes to another node when its own is drained,
under requests: the count goes on, none fails, and the pauses are printed. Two nodes run machines, the third does not."""
import re
import time

import harness
from counter import Counter
from harness import Cluster, in_own_network, run, wait_until

in_own_network()
harness.need_vms()
cluster = Cluster(settings=["cooldown_min=2", "vm=on", "vm_emulation=on", "queue_ms=60000"], name="rest")
path = cluster.node_dir(3) / "berth.conf"
path.write_text(re.sub(r"(?m)^vm *=.*$", "vm = off", path.read_text()))
cluster.start()
cluster.import_image()


def ms(seconds):
    return f"{seconds * 1e3:.0f} ms"


def status():
    return cluster.admin("GET", f"/.berth/v1{cluster.arm_path('machines').split('?')[0]}/status").json()


def ask(identifier, node=1):
    return cluster.session("machines", identifier, "/count", node=node, timeout=120)


def count(identifier, node=1):
    a = ask(identifier, node)
    assert a.status == 200, a
    return int(a.body)


def row(identifier):
    return next(s for s in cluster.sessions("machines") if s.get("identifier") == identifier)


def session(action, identifier):
    cluster.berth("session", action, "--name", "machines", "--identifier", identifier, "--resource-group", harness.GROUP,
                  "--subscription", harness.SUBSCRIPTION)


def test_sleeps_and_wakes():
    resource = cluster.resource(max_sessions=4, ready=1)
    resource["tags"] = {"berth.isolation": "vm"}
    a = cluster.admin("PUT", cluster.arm_path("machines"), resource)
    assert a.status == 201, a
    assert cluster.wait_operation(a, seconds=180)["status"] == "Succeeded"
    wait_until("a machine is ready", 300, lambda: status()["sandboxes"]["ready"] == 1, 0.5)
    first = count("alice-1")
    assert count("alice-1") == first + 1
    began = time.monotonic()
    session("suspend", "alice-1")
    wait_until("it sleeps", 180, lambda: row("alice-1")["state"] == "suspended", 0.1)
    slept = time.monotonic() - began
    kept = sum(f.stat().st_size for f in cluster.dir.glob("node*/**/saved/*"))
    time.sleep(2)
    began = time.monotonic()
    assert count("alice-1", 2) == first + 2
    print(f"suspended in {ms(slept)}, {kept / 2**20:.0f} MiB on disk; its next request took {ms(time.monotonic() - began)}")
    assert count("alice-1", 3) == first + 3


def test_a_drain_moves_it():
    source = row("alice-1")["node"]
    wait_until("the other node has the image and runs machines", 120,
               lambda: "vm" in cluster.nodes()[f"node{3 - source}"]["isolations"], 0.5)
    load = Counter(ask, "alice-1", 3)
    load.start()
    time.sleep(1)
    began = time.monotonic()
    cluster.berth("node", "drain", f"node{source}", "--deadline", "300s")
    wait_until("it moved", 240, lambda: row("alice-1")["node"] != source and row("alice-1")["state"] == "live", 0.1)
    took = time.monotonic() - began
    time.sleep(1)
    load.stop = True
    load.join()
    assert all(s == 200 for s, _ in load.answers), [a for a in load.answers if a[0] != 200][:3]
    seen = [int(b) for _, b in load.answers]
    assert seen == list(range(seen[0], seen[0] + len(seen))), seen
    print(f"moved from node{source} to node{row('alice-1')['node']} in {ms(took)}; longest pause of {len(seen)} requests {ms(load.slowest)}")
    cluster.berth("node", "uncordon", f"node{source}")


run([test_sleeps_and_wakes, test_a_drain_moves_it], cluster)
