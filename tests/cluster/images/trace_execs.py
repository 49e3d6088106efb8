"""Which programs a process executes, by strace: its own children's first execve, whatever their children do afterwards."""
import collections
import os
import re
import shutil
import signal
import subprocess

from harness import skip, wait_until

CALL = re.compile(r"^(\d+) +(?:<\.\.\. )?(\w+)(?:\(| resumed>)(.*)")


class Trace:
    """Follows a process and its threads from now on, until end()."""

    def __init__(self, pid, path):
        if shutil.which("strace") is None:
            skip("strace is missing")
        self.pid, self.path = pid, path
        self.strace = subprocess.Popen(["strace", "-f", "-y", "-qq", "-s", "256", "-e", "trace=execve,execveat,clone,clone3,fork,vfork",
                                        "-e", "signal=none", "-p", str(pid), "-o", str(path)], stderr=subprocess.PIPE)
        wait_until("strace follows", 20, self._follows)

    def _follows(self):
        if self.strace.poll() is not None:
            skip("strace cannot follow: " + self.strace.stderr.read().decode())
        with open(f"/proc/{self.pid}/status") as f:
            return f"TracerPid:\t{self.strace.pid}\n" in f.read()

    def end(self):
        """{program: times} of what the process and its threads made of their children."""
        self.strace.send_signal(signal.SIGINT)
        self.strace.wait()
        parent, threads, executed = {}, {}, []
        for pid, call, text in self._calls():
            child = re.search(r"\) += (\d+)", text)
            if call.startswith("execve"):
                executed.append((pid, text))
            elif child and "CLONE_THREAD" in text:
                threads[child[1]] = pid
            elif child:
                parent[child[1]] = pid
        ours = {str(self.pid)} | set(os.listdir(f"/proc/{self.pid}/task"))
        ours |= {t for t in threads if self._first(t, threads) in ours}
        programs, seen = collections.Counter(), set()
        for pid, text in executed:
            if (parent.get(pid) in ours or pid in ours) and pid not in seen:
                programs[self.program(text)] += 1
                seen.add(pid)
        return programs

    @staticmethod
    def _first(thread, threads):
        while thread in threads:
            thread = threads[thread]
        return thread

    def _calls(self):
        """(pid, call, text) of each call; one that another's interrupted is put together again."""
        begun = {}
        for line in open(self.path, errors="replace"):
            m = CALL.match(line)
            if not m:
                continue
            pid, call, text = m.groups()
            if text.endswith("<unfinished ...>"):
                begun[pid] = text
                if call.startswith("execve"):  # its end comes under this number or never
                    yield pid, call, text
            elif " resumed>" in line:
                if not call.startswith("execve"):
                    yield pid, call, begun.pop(pid, "") + text
            else:
                yield pid, call, text

    @staticmethod
    def program(arguments):
        """Of `"/usr/sbin/nft", [...]` or `5</path/berth-fetch>, "", [...]`."""
        m = re.match(r'(?:\d+<([^>]*)>|AT_FDCWD(?:<[^>]*>)?)?,? ?"([^"]*)"', arguments)
        return (m[2] or m[1] or arguments).rsplit("/", 1)[-1] if m else arguments
