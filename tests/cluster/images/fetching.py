"""How layers come: several at once, on where a connection broke, from mirrors first. Read from the registry's own log; between it and
the nodes stands a proxy that slows and cuts."""
import contextlib
import os
import re
import socket
import threading
import time

import harness
from harness import Cluster, run
from hostile_registry import Registry, Repository, digest_of
from images import PASSWORD, USER, Images, free_ports

harness.need_machine()
MIB = 1 << 20


class Proxy:
    """TCP to a port. slow: seconds for each 64 KiB; cuts: so many connections are closed after `after` bytes of answers."""

    def __init__(self, port, to):
        self.to, self.slow, self.cuts, self.after = to, 0.0, 0, 0
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client = self.listener.accept()[0]
            except OSError:
                return
            server = socket.socket()
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)  # or all of an answer waits in it
            server.connect(("127.0.0.1", self.to))
            threading.Thread(target=self._copy, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self._copy, args=(server, client, True), daemon=True).start()

    def _copy(self, source, to, answers):
        n = 0
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                n += len(data)
                if answers and self.slow:
                    time.sleep(self.slow)
                if answers and self._cuts(n):
                    break
                to.sendall(data)
        for s in (source, to):
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)

    def _cuts(self, n):
        with self.lock:
            if self.cuts == 0 or n < self.after:
                return False
            self.cuts -= 1
            return True

    def end(self):
        self.listener.close()


images = Images("fetching")
BEHIND, FRONT, PRIVATE, MIRROR, REFUSES = free_ports(5)
images.start_registry(BEHIND, level="info")
images.start_registry(PRIVATE, private=True, level="info")
images.start_registry(MIRROR, level="info")
proxy, liar = Proxy(FRONT, BEHIND), Registry()


def layout(name, layers=1, size=MIB, **config):
    """So many layers of noise more than the sample has."""
    made = images.layout(name, files=[("noise-0", os.urandom(size), 0o644)], **config)
    for i in range(1, layers):
        images.add_layer(made, [(f"noise-{i}", os.urandom(size), 0o644)])
    return made


cluster = Cluster(nodes=1, settings=["image_parallel=3", "image_stall_ms=4000", "pull_retry_ms=1000", f"image_ca={images.ca}",
                                     f"allowed_registries=127.0.0.1:{FRONT},127.0.0.1:{PRIVATE}", f"insecure_registries={liar.host}",
                                     f"registry_mirror=127.0.0.1:{PRIVATE} 127.0.0.1:{REFUSES},{liar.host},127.0.0.1:{MIRROR}"]).start()
LINE = re.compile(r'time="([^"]+)".*response completed.*http.request.method=GET.*http.request.uri="?([^" ]+)"?.*'
                  r'http.response.duration=(\S+).*http.response.status=(\d+) http.response.written=(\d+)')


def seconds(text):
    """Go's "1m2.5s", "12ms", "80.1µs"."""
    units = {"m": 60, "s": 1, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9}
    return sum(float(n) * units[u] for n, u in re.findall(r"([\d.]+)(ms|µs|ns|m|s)", text))


def served(port, repository):
    """(begin, end, path, status, bytes) of each answered GET, from the registry's log."""
    found = []
    for line in (images.dir / f"registry-{port}/log").read_text().splitlines():
        m = LINE.search(line)
        if m and f"/v2/{repository}/" in m[2]:
            end = time.mktime(time.strptime(m[1][:19], "%Y-%m-%dT%H:%M:%S")) + float("0" + (re.search(r"\.\d+", m[1]) or [""])[0])
            found.append((end - seconds(m[3]), end, m[2], int(m[4]), int(m[5])))
    return found


def pool(name, image, private=False, **how):
    resource = cluster.resource(image=image, ready=1, **how)
    if private:
        properties = resource["properties"]
        properties["customContainerTemplate"]["registryCredentials"] = {
            "server": f"127.0.0.1:{PRIVATE}", "username": USER, "passwordSecretRef": "p"}
        properties["secrets"] = [{"name": "p", "value": PASSWORD}]
    status = cluster.put_pool(name, resource=resource)
    assert status["status"] == "Succeeded", status
    assert cluster.session(name, "user-1").status == 200


