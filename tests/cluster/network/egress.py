"""Egress of sandboxes: what they reach and what they never reach, from a real cluster.

Everything happens in a network namespace of this test's own, the nodes included; a second one plays the outside, with
public, private and metadata addresses, each serving HTTP on many ports and answering UDP on port 53, and remembers
what reached it. Requests to the nodes come from inside the first. The machine's own namespace sees nothing of it.
"""
import os
import pathlib
import re
import socket
import subprocess
import sys
import threading
import time

PUBLIC, RESOLVER, DENIED, PRIVATE, METADATA = "198.51.100.2", "198.51.100.53", "198.51.100.200", "10.9.9.2", "169.254.169.254"
HOST, HOST_PRIVATE = "198.51.100.1", "10.9.9.1"
OUTSIDE = [f"{a}/24" for a in (PUBLIC, RESOLVER, DENIED, PRIVATE, METADATA, "172.16.5.2", "192.168.5.2", "100.100.100.200")]
HERE = [f"{a}/24" for a in (HOST, HOST_PRIVATE, "169.254.169.1", "172.16.5.1", "192.168.5.1", "100.100.100.1")]
PUBLIC6, HOST6 = "2001:db8:5::2", "2001:db8:5::1"
FORWARD = pathlib.Path("/proc/sys/net/ipv4/ip_forward")
NAMED = "198.51.100.77"  # what every name is resolved to
TCP_PORTS, STREAM_PORT, HOST_PORT = (80, 443, 53, 853), 7777, 8888


