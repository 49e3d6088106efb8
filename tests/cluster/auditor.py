"""Audits a real cluster: the six invariants of the design, from what the daemons wrote down when it happened (docs/events.md), what every
node's API lists, what really runs on the hosts, and what clients were answered.

collect() looks at a cluster that has come to rest, audit() compares; a complaint is a sentence that names the invariant. audit() is pure, so
planted() can show that each kind of violation is found: it changes true evidence in one place at a time. Sampler looks at limits while load
runs.
"""
import collections
import copy
import re
import threading
import time

import recount
import sandboxes
from harness import wait_until

OVERLAP_MS = 50  # two events of one moment, written by two processes


class History:
    """What clients were answered. Threads add; the auditor reads."""

    def __init__(self):
        self.lock = threading.Lock()
        self.answers = []  # (pool, identifier, instance): each 200 that told which container it came from, in order
        self.opened = {}   # (pool, identifier) -> instance, of sessions that nobody ended
        self.pools = set()

    def answered(self, pool, identifier, instance, kept=False):
        with self.lock:
            self.answers.append((pool, identifier, instance))
            if kept:
                self.opened[(pool, identifier)] = instance


class Evidence:
    """Plain data: events; sessions[node][pool], status[node][pool], nodes[node] as the API shows them; host[node]: sandboxes that
    have a folder there; alive: those whose first process lives; pools[node]: names; export; history; lost: nodes that were lost since;
    faults: [(from, to)] in wall_ms, when a node could not tell what it saw."""


def _lists(cluster, pools, n):
    base = {p: f"/.berth/v1{cluster.arm_path(p).split('?')[0]}" for p in pools}
    return ({p: cluster.sessions(p, node=n) for p in pools},
            {p: cluster.admin("GET", base[p] + "/status", node=n).json() for p in pools},
            cluster.admin("GET", "/.berth/v1/nodes", node=n).json()["value"])


def _calm(cluster, pools, nodes):
    """The lists of every node, once nothing is on its way; else None."""
    found = {}
    for n in nodes:
        sessions, status, rows = _lists(cluster, pools, n)
        if any(s["state"] != "live" for p in pools for s in sessions[p]) or \
           any(status[p]["sandboxes"][k] for p in pools for k in ("booting", "stopping")) or \
           any(status[p]["sandboxes"]["ready"] < status[p]["readyTarget"] and
               status[p]["sandboxes"]["ready"] + len(sessions[p]) < status[p]["maxSessions"] for p in pools) or \
           any(r["state"] != "up" for r in rows):
            return None
        found[n] = (sessions, status, rows)
    return found


def _gather(cluster, pools, nodes, lists):
    e = Evidence()
    e.sessions, e.status, e.nodes = ({n: lists[n][i] for n in nodes} for i in range(3))
    e.host = {n: {int(p.name, 16) for p in (cluster.node_dir(n) / "state/sandboxd/sandboxes").glob("*")} for n in nodes}
    e.export = cluster.admin("GET", "/.berth/v1/billing?from=2020-01-01T00:00:00Z&to=2100-01-01T00:00:00Z", node=nodes[0]).json()
    e.events = recount.read_events(cluster.dir)
    started = {ev["sandbox"]: ev["pid"] for ev in e.events if ev["event"] == "started"}
    e.alive = {s for s, pid in started.items() if sandboxes.start_time(pid) is not None}
    e.pools = {n: {p["name"] for p in cluster.admin("GET", cluster.arm_path(), node=n).json()["value"]} for n in nodes}
    return e


def collect(cluster, pools, history, nodes=None, lost=(), faults=(), seconds=30):
    """Waits until the cluster rests; then all there is to know, of one moment: nothing happened while it was gathered."""
    nodes = nodes or list(range(1, cluster.n + 1))

    def moment():
        try:
            before = len(recount.read_events(cluster.dir))
            lists = _calm(cluster, pools, nodes)
            e = lists and _gather(cluster, pools, nodes, lists)
            return e if e and len(e.events) == before and _calm(cluster, pools, nodes) and \
                len(recount.read_events(cluster.dir)) == before else None
        except (OSError, AssertionError, KeyError):
            return None
    e = wait_until("the cluster comes to rest", seconds, moment, 0.3)
    e.history, e.lost, e.faults = history, set(lost), list(faults)
    return e


