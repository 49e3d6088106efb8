"""Disks that fill up: nothing new begins, with an answer that names the disk, what runs is served and can be ended, leases go on;
with room again all goes on. Each node's log lies on a small disk of its own, in a mount namespace of this test."""
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time

import harness
from harness import API, Cluster, run, wait_until

if os.environ.get("BERTH_OWN_MOUNTS") != "yes":
    harness.need_machine()
    os.execvpe("unshare", ["unshare", "--mount", "--propagation", "private", "--", sys.executable, *sys.argv],
               dict(os.environ, BERTH_OWN_MOUNTS="yes"))

MIB = 1 << 20


class OnSmallDisks(Cluster):
    def _left_over(self, names):
        take_disks()  # the cluster is stopped by then
        return super()._left_over(names)


cluster = OnSmallDisks(settings=["cooldown_min=2"], name="disk")
LOGS = {n: cluster.node_dir(n) / "state/berthd" for n in (1, 2, 3)}


def give_disks():
    for path in LOGS.values():
        path.mkdir(parents=True, exist_ok=True)
        stat = path.stat()
        kept = path.with_name("kept")
        shutil.copytree(path, kept, dirs_exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size=512m,mode=0700,uid={stat.st_uid},gid={stat.st_gid}", "tmpfs", path], check=True)
        subprocess.run(["cp", "-a", f"{kept}/.", f"{path}/"], check=True)
        os.chown(path, stat.st_uid, stat.st_gid)
        os.chmod(path, stat.st_mode & 0o7777)
        shutil.rmtree(kept)


def take_disks():
    for path in LOGS.values():
        subprocess.run(["umount", "-l", path], check=False)


def free(node):
    v = os.statvfs(LOGS[node])
    return v.f_bavail * v.f_frsize


def fill(node, leave):
    with open(LOGS[node] / "filler", "wb") as f:
        os.posix_fallocate(f.fileno(), 0, free(node) - leave)


def make_room():
    for path in LOGS.values():
        (path / "filler").unlink(missing_ok=True)


def answers(node):
    try:
        return cluster.admin("GET", "/ready", node=node, timeout=5).status == 200
    except OSError:
        return False


def put(pool, node):
    return cluster.admin("PUT", cluster.arm_path(pool), cluster.resource(), node=node)


def show(node):
    return cluster.admin("GET", f"/.berth/v1/nodes/node{node}", node=node).json()


def leader():
    return next(n for n in LOGS if any(line.startswith("berth_log_leader 1") for line in
                                       cluster.admin("GET", "/metrics", node=n).body.decode().splitlines()))


def names_the_disk(answer):
    return "the disk of node" in answer.body.decode() and "is nearly full" in answer.body.decode()


def test_room():
    cluster.import_image()
    cluster.put_pool("demo", max_sessions=10, ready=2)
    for identifier in ("user-1", "user-2"):
        a = cluster.session("demo", identifier, "/count")
        assert a.status == 200, (a, a.body)
    assert all(show(n)["figures"]["logDiskNearlyFull"] == 0 for n in (1, 2, 3))


def test_nearly_full():
    for node in LOGS:
        fill(node, 200 * MIB)
    for node in LOGS:
        a = wait_until(f"node {node} refuses", 10, lambda n=node: (lambda a: a if a.status not in (200, 201) else None)(put("more", n)))
        assert a.status == 507 and names_the_disk(a), (node, a, a.body)
        assert a.json()["error"]["code"] == "InsufficientStorage", a.body
        figures = show(node)["figures"]
        assert figures["logDiskNearlyFull"] == 1 and figures["logDiskBytesFree"] < figures["logDiskBytesReserve"], figures
    began = time.monotonic()
    a = cluster.session("demo", "user-3", "/count", node=2)
    assert a.status == 503 and names_the_disk(a), (a, a.body)
    assert time.monotonic() - began < 5, "it was held until its deadline"


def test_what_runs_goes_on_and_can_be_ended():
    for node in LOGS:
        assert cluster.session("demo", "user-1", "/count", node=node).status == 200
    time.sleep(4)  # some renewals of the leases
    assert all(show(n)["leaseMs"] > 10000 for n in LOGS)
    token = {"Authorization": "Bearer " + cluster.token("data")}
    c = cluster.connection(2)
    c.request("POST", f"{cluster.pool_path('demo')}/.management/stopSession?identifier=user-2&api-version={API}", headers=token)
    a = c.getresponse()
    assert a.status in (200, 202, 204), (a.status, a.read())
    wait_until("its session ends", 30, lambda: "user-2" not in {s["identifier"] for s in cluster.sessions("demo") if s["state"] == "live"})
    a = cluster.admin("DELETE", cluster.arm_path("demo"), node=3)
    assert a.status in (200, 202), a
    wait_until("the pool is deleted", 60, lambda: cluster.pool("demo").status == 404)


def test_room_again():
    make_room()
    wait_until("a pool can be made", 15, lambda: put("after", 3).status in (200, 201))


def test_full_to_the_last_byte():
    """One disk without any room: the others go on; with room its node has all that came meanwhile."""
    node = next(n for n in LOGS if n != leader())
    others = [n for n in LOGS if n != node]
    fill(node, 0)
    for i in range(3):
        assert put(f"meanwhile{i}", others[0]).status in (200, 201)
    make_room()
    wait_until("the node knows what came meanwhile", 60, lambda: cluster.pool("meanwhile2", node=node).status == 200)
    assert cluster.pool("after", node=node).status == 200


def test_unavailable():
    """A voter that cannot store a new term is of no use: it ends, so that its supervisor starts it anew."""
    leads = wait_until("somebody leads", 20, leader)
    node = next(n for n in LOGS if n != leads)
    before, raft = cluster.pid(node, "berthd"), LOGS[node] / "raft"
    raft.rename(raft.with_name("away"))
    os.kill(cluster.pid(leads, "berthd"), signal.SIGKILL)
    wait_until("it says why it ends", 30, lambda: "is unavailable" in cluster.log(node))
    wait_until("it ended", 10, lambda: cluster.pid(node, "berthd") != before)
    shutil.rmtree(raft, ignore_errors=True)  # what a start without its directory may have made
    raft.with_name("away").rename(raft)
    wait_until("a pool can be made through it", 60, lambda: answers(node) and put("later", node).status in (200, 201))


give_disks()
cluster.start()
run([test_room, test_nearly_full, test_what_runs_goes_on_and_can_be_ended, test_room_again, test_full_to_the_last_byte, test_unavailable], cluster)
