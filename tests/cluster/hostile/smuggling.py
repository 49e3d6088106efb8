"""Requests that two parsers may read differently, through the node that owns a session, through another (the hop), over TLS, and as
another node at the port that nodes use. Each is refused with its connection, or arrives in one plain form: the server in the sandbox
tells what it was sent, byte for byte."""
import socket
import sys
import threading
import time

import harness as h
from websocket import WebSocket
from wire import Cut, Wire, as_node, start_beside_evil

cluster = h.Cluster(3, settings=["silence_ms=2000"], name="smuggling")
ID = "user-0001"
HOST = "Host: x\r\n"
CHUNKED = "Transfer-Encoding: chunked\r\n"
state = {}
marks = iter(range(1, 10000))

# Whole heads: method, version, Host lines, fields; what is refused, with which status.
HEADS = [
    ("length beside chunked", {"fields": "Content-Length: 5\r\n" + CHUNKED}, 400),
    ("chunked beside length", {"fields": CHUNKED + "Content-Length: 5\r\n"}, 400),
    ("length twice", {"fields": "Content-Length: 5\r\nContent-Length: 5\r\n"}, 400),
    ("two lengths", {"fields": "Content-Length: 0\r\nContent-Length: 5\r\n"}, 400),
    ("two lengths, one named away", {"fields": "Connection: Content-Length\r\nContent-Length: 0\r\nContent-Length: 5\r\n"}, 400),
    *[(f"length {v!r}", {"fields": f"Content-Length: {v}\r\n"}, 400) for v in (
        "5, 5", "+5", "-5", "5 5", "0x5", "5;", "", "5.0", "1e1", "\"5\"", "9" * 19, "18446744073709551621")],
    ("length before a colon's space", {"fields": "Content-Length : 5\r\n"}, 400),
    *[(f"encoding {v!r}", {"fields": f"Transfer-Encoding: {v}\r\n"}, s) for v, s in (
        ("xchunked", 501), ("chunkedx", 501), ("identity", 501), ("chunked, identity", 501), ("identity, chunked", 501),
        ("gzip, chunked", 501), ("chunked, chunked", 501), (",chunked", 501), ("chunked,", 501), ("chunked;q=1", 501),
        ("\"chunked\"", 501), ("", 501), ("chunk ed", 501), ("\x0bchunked", 400), ("chunked\x00", 400), ("\x00chunked", 400),
        ("chunked\x7f", 400), ("\xa0chunked", 501), ("chunked\n", 400), ("chunked\r\n ", 400), ("\r\n chunked", 400))],
    ("encoding twice", {"fields": CHUNKED + CHUNKED}, 501),
    ("encoding twice, other case", {"fields": CHUNKED + "transfer-encoding: identity\r\n"}, 501),
    ("encoding and a space", {"fields": "Transfer-Encoding : chunked\r\n"}, 400),
    ("encoding and a tab", {"fields": "Transfer-Encoding\t: chunked\r\n"}, 400),
    ("encoding folded", {"fields": "X: y\r\n " + CHUNKED}, 400),
    ("encoding, its colon folded", {"fields": "Transfer-Encoding\r\n : chunked\r\n"}, 400),
    ("encoding behind LF", {"fields": "X: y\n" + CHUNKED}, 400),
    ("encoding behind CR", {"fields": "X: y\r" + CHUNKED}, 400),
    ("encoding behind NUL", {"fields": "X: y\0\r\n" + CHUNKED}, 400),
    ("encoding on 1.0", {"version": "1.0", "fields": CHUNKED}, 400),
    ("encoding on 1.0, kept", {"version": "1.0", "fields": "Connection: keep-alive\r\n" + CHUNKED}, 400),
    ("a head's end of LF", {"fields": "Content-Length: 5\r\n\n"}, 400),
    ("a head's end of CR", {"fields": "Content-Length: 5\r\n\rX"}, 400),
    ("a folded field", {"fields": "X: y\r\n\tz\r\n"}, 400),
    ("a field without a name", {"fields": ": y\r\n"}, 400),
    ("a field without a colon", {"fields": "nothing\r\n"}, 400),
    ("a control in a name", {"fields": "X\x01: y\r\n"}, 400),
    ("a control in a value", {"fields": "X: \x01\r\n"}, 400),
    ("101 fields", {"fields": "X: y\r\n" * 100}, 431),
    ("no host", {"host": ""}, 400),
    ("host twice", {"host": HOST * 2}, 400),
    ("two hosts", {"host": HOST + "host: y\r\n"}, 400),
    *[(f"host {v!r}", {"host": f"Host: {v}\r\n"}, 400) for v in ("", "a b", "a, b", "u@a", "a/b", "a\tb", "a\\b")],
    ("version 1.2", {"version": "1.2"}, 505),
    ("version 2.0", {"version": "2.0"}, 505),
    ("version 1.10", {"version": "1.10"}, 400),
    ("a space behind the version", {"version": "1.1 "}, 400),
    ("a method with a tab", {"method": "GET\t"}, 400),
    ("a method with a colon", {"method": "G:T"}, 400),
    ("connect", {"method": "CONNECT"}, 501),
    ("expect tea", {"fields": "Expect: tea\r\n"}, 417),
    ("expect twice", {"fields": "Expect: 100-continue\r\nExpect: 100-continue\r\n"}, 417),
    ("expect a list", {"fields": "Expect: 100-continue, 100-continue\r\n"}, 417),
    ("two tokens", {"fields": "Authorization: Bearer x\r\n"}, 400),
    ("upgrade twice", {"fields": "Connection: upgrade\r\nUpgrade: a\r\nUpgrade: b\r\n"}, 400),
    ("a long Connection", {"fields": "Connection: " + ",".join(f"x{i}" for i in range(17)) + "\r\n"}, 400),
]
# Chunked bodies that are refused at some byte; behind each a request that must not be one.
BODIES = ["3 \r\nabc\r\n0\r\n\r\n", " 3\r\nabc\r\n0\r\n\r\n", "3\nabc\r\n0\r\n\r\n", "3\r\nabc\n0\r\n\r\n", "3\r\nabcX\r\n0\r\n\r\n",
          "3\r\nabc0\r\n\r\n", "0x3\r\nabc\r\n0\r\n\r\n", "+3\r\nabc\r\n0\r\n\r\n", "-1\r\nabc\r\n0\r\n\r\n", "\r\n3\r\nabc\r\n0\r\n\r\n",
          "10000000000000003\r\nabc\r\n0\r\n\r\n", "ffffffffffffffff\r\nabc\r\n0\r\n\r\n", "0000000000000003\r\nabc\r\n0\r\n\r\n",
          "3;a\nb\r\nabc\r\n0\r\n\r\n", "3;a\rb\r\nabc\r\n0\r\n\r\n", "3;\0\r\nabc\r\n0\r\n\r\n", "3;" + "a" * 5000 + "\r\nabc\r\n0\r\n\r\n",
          "0\r\nnothing\r\n\r\n", "0\r\nX : y\r\n\r\n", "0\r\n X: y\r\n\r\n", "0\r\nX: y\n\r\n", "0\r\n\n\r\n", "0\n\r\n",
          "0\r\nX: " + "a" * 9000 + "\r\n\r\n"]
