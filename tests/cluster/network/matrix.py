"""What leaves a sandbox, packet by packet, and what a flood from one does to the others.

Frames are put on the sandbox's own interface, from its network namespace and with all rights: more than any program in it
could. Observers note which arrive: the outside, to which everything is routed; the node itself; a neighbour. The control sends the
same from a namespace that is connected like a sandbox, but without our rules: what does not arrive from there either, the
kernel dropped by itself. Each case is printed: sent, wanted, seen.
"""
import os
import pathlib
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

OUTSIDE_MAC, HOST_MAC = "02:00:00:00:00:02", "02:00:00:00:00:01"
PUBLIC, RESOLVER, DENIED, HOST, HOST_OTHER = "198.51.100.2", "198.51.100.53", "198.51.100.200", "198.51.100.1", "100.127.0.0"
CONTROL = "100.127.0.1"
GATEWAY_MAC = "02:62:74:68:00:00"  # drivers/net/egress.c
TAG = re.compile(rb"<([a-z][a-z0-9:.-]+)>")
CONNECTIONS, NEW_A_SECOND, PACKETS_A_SECOND, BYTES_A_SECOND = 100, 60, 1000, 128 << 10


def out_of(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


# --- observers: a process in a namespace; prints each tag that it sees, once, and how often when asked


def watch(device):
    """Everything that arrives on the device from others; without one: all that this namespace takes as its own."""
    counts, bytes_of, lock = {}, {}, threading.Lock()

    def take(data):
        found = TAG.search(data)
        if found:
            with lock:
                tag = found.group(1).decode()
                counts[tag] = counts.get(tag, 0) + 1
                bytes_of[tag] = bytes_of.get(tag, 0) + len(data)

    def listen(s):
        while True:
            data, where = s.recvfrom(70000)
            if not device or where[2] != socket.PACKET_OUTGOING:
                take(data)
    sockets = []
    if device:
        sockets.append(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)))
        sockets[0].bind((device, 0))
    else:
        kinds = (socket.IPPROTO_UDP, socket.IPPROTO_TCP, socket.IPPROTO_ICMP, 2, 41, 47, 132)
        sockets += [socket.socket(socket.AF_INET, socket.SOCK_RAW, k) for k in kinds]
        sockets += [socket.socket(socket.AF_INET6, socket.SOCK_RAW, k) for k in (socket.IPPROTO_UDP, socket.IPPROTO_ICMPV6)]
    for s in sockets:
        s.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)  # SO_RCVBUFFORCE
        threading.Thread(target=listen, args=(s,), daemon=True).start()
    print("watching", flush=True)
    for _ in sys.stdin:
        with lock:
            print(repr((counts, bytes_of)), flush=True)


