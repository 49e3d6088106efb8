"""All keys are replaced under load: no request fails, old tokens count, secrets are readable, nodes go on trusting each other;
and a leader that is killed in the middle is followed by one that finishes."""
import json
import os
import secrets
import signal
import sys
import threading

sys.dont_write_bytecode = True
import harness as h

SECRET = secrets.token_hex(20)
POOLS = 4
cluster = h.Cluster(3, name="rotate")
kept = {}


def keys(node=2):
    """{kind: {state: [key, ...]}} as node 2 has them."""
    found = {}
    for key in cluster.admin("GET", "/.berth/v1/keys", node=node).json()["value"]:
        found.setdefault(key["kind"], {}).setdefault(key["state"], []).append(key)
    return found


def env_of(pool, identifier, token=None):
    headers = {"Authorization": "Bearer " + token} if token else None
    return cluster.session(pool, identifier, "/env", headers=headers, node=1 + len(identifier) % 3)


def word(pool, identifier, token=None):
    a = env_of(pool, identifier, token)
    assert a.status == 200 and "WORD" in a.json(), a
    return a.json()["WORD"]


class Load:
    """Requests to old and new sessions through all nodes, until it is left."""

    def __enter__(self):
        self.over, self.failed, self.n = threading.Event(), [], 0
        self.thread = threading.Thread(target=self.work)
        self.thread.start()
        return self

    def work(self):
        while not self.over.is_set():
            try:
                a = cluster.session("pool-0", f"load-{self.n % 6}", "/count", node=1 + self.n % 3, headers={
                    "Authorization": "Bearer " + (kept["token"] if self.n % 2 else cluster.token())})
            except OSError as e:
                a = e
            if getattr(a, "status", 0) != 200:
                self.failed.append(a)
            self.n += 1

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


def test_start():
    cluster.start()
    cluster.import_image()
    for i in range(POOLS):
        resource = cluster.resource(ready=1 if i else 2, max_sessions=20, env=[{"name": "WORD", "secretRef": "word"}])
        resource["properties"]["secrets"] = [{"name": "word", "value": SECRET + str(i)}]
        assert cluster.put_pool(f"pool-{i}", resource=resource)["status"] == "Succeeded"
    kept["token"] = cluster.token()
    kept["before"] = keys()
    assert {kind: list(states) for kind, states in kept["before"].items()} == {
        kind: ["active"] for kind in ("secrets", "issuer", "ca", "tags")}, kept["before"]
    h.wait_until("all nodes told whose certificates they have", 20,
                 lambda: keys()["ca"]["active"][0]["certificates"] == 3)


def test_all_under_load():
    with Load() as load:
        r = cluster.berth("cluster", "rotate-keys", "--timeout", "60", "--progress", "--output", "json")
        h.wait_until("some more load", 20, lambda: load.failed or load.n > 60)
    print(f"        {load.n} requests beside it, {len(load.failed)} failed")
    assert not load.failed, load.failed[:3]
    after = keys()
    for kind in ("secrets", "issuer", "ca"):
        assert after[kind]["active"][0]["id"] > kept["before"][kind]["active"][0]["id"], after
        assert "next" not in after[kind], after
    assert "retiring" not in after["secrets"] and "retiring" not in after["ca"], after
    assert after["secrets"]["active"][0]["secrets"] == POOLS and after["ca"]["active"][0]["certificates"] == 3, after
    assert [k["id"] for k in after["issuer"]["retiring"]] == [kept["before"]["issuer"]["active"][0]["id"]], after
    assert after["tags"] == kept["before"]["tags"], "the logs of ended sandboxes are found by these"
    assert json.loads(r.stdout), r


def test_what_the_former_keys_made_counts():
    for i in range(POOLS):
        assert word(f"pool-{i}", "an-old-token", kept["token"]) == SECRET + str(i)
    cluster.tokens.clear()
    assert cluster.token() != kept["token"]
    for i in range(POOLS):
        a = env_of(f"pool-{i}", "a-new-token")
        assert a.status == 200 and a.json()["WORD"] == SECRET + str(i), a
    resource = cluster.resource(ready=1, max_sessions=20, env=[{"name": "WORD", "secretRef": "word"}])
    resource["properties"]["secrets"] = [{"name": "word", "value": "sealed afresh"}]
    assert cluster.put_pool("pool-1", resource=resource)["status"] == "Succeeded"


def test_one_rotation_at_a_time_and_who_may():
    a = cluster.admin("POST", "/.berth/v1/keys/rotate", {"what": "tags"})
    assert a.status == 400, a
    a = cluster._request(cluster.connection(1), "POST", "/.berth/v1/keys/rotate", {"what": "ca"},
                         {"Authorization": "Bearer " + cluster.token("management"), "Content-Type": "application/json"})
    assert a.status == 403, a


def test_killed_leader_is_followed_by_one_that_finishes():
    before = keys()["secrets"]["active"][0]["id"]
    leader = cluster.admin("GET", "/.berth/v1/cluster").json()["leader"]
    other = 1 + leader % 3
    a = cluster.admin("POST", "/.berth/v1/keys/rotate", {"what": "secrets"}, node=other)
    assert a.status == 202, a
    os.kill(cluster.pid(leader, "berthd"), signal.SIGKILL)
    h.wait_until("the rotation is finished", 60, lambda: not {"next", "retiring"} & set(keys_of(other).get("secrets", {"next": 1})))
    assert keys_of(other)["secrets"]["active"][0]["id"] > before
    h.wait_until("a secret is readable in a new sandbox", 40,
                 lambda: env_of("pool-2", "after-the-leader").status == 200)
    assert word("pool-2", "after-the-leader") == SECRET + "2"


def keys_of(node):
    a = cluster.admin("GET", "/.berth/v1/keys", node=node)
    found = {}
    for key in a.json()["value"] if a.status == 200 else []:
        found.setdefault(key["kind"], {}).setdefault(key["state"], []).append(key)
    return found


def test_restart_reads_the_new_keys():
    """All of it anew: certificates, ring and rows fit each other."""
    cluster.berth("cluster", "stop", "--dir", str(cluster.dir))
    cluster.start()
    h.wait_until("sessions are served", 30, lambda: env_of("pool-3", "after-a-restart").status == 200)
    assert word("pool-3", "after-a-restart") == SECRET + "3"
    assert cluster.session("pool-0", "load-1", "/count", headers={"Authorization": "Bearer " + kept["token"]}).status == 200


h.run([test_start, test_all_under_load, test_what_the_former_keys_made_counts, test_one_rotation_at_a_time_and_who_may,
       test_killed_leader_is_followed_by_one_that_finishes, test_restart_reads_the_new_keys], cluster)
