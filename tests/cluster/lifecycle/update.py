"""Updates and the end of a pool: a new image rolls the ready sandboxes while bound ones finish; PATCH keeps what it does not name;
secrets reach the container and nobody else; DELETE ends everything, bills it, and ends once."""
import json
import subprocess
import threading
import time

import recount
from harness import API, BUILD, ISOLATION, SOURCE, Cluster, in_parallel, run, wait_until

cluster = Cluster(settings=["cooldown_min=2", "pull_retry_ms=1000"], name="update").start()
SECRET = "swordfish \u00e9 $HOME \"quoted\""
second = cluster.dir / "second.tar"
subprocess.run([str(SOURCE / "tools/sample-image/build-image"), "--server", str(BUILD / "tools/sample-image/echo-server"), "--out",
                str(second), "--tag", "berth-sample:2", "--env", "BERTH_SAMPLE=2"], check=True)
cluster.import_image()
cluster.import_image(str(second), "berth/sample:2")


def resource(image, **how):
    r = cluster.resource(image=image, env=[{"name": "PLAIN", "value": "as given"}, {"name": "HIDDEN", "secretRef": "word"}],
                         max_sessions=12, ready=3, **how)
    r["tags"] = {"team": "one"}
    r["properties"]["secrets"] = [{"name": "word", "value": SECRET}]
    return r


def patch(pool, body, node=1, wait=True):
    a = cluster.admin("PATCH", cluster.arm_path(pool), body, node=node)
    assert a.status in (200, 202), a
    return cluster.wait_operation(a, node) if wait and a.status == 202 else a


def container(pool):
    return cluster.pool(pool).json()["properties"]["customContainerTemplate"]["containers"][0]


def env(pool, identifier, node=1):
    a = cluster.session(pool, identifier, "/env", node=node)
    assert a.status == 200, a
    return json.loads(a.body)


def instance(pool, identifier, node=1):
    a = cluster.session(pool, identifier, "/instance", node=node)
    assert a.status == 200, a
    return a.body


def events():
    return recount.read_events(cluster.dir)


def running():
    """Sandboxes that answered their probe and are not gone, by revision's number."""
    seen = events()
    over = {e["sandbox"] for e in seen if e["event"] in ("exited", "stopped")}
    ready = {e["sandbox"] for e in seen if e["event"] == "ready"} - over
    return {e["sandbox"]: e["revision"] for e in seen if e["event"] == "started" and e["sandbox"] in ready}


def unbound(pool):
    """Sandboxes that run without a session, with their revisions."""
    bound = {s["sandbox"] for s in cluster.sessions(pool) if "sandbox" in s}
    return {k: r for k, r in running().items() if k not in bound}


def rolled(pool, old=()):
    """As many as asked for wait for sessions, of one revision, the newest; none of the old ones."""
    newest = cluster.arm_path(pool).replace(API, "2025-02-02-preview")
    free, shown = unbound(pool), cluster.admin("GET", newest).json()["properties"]["templateUpdateStatus"]
    if "desiredTemplate" in shown or shown["activeTemplate"]["status"]["readyCount"] != 3:
        return False
    return len(free) == 3 and set(free.values()) == {max(running().values())} and not set(free) & set(old)


def no_secret_anywhere(pool):
    for node in (1, 2, 3):
        shown = cluster.pool(pool, node).body.decode() + cluster.admin("GET", cluster.arm_path(), node=node).body.decode()
        assert "swordfish" not in shown, shown
    for path in [*cluster.dir.glob("node*/log"), *cluster.dir.glob("node*/state/berthd/raft/*"),
                 *cluster.dir.glob("node*/state/*/events")]:
        assert b"swordfish" not in path.read_bytes(), path


def test_secrets_reach_the_container_alone():
    done = cluster.put_pool("pool", resource=resource("berth/sample:1"))
    assert done["status"] == "Succeeded", done
    seen = env("pool", "first-1")
    assert (seen["BERTH_SAMPLE"], seen["PLAIN"], seen["HIDDEN"]) == ("1", "as given", SECRET), seen
    assert cluster.pool("pool").json()["properties"]["secrets"] == [{"name": "word"}]
    assert container("pool")["env"][1] == {"name": "HIDDEN", "secretRef": "word"}
    no_secret_anywhere("pool")


