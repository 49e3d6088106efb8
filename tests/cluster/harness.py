"""A real cluster for tests: three nodes on loopback, made and ended by `berth cluster`. Its sandboxes are containers; with
BERTH_ISOLATION=vm virtual machines, emulated where there is no KVM, and everything may take longer.

Everything lies below one scratch folder; end() leaves nothing: no process, mount, cgroup, interface or file. Requests go
over plain HTTP, TLS, or the admin socket. A failed expectation raises; run() prints what the nodes logged.
"""
import atexit
import contextlib
import http.client
import json
import os
import pathlib
import pwd
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import traceback

import keeper

BUILD = pathlib.Path(os.environ["BERTH_BUILD"])
SANITIZED = BUILD.name in ("asan", "tsan")  # then memory that is freed is kept for a while
SOURCE = pathlib.Path(os.environ["BERTH_SOURCE"])
IMAGE = os.environ.get("BERTH_IMAGE", "")
VM = os.environ.get("BERTH_ISOLATION") == "vm"
ISOLATION = "vm" if VM else "container"  # of pools that name none
PATIENCE = 8 if VM else 1  # times what a container takes: machines may be emulated, on a busy machine
API = "2024-08-02-preview"
SUBSCRIPTION = "34adfa4f-cedf-4dc0-ba29-b6d1a69ab345"
GROUP = "rg"
EXECUTOR = "Azure ContainerApps Session Executor"


def skip(reason):
    print(f"SKIPPED: {reason}")
    sys.exit(77)


def in_own_network():
    """Begins this program anew in a network namespace of its own, with loopback alone: for clusters whose pools change
    routes and rules of the machine. Call it first."""
    need_machine()
    if os.environ.get("BERTH_OWN_NETWORK") != "yes":
        os.execvpe("unshare", ["unshare", "--net", "--", sys.executable, *sys.argv], dict(os.environ, BERTH_OWN_NETWORK="yes"))
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def need_machine():
    if os.geteuid() != 0:
        skip("cluster tests start containers and need root")
    try:
        if subprocess.run(["unshare", "-Um", "true"], check=False).returncode != 0:
            skip("no user namespaces on this machine")
    except FileNotFoundError:
        skip("unshare is missing")


def need_vms():
    """What tools/packages/vm.txt installs."""
    need_machine()
    for program, package in (("qemu-system-x86_64", "qemu-system-x86"), ("libvirtd", "libvirt-daemon-system"),
                             ("mkfs.erofs", "erofs-utils")):
        if not shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin"):
            skip(f"virtual machines need {program} ({package})")
    if not list(pathlib.Path("/boot").glob("vmlinuz-*-cloud-amd64")):
        skip("virtual machines need a kernel (linux-image-cloud-amd64)")


def end_left_over():
    """Ends clusters of test runs that were killed before they could."""
    for path in pathlib.Path("/tmp").glob("berth-test.*.*"):
        pid = path.name.split(".")[1]
        if pid.isdigit() and not pathlib.Path(f"/proc/{pid}").exists() and (path / "node1/berth.conf").exists():
            subprocess.run([str(BUILD / "bin/berth"), "cluster", "stop", "--dir", str(path), "--purge"], check=False,
                           capture_output=True, timeout=120)
            shutil.rmtree(path, ignore_errors=True)


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"{self.status} {self.body[:600]!r}"


def wait_until(what, seconds, check, pause=0.05):
    """The first true value of check(); an error that names `what` after so many seconds, of a container."""
    seconds *= PATIENCE
    deadline = time.monotonic() + seconds
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(pause)


PORT_BLOCK = 40
blocks = []  # of ports, as long as this process runs: a cluster that starts does not have its own yet, and two may bind one


def take_blocks(base, n):
    """Names of this network namespace, as its ports are."""
    with contextlib.ExitStack() as stack:
        for k in range(n):
            s = stack.enter_context(socket.socket(socket.AF_UNIX))
            s.bind(f"\0berth-test-ports.{base + PORT_BLOCK * k}")
        blocks.append(stack.pop_all())


