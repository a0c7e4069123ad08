"""Checks what a run needs before it starts: versions, devices, settings, model files, collectives over the mesh, data, disk.

    python scripts/verify_setup.py --config=configs/gsm8k_grpo.py
    python scripts/verify_setup.py --config=configs/gsm8k_grpo.py --config.mesh.fsdp=8

One line a check; the exit code is 1 if any fails. Nothing is trained or left behind.
"""
import sys

import bridges
from jaxrl_moe import cli
from jaxrl_moe.training.setup_checks import check_all


def main(config):
    failed = 0
    for outcome in check_all(config, bridges):
        print(f"{'ok  ' if outcome.passed else 'FAIL'}  {outcome.name:12} {outcome.text}", flush=True)
        failed += not outcome.passed
    if failed:
        print(f"{failed} of the checks failed.", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    cli.run(main)