def _one_session(e, wrong):
    for n, pools in e.sessions.items():
        for pool, rows in pools.items():
            for what in ("identifier", "generation", "sandbox"):
                twice = [k for k, c in collections.Counter(r[what] for r in rows).items() if c > 1]
                if twice:
                    wrong.append(f"1: node {n} lists {what} {twice} of pool {pool} twice")
    bound = collections.defaultdict(set)
    named = collections.defaultdict(set)
    for ev in e.events:
        if ev.get("generation"):
            bound[ev["generation"]].add(ev["sandbox"])
            if ev.get("identifier_tag"):
                named[ev["generation"]].add((ev["pool"], ev["identifier_tag"]))
    for generation, found in bound.items():
        if len(found) > 1:
            wrong.append(f"1: generation {generation} was used for sandboxes {sorted(found)}")
        if len(named[generation]) > 1:
            wrong.append(f"1: generation {generation} was used for {len(named[generation])} identifiers")
    return bound, named


def _stretches(e):
    """sandbox -> [(from, to)] in which it could do something: from its session's beginning to its end, without the times when it was frozen."""
    running, since, ended = collections.defaultdict(list), {}, set()
    for ev in sorted(e.events, key=lambda x: x["wall_ms"]):
        s, at, kind = ev["sandbox"], ev["wall_ms"], ev["event"]
        if s in ended:
            continue
        if kind in ("opened", "connected") and s not in since and not running[s]:
            since[s] = at
        elif kind in ("exited", "stopped", "frozen"):
            if s in since:
                running[s].append((since.pop(s), at))
            if kind != "frozen":
                ended.add(s)
        elif kind == "thawed" and running[s]:
            since.setdefault(s, at)
    for s, at in since.items():
        running[s].append((at, None))
    return running


def _never_two_at_once(e, wrong, bound, named):
    """Two sandboxes of one identifier never ran at the same time."""
    of = collections.defaultdict(set)
    for generation, keys in named.items():
        for key in keys:
            of[key] |= bound[generation]
    running = _stretches(e)
    for (pool, _), found in of.items():
        spans = sorted((a, b, s) for s in found for a, b in running[s])
        for (a, b, s), (c, _, t) in zip(spans, spans[1:]):
            if s != t and (b is None or c < b - OVERLAP_MS):
                wrong.append(f"1: sandboxes {s} and {t} of one identifier of pool {pool} ran at once: {s} until {b or 'now'}, "
                             f"{t} from {c}")


def _once_in_its_life(e, wrong, bound):
    served = collections.defaultdict(set)
    for generation, found in bound.items():
        for sandbox in found:
            served[sandbox].add(generation)
    wrong += [f"2: sandbox {s} served generations {sorted(g)}" for s, g in served.items() if len(g) > 1]


def limits(status, nodes):
    """Invariant 3 of one answer each."""
    wrong = []
    for pool, s in status.items():
        n, target, most = s["sessions"], s["readyTarget"], s["maxSessions"]
        sessions = n["waiting"] + n["live"] + n["closing"]
        spare = s["sandboxes"]["ready"] + s["sandboxes"]["booting"]
        if sessions > most:
            wrong.append(f"3: pool {pool} has {sessions} sessions, {most} are allowed")
        if spare > n["waiting"] + min(target, max(0, most - sessions)):
            wrong.append(f"3: pool {pool} has {spare} ready or booting with {n} and a target of {target}")
    for row in nodes:
        for what in ("cpuMilli", "memoryBytes"):
            if row[what + "Reserved"] > row[what]:
                wrong.append(f"3: node {row['id']} has reserved {row[what + 'Reserved']} of {row[what]} {what}")
    return wrong


