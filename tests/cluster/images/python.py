"""An image with Debian's own Python, in real machines: its server answers, and two machines that are clones of one template share
nothing that a process draws or is given at random."""
import pathlib
import re
import shutil
import subprocess
import time

import harness
import sandboxes
from harness import Cluster, run, skip, wait_until

PYTHON = pathlib.Path("/usr/bin/python3.11")
SERVER = pathlib.Path(__file__).with_name("python_server.py")
TEMPLATE = "memfd:berth-template"  # as the maps of a QEMU say whose memory began as a copy
if not PYTHON.exists():
    skip(f"{PYTHON} is missing (python3)")


def of_python(script):
    return subprocess.run([PYTHON, "-IS", "-c", script], check=True, capture_output=True, text=True).stdout.splitlines()


def pack(root):
    """The interpreter, the part of its library that the server imports, and the libraries that these are linked with."""
    imports = re.findall(r"(?m)^import (\S+)", SERVER.read_text()) + [f"encodings.{name}" for name in ("ascii", "idna", "iso8859_1", "latin_1")]
    modules = of_python(f"import sys, {', '.join(imports)}\n"
                        "print(*(m.__file__ for m in sys.modules.values() if getattr(m, '__file__', None)), sep='\\n')")
    programs = [str(PYTHON), *(m for m in modules if m.endswith(".so"))]
    linked = subprocess.run(["ldd", *programs], check=True, capture_output=True, text=True).stdout
    for path in {*programs, *modules, *re.findall(r"(/\S+) \(0x", linked)}:
        target = root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    # Compiled now, and valid whatever time the files in the image have: an emulated machine takes long for it.
    subprocess.run([PYTHON, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", root / "usr/lib"], check=True)


cluster = Cluster(nodes=1, name="python")
archive = cluster.dir / "python.tar"
pack(cluster.dir / "pack")
subprocess.run([harness.SOURCE / "tools/sample-image/build-image", "--server", SERVER, "--add", cluster.dir / "pack", "--out", archive],
               check=True, stdout=subprocess.DEVNULL)
cluster.start()
cluster.import_image(str(archive), "berth/python:1")
told = {}


def ask(identifier):
    """What its process says, and whether it knows the time."""
    before = time.time()
    a = cluster.session("python", identifier, "/facts")
    assert a.status == 200, a
    answer = a.json()
    assert before - 1 <= answer["time"] <= time.time() + 1, (before, answer["time"], time.time())
    return answer


def test_its_server_answers():
    done = cluster.put_pool("python", image="berth/python:1", ready=2, max_sessions=4, cpu=0.5, memory="1Gi")
    assert done["status"] == "Succeeded", done
    wait_until("two are ready", 30, lambda: sum(row["ready"] for row in cluster.nodes().values()) >= 2)
    for identifier in ("alice-1", "bob-22"):
        told[identifier] = ask(identifier)
        assert told[identifier]["path"].startswith("/facts?"), told[identifier]["path"]
        again = ask(identifier)
        assert {**again, "time": 0} == {**told[identifier], "time": 0}, "the same process, which drew once"


def test_both_are_clones():
    rows = {s["identifier"]: s for s in cluster.sessions("python")}
    for identifier in ("alice-1", "bob-22"):
        pid = sandboxes.first_process(cluster, 1, rows[identifier]["sandbox"])
        assert TEMPLATE in pathlib.Path(f"/proc/{pid}/maps").read_text(), identifier


def test_they_share_nothing_random():
    alice, bob = told["alice-1"], told["bob-22"]
    same = {what: value for what, value in alice["facts"].items() if bob["facts"][what] == value}
    assert len(alice["facts"]) == 11 and not same, same


run([test_its_server_answers, test_both_are_clones, test_they_share_nothing_random], cluster)
