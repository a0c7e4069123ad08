"""Trains a model: SFT warm-up if the recipe has one, then RL, then the export of the merged model and its
adapter.

    python scripts/train.py --config=configs/quickstart.py
    python scripts/train.py --config=configs/gsm8k/grpo.py --config.run_dir=runs/first --config.lora.rank=8
    python scripts/train.py --config=configs/gsm8k/grpo.py --dry_run

Configurations of synth-ai, SkyRL and slime are taken in place of a recipe, see docs/dialects.md:

    python scripts/train.py --config=FILE.toml --task-url=http://localhost:8101 --env-file=.env
    python scripts/train.py --config=config.yaml trainer.policy.model.path=MODEL
    python scripts/train.py slime --hf-checkpoint MODEL --gamma 0.4 --config.env.name=TASK

On several hosts each runs the same command; see scripts/launch.

Killed, stopped by SIGTERM, or after train.max_minutes, when it ends with exit code 75, it goes on from its
newest checkpoint when the same command is given again.
"""
from jaxrl_moe import begin

begin.command()  # first: what follows takes seconds, can fail and be interrupted

import bridges
from bridges import dialects
from jaxrl_moe import cli
from jaxrl_moe.checks import dry_run, start
from jaxrl_moe.config import Config
from jaxrl_moe.options import define_dry_run
from jaxrl_moe.protocols import Endpoint
from jaxrl_moe.training import pipeline

DRY_RUN = define_dry_run()


def main(config: Config) -> None:
    if DRY_RUN.value:
        print(dry_run.dry_run(start.training(config, bridges)))
    else:
        pipeline.run_all(config, bridges, endpoint(config)).tell(config.run_dir)


def endpoint(config: Config) -> Endpoint | None:
    """What serves the policy meanwhile, if the recipe says so."""
    if not config.endpoint.serve:
        return None
    from jaxrl_moe.serving.launch import beside_training  # it needs the extra `serve`, and says so
    return beside_training


if __name__ == "__main__":
    cli.run(main, compiled=True, hosts=True, dialects=dialects.READERS)
