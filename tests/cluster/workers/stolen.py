"""A worker that turned on its cluster: somebody holds its certificate, and says to the leader what it should not. All of it is refused
and logged; sessions, pools and leases of others are as before, requests through other nodes do not notice; and when the worker itself
comes back, it is served.
"""
import os
import pathlib
import re
import signal
import socket
import ssl
import time

import sandboxes
from harness import SANITIZED, SOURCE, Cluster, run, wait_until
from sandboxes import Load

IDENTIFIERS = [f"user-{i:02d}" for i in range(8)]
FEED_ASKS = 20000

cluster = Cluster(workers=2, settings=["cooldown_min=2", "lost_ms=120000"]).start()
cluster.import_image()
before = sandboxes.left(cluster)
BAD = cluster.workers[-1]


def names(path, enum):
    """The numbers of an enum's names, as the header lists them."""
    text = (SOURCE / path).read_text()
    body = re.sub(r"/\*.*?\*/", "", re.search(rf"enum {enum} \{{(.*?)\}}", text, re.S)[1], flags=re.S)
    return {name.strip(): i for i, name in enumerate(body.split(",")) if name.strip()}


FRAMES = names("nodes/control/links/peers.h", "peer_frame")
MESSAGES = names("base/wire/messages.h", "message_type")
COMMANDS = names("raft-store/state/command.h", "command_type")
ADDRESSES = names("base/wire/envelope.h", "address_kind")


def pack(value):
    """msgpack, as much as the codec uses of it: a struct is an array of its fields."""
    if value is True or value is False:
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return b"\xcf" + value.to_bytes(8, "big")
    if isinstance(value, (bytes, str)):
        raw = value.encode() if isinstance(value, str) else value
        return b"\xc6" + len(raw).to_bytes(4, "big") + raw
    return b"\xdd" + len(value).to_bytes(4, "big") + b"".join(pack(v) for v in value)


class Stranger:
    """A connection to a voter's control port with the worker's own certificate."""

    def __init__(self, voter):
        conf = (cluster.node_dir(BAD) / "berth.conf").read_text()
        context = ssl.create_default_context(cafile=str(cluster.dir / "ca.pem"))
        context.check_hostname = False
        context.load_cert_chain(cluster.node_dir(BAD) / "node.pem", cluster.node_dir(BAD) / "node.key")
        self.s = context.wrap_socket(socket.create_connection(("127.0.0.1", cluster.port(voter, "control")), timeout=10))
        hello = pack(["control/1", re.search(r"cluster_id = (\S+)", conf)[1], f"127.0.0.1:{cluster.port(BAD, 'control')}", BAD])
        self.s.sendall(len(hello).to_bytes(2, "big") + hello)

    def frame(self, kind, payload):
        self.s.sendall((len(payload) + 1).to_bytes(4, "big") + bytes([FRAMES[kind]]) + payload)

    def command(self, name, body, node=BAD, epoch=0):
        self.frame("PEER_COMMANDS", pack([[[COMMANDS[name], 1, node, epoch, 500 + COMMANDS[name], pack(body)]]]))

    def message(self, kind, name, body, from_node=BAD, key=0):
        self.frame("PEER_ENVELOPE", pack([[ADDRESSES[kind], 0, key], [ADDRESSES["ADDRESS_CONTROL"], from_node, 0], MESSAGES[name], 7,
                                          5000, 1, "", pack(body)]))

    def is_cut_off(self):
        self.s.settimeout(5)
        try:
            return self.s.recv(1) == b""
        except ConnectionError:
            return True


def nodes():
    return {n["id"]: n for n in cluster.admin("GET", "/.berth/v1/nodes").json()["value"]}


def rows():
    return {s["identifier"]: s for s in cluster.sessions("demo") if s["state"] == "live"}


def leader():
    return wait_until("there is a leader", 10, lambda: cluster.admin("GET", "/.berth/v1/cluster").json()["leader"])


def refused(lead, say, expect):
    """say() is refused by the leader, which writes why; one complaint a second is written."""
    time.sleep(1.1)
    at = len(cluster.log(lead))
    say()
    wait_until(f"the leader logs: {expect}", 5, lambda: re.search(rf"node {BAD} was refused: .*{expect}", cluster.log(lead)[at:]))


def is_away():
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", cluster.port(BAD, "control"))) != 0


def test_sessions_open():
    assert cluster.put_pool("demo", max_sessions=20, ready=3)["status"] == "Succeeded"
    for i, identifier in enumerate(IDENTIFIERS):
        assert cluster.session("demo", identifier, "/count", node=i % 5 + 1).status == 200
    os.kill(int((cluster.node_dir(BAD) / "run/supervisor.pid").read_text()), signal.SIGTERM)
    wait_until("the worker itself is away", 20, is_away)


