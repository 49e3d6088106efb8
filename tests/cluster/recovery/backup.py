"""A backup under load, what is refused as one, and a cluster that is restored from it beside the one that goes on."""
import json
import pathlib
import secrets
import sys
import threading

sys.dont_write_bytecode = True
import harness as h

SECRET = secrets.token_hex(20)
cluster = h.Cluster(3, name="backup", settings=["lease_ms=5000", "lost_ms=8000"])
new = None
files = pathlib.Path(f"{cluster.dir}.files")
backup, identity = files / "cluster.backup", files / "identity"
kept = {}


def refused(path, who, *words):
    r = cluster.berth("cluster", "backup", "--check", str(path), "--identity", str(who), check=False)
    assert r.returncode == 1 and r.stdout == "", r
    assert any(word in r.stderr for word in words), r.stderr


def export(c, what):
    rows = json.loads(c.berth("billing", "export", "--format", "json", env={"BERTH_SOCKET": str(c.socket(1))}).stdout)
    return rows[what]


def test_start():
    files.mkdir()
    cluster.start()
    cluster.import_image()
    resource = cluster.resource(ready=2, max_sessions=20, env=[{"name": "WORD", "secretRef": "word"}])
    resource["properties"]["secrets"] = [{"name": "word", "value": SECRET}]
    assert cluster.put_pool("kept", resource=resource)["status"] == "Succeeded"
    for name in ("ended-1", "ended-2"):
        assert cluster.session("kept", name, "/env").json()["WORD"] == SECRET
    cluster.berth("session", "stop", "-n", "kept", "-g", h.GROUP, "--subscription", h.SUBSCRIPTION, "--identifier", "ended-1")
    assert cluster.session("kept", "alive-1", "/count").status == 200
    h.wait_until("the bill has the ended session", 20, lambda: export(cluster, "records"))


def test_a_backup_under_load():
    kept["recipient"] = cluster.berth("cluster", "backup-key", "--to", str(identity)).stdout.strip()
    assert identity.stat().st_mode & 0o777 == 0o600
    over, failed = threading.Event(), []

    def load():
        n = 0
        while not over.is_set():
            a = cluster.session("kept", f"load-{n % 8}", "/count")
            failed.extend([a] if a.status != 200 else [])
            n += 1
            kept["requests"] = n
    thread = threading.Thread(target=load)
    thread.start()
    h.wait_until("there is load", 20, lambda: failed or kept.get("requests", 0) > 30)
    try:
        cluster.berth("cluster", "backup", "--to", str(backup), "--recipient", kept["recipient"])
    finally:
        over.set()
        thread.join()
    print(f"        {backup.stat().st_size} bytes, {kept['requests']} requests beside it")
    assert not failed, failed[:3]
    told = cluster.berth("cluster", "backup", "--check", str(backup), "--identity", str(identity)).stdout
    assert "1 pools, 1 secrets" in told, told
    text = backup.read_bytes()
    ring = (cluster.node_dir(1) / "keyring").read_text().split()[1]
    for hidden in (SECRET.encode(), b"kept", b"alive-1", ring.encode(), bytes.fromhex(ring)):
        assert hidden not in text, hidden
    again = cluster.berth("cluster", "backup", "--to", str(files / "no" / "where"), "--recipient", kept["recipient"], check=False)
    assert again.returncode == 1, again
    kept["pool"] = cluster.pool("kept").json()["properties"]
    kept["records"] = export(cluster, "records")
    kept["token"] = cluster.token()
    kept["incarnation"] = cluster.admin("GET", "/.berth/v1/cluster").json()["incarnation"]


