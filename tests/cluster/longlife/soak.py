"""Weeks in short: sessions are opened, used and ended, write logs; pools are updated, created and deleted, secrets rotated. Between
rounds all is let go, and what each daemon then holds (memory, descriptors, threads, files, disk) may have grown since the warm-up by what the live
things and the tables' own rows account for, and no more.

A round is short by default; BERTH_SOAK_MINUTES=N runs rounds for N minutes and prints each.
"""
import os
import pathlib
import random
import threading
import time

from harness import SANITIZED, Cluster, in_parallel, run, wait_until

MINUTES = float(os.environ.get("BERTH_SOAK_MINUTES", "0"))
ROUND_S = 12 if MINUTES == 0 else 60
WORKERS = 4
IDLE_S = 11  # sandboxd's idle threads end after 10 s
NODES = (1, 2, 3)
DAEMONS = ("berthd", "sandboxd")
LOG_DISK, EVENTS_DISK = 1 << 20, 256 << 10
MIB = 1 << 20

cluster = Cluster(settings=["cooldown_min=2", f"log_disk_max={LOG_DISK}", f"events_disk_max={EVENTS_DISK}", "log_retention=60s"],
                  name="soak").start()
cluster.import_image()
done = {"sessions": 0, "updates": 0, "pools": 0}
lock = threading.Lock()


def count(what):
    with lock:
        done[what] += 1


def stop(pool, identifier, node):
    cluster.admin("POST", f"/.berth/v1{cluster.arm_path(pool).split('?')[0]}/stopSession?identifier={identifier}", node=node)


def use_sessions(worker, until):
    """Some end by a stop, some by themselves. Refusals are the weather of a busy machine; what is left over is not."""
    rng = random.Random(worker)
    while time.monotonic() < until:
        identifier, node = f"user-{worker}-{rng.getrandbits(40):x}", rng.choice(NODES)
        if cluster.session("main", identifier, "/run", method="POST", body=b"echo used >/proc/1/fd/1", node=node).status != 200:
            time.sleep(0.2)
            continue
        for _ in range(3):
            cluster.session("main", identifier, "/", node=rng.choice(NODES))
        if rng.random() < 0.3:
            cluster.session("main", identifier, "/exit?code=1", node=node)
        stop("main", identifier, rng.choice(NODES))
        count("sessions")


def main_pool(turn, ready=3):
    resource = cluster.resource(max_sessions=12, ready=ready, env=[{"name": "TURN", "value": str(turn)},
                                                                   {"name": "KEY", "secretRef": "key"}])
    resource["properties"]["secrets"] = [{"name": "key", "value": f"secret-{turn}"}]
    return resource


def change_pools(until):
    turn = 0
    while time.monotonic() < until:
        turn += 1
        cluster.put_pool("main", resource=main_pool(turn), node=1 + turn % 3)
        count("updates")
        name = f"brief-{turn}"
        cluster.put_pool(name, ready=1, max_sessions=2)
        cluster.session(name, "somebody", "/", node=1 + turn % 3)
        gone = cluster.admin("DELETE", cluster.arm_path(name))
        assert gone.status in (202, 204), gone
        if gone.status == 202:
            cluster.wait_operation(gone)
        count("pools")


def work(seconds):
    until = time.monotonic() + seconds
    results = in_parallel(WORKERS + 1, lambda i: use_sessions(i, until) if i < WORKERS else change_pools(until))
    for r in results:
        if isinstance(r, Exception):
            raise r


def let_go():
    """Only the ready ones of one pool are left."""
    for s in cluster.sessions("main"):
        if s.get("identifier"):
            stop("main", s["identifier"], 1)

    def quiet():
        n = cluster.admin("GET", f"/.berth/v1{cluster.arm_path('main').split('?')[0]}/status").json()
        return not any(n["sessions"].values()) and n["sandboxes"]["ready"] == 3 and \
            not n["sandboxes"]["booting"] and not n["sandboxes"]["stopping"] and not n["sandboxes"]["bound"]
    wait_until("all is let go", 60, quiet)
    time.sleep(IDLE_S)


def below(path):
    """Files and bytes; those that come and go while we look are left out."""
    files = size = 0
    for p in path.rglob("*"):
        try:
            if p.is_file() and not p.is_symlink():
                files += 1
                size += p.stat().st_size
        except OSError:
            pass
    return files, size


