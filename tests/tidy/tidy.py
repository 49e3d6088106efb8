"""Structural checks of the tree, one sub-command each: what a compiler does not see and a reader should not have to.

usage: tidy.py CHECK --root DIR [--printer PROGRAM]

A check prints how many things it looked at and fails on none: a check that matches no file protects nothing. It then
runs over fixtures/CHECK, a small tree that breaks its rule in each way; EXPECTED there lists what must be
found (one piece of text a line), so that a check which has gone blind fails too."""

import argparse
import os
import sys

import arrows
import documents
import shape
from tree import Tree

CHECKS = {f.__name__.replace("_", "-"): f for f in (
    shape.file_length, shape.function_length, shape.names, shape.folder_size, shape.headers, shape.layout,
    arrows.includes, arrows.pure_calls, arrows.node_calls, arrows.links,
    documents.commands, documents.words, documents.diagrams)}


def check_fixture(check, folder, printer):
    """What is wrong with the check itself."""
    tree = Tree(folder, fixture=True)
    tree.printer = printer
    tree.files.remove("EXPECTED")
    found = check(tree)[2]
    wanted = [line for line in tree.read("EXPECTED").splitlines() if line]
    wrong = [f"the fixture's fault was not found: {w}" for w in wanted if not any(w in f for f in found)]
    wrong += [f"the fixture shows something unexpected: {f}" for f in found if not any(w in f for w in wanted)]
    if not wanted:
        wrong.append("the fixture expects nothing")
    return len(wanted), wrong


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("check", choices=sorted(CHECKS))
    parser.add_argument("--root", required=True)
    parser.add_argument("--printer")
    args = parser.parse_args()
    check = CHECKS[args.check]
    tree = Tree(args.root)
    tree.printer = args.printer
    n, things, bad = check(tree)
    here = os.path.dirname(os.path.abspath(__file__))
    n_faults, wrong = check_fixture(check, os.path.join(here, "fixtures", args.check), args.printer)
    for line in bad + wrong:
        print(line)
    print(f"{args.check}: {n} {things} checked, {len(bad)} faults; {n_faults} faults of the fixture, "
          f"{len(wrong)} judged wrongly")
    if n == 0:
        print(f"{args.check}: nothing was checked: this cannot be right")
    return 1 if bad or wrong or n == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
