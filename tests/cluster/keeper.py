"""Ends a test's cluster when the test is gone without having done so: killed by its time limit, say.

usage: keeper.py BERTH DIR, standard input: a pipe that ends with the test. It is no child of the test, so that what kills
the test with all its children does not reach it."""
import os
import shutil
import subprocess
import sys


def start(berth, folder):
    """Returns the pipe's writing end, which the caller keeps open as long as the cluster is its own."""
    reader, writer = os.pipe()
    # A shell gives its children in the background no standard input unless it is named.
    subprocess.run(["/bin/sh", "-c", 'exec 3<&0; setsid "$@" <&3 3<&- &', "keeper", sys.executable, "-B", __file__,
                    str(berth), str(folder)],
                   stdin=reader, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    os.close(reader)
    return writer


def main(berth, folder):
    os.chdir("/")
    sys.stdin.buffer.read()
    if os.path.exists(os.path.join(folder, "node1")):
        subprocess.run([berth, "cluster", "stop", "--dir", folder, "--purge"], check=False, timeout=120)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
