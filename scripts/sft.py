"""Fine-tunes a model on conversations, and exports the result as a Hugging Face checkpoint.

    python scripts/sft.py --config=configs/gsm8k/sft.py
    python scripts/sft.py --config=configs/gsm8k/sft.py --config.sft.path=mine.jsonl --config.sft.epochs=3

sft.full trains all weights, sft.full=false the adapters of the lora section. The files go to run_dir/sft.
"""
from jaxrl_moe import begin

begin.command()  # first: what follows takes seconds, can fail and be interrupted

import bridges
from jaxrl_moe import cli
from jaxrl_moe.checks import dry_run, start
from jaxrl_moe.config import Config
from jaxrl_moe.options import define_dry_run
from jaxrl_moe.training import pipeline

DRY_RUN = define_dry_run()


def main(config: Config) -> None:
    if DRY_RUN.value:
        print(dry_run.dry_run(start.fine_tuning(config, bridges)))
    else:
        pipeline.run_sft(config, bridges).tell(config.run_dir)


if __name__ == "__main__":
    cli.run(main, compiled=True, hosts=True)
