"""testssl.sh against a node's TLS listener finds nothing above LOW.

The listener shows a certificate as an operator's CA would issue it; testssl.sh trusts that CA."""
import json
import os
import shutil
import subprocess
import sys

import harness as h

PROGRAM = shutil.which("testssl") or h.skip("testssl.sh is not installed: tools/packages/install test")
BAD = ("MEDIUM", "HIGH", "CRITICAL")
MUST_BE_THERE = {"SSLv3": "OK", "TLS1_2": "OK", "TLS1_3": "OK", "PFS": "OK", "cert_chain_of_trust": "OK", "heartbleed": "OK",
                 "secure_client_renego": "OK", "LUCKY13": "OK"}
cluster = h.Cluster(1, name="testssl")


def issue_certificate():
    node = cluster.node_dir(1)
    extensions = cluster.dir / "extensions"
    extensions.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n"
                          "keyUsage=critical,digitalSignature\ncrlDistributionPoints=URI:http://localhost/crl\n")
    for command in (["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", "90", "-subj",
                     "/CN=an operator's CA", "-keyout", "own.key", "-out", "own.pem"],
                    ["req", "-new", "-key", str(node / "tls.key"), "-subj", "/CN=localhost", "-out", "request"],
                    ["x509", "-req", "-in", "request", "-CA", "own.pem", "-CAkey", "own.key", "-days", "90", "-extfile",
                     str(extensions), "-out", str(node / "tls.pem")]):
        subprocess.run(["openssl", *command], cwd=cluster.dir, check=True, capture_output=True)


def test_no_finding_above_low():
    issue_certificate()
    cluster.start()
    report = cluster.dir / "testssl.json"
    r = subprocess.run([PROGRAM, "--quiet", "--color", "0", "--warnings", "off", "--nodns", "none", *"-p -s -f -P -S -h -U".split(), "--ip", "127.0.0.1", "--add-ca",
                        str(cluster.dir / "own.pem"), "--jsonfile", str(report), f"localhost:{cluster.port(1, 'https')}"],
                       check=False, capture_output=True, text=True, timeout=400, stdin=subprocess.DEVNULL,
                       env={**os.environ, "HOME": str(cluster.dir)}, cwd=cluster.dir)
    assert report.exists(), r.stdout + r.stderr
    findings = {f["id"].split(" ")[0]: f for f in json.loads(report.read_text())}
    for name, severity in MUST_BE_THERE.items():  # a scan that saw nothing finds nothing
        assert findings.get(name, {}).get("severity") == severity, f"{name}: {findings.get(name)}\n{r.stdout}"
    bad = [f for f in findings.values() if f["severity"] in BAD]
    assert not bad, "\n".join(f"{f['severity']} {f['id']}: {f['finding']}" for f in bad)


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    h.run([test_no_finding_above_low], cluster)
