"""A container from nothing to its first HTTP answer: sandboxd beside crun, with the sample image, in turns.

crun starts from a plain copy of the same root file system, with the same kinds of namespaces, a uid range and limits;
it mounts no overlay, filters no system calls and keeps no log, so it does less. Where cgroups are mounted in the
hybrid way, which crun refuses, it is shown version 2 alone and its cgroups have no limits."""
import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tarfile
import time

import harness
from figures import Table
from processes import family, parent, pss_kib

UID, UIDS = 1900000000, 65536
HYBRID = pathlib.Path("/sys/fs/cgroup/unified").is_dir()
SHOW_V2 = "mount --bind /sys/fs/cgroup/unified /sys/fs/cgroup && exec \"$@\""


def extract(archive, to):
    """The only layer of the sample image."""
    with tarfile.open(archive) as outer:
        def blob(digest):
            return outer.extractfile("./blobs/" + digest.replace(":", "/"))
        index = json.load(outer.extractfile("./index.json"))
        manifest = json.load(blob(index["manifests"][0]["digest"]))
        layer = blob(manifest["layers"][0]["digest"])
        subprocess.run(["tar", "-xz", "-C", str(to)], input=layer.read(), check=True)
    subprocess.run(["chown", "-hR", f"{UID}:{UID}", str(to)], check=True)


def make_bundle(folder):
    root = folder / "rootfs"
    root.mkdir(parents=True)
    extract(harness.IMAGE, root)
    subprocess.run(["crun", "spec"], cwd=folder, check=True)
    config = json.loads((folder / "config.json").read_text())
    config["process"].update(terminal=False, args=["/echo-server"], env=["PATH=/bin:/usr/bin", "PORT=80"])
    config["root"].update(readonly=False)
    linux = config["linux"]
    linux["namespaces"] = [{"type": t} for t in ("pid", "network", "ipc", "uts", "mount", "user", "cgroup")]
    linux["uidMappings"] = linux["gidMappings"] = [{"containerID": 0, "hostID": UID, "size": UIDS}]
    linux["resources"] = {} if HYBRID else {"memory": {"limit": 256 << 20}, "pids": {"limit": 512},
                                                           "cpu": {"quota": 100000, "period": 100000}}
    # a new sysfs or mqueue is refused in some nested set-ups; nothing here needs them
    config["mounts"] = [m for m in config["mounts"] if m["type"] not in ("sysfs", "mqueue", "cgroup")]
    (folder / "config.json").write_text(json.dumps(config))


@contextlib.contextmanager
def sandboxd(scratch):
    (scratch / "state").mkdir(mode=0o711)
    config = scratch / "berth.conf"
    config.write_text(f"state_dir = {scratch}/state\nsandboxd_socket = {scratch}/socket\nuser = nobody\n"
                      "uid_base = 1800000000\nuid_count = 16777216\nlog_level = error\n")
    with subprocess.Popen([str(harness.BUILD / "bin/sandboxd"), f"--config={config}"]) as p:
        try:
            yield
        finally:
            p.send_signal(signal.SIGTERM)
            p.wait(30)


def memory_of(line):
    """KiB a sandbox, with whatever serves it alone."""
    _, what, *pids = line.split()
    pids = [int(p) for p in pids]
    if what == "berth":
        pids = [parent(p) for p in pids]  # the shim that keeps it
    return pss_kib({p for pid in pids for p in family(pid)}) / len(pids)


def measure(scratch, rounds, hold):
    command = [str(harness.BUILD / "bin/bench-start"), "--socket", f"{scratch}/socket", "--image", harness.IMAGE,
               "--bundle", f"{scratch}/bundle", "--rounds", str(rounds), "--hold", str(hold)]
    if HYBRID:
        command = ["unshare", "--mount", "sh", "-c", SHOW_V2, "sh", *command]
    got, memory = {"berth": [], "crun": []}, {}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as p:
        for line in p.stdout:
            words = line.split()
            if words[0] == "held":
                time.sleep(0.5)
                memory[words[1]] = [memory_of(line)]
                if len(memory) == 2:
                    p.stdin.close()
            else:
                got[words[0]].append((int(words[1]) / 1000, int(words[2]) / 1000))
        if p.wait() != 0:
            raise AssertionError("bench-start failed")
    return got, memory


def run(rounds):
    harness.need_machine()
    scratch = pathlib.Path(f"/tmp/berth-test.{os.getpid()}.start")
    scratch.mkdir(mode=0o755)
    try:
        make_bundle(scratch / "bundle")
        with sandboxd(scratch):
            got, memory = measure(scratch, rounds or 40, 8)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    table = Table("start: from nothing to the first HTTP answer", ["berth", "crun without limits" if HYBRID else "crun"])
    for i, what in enumerate(("until it runs", "until the first byte")):
        table.add(what, "ms", [x[i] for x in got["berth"]], [x[i] for x in got["crun"]])
    table.add("memory of one, with its shim", "KiB PSS", memory["berth"], memory["crun"])
    return [table]
