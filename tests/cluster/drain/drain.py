"""Cordon, drain, upgrade and bring back a node under load, with real processes: sessions of the node that idle out, sessions of
other nodes and new identifiers see no failed request; also a drain of the leader, a leader killed during a drain, a deadline and
a cancel. The time to empty is printed. BERTH_DRAINS=N repeats the drain under load N times (1)."""
import json
import os
import re
import signal
import subprocess
import threading
import time

from harness import BUILD, VM, Cluster, run, wait_until
from sandboxes import Load

# Few machines, which ask for little: they may be emulated, and begin within seconds.
COOLDOWN_S = 10 if VM else 4
READY = 3 if VM else 6
IDENTIFIERS = [f"user-{i:02d}" for i in range(6 if VM else 12)]
PAUSE_S, NEWCOMERS_S = (0.2, 3) if VM else (0.02, 0.2)

cluster = Cluster(settings=["cooldown_min=2"]).start()
cluster.import_image()


def api(method, path, node=1, body=None):
    a = cluster.admin(method, "/.berth/v1/" + path, body, node=node)
    assert a.status == 200, (method, path, a)
    return a.json()


def node_row(node, by=1):
    return next(n for n in api("GET", "nodes", by)["value"] if n["id"] == node)


def leader(by=1):
    return wait_until("some node leads", 10, lambda: next((n["id"] for n in api("GET", "nodes", by)["value"] if n["leader"]), 0))


def others(node):
    return [n for n in (1, 2, 3) if n != node]


def owners(by=1, pool="demo"):
    return {s["identifier"]: s["node"] for s in cluster.sessions(pool, node=by) if s["state"] == "live"}


def ready(pool="demo", by=1):
    a = cluster.admin("GET", f"/.berth/v1{cluster.arm_path(pool).split('?')[0]}/status", node=by)
    return a.json()["sandboxes"]["ready"]


def open_sessions(identifiers=IDENTIFIERS):
    """Sessions on all nodes: opened through each in turn, when the share is full again. None idles out meanwhile."""
    for k, i in enumerate(identifiers):
        wait_until("the ready share is full", 15, lambda: ready() >= READY)
        for opened in identifiers[:k + 1]:
            assert cluster.session("demo", opened, node=k % 3 + 1).status == 200
    return wait_until("node 1 lists them", 5, lambda: (lambda o: o if set(identifiers) <= set(o) else None)(owners()))


class Newcomers:
    """Identifiers that nobody named before, one after the other through all nodes."""

    def __init__(self, nodes=(1, 2, 3)):
        self.nodes, self.seen, self.stopping = nodes, [], False
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        k = 0
        while not self.stopping:
            k += 1
            name = f"new-{time.monotonic_ns()}"
            try:
                a = cluster.session("demo", name, node=self.nodes[k % len(self.nodes)], timeout=120 if VM else 30)
                self.seen.append((name, a.status, a.body[:200]))
            except Exception as e:  # a broken connection is a failure as well
                self.seen.append((name, 0, repr(e)))
            time.sleep(NEWCOMERS_S)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stopping = True
        self.thread.join()

    def check(self):
        bad = [s for s in self.seen if s[1] != 200]
        assert self.seen and not bad, (len(bad), len(self.seen), bad[:3])


def check_load(seen):
    bad = [(i, s) for i, list_ in seen.items() for s in list_ if s[2] != 200]
    n = sum(len(list_) for list_ in seen.values())
    assert n and not bad, (len(bad), n, bad[:3])
    for i, list_ in seen.items():
        counts = [s[3] for s in list_]
        assert counts == sorted(set(counts)), (i, "the same session all the time", counts)
    return n


