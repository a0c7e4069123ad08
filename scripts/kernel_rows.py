"""Writes rows to learn Triton kernels from: our own problems, KernelBench's or KernelBook's.

    python scripts/kernel_rows.py --split=train --out=kernels.jsonl
    python scripts/kernel_rows.py --split=test --out=held_out.jsonl
    python scripts/kernel_rows.py --form=sft --out=sft.jsonl
    python scripts/kernel_rows.py --problems=KernelBench/KernelBench --out=kernelbench.parquet
    python scripts/kernel_rows.py --problems=GPUMODE/KernelBook --form=sft --out=kernelbook.jsonl

--problems is "ours", a folder with KernelBench's level1/1_name.py, or a file, folder or hub data set of rows.
Rows for RL (env.name="triton_kernels") have the prompt, the reference as `label` and what the problem is in
`extra_info`; rows for SFT have `messages` that end with a solution. The splits share no reference. Nothing is
run: a problem is read as text. See docs/kernels.md.
"""
from jaxrl_moe import begin

begin.command()  # first: what follows takes seconds, can fail and be interrupted

import pathlib

from absl import flags

from jaxrl_moe import cli
from jaxrl_moe.demonstrations import forms
from jaxrl_moe.envs.kernels.problem_sets import OURS, LeftOut
from jaxrl_moe.envs.kernels.rows import FORMS, SPLITS, rows
from jaxrl_moe.options import define_number, define_path, define_text
from jaxrl_moe.types import UserError

PROBLEMS = define_text("problems", OURS, "where the problems are: ours, a folder, a file or a hub data set")
FILES_SPLIT = define_text("files_split", "train", "which files of a folder or hub data set of rows, such as "
                          "level_1 of KernelBench's")
FORM = flags.DEFINE_enum("form", "rl", [*FORMS], "of the rows: prompts, or conversations with a solution")
SPLIT = flags.DEFINE_enum("split", "train", SPLITS, "which problems: a fifth is held out as test")
LARGEST = define_number("largest", 0, "for judges without a GPU: integers of the problem's module, from "
                        "which its shapes follow, are cut to this where it says no sizes itself; 0: they "
                        "stay", 0)
OUT = define_path("out", None, "the file to write, .jsonl, .json or .parquet (required)")


def main() -> None:
    cli.require(OUT)
    out = pathlib.Path(OUT.value)
    forms.check_out(out)
    if LARGEST.value and FORM.value == "sft":
        raise UserError("--largest has no effect with --form=sft, whose rows are not judged: leave it out.")
    left_out = LeftOut()
    made = rows(PROBLEMS.value, SPLIT.value, FORM.value, left_out, largest=LARGEST.value,
                files_split=FILES_SPLIT.value)
    if not made:
        raise UserError(f"--problems = {PROBLEMS.value!r} has no problem of the split {SPLIT.value!r} for "
                        f"--form={FORM.value}: take another split or form.{left_out}")
    forms.write_rows(out, made)
    print(f"Wrote {out}: {len(made)} rows of {PROBLEMS.value}.{left_out}")


if __name__ == "__main__":
    cli.run(main, recipe=False)
