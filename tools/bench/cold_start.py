"""A container from nothing to its first HTTP answer: sandboxd beside OCI runtimes, with the sample image, in turns.

crun and runc start from a plain copy of the same root file system, with the same namespaces, a uid range and the same
limits; crun loads the same seccomp filter, ready made. They mount no overlay and keep no log. crun refuses hybrid cgroups:
there the runtimes see version 1 alone, where they make a group in each hierarchy; and in a run of its own crun sees
version 2 alone, where its single group can have no limits."""
import base64
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
SHOW_V2 = 'mount --bind /sys/fs/cgroup/unified /sys/fs/cgroup && exec "$@"'
# $0 is an empty folder
SHOW_V1 = """mount -t tmpfs none "$0" && for h in /sys/fs/cgroup/*; do
  to=$0/${h##*/}
  if [ "${h##*/}" = unified ]; then continue; elif [ -L "$h" ]; then cp -P "$h" "$to"; else mkdir "$to" && mount --bind "$h" "$to"; fi || exit 1
done && mount --rbind "$0" /sys/fs/cgroup && exec "$@\""""


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


def make_bundle(scratch, runtime, limits=True):
    folder = scratch / "bundle" / runtime
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
    linux["resources"] = {}
    if limits:
        linux["resources"] = {"memory": {"limit": 256 << 20}, "pids": {"limit": 512}, "cpu": {"quota": 100000, "period": 100000}}
    if limits and runtime == "crun":
        linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW"}  # crun takes the filter itself only where there is a section
        config["annotations"] = {"run.oci.seccomp_bpf_data": base64.b64encode(our_filter(scratch)).decode()}
    # a new sysfs or mqueue is refused in some nested set-ups; nothing here needs them
    config["mounts"] = [m for m in config["mounts"] if m["type"] not in ("sysfs", "mqueue", "cgroup")]
    (folder / "config.json").write_text(json.dumps(config))


def our_filter(scratch):
    """As the kernel has it for a sandbox."""
    path = scratch / "filter"
    subprocess.run([str(harness.BUILD / "bin/bench-start"), "--socket", f"{scratch}/socket", "--image", harness.IMAGE,
                    "--filter", str(path)], check=True)
    return path.read_bytes()


@contextlib.contextmanager
def sandboxd(scratch, settings="", before=(), log=None):
    (scratch / "state").mkdir(mode=0o711)
    config = scratch / "berth.conf"
    config.write_text(f"state_dir = {scratch}/state\nsandboxd_socket = {scratch}/socket\nuser = nobody\n"
                      "uid_base = 1800000000\nuid_count = 16777216\n"
                      f"log_level = {'debug' if log else 'error'}\n" + settings)
    with subprocess.Popen([*before, str(harness.BUILD / "bin/sandboxd"), f"--config={config}"], stderr=log) as p:
        try:
            harness.wait_until("sandboxd listens", 30, lambda: (scratch / "socket").exists(), 0.05)
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


def measure(scratch, show, runtimes, rounds, hold):
    command = [str(harness.BUILD / "bin/bench-start"), "--socket", f"{scratch}/socket", "--image", harness.IMAGE,
               "--bundle", f"{scratch}/bundle", "--rounds", str(rounds), "--hold", str(hold)]
    for r in runtimes:
        command += ["--runtime", r]
    if show:
        (scratch / "cgroup").mkdir(exist_ok=True)
        command = ["unshare", "--mount", "sh", "-c", show, f"{scratch}/cgroup", *command]
    peers = ["berth", *runtimes]
    got, memory = {p: [] for p in peers}, {}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as p:
        for line in p.stdout:
            words = line.split()
            if words[0] == "held":
                time.sleep(0.5)
                memory[words[1]] = [memory_of(line)]
                if len(memory) == len(peers):
                    p.stdin.close()
            else:
                got[words[0]].append((int(words[1]) / 1000, int(words[2]) / 1000))
        if p.wait() != 0:
            raise AssertionError("bench-start failed")
    return got, memory


def table_of(title, names, got, memory):
    table = Table(title, names)
    for i, what in enumerate(("until it runs", "until the first byte")):
        table.add(what, "ms", *[[x[i] for x in samples] for samples in got.values()])
    if memory:
        table.add("memory of one, with its shim", "KiB PSS", *memory.values())
    return table


def run(rounds):
    harness.need_machine()
    scratch = pathlib.Path(f"/tmp/berth-test.{os.getpid()}.start")
    scratch.mkdir(mode=0o755)
    runtimes = ["crun", "runc"]
    rounds, bare = rounds or 40, None
    try:
        with sandboxd(scratch):
            for r in runtimes:
                make_bundle(scratch, r)
            got, memory = measure(scratch, HYBRID and SHOW_V1, runtimes, rounds, 8)
            if HYBRID:
                shutil.rmtree(scratch / "bundle")
                make_bundle(scratch, "crun", limits=False)
                bare, _ = measure(scratch, SHOW_V2, ["crun"], rounds, 0)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    tables = [table_of("start: from nothing to the first HTTP answer", list(got), got, memory)]
    if bare:
        tables.append(table_of("start: beside crun without limits, filter and version 1", list(bare), bare, None))
    return tables
