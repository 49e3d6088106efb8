"""A cluster of one node that grows to three and five by `node join`, loses a voter for good under load, and gets another; its leader is
removed; a node that was removed comes back under another number. And those that must not join.
"""
import contextlib
import json
import os
import re
import signal
import socket
import ssl
import threading
import time

from harness import Answer, Cluster, run, wait_until

cluster = Cluster(nodes=1, settings=["cooldown_min=1", "lease_ms=3000", "lost_ms=5000"], name="joining", more=5).start()
timings = []


def voters(names, node=1, seconds=30):
    return wait_until(f"the voters are {names}", seconds,
                      lambda: sorted(n for n, role in cluster.roles(node).items() if role == "voter") == sorted(names))


def leader(node=1):
    return wait_until("there is a leader", 15, lambda: next((n for n, row in cluster.nodes(node).items() if row["leader"]), None))


def join_body(token, **changes):
    base = cluster.base + 50
    return {"token": token.split(".")[1], "csr": "x", "clientsCsr": "x", "name": "stranger", "raftAddress": f"127.0.0.1:{base}",
            "controlAddress": f"127.0.0.1:{base + 1}", "forwardAddress": f"127.0.0.1:{base + 2}",
            "apiAddress": f"https://127.0.0.1:{base + 4}", "version": "0", "clockMs": int(time.time() * 1000), "featureLevel": 1, **changes}


def post_join(body, tls=True):
    c = cluster.connection(tls=tls)
    c.request("POST", "/.berth/v1/join", json.dumps(body), {"Content-Type": "application/json"})
    r = c.getresponse()
    answer = Answer(r.status, {}, r.read())
    c.close()
    return answer


def refused(result, code, words):
    assert result.returncode == code, (result.returncode, result.stderr)
    assert words in result.stderr, result.stderr
    assert not (cluster.dir / "node6").exists()


def test_who_must_not_join():
    token = cluster.join_token()
    head, secret, pin, where = token.split(".", 3)
    other = "0" if secret[0] != "0" else "1"
    refused(cluster.join(6, f"{head}.{other}{secret[1:]}.{pin}.{where}", check=False), 4, "no such join token")
    other = "0" if pin[0] != "0" else "1"
    refused(cluster.join(6, f"{head}.{secret}.{other}{pin[1:]}.{where}", check=False), 4, "is not of the cluster that minted the token")
    refused(cluster.join(6, token[:50], check=False), 2, "no join token, or not the whole of it")
    refused(cluster.join(6, token, check=False, name="Node 6"), 1, "--name")
    refused(cluster.join(6, token, check=False, name="node1"), 1, "is there already")
    assert not any(n != "node1" for n in cluster.nodes())


def test_names_clocks_and_tls():
    token = cluster.join_token()
    for body, status, code, words in [
            (join_body(token, clockMs=int(time.time() * 1000) + 60000), 409, "ClockSkew", r"clock is (59|60)\d\d\d ms ahead of"),
            (join_body(token, clockMs=int(time.time() * 1000) - 5000), 409, "ClockSkew", r"clock is 5\d\d\d ms behind"),
            (join_body(token, name="node1"), 409, "NodeNameTaken", "node1"),
            (join_body(token, name="a b"), 400, "InvalidRequestContent", "name"),
            (join_body(token, controlAddress="example.test:1"), 400, "InvalidRequestContent", "controlAddress"),
            (join_body(token, featureLevel=0), 409, "VersionTooOld", "older"),
            (join_body(token, csr="x" * 9000), 400, "InvalidRequestContent", "csr")]:
        a = post_join(body)
        assert a.status == status and a.json()["error"]["code"] == code, (body["name"], a)
        assert re.search(words, a.json()["error"]["message"]), a
    assert post_join(join_body(token), tls=False).status == 403
    a = post_join(join_body("berth1." + "0" * 32 + ".x"))
    assert (a.status, a.json()["error"]["code"]) == (403, "JoinTokenUnknown"), a
    assert list(cluster.nodes()) == ["node1"]  # nothing of that used the token up, or made a node


def test_a_token_expires():
    token = cluster.join_token("--ttl", "1")
    time.sleep(2)
    refused(cluster.join(6, token, check=False), 4, "it expired")


