"""Workers: nodes without the log and without keys, fed by a voter. They run sandboxes, serve clients, answer the API, and take
up again where they were when a voter, they themselves, or all voters go away.

BERTH_WORKERS=N: so many beside three voters (5); BERTH_ROUNDS=N: each process is killed so often (1).
"""
import os
import re
import secrets
import signal
import time

import auditor
import sandboxes
from harness import Cluster, run, wait_until
from sandboxes import Load

WORKERS = int(os.environ.get("BERTH_WORKERS", "5"))
ROUNDS = int(os.environ.get("BERTH_ROUNDS", "1"))
LEASE_S = 5
SECRET = secrets.token_hex(20)
IDENTIFIERS = [f"user-{i:02d}" for i in range(3 + 2 * WORKERS)]

cluster = Cluster(workers=WORKERS, settings=["cooldown_min=2", f"lease_ms={LEASE_S * 1000}", "lost_ms=20000", "feed_memory_max=64Ki"])
cluster.start().import_image()
before = sandboxes.left(cluster)
ALL = list(range(1, cluster.n + 1))


def rows(node=1):
    return {s["identifier"]: s for s in cluster.sessions("demo", node=node) if s["state"] == "live"}


def figure(node, name):
    return int(re.search(rf"^berth_{name} (\d+)", cluster.admin("GET", "/metrics", node=node).body.decode(), re.M)[1])


def feeder_of(worker):
    return figure(worker, "feed_voter")


def leader():
    return wait_until("there is a leader", 10, lambda: cluster.admin("GET", "/.berth/v1/cluster").json()["leader"])


def facts():
    return sandboxes.facts(cluster, rows())


def caught_up(node, seconds=10):
    """The node's tables hold what a voter's do."""
    def same():
        try:
            return set(rows(node)) == set(IDENTIFIERS)
        except (OSError, AssertionError):
            return False
    wait_until(f"node {node} shows all sessions", seconds, same)


def all_are_served(seconds=10):
    """Every session through every node: leases are renewed, routes are right."""
    for identifier in IDENTIFIERS:
        for node in ALL:
            wait_until(f"{identifier} is served through node {node}", seconds,
                       lambda: cluster.session("demo", identifier, "/count", node=node, timeout=10).status == 200)


def kill(node):
    os.kill(cluster.pid(node, "berthd"), signal.SIGKILL)


def under_load(act, through, seconds=1.5):
    """While act() runs and for so long behind it: no request through these nodes to sessions that are elsewhere fails."""
    with Load(cluster, "demo", IDENTIFIERS, nodes=through) as load:
        time.sleep(0.5)
        act()
        time.sleep(seconds)
    return load.seen


def failures(seen, identifiers):
    return [(i, s) for i in identifiers for s in seen[i] if s[2] != 200]


def test_workers_are_nodes():
    for node in (1, cluster.n):
        nodes = cluster.admin("GET", "/.berth/v1/nodes", node=node).json()["value"]
        assert [(n["id"], n["role"], n["state"]) for n in nodes] == [
            (i, "voter" if i in cluster.voters else "worker", "up") for i in ALL], nodes
    for worker in cluster.workers:
        files = {p.name for p in cluster.node_dir(worker).rglob("*")}
        assert not files & {"keyring", "first-keys", "issuer.key", "ca.key", "raft"}, files


def test_sessions_live_on_workers():
    resource = cluster.resource(max_sessions=40, ready=WORKERS + 3, env=[{"name": "WORD", "secretRef": "word"}])
    resource["properties"]["secrets"] = [{"name": "word", "value": SECRET}]
    assert cluster.put_pool("demo", resource=resource)["status"] == "Succeeded"
    for i, identifier in enumerate(IDENTIFIERS):
        a = cluster.session("demo", identifier, "/count", node=i % cluster.n + 1)
        assert a.status == 200, (identifier, a)
    used = {r["node"] for r in rows().values()}
    assert used >= set(cluster.workers), used
    for node in ALL:
        assert set(rows(node)) == set(IDENTIFIERS), node
        for identifier in IDENTIFIERS:
            assert cluster.session("demo", identifier, "/count", node=node).status == 200, (identifier, node)


