"""Warm requests: keep-alive, a token of 1.2 KB, answers of 200 bytes, one session. `wrk` loads, from one thread.

warm: plain HTTP to the owning node, beside the peers and beside no proxy at all. tls: the same with TLS to the client.
hop: through a node that does not own the session. loops: two gateway loops beside two threads of haproxy and of nginx."""
import re
import subprocess

from figures import Table
from peers import cluster_with_peers
from processes import cpu_ns, halves

PATH = "/bytes?n=200"
SECONDS = 2
CONNECTIONS = (1, 4, 16, 64, 256)
UNITS = {"us": 1, "ms": 1000, "s": 1000000}


def wrk(way, connections, token, cpus, seconds):
    """requests, requests/s, p50 and p99 in us."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-H", "Authorization: Bearer " + token,
               way.url(PATH)]
    if way.inside:
        command = ["nsenter", "-t", str(way.inside), "-n", *command]
    if cpus:
        command = ["taskset", "-c", cpus, *command]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in out or "Socket errors" in out:
        raise AssertionError(out)
    number = dict(re.findall(r"(50|99)%\s+([\d.]+\w+)", out))
    us = {k: float(re.match(r"[\d.]+", v)[0]) * UNITS[re.search(r"[a-z]+", v)[0]] for k, v in number.items()}
    return int(re.search(r"(\d+) requests in", out)[1]), float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1]), us["50"], us["99"]


def measure(way, connections, token, cpus):
    for seconds in (SECONDS, 3 * SECONDS, 9 * SECONDS):  # a busy machine may need longer for the handshakes alone
        before = sum(map(cpu_ns, way.pids))
        n, per_second, p50, p99 = wrk(way, connections, token, cpus, seconds)
        if n:
            return {"requests": per_second, "p50": p50, "p99": p99, "cpu": (sum(map(cpu_ns, way.pids)) - before) / 1000 / n}
    raise AssertionError(f"no request of {connections} connections was answered within {seconds} s")


def table(title, ways, token, cpus, connections, rounds):
    peers = list(ways)
    for way in ways.values():  # connections to the sandbox, caches of sessions and tokens
        measure(way, 16, token, cpus)
    got = {}
    for c in connections:
        for i in range(rounds):
            for peer in peers if i % 2 == 0 else peers[::-1]:
                got.setdefault((c, peer), []).append(measure(ways[peer], c, token, cpus))
    t = Table(title, peers)

    def add(what, unit, value, skip=()):
        for c in connections:
            t.add(f"{what}, {c} connections", unit,
                  *(None if p in skip else [value(x, d) for x, d in zip(got[c, p], got[c, peers[-1]])] for p in peers))
    add("CPU of the proxy", "us/request", lambda x, _: x["cpu"], ("direct",))
    add("p50", "us", lambda x, _: x["p50"])
    if "direct" in ways:
        add("p50 above direct", "us", lambda x, direct: x["p50"] - direct["p50"], ("direct",))
    add("p99", "us", lambda x, _: x["p99"])
    add("requests", "1/s", lambda x, _: x["requests"])
    return t


def run_of(name, threads, ways, connections, default_rounds):
    def run(rounds):
        proxy_cpus, load_cpus = halves(threads)
        with cluster_with_peers(name, proxy_cpus, load_cpus, threads) as setup:
            return [table(name, ways(setup), setup.token, load_cpus, connections, rounds or default_rounds)]
    return run


def without_direct(setup):
    return {peer: way for peer, way in setup.plain.items() if peer != "direct"}


warm = run_of("warm", 1, lambda s: s.plain, CONNECTIONS, 4)
tls = run_of("tls", 1, lambda s: s.tls, CONNECTIONS[1:], 3)
hop = run_of("hop", 1, lambda s: s.hop, (4, 16, 64), 3)
loops = run_of("loops", 2, without_direct, (16, 64, 256), 3)
