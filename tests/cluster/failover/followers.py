"""Faults of a follower under load (underload.py), each with its gap of new allocations and an audit afterwards.

Each happens BERTH_FAULT_ROUNDS times (default 1; the long form is 10).
"""
import os
import signal

from machines import alone

alone()
from harness import run  # noqa: E402
from underload import FAULTS, audited, berthd, cluster, leader, test_warm_sessions, under_load  # noqa: E402

ROUNDS = int(os.environ.get("BERTH_FAULT_ROUNDS", "1"))


def follower():
    return leader() % 3 + 1


def test_faults_of_a_follower():
    for what, inflict, heal in [("kill -9", berthd(signal.SIGKILL), None), *FAULTS] * ROUNDS:
        gap = under_load(f"{what} of a follower", follower(), inflict, heal)
        audited()
        assert gap < 10, gap


run([test_warm_sessions, test_faults_of_a_follower], cluster)
