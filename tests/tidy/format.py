"""clang-format over every .c and .h file: `format.py --root DIR`. The fixture must be judged faulty."""

import argparse
import os
import subprocess
import sys

from tree import FIXTURES, Tree

CHUNK = 64


def faulty(root, paths):
    """The files that clang-format would change."""
    found = []
    for at in range(0, len(paths), CHUNK):
        result = subprocess.run(["clang-format", "--dry-run", "-Werror", "--ferror-limit=1", *paths[at:at + CHUNK]], cwd=root,
                                capture_output=True, text=True, check=False)
        named = {line.split(":", 1)[0] for line in result.stderr.splitlines() if "error:" in line}
        found += [p for p in paths[at:at + CHUNK] if p in named]
        if result.returncode != 0 and not named:
            sys.exit(f"clang-format: {result.stderr.strip()}")
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", required=True)
    root = parser.parse_args().root
    paths = Tree(root).having(".c", ".h")
    bad = faulty(root, paths)
    for path in bad:
        print(f"{path}: not as .clang-format says; run clang-format -i {path}")
    fixture = os.path.join(FIXTURES, "format/faulty.c")
    caught = faulty(root, [fixture]) == [fixture]
    if not caught:
        print(f"the fixture's fault was not found: {fixture}")
    print(f"format: {len(paths)} files checked, {len(bad)} faults; {int(caught)} fault of the fixture")
    return 1 if bad or not caught or not paths else 0


if __name__ == "__main__":
    sys.exit(main())
