#!/usr/bin/python3
"""Images that must be refused, or must stay harmless: what their layers hold, and what the refusal says.

attacks.py DIR writes each as an OCI layout below DIR. Cluster tests serve the same from a registry and import them as archives."""
import gzip
import hashlib
import io
import json
import os
import platform
import sys
import tarfile

ARCH = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
TAR, PACKED, ZSTD = (f"application/vnd.oci.image.layer.v1.tar{x}" for x in ("", "+gzip", "+zstd"))
LINK, HARD, DIRECTORY = tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE


def entry(name, kind=tarfile.REGTYPE, data=b"", link="", uid=0, mode=0o644, **pax):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.uid, info.mode = kind, link, len(data), uid, mode
    info.pax_headers = {key.replace("__", "."): value for key, value in pax.items()}
    return info, data


def layer(*entries):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, data in entries:
            tar.addfile(info, io.BytesIO(data))
    return raw.getvalue()


def zstd_of_zeros(head, megabytes):
    """One frame: the head as it is, then run-length blocks, each of 128 KiB in 4 bytes."""
    blocks = [(len(head) << 3).to_bytes(3, "little") + head]
    blocks += [((131072 << 3) | 2).to_bytes(3, "little") + b"\0"] * (8 * megabytes)
    return b"\x28\xb5\x2f\xfd\0\x38" + b"".join(blocks) + (1).to_bytes(3, "little")


def many(n, before="d/"):
    """n entries, each a file of nothing; of ".wh.", each a whiteout of nothing, which costs less."""
    head, at = tarfile.TarInfo(before + "000000").tobuf(tarfile.USTAR_FORMAT), len(before)
    rest = sum(head) - sum(head[148:156]) - sum(head[at:at + 6]) + 8 * ord(" ")  # as the checksum counts itself
    out = []
    for i in range(n):
        name = b"%06d" % i
        out.append(head[:at] + name + head[at + 6:148] + b"%06o\0 " % (rest + sum(name)) + head[156:])
    return b"".join(out) + bytes(1024)


class Image:
    """Layers as (bytes as they come, the tar inside, media type); says: what a refusal names, or None: it unpacks, and then
    `check`, run by a shell in its root, is true."""

    def __init__(self, *tars, says=None, check="true", packed=(), diff_ids=None, **config):
        self.layers = [(tar, tar, TAR) for tar in tars] + [(raw, tar, kind) for raw, tar, kind in packed]
        self.says, self.check, self.config = says, check, config
        self.diff_ids = diff_ids or ["sha256:" + hashlib.sha256(tar).hexdigest() for _, tar, _ in self.layers]

    def configuration(self):
        return json.dumps({"architecture": ARCH, "os": "linux", "config": self.config,
                           "rootfs": {"type": "layers", "diff_ids": self.diff_ids}}).encode()


