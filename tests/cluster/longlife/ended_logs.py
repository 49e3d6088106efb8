"""Logs of ended sessions: read by identifier and by sandbox through any node, across restarts of the daemons, until the retention;
the identifier itself is nowhere on the disk of the node beside Raft's own files."""
import contextlib
import os
import signal

from harness import Cluster, run, wait_until

RETENTION_S = 30

cluster = Cluster(settings=["cooldown_min=2", f"log_retention={RETENTION_S}s"], name="ended-logs").start()
cluster.import_image()
cluster.put_pool("talk", ready=1, cooldown=300)
cluster.put_pool("other", ready=1, cooldown=300)
NODES = (1, 2, 3)


def logs(*args, node=1, pool="talk", code=0):
    r = cluster.berth("logs", "--name", pool, "--resource-group", "rg", "--subscription",
                      "34adfa4f-cedf-4dc0-ba29-b6d1a69ab345", *args, check=False, env={"BERTH_SOCKET": str(cluster.socket(node))})
    assert r.returncode == code, (args, r.returncode, r.stdout, r.stderr)
    return r.stdout if code == 0 else r.stderr


def use(identifier, node=1):
    """A session that said its identifier's length to its console; its sandbox."""
    wait_until("a session", 30, lambda: cluster.session("talk", identifier, "/", node=node).status == 200)
    return wait_until("listed", 10, lambda: next((s["sandbox"] for s in cluster.sessions("talk")
                                                  if s.get("identifier") == identifier and s.get("sandbox")), None))


def end(identifier):
    a = cluster.admin("POST", f"/.berth/v1{cluster.arm_path('talk').split('?')[0]}/stopSession?identifier={identifier}")
    assert a.status < 300, a
    wait_until("it ended", 30, lambda: not any(s.get("identifier") == identifier for s in cluster.sessions("talk")))


def ready():
    """All nodes are, as far as they answer at all."""
    with contextlib.suppress(OSError):
        return all(cluster.admin("GET", "/ready", node=n).status == 200 for n in NODES)
    return False


def kill_daemon(node, program):
    pid = cluster.pid(node, program)
    os.kill(pid, signal.SIGKILL)
    wait_until(f"{program} is back", 20, lambda: cluster.pid(node, program) not in (None, pid))


ended = {}


def test_an_ended_session_can_be_read_through_each_node():
    live = {i: use(i, node=1 + n % 3) for n, i in enumerate(("alice-0001", "bob-000002"))}
    before = {i: logs("--identifier", i) for i in live}
    assert all(before.values()), "the sample says nothing at its start: this test would see nothing"
    for i, sandbox in live.items():
        end(i)
        ended[i] = sandbox
        for node in NODES:
            assert logs("--identifier", i, node=node) == before[i]
            assert logs("--sandbox", str(sandbox), node=node) == before[i]
        assert logs("--identifier", i, "--tail", "1").strip() == before[i].strip().splitlines()[-1]


def test_the_last_session_of_an_identifier_is_the_one():
    first, second = ended["alice-0001"], use("alice-0001")
    assert first != second
    end("alice-0001")
    assert logs("--identifier", "alice-0001") == logs("--sandbox", str(second))
    ended["alice-0001"] = second


def test_another_pool_does_not_get_it():
    logs("--sandbox", str(ended["bob-000002"]), pool="other", code=3)
    logs("--identifier", "bob-000002", pool="other", code=3)
    said = logs("--identifier", "nobody-0001", code=3)
    assert "retention" in said, said


def test_across_restarts_of_the_daemons():
    expected = {i: logs("--identifier", i) for i in ended}
    for node in NODES:
        kill_daemon(node, "sandboxd")
    wait_until("sandboxd is back everywhere", 30, ready)
    assert {i: logs("--identifier", i) for i in ended} == expected
    for node in NODES:
        kill_daemon(node, "berthd")
    wait_until("berthd is back everywhere", 60, ready)
    assert {i: logs("--identifier", i) for i in ended} == expected


def test_identifiers_are_not_on_the_disk():
    seen = 0
    for node in NODES:
        for path in (cluster.node_dir(node) / "state").rglob("*"):
            if path.is_file() and "raft" not in path.parts and "images" not in path.parts:
                seen += 1
                text = path.read_bytes() + path.name.encode()
                for identifier in ended:
                    assert identifier.encode() not in text, path
    assert seen > 10, seen


def test_they_end_with_the_retention():
    kept = [p for n in NODES for p in (cluster.node_dir(n) / "state/sandboxd/logs").iterdir()]
    assert kept
    wait_until("the retention is over", RETENTION_S + 20, lambda: not any(
        list((cluster.node_dir(n) / "state/sandboxd/logs").iterdir()) for n in NODES), 0.5)
    logs("--identifier", "bob-000002", code=3)


run([test_an_ended_session_can_be_read_through_each_node, test_the_last_session_of_an_identifier_is_the_one,
     test_another_pool_does_not_get_it, test_across_restarts_of_the_daemons, test_identifiers_are_not_on_the_disk,
     test_they_end_with_the_retention], cluster)
