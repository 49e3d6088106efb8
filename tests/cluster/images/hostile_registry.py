"""A registry of one's own that serves images as bytes, and tells lies about them. A repository is an image: /v2/<name>/manifests/..."""
import contextlib
import hashlib
import http.server
import json
import threading

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"


def digest_of(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def descriptor(kind, data, **more):
    return {"mediaType": kind, "digest": digest_of(data), "size": len(data), **more}


class Repository:
    """An image as a registry has it. Lies replace what is said: manifest (a dict's changes), blobs {digest: bytes}, or
    answer(handler, what, key) which returns True when it answered by itself."""

    def __init__(self, image, answer=None, wrap=0, blobs=None, without=(), **manifest):
        configuration = image.configuration()
        self.config, self.layers = descriptor(CONFIG, configuration), [descriptor(kind, raw) for raw, _, kind in image.layers]
        self.blobs = {self.config["digest"]: configuration, **{digest_of(raw): raw for raw, _, _ in image.layers}}
        self.document = {"schemaVersion": 2, "mediaType": MANIFEST, "config": self.config, "layers": self.layers, **manifest}
        for field in without:
            del self.document[field]
        body = json.dumps(self.document).encode()
        self.manifests = {digest_of(body): body}
        for _ in range(wrap):
            body = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor(MANIFEST, body)]}).encode()
            self.manifests[digest_of(body)] = body
        self.manifests["1"] = body
        self.blobs.update(blobs or {})
        self.answer = answer


class Registry:
    def __init__(self):
        self.repositories, self.asked, self.lock = {}, [], threading.Lock()
        registry = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    registry.serve(self)

            def send(self, status, body=b"", **headers):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                if "Content_Length" not in headers:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None  # those who are lied to hang up
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def serve(self, h):
        with self.lock:
            self.asked.append((h.path, dict(h.headers)))
        parts = h.path.split("?")[0].split("/")
        repository = self.repositories.get(parts[2]) if len(parts) > 2 else None
        if repository is None:
            h.send(404)
            return
        what, key = (parts[3], parts[4]) if len(parts) == 5 else ("other", h.path)
        if repository.answer and repository.answer(h, what, key):
            return
        held = {"manifests": repository.manifests, "blobs": repository.blobs}.get(what, {})
        if key not in held:
            h.send(404)
            return
        kind = json.loads(held[key])["mediaType"] if what == "manifests" else "application/octet-stream"
        h.send(200, held[key], Content_Type=kind)

    def end(self):
        self.server.shutdown()
