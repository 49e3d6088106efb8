"""Recounts bills from the events that sandboxd and berthd wrote (docs/events.md), and compares them with an export.

Shares nothing with the ledger: no code, no tables. Every interval of the bill must have its events and agree with them within a
second; every interval of the events must be in the bill; and the bill's sums must be the sums of its own intervals, exactly.
By hand: recount.py CLUSTER_DIR < export.json
"""
import collections
import datetime
import json
import pathlib
import sys

WITHIN_MS = 1000  # a difference of a whole second is an error
COLUMNS = ("cpuMilliMs", "memoryByteMs", "sandboxMs", "sessionMs")


def read_events(cluster_dir):
    """All events of all nodes below a cluster's directory."""
    events = []
    for state in sorted(pathlib.Path(cluster_dir).glob("node*/state")):
        for daemon in ("sandboxd", "berthd"):
            for path in sorted(state.glob(f"{daemon}/events*"), reverse=True):  # events.7 is the oldest
                events += [json.loads(line) for line in path.read_text().splitlines()]
                assert {e["v"] for e in events} <= {1}, "events of a version that this does not know"
    return events


class Sandbox:
    def __init__(self):
        self.pool = self.cpu_milli = self.memory_bytes = 0
        self.ready = self.end = self.opened = None
        self.generation = 0
        self.connected = self.dead = False

    def billed_end(self):
        """A session that never got a connection costs nothing, and its sandbox only until it was bound."""
        return self.opened if self.dead and not self.connected and self.end is not None else self.end


def first(old, new):
    return new if old is None or new < old else old


def recount(events):
    """Sandboxes by id, with what the events say of each."""
    sandboxes = collections.defaultdict(Sandbox)
    for e in events:
        s, kind, at = sandboxes[e["sandbox"]], e["event"], e["wall_ms"]
        if kind == "started":
            s.pool, s.cpu_milli, s.memory_bytes = e["pool"], e["cpu_milli"], e["memory_bytes"]
        elif kind in ("exited", "stopped"):
            s.end = first(s.end, at)
        elif kind == "ready":
            s.ready = first(s.ready, at)
        elif kind == "dead":
            s.dead = True
        elif kind in ("frozen", "thawed"):
            pass  # it is billed all the same
        else:
            s.opened, s.generation = first(s.opened, at), e["generation"]
            s.connected = s.connected or kind == "connected"
    return sandboxes


def ms(text):
    """Exact: no float on the way."""
    t = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    since = t - datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
    return (since.days * 86400 + since.seconds) * 1000 + since.microseconds // 1000


def compare_time(wrong, what, billed, seen):
    if billed is None or seen is None:
        if billed is not seen:
            wrong.append(f"{what}: billed {billed}, seen {seen}")
    elif abs(billed - seen) >= WITHIN_MS:
        wrong.append(f"{what}: billed {billed}, seen {seen}: {billed - seen} ms apart")


def compare_record(wrong, r, s):
    what = f"sandbox {r['sandbox']} of pool {r['pool']}"
    if s is None or s.ready is None:
        wrong.append(f"{what} has a record and no events")
        return
    compare_time(wrong, what + ", ready", ms(r["ready"]), s.ready)
    compare_time(wrong, what + ", stopped", ms(r["stopped"]), s.billed_end())
    unserved = s.dead and not s.connected
    if "opened" in r:
        compare_time(wrong, what + ", its session opened", ms(r["opened"]), s.opened)
        compare_time(wrong, what + ", its session closed", ms(r["closed"]), s.opened if unserved else s.end)
    elif s.opened is not None:
        wrong.append(f"{what} served generation {s.generation}, which has no record")
    if (r["pool"], r["cpuMilli"], r["memoryBytes"]) != (s.pool, s.cpu_milli, s.memory_bytes):
        wrong.append(f"{what}: billed {r['cpuMilli']} milli-vCPU and {r['memoryBytes']} bytes, ran with {s.cpu_milli} and "
                     f"{s.memory_bytes} in pool {s.pool}")


def billed_sums(export):
    """By pool: buckets + running - corrections, and the sums of the closed records."""
    sums, closed = collections.defaultdict(collections.Counter), collections.defaultdict(collections.Counter)
    for kind, sign in (("buckets", 1), ("running", 1), ("corrections", -1)):
        for line in export[kind]:
            for column in COLUMNS:
                sums[line["pool"]][column] += sign * int(line[column])
    for r in export["records"]:
        length = ms(r["stopped"]) - ms(r["ready"])
        closed[r["pool"]].update(cpuMilliMs=length * r["cpuMilli"], memoryByteMs=length * r["memoryBytes"], sandboxMs=length,
                                 sessionMs=ms(r["closed"]) - ms(r["opened"]) if "opened" in r else 0)
    return sums, closed


def compare(export, events):
    """What is wrong with the bill, a sentence each; nothing: []. Corrections must be none: records then are the whole bill."""
    wrong, sandboxes = [], recount(events)
    now = ms(export["asOf"])
    records = {r["sandbox"]: r for r in export["records"]}
    if len(records) != len(export["records"]):
        wrong.append("a sandbox has two records")
    for r in export["records"]:
        compare_record(wrong, r, sandboxes.get(r["sandbox"]))
    sums, closed = billed_sums(export)
    running = collections.defaultdict(collections.Counter)
    number = collections.Counter()
    for key, s in sandboxes.items():
        if s.ready is None or key in records:
            continue
        if s.end is not None and now - s.end > 60000:
            wrong.append(f"sandbox {key} ended a minute ago and has no record")
        length = max(now - s.ready, 0)
        number[s.pool] += 1
        running[s.pool].update(cpuMilliMs=length * s.cpu_milli, memoryByteMs=length * s.memory_bytes, sandboxMs=length,
                               sessionMs=max(now - s.opened, 0) if s.opened is not None else 0)
    for pool in set(sums) | set(closed) | set(running):
        each = {"sandboxMs": 1, "sessionMs": 1}
        for s in sandboxes.values():
            if s.pool == pool:
                each["cpuMilliMs"] = max(each.get("cpuMilliMs", 0), s.cpu_milli)
                each["memoryByteMs"] = max(each.get("memoryByteMs", 0), s.memory_bytes)
        for column in COLUMNS:
            difference = sums[pool][column] - closed[pool][column] - running[pool][column]
            # what is closed counts to the millisecond, what runs within a second each
            if abs(difference) > number[pool] * (WITHIN_MS - 1) * each.get(column, 1):
                wrong.append(f"pool {pool}: {column} is {sums[pool][column]}, its intervals make "
                             f"{closed[pool][column] + running[pool][column]}")
    return wrong


if __name__ == "__main__":
    complaints = compare(json.load(sys.stdin), read_events(sys.argv[1]))
    print("\n".join(complaints) or "the bill equals its recount")
    sys.exit(1 if complaints else 0)
