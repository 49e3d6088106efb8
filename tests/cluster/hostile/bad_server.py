"""A server in a sandbox that does what no server should, one way after the other, through the node that owns its session and through
another. Each time: 502, or the answer without what does not pass, or an answer that is visibly cut, within a bound; that connection into
the sandbox is ended and never used again; the client's connection goes on or ends properly; and the sessions of others answer meanwhile,
without one error."""
import contextlib
import sys
import threading
import time

import harness as h
from wire import Cut, start_beside_evil, timed

SILENCE_MS = 1500
BOUND_S = 10
cluster = h.Cluster(3, settings=[f"silence_ms={SILENCE_MS}"], name="hostile")
REFUSED = ["endless-head", "endless-line", "flood", "hints-17", "huge-field", "fields-101", "both", "lengths", "length-list",
           "length-sign", "gzip", "old-chunked", "bare-lf", "bare-cr", "folded", "space-colon", "control", "garbage", "version-2",
           "status", "unasked", "unasked-bare", "length-on-hint", "cut-head", "cut-at-once"]
CUT = ["cut", "cut-chunk", "reset-body", "long-length"]
EITHER = ["endless-trailers", "endless-extension", "chunk-size", "chunk-huge", "chunk-end"]  # as its bytes happen to come
SURPLUS = ["surplus", "short-length", "surplus-late", "surplus-204"]
HONEST = ["hints-16", "large-field", "fields-100", "trailers", "forged"]
state = {}
marks = iter(range(1, 10000))


class Others:
    """Two sessions of another pool, asked all the time over kept connections at both nodes."""

    def __init__(self, talker, nodes):
        self.talker, self.errors, self.times, self.over = talker, [], [], threading.Event()
        self.threads = [threading.Thread(target=self._ask, args=(i, node)) for i, node in enumerate(nodes * 2)]
        for t in self.threads:
            t.start()

    def _ask(self, i, node):
        with self.talker.wire(node) as w:
            while not self.over.is_set():
                began = time.monotonic()
                try:
                    reply = w.send(self.talker.head("/count", f"other-{i % 2}")).answer()
                    if reply.status != 200:
                        self.errors.append(reply)
                except Exception as e:
                    self.errors.append(e)
                    return
                self.times.append(time.monotonic() - began)
                time.sleep(0.002)

    def end(self):
        with contextlib.suppress(AssertionError):
            h.wait_until("others are asked", 10, lambda: len(self.times) > 100 or self.errors)
        self.over.set()
        for t in self.threads:
            t.join()
        times = sorted(self.times)
        print(f"        others: {len(times)} requests, {len(self.errors)} errors, p50 {times[len(times) // 2] * 1000:.1f} ms, "
              f"slowest {times[-1] * 1000:.0f} ms", flush=True)
        assert not self.errors, self.errors[:3]
        assert len(times) > 100, len(times)


@contextlib.contextmanager
def others_answer():
    others = Others(state["good"], state["nodes"])
    try:
        yield
    except BaseException:
        others.over.set()
        raise
    others.end()


def each_way(names, check):
    for node in state["nodes"]:
        for name in names:
            path = f"/{name}?mark={next(marks)}."
            try:
                _, seconds = timed(lambda node=node, name=name, path=path: check(node, name, path))
                assert seconds < BOUND_S, f"{seconds:.1f} s"
            except Exception as e:
                raise AssertionError(f"{name} through node {node} (nodes {state['nodes']}, the owner first): {e!r}") from e


def post(path, fields="Content-Length: 0\r\n", body=""):
    return state["evil"].head(path, "evil-1", "POST", fields=fields) + body


def ended_unused(path):
    """The connection that was sent this was ended, and nothing was sent on it behind."""
    connection = state["witness"].ended(path)
    behind = connection["sent"].split(path)[1]
    assert behind.count("\r\n\r\n") == 1 and behind.endswith("\r\n\r\n"), connection


def still_served(w):
    reply = w.send(state["evil"].head("/fine", "evil-1")).answer()
    assert reply.status == 200 and reply.body == b"ok", reply


def test_start():
    start_beside_evil(cluster, state, "evil-1", good={"ready": 2, "max_sessions": 4})
    for i in range(2):
        assert state["good"].ask(1, "/count", f"other-{i}").status == 200


def refused(node, name, path):
    with state["evil"].wire(node) as w:
        reply = w.send(post(path)).answer()
        assert reply.status == 502 and len(reply.interim) <= 16 and b"BadGateway" in reply.body, reply
        assert not [k for k, _ in reply.headers if k.lower().startswith(("x-filler", "x-split", "upgrade", "berth-"))], reply
        still_served(w)
    ended_unused(path)


def test_answers_that_are_refused():
    with others_answer():
        each_way(REFUSED, refused)


def cut(node, name, path):
    with state["evil"].wire(node) as w:
        try:
            reply = w.send(post(path)).answer()
        except Cut:
            assert w.ended
        else:
            assert name in EITHER and reply.status == 502, reply
            still_served(w)
    ended_unused(path)


