"""Stands for the package alfworld in its worker: a door is to be opened, then it is won. Some commands do
more: the worker hangs, fails, or answers what it may not.

Run as a program it is what the worker runs; `python_of` gives what the setting `python` takes."""
import os
import sys
import time
import zlib

VERSIONS = {"alfworld": "0", "textworld": "0"}
ACTIONS = ["go to door 1", "look", "open door 1"]
OUTSIDE = {
    "say no actions": {"observation": "x", "actions": 3, "won": False},
    "say no text": {"observation": 7, "actions": [], "won": False}}


def python_of(folder, start: str = "") -> str:
    """A program in a folder (a path) that is to be started as the package's Python; `start`: a command of its
    shell before the worker begins."""
    program = folder / f"python{zlib.crc32(start.encode())}"
    # The options, the guard and its lifeline as they are given, and this file in place of the worker's.
    program.write_text(f'#!/bin/sh\n{start}\nexec {sys.executable} -S "$1" "$2" "$3" {__file__}\n')
    program.chmod(0o755)
    return str(program)


class Doors:
    """In place of ALFWorld's games."""

    def begin(self):
        return VERSIONS

    def open(self, **game):
        return Door()


class Door:
    """One game."""

    def reset(self):
        return self.told("You are in a room.")

    def step(self, command):
        if command == "hang":
            time.sleep(600)
        if command == "fail":
            raise ValueError("no\x07 such thing")
        if command == "environment":
            return self.told("\n".join(f"{name}={value}" for name, value in os.environ.items()))
        shown = f"pid {os.getpid()}: {command}" if command in ACTIONS else "Nothing happens."
        return OUTSIDE.get(command) or self.told(shown, command == "open door 1")

    def told(self, shown, won=False):
        return {"observation": shown, "actions": ACTIONS, "won": won}

    def close(self):
        pass


if __name__ == "__main__":
    from worker_loop import serve
    serve(Doors())
