"""Checks what a run needs before it starts: recipe, versions, devices, settings, model files, mesh,
collectives, data, disk, task, servers, and what stands beside the run.

    python scripts/verify_setup.py --config=configs/gsm8k/grpo.py
    python scripts/verify_setup.py --config=configs/gsm8k/grpo.py --config.mesh.fsdp=8
    python scripts/launch/local.py --processes=2 --accelerators=8 -- \\
        scripts/verify_setup.py --config=configs/gsm8k/grpo.py --config.mesh.fsdp=-1

One line a check; the exit code is 1 if any fails, in any of several processes. Nothing is trained, started or
left behind.
"""
from jaxrl_moe import begin

begin.command()  # first: what follows takes seconds, can fail and be interrupted

import pathlib
import sys

import jax

import bridges
from bridges import dialects
from jaxrl_moe import cli
from jaxrl_moe.checks import start
from jaxrl_moe.checks.setup import check_all
from jaxrl_moe.config import Config
from jaxrl_moe.hosts import hosts
from jaxrl_moe.options import define_text
from jaxrl_moe.serving.windows import verify
from jaxrl_moe.types import UserError

BUFFER_URL = define_text("buffer_url", "", "of a rollout buffer, as http://127.0.0.1:8889, that is asked how "
                                           "it is; empty: none is")


def main(config: Config) -> None:
    failed = 0
    beside = {"scripts": lambda config: verify.scripts_line(config, pathlib.Path(__file__).resolve().parent)}
    if BUFFER_URL.value:
        beside["buffer"] = lambda _: verify.buffer_line(BUFFER_URL.value)
    for checked in check_all(start.training(config, bridges), beside):
        line = f"{'ok  ' if checked.passed else 'FAIL'}  {checked.name:12} {checked.text}"
        print(line, flush=True)
        if not checked.passed and not hosts.leads():  # whose output is dropped
            print(f"Process {jax.process_index()}: {line}", file=sys.stderr, flush=True)
        failed += not checked.passed
    worst = -hosts.smallest(-failed)
    if worst:
        raise UserError(f"{worst} of the checks failed{'' if failed == worst else ', in another process'}.")


if __name__ == "__main__":
    cli.run(main, hosts=True, dialects=dialects.READERS)
