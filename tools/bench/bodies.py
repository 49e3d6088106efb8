"""Large bodies, up and down, plain and TLS, one connection: curl loads, the sandbox's server writes a pattern and counts.

Wall clock is the median of the transfers of a round but for the first, which makes the connection; CPU is the proxy's,
over all of them. Last, one body of 1 GiB each way: how much the most memory that berthd held grew."""
import os
import pathlib
import statistics
import subprocess

from figures import Table
from peers import cluster_with_peers
from processes import cpu_ns, halves

MIB = 1 << 20
SIZES = ((1, 30), (100, 3))  # MiB, transfers a round
HUGE_MIB = 1024


def curl(way, token, kind, mib, n, folder, cpus):
    """Seconds of each of n transfers over one connection."""
    path = f"/bytes?n={mib * MIB}" if kind == "down" else "/upload?hash=0"
    command = ["curl", "-sSk", "--fail", "-w", "%{http_code} %{time_total}\\n", "-H", "Authorization: Bearer " + token, "-H", "Expect:"]
    if kind == "up":
        command += ["--data-binary", f"@{folder}/{mib}"] if mib <= 100 else ["-X", "POST", "-T", f"{folder}/{mib}"]
    for _ in range(n):
        command += ["-o", "/dev/null", way.url(path)]
    if way.inside:
        command = ["nsenter", "-t", str(way.inside), "-n", *command]
    if cpus:
        command = ["taskset", "-c", cpus, *command]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\n")
    lines = [line.split() for line in out if line]
    if len(lines) != n or any(code != "200" for code, _ in lines):
        raise AssertionError(out)
    return [float(seconds) for _, seconds in lines]


def measure(way, token, kind, mib, n, folder, cpus):
    before = sum(map(cpu_ns, way.pids))
    took = curl(way, token, kind, mib, n + 1, folder, cpus)
    return 1000 * statistics.median(took[1:]), (sum(map(cpu_ns, way.pids)) - before) / 1e6 / (n + 1)


def peak_kib(pid):
    return next(int(line.split()[1]) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
                if line.startswith("VmHWM:"))


def growth_mib(way, token, kind, folder, cpus):
    """How far the peak of memory goes above what is held before."""
    pid = way.pids[0]
    pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5\n")  # the peak begins anew
    before = peak_kib(pid)
    curl(way, token, kind, HUGE_MIB, 1, folder, cpus)
    return (peak_kib(pid) - before) / 1024


def paired(ways, rounds, one):
    got = {peer: [] for peer in ways}
    for i in range(rounds):
        for peer in list(ways) if i % 2 == 0 else list(ways)[::-1]:
            got[peer].append(one(ways[peer]))
    return got


def file_of(folder, mib):
    path = folder / str(mib)
    with open(path, "wb") as f:
        os.truncate(f.fileno(), mib * MIB)
    return path


def run(rounds):
    proxy_cpus, load_cpus = halves()
    with cluster_with_peers("bodies", proxy_cpus, load_cpus) as setup:
        folder = setup.cluster.dir
        peers = [p for p in setup.tls if p != "haproxy"]
        t = Table("bodies", peers)
        rows = []
        for kind in ("down", "up"):
            for mib, n in SIZES:
                file_of(folder, mib)
                for crypt, ways in (("plain", setup.plain), ("TLS", setup.tls)):
                    got = paired({p: ways[p] for p in peers}, rounds or 4,
                                 lambda way: measure(way, setup.token, kind, mib, n, folder, load_cpus))
                    rows.append((f"{mib} MiB {kind}, {crypt}", got))
        for k, what in enumerate(("wall clock", "CPU")):
            for name, got in rows:
                t.add(f"{what}, {name}", "ms", *([x[k] for x in got[p]] for p in peers))
        file_of(folder, HUGE_MIB)
        for kind in ("down", "up"):
            for crypt, ways in (("plain", setup.plain), ("TLS", setup.tls)):
                grown = growth_mib(ways["berth"], setup.token, kind, folder, load_cpus)
                t.add(f"memory grown by 1 GiB {kind}, {crypt}", "MiB", [grown], *[None] * (len(peers) - 1))
        return [t]