def test_secrets_reach_the_sandbox_alone():
    for identifier, row in rows().items():
        assert cluster.session("demo", identifier, "/env").json()["WORD"] == SECRET, row
    for worker in cluster.workers:
        for path in cluster.node_dir(worker).rglob("*"):
            if path.is_file():
                assert SECRET.encode() not in path.read_bytes(), path


def test_a_worker_signs_no_token():
    a = cluster.admin("POST", "/.berth/v1/tokens", {"subject": "x", "audience": "https://dynamicsessions.io",
                                                    "roles": [{"role": "Owner", "scope": "/"}]}, node=cluster.n)
    assert a.status == 403 and "voter" in a.json()["error"]["message"], a


def test_a_worker_has_changes_made_by_a_voter():
    """Its clients' tokens go with the request, and decide there; its admin socket has no say."""
    node = cluster.n

    def ask(method, path, body=None, **token):
        headers = {"Content-Type": "application/json", "Authorization": "Bearer " + cluster.token("management", **token)}
        return cluster._request(cluster.connection(node), method, path, body, headers)
    path = cluster.arm_path("through-a-worker")
    resource = cluster.resource(ready=0, max_sessions=1)
    resource["properties"]["customContainerTemplate"]["containers"][0]["env"] = [{"name": "A", "secretRef": "a"}]
    resource["properties"]["secrets"] = [{"name": "a", "value": "sealed by a voter"}]
    a = ask("PUT", path, resource, roles=[{"role": "Reader", "scope": "/"}])
    assert a.status == 403, a
    assert cluster._request(cluster.connection(node), "PUT", path, resource, {}).status == 401
    a = ask("PUT", path, resource)
    assert a.status in (200, 201) and "x-ms-request-id" in a.headers, a
    cluster.wait_operation(a, node)
    assert ask("GET", path).status == 200, "and it reads what it wrote"
    a = cluster.admin("DELETE", path, node=node)
    assert a.status == 403 and "voter" in a.json()["error"]["message"], a
    a = ask("DELETE", path)
    assert a.status in (202, 204), a
    cluster.wait_operation(a, node)
    assert ask("GET", path).status == 404


def test_a_worker_shows_what_it_has():
    """Logs of its own sandboxes; others' logs and bills it says to ask voters for, and shows no part of them."""
    node = cluster.n
    a = cluster.admin("GET", "/.berth/v1/billing?format=json", node=node)
    assert a.status == 403 and a.json()["error"]["code"] == "NotAVoter", a
    known = rows()
    mine = next(i for i, r in known.items() if r["node"] == node)
    others = next(i for i, r in known.items() if r["node"] != node)
    path = f"/.berth/v1{cluster.arm_path('demo').split('?')[0]}/logs?identifier={{}}"
    assert cluster.admin("GET", path.format(mine), node=node).status == 200
    assert cluster.admin("GET", path.format(others), node=node).status == 403
    assert cluster.admin("GET", path.format(mine), node=1).status == 200, "a voter reads a worker's"


def test_the_voter_that_feeds_is_killed():
    for _ in range(ROUNDS):
        known, victim = facts(), feeder_of(cluster.workers[0])
        others = [i for i in IDENTIFIERS if known[i][1] != victim]
        seen = under_load(lambda: kill(victim), [n for n in ALL if n != victim])
        assert not failures(seen, others), failures(seen, others)[:5]
        assert all(feeder_of(w) not in (0, victim) for w in cluster.workers), "another voter feeds them"
        assert sum(figure(v, "feeds") for v in cluster.voters if v != victim) == WORKERS
        caught_up(victim)
        all_are_served()
        assert facts() == known