def test_layers_come_in_parallel():
    made = layout("wide", layers=5, size=8 * MIB)  # more than the buffers on the way hold
    images.push(made, f"127.0.0.1:{BEHIND}/wide:1")
    proxy.slow = 0.01
    pool("wide", f"127.0.0.1:{FRONT}/wide:1")
    proxy.slow = 0.0
    blobs = [one for one in served(BEHIND, "wide") if "/blobs/" in one[2] and one[4] >= 8 * MIB]
    assert len(blobs) == 5, blobs
    # A response is complete for the registry when its last bytes lie in the sockets' buffers.
    most = max(sum(begin <= at < end for begin, end, *_ in blobs) for at, *_ in blobs)
    print(f"        {len(blobs)} layers of 8 MiB, at most {most} at once")
    assert 2 <= most <= 3, blobs


def test_a_cut_transfer_goes_on():
    size = 24 * MIB
    made = layout("cut", size=size)
    images.push(made, f"127.0.0.1:{BEHIND}/cut:1")
    proxy.after, proxy.cuts = 5 * MIB, 3
    pool("cut", f"127.0.0.1:{FRONT}/cut:1")
    assert proxy.cuts == 0, "it was cut as often as it should"
    parts = [one for one in served(BEHIND, "cut") if "/blobs/" in one[2] and one[4] > 2 * MIB]
    print("        answers: " + ", ".join(f"{status} {bytes_ >> 20} MiB" for *_, status, bytes_ in parts))
    assert [one[3] for one in sorted(parts)] == [200, 206, 206, 206], parts
    assert served(BEHIND, "cut")[0][3] == 200


def test_mirrors_come_first():
    """One refuses, one does not know it, the third has it: the host itself is not asked."""
    made = layout("both")
    images.push(made, f"127.0.0.1:{MIRROR}/both:1")
    images.push(made, f"127.0.0.1:{PRIVATE}/both:1", private=True)
    before = len(served(PRIVATE, "both"))
    pool("both", f"127.0.0.1:{PRIVATE}/both:1", private=True)
    assert len(served(PRIVATE, "both")) == before
    assert any("/blobs/" in one[2] for one in served(MIRROR, "both"))


def test_what_mirrors_lack_comes_from_the_host():
    made = layout("only")
    images.push(made, f"127.0.0.1:{PRIVATE}/only:1", private=True)
    pool("only", f"127.0.0.1:{PRIVATE}/only:1", private=True)
    assert any("/blobs/" in one[2] and one[3] == 200 for one in served(PRIVATE, "only"))


def test_a_mirror_that_lies_is_passed_over():
    made = layout("lied")
    images.push(made, f"127.0.0.1:{PRIVATE}/lied:1", private=True)
    blobs = {p.name: p.read_bytes() for p in (made / "blobs/sha256").iterdir()}
    repository = Repository.__new__(Repository)
    repository.answer = None
    repository.manifests = {"1": blobs[images.digest(made)[7:]], images.digest(made): blobs[images.digest(made)[7:]]}
    repository.blobs = {"sha256:" + name: data[:-1] + bytes([data[-1] ^ 1]) if len(data) > MIB else data for name, data in blobs.items()}
    liar.repositories["lied"] = repository
    pool("lied", f"127.0.0.1:{PRIVATE}/lied:1", private=True)
    assert any("/blobs/" in path for path, _ in liar.asked), "the liar was asked first"
    listed = [i["digest"] for i in cluster.admin("GET", "/.berth/v1/images").json()["value"]]
    assert images.digest(made) in listed and digest_of(repository.manifests["1"]) == images.digest(made)


def test_mirrors_see_no_credentials():
    assert liar.asked and not any("Authorization" in headers for _, headers in liar.asked)


try:
    run([test_layers_come_in_parallel, test_a_cut_transfer_goes_on, test_mirrors_come_first, test_what_mirrors_lack_comes_from_the_host,
         test_a_mirror_that_lies_is_passed_over, test_mirrors_see_no_credentials], cluster)
finally:
    proxy.end()
    liar.end()
