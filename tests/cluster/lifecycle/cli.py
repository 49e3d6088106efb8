"""The command line tool against a real cluster: a pool's life, sessions, logs, images, nodes, the bill and tokens, in json, table and
tsv; exit statuses of what is not there, refused or away; several endpoints of which one is dead."""
import csv
import io
import json
import os
import signal
import subprocess
import threading
import time

import harness
from harness import BUILD, IMAGE, SOURCE, Cluster, run, wait_until

NOT_FOUND, REFUSED, UNAVAILABLE, USAGE, FAILED = 3, 4, 5, 2, 1
cluster = Cluster(settings=["cooldown_min=2", "pull_retry_ms=1000", "start_ms=5000"], name="cli").start()
PLACE = ["--subscription", harness.SUBSCRIPTION, "--resource-group", harness.GROUP]


def environment(**more):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("BERTH_")}
    return dict(clean, BERTH_DIR=str(cluster.dir), **more)


def berth(*args, code=0, env=None):
    r = subprocess.run([str(BUILD / "bin/berth"), *args], capture_output=True, text=True, timeout=120, env=env or environment())
    assert r.returncode == code, (args, r.returncode, r.stdout, r.stderr)
    if code:
        assert r.stderr.startswith("berth: ") and r.stdout == "", (args, r.stdout, r.stderr)
    return r


def shown(*args, **how):
    return json.loads(berth(*args, "--output", "json", **how).stdout)


def table(*args, **how):
    """Rows of a table as dicts by their heads; heads stand in capitals and columns are lined up."""
    lines = berth(*args, "--output", "table", **how).stdout.splitlines()
    assert lines and lines[0] == lines[0].upper(), lines
    starts = [i for i, ch in enumerate(lines[0]) if ch != " " and (i == 0 or lines[0][i - 2:i] == "  ")]
    cut = [[line[a:b].strip() for a, b in zip(starts, starts[1:] + [None])] for line in lines]
    return [dict(zip(cut[0], row)) for row in cut[1:]]


def tsv(*args, **how):
    return [line.split("\t") for line in berth(*args, "--output", "tsv", **how).stdout.splitlines()]


def of_endpoints(token, *nodes):
    urls = ",".join(f"https://127.0.0.1:{cluster.port(n, 'https')}" for n in nodes)
    clean = {k: v for k, v in os.environ.items() if not k.startswith("BERTH_")}
    return dict(clean, BERTH_ENDPOINTS=urls, BERTH_CA=str(cluster.dir / "ca.pem"), BERTH_TOKEN=token)


def test_images():
    imported = berth("image", "import", "--name", "app:1", IMAGE, "--output", "tsv").stdout.splitlines()
    assert len(imported) == 3 and len({line for line in imported}) == 1, imported
    digest = shown("image", "list")["value"][0]["digest"]
    assert digest.startswith("sha256:") and digest in imported[0]
    assert table("image", "list")[0]["REFERENCE"].endswith("app:1"), table("image", "list")
    assert tsv("image", "list")[0][1] == digest
    berth("image", "import", "--name", "app:2", "/tmp/there-is-no-such-file.tar", code=FAILED)
    said = berth("image", "import", "--name", "app:3", str(SOURCE / "README.md"), code=FAILED).stderr
    assert "README.md" in said or "archive" in said, said
    berth("image", "import", IMAGE, code=USAGE)


def test_nodes_and_status():
    nodes = shown("node", "list")["value"]
    assert [n["name"] for n in nodes] == ["node1", "node2", "node3"] and sum(n["leader"] for n in nodes) == 1
    assert [r["NAME"] for r in table("node", "list")] == ["node1", "node2", "node3"]
    assert [r[1] for r in tsv("node", "list")] == ["node1", "node2", "node3"]
    assert shown("node", "show", "--name", "node2")["id"] == shown("node", "show", "--name", "2")["id"] == 2
    said = berth("node", "show", "--name", "node9", code=NOT_FOUND).stderr
    assert "node9" in said, said
    status = shown("cluster", "status")
    assert status["health"] == "ok" and status["leader"] in (1, 2, 3) and len(status["nodes"]) == 3
    assert "node3" in berth("cluster", "status", "--output", "table").stdout
    assert tsv("cluster", "status")[0][1] == "ok"


