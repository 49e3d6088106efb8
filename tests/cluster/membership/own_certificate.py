"""A cluster whose clients' certificate comes from somebody else: strangers are shown that one, and a machine that joins by the cluster's CA."""
import pathlib
import shutil
import socket
import ssl
import subprocess
import tempfile

from harness import Cluster, run, skip, wait_until

if shutil.which("openssl") is None:
    skip("openssl is missing")
folder = pathlib.Path(tempfile.mkdtemp(prefix="berth-own-certificate"))
subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", folder / "key.pem", "-out", folder / "cert.pem", "-days", "2",
                "-subj", "/CN=own", "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
cluster = Cluster(nodes=1, name="owncertificate", options=("--tls-cert", str(folder / "cert.pem"), "--tls-key", str(folder / "key.pem")), more=1).start()
own = ssl.PEM_cert_to_DER_cert((folder / "cert.pem").read_text())
shutil.rmtree(folder)


def shown(name):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", cluster.port(1, "https"))) as plain, context.wrap_socket(plain, server_hostname=name) as tls:
        return tls.getpeercert(binary_form=True)


def test_it_is_shown_to_clients():
    assert shown("127.0.0.1") == own
    assert shown("another.example") == own
    assert shown("voter.berth.internal") != own


def test_a_node_joins():
    cluster.join(2)
    wait_until("node2 is a standby", 20, lambda: cluster.roles().get("node2") == "standby")


run([test_it_is_shown_to_clients, test_a_node_joins], cluster)