def test_one_becomes_three():
    cluster.import_image()
    cluster.put_pool("pool", max_sessions=60, ready=6)
    first = cluster.session("pool", "before", "/instance").body
    token = cluster.join_token()
    began = time.monotonic()
    cluster.join(2, token)
    wait_until("node2 is a standby", 20, lambda: cluster.roles().get("node2") == "standby")
    stolen = cluster.join(6, token, check=False)  # the same token, from another machine
    refused(stolen, 4, "it was used already")
    cluster.join(3)
    voters(["node1", "node2", "node3"])
    timings.append(f"one to three voters: {time.monotonic() - began:.1f} s")
    cluster.import_image()
    for n in (1, 2, 3):
        assert cluster.session("pool", "before", "/instance", node=n).body == first, n
    assert cluster.session("pool", "after", node=3).status == 200


def status():
    return json.loads(cluster.berth("cluster", "status", "--output", "json").stdout)


def test_status():
    whole = wait_until("all have answered", 10, lambda: (lambda s: s if s["quorum"]["up"] == 3 else None)(status()))
    assert whole["quorum"] == {"voters": 3, "up": 3, "needed": 2, "margin": 1, "text": "3 of 3 voters up: 1 may be lost"}, whole["quorum"]
    assert whole["memberChange"]["state"] == "done" and whole["memberChange"]["role"] == "voter", whole["memberChange"]
    for row in whole["nodes"]:
        assert row["answered"] and row["lag"] < 1000 and abs(row["clockSkewMs"]) < 2000 and row["version"], row
    pid = cluster.pid(3, "berthd")
    os.kill(pid, signal.SIGSTOP)
    try:
        less = status()
    finally:
        os.kill(pid, signal.SIGCONT)
    assert less["quorum"]["text"] == "2 of 3 voters up: one more loss stops writes", less["quorum"]
    assert [row["name"] for row in less["nodes"] if not row["answered"]] == ["node3"], less["nodes"]
    assert "3 of 3 voters up" in wait_until("a table of it", 10, lambda: (lambda r: r.stdout if "3 of 3" in r.stdout else None)(
        cluster.berth("cluster", "status", "--output", "table")))


def test_three_become_five():
    began = time.monotonic()
    cluster.join(4)
    wait_until("node4 is a standby", 20, lambda: cluster.roles().get("node4") == "standby")
    cluster.join(5)
    voters([f"node{n}" for n in range(1, 6)])
    timings.append(f"three to five voters: {time.monotonic() - began:.1f} s")
    cluster.import_image()


class Load(threading.Thread):
    """Requests of one session, through the nodes that stay."""

    def __init__(self, identifier, nodes):
        super().__init__()
        self.identifier, self.nodes, self.done, self.bad, self.stopping = identifier, nodes, 0, [], False
        self.start()

    def run(self):
        while not self.stopping:
            node = self.nodes[self.done % len(self.nodes)]
            try:
                a = cluster.session("pool", self.identifier, "/instance", node=node, timeout=30)
                if a.status != 200:
                    self.bad.append((node, a))
            except OSError as error:
                self.bad.append((node, repr(error)))
            self.done += 1
            time.sleep(0.02)


def test_a_dead_voter_is_replaced_under_load():
    for i in range(20):
        assert cluster.session("pool", f"load-{i}", "/instance", node=1 + i % 5).status == 200
    victim = "node5" if leader() != "node5" else "node4"
    number = int(victim[4:])
    stay = [n for n in range(1, 6) if n != number]
    busy = [s["identifier"] for s in cluster.sessions("pool") if s["nodeName"] != victim][:6]
    load = [Load(identifier, stay) for identifier in busy]
    try:
        wait_until("load runs", 10, lambda: all(one.done > 5 for one in load))
        cluster.kill_node(number)
        began = time.monotonic()
        wait_until("it is lost", 20, lambda: cluster.nodes()[victim]["state"] == "lost")
        cluster.berth("node", "remove", victim)
        assert victim not in cluster.nodes()
        cluster.join(6)  # the dead one is started too, by mistake: it learns that it was removed
        wait_until("the dead one ends again", 20, lambda: cluster.ended(number))
        voters([f"node{n}" for n in stay] + ["node6"])
        timings.append(f"kill -9 of a voter until another has its place: {time.monotonic() - began:.1f} s")
        wait_until("load went on", 10, lambda: all(one.done > 30 for one in load))
    finally:
        for one in load:
            one.stopping = True
        for one in load:
            one.join()
    bad = [b for one in load for b in one.bad]
    timings.append(f"requests to sessions of other nodes meanwhile: {sum(one.done for one in load)}, failed: {len(bad)}")
    assert not bad, bad[:5]
    # What is left of the dead one on its machine goes by hand; it comes back as another.
    cluster.berth("node", "purge", victim, "--dir", str(cluster.dir))
    assert not cluster.node_dir(number).exists()


