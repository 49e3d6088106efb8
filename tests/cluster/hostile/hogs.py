"""What takes all it can get inside one sandbox: only that sandbox is hurt.

Beside each hog a neighbour on the same node is asked all the time: not one of its answers may be wrong (how fast they come is
no matter here). The node keeps its lease and its daemons, the hog is refused or ends with a reason, and nothing of it is left.
"""
import json
import os
import pathlib
import signal
import threading
import time

import harness as h
import sandboxes

SECONDS = 4 # that a hog goes on by itself
# Process 1 becomes a hog when it is told to.
TURNS = "/echo-server & while [ ! -e /tmp/turn ]; do sleep 0.05; done; exec dd if=/dev/zero of=/dev/null bs=900M"
cluster = h.Cluster(nodes=1, name="hogs", settings=["log_bytes_max=256Ki", "sandbox_pids_max=128", "sandbox_disk_max=64Mi"])
daemons = {}


class Neighbour:
    """Asks until it is left; its errors."""
    def __enter__(self):
        self.asked, self.errors, self.ends = 0, [], threading.Event()
        self.thread = threading.Thread(target=self.ask)
        self.thread.start()
        return self

    def ask(self):
        while not self.ends.wait(0.05):
            try:
                a = cluster.session("hogs", "neighbour", "/instance", timeout=30)
                if a.status != 200 or a.body != daemons["instance"]:
                    self.errors.append(a)
            except OSError as e:
                self.errors.append(e)
            self.asked += 1

    def __exit__(self, *_):
        self.ends.set()
        self.thread.join()
        assert not self.errors, (len(self.errors), self.asked, self.errors[:3])
        assert self.asked > 0


def unharmed():
    assert {p: cluster.pid(1, p) for p in ("berthd", "sandboxd")} == daemons["pids"], "a daemon was started again"
    assert "lease has ended" not in cluster.log(1)


def hog(name, script):
    """Runs it in a session of its own, beside the neighbour; then that session is ended, and all of it is gone."""
    with Neighbour():
        a = cluster.session("hogs", name, "/run", "POST", script, timeout=60)
        sandbox = next(s["sandbox"] for s in cluster.sessions("hogs") if s["identifier"] == name)
        stopped = cluster.admin("POST", cluster.pool_path("hogs") +
                                f"/.management/stopSession?identifier={name}&api-version={h.API}")
        assert stopped.status == 200, stopped
        h.wait_until("the hog is gone", 60, lambda: not any(s["identifier"] == name for s in cluster.sessions("hogs")))
        h.wait_until("its groups are gone", 30, lambda: not [g for n in daemons["names"] for g in h.cgroups(n)
                                                             if f"{sandbox:016x}" in g])
    unharmed()
    return a


def test_start():
    cluster.start().import_image()
    assert cluster.put_pool("hogs", ready=2, max_sessions=6)["status"] == "Succeeded"
    assert cluster.put_pool("turning", ready=1, max_sessions=4,
                            command=["/bin/sh", "-c", TURNS])["status"] == "Succeeded"
    daemons["instance"] = cluster.session("hogs", "neighbour", "/instance").body
    daemons["pids"] = {p: cluster.pid(1, p) for p in ("berthd", "sandboxd")}
    daemons["names"] = cluster._container_names()
    assert daemons["names"]


def test_a_fork_bomb():
    hog("forks", f"bomb() {{ bomb | bomb & }}; bomb; sleep {SECONDS}")


def test_a_child_that_wants_all_memory():
    a = hog("memory", "dd if=/dev/zero of=/dev/null bs=900M count=1")
    assert a.headers["x-exit-code"] == "137", (a, a.headers)


def test_memory_by_way_of_shared_memory_and_files():
    a = hog("files", "dd if=/dev/zero of=/dev/shm/a bs=1M; dd if=/dev/zero of=/a bs=1M; dd if=/dev/zero of=/dev/a bs=1M; echo alive")
    assert a.body.count(b"No space left on device") == 3 and b"alive" in a.body, a


