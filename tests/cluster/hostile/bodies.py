"""Large bodies, both ways, plain and TLS, at the owning node and through another: berthd's memory stays where it was, and who
stops reading stops the other side within a mebibyte, also where two nodes lie between.

BERTH_BODY_MIB says how large (256; the target is for 1024)."""
import fcntl
import os
import pathlib
import re
import socket
import ssl
import struct
import subprocess
import termios
import time

import harness as h

MIB = 1 << 20
BODY = int(os.environ.get("BERTH_BODY_MIB", "256")) * MIB
GROWTH_MAX_MIB = 8
BLOCKED_MAX = MIB
OWN_BUFFER = 65536  # of the test's sockets: what they hold is the kernel's, not the gateway's

cluster = h.Cluster(3, name="bodies", settings=["memory=64Gi"])
owner, other = 1, 2


def connect(node, tls):
    s = socket.socket()
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        s.setsockopt(socket.SOL_SOCKET, option, OWN_BUFFER)
    s.settimeout(60)
    s.connect(("127.0.0.1", cluster.port(node, "https" if tls else "http")))
    if not tls:
        return s
    return ssl.create_default_context(cafile=str(cluster.dir / "ca.pem")).wrap_socket(s, server_hostname="127.0.0.1")


def ask(s, method, path, length=0):
    path, _, query = path.partition("?")
    s.sendall((f"{method} {cluster.pool_path('pool')}{path}?identifier=user-0001&{query} HTTP/1.1\r\nHost: localhost\r\n"
               f"Authorization: Bearer {cluster.token()}\r\nContent-Length: {length}\r\n\r\n").encode())


def head(s):
    """The head of the answer, and what came behind it."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = s.recv(4096)
        assert more, data
        data += more
    text, _, rest = data.partition(b"\r\n\r\n")
    assert text.startswith(b"HTTP/1.1 200"), text
    return text, rest


def peak_mib(pid):
    return int(re.search(r"VmHWM:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1]) / 1024


def download(node, tls):
    with connect(node, tls) as s:
        ask(s, "GET", f"/bytes?n={BODY}")
        left = BODY - len(head(s)[1])
        room = bytearray(MIB)
        while left:
            got = s.recv_into(room)
            assert got, left
            left -= got


def upload(node, tls):
    with connect(node, tls) as s:
        ask(s, "POST", "/upload?hash=0", BODY)
        piece = bytes(MIB)
        for _ in range(BODY // MIB):
            s.sendall(piece)
        _, rest = head(s)
        assert f'"bytes":{BODY}'.encode() in rest or f'"bytes":{BODY}'.encode() in s.recv(4096), rest


def test_start():
    global owner, other
    cluster.start().import_image()
    assert cluster.put_pool("pool", ready=0, max_sessions=1, cpu=2, memory="1Gi")["status"] == "Succeeded"
    assert cluster.session("pool", "user-0001").status == 200
    owner = h.wait_until("the session is listed", 10, lambda: [x["node"] for x in cluster.sessions("pool") if "node" in x])[0]
    other = owner % 3 + 1


def test_memory_stays():
    for node in (owner, other):
        for tls in (False, True):
            for transfer in (download, upload):
                pids = [cluster.pid(n, "berthd") for n in (owner, other)]
                for pid in pids:
                    pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5\n")  # the peak begins anew
                before = [peak_mib(pid) for pid in pids]
                transfer(node, tls)
                grown = [peak_mib(pid) - b for pid, b in zip(pids, before)]
                print(f"  {transfer.__name__} of {BODY // MIB} MiB, {'TLS' if tls else 'plain'}, "
                      f"{'owner' if node == owner else 'hop'}: grown by {grown[0]:.1f} and {grown[1]:.1f} MiB")
                assert h.SANITIZED or max(grown) < GROWTH_MAX_MIB, grown


def server():
    """The sample server's process in the sandbox."""
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "comm").read_text().strip() == "echo-server" and f"{cluster.dir}/" in (entry / "mountinfo").read_text():
                return entry.name
        except OSError:
            continue
    raise AssertionError("no sample server")


class SandboxSockets:
    """How far a number that `ss` tells of the connections to the sandbox's server rose since this was made."""

    def __init__(self, pattern):
        self.pattern = pattern
        self.before = self._read()

    def _read(self):
        out = subprocess.run(["nsenter", "-t", server(), "-n", "ss", "-tinOH", "sport = :80"], check=True, capture_output=True,
                             text=True).stdout
        return {line.split()[4]: int((re.search(self.pattern, line) or [0, 0])[1]) for line in out.splitlines()}

    def risen(self):
        return sum(n - self.before.get(peer, 0) for peer, n in self._read().items())


TAKEN = r"bytes_acked:(\d+)"    # left the sandbox's kernel: what its own send buffer holds is its own affair
GIVEN = r"bytes_received:(\d+)"  # reached it, read or not: its receive buffer too is its own


def left_in(s):
    """Bytes in this socket's send buffer."""
    return struct.unpack("i", fcntl.ioctl(s.fileno(), termios.TIOCOUTQ, bytes(4)))[0]


def steady(read):
    """What read() says once it has not changed for a second."""
    last, since = read(), time.monotonic()
    while time.monotonic() - since < 1:
        time.sleep(0.05)
        now = read()
        if now != last:
            last, since = now, time.monotonic()
    return last


def test_reader_that_stops_blocks_sandbox():
    for node in (owner, other):
        for tls in (False, True):
            with connect(node, tls) as s:
                taken = SandboxSockets(TAKEN)
                ask(s, "GET", f"/bytes?n={BODY}")
                head(s)
                held = steady(taken.risen)
                print(f"  {'TLS' if tls else 'plain'}, {'owner' if node == owner else 'hop'}: {held / 1024:.0f} KiB went before it stopped")
                assert 0 < held < BLOCKED_MAX, held


def test_sandbox_that_stops_blocks_client():
    for node in (owner, other):
        for tls in (False, True):
            with connect(node, tls) as s:
                given = SandboxSockets(GIVEN)
                ask(s, "POST", "/slow?ms=10000", BODY)
                s.settimeout(1)
                piece, sent = bytes(16384), 0
                try:
                    while sent < BODY:
                        sent += s.send(piece)
                except (TimeoutError, ssl.SSLWantWriteError):
                    pass
                held = sent - left_in(s) - given.risen()
                print(f"  {'TLS' if tls else 'plain'}, {'owner' if node == owner else 'hop'}: {held / 1024:.0f} KiB of {sent / 1024:.0f} on the way when it stopped")
                assert sent < BODY and held < BLOCKED_MAX, (sent, held)


h.run([test_start, test_memory_stays, test_reader_that_stops_blocks_sandbox, test_sandbox_that_stops_blocks_client], cluster)
