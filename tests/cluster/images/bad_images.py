"""Images that cannot be had or do not serve: each ends with its cause in the operation or in the pool's failure, requests get 503
with that cause, and other pools do not suffer."""
import base64
import http.server
import threading
import time

import harness
from harness import Cluster, in_parallel, run, wait_until
from images import PASSWORD, USER, Hanging, Images, crashing_program, free_ports

images = Images("bad")
PRIVATE, OPEN, HANGS, REFUSES, CURIOUS = free_ports(5)
images.start_registry(PRIVATE, private=True)
images.start_registry(OPEN)
hanging = Hanging(HANGS)
good = images.layout("good", files=[("crash", crashing_program(), 0o755)], Env=["PATH=/bin", "VERSION=good"])
images.push(good, f"127.0.0.1:{OPEN}/good:1")
images.push(good, f"127.0.0.1:{PRIVATE}/good:1", private=True)
hosts = ",".join(f"127.0.0.1:{port}" for port in (PRIVATE, OPEN, HANGS, REFUSES, CURIOUS))
cluster = Cluster(settings=["cooldown_min=2", "queue_ms=2500", "pull_retry_ms=5000", "image_stall_ms=3000", "start_ms=3000",
                            f"allowed_registries={hosts}", f"insecure_registries=127.0.0.1:{CURIOUS}", f"image_ca={images.ca}"]).start()
CREDENTIALS = "properties.customContainerTemplate.registryCredentials"
IMAGE = "properties.customContainerTemplate.containers[0].image"


def resource_with(image, password=PASSWORD, server=f"127.0.0.1:{PRIVATE}", identity=None, **how):
    resource = cluster.resource(image=image, **how)
    properties = resource["properties"]
    if identity:
        properties["customContainerTemplate"]["registryCredentials"] = {"server": server, "identity": identity}
    else:
        properties["customContainerTemplate"]["registryCredentials"] = {
            "server": server, "username": USER, "passwordSecretRef": "p"}
        properties["secrets"] = [{"name": "p", "value": password}]
    return resource


def expect_failed(pool, code, *texts, seconds=30, **how):
    """The operation fails once, with this error; so does a request, and `berth pool show` says it."""
    began = time.monotonic()
    put = cluster.put_pool(pool, wait=False, **how)
    assert time.monotonic() - began < 2, "PUT returns at once"
    status = cluster.wait_operation(put, seconds=seconds)
    assert status["status"] == "Failed" and status["error"]["code"] == code, status
    for text in texts:
        assert text in status["error"]["message"], (text, status)
    document = cluster.pool(pool).json()["properties"]
    assert document["provisioningState"] == "Failed", document
    began = time.monotonic()
    expect_503_everywhere(pool, texts[-1])
    assert time.monotonic() - began < 2, "a pool that cannot start anything refuses at once"
    assert texts[-1] in shown(pool), shown(pool)
    assert cluster.wait_operation(put) == status, "it ends once"


def expect_503(pool, text, node=1):
    a = cluster.session(pool, f"user-of-{node}", node=node)
    assert a.status == 503 and text in a.body.decode(), (text, a)
    assert int(a.headers["retry-after"]) >= 1, a.headers


def expect_503_everywhere(pool, text):
    for outcome in in_parallel(3, lambda i: expect_503(pool, text, node=i + 1)):
        if outcome is not None:
            raise outcome


def delete(pool):
    a = cluster.admin("DELETE", cluster.arm_path(pool))
    assert a.status == 202, a
    assert cluster.wait_operation(a)["status"] == "Succeeded"


def shown(pool):
    return cluster.berth("pool", "show", "-g", harness.GROUP, "--subscription", harness.SUBSCRIPTION, "--name", pool, "--output", "table").stdout


def test_registry_that_hangs():
    put = cluster.put_pool("hangs", image=f"127.0.0.1:{HANGS}/good:1", wait=False)
    assert cluster.pool("hangs").json()["properties"]["provisioningState"] == "InProgress"
    wait_until("the registry is asked", 10, lambda: hanging.taken)
    assert cluster.pool("hangs").json()["properties"]["provisioningState"] == "InProgress"
    expect_503("hangs", "still being provisioned")
    status = cluster.wait_operation(put)
    assert status["status"] == "Failed" and status["error"]["code"] == "RegistryUnreachable", status
    assert f"127.0.0.1:{HANGS} did not answer within 3 s" in status["error"]["message"], status
    expect_503("hangs", f"127.0.0.1:{HANGS} did not answer")
    asked = len(hanging.taken)
    time.sleep(3)
    assert cluster.wait_operation(put) == status and len(hanging.taken) == asked, "it ended, once and for all"


