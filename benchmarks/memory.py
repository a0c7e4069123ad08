"""Peak resident memory of each contender, each in a process of its own: what the benchmarked steps add to an
import."""
import resource
import subprocess
import sys

from benchmarks.table import rows

CASES = {"LoRA step, E=8 top-2, B8 x T256": ("train_step", "case"),
         "greedy decode, 8 x (32 + 128)": ("decode", "batch_case"),
         "GRPO step": ("grpo_step", "case")}


def measure(module: str, function: str, side: str) -> int:
    """Bytes that the resident set grew by at its peak over three calls."""
    import importlib
    module = importlib.import_module(f"benchmarks.{module}")
    run = getattr(module, side)(**getattr(module, function)().settings)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(3):
        run()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024


def in_process(*arguments: str) -> int:
    done = subprocess.run([sys.executable, "-m", "benchmarks.memory", *arguments], capture_output=True,
                          text=True, check=True)
    return int(done.stdout.split()[-1])


def table() -> str:
    return rows(["what", "ours, MB", "theirs, MB"], [(name, *(f"{in_process(*case, side) / 1e6:.0f}"
                                                              for side in ("ours", "theirs")))
                                                     for name, case in CASES.items()])


if __name__ == "__main__":
    print(measure(*sys.argv[1:]))
