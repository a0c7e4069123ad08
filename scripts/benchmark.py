"""Times this project against its peers on this machine, in turn, and writes a dated table under benchmarks/.

    python scripts/benchmark.py --case=train_step
    python scripts/benchmark.py --case=decode --pairs=5 --output=benchmarks/decode.md

Needs the extra `peers`: pip install -e ".[test,peers]". Close other programs first: ratios hold on an idle machine only.
"""
import functools
import pathlib
import sys

from absl import flags

from jaxrl_moe import cli
from jaxrl_moe.config import ConfigError

CASE = flags.DEFINE_enum("case", None, ["train_step", "decode", "grpo_step", "compile", "memory", "profile", "h200"], "what to measure")
PAIRS = flags.DEFINE_integer("pairs", 9, "timed runs of each contender")
OUTPUT = flags.DEFINE_string("output", "", "markdown file to write; empty: benchmarks/CASE.md")


def cases(name: str):
    if name == "train_step":
        from benchmarks import train_step
        return [functools.partial(train_step.case, expert_lora=experts, **shape)
                for shape in ({}, {"experts": 64, "active": 8}) for experts in (True, False)]
    if name == "decode":
        from benchmarks import decode
        return [decode.batch_case, decode.continuous_case]
    from benchmarks import grpo_step
    return [grpo_step.case]


def main():
    cli.require(CASE)
    from benchmarks import compile_time, harness, memory, table
    name, output = CASE.value, pathlib.Path(OUTPUT.value or f"benchmarks/{CASE.value}.md")
    if name == "compile":
        text = compile_time.table()
    elif name == "memory":
        text = memory.table()
    elif name == "profile":
        from benchmarks import profile
        text = profile.table()
    elif name == "h200":
        from benchmarks import h200
        text = h200.table()
    else:
        if PAIRS.value < 1:
            raise ConfigError(f"--pairs={PAIRS.value}: at least one pair is needed.")
        text = table.markdown([harness.run(build(), PAIRS.value) for build in cases(name)])
    output.write_text(table.heading(name) + text)
    print(text, f"\nwritten to {output}")


if __name__ == "__main__":
    sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
    from benchmarks import allocator
    if not allocator.started_with_tunables():
        sys.exit(allocator.start_again())
    cli.run(main, recipe=False)
