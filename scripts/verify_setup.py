"""Checks what a run needs before it starts: recipe, versions, devices, settings, model files, mesh, collectives, data, disk, servers.

    python scripts/verify_setup.py --config=configs/gsm8k/grpo.py
    python scripts/verify_setup.py --config=configs/gsm8k/grpo.py --config.mesh.fsdp=8
    python scripts/launch/local.py --processes=2 --accelerators=8 -- scripts/verify_setup.py --config=configs/gsm8k/grpo.py \
        --config.mesh.fsdp=-1

One line a check; the exit code is 1 if any fails, in any of several processes. Nothing is trained, started or left behind.
"""
import sys

import jax

import bridges
from jaxrl_moe import cli
from jaxrl_moe.checks.setup_checks import check_all
from jaxrl_moe.hosts import hosts
from jaxrl_moe.types import UserError


def main(config):
    failed = 0
    for outcome in check_all(config, bridges):
        line = f"{'ok  ' if outcome.passed else 'FAIL'}  {outcome.name:12} {outcome.text}"
        print(line, flush=True)
        if not outcome.passed and not hosts.leads():  # whose output is dropped
            print(f"Process {jax.process_index()}: {line}", file=sys.stderr, flush=True)
        failed += not outcome.passed
    worst = -hosts.smallest(-failed)
    if worst:
        raise UserError(f"{worst} of the checks failed{'' if failed == worst else ', in another process'}.")


if __name__ == "__main__":
    cli.run(main, hosts=True)
