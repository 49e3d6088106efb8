"""Two of three voters are gone for good: the third goes on alone with its own sessions; who comes back is refused."""
import os
import signal
import subprocess
import sys

sys.dont_write_bytecode = True
import harness as h

cluster = h.Cluster(3, name="recover", settings=["lease_ms=4000", "lost_ms=7000"])
kept, started = {}, {}


def supervisor(node):
    return int((cluster.node_dir(node) / "run/supervisor.pid").read_text())


def kill_node(node):
    """All of it at once, without a word: as a machine that burns."""
    pids = [supervisor(node), cluster.pid(node, "berthd"), cluster.pid(node, "sandboxd")]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    h.wait_until(f"node{node} is dead", 10, lambda: not any(os.path.exists(f"/proc/{pid}/exe") for pid in pids))


def stop_node(node):
    pid = supervisor(node)
    os.kill(pid, signal.SIGTERM)
    h.wait_until(f"node{node} stops", 20, lambda: not os.path.exists(f"/proc/{pid}/exe"))


def recover(*options, node=1):
    return cluster.berth("cluster", "recover", "--dir", str(cluster.node_dir(node)), *options, check=False)


def start_node(node):
    """Its supervisor alone; `cluster start` would begin the others too."""
    log = open(cluster.node_dir(node) / "log", "ab")
    started[node] = subprocess.Popen([str(h.BUILD / "bin/berth-supervisor"), str(cluster.node_dir(node) / "berth.conf")],
                                     stdout=log, stderr=log, start_new_session=True)


def test_start():
    cluster.start()
    cluster.import_image()
    assert cluster.put_pool("pool", ready=3, max_sessions=20)["status"] == "Succeeded"
    for i in range(9):
        assert cluster.session("pool", f"identifier-{i}", "/count", node=1 + i % 3).json() == 1
    kept["sessions"] = {s["identifier"]: s for s in cluster.sessions("pool")}
    assert len(kept["sessions"]) == 9
    kept["own"] = [i for i, s in kept["sessions"].items() if s["node"] == 1]
    assert 0 < len(kept["own"]) < 9, kept["sessions"]
    kept["incarnation"] = cluster.admin("GET", "/.berth/v1/cluster").json()["incarnation"]


def test_it_says_what_it_has_and_waits_for_a_word():
    r = recover("--yes")
    assert r.returncode == 1 and "this node runs" in r.stderr, r
    kill_node(2)
    kill_node(3)
    h.wait_until("no leader is known", 20, lambda: cluster.admin("GET", "/.berth/v1/cluster").json()["leader"] != 1)
    stop_node(1)
    r = recover()
    print("        " + r.stderr.strip().replace("\n", "\n        "))
    assert r.returncode == 1 and "nothing was changed" in r.stderr and "log up to index" in r.stderr, r
    assert f"{len(kept['own'])} sessions are on this node and stay; {9 - len(kept['own'])} are on other nodes" in r.stderr, r
    assert (cluster.node_dir(1) / "state/berthd/raft").exists()
    assert not list((cluster.node_dir(1) / "state/berthd").glob("raft.before-*"))


def test_it_goes_on_alone():
    r = recover("--yes")
    assert r.returncode == 0, r
    assert len(list((cluster.node_dir(1) / "state/berthd").glob("raft.before-*"))) == 2
    start_node(1)
    h.wait_until("node1 is ready", 30, lambda: cluster.socket(1).exists() and ready())
    h.wait_until("its lease lasts", 20, lambda: cluster.log(1).count("the lease lasts") == 2)
    status = cluster.admin("GET", "/.berth/v1/cluster").json()
    assert status["incarnation"] > kept["incarnation"], status
    assert [n["id"] for n in status["nodes"]] == [1], status
    sessions = {s["identifier"]: s for s in cluster.sessions("pool")}
    assert sorted(sessions) == sorted(kept["own"]), (sessions, kept["own"])
    for identifier in kept["own"]:
        assert sessions[identifier]["sandbox"] == kept["sessions"][identifier]["sandbox"]
        a = cluster.session("pool", identifier, "/count")
        assert a.status == 200 and a.json() == 2, f"the very process of before: {a}"
    a = cluster.session("pool", "identifier-afresh", "/count")
    assert a.status == 200, a


def ready():
    try:
        return cluster.admin("GET", "/ready").status == 200
    except OSError:
        return False


def test_who_comes_back_is_refused():
    start_node(2)
    start_node(3)
    h.wait_until("node2 is told why", 40, lambda: "the cluster was recovered or restored without it" in cluster.log(2))
    h.wait_until("node3 is told why", 40, lambda: "the cluster was recovered or restored without it" in cluster.log(3))
    status = cluster.admin("GET", "/.berth/v1/cluster").json()
    assert [n["id"] for n in status["nodes"]] == [1] and status["leader"] == 1, status
    for identifier in kept["own"]:
        assert cluster.session("pool", identifier, "/count").status == 200


def test_they_join_anew():
    for node in (2, 3):
        started[node].wait(timeout=20)  # its supervisor has ended too
        cluster.berth("node", "purge", f"node{node}", "--dir", str(cluster.dir))
    cluster.join(2)
    h.wait_until("node2 is up", 30, lambda: cluster.nodes(2).get("node2", {}).get("state") == "up")
    a = cluster.session("pool", kept["own"][0], "/count", node=2)
    assert a.status == 200, a


h.run([test_start, test_it_says_what_it_has_and_waits_for_a_word, test_it_goes_on_alone, test_who_comes_back_is_refused, test_they_join_anew], cluster)
