"""The kernels of a plan's programs: of a micro-batch, of the optimiser step and of one decode step."""
from jaxrl_moe.distributed.chips import Chip
from jaxrl_moe.planning import target
from jaxrl_moe.planning.instructions import parse
from jaxrl_moe.planning.kernel_report import program_lines, step_lines
from jaxrl_moe.types import UserError


def check(chip: Chip, name: str) -> None:
    """Raises UserError where nothing can be compiled for the chip, before anything is compiled for something else."""
    if not target.installed():
        raise UserError("--kernels reads programs that were compiled for a GPU, and this process has no compiler for one: "
                        "`make target` puts it beside JAX.")
    if chip.architecture is None:
        raise UserError(f"--kernels reads programs that were compiled for a GPU, and of {name} XLA's compiler knows nothing: give it an "
                        "`architecture` in the file of --chips, or choose another --chip.")


def lines(plan, chip: Chip, name: str) -> list[str]:
    """Three tables; a step's floor is that of planning/report.py: all weights and half the KV pool are read.

    Args:
      plan: a planning.plan.Plan whose programs were compiled for the chip.

    Raises:
      UserError: they were compiled for a CPU.
    """
    if not plan.gradients.text:
        raise UserError("--kernels reads programs that were compiled for a GPU, and these were compiled for a CPU: `make target` puts a "
                        "compiler for GPUs beside JAX.")
    found = program_lines(f"micro-batch of {plan.tokens:,} tokens on {name}", parse(plan.gradients.text), chip,
                          flops=plan.flops / plan.devices)
    found += program_lines(f"optimiser step on {name}", parse(plan.apply.text), chip)
    if plan.decode.text:
        found += step_lines(f"one decode step of {plan.slots} slots on {name}", parse(plan.decode.text), chip,
                            least=plan.active_bytes + plan.kv / 2)
    return found