def out_of(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


# --- the outside: a process in a namespace of its own


def serve_tcp(address, port, seen):
    listener = socket.create_server((address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET)

    def one(connection):
        with connection:
            connection.settimeout(5)
            try:
                line = connection.recv(200).split(b"\n")[0].decode(errors="replace").strip()
                seen(f"tcp {address} {port} {line}")
                while port == STREAM_PORT:
                    connection.sendall(b".")
                    time.sleep(0.05)
                connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nanswer\n")
            except OSError:
                pass

    def accept():
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=one, args=(connection,), daemon=True).start()
    threading.Thread(target=accept, daemon=True).start()


def serve_udp(address, seen):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind((address, 53))

    def answer():
        while True:
            data, sender = s.recvfrom(1000)
            labels, at = [], 12
            while at < len(data) and data[at] != 0:
                labels.append(data[at + 1:at + 1 + data[at]].decode(errors="replace"))
                at += 1 + data[at]
            is_a, question = data[at + 1:at + 3] == b"\0\1", data[12:at + 5]
            seen(f"udp {address} 53 {' '.join(labels[:3])}")
            record = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + socket.inet_aton(NAMED) if is_a else b""
            s.sendto(data[:2] + b"\x81\x80\0\1" + (b"\0\1" if is_a else b"\0\0") + b"\0\0\0\0" + question + record, sender)
    threading.Thread(target=answer, daemon=True).start()


def play_the_outside():
    """Waits until its interface is there; then serves and prints a line for whatever comes."""
    print("here", flush=True)
    sys.stdin.readline()
    lock = threading.Lock()

    def seen(line):
        with lock:
            print(f"{time.monotonic():.3f} {line}", flush=True)
    for prefix in OUTSIDE:
        address = prefix.split("/")[0]
        for port in (*TCP_PORTS, STREAM_PORT):
            serve_tcp(address, port, seen)
        serve_udp(address, seen)
    serve_tcp(PUBLIC6, 80, seen)
    print("serving", flush=True)
    sys.stdin.read()


class Outside:
    def __init__(self):
        self.lines = []
        self.process = subprocess.Popen(["unshare", "-n", sys.executable, __file__, "outside"], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout.readline() == "here\n"
        pid = str(self.process.pid)
        inside = f"nsenter -t {pid} -n "
        subprocess.run("set -e; ip link set lo up; ip link add up0 type veth peer name out0 netns " + pid + "; ip link set up0 up;"
                       + "".join(f"ip addr add {a} dev up0; " for a in HERE) + f"ip addr add {HOST6}/64 dev up0 nodad; "
                       + f"{inside} ip link set lo up; {inside} ip link set out0 up; "
                       + "".join(f"{inside} ip addr add {a} dev out0; " for a in OUTSIDE)
                       + f"{inside} ip addr add {PUBLIC6}/64 dev out0 nodad", shell=True, check=True)
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "serving\n"
        threading.Thread(target=lambda: self.lines.extend(iter(self.process.stdout.readline, "")), daemon=True).start()

    def saw(self, text):
        return [line for line in list(self.lines) if text in line]

    def end(self):
        self.process.stdin.close()
        self.process.wait(10)


# --- the machine's own namespace is left alone


def machine():
    links = {line.split(":")[1].strip().split("@")[0] for line in out_of("ip", "-o", "link").splitlines()}
    return {"tables": set(out_of("nft", "list", "tables").splitlines()), "links": {i for i in links if i.startswith("bth")},
            "forward": FORWARD.read_text().strip()}


def start_over_inside():
    before = machine()
    code = subprocess.run(["unshare", "-n", sys.executable, __file__, "inside"], check=False).returncode
    after = machine()
    for what in ("tables", "links"):
        if after[what] - before[what]:
            print(f"FAILED  the machine's own namespace has more {what}: {after[what] - before[what]}")
            code = 1
    if after["forward"] != before["forward"]:
        print(f"FAILED  the machine's ip_forward was {before['forward']} and is {after['forward']}")
        code = 1
    sys.exit(code)


if sys.argv[1:] == ["outside"]:
    play_the_outside()
    sys.exit(0)

from harness import VM, Cluster, need_machine, run, skip, wait_until  # noqa: E402

if sys.argv[1:] != ["inside"]:
    need_machine()
    for tool in ("nft", "ip", "nsenter"):
        if subprocess.run(["sh", "-c", f"command -v {tool}"], capture_output=True, check=False).returncode != 0:
            skip(f"{tool} is missing")
    start_over_inside()

FORWARD.write_text("0\n")
outside = Outside()
cluster = Cluster(settings=["cooldown_min=2", f"resolvers={RESOLVER}", f"egress_denied={DENIED}/32"]).start()
cluster.import_image()
for port in (HOST_PORT, *(cluster.port(1, which) for which in ("raft", "control", "forward", "http", "https"))):
    serve_tcp(HOST, port, lambda line: outside.lines.append("host " + line))
    serve_tcp(HOST_PRIVATE, port, lambda line: outside.lines.append("host " + line))

# Emulated machines start within seconds and ask slowly.
EAGER_ONES, EAGER_PAUSE_S, QUIET_S, PROBE_S = (2, 1, 4, 5) if VM else (4, 0.1, 1, 2)

# What somebody asks of the world, with busybox alone: each prints a line `name reached` or `name blocked`.
PROBE = f"probe_s={PROBE_S}\n" + """say() { if grep -q "$2"; then echo "$1 reached"; else echo "$1 blocked"; fi; }
tcp() { printf "$1 from $me\\r\\n\\r\\n" | busybox nc -w $probe_s $2 $3 2>/dev/null | say $1 answer; }
dns() { busybox timeout $((probe_s + 1)) busybox nslookup $1.from.$me.test $2 2>/dev/null | say $1 198.51.100.77; }
"""


def run_in(pool, identifier, script, timeout=60):
    a = cluster.session(pool, identifier, "/run", method="POST", body=script.encode(), timeout=timeout)
    assert a.status == 200, a
    return a.body.decode()


def probes(neighbour=None):
    """name -> (the probe, may it be answered?)"""
    wanted = {f"public-{port}": (f"{PUBLIC} {port}", True) for port in (80, 443)}
    wanted |= {"resolver-tcp": (f"{RESOLVER} 53", True), "resolver-udp": (f"udp {RESOLVER}", True),
               "other-dns-tcp": (f"{PUBLIC} 53", False), "other-dns-udp": (f"udp {PUBLIC}", False),
               "dns-over-tls": (f"{PUBLIC} 853", False), "operators": (f"{DENIED} 80", False),
               "private-10": (f"{PRIVATE} 80", False), "private-172": ("172.16.5.2 80", False),
               "private-192": ("192.168.5.2 80", False), "carrier-metadata": ("100.100.100.200 80", False),
               "metadata": (f"{METADATA} 80", False), "private-dns": (f"udp {PRIVATE}", False),
               "v6": (f"{PUBLIC6} 80", False)}
    for port in (HOST_PORT, *(cluster.port(1, which) for which in ("raft", "control", "forward", "http", "https"))):
        wanted[f"host-{port}"] = (f"{HOST} {port}", False)
        wanted[f"hosts-private-{port}"] = (f"{HOST_PRIVATE} {port}", False)
    if neighbour:
        wanted["neighbour"] = (f"{neighbour} 80", False)
        wanted["gateway-side"] = (f"$gateway {HOST_PORT}", False)
        wanted["own-http"] = (f"127.0.0.1 {cluster.port(1)}", False)
    return wanted


def script_of(me, wanted):
    script = PROBE + f"me={me}\ngateway=$(ip route | sed -n 's/^default via \\([0-9.]*\\).*/\\1/p')\n"
    for name, (args, _) in wanted.items():
        script += (f"dns {name} {args[4:]} &\n" if args.startswith("udp ") else f"tcp {name} {args} &\n")
    return script + "wait\n"


def results(text, wanted):
    got = dict(line.split(" ") for line in text.splitlines() if line.count(" ") == 1)
    assert set(got) == set(wanted), (set(wanted) - set(got), text)
    return got


def matrix(pool, identifier, wanted):
    return results(run_in(pool, identifier, script_of(identifier, wanted)), wanted)


def address_of(pool, identifier):
    found = re.search(r"inet (100\.[0-9.]+)/31", run_in(pool, identifier, "ip -4 addr show dev eth0"))
    assert found, run_in(pool, identifier, "ip addr")
    return found.group(1)


def tables():
    return [line.split()[2] for line in out_of("nft", "list", "tables").splitlines() if " berth_" in line]


def pairs():
    return [line.split(":")[1].split("@")[0].strip() for line in out_of("ip", "-o", "link").splitlines() if ": bth" in line]


def patch_egress(pool, on):
    body = {"properties": {"sessionNetworkConfiguration": {"status": "EgressEnabled" if on else "EgressDisabled"}}}
    a = cluster.admin("PATCH", cluster.arm_path(pool), body)
    assert a.status in (200, 202), a
    return a


def health(node):
    a = cluster.admin("GET", "/health", node=node)
    assert a.status == 200 and a.body.startswith(b"ok\n"), a
    return a.body.decode()


def status(pool):
    a = cluster.admin("GET", f"/.berth/v1{cluster.arm_path(pool).split('?')[0]}/status")
    assert a.status == 200, a
    return a.json()


def test_without_egress_nothing():
    assert cluster.put_pool("shut", ready=1)["status"] == "Succeeded"
    links = run_in("shut", "shut-1", "ip -o link; ip route; cat /proc/net/if_inet6").splitlines()
    assert VM or len(links) <= 2 and " lo:" in links[0], links
    got = matrix("shut", "shut-1", probes())
    assert set(got.values()) == {"blocked"}, got
    assert not outside.saw("from shut-1")
    assert VM or not tables() and not pairs() and FORWARD.read_text() == "0\n"
    assert status("shut")["egress"] == "disabled"


def test_with_egress_the_public_alone():
    assert cluster.put_pool("open", ready=2 if VM else 3, egress=True)["status"] == "Succeeded"
    wait_until("two are ready", 10, lambda: status("open")["sandboxes"]["ready"] >= 2)
    neighbour = address_of("open", "open-2")
    wanted = probes(neighbour)
    got = matrix("open", "open-1", wanted)
    expected = {name: "reached" if may else "blocked" for name, (_, may) in wanted.items()}
    assert got == expected, {k: v for k, v in got.items() if v != expected[k]}
    for name, (_, may) in wanted.items():
        assert bool(outside.saw(f"{name} from open-1")) == may, (name, outside.saw(name))
    assert f"nameserver {RESOLVER}" in run_in("open", "open-1", "cat /etc/resolv.conf")
    # The same from the host: what was blocked is there, so the rules blocked it.
    there = {n: w for n, w in wanted.items() if n not in ("gateway-side", "own-http", "neighbour")}
    r = subprocess.run(["sh", "-c", script_of("the-host", there)], capture_output=True, text=True, check=False)
    assert set(results(r.stdout, there).values()) == {"reached"}, r.stdout
    own = run_in("open", "open-2", f"printf 'GET /count HTTP/1.0\\r\\n\\r\\n' | nc -w 2 {neighbour} 80")
    assert "200 OK" in own, own  # the neighbour serves on that address
    s = status("open")
    assert s["egress"] == "enabled" and s["sandboxes"]["withEgress"] >= 2, s
    shown = cluster.berth("pool", "show", "--name", "open", "--resource-group", "rg", "--subscription",
                          "34adfa4f-cedf-4dc0-ba29-b6d1a69ab345", "--output", "table").stdout
    assert re.search(r"egress +enabled", shown), shown


EAGER = """while true; do
	for a in 10.9.9.2 169.254.169.254 198.51.100.200 198.51.100.1; do
		(printf "eager from $HOSTNAME\\r\\n\\r\\n" | nc -w 1 $a 80 >/dev/null 2>&1) &
	done
	(printf "eager from $HOSTNAME\\r\\n\\r\\n" | nc -w 1 198.51.100.2 80 >/dev/null 2>&1) &
	sleep PAUSE
done & exec /echo-server"""


def test_rules_come_before_the_first_packet():
    cluster.put_pool("eager", ready=EAGER_ONES, egress=True, command=["/bin/sh", "-c", EAGER.replace("PAUSE", str(EAGER_PAUSE_S))])
    wait_until("all are ready", 30, lambda: status("eager")["sandboxes"]["ready"] >= EAGER_ONES)
    if VM:  # one that is ready stands still until it is bound
        assert cluster.session("eager", "eager-1").status == 200
    wait_until("the public address was asked", 10, lambda: len(outside.saw("tcp 198.51.100.2 80 eager")) > 2 / EAGER_PAUSE_S)
    seen = {line.split(" ", 1)[1] for line in outside.saw("eager")}
    assert all(line.startswith(f"tcp {PUBLIC} 80") for line in seen), seen


def quiet(tag, seconds=QUIET_S):
    """Nothing with that tag came for so long."""
    n = len(outside.saw(tag))
    time.sleep(seconds)
    return len(outside.saw(tag)) == n


def streamed():
    return int(run_in("eager", "eager-1", "stat -c %s /tmp/stream 2>/dev/null || echo 0"))


def test_off_applies_at_once_to_bound_and_ready():
    assert not quiet("eager")
    # A bound one, with a connection that lasts.
    cluster.session("eager", "eager-1", "/run", method="POST",
                    body=f"{{ (printf 'x\\r\\n'; sleep 600) | nc {PUBLIC} {STREAM_PORT} >/tmp/stream; }} </dev/null >/dev/null 2>&1 &\n".encode())
    wait_until("the stream runs", 10, lambda: streamed() > 5)
    n = wait_until("the share is full again", 10, lambda: next(
        (n for n in [status("eager")["sandboxes"]] if n["withEgress"] > EAGER_ONES), None))
    assert n["bound"] == 1, n
    answered = time.monotonic()
    cluster.wait_operation(patch_egress("eager", False))
    wait_until("it is quiet", 10, lambda: quiet("eager"))
    last = float(outside.saw("eager")[-1].split(" ")[0])
    print(f"        the last packet came {max(0, last - answered) * 1000:.0f} ms after the update was sent")
    first = streamed()
    time.sleep(0.7)
    assert streamed() == first, "the connection that was there goes on"
    s = status("eager")
    assert s["sandboxes"]["withEgress"] == 0 and s["egress"] == "disabled" and s["sandboxes"]["bound"] == 1, s
    assert "eager-1" in [x["identifier"] for x in cluster.sessions("eager")]
    got = matrix("eager", "eager-1", {"public": (f"{PUBLIC} 80", False), "resolver": (f"udp {RESOLVER}", False)})
    assert set(got.values()) == {"blocked"}, got
    # The other pool is as it was.
    assert matrix("open", "open-1", {"public": (f"{PUBLIC} 80", True)}) == {"public": "reached"}


def test_on_again_for_new_sandboxes():
    cluster.wait_operation(patch_egress("eager", True))
    wait_until("new ones are ready", 30, lambda: status("eager")["sandboxes"]["withEgress"] >= EAGER_ONES)
    got = matrix("eager", "eager-2", {"public": (f"{PUBLIC} 80", True), "private": (f"{PRIVATE} 80", False)})
    assert got == {"public": "reached", "private": "blocked"}, got
    assert matrix("eager", "eager-1", {"public": (f"{PUBLIC} 80", False)}) == {"public": "blocked"}, "its session goes on as it was"


def test_off_while_sandboxd_is_away():
    assert not quiet("eager")
    for node in (1, 2, 3):
        os.kill(cluster.pid(node, "sandboxd"), 9)
    cluster.wait_operation(patch_egress("eager", False))
    wait_until("it is quiet", 20, lambda: quiet("eager"))
    wait_until("sandboxd is back", 20, lambda: matrix("open", "open-1", {"public": (f"{PUBLIC} 80", True)}) == {"public": "reached"})
    got = matrix("open", "open-1", {"private": (f"{PRIVATE} 80", False)})
    assert got == {"private": "blocked"}, got


def test_nodes_do_not_disturb_each_other():
    assert len(tables()) >= 2, tables()
    cluster.wait_operation(cluster.admin("DELETE", cluster.arm_path("eager")))
    assert cluster.pool("eager").status == 404
    for name in ("open-1", "open-2"):
        assert matrix("open", name, {"public": (f"{PUBLIC} 80", True), "private": (f"{PRIVATE} 80", False)}) == {
            "public": "reached", "private": "blocked"}


def test_rules_that_somebody_flushed_come_back():
    were, began = set(tables()), time.monotonic()
    assert not any("repaired" in health(n) for n in (1, 2, 3))
    subprocess.run(["nft", "flush", "ruleset"], check=True)
    wait_until("the tables are back", 20, lambda: set(tables()) == were)
    print(f"        the tables were back after {time.monotonic() - began:.1f} s")
    wait_until("health tells it", 5, lambda: [n for n in (1, 2, 3) if "repaired 1 times, last at 20" in health(n)])
    node = next(n for n in (1, 2, 3) if "repaired" in health(n))
    shown = cluster.admin("GET", f"/.berth/v1/nodes/{node}", node=node).json()["network"]
    assert shown["repairs"] == 1 and shown["rules"] == "ok" and shown["repaired"].startswith("20"), shown
    wait_until("it is told", 5, lambda: any("rules: they are restored" in cluster.log(n) for n in (1, 2, 3)))
    for name in ("open-1", "open-2"):
        got = matrix("open", name, {"public": (f"{PUBLIC} 80", True), "private": (f"{PRIVATE} 80", False)})
        assert got == {"public": "reached", "private": "blocked"}, got


def test_nothing_is_left():
    for pool in ("open", "shut"):
        cluster.wait_operation(cluster.admin("DELETE", cluster.arm_path(pool)))
    wait_until("the interfaces are gone", 20, lambda: not pairs())
    wait_until("the tables are gone", 5, lambda: not tables())
    wait_until("forwarding is as it was", 5, lambda: FORWARD.read_text() == "0\n")


try:
    run([test_without_egress_nothing, test_with_egress_the_public_alone, test_rules_come_before_the_first_packet,
         test_off_applies_at_once_to_bound_and_ready, test_on_again_for_new_sandboxes, test_off_while_sandboxd_is_away,
         test_nodes_do_not_disturb_each_other, test_rules_that_somebody_flushed_come_back, test_nothing_is_left], cluster)
finally:
    cluster.end()
    outside.end()
