"""Trains a model: SFT warm-up if the recipe has one, then RL, then the export of the merged model and its adapter.

    python scripts/train.py --config=configs/quickstart.py
    python scripts/train.py --config=configs/gsm8k_grpo.py --config.run_dir=runs/first --config.train.steps=200
    python scripts/train.py --config=configs/gsm8k_grpo.py --dry_run

On several hosts each runs the same command; see scripts/launch.

Killed, or stopped by SIGTERM, it goes on from its newest checkpoint when the same command is given again.
"""
from absl import flags

import bridges
from jaxrl_moe import cli
from jaxrl_moe.checks import dry_run, start
from jaxrl_moe.training import pipeline

DRY_RUN = flags.DEFINE_bool("dry_run", False, "only says what would happen, or all that speaks against it; nothing is written")


def main(config):
    if DRY_RUN.value:
        print(dry_run.dry_run(start.training(config, bridges)))
    elif not pipeline.run_all(config, bridges):
        print(f"Stopped by SIGTERM; all is saved in {config.run_dir}. Give the same command again to go on.")


if __name__ == "__main__":
    cli.run(main, compiled=True, hosts=True)