def _own_sandbox_alone(e, wrong):
    instances, back = collections.defaultdict(set), collections.defaultdict(list)
    for pool, identifier, instance in e.history.answers:
        instances[instance].add((pool, identifier))
        order = back[(pool, identifier)]
        if instance not in order:
            order.append(instance)
        elif order[-1] != instance:
            wrong.append(f"4: {identifier} was answered by an earlier container again")
    wrong += [f"4: one container answered {sorted(who)}" for who in instances.values() if len(who) > 1]


def _nothing_lost(e, wrong):
    latest = {}
    for pool, identifier, instance in e.history.answers:
        latest[(pool, identifier)] = instance
    for n in e.sessions:
        missing = e.history.pools - e.pools[n]
        if missing:
            wrong.append(f"5: node {n} does not know pools {sorted(missing)}, whose creation was acknowledged")
        for (pool, identifier), instance in e.history.opened.items():
            rows = [r for r in e.sessions[n][pool] if r["identifier"] == identifier]
            if not rows:
                wrong.append(f"5: node {n} has no session of {identifier}, which was acknowledged and never ended")
            elif not e.lost and latest[(pool, identifier)] != instance:
                wrong.append(f"5: {identifier} has another container than the one that was acknowledged")
    first = e.sessions[min(e.sessions)]
    for n, pools in e.sessions.items():
        key = lambda rows: sorted((r["identifier"], r["generation"], r["sandbox"], r["node"]) for r in rows)  # noqa: E731
        for pool in pools:
            if key(pools[pool]) != key(first[pool]):
                wrong.append(f"5: nodes {min(e.sessions)} and {n} list different sessions of pool {pool}")


def _hosts(e, wrong):
    """What runs is what the tables say."""
    rows = {r["sandbox"]: r["node"] for pools in [e.sessions[min(e.sessions)]] for p in pools.values() for r in p}
    for sandbox, node in rows.items():
        if sandbox not in e.host[node] or sandbox not in e.alive:
            wrong.append(f"5: sandbox {sandbox} of a live session does not run on node {node}")
    for row in e.nodes[min(e.nodes)]:
        here = len(e.host.get(row["id"], ()))
        if row["id"] in e.host and here != row["ready"] + row["bound"] + row["booting"]:
            wrong.append(f"2: node {row['id']} runs {here} sandboxes, the tables say {row['ready'] + row['bound'] + row['booting']}")
    known = set().union(*e.host.values())
    stray = e.alive - known
    if stray:
        wrong.append(f"2: sandboxes {sorted(stray)} have processes and no folder")


def _told_late(e, complaint):
    """What was seen on a node that was cut off begins to count once it is committed; a session that was committed is opened when its node hears
    of it and can write it down; and an answer that was lost with its leader or its node leaves no `opened`, and no `connected` either when
    nobody came back for the session."""
    m = re.search(r", (?:ready|its session opened): billed (\d+), seen (\d+|None)", complaint)
    if not m or "ready" in complaint and m.group(2) == "None":
        return False
    billed = int(m.group(1))
    seen = billed if m.group(2) == "None" else int(m.group(2))
    first, last = sorted((billed, seen))
    return (billed >= seen or "opened" in complaint) and any(a - 1000 < first and last < b + 5000 for a, b in e.faults)


def _bill(e, wrong):
    if not e.lost:  # a lost node's records end with its lease, its events with what ran (docs/events.md)
        wrong += ["6: " + w for w in recount.compare(e.export, e.events) if not _told_late(e, w)]


def audit(e):
    wrong = []
    bound, named = _one_session(e, wrong)
    _never_two_at_once(e, wrong, bound, named)
    _once_in_its_life(e, wrong, bound)
    for n in e.status:
        wrong += limits(e.status[n], e.nodes[n])
    _own_sandbox_alone(e, wrong)
    _nothing_lost(e, wrong)
    _hosts(e, wrong)
    _bill(e, wrong)
    return wrong


