"""Images and registries for cluster tests: variants of the sample image as OCI layouts, docker-registry on loopback with TLS under a
CA of its own, and servers that behave badly. Everything lies below one folder; end() leaves no process and no file."""
import atexit
import gzip
import hashlib
import http.client
import io
import json
import os
import pathlib
import platform
import shutil
import socket
import ssl
import struct
import subprocess
import tarfile
import threading

from harness import IMAGE, skip, wait_until

KINDS = {"config": "application/vnd.oci.image.config.v1+json", "manifest": "application/vnd.oci.image.manifest.v1+json",
         "layer": "application/vnd.oci.image.layer.v1.tar+gzip", "index": "application/vnd.oci.image.index.v1+json"}
USER, PASSWORD = "berth", "correct horse"


def need_programs():
    for program in ("skopeo", "docker-registry", "htpasswd", "openssl"):
        if shutil.which(program) is None:
            skip(f"{program} is missing")


def free_ports(n):
    sockets = [socket.socket() for _ in range(n)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def _run(*args):
    r = subprocess.run(args, capture_output=True, text=True, check=False)
    assert r.returncode == 0, f"{' '.join(args)}: {r.stdout}{r.stderr}"
    return r.stdout


def crashing_program():
    """A static program whose first instruction is none: SIGILL."""
    machine, code = {"x86_64": (62, b"\x0f\x0b"), "aarch64": (183, b"\0\0\0\0")}.get(platform.machine()) or skip("unknown machine")
    head = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 2, machine, 1, 0x400078, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    return head + struct.pack("<IIQQQQQQ", 1, 5, 0, 0x400000, 0x400000, 120 + len(code), 120 + len(code), 4096) + code


class Hanging:
    """Accepts connections and says nothing."""

    def __init__(self, port):
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(("127.0.0.1", port))
        self.socket.listen(64)
        self.taken = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                self.taken.append(self.socket.accept()[0])
            except OSError:
                return

    def end(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        for s in self.taken:
            s.close()


class Images:
    """A folder with a CA, layouts made of the sample image, and the registries that were started."""

    def __init__(self, name="images"):
        need_programs()
        self.dir = pathlib.Path(f"/tmp/berth-test.{os.getpid()}.{name}")
        self.processes = []
        atexit.register(self.end)
        (self.dir / "certs").mkdir(parents=True)
        self._make_ca()
        with tarfile.open(IMAGE) as tar:
            tar.extractall(self.dir / "sample")
        index = json.loads((self.dir / "sample/index.json").read_text())
        self.manifest = self._blob(index["manifests"][0])
        self.config = self._blob(self.manifest["config"])

    def end(self):
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
                process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)

    # --- layouts

    def _blob(self, descriptor, layout=None):
        return json.loads(((layout or self.dir / "sample") / "blobs/sha256" / descriptor["digest"][7:]).read_text())

    def _put(self, layout, kind, data):
        digest = hashlib.sha256(data).hexdigest()
        (layout / "blobs/sha256" / digest).write_bytes(data)
        return {"mediaType": KINDS[kind], "digest": "sha256:" + digest, "size": len(data)}

    def layout(self, name, files=(), **config):
        """A layout directory with the sample's files, one more layer of (path, content, mode), and other Entrypoint, Cmd, Env and so on."""
        layout = self.dir / "layouts" / name
        shutil.copytree(self.dir / "sample", layout)
        image = json.loads(json.dumps(self.config))
        manifest = json.loads(json.dumps(self.manifest))
        image["config"].update(config)
        if files:
            self._add_layer(layout, image, manifest, files)
        self._finish(layout, image, manifest)
        return layout

    def add_layer(self, layout, files):
        """One more on top."""
        entry = json.loads((layout / "index.json").read_text())["manifests"][0]
        manifest = self._blob(entry, layout)
        image = self._blob(manifest["config"], layout)
        self._add_layer(layout, image, manifest, files)
        self._finish(layout, image, manifest)

    def _add_layer(self, layout, image, manifest, files):
        tar = io.BytesIO()
        with tarfile.open(fileobj=tar, mode="w") as t:
            for path, content, mode in files:
                data = content.encode() if isinstance(content, str) else content
                info = tarfile.TarInfo(path)
                info.size, info.mode = len(data), mode
                t.addfile(info, io.BytesIO(data))
        image["rootfs"]["diff_ids"].append("sha256:" + hashlib.sha256(tar.getvalue()).hexdigest())
        manifest["layers"].append(self._put(layout, "layer", gzip.compress(tar.getvalue(), 1, mtime=0)))

    def _finish(self, layout, image, manifest):
        manifest["config"] = self._put(layout, "config", json.dumps(image).encode())
        manifest["mediaType"] = KINDS["manifest"]
        entry = self._put(layout, "manifest", json.dumps(manifest).encode())
        entry["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
        entry["platform"] = {"os": "linux", "architecture": image["architecture"]}
        (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "mediaType": KINDS["index"], "manifests": [entry]}))

    def digest(self, layout):
        return json.loads((layout / "index.json").read_text())["manifests"][0]["digest"]

    # --- registries

    def _make_ca(self):
        d = str(self.dir)
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        _run("openssl", "req", "-x509", *key, "-days", "30", "-subj", "/CN=test CA", "-keyout", d + "/ca.key", "-out", d + "/ca.pem")
        _run("openssl", "req", *key, "-subj", "/CN=registry", "-keyout", d + "/tls.key", "-out", d + "/tls.csr")
        (self.dir / "san").write_text("subjectAltName=IP:127.0.0.1\n")
        _run("openssl", "x509", "-req", "-in", d + "/tls.csr", "-CA", d + "/ca.pem", "-CAkey", d + "/ca.key", "-CAcreateserial",
             "-days", "30", "-extfile", d + "/san", "-out", d + "/tls.pem")
        shutil.copy(self.dir / "ca.pem", self.dir / "certs/ca.crt")
        self.ca = self.dir / "ca.pem"

    def start_registry(self, port, private=False, level="error"):
        """docker-registry with TLS; private: for USER and PASSWORD alone. Its log: registry-PORT/log."""
        where = self.dir / f"registry-{port}"
        where.mkdir()
        auth = ""
        if private:
            (where / "htpasswd").write_text(_run("htpasswd", "-Bbn", USER, PASSWORD))
            auth = f"auth: {{htpasswd: {{realm: test, path: {where}/htpasswd}}}}\n"
        (where / "config.yml").write_text(
            f"version: 0.1\nlog: {{level: {level}}}\nstorage: {{filesystem: {{rootdirectory: {where}/data}}}}\n{auth}"
            f"http: {{addr: '127.0.0.1:{port}', tls: {{certificate: {self.dir}/tls.pem, key: {self.dir}/tls.key}}}}\n")
        with open(where / "log", "wb") as log:
            process = subprocess.Popen(["docker-registry", "serve", str(where / "config.yml")], stdout=log, stderr=log)
        self.processes.append(process)

        def listens():
            with socket.socket() as s:
                return s.connect_ex(("127.0.0.1", port)) == 0
        wait_until("the registry listens", 20, listens)
        return process

    def push(self, layout, reference, private=False, **how):
        """By skopeo. how: format="v2s2" for Docker's own manifest."""
        options = ["--dest-cert-dir", str(self.dir / "certs")]
        if private:
            options += ["--dest-creds", f"{USER}:{PASSWORD}"]
        if "format" in how:
            options += ["--format", how["format"]]
        _run("skopeo", "copy", "-q", *options, f"oci:{layout}:latest", f"docker://{reference}")

    def push_index(self, layout, host, repository, tag):
        """The layout's manifest again, behind an index of platforms as registries usually hold it; the index's digest."""
        entry = json.loads((layout / "index.json").read_text())["manifests"][0]
        body = json.dumps({"schemaVersion": 2, "mediaType": KINDS["index"], "manifests": [
            {**entry, "platform": {"os": "linux", "architecture": "s390x"}}, entry]}).encode()
        context = ssl.create_default_context(cafile=str(self.ca))
        c = http.client.HTTPSConnection(host, timeout=20, context=context)
        c.request("PUT", f"/v2/{repository}/manifests/{tag}", body, {"Content-Type": KINDS["index"]})
        r = c.getresponse()
        text = r.read()
        c.close()
        assert r.status == 201, (r.status, text)
        return "sha256:" + hashlib.sha256(body).hexdigest()

    def archive(self, layout, kind, name="berth/archived:1"):
        """docker-archive or oci-archive of a layout, by skopeo; its path."""
        path = self.dir / f"{layout.name}-{kind}.tar"
        _run("skopeo", "copy", "-q", f"oci:{layout}:latest", f"{kind}:{path}:{name}")
        return path
