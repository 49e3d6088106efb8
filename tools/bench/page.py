"""docs/performance.md from docs/performance/measured.csv: tables between markers, and the plots beside the CSV.

A part of the page between `<!-- measured: NAME -->` and `<!-- end -->` is written anew: the tables of that benchmark and
its plots; NAME `machine` is where and when, `targets` what the design asks beside what was found."""
import os
import pathlib
import re
import statistics

import figures
import plot

DOCS = pathlib.Path(os.environ["BERTH_SOURCE"]) / "docs"
PAGE, FOLDER = DOCS / "performance.md", DOCS / "performance"
CSV = FOLDER / "measured.csv"


def _name(title):
    return title.split(":")[0].split(",")[0]


def replace(tables, where):
    """These tables in place of the kept ones of the same benchmarks."""
    FOLDER.mkdir(exist_ok=True)
    fresh = {name for name, _ in tables}
    kept = [t for t in (figures.read(CSV)[1] if CSV.exists() else []) if _name(t.title) not in fresh]
    CSV.unlink(missing_ok=True)
    figures.write_machine(CSV, where)
    for t in [*kept, *(t for _, t in tables)]:
        t.write(CSV)


# --- tables

def _short(x):
    return f"{x:,.0f}" if abs(x) >= 1000 else f"{x:.3g}"


def _markdown(table):
    out = ["| | " + " | ".join(table.peers) + " |", "| --- " * (len(table.peers) + 1) + "|"]
    for what, unit, series in table.rows:
        cells = []
        for peer, values in zip(table.peers, series):
            if not values:
                cells.append("")
                continue
            ratio = table.ratio(what, peer) if peer != table.peers[0] and not what.startswith("p50 above") else None
            cells.append(_short(statistics.median(values)) + (f" ({ratio:.2f})" if ratio is not None else ""))
        out.append(f"| {what}, {unit} | " + " | ".join(cells) + " |")
    return "\n".join(out)


# --- plots

def _panels(table, rows):
    for what in rows:
        unit = next((u for w, u, _ in table.rows if w == what), None)
        values = [(p, statistics.median(table.series(what, p))) for p in table.peers if unit and table.series(what, p)]
        if values:
            yield what, unit, values


def _rows(table, *beginnings):
    return [what for b in beginnings for what, _, _ in table.rows if what.startswith(b)]


PLOTS = {  # benchmark: (file, title, how the rows' names begin)
    "warm": [("warm-cpu", "CPU of the proxy for a warm request", ("CPU",)), ("warm-p50", "Warm requests, median", ("p50,",))],
    "tls": [("tls-cpu", "CPU of the proxy for a warm request, TLS to the client", ("CPU",))],
    "bodies": [("bodies-wall", "Bodies, wall clock", ("wall clock",)), ("bodies-cpu", "Bodies, CPU of the proxy", ("CPU",))],
    "open": [("open", "First request of an identifier", ("from the ready pool", "no sandbox ready"))],
    "start": [("start", "From nothing to the first HTTP answer", ("until",))],
    "vm": [("vm", "Virtual machines, to the first HTTP answer", ("the first", "another", "a ready"))],
    "refill": [("refill", "A warm request while sandboxes start, and end", ("a warm request",))],
    "replication": [("replication", "Replicated writes, three servers", ("writes",))],
}


def _subject(table):
    text = re.split("[:,] ", table.title, maxsplit=1)[-1]
    return text[0].upper() + text[1:]


def _plots(name, tables):
    out = []
    for file, title, beginnings in PLOTS.get(name, []):
        panels = [p for t in tables[:1] for p in _panels(t, _rows(t, *beginnings))]
        if panels:
            (FOLDER / f"{file}.svg").write_text(plot.bars(title, panels))
            out.append(f"![{title}](performance/{file}.svg)")
    return out


# --- what the design asks

def _worst(table, beginning, peer):
    ratios = [table.ratio(what, peer) for what in _rows(table, beginning)]
    return max((r for r in ratios if r is not None), default=None)


def _median(table, what, peer=0):
    values = table.series(what, table.peers[peer])
    return statistics.median(values) if values else None


