#!/usr/bin/env python3
"""What etcdctl's command line has and `quorate ctl` has not, by the help of the two: a line for each command or flag.

    tests/e2e/ctl_surface.py QUORATE ETCDCTL
"""

import os
import re
import subprocess
import sys

# Commands for data of etcd's version 2, which etcdctl itself has no more since 3.5.
LEFT_OUT = {"migrate"}


def help_of(program, words):
    environment = {**os.environ, "ETCDCTL_API": "3"}
    run = subprocess.run([*program, *words, "--help"], capture_output=True, text=True, env=environment)
    return run.stdout + run.stderr


def flags(text):
    found = set()
    for match in re.finditer(r"^\s+(?:(-\w), )?(--[\w-]+)", text, re.MULTILINE):
        found.update(flag for flag in match.groups() if flag)
    return found - {"-h", "--help"}


def commands(text, words):
    """The commands that a help lists, each as all of its words."""
    found, is_list = [], False
    for line in text.splitlines():
        if heading := re.match(r"^([A-Z][A-Za-z ]*):", line):
            is_list = heading[1].upper() in ("COMMANDS", "AVAILABLE COMMANDS")
        elif is_list and (command := re.match(r"^\s+([a-z][\w -]*?)(?:\t|\s{2,}|\s*$)", line)):
            inner = command[1].split()
            found.append(inner if inner[: len(words)] == words else [*words, inner[-1]])
    return found


def main(quorate, etcdctl):
    theirs, ours = [etcdctl], [quorate, "ctl"]
    everywhere = flags(help_of(theirs, []))
    waiting, seen = [[]], set()
    while waiting:
        words = waiting.pop()
        name = " ".join(words)
        if name in seen or name in LEFT_OUT:
            continue
        seen.add(name)
        text = help_of(theirs, words)
        waiting.extend(commands(text, words))
        mine = help_of(ours, words)
        if mine.startswith("Error"):
            print(f"{name}: no such command")
            continue
        wanted = flags(text) - (everywhere if words else set())
        for flag in sorted(wanted - flags(mine)):
            print(f"{name} {flag}".strip())
    if len(seen) < 40:
        print(f"only {len(seen)} commands were found in the help of {etcdctl}")


if __name__ == "__main__":
    main(*sys.argv[1:])
