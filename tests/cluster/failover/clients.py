"""Clients while nodes die: the `berth` tool with several endpoints and curl with its own retry keep working while any one node is killed; and
a change that was sent to a node that was killed, or while the leader was, happens once however often it is sent again.
"""
import json
import os
import signal
import subprocess
import threading
import time

from harness import API, Cluster, run, wait_until

NODES = (1, 2, 3)
cluster = Cluster(settings=["cooldown_min=1"], name="clients").start()
cluster.import_image()
endpoints = ",".join(f"https://127.0.0.1:{cluster.port(n, 'https')}" for n in NODES)


def leader():
    def known():
        for n in NODES:
            try:
                found = cluster.admin("GET", "/.berth/v1/cluster", node=n, timeout=5).json()["leader"]
            except OSError:
                continue
            if found:
                return found
        return None
    return wait_until("there is a leader", 15, known)


def whole():
    def ready():
        try:
            return all(cluster.admin("GET", "/ready", node=n, timeout=5).status == 200 for n in NODES)
        except OSError:
            return False
    wait_until("all nodes are ready", 20, ready, 0.1)


def kill(node):
    pid = cluster.pid(node, "berthd")
    os.kill(pid, signal.SIGKILL)


class Loop(threading.Thread):
    """A command again and again; what failed, and how long each took."""

    def __init__(self, command):
        super().__init__()
        self.command, self.failed, self.took, self.stopping = command, [], [], False
        self.start()

    def run(self):
        while not self.stopping:
            at = time.monotonic()
            r = subprocess.run(self.command(len(self.took)), capture_output=True, text=True, timeout=60, check=False)
            self.took.append(time.monotonic() - at)
            if r.returncode != 0:
                self.failed.append((r.returncode, r.stdout[-200:], r.stderr[-400:]))


def tool(*words):
    from harness import BUILD, GROUP, SUBSCRIPTION
    return [str(BUILD / "bin/berth"), *words, "--endpoint", endpoints, "--token", cluster.token("management"), "--ca", str(cluster.dir / "ca.pem"),
            "--subscription", SUBSCRIPTION, "--resource-group", GROUP]


def curl(node, path):
    return ["curl", "--silent", "--show-error", "--fail", "--retry", "20", "--retry-connrefused", "--retry-all-errors", "--retry-delay", "1",
            "--max-time", "30", "--cacert", str(cluster.dir / "ca.pem"), "-H", "Authorization: Bearer " + cluster.token(),
            f"https://127.0.0.1:{cluster.port(node, 'https')}{path}"]


def test_tools_go_on_while_any_node_dies():
    assert cluster.put_pool("demo", max_sessions=20, ready=2, cooldown=3600)["status"] == "Succeeded"
    loops = {"berth pool list": Loop(lambda i: tool("pool", "list")),
             "berth pool show": Loop(lambda i: tool("pool", "show", "--name", "demo")),
             "berth session list": Loop(lambda i: tool("session", "list", "--name", "demo")),
             **{f"curl through node {n}": Loop(lambda i, n=n: curl(n, f"{cluster.pool_path('demo')}/count?identifier=curl-{n}")) for n in NODES}}
    try:
        for node in sorted(NODES, key=lambda n: n == leader()):  # the leader last
            whole()
            time.sleep(0.5)
            kill(node)
            time.sleep(2)
    finally:
        for loop in loops.values():
            loop.stopping = True
        for loop in loops.values():
            loop.join()
    for name, loop in loops.items():
        print(f"        {name}: {len(loop.took)} times, {len(loop.failed)} failed, slowest {max(loop.took):.1f} s", flush=True)
        assert not loop.failed, (name, loop.failed[:2])
        assert len(loop.took) > 3


def test_a_leader_that_pauses():
    """Asked twice how far its tables go, it answers twice; neither is taken for the answer to what is asked next."""
    path = f"{cluster.pool_path('demo')}/.management/stopSession?identifier=paused-{{}}&api-version={API}"
    for turn in range(6):
        whole()
        first = leader()
        node = first % 3 + 1
        assert cluster.session("demo", f"paused-{turn}", node=node).status == 200
        pid, answers = cluster.pid(first, "berthd"), []
        asker = threading.Thread(target=lambda: answers.append(cluster.admin("POST", path.format(turn), node=node, timeout=20)))
        os.kill(pid, signal.SIGSTOP)
        try:
            asker.start()
            time.sleep(0.25)
        finally:
            os.kill(pid, signal.SIGCONT)
        asker.join()
        assert [a.status for a in answers] == [200], (turn, answers)


