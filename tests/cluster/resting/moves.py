"""Sessions of machines that sleep and move, with real daemons and played machines that count their requests (played_sandboxd.c): a
suspended session keeps its count and its place and no capacity, and its next request wakes it; a drain moves sessions under load, with no
failed request and no lost count; a request that takes too long is cut and counted; daemons are killed in the middle. The pauses are printed."""
import os
import pathlib
import shutil
import signal
import tempfile
import time

import harness
from counter import Counter

PROGRAMS = pathlib.Path(tempfile.mkdtemp(prefix="played.", dir=harness.BUILD))


def play():
    """The build's programs, with another sandboxd."""
    PROGRAMS.chmod(0o755)  # for the user that berthd runs as
    (PROGRAMS / "bin").mkdir()
    for program in (harness.BUILD / "bin").iterdir():
        if program.is_file() and program.name != "sandboxd":
            os.link(program, PROGRAMS / "bin" / program.name)
    os.link(harness.BUILD / "tests/cluster/played-sandboxd", PROGRAMS / "bin/sandboxd")
    harness.BUILD = PROGRAMS


play()
cluster = harness.Cluster(settings=["cooldown_min=2", "vm=on", "vm_emulation=on"], name="moves")
try:
    cluster.start()
except AssertionError:
    print(cluster.log(1)[-3000:])
    raise
cluster.import_image()
run, wait_until = harness.run, harness.wait_until


def make_pool(name="machines", **how):
    r = cluster.resource(port=8080, command=["count"], **how)
    r["tags"] = {"berth.isolation": "vm"}
    done = cluster.put_pool(name, resource=r)
    assert done["status"] == "Succeeded", done


def ask(identifier, node=1, pool="machines", timeout=60):
    return cluster.session(pool, identifier, node=node, timeout=timeout)


def count(identifier, node=1, pool="machines"):
    a = ask(identifier, node, pool)
    assert a.status == 200, a
    return int(a.body)


def row(identifier, pool="machines", node=1):
    return next((s for s in cluster.sessions(pool, node=node) if s.get("identifier") == identifier), None)


def state(identifier, pool="machines", node=1):
    r = row(identifier, pool, node)
    return r and r["state"]


def node_row(node):
    a = cluster.admin("GET", "/.berth/v1/nodes")
    return next(n for n in a.json()["value"] if n["id"] == node)


def suspend(identifier, pool="machines"):
    cluster.berth("session", "suspend", "--name", pool, "--identifier", identifier, "--resource-group", harness.GROUP,
                  "--subscription", harness.SUBSCRIPTION)
    wait_until("it sleeps", 20, lambda: state(identifier, pool) == "suspended")


def test_suspend_and_wake():
    make_pool(ready=1, max_sessions=30)
    wait_until("first", 30, lambda: ask("alice-1").status == 200)
    first = count("alice-1")
    before = row("alice-1")
    suspend("alice-1")
    assert count("alice-1", 2) == first + 1  # through another node than before
    assert count("alice-1", 1) == first + 2
    after = row("alice-1")
    assert after["state"] == "live" and (after["generation"], after["sandbox"]) == (before["generation"], before["sandbox"])
    suspend("alice-1")
    began = time.monotonic()
    cluster.berth("session", "resume", "--name", "machines", "--identifier", "alice-1", "--resource-group", harness.GROUP,
                  "--subscription", harness.SUBSCRIPTION)
    wait_until("awake", 20, lambda: state("alice-1") == "live")
    print(f"woke in {(time.monotonic() - began) * 1e3:.0f} ms")
    assert count("alice-1") == first + 3
    suspend("alice-1")
    cluster.berth("session", "stop", "--name", "machines", "--identifier", "alice-1", "--resource-group", harness.GROUP,
                  "--subscription", harness.SUBSCRIPTION)
    wait_until("gone", 20, lambda: state("alice-1") is None)
    assert count("alice-1") == 1  # another session