def test_registry_that_hangs_delays_no_other_pool():
    for i in range(4):
        cluster.put_pool(f"hangs-{i}", image=f"127.0.0.1:{HANGS}/good@sha256:{i:064x}", wait=False)
    status = cluster.put_pool("beside", image=f"127.0.0.1:{OPEN}/good:1", ready=1)
    assert status["status"] == "Succeeded", status
    assert any(cluster.pool(f"hangs-{i}").json()["properties"]["provisioningState"] == "InProgress" for i in range(4))
    for i in range(4):
        delete(f"hangs-{i}")


def test_registry_that_refuses():
    expect_failed("refuses", "RegistryUnreachable", IMAGE, f"cannot connect to 127.0.0.1:{REFUSES}",
                  image=f"127.0.0.1:{REFUSES}/good:1")


def test_registry_that_is_not_allowed():
    expect_failed("strange", "RegistryNotAllowed", IMAGE, "strange.example is not in the list", image="strange.example/good:1")


def test_wrong_password():
    expect_failed("password", "RegistryCredentialsRefused", CREDENTIALS, f"127.0.0.1:{PRIVATE} refused access to good:1 (401)",
                  resource=resource_with(f"127.0.0.1:{PRIVATE}/good:1", password="wrong"))
    assert "wrong" not in shown("password")


def test_no_password():
    expect_failed("none", "RegistryCredentialsRefused", "there are none", f"127.0.0.1:{PRIVATE}", image=f"127.0.0.1:{PRIVATE}/good:1")


def test_identity_is_tried_without():
    expect_failed("identity", "RegistryIdentityRefused", CREDENTIALS + ".identity", f"127.0.0.1:{PRIVATE}",
                  resource=resource_with(f"127.0.0.1:{PRIVATE}/good:1", identity="system"))
    status = cluster.put_pool("identity-good", resource=resource_with(f"127.0.0.1:{OPEN}/good:1", server=f"127.0.0.1:{OPEN}",
                                                                      identity="system", ready=1))
    assert status["status"] == "Succeeded", status


def test_password_goes_to_its_server_alone():
    seen = []

    class Curious(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.headers.get("Authorization"))
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="give it to me"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass
    server = http.server.ThreadingHTTPServer(("127.0.0.1", CURIOUS), Curious)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    expect_failed("curious", "RegistryCredentialsRefused", CREDENTIALS + ".server", f"127.0.0.1:{CURIOUS}",
                  resource=resource_with(f"127.0.0.1:{CURIOUS}/good:1"))
    assert seen and not any(seen), seen
    expect_failed("curious", "RegistryCredentialsRefused", CREDENTIALS, f"127.0.0.1:{CURIOUS}",
                  resource=resource_with(f"127.0.0.1:{CURIOUS}/good:1", server=f"127.0.0.1:{CURIOUS}"))
    assert "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode() in seen, "to its own server it does go"
    server.shutdown()


def test_no_such_image_and_no_such_tag():
    expect_failed("image", "ImageNotFound", IMAGE, "does not know nothing:1", image=f"127.0.0.1:{OPEN}/nothing:1")
    expect_failed("tag", "ImageNotFound", IMAGE, "does not know good:7", image=f"127.0.0.1:{OPEN}/good:7")
    absent = "sha256:" + "7" * 64
    expect_failed("digest", "ImageNotFound", IMAGE, f"does not know good@{absent}", image=f"127.0.0.1:{OPEN}/good@{absent}")


def test_failed_update_leaves_the_pool():
    """The revision that runs goes on; the next good update takes over."""
    assert cluster.put_pool("update", image=f"127.0.0.1:{OPEN}/good:1", ready=1)["status"] == "Succeeded"
    assert cluster.session("update", "user-1").status == 200
    status = cluster.put_pool("update", image=f"127.0.0.1:{OPEN}/good:7", ready=1)
    assert status["error"]["code"] == "ImageNotFound", status
    desired = cluster.pool("update").json()["properties"]
    assert desired["provisioningState"] == "Failed", desired
    assert cluster.session("update", "user-1").status == 200 and cluster.session("update", "user-2").status == 200
    assert cluster.put_pool("update", image=f"127.0.0.1:{OPEN}/good:1", ready=1)["status"] == "Succeeded"
    assert cluster.session("update", "user-3").status == 200