def free_base_port(nodes):
    """A base such that all ports of `berth cluster init` are free, below the ephemeral range, and no other test's."""
    n = (32000 - 20000 - 10 * nodes) // PORT_BLOCK
    for base in (20000 + (os.getpid() + turn) % n * PORT_BLOCK for turn in range(n)):
        try:
            with contextlib.ExitStack() as stack:
                for i in range(nodes):
                    for k in range(5):
                        s = stack.enter_context(socket.socket())
                        s.bind(("127.0.0.1", base + 10 * i + k))
                take_blocks(base, -(-10 * nodes // PORT_BLOCK))
            return base
        except OSError:
            continue
    raise AssertionError("no free ports")


# What a daemon must never log, whatever is done to it: a sanitizer's report, a crash, a bad end when it was asked to end.
FAULT = re.compile(r"ERROR: \w+Sanitizer|runtime error:|was killed by signal (?!9;|15;)|while it stopped")
clusters = []


def cgroups(name):
    """The cgroups, in all hierarchies, of containers whose names begin so. Those of others may vanish meanwhile."""
    return sorted(os.path.join(folder, d) for folder, folders, _ in os.walk("/sys/fs/cgroup") for d in folders
                  if re.match(rf"{name}-", d))


class Cluster:
    def __init__(self, nodes=3, settings=(), name="cluster", options=(), workers=0, restore=None, more=0):
        """`more`: ports are kept for so many nodes that join()."""
        need_vms() if VM else need_machine()
        end_left_over()
        named = {line.split("=")[0] for line in settings}
        more_settings = ["isolation=vm", "vm_emulation=on", "queue_ms=100000"] if VM else ["vm=off"]
        settings = [*settings, *(line for line in more_settings if line.split("=")[0] not in named)]
        self.dir = pathlib.Path(f"/tmp/berth-test.{os.getpid()}.{name}")
        self.n = nodes + workers
        self.voters, self.workers = range(1, nodes + 1), range(nodes + 1, self.n + 1)
        self.base = free_base_port(self.n + more)
        self.user = "berth-test"
        self.tokens = {}
        self.faults = []
        self.proven = False
        clusters.append(self)
        try:
            pwd.getpwnam(self.user)
        except KeyError:
            subprocess.run(["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", self.user], check=True)
        atexit.register(self.end)
        self.keeper = keeper.start(BUILD / "bin/berth", self.dir)
        how = ["init", "--nodes", str(nodes), "--workers", str(workers)] if restore is None else ["restore", *restore]
        self.berth("cluster", *how, "--dir", str(self.dir), "--base-port", str(self.base), "--user", self.user, *options,
                   "--set", *settings)

    def berth(self, *args, check=True, timeout=120, env=None):
        """Runs the command line tool; with check an exit status other than 0 is an error."""
        full = {**os.environ, "BERTH_SOCKET": str(self.socket(1)), **(env or {})}
        r = subprocess.run([str(BUILD / "bin/berth"), *args], capture_output=True, text=True, timeout=timeout, env=full)
        if check and r.returncode != 0:
            raise AssertionError(f"berth {' '.join(args)}: exit {r.returncode}\n{r.stdout}{r.stderr}")
        return r

    def join_token(self, *options):
        return self.berth("node", "token", *options).stdout.strip()

    def join(self, node, token=None, check=True, start=True, name=None):
        """Makes node<N> of this machine a node of the cluster, by a token that is minted for it."""
        r = self.berth("node", "join", "--token", token or self.join_token(), "--name", name or f"node{node}", "--dir", str(self.dir),
                       "--host", "127.0.0.1", "--base-port", str(self.base + 10 * (node - 1)), "--user", self.user, check=check)
        if r.returncode == 0:
            self.n = max(self.n, node)
            if start:
                self.start()
        return r

    def nodes(self, node=1):
        """The rows of nodes as that node shows them, by name; none while it cannot tell."""
        try:
            a = self.admin("GET", "/.berth/v1/nodes", node=node, timeout=10)
        except OSError:  # it is being started
            return {}
        return {row["name"]: row for row in a.json()["value"]} if a.status == 200 else {}

    def roles(self, node=1):
        return {name: row["role"] for name, row in self.nodes(node).items()}

    def ended(self, node):
        """Its supervisor is gone."""
        path = self.node_dir(node) / "run/supervisor.pid"
        return not path.exists() or not pathlib.Path(f"/proc/{path.read_text().strip()}").exists()

    def kill_node(self, node):
        """kill -9 of a node's supervisor and daemons, for good; its containers run on."""
        pids = [int((self.node_dir(node) / "run/supervisor.pid").read_text()), self.pid(node, "berthd"), self.pid(node, "sandboxd")]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)

    def start(self):
        self.berth("cluster", "start", "--dir", str(self.dir), timeout=90)
        if VM and not self.proven:  # what a test counts then is not the canaries
            able = [["container"] if "\nvm = off\n" in (self.node_dir(n) / "berth.conf").read_text() else ["container", "vm"]
                    for n in range(1, self.n + 1)]
            wait_until("all nodes run machines that shall", 30, lambda: [row["isolations"] for _, row in sorted(self.nodes().items())] == able)
            self.proven = True
        return self

    def end(self):
        if not self.dir.exists():
            return
        names = self._container_names()
        r = self.berth("cluster", "stop", "--dir", str(self.dir), "--purge", check=False, timeout=120)
        if r.returncode != 0:
            self.faults.append(f"cluster stop --purge: {r.stdout}{r.stderr}")
        for node in range(1, self.n + 1):
            lines = self.log(node).splitlines()
            self.faults += [f"node{node}: " + "\n".join(lines[i:i + 25]) for i, line in enumerate(lines) if FAULT.search(line)]
        self.faults += self._left_over(names)
        shutil.rmtree(self.dir, ignore_errors=True)

    def _processes(self):
        """(pid, command) of everything that has a file of this cluster open or named."""
        for proc in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                command = (proc / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                files = [os.readlink(fd) for fd in (proc / "fd").iterdir()]
                if int(proc.name) != os.getpid() and (str(self.dir) + "/" in command or
                                                      any(f.startswith(str(self.dir) + "/") for f in files)):
                    yield int(proc.name), command

    def _container_names(self):
        """How the names of the host's objects of these nodes begin: berth-<hash of cluster and node>."""
        found = (re.search(r"\b(berth-[0-9a-f]{8})-", command) for _, command in self._processes())
        return {m.group(1) for m in found if m}

    def _left_over(self, names):
        """What ending the cluster should have removed from the machine."""
        left = [f"process {pid}: {command}" for pid, command in self._processes() if "cluster stop" not in command]
        left += [f"mount: {m}" for m in pathlib.Path("/proc/self/mounts").read_text().splitlines() if str(self.dir) in m]
        links = os.listdir("/sys/class/net")
        for name in names:
            left += [f"cgroup: {path}" for path in cgroups(name)]
            left += [f"interface: {link}" for link in links if link.startswith(f"bth{name[-6:]}n")]
        return ["left behind: " + what for what in left]

    # --- places

    def node_dir(self, node):
        return self.dir / f"node{node}"

    def socket(self, node):
        return self.node_dir(node) / "run/admin/socket"

    def port(self, node, which="http"):
        return self.base + 10 * (node - 1) + {"raft": 0, "control": 1, "forward": 2, "http": 3, "https": 4}[which]

    def log(self, node):
        path = self.node_dir(node) / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def pid(self, node, program):
        """The process of a daemon of this node, found by its parent, the supervisor."""
        supervisor = int((self.node_dir(node) / "run/supervisor.pid").read_text())
        for child in pathlib.Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split():
            with contextlib.suppress(OSError):
                if pathlib.Path(f"/proc/{child}/comm").read_text().strip() == program:
                    return int(child)
        return 0

    # --- requests

    def admin(self, method, path, body=None, node=1, timeout=60):
        return self._request(UnixConnection(str(self.socket(node)), timeout), method, path, body,
                             {"Host": "localhost", "Content-Type": "application/json"})

    def token(self, plane="data", roles=None):
        roles = roles or [{"role": EXECUTOR if plane == "data" else "Owner", "scope": "/"}]
        key = (plane, json.dumps(roles))
        if key not in self.tokens:
            audience = "https://dynamicsessions.io" if plane == "data" else f"https://127.0.0.1:{self.port(1, 'https')}"
            a = self.admin("POST", "/.berth/v1/tokens", {"subject": "test", "audience": audience, "roles": roles})
            assert a.status == 200, a
            self.tokens[key] = a.json()["token"]
        return self.tokens[key]

    def connection(self, node=1, tls=False, timeout=60):
        if tls:
            context = ssl.create_default_context(cafile=str(self.dir / "ca.pem"))
            return http.client.HTTPSConnection("127.0.0.1", self.port(node, "https"), timeout=timeout, context=context)
        return http.client.HTTPConnection("127.0.0.1", self.port(node), timeout=timeout)

    def pool_path(self, pool):
        return f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/sessionPools/{pool}"

    def session(self, pool, identifier, path="/", method="GET", body=None, node=1, tls=False, headers=None, timeout=120 if VM else 60,
                query="", connection=None):
        """One request to the session of an identifier."""
        h = {"Authorization": "Bearer " + self.token()}
        h.update(headers or {})
        target = f"{self.pool_path(pool)}{path}?identifier={identifier}{query}"
        c = connection or self.connection(node, tls, timeout)
        return self._request(c, method, target, body, h, keep=connection is not None)

    def _request(self, c, method, path, body, headers, keep=False):
        data = json.dumps(body).encode() if isinstance(body, (dict, list)) else body
        c.request(method, path, data, headers)
        r = c.getresponse()
        answer = Answer(r.status, {k.lower(): v for k, v in r.getheaders()}, r.read())
        if not keep:
            c.close()
        return answer

    # --- pools

    def arm_path(self, pool=None):
        path = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/Microsoft.App/sessionPools"
        return (path + "/" + pool if pool else path) + f"?api-version={API}"

    def resource(self, image="berth/sample:1", max_sessions=10, ready=2, cooldown=300, port=80, egress=False, cpu=0.25,
                 memory="0.5Gi", **container):
        return {"location": "local", "properties": {
            "environmentId": f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/Microsoft.App/managedEnvironments/default",
            "poolManagementType": "Dynamic", "containerType": "CustomContainer",
            "scaleConfiguration": {"maxConcurrentSessions": max_sessions, "readySessionInstances": ready},
            "dynamicPoolConfiguration": {"executionType": "Timed", "cooldownPeriodInSeconds": cooldown},
            "customContainerTemplate": {"containers": [
                {"image": image, "name": "main", "resources": {"cpu": cpu, "memory": memory}, **container}],
                "ingress": {"targetPort": port}},
            "sessionNetworkConfiguration": {"status": "EgressEnabled" if egress else "EgressDisabled"}}}

    def put_pool(self, pool, node=1, wait=True, resource=None, **how):
        a = self.admin("PUT", self.arm_path(pool), resource or self.resource(**how), node=node)
        assert a.status in (200, 201), a
        return self.wait_operation(a, node) if wait else a

    def wait_operation(self, answer, node=1, seconds=60):
        """The final status document of an asynchronous operation."""
        url = answer.headers.get("azure-asyncoperation") or answer.headers["location"]
        path = "/" + url.split("/", 3)[3]

        def ended():
            a = self.admin("GET", path, node=node)
            if a.status == 202:
                return None
            if a.status == 204:
                return {"status": "Succeeded"}
            document = a.json()
            if document.get("status") == "InProgress":
                return None
            return document
        return wait_until("the operation ends", seconds, ended, 0.1)

    def pool(self, pool, node=1):
        return self.admin("GET", self.arm_path(pool), node=node)

    def counts(self, pool, node=1):
        """templateUpdateStatus counts of what runs, flat."""
        a = self.pool(pool, node)
        return a.json()["properties"].get("templateUpdateStatus", {}) if a.status == 200 else {}

    def status(self, pool, node=1):
        """What runs of it, and why not more."""
        a = self.admin("GET", f"/.berth/v1{self.arm_path(pool).split('?')[0]}/status", node=node)
        assert a.status == 200, a
        return a.json()

    def sessions(self, pool, node=1):
        a = self.admin("GET", f"/.berth/v1{self.arm_path(pool).split('?')[0]}/sessions", node=node)
        assert a.status == 200, a
        return a.json()["value"]

    def import_image(self, archive=None, name="berth/sample:1"):
        for node in range(1, self.n + 1):
            a = self.admin("POST", "/.berth/v1/images/import", {"path": archive or IMAGE, "reference": name}, node=node)
            assert a.status == 200, a


def in_parallel(n, work):
    """work(i) on n threads at once; the results in order. An exception becomes its result."""
    results = [None] * n
    gate = threading.Barrier(n)

    def one(i):
        try:
            gate.wait()
            results[i] = work(i)
        except Exception as e:  # a result to be looked at by the caller
            results[i] = e
    threads = [threading.Thread(target=one, args=(i,)) for i in range(n)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return results


def run(tests, cluster=None):
    """Runs the functions; prints a line each; exits 1 when one failed, with the nodes' logs."""
    failed = 0
    for test in tests:
        began = time.monotonic()
        try:
            test()
            print(f"ok      {test.__name__} ({time.monotonic() - began:.1f} s)", flush=True)
        except Exception:
            failed += 1
            print(f"FAILED  {test.__name__} ({time.monotonic() - began:.1f} s)", flush=True)
            traceback.print_exc(file=sys.stdout)
    if failed and cluster is not None:
        for node in range(1, cluster.n + 1):
            print(f"--- log of node{node}, its end\n" + "\n".join(cluster.log(node).splitlines()[-60:]))
    for each in clusters:
        each.end()
        failed += bool(each.faults)
        for fault in each.faults:
            print(f"FAILED  the cluster's end: {fault}")
    print(f"{max(len(tests) - failed, 0)} passed, {failed} failed")
    sys.exit(1 if failed else 0)
