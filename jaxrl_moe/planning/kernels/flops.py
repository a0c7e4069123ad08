"""FLOPs of one launch of a kernel: 2 for each multiplication of matrix products and convolutions, none for
the rest.

Attention of cuDNN is counted from its shapes, two products forward and five backward, with the pairs that a
mask hides.
"""
import math
import re
from collections.abc import Mapping

from jaxrl_moe.planning.hlo import result_shape
from jaxrl_moe.planning.instructions import Array, Computation, Instruction, Module, arrays

# Custom calls without products, by how their targets begin; of those that stand nowhere here nothing is
# known.
_WITHOUT = ("__cub$", "__gpu$TopK", "cu_threefry2x32", "xla.gpu.ext.cub", "Sharding",
            "annotate_device_placement", "MoveTo")
_GEMM = "__cublas$"
_ATTENTION = "__cudnn$fmha"
# cuDNN's convolutions: which operand is the filter, and which the side with the output's features; -1 is the
# result.
_CONVOLUTIONS = {
    "__cudnn$convForward": (1, -1),
    "__cudnn$convBiasActivationForward": (1, -1),
    "__cudnn$convForwardGraph": (1, -1),
    "__cudnn$convBackwardInput": (1, 0),
    "__cudnn$convBackwardFilter": (-1, 1)
}


def kernel_flops(module: Module, body: Computation, kernel: Instruction,
                 given: Mapping[str, float]) -> float | None:
    """Of one launch of an instruction of `body`, None where they are not known.

    Args:
      given: {name, source or custom call target: FLOPs of a launch}, for calls whose products XLA does not
        know.
    """
    for name in (kernel.name, kernel.source, kernel.target):
        if name and name in given:
            return given[name]
    if kernel.kind == "fusion":
        return _fusion(module, kernel, given)
    if kernel.kind == "dot":
        return _product(body, kernel, "lhs_contracting_dims")
    if kernel.kind == "convolution":
        return _convolution(body, kernel, 1, -1)
    return _custom(body, kernel) if kernel.kind == "custom-call" else 0.0


def _fusion(module: Module, fusion: Instruction, given: Mapping[str, float]) -> float | None:
    total = 0.0
    for role, name in fusion.called:
        fused = module.computations[name] if role == "calls" else {}
        for instruction in fused.values():
            flops = kernel_flops(module, fused, instruction, given)
            if flops is None:
                return None
            total += flops
    return total


def _custom(body: Computation, call: Instruction) -> float | None:
    if call.target.startswith(_GEMM):
        return _product(body, call, "lhs_contracting_dimensions")
    if call.target.startswith(_ATTENTION):
        return _attention(body, call)
    if call.target in _CONVOLUTIONS:
        return _convolution(body, call, *_CONVOLUTIONS[call.target])
    return 0.0 if call.target.startswith(_WITHOUT) else None


def _product(body: Computation, product: Instruction, contracted: str) -> float | None:
    """A matrix product, batched or not: every element of the result sums over the contracted dimensions."""
    axes = product.numbers(contracted)
    if not axes:
        return None
    left = _array(body, product, 0).sizes
    return 2.0 * _array(body, product, -1).elements * math.prod(left[axis] for axis in axes)


def _attention(body: Computation, call: Instruction) -> float | None:
    """Each product meets every query, [B, T, N, H] in some order, with the S keys of its head, or weighs S
    values for it."""
    scores = call.numbers("dimensions")  # of intermediate_tensor_shape, B N T S
    if len(scores) != 4:
        return None
    return (5 if "Backward" in call.target else 2) * 2.0 * _array(body, call, 0).elements * scores[-1]


def _convolution(body: Computation, call: Instruction, filter_at: int, output_at: int) -> float | None:
    """Each element of the output sums over the filter's window and its input features."""
    labels = re.search(r"dim_labels=\w+_(\w+)->", call.attributes)
    if not labels:
        return None
    weights = _array(body, call, filter_at)
    return 2.0 * _array(body, call,
                        output_at).elements * weights.elements / weights.sizes[labels[1].index("o")]


def _array(body: Computation, instruction: Instruction, index: int) -> Array:
    """The type of an operand; of the first result for -1."""
    return arrays(result_shape(instruction) if index < 0 else body[instruction.operands[index]].shape)[0]
