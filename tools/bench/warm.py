"""Warm requests: the gateway of the owning node beside haproxy, both in front of the same container, and without a proxy.

haproxy 2.6 does the same as far as it can: ES256 of each token with jwt_verify, its audience, its end and its role,
a stick-table on the identifier, the same headers removed and added, HTTP keep-alive on both sides, a server inside the
sandbox's network namespace. It keeps no cache of verified tokens, so a second haproxy without any token check stands
beside it; neither looks for the owner, meters, counts the idle time, or draws a trace id. wrk loads, from one thread."""
import contextlib
import os
import pathlib
import re
import signal
import socket
import subprocess
import time

import harness
from figures import Table
from harness import Cluster, wait_until
from processes import cpu_ns, halves, place

POOL, IDENTIFIER = "warm", "warm-session-1"
PATH = "/bytes"
SECONDS = 2
PROXY_CPUS, LOAD_CPUS = halves()

HAPROXY = """
global
	nbthread 1
	maxconn 4000
defaults
	mode http
	option http-keep-alive
	http-reuse always
	timeout connect 3s
	timeout client 75s
	timeout server 240s
frontend in
	bind 127.0.0.1:{port}
	{check}
	http-request del-header Authorization
	http-request set-header X-Forwarded-For %[src]
	http-request set-header X-Forwarded-Proto http
	http-request set-header X-Forwarded-Host %[req.hdr(host)]
	http-request set-path %[path,regsub({prefix},)]
	http-response set-header X-Ms-New-Allocation false
	http-response set-header X-Ms-Allocation-Time 0
	default_backend sandboxes
backend sandboxes
	stick-table type string len 128 size 100k expire 300s store server_id
	stick on url_param(identifier)
	server one 127.0.0.1:80 namespace {namespace}
"""
CHECK = """http-request set-var(txn.alg) http_auth_bearer,jwt_header_query('$.alg')
	http-request deny deny_status 401 unless {{ var(txn.alg) -m str ES256 }}
	http-request deny deny_status 401 unless {{ http_auth_bearer,jwt_verify(txn.alg,"{key}") 1 }}
	http-request deny deny_status 401 unless {{ http_auth_bearer,jwt_payload_query('$.aud') -m str https://dynamicsessions.io }}
	http-request set-var(txn.now) date()
	http-request deny deny_status 401 unless {{ http_auth_bearer,jwt_payload_query('$.exp','int'),sub(txn.now) -m int gt 0 }}
	http-request deny deny_status 403 unless {{ http_auth_bearer,jwt_payload_query('$.roles[0].role') -m found }}"""


def token_of(cluster, size=1200):
    """A token of about this many bytes: real ones name more than one role."""
    roles = [{"role": harness.EXECUTOR, "scope": "/"}]
    while True:
        token = cluster.token(roles=roles)
        if len(token) >= size:
            return token
        roles.append({"role": harness.EXECUTOR,
                      "scope": f"/subscriptions/{harness.SUBSCRIPTION}/resourceGroups/{harness.GROUP}/" + "x" * min(60, size - len(token))})


def server_of(cluster, node):
    """The sample server's process in the only sandbox of this node: its overlay lies below the node's folder."""
    for entry in pathlib.Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if (entry / "comm").read_text().strip() == "echo-server" and \
                    f"{cluster.node_dir(node)}/" in (entry / "mountinfo").read_text():
                return int(entry.name)
    raise AssertionError(f"node {node} runs no sample server")


class Haproxy:
    def __init__(self, folder, name, namespace, prefix, key=None):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        path = folder / f"{name}.cfg"
        check = CHECK.format(key=key) if key else ""
        path.write_text(HAPROXY.format(port=self.port, check=check, namespace=namespace, prefix=prefix))
        self.process = subprocess.Popen(["haproxy", "-q", "-db", "-f", str(path)])
        self.pid = self.process.pid
        wait_until("haproxy listens", 5, lambda: socket.socket().connect_ex(("127.0.0.1", self.port)) == 0)

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(10)


def public_key(cluster, to):
    subprocess.run(["openssl", "pkey", "-in", str(cluster.node_dir(1) / "issuer.key"), "-pubout", "-out", str(to)], check=True)
    return to


UNITS = {"us": 1, "ms": 1000, "s": 1000000}


