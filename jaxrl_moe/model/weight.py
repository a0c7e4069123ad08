"""How a module holds a weight matrix (kernels.weight), and how a device that has a part comes to the whole.

A dense weight is the array of an nnx.Param, as checkpoints and optimisers know it. Any other kind is a value
in a FrozenWeight, in the same place: `linear.weight = FrozenWeight(Int8.of(array))`.
"""
from flax import nnx

from jaxrl_moe.distributed import collectives
from jaxrl_moe.kernels.weight import WeightMatrix, weight_of


class FrozenWeight(nnx.Variable):
    """Holds a weight of a kind that does not train. It is no nnx.Param, so nothing trains it."""


def held(variable: nnx.Variable) -> WeightMatrix:
    """The weight that a variable holds, as this device has it."""
    return weight_of(variable.get_value())


def whole(variable: nnx.Variable, axis: int) -> WeightMatrix:
    """The weight as its layer computes with it: gathered over fsdp along `axis`, -2 (in) or -1 (out)."""
    return held(variable).gathered(collectives.weight, axis)
