"""Sizes, names and the first lines of files."""

import os
import re

FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 70
FOLDER_FILES_MAX = 12
SAYS_NOTHING = {"util", "utils", "common", "helper", "helpers", "misc", "manager"}


def file_length(tree):
    """No source file has more than 600 lines."""
    files = tree.having(".c", ".h", ".py")
    bad = []
    for f in files:
        n = tree.read(f).count("\n")
        if n > FILE_LINES_MAX:
            bad.append(f"{f}: {n} lines, at most {FILE_LINES_MAX}: which second subject can move out?")
    return len(files), "files", bad


def function_length(tree):
    """No function's body has more than 70 lines."""
    bad, n = [], 0
    for f in tree.having(".c", ".h"):
        start, name, before = None, "?", ""
        for number, line in tree.lines(f):
            if line == "{":
                start, name = number, before
            elif line.startswith("}") and start is not None:
                n += 1
                if number - start - 1 > FUNCTION_LINES_MAX:
                    bad.append(f"{f}:{start}: {number - start - 1} lines, at most {FUNCTION_LINES_MAX}: {name.strip()}")
                start = None
            before = line
    return n, "functions", bad


def names(tree):
    """No file or folder has a name that says nothing."""
    bad = []
    for f in tree.files:
        words = set(re.split(r"[-_./]", f.lower()))
        if words & SAYS_NOTHING:
            bad.append(f"{f}: says nothing about what is inside: {', '.join(sorted(words & SAYS_NOTHING))}")
    return len(tree.files), "paths", bad


def folder_size(tree):
    """A folder holds at most a dozen sources; a .c and its .h count once."""
    folders = {}
    for f in tree.having(".c", ".h", ".py"):
        folders.setdefault(os.path.dirname(f), set()).add(os.path.splitext(os.path.basename(f))[0])
    bad = [f"{folder}: {len(stems)} files, at most {FOLDER_FILES_MAX}: make sub-folders by subject"
           for folder, stems in sorted(folders.items()) if len(stems) > FOLDER_FILES_MAX]
    return len(folders), "folders", bad


def headers(tree):
    """A header begins with a comment that says what it is for, and has a guard of its own name."""
    bad, guards = [], {}
    files = tree.having(".h")
    for f in files:
        text = tree.read(f)
        base = os.path.basename(f)
        if not re.match(r"/\* (\S+/)?" + re.escape(base) + r" -- \S", text):
            bad.append(f"{f}:1: begins with \"/* {base} -- what it is for\"")
        guard = re.search(r"^#ifndef (\w+)\n#define \1$", text, re.M)
        stem = re.sub(r"\W", "_", base).upper()
        if guard is None or not guard.group(1).endswith("_" + stem):
            bad.append(f"{f}: needs a guard #ifndef <FOLDER>_{stem}")
        elif guard.group(1) in guards:
            bad.append(f"{f}: has the guard of {guards[guard.group(1)]}")
        else:
            guards[guard.group(1)] = f
    return len(files), "headers", bad


def layout(tree):
    """Tabs indent, lines have no trailing blanks, files end with one newline; nothing is left open."""
    bad = []
    files = [f for f in tree.having(".c", ".h", ".cmake", "CMakeLists.txt") if not f.startswith("tests/data/")]
    for f in files:
        text = tree.read(f)
        if not text.endswith("\n") or text.endswith("\n\n"):
            bad.append(f"{f}: ends with exactly one newline")
        before = ""
        for number, line in tree.lines(f):
            if line != line.rstrip():
                bad.append(f"{f}:{number}: trailing blanks")
            # Continued lines and lists of initialisers may be aligned with spaces; statements are indented by tabs.
            if re.match(r" {4}", line) and f.endswith((".c", ".h")) and re.search(r"(;|\}|(?<!= )\{)$", before):
                bad.append(f"{f}:{number}: indented by spaces")
            before = line
            if re.search(r"\b(TODO|FIXME)\b", line):
                bad.append(f"{f}:{number}: left open: finish it or leave it out")
    return len(files), "files", bad
