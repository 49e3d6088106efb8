"""Images from registries: pulled with credentials and without, obeyed and overridden, cached on the nodes, and run there.

The registries are docker-registry on loopback, TLS under a CA of their own, filled by skopeo; one wants a password."""
import json
import threading
import time

import harness
import trace_execs
from harness import Cluster, run, wait_until
from images import PASSWORD, USER, Images, free_ports

harness.in_own_network()  # one pool has egress
images = Images()
PRIVATE, OPEN = free_ports(2)
private = images.start_registry(PRIVATE, private=True)
public = images.start_registry(OPEN)
# What it was given as arguments, where and as whom, it writes to a file; then it serves, and says which signal ended it.
START = """#!/bin/sh
echo "$@" > /tmp/arguments
echo a line for stdout
echo a line for stderr >&2
trap 'echo told to stop by USR1; sleep 1; exit 0' USR1
trap 'echo told to stop by TERM; sleep 1; exit 0' TERM
/echo-server &
while :; do wait; done
"""
full = images.layout("full", files=[("start", START, 0o755)], Entrypoint=["/start", "of-image"], Cmd=["one", "two"],
                     Env=["PATH=/bin", "PORT=8081", "FROM=image", "KEPT=yes"], WorkingDir="/home/app", User="app",
                     ExposedPorts={"8081/tcp": {}}, StopSignal="SIGUSR1")
images.push(full, f"127.0.0.1:{PRIVATE}/team/full:1", private=True)
plain = {tag: images.layout("plain" + tag, Env=["PATH=/bin", "VERSION=" + tag]) for tag in "123"}
for tag, layout in plain.items():
    images.push(layout, f"127.0.0.1:{OPEN}/plain:{tag}", **({"format": "v2s2"} if tag == "2" else {}))
cluster = Cluster(settings=["cooldown_min=2", f"allowed_registries=127.0.0.1:{PRIVATE},127.0.0.1:{OPEN}",
                            f"image_ca={images.ca}"]).start()
trace = trace_execs.Trace(cluster.pid(1, "sandboxd"), images.dir / "execs")


def with_password(resource, password=PASSWORD):
    properties = resource["properties"]
    properties["customContainerTemplate"]["registryCredentials"] = {
        "server": f"127.0.0.1:{PRIVATE}", "username": USER, "passwordSecretRef": "registry-password"}
    properties["secrets"] = [{"name": "registry-password", "value": password}, {"name": "word", "value": "from a secret"}]
    return resource


def full_resource(**how):
    return with_password(cluster.resource(image=f"127.0.0.1:{PRIVATE}/team/full:1", port=8081, **how))


def succeeded(status):
    assert status["status"] == "Succeeded", status


def shell(pool, identifier, command, **how):
    a = cluster.session(pool, identifier, "/run", method="POST", body=command.encode(), **how)
    assert a.status == 200, a
    return a.body.decode().split("\n")[:-1]


def environment(pool, identifier, **how):
    a = cluster.session(pool, identifier, "/env", **how)
    assert a.status == 200, a
    return a.json()


def nodes_of(pool, n):
    """Where the n sessions of a pool are; a follower may list them a moment later."""
    def live():
        sessions = [s for s in cluster.sessions(pool) if s["state"] == "live"]
        return len(sessions) == n and {s["node"] for s in sessions}
    return wait_until(f"{n} live sessions are listed", 10, live)


def images_of(node):
    return [i["digest"] for i in cluster.admin("GET", "/.berth/v1/images", node=node).json()["value"]]


def wait_for_copies(layout, nodes=(1, 2, 3)):
    wait_until(f"nodes {nodes} hold the image", 30, lambda: all(images.digest(layout) in images_of(n) for n in nodes))


