"""What a stranger at the nodes' ports can do, and what the daemons show to others on the machine: nothing.

Garbage, crowds that say nothing, and certificates that are none, foreign, or not a node's, at every port; then the daemons'
users, capabilities, environments, core limits, and the modes of keys and sockets.
"""
import contextlib
import os
import pathlib
import random
import socket
import ssl
import stat
import subprocess
import sys

os.environ["BERTH_STRANGER"] = "a secret of the operator's shell"
import harness as h

CROWD = 600  # above what the control port accepts at a time
PORTS = ("raft", "control", "forward", "http", "https")
KEYS = ("node.key", "tls.key", "first-keys", "keyring")
random_bytes = random.Random(11).randbytes
cluster = h.Cluster(3, name="strangers")
daemons = {}


def all_daemons():
    return {(n, p): cluster.pid(n, p) for n in range(1, 4) for p in ("berthd", "sandboxd")}


def unharmed():
    assert all_daemons() == daemons, f"a daemon was started again: {all_daemons()} {daemons}"
    for node in (1, 2):
        a = cluster.session("pool", "user-0001", node=node)
        assert a.status == 200, a


def connect(which):
    s = socket.create_connection(("127.0.0.1", cluster.port(1, which)), 10)
    s.settimeout(0.3)
    return s


def send(s, payload):
    with contextlib.suppress(OSError):
        s.sendall(payload)
    with contextlib.suppress(OSError):
        return s.recv(4096)
    return b""


def test_start():
    cluster.start().import_image()
    assert cluster.put_pool("pool", ready=1, max_sessions=3)["status"] == "Succeeded"
    daemons.update(all_daemons())
    unharmed()


def test_garbage_at_every_port():
    payloads = (bytes(100), b"\xff" * 70000, random_bytes(5000), b"GET / HTTP/1.1\r\n\r\n",
                b"\x16\x03\x01\xff\xff" + random_bytes(3000), b"\1\0\0\0\0\0\0\0" + b"\xff" * 300)
    for which in PORTS:
        for payload in payloads:
            with connect(which) as s:
                send(s, payload)
    unharmed()


def test_a_crowd_at_every_port():
    for which in PORTS:
        with contextlib.ExitStack() as stack:
            for _ in range(CROWD if which != "raft" else 100):  # its queue of connections is short
                stack.enter_context(connect(which))
            unharmed()
            assert cluster.admin("GET", "/ready").status == 200


def certificates():
    """Name, certificate and key of who is not a node."""
    made = [str(cluster.dir / name) for name in ("stranger.pem", "stranger.key")]
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                    made[1], "-out", made[0], "-subj", "/CN=node-2", "-addext", "subjectAltName=URI:berth://node/2", "-days",
                    "2"], check=True, capture_output=True)
    node3 = cluster.node_dir(3)
    return (("none", None), ("of another CA", made), ("for clients' TLS", [str(node3 / "tls.pem"), str(node3 / "tls.key")]))


def test_certificates_of_no_node():
    hello = b"\0\0\0\5\1abcd"
    hop = b"GET /?identifier=user-0001 HTTP/1.1\r\nHost: x\r\nBerth-Hop: 1;2;3;4;5\r\n\r\n"
    for which, payload in (("control", hello), ("forward", hop)):
        for name, pair in certificates():
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            if pair:
                context.load_cert_chain(*pair)
            with contextlib.suppress(OSError), context.wrap_socket(connect(which)) as s:
                answer = send(s, payload)
                assert answer == b"", f"{which} answers to a certificate {name}: {answer[:100]}"
    unharmed()


def status_of(pid):
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def test_what_the_daemons_hold():
    for (_, program), pid in daemons.items():
        status, proc = status_of(pid), pathlib.Path(f"/proc/{pid}")
        if program == "berthd":
            assert "0" not in status["Uid"].split() and "0" not in status["Groups"].split(), status["Uid"]
            assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0 and status["NoNewPrivs"] == "1"
        environment = (proc / "environ").read_bytes()
        assert b"BERTH_STRANGER" not in environment and environment.startswith(b"PATH="), environment
        core = [line.split() for line in (proc / "limits").read_text().splitlines() if line.startswith("Max core")]
        assert core[0][4:6] == ["0", "0"], core
        assert (proc / "cmdline").read_bytes().count(b"\0") == 2
        assert os.readlink(proc / "cwd") == "/"


def test_modes_of_files():
    berthd = status_of(cluster.pid(1, "berthd"))["Uid"].split()[0]

    def mode(name):
        st = os.stat(cluster.node_dir(1) / name)
        return stat.S_IMODE(st.st_mode), str(st.st_uid)

    for key in KEYS:
        assert mode(key) == (0o600, berthd), key
    assert not list(cluster.dir.rglob("ca.key")), "the CA's key is in the tables alone, sealed"
    assert mode("state/berthd") == (0o700, berthd)
    assert mode("state/sandboxd/store") == (0o700, "0")
    assert mode("run/sandboxd/socket") == (0o600, berthd)
    assert mode("run/admin/socket") == (0o660, berthd)


def test_logs_name_nobody():
    token = cluster.token()
    for node in (1, 2, 3):
        text = cluster.log(node)
        for name in ("state/berthd/events", "state/sandboxd/events"):
            text += (cluster.node_dir(node) / name).read_text()
        assert "user-0001" not in text and token[:40] not in text


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    h.run([test_start, test_garbage_at_every_port, test_a_crowd_at_every_port, test_certificates_of_no_node,
           test_what_the_daemons_hold, test_modes_of_files, test_logs_name_nobody], cluster)
