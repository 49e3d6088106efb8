"""The first request of an identifier: from the ready pool, and without one, on three nodes that share the machine.

Beside each first request stands the next one of the same identifier over the same connection: what is left is
the session's opening, with its entry of the replicated log on three disks. A burst of first requests on many
connections gives the opens per second. Connections are made before the clock starts."""
import os
import socket
import threading
import time

import harness
from figures import Table, percentile
from harness import Cluster, wait_until

READY, EACH, BURST, THREADS = 24, 12, 72, 12


class Caller:
    """One kept connection to a node."""

    def __init__(self, cluster, node):
        self.cluster = cluster
        self.s = socket.create_connection(("127.0.0.1", cluster.port(node)), 60)
        self.s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, pool, identifier):
        """Milliseconds to the first byte; the answer has a length, and is read whole."""
        request = (f"GET {self.cluster.pool_path(pool)}/bytes?identifier={identifier}&n=200 HTTP/1.1\r\nHost: localhost\r\n"
                   f"Authorization: Bearer {self.cluster.token()}\r\n\r\n").encode()
        began = time.perf_counter()
        self.s.sendall(request)
        data = self.s.recv(65536)
        took = 1000 * (time.perf_counter() - began)
        if not data.startswith(b"HTTP/1.1 200"):
            raise AssertionError(data[:600])
        while len(data.partition(b"\r\n\r\n")[2]) < 200:
            data += self.s.recv(65536)
        return took

    def close(self):
        self.s.close()


def ready_count(cluster, pool):
    path = cluster.arm_path(pool).replace(harness.API, "2025-02-02-preview")
    status = cluster.admin("GET", path).json()["properties"]["templateUpdateStatus"]
    return status["activeTemplate"]["status"]["readyCount"]


def ready(cluster, pool, n):
    wait_until(f"{n} sandboxes are ready", 120, lambda: ready_count(cluster, pool) >= n, 0.1)
    time.sleep(0.3)  # the last one's entries have reached all nodes


def one_by_one(cluster, pool, what, rounds, n):
    """For each round the samples of its first and of its second requests."""
    firsts, seconds = [], []
    callers = [Caller(cluster, node + 1) for node in range(cluster.n)]
    for r in range(rounds):
        if what == "hit":
            ready(cluster, pool, READY)
        first, second = [], []
        for i in range(n):
            identifier = f"{what}-{r}-{i}"
            caller = callers[i % cluster.n]
            first.append(caller.ask(pool, identifier))
            second.append(caller.ask(pool, identifier))
            time.sleep(0.02)
        firsts.append(first)
        seconds.append(second)
    for caller in callers:
        caller.close()
    return firsts, seconds


def burst(cluster, pool, name):
    """Opens per second, and the p50 of one among the others."""
    ready(cluster, pool, BURST)
    callers = [Caller(cluster, t % cluster.n + 1) for t in range(THREADS)]
    took, gate = [], threading.Barrier(THREADS + 1)

    def work(t):
        gate.wait()
        for i in range(t, BURST, THREADS):
            took.append(callers[t].ask(pool, f"{name}-{i}"))
    threads = [threading.Thread(target=work, args=(t,)) for t in range(THREADS)]
    for t in threads:
        t.start()
    gate.wait()
    began = time.perf_counter()
    for t in threads:
        t.join()
    seconds = time.perf_counter() - began
    if len(took) != BURST:
        raise AssertionError(f"{BURST - len(took)} first requests failed")
    return BURST / seconds, percentile(took, 50)


def fsync_ms(folder, n=50):
    """What the disk itself takes to keep 512 bytes."""
    path = folder / "fsync"
    fd = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
    took = []
    os.pwrite(fd, b"x" * 512 * n, 0)
    for i in range(n):
        began = time.perf_counter()
        os.pwrite(fd, b"y" * 512, 512 * i)
        os.fdatasync(fd)
        took.append(1000 * (time.perf_counter() - began))
    os.close(fd)
    path.unlink()
    return percentile(took, 50)


def pool_of(cluster, name, n):
    cluster.put_pool(name, max_sessions=600, ready=n, cooldown=3600)


def run(rounds):
    rounds = rounds or 6
    cluster = Cluster(name="open", settings=["cooldown_min=2", "memory=200Gi", "cpu_milli=32000"]).start()
    try:
        cluster.import_image()
        pool_of(cluster, "hits", READY)
        hits, warm = one_by_one(cluster, "hits", "hit", rounds, EACH)
        disk = [fsync_ms(cluster.dir) for _ in range(rounds)]
        pool_of(cluster, "hits", 0)
        pool_of(cluster, "empty", 0)
        misses, after = one_by_one(cluster, "empty", "miss", max(2, rounds // 2), EACH)
        pool_of(cluster, "bursts", BURST)
        bursts = [burst(cluster, "bursts", f"burst-{r}") for r in range(max(2, rounds // 3))]
    finally:
        cluster.end()
    t = Table("open: the first request of an identifier", ["first request", "the next one", "fdatasync"])
    t.add("from the ready pool, p50", "ms", [percentile(x, 50) for x in hits], [percentile(x, 50) for x in warm], disk)
    t.add("from the ready pool, p99", "ms", [percentile(x, 99) for x in hits], [percentile(x, 99) for x in warm], None)
    t.add("no sandbox ready, p50", "ms", [percentile(x, 50) for x in misses], [percentile(x, 50) for x in after], None)
    t.add(f"{BURST} at once by {THREADS}, p50", "ms", [b[1] for b in bursts], None, None)
    t.add(f"{BURST} at once by {THREADS}", "opens/s", [b[0] for b in bursts], None, None)
    return [t]
