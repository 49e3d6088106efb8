"""slowhttptest's four modes and a crowd that idles, against one gateway: a good client beside them is served without an error,
and after them no connection and no descriptor remains.

BERTH_IDLE=10000 asks for that many idle connections instead of 2,000; they come from several loopback addresses."""
import contextlib
import http.client
import os
import pathlib
import re
import resource
import shutil
import socket
import subprocess
import sys
import threading
import time

import harness as h

PROGRAM = shutil.which("slowhttptest") or h.skip("slowhttptest is not installed: tools/packages/install test")
CROWD = 400  # connections of each mode
SECONDS = 8
IDLE = int(os.environ.get("BERTH_IDLE", "2000"))
BYTES_MAX = 16384  # of memory for an idle connection
SETTINGS = ["head_ms=3000", "keep_alive_ms=600000", "stall_ms=3000", "rate_min=1000", "address_connections_max=2500"]
cluster = h.Cluster(1, settings=SETTINGS, name="slow")


def url(path):
    return f"http://127.0.0.1:{cluster.port(1)}{cluster.pool_path('pool')}{path}"


def metric(name):
    text = cluster.admin("GET", "/metrics").body.decode()
    return int(float(next(line.split()[1] for line in text.splitlines() if line.startswith(f"berth_{name} "))))


def descriptors():
    return len(os.listdir(f"/proc/{cluster.pid(1, 'berthd')}/fd"))


class GoodClient(threading.Thread):
    """Asks on a kept connection and on new ones, until it is told to stop."""

    def __init__(self):
        super().__init__()
        self.stop, self.served, self.wrong = threading.Event(), 0, []

    def run(self):
        kept = cluster.connection(1, timeout=20)
        while not self.stop.is_set():
            for connection in (kept, None):
                try:
                    a = cluster.session("pool", "good-client", "/count", connection=connection, timeout=20)
                    if a.status != 200:
                        raise AssertionError(repr(a))
                    self.served += 1
                except Exception as e:  # told by served_beside
                    self.wrong.append(repr(e))
                    kept = cluster.connection(1, timeout=20)
            time.sleep(0.02)


@contextlib.contextmanager
def served_beside():
    client = GoodClient()
    client.start()
    try:
        yield client
    finally:
        client.stop.set()
        client.join()
    assert not client.wrong and client.served > 5, (client.served, client.wrong[:3])


def nobody_left(before):
    h.wait_until("all connections are gone", 20, lambda: metric("connections_open") == 1)  # the one that asks
    h.wait_until("no descriptor is left over", 10, lambda: descriptors() <= before)


def attack(name, *args, seconds=SECONDS):
    """slowhttptest for so long; what it sees at the end of itself is left to it."""
    before = descriptors()
    cluster.session("pool", "good-client", "/count")
    with served_beside():
        # It has no option for other fields than Cookie: the token follows in the same breath.
        cookie = f"x=1\r\nAuthorization: Bearer {cluster.token()}"
        r = subprocess.run([PROGRAM, "-j", cookie, "-c", str(CROWD), "-r", "200", "-l", str(seconds), "-p", "5", *args], check=False,
                           capture_output=True, text=True, timeout=120, cwd=cluster.dir)
        seen = re.findall(r"service available:\s+(\w+)", re.sub(r"\x1b\[[0-9;]*m", "", r.stdout))
        assert seen and set(seen) == {"YES"}, f"{name}: {r.stdout[-1500:]}{r.stderr}"
    nobody_left(before + 2)


def test_start():
    with open(cluster.node_dir(1) / "berth.conf", "a") as f:
        f.write(f"listen_metrics = 127.0.0.1:{cluster.base + 8}\n")
    cluster.start().import_image()
    assert cluster.put_pool("pool", ready=1, max_sessions=3)["status"] == "Succeeded"
    assert cluster.session("pool", "good-client", "/count").status == 200
    cluster.session("pool", "slow-client", "/count")


def test_metrics_have_a_listener_of_their_own():
    for path, status in (("/metrics", 200), ("/ready", 200), ("/health", 200), ("/subscriptions", 404),
                         (cluster.pool_path("pool") + "/count?identifier=good-client", 404)):
        c = http.client.HTTPConnection("127.0.0.1", cluster.base + 8, timeout=20)
        c.request("GET", path, headers={"Authorization": "Bearer " + cluster.token()})
        r = c.getresponse()
        assert r.status == status, (path, r.status)
        assert ("berth_connections_open" in r.read().decode()) == (path == "/metrics")
        c.close()
    assert b"berth_connections_open" not in cluster.session("pool", "good-client", "/metrics").body, "the sandbox's own path"


def test_slow_heads():
    slow = metric("bad_requests_total")
    attack("slow headers", "-H", "-i", "1", "-t", "GET", "-u", url("/count?identifier=slow-client"))
    assert metric("bad_requests_total") > slow, "heads were cut off"


def test_slow_bodies():
    slow = metric("too_slow_total")
    attack("slow bodies", "-B", "-i", "1", "-s", "8192", "-x", "8", "-t", "POST", "-u", url("/upload?identifier=slow-client"))
    assert metric("too_slow_total") > slow, "bodies were cut off"


def test_ranges():
    attack("ranges", "-R", "-a", "1", "-b", "3000", "-t", "HEAD", "-u", url("/bytes?identifier=slow-client"))


def test_slow_reading():
    slow = metric("too_slow_total")
    attack("slow reading", "-X", "-w", "16", "-y", "32", "-n", "1", "-z", "8", "-u",
           url("/bytes?identifier=slow-client&n=10000000"))
    assert metric("too_slow_total") > slow, "readers were cut off"


def rss():
    text = pathlib.Path(f"/proc/{cluster.pid(1, 'berthd')}/status").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("VmRSS"))) * 1024


def idle(i):
    """Has had an answer, from an address that at most 2,000 others have."""
    s = socket.socket()
    s.bind((f"127.0.1.{1 + i // 2000}", 0))
    s.connect(("127.0.0.1", cluster.port(1)))
    s.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = s.recv(4096)
    assert answer.startswith(b"HTTP/1.1 200"), answer
    return s


def test_idle_connections():
    files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(files[0], min(IDLE + 500, files[1])), files[1]))
    before, memory = descriptors(), rss()
    with contextlib.ExitStack() as stack, served_beside():
        for i in range(IDLE):
            stack.enter_context(idle(i))
        each = (rss() - memory) / IDLE
        assert metric("connections_open") >= IDLE
        print(f"{IDLE} idle connections: {each:.0f} bytes of memory each", flush=True)
        assert h.SANITIZED or each < BYTES_MAX, each
        time.sleep(1)
    nobody_left(before + 2)


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    h.run([test_start, test_metrics_have_a_listener_of_their_own, test_idle_connections, test_slow_heads, test_slow_bodies,
           test_ranges, test_slow_reading], cluster)
