"""QEMU alone, driven by hand: what a machine of Berth costs without Berth and libvirt. The same kernel, first program, image and
command line, taken from a machine of Berth's; one tap, one guest at a time on it."""
import array
import fcntl
import json
import os
import pathlib
import select
import signal
import socket
import struct
import subprocess
import time

SEALS = 1033, 1 | 2 | 4 | 8  # F_ADD_SEALS: SEAL, SHRINK, GROW, WRITE
HOST, GUEST = "10.213.77.0", "10.213.77.1"
GUEST_MAC = bytes.fromhex("52540b3e4c01")
HELLO, START, RUNNING = 0, 1, 5
SIOCGIFHWADDR = 0x8927


# --- what guest/protocol.h says, in msgpack

def _pack(x):
    if isinstance(x, bool):
        return b"\xc3" if x else b"\xc2"
    if isinstance(x, int):
        return b"\xcf" + struct.pack(">Q", x)
    if isinstance(x, bytes):
        return b"\xc5" + struct.pack(">H", len(x)) + x
    return b"\xdc" + struct.pack(">H", len(x)) + b"".join(map(_pack, x))


def _frame(kind, body):
    body = _pack(body)
    return b"BG\x01" + bytes([kind]) + struct.pack("<I", len(body)) + body


def _mac_of(interface):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        return fcntl.ioctl(s, SIOCGIFHWADDR, struct.pack("256s", interface.encode()))[18:24]


def _ip(*words):
    subprocess.run(["ip", *words], check=True)


class Tap:
    """A link of its own for one guest at a time."""

    def __init__(self):
        self.name = f"bq{os.getpid()}"
        _ip("tuntap", "add", "dev", self.name, "mode", "tap")
        pathlib.Path(f"/proc/sys/net/ipv6/conf/{self.name}/disable_ipv6").write_text("1")
        _ip("addr", "add", f"{HOST}/31", "dev", self.name)
        _ip("link", "set", self.name, "up")
        _ip("neigh", "replace", GUEST, "lladdr", ":".join(f"{b:02x}" for b in GUEST_MAC), "dev", self.name, "nud", "permanent")

    def end(self):
        subprocess.run(["ip", "link", "del", self.name], check=False)


def parts_of(pid):
    """kernel, initrd, command line, processor, disk of a running machine of Berth's."""
    words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    after = {w: words[i + 1] for i, w in enumerate(words[:-1])}
    memory = after["-m"].removeprefix("size=")
    return {"kernel": after["-kernel"], "initrd": after["-initrd"], "append": after["-append"], "cpu": after["-cpu"],
            "accel": after["-accel"], "memory": int(memory[:-1]) << 10 if memory.endswith("k") else int(memory) << 20}