def test_containers_do_not_sleep():
    r = cluster.resource(port=8080, command=["count"], ready=1)
    assert cluster.put_pool("plain", resource=r)["status"] == "Succeeded"
    count("carol-1", pool="plain")
    r = cluster.berth("session", "suspend", "--name", "plain", "--identifier", "carol-1", "--resource-group", harness.GROUP,
                      "--subscription", harness.SUBSCRIPTION, check=False)
    assert r.returncode != 0 and "container" in r.stderr, r


def drain(node):
    cluster.berth("node", "drain", f"node{node}", "--deadline", "120s")


def uncordon(node):
    cluster.berth("node", "uncordon", f"node{node}")


def test_a_drain_moves_sessions():
    identifiers = [f"user-{i}" for i in range(6)]
    for i in identifiers:
        wait_until("open", 30, lambda i=i: ask(i).status == 200)
    owners = {i: row(i)["node"] for i in identifiers}
    victim = max(set(owners.values()), key=list(owners.values()).count)
    mine = [i for i in identifiers if owners[i] == victim]
    load = [Counter(ask, i, k % 3 + 1) for k, i in enumerate(identifiers)]
    for c in load:
        c.start()
    time.sleep(0.5)
    began = time.monotonic()
    drain(victim)
    wait_until("empty", 60, lambda: node_row(victim).get("drained") or not [i for i in mine if row(i)["node"] == victim])
    took = time.monotonic() - began
    time.sleep(0.5)
    for c in load:
        c.stop = True
    for c in load:
        c.join()
    for c in load:
        assert all(s == 200 for s, _ in c.answers), (c.identifier, [a for a in c.answers if a[0] != 200][:3])
        seen = [int(b) for _, b in c.answers]
        assert seen == list(range(seen[0], seen[0] + len(seen))), (c.identifier, seen[:5], seen[-5:])
    print(f"drain of node{victim}: {len(mine)} sessions in {took:.2f} s; longest pause "
          f"{max(c.slowest for c in load if c.identifier in mine) * 1e3:.0f} ms of moved, "
          f"{max([c.slowest for c in load if c.identifier not in mine] or [0]) * 1e3:.0f} ms of others")
    assert all(row(i)["node"] != victim for i in mine)
    uncordon(victim)


def test_a_sleeper_moves_and_wakes_elsewhere():
    first = count("dora-1")
    suspend("dora-1")
    victim = row("dora-1")["node"]
    drain(victim)
    wait_until("moved", 60, lambda: row("dora-1")["node"] != victim and state("dora-1") == "suspended")
    assert count("dora-1") == first + 1
    uncordon(victim)


def test_daemons_are_killed_meanwhile():
    """Played machines live in sandboxd: only berthd is killed."""
    for turn in range(4):
        first = count("erik-1")
        source = row("erik-1")["node"]
        drain(source)
        if turn % 2:
            wait_until("it moves", 10, lambda: state("erik-1") in ("moving", "waking") or row("erik-1")["node"] != source, 0.001)
        victim = source if turn < 2 else source % 3 + 1
        os.kill(cluster.pid(victim, "berthd"), signal.SIGKILL)
        wait_until("moved", 60, lambda: (lambda r: r and r["node"] != source and r["state"] == "live")(row("erik-1", node=source % 3 + 1 if victim == source else source)))
        assert wait_until("answers", 30, lambda: (lambda a: a.status == 200 and int(a.body))(ask("erik-1", victim % 3 + 1))) == first + 1
        wait_until("all are back", 30, lambda: [n["state"] for n in cluster.nodes().values()] == ["up"] * 3)
        uncordon(source)


try:
    run([test_suspend_and_wake, test_containers_do_not_sleep, test_a_drain_moves_sessions, test_a_sleeper_moves_and_wakes_elsewhere,
         test_daemons_are_killed_meanwhile], cluster)
finally:
    shutil.rmtree(PROGRAMS, ignore_errors=True)
