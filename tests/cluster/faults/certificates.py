"""Certificates that live for seconds renew themselves, under load: no request fails, nobody loses a connection, and a node that
starts again uses what it was given last.

BERTH_CERTIFICATES="LIFETIME SECONDS": how long certificates live, and how long the load lasts ("12 20").
"""
import os
import signal
import ssl
import sys
import threading
import time

import harness as h

LIFETIME_S, LOAD_S = (int(x) for x in os.environ.get("BERTH_CERTIFICATES", "12 20").split())
PORTS = ("raft", "control", "forward", "https")
NODES = (1, 2, 3)
cluster = h.Cluster(3, name="certificates", settings=[f"certificate_lifetime={LIFETIME_S}s"])
seen = {(node, port): set() for node in NODES for port in PORTS}


def shown(node, port):
    """The certificate that a port shows to whoever connects."""
    return ssl.get_server_certificate(("127.0.0.1", cluster.port(node, port)), timeout=10)


def look():
    for (node, port), certificates in seen.items():
        certificates.add(shown(node, port))


def renewals(node):
    return sum("was renewed" in line for line in cluster.log(node).splitlines())


def berthds():
    return {node: cluster.pid(node, "berthd") for node in NODES}


def test_start():
    cluster.start().import_image()
    assert cluster.put_pool("pool", ready=1, max_sessions=9)["status"] == "Succeeded"
    for i in range(9):
        assert cluster.session("pool", f"user-{i}", node=i % 3 + 1).status == 200


def test_long_certificates_are_replaced_at_once():
    h.wait_until("all have certificates that live for seconds", 20, lambda: all(renewals(n) >= 2 for n in NODES))


def test_no_request_fails_meanwhile():
    deadline, asked, failed, before = time.monotonic() + LOAD_S, [0], [], berthds()

    def load(worker):
        i = worker
        while time.monotonic() < deadline:
            i += 1
            try:
                a = cluster.session("pool", f"user-{i % 9}", node=i % 3 + 1, tls=i % 2 == 0)
                if a.status != 200:
                    failed.append(a)
            except OSError as e:
                failed.append(e)
            asked[0] += 1

    threads = [threading.Thread(target=load, args=(w,)) for w in range(3)]
    for t in threads:
        t.start()
    while time.monotonic() < deadline:
        look()
        time.sleep(1)
    for t in threads:
        t.join()
    print(f"        {asked[0]} requests in {LOAD_S} s, {len(failed)} failed; certificates seen: "
          f"{ {f'{p} of {n}': len(c) for (n, p), c in seen.items()} }")
    assert not failed, failed[:5]
    wanted = LOAD_S // (LIFETIME_S * 2 // 3 + 2)
    assert all(len(c) > wanted for c in seen.values()), (wanted, {k: len(c) for k, c in seen.items()})
    assert berthds() == before
    for node in NODES:
        log = cluster.log(node)
        assert "out of reach" not in log and "follows" not in log and "not renewed" not in log, "a connection was lost"


def test_a_node_starts_with_what_it_was_given_last():
    node = next(n for n in NODES if n != cluster.admin("GET", "/.berth/v1/cluster").json()["leader"])
    pid, times = cluster.pid(node, "berthd"), renewals(node)
    os.kill(pid, signal.SIGKILL)

    def serves():
        try:
            return cluster.session("pool", "user-1", node=node).status == 200
        except OSError:
            return False

    h.wait_until("it is back", 20, serves)
    assert cluster.pid(node, "berthd") != pid
    h.wait_until("and renews", LIFETIME_S + 10, lambda: renewals(node) >= times + 2)
    kept = cluster.node_dir(node) / "state/berthd/peer.pem"
    assert os.stat(kept).st_mode & 0o777 == 0o600
    pem = kept.read_text()
    assert pem[pem.index("-----BEGIN CERTIFICATE"):].strip() == shown(node, "control").strip()


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    h.run([test_start, test_long_certificates_are_replaced_at_once, test_no_request_fails_meanwhile,
           test_a_node_starts_with_what_it_was_given_last], cluster)
