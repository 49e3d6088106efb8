"""Samples become medians with their spread, ratios and tables."""
import csv
import statistics


def percentile(samples, p):
    s = sorted(samples)
    return s[min(len(s) - 1, int(len(s) * p / 100))]


def spread(values):
    """The quartiles' distance as a share of the median, in percent."""
    middle = statistics.median(values)
    if len(values) < 2 or middle == 0:
        return 0
    q = statistics.quantiles(values, n=4, method="inclusive")
    return 100 * (q[2] - q[0]) / middle


class Table:
    """Rows of (what, unit, values of each round or None): the first column of values is the reference."""

    def __init__(self, title, peers):
        self.title, self.peers, self.rows = title, peers, []

    def add(self, what, unit, *series):
        """series: for each peer the figures of its rounds, in step with the others'; None: not measured."""
        self.rows.append((what, unit, series))

    def cells(self, row):
        what, unit, series = row
        first, out = series[0], [f"{what} ({unit})"]
        for i, values in enumerate(series):
            if values is None:
                out += ["-"] if i == 0 else ["-", "-"]
                continue
            middle = statistics.median(values)
            out.append(f"{middle:,.4g} ±{spread(values):.0f}%" if middle < 10000 else f"{middle:,.0f} ±{spread(values):.0f}%")
            if i > 0 and first is None:
                out.append("-")
            elif i > 0:
                # paired: each round against its neighbour, then the median
                out.append(f"{statistics.median([a / b for a, b in zip(first, values) if b]):.2f}")
        return out

    def show(self):
        head = ["", self.peers[0]]
        for peer in self.peers[1:]:
            head += [peer, f"{self.peers[0]}/{peer}"]
        lines = [head] + [self.cells(r) for r in self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
        print(f"\n## {self.title}\n")
        for n, line in enumerate(lines):
            print("| " + " | ".join(c.ljust(w) for c, w in zip(line, widths)) + " |")
            if n == 0:
                print("|" + "|".join("-" * (w + 2) for w in widths) + "|")

    def write(self, path):
        with open(path, "a", newline="") as f:
            out = csv.writer(f)
            for what, unit, series in self.rows:
                for peer, values in zip(self.peers, series):
                    for i, value in enumerate(values or []):
                        out.writerow([self.title, what, unit, peer, i + 1, f"{value:.6g}"])

    def series(self, what, peer):
        """The figures of a row and a peer, or None."""
        row = next((r for r in self.rows if r[0] == what), None)
        return row[2][self.peers.index(peer)] if row and peer in self.peers else None

    def ratio(self, what, peer):
        """The reference to this peer: paired, then the median; None if one of them was not measured."""
        first, other = self.series(what, self.peers[0]), self.series(what, peer)
        return statistics.median([a / b for a, b in zip(first, other) if b]) if first and other else None


def write_machine(path, where):
    with open(path, "a", newline="") as f:
        csv.writer(f).writerow(["machine", where, "", "", "", ""])


def read(path):
    """What write and write_machine left: the machine and its moment, and the tables by their titles."""
    where, tables = "", {}
    with open(path, newline="") as f:
        for title, what, unit, peer, _, value in csv.reader(f):
            if title == "machine":
                where = what
                continue
            rows = tables.setdefault(title, {})
            rows.setdefault((what, unit), {}).setdefault(peer, []).append(float(value))
    return where, [_table(title, rows) for title, rows in tables.items()]


def _table(title, rows):
    peers = list(dict.fromkeys(peer for row in rows.values() for peer in row))
    table = Table(title, peers)
    for (what, unit), row in rows.items():
        table.add(what, unit, *(row.get(peer) for peer in peers))
    return table
