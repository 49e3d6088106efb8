"""How fast a node fills a pool, and what a warm request feels of it: one node, one kept connection, phases in turns.

In each round the same connection asks the same session, first while nothing else happens, then while so many sandboxes start,
then while they end. Ready is what the pool's own counter says."""
import threading
import time

from figures import Table, percentile
from first_request import Caller, ready_count
from harness import Cluster, wait_until

FILL, QUIET_S, SOME = 60, 2.0, 20


class Asking:
    """One caller, over and over; the samples since the last take()."""

    def __init__(self, cluster, pool, identifier):
        self.caller, self.pool, self.identifier = Caller(cluster, 1), pool, identifier
        self.samples, self.stopping, self.failed = [], False, None
        self.caller.ask(pool, identifier)
        self.thread = threading.Thread(target=self.work)
        self.thread.start()

    def work(self):
        try:
            while not self.stopping:
                self.samples.append(self.caller.ask(self.pool, self.identifier))
                time.sleep(0.001)
        except Exception as e:
            self.failed = e

    def take(self):
        """All of the phase; one that was over at once still gets some."""
        wait_until("some requests", 60, lambda: self.failed or len(self.samples) >= SOME, 0.01)
        if self.failed:
            raise self.failed
        got, self.samples = self.samples, []
        return got

    def end(self):
        self.stopping = True
        self.thread.join()
        self.caller.close()


def fill(cluster, n):
    """Seconds until the pool has as many ready ones as it wants."""
    began = time.perf_counter()
    cluster.put_pool("filled", max_sessions=FILL + 10, ready=n, cooldown=3600)
    wait_until("the pool is as it should be", 120, lambda: ready_count(cluster, "filled") == n, 0.1)
    return time.perf_counter() - began


def run(rounds):
    cluster = Cluster(nodes=1, name="refill", settings=["cooldown_min=2", "memory=200Gi", "cpu_milli=64000"]).start()
    phases = {"alone": [], "while they start": [], "while they end": []}
    rates = []
    try:
        cluster.import_image()
        cluster.put_pool("warm", max_sessions=5, ready=1, cooldown=3600)
        fill(cluster, 4)
        fill(cluster, 0)
        asking = Asking(cluster, "warm", "somebody")
        try:
            for _ in range(rounds or 8):
                asking.take()
                time.sleep(QUIET_S)
                phases["alone"].append(asking.take())
                rates.append(FILL / fill(cluster, FILL))
                phases["while they start"].append(asking.take())
                fill(cluster, 0)
                phases["while they end"].append(asking.take())
        finally:
            asking.end()
    finally:
        cluster.end()
    t = Table(f"refill: warm requests while {FILL} sandboxes start, and end", list(phases))
    for p in (50, 99):
        t.add(f"a warm request, p{p}", "ms", *[[percentile(samples, p) for samples in rounds_of] for rounds_of in phases.values()])
    rate = Table("refill: how fast a node fills a pool", ["berth"])
    rate.add("sandboxes that became ready", "1/s", rates)
    return [t, rate]
