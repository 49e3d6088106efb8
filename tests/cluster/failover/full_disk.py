"""A full disk of the leader and of a follower under load (underload.py), each with its gap of new allocations and an audit afterwards: one that
is nearly full, whose leader hands over, and one without a byte, whose berthd ends and comes back with room. Each node's log lies on a small
disk of its own, in memory.

Each happens BERTH_FAULT_ROUNDS times (default 1; the long form is 10).
"""
import os

import machines

machines.alone()
machines.SMALL_DISK_MIB = 512
from harness import run  # noqa: E402
from underload import audited, cluster, leader, test_warm_sessions, under_load  # noqa: E402

ROUNDS = int(os.environ.get("BERTH_FAULT_ROUNDS", "1"))
FAULTS = [("a disk that is nearly full", lambda n: cluster.fill(n, 200 << 20), cluster.make_room),
          ("a disk without a byte", cluster.fill, cluster.make_room)]


def test_full_disk_of_the_leader():
    for what, inflict, heal in FAULTS * ROUNDS:
        gap = under_load(f"{what} of the leader", leader(), inflict, heal)
        audited()
        assert gap < 10, gap


def test_full_disk_of_a_follower():
    for what, inflict, heal in FAULTS * ROUNDS:
        gap = under_load(f"{what} of a follower", leader() % 3 + 1, inflict, heal)
        audited()
        assert gap < 10, gap


run([test_warm_sessions, test_full_disk_of_the_leader, test_full_disk_of_a_follower], cluster)
