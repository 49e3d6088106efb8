"""The files that the structural checks look at: what git tracks or would track; in a fixture, everything."""

import os
import re
import subprocess

FIXTURES = "tests/tidy/fixtures/"


class Tree:
    def __init__(self, root, fixture=False):
        self.root = root
        self.build = None
        names = None if fixture else self._tracked()
        self.files = sorted(names if names is not None else self._walk())

    def _tracked(self):
        try:
            out = subprocess.run(["git", "-C", self.root, "ls-files", "-co", "--exclude-standard"], check=True,
                                 capture_output=True, text=True).stdout
        except (OSError, subprocess.CalledProcessError):
            return None  # an unpacked archive
        return [f for f in out.splitlines() if not f.startswith(FIXTURES) and os.path.isfile(os.path.join(self.root, f))]

    def _walk(self):
        for folder, folders, files in os.walk(self.root):
            folders[:] = [f for f in folders if f not in ("build", ".git", "node_modules", "__pycache__")]
            for name in files:
                path = os.path.relpath(os.path.join(folder, name), self.root)
                if not path.startswith(FIXTURES):
                    yield path

    def read(self, path):
        with open(os.path.join(self.root, path), encoding="utf-8", errors="replace") as f:
            return f.read()

    def lines(self, path):
        return enumerate(self.read(path).splitlines(), 1)

    def having(self, *suffixes):
        return [f for f in self.files if f.endswith(suffixes)]

    def below(self, *prefixes, suffixes=(".c", ".h")):
        return [f for f in self.files if f.startswith(prefixes) and f.endswith(suffixes)]

    def exists(self, path):
        return os.path.exists(os.path.join(self.root, path))


def without_comments(text):
    """C text with comments and string contents blanked, line numbers kept."""
    def blank(match):
        found = match.group(0)
        if found.startswith("/"):
            return re.sub(r"[^\n]", " ", found)
        return found[0] + " " * (len(found) - 2) + found[-1]
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', blank, text, flags=re.S)
