"""A registry that stalls ten seconds: PUT returns at once, stays InProgress through the leader's death, ends exactly once."""
import contextlib
import hashlib
import http.server
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import threading
import time

import harness
from harness import Cluster, run, wait_until

STALL_S = 10


class Registry:
    """A registry of one image, read from an OCI layout. Whatever is asked of it waits until ten seconds after the first
    question; so the stall is over for good once, however often it is asked."""

    def __init__(self, layout):
        self.layout = pathlib.Path(layout)
        self.asked, self.answered, self.first = 0, 0, None
        self.lock = threading.Lock()
        registry = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    registry.serve(self)

            do_HEAD = do_GET

            def log_message(self, *_):
                pass
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def serve(self, h):
        with self.lock:
            self.asked += 1
            self.first = self.first or time.monotonic()
        time.sleep(max(0.0, self.first + STALL_S - time.monotonic()))
        with self.lock:
            self.answered += 1
        index = json.loads((self.layout / "index.json").read_text())["manifests"][0]
        kind, body = "application/octet-stream", None
        if h.path == "/v2/":
            body = b"{}"
        elif h.path.endswith("/manifests/1"):
            kind, body = index["mediaType"], self.blob(index["digest"])
        elif "/manifests/sha256:" in h.path or "/blobs/sha256:" in h.path:
            digest = h.path.rsplit("/", 1)[1]
            body = self.blob(digest)
            kind = index["mediaType"] if "/manifests/" in h.path else kind
        h.send_response(404 if body is None else 200)
        h.send_header("Content-Type", kind)
        h.send_header("Content-Length", str(len(body or b"")))
        if body is not None:
            h.send_header("Docker-Content-Digest", "sha256:" + hashlib.sha256(body).hexdigest())
        h.end_headers()
        if h.command != "HEAD" and body:
            h.wfile.write(body)

    def blob(self, digest):
        path = self.layout / "blobs/sha256" / digest.split(":")[1]
        return path.read_bytes() if path.exists() else None


class Watch:
    """Polls an operation through one node, all the time; keeps what it said, without repetitions."""

    def __init__(self, node, path):
        self.node, self.path, self.said, self.over = node, path, [], False
        self.thread = threading.Thread(target=self.poll)
        self.thread.start()

    def poll(self):
        while not self.over:
            with contextlib.suppress(OSError, ConnectionError, harness.http.client.HTTPException):
                a = cluster.admin("GET", self.path, node=self.node, timeout=5)
                said = None
                if a.status == 200:
                    d = a.json()
                    said = (d["status"], d.get("endTime"))
                elif a.status not in (503, 504):
                    said = (a.status, None)
                if said and (not self.said or self.said[-1] != said):
                    self.said.append(said)
            time.sleep(0.05)

    def end(self):
        self.over = True
        self.thread.join()
        return self.said


def layout():
    folder = pathlib.Path(tempfile.mkdtemp(prefix=f"berth-test.{os.getpid()}.layout"))
    r = subprocess.run(["skopeo", "copy", "-q", f"docker-archive:{harness.IMAGE}", f"oci:{folder}/oci:1"], capture_output=True,
                       text=True)
    if r.returncode != 0:
        r = subprocess.run(["skopeo", "copy", "-q", f"oci-archive:{harness.IMAGE}", f"oci:{folder}/oci:1"],
                           capture_output=True, text=True)
    assert r.returncode == 0, r.stderr
    return folder


if shutil.which("skopeo") is None:
    harness.skip("skopeo is not installed; it makes the registry's image")
harness.need_machine()
folder = layout()
registry = Registry(folder / "oci")
cluster = Cluster(settings=[f"insecure_registries={registry.host}"]).start()


def leader():
    return cluster.admin("GET", "/.berth/v1/cluster").json()["leader"]


def test_put_survives_its_leader():
    first = wait_until("a leader", 10, leader)
    put_at = first % 3 + 1
    a = cluster.put_pool("slow", node=put_at, wait=False, image=f"{registry.host}/team/sample:1", ready=1, max_sessions=3)
    assert a.status == 201 and a.json()["properties"]["provisioningState"] == "InProgress", a
    assert registry.answered == 0, "PUT returns before the registry says anything"
    url = a.headers["azure-asyncoperation"]
    watches = [Watch(node, "/" + url.split("/", 3)[3]) for node in (1, 2, 3)]
    try:
        wait_until("the registry is asked", 5, lambda: registry.asked)
        killed = cluster.pid(first, "berthd")
        os.kill(killed, signal.SIGKILL)
        second = wait_until("another leader", 15, lambda: (
            lambda n: n if n and n != first else None)(
                cluster.admin("GET", "/.berth/v1/cluster", node=put_at).json()["leader"]))
        assert registry.answered == 0, "the leader changed while the registry stalled"
        print(f"        leader {first} killed, {second} leads")
        wait_until("all nodes show the end", 90,
                   lambda: all(w.said and w.said[-1][0] not in ("InProgress",) for w in watches), 0.2)
        time.sleep(1.0)  # nothing happens to it afterwards
    finally:
        said = [w.end() for w in watches]
    for node, one in enumerate(said, 1):
        assert [s for s, _ in one] in (["InProgress", "Succeeded"], ["Succeeded"]), (node, one)
    assert said[put_at - 1][0][0] == "InProgress"
    assert len({one[-1] for one in said}) == 1, said
    assert cluster.pool("slow", put_at).json()["properties"]["provisioningState"] == "Succeeded"
    assert cluster.session("slow", "after-all", node=put_at).status == 200


def test_image_that_is_missing_there():
    a = cluster.put_pool("none", image=f"{registry.host}/team/sample:2", ready=1, max_sessions=3)
    assert a["status"] == "Failed" and a["error"]["code"] == "ImageNotFound", a
    assert "image" in a["error"]["message"] and "team/sample:2" in a["error"]["message"], a


try:
    run([test_put_survives_its_leader, test_image_that_is_missing_there], cluster)
finally:
    registry.server.shutdown()
    shutil.rmtree(folder, ignore_errors=True)
