"""Every command of docs/operations.md, in its order, on one cluster: each machine of the page is a folder and a loopback address
in a network namespace of the test's own. Waits are made shorter in a copy of the page (leases); nothing else is changed but paths and addresses."""
import contextlib
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import harness
import keeper

harness.in_own_network()
harness.end_left_over()
PAGE = harness.SOURCE / "docs/operations.md"
MACHINES = [f"node{n}" for n in range(1, 6)]
scratch = pathlib.Path(f"/tmp/berth-test.{os.getpid()}.operations")
PRELUDE = r"""
set -eEu -o pipefail
trap 'echo "FAILED: $BLOCK: $BASH_COMMAND" >&2' ERR
kill_machine() { # as if its power were cut
    local supervisor
    supervisor=$(cat "$1"/node*/run/supervisor.pid)
    kill -9 "$supervisor" $(cat /proc/"$supervisor"/task/"$supervisor"/children)
}
"""


def folder(machine):
    return pathlib.Path(f"/tmp/berth-test.{os.getpid()}.{machine}")


def for_this_machine(text, machine):
    text = text.replace("/var/lib/berth", str(folder(machine))).replace("10.0.0.", "127.0.0.")
    text = text.replace("--user berth", "--user berth-test")
    text = re.sub(r"on_machine (\w+) kill_machine", lambda m: f"kill_machine {folder(m.group(1))}", text)
    return re.sub(r"(berth cluster init .*)", r"\1 --set lease_ms=3000 lost_ms=5000 cooldown_min=2", text)


def blocks():
    """(line, machine, commands) of the page, in order."""
    lines = PAGE.read_text().splitlines()
    found, at = [], 0
    while at < len(lines):
        begun = at
        hidden = re.match(r"<!-- test( \w+)?: (.*) -->", lines[at])
        if hidden:
            found.append((at + 1, (hidden.group(1) or "node1").strip(), hidden.group(2)))
        elif lines[at].startswith("```"):
            words = lines[at][3:].split()
            assert words and words[0] == "sh", f"line {at + 1}: a block that the test does not run"
            end = lines.index("```", at + 1)
            found.append((begun + 1, words[1] if len(words) > 1 else "node1", "\n".join(lines[at + 1:end])))
            at = end
        at += 1
    assert len(found) > 20, len(found)
    return found


def script():
    text = PRELUDE
    for line, machine, commands in blocks():
        text += f"\nBLOCK='line {line} on {machine}'\nexport BERTH_DIR={folder(machine)}\necho \"--- $BLOCK\"\n"
        text += for_this_machine(commands, machine) + "\n"
    return text


def end():
    for machine in MACHINES:
        if list(folder(machine).glob("*/berth.conf")):
            subprocess.run([str(harness.BUILD / "bin/berth"), "cluster", "stop", "--dir", str(folder(machine)), "--purge"], check=False,
                           capture_output=True, timeout=120)


def left():
    mine = f"/tmp/berth-test.{os.getpid()}."
    for proc in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (proc / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if mine in command and "keeper" not in command and int(proc.name) != os.getpid():
                yield f"{proc.name}: {command}"


def main():
    subprocess.run("id berth-test >/dev/null 2>&1 || useradd --system --no-create-home --shell /usr/sbin/nologin berth-test", shell=True,
                   check=True)
    scratch.mkdir()
    for machine in MACHINES:
        keeper.start(harness.BUILD / "bin/berth", folder(machine))
    (scratch / "app.tar").symlink_to(harness.IMAGE)
    (scratch / "page.sh").write_text(script())
    env = {k: v for k, v in os.environ.items() if not k.startswith("BERTH_")}
    env["PATH"] = f"{harness.BUILD / 'bin'}:{env['PATH']}"
    began = time.monotonic()
    ran = subprocess.Popen(["bash", str(scratch / "page.sh")], cwd=scratch, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                           text=True, start_new_session=True)
    try:
        out, _ = ran.communicate(timeout=280)
    except subprocess.TimeoutExpired:
        os.killpg(ran.pid, signal.SIGKILL)
        out, _ = ran.communicate()
    print(out[-30000:] if ran.returncode else out[-3000:])
    if ran.returncode != 0:
        for machine in MACHINES:
            for log in folder(machine).glob("*/log"):
                print(f"--- {log}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-25:]))
    if ran.returncode == 0:
        known = set(re.findall(r"^# TYPE (\w+)", (scratch / "metrics.txt").read_text(), re.M))
        missing = set(re.findall(r"`(berth_\w+)`", PAGE.read_text())) - known
        assert known and not missing, f"alarms about figures that there are not: {missing}"
    end()
    remains = list(left())
    subprocess.run(["rm", "-rf", str(scratch), *map(str, map(folder, MACHINES))], check=False)
    assert not remains, remains
    print(f"{len(blocks())} blocks, {time.monotonic() - began:.0f} s: {'passed' if ran.returncode == 0 else 'FAILED'}")
    sys.exit(0 if ran.returncode == 0 else 1)


main()