def test_a_pool_is_created_shown_and_listed():
    made = shown("pool", "create", "--name", "web", *PLACE, "--image", "app:1", "--cpu", "0.25", "--memory", "0.5Gi",
                 "--target-port", "80", "--cooldown-period", "60", "--network-status", "EgressDisabled", "--max-sessions", "5",
                 "--ready-sessions", "2", "--env-vars", "COLOUR=blue", "WORD=secretref:word", "--secrets", "word=hush",
                 "--location", "here")
    p = made["properties"]
    assert (made["name"], made["location"], p["provisioningState"]) == ("web", "here", "Succeeded"), made
    assert p["scaleConfiguration"] == {"maxConcurrentSessions": 5, "readySessionInstances": 2}
    assert "hush" not in json.dumps(made) and p["secrets"] == [{"name": "word"}]
    wait_until("two are ready", 30, lambda: shown("pool", "show", "--name", "web", *PLACE)["berth"]["sandboxes"]["ready"] == 2)
    text = berth("pool", "show", "--name", "web", *PLACE, "--output", "table").stdout
    assert "app:1" in text and "2/2" in text and "Succeeded" in text, text
    row = next(r for r in table("pool", "list", *PLACE) if r["NAME"] == "web")
    assert (row["STATE"], row["MAX"], row["READY"]) == ("Succeeded", "5", "2"), row
    assert tsv("pool", "list", *PLACE)[0][0] == "web"
    assert [x["name"] for x in shown("pool", "list", "--subscription", harness.SUBSCRIPTION)["value"]] == ["web"]
    assert shown("pool", "list", "--subscription", harness.SUBSCRIPTION, "--resource-group", "other")["value"] == []


def test_sessions():
    assert cluster.session("web", "carol", "/env").json()["WORD"] == "hush"
    assert cluster.session("web", "erin-1", "/run", method="POST", body=b"echo to the log >/proc/1/fd/1; echo -n done").status == 200
    named = ["--name", "web", *PLACE]
    found = wait_until("both are listed", 10, lambda: next((v for v in [shown("session", "list", *named)["value"]]
                                                            if len(v) >= 2), None))
    assert {"carol", "erin-1"} <= {s["identifier"] for s in found}
    one = shown("session", "show", *named, "--identifier", "carol")
    assert one["state"] == "live" and one["nodeName"].startswith("node")
    row = next(r for r in table("session", "list", *named) if r["IDENTIFIER"] == "carol")
    assert (row["SANDBOX"], row["NODE"]) == (str(one["sandbox"]), one["nodeName"]), row
    assert "carol" in [r[0] for r in tsv("session", "list", *named)]
    said = berth("session", "show", *named, "--identifier", "nobody", code=NOT_FOUND).stderr
    assert "session" in said, said
    berth("session", "show", *named, code=USAGE)
    berth("session", "stop", *named, "--identifier", "carol")
    wait_until("carol is gone", 20, lambda: "carol" not in [s["identifier"] for s in shown("session", "list", *named)["value"]])
    berth("session", "stop", *named, "--identifier", "carol", code=NOT_FOUND)


