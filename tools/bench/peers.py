"""What stands in front of one session: Berth's gateways, haproxy and nginx, each with HTTP and with TLS.

haproxy 2.6 does the same as far as it can: ES256 of each token with jwt_verify, its audience, its end and its role,
a stick-table on the identifier, the same headers removed and added, HTTP keep-alive on both sides, a server inside the
sandbox's network namespace. It keeps no cache of verified tokens, so a second haproxy without any token check stands
beside it. nginx, which checks no tokens either, runs inside the sandbox's network namespace, since it cannot enter one for
a server; what loads it runs there too. None but Berth looks for the owner, meters, counts the idle time, or draws a trace id.
All use the certificate of the owning node, and send bodies on as they come."""
import contextlib
import os
import pathlib
import signal
import socket
import subprocess

import harness
from harness import wait_until
from processes import children, place

POOL, IDENTIFIER = "warm", "warm-session-1"
NGINX_PORT, NGINX_TLS_PORT = 8081, 8443  # inside the namespace

HAPROXY = """
global
	nbthread {threads}
	maxconn 4000
	tune.ssl.default-dh-param 2048
defaults
	mode http
	option http-keep-alive
	http-reuse always
	timeout connect 3s
	timeout client 75s
	timeout server 240s
frontend in
	bind 127.0.0.1:{port}
	bind 127.0.0.1:{tls_port} ssl crt {certificate}
	{check}
	http-request del-header Authorization
	http-request set-header X-Forwarded-For %[src]
	http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)]
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

NGINX = """
daemon off;
user root;
worker_processes {threads};
pid {folder}/nginx.pid;
error_log {folder}/nginx.log error;
events {{ worker_connections 4000; }}
http {{
	access_log off;
	client_body_temp_path {folder}/nginx-body;
	proxy_temp_path {folder}/nginx-proxy;
	client_max_body_size 0;
	keepalive_requests 100000000;
	upstream sandbox {{
		server 127.0.0.1:80;
		keepalive 256;
		keepalive_requests 100000000;
	}}
	server {{
		listen 127.0.0.1:{port};
		listen 127.0.0.1:{tls_port} ssl;
		ssl_certificate {certificate};
		ssl_certificate_key {key};
		ssl_protocols TLSv1.2 TLSv1.3;
		location {prefix}/ {{
			proxy_pass http://sandbox/;
			proxy_http_version 1.1;
			proxy_request_buffering off;
			proxy_max_temp_file_size 0;
			proxy_set_header Connection "";
			proxy_set_header Authorization "";
			proxy_set_header X-Forwarded-For $remote_addr;
			proxy_set_header X-Forwarded-Proto $scheme;
			proxy_set_header X-Forwarded-Host $host;
			add_header X-Ms-New-Allocation false;
			add_header X-Ms-Allocation-Time 0;
		}}
	}}
}}
"""


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


def free_ports(n):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]


class Way:
    """One way to the session: its URL without the path below the pool, the processes that it costs, and the process
    whose network namespace the load has to run in (0: this one)."""

    def __init__(self, base, pids, inside=0):
        self.base, self.pids, self.inside = base, pids, inside

    def url(self, path):
        mark = "&" if "?" in path else "?"
        return f"{self.base}{path}{mark}identifier={IDENTIFIER}"


class Setup:
    """A cluster with one bound session, its peers, and the ways to it by name: .plain, .tls, .hop."""

    def __init__(self, cluster, proxy_cpus, load_cpus, threads=1):
        self.cluster, self.threads = cluster, threads
        self.processes = []
        self.namespace = f"berth-bench-{os.getpid()}"
        cluster.put_pool(POOL, max_sessions=2, ready=0, cpu=2, memory="4Gi", cooldown=3600)
        assert cluster.session(POOL, IDENTIFIER, "/bytes", query="&n=200").status == 200
        self.token = token_of(cluster)
        self.owner = wait_until("this node lists the session", 5,
                                lambda: [x["node"] for x in cluster.sessions(POOL) if "node" in x])[0]
        self.server = server_of(cluster, self.owner)
        subprocess.run(["ip", "netns", "attach", self.namespace, str(self.server)], check=True)
        self.prefix = cluster.pool_path(POOL)
        folder = cluster.node_dir(self.owner)
        self.certificate, self.key = folder / "tls.pem", folder / "tls.key"
        (cluster.dir / "both.pem").write_bytes(self.certificate.read_bytes() + self.key.read_bytes())
        other = self.owner % cluster.n + 1
        own, others = (cluster.pid(n, "berthd") for n in (self.owner, other))
        self.plain, self.tls = {}, {}
        self._way("berth", f"{cluster.port(self.owner)}", f"{cluster.port(self.owner, 'https')}", [own])
        self._haproxy("haproxy", True)
        self._haproxy("haproxy, no token", False)
        self._nginx("nginx, no token")
        direct = Way("http://127.0.0.1:80", [], self.server)
        self.plain["direct"] = direct
        self.hop = {"berth, other node": Way(f"http://127.0.0.1:{cluster.port(other)}{self.prefix}", [own, others]),
                    "berth, owning node": self.plain["berth"]}
        for way in [*self.plain.values(), *self.hop.values()]:
            for pid in way.pids:
                place(pid, proxy_cpus)
        place(self.server, load_cpus)

    def _way(self, name, port, tls_port, pids, inside=0):
        self.plain[name] = Way(f"http://127.0.0.1:{port}{self.prefix}", pids, inside)
        self.tls[name] = Way(f"https://127.0.0.1:{tls_port}{self.prefix}", pids, inside)

    def _public_key(self):
        to = self.cluster.dir / "issuer.pem"
        keys = self.cluster.admin("GET", "/.berth/v1/keys").json()["value"]
        to.write_text(next(key["public"] for key in keys if key["kind"] == "issuer" and key["state"] == "active"))
        return to

    def _haproxy(self, name, with_check):
        port, tls_port = free_ports(2)
        path = self.cluster.dir / f"haproxy-{with_check}.cfg"
        path.write_text(HAPROXY.format(port=port, tls_port=tls_port, threads=self.threads, namespace=self.namespace,
                                       check=CHECK.format(key=self._public_key()) if with_check else "",
                                       certificate=self.cluster.dir / "both.pem", prefix=self.prefix))
        process = subprocess.Popen(["haproxy", "-q", "-db", "-f", str(path)])
        self.processes.append(process)
        wait_until("haproxy listens", 5, lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0)
        self._way(name, port, tls_port, [process.pid])

    def _nginx(self, name):
        folder = self.cluster.dir / "nginx"
        folder.mkdir(exist_ok=True)
        path = folder / "nginx.conf"
        path.write_text(NGINX.format(port=NGINX_PORT, tls_port=NGINX_TLS_PORT, threads=self.threads, folder=folder,
                                     certificate=self.certificate, key=self.key, prefix=self.prefix))
        process = subprocess.Popen(["nsenter", "-t", str(self.server), "-n", "nginx", "-c", str(path), "-e", str(folder / "nginx.log")])
        self.processes.append(process)
        workers = wait_until("nginx has its workers", 5,
                             lambda: (lambda w: w if len(w) == self.threads else None)(children(process.pid)))
        self._way(name, NGINX_PORT, NGINX_TLS_PORT, workers, self.server)

    def end(self):
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
            process.wait(10)
        subprocess.run(["ip", "netns", "delete", self.namespace], check=False, capture_output=True)


@contextlib.contextmanager
def cluster_with_peers(name, proxy_cpus, load_cpus, threads=1):
    cluster = harness.Cluster(name=name, settings=["cooldown_min=2", "memory=64Gi", "cpu_milli=8000", "overcommit_memory=1", "sandbox_pids_max=8192"],
                              options=["--gateway-loops", str(threads)]).start()
    setup = None
    try:
        cluster.import_image()
        setup = Setup(cluster, proxy_cpus, load_cpus, threads)
        yield setup
    finally:
        if setup:
            setup.end()
        cluster.end()
