"""The bill equals a recount from events: sessions of two pools, sandboxes that were never bound, stopped, crashed and idle sessions, a
pool update, a leader that is killed, daemons that are killed, a pool that is deleted. A planted second turns the recount red."""
import copy
import csv
import io
import json
import os
import signal
import time

import recount
from harness import Cluster, run, wait_until

cluster = Cluster(settings=["cooldown_min=2"], name="bill").start()
cluster.import_image()


def events():
    return recount.read_events(cluster.dir)


def session_of(pool, identifier):
    """As node 1 lists it, which may be a moment later than its first answer."""
    return wait_until(f"{identifier} is listed", 10, lambda: next(
        (s for s in cluster.sessions(pool) if s.get("identifier") == identifier and s.get("sandbox")), None))


def sandbox_of(pool, identifier):
    return session_of(pool, identifier)["sandbox"]


def pid_of(sandbox):
    return next(e["pid"] for e in events() if e["event"] == "started" and e["sandbox"] == sandbox)


def gone(sandbox):
    return [e for e in events() if e["event"] == "stopped" and e["sandbox"] == sandbox]


def call(pool, identifier, path="/", node=1, **how):
    """A request that is tried again while the cluster elects."""
    def answered():
        a = cluster.session(pool, identifier, path, node=node, **how)
        return a if a.status != 503 else None
    a = wait_until(f"{identifier} of {pool} answers", 30, answered, 0.2)
    assert a.status == 200, a
    return a


def export(node=1, form="json"):
    a = cluster.admin("GET", f"/.berth/v1/billing?format={form}", node=node)
    assert a.status == 200, a
    return a.json() if form == "json" else list(csv.DictReader(io.StringIO(a.body.decode())))


def settled(pools):
    """Nothing is booting or ending, so that rows and events stand still; then the bill must agree."""
    def quiet():
        seen = recount.recount(events())
        open_ones = {key for key, s in seen.items() if s.ready is not None and s.end is None and s.pool in pools}
        ended = {key for key, s in seen.items() if s.ready is not None and s.end is not None}
        return ended <= {r["sandbox"] for r in export()["records"]} and open_ones and \
            all(s.ready is not None or s.end is not None for s in seen.values())
    wait_until("sandboxes are settled", 60, quiet, 0.3)


def check(node=1):
    wrong = recount.compare(export(node), events())
    assert not wrong, "\n".join(wrong)


def leader():
    return cluster.admin("GET", "/.berth/v1/cluster", node=1).json()["leader"]


pools = {}


def put(name, **how):
    done = cluster.put_pool(name, **how)
    assert done["status"] == "Succeeded", done
    if name not in pools:
        pools[name] = wait_until(f"{name} has a sandbox", 30, lambda: next(
            (e["pool"] for e in events() if e["event"] == "ready" and e["pool"] not in pools.values()), None))


def test_pools_run_and_are_used():
    put("alpha", max_sessions=10, ready=2)
    put("beta", max_sessions=5, ready=1, cooldown=2, cpu=0.5, memory="1Gi")
    for i, node in enumerate((1, 2, 3, 1), start=1):
        call("alpha", f"user-{i}", node=node)
    call("beta", "brief-1", node=2)
    settled(pools.values())
    check()


def test_sessions_end_in_all_ways():
    stopped, crashed, left = (sandbox_of("alpha", f"user-{i}") for i in (1, 2, 3))
    path = cluster.pool_path("alpha") + "/.management/stopSession?identifier=user-1&api-version=2024-08-02-preview"
    c = cluster.connection(2)
    c.request("POST", path, headers={"Authorization": "Bearer " + cluster.token()})
    assert c.getresponse().status == 200
    os.kill(pid_of(crashed), signal.SIGKILL)
    call("alpha", "user-3", "/exit", query="&code=3")
    for sandbox in (stopped, crashed, left):
        wait_until("its sandbox is gone", 30, lambda sandbox=sandbox: gone(sandbox))
    wait_until("the idle session of beta is gone", 30, lambda: not cluster.sessions("beta"))
    settled(pools.values())
    check()


def test_an_update_replaces_unbound_sandboxes():
    old = {e["sandbox"] for e in events() if e["event"] == "ready" and e["pool"] == pools["alpha"]}
    put("alpha", max_sessions=10, ready=2, env=[{"name": "COLOUR", "value": "green"}])
    bound = sandbox_of("alpha", "user-4")
    wait_until("all old ones but the bound one are gone", 60,
               lambda: all(gone(s) for s in old - {bound}) and not gone(bound), 0.2)
    settled(pools.values())
    check(node=2)


