"""Virtual machines from nothing, from a template and from the ready pool to their first HTTP answer: sandboxd with libvirt beside QEMU
driven by hand, with the same kernel, first program, image, memory and command line, in turns; and what ready ones cost."""
import contextlib
import os
import pathlib
import re
import shutil
import subprocess
import time

import harness
from vm import raw_qemu
from cold_start import sandboxd
from figures import Table
from processes import cpu_ns, pss_kib

HELD, IDLE_S = 64, 20
# No file of sandboxd's may be as large as a machine's memory, and what would is refused, not killed for it: there is no template.
NO_TEMPLATES = ("env", "--ignore-signal=SIGXFSZ", "prlimit", f"--fsize={160 << 20}:")
ARGV, ENV = [b"/echo-server"], [b"PATH=/bin:/usr/bin", b"BERTH_SAMPLE=1"]


def processes_of(scratch):
    """What serves the machines, beside their QEMUs: shims and libvirtd. By the folder that their command lines name."""
    found = []
    for p in pathlib.Path("/proc").iterdir():
        try:
            words = (p / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except (OSError, ValueError):
            continue
        if p.name.isdigit() and os.path.basename(words[0]) in ("berth-vmshim", "libvirtd", "berth-libvirtd") and \
                any(str(scratch) in w for w in words[1:]):
            found.append(int(p.name))
    return found


def timed(call):
    began = time.monotonic()
    got = call()
    return got, (time.monotonic() - began) * 1000


def cold(parts, tap):
    machine = raw_qemu.Machine(parts, tap)
    try:
        machine.hello()
        machine.start(ARGV, ENV)
        raw_qemu.get()
    finally:
        machine.end()


def run_clone(template, parts, tap, got):
    machine, ms = timed(lambda: template.clone(parts, tap))
    got["clone"].append(ms)
    try:
        machine.start(ARGV, ENV)
        raw_qemu.get()
    except BaseException:
        machine.end()
        raise
    return machine


def raw_round(parts, tap, got):
    template, ms = timed(lambda: raw_qemu.Template(parts, tap))
    got["template"].append(ms)
    try:
        machine, ms = timed(lambda: run_clone(template, parts, tap, got))
        got["next"].append(ms)
        try:
            machine.stand()
            time.sleep(0.3)
            _, ms = timed(lambda: (machine.go_on(), raw_qemu.get()))
            got["ready"].append(ms)
        finally:
            machine.end()
    finally:
        template.end()


def bench_start(scratch, *options):
    return [str(harness.BUILD / "bin/bench-start"), "--socket", f"{scratch}/socket", "--image", harness.IMAGE, "--machines", "on", *options]


def answers_ms(scratch):
    """Of each machine that sandboxd has started, in order: until it answered, before it had a program to run."""
    return [int(ms) for ms in re.findall(r"its machine answers after (\d+) ms", (scratch / "log").read_text())]


def berth_round(scratch, done, got):
    lines = subprocess.run(bench_start(scratch, "--rounds", "1", "--done", str(done)), check=True, stdout=subprocess.PIPE, text=True).stdout.split("\n")
    for what, _, us in (line.split() for line in lines if line):
        got[what].append(int(us) / 1000)
    got["clone"].append(answers_ms(scratch)[-1])


@contextlib.contextmanager
def held(scratch, n):
    """So many machines, ready and parked; their QEMUs."""
    with subprocess.Popen(bench_start(scratch, "--rounds", "0", "--hold", str(n)), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as p:
        line = p.stdout.readline().split()
        if line[:1] != ["held"]:
            raise AssertionError("bench-start failed")
        yield [int(pid) for pid in line[2:]]
        p.stdin.close()
        if p.wait(120) != 0:
            raise AssertionError("bench-start failed")


def raw_memory(parts, n=8):
    """KiB of each of some plain clones that serve."""
    template, machines = raw_qemu.Template(parts, None), []
    try:
        for _ in range(n):
            machines.append(template.clone(parts, None))
            machines[-1].start(ARGV, ENV)
        time.sleep(0.5)
        return pss_kib({m.process.pid for m in machines}) / n
    finally:
        for m in machines:
            m.end()
        template.end()


def cost(scratch, n):
    """Of n ready machines: KiB of a QEMU, KiB of a shim, CPU of all in percent of a core."""
    with held(scratch, n) as qemus:
        time.sleep(2)
        beside = processes_of(scratch)
        before = {p: cpu_ns(p) for p in (*qemus, *beside)}
        time.sleep(IDLE_S)
        used = sum(cpu_ns(p) - before[p] for p in before)
        return pss_kib(set(qemus)) / n, (pss_kib(set(beside)) / n), used / IDLE_S / 1e7


@contextlib.contextmanager
def machines(before=()):
    """A sandboxd of its own in an empty folder; the folder, and the parts of a machine of its own."""
    scratch = pathlib.Path(f"/tmp/berth-test.{os.getpid()}.vm")
    scratch.mkdir(mode=0o711)
    try:
        with open(scratch / "log", "w", encoding="utf-8") as log, sandboxd(scratch, "vm_emulation = on\n", before, log):
            with held(scratch, 1) as pids:
                parts = raw_qemu.parts_of(pids[0])
            parts["disk"] = str(next((scratch / "state").glob("sandboxd/store/images/*/disk")))
            yield scratch, parts
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def measure(rounds, tap):
    """Samples of Berth's and of plain QEMUs; what ready ones cost."""
    berth, raw = {w: [] for w in ("first", "clone", "next", "ready")}, {w: [] for w in ("template", "clone", "next", "ready", "cold")}
    with machines() as (scratch, parts):
        for i in range(rounds):
            berth_round(scratch, i, berth)
            raw_round(parts, tap, raw)
        figures, plain = cost(scratch, HELD), raw_memory(parts)
    booted = {w: [] for w in berth}
    with machines(NO_TEMPLATES) as (scratch, parts):
        for i in range(rounds):
            berth_round(scratch, i, booted)
            raw["cold"].append(timed(lambda: cold(parts, tap))[1])
    berth["cold"] = booted["next"]
    return berth, raw, figures, plain


def run(rounds):
    harness.need_machine()
    tap = raw_qemu.Tap()
    try:
        berth, raw, figures, plain = measure(rounds or 10, tap)
    finally:
        tap.end()
    table = Table("vm: virtual machines to their first HTTP answer", ["berth", "QEMU by hand"])
    table.add("the first of its kind", "ms", berth["first"], [c + t for c, t in zip(raw["next"], raw["template"])])
    table.add("a clone until its guest answers, before its program", "ms", berth["clone"], raw["clone"])
    table.add("a clone with its program", "ms", berth["next"], raw["next"])
    table.add("a ready one that stood still", "ms", berth["ready"], raw["ready"])
    table.add("without any template", "ms", berth["cold"], raw["cold"])
    table.add(f"memory of a QEMU, of {HELD} ready ones", "KiB PSS", [figures[0]], [plain])
    table.add("memory of its shim and of libvirtd, for each", "KiB PSS", [figures[1]], None)
    table.add(f"CPU of {HELD} ready ones, with shims and libvirtd", "% of a core", [figures[2]], None)
    return [table]
