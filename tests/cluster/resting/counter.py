"""Load for the tests of this folder."""
import threading
import time


class Counter(threading.Thread):
    """One request after the other of one identifier: ask(identifier, node), and what it saw."""

    def __init__(self, ask, identifier, node):
        super().__init__(daemon=True)
        self.ask, self.identifier, self.node = ask, identifier, node
        self.answers, self.slowest, self.stop = [], 0, False

    def run(self):
        while not self.stop:
            began = time.monotonic()
            a = self.ask(self.identifier, self.node)
            self.slowest = max(self.slowest, time.monotonic() - began)
            self.answers.append((a.status, a.body))
            time.sleep(0.01)
