"""Stands for the process that plays ALFWorld's games, without the package: a door is to be opened, then it is
won. Some commands do more: it dies, hangs, or answers what it may not.

Run as a program it is the process; `python_of` gives what the setting `python` takes."""
import json
import os
import sys
import time
import zlib

HELLO = {"alfworld": "0", "textworld": "0"}
ACTIONS = ["go to door 1", "look", "open door 1"]
OUTSIDE = {
    "say garbage": "Traceback (most recent call last)\n",
    "say a list": "[]\n",
    "say NaN": '{"observation": "x", "actions": [], "won": NaN}\n',
    "say no actions": '{"observation": "x", "actions": 3, "won": false}\n',
    "say no end": '{"observation": 7, "actions": [], "won": false}\n',
    "say much": "x" * 5_000_000 + "\n",
    "fail": '{"error": "ValueError: no\\u0007 such thing"}\n'}


def python_of(folder, start: str = "") -> str:
    """A program in a folder (a path) that is to be started as the package's Python; `start`: a command of its
    shell before the process begins."""
    program = folder / f"python{zlib.crc32(start.encode())}"
    program.write_text(f"#!/bin/sh\n{start}\nexec {sys.executable} -I -S {__file__}\n")
    program.chmod(0o755)
    return str(program)


def main() -> None:
    print(json.dumps(HELLO), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        command = request.get("command", "")
        if command == "die":
            sys.stderr.write("the last words\n")
            sys.exit(3)
        if command == "hang":
            time.sleep(600)
        if command == "close":
            os.close(1)
            time.sleep(600)
        sys.stdout.write(OUTSIDE.get(command) or json.dumps(answer(request, command)) + "\n")
        sys.stdout.flush()


def answer(request, command):
    if request["call"] == "end":
        return {}
    shown = "You are in a room." if request["call"] == "begin" else f"pid {os.getpid()}: {command}"
    shown = "Nothing happens." if command and command not in ACTIONS else shown
    return {"observation": shown, "actions": ACTIONS, "won": command == "open door 1"}


if __name__ == "__main__":
    main()
