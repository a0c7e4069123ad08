"""Tries damaged inputs and prints what fails, grouped, each with the command that repeats it.

    python -m tests.fuzz                                   # 5,000 inputs over all targets
    python -m tests.fuzz --target=config --count=500 --seed=3
    python -m tests.fuzz --target=config --seed=0 --first=17 --count=1 --full

The exit code is 1 where something failed.
"""
import argparse
import sys
import time

from tests.fuzz import many, report, setup


def main() -> int:
    setup.quiet()
    parser = argparse.ArgumentParser("python -m tests.fuzz", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", help="names with commas between; all of them if it is left out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="index of the first input")
    parser.add_argument("--count", type=int, default=5000, help="inputs, shared among the targets")
    parser.add_argument("--full", action="store_true", help="whole traces")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)  # the process that tries them
    options = parser.parse_args()
    if options.alone:
        many.answer(options.target, options.seed, options.first, options.count)
        return 0
    failures = []
    tried = {}
    for name, count in many.shares(options.target, options.count).items():
        began = time.perf_counter()
        found = many.run(name, options.seed, options.first, count)
        failures += found
        tried[name] = count
        print(f"{name}: {count} inputs, {len(found)} failures, {time.perf_counter() - began:.1f} s",
              file=sys.stderr, flush=True)
    text = report.report(failures, tried, full=options.full)
    print(text.encode("utf-8", "backslashreplace").decode())
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
