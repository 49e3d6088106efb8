"""Sandboxes come and go, and the machine stays as it was: processes, threads, descriptors, memory, mounts, groups, interfaces,
namespaces, rules, folders and uid ranges, counted before and after. Pools without and with egress, on one node in a network of its own.

BERTH_CYCLES sets how many sandboxes are made and destroyed; 150 by default, 5,000 take about ten minutes on two quiet cores."""
import contextlib
import itertools
import os
import pathlib
import re
import socket
import subprocess
import threading
import time

import harness
import sandboxes
from harness import Cluster, run, wait_until

CYCLES = int(os.environ.get("BERTH_CYCLES", "150"))
THREADS, SLOTS = 4, 64  # fewer uid ranges than cycles: one that is not given back is missed
POOLS = ("without", "with-egress")
RSS_KIB = 4096  # buffers and tables that grow to the size they need, once; not with the number of cycles
RECORD_KIB = 1  # berthd keeps a closed record of each session, up to a bound of its own

harness.in_own_network()
cluster = Cluster(nodes=1, settings=["cooldown_min=2", "memory=64Gi", "cpu_milli=64000"], name="cycles")
config = cluster.node_dir(1) / "berth.conf"
config.write_text(re.sub(r"(?m)^uid_count = .*", f"uid_count = {(SLOTS + 1) * 65536}", config.read_text()))
assert f"uid_count = {(SLOTS + 1) * 65536}" in config.read_text()
cluster.start()
cluster.import_image()
for pool in POOLS:
    cluster.put_pool(pool, max_sessions=20, ready=0, egress=pool == "with-egress")

numbers = itertools.count()
errors, done, seen = [], 0, set()
lock = threading.Lock()


def one(pool):
    """A session from nothing to its end; its sandbox is gone when this returns."""
    identifier = f"cycle-{next(numbers):06}"
    a = cluster.session(pool, identifier, "/instance", timeout=60)
    assert a.status == 200, a
    seen.update(name[:3] for _, name in socket.if_nameindex())  # /sys shows another namespace's
    a = cluster.admin("POST", f"/.berth/v1{cluster.arm_path(pool).split('?')[0]}/stopSession?identifier={identifier}")
    assert a.status < 300, a
    return identifier


def cycle(n):
    """n of them, some at once, in both pools."""
    global done
    left = itertools.repeat(None, n)

    def work(pool):
        global done
        while True:
            with lock:
                if errors or next(left, 0) == 0:
                    return
            try:
                one(pool)
                with lock:
                    done += 1
            except Exception as e:
                errors.append(e)
    threads = [threading.Thread(target=work, args=(POOLS[t % 2],)) for t in range(THREADS)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if errors:
        raise errors[0]
    wait_until("all sessions ended", 60, lambda: not any(cluster.sessions(p) for p in POOLS), 0.2)
    wait_until("their folders are gone", 60, lambda: not sandboxes.left(cluster)["folders"], 0.2)


def status(pid, field):
    return int(re.search(rf"^{field}:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text(), re.M).group(1))


def namespaces():
    """Those of the machine that somebody is in or holds open, by the names of our processes' files and own."""
    found = set()
    for pid in sandboxes.below(cluster):
        for link in itertools.chain(pathlib.Path(f"/proc/{pid}/ns").iterdir(), pathlib.Path(f"/proc/{pid}/fd").iterdir()):
            with contextlib.suppress(OSError):
                name = os.readlink(link)
                if re.fullmatch(r"\w+:\[\d+\]", name):
                    found.add(name.removeprefix("pid_for_children"))
    return len(found)


def count():
    """What must be equal, and what may differ a little."""
    daemons = {p: cluster.pid(1, p) for p in ("berthd", "sandboxd")}
    rules = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
    exact = {**sandboxes.left(cluster), "interfaces": sorted(name for _, name in socket.if_nameindex()), "namespaces": namespaces(),
             "rules": len(rules.splitlines()), "locks": len(list(pathlib.Path("/run/lxc/lock" + str(cluster.dir)).rglob("*"))),
             **{f"files of {p}": len(os.listdir(f"/proc/{pid}/fd")) for p, pid in daemons.items()}}
    return exact, {p: status(pid, "VmRSS") for p, pid in daemons.items()}


def settled(wanted=None):
    """Threads that wait for work end after ten seconds; connections that are kept, after their time."""
    deadline = time.monotonic() + 40
    while True:
        exact, rss = count()
        if wanted is None or exact == wanted or time.monotonic() > deadline:
            return exact, rss
        time.sleep(1)


def test_nothing_grows():
    global done
    cycle(4 * SLOTS if CYCLES > 1000 else 30)  # tables, caches and allocators have their size
    time.sleep(15)
    before, rss_before = settled()
    done, began = 0, time.monotonic()
    cycle(CYCLES)
    seconds = time.monotonic() - began
    after, rss_after = settled(before)
    print(f"{done} cycles in {seconds:.0f} s, {done / seconds:.1f} a second; RSS in KiB {rss_before} -> {rss_after}; equal: "
          + ", ".join(f"{k} {v if isinstance(v, int) else len(v)}" for k, v in after.items()), flush=True)
    assert done == CYCLES and "bth" in seen, "no sandbox ever had an interface"
    different = {k: (before[k], after[k]) for k in before if before[k] != after[k]}
    assert not different, different
    for program, kib in rss_after.items():
        kept = CYCLES * RECORD_KIB if program == "berthd" else 0
        assert harness.SANITIZED or kib - rss_before[program] < RSS_KIB + kept, (program, rss_before, rss_after)


run([test_nothing_grows], cluster)