def starts_badly(pool, *texts, ready=2, seconds=30, **how):
    """Provisioned, for the image is there; but its sandboxes fail, and all say why."""
    status = cluster.put_pool(pool, image=f"127.0.0.1:{OPEN}/good:1", ready=ready, **how)
    assert status["status"] == "Succeeded", status
    expect_503(pool, "")  # the first may come before any failure is known: 503 nevertheless
    wait_until("the pool says why", seconds, lambda: texts[0] in shown(pool), 0.5)
    for text in texts:
        assert text in shown(pool), (text, shown(pool))
    expect_503_everywhere(pool, texts[0])
    path = cluster.arm_path(pool).replace(harness.API, "2025-02-02-preview")
    document = cluster.admin("GET", path).json()
    active = document["properties"]["templateUpdateStatus"]["activeTemplate"]
    assert active["status"]["crashCount"] > 0 and active["status"]["readyCount"] == 0, active
    assert texts[0] in active["details"], active


def test_server_that_never_listens():
    starts_badly("deaf", "never answered on port 81 within 3 s", "the image exposes port 80", port=81)


def test_update_of_a_deaf_pool_helps_at_once():
    """Sandboxes of the old revision that still boot are in nobody's way."""
    probe = {"type": "Startup", "tcpSocket": {"port": 81}, "periodSeconds": 60, "failureThreshold": 5}
    assert cluster.put_pool("patient", image=f"127.0.0.1:{OPEN}/good:1", ready=4, port=81, probes=[probe])["status"] == "Succeeded"
    wait_until("its sandboxes boot", 10, lambda: "booting" in shown("patient"))
    expect_503("patient", "port 81")
    assert cluster.put_pool("patient", image=f"127.0.0.1:{OPEN}/good:1", ready=4, port=80)["status"] == "Succeeded"
    wait_until("the new revision serves", 20, lambda: cluster.session("patient", "user-1").status == 200)


def test_exit_at_once():
    starts_badly("exits", "exited with code 3", command=["/bin/sh", "-c", "exit 3"])


def test_killed_by_a_signal():
    starts_badly("signal", "killed by signal 4", command=["/crash"])


def test_missing_program():
    starts_badly("missing", "/no/such/program", "no such file in the image", command=["/no/such/program"])


def test_out_of_memory_at_start():
    probe = {"type": "Startup", "tcpSocket": {"port": 80}, "periodSeconds": 10, "failureThreshold": 5}
    starts_badly("hungry", "ran out of memory (limit 512 MiB)", probes=[probe],  # which gives it the time to eat
                 command=["/bin/sh", "-c", "exec dd if=/dev/zero of=/dev/null bs=900M count=1"])


def test_bad_pools_slow_no_good_one():
    """All of the above are still tried; one more would take every boot slot for minutes."""
    probe = {"type": "Startup", "tcpSocket": {"port": 81}, "periodSeconds": 60, "failureThreshold": 5}
    cluster.put_pool("crowd", image=f"127.0.0.1:{OPEN}/good:1", ready=40, max_sessions=60, port=81, probes=[probe])
    time.sleep(1)
    assert cluster.put_pool("calm", image=f"127.0.0.1:{OPEN}/good:1", ready=5, max_sessions=20)["status"] == "Succeeded"
    for i in range(10):
        a = cluster.session("calm", f"user-{i}", node=i % 3 + 1)
        assert a.status == 200, a
    status = f"/.berth/v1{cluster.arm_path('calm').split('?')[0]}/status"
    wait_until("the good pool is full again", 20, lambda: cluster.admin("GET", status).json()["sandboxes"]["ready"] == 5)


def test_no_pool_of_these_is_in_the_way_of_its_end():
    pools = [p["name"] for p in cluster.admin("GET", cluster.arm_path()).json()["value"]]
    began = time.monotonic()
    for pool in pools:
        delete(pool)
    print(f"        {len(pools)} pools deleted in {time.monotonic() - began:.1f} s")


run([test_registry_that_hangs, test_registry_that_hangs_delays_no_other_pool, test_registry_that_refuses,
     test_registry_that_is_not_allowed, test_wrong_password, test_no_password, test_identity_is_tried_without,
     test_password_goes_to_its_server_alone, test_no_such_image_and_no_such_tag, test_failed_update_leaves_the_pool,
     test_server_that_never_listens, test_update_of_a_deaf_pool_helps_at_once, test_exit_at_once, test_killed_by_a_signal,
     test_missing_program, test_out_of_memory_at_start, test_bad_pools_slow_no_good_one,
     test_no_pool_of_these_is_in_the_way_of_its_end], cluster)
