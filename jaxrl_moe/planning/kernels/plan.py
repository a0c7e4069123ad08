"""The kernels of a plan's programs: of a micro-batch, of the optimiser step and of one decode step."""
from typing import Any

from jaxrl_moe.distributed.chips import Chip
from jaxrl_moe.planning import target
from jaxrl_moe.planning.instructions import parse
from jaxrl_moe.planning.kernels.floor import Least, least_bytes
from jaxrl_moe.planning.kernels.report import kernel_lines
from jaxrl_moe.planning.kernels.table import Table
from jaxrl_moe.planning.kernels.walk import kernel_table, open_loop
from jaxrl_moe.types import UserError


def check(chip: Chip, name: str) -> None:
    """Raises UserError where nothing can be compiled for the chip, before anything is compiled for something
    else."""
    if not target.installed():
        raise UserError("--kernels reads programs that were compiled for a GPU, and this process has no "
                        "compiler for one: `make target` puts it beside JAX.")
    if chip.architecture is None:
        raise UserError("--kernels reads programs that were compiled for a GPU, and XLA's compiler knows "
                        f"nothing of {name}: give it an `architecture` in the file of --chips, or choose "
                        "another --chip.")


def lines(plan: Any, chip: Chip, name: str) -> list[str]:
    """The tables of a planning.plan.Plan in words; see tables."""
    return [line for title, table, least in tables(plan, chip)
            for line in kernel_lines(table, chip, f"{title} on {name}", least)]


def tables(plan: Any, chip: Chip) -> list[tuple[str, Table, Least]]:
    """(what it is of, table, floor) of a micro-batch, of the optimiser step, and of one decode step.

    The floor of a decode step is that of planning/report.py, all weights and half the KV pool; of the others,
    their arguments and results.

    Args:
      plan: a planning.plan.Plan whose programs were compiled for the chip.

    Raises:
      UserError: they were compiled for a CPU.
    """
    if not plan.gradients.text:
        raise UserError("--kernels reads programs that were compiled for a GPU, and these were compiled for "
                        "a CPU: `make target` puts a compiler for GPUs beside JAX.")
    gradients = parse(plan.gradients.text)
    apply = parse(plan.apply.text)
    flops = plan.flops / plan.devices
    rows = [(f"micro-batch of {plan.tokens:,} tokens", kernel_table(gradients, chip),
             Least(flops, least_bytes(gradients))),
            ("optimiser step", kernel_table(apply, chip), Least(0.0, least_bytes(apply)))]
    if plan.decode.text:
        decode = parse(plan.decode.text)
        step = kernel_table(decode, chip, within=open_loop(decode))
        rows.append((f"one decode step of {plan.slots} slots", step,
                     Least(0.0, plan.active_bytes + plan.kv / 2)))
    return rows