def test_private_image_runs_on_three_nodes():
    succeeded(cluster.put_pool("secret", resource=full_resource(ready=3, max_sessions=30)))
    wait_for_copies(full)
    asked = [cluster.session("secret", f"user-{i}", "/instance", node=i % 3 + 1) for i in range(9)]
    assert all(a.status == 200 for a in asked), asked
    assert len({a.body for a in asked}) == 9, asked
    assert nodes_of("secret", 9) == {1, 2, 3}
    assert PASSWORD not in cluster.pool("secret").body.decode()


def test_image_is_obeyed():
    assert shell("secret", "user-1", "cat /tmp/arguments; pwd; id -u; id -g") == ["of-image one two", "/home/app", "1000", "1000"]
    env = environment("secret", "user-1")
    assert env["FROM"] == "image" and env["KEPT"] == "yes" and env["PORT"] == "8081", env


def test_template_overrides():
    container = full_resource()["properties"]["customContainerTemplate"]["containers"][0]
    env = [{"name": "FROM", "value": "template"}, {"name": "WORD", "secretRef": "word"}]
    cases = {"args": ({"args": ["three"]}, "of-image three"),
             "command": ({"command": ["/start", "of-template"]}, "of-template"),
             "both": ({"command": ["/start", "of-template"], "args": ["four", "five"]}, "of-template four five")}
    for name, (change, expected) in cases.items():
        resource = full_resource(ready=1)
        resource["properties"]["customContainerTemplate"]["containers"] = [{**container, **change, "env": env}]
        succeeded(cluster.put_pool(name, resource=resource))
        assert shell(name, "user-1", "cat /tmp/arguments") == [expected], name
        seen = environment(name, "user-1")
        assert (seen["FROM"], seen["KEPT"], seen["WORD"]) == ("template", "yes", "from a secret"), seen
        cluster.admin("DELETE", cluster.arm_path(name))


def test_logs_of_any_node_and_the_stop_signal():
    for session in cluster.sessions("secret")[:4]:
        text = cluster.berth("logs", "-g", harness.GROUP, "--subscription", harness.SUBSCRIPTION, "--name", "secret",
                             "--identifier", session["identifier"]).stdout
        lines = [line.split(" ", 1)[1] for line in text.splitlines()]
        assert "stdout F a line for stdout" in lines and "stderr F a line for stderr" in lines, text
    followed = []
    follower = threading.Thread(target=lambda: followed.append(cluster.berth(
        "logs", "-g", harness.GROUP, "--subscription", harness.SUBSCRIPTION, "--name", "secret", "--identifier", "user-2",
        "--follow", timeout=60).stdout))
    follower.start()
    time.sleep(1)
    a = cluster.admin("POST", f"/.berth/v1{cluster.arm_path('secret').split('?')[0]}/stopSession?identifier=user-2")
    assert a.status == 200, a
    follower.join()
    assert "told to stop by USR1" in followed[0] and "by TERM" not in followed[0], followed


def test_two_tags_and_a_digest():
    succeeded(cluster.put_pool("tags", image=f"127.0.0.1:{OPEN}/plain:1", ready=1, node=2))
    assert environment("tags", "user-1")["VERSION"] == "1"
    succeeded(cluster.put_pool("tags", image=f"127.0.0.1:{OPEN}/plain:2", ready=1, node=3))
    wait_until("new sessions run the other tag", 20, lambda: environment("tags", f"user-{time.monotonic_ns()}")["VERSION"] == "2")
    assert environment("tags", "user-1")["VERSION"] == "1", "a bound sandbox finishes on its revision"
    succeeded(cluster.put_pool("digest", image=f"127.0.0.1:{OPEN}/plain@{images.digest(plain['1'])}", ready=1))
    assert environment("digest", "user-1")["VERSION"] == "1"


def test_image_behind_an_index():
    """Registries hold an index of platforms behind most tags: the pool names the index, the nodes hold an image of it."""
    digest = images.push_index(plain["3"], f"127.0.0.1:{OPEN}", "plain", "many")
    for pool, name in (("index", ":many"), ("index-digest", "@" + digest)):
        succeeded(cluster.put_pool(pool, image=f"127.0.0.1:{OPEN}/plain{name}", ready=1))
        assert environment(pool, "user-1")["VERSION"] == "3"
        a = cluster.admin("DELETE", cluster.arm_path(pool))
        cluster.wait_operation(a)