def test_logs_follow():
    named = ["--name", "web", *PLACE, "--identifier", "erin-1"]
    process = subprocess.Popen([str(BUILD / "bin/berth"), "logs", *named, "--follow"], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, env=environment())
    lines = []
    reader = threading.Thread(target=lambda: lines.extend(process.stdout))
    reader.start()
    try:
        for i in range(3):
            cluster.session("web", "erin-1", "/run", method="POST", body=f"echo line {i} of the log >/proc/1/fd/1".encode())
            time.sleep(0.1)
        wait_until("the third line is there", 10, lambda: any("line 2 of the log" in x for x in lines), 0.1)
        once = berth("logs", *named).stdout
        assert all(f"line {i} of the log" in once for i in range(3)), once
        assert len(berth("logs", *named, "--tail", "1").stdout.splitlines()) == 1
        berth("session", "stop", *named)
        wait_until("following ends with its sandbox", 20, lambda: process.poll() is not None, 0.1)
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait()
        reader.join()
    assert berth("logs", *named).stdout.startswith(once), "its log outlives it"
    assert "".join(lines).startswith(once), lines


def test_updates():
    named = ["--name", "web", *PLACE]
    before = shown("pool", "show", *named)["properties"]
    after = shown("pool", "update", *named, "--max-sessions", "7", "--ready-sessions", "1")["properties"]
    assert after["scaleConfiguration"] == {"maxConcurrentSessions": 7, "readySessionInstances": 1}
    assert after["customContainerTemplate"] == before["customContainerTemplate"] and after["secrets"] == before["secrets"]
    after = shown("pool", "update", *named, "--env-vars", "COLOUR=red")["properties"]
    env = after["customContainerTemplate"]["containers"][0]["env"]
    assert {"name": "COLOUR", "value": "red"} in env, env
    berth("pool", "update", *named, "--cooldown-period", "61", "--no-wait")
    wait_until("it is done", 10, lambda: shown("pool", "show", *named)["properties"]["dynamicPoolConfiguration"][
        "lifecycleConfiguration"]["cooldownPeriodInSeconds"] == 61)
    said = berth("pool", "update", *named, "--cooldown-period", "1", code=FAILED).stderr
    assert "cooldownPeriodInSeconds" in said, said
    said = berth("pool", "update", *named, "--image", "app:missing", code=FAILED).stderr
    assert "app:missing" in said or "missing" in said, said
    assert "missing" in berth("pool", "show", *named, "--output", "table").stdout
    shown("pool", "update", *named, "--image", "app:1")
    berth("pool", "update", "--name", "absent", *PLACE, "--cpu", "0.5", code=NOT_FOUND)


def test_pools_from_files():
    template = {"$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#", "resources": [
        {"type": "Microsoft.App/sessionPools", "apiVersion": "2024-08-02-preview", "name": "filed",
         **cluster.resource(image="app:1", ready=1)}]}
    path = cluster.dir / "template.json"
    path.write_text(json.dumps(template))
    made = shown("pool", "create", "--file", str(path), *PLACE, "--max-sessions", "3")
    assert made["name"] == "filed" and made["properties"]["scaleConfiguration"]["maxConcurrentSessions"] == 3, made
    path.write_text("{ not json")
    said = berth("pool", "create", "--file", str(path), *PLACE, code=USAGE).stderr
    assert "template.json" in said, said
    berth("pool", "delete", "--name", "filed", *PLACE)


def test_what_is_wrong_is_said():
    for words in (["pool"], ["pool", "mend"], ["pool", "show"], ["pool", "show", "--name", "web", "--colour", "red"],
                  ["node", "list", "--output", "yaml"], ["billing", "export", "--format"]):
        r = subprocess.run([str(BUILD / "bin/berth"), *words], capture_output=True, text=True, timeout=30, env=environment())
        assert r.returncode == USAGE and r.stderr.startswith("berth: ") and not r.stdout, (words, r)
    assert "absent" in berth("pool", "show", "--name", "absent", *PLACE, code=NOT_FOUND).stderr
    berth("pool", "delete", "--name", "absent", *PLACE)  # as Azure: 204
    berth("session", "list", "--name", "absent", *PLACE, code=NOT_FOUND)
    said = berth("pool", "create", "--name", "Bad_Name", *PLACE, "--image", "app:1", "--target-port", "80", code=FAILED).stderr
    assert "name" in said.lower(), said
    said = berth("billing", "export", "--from", "yesterday", code=FAILED).stderr
    assert "from" in said, said