def images():
    etc = entry("etc/passwd", data=b"root:x:0:0::/:/bin/sh\n")
    small = layer(entry("f", data=b"x"))
    squeezed = gzip.compress(small, mtime=0)
    huge = entry("f", data=b"")
    huge[0].uid = 1 << 33
    bomb = layer(entry("f", data=bytes(64 << 20)))
    trailing = small + bytes(500 << 20)  # zeros behind the end of the tar
    zeros = small[:1024] + bytes(512 << 20)
    return {
        "dotdot": Image(layer(entry("../escaped", data=b"x")), says="holds '..'"),
        "inner-dotdot": Image(layer(entry("a/../../escaped", data=b"x")), says="holds '..'"),
        "absolute": Image(layer(entry("/escaped", data=b"x")), says="is absolute"),
        "hardlink-outside": Image(layer(entry("h", HARD, link="../../../../etc/passwd")), says="hard link"),
        "hardlink-absolute": Image(layer(entry("h", HARD, link="/etc/hostname")), says="hard link"),
        "hardlink-through-symlink": Image(layer(entry("l", LINK, link="/"), entry("h", HARD, link="l/etc/hostname")),
                                          says="does not exist"),
        "whiteout-dot": Image(layer(entry("a/f", data=b"x")), layer(entry("a/.wh..")), says="whiteout"),
        "whiteout-dotdot": Image(layer(entry("a/f", data=b"x")), layer(entry("a/.wh...")), says="whiteout"),
        "whiteout-empty": Image(layer(entry(".wh.")), says="whiteout"),
        "whiteout-slash": Image(layer(entry("a/.wh.b/c", data=b"x")), says="is below a whiteout"),
        "owner": Image(layer(entry("f", uid=70000)), says="owner 70000:0"),
        "owner-huge": Image(layer(huge), says="owner 8589934592:0"),
        "deep": Image(layer(entry("/".join(["d"] * 200), data=b"x")), says="deeper"),
        "deep-65": Image(layer(entry("/".join(["d"] * 65), data=b"x")), says="deeper than 64"),
        "long-name": Image(layer(entry("n" * 256)), says="more than 255 bytes"),
        "long-path": Image(layer(entry("/".join(["p" * 100] * 50))), says="longer than 4000"),
        "not-a-tar": Image(b"this is no tar" * 200, says="not a readable tar"),
        "empty-layer": Image(b"", says="layer 1: the layer is empty"),
        "through-file": Image(layer(entry("f", data=b"x"), entry("f/below", data=b"x")), says="no directory"),
        "big": Image(layer(entry("f", data=bytes(9 << 20))), says="more than 8388608 bytes"),
        "sparse": Image(layer(entry("f", data=b"x", GNU__sparse__major="0", GNU__sparse__minor="1", GNU__sparse__name="f",
                                    GNU__sparse__map="0,1,1099511627775,0", GNU__sparse__size="1099511627776")),
                        says="more than 8388608 bytes"),
        "bomb-gzip": Image(packed=[(gzip.compress(bomb, 9, mtime=0), bomb, PACKED)], says="more than 8388608 bytes"),
        "bomb-behind-the-end": Image(packed=[(gzip.compress(trailing, 9, mtime=0), trailing, PACKED)],
                                     says="unpacks to more than the image may have"),
        "bomb-zstd": Image(packed=[(zstd_of_zeros(small[:1024], 512), zeros, ZSTD)],
                           says="unpacks to more than the image may have"),
        "cut-gzip": Image(packed=[(squeezed[:-20], small, PACKED)], says="not a readable tar: truncated gzip"),
        "wrong-trailer": Image(packed=[(squeezed[:-8] + bytes([squeezed[-8] ^ 1]) + squeezed[-7:], small, PACKED)],
                               says="not a readable tar: incorrect data check"),
        "wrong-length": Image(packed=[(squeezed[:-1] + b"\1", small, PACKED)], says="incorrect length check"),
        "behind-gzip": Image(packed=[(squeezed + b"more", small, PACKED)], says="incorrect header check"),
        "cut-member": Image(packed=[(gzip.compress(small[:700], mtime=0) + squeezed[:9], small, PACKED)], says="truncated gzip"),
        "diff-id": Image(small, diff_ids=["sha256:" + "7" * 64], says="the configuration says sha256:7777"),
        "too-many": Image(many(100001, ".wh."), says="more than 100000 entries"),
        "unknown-user": Image(layer(etc), User="nobody-here", says="nobody-here"),
        "bad-signal": Image(layer(etc), StopSignal="SIGNOTHING", says="StopSignal"),
        # Harmless: these must unpack inside the root.
        "ok-many": Image(many(100000), check='test "$(ls d | wc -l)" = 100000'),
        "ok-symlink-parent": Image(layer(entry("out", LINK, link="/../../../../tmp"), entry("tmp", DIRECTORY, mode=0o755),
                                         entry("out/inside", data=b"x"), etc), check="test -f tmp/inside -a ! -e /tmp/inside"),
        "ok-device": Image(layer(entry("null", tarfile.CHRTYPE), entry("disk", tarfile.BLKTYPE), entry("f", data=b"x")),
                           check="test ! -e null -a ! -e disk -a -f f"),
        "ok-pipe": Image(layer(entry("p", tarfile.FIFOTYPE)), check="test -p p"),
        "ok-opaque": Image(layer(entry("d/old", data=b"x"), entry("d/sub/old", data=b"x")),
                           layer(entry("d/new", data=b"x"), entry("d/.wh..wh..opq"), entry("d/sub/new", data=b"x")),
                           check="test ! -e d/old -a ! -e d/sub/old -a -f d/new -a -f d/sub/new"),
        "ok-replaced": Image(layer(entry("x", LINK, link="/etc"), entry("y", DIRECTORY, mode=0o755), entry("y/f", data=b"x")),
                             layer(entry("x", DIRECTORY, mode=0o755), entry("x/f", data=b"x"), entry("y", data=b"file")),
                             check="test -f x/f -a ! -L x -a -f y"),
        "ok-twice": Image(layer(entry("f", data=b"first"), entry("f", data=b"second"), entry("f", LINK, link="g"), entry("f", data=b"last")),
                          check='test "$(cat f)" = last -a ! -L f'),
        "ok-same-layer-twice": Image(small, layer(entry(".wh.f")), small, check='test "$(cat f)" = x'),
        "ok-attributes": Image(layer(entry("f", data=b"x", SCHILY__xattr__trusted__x="y", SCHILY__xattr__user__x="y",
                                           SCHILY__xattr__security__capability="\x01\x00\x00\x02\xff\xff\xff\xff")),
                               check="test -z \"$(/usr/bin/python3 -c 'import os; print(*os.listxattr(\"f\"))')\""),
        "ok-bookkeeping": Image(layer(entry(".wh..wh.aufs", data=b"x"), entry("f", data=b"x")),
                                check='test "$(ls -A)" = f'),
        "ok-setuid": Image(layer(entry("elevate", data=b"#!/bin/sh\n", mode=0o4755)), check="test -u elevate"),
        # A tar that ends with its last file's last byte, as `umoci insert` writes it.
        "ok-unpadded": Image(small[:513], check='test "$(cat f)" = x'),
        "ok-members": Image(packed=[(gzip.compress(small[:700], mtime=0) + gzip.compress(small[700:], mtime=0), small, PACKED)],
                            check='test "$(cat f)" = x'),
        "ok-packed": Image(packed=[(squeezed, small, PACKED)], check='test "$(cat f)" = x'),
    }


