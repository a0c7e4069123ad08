"""Says before a launch whether a run fits its devices, what its collectives move, how long it takes at best,
and waits for judges, and what it costs.

    make target    # once: the compiler for NVIDIA's GPUs, which needs no GPU (402 MB)
    python scripts/plan.py --config=configs/scale/qwen3_30b_a3b_grpo_h200.py --chip=H200
    python scripts/plan.py --config=configs/scale/qwen3_30b_a3b_grpo_h200.py --chip=H200 --kernels
    python scripts/plan.py --config=configs/nmoe_grpo.py --mesh=expert=8,fsdp=2 --chip=B200 --price=4.5
    python scripts/plan.py --config=configs/gsm8k/grpo.py --model_config=configs/shapes/qwen3_8b.json \\
        --devices=4 --mesh=tensor=2,context=2
    python scripts/plan.py --config=configs/gsm8k/grpo.py --model_config=configs/shapes/qwen3_0.6b.json \\
        --chip=RTX3090 --price=0.69 --budget=221
    python scripts/plan.py --config=configs/quickstart.py --measured=runs/quickstart --price=0.69
    python scripts/plan.py --config=configs/scale/agora_2xh200.py --judge_minutes=10 --judges_at_once=4 \\
        --model_config=configs/shapes/qwen3_30b_a3b.json

The run's own programs are compiled for the chip, or, without `make target`, for virtual CPU devices: then
memory is an estimate, see jaxrl_moe/planning/plan.py. No weights are read or made, only config.json (of
model.path, or the file given by --model_config). Times are floors by the chip's data sheet. JAX gets the
share XLA_CLIENT_MEM_FRACTION of a GPU's memory, 0.94 in all scripts unless it is set.
"""
from jaxrl_moe import begin

begin.command()  # first: what follows takes seconds, can fail and be interrupted

import os
import sys
from typing import TYPE_CHECKING

from absl import flags

from jaxrl_moe.options import define_number, define_path

if TYPE_CHECKING:
    from jaxrl_moe.config import Config

CHIP = flags.DEFINE_string("chip", "H200", "the accelerator, see jaxrl_moe/distributed/chips.py")
CHIPS = define_path("chips", None, "JSON file with more chips: {name: {flops, memory, bandwidth, link, "
                                   "architecture}}")
DEVICES = define_number("devices", 0, "how many there are, for an axis of -1; 0: as many as the meshes name",
                        0, 100_000)
MESH = flags.DEFINE_string("mesh", None, "axes and sizes, such as fsdp=4,expert=2: short for "
                                         "--config.mesh.fsdp=4 --config.mesh.expert=2")
PRICE = define_number("price", 0.0, "of one device for an hour, in any currency; 0: no cost is given")
BUDGET = define_number("budget", 0.0, "that there is, in the currency of --price: how long it lasts; 0: not "
                       "asked")
MEASURED = define_path("measured", None, "run_dir of a run that did some steps on such devices: costs by its "
                       "step times, in place of a plan")
JUDGE_MINUTES = define_number("judge_minutes", 0.0, "from the end of a rollout to its judge's answer; 0: not "
                              "told, unless people judge: then 10", 0, 10_000)
AT_ONCE = define_number("judges_at_once", 0, "rollouts that judges work at, at most; 0: "
                        "max_concurrent_rollouts of env.name, else 4", 0, 100_000)
KERNELS = flags.DEFINE_bool("kernels", False, "the kernels of each program too, and how far they are from "
                                              "its floor; needs `make target`")
SHAPE = define_path("model_config", None, "config.json of the model, where model.path is not at hand")
OF_A_PLAN = ("chip", "chips", "kernels", "model_config", "judge_minutes", "judges_at_once")
PLANNED = "PLANNED_DEVICES"  # of the process that plans: how many


def main(config: "Config") -> None:
    from jaxrl_moe.distributed.chips import find_chip
    from jaxrl_moe.planning import report, target
    from jaxrl_moe.planning.costs import Rates
    from jaxrl_moe.planning.waiting import JudgingTimes
    chip = find_chip(CHIP.value, CHIPS.value)
    devices = target.devices(chip, int(os.environ[PLANNED])) if target.usable(chip) else None
    print(
        report.text(report.with_mesh(config, MESH.value), chip=CHIP.value, chips=CHIPS.value,
                    rates=Rates(PRICE.value, BUDGET.value), shape=SHAPE.value, devices=devices,
                    kernels=KERNELS.value,
                    asked=JudgingTimes(JUDGE_MINUTES.value, AT_ONCE.value)))


def costs(config: "Config") -> None:
    """By a measured run: nothing is compiled, and no chip asked for."""
    from jaxrl_moe.config import ConfigError
    from jaxrl_moe.planning import report
    from jaxrl_moe.planning.costs import Rates, measured_text
    idle = [name for name in OF_A_PLAN if flags.FLAGS[name].present]
    if idle:
        raise ConfigError(f"--{idle[0]} has no effect with --measured, which makes no plan: leave one of "
                          "them out.")
    meant = report.with_mesh(config, MESH.value)
    print(measured_text(meant, MEASURED.value, report.device_count(meant, DEVICES.value),
                        Rates(PRICE.value, BUDGET.value)))


def first(config: "Config") -> None:
    """What the process that was started by hand does."""
    if MEASURED.value:
        costs(config)
    else:
        sys.exit(start_again(config))


def start_again(config: "Config") -> int:
    """Starts this script in a process that has the devices; JAX cannot be given more once it runs."""
    import subprocess

    from jaxrl_moe.distributed.chips import find_chip
    from jaxrl_moe.planning import report, target
    chip = find_chip(CHIP.value, CHIPS.value)
    count = report.device_count(report.with_mesh(config, MESH.value), DEVICES.value)
    return subprocess.run([sys.executable, *sys.argv], env=target.environment(chip, count) | {
        PLANNED: str(count)
    }, check=False).returncode


if __name__ == "__main__":
    from bridges import dialects
    from jaxrl_moe import cli
    cli.run(main if PLANNED in os.environ else first, dialects=dialects.READERS)