def test_across_a_leader_change():
    call("alpha", "user-5", node=2)
    call("alpha", "user-6", node=3)
    settled(pools.values())
    victims = [sandbox_of("alpha", f"user-{i}") for i in (5, 6)]
    pids = [pid_of(s) for s in victims]
    old = leader()
    os.kill(cluster.pid(old, "berthd"), signal.SIGKILL)
    for pid in pids:  # ends that are told late
        os.kill(pid, signal.SIGKILL)
    for sandbox in victims:
        wait_until("the crashed one is gone", 60, lambda sandbox=sandbox: gone(sandbox), 0.2)
    call("alpha", "user-7", node=old % 3 + 1)
    call("alpha", "user-8", node=old)
    settled(pools.values())
    check(node=old % 3 + 1)


def test_across_deaths_of_sandboxd():
    call("alpha", "user-9", node=1)
    session = session_of("alpha", "user-9")
    settled(pools.values())
    pid = pid_of(session["sandbox"])
    os.kill(cluster.pid(session["node"], "sandboxd"), signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    time.sleep(2)  # its end is found late and must count from when it was
    wait_until("its sandbox is gone", 60, lambda: gone(session["sandbox"]), 0.2)
    settled(pools.values())
    check()


def test_a_deleted_pool_is_billed_to_its_end():
    call("beta", "brief-2", node=3)
    cluster.wait_operation(cluster.admin("DELETE", cluster.arm_path("beta")))
    settled([pools["alpha"]])
    check()
    cluster.wait_operation(cluster.admin("DELETE", cluster.arm_path("alpha")))
    ready = {e["sandbox"] for e in events() if e["event"] == "ready"}
    wait_until("all that was ready has a record", 30, lambda: ready <= {r["sandbox"] for r in export()["records"]})
    bill = export()
    assert not bill["running"], bill["running"]
    assert {r["pool"] for r in bill["records"]} == set(pools.values())
    assert {r["reason"] for r in bill["records"]} >= {"stopped", "exited", "idle", "pool-deleted"}, bill["records"]
    check()


def test_csv_says_the_same_as_json():
    bill, lines = export(), export(form="csv")
    for kind, name in (("bucket", "buckets"), ("running", "running"), ("correction", "corrections"), ("record", "records")):
        assert len([x for x in lines if x["kind"] == kind]) == len(bill[name]), kind
    sums, closed = recount.billed_sums(bill)
    columns = {"cpuMilliMs": "cpu_milli_ms", "memoryByteMs": "memory_byte_ms", "sandboxMs": "sandbox_ms", "sessionMs": "session_ms"}
    for pool in pools.values():
        for column, name in columns.items():
            of = {kind: sum(int(x[name]) for x in lines if x["kind"] == kind and int(x["pool"]) == pool)
                  for kind in ("bucket", "record")}
            assert of["bucket"] == sums[pool][column] == of["record"] == closed[pool][column], (pool, column, of)
    for x in (x for x in lines if x["kind"] == "bucket"):
        exact = (int(x["cpu_milli_ms"]) / 1e6, int(x["memory_byte_ms"]) / 2**30 / 1e3)
        assert abs(float(x["vcpu_seconds"]) - exact[0]) < 1e-5 and abs(float(x["memory_gib_seconds"]) - exact[1]) < 1e-5, x


def test_all_nodes_have_the_same_bill():
    def lasting(node):
        return {k: v for k, v in export(node).items() if k in ("buckets", "records", "corrections")}
    for node in (2, 3):
        wait_until("a follower has applied the last end", 5, lambda node=node: lasting(node)["buckets"] == lasting(1)["buckets"])
        assert lasting(node) == lasting(1)
    r = cluster.berth("billing", "export", "--format", "json")
    assert json.loads(r.stdout)["records"] == export()["records"]


def test_a_planted_second_is_found():
    bill, seen = export(), events()
    assert recount.compare(bill, seen) == []
    for kind in ("stopped", "ready", "opened"):
        for sign in (-1, 1):
            planted = copy.deepcopy(seen)
            victim = next(r["sandbox"] for r in bill["records"] if "opened" in r and r["reason"] == "stopped")
            for e in planted:
                if e["sandbox"] == victim and (e["event"] == kind or (kind, e["event"]) == ("opened", "connected")):
                    e["wall_ms"] += sign * 1000
            wrong = recount.compare(bill, planted)
            if kind == "stopped" or wrong:  # other moments differ by the milliseconds that a command takes: one sign shows
                assert wrong, (kind, sign)
    for name, column in (("buckets", "sandboxMs"), ("buckets", "sessionMs")):
        planted = copy.deepcopy(bill)
        planted[name][0][column] = str(int(planted[name][0][column]) + 1000)
        assert recount.compare(planted, seen), "a second too much in a sum"
    planted = copy.deepcopy(bill)
    planted["records"].pop(0)
    assert recount.compare(planted, seen), "a record that is missing"


run([test_pools_run_and_are_used, test_sessions_end_in_all_ways, test_an_update_replaces_unbound_sandboxes,
     test_across_a_leader_change, test_across_deaths_of_sandboxd, test_a_deleted_pool_is_billed_to_its_end,
     test_csv_says_the_same_as_json, test_all_nodes_have_the_same_bill, test_a_planted_second_is_found], cluster)
