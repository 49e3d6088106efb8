"""Somebody at the ports between nodes (Raft, control, forwarded requests) who has a certificate, or nearly one: of another CA,
expired, of clients' TLS, a worker's where voters speak, another node's; and nodes that are broken: garbage behind a good hello,
frames of impossible length, endless hellos, half handshakes, slow bytes, floods. All are refused, and told in the log at most once
a minute for each kind; warm sessions go on at their pace, and the leader stays.

BERTH_FLOOD_S: how long each flood lasts (3).
"""
import concurrent.futures
import contextlib
import multiprocessing
import os
import socket
import ssl
import struct
import subprocess
import sys
import time

import harness as h

FLOOD_S = float(os.environ.get("BERTH_FLOOD_S", "3"))
PORTS = ("raft", "control", "forward")
NOBODY = 30000  # a number that was never given out: a node that newer tables may know
REMOVED = 1002  # one that was, to no node
cluster = h.Cluster(3, name="hostile-nodes")
pairs = {}
before = {}


def certificate(name, days=2, node=None, role=None, foreign=False):
    """[certificate, key] of the cluster's CA, or of another one."""
    at = cluster.dir / "strangers"
    at.mkdir(exist_ok=True)
    ca, ca_key = (at / "ca.pem", at / "ca.key") if foreign else (cluster.dir / "ca.pem", at / "real.key")
    pem, key, csr, extensions = (str(at / f"{name}.{end}") for end in ("pem", "key", "csr", "ext"))
    uris = [f"URI:berth://node/{node}"] * bool(node) + [f"URI:berth://role/{role}"] * bool(role)
    with open(extensions, "w", encoding="ascii") as f:
        f.write("subjectAltName=" + ",".join(uris or ["DNS:localhost"]))
    for command in (["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", csr,
                     "-subj", f"/CN=node{node or 0}"],
                    ["x509", "-req", "-in", csr, "-CA", str(ca), "-CAkey", str(ca_key), "-CAcreateserial", "-days", str(days),
                     "-extfile", extensions, "-out", pem]):
        subprocess.run(["openssl", *command], check=True, capture_output=True)
    return [pem, key]


def make_certificates():
    at = cluster.dir / "strangers"
    at.mkdir(exist_ok=True)
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                    str(at / "ca.key"), "-out", str(at / "ca.pem"), "-subj", "/CN=Berth cluster CA", "-days", "2"],
                   check=True, capture_output=True)
    node = cluster.node_dir(1)
    real = subprocess.run([str(h.BUILD / "bin/test-ca-key"), str(node / "keyring"), str(node / "first-keys"), cluster.id],
                          check=True, capture_output=True).stdout
    (at / "real.key").write_bytes(real)
    pairs.update(foreign=certificate("foreign", node=2, role="voter", foreign=True),
                 expired=certificate("expired", days=0, node=2, role="voter"),
                 clients=certificate("clients"), unnamed=certificate("unnamed", role="voter"),
                 worker=certificate("worker", node=REMOVED, role="worker"),
                 removed=certificate("removed", node=REMOVED, role="voter"), voter=certificate("voter", node=NOBODY, role="voter"))
    time.sleep(1.5)  # until the expired one has


def connect(port, pair=None, node=1, timeout=10):
    raw = socket.create_connection(("127.0.0.1", cluster.port(node, port)), timeout)
    if pair is None:
        return raw
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(*pairs[pair])
    try:
        return context.wrap_socket(raw)
    except (OSError, ssl.SSLError):
        raw.close()
        raise


def hello(protocol, node):
    def text(s):
        return b"\xc4" + bytes([len(s)]) + s.encode()
    number = bytes([node]) if node < 128 else b"\xcd" + struct.pack(">H", node)
    body = b"\x94" + text(protocol) + text(cluster.id) + text("127.0.0.1:1") + number
    return struct.pack(">H", len(body)) + body


def is_cut(port, pair, payload, seconds=8):
    """Whether the other side ends a connection on which that was sent."""
    try:
        with connect(port, pair, timeout=seconds) as s:
            s.sendall(payload)
            while s.recv(4096):
                pass
        return True
    except TimeoutError:
        return False
    except (OSError, ssl.SSLError):
        return True