def test_a_new_image_rolls_the_ready_ones():
    mine = instance("pool", "first-1")
    wait_until("three are ready", 30, lambda: rolled("pool"))
    before, free = set(running()), unbound("pool")
    bad, over = [], threading.Event()

    def ask():
        while not over.is_set():
            a = cluster.session("pool", "first-1", "/instance", node=2)
            if a.status != 200 or a.body != mine:
                bad.append(a)
            time.sleep(0.02)
    asker = threading.Thread(target=ask)
    asker.start()
    done = cluster.put_pool("pool", resource=resource("berth/sample:2"), node=2)
    assert done["status"] == "Succeeded", done
    wait_until("the ready ones are new", 30, lambda: rolled("pool", free), 0.2)
    over.set()
    asker.join()
    assert not bad, bad[:3]
    bound = {s["sandbox"] for s in cluster.sessions("pool")}
    assert set(running()) & before == bound, "only the bound one is old"
    assert env("pool", "first-1")["BERTH_SAMPLE"] == "1" and env("pool", "second", 3)["BERTH_SAMPLE"] == "2"
    status = cluster.pool("pool").json()["properties"]
    assert status["provisioningState"] == "Succeeded" and container("pool")["image"] == "berth/sample:2", status


def test_patch_keeps_what_it_does_not_name():
    before = cluster.pool("pool").json()
    wait_until("three are ready", 30, lambda: rolled("pool"), 0.2)
    sandboxes = set(running())
    patch("pool", {"tags": {"team": "two"}}, node=3)
    patch("pool", {"properties": {"scaleConfiguration": {"maxConcurrentSessions": 11}}}, node=2)
    after = wait_until("node 1 shows it", 10, lambda: next(
        (p for p in [cluster.pool("pool").json()] if p["properties"]["scaleConfiguration"]["maxConcurrentSessions"] == 11), None))
    assert after["tags"] == {"team": "two", "berth.isolation": ISOLATION}
    assert after["properties"]["scaleConfiguration"]["readySessionInstances"] == 3
    for key in ("customContainerTemplate", "dynamicPoolConfiguration", "secrets", "sessionNetworkConfiguration", "environmentId"):
        assert after["properties"][key] == before["properties"][key], key
    time.sleep(1)
    assert set(running()) == sandboxes, "no sandbox is replaced for that"


def test_patch_of_the_image_keeps_the_secrets():
    free = unbound("pool")
    changed = dict(container("pool"), image="berth/sample:1")
    done = patch("pool", {"properties": {"customContainerTemplate": {"containers": [changed]}}})
    assert done["properties"]["provisioningState"] == "Succeeded", done
    wait_until("the ready ones are new", 30, lambda: rolled("pool", free), 0.2)
    seen = env("pool", "third", 2)
    assert (seen["BERTH_SAMPLE"], seen["PLAIN"], seen["HIDDEN"]) == ("1", "as given", SECRET), seen
    assert cluster.pool("pool").json()["tags"] == {"team": "two", "berth.isolation": ISOLATION}


def test_a_new_secret_reaches_new_sandboxes():
    free = unbound("pool")
    patch("pool", {"properties": {"secrets": [{"name": "word", "value": "swordfish two"}]}})
    wait_until("the ready ones are new", 30, lambda: rolled("pool", free), 0.2)
    assert env("pool", "fourth")["HIDDEN"] == "swordfish two" and env("pool", "third")["HIDDEN"] == SECRET
    no_secret_anywhere("pool")


def test_an_update_that_fails_leaves_what_runs():
    sandboxes = set(running())
    done = cluster.put_pool("pool", resource=resource("berth/missing:9"))
    assert done["status"] == "Failed" and "missing" in json.dumps(done["error"]), done
    assert env("pool", "fifth", 3)["BERTH_SAMPLE"] == "1"
    assert sandboxes <= set(running()), "nothing of the old revision was ended"
    assert cluster.pool("pool").json()["properties"]["provisioningState"] == "Failed"
    free = unbound("pool")
    done = cluster.put_pool("pool", resource=resource("berth/sample:2"))
    assert done["status"] == "Succeeded", done
    wait_until("the ready ones are new", 30, lambda: rolled("pool", free), 0.2)
    assert env("pool", "sixth")["BERTH_SAMPLE"] == "2"