WAYS = []


def smuggled():
    """A body by its length of 5 and by its chunks; then a request, for whoever framed it by either."""
    return "0\r\n\r\n" + state["evil"].head("/smuggled", ID, host=HOST)


def nothing_smuggled():
    for c in state["witness"].connections():
        assert "/smuggled" not in c["sent"] and "/refused" not in c["sent"], c


def test_start():
    start_beside_evil(cluster, state, ID, good={"ready": 1, "max_sessions": 2})
    assert state["good"].ask(1, "/count", ID).status == 200
    owner, other = state["nodes"]
    WAYS.extend([("the owner", lambda: state["evil"].wire(owner)), ("another node", lambda: state["evil"].wire(other)),
                 ("TLS", lambda: state["evil"].wire(other, tls=True)),
                 ("a node's port", lambda: Wire(cluster.port(owner, "forward"), as_node(cluster, other)))])


def refused(name, payload, status):
    for way, connect in WAYS[:3] if status == 431 else WAYS:  # nodes may send a little more
        with connect() as w:
            try:
                reply = w.send(payload).answer()
                assert reply.status == status, f"{reply.status} instead of {status}: {reply.body!r}"
                assert reply.all("connection") == ["close"], reply
                w.closed()
            except (AssertionError, Cut, TimeoutError) as e:
                raise AssertionError(f"{name}, by {way}: {e!r}") from e