def hello(node, protocol):
    """What a node says first: protocol, cluster, address, number, incarnation; see base/mesh."""
    cluster_id = re.search(r"cluster_id = (\S+)", (cluster.node_dir(1) / "berth.conf").read_text()).group(1)
    out = b"\x95"
    for text in (protocol, cluster_id, "127.0.0.1:1"):
        out += b"\xc6" + len(text).to_bytes(4, "big") + text.encode()
    out += b"\xcf" + node.to_bytes(8, "big") + b"\x01"
    return len(out).to_bytes(2, "big") + out


def test_the_leader_is_removed():
    gone = leader(2)
    entry = 2 if gone != "node2" else 3
    env = {"BERTH_SOCKET": str(cluster.socket(entry))}
    before = cluster.nodes(entry)[gone]["id"]
    held = [s for s in cluster.sessions("pool", node=entry) if s["nodeName"] == gone]
    r = cluster.berth("node", "remove", gone, check=False, env=env)
    if held:
        assert r.returncode == 1 and "drain it first" in r.stderr, (r.returncode, r.stderr)
        cluster.berth("node", "remove", gone, "--force", env=env)
    assert gone not in cluster.nodes(entry)
    assert leader(entry) != gone
    number = int(gone[4:])
    wait_until("it ends by itself", 20, lambda: "this node was removed from the cluster" in cluster.log(number))
    wait_until("its supervisor ends too", 20, lambda: cluster.ended(number))
    # Its certificate is good for years, and of no use: neither for requests to sessions, nor for messages.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cluster.node_dir(number) / "ca.pem")
    context.load_cert_chain(cluster.node_dir(number) / "node.pem", cluster.node_dir(number) / "node.key")
    answers = {}
    for which, said in [("forward", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"), ("control", hello(before, "control/1")), ("raft", hello(before, "raft/1"))]:
        with socket.create_connection(("127.0.0.1", cluster.port(entry, which)), 10) as plain, context.wrap_socket(plain) as tls:
            tls.settimeout(10)
            tls.sendall(said)
            answers[which] = b""
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                answers[which] = tls.recv(4096)
    assert b"403" in answers["forward"] and b"removed" in answers["forward"], answers
    assert answers["control"] == answers["raft"] == b"", answers
    for words in ("does not belong to the cluster", "was removed from the log"):  # one of a kind is logged a minute
        assert words in cluster.log(entry), words
    cluster.berth("node", "purge", gone, "--dir", str(cluster.dir))
    cluster.berth("node", "join", "--token", cluster.berth("node", "token", env=env).stdout.strip(), "--name", gone, "--dir",
                  str(cluster.dir), "--host", "127.0.0.1", "--base-port", str(cluster.base + 10 * (number - 1)), "--user", cluster.user)
    cluster.start()
    wait_until("it is a voter again", 30, lambda: cluster.roles(entry).get(gone) == "voter")
    assert cluster.nodes(entry)[gone]["id"] > before


def test_all_restart():
    before = cluster.roles(6)
    cluster.berth("cluster", "stop", "--dir", str(cluster.dir))
    cluster.start()
    wait_until("the same nodes are there", 20, lambda: cluster.roles(6) == before)
    assert sorted(before.values()) == ["voter"] * 5, before
    assert cluster.session("pool", "at-last", node=6).status == 200
    print("\n".join(timings))


run([test_who_must_not_join, test_names_clocks_and_tls, test_a_token_expires, test_one_becomes_three, test_status, test_three_become_five,
     test_a_dead_voter_is_replaced_under_load, test_the_leader_is_removed, test_all_restart], cluster)