def test_what_it_says_is_refused_and_changes_nothing():
    lead, known, epoch = leader(), rows(), nodes()[BAD]["epoch"]
    term = cluster.admin("GET", "/.berth/v1/cluster").json()["term"]
    others = [i for i in IDENTIFIERS if known[i]["node"] != BAD]
    theirs = known[others[0]]
    pool, peers = 1, nodes()
    with Load(cluster, "demo", others, nodes=[1, 2, 3, 4]) as load:
        bad = Stranger(lead)
        refused(lead, lambda: bad.command("COMMAND_POOL_DELETE", [pool], epoch=epoch), "workers may not send that command")
        refused(lead, lambda: bad.command("COMMAND_NODE_LOST", [1, peers[1]["epoch"], 0], epoch=epoch), "workers may not")
        refused(lead, lambda: bad.command("COMMAND_SANDBOX_READY", [1], node=1, epoch=peers[1]["epoch"]), "in the name of node 1")
        refused(lead, lambda: bad.command("COMMAND_NODE_JOIN", [BAD, "x", "", "", "", "", "", True, 1000, 1 << 30]), "joins as a voter|joins")
        refused(lead, lambda: bad.command("COMMAND_SANDBOX_GONE", [theirs["sandbox"], 0, True, False, "mine", False], epoch=epoch),
                f"sandbox {theirs['sandbox']} is of node {theirs['node']}")
        refused(lead, lambda: bad.message("ADDRESS_POOL", "MSG_POOL_DELETE", [pool]), "which it may not send")
        refused(lead, lambda: bad.message("ADDRESS_SANDBOX", "MSG_EXITED", [theirs["sandbox"]], key=theirs["sandbox"]), "may not send")
        refused(lead, lambda: bad.message("ADDRESS_PLACEMENT", "MSG_OPEN", [1, "x", False, 0], from_node=1), "addresses do not fit")
        refused(lead, lambda: bad.message("ADDRESS_CONTROL", "MSG_UNSEAL", [theirs["sandbox"], 0, 0]),
                f"sandbox {theirs['sandbox']} is of node {theirs['node']}")
        refused(lead, lambda: bad.frame("PEER_FEED", pack([1, 3, 1 << 40, 0, BAD, 1 << 40, "x"])), "only voters send")
        refused(lead, lambda: bad.frame("PEER_REMOVED", b""), "only voters send")
        refused(lead, lambda: bad.frame("PEER_ENVELOPE", b"\xc1garbage"), "")
        for size in (0xffffffff, 8 << 20, 0):
            cut = Stranger(lead)
            cut.s.sendall(size.to_bytes(4, "big") + b"\0")
            assert cut.is_cut_off(), size
    failed = [(i, s) for i in others for s in load.seen[i] if s[2] != 200]
    assert not failed, failed[:3]
    assert {i: rows()[i]["sandbox"] for i in others} == {i: known[i]["sandbox"] for i in others}
    assert cluster.admin("GET", "/.berth/v1/cluster").json()["term"] == term, "nobody was elected"
    assert nodes()[BAD]["role"] == "worker" and cluster.pool("demo").status == 200


def memory_kib(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1])


def test_a_flood_of_asks_costs_little():
    """Each ask with another number would be a snapshot."""
    lead = leader()
    pid, bad = cluster.pid(lead, "berthd"), Stranger(lead)
    first = memory_kib(pid)
    others = [i for i, row in rows().items() if row["node"] != BAD]
    with Load(cluster, "demo", others, nodes=[1, 2, 3, 4]) as load:
        began = time.monotonic()
        for number in range(FEED_ASKS):
            bad.frame("PEER_FEED_ASK", pack([number + 1, 0, 0, 0]))
        took = time.monotonic() - began
        time.sleep(1)
    failed = [(i, s) for i in others for s in load.seen[i] if s[2] != 200]
    slowest = max(s[-1] for i in others for s in load.seen[i])
    grown = memory_kib(pid) - first
    print(f"{FEED_ASKS} asks in {took:.2f} s; slowest request meanwhile {slowest * 1000:.0f} ms; memory {grown:+d} KiB")
    assert not failed, failed[:3]
    assert SANITIZED or grown < 32 << 10, grown
    feeds = len(re.findall(rf"feeds node {BAD} behind", cluster.log(lead)))
    assert feeds < 20, feeds


def test_the_worker_itself_comes_back():
    cluster.start()
    for identifier in IDENTIFIERS:
        wait_until(f"{identifier} is served through it", 20,
                   lambda: cluster.session("demo", identifier, "/count", node=BAD, timeout=10).status == 200)


def test_nothing_is_left():
    cluster.wait_operation(cluster.admin("DELETE", cluster.arm_path("demo")))
    wait_until("all of it is gone", 20, lambda: sandboxes.left(cluster) == before, 0.5)


run([test_sessions_open, test_what_it_says_is_refused_and_changes_nothing, test_a_flood_of_asks_costs_little,
     test_the_worker_itself_comes_back, test_nothing_is_left], cluster)
