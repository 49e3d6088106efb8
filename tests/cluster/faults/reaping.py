"""When sessions end: idle past the cooldown, past their maximal age, with their container; and when they do not: while
anything is under way."""
import threading
import time

import sandboxes
from harness import Cluster, in_parallel, run, wait_until
from websocket import Ended, WebSocket

COOLDOWN_S = 2

cluster = Cluster(settings=["cooldown_min=1"]).start()
cluster.import_image()
before = sandboxes.left(cluster)


def live(pool, identifier):
    return any(s["identifier"] == identifier and s["state"] == "live" for s in cluster.sessions(pool))


def gone(pool, identifier, seconds=15):
    wait_until(f"the session of {identifier} is gone", seconds,
               lambda: not [s for s in cluster.sessions(pool) if s["identifier"] == identifier])


def instance(pool, identifier, **how):
    a = cluster.session(pool, identifier, "/instance", **how)
    assert a.status == 200, a
    return a.body


def owner(pool, identifier):
    return wait_until("node 1 lists it", 5, lambda: [s["node"] for s in cluster.sessions(pool)
                                                  if s["identifier"] == identifier and s["state"] == "live"])[0]


def put(pool, **life):
    resource = cluster.resource(max_sessions=20, ready=2)
    resource["properties"]["dynamicPoolConfiguration"] = {"lifecycleConfiguration": life}
    a = cluster.admin("PUT", cluster.arm_path(pool).replace("2024-08-02-preview", "2025-02-02-preview"), resource)
    assert a.status in (200, 201), a
    assert cluster.wait_operation(a)["status"] == "Succeeded"


def test_pools():
    put("brief", lifecycleType="Timed", cooldownPeriodInSeconds=COOLDOWN_S)
    put("to-exit", lifecycleType="OnContainerExit", maxAlivePeriodInSeconds=6)
    put("aged", lifecycleType="Timed", cooldownPeriodInSeconds=3, maxAlivePeriodInSeconds=5)


def busy_through(work, identifier):
    """work() keeps the session busy for some cooldowns, through a node that is not its owner and through its owner."""
    first = instance("brief", identifier)
    at = owner("brief", identifier)
    for node in (at, at % 3 + 1):
        work(node)
        assert live("brief", identifier), "a busy session was reaped"
        assert instance("brief", identifier) == first
    gone("brief", identifier)
    assert instance("brief", identifier) != first, "a new one after it was reaped"


def test_idle_is_reaped_after_its_cooldown():
    first = instance("brief", "idle-1")
    owner("brief", "idle-1")
    began = time.monotonic()
    time.sleep(COOLDOWN_S * 0.6)
    assert instance("brief", "idle-1", node=2) == first, "each request begins the cooldown anew"
    last = time.monotonic()
    gone("brief", "idle-1")
    assert time.monotonic() - last >= COOLDOWN_S - 0.3, (time.monotonic() - began, time.monotonic() - last)
    assert instance("brief", "idle-1") != first


def long_request(node):
    a = cluster.session("brief", "long-1", "/slow", query=f"&ms={COOLDOWN_S * 2500}", node=node)
    assert a.status == 200, a


def slow_download(node):
    size, got = 24 << 20, 0
    c = cluster.connection(node)
    c.request("GET", f"{cluster.pool_path('brief')}/bytes?identifier=load-1&n={size}",
              headers={"Authorization": "Bearer " + cluster.token()})
    r = c.getresponse()
    until = time.monotonic() + COOLDOWN_S * 2.5
    while time.monotonic() < until:
        got += len(r.read(65536))
        time.sleep(0.2)
    got += len(r.read())
    c.close()
    assert got == size, got


def slow_events(node):
    a = cluster.session("brief", "event-1", "/sse", query=f"&n=6&ms={COOLDOWN_S * 400}", node=node)
    assert a.status == 200 and a.body.count(b"data:") == 6, a