def test_heads_that_are_refused():
    for name, how, status in HEADS:
        head = state["evil"].head("/refused", ID, **{"method": "POST", **how})
        refused(name, head + smuggled(), status)
    for name, target in (("another host", "http://y/refused"), ("no path", "http://x"), ("no host", "http:///refused"),
                         ("a scheme", "ftp://x/refused"), ("a fragment", "/refused#x"), ("an asterisk", "*"), ("a space", "/refused x"),
                         ("a byte", "/refused\xff"), ("a control", "/refused\x01"), ("two spaces", " /refused")):
        refused(name, f"GET {target} HTTP/1.1\r\n{HOST}\r\n" + smuggled(), 400)
    refused("no version", "GET /refused\r\n" + smuggled(), 400)
    refused("LF alone", f"GET /refused HTTP/1.1\n{HOST}\r\n" + smuggled(), 400)
    refused("a long target", f"GET /{'a' * 8192} HTTP/1.1\r\n{HOST}\r\n" + smuggled(), 414)
    refused("a long head", state["evil"].head("/refused", ID, fields=f"X: {'a' * 32768}\r\n"), 431)
    nothing_smuggled()


def test_bodies_that_are_refused():
    for body in BODIES:
        for way, connect in WAYS[:3]:
            path = f"/chunks?mark={next(marks)}."
            with connect() as w:
                reply = w.send(state["evil"].head(path, ID, "POST", fields=CHUNKED) + body + state["evil"].head("/smuggled", ID)).answer()
                assert reply.status == 400 and b"chunked body" in reply.body, (body, way, reply)
                assert reply.all("connection") == ["close"] and w.closed(), (body, way)
            h.wait_until("its connection ends", 5, lambda path=path: not [
                c for c in state["witness"].connections() if path in c["sent"] and c["end"] == "open"])
    for c in state["witness"].connections():
        assert "/smuggled" not in c["sent"] and "X: y" not in c["sent"], c


def arrives(head, body=""):
    """What the sandbox is sent when this is asked, through each way; the answers are whole and the connections go on."""
    for way, connect in WAYS[:3]:
        path = f"/kept?mark={next(marks)}."
        with connect() as w:
            reply = w.send(head(path) + body).answer()
            assert reply.status == 200 and reply.body == b"ok", (way, reply)
            reply = w.send(state["evil"].head("/fine", ID)).answer()
            assert reply.status == 200 and reply.body == b"ok", (way, reply)
        sent = state["witness"].sent(path)
        assert len(sent) == 1, sent
        text = sent[0]["sent"]
        start = text.rindex("\r\n\r\n", 0, text.index(path)) + 4 if "\r\n\r\n" in text[:text.index(path)] else 0
        head_text, rest = text[start:].split("\r\n\r\n", 1)
        yield way, head_text.split("\r\n"), rest


def names_of(lines):
    return [line.split(":", 1)[0].lower() for line in lines[1:]]


def test_bodies_arrive_in_one_form():
    def head(path):
        return state["evil"].head(path, ID, "POST", fields="tRaNsFeR-eNcOdInG: \t ChUnKeD \r\nTrailer: X-Trailer\r\nTE: trailers\r\n")
    body = "3;ext=\"a;b\"\r\nabc\r\n000000000000002\r\nde\r\n0;last\r\nX-Trailer: 1\r\nContent-Length: 99\r\n\r\n"
    for way, lines, rest in arrives(head, body):
        names = names_of(lines)
        assert lines.count("Transfer-Encoding: chunked") == 1 and names.count("transfer-encoding") == 1, (way, lines)
        assert not {"content-length", "trailer", "te", "x-trailer"} & set(names), (way, lines)
        sizes = rest.split("GET ")[0]
        assert "ext" not in sizes and "X-Trailer" not in sizes and sizes.endswith("0\r\n\r\n"), (way, sizes)
        assert "".join(sizes.split("\r\n")[1:-3:2]) == "abcde", (way, sizes)
    for way, lines, rest in arrives(lambda path: state["evil"].head(path, ID, "POST", fields="content-length: 0005\r\n"), "hello"):
        assert lines.count("Content-Length: 5") == 1 and names_of(lines).count("content-length") == 1, (way, lines)
        assert rest.startswith("hello") and rest[5:9] in ("", "GET "), (way, rest)


