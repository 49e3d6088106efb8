"""The leader's daemon is killed again and again while voters come and go: the next one goes on with the change that it finds.

BERTH_MEMBERSHIP_ROUNDS rounds (default 1), each of two nodes that become voters and are removed.
"""
import os
import signal
import time

from harness import Cluster, run, wait_until

ROUNDS = int(os.environ.get("BERTH_MEMBERSHIP_ROUNDS", "1"))
FIRST = (1, 2, 3)

cluster = Cluster(nodes=3, settings=["cooldown_min=1", "lease_ms=3000", "lost_ms=5000"], name="leaderdies", more=2).start()
kills = 0


def of_any(look):
    """What the first node that answers shows; None: none does."""
    for node in FIRST:
        try:
            found = look(node)
        except OSError:
            continue
        if found:
            return found
    return None


def kill_leader():
    global kills
    name = wait_until("there is a leader", 20, lambda: of_any(
        lambda node: next((n for n, row in cluster.nodes(node).items() if row["leader"]), None)))
    pid = cluster.pid(int(name[4:]), "berthd")
    if pid:
        os.kill(pid, signal.SIGKILL)
        kills += 1


def has_role(name, role):
    return lambda: of_any(lambda node: cluster.roles(node).get(name) == role)


def entry():
    return {"BERTH_SOCKET": str(cluster.socket(wait_until("a node is ready", 20, lambda: next(
        (n for n in FIRST if of_any(lambda _, n=n: cluster.admin("GET", "/ready", node=n, timeout=5).status == 200)), None))))}


def test_a_change_goes_on():
    cluster.import_image()
    cluster.put_pool("pool", max_sessions=10, ready=2)
    instance = cluster.session("pool", "throughout", "/instance").body
    for _ in range(ROUNDS):
        began = time.monotonic()
        for number in (4, 5):
            cluster.join(number, token=cluster.berth("node", "token", env=entry()).stdout.strip(), start=False)
        wait_until("node4 is a standby", 20, has_role("node4", "standby"))
        kill_leader()
        cluster.start()
        kill_leader()
        for name in ("node4", "node5"):
            wait_until(f"{name} is a voter", 60, has_role(name, "voter"))
        print(f"two more voters, with the leader killed twice meanwhile: {time.monotonic() - began:.1f} s", flush=True)
        for number in (5, 4):
            removal = cluster.berth("node", "remove", f"node{number}", "--force", "--no-wait", env=entry(), check=False)
            assert removal.returncode == 0, removal.stderr
            kill_leader()
            wait_until("it learns that it was removed", 60, lambda n=number: cluster.ended(n))
            cluster.berth("node", "purge", f"node{number}", "--dir", str(cluster.dir))
    wait_until("three voters are left", 30, lambda: of_any(lambda node: sorted(cluster.roles(node).values()) == ["voter"] * 3))
    wait_until("the session is where it was", 30, lambda: of_any(
        lambda node: cluster.session("pool", "throughout", "/instance", node=node).body == instance))
    print(f"leaders killed: {kills}")


run([test_a_change_goes_on], cluster)