def active_websocket(node):
    w = WebSocket(cluster, "brief", "chat-1", node=node)
    until = time.monotonic() + COOLDOWN_S * 2.5
    while time.monotonic() < until:
        w.echo("still here")
        time.sleep(COOLDOWN_S * 0.4)
    w.close()


def test_whatever_is_under_way_holds_it():
    cases = [(long_request, "long-1"), (slow_download, "load-1"), (slow_events, "event-1"), (active_websocket, "chat-1")]
    errors = [e for e in in_parallel(len(cases), lambda i: busy_through(*cases[i])) if e is not None]
    assert not errors, errors


def test_a_silent_websocket_does_not_hold_it():
    for shift in (0, 1):
        identifier = f"hush-{shift}"
        first = instance("brief", identifier)
        w = WebSocket(cluster, "brief", identifier, node=(owner("brief", identifier) - 1 + shift) % 3 + 1)
        w.echo("once")
        began = time.monotonic()
        assert w.ended_within(20), "a silent tunnel holds its session"
        assert time.monotonic() - began >= COOLDOWN_S - 0.3
        w.close()
        gone("brief", identifier)
        assert instance("brief", identifier) != first


def test_an_exit_ends_it():
    for pool in ("brief", "to-exit"):
        first = instance(pool, "exit-1")
        owner(pool, "exit-1")
        assert cluster.session(pool, "exit-1", "/exit", query="&code=3").status == 200
        gone(pool, "exit-1")
        assert instance(pool, "exit-1") != first


def test_on_container_exit_has_no_cooldown_but_an_age():
    first = instance("to-exit", "calm-1")
    began = time.monotonic()
    time.sleep(COOLDOWN_S * 1.5)
    assert live("to-exit", "calm-1"), "idle, and that is no reason"
    assert instance("to-exit", "calm-1") == first
    gone("to-exit", "calm-1")
    assert 5.5 <= time.monotonic() - began, time.monotonic() - began


def test_the_age_ends_a_busy_one_too():
    first = instance("aged", "old-1")
    began = time.monotonic()
    seen = set()
    while time.monotonic() - began < 4:
        seen.add(instance("aged", "old-1", node=2))
        time.sleep(0.2)
    assert seen == {first}
    w = WebSocket(cluster, "aged", "old-1", node=3)
    try:
        while time.monotonic() - began < 20:
            w.echo("busy")
            time.sleep(0.2)
        raise AssertionError("it outlived its age")
    except Ended:
        pass
    assert time.monotonic() - began >= 4.7, time.monotonic() - began
    w.close()
    wait_until("the identifier gets another sandbox", 15, lambda: _other("aged", "old-1", first))


def _other(pool, identifier, first):
    a = cluster.session(pool, identifier, "/instance")
    assert a.status in (200, 503), a
    return a.status == 200 and a.body != first


def test_requests_while_it_is_reaped_get_an_answer():
    """Requests that come just when the cooldown ends: all served, by the old one or by a new one."""
    bad = []

    def knock(k):
        for i in range(4):
            time.sleep(COOLDOWN_S + 0.01 * ((k * 7 + i * 13) % 11 - 5))
            a = cluster.session("brief", f"knock-{k}", "/count", node=(k + i) % 3 + 1)
            if a.status != 200:
                bad.append((k, i, a))
    threads = [threading.Thread(target=knock, args=(k,)) for k in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not bad, (len(bad), bad[:3])


def test_nothing_is_left():
    for pool in ("brief", "to-exit", "aged"):
        cluster.wait_operation(cluster.admin("DELETE", cluster.arm_path(pool)))
    sandboxes.wait_until_gone(cluster, before)


run([test_pools, test_idle_is_reaped_after_its_cooldown, test_whatever_is_under_way_holds_it,
     test_a_silent_websocket_does_not_hold_it, test_an_exit_ends_it,
     test_on_container_exit_has_no_cooldown_but_an_age, test_the_age_ends_a_busy_one_too,
     test_requests_while_it_is_reaped_get_an_answer, test_nothing_is_left], cluster)