class Machine:
    """One QEMU. `memory`: a memfd; without one QEMU takes its own."""

    def __init__(self, parts, tap=None, memory=None, shared=False, incoming=False):
        self.port, theirs = socket.socketpair()
        self.monitor, monitor = socket.socketpair()
        fds = [theirs.fileno(), monitor.fileno()]
        command = ["qemu-system-x86_64", "-no-user-config", "-nodefaults", "-display", "none", "-no-reboot",
                   "-cpu", parts["cpu"], "-m", f"size={parts['memory'] >> 10}k", "-kernel", parts["kernel"], "-initrd", parts["initrd"], "-append", parts["append"],
                   "-accel", parts["accel"],
                   "-device", "virtio-serial-device", "-chardev", f"socket,id=p,fd={fds[0]}",
                   "-device", "virtserialport,chardev=p,name=org.berth.agent.0",
                   "-drive", f"if=none,id=d,file={parts['disk']},format=raw,readonly=on", "-device", "virtio-blk-device,drive=d",
                   "-chardev", f"socket,id=m,fd={fds[1]}", "-mon", "chardev=m,mode=control"]
        machine = "microvm,acpi=on"
        if tap:
            command += ["-netdev", f"tap,id=n,ifname={tap.name},script=no,downscript=no",
                        "-device", f"virtio-net-device,netdev=n,mac={':'.join(f'{b:02x}' for b in GUEST_MAC)}"]
        if memory is not None:
            fds.append(memory)
            machine += ",memory-backend=ram0"
            command += ["-object", f"memory-backend-file,id=ram0,size={parts['memory']},mem-path=/proc/self/fd/{memory},"
                        f"share={'on' if shared else 'off'}"]
        if incoming:
            command += ["-incoming", "defer", "-S"]
        self.tap = tap
        self.process = subprocess.Popen([*command, "-machine", machine], pass_fds=fds, stdin=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)  # warnings about the processor
        theirs.close()
        monitor.close()
        self.answers = b""
        self.lines = self.monitor.makefile("rb")
        self.greeted = False

    def end(self):
        self.process.kill()
        self.process.wait()
        for s in (self.lines, self.port, self.monitor):
            s.close()

    # --- its guest

    def _answer(self, kind):
        while True:
            if len(self.answers) >= 8:
                size = 8 + struct.unpack("<I", self.answers[4:8])[0]
                if len(self.answers) >= size:
                    got, self.answers = self.answers[3], self.answers[size:]
                    if got == kind:
                        return
                    continue
            if not select.select([self.port], [], [], 60)[0]:
                raise AssertionError("the guest of a plain QEMU does not answer")
            self.answers += self.port.recv(65536)

    def hello(self):
        self.port.sendall(_frame(HELLO, [7]))
        self._answer(HELLO)

    def start(self, argv, env):
        network = [GUEST_MAC, _mac_of(self.tap.name)] if self.tap else [b"", b""]
        address, gateway = (struct.unpack(">I", socket.inet_aton(a))[0] if self.tap else 0 for a in (GUEST, HOST))
        self.port.sendall(_frame(START, [argv, env, b"", b"", b"raw", b"", os.urandom(64), time.time_ns(), *network, address, gateway,
                                         31 if self.tap else 0, 512, 64 << 20]))
        self._answer(RUNNING)

    # --- its monitor

    def _ask(self, command, fd=None, **arguments):
        if not self.greeted:
            self.greeted = True
            self.lines.readline()
            self._ask("qmp_capabilities")
        line = json.dumps({"execute": command, "arguments": {k.replace("_", "-"): v for k, v in arguments.items()}}).encode()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))] if fd is not None else []
        self.monitor.sendmsg([line], rights)
        while True:
            answer = json.loads(self.lines.readline())
            if "error" in answer:
                raise AssertionError(f"QEMU: {command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]

    def _ignore_shared(self):
        self._ask("migrate-set-capabilities", capabilities=[{"capability": "x-ignore-shared", "state": True}])

    def save(self, fd):
        """All but the memory."""
        self._ask("stop")
        self._ignore_shared()
        self._ask("getfd", fd, fdname="state")
        self._ask("migrate", uri="fd:state")
        while (status := self._ask("query-migrate").get("status")) != "completed":
            if status == "failed":
                raise AssertionError("QEMU could not save its machine")
            time.sleep(0.001)

    def load(self, fd):
        self._ignore_shared()
        self._ask("getfd", fd, fdname="state")
        self._ask("migrate-incoming", uri="fd:state")
        while self._ask("query-status")["status"] == "inmigrate":
            time.sleep(0.001)
        self._ask("cont")

    def stand(self):
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)


def get(port=80):
    """Until the first byte of a 200."""
    for _ in range(25000):
        with socket.socket() as s:
            s.settimeout(10)
            try:
                s.connect((GUEST, port))
            except ConnectionRefusedError:
                time.sleep(0.0002)
                continue
            s.sendall(b"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
            if s.recv(12, socket.MSG_WAITALL) != b"HTTP/1.1 200":
                raise AssertionError("the server in a plain QEMU did not answer 200")
            return
    raise AssertionError("nobody listens in a plain QEMU")


class Template:
    """Memory and state of a machine that was booted and has run nothing."""

    def __init__(self, parts, tap):
        self.memory = os.memfd_create("bench-memory", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        self.state = os.memfd_create("bench-state", os.MFD_CLOEXEC)
        os.ftruncate(self.memory, parts["memory"])
        machine = Machine(parts, tap, self.memory, shared=True)
        try:
            machine.hello()
            machine.save(self.state)
        finally:
            machine.end()
        fcntl.fcntl(self.memory, *SEALS)

    def clone(self, parts, tap):
        os.lseek(self.state, 0, os.SEEK_SET)
        machine = Machine(parts, tap, self.memory, incoming=True)
        machine.load(self.state)
        machine.hello()
        return machine

    def end(self):
        os.close(self.memory)
        os.close(self.state)
