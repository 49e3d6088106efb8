"""Images and registries made to do harm: each pool of one fails with an operation error that names what is wrong, whether it comes
from a registry, an OCI layout or a docker-archive; nothing of it stays in the store, and what is merely odd unpacks inside its root."""
import pathlib
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time

import harness
from harness import Cluster, run
from hostile_registry import INDEX, MANIFEST, Registry, Repository, descriptor, digest_of

sys.path.insert(0, str(harness.SOURCE / "tests/component/image"))
import attacks  # noqa: E402  (found by the line above)

harness.need_machine()
registry, thief = Registry(), Registry()
cluster = Cluster(nodes=1, settings=["pull_retry_ms=1000", "image_stall_ms=2000", "image_unpacked_max=8Mi", "image_entries_max=100000",
                                     f"insecure_registries={registry.host},{thief.host}"]).start()
made = attacks.images()
good = attacks.Image(attacks.layer(attacks.entry("good", data=b"x")))  # a layer that no other has: it would be kept, and not fetched
folder = pathlib.Path(tempfile.mkdtemp(prefix="berth-hostile.", dir=cluster.dir))
folder.chmod(0o755)
store = cluster.node_dir(1) / "state/sandboxd/store"
WORKERS = 6


def in_turn(names, work):
    """work(name) for each, a few at a time; all that went wrong, together."""
    todo, wrong = queue.Queue(), []
    for name in names:
        todo.put(name)

    def one():
        while True:
            try:
                name = todo.get_nowait()
            except queue.Empty:
                return
            try:
                work(name)
            except Exception as e:  # told below, with the others
                wrong.append(f"{name}: {e!r}")
    threads = [threading.Thread(target=one) for _ in range(WORKERS)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong, "\n".join(wrong)


def put(name, resource=None, tag=":1"):
    a = cluster.put_pool("p-" + name, resource=resource or cluster.resource(image=f"{registry.host}/{name}{tag}", ready=0), wait=False)
    status = cluster.wait_operation(a, seconds=150)  # 100,000 files, on a busy disk
    cluster.wait_operation(cluster.admin("DELETE", cluster.arm_path("p-" + name)))
    return status


def refused(name, text, **how):
    status = put(name, **how)
    assert status["status"] == "Failed", status
    error = status["error"]
    assert text in error["message"], error
    assert "containers[0].image" in error["message"] or "registryCredentials" in error["message"], error
    print(f"        {name}: {error['code']}: ...{error['message'].split(': ', 3)[-1][:150]}")



def test_layers_from_a_registry():
    for name, image in made.items():
        registry.repositories[name] = Repository(image)

    def one(name):
        if made[name].says:
            refused(name, made[name].says)
            return
        status = put(name)
        assert status["status"] == "Succeeded", status
        check(registry.repositories[name].manifests["1"], made[name])
    in_turn(made, one)
    assert stored() == {digest_of(registry.repositories[n].manifests["1"])[7:] for n in made if not made[n].says}
    is_shut()


def check(manifest, image):
    root = store / "images" / digest_of(manifest)[7:] / "root"
    r = subprocess.run(["/bin/sh", "-c", image.check], cwd=root, capture_output=True, text=True)
    assert r.returncode == 0, (image.check, r.stderr, [p.name for p in root.iterdir()][:20])


def stored():
    """What is published; nothing may be under way or left behind."""
    assert list((store / "work").iterdir()) == []
    assert not pathlib.Path("/escaped").exists()
    return {p.name for p in (store / "images").iterdir()}


def is_shut():
    """Nobody but root gets into the store."""
    for path in (store, store / "images", store / "work"):
        assert path.stat().st_mode & 0o777 == 0o700 and path.stat().st_uid == 0, path
    elevate = store / "images" / digest_of(registry.repositories["ok-setuid"].manifests["1"])[7:] / "root/elevate"
    assert elevate.stat().st_mode & 0o4000
    r = subprocess.run(["setpriv", "--reuid=61234", "--regid=61234", "--clear-groups", "test", "-e", str(elevate)])
    assert r.returncode == 1, "no user of the host sees a setuid file of an image"


def imported(name, path):
    a = cluster.admin("POST", "/.berth/v1/images/import", {"path": str(path), "reference": f"{name}:1"})
    image = made[name]
    if image.says is None:
        assert a.status == 200, a
    else:
        assert a.status == 400 and image.says in a.json()["error"]["message"], a


def test_layers_of_archives():
    """The same as a layout and as what `docker save` writes."""
    def one(name):
        attacks.layout(str(folder / name), made[name])
        imported(name, folder / name)
        shutil.rmtree(folder / name)
        attacks.docker_archive(folder / (name + ".tar"), made[name])
        imported(name, folder / (name + ".tar"))
        (folder / (name + ".tar")).unlink()
    in_turn([n for n in made if "many" not in n], one)
    stored()


LAYER = digest_of(good.layers[0][0])
CONFIG = digest_of(good.configuration())


def say(status=200, body=b"", only="manifests", **headers):
    """Answers requests of one kind so."""
    def answer(h, what, key):
        if what != only:
            return False
        h.send(status, body, **headers)
        return True
    return answer


def pour(head, piece, pause=0.0, only="manifests", seconds=30):
    """A head, then the same piece for ever."""
    def answer(h, what, key):
        if what != only or (only == "blobs" and key != LAYER):
            return False
        h.wfile.write(head)
        end = time.monotonic() + seconds
        h.close_connection = True
        while time.monotonic() < end:
            h.wfile.write(piece)
            time.sleep(pause)
        return True
    return answer


def cut(h, what, key):
    """Never a layer's last byte."""
    if what != "blobs" or key != LAYER:
        return False
    h.close_connection = True
    h.send(200, good.layers[0][0][:-1], Content_Length=str(len(good.layers[0][0])))
    return True


def other_part(h, what, key):
    """Begins, breaks off, and goes on elsewhere."""
    if what != "blobs" or key != LAYER:
        return False
    data, h.close_connection = good.layers[0][0], True
    if "Range" in h.headers:
        h.send(206, data[:100], Content_Range=f"bytes 0-99/{len(data)}")
    else:
        h.send(200, data[:1000], Content_Length=str(len(data)))
    return True


def redirect(to, only="blobs"):
    return say(307, only=only, Location=to)


def challenge(realm):
    return say(401, WWW_Authenticate=f'Bearer realm="{realm}",service="s"')


def token(body, **how):
    def answer(h, what, key):
        if what == "manifests":
            h.send(401, WWW_Authenticate=f'Bearer realm="http://{registry.host}/v2/{h.path.split("/")[2]}/x/y",service="s"')
        elif what == "x":
            h.send(200, body, **how)
        return what in ("manifests", "x")
    return answer


def loop(h, what, key):
    if what == "blobs":
        h.send(307, Location=h.path)
    return what == "blobs"


def endless_index(h, what, key):
    body = Repository(good, wrap=1).manifests["1"]
    if what == "manifests":
        h.send(200, body, Content_Type=INDEX)
    return what == "manifests"


def lies():
    changed = bytearray(good.layers[0][0])
    changed[600] ^= 1
    layers = [descriptor(kind, raw) for raw, _, kind in good.layers]
    config = descriptor("application/vnd.oci.image.config.v1+json", good.configuration())
    chunked = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n" % MANIFEST.encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(good.layers[0][0])
    many_layers = attacks.Image(*[good.layers[0][0]] * 200)
    return {
        "changed-layer": (dict(blobs={LAYER: bytes(changed)}), "has digest sha256:"),
        "short-layer": (dict(blobs={LAYER: good.layers[0][0][:-7]}), f"bytes, not {len(good.layers[0][0])}"),
        "long-layer": (dict(blobs={LAYER: good.layers[0][0] + b"more"}), f"more than the {len(good.layers[0][0])} bytes"),
        "layer-size": (dict(layers=[{**layers[0], "size": 1 << 40}]), "are allowed"),
        "layer-missing": (dict(layers=[{**layers[0], "digest": "sha256:" + "6" * 64}]), "does not know"),
        "layer-digest": (dict(layers=[{**layers[0], "digest": "sha512:" + "6" * 128}]), "layers[0]: digest"),
        "config-changed": (dict(blobs={CONFIG: good.configuration()[:-1] + b" "}), "configuration has digest"),
        "config-size": (dict(config={**config, "size": config["size"] + 1}), "configuration has"),
        "config-big": (dict(config={**config, "size": 5 << 20}), "4194304 are allowed"),
        "config-type": (dict(config={**config, "mediaType": "application/vnd.cncf.helm.config.v1+json"}), "config: mediaType"),
        "manifest-type": (dict(mediaType="application/vnd.example.other"), "not that of an image's manifest"),
        "layer-type": (dict(layers=[{**layers[0], "mediaType": "application/x-elf"}]), "no kind of layer"),
        "foreign-layer": (dict(layers=[{**layers[0], "urls": ["https://127.0.0.1/x"],
                                        "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"}]), "no kind of layer"),
        "layers-200": (dict(layers=[descriptor(k, r) for r, _, k in many_layers.layers],
                            config=descriptor(config["mediaType"], many_layers.configuration()),
                            blobs={digest_of(many_layers.configuration()): many_layers.configuration()}), "128 are allowed"),
        "layers-300": (dict(layers=layers * 300), "layers: "),
        "layers-2-of-1": (dict(layers=layers * 2), "the manifest has 2 layers, the configuration 1"),
        "manifests-600": (dict(manifests=[layers[0]] * 600, without=["layers"]), "manifests: "),
        "index-of-indexes": (dict(wrap=4), "more than 2 indexes"),
        "index-of-itself": (dict(answer=endless_index), "the manifest has digest"),
        "manifest-big": (dict(answer=say(200, bytes(5 << 20))), "more than the 4194304 bytes"),
        "manifest-no-json": (dict(answer=say(200, b"<html>hello</html>")), "not valid JSON"),
        "manifest-deep": (dict(answer=say(200, b'{"a":' * 5000 + b"1" + b"}" * 5000)), "deeper"),
        "endless-chunks": (dict(answer=pour(chunked, b"10000\r\n" + bytes(0x10000) + b"\r\n")), "more than the 4194304 bytes"),
        "endless-head": (dict(answer=pour(b"HTTP/1.1 200 OK\r\n", b"X-Filler: " + b"x" * 1000 + b"\r\n")), "headers of more than"),
        "endless-1xx": (dict(answer=pour(b"", b"HTTP/1.1 102 Processing\r\n\r\n" * 100)), "headers of more than"),
        "not-http": (dict(answer=pour(b"", b"SSH-2.0-nothing\r\n", seconds=0.2)), registry.host),
        "drip": (dict(answer=pour(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"x", 0.2)), "less than 1024 bytes a second"),
        "drip-of-a-layer": (dict(answer=pour(head, b"x", 0.2, only="blobs")), "less than 1024 bytes a second"),
        "always-cut": (dict(answer=cut), registry.host),
        "other-part": (dict(answer=other_part), "another part of the body"),
        "redirect-plain": (dict(answer=redirect("http://10.255.255.1/x")), "redirects to http://10.255.255.1, which is not allowed"),
        "redirect-private": (dict(answer=redirect("https://10.255.255.1/x")), "10.255.255.1: its address is not public"),
        "redirect-metadata": (dict(answer=redirect("https://169.254.169.254/latest")), "its address is not public"),
        "redirect-loopback": (dict(answer=redirect("https://localhost:9/x")), "localhost:9: its address is not public"),
        "redirect-mapped": (dict(answer=redirect("https://[::ffff:127.0.0.1]:9/x")), "its address is not public"),
        "redirect-file": (dict(answer=redirect("file:///etc/passwd")), "not an http or https address"),
        "redirect-user": (dict(answer=redirect("https://a:b@10.255.255.1/")), "not an http or https address"),
        "redirect-loop": (dict(answer=loop), "redirects more than 5 times"),
        "redirect-manifest": (dict(answer=redirect("https://192.168.0.1/x", only="manifests")), "its address is not public"),
        "token-elsewhere": (dict(answer=challenge(f"http://{thief.host}/token")), "not among its accepted token hosts"),
        "token-scheme": (dict(answer=challenge("ftp://127.0.0.1/token")), "not an http or https address"),
        "token-none": (dict(answer=challenge("")), "names no realm"),
        "token-big": (dict(answer=token(b'{"token":"' + b"t" * 100000 + b'"}')), "more than the 65536 bytes"),
        "token-long": (dict(answer=token(b'{"token":"' + b"t" * 20000 + b'"}')), "the token server's answer"),
        "token-lines": (dict(answer=token(b'{"token":"a\\r\\nHost: x"}')), "characters that no token has"),
        "token-no-json": (dict(answer=token(b"hello")), "the token server's answer"),
        "error-endless": (dict(answer=pour(b"HTTP/1.1 400 No\r\nContent-Length: 99999999\r\n\r\n", bytes(65536))), "answered 400"),
    }


def test_registry_that_lies():
    cases, before = lies(), stored()
    for name, (how, _) in cases.items():
        registry.repositories[name] = Repository(good, **how)

    def one(name):
        resource = cluster.resource(image=f"{registry.host}/{name}:1", ready=0)
        properties = resource["properties"]
        properties["customContainerTemplate"]["registryCredentials"] = {
            "server": registry.host, "username": "user", "passwordSecretRef": "p"}
        properties["secrets"] = [{"name": "p", "value": "secret"}]
        refused(name, cases[name][1], resource=resource)
    in_turn(cases, one)
    assert thief.asked == [], "whoever is not the registry's token server is not even asked"
    assert stored() == before


def test_digest_is_not_what_was_asked_for():
    registry.repositories["pinned"] = Repository(good, answer=lambda h, what, key: what == "manifests" and (
        h.send(200, Repository(made["ok-twice"]).manifests["1"], Content_Type=MANIFEST) or True))
    refused("pinned", "the manifest has digest", tag="@" + digest_of(Repository(good).manifests["1"]))


def test_urls_of_a_layer_are_not_asked():
    layers = [descriptor(kind, raw, urls=[f"http://{thief.host}/layer"]) for raw, _, kind in good.layers]
    registry.repositories["urls"] = Repository(good, layers=layers)
    assert put("urls")["status"] == "Succeeded"
    registry.repositories["urls-only"] = Repository(attacks.Image(attacks.layer(attacks.entry("only"))),
                                                    answer=lambda h, what, key: what == "blobs" and key == digest_of(
                                                        attacks.layer(attacks.entry("only"))) and (h.send(404) or True))
    refused("urls-only", "does not know")
    assert thief.asked == []


try:
    run([test_layers_from_a_registry, test_layers_of_archives, test_registry_that_lies, test_digest_is_not_what_was_asked_for,
         test_urls_of_a_layer_are_not_asked], cluster)
finally:
    registry.end()
    thief.end()
