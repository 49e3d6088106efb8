"""Who may use whom: system headers per folder, pure folders, the links of targets, calls across layers."""

import os
import re

from tree import without_comments

# A library's headers, and the only folders (or files' beginnings) that may include them. Tests may include all.
LIBRARIES = [
    (r"raft(\.h|/)", ["raft-store/consensus/"]),
    (r"lxc/", ["drivers/"]),
    (r"libvirt/", ["drivers/"]),
    (r"seccomp\.h", ["drivers/"]),
    (r"sys/capability\.h", ["drivers/"]),
    (r"archive(_entry)?\.h", ["drivers/image/"]),
    (r"zlib\.h", ["drivers/image/"]),
    (r"jansson\.h", ["base/json/"]),
    (r"openssl/", ["base/tls/", "base/crypto/", "nodes/gateway/token", "drivers/image/child/sha256"]),
    (r"sodium\.h", ["base/crypto/"]),
    (r"uv\.h", ["base/loop/", "raft-store/consensus/", "nodes/", "tools/bench/"]),
    (r"curl/", ["base/fetch/", "tools/"]),
    (r"msgpack", ["base/core/"]),
    (r"sqlite3\.h", ["nodes/records/"]),
    (r"cmocka\.h", []),
]
PURE = ("actors/", "raft-store/state/", "base/wire/")
# <stdio.h> is there for snprintf, which is pure; IMPURE_CALLS finds the rest of it.
PURE_HEADERS = {"errno.h", "inttypes.h", "limits.h", "stdalign.h", "stdarg.h", "stdatomic.h", "stdbool.h", "stddef.h",
                "stdint.h", "stdio.h", "stdlib.h", "string.h"}
IMPURE_CALLS = re.compile(
    r"\b(time|gettimeofday|clock_gettime|clock|clock_boot_ms|clock_wall_ms|rand|random|srand|srandom|rand_r|drand48|"
    r"getrandom|getentropy|arc4random|getenv|sleep|usleep|nanosleep|fopen|open|openat|read|write|socket|connect|"
    r"printf|fprintf|vprintf|vfprintf|puts|fputs|putchar|fputc|fwrite|fread|perror|remove|rename|tmpfile|system|popen|fork|pthread_create|gethostname|getpid)\s*\(")
ACTORS = ("pool", "cache", "session", "reaper", "sandbox", "placement", "membership", "drain")
LAYERS = ["base", "raft-store", "actors", "drivers", "nodes", "tools", "tests"]
# Beyond the order above: what a folder may not link although it stands higher.
FORBIDDEN_LINKS = [("drivers", "raft-store"), ("drivers", "actors"), ("nodes", "drivers"), ("tools", "drivers"),
                   ("actors", "raft-store/consensus"), ("raft-store/state", "raft-store/consensus")]


def sources(tree):
    return [f for f in tree.having(".c", ".h") if f.split("/")[0] in LAYERS]


def includes(tree):
    """Each folder's system headers are on its list."""
    bad, n = [], 0
    for f in sources(tree):
        for number, line in tree.lines(f):
            found = re.match(r'#\s*include\s+[<"]([^>"]+)[>"]', line)
            if not found:
                continue
            n += 1
            header, system = found.group(1), "<" in line
            for pattern, allowed in LIBRARIES:
                if re.match(pattern, header) and system and not f.startswith(tuple(allowed) + ("tests/",)):
                    bad.append(f"{f}:{number}: <{header}> belongs to {', '.join(allowed) or 'tests'} alone")
            if system and f.startswith(PURE) and header not in PURE_HEADERS:
                bad.append(f"{f}:{number}: <{header}>: a pure folder has no time, no random, no I/O")
    return n, "includes", bad


