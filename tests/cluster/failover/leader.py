"""Faults of the leader under load (underload.py), each with its gap of new allocations and an audit afterwards; and the auditor itself.

Every fault happens BERTH_FAULT_ROUNDS times (default 1; the long form is 10), kill -9 five times as often.
"""
import os
import signal
import statistics

from machines import alone

alone()
import auditor  # noqa: E402
from harness import run  # noqa: E402
from underload import FAULTS, audited, berthd, cluster, leader, test_warm_sessions, under_load  # noqa: E402

ROUNDS = int(os.environ.get("BERTH_FAULT_ROUNDS", "1"))
KILLS = 5 * ROUNDS
GAP_MAX_S, GAP_MEDIAN_S = 1.5, 0.8
gaps = []


def test_kill_9_of_the_leader():
    with auditor.Sampler(cluster, ["warm", "fresh"]) as sampler:
        for _ in range(KILLS):
            gaps.append(under_load("kill -9 of the leader", leader(), berthd(signal.SIGKILL)))
    assert not sampler.wrong, sampler.wrong[:5]
    print(f"        kill -9 of the leader, {KILLS} times: gap median {statistics.median(gaps):.2f} s, most {max(gaps):.2f} s; "
          f"limits looked at {sampler.samples} times", flush=True)
    audited()
    assert statistics.median(gaps) <= GAP_MEDIAN_S and max(gaps) <= GAP_MAX_S, gaps


def test_other_faults_of_the_leader():
    for what, inflict, heal in FAULTS * ROUNDS:
        gap = under_load(f"{what} of the leader", leader(), inflict, heal)
        audited()
        assert gap < 10, gap


def test_the_auditor_finds_what_is_planted():
    missed = auditor.planted(audited())
    assert not missed, missed
    print(f"        {len(auditor.PLANTED)} planted violations, all found", flush=True)


run([test_warm_sessions, test_kill_9_of_the_leader, test_other_faults_of_the_leader, test_the_auditor_finds_what_is_planted], cluster)
