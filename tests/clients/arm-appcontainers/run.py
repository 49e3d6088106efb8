"""Azure's JavaScript client against a running cluster: npm ci below the build folder, three nodes, pool.mjs."""
import os
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "cluster"))

import harness  # noqa: E402

FILES = ("package.json", "package-lock.json", ".npmrc", "pool.mjs")


def installed():
    """The folder with pool.mjs and its packages; made once for a lockfile."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            harness.skip(f"{program} is not installed; tools/packages/install test does that")
    folder = harness.BUILD / "clients/arm-appcontainers"
    stamp = folder / "node_modules/.package-lock.json"
    folder.mkdir(parents=True, exist_ok=True)
    fresh = stamp.exists() and (folder / "package-lock.json").exists() and \
        (folder / "package-lock.json").read_bytes() == (HERE / "package-lock.json").read_bytes()
    for name in FILES:
        shutil.copy(HERE / name, folder / name)
    if not fresh:
        try:
            r = subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=folder, text=True,
                               capture_output=True, timeout=240)
        except subprocess.TimeoutExpired:
            harness.skip("npm ci did not end within 240 s: is the registry reachable?")
        if r.returncode != 0:
            harness.skip(f"npm ci failed, is the registry reachable? {r.stderr[-600:]}")
    return folder


harness.need_machine()
folder = installed()
cluster = harness.Cluster().start()
cluster.import_image()
environment = dict(os.environ, NODE_EXTRA_CA_CERTS=str(cluster.dir / "ca.pem"), BERTH_TOKEN=cluster.token("management"))
failed = 0
for node in (1, 2, 3):  # one of them leads, two follow
    r = subprocess.run(["node", "pool.mjs", "--endpoint", f"https://127.0.0.1:{cluster.port(node, 'https')}", "--image",
                        "berth/sample:1", "--name", f"client-js-{node}"], cwd=folder, env=environment, timeout=120)
    print(f"node {node}: pool.mjs ended with {r.returncode}", flush=True)
    failed += r.returncode != 0
    if r.returncode != 0:
        print("\n".join(cluster.log(node).splitlines()[-40:]))
sys.exit(1 if failed else 0)
