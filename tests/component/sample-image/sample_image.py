"""The sample image: each path of its server, and an archive whose digests all hold.

usage: sample_image.py ECHO_SERVER ARCHIVE BUILD_IMAGE"""

import base64
import gzip
import hashlib
import http.client
import json
import os
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import unittest

SERVER, ARCHIVE, BUILD_IMAGE = sys.argv[1:4]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server(unittest.TestCase):
    def setUp(self):
        for _ in range(5):  # somebody else may have taken the port since
            if self.begin():
                return
        self.fail("the server does not listen")

    def begin(self):
        self.port = free_port()
        self.process = subprocess.Popen([SERVER], env={"PORT": str(self.port), "GREETING": 'a "b"'},
                                        stdout=subprocess.DEVNULL)
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        for _ in range(500):
            if self.process.poll() is not None:
                return False
            try:
                self.connection.connect()
                return True
            except OSError:
                time.sleep(0.02)
        return False

    def tearDown(self):
        self.connection.close()
        self.process.terminate()
        self.assertEqual(self.process.wait(20), getattr(self, "code", 0))

    def ask(self, method, path, body=None, headers=None, chunked=False):
        self.connection.request(method, path, body, headers or {}, encode_chunked=chunked)
        answer = self.connection.getresponse()
        return answer, answer.read()

    def test_echo(self):
        answer, body = self.ask("PUT", "/a/b?x=1&y=%20", b'text \xff "q"\n', {"X-One": "1", "x-two": "2"})
        echo = json.loads(body)
        self.assertEqual((answer.status, echo["method"], echo["path"], echo["query"]), (200, "PUT", "/a/b", "x=1&y=%20"))
        self.assertEqual(echo["body"], 'text \xff "q"\n')
        self.assertIn(["X-One", "1"], echo["headers"])
        self.assertIn(["x-two", "2"], echo["headers"])

    def test_keep_alive_and_count(self):
        self.assertEqual([int(self.ask("GET", "/count")[1]) for _ in range(3)], [1, 2, 3])
        self.assertEqual(json.loads(self.ask("GET", "/")[1])["count"], 3)

    def test_run(self):
        answer, body = self.ask("POST", "/run", b"echo out; echo err >&2; exit 3")
        self.assertEqual((answer.headers["X-Exit-Code"], body), ("3", b"out\nerr\n"))
        answer, body = self.ask("POST", "/run", b"kill -9 $$")
        self.assertEqual(answer.headers["X-Exit-Code"], "137")

    def test_bytes_and_upload(self):
        self.assertEqual(len(self.ask("GET", "/bytes?n=1000001")[1]), 1000001)
        answer, body = self.ask("GET", "/bytes?n=50000&chunked=1")
        self.assertEqual((answer.headers["Transfer-Encoding"], len(body)), ("chunked", 50000))
        plain = json.loads(self.ask("POST", "/upload", b"x" * 3000000)[1])
        pieces = [b"x" * 1000] * 3000
        chunked = json.loads(self.ask("POST", "/upload", iter(pieces), {"Transfer-Encoding": "chunked"}, True)[1])
        self.assertEqual(plain, chunked)
        self.assertEqual(plain["bytes"], 3000000)
        self.assertEqual(self.ask("GET", "/status?code=418")[0].status, 418)

    def test_events_and_slow(self):
        answer, body = self.ask("GET", "/sse?n=3&ms=5")
        self.assertEqual((answer.headers["Content-Type"], body.count(b"data: event")), ("text/event-stream", 3))
        self.assertEqual(self.ask("GET", "/slow?ms=10")[1], b"slept 10 ms\n")

    def test_environment(self):
        self.assertEqual(json.loads(self.ask("GET", "/env")[1])["GREETING"], 'a "b"')

    def test_expect_continue(self):
        with socket.create_connection(("127.0.0.1", self.port), 20) as s:
            s.sendall(b"POST /upload HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
            self.assertEqual(s.recv(100), b"HTTP/1.1 100 Continue\r\n\r\n")
            s.sendall(b"abc")
            self.assertIn(b'"bytes":3', s.recv(1000))

    def test_bad_requests(self):
        for head, status in ((b"nonsense\r\n\r\n", b"400"), (b"GET / HTTP/1.1\r\nbad\r\n\r\n", b"400"),
                             (b"GET / HTTP/1.1\r\nA: " + b"a" * 65600, b"431")):
            with socket.create_connection(("127.0.0.1", self.port), 20) as s:
                s.sendall(head)
                self.assertEqual(s.recv(100)[9:12], status)

    def test_exit(self):
        self.assertEqual(self.ask("POST", "/exit?code=7")[1], b"exit 7\n")
        self.code = 7
        self.process.wait(20)

    def test_websocket(self):
        key = base64.b64encode(bytes(range(16))).decode()
        wanted = base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest())
        with socket.create_connection(("127.0.0.1", self.port), 20) as s:
            s.sendall(f"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode())
            f = s.makefile("rb")
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += f.readline()
            self.assertIn(b"Sec-WebSocket-Accept: " + wanted + b"\r\n", head)
            for size in (5, 300, 70000):
                mask, payload = b"\1\2\3\4", bytes(i & 255 for i in range(size))
                width = bytes([0x80 | size]) if size < 126 else bytes([0x80 | 126]) + size.to_bytes(2, "big") \
                    if size < 65536 else bytes([0x80 | 127]) + size.to_bytes(8, "big")
                s.sendall(b"\x82" + width + mask + bytes(b ^ mask[i & 3] for i, b in enumerate(payload)))
                head = f.read(2 if size < 126 else 4 if size < 65536 else 10)
                self.assertEqual((head[0], int.from_bytes(head[2:], "big") or head[1]), (0x82, size))
                self.assertEqual(f.read(size), payload)
            s.sendall(b"\x88\x80\0\0\0\0")
            self.assertEqual(f.read(2), b"\x88\x00")


class Image(unittest.TestCase):
    def test_archive(self):
        with tarfile.open(ARCHIVE) as tar:
            files = {m.name.removeprefix("./"): tar.extractfile(m).read() for m in tar if m.isfile()}

        def blob(descriptor):
            data = files["blobs/sha256/" + descriptor["digest"].removeprefix("sha256:")]
            self.assertEqual("sha256:" + hashlib.sha256(data).hexdigest(), descriptor["digest"])
            self.assertEqual(len(data), descriptor["size"])
            return data

        self.assertEqual(json.loads(files["oci-layout"]), {"imageLayoutVersion": "1.0.0"})
        manifest = json.loads(blob(json.loads(files["index.json"])["manifests"][0]))
        config = json.loads(blob(manifest["config"]))
        layer = gzip.decompress(blob(manifest["layers"][0]))
        self.assertEqual(config["rootfs"]["diff_ids"], ["sha256:" + hashlib.sha256(layer).hexdigest()])
        self.assertEqual(config["config"]["Entrypoint"], ["/echo-server"])
        self.assertEqual(config["config"]["ExposedPorts"], {"80/tcp": {}})

    def test_reproducible_and_versions(self):
        with tempfile.TemporaryDirectory(prefix="berth-test.") as folder:
            def build(name, *more):
                out = os.path.join(folder, name)
                subprocess.run([BUILD_IMAGE, "--server", SERVER, "--out", out, *more], check=True,
                               stdout=subprocess.DEVNULL)
                with open(out, "rb") as f:
                    return f.read()
            first, again = build("a"), build("b")
            self.assertEqual(first, again)
            self.assertNotEqual(first, build("c", "--tag", "berth-sample:2", "--env", "VERSION=2"))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