def sample():
    """Of each daemon of each node what the kernel says, and of each node its disk and its tables."""
    found = {}
    for node in NODES:
        state = cluster.node_dir(node) / "state"
        shown = cluster.admin("GET", f"/.berth/v1/nodes/{node}", node=node).json()
        kept = {k["kind"]: k for k in shown["storage"]}
        for daemon in DAEMONS:
            proc = pathlib.Path(f"/proc/{cluster.pid(node, daemon)}")
            status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines() if ":" in line)
            files, size = below(state / daemon)
            found[node, daemon] = {"rss": int(status["VmRSS"].split()[0]) * 1024, "threads": int(status["Threads"]),
                                   "fds": len(list((proc / "fd").iterdir())), "files": files, "disk": size}
        found[node] = {"entries": shown["figures"]["logIndex"], "records": kept["billing records"]["count"],
                       "logs": kept["logs of ended"]["bytes"], "n_logs": kept["logs of ended"]["count"],
                       "events": kept["events of berthd"]["bytes"] + kept["events of sandboxd"]["bytes"],
                       "raft": kept["raft"]["bytes"], "images": kept["images"]["bytes"],
                       "sandboxes": kept["writable layers"]["count"]}
    return found


def allowed(node, daemon, first, now):
    """By how much each figure may have grown. Entries are kept in memory until a snapshot, at 16,384, with 8,192 behind it; a
    record and the tables' rows of an operation have below a KiB each; sandboxes of the ready pool move between nodes."""
    f, n = first[node], now[node]
    live = max(0, n["sandboxes"] - f["sandboxes"])
    entries = min(n["entries"] - f["entries"], 24576)
    rows = n["records"] - f["records"]
    if daemon == "sandboxd":  # a sandbox: descriptors of it, its files, a thread that just ends; logs within their bound
        return {"rss": 6 * MIB, "threads": 2, "fds": 6 + 4 * live, "files": 12 * (live + 1) + 2 * n["n_logs"] + 8,
                "disk": LOG_DISK + EVENTS_DISK + (live + 1) * MIB}
    return {"rss": 8 * MIB + 1024 * (entries + rows), "threads": 1, "fds": 12 + live, "files": 12,
            "disk": EVENTS_DISK + 3 * 8 * MIB + 2048 * (entries + rows) + 4 * MIB}


def compare(first, now):
    wrong = []
    for node in NODES:
        for daemon in DAEMONS:
            limit = allowed(node, daemon, first, now)
            for what, most in limit.items():
                if what == "rss" and SANITIZED:
                    continue
                grown = now[node, daemon][what] - first[node, daemon][what]
                if grown > most:
                    wrong.append(f"node{node} {daemon}: {what} grew by {grown}, at most {most} are accounted for")
        assert now[node]["logs"] <= LOG_DISK and now[node]["events"] <= 2 * EVENTS_DISK, now[node]
    return wrong


def show(title, s):
    for node in NODES:
        of = "  ".join(f"{d} {s[node, d]['rss'] / MIB:.1f} MiB {s[node, d]['fds']} fds {s[node, d]['threads']} threads "
                       f"{s[node, d]['files']} files {s[node, d]['disk'] / MIB:.1f} MiB disk" for d in DAEMONS)
        print(f"{title} node{node}: {of}  entries {s[node]['entries']} records {s[node]['records']} logs {s[node]['n_logs']}",
              flush=True)


def test_nothing_grows_but_what_lives():
    began = time.monotonic()
    cluster.put_pool("main", resource=main_pool(0))
    work(ROUND_S)
    let_go()
    first = sample()
    show("warm-up", first)
    turn = 0
    while turn == 0 or time.monotonic() - began < MINUTES * 60:
        turn += 1
        work(ROUND_S)
        let_go()
        now = sample()
        show(f"round {turn}", now)
        wrong = compare(first, now)
        assert not wrong, "\n".join(wrong)
    print(f"{done['sessions']} sessions, {done['updates']} updates with a new secret, {done['pools']} pools made and deleted")
    assert done["sessions"] >= 10 and done["pools"] >= 2, done


def test_growth_is_seen():
    """The comparison itself: a leak of each kind is told."""
    first = sample()
    for what in ("threads", "fds", "files", "disk") if SANITIZED else ("rss", "threads", "fds", "files", "disk"):
        now = {k: dict(v) for k, v in first.items()}
        now[2, "berthd"][what] += 64 * MIB if what in ("rss", "disk") else 64
        assert len(compare(first, now)) == 1, what


run([test_nothing_grows_but_what_lives, test_growth_is_seen], cluster)