class Sampler:
    """Limits, looked at while load runs, through one node after another."""

    def __init__(self, cluster, pools, pause=0.3):
        self.cluster, self.pools, self.pause = cluster, pools, pause
        self.wrong, self.samples, self.stopping = [], 0, False
        self.thread = threading.Thread(target=self._run)

    def _run(self):
        n = 0
        while not self.stopping:
            n = n % self.cluster.n + 1
            try:
                _, status, rows = _lists(self.cluster, self.pools, n)
                self.wrong += limits(status, rows)
                self.samples += 1
            except (OSError, AssertionError, KeyError, ValueError):
                pass  # that node is away: others are asked
            time.sleep(self.pause)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopping = True
        self.thread.join()


# --- planted violations: (what, how true evidence becomes false, the invariant that must be named)


def _a_bound(e):
    return next(ev for ev in e.events if ev["event"] == "opened" and ev.get("identifier_tag"))


def _second_session(e):
    rows = next(rows for rows in e.sessions[1].values() if rows)
    rows.append(dict(rows[0], generation=rows[0]["generation"] + 10 ** 9, sandbox=rows[0]["sandbox"] + 10 ** 9))


def _generation_again(e):
    e.events.append(dict(_a_bound(e), sandbox=10 ** 12))


def _two_run_at_once(e):
    ev = _a_bound(e)
    e.events.append(dict(ev, sandbox=10 ** 12, generation=10 ** 12, wall_ms=ev["wall_ms"] + 1))


def _sandbox_again(e):
    ev = _a_bound(e)
    e.events.append(dict(ev, generation=10 ** 12, identifier_tag="other"))


def _too_many(e):
    s = next(iter(e.status[1].values()))
    s["sessions"]["live"] = s["maxSessions"] + 1


def _too_many_ready(e):
    s = next(iter(e.status[1].values()))
    s["sandboxes"]["ready"] += s["readyTarget"] + s["maxSessions"]


def _overcommitted(e):
    e.nodes[1][0]["memoryBytesReserved"] = e.nodes[1][0]["memoryBytes"] + 1


def _wrong_sandbox(e):
    pool, identifier, instance = e.history.answers[0]
    e.history.answers.append((pool, identifier + "-other", instance))


def _lost_session(e):
    pool, identifier = next(iter(e.history.opened))
    for n in e.sessions:
        e.sessions[n][pool] = [r for r in e.sessions[n][pool] if r["identifier"] != identifier]


def _replaced(e):
    pool, identifier = next(iter(e.history.opened))
    e.history.answers.append((pool, identifier, "another"))


def _lost_pool(e):
    e.history.pools.add("was-acknowledged")


def _disagreement(e):
    rows = next(rows for rows in e.sessions[2].values() if rows)
    rows[0]["generation"] += 10 ** 9


def _not_running(e):
    rows = next(rows for rows in e.sessions[1].values() if rows)
    e.alive.discard(rows[0]["sandbox"])


def _runs_without_a_row(e):
    e.host[1].add(10 ** 12)


def _billed_twice(e):
    r = e.export["records"][0]
    e.export["records"].append(dict(r))


def _bill_without_interval(e):
    e.export["records"].append(dict(e.export["records"][0], sandbox=10 ** 12))


PLANTED = [(_second_session, 1), (_generation_again, 1), (_two_run_at_once, 1), (_sandbox_again, 2), (_too_many, 3), (_too_many_ready, 3),
           (_overcommitted, 3), (_wrong_sandbox, 4), (_lost_session, 5), (_replaced, 5), (_lost_pool, 5), (_disagreement, 5),
           (_not_running, 5), (_runs_without_a_row, 2), (_billed_twice, 6), (_bill_without_interval, 6)]


def planted(e):
    """Names of planted violations that audit() does not find. `e` must be without fault, with a live and an ended session."""
    missed = []
    for plant, invariant in PLANTED:
        false = copy.copy(e)
        lock, e.history.lock = e.history.lock, None
        for name, value in vars(e).items():
            setattr(false, name, copy.deepcopy(value))
        e.history.lock = lock
        plant(false)
        if not any(w.startswith(f"{invariant}:") for w in audit(false)):
            missed.append(plant.__name__.strip("_"))
    return missed