def test_inodes():
    a = hog("inodes", "mkdir /many; i=0; while true > /many/$i; do i=$((i + 1)); done; echo made $i")
    made = int(a.body.split(b"made ")[1])
    assert b"No space left on device" in a.body and 1000 < made <= 16384, a


def test_descriptors():
    # As many as the limit lets one process have, in several.
    names = "$(seq 9000 | sed s,.*,/etc/passwd,)"
    hog("descriptors", f"ulimit -n 65536; for i in 1 2 3 4; do timeout {SECONDS} tail -f {names} >/dev/null 2>&1 & done; wait")


def test_connections_among_itself():
    hog("connections", f"for i in $(seq 100); do timeout {SECONDS} nc 127.0.0.1 80 </dev/zero >/dev/null 2>&1 & done; wait")


def test_all_processors():
    hog("processors", f"for i in 1 2 3 4 5 6 7 8; do timeout {SECONDS} sh -c 'while :; do :; done' & done; wait")


def test_a_flood_of_logs():
    hog("logs", f"timeout {SECONDS} yes a line that nobody wants to read >/proc/1/fd/1")
    logs = [f.stat().st_size for f in cluster.node_dir(1).rglob("sandboxes/*/log/*")]
    assert sum(logs) <= 256 * 1024 * len({s["sandbox"] for s in cluster.sessions("hogs")} | set(range(8))), logs


def test_a_flood_of_reads():
    hog("reads", f"for i in 1 2 3; do timeout {SECONDS} sh -c 'while :; do cat /bin/busybox /echo-server; done' >/dev/null & done; wait")


def ended(pool):
    return json.loads(cluster.berth("session", "list", "--name", pool, "--resource-group", h.GROUP, "--subscription",
                                    h.SUBSCRIPTION, "--ended", "--output", "json").stdout)["value"]


def events(sandbox):
    lines = (cluster.node_dir(1) / "state/sandboxd/events").read_text().splitlines()
    return {e["event"]: e for e in map(json.loads, lines) if e["sandbox"] == sandbox}


def sandbox_of(identifier):
    assert cluster.session("turning", identifier, "/instance").status == 200
    return next(s["sandbox"] for s in cluster.sessions("turning") if s["identifier"] == identifier)


def end_of(sandbox):
    return h.wait_until("it has ended", 30, lambda: [s for s in ended("turning") if s["sandbox"] == sandbox])[0]


def test_out_of_memory_is_told_as_such():
    sandbox = sandbox_of("turns")
    with Neighbour():
        cluster.session("turning", "turns", "/run", "POST", "touch /tmp/turn")
        assert end_of(sandbox)["reason"] == "out-of-memory", ended("turning")
    assert events(sandbox)["exited"]["how"] == "oom", events(sandbox)
    assert f"sandbox {sandbox} ran out of memory" in cluster.log(1)
    table = cluster.berth("session", "list", "--name", "turning", "--resource-group", h.GROUP, "--subscription",
                          h.SUBSCRIPTION, "--ended").stdout
    assert "out-of-memory" in table, table
    assert cluster.session("turning", "turns", "/instance").status == 200, "its identifier gets another one"
    unharmed()


def test_a_plain_kill_is_told_otherwise():
    sandbox = sandbox_of("killed")
    os.kill(events(sandbox)["started"]["pid"], signal.SIGKILL)
    assert end_of(sandbox)["reason"] == "exited"
    assert events(sandbox)["exited"]["how"] == "signal"


def test_nothing_is_left():
    for pool in ("hogs", "turning"):
        cluster.wait_operation(cluster.admin("DELETE", cluster.arm_path(pool)), seconds=90)
    left = sandboxes.left(cluster)
    assert not left["folders"] and not left["cgroups"] and not left["mounts"], left


h.run([test_start, test_a_fork_bomb, test_a_child_that_wants_all_memory, test_memory_by_way_of_shared_memory_and_files, test_inodes,
       test_descriptors, test_connections_among_itself, test_all_processors, test_a_flood_of_logs, test_a_flood_of_reads,
       test_out_of_memory_is_told_as_such, test_a_plain_kill_is_told_otherwise, test_nothing_is_left], cluster)
