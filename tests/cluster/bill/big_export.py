"""An export of 10^5 closed records holds nobody up: while it runs, the control loop answers and the node's lease is renewed.

Counted, not timed: how many records leave the control loop between two answers that somebody else gets from it.
"""
import json
import os
import re
import sqlite3
import struct
import subprocess
import time

from harness import BUILD, Cluster, run, wait_until

RECORDS = 100_000
AT_ONCE = 4  # EXPORTS_MAX of nodes/control/api/export.c
BETWEEN_ANSWERS = RECORDS * AT_ONCE // 2  # of all of them; an export on the control loop would let none through

cluster = Cluster(nodes=1, name="big-export").start()


def packed(values):
    """One record as nodes/records keeps it: an array in msgpack."""
    out = bytes([0x90 | len(values)])
    for v in values:
        out += bytes([0xd9, len(v)]) + v.encode() if isinstance(v, str) else b"\xcf" + struct.pack(">Q", v)
    return out


def write_records():
    """Of sandboxes that ran an hour ago, a second each."""
    db = sqlite3.connect(cluster.node_dir(1) / "state/berthd/records.sqlite")
    at = int(time.time()) * 1000 - 3_600_000
    db.executemany("INSERT INTO record VALUES (?, ?, ?, ?)", (
        (n, at, at + 1000, packed([n, 7, n, n, 1, 1, "pool", at, at, at + 1000, at + 1000, 250, 1 << 29, 0]))
        for n in range(1, RECORDS + 1)))
    db.commit()
    db.close()


def export(form):
    """Under way; its text goes to the file."""
    out = open(cluster.dir / f"export.{form}.{time.monotonic_ns()}", "w+b")
    env = {**os.environ, "BERTH_SOCKET": str(cluster.socket(1))}
    return subprocess.Popen([BUILD / "bin/berth", "billing", "export", "--format", form], stdout=out, env=env), out


def look():
    """The control loop's answer: records sent so far, and when the lease was last renewed."""
    text = cluster.admin("GET", "/metrics").body.decode()
    sent = int(re.search(r"^berth_export_records_total (\d+)$", text, re.M).group(1))
    return sent, cluster.admin("GET", "/.berth/v1/nodes/1").json()["renewed"]


def watch(exports):
    """Answers and renewals while these run, and the most records that were sent between two answers."""
    answers, most, renewals = 0, 0, set()
    before = look()[0]
    while any(p.poll() is None for p, _ in exports):
        sent, renewed = look()
        answers += 1
        most = max(most, sent - before)
        before = sent
        renewals.add(renewed)
    return answers, most, renewals


def text_of(export):
    process, out = export
    assert process.wait() == 0
    out.seek(0)
    return out.read().decode()


def test_an_export_delays_nobody():
    cluster.berth("cluster", "stop", "--dir", str(cluster.dir))
    write_records()
    cluster.start()
    started = look()[0]
    answers, renewals = 0, set()
    for form in ("json", "csv"):
        running = [export(form) for _ in range(AT_ONCE)]
        n, most, seen = watch(running)
        answers += n
        renewals |= seen
        assert most <= BETWEEN_ANSWERS, f"{most} records between two answers"
        for one in running:
            text = text_of(one)
            if form == "json":
                assert [r["number"] for r in json.loads(text)["records"]] == list(range(1, RECORDS + 1))
            else:
                assert text.count("\r\nrecord,") == RECORDS
    assert look()[0] - started == 2 * AT_ONCE * RECORDS
    assert len(renewals) >= 2, renewals
    assert "the lease ended" not in cluster.log(1)

    print(f"{answers} answers and {len(renewals)} renewals while {2 * AT_ONCE} exports of {RECORDS} records ran")


def test_too_many_at_once_are_refused():
    """More than allowed; and a client that leaves frees its place."""
    running = [export("csv") for _ in range(2 * AT_ONCE)]
    codes = [p.wait() for p, _ in running]
    assert any(codes), "none of eight was refused"
    for p, _ in [export("csv") for _ in range(AT_ONCE)]:
        p.kill()
        p.wait()
    wait_until("places are free again", 20, lambda: cluster.berth("billing", "export", check=False).returncode == 0)


run([test_an_export_delays_nobody, test_too_many_at_once_are_refused], cluster)
