"""A cluster whose nodes have machines of their own, as far as the network is concerned: each node's processes live in a network namespace with
one address on a bridge, and the test can cut it off.

The bridge is in a network and mount namespace of the test's own (alone() begins it anew there), never in the machine's. A node's
namespace is held by a process; it goes with it. `Outside` is one more namespace on the bridge with a public address, where what
sandboxes send is received and written down with the time.
"""
import atexit
import contextlib
import os
import pathlib
import pwd
import signal
import subprocess
import sys

from harness import BUILD, Cluster, need_machine, skip, wait_until

SMALL_DISK_MIB = 0  # above 0: each node's log lies on a disk of its own of that size, in memory
NET, SELF = "10.77.0", "10.77.0.254"
PUBLIC, PUBLIC_NET = "198.51.100.2", "198.51.100.0/24"


def alone():
    """Begins this program anew in namespaces of its own. Call it first."""
    need_machine()
    for tool in ("nft", "ip", "nsenter", "mount"):
        if subprocess.run(["sh", "-c", f"command -v {tool}"], capture_output=True, check=False).returncode != 0:
            skip(f"{tool} is missing")
    if os.environ.get("BERTH_ALONE") != "yes":
        os.execvpe("unshare", ["unshare", "--net", "--mount", "--propagation", "private", "--", sys.executable, *sys.argv],
                   dict(os.environ, BERTH_ALONE="yes"))
    sh("ip link set lo up; ip link add br0 type bridge forward_delay 0; ip link set br0 up; " f"ip addr add {SELF}/24 dev br0")


def sh(script):
    return subprocess.run(["sh", "-ec", script], check=True, capture_output=True, text=True).stdout


class Machine:
    """A network namespace on the bridge."""

    def __init__(self, name, address, script=""):
        self.name = name
        self.holder = subprocess.Popen(["unshare", "--net", "--", "sh", "-c", "echo; exec cat"], stdin=subprocess.PIPE,
                                       stdout=subprocess.PIPE)  # it ends with the test, however that ends
        atexit.register(self.end)
        self.holder.stdout.readline()
        pid = self.holder.pid
        sh(f"ip link add {name} type veth peer name eth0 netns {pid}; ip link set {name} master br0 up")
        self.run(f"ip link set lo up; ip link set eth0 up; ip addr add {address}/24 dev eth0; {script}")

    def enter(self, *command):
        return ["nsenter", f"--net=/proc/{self.holder.pid}/ns/net", "--", *command]

    def run(self, script):
        return subprocess.run(self.enter("sh", "-ec", script), check=True, capture_output=True, text=True).stdout

    def end(self):
        self.holder.kill()
        self.holder.wait()


