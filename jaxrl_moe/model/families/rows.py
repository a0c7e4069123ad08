"""What a family's rows are made of: rows of its weight map, and the rows of parameters that layers of the
house have."""
import dataclasses

from jaxrl_moe.distributed.parameters import ParameterRow

STACK = "stacks.*"


@dataclasses.dataclass(frozen=True)
class TensorRow:
    """One correspondence between arrays of ours and tensors of a Hugging Face checkpoint. Placeholders:

      {layers} or {NAME}   a stack of layers: any, or of the LayerKind of this name, such as {sparse}; its
                           arrays lead with the layer axis
      {layer}              the layer's number, and so the first index into our array
      {expert}             the expert's number, and so the second index into our array

    Attributes:
      ours, theirs: the names.
      transpose: theirs is [.., out, in], ours [.., in, out].
      block: (i, n): ours is the i-th of n blocks of their `out`.
      joint: what servers keep it in together with other tensors, which so change hands as one; empty:
        nothing.
      float32: whether our array is float32 in any model.
      stored_float32: whether the tensor is too: its numbers are finer than bfloat16's spacing.
    """
    ours: str
    theirs: str
    transpose: bool = False
    block: tuple[int, int] = (0, 1)
    joint: str = ""
    float32: bool = False
    stored_float32: bool = False


def linear_tensors(ours: str, theirs: str, joint: str = "") -> tuple[TensorRow, TensorRow]:
    """Weight and bias of a linear layer."""
    return (TensorRow(f"{ours}.weight", f"{theirs}.weight", True, joint=joint),
            TensorRow(f"{ours}.bias", f"{theirs}.bias", joint=joint))


def norm_rows(*names: str) -> tuple[ParameterRow, ...]:
    """Of norms in a stack of layers, weight and bias: whole on every device, and not decayed."""
    return tuple(ParameterRow(f"{STACK}.{name}.{parameter}", ("layers", None), decayed=False)
                 for name in names for parameter in ("weight", "bias"))


def linear_rows(name: str, split: str, stack: tuple[str, ...] = ("layers",)) -> tuple[ParameterRow, ...]:
    """Of a linear layer (model.layers.Linear) in a stack of layers, with its adapter.

    Args:
      name: inside the layer, such as "attention.q_proj".
      split: the side that lies over tensor, "in" or "out".
      stack: axes that lead.
    """
    size_in, size_out = ("model", "heads") if split == "out" else ("heads", "model")
    return (ParameterRow(f"{STACK}.{name}.weight", (*stack, size_in, size_out)),
            ParameterRow(f"{STACK}.{name}.bias", (*stack, "heads" if split == "out" else None),
                         decayed=False),
            ParameterRow(f"{STACK}.{name}.lora_a", (*stack, size_in, None)),
            ParameterRow(f"{STACK}.{name}.lora_b", (*stack, None, size_out)))


def expert_rows(name: str, split: str) -> tuple[ParameterRow, ...]:
    """Of the linear layers of experts, which have no bias."""
    rows = linear_rows(name, split, ("layers", "expert"))
    return tuple(row for row in rows if row.path != f"{STACK}.{name}.bias")


def router_rows(name: str = "mlp.router") -> tuple[ParameterRow, ...]:
    """Of a router, with its selection bias: whole on every device."""
    return (ParameterRow(f"{STACK}.{name}.weight", ("layers", None, None), router=True),
            ParameterRow(f"{STACK}.{name}.bias", ("layers", None), decayed=False))