def insist(method, path, body, nodes, good):
    """As a client that hears no answer does: the same again, through one node after another, until it is answered."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for node in nodes:
            try:
                a = cluster.admin(method, path, body, node=node, timeout=10)
            except Exception:  # no answer: it may have been carried out
                continue
            if a.status in good:
                return a
            assert a.status in (409, 429, 503, 504), a
        time.sleep(0.1)
    raise AssertionError(f"{method} {path} is not answered")


def with_a_kill(victim, pause, work):
    """work() while `victim` dies `pause` seconds after it began."""
    result = []
    thread = threading.Thread(target=lambda: result.append(work()))
    thread.start()
    time.sleep(pause)
    kill(victim)
    thread.join()
    assert result, "it raised"
    return result[0]


def status_of(pool):
    return insist("GET", f"/.berth/v1{cluster.arm_path(pool).split('?')[0]}/status", None, NODES, (200,)).json()


def stays(what, check, seconds=2.5):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        assert check(), what
        time.sleep(0.2)


def stop_path(identifier):
    return f"/.berth/v1{cluster.arm_path('demo').split('?')[0]}/stopSession?identifier={identifier}&api-version={API}"


def once(round_, victim, taker, pause):
    """PUT, stop and DELETE: each sent to `taker` while `victim` dies, and sent again through others until it is answered."""
    nodes = [taker, *(n for n in NODES if n != taker)]
    name, identifier = f"once-{round_}", f"once-{round_}"
    resource = cluster.resource(max_sessions=2, ready=1, cooldown=3600)
    whole()
    with_a_kill(victim, pause, lambda: insist("PUT", cluster.arm_path(name), resource, nodes, (200, 201)))
    wait_until("it is provisioned", 20, lambda: status_of(name)["provisioningState"] == "Succeeded")
    s = status_of(name)
    assert s["desiredRevision"] == s["activeRevision"] == s["uid"] + 1, s  # ids are the cluster's counter: it is the first revision
    names = [p["name"] for p in insist("GET", cluster.arm_path(), None, NODES, (200,)).json()["value"]]
    assert names.count(name) == 1, names

    whole()
    first = cluster.session("demo", identifier, "/instance", node=taker).body
    with_a_kill(victim, pause, lambda: insist("POST", stop_path(identifier), {}, nodes, (200, 404)))
    def renewed():
        try:
            a = cluster.session("demo", identifier, "/instance", node=nodes[1], timeout=10)
        except OSError:
            return None
        return a.body if a.status == 200 and a.body != first else None
    second = wait_until("the identifier is opened again", 20, renewed)
    stays("the new session is not stopped by what was sent for the old one", lambda: cluster.session(
        "demo", identifier, "/instance", node=nodes[1], timeout=30).body == second)

    whole()
    with_a_kill(victim, pause, lambda: insist("DELETE", cluster.arm_path(name), None, nodes, (202, 204)))
    wait_until("it is gone", 20, lambda: insist("GET", cluster.arm_path(name), None, NODES, (200, 404)).status == 404)
    insist("PUT", cluster.arm_path(name), resource, nodes[1:], (200, 201))
    stays("the new pool is not deleted by what was sent for the old one",
          lambda: insist("GET", cluster.arm_path(name), None, NODES, (200,)).json()["properties"]["provisioningState"] in ("InProgress", "Succeeded"))


def test_a_change_happens_once_though_its_node_dies():
    lead = leader()
    once(1, victim=lead % 3 + 1, taker=lead % 3 + 1, pause=0.003)


def test_a_change_happens_once_though_the_leader_dies():
    lead = leader()
    once(2, victim=lead, taker=lead % 3 + 1, pause=0.003)


def test_without_a_majority_nobody_lies():
    """Two nodes stand still: what needs the tables is refused in time, with clear words; what a node knows of itself is told."""
    whole()
    lead = leader()
    still = [cluster.pid(n, "berthd") for n in NODES if n != lead]
    for pid in still:
        os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        a = cluster.pool("demo", lead)
        took = time.monotonic() - began
        assert a.status == 503 and a.headers["retry-after"] == "1" and "majority" in json.loads(a.body)["error"]["message"], a
        assert took < 8, took
        assert cluster.admin("GET", "/.berth/v1/cluster", node=lead).status == 200
    finally:
        for pid in still:
            os.kill(pid, signal.SIGCONT)
    wait_until("it is answered again", 10, lambda: cluster.pool("demo", lead).status == 200)
    print(f"        refused after {took:.1f} s", flush=True)


def test_what_a_read_costs():
    """Printed, for the notes: a GET behind a barrier, on the leader and on a follower, beside one that needs none."""
    lead, path = leader(), f"/.berth/v1{cluster.arm_path('demo').split('?')[0]}/status"
    for where, node, what in (("the leader", lead, path), ("a follower", lead % 3 + 1, path), ("no barrier", lead, "/.berth/v1/cluster")):
        took = []
        for _ in range(100):
            at = time.monotonic()
            assert cluster.admin("GET", what, node=node).status == 200
            took.append(time.monotonic() - at)
        took.sort()
        print(f"        {where}: p50 {took[50] * 1000:.1f} ms, p99 {took[99] * 1000:.1f} ms", flush=True)


run([test_tools_go_on_while_any_node_dies, test_a_leader_that_pauses, test_a_change_happens_once_though_its_node_dies, test_a_change_happens_once_though_the_leader_dies,
     test_without_a_majority_nobody_lies, test_what_a_read_costs], cluster)