class Machines(Cluster):
    """Cluster on machines of its own. alone() must have been called."""

    def __init__(self, nodes=3, settings=(), name="machines", options=(), workers=0):
        hosts = ",".join(f"{NET}.{n}" for n in range(1, nodes + workers + 1))
        super().__init__(nodes, settings, name, ["--host", hosts, *options], workers)
        self.supervisors = {}
        self.machines = {n: Machine(f"node{n}", self.host(n), f"ip route add default via {SELF}; ip route add {PUBLIC_NET} dev eth0")
                         for n in range(1, self.n + 1)}

    def host(self, node):
        return f"{NET}.{node}"

    def port(self, node, which="http"):
        return super().port(1, which)

    def start_node(self, node, prefix=()):
        """Its supervisor, in its namespace. `prefix`: a command that runs it."""
        with open(self.node_dir(node) / "log", "ab") as log:
            self.supervisors[node] = subprocess.Popen(
                self.machines[node].enter(*prefix, str(BUILD / "bin/berth-supervisor"), str(self.node_dir(node) / "berth.conf")),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)

    def start(self):
        for node in self.machines:
            if SMALL_DISK_MIB:
                self._small_disk(node)
            self.start_node(node)
            wait_until("its supervisor runs", 10, lambda: (self.node_dir(node) / "run/supervisor.pid").exists())
        return super().start()  # waits until all are ready

    def end(self):
        for node in list(self.machines):
            with contextlib.suppress(subprocess.CalledProcessError):
                self.heal(node)
            self.fast(node)
        for node in self.machines:  # one that stands still cannot be stopped
            for program in ("berthd", "sandboxd"):
                with contextlib.suppress(OSError):
                    os.kill(self.pid(node, program), signal.SIGCONT)
        super().end()
        for s in self.supervisors.values():
            s.kill()
            s.wait()
        for m in self.machines.values():
            m.end()

    def connection(self, node=1, tls=False, timeout=60):
        c = super().connection(node, tls, timeout)
        c.host = self.host(node)
        return c

    # --- faults of the network

    def cut(self, node, hear=False, speak=False):
        """Between this node and the other nodes alone; clients still reach it. hear, speak: one way stays."""
        others = ", ".join(self.host(n) for n in self.machines if n != node)
        rules = ["add table ip fault"]
        for chain, hook, field in [("hear", "input", "saddr")] * (not hear) + [("speak", "output", "daddr")] * (not speak):
            rules += [f"add chain ip fault {chain} {{ type filter hook {hook} priority -300 ; }}",
                      f"add rule ip fault {chain} ip {field} {{ {others} }} drop"]
        self.machines[node].run("nft -f - <<'END'\n" + "\n".join(rules) + "\nEND\n")

    # --- a full disk

    def _log_disk(self, node):
        return self.node_dir(node) / "state/berthd"

    def _small_disk(self, node):
        self._log_disk(node).mkdir(parents=True)
        user = pwd.getpwnam(self.user)
        sh(f"mount -t tmpfs -o size={SMALL_DISK_MIB}m,mode=0700,uid={user.pw_uid},gid={user.pw_gid} tmpfs {self._log_disk(node)}")

    def _left_over(self, names):
        if SMALL_DISK_MIB:
            for node in self.machines:
                sh(f"umount -l {self._log_disk(node)}")
        return super()._left_over(names)

    def fill(self, node, leave=0):
        """So many bytes are free on the disk of its log."""
        with open(self._log_disk(node) / "filler", "wb", buffering=0) as f, contextlib.suppress(OSError):
            v = os.statvfs(self._log_disk(node))
            while v.f_bavail * v.f_frsize > leave:
                f.write(bytes(min(1 << 20, v.f_bavail * v.f_frsize - leave)))
                v = os.statvfs(self._log_disk(node))

    def make_room(self, node):
        (self._log_disk(node) / "filler").unlink()

    # --- a slow disk, by version 1's blkio controller: without device mapper there is no other

    def slow(self, node, per_second=5):
        """berthd's writes come to so many a second. False: this kernel cannot."""
        root = pathlib.Path("/sys/fs/cgroup/blkio")
        if not (root / "blkio.throttle.write_iops_device").exists():
            return False
        disk = os.stat(self.dir).st_dev
        whole = pathlib.Path(f"/sys/dev/block/{os.major(disk)}:{os.minor(disk)}/../dev")
        number = whole.read_text().strip() if (whole.parent / "partition").exists() else f"{os.major(disk)}:{os.minor(disk)}"
        group = self._slow_group(node)
        group.mkdir(exist_ok=True)
        (group / "blkio.throttle.write_iops_device").write_text(f"{number} {per_second}")
        (group / "cgroup.procs").write_text(str(self.pid(node, "berthd")))
        return True

    def fast(self, node):
        group = self._slow_group(node)
        if group.exists():
            for pid in (group / "cgroup.procs").read_text().split():
                with contextlib.suppress(OSError):
                    (group.parent / "cgroup.procs").write_text(pid)
            wait_until("nothing is left in the slow group", 10, lambda: not (group / "cgroup.procs").read_text())
            group.rmdir()

    def _slow_group(self, node):
        return pathlib.Path(f"/sys/fs/cgroup/blkio/berth-test-{os.getpid()}-{node}")

    def heal(self, node):
        self.machines[node].run("nft delete table ip fault 2>/dev/null || true")
