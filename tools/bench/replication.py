"""The replicated log: writes on three servers beside etcd, and what a million sessions in the tables change.

Each of the three servers is a process on loopback with its files on the same disk, and a write is answered when two of three have it on
theirs. Berth's leader proposes to itself, as berthd does; etcd's leader is asked over its HTTP API, which its figures
and its CPU include. Values have 256 bytes. With sessions the machine is Berth's own tables, and a write opens one session and ends another."""
import contextlib
import json
import pathlib
import re
import resource
import shutil
import subprocess
import tempfile
import time
import urllib.request

import harness
from figures import Table
from peers import free_ports
from processes import cpu_ns

OUTSTANDING = (1, 16, 256)
SECONDS = 3
SESSIONS = (1000000, 1000)
PUT = """local n = 0
local value = string.rep("dmFsdWUh", 43)
request = function()
  n = (n + 1) % 10000
  local key = string.format("%08d", n)
  return wrk.format("POST", "/v3/kv/put", {["Content-Type"] = "application/json"}, '{"key":"' .. key .. '","value":"' .. value .. '"}')
end
"""


def bench_raft(scratch, *args):
    """Its output, and the CPU seconds of all its servers."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    out = subprocess.run([str(harness.BUILD / "bin/bench-raft"), "--servers", "3", "--dir", f"{scratch}/raft", *map(str, args)],
                         check=True, capture_output=True, text=True).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return out, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def load_lines(out):
    """By outstanding writes: writes/s, p50 and p99 in us."""
    return {int(a): (float(b), float(c), float(d)) for a, b, c, d in re.findall(r"^ *(\d+) +(\d+) +(\d+) +(\d+)$", out, re.M)}


def of_berth(scratch, outstanding):
    out, cpu_s = bench_raft(scratch, "--outstanding", outstanding, "--seconds", SECONDS)
    per_second, p50, p99 = load_lines(out)[outstanding]
    return {"writes": per_second, "p50": p50, "p99": p99, "cpu": cpu_s * 1e6 / (per_second * SECONDS)}


# --- etcd

def ask(port, path, body="{}"):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body.encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=5) as answer:
        return json.load(answer)


@contextlib.contextmanager
def etcd(scratch):
    """The port of the leader's API, and the pids of all three."""
    ports = free_ports(6)
    urls = [(f"http://127.0.0.1:{ports[2 * i]}", f"http://127.0.0.1:{ports[2 * i + 1]}") for i in range(3)]
    processes = []
    with contextlib.ExitStack() as stack:
        for i, (client, peer) in enumerate(urls):
            log = stack.enter_context(open(scratch / f"etcd{i}.log", "wb"))
            processes.append(subprocess.Popen(
                ["etcd", "--name", f"e{i}", "--data-dir", f"{scratch}/etcd{i}", "--listen-client-urls", client,
                 "--advertise-client-urls", client, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                 "--initial-cluster", ",".join(f"e{j}={u[1]}" for j, u in enumerate(urls)), "--initial-cluster-state", "new",
                 "--initial-cluster-token", scratch.name], stdout=log, stderr=log))

        def leader():
            for i in range(3):
                with contextlib.suppress(OSError):
                    status = ask(ports[2 * i], "/v3/maintenance/status")
                    if status.get("leader") == status["header"]["member_id"]:
                        return ports[2 * i]
            return None
        try:
            yield harness.wait_until("etcd has a leader", 30, leader), [p.pid for p in processes]
        finally:
            for p in processes:
                p.terminate()
            for p in processes:
                p.wait(30)


def of_etcd(script, port, pids, outstanding):
    before, began = sum(map(cpu_ns, pids)), time.monotonic()
    out = subprocess.run(["wrk", "-t1", f"-c{outstanding}", f"-d{SECONDS}s", "--latency", "-s", str(script), f"http://127.0.0.1:{port}"],
                         check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in out or "Socket errors" in out:
        raise AssertionError(out)
    unit = {"us": 1, "ms": 1000, "s": 1000000}
    share = {k: float(v) * unit[u] for k, v, u in re.findall(r"(50|99)%\s+([\d.]+)(us|ms|s)", out)}
    n = int(re.search(r"(\d+) requests in", out)[1])
    return {"writes": n / (time.monotonic() - began), "p50": share["50"], "p99": share["99"],
            "cpu": (sum(map(cpu_ns, pids)) - before) / 1000 / n}


def beside_etcd(scratch, rounds):
    script = scratch / "put.lua"
    script.write_text(PUT)
    got = {}
    with etcd(scratch) as (port, pids):
        for outstanding in OUTSTANDING:
            for i in range(rounds):
                ways = [("berth", lambda n=outstanding: of_berth(scratch, n)),
                        ("etcd", lambda n=outstanding: of_etcd(script, port, pids, n))]
                for peer, way in ways if i % 2 == 0 else ways[::-1]:
                    got.setdefault((outstanding, peer), []).append(way())
    table = Table("replication: three servers", ["berth", "etcd"])
    for what, unit, key in (("writes", "1/s", "writes"), ("p50", "us", "p50"), ("p99", "us", "p99"), ("CPU of all servers", "us/write", "cpu")):
        for n in OUTSTANDING:
            table.add(f"{what}, {n} outstanding", unit, *([x[key] for x in got[n, p]] for p in table.peers))
    return table


# --- many sessions

def with_sessions(scratch, sessions):
    out, _ = bench_raft(scratch, "--sessions", sessions, "--seconds", SECONDS)
    turns = [float(x) for x in re.findall(r"longest turn ([\d.]+) ms", out)]
    many = re.search(r"(\d+) bytes each with its sandbox, lookup (\d+) ns", out)
    return {**{f"writes, {n} outstanding": v[0] for n, v in load_lines(out).items()},
            **{f"p50, {n} outstanding": v[1] for n, v in load_lines(out).items()},
            "lookup": float(many[2]), "memory": float(many[1]), "taken": turns[0], "restored": turns[1]}


def many_sessions(scratch, rounds):
    got = {n: [] for n in SESSIONS}
    for i in range(rounds):
        for n in SESSIONS if i % 2 == 0 else SESSIONS[::-1]:
            got[n].append(with_sessions(scratch, n))
    table = Table("replication: sessions in the tables", [f"{n:,} sessions" for n in SESSIONS])

    def add(what, unit, key):
        table.add(what, unit, *([x[key] for x in got[n]] for n in SESSIONS))
    for n in OUTSTANDING:
        add(f"writes, {n} outstanding", "1/s", f"writes, {n} outstanding")
    for n in OUTSTANDING[:2]:
        add(f"p50, {n} outstanding", "us", f"p50, {n} outstanding")
    add("lookup of a session", "ns", "lookup")
    add("memory of a session with its sandbox", "bytes", "memory")
    add("longest turn of the leader's loop, snapshots taken", "ms of CPU", "taken")
    add("longest turn of a loop that gets a snapshot", "ms of CPU", "restored")
    return table


def run(rounds):
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="berth-bench."))
    try:
        return [beside_etcd(scratch, rounds or 3), many_sessions(scratch, rounds or 3)]
    finally:
        shutil.rmtree(scratch)
