"""What a node keeps of images: layers that images share are fetched once; what nothing uses goes, the longest unused first, when the
store is above its bound, or when the operator says so; what is used never does. A disk that fills up leaves nothing half-done."""
import atexit
import json
import os
import re
import subprocess
import sys
import time

import harness
from harness import Cluster, run, wait_until
from images import Images, free_ports

harness.need_machine()
if os.environ.get("BERTH_OWN_MOUNTS") != "yes":  # or a run that is killed leaves a mount
    os.execvpe("unshare", ["unshare", "--mount", "--propagation", "private", "--", sys.executable, *sys.argv],
               dict(os.environ, BERTH_OWN_MOUNTS="yes"))
MIB = 1 << 20
GRACE_S = 16  # what came this moment stays
images = Images("keeping")
(PORT,) = free_ports(1)
images.start_registry(PORT, level="info")
cluster = Cluster(nodes=1, settings=["cooldown_min=1", "pull_retry_ms=1000", "image_disk_max=100Mi", f"image_ca={images.ca}",
                                     f"allowed_registries=127.0.0.1:{PORT}"])
store = cluster.node_dir(1) / "state/sandboxd/store"
BASE = os.urandom(8 * MIB)


def mount_store():
    """A disk of its own for the images."""
    for folder in (store.parent.parent, store.parent, store):
        folder.mkdir(mode=0o711, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=220m,mode=700", "tmpfs", str(store)], check=True)
    atexit.register(unmount_store)


def unmount_store():
    if os.path.ismount(store):
        subprocess.run(["umount", "-l", str(store)], check=True)


mount_store()
cluster.start()


def made(name, size, base=True):
    """An image in the registry: the sample, a base that others have too, and noise of its own."""
    layout = images.layout(name, files=[("base", BASE, 0o644)] if base else ())
    images.add_layer(layout, [("noise", os.urandom(size), 0o644)])
    images.push(layout, f"127.0.0.1:{PORT}/{name}:1")
    return images.digest(layout)


def put(name):
    return cluster.put_pool(name, image=f"127.0.0.1:{PORT}/{name}:1", ready=1, max_sessions=2)


def pool(name):
    status = put(name)
    assert status["status"] == "Succeeded", status
    wait_until("it serves", 20, lambda: cluster.session(name, "user-1").status == 200)


def end_pool(name):
    a = cluster.admin("DELETE", cluster.arm_path(name))
    assert cluster.wait_operation(a)["status"] == "Succeeded"
    wait_until("nothing runs from it", 20, lambda: listed().get(digests.get(name), {"users": 0})["users"] == 0)


def listed():
    return {i["digest"]: i for i in cluster.admin("GET", "/.berth/v1/images").json()["value"]}


def fetches(at_least):
    """How often layers of such a size were sent, by digest, from the registry's log."""
    found = {}
    for line in (images.dir / f"registry-{PORT}/log").read_text().splitlines():
        m = re.search(r"method=GET.*/blobs/(sha256:\w+).*response.status=2.*response.written=(\d+)", line)
        if m and int(m[2]) >= at_least:
            found[m[1]] = found.get(m[1], 0) + 1
    return found


def berth(*args, **how):
    return cluster.berth(*args, "--output", "json", env={"BERTH_DIR": str(cluster.dir), "BERTH_SOCKET": ""}, **how)


def pruned():
    return {i["digest"] for i in json.loads(berth("image", "prune").stdout)["value"]}


digests = {}


def test_a_common_base_is_fetched_once():
    for name in ("one", "two"):
        digests[name] = made(name, MIB)
        pool(name)
    counts = fetches(8 * MIB)
    print(f"        base: {sum(counts.values())} times, for two images")
    assert list(counts.values()) == [1], counts
    root = store / "images" / digests["two"][7:] / "root"
    assert (root / "base").read_bytes() == BASE, "it is in the second as well"


def test_use_is_shown():
    for name in ("one", "two"):
        one = wait_until("two sandboxes", 20, lambda: (lambda i: i if i["users"] == 2 else None)(listed()[digests[name]]))
        assert one["bytes"] > 9 * MIB and one["lastUsed"] > "2020", one
    assert len(json.loads(berth("image", "list").stdout)["value"]) == len(listed())


def test_what_is_used_stays():
    digests["idle"] = made("idle", MIB, base=False)
    assert cluster.put_pool("idle", image=f"127.0.0.1:{PORT}/idle:1", ready=0)["status"] == "Succeeded"
    time.sleep(GRACE_S)
    assert listed()[digests["idle"]]["users"] == 0, "no sandbox, but a pool"
    assert pruned() == set()
    assert "is that of a pool" in berth("image", "remove", digests["idle"], check=False).stderr
    for digest in (digests["one"], "sha256:" + "5" * 64, "nonsense"):
        said = berth("image", "remove", digest, check=False)
        assert said.returncode in (1, 3), said
        assert ("used by 2 sandboxes" in said.stderr) == (digest == digests["one"]), said
    assert set(digests.values()) <= set(listed())


def test_prune_takes_what_no_pool_names():
    end_pool("two")
    assert pruned() == {digests["two"]}
    assert digests["two"] not in listed() and digests["one"] in listed()
    wait_until("it is gone from the disk", 10, lambda: not any((store / "work").iterdir()))
    assert not (store / "images" / digests["two"][7:]).exists()
    assert cluster.session("one", "user-1").status == 200
    digests["three"] = made("three", MIB)
    pool("three")
    assert list(fetches(8 * MIB).values()) == [1], "the first still has the base"
    pool("two")
    assert list(fetches(8 * MIB).values()) == [1]


def test_a_spoiled_layer_is_fetched_again():
    """What lies in the store is believed no more than what a registry sends."""
    base = max((store / "images" / digests["one"][7:] / "layers").iterdir(), key=lambda p: p.stat().st_size)
    assert base.stat().st_nlink == 3, "one file for all"
    data = bytearray(base.read_bytes())
    data[len(data) // 2] ^= 1
    base.write_bytes(data)
    digests["four"] = made("four", MIB)
    pool("four")
    assert list(fetches(8 * MIB).values()) == [2]
    assert (store / "images" / digests["four"][7:] / "root/base").read_bytes() == BASE


def test_remove():
    for name in ("two", "three", "four", "idle"):
        end_pool(name)
    cluster.import_image(name="kept:1")  # by which the node hears what pools name now
    kept = next(d for d, i in listed().items() if i["reference"] == "kept:1")
    wait_until("the node heard that its pool is gone", 20, lambda: berth("image", "remove", digests["four"], check=False).returncode == 0)
    assert digests["four"] not in listed()
    time.sleep(GRACE_S)
    assert pruned() == {digests["two"], digests["three"], digests["idle"]}
    assert kept in listed(), "no registry could bring an import back"


def test_above_the_bound_the_longest_unused_goes():
    for name in ("big-1", "big-2"):
        digests[name] = made(name, 16 * MIB, base=False)
        pool(name)
    end_pool("big-1")
    end_pool("big-2")
    time.sleep(GRACE_S)
    cluster.import_image(name="kept:1")
    digests["big-3"] = made("big-3", 16 * MIB, base=False)
    wait_until("there is room for it", 20, lambda: put("big-3")["status"] == "Succeeded")
    at = listed()
    assert digests["big-3"] in at and digests["one"] in at, at
    assert digests["big-1"] not in at and digests["big-2"] in at, "the one unused for longer went, and no more than was needed"


def test_what_does_not_fit_is_refused():
    pool("big-2")
    digests["big-4"] = made("big-4", 16 * MIB, base=False)
    status = put("big-4")
    assert status["status"] == "Failed", status
    assert "of 104857600 that images may take" in status["error"]["message"], status
    print("        " + status["error"]["message"].split(": ", 2)[-1])
    assert digests["big-4"] not in listed() and not any((store / "work").iterdir())
    end_pool("big-4")
    end_pool("big-2")
    end_pool("big-3")


def fill(leave):
    free = os.statvfs(store).f_bavail * os.statvfs(store).f_frsize
    with open(store / "filler", "wb") as f:
        f.write(bytes(free - leave))


def test_full_disk():
    """What nothing uses makes room; then clear words, nothing half-published, and all is well once there is room."""
    cluster.import_image(name="kept:1")  # by which the node hears what pools name now
    assert digests["big-2"] in listed()
    fill(leave=12 * MIB)
    digests["fits"] = made("fits", 4 * MIB, base=False)
    pool("fits")
    assert digests["big-2"] not in listed(), "it went for the new one"
    end_pool("fits")
    pool("fits")  # in use
    before = set(listed())
    (store / "filler").unlink()
    fill(leave=12 * MIB)
    digests["last"] = made("last", 4 * MIB, base=False)
    status = put("last")
    assert status["status"] == "Failed" and "the disk of the image store is full" in status["error"]["message"], status
    assert "No space left on device" in status["error"]["message"], status
    print("        " + status["error"]["message"].split(": ", 2)[-1])
    assert set(listed()) <= before and not any((store / "work").iterdir())
    assert cluster.session("one", "user-2").status == 200, "what is there serves on"
    (store / "filler").unlink()
    pool("last")
    end_pool("fits")


def test_what_nothing_uses_for_long_goes():
    """The time of the last use is the record's: an older one stands for weeks that went by."""
    record = store / "images" / digests["fits"][7:] / "record"
    assert digests["fits"] in listed(), "not yet"
    os.utime(record, (time.time() - 31 * 86400,) * 2)
    os.kill(cluster.pid(1, "sandboxd"), 9)
    wait_until("sandboxd is back", 20, lambda: cluster.admin("GET", "/.berth/v1/images").status == 200)
    wait_until("it went", 60, lambda: digests["fits"] not in listed())
    assert {digests["one"], digests["last"]} <= set(listed()), "the others stay"


def test_a_restart_keeps_it_all():
    before = listed()
    os.kill(cluster.pid(1, "sandboxd"), 9)
    after = wait_until("sandboxd is back", 20, lambda: cluster.admin("GET", "/.berth/v1/images").status == 200 and listed())
    assert {d: (i["bytes"], i["lastUsed"][:14]) for d, i in after.items()} == {d: (i["bytes"], i["lastUsed"][:14]) for d, i in before.items()}


def test_end():
    for name in ("one", "last"):
        end_pool(name)
    cluster.berth("cluster", "stop", "--dir", str(cluster.dir))
    unmount_store()


run([test_a_common_base_is_fetched_once, test_use_is_shown, test_what_is_used_stays, test_prune_takes_what_no_pool_names,
     test_a_spoiled_layer_is_fetched_again, test_remove, test_above_the_bound_the_longest_unused_goes,
     test_what_does_not_fit_is_refused, test_full_disk,
     test_what_nothing_uses_for_long_goes, test_a_restart_keeps_it_all, test_end], cluster)