def test_a_tag_is_resolved_once():
    """The tag moves on in the registry; the pool stays with the digest that it had."""
    images.push(plain["3"], f"127.0.0.1:{OPEN}/plain:1")
    succeeded(cluster.put_pool("moved", image=f"127.0.0.1:{OPEN}/plain:1", ready=3, max_sessions=30))
    assert environment("moved", "user-1")["VERSION"] == "3"
    images.push(plain["1"], f"127.0.0.1:{OPEN}/plain:1")
    assert environment("moved", "user-2")["VERSION"] == "3"


def test_cached_when_the_registries_are_gone():
    wait_for_copies(plain["3"])
    for process in (private, public):
        process.terminate()
        process.wait()
    for pool, path in (("secret", "FROM"), ("moved", "VERSION")):
        for i in range(9):
            assert path in environment(pool, f"later-{i}", node=i % 3 + 1)
        later = wait_until("all are listed", 10, lambda: [s for s in cluster.sessions(pool) if s["identifier"].startswith("later") and
                                                          s["state"] == "live"])
        assert len({s["node"] for s in later}) > 1, later


def test_share_only_with_a_copy():
    """A node that has no copy, and cannot get one any more, takes no share."""
    layout = images.layout("lonely", Env=["PATH=/bin", "VERSION=lonely"])
    archive = images.archive(layout, "oci-archive")
    a = cluster.admin("POST", "/.berth/v1/images/import", {"path": str(archive), "reference": "lonely:1"}, node=2)
    assert a.status == 200, a
    succeeded(cluster.put_pool("lonely", image=f"lonely@{images.digest(layout)}", ready=3, max_sessions=6))
    for i in range(6):
        assert environment("lonely", f"user-{i}", node=i % 3 + 1)["VERSION"] == "lonely"
    assert nodes_of("lonely", 6) == {2}


def test_import_of_every_form():
    layout = images.layout("imported", Env=["PATH=/bin", "VERSION=imported"])
    forms = {"docker": images.archive(layout, "docker-archive"), "oci": images.archive(layout, "oci-archive"), "folder": layout}
    for form, path in forms.items():
        name = f"imported/{form}:1"
        said = cluster.berth("image", "import", "--name", name, str(path), env={"BERTH_DIR": str(cluster.dir), "BERTH_SOCKET": ""})
        assert said.stdout.count("sha256:") == 3, said.stdout
        listed = cluster.berth("image", "list", "--output", "json").stdout
        assert form in ("docker", "folder") or name in listed, listed
        succeeded(cluster.put_pool("form-" + form, image=name, ready=1))
        assert environment("form-" + form, "user-1")["VERSION"] == "imported"


def test_sandboxd_executes_its_own_programs_only():
    succeeded(cluster.put_pool("outward", image="imported/oci:1", ready=3, egress=True))
    assert cluster.session("outward", "user-1").status == 200
    for pool in ("form-oci", "outward", "secret", "tags"):
        a = cluster.admin("DELETE", cluster.arm_path(pool))
        cluster.wait_operation(a)
    programs = trace.end()
    print("        sandboxd executed: " + ", ".join(f"{name} {n}x" for name, n in sorted(programs.items())))
    # berth-shim is not among them: all shims are forked from one that began with sandboxd, before the trace.
    assert {"berth-fetch", "berth-unpack", "nft"} == set(programs), programs


run([test_private_image_runs_on_three_nodes, test_image_is_obeyed, test_template_overrides,
     test_logs_of_any_node_and_the_stop_signal, test_two_tags_and_a_digest, test_image_behind_an_index,
     test_a_tag_is_resolved_once,
     test_cached_when_the_registries_are_gone, test_share_only_with_a_copy, test_import_of_every_form,
     test_sandboxd_executes_its_own_programs_only], cluster)
