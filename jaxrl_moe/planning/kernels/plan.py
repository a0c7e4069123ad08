"""The kernels of a plan's programs: of a micro-batch, of the optimiser step and of one decode step."""
from jaxrl_moe.distributed.chips import Chip
from jaxrl_moe.planning import target
from jaxrl_moe.planning.instructions import Module, parse
from jaxrl_moe.planning.kernels.floor import Least, least_bytes
from jaxrl_moe.planning.kernels.report import kernel_lines
from jaxrl_moe.planning.kernels.walk import kernel_table, open_loop
from jaxrl_moe.types import UserError


def check(chip: Chip, name: str) -> None:
    """Raises UserError where nothing can be compiled for the chip, before anything is compiled for something else."""
    if not target.installed():
        raise UserError("--kernels reads programs that were compiled for a GPU, and this process has no compiler for "
                        "one: `make target` puts it beside JAX.")
    if chip.architecture is None:
        raise UserError(f"--kernels reads programs that were compiled for a GPU, and XLA's compiler knows nothing of {name}: "
                        "give it an `architecture` in the file of --chips, or choose another --chip.")


def lines(plan, chip: Chip, name: str) -> list[str]:
    """Three tables. The floor of a decode step is that of planning/report.py: all weights and half the KV pool are read.

    Args:
      plan: a planning.plan.Plan whose programs were compiled for the chip.

    Raises:
      UserError: they were compiled for a CPU.
    """
    if not plan.gradients.text:
        raise UserError("--kernels reads programs that were compiled for a GPU, and these were compiled for a CPU: "
                        "`make target` puts a compiler for GPUs beside JAX.")
    gradients, apply = parse(plan.gradients.text), parse(plan.apply.text)
    floor = Least(plan.flops / plan.devices, least_bytes(gradients))
    found = kernel_lines(kernel_table(gradients, chip), chip, f"micro-batch of {plan.tokens:,} tokens on {name}", floor)
    found += kernel_lines(kernel_table(apply, chip), chip, f"optimiser step on {name}", Least(0.0, least_bytes(apply)))
    if plan.decode.text:
        floor = Least(0.0, plan.active_bytes + plan.kv / 2)
        found += step_lines(parse(plan.decode.text), chip, f"decode step of {plan.slots} slots on {name}", floor)
    return found


def step_lines(module: Module, chip: Chip, title: str, least: Least) -> list[str]:
    """One trip of a program's outermost loop of unknown trips; the whole program, where it has no such loop."""
    within = open_loop(module)
    return kernel_lines(kernel_table(module, chip, within=within), chip, f"one {title}" if within else title, least)