def berth_drain(node, *options):
    return subprocess.Popen([str(BUILD / "bin/berth"), "node", "drain", f"node{node}", "--progress", "--output", "json", *options],
                            env={**os.environ, "BERTH_DIR": str(cluster.dir)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True)


def drained(process, seconds=120 if VM else 60):
    out, err = process.communicate(timeout=seconds)
    assert process.returncode == 0, (process.returncode, out, err)
    return json.loads(out), err


def test_pool():
    done = cluster.put_pool("demo", max_sessions=200, ready=READY, cooldown=COOLDOWN_S)
    assert done["status"] == "Succeeded", done
    wait_until("the ready share is full", 20, lambda: ready() >= READY)


def test_cordon_and_uncordon():
    row = node_row(2)
    assert row["scheduling"] == "open" and row["ready"] > 0, row
    for _ in range(2):  # idempotent, on any node
        assert api("POST", "nodes/node2/cordon", node=3)["scheduling"] == "cordoned"
    assert node_row(2)["scheduling"] == "cordoned", "read where it was not written"
    fewest = READY

    def moved():
        nonlocal fewest
        fewest = min(fewest, ready())
        return node_row(2)["ready"] == 0 and ready() == READY
    wait_until("the ready share is elsewhere", 20, moved)
    assert fewest == READY, f"only {fewest} were ready meanwhile: new ones come first"
    opened = open_sessions([f"cordon-{i}" for i in range(6)])
    assert 2 not in opened.values(), opened
    assert "cordoned" in cluster.berth("node", "list", "--output", "table").stdout
    assert json.loads(cluster.berth("node", "uncordon", "node2", "--output", "json").stdout)["scheduling"] == "open"
    assert cluster.admin("POST", "/.berth/v1/nodes/node9/cordon").status == 404
    assert cluster.admin("POST", "/.berth/v1/nodes/2/drain", {"deadlineSeconds": -1}).status == 400


def looked_at(show, leaving):
    assert show["scheduling"] == "draining" and show["bound"] >= len(leaving), show
    assert show["emptyWithinMs"] <= 300000, show
    assert {s["identifier"] for s in show["sessions"]} >= set(leaving), show


def drain_under_load(node):
    """Sessions of the node get some requests, then idle out, or are taken elsewhere, as machines are; those of the others are busy all
    the time."""
    opened = open_sessions()
    leaving = [i for i in IDENTIFIERS if opened[i] == node]
    staying = [i for i in IDENTIFIERS if opened[i] != node]
    assert leaving and staying, opened
    by = others(node)[0]
    with Load(cluster, "demo", staying, pause=PAUSE_S) as busy, Newcomers() as new:
        process = berth_drain(node, "--deadline", "5m", "--wait")
        with Load(cluster, "demo", leaving, pause=PAUSE_S) as idling:
            time.sleep(1.5)
            if not VM:  # machines are on their way already, or there
                looked_at(api("GET", f"nodes/node{node}/drain", by), leaving)
        result, err = drained(process)
        assert result["scheduling"] == "drained" and re.search(r"node\d is drained: empty after", err), err
        print(f"  node{node}: {len(leaving)} sessions {'moved or ' if VM else ''}idled out, empty after {result['elapsedMs'] / 1000:.1f} s "
              f"(cooldown {COOLDOWN_S} s)")
        again = {i: cluster.session("demo", i, node=by).status for i in leaving}
        time.sleep(1)
    requests = check_load(busy.seen) + check_load(idling.seen)
    new.check()
    assert set(again.values()) == {200}, again
    homes = owners(by)
    assert node not in homes.values(), homes
    assert node_row(node, by)["bound"] == 0 and node_row(node, by)["scheduling"] == "drained"
    print(f"  {requests} requests and {len(new.seen)} new identifiers, none failed")


def test_drain_upgrade_and_bring_back():
    for turn in range(int(os.environ.get("BERTH_DRAINS", "1"))):
        at = leader()
        node = others(at)[turn % 2]
        rest = others(node)
        drain_under_load(node)
        with Load(cluster, "demo", IDENTIFIERS, nodes=rest, pause=PAUSE_S) as load, Newcomers(rest) as new:
            stop_node(node)
            time.sleep(1)
            cluster.berth("cluster", "start", "--dir", str(cluster.dir))  # "upgraded": the others run already
            wait_until("it is up, and still cordoned", 20, lambda: node_row(node, rest[0])["scheduling"] == "drained")
            assert json.loads(cluster.berth("node", "uncordon", f"node{node}", "--output", "json",
                                            env={"BERTH_SOCKET": str(cluster.socket(rest[0]))}).stdout)["scheduling"] == "open"
            wait_until("it gets sandboxes again", 30, lambda: node_row(node, rest[0])["ready"] > 0)
        print(f"  {check_load(load.seen)} requests through the other nodes while node{node} was upgraded, none failed")
        new.check()


def stop_node(node):
    supervisor = int((cluster.node_dir(node) / "run/supervisor.pid").read_text())
    os.kill(supervisor, signal.SIGTERM)
    wait_until("its supervisor ended", 20, lambda: not os.path.exists(f"/proc/{supervisor}") or
               open(f"/proc/{supervisor}/stat").read().rsplit(")", 1)[1].split()[0] == "Z")


def test_drain_of_the_leader():
    node = leader()
    by = others(node)[0]
    staying = [i for i, n in open_sessions().items() if n != node and i in IDENTIFIERS]
    with Load(cluster, "demo", staying, pause=PAUSE_S) as load, Newcomers() as new:
        began = time.monotonic()
        process = berth_drain(node, "--deadline", "5m", "--wait")
        wait_until("another node leads", 10, lambda: leader(by) != node)
        handed = time.monotonic() - began
        result, _ = drained(process)
    print(f"  leadership handed over within {handed:.1f} s, empty after {result['elapsedMs'] / 1000:.1f} s, "
          f"{check_load(load.seen)} requests, none failed")
    new.check()
    assert leader(by) != node and not result["leader"]
    api("POST", f"nodes/node{node}/uncordon", by)


def test_the_leader_is_killed_and_the_deadline_ends_a_busy_one():
    at = leader()
    node = others(at)[0]
    rest = [n for n in others(node) if n != at][0]
    opened = open_sessions()
    busy = next(i for i in IDENTIFIERS if opened[i] == node)
    with Load(cluster, "demo", [busy], nodes=[rest], pause=PAUSE_S):
        process = berth_drain(node, "--deadline", "15s", "--wait")
        time.sleep(2)
        term = api("GET", "cluster", rest)["term"]
        os.kill(cluster.pid(at, "berthd"), signal.SIGKILL)
        wait_until("a new term has a leader that stays", 15, lambda: api("GET", "cluster", rest)["term"] > term and
                   leader(rest) not in (0, node))
        show = api("GET", f"nodes/node{node}/drain", rest)
        assert show["scheduling"] == "draining" and show["bound"] > 0, show
        assert [s["identifier"] for s in show["sessions"] if s["busy"]] == [busy], show
        result, _ = drained(process)
    assert result["elapsedMs"] >= 15000 - 1000, result
    print(f"  a busy session ended at the deadline of 15 s: empty after {result['elapsedMs'] / 1000:.1f} s")
    path = f"/.berth/v1{cluster.arm_path('demo').split('?')[0]}/sessions?ended=true"
    ended = cluster.admin("GET", path, node=rest).json()["value"]
    assert "drained" in {s["reason"] for s in ended}, {s["reason"] for s in ended}
    api("POST", f"nodes/node{node}/uncordon", rest)


def test_cancel():
    wait_until("all nodes are up", 20, lambda: all(cluster.admin("GET", "/ready", node=n).status == 200 for n in (1, 2, 3)))
    node = others(leader())[0]
    opened = open_sessions()
    kept = [i for i in IDENTIFIERS if opened[i] == node]
    with Load(cluster, "demo", kept, pause=PAUSE_S) as load:
        process = berth_drain(node, "--deadline", "5m", "--wait")
        wait_until("it drains", 10, lambda: node_row(node)["scheduling"] == "draining")
        assert json.loads(cluster.berth("node", "drain", f"node{node}", "--cancel", "--output", "json").stdout)["scheduling"] == "open"
        _, err = process.communicate(timeout=20)
        assert process.returncode == 1 and "cancelled" in err, (process.returncode, err)
        with Newcomers():
            wait_until("it gets sandboxes again", 30, lambda: node_row(node)["ready"] > 0)
    check_load(load.seen)
    assert {i: n for i, n in owners().items() if i in kept} == {i: node for i in kept}, "the same sessions"


tests = [test_pool, test_cordon_and_uncordon, test_drain_upgrade_and_bring_back, test_drain_of_the_leader,
         test_the_leader_is_killed_and_the_deadline_ends_a_busy_one, test_cancel]
run(tests[:1] + tests[2:3] if VM else tests, cluster)
