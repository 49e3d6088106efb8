"""A client of bytes: what is sent is sent as it stands, what comes back is cut into answers by one strict reading of it."""
import contextlib
import json
import socket
import ssl
import subprocess
import time

import harness


class Cut(Exception):
    """The connection ended within an answer, or before it."""


class Reply:
    def __init__(self, status, headers, body, raw, interim):
        self.status, self.headers, self.body, self.raw, self.interim = status, headers, body, raw, interim

    def all(self, name):
        return [v for k, v in self.headers if k.lower() == name]

    def __repr__(self):
        return f"{self.raw[:1500]!r}"


class Wire:
    def __init__(self, port, context=None, timeout=20):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context:
            self.sock = context.wrap_socket(self.sock)
        self.have = b""
        self.ended = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def send(self, data):
        """A refusal may close the connection before all was sent: what it said is still to be read."""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            self.sock.sendall(data.encode("latin1") if isinstance(data, str) else data)
        return self

    def _more(self):
        try:
            got = self.sock.recv(65536)
        except (ConnectionError, ssl.SSLError) as e:
            self.ended = True
            raise Cut(self.have) from e
        if not got:
            self.ended = True
            raise Cut(self.have)
        self.have += got

    def _until(self, mark):
        while mark not in self.have:
            self._more()
        found, self.have = self.have.split(mark, 1)
        return found

    def _take(self, n):
        while len(self.have) < n:
            self._more()
        found, self.have = self.have[:n], self.have[n:]
        return found

    def _chunked(self):
        body = b""
        while True:
            n = int(self._until(b"\r\n"), 16)
            body += self._take(n)
            assert self._take(2) == b"\r\n"
            if n == 0:
                return body

    def answer(self, head_only=False):
        """The next final answer, with the interim ones before it."""
        interim = []
        while True:
            head = self._until(b"\r\n\r\n").decode("latin1")
            assert head.startswith("HTTP/1.1 ") and "\n" not in head.replace("\r\n", ""), head
            status = int(head[9:12])
            headers = [tuple(line.split(": ", 1)) for line in head.split("\r\n")[1:]]
            if 100 <= status < 101 or 101 < status < 200:
                interim.append(status)
                continue
            reply = Reply(status, headers, b"", head, interim)
            lengths, encodings = reply.all("content-length"), reply.all("transfer-encoding")
            assert len(lengths) + len(encodings) <= 1, head
            if head_only or status in (101, 204, 304):
                return reply
            if encodings:
                assert encodings == ["chunked"], head
                reply.body = self._chunked()
            elif lengths:
                reply.body = self._take(int(lengths[0]))
            else:
                reply.body = self.rest()
            return reply

    def rest(self, seconds=20):
        """Everything until the other side ends the connection; an error when it does not."""
        self.sock.settimeout(seconds)
        with contextlib.suppress(Cut):
            while True:
                self._more()
        found, self.have = self.have, b""
        return found

    def closed(self, seconds=10):
        """The other side ended it, and said nothing more."""
        rest = self.rest(seconds)
        assert rest == b"", rest
        return True


class Talker:
    """Requests to one pool of a cluster, by bytes."""

    def __init__(self, cluster, pool):
        self.cluster, self.pool = cluster, pool
        self.token = cluster.token()

    def target(self, path, identifier):
        return f"{self.cluster.pool_path(self.pool)}{path}{'&' if '?' in path else '?'}identifier={identifier}"

    def head(self, path="/", identifier="user-1", method="GET", version="1.1", host="Host: x\r\n", fields=""):
        return (f"{method} {self.target(path, identifier)} HTTP/{version}\r\n{host}"
                f"Authorization: Bearer {self.token}\r\n{fields}\r\n")

    def wire(self, node, tls=False):
        if not tls:
            return Wire(self.cluster.port(node))
        context = ssl.create_default_context(cafile=str(self.cluster.dir / "ca.pem"))
        context.check_hostname = False
        return Wire(self.cluster.port(node, "https"), context)

    def ask(self, node, path="/", identifier="user-1", body="", **how):
        with self.wire(node) as w:
            return w.send(self.head(path, identifier, **how) + body).answer()


def as_node(cluster, node):
    """A TLS context that speaks as that node, which the forward ports of others take."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(str(cluster.node_dir(node) / "node.pem"), str(cluster.node_dir(node) / "node.key"))
    return context


def build_hostile_image(cluster, name="berth/hostile:1"):
    archive = str(cluster.dir / "hostile.tar")
    subprocess.run([str(harness.SOURCE / "tools/sample-image/build-image"), "--server",
                    str(harness.BUILD / "tools/sample-image/hostile-server"), "--out", archive, "--tag", "berth-hostile:1"],
                   check=True, capture_output=True)
    cluster.import_image(archive, name)


class Witness:
    """What the server in one session was sent."""

    def __init__(self, talker, identifier, node):
        self.talker, self.identifier, self.node = talker, identifier, node

    def connections(self):
        reply = self.talker.ask(self.node, "/report", self.identifier)
        assert reply.status == 200, reply
        return json.loads(reply.body)

    def forget(self):
        assert self.talker.ask(self.node, "/forget", self.identifier).status == 200

    def sent(self, mark, seconds=5):
        """The connections that were sent this text; waits for the first."""
        return harness.wait_until(f"{mark} arrives", seconds, lambda: [
            c for c in self.connections() if mark in c["sent"]])

    def ended(self, mark, seconds=10):
        """The one connection that was sent this text, once it ended."""
        def look():
            found = [c for c in self.connections() if mark in c["sent"]]
            assert len(found) <= 1, found
            return found[0] if found and found[0]["end"] != "open" else None
        return harness.wait_until(f"the connection of {mark} ends", seconds, look, 0.1)


def owner_of(cluster, pool, identifier):
    """The node that runs the session, and one that does not."""
    session = next(s for s in cluster.sessions(pool) if s["identifier"] == identifier)
    owner = int(session["node"]) if str(session["node"]).isdigit() else None
    assert owner in range(1, cluster.n + 1), session
    return owner, owner % cluster.n + 1


def start_beside_evil(cluster, state, identifier, good):
    """A pool of the sample image and one of the hostile server, each with a Talker; a session in the latter, with its nodes and a Witness."""
    cluster.start().import_image()
    build_hostile_image(cluster)
    assert cluster.put_pool("good", **good)["status"] == "Succeeded"
    assert cluster.put_pool("evil", ready=1, max_sessions=2, image="berth/hostile:1")["status"] == "Succeeded"
    state["good"], state["evil"] = Talker(cluster, "good"), Talker(cluster, "evil")
    assert state["evil"].ask(1, "/fine", identifier).body == b"ok"
    state["nodes"] = owner_of(cluster, "evil", identifier)
    state["witness"] = Witness(state["evil"], identifier, state["nodes"][0])


def timed(work):
    began = time.monotonic()
    result = work()
    return result, time.monotonic() - began
