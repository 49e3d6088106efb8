"""What of a sandbox can be seen on the host by those who should not: no secret, and no setuid file that runs.

A secret's value is looked for in every file of the cluster (journals, snapshots, records, logs, sandboxes' folders), in the
arguments and environment of every process of the machine but the sandbox's own, and in the memory of the container's shim and
monitor. A setuid-root program in an image is tried by another user on every way to it.
"""
import contextlib
import os
import pathlib
import re
import secrets
import shutil
import subprocess

import harness as h
import sandboxes

NOBODY = 65534
PROGRAM = h.BUILD / "tests/component/escape/escape-check" # with --euid: 0 when it runs as who called it
SECRET, SPOKEN = secrets.token_hex(20), secrets.token_hex(20)
cluster = h.Cluster(nodes=1, name="leaks", settings=["log_level=debug"])


def mention(path, words):
    """Whether one of the words is in the file, also across the pieces in which it is read."""
    longest, rest = max(map(len, words)), b""
    with contextlib.suppress(OSError):
        with open(path, "rb") as f:
            while piece := f.read(1 << 20):
                if any(w in rest + piece for w in words):
                    return True
                rest = piece[-longest:]
    return False


def files_with(word, *folders):
    found, n = [], 0
    for folder in folders:
        for where, _, names in os.walk(folder):
            for name in names:
                path = pathlib.Path(where, name)
                if path.is_file() and not path.is_symlink():
                    n += 1
                    found += [str(path)] if mention(path, [word.encode()]) else []
    return found, n


def processes_with(word):
    """Of the host's pid namespace: those of sandboxes have others, and may know their own."""
    space, found, n = os.readlink("/proc/self/ns/pid"), [], 0
    for proc in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.readlink(proc / "ns/pid") == space:
                n += 1
                found += [str(proc / f) for f in ("cmdline", "environ") if mention(proc / f, [word.encode()])]
    return found, n


def memory_has(pid, word):
    with open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines():
            m = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
            if m:
                start, end = (int(x, 16) for x in m.groups())
                if end - start > 1 << 30:  # a sanitizer's own book of the memory
                    continue
                with contextlib.suppress(OSError, ValueError):
                    memory.seek(start)
                    if word.encode() in memory.read(end - start):
                        return True
    return False


def test_a_secret_is_where_it_belongs_alone():
    cluster.start().import_image()
    resource = cluster.resource(ready=1, max_sessions=3, env=[{"name": "WORD", "secretRef": "word"}, {"name": "PLAIN", "value": SPOKEN}])
    resource["properties"]["secrets"] = [{"name": "word", "value": SECRET}]
    assert cluster.put_pool("secret", resource=resource)["status"] == "Succeeded"
    assert cluster.session("secret", "somebody", "/env").json()["WORD"] == SECRET
    sandbox = next(s["sandbox"] for s in cluster.sessions("secret"))
    first = sandboxes.first_process(cluster, 1, sandbox)

    files, n = files_with(SECRET, cluster.dir, "/run/lxc", "/var/lib/lxc", "/var/log")
    assert not files and n > 20, (files, n)
    # The search sees: what is no secret is in the journal.
    assert files_with(SPOKEN, cluster.dir)[0]
    found, n = processes_with(SECRET)
    assert not found and n > 10, (found, n)
    assert mention(f"/proc/{first}/environ", [SECRET.encode()])

    shim = sandboxes.shim(first)
    monitors = [int(p) for p in pathlib.Path(f"/proc/{shim}/task/{shim}/children").read_text().split()]
    assert monitors and memory_has(first, SECRET)
    assert not any(memory_has(pid, SECRET) for pid in (shim, *monitors)), (shim, monitors)
    for pid in (shim, *monitors, cluster.pid(1, "berthd"), cluster.pid(1, "sandboxd"), first):
        limits = pathlib.Path(f"/proc/{pid}/limits").read_text()
        assert re.search(r"Max core file size +0 +0 ", limits), (pid, sandboxes.command(pid), limits)
    assert SECRET not in cluster.pool("secret").body.decode()
    assert "somebody" not in cluster.log(1), "identifiers are not logged"


def as_nobody(path):
    """How the program ended as another user of the host; -1: it could not be run."""
    try:
        return subprocess.run([path, "--euid"], user=NOBODY, group=NOBODY, extra_groups=[], check=False, cwd="/").returncode
    except OSError:
        return -1


def test_a_setuid_file_of_an_image_is_out_of_reach():
    archive = cluster.dir / "setuid.tar"
    subprocess.run([h.SOURCE / "tools/sample-image/build-image", "--server", PROGRAM, "--out", archive, "--mode", "4755"],
                   check=True, stdout=subprocess.DEVNULL)
    cluster.import_image(str(archive), "berth/setuid:1")
    copies = [p for p in (cluster.node_dir(1) / "state").rglob("echo-server") if p.stat().st_mode & 0o4000]
    assert copies, "the image's file has its bit in the store"
    sandbox = next(s["sandbox"] for s in cluster.sessions("secret"))
    first = sandboxes.first_process(cluster, 1, sandbox)
    shim = sandboxes.shim(first)
    for copy in copies:
        assert copy.stat().st_uid == 0
        for path in (copy, f"/proc/{first}/root{copy}", f"/proc/{shim}/root{copy}", f"/proc/{shim}/cwd{copy}"):
            assert as_nobody(path) == -1, path
        closed = [p for p in copy.parents if p.stat().st_uid == 0 and p.stat().st_mode & 0o077 == 0]
        assert closed, "a folder of root's alone is above it"
    # The same file where others may go does give root: the attempt can succeed.
    shown = pathlib.Path(f"/tmp/berth-test.{os.getpid()}.setuid")
    try:
        shutil.copy(copies[0], shown)
        shown.chmod(0o4755)
        assert as_nobody(shown) == 255
    finally:
        shown.unlink()


h.run([test_a_secret_is_where_it_belongs_alone, test_a_setuid_file_of_an_image_is_out_of_reach], cluster)
