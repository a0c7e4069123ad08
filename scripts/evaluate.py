"""Evaluates a model on a recipe's held-out prompts: pass@1, pass@k, greedy accuracy.

    python scripts/evaluate.py --config=configs/gsm8k/grpo.py
    python scripts/evaluate.py --config=configs/quickstart.py --model=runs/quickstart/model
    python scripts/evaluate.py --config=configs/gsm8k/grpo.py --adapter=runs/gsm8k/adapter

It prints the numbers, and writes them with every completion to --output.
"""
from jaxrl_moe import begin

begin.command()  # first: what follows takes seconds, can fail and be interrupted

import pathlib

import bridges
from bridges import dialects
from jaxrl_moe import cli
from jaxrl_moe.checks import dry_run, start
from jaxrl_moe.config import Config
from jaxrl_moe.options import define_dry_run, define_path
from jaxrl_moe.training import pipeline

MODEL = define_path("model", None, "HF checkpoint folder or hub name; by default the recipe's model.path")
ADAPTER = define_path("adapter", None, "PEFT adapter to lay over the model")
OUTPUT = define_path("output", None, "folder for metrics.jsonl and trajectories.jsonl; by default "
                                     "run_dir/evaluation")
DRY_RUN = define_dry_run()


def main(config: Config) -> None:
    if DRY_RUN.value:
        print(dry_run.dry_run(start.evaluation(config, bridges, MODEL.value or "", ADAPTER.value or "")))
        return
    output = pathlib.Path(OUTPUT.value or pathlib.Path(config.run_dir) / "evaluation")
    metrics = pipeline.run_evaluation(config, bridges, MODEL.value, ADAPTER.value, output)
    for name, value in metrics.items():
        print(f"{name:24} {value:.4f}")


if __name__ == "__main__":
    cli.run(main, compiled=True, dialects=dialects.READERS)
