#!/usr/bin/python3.11 -IS
"""The program of an image with a Python: it answers every GET with what should be this process's alone."""
import http.server
import json
import os
import random
import struct
import time
import uuid

AT_RANDOM = 25


def given_by_kernel():
    """16 bytes, of which libc makes the canary of all stacks and the guard of its pointers."""
    with open("/proc/self/auxv", "rb") as f:
        where = dict(struct.iter_unpack("=QQ", f.read()))[AT_RANDOM]
    with open("/proc/self/mem", "rb") as f:
        f.seek(where)
        return f.read(16).hex()


def begin_of(name):
    with open("/proc/self/maps", encoding="utf-8") as f:
        return next(line.split("-")[0] for line in f if line.rstrip().endswith(name))


def text(path):
    with open(path, encoding="utf-8") as f:
        return f.read().strip()


FACTS = {"random.random": random.random(), "random.getrandbits": random.getrandbits(128), "os.urandom": os.urandom(16).hex(),
         "uuid.uuid4": str(uuid.uuid4()), "AT_RANDOM": given_by_kernel(), "hash of a text": hash("text"),
         **{f"address of {name}": begin_of(name) for name in ("[stack]", "/libc.so.6")},
         "boot id": text("/proc/sys/kernel/random/boot_id"), "machine id": text("/etc/machine-id"),
         "hostname": os.uname().nodename}
PID = os.getpid()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):  # noqa: N802
        body = json.dumps({"facts": FACTS, "pid": PID, "time": time.time(), "path": self.path}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


http.server.ThreadingHTTPServer(("", 80), Handler).serve_forever()
