"""What a program cannot do without: the FLOPs of its model, and its arguments and results in memory once
each."""
from typing import NamedTuple

from jaxrl_moe.distributed.chips import Chip
from jaxrl_moe.planning.instructions import Computation, Instruction, Module, arrays


class Least(NamedTuple):
    """FLOPs of the model's products, and bytes that are read and written once, on one device."""
    flops: float
    bytes: float

    def seconds(self, chip: Chip) -> float:
        """The longer of both."""
        return max(self.flops / chip.flops, self.bytes / chip.bandwidth)

    def bound(self, chip: Chip) -> str:
        """Which of both is the longer."""
        return "products" if self.flops / chip.flops >= self.bytes / chip.bandwidth else "memory"


def least_bytes(module: Module, within: str | None = None) -> int:
    """Bytes of every array that a computation is given and uses, and of every array that it makes and
    returns.

    An array that changes in place counts twice, as read and as written, though only a part of it may change.

    Args:
      within: the computation, such as a loop's body; None: the whole program.
    """
    body = module.computations[within or module.entry]
    root = next(instruction for instruction in body.values() if instruction.root)
    returned = set(root.operands) if root.opcode == "tuple" else {root.name}
    given = {instruction.name for instruction in body.values() if _is_given(body, instruction)}
    users = (user for user in body.values() if not (user.root and user.opcode == "tuple"))
    used = {name for user in users for name in user.operands}
    counted = [*(given & used), *(returned - given)]
    return sum(array.bytes() for name in counted for array in arrays(body[name].shape))


def _is_given(body: Computation, instruction: Instruction) -> bool:
    """Whether it is an argument, or an array of one that is a tuple."""
    if instruction.opcode == "get-tuple-element":
        return body[instruction.operands[0]].opcode == "parameter"
    return instruction.opcode == "parameter" and not instruction.shape.startswith("(")
