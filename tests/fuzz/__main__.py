"""Tries damaged inputs and prints what fails, grouped, each with the command that repeats it.

    python -m tests.fuzz                                   # 5,000 inputs over all targets
    python -m tests.fuzz --target=config --count=500 --seed=3
    python -m tests.fuzz --target=config --seed=0 --first=17 --count=1 --full
"""
import argparse
import sys
import time

from tests.fuzz import report, runner, setup
from tests.fuzz.targets.table import TARGETS


def main() -> int:
    setup.quiet()
    parser = argparse.ArgumentParser("python -m tests.fuzz", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default=",".join(TARGETS), help="names with commas between: "
                                                                    f"{', '.join(TARGETS)}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="index of the first input")
    parser.add_argument("--count", type=int, default=5000, help="inputs, shared among the targets")
    parser.add_argument("--full", action="store_true", help="whole traces")
    options = parser.parse_args()
    chosen = [TARGETS[name] for name in options.target.split(",")]
    shares = sum(target.share for target in chosen)
    failures = []
    tried = {}
    for kind in chosen:
        count = max(1, round(options.count * kind.share / shares))
        began = time.perf_counter()
        found = 0
        target = kind()
        with runner.opened(target) as arena:
            ready = time.perf_counter()
            for index in range(options.first, options.first + count):
                failure = runner.run(target, arena, options.seed, index)
                if failure:
                    failures.append(failure)
                    found += 1
        tried[kind.name] = count
        print(f"{kind.name}: {count} inputs, {found} failures, {ready - began:.1f} s to set up, "
              f"{time.perf_counter() - ready:.1f} s", file=sys.stderr, flush=True)
    text = report.report(failures, tried, full=options.full)
    print(text.encode("utf-8", "backslashreplace").decode())
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
