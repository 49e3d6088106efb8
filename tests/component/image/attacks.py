#!/usr/bin/python3
"""attacks.py DIR: one OCI layout per attack below DIR, each with layers that must be refused or must stay harmless."""
import hashlib, io, json, os, platform, sys, tarfile

ARCH = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]


def entry(name, kind=tarfile.REGTYPE, data=b"", link="", uid=0, mode=0o644):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.uid, info.mode = kind, link, len(data), uid, mode
    return info, data


def layer(*entries):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, data in entries:
            tar.addfile(info, io.BytesIO(data))
    return raw.getvalue()


def put(path, data):
    digest = hashlib.sha256(data).hexdigest()
    os.makedirs(path + "/blobs/sha256", exist_ok=True)
    with open(f"{path}/blobs/sha256/{digest}", "wb") as f:
        f.write(data)
    return {"digest": "sha256:" + digest, "size": len(data)}


def layout(path, layers, user="", diff_ids=None, **config):
    blobs = [put(path, x) for x in layers]
    ids = diff_ids or [b["digest"] for b in blobs]
    config = {"architecture": ARCH, "os": "linux", "config": {"User": user, **config},
              "rootfs": {"type": "layers", "diff_ids": ids}}
    manifest = {"schemaVersion": 2,
                "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **put(path, json.dumps(config).encode())},
                "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", **b} for b in blobs]}
    index = {"schemaVersion": 2, "manifests": [
        {"mediaType": "application/vnd.oci.image.manifest.v1+json", **put(path, json.dumps(manifest).encode())}]}
    with open(path + "/index.json", "w") as f:
        json.dump(index, f)
    with open(path + "/oci-layout", "w") as f:
        f.write('{"imageLayoutVersion":"1.0.0"}')


def main(base):
    link, hard, directory = tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE
    etc = entry("etc/passwd", data=b"root:x:0:0::/:/bin/sh\n")
    attacks = {
        "dotdot": [layer(entry("../escaped", data=b"x"))],
        "inner-dotdot": [layer(entry("a/../../escaped", data=b"x"))],
        "absolute": [layer(entry("/escaped", data=b"x"))],
        "hardlink-outside": [layer(entry("h", hard, link="../../../../etc/passwd"))],
        "hardlink-absolute": [layer(entry("h", hard, link="/etc/hostname"))],
        "hardlink-through-symlink": [layer(entry("l", link, link="/"), entry("h", hard, link="l/etc/hostname"))],
        "whiteout-dot": [layer(entry("a/f", data=b"x")), layer(entry("a/.wh.."))],
        "whiteout-dotdot": [layer(entry("a/f", data=b"x")), layer(entry("a/.wh..."))],
        "whiteout-empty": [layer(entry(".wh."))],
        "owner": [layer(entry("f", uid=70000))],
        "deep": [layer(entry("/".join(["d"] * 200), data=b"x"))],
        "not-a-tar": [b"this is no tar" * 200],
        "through-file": [layer(entry("f", data=b"x"), entry("f/below", data=b"x"))],
        "big": [layer(entry("f", data=bytes(3 << 20)))],
        # Harmless: these must unpack inside the root.
        "ok-symlink-parent": [layer(entry("out", link, link="/../../../../tmp"), entry("tmp", directory, mode=0o755),
                                    entry("out/inside", data=b"x"), etc)],
        "ok-device": [layer(entry("null", tarfile.CHRTYPE), entry("f", data=b"x"))],
        "ok-opaque": [layer(entry("d/old", data=b"x"), entry("d/sub/old", data=b"x")),
                      layer(entry("d/new", data=b"x"), entry("d/.wh..wh..opq"), entry("d/sub/new", data=b"x"))],
        "ok-replaced": [layer(entry("x", link, link="/etc"), entry("y", directory, mode=0o755), entry("y/f", data=b"x")),
                        layer(entry("x", directory, mode=0o755), entry("x/f", data=b"x"), entry("y", data=b"file"))],
    }
    # A tar that ends with its last file's last byte, as `umoci insert` writes it.
    attacks["ok-unpadded"] = [layer(entry("f", data=b"x"))[:513]]
    for name, layers in attacks.items():
        layout(f"{base}/{name}", layers)
    layout(base + "/unknown-user", [layer(etc)], user="nobody-here")
    layout(base + "/bad-signal", [layer(etc)], StopSignal="SIGNOTHING")


main(sys.argv[1])