TARGETS = [  # what, allowed, how it is written, benchmark, from its tables
    ("CPU per request to haproxy's for the same work, highest of 1 to 256 connections", "0.85", "{:.2f}", "warm",
     lambda t: _worst(t, "CPU", "haproxy")),
    ("the same, haproxy without any token check", "1", "{:.2f}", "warm", lambda t: _worst(t, "CPU", "haproxy, no token")),
    ("CPU per request to haproxy's for the same work, TLS to the client", "0.85", "{:.2f}", "tls",
     lambda t: _worst(t, "CPU", "haproxy")),
    ("the same, haproxy without any token check", "1", "{:.2f}", "tls", lambda t: _worst(t, "CPU", "haproxy, no token")),
    ("p50 above direct, 4 connections", "20 us", "{:.0f} us", "warm", lambda t: _median(t, "p50 above direct, 4 connections")),
    ("the same, of haproxy without any token check", "", "{:.0f} us", "warm",
     lambda t: _median(t, "p50 above direct, 4 connections", t.peers.index("haproxy, no token"))),
    ("the same, of nginx, without tokens", "", "{:.0f} us", "warm",
     lambda t: _median(t, "p50 above direct, 4 connections", t.peers.index("nginx, no token"))),
    ("two gateway loops: CPU per request to two haproxy threads', same work", "0.85", "{:.2f}", "loops",
     lambda t: _worst(t, "CPU", "haproxy")),
    ("bodies: wall clock to haproxy's without tokens, highest of 1 and 100 MiB, both ways, plain and TLS", "1", "{:.2f}", "bodies",
     lambda t: _worst(t, "wall", "haproxy, no token")),
    ("bodies: CPU to haproxy's without tokens, highest of the same", "1", "{:.2f}", "bodies",
     lambda t: _worst(t, "CPU", "haproxy, no token")),
    ("memory grown by a body of 1 GiB", "8 MiB", "{:.1f} MiB", "bodies",
     lambda t: max((_median(t, w) for w in _rows(t, "memory")), default=None)),
    ("first byte of an unseen identifier from the ready pool, p50", "3 ms", "{:.1f} ms", "open",
     lambda t: _median(t, "from the ready pool, p50")),
    ("the same, p99", "15 ms", "{:.1f} ms", "open", lambda t: _median(t, "from the ready pool, p99")),
    ("replicated writes, CPU to etcd's, highest of 1 to 256 outstanding", "1", "{:.2f}", "replication",
     lambda t: _worst(t, "CPU of all servers", "etcd") if "etcd" in t.peers else None),
    ("longest turn of a loop while a million sessions are snapshotted or restored", "50 ms", "{:.1f} ms", "replication",
     lambda t: max(_median(t, w) for w in _rows(t, "longest turn")) if "etcd" not in t.peers else None),
    ("a ready virtual machine that stood still, to its first byte, p50", "80 ms", "{:.0f} ms", "vm", lambda t: _median(t, "a ready one that stood still")),
    ("a clone of a virtual machine until its guest answers", "300 ms", "{:.0f} ms", "vm",
     lambda t: _median(t, "a clone until its guest answers, before its program")),
    ("the same and its program, to the first byte", "300 ms", "{:.0f} ms", "vm", lambda t: _median(t, "a clone with its program")),
    ("a virtual machine that boots cold, to the first byte", "2,000 ms", "{:,.0f} ms", "vm", lambda t: _median(t, "without any template")),
    ("memory of a ready virtual machine of 128 MiB, PSS of 64", "45 MB", "{:.1f} MB", "vm",
     lambda t: _median(t, next(iter(_rows(t, "memory of a QEMU")))) * 1024 / 1e6),
    ("CPU of 64 ready virtual machines", "2% of a core", "{:.2f}%", "vm", lambda t: _median(t, next(iter(_rows(t, "CPU of"))))),
    ("cold start to crun's", "1.5", "{:.2f}", "start", lambda t: _worst(t, "until the first byte", t.peers[1])),
]


def _targets(tables):
    out = ["| | at most | measured |", "| --- | --- | --- |"]
    for what, allowed, form, name, find in TARGETS:
        found = [x for x in (find(t) for t in tables if _name(t.title) == name) if x is not None]
        out.append(f"| {what} | {allowed} | {form.format(found[0]) if found else 'not measured'} |")
    return "\n".join(out)


def fill():
    where, tables = figures.read(CSV)
    text = PAGE.read_text()

    def part(match):
        name = match[1]
        mine = [t for t in tables if _name(t.title) == name]
        if name == "machine":
            body = [where]
        elif name == "targets":
            body = [_targets(tables)]
        else:
            body = [(f"{_subject(t)}:\n\n" if len(mine) > 1 else "") + _markdown(t) for t in mine] + _plots(name, mine)
        return f"<!-- measured: {name} -->\n" + "\n\n".join(body) + "\n<!-- end -->"
    PAGE.write_text(re.sub(r"<!-- measured: (\w+) -->\n.*?<!-- end -->", part, text, flags=re.S))
    print(f"written: {PAGE} and its plots")