def test_fields_that_belong_to_one_hop():
    named = ["Host", "Content-Length", "Transfer-Encoding", "Berth-Hop", "Authorization", "X-Named", "traceparent", "close-not"]
    fields = ("Connection: " + ", ".join(named) + "\r\nConnection: keep-alive\r\nX-Named: 1\r\nX-Passes: yes\r\nContent-Length: 5\r\n"
              "Berth-Hop: 1;2;3;4;5\r\nBerth-Hop-Result: dead\r\nBERTH-Other: 1\r\nKeep-Alive: 1\r\nProxy-Connection: keep-alive\r\n"
              "Proxy-Authorization: Basic x\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Proto: gopher\r\n"
              "Forwarded: for=6.6.6.6\r\ntraceparent: 00-zz\r\n")
    for way, lines, rest in arrives(lambda path: state["evil"].head(path, ID, "POST", fields=fields), "hello"):
        names = names_of(lines)
        for once in ("host", "content-length", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "traceparent", "x-passes"):
            assert names.count(once) == 1, (way, once, lines)
        for never in ("connection", "x-named", "berth-hop", "berth-hop-result", "berth-other", "keep-alive", "proxy-connection",
                      "proxy-authorization", "authorization", "forwarded"):
            assert never not in names, (way, never, lines)
        text = "\r\n".join(lines)
        assert "6.6.6.6" not in text and "evil" not in text.split("identifier", 1)[1] and "gopher" not in text, (way, lines)
        assert "Host: x" in lines and "Content-Length: 5" in lines and rest.startswith("hello"), (way, lines, rest)


def test_absolute_targets_and_old_requests():
    path = f"{cluster.pool_path('evil')}/kept?mark=absolute&identifier={ID}"
    for way, connect in WAYS[:3]:
        with connect() as w:
            reply = w.send(f"GET http://X{path} HTTP/1.1\r\n{HOST}Authorization: Bearer {state['evil'].token}\r\n\r\n").answer()
            assert reply.status == 200, (way, reply)
        with connect() as w:
            w.send(state["evil"].head("/kept?mark=old", ID, version="1.0", host="", fields="Expect: 100-continue\r\n"))
            reply = w.answer()
            assert reply.status == 200 and reply.all("connection") == ["close"] and w.closed(), (way, reply)
    for c in state["witness"].sent("mark=absolute"):
        assert "GET /kept?mark=absolute" in c["sent"] and "http://X" not in c["sent"], c
    for c in state["witness"].sent("mark=old"):
        assert "Expect" not in c["sent"] and "HTTP/1.0" not in c["sent"], c


def test_an_identifier_has_one_form():
    for query in (f"identifier={ID}&identifier={ID}", f"identifier={ID}&identifier=user-0002", f"identifier={ID}&%69dentifier=user-0002",
                  f"IDENTIFIER={ID}&%49%44entifier=user-0002", f"%69%64%65%6e%74%69%66%69%65%72={ID}&identifier=user-0002",
                  "identifier=%zz", "identifier=user%00", "identifier=user%0d%0aX:%20y", "identifier="):
        for way, connect in WAYS[:3]:
            with connect() as w:
                head = (f"GET {cluster.pool_path('evil')}/refused?{query} HTTP/1.1\r\n{HOST}"
                        f"Authorization: Bearer {state['evil'].token}\r\n\r\n")
                reply = w.send(head).answer()
                assert reply.status == 400 and b"identifier" in reply.body, (query, way, reply)
    assert len(cluster.sessions("evil")) == 1
    nothing_smuggled()


def test_a_byte_at_a_time():
    for way, connect in WAYS[:3]:
        path = f"/kept?mark={next(marks)}."
        with connect() as w:
            for byte in state["evil"].head(path, ID, "POST", fields=CHUNKED) + "3;x\r\nabc\r\n0\r\nT: u\r\n\r\n":
                w.send(byte)
            reply = w.answer()
            assert reply.status == 200 and reply.body == b"ok", (way, reply)
        assert len(state["witness"].sent(path)) == 1


def test_pipelined():
    for way, connect in WAYS[:3]:
        with connect() as w:
            w.send("".join(state["good"].head("/status?code=" + str(200 + i), ID) for i in range(30)))
            got = [w.answer().status for _ in range(30)]
            assert got == [200 + i if i not in (4,) else 204 for i in range(30)], (way, got)


def test_pipelining_is_bounded():
    for way, connect in WAYS[:2]:
        with connect() as w:
            w.send(state["evil"].head("/never-answer", ID))
            w.sock.setblocking(False)
            sent, more, until = 0, state["evil"].head("/fine", ID).encode() * 100, time.monotonic() + 1
            while time.monotonic() < until:
                try:
                    sent += w.sock.send(more)
                except BlockingIOError:
                    time.sleep(0.01)
            assert 64 << 10 < sent < 24 << 20, (way, sent)  # the kernel's buffers are most of it
            w.sock.settimeout(20)
            assert w.answer().status == 504, way


