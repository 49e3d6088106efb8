"""A WebSocket client of a few lines (RFC 6455): masked text frames out, unmasked ones in."""
import base64
import os
import socket


class Ended(Exception):
    """The other side closed the connection."""


class WebSocket:
    def __init__(self, cluster, pool, identifier, path="/ws", node=1, timeout=20):
        self.sock = socket.create_connection(("127.0.0.1", cluster.port(node)), timeout=timeout)
        key = base64.b64encode(os.urandom(16)).decode()
        self.sock.sendall((f"GET {cluster.pool_path(pool)}{path}?identifier={identifier} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                           f"Authorization: Bearer {cluster.token()}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                           f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n").encode())
        head = b""
        while b"\r\n\r\n" not in head:
            head += self._some()
        assert head.startswith(b"HTTP/1.1 101 "), head
        self.rest = head.split(b"\r\n\r\n", 1)[1]

    def _some(self):
        try:
            more = self.sock.recv(65536)
        except ConnectionError as e:
            raise Ended from e
        if not more:
            raise Ended
        return more

    def _take(self, n):
        while len(self.rest) < n:
            self.rest += self._some()
        taken, self.rest = self.rest[:n], self.rest[n:]
        return taken

    def send(self, text):
        """At most 125 bytes."""
        mask = os.urandom(4)
        data = text.encode()
        try:
            self.sock.sendall(bytes([0x81, 0x80 | len(data)]) + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(data)))
        except ConnectionError as e:
            raise Ended from e

    def receive(self):
        head = self._take(2)
        return self._take(head[1] & 0x7f).decode()

    def echo(self, text):
        self.send(text)
        got = self.receive()
        assert got == text, (got, text)

    def ended_within(self, seconds):
        """Whether the other side ends it by then."""
        self.sock.settimeout(seconds)
        try:
            while True:
                self._some()
        except Ended:
            return True
        except TimeoutError:
            return False

    def close(self):
        self.sock.close()
