"""The main job: a pool of real containers behind one endpoint, through any of three nodes."""
import json
import time

import harness
from harness import Cluster, in_parallel, run, wait_until

cluster = Cluster(settings=["cooldown_min=2"]).start()
cluster.import_image()


def who(answer):
    """What tells one container from another: its in-memory counter's owner. The sample image answers its boot id."""
    assert answer.status == 200, answer
    return answer.headers["x-ms-session-guid"]


def test_pool_becomes_ready():
    done = cluster.put_pool("demo", max_sessions=10, ready=2)
    assert done["status"] == "Succeeded", done
    document = cluster.pool("demo").json()
    assert document["properties"]["provisioningState"] == "Succeeded", document
    wait_until("two are ready", 15, lambda: sum(row["ready"] for row in cluster.nodes().values()) >= 2)


def test_same_identifier_same_sandbox_through_every_node():
    first = cluster.session("demo", "alice-1", "/count", node=1)
    second = cluster.session("demo", "alice-1", "/count", node=2)
    third = cluster.session("demo", "alice-1", "/count", node=3, tls=True)
    assert who(first) == who(second) == who(third), (first, second, third)
    counts = [int(a.body) for a in (first, second, third)]
    assert counts == [counts[0], counts[0] + 1, counts[0] + 2], counts
    assert first.headers["x-ms-new-allocation"].lower() == "true", first.headers
    assert second.headers["x-ms-new-allocation"].lower() == "false", second.headers


def test_another_identifier_another_sandbox():
    alice = cluster.session("demo", "alice-1", node=1)
    bob = cluster.session("demo", "bob-22", node=2)
    assert who(alice) != who(bob)


def test_request_goes_through_unchanged():
    a = cluster.session("demo", "alice-1", "/echo/a%20b", method="POST", body=b"hello", query="&x=1&x=2",
                        headers={"X-Mine": "kept"}, node=2)
    seen = a.json()
    headers = {k.lower(): v for k, v in seen["headers"]}
    assert seen["method"] == "POST" and seen["body"] == "hello", seen
    assert seen["path"].startswith("/echo/a%20b"), seen
    assert "identifier=alice-1&x=1&x=2" in json.dumps(seen), seen
    assert headers.get("x-mine") == "kept" and "authorization" not in headers, headers
    assert "traceparent" in headers and "x-forwarded-for" in headers, headers


def test_a_thousand_first_requests_open_one_session():
    answers = in_parallel(1000, lambda i: cluster.session("demo", "everyone", "/count", node=i % 3 + 1))
    bad = [a for a in answers if isinstance(a, Exception) or a.status != 200]
    assert not bad, (len(bad), bad[:3])
    assert len({who(a) for a in answers}) == 1
    assert sorted(int(a.body) for a in answers) == list(range(1, 1001)), "each request reached the one counter"
    assert sum(a.headers["x-ms-new-allocation"].lower() == "true" for a in answers) == 1


def metric(name, node=1):
    text = cluster.admin("GET", "/metrics", node=node).body.decode()
    return [float(line.split()[-1]) for line in text.splitlines() if line.split("{")[0].split(" ")[0] == name]


def test_health_readiness_metrics():
    for node in (1, 2, 3):
        c = cluster.connection(node)
        for path in ("/health", "/ready"):
            c.request("GET", path)
            r = c.getresponse()
            assert r.status == 200, (path, r.status, r.read())
            r.read()
        c.request("GET", "/metrics")
        r = c.getresponse()
        assert r.status == 403 and b"berth_" not in r.read(), "figures are not for strangers"
    assert sum(metric("berth_log_leader", n)[0] for n in (1, 2, 3)) == 1
    before = metric("berth_requests_total")[0]
    cluster.session("demo", "alice-1", node=1)
    assert metric("berth_requests_total")[0] == before + 2, "the session's, and the one that asks"
    assert sum(metric("berth_pool_sessions")) >= 1
    hashes = wait_until("the tables are equal on all nodes", 10,
                        lambda: len({(metric("berth_tables_hash", n)[0], metric("berth_log_applied_index", n)[0])
                                     for n in (1, 2, 3)}) == 1)
    assert hashes
    text = cluster.admin("GET", "/metrics").body
    assert b"alice" not in text, "metrics name no identifier"


def test_require_existing():
    a = cluster.session("demo", "nobody-yet", headers={"Berth-Require-Existing": "true"})
    assert a.status == 404, a


def test_stop_session():
    cluster.session("demo", "short-lived")
    path = cluster.pool_path("demo") + "/.management/stopSession?identifier=short-lived&api-version=" + harness.API
    c = cluster.connection(2)
    c.request("POST", path, headers={"Authorization": "Bearer " + cluster.token()})
    r = c.getresponse()
    text = r.read().decode()
    assert r.status == 200 and text == "Session short-lived in session pool demo stopped.", (r.status, text)
    wait_until("the session is gone", 15, lambda: not [s for s in cluster.sessions("demo") if s.get("identifier") == "short-lived"])


def test_idle_session_is_reaped():
    done = cluster.put_pool("brief", max_sessions=5, ready=1, cooldown=2)
    assert done["status"] == "Succeeded", done
    guid = who(cluster.session("brief", "idle-one"))
    began = time.monotonic()
    wait_until("this node lists the session", 5, lambda: cluster.sessions("brief"))
    wait_until("the idle session is reaped", 20, lambda: not cluster.sessions("brief"))
    assert time.monotonic() - began >= 1.9
    assert who(cluster.session("brief", "idle-one")) != guid


def test_delete_ends_all():
    for pool in ("demo", "brief"):
        a = cluster.admin("DELETE", cluster.arm_path(pool))
        assert a.status in (202, 204), a
        cluster.wait_operation(a)
        assert cluster.pool(pool).status == 404


run([test_pool_becomes_ready, test_same_identifier_same_sandbox_through_every_node,
     test_another_identifier_another_sandbox, test_request_goes_through_unchanged,
     test_a_thousand_first_requests_open_one_session, test_health_readiness_metrics, test_require_existing, test_stop_session,
     test_idle_session_is_reaped, test_delete_ends_all], cluster)