def put(path, data):
    digest = hashlib.sha256(data).hexdigest()
    os.makedirs(path + "/blobs/sha256", exist_ok=True)
    with open(f"{path}/blobs/sha256/{digest}", "wb") as f:
        f.write(data)
    return {"digest": "sha256:" + digest, "size": len(data)}


def layout(path, image):
    manifest = {"schemaVersion": 2,
                "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **put(path, image.configuration())},
                "layers": [{"mediaType": kind, **put(path, raw)} for raw, _, kind in image.layers]}
    index = {"schemaVersion": 2, "manifests": [
        {"mediaType": "application/vnd.oci.image.manifest.v1+json", **put(path, json.dumps(manifest).encode())}]}
    with open(path + "/index.json", "w") as f:
        json.dump(index, f)
    with open(path + "/oci-layout", "w") as f:
        f.write('{"imageLayoutVersion":"1.0.0"}')


def docker_archive(path, image):
    """As `docker save` writes it: layers by name, and nothing but the configuration's diff_ids to vouch for them."""
    names = [f"{i}/layer.tar" for i in range(len(image.layers))]
    with tarfile.open(path, "w") as tar:
        for name, data in [("config.json", image.configuration()), *((n, raw) for n, (raw, _, _) in zip(names, image.layers)),
                           ("manifest.json", json.dumps([{"Config": "config.json", "RepoTags": [], "Layers": names}]).encode())]:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


if __name__ == "__main__":
    for each, made in images().items():
        if "many" not in each:
            layout(f"{sys.argv[1]}/{each}", made)