def test_what_is_refused():
    good = backup.read_bytes()
    bad = files / "bad"
    step = max(1, len(good) // 60)
    for at in [0, 8, 11, 12, 60, 100, 116, 120, *range(130, len(good), step), len(good) - 1]:
        bad.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1:])
        refused(bad, identity, "damaged", "this is none", "format", "cut off", "another recipient")
    for size in [0, 1, 50, 115, 116, 117, *range(200, len(good), step), len(good) - 1]:
        bad.write_bytes(good[:size])
        refused(bad, identity, "cut off")
    bad.write_bytes(good + b"x")
    refused(bad, identity, "behind its end", "cut off")
    bad.write_bytes(good + good)
    refused(bad, identity, "behind its end")
    other = files / "other"
    cluster.berth("cluster", "backup-key", "--to", str(other))
    refused(backup, other, "another recipient")
    bad.write_text("no identity\n")
    refused(backup, bad, "identity file")
    wrong = kept["recipient"][:-1] + ("0" if kept["recipient"][-1] != "0" else "1")
    for recipient, word in ((wrong, "mistyped"), ("bpk-12", "expected"), ("", "missing")):
        r = cluster.berth("cluster", "backup", "--to", str(bad) + "x", "--recipient", recipient, check=False)
        assert r.returncode != 0 and word in r.stderr and not pathlib.Path(str(bad) + "x").exists(), r
    a = cluster._request(cluster.connection(1), "GET", "/.berth/v1/backup?recipient=" + kept["recipient"], None,
                         {"Authorization": "Bearer " + cluster.token("management")})
    assert a.status == 403, a


def test_restored_beside_the_one_that_goes_on():
    global new
    r = cluster.berth("cluster", "restore", "--from", str(backup), "--identity", str(files / "other"), "--dir", str(files / "none"),
                      "--user", cluster.user, check=False)
    assert r.returncode == 1 and "another recipient" in r.stderr and not (files / "none").exists(), r
    new = h.Cluster(1, name="restored", restore=["--from", str(backup), "--identity", str(identity)])
    new.start()
    status = new.admin("GET", "/.berth/v1/cluster").json()
    assert status["incarnation"] > kept["incarnation"] and len(status["nodes"]) == 1, status
    assert status["id"] == cluster.admin("GET", "/.berth/v1/cluster").json()["id"]
    properties = new.pool("kept").json()["properties"]
    for field in ("scaleConfiguration", "dynamicPoolConfiguration", "customContainerTemplate", "secrets"):
        assert properties.get(field) == kept["pool"].get(field), (field, properties)
    assert new.sessions("kept") == []
    assert cluster.session("kept", "alive-1", "/count").status == 200, "the cluster it was taken of goes on"


def test_secrets_keys_and_bills_are_there():
    new.import_image()
    h.wait_until("a sandbox is ready", 30, lambda: new.counts("kept").get("readyCount", 0) or
                 new.session("kept", "afresh-1", "/env").status == 200)
    headers = {"Authorization": "Bearer " + kept["token"]}  # minted before, elsewhere
    assert new.session("kept", "afresh-1", "/env", headers=headers).json()["WORD"] == SECRET
    assert new.session("kept", "alive-1", "/count", headers=headers).status == 200
    before = {r["number"]: r for r in kept["records"]}
    found = {r["number"]: r for r in export(new, "records")}
    assert all(found.get(k) == v for k, v in before.items()), (before, found)
    ended = [r for k, r in found.items() if k not in before and r["generation"] != 0]
    assert len(ended) >= 2 and all(r["reason"] == "dead" for r in ended), "sessions that ran are billed, to the lease's end"


def test_ids_go_on_above():
    def top(c):
        return max(s["sandbox"] for s in c.sessions("kept"))
    assert top(new) > top(cluster) + 2**32, (top(new), top(cluster))


def test_another_node_joins_it():
    """The incarnation goes along with the node, its log, its messages and its forwarded requests."""
    new.join(2)
    h.wait_until("node2 is of the restored cluster", 30, lambda: new.nodes(2).get("node2", {}).get("state") == "up")
    assert f"incarnation = {new.admin('GET', '/.berth/v1/cluster').json()['incarnation']}" in (new.node_dir(2) / "berth.conf").read_text()
    h.wait_until("a session of node1 is reached through node2", 20,
                 lambda: new.session("kept", "alive-1", "/count", node=2, headers={"Authorization": "Bearer " + kept["token"]}).status == 200)
    owner = next(s["node"] for s in new.sessions("kept") if s["identifier"] == "alive-1")
    assert owner == new.nodes()["node1"]["id"]


try:
    h.run([test_start, test_a_backup_under_load, test_what_is_refused, test_restored_beside_the_one_that_goes_on,
           test_secrets_keys_and_bills_are_there, test_ids_go_on_above, test_another_node_joins_it], cluster)
finally:
    import shutil
    shutil.rmtree(files, ignore_errors=True)