def test_continue():
    for way, node in zip(("the owner", "another"), state["nodes"]):
        for expect in ("100-continue", "100-Continue"):
            with state["good"].wire(node) as w:
                w.send(state["good"].head("/upload", ID, "POST", fields=f"Content-Length: 5\r\nExpect: {expect}\r\n"))
                assert w._until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue", way
                reply = w.send("hello").answer()
                assert reply.status == 200 and b'"bytes":5' in reply.body and not reply.interim, (way, reply)
                assert w.send(state["good"].head("/count", ID)).answer().status == 200
        with state["good"].wire(node) as w:  # refused without 100: the body may come or not, so the connection ends
            w.send(state["good"].head("/status?code=403", ID, "POST", fields="Content-Length: 5\r\nExpect: 100-continue\r\n"))
            reply = w.answer()
            assert reply.status == 403 and reply.all("connection") == ["close"], (way, reply)
            w.send("GET /").closed()


def test_upgrades():
    fields = "Connection: Upgrade\r\nUpgrade: x\r\nContent-Length: 10\r\n"
    for way, connect in WAYS[:3]:
        path = f"/kept?mark={next(marks)}."
        with connect() as w:  # not taken: the body is the body, and what follows a request
            w.send(state["evil"].head(path, ID, "POST", fields=fields) + "0123456789" + state["evil"].head("/fine", ID))
            assert [w.answer().status for _ in range(2)] == [200, 200], way
        sent = state["witness"].sent(path)[0]["sent"].split(path)[1]
        assert "\r\nUpgrade: x\r\n" in sent and "\r\nContent-Length: 10\r\n" in sent and "\r\n\r\n0123456789" in sent, (way, sent)
        path = f"/switch-early?mark={next(marks)}."
        with connect() as w:  # taken before the body is there
            reply = w.send(state["evil"].head(path, ID, "POST", fields=fields) + "01234").answer()
            assert reply.status == 502 and b"evil" not in reply.raw.encode() + reply.body and w.closed(), (way, reply)
        assert "01234" not in state["witness"].ended(path)["sent"].split("\r\n\r\n")[-1][5:]


def test_half_closed():
    for node in state["nodes"]:
        s = WebSocket(cluster, "good", ID, node=node)
        s.send("last words")
        s.sock.shutdown(socket.SHUT_WR)
        assert s.receive() == "last words" and s.ended_within(10)
        s.close()
        path = f"/never-answer?mark={next(marks)}."
        with state["evil"].wire(node) as w:  # within a request it is a client that left
            w.send(state["evil"].head(path, ID, "POST", fields="Content-Length: 5\r\n") + "he")
            state["witness"].sent(path)
            w.sock.shutdown(socket.SHUT_WR)
            w.closed()
        assert state["witness"].ended(path)["sent"].endswith("\r\n\r\nhe")
    assert state["evil"].ask(1, "/fine", ID).status == 200


def test_a_node_that_is_not_what_it_says():
    """A hop's field is taken from nodes alone, whole or not at all."""
    owner, other = state["nodes"]
    for hop, status in (("", 400), ("Berth-Hop: 1;2;3;4\r\n", 400), ("Berth-Hop: 1;2;3;4;5;6\r\n", 400), ("Berth-Hop: 1;2;3;4;x\r\n", 400),
                        ("Berth-Hop: 1;2;3;4;-5\r\n", 400), ("Berth-Hop: 1;2;3;4;5\r\n", 421)):
        with Wire(cluster.port(owner, "forward"), as_node(cluster, other)) as w:
            reply = w.send(f"GET /refused?identifier={ID} HTTP/1.1\r\n{HOST}{hop}\r\n").answer()
            assert reply.status == status, (hop, reply)
    nothing_smuggled()


def test_all_at_once():
    """Hostile and plain requests side by side: each plain one gets its own answer."""
    wrong = []

    def plain(i):
        with state["good"].wire(state["nodes"][i % 2]) as w:
            for k in range(100):
                code = 200 + (i * 7 + k) % 90
                status = w.send(state["good"].head(f"/status?code={code}", ID)).answer(code in (204, 304)).status
                if status != code:
                    wrong.append((code, status))
    threads = [threading.Thread(target=plain, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for name, how, status in HEADS[::4]:
        refused(name, state["evil"].head("/refused", ID, **{"method": "POST", **how}) + smuggled(), status)
    for t in threads:
        t.join()
    assert not wrong, wrong[:5]
    nothing_smuggled()


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    h.run([test_start, test_heads_that_are_refused, test_bodies_that_are_refused, test_bodies_arrive_in_one_form,
           test_fields_that_belong_to_one_hop, test_absolute_targets_and_old_requests, test_an_identifier_has_one_form,
           test_a_byte_at_a_time, test_pipelined, test_pipelining_is_bounded, test_continue, test_upgrades, test_half_closed,
           test_a_node_that_is_not_what_it_says, test_all_at_once], cluster)