def latency(seconds=1.0):
    """Milliseconds of warm requests through all nodes, sorted; one that fails raises."""
    took, deadline, i = [], time.monotonic() + seconds, 0
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(contextlib.closing(cluster.connection(n))) for n in (1, 2, 3)]
        while time.monotonic() < deadline:
            i += 1
            began = time.monotonic()
            a = cluster.session("pool", f"user-{i % 6}", node=i % 3 + 1, connection=connections[i % 3])
            assert a.status == 200, a
            took.append((time.monotonic() - began) * 1000)
    return sorted(took)


def told(node=1):
    return [line.split("] ", 1)[1] for line in cluster.log(node).splitlines() if " was cut off" in line]


def undisturbed():
    now = {n: cluster.pid(n, "berthd") for n in (1, 2, 3)}
    assert now == before["pids"], f"a daemon was started again: {now}"
    assert cluster.admin("GET", "/.berth/v1/cluster").json()["leader"] == before["leader"]
    assert all("out of reach" not in cluster.log(n) for n in (1, 2, 3)), "nodes lost each other"
    latency(0.2)


def test_start():
    cluster.start().import_image()
    cluster.id = next(line.split(" = ")[1] for line in (cluster.node_dir(1) / "berth.conf").read_text().splitlines()
                      if line.startswith("cluster_id"))
    assert cluster.put_pool("pool", ready=1, max_sessions=6)["status"] == "Succeeded"
    for i in range(6):
        assert cluster.session("pool", f"user-{i}", node=i % 3 + 1).status == 200
    make_certificates()
    before.update(pids={n: cluster.pid(n, "berthd") for n in (1, 2, 3)},
                  leader=cluster.admin("GET", "/.berth/v1/cluster").json()["leader"])
    before["p50"] = (lambda x: x[len(x) // 2])(latency())


def test_wrong_certificates():
    hop = b"GET /?identifier=user-1 HTTP/1.1\r\nHost: x\r\nBerth-Hop: 1;2;3;4;5\r\n\r\n"
    for pair in ("foreign", "expired", "clients", "unnamed"):
        for port, payload in (("raft", hello("raft/1", 2)), ("control", hello("control/1", 2)), ("forward", hop)):
            assert is_cut(port, pair, payload), (pair, port)
    assert is_cut("raft", "worker", hello("raft/1", REMOVED))
    for port, protocol in (("raft", "raft/1"), ("control", "control/1")):
        assert is_cut(port, "voter", hello(protocol, 2)), "a hello of another node"
        assert is_cut(port, "voter", hello("sonar/1", NOBODY)), "another protocol"
        assert is_cut(port, "removed", hello(protocol, REMOVED)), "a node that does not belong here"
    assert is_cut("control", "worker", hello("control/1", REMOVED))
    log = "\n".join(told())
    for why in ("forwarded requests was cut off", "local issuer", "is not a node's", "worker's", "another node's", "it speaks sonar/1", "removed"):
        assert why in log, (why, log)
    undisturbed()


def test_broken_voter():
    good = hello("raft/1", NOBODY)
    broken = {
        "garbage": b"\xff" * 4096,
        "a message of no type": struct.pack("<IIQ", 9, 8, 0) + bytes(8),
        "endless fields": struct.pack("<IIQ", 1, 0xffffffff, 0) + bytes(100),
        "endless payload": struct.pack("<IIQ", 1, 36, 1 << 60) + bytes(100),
        "more entries than fields": struct.pack("<IIQ", 1, 36, 0) + struct.pack("<QQQQI", 1, 0, 0, 0, 1 << 20),
        "a vote in another's name": struct.pack("<IIQ", 3, 34, 0) + struct.pack("<QQQQBB", 99, 1, 1, 1, 0, 1),
        "an entry that is no configuration": struct.pack("<IIQ", 1, 50, 8) + struct.pack("<QQQQI", 1, 0, 0, 0, 1) +
        struct.pack("<QHI", 1, 3, 8) + b"\xff" * 8,
    }
    for name, payload in broken.items():
        assert is_cut("raft", "voter", good + payload), name
    assert any("raft/1" in line and ("message" in line or "entry" in line) for line in told()), told()
    undisturbed()


def test_impossible_hellos():
    for port in ("raft", "control"):
        for payload in (b"\xff\xff" + bytes(70000), b"\0\0", b"\0\5\xdd\xff\xff\xff\xff", b"\1\0" + b"\x94" * 256):
            assert is_cut(port, "voter", payload), (port, payload[:10])
    undisturbed()


def test_half_handshakes_and_slow_bytes():
    """Nobody waits longer than a hello may take; they are all waited for at the same time."""
    raw = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100)

    def half(port):
        with connect(port) as s:
            s.settimeout(15)
            s.sendall(raw)
            with contextlib.suppress(ConnectionError):
                return s.recv(100) in (b"",) or True
            return True

    def slow(port):
        with connect(port, "voter") as s:
            s.settimeout(0.25)
            for byte in hello("raft/1" if port == "raft" else "control/1", NOBODY)[:60]:
                with contextlib.suppress(TimeoutError):
                    try:
                        s.sendall(bytes([byte]))
                        if s.recv(1) == b"":
                            return True
                    except (ConnectionError, ssl.SSLError):
                        return True
            return False

    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        jobs = {f"half a handshake at {p}": pool.submit(half, p) for p in ("raft", "control")}
        jobs.update({f"slow bytes at {p}": pool.submit(slow, p) for p in ("raft", "control")})
        for name, job in jobs.items():
            assert job.result(), name
    assert time.monotonic() - began < 14
    undisturbed()


def attacker(attack, seconds, count):
    """A process of its own, behind all others: it shall not take the machine's time, but theirs."""
    os.setsid()
    with contextlib.suppress(OSError), open("/proc/self/autogroup", "w", encoding="ascii") as f:
        f.write("15")
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, ssl.SSLError):
            attack(deadline, count)


