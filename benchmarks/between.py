"""Whether a change made this project faster or slower: two checkouts of it, timed in turn on this machine.

    git worktree add ../before main~20 && python -m benchmarks.between ../before

Times `ours` of train_step, decode and grpo_step as each checkout has it, in processes of their own, both with
this Python, its packages and the allocator setting of benchmarks/allocator.py; no peer is needed. Prints one
row a case: medians in seconds, and the ratio this / other pair by pair, below 1 where this one is faster.
"""
import argparse
import importlib
import os
import pathlib
import subprocess
import sys
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
CASES = ("train_step.case", "decode.batch_case", "decode.continuous_case", "grpo_step.case")
READY = "between: ready"
TOOK = "between: took "


class Checkout:
    """One case in a process of its own, which runs this file but imports all else from the checkout."""

    def __init__(self, tree: pathlib.Path, case: str):
        from benchmarks.allocator import TUNABLES
        self.tree = tree
        environment = os.environ | {"PYTHONPATH": str(tree), "GLIBC_TUNABLES": ":".join(TUNABLES)}
        command = [sys.executable, __file__, "--serve", case, str(tree)]
        self.process = subprocess.Popen(command, cwd=tree, env=environment, text=True, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE)
        self._line(READY)

    def turn(self) -> float:
        """Seconds of one call."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self._line(TOOK))

    def _line(self, start: str) -> str:
        """The rest of the next line that begins so; the case may print others."""
        for line in self.process.stdout:
            if line.startswith(start):
                return line.removeprefix(start)
        raise SystemExit(f"The process of {self.tree} ended; its error is above.")

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def serve(case: str, tree: str) -> None:
    """Builds the case, calls it once, and again for every line that comes in."""
    sys.path[0] = tree  # this file's own folder until now
    module, build = case.split(".")
    timed = importlib.import_module(f"benchmarks.{module}")
    library = importlib.import_module("jaxrl_moe").__file__
    if not pathlib.Path(library).is_relative_to(tree):
        raise SystemExit(f"{library} is not of {tree}")
    function = timed.ours(**getattr(timed, build)().settings)
    function()
    print(READY, flush=True)
    for _ in sys.stdin:
        begun = time.perf_counter()
        function()
        took = time.perf_counter() - begun
        time.sleep(0.3)  # until this side's threads sleep
        print(f"{TOOK}{took}", flush=True)


def compare(case: str, trees: list[pathlib.Path], pairs: int) -> list[str]:
    """A row of the table; who goes first changes from pair to pair."""
    sides = [Checkout(tree, case) for tree in trees]
    try:
        for side in sides:
            side.turn()
        seconds = np.empty((pairs, 2))
        for pair in range(pairs):
            for index in (0, 1) if pair % 2 else (1, 0):
                seconds[pair, index] = sides[index].turn()
    finally:
        for side in sides:
            side.close()
    ratios = seconds[:, 0] / seconds[:, 1]
    this, other = np.median(seconds, axis=0)
    return [case, f"{this:.3f}", f"{other:.3f}", f"**{np.median(ratios):.2f}**",
            f"{ratios.min():.2f} .. {ratios.max():.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.between", description=__doc__.split("\n")[0])
    parser.add_argument("other", type=pathlib.Path, help="folder of the other checkout")
    parser.add_argument("--pairs", type=int, default=9, help="timed calls of each side (9)")
    parser.add_argument("--cases", nargs="*", default=CASES, choices=CASES, metavar="CASE",
                        help=f"some of {', '.join(CASES)}; by default all")
    chosen = parser.parse_args()
    other = chosen.other.expanduser().resolve()
    if not (other / "benchmarks" / "train_step.py").is_file():
        parser.error(f"{other} is no checkout of this project: it has no benchmarks/train_step.py")
    if chosen.pairs < 1:
        parser.error("--pairs: at least one pair is needed")
    from benchmarks import table
    rows = [compare(case, [ROOT, other], chosen.pairs) for case in chosen.cases]
    print(table.circumstances() + "\n\n" + table.rows(["case", "this s", "other s", "ratio", "range"], rows))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(*sys.argv[2:])
    else:
        main()
