"""A cluster with a domain: pools found by Host, certificates with their names, renewed without dropping a connection."""
import http.client
import os
import pathlib
import signal
import socket
import ssl
import subprocess
import time

from harness import Cluster, run, wait_until

DOMAIN = "berth.test"
LONG = 64 << 20  # more than all buffers on the way
cluster = Cluster(nodes=1, name="domain", options=["--domain", DOMAIN, "--environment", "blue", "--region", "here",
                                                   "--gateway-loops", "2"]).start()
cluster.import_image()
HOST = f"demo.blue.here.{DOMAIN}"
node = cluster.node_dir(1)


def https(host=HOST):
    """A connection to the node that asks for `host` and checks its certificate: of the cluster's CA, or the operator's own."""
    context = ssl.create_default_context(cafile=str(cluster.dir / "ca.pem"))
    if (cluster.dir / "renew/cert").exists():
        context.load_verify_locations(str(cluster.dir / "renew/cert"))
    plain = socket.create_connection(("127.0.0.1", cluster.port(1, "https")), timeout=20)
    c = http.client.HTTPConnection(host, timeout=20)
    c.sock = context.wrap_socket(plain, server_hostname=host)
    return c


def get(c, path, token=True):
    c.request("GET", path, headers={"Authorization": "Bearer " + cluster.token()} if token else {})
    r = c.getresponse()
    return r.status, r.read()


def test_endpoint_is_the_domains():
    cluster.put_pool("demo", ready=1)
    endpoint = cluster.pool("demo").json()["properties"]["poolManagementEndpoint"]
    assert endpoint == f"https://{HOST}:{cluster.port(1, 'https')}", endpoint


def test_pool_is_found_by_host():
    status, body = get(https(), "/count?identifier=alice-1")
    assert status == 200, (status, body)
    before = int(body)
    assert get(https(), "/count?identifier=alice-1") == (200, f"{before + 1}\n".encode())
    by_path = cluster.session("demo", "alice-1", "/count")
    assert int(by_path.body) == before + 2, "both forms reach the same session"


def test_unknown_host():
    c = cluster.connection(1)
    c.putrequest("GET", "/count?identifier=alice-1", skip_host=True)
    c.putheader("Host", f"nothing.blue.here.{DOMAIN}")
    c.putheader("Authorization", "Bearer " + cluster.token())
    c.endheaders()
    r = c.getresponse()
    assert r.status in (401, 404), (r.status, r.read())


def test_token_is_needed_and_never_reaches_the_sandbox():
    assert get(https(), "/count?identifier=alice-1", token=False)[0] == 401
    assert cluster.token().encode() not in get(https(), "/anything?identifier=alice-1")[1]


def serial(c):
    return ssl.DER_cert_to_PEM_cert(c.sock.getpeercert(binary_form=True))


def test_new_certificate_without_dropping_connections():
    old, download = https(), https()
    assert get(old, "/count?identifier=alice-1")[0] == 200
    before = serial(old)
    download.request("GET", f"/bytes?identifier=alice-1&n={LONG}", headers={"Authorization": "Bearer " + cluster.token()})
    body = download.getresponse()
    assert len(body.read(10)) == 10
    scratch = cluster.dir / "renew"
    scratch.mkdir()
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", "2", "-subj",
                    "/CN=renewed", "-addext", f"subjectAltName=DNS:*.blue.here.{DOMAIN},IP:127.0.0.1", "-keyout", "key", "-out", "cert"],
                   cwd=scratch, check=True, capture_output=True)
    for source, name in (("cert", "tls.pem"), ("key", "tls.key")):
        target = node / name
        owner = target.stat()
        target.write_bytes((scratch / source).read_bytes())
        os.chown(target, owner.st_uid, owner.st_gid)
    os.kill(int((node / "run/supervisor.pid").read_text()), signal.SIGHUP)
    wait_until("new connections get the new certificate", 10, lambda: serial(https()) != before)
    assert get(old, "/count?identifier=alice-1")[0] == 200, "the old connection goes on"
    rest = sum(len(piece) for piece in iter(lambda: body.read(1 << 20), b""))
    assert rest == LONG - 10, f"a download that began before is whole: {rest}"


def test_bad_certificate_is_refused_and_the_old_one_stays():
    before = serial(https())
    pathlib.Path(node / "tls.pem").write_text("not a certificate\n")
    os.kill(int((node / "run/supervisor.pid").read_text()), signal.SIGHUP)
    wait_until("the log says so", 10, lambda: "certificate not reloaded" in cluster.log(1))
    assert serial(https()) == before
    time.sleep(0.1)
    assert get(https(), "/count?identifier=alice-1")[0] == 200


run([test_endpoint_is_the_domains, test_pool_is_found_by_host, test_unknown_host,
     test_token_is_needed_and_never_reaches_the_sandbox, test_new_certificate_without_dropping_connections,
     test_bad_certificate_is_refused_and_the_old_one_stays], cluster)
