"""A node that can no longer be told anything does nothing any more: what its sandboxes write to a host outside ends before their
identifiers live elsewhere. The receiving host notes what came when; `opened` is the moment when the identifier's next session began.

Each node has a network namespace of its own; the outside is one more on the same bridge. Three ways to lose a node: its berthd stands still;
berthd and sandboxd stand still, then their supervisor sees to it; it is cut off from all others while everything on it runs.
"""
import os
import signal
import subprocess
import sys
import threading
import time

PORT = 7777


def receive():
    """One line for each line that comes: wall_ms and the line."""
    import socketserver

    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            for line in self.rfile:
                os.write(1, f"{time.time() * 1000:.0f} {line.decode(errors='replace').strip()}\n".encode())

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address, daemon_threads = True, True
    with Server(("0.0.0.0", PORT), Handler) as server:
        print("here", flush=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        sys.stdin.read()  # until the test is gone
        os._exit(0)


if sys.argv[1:] == ["receive"]:
    receive()

import auditor  # noqa: E402
import sandboxes  # noqa: E402
from harness import run, wait_until  # noqa: E402
from machines import NET, PUBLIC, Machine, Machines, alone  # noqa: E402

alone()
LEASE_S, LOST_S = 4, 8
outside = Machine("outside", PUBLIC, f"ip route add {NET}.0/24 dev eth0")
receiver = subprocess.Popen(outside.enter(sys.executable, "-B", os.path.abspath(__file__), "receive"), stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, text=True)
assert receiver.stdout.readline() == "here\n"
came = []  # (wall_ms, line)
threading.Thread(target=lambda: came.extend((int(line.split(" ", 1)[0]), line.split(" ", 1)[1].strip()) for line in receiver.stdout),
                 daemon=True).start()
cluster = Machines(settings=["cooldown_min=2", f"lease_ms={LEASE_S * 1000}", f"lost_ms={LOST_S * 1000}", "queue_ms=20000"],
                   name="fencing").start()
cluster.import_image()
WRITER = f"""setsid sh -c 'n=0; while true; do n=$((n+1)); echo TAG $n; sleep 0.02; done | nc {PUBLIC} {PORT}' </dev/null >/dev/null 2>&1 &
"""


def lines(tag):
    return [at for at, line in list(came) if line.startswith(tag + " ")]


def writes(identifier, tag, node):
    a = cluster.session("out", identifier, "/run", method="POST", body=WRITER.replace("TAG", tag).encode(), node=node, timeout=60)
    assert a.status == 200, a
    wait_until(f"{tag} writes", 10, lambda: len(lines(tag)) > 5)


def leader():
    return wait_until("there is a leader", 10, lambda: cluster.admin("GET", "/.berth/v1/cluster").json()["leader"])


def row_of(identifier, node):
    return next((s for s in cluster.sessions("out", node=node) if s["identifier"] == identifier), None)


def lose(name, inflict, heal):
    """A follower's session is lost with its node and comes back elsewhere."""
    lead, turn = leader(), 0

    def on_a_follower():
        nonlocal turn
        turn += 1
        cluster.session("out", f"user-{name}-{turn}", "/instance", node=(lead + turn % 2) % 3 + 1)
        row = row_of(f"user-{name}-{turn}", lead)
        return row if row and row["node"] != lead else None
    row = wait_until("a session of a follower", 20, on_a_follower, 0.2)
    identifier, node, ask = row["identifier"], row["node"], lead
    pid = sandboxes.first_process(cluster, node, row["sandbox"])
    writes(identifier, f"{name}-old", node)
    renewed = time.time() * 1000
    inflict(node)
    try:
        def elsewhere():
            a = cluster.session("out", identifier, "/instance", node=ask, timeout=60)
            return a.status == 200 and row_of(identifier, ask)
        new = wait_until("the identifier lives elsewhere", 60, elsewhere, 0.05)
        assert new["sandbox"] != row["sandbox"] and new["node"] != node, (row, new)
        writes(identifier, f"{name}-new", ask)
    finally:
        heal(node)
    opened = min(e["wall_ms"] for e in auditor.recount.read_events(cluster.dir) if e.get("generation") == new["generation"])
    wait_until("the node is up again, in a new epoch", 20,
               lambda: [n["state"] for n in cluster.nodes(ask).values()] == ["up"] * 3)
    wait_until("the old sandbox is gone", 20, lambda: sandboxes.start_time(pid) is None)
    last = max(lines(f"{name}-old"))
    print(f"        {name}: the last write came {(last - renewed) / 1000:.2f} s after the fault (a lease lasts {LEASE_S} s), the identifier lived "
          f"elsewhere {(opened - renewed) / 1000:.2f} s after it: {(opened - last) / 1000:.2f} s between", flush=True)
    assert last < opened, (last, opened)
    wait_until("nothing more comes", 5, lambda: max(lines(f"{name}-new")) > last + 1000)
    assert max(lines(f"{name}-old")) == last
    return last - renewed


def each(signal_, *programs):
    def do(node):
        for program in programs:
            os.kill(cluster.pid(node, program), signal_)
    return do


def still_sandboxd(node):
    """berthd first: the next renewal would move the deadline."""
    held["sandboxd"] = cluster.pid(node, "sandboxd")
    each(signal.SIGSTOP, "berthd", "sandboxd")(node)


held = {}


def test_a_pool_that_writes():
    done = cluster.put_pool("out", max_sessions=60, ready=6, cooldown=3600, egress=True)
    assert done["status"] == "Succeeded", done


def test_berthd_stands_still():
    took = lose("berthd", each(signal.SIGSTOP, "berthd"), each(signal.SIGCONT, "berthd"))
    assert took < (LEASE_S + 1) * 1000, took


def test_both_daemons_stand_still():
    def heal(node):
        each(signal.SIGCONT, "berthd")(node)
        assert cluster.pid(node, "sandboxd") != held["sandboxd"], "the supervisor began another sandboxd"
    took = lose("both", still_sandboxd, heal)
    assert took < (LOST_S - 0.5) * 1000, took


def test_cut_off():
    took = lose("cut", cluster.cut, cluster.heal)
    assert took < (LEASE_S + 1) * 1000, took


def test_the_auditor_agrees():
    e = auditor.collect(cluster, ["out"], auditor.History(), lost=[1, 2, 3])
    wrong = auditor.audit(e)
    assert not wrong, wrong[:5]
    frozen = sum(ev["event"] == "frozen" for ev in e.events)
    assert frozen >= 3, frozen


run([test_a_pool_that_writes, test_berthd_stands_still, test_both_daemons_stand_still, test_cut_off, test_the_auditor_agrees], cluster)