def wrk(url, connections, token, inside=0):
    """requests/s, p50 and p99 in us."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{SECONDS}s", "--latency", "-H", "Authorization: Bearer " + token, url]
    if inside:
        command = ["nsenter", "-t", str(inside), "-n", *command]
    if LOAD_CPUS:
        command = ["taskset", "-c", LOAD_CPUS, *command]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in out or "Socket errors" in out:
        raise AssertionError(out)
    number = dict(re.findall(r"(50|99)%\s+([\d.]+\w+)", out))
    us = {k: float(re.match(r"[\d.]+", v)[0]) * UNITS[re.search(r"[a-z]+", v)[0]] for k, v in number.items()}
    return int(re.search(r"(\d+) requests in", out)[1]), float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1]), us["50"], us["99"]


def one(url, connections, token, pids, inside=0):
    before = sum(map(cpu_ns, pids))
    n, per_second, p50, p99 = wrk(url, connections, token, inside)
    return per_second, p50, p99, (sum(map(cpu_ns, pids)) - before) / 1000 / n


class Setup:
    """A cluster with one bound session, what stands in front of it, and what each is called."""

    def __init__(self, cluster, namespace):
        self.cluster = cluster
        cluster.put_pool(POOL, max_sessions=2, ready=0, cpu=2, memory="4Gi", cooldown=3600)
        assert cluster.session(POOL, IDENTIFIER, PATH, query="&n=200").status == 200
        self.token = token_of(cluster)
        self.owner = wait_until("this node lists the session", 5,
                                lambda: [x["node"] for x in cluster.sessions(POOL) if "node" in x])[0]
        self.server = server_of(cluster, self.owner)
        subprocess.run(["ip", "netns", "attach", namespace, str(self.server)], check=True)
        prefix = cluster.pool_path(POOL)
        self.with_check = Haproxy(cluster.dir, "haproxy", namespace, prefix, public_key(cluster, cluster.dir / "issuer.pem"))
        self.without = Haproxy(cluster.dir, "haproxy-plain", namespace, prefix)
        query = f"{PATH}?identifier={IDENTIFIER}&n=200"
        other = self.owner % cluster.n + 1
        owner_pid, other_pid = (cluster.pid(n, "berthd") for n in (self.owner, other))
        for pid in (owner_pid, other_pid, self.with_check.pid, self.without.pid):
            place(pid, PROXY_CPUS)
        place(self.server, LOAD_CPUS)
        self.ways = {
            "berth": (f"http://127.0.0.1:{cluster.port(self.owner)}{prefix}{query}", [owner_pid]),
            "haproxy": (f"http://127.0.0.1:{self.with_check.port}{prefix}{query}", [self.with_check.pid]),
            "haproxy, no token": (f"http://127.0.0.1:{self.without.port}{prefix}{query}", [self.without.pid]),
            "berth, other node": (f"http://127.0.0.1:{cluster.port(other)}{prefix}{query}", [owner_pid, other_pid]),
            "direct": (f"http://127.0.0.1:80{query}", [])}

    def end(self):
        self.with_check.end()
        self.without.end()

    def measure(self, way, connections):
        url, pids = self.ways[way]
        return one(url, connections, self.token, pids, self.server if way == "direct" else 0)


def tables(setup, rounds):
    peers = list(setup.ways)
    for way in peers:
        setup.measure(way, 16)
    out = []
    for connections in (1, 16, 64):
        got = {way: [] for way in peers}
        for i in range(rounds):
            for way in peers if i % 2 == 0 else peers[::-1]:
                got[way].append(setup.measure(way, connections))
        t = Table(f"warm, {connections} connections", peers)
        for k, (what, unit) in enumerate((("requests", "1/s"), ("p50", "us"), ("p99", "us"))):
            t.add(what, unit, *([x[k] for x in got[way]] for way in peers))
        t.add("CPU of the proxy", "us/request", *([x[3] for x in got[way]] if way != "direct" else None for way in peers))
        t.add("added p50", "us", *([x[1] - d[1] for x, d in zip(got[way], got["direct"])] if way != "direct" else None
                                   for way in peers))
        out.append(t)
    return out


def run(rounds):
    namespace = f"berth-bench-{os.getpid()}"
    cluster = Cluster(name="warm", settings=["cooldown_min=2", "memory=64Gi", "cpu_milli=8000", "overcommit_memory=1"]).start()
    setup = None
    try:
        cluster.import_image()
        setup = Setup(cluster, namespace)
        return tables(setup, rounds or 5)
    finally:
        if setup:
            setup.end()
        subprocess.run(["ip", "netns", "delete", namespace], check=False, capture_output=True)
        cluster.end()