def test_the_leader_is_killed():
    for _ in range(ROUNDS):
        known, victim = facts(), leader()
        others = [i for i in IDENTIFIERS if known[i][1] != victim]
        seen = under_load(lambda: kill(victim), [n for n in ALL if n != victim])
        assert not failures(seen, others), failures(seen, others)[:5]
        for node in ALL:
            caught_up(node)
        all_are_served()
        assert facts() == known


def test_a_worker_is_killed():
    for _ in range(ROUNDS):
        known = facts()
        victim = max(cluster.workers, key=lambda n: sum(f[1] == n for f in known.values()))
        others = [i for i in IDENTIFIERS if known[i][1] != victim]
        seen = under_load(lambda: kill(victim), [n for n in ALL if n != victim])
        assert not failures(seen, others), failures(seen, others)[:5]
        caught_up(victim)
        all_are_served()
        assert facts() == known, "it took its sandboxes up again"


def test_a_worker_that_was_cut_off_begins_anew():
    victim = cluster.workers[-1]
    pid, snapshots = cluster.pid(victim, "berthd"), cluster.log(victim).count("took a snapshot")
    known = facts()
    os.kill(pid, signal.SIGSTOP)
    try:
        for i in range(60):  # more than what is on its way to it and feed_memory_max of entries
            cluster.put_pool(f"filler-{i}", wait=False, ready=0, max_sessions=1, args=["x" * 30000])
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_until("it took a snapshot", 10, lambda: cluster.log(victim).count("took a snapshot") > snapshots)
    caught_up(victim)
    all_are_served()
    assert facts() == known


def test_without_voters_workers_freeze():
    known = facts()
    identifier, fact = next((i, f) for i, f in known.items() if f[1] in cluster.workers)
    pids = [cluster.pid(v, "berthd") for v in cluster.voters]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        assert cluster.session("demo", identifier, "/count", node=fact[1]).status == 200, "while the lease lasts"
        wait_until("it is frozen", LEASE_S + 3, lambda: sandboxes.frozen(fact[2]))
        def refused():
            try:
                a = cluster.session("demo", identifier, "/count", node=fact[1], timeout=1)
                return a.status == 503 and "retry-after" in a.headers
            except TimeoutError:  # it came just before the gateway knew, to what was frozen
                return False
        wait_until("it is refused", 5, refused)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    wait_until("it is thawed", 10, lambda: not sandboxes.frozen(fact[2]))
    wait_until("it is served", 10, lambda: cluster.session("demo", identifier, "/count", node=fact[1], timeout=10).status == 200)
    all_are_served()
    assert facts() == known, "none was lost"


def test_the_auditor_agrees():
    history = auditor.History()
    for identifier in IDENTIFIERS:
        for node in ALL:
            # Leases come back one after another, and each gateway hears of them in its own time.
            a = wait_until("it is served through each", 10, lambda: next(
                (a for a in [cluster.session("demo", identifier, "/instance", node=node)] if a.status == 200), None))
            history.answered("demo", identifier, a.body.decode(), kept=True)
    wrong = auditor.audit(auditor.collect(cluster, ["demo"], history, nodes=ALL))
    assert not wrong, wrong[:5]


def test_nothing_is_left():
    for pool in [v["name"] for v in cluster.admin("GET", cluster.arm_path()).json()["value"]]:
        cluster.admin("DELETE", cluster.arm_path(pool))
    wait_until("all of it is gone", 20, lambda: sandboxes.left(cluster) == before, 0.5)


run([test_workers_are_nodes, test_sessions_live_on_workers, test_secrets_reach_the_sandbox_alone, test_a_worker_signs_no_token,
     test_a_worker_has_changes_made_by_a_voter, test_a_worker_shows_what_it_has, test_the_voter_that_feeds_is_killed,
     test_the_leader_is_killed, test_a_worker_is_killed, test_a_worker_that_was_cut_off_begins_anew, test_without_voters_workers_freeze, test_the_auditor_agrees,
     test_nothing_is_left], cluster)