def pure_calls(tree):
    """Pure folders call nothing that reads a clock, draws a random number or touches the world."""
    files = tree.below(*PURE)
    bad = []
    for f in files:
        text = without_comments(tree.read(f))
        own = set(re.findall(r"^static [\w\s*]*?\b(\w+)\(", text, re.M))  # a function of the file by such a name
        for number, line in enumerate(text.splitlines(), 1):
            for found in IMPURE_CALLS.finditer(line):
                before = line[:found.start()]
                if not re.search(r"(->|\.|\(\*)\s*$", before) and found.group(1) not in own:
                    bad.append(f"{f}:{number}: {found.group(1)}() in a pure folder")
    return len(files), "files", bad


def node_calls(tree):
    """nodes reach actors through runtime.h alone, and tables through lookups: one file applies entries."""
    files = tree.below("nodes/", "tools/", "drivers/")
    bad, applies = [], []
    for f in files:
        text = without_comments(tree.read(f))
        for number, line in tree.lines(f):
            found = re.match(r'#\s*include\s+"([^/"]+)/([^"]+)"', line)
            if not found:
                continue
            folder, header = found.groups()
            local = tree.exists(os.path.join(os.path.dirname(f), "..", folder, header))
            if folder in ACTORS and not local and f.startswith("nodes/"):
                bad.append(f"{f}:{number}: \"{folder}/{header}\": nodes post to actors through runtime.h alone")
            if folder == "runtime" and header != "runtime.h" and not f.startswith("tools/print-tables/"):
                bad.append(f"{f}:{number}: \"{folder}/{header}\": only runtime.h is for others")
        if re.search(r"\bstate_apply\s*\(", text):
            applies.append(f)
    others = ("tools/cluster/cluster_recover.c",  # replays the log of a node that is stopped
              "tools/bench/raft/tables.c")
    for f in applies:
        if f not in others and (not f.startswith("nodes/control/") or f != applies[0]):
            bad.append(f"{f}: calls state_apply(): one file of nodes/control does")
    return len(files), "files", bad


def targets(tree):
    """{target: (folder, links)} from all CMakeLists.txt."""
    found = {}
    for f in tree.files:
        if os.path.basename(f) != "CMakeLists.txt":
            continue
        text = re.sub(r"#[^\n]*", "", tree.read(f))
        for call, body in re.findall(r"\b(berth_library|berth_program|berth_test|berth_fuzzer|add_library|"
                                     r"add_executable|target_link_libraries)\s*\(([^()]*)\)", text):
            words = body.split()
            if not words:
                continue
            links = found.setdefault(words[0], (os.path.dirname(f), set()))[1]
            keyword = "USES" if call == "target_link_libraries" else ""
            for word in words[1:]:
                if word in ("USES", "PRIVATE", "PUBLIC", "INTERFACE", "SOURCES", "PREFIX", "LABEL", "CORPUS", "TIMEOUT"):
                    keyword = word
                elif keyword in ("USES", "PRIVATE", "PUBLIC", "INTERFACE"):
                    links.add(word)
    return found


def links(tree):
    """Every target links only what stands below it, and nothing in a circle."""
    all_targets = targets(tree)
    bad, n = [], 0
    for target, (folder, uses) in sorted(all_targets.items()):
        for other in sorted(uses & all_targets.keys()):
            other_folder = all_targets[other][0]
            here, there = folder.split("/")[0], other_folder.split("/")[0]
            if here not in LAYERS or there not in LAYERS:
                continue
            n += 1
            if LAYERS.index(there) > LAYERS.index(here):
                bad.append(f"{folder}: {target} links {other} of {other_folder}, which stands above it")
            for upper, lower in FORBIDDEN_LINKS:
                if folder.startswith(upper) and other_folder.startswith(lower):
                    bad.append(f"{folder}: {target} may not link {other} of {other_folder}")
    bad += circles(all_targets)
    return n, "links", bad


def circles(all_targets):
    bad, done = [], set()

    def walk(target, path):
        if target in path:
            bad.append("a circle of links: " + " -> ".join(path[path.index(target):] + [target]))
        elif target not in done:
            for other in sorted(all_targets[target][1] & all_targets.keys()):
                walk(other, path + [target])
            done.add(target)
    for target in sorted(all_targets):
        walk(target, [])
    return bad