def under(what, attack):
    """Three attack; what warm requests take meanwhile is printed. None fails, and the leader stays."""
    count = multiprocessing.Value("Q", 0)
    processes = [multiprocessing.Process(target=attacker, args=(attack, FLOOD_S, count)) for _ in range(3)]
    for p in processes:
        p.start()
    try:
        took = latency(FLOOD_S)
    finally:
        for p in processes:
            p.join()
    print(f"        {what}: {count.value} in {FLOOD_S:g} s; warm p50 {took[len(took) // 2]:.2f} ms "
          f"(before {before['p50']:.2f}), worst {took[-1]:.1f} ms")
    undisturbed()


def add(count, n):
    with count.get_lock():
        count.value += n


def knock(_, count):
    for port in PORTS:
        with connect(port) as s:
            s.sendall(b"\x16\x03\x01\xff\xff" + bytes(200))
        add(count, 1)


def shake(_, count):
    for port in PORTS:
        with contextlib.suppress(OSError, ssl.SSLError):
            connect(port, "foreign").close()
        add(count, 1)


def pour(deadline, count):
    """Answers to questions that nobody asked, as fast as they are taken."""
    answer = struct.pack("<IIQ", 2, 24, 0) + struct.pack("<QQQ", 1, 0, 1)
    with connect("raft", "voter") as s:
        s.sendall(hello("raft/1", NOBODY))
        while time.monotonic() < deadline:
            s.sendall(answer * 1000)
            add(count, 1000)


def test_floods():
    under("connections of strangers", knock)
    under("handshakes with a foreign certificate", shake)
    under("messages of a voter that is out of its mind", pour)


def test_log_is_bounded():
    """Whatever they did thousands of times, each kind is told once a minute and port."""
    lines = told()
    assert 5 <= len(lines) <= 10 * len(PORTS), lines


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    h.run([test_start, test_wrong_certificates, test_broken_voter, test_impossible_hellos,
           test_half_handshakes_and_slow_bytes, test_floods, test_log_is_bounded], cluster)