def test_answers_that_are_cut():
    with others_answer():
        each_way(CUT + EITHER, cut)


def surplus(node, name, path):
    with state["evil"].wire(node) as w:
        reply = w.send(post(path)).answer()
        assert (reply.status, reply.body) in ((200, b"ok"), (204, b"")), reply
        time.sleep(0.1 if name == "surplus-late" else 0)
        still_served(w)
        assert w.have == b"", w.have
    ended_unused(path)


def test_surplus_reaches_nobody():
    with others_answer():
        each_way(SURPLUS, surplus)


def honest(node, name, path):
    with state["evil"].wire(node) as w:
        reply = w.send(post(path)).answer()
        assert reply.status == 200 and reply.body == b"ok", reply
        assert len(reply.interim) == (16 if name == "hints-16" else 0), reply.interim
        names = [k.lower() for k, _ in reply.headers]
        assert not [n for n in names if n.startswith("berth-") or n in
                    ("x-named", "keep-alive", "proxy-connection", "upgrade", "trailer", "x-evil", "connection")], reply
        for ours in ("x-ms-session-guid", "x-ms-allocation-time", "x-ms-new-allocation"):
            assert names.count(ours) == 1 and reply.all(ours) != ["forged"], reply
        if name == "forged":
            assert reply.all("x-passes") == ["yes"], reply
        if name == "fields-100":
            assert names.count("x-field") == 99, reply
        still_served(w)


def test_what_is_large_or_forged_is_filtered():
    with others_answer():
        each_way(HONEST, honest)


def test_a_forged_hop_result_is_an_answer():
    for node in state["nodes"]:
        path = f"/forged-hop?mark={next(marks)}."
        with state["evil"].wire(node) as w:
            reply = w.send(post(path)).answer()
            assert reply.status == 421 and not reply.all("berth-hop-result"), reply
    assert len(cluster.sessions("evil")) == 1, "it did not make the gateway ask for another session"


def too_long(node, name, path):
    with state["evil"].wire(node) as w:
        reply, seconds = timed(lambda: w.send(post(path)).answer())
        assert reply.status == 504 and seconds < SILENCE_MS / 1000 + 3, (seconds, reply)
        still_served(w)
    ended_unused(path)


def test_no_answer():
    with others_answer():
        each_way(["never-answer", "drip"], too_long)


def test_a_body_that_is_never_read():
    size = 64 << 20
    for node in state["nodes"]:
        path = f"/never-read?mark={next(marks)}."
        with others_answer(), state["evil"].wire(node) as w:
            sender = threading.Thread(target=w.send, args=(post(path, f"Content-Length: {size}\r\n").encode() + bytes(size),))
            sender.start()
            reply, seconds = timed(w.answer)
            assert reply.status == 504 and seconds < BOUND_S + 10, (seconds, reply)
            assert reply.all("connection") == ["close"], reply
            w.sock.close()
            sender.join()
        state["witness"].ended(path)


def test_an_answer_without_end():
    """As long as the client takes it, it gets it, without what does not pass; once it leaves, so does the gateway."""
    for node in state["nodes"]:
        path = f"/endless-body?mark={next(marks)}."
        with state["evil"].wire(node) as w:
            w.send(post(path))
            while len(w.have) < 1 << 20:
                w._more()
            assert b"x=y" not in w.have and w.have.count(b"abcde") > 100000 // 2
        ended_unused(path)


def test_who_speaks_first():
    for node in state["nodes"]:
        for _ in range(3):
            assert state["evil"].ask(node, "/early?n=1", "evil-1").status == 200
            time.sleep(1.2)  # then a request that cannot be repeated takes no kept connection
            path = f"/first?mark={next(marks)}."
            with state["evil"].wire(node) as w:
                reply = w.send(post(path)).answer()
                assert reply.status == 502 or reply.all("x-early") == ["1"], reply
                time.sleep(0.3)  # where it came late enough to seem an answer, the true one is now one too many
                still_served(w)
            if reply.status == 200:
                ended_unused(path)


def test_nothing_is_left():
    """All sessions as before, the daemons the same, their memory too."""
    assert len(cluster.sessions("evil")) == 1 and len(cluster.sessions("good")) == 2
    for node in (1, 2, 3):
        log = cluster.log(node)
        assert "mark=" not in log and "evil-1" not in log
    report = state["witness"].connections()
    assert all(c["end"] != "open" for c in report if any(f"/{name}?" in c["sent"] for name in REFUSED + CUT + SURPLUS))


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    h.run([test_start, test_answers_that_are_refused, test_answers_that_are_cut, test_surplus_reaches_nobody,
           test_what_is_large_or_forged_is_filtered, test_a_forged_hop_result_is_an_answer, test_no_answer,
           test_a_body_that_is_never_read, test_an_answer_without_end, test_who_speaks_first, test_nothing_is_left], cluster)