class Observer:
    def __init__(self, pid, device=""):
        self.process = subprocess.Popen(["nsenter", "-t", str(pid), "-n", sys.executable, __file__, "watch", device], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout.readline() == "watching\n"

    def _ask(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        counts, bytes_of = eval(self.process.stdout.readline())  # noqa: S307 -- of our own process
        return counts, bytes_of

    def saw(self, tag):
        return self._ask()[0].get(tag, 0)

    def tags(self):
        return set(self._ask()[0])

    def bytes(self, tag):
        return self._ask()[1].get(tag, 0)

    def end(self):
        self.process.stdin.close()
        self.process.wait(10)


def serve():
    """The outside's TCP server: takes connections and keeps them."""
    listener = socket.create_server((PUBLIC, 80), backlog=1000)
    kept = []
    print("serving", flush=True)
    while True:
        kept.append(listener.accept()[0])


# --- frames


def checksum(data):
    data += b"\0" * (len(data) % 2)
    n = sum(struct.unpack(f"!{len(data) // 2}H", data))
    n = (n >> 16) + (n & 0xffff)
    return ~(n + (n >> 16)) & 0xffff


def mac(text):
    return bytes.fromhex(text.replace(":", ""))


def ip4(source, to, protocol, body, ident=1, flags=0):
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(body), ident, flags, 64, protocol, 0, socket.inet_aton(source), socket.inet_aton(to))
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + body


def udp(port, tag, size=0):
    body = f"<{tag}>".encode().ljust(size, b".")
    return struct.pack("!HHHH", 40000, port, 8 + len(body), 0) + body


def tcp_syn(source, to, port, tag):
    body = f"<{tag}>".encode()
    head = struct.pack("!HHIIBBHHH", 40001, port, 1, 0, 5 << 4, 2, 1000, 0, 0)
    pseudo = socket.inet_aton(source) + socket.inet_aton(to) + struct.pack("!BBH", 0, 6, len(head) + len(body))
    return head[:16] + struct.pack("!H", checksum(pseudo + head + body)) + head[18:] + body


def icmp(tag, kind=8):
    body = struct.pack("!BBHHH", kind, 0, 0, 7, 1) + f"<{tag}>".encode()
    return body[:2] + struct.pack("!H", checksum(body)) + body[4:]


def ip6(source, to, protocol, body):
    a, b = (socket.inet_pton(socket.AF_INET6, x) for x in (source, to))
    if protocol in (17, 58):
        at = 6 if protocol == 17 else 2
        pseudo = a + b + struct.pack("!II", len(body), protocol)
        body = body[:at] + struct.pack("!H", checksum(pseudo + body) or 0xffff) + body[at + 2:]
    return struct.pack("!IHBB", 6 << 28, len(body), protocol, 64) + a + b + body


def cases(neighbour, foreign):
    """name, protocol, what makes the packet from (own address, tag), where it may arrive: '' or 'outside'."""
    def to(address, port=9):
        return lambda me, tag: ip4(me, address, 17, udp(port, tag))

    def fragments(address):
        def make(me, tag):
            whole = udp(9, tag, 2000)
            return [ip4(me, address, 17, whole[:1400], 77, 0x2000), ip4(me, address, 17, whole[1400:], 77, 175)]
        return make
    yield "udp-public", 0x800, to(PUBLIC), "outside"
    yield "tcp-public", 0x800, lambda me, tag: ip4(me, PUBLIC, 6, tcp_syn(me, PUBLIC, 80, tag)), "outside"
    yield "icmp-public", 0x800, lambda me, tag: ip4(me, PUBLIC, 1, icmp(tag)), "outside"
    yield "fragments-public", 0x800, fragments(PUBLIC), "outside"
    yield "fragments-private", 0x800, fragments("10.9.9.2"), ""
    yield "dns-resolver-udp", 0x800, to(RESOLVER, 53), "outside"
    yield "dns-resolver-tcp", 0x800, lambda me, tag: ip4(me, RESOLVER, 6, tcp_syn(me, RESOLVER, 53, tag)), "outside"
    yield "dns-other-udp", 0x800, to(PUBLIC, 53), ""
    yield "dns-other-tcp", 0x800, lambda me, tag: ip4(me, PUBLIC, 6, tcp_syn(me, PUBLIC, 53, tag)), ""
    yield "dns-over-tls", 0x800, lambda me, tag: ip4(me, PUBLIC, 6, tcp_syn(me, PUBLIC, 853, tag)), ""
    yield "operators", 0x800, to(DENIED), ""
    for address in ("10.9.9.2", "10.255.255.255", "172.16.0.9", "172.31.255.9", "192.168.7.9", "100.64.200.9", "100.100.100.200",
                    "169.254.169.254", "169.254.1.1", "168.63.129.16", "192.0.0.192", "192.31.196.9", "192.52.193.9", "192.88.99.9",
                    "192.175.48.9", "198.18.0.9", "198.19.255.9", "224.0.0.251", "239.1.2.3", "240.0.0.9", "255.255.255.255", "127.0.0.1",
                    "0.0.0.9"):
        yield f"to-{address}", 0x800, to(address), ""
    yield "nodes-address", 0x800, to(HOST), ""
    yield "nodes-address-tcp", 0x800, lambda me, tag: ip4(me, HOST, 6, tcp_syn(me, HOST, 80, tag)), ""
    yield "nodes-address-icmp", 0x800, lambda me, tag: ip4(me, HOST, 1, icmp(tag)), ""
    yield "nodes-other-interface", 0x800, to(HOST_OTHER), ""
    yield "veths-outer-end", 0x800, to(str_address(neighbour, -1)), ""
    yield "neighbour", 0x800, to(neighbour), ""
    yield "spoofed-neighbour", 0x800, lambda me, tag: ip4(neighbour, PUBLIC, 17, udp(9, tag)), ""
    yield "spoofed-public", 0x800, lambda me, tag: ip4("198.51.100.77", PUBLIC, 17, udp(9, tag)), ""
    yield "spoofed-node", 0x800, lambda me, tag: ip4(HOST, PUBLIC, 17, udp(9, tag)), ""
    yield "spoofed-foreign", 0x800, lambda me, tag: ip4(foreign, PUBLIC, 17, udp(9, tag)), ""
    for name, number in (("igmp", 2), ("ip6-in-ip", 41), ("gre", 47), ("sctp", 132)):
        yield name, 0x800, lambda me, tag, n=number: ip4(me, PUBLIC, n, f"........<{tag}>".encode()), ""
    yield "tcp-without-connection", 0x800, lambda me, tag: ip4(me, "10.9.9.2", 6, tcp_syn(me, "10.9.9.2", 80, tag)), ""
    yield "v6-public", 0x86dd, lambda me, tag: ip6("2001:db8:5::9", "2001:db8:5::2", 17, udp(9, tag)), ""
    yield "v6-link-local", 0x86dd, lambda me, tag: ip6("fe80::9", "fe80::1", 17, udp(9, tag)), ""
    yield "v6-all-nodes", 0x86dd, lambda me, tag: ip6("fe80::9", "ff02::1", 17, udp(9, tag)), ""
    yield "v6-neighbour-discovery", 0x86dd, lambda me, tag: ip6("fe80::9", "ff02::1", 58, icmp(tag, 135)), ""
    yield "v6-mapped", 0x86dd, lambda me, tag: ip6("::ffff:198.51.100.9", "::ffff:198.51.100.2", 17, udp(9, tag)), ""


def str_address(address, by):
    return socket.inet_ntoa(struct.pack("!I", struct.unpack("!I", socket.inet_aton(address))[0] + by))


def send_frames(who, me, to_mac, from_mac, neighbour):
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    s.bind(("eth0", 0))
    for name, kind, make, _ in cases(neighbour, CONTROL if who != "control" else "100.127.9.9"):
        packets = make(me, f"{who}:{name}")
        for p in packets if isinstance(packets, list) else [packets]:
            s.send(mac(to_mac) + mac(from_mac) + struct.pack("!H", kind) + p)
        time.sleep(0.002)


if sys.argv[1:2] == ["watch"]:
    watch(sys.argv[2])
elif sys.argv[1:2] == ["serve"]:
    serve()
elif sys.argv[1:2] == ["send"]:
    send_frames(*sys.argv[2:])
if sys.argv[1:2] and sys.argv[1] in ("watch", "serve", "send"):
    sys.exit(0)

import harness  # noqa: E402
import sandboxes  # noqa: E402
from harness import Cluster, run, wait_until  # noqa: E402

harness.need_machine()
for tool in ("nft", "ip", "nsenter"):
    if shutil.which(tool) is None:
        harness.skip(f"{tool} is missing")
if os.environ.get("BERTH_OWN_NETWORK") != "yes":  # and mounts of its own, where one program can stand in for another
    os.execvpe("unshare", ["unshare", "--net", "--mount", "--", sys.executable, *sys.argv], dict(os.environ, BERTH_OWN_NETWORK="yes"))
harness.in_own_network()


class Namespace:
    """A network namespace with one veth pair to ours."""

    def __init__(self, ours, inner, outer_addresses, inner_addresses, inner_mac, outer_mac):
        self.process = subprocess.Popen(["unshare", "-n", "sleep", "600"])
        wait_until("the namespace", 5, lambda: os.readlink(f"/proc/{self.process.pid}/ns/net") != os.readlink("/proc/self/ns/net"))
        inside = f"nsenter -t {self.process.pid} -n "
        subprocess.run(f"set -e; ip link add {ours} address {outer_mac} type veth peer name {inner} address {inner_mac} netns {self.process.pid}; "
                       f"ip link set {ours} up; {inside} ip link set lo up; {inside} ip link set {inner} up;"
                       + "".join(f"ip addr add {a} dev {ours};" for a in outer_addresses)
                       + "".join(f"{inside} ip addr add {a} dev {inner};" for a in inner_addresses), shell=True, check=True)
        self.pid = self.process.pid

    def end(self):
        self.process.kill()
        self.process.wait()


CONTROL_MACS = ("02:00:00:00:01:01", "02:00:00:00:01:02")
outside_net = Namespace("up0", "out0", [f"{HOST}/24", "2001:db8:5::1/64"], [f"{a}/24" for a in (PUBLIC, RESOLVER, DENIED)], OUTSIDE_MAC, HOST_MAC)
control_net = Namespace("ctl0", "eth0", [f"{HOST_OTHER}/31"], [f"{CONTROL}/31"], CONTROL_MACS[1], CONTROL_MACS[0])
# Everything has a way to the outside, and this machine forwards for whoever asks: the rules alone hold sandboxes back.
subprocess.run(f"ip route add default via {PUBLIC}; ip -6 route add default via 2001:db8:5::2; ip neigh replace {PUBLIC} lladdr {OUTSIDE_MAC} dev up0;"
               f"ip neigh replace {DENIED} lladdr {OUTSIDE_MAC} dev up0; ip -6 neigh replace 2001:db8:5::2 lladdr {OUTSIDE_MAC} dev up0; "
               "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding", shell=True, check=True)
nft_stand_in = pathlib.Path(f"/tmp/berth-test.nft.{os.getpid()}")
cluster = Cluster(nodes=1, settings=[f"resolvers={RESOLVER}", f"egress_denied={DENIED}/32", f"egress_connections={CONNECTIONS}",
                                     f"egress_connection_rate={NEW_A_SECOND}", f"egress_packet_rate={PACKETS_A_SECOND}",
                                     f"egress_bandwidth={BYTES_A_SECOND}"]).start()
server = subprocess.Popen(["nsenter", "-t", str(outside_net.pid), "-n", sys.executable, __file__, "serve"], stdout=subprocess.PIPE)
assert server.stdout.readline() == b"serving\n"
outside = Observer(outside_net.pid, "out0")
node = Observer(os.getpid())


class Sandbox:
    def __init__(self, pool, identifier):
        self.pool, self.identifier = pool, identifier
        answer = cluster.session(pool, identifier)
        assert answer.status == 200, answer
        sandbox = next(s for s in cluster.sessions(pool) if s["identifier"] == identifier)["sandbox"]
        self.pid = sandboxes.first_process(cluster, 1, sandbox)

    def inside(self, *command, **how):
        return subprocess.run(["nsenter", "-t", str(self.pid), "-n", *command], capture_output=True, text=True, check=False, **how)

    def python(self, text, *args):
        r = self.inside(sys.executable, "-c", text, *args, timeout=60)
        assert r.returncode == 0, r
        return r.stdout

    def address(self):
        return re.search(r"inet ([0-9.]+)/31", self.inside("ip", "-4", "addr", "show", "dev", "eth0").stdout).group(1)

    def mac(self):
        return re.search(r"link/ether ([0-9a-f:]+)", self.inside("ip", "link", "show", "dev", "eth0").stdout).group(1)


boxes = {}


def test_each_packet():
    cluster.import_image()
    for pool, egress in (("shut", False), ("open", True)):
        assert cluster.put_pool(pool, ready=2, egress=egress)["status"] == "Succeeded"
    shut, first, second = boxes["shut"], boxes["first"], boxes["second"] = (
        Sandbox("shut", "shut-1"), Sandbox("open", "open-1"), Sandbox("open", "open-2"))
    neighbour = Observer(second.pid, "eth0")
    me, theirs = first.address(), second.address()
    r = first.inside(sys.executable, __file__, "send", "open", me, GATEWAY_MAC, first.mac(), theirs)
    assert r.returncode == 0, r
    r = subprocess.run(["nsenter", "-t", str(control_net.pid), "-n", sys.executable, __file__, "send", "control", CONTROL, *CONTROL_MACS, theirs],
                       capture_output=True, text=True, check=False)
    assert r.returncode == 0, r
    wait_until("the last of the control's arrive", 5, lambda: outside.saw("control:v6-public"))
    time.sleep(0.5)
    seen = {"outside": outside.tags(), "node": node.tags(), "neighbour": neighbour.tags()}
    neighbour.end()

    def where(tag):
        return " ".join(name for name, tags in seen.items() if tag in tags)
    wrong, controls = [], 0
    print(f"        {'case':28} {'without rules':16} {'egress off':12} {'egress on: wanted':18} seen")
    for name, _, _, wanted in cases(theirs, CONTROL):
        control, got = where(f"control:{name}"), where(f"open:{name}")
        controls += bool(control)
        print(f"        {name:28} {control or 'kernel drops it':16} {'no interface':12} {wanted or 'nowhere':18} {got or 'nowhere'}")
        if got != wanted:
            wrong.append((name, wanted, got))
    assert not wrong, wrong
    assert controls > 30, "too little arrives even without our rules: that says nothing"
    # Without egress there is nothing to put a frame on.
    assert "eth0" not in shut.inside("ip", "-o", "link").stdout
    assert "unreachable" in shut.python("import socket\ntry:\n socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('198.51.100.2', 9))\n"
                                        "except OSError as e: print(e)")


def test_without_rules_nothing_passes():
    """What another program's flush opens before it is repaired: sandboxd is stopped meanwhile, so that there is time to look."""
    first, second = boxes["first"], boxes["second"]
    daemon = cluster.pid(1, "sandboxd")
    os.kill(daemon, signal.SIGSTOP)
    try:
        subprocess.run(["nft", "flush", "ruleset"], check=True)
        r = first.inside(sys.executable, __file__, "send", "gap", first.address(), GATEWAY_MAC, first.mac(), second.address())
        assert r.returncode == 0, r
        time.sleep(0.5)
        for name, observer in (("outside", outside), ("node", node)):
            arrived = {t for t in observer.tags() if t.startswith("gap:")}
            assert not arrived, (name, arrived)
    finally:
        os.kill(daemon, signal.SIGCONT)
    wait_until("it is repaired", 5, lambda: "repaired 1 times" in cluster.admin("GET", "/health").body.decode())
    assert reaches(first)


def test_dialling_in_is_the_same():
    for pool, identifier in (("shut", "shut-1"), ("open", "open-1")):
        for _ in range(20):
            answer = cluster.session(pool, identifier)
        assert answer.status == 200, answer


FLOW = """import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
tag, size, n, ports = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
body, began = ("<" + tag + ">").encode().ljust(size, b"."), time.monotonic()
for i in range(n):
    try: s.sendto(body, ("198.51.100.2", 10000 + i % ports))
    except OSError: pass
print(time.monotonic() - began)
"""
OPEN = """import socket, sys, time
sockets, opened = [], 0
for i in range(int(sys.argv[1])):
    s = socket.socket(); s.setblocking(False); s.connect_ex(("198.51.100.2", 80)); sockets.append(s)
    time.sleep(0.02)
time.sleep(0.5)
for s in sockets:
    try: s.getpeername(); opened += 1
    except OSError: pass
print(opened, flush=True)
time.sleep(float(sys.argv[2]))
"""


def tracked():
    return int(pathlib.Path("/proc/sys/net/netfilter/nf_conntrack_count").read_text())


def reaches(box):
    return box.inside(sys.executable, "-c", "import socket; socket.create_connection(('198.51.100.2', 80), 3)").returncode == 0


def test_a_flood_hurts_its_sandbox_alone():
    first, second = boxes["first"], boxes["second"]
    assert reaches(first) and reaches(second)
    print(f"        {'flood':28} {'sent':>8} {'arrived':>8} {'at least':>8} {'at most':>8}")

    def told(what, sent, arrived, least, most):
        print(f"        {what:28} {sent:>8} {arrived:>8} {least:>8.0f} {most:>8.0f}")
        assert least <= arrived <= most, what
    def flood(box, other, what, n, ports, rate, burst):
        tag = what.replace(" ", "-")
        took = float(box.python(FLOW, tag, "0", str(n), str(ports)))
        assert reaches(other), what
        time.sleep(0.3)
        told(what, n, outside.saw(tag), burst * 0.9, burst + rate * (took + 0.1) + 5)
    flood(first, second, "packets of one flow", 20000, 1, PACKETS_A_SECOND, PACKETS_A_SECOND / 4 + 5)
    time.sleep(1.2)
    took = float(first.python(FLOW, "bytes", "1400", "4000", "1"))
    told("bytes", 4000 * 1428, outside.bytes("bytes"), BYTES_A_SECOND, (BYTES_A_SECOND * (1.2 + took + 0.1) + 65536) * 1.05)
    time.sleep(1.2)
    flood(second, first, "flows", 3000, 3000, NEW_A_SECOND, NEW_A_SECOND + 5)
    time.sleep(1.2)
    before, sockets = tracked(), CONNECTIONS + 40
    holder = subprocess.Popen(["nsenter", "-t", str(first.pid), "-n", sys.executable, "-c", OPEN, str(sockets), "3"], stdout=subprocess.PIPE, text=True)
    opened = int(holder.stdout.readline())
    told("connections at once", sockets, opened, CONNECTIONS * 0.8, CONNECTIONS)
    assert reaches(second), "the other's share is its own"
    assert tracked() - before <= CONNECTIONS + 5, (before, tracked())
    holder.kill()
    holder.wait()


def test_off_forgets_connections():
    second = boxes["second"]
    holder = subprocess.Popen(["nsenter", "-t", str(second.pid), "-n", sys.executable, "-c", OPEN, "5", "60"], stdout=subprocess.PIPE, text=True)
    assert int(holder.stdout.readline()) == 5
    mine = f"src={second.address()} "

    def entries():
        return [e for e in pathlib.Path("/proc/net/nf_conntrack").read_text().splitlines() if mine in e and "ESTABLISHED" in e]
    if pathlib.Path("/proc/net/nf_conntrack").exists():
        assert len(entries()) >= 5
    a = cluster.admin("PATCH", cluster.arm_path("open"), {"properties": {"sessionNetworkConfiguration": {"status": "EgressDisabled"}}})
    cluster.wait_operation(a)
    if pathlib.Path("/proc/net/nf_conntrack").exists():
        wait_until("they are forgotten", 5, lambda: not entries())
    assert not reaches(second)
    assert cluster.session("open", "open-2").status == 200
    holder.kill()
    holder.wait()


def test_without_nft_only_egress_fails():
    """The kernel refuses: a stand-in for nft says so, in a mount namespace that the daemons share with this test."""
    def health():
        return cluster.admin("GET", "/health").body.decode()
    nft_stand_in.write_text("#!/bin/sh\necho 'Error: Could not process rule: Operation not supported' >&2\nexit 1\n")
    nft_stand_in.chmod(0o755)
    assert os.readlink("/proc/self/ns/mnt") != os.readlink(f"/proc/{os.getppid()}/ns/mnt")
    subprocess.run(["mount", "--bind", str(nft_stand_in), "/usr/sbin/nft"], check=True)
    try:
        cluster.put_pool("later", ready=1, egress=True, wait=False)
        status = f"/.berth/v1{cluster.arm_path('later').split('?')[0]}/status"
        failure = wait_until("the pool says why", 30, lambda: cluster.admin("GET", status).json().get("failure"))
        assert "Operation not supported" in failure["message"] and "egress" in failure["message"], failure
        wait_until("health says why", 10, lambda: "Operation not supported" in health())
        assert cluster.session("shut", "shut-2").status == 200
    finally:
        subprocess.run(["umount", "/usr/sbin/nft"], check=True)
        nft_stand_in.unlink()
    wait_until("health is well again", 10, lambda: "Operation not supported" not in health())
    assert cluster.session("later", "later-1", timeout=60).status == 200


try:
    run([test_each_packet, test_without_rules_nothing_passes, test_dialling_in_is_the_same, test_a_flood_hurts_its_sandbox_alone, test_off_forgets_connections,
         test_without_nft_only_egress_fails], cluster)
finally:
    for observer in (outside, node):
        observer.end()
    server.kill()
    server.wait()
    outside_net.end()
    control_net.end()