def test_the_bill():
    text = berth("billing", "export", "--from", "-1h", "--to", "now").stdout
    lines = list(csv.DictReader(io.StringIO(text)))
    assert {x["kind"] for x in lines} >= {"bucket", "record"} and "web" in {x["pool_name"] for x in lines}
    bill = json.loads(berth("billing", "export", "--format", "json").stdout)
    assert {r["sandbox"] for r in bill["records"]} >= {int(x["sandbox"]) for x in lines if x["kind"] == "record"}
    assert not json.loads(berth("billing", "export", "--from", "2020-01-01", "--to", "2020-01-02", "--format",
                                "json").stdout)["records"]


def test_tokens_and_roles():
    owner = berth("token").stdout.strip()
    reader = berth("token", "--role", "Reader", "--ttl", "600").stdout.strip()
    data = berth("token", "--audience", "data").stdout.strip()
    elsewhere = berth("token", "--role", f"Owner@/subscriptions/{harness.SUBSCRIPTION}/resourceGroups/other").stdout.strip()
    assert owner.count(".") == 2 and json.loads(berth("token", "--output", "json").stdout)["token"]
    assert shown("pool", "show", "--name", "web", *PLACE, env=of_endpoints(owner, 1))["name"] == "web"
    assert shown("pool", "show", "--name", "web", *PLACE, env=of_endpoints(reader, 2))["name"] == "web"
    update = ["pool", "update", "--name", "web", *PLACE, "--max-sessions", "6"]
    for token in (reader, data, elsewhere, "not-a-token", ""):
        berth(*update, code=REFUSED, env=of_endpoints(token, 3))
    berth(*update, env=of_endpoints(owner, 3))
    berth("token", "--ttl", "90000", code=FAILED)
    said = berth("token", code=USAGE, env=dict(of_endpoints(owner, 1), BERTH_DIR="/nonexistent")).stderr
    assert "socket" in said, said


def test_one_endpoint_is_dead():
    owner = berth("token").stdout.strip()
    env = of_endpoints(owner, 1, 2, 3)
    dead = dict(env, BERTH_ENDPOINTS="https://127.0.0.1:9," + env["BERTH_ENDPOINTS"])
    assert shown("node", "list", env=dead)["value"][0]["name"] == "node1"
    berth("node", "list", code=UNAVAILABLE, env=dict(env, BERTH_ENDPOINTS="https://127.0.0.1:9,https://127.0.0.1:10"))
    unknown_ca = dict(env, BERTH_CA="/etc/ssl/certs/ca-certificates.crt")
    assert "ertificate" in berth("node", "list", code=UNAVAILABLE, env=unknown_ca).stderr
    os.kill(cluster.pid(1, "berthd"), signal.SIGKILL)  # the first endpoint, for a moment
    made = shown("pool", "create", "--name", "second", *PLACE, "--image", "app:1", "--target-port", "80", "--ready-sessions", "1",
                 "--max-sessions", "2", "--cooldown-period", "60", env=env)
    assert made["properties"]["provisioningState"] == "Succeeded"
    berth("pool", "delete", "--name", "second", *PLACE, env=env)
    berth("pool", "show", "--name", "second", *PLACE, code=NOT_FOUND, env=env)


def test_a_pool_is_deleted():
    berth("pool", "delete", "--name", "web", *PLACE)
    berth("pool", "show", "--name", "web", *PLACE, code=NOT_FOUND)
    assert shown("pool", "list", *PLACE)["value"] == []
    assert table("pool", "list", *PLACE) == [] and tsv("pool", "list", *PLACE) == []


run([test_images, test_nodes_and_status, test_a_pool_is_created_shown_and_listed, test_sessions, test_logs_follow, test_updates,
     test_pools_from_files, test_what_is_wrong_is_said, test_the_bill, test_tokens_and_roles, test_one_endpoint_is_dead,
     test_a_pool_is_deleted], cluster)