def test_updates_at_once_end_each():
    def put(i):
        a = cluster.admin("PUT", cluster.arm_path("pool"), resource(f"berth/sample:{i % 2 + 1}", cpu=0.25), node=i % 3 + 1)
        return (a, cluster.wait_operation(a, i % 3 + 1)["status"]) if a.status in (200, 201) else (a, None)
    results = in_parallel(6, put)
    assert all(not isinstance(r, Exception) for r in results), results
    assert all(a.status in (200, 201, 409) for a, _ in results), results
    assert {s for _, s in results} <= {"Succeeded", "Canceled", None} and "Succeeded" in {s for _, s in results}, results
    wait_until("the ready ones agree", 30, lambda: rolled("pool"), 0.2)
    shown = wait_until("the pool is settled", 10, lambda: cluster.pool("pool").json()["properties"]["provisioningState"] ==
                       "Succeeded" and container("pool")["image"])
    assert env("pool", "seventh")["BERTH_SAMPLE"] == shown[-1]


def test_delete_ends_all_and_bills_all():
    seen = events()
    uid = next(e["pool"] for e in seen if e["event"] == "ready")
    live = {s["generation"] for s in cluster.sessions("pool")}
    assert len(live) == 7, live
    a = cluster.admin("DELETE", cluster.arm_path("pool"), node=2)
    assert a.status == 202, a
    again = cluster.admin("DELETE", cluster.arm_path("pool"), node=3)
    assert again.status in (202, 204, 404, 409), again
    url = a.headers.get("azure-asyncoperation") or a.headers["location"]
    path = "/" + url.split("/", 3)[3]
    cluster.wait_operation(a, 2)
    finals = {n: cluster.admin("GET", path, node=n) for n in (1, 2, 3)}
    assert len({(f.status, f.body) for f in finals.values()}) == 1, finals
    assert cluster.pool("pool", 2).status == 404
    assert cluster.session("pool", "first-1", node=2).status == 404
    wait_until("no sandbox is left", 30, lambda: not running(), 0.2)
    bill = wait_until("all is billed", 10, lambda: next((b for b in [cluster.admin("GET", "/.berth/v1/billing").json()]
                                                       if not b["running"]), None))
    assert {r["generation"] for r in bill["records"]} - {0} == live, "each session has one record"
    billed = sorted(r["sandbox"] for r in bill["records"])
    at = {(e["sandbox"], e["event"]): e["wall_ms"] for e in events()}
    ready = {box for box, event in at if event == "ready"}
    # one whose revision was replaced while its first answer was on the way to the tables never was ready there
    overtaken = {box for box in ready - set(billed) if at[box, "stopped"] - at[box, "ready"] < 1000 and (box, "opened") not in at}
    assert billed == sorted(ready - overtaken), ("each sandbox that was ready has one record", billed, sorted(ready), sorted(overtaken))
    wrong = recount.compare(bill, [e for e in events() if e["sandbox"] not in overtaken])
    assert not wrong, wrong
    done = cluster.put_pool("pool", resource=resource("berth/sample:1"))
    assert done["status"] == "Succeeded", done
    assert env("pool", "first-1")["BERTH_SAMPLE"] == "1"
    assert {e["pool"] for e in events() if e["sandbox"] in running()}.isdisjoint({uid}), "a new pool has a new uid"


run([test_secrets_reach_the_container_alone, test_a_new_image_rolls_the_ready_ones, test_patch_keeps_what_it_does_not_name,
     test_patch_of_the_image_keeps_the_secrets, test_a_new_secret_reaches_new_sandboxes,
     test_an_update_that_fails_leaves_what_runs, test_updates_at_once_end_each, test_delete_ends_all_and_bills_all], cluster)
