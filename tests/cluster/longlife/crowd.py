"""Many ready sandboxes on one node: all become ready, any can be reached, the daemons rest beside them, and nothing is left of them.

BERTH_CROWD sets how many; 40 by default, 500 take about a minute and a GiB."""
import os
import pathlib
import re
import resource
import time

import sandboxes
from harness import API, Cluster, run, wait_until

CROWD = int(os.environ.get("BERTH_CROWD", "40"))
REST_S = 10
# Fewer than sandboxd needs open: it has to take what it may have.
resource.setrlimit(resource.RLIMIT_NOFILE, (max(64, 2 * CROWD), resource.getrlimit(resource.RLIMIT_NOFILE)[1]))

cluster = Cluster(nodes=1, settings=["cooldown_min=2", f"memory={CROWD}Gi", f"cpu_milli={CROWD * 500}"], name="crowd").start()
cluster.import_image()
cluster.put_pool("other", ready=1)


def ready(pool="crowd"):
    path = cluster.arm_path(pool).replace(API, "2025-02-02-preview")
    a = cluster.admin("GET", path)
    return a.json()["properties"]["templateUpdateStatus"]["activeTemplate"]["status"]["readyCount"] if a.status == 200 else 0


def cpu_ms(pid):
    """What its threads ran so far; of one that ended, nothing is known any more."""
    total = 0
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        try:
            total += int((task / "schedstat").read_text().split()[0]) / 1e6
        except OSError:
            pass
    return total


def memory():
    """KiB: of the shims with what they keep, and of the two daemons."""
    kib = {"sandboxes": 0, "berthd": 0, "sandboxd": 0}
    for pid in sandboxes.below(cluster):
        try:
            pss = int(re.search(r"^Pss:\s+(\d+)", pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M).group(1))
        except (OSError, AttributeError):
            continue
        program = sandboxes.command(pid)
        kib[program if program in kib else "sandboxes"] += pss
    return kib


def test_all_become_ready_and_go():
    wait_until("the other pool's sandbox is ready", 30, lambda: ready("other") == 1)
    before = sandboxes.left(cluster)
    began = time.monotonic()
    cluster.put_pool("crowd", max_sessions=CROWD + 10, ready=CROWD, cooldown=3600)
    wait_until(f"{CROWD} sandboxes are ready", 60 + CROWD, lambda: ready() >= CROWD, 0.2)
    filled = time.monotonic() - began
    time.sleep(12)  # threads that started them have ended
    daemons = {p: cluster.pid(1, p) for p in ("berthd", "sandboxd")}
    cpu = {p: cpu_ms(pid) for p, pid in daemons.items()}
    time.sleep(REST_S)
    cpu = {p: (cpu_ms(pid) - cpu[p]) / REST_S for p, pid in daemons.items()}
    files = {p: len(os.listdir(f"/proc/{pid}/fd")) for p, pid in daemons.items()}
    kib = memory()
    seen = {cluster.session("crowd", f"member-{i}", "/instance").body for i in range(5)}
    assert len(seen) == 5, seen
    began = time.monotonic()
    a = cluster.admin("DELETE", cluster.arm_path("crowd"))
    assert a.status in (202, 204), a
    try:
        wait_until("all are gone", 60 + CROWD, lambda: sandboxes.left(cluster) == before, 0.5)
    except AssertionError as e:
        after = sandboxes.left(cluster)
        raise AssertionError({k: (before[k], after[k]) for k in before if before[k] != after[k]}) from e
    print(f"{CROWD} ready in {filled:.1f} s, {CROWD / filled:.1f} a second; one takes {kib['sandboxes'] / CROWD:.0f} KiB of processes; "
          f"at rest {', '.join(f'{p} {cpu[p]:.2f} ms of CPU a second, {kib[p]} KiB, {files[p]} files' for p in daemons)}; "
          f"gone in {time.monotonic() - began:.1f} s", flush=True)
    assert all(ms < 100 for ms in cpu.values()), cpu


run([test_all_become_ready_and_go], cluster)
