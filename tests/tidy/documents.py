"""What the documents say: their links and commands exist, their diagrams are what the tables print."""

import os
import re
import subprocess

# Of a workplace, not of the product.
FOREIGN = [r"/work/", r"\bworktree\b", r"\bissue #?[0-9]+", r"203\.0\.113\.", r"192\.0\.2\.", r"\bshared/notes\b",
           r"\bthis (chat|conversation)\b"]


def markdown(tree):
    return tree.having(".md")


def commands(tree):
    """Every path that a document names in a command or a link exists."""
    bad, n = [], 0
    for f in markdown(tree):
        folder = os.path.dirname(f)
        for number, line in tree.lines(f):
            for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", line):
                if re.match(r"[a-z]+:", link):
                    continue
                n += 1
                if not tree.exists(os.path.join(folder, link)):
                    bad.append(f"{f}:{number}: no such file: {link}")
            for path in re.findall(r"(?<![\w/.])\./((?:tools|docs|tests|\.ci)/[\w./-]*\w)", line):
                n += 1
                if not tree.exists(path):
                    bad.append(f"{f}:{number}: no such command: ./{path}")
                elif os.path.isfile(os.path.join(tree.root, path)) and \
                        not os.access(os.path.join(tree.root, path), os.X_OK):
                    bad.append(f"{f}:{number}: ./{path} cannot be executed")
    return n, "paths", bad


def words(tree):
    """Documents speak of the product only."""
    files = markdown(tree)
    bad = []
    for f in files:
        for number, line in tree.lines(f):
            for pattern in FOREIGN:
                if re.search(pattern, line, re.I):
                    bad.append(f"{f}:{number}: not of the product: {pattern}")
    return len(files), "documents", bad


def diagrams(tree):
    """Between "<!-- printed: NAME -->" and "<!-- end -->" stands what `print-tables NAME` prints, in a code block."""
    bad, n = [], 0
    for f in markdown(tree):
        text = tree.read(f)
        for name, block in re.findall(r"<!-- printed: ([\w-]+) -->\n(.*?)<!-- end -->", text, re.S):
            n += 1
            if tree.printer is None:
                bad.append(f"{f}: {name}: there is no print-tables program")
                continue
            run = subprocess.run([tree.printer, name], capture_output=True, text=True, check=False)
            if run.returncode != 0:
                bad.append(f"{f}: {name}: print-tables {name} failed: {run.stderr.strip()}")
            elif block.strip() not in (run.stdout.strip(), "```\n" + run.stdout.strip() + "\n```",
                                       "```mermaid\n" + run.stdout.strip() + "\n```"):
                bad.append(f"{f}: {name}: differs from what the tables print: run tools/print-tables/update-docs")
    return n, "diagrams", bad
