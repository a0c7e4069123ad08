"""AdamW with clipping and a schedule, from the `optimizer` section (arXiv 1711.05101)."""
from typing import Any

import jax
import optax
from flax import nnx

from jaxrl_moe.config import OptimizerSection
from jaxrl_moe.distributed.parameters import row_of
from jaxrl_moe.distributed.sharding import dotted

SCHEDULES = ("constant", "cosine", "linear")


def learning_rate(section: OptimizerSection, total_steps: int) -> optax.Schedule:
    """Linear warm-up from 0, then constant, or a cosine or linear fall to 0 at `total_steps`."""
    peak = section.learning_rate
    warmup = section.warmup_steps
    rest = max(1, total_steps - warmup)
    after = {
        "constant": optax.constant_schedule(peak),
        "cosine": optax.cosine_decay_schedule(peak, rest),
        "linear": optax.linear_schedule(peak, 0.0, rest),
    }[section.schedule]
    if warmup == 0:
        return after
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), after], [warmup])


def optimizer(section: OptimizerSection, total_steps: int) -> optax.GradientTransformation:
    """Global-norm clipping (0: none), then AdamW. Norm weights and biases are not decayed.

    The arrays of its state are those of Adam and the schedule's count, whatever the settings, under names
    that say what they are: a checkpoint can be gone on with under others.
    """
    clip = optax.clip_by_global_norm(section.clip_norm) if section.clip_norm else optax.identity()
    return optax.named_chain(
        ("clip", clip), ("adam", optax.scale_by_adam(section.b1, section.b2, section.eps)),
        ("decay", optax.add_decayed_weights(section.weight_decay, _decayed)),
        ("learning_rate", optax.scale_by_learning_rate(learning_rate(section, total_steps))))


def _decayed(params: Any) -> Any:
    """Which arrays are decayed, as their rows say."""
    def decays(path: Any, variable: nnx.Variable) -> bool:
        return row_of(dotted(path), variable.ndim).decayed

    return jax.tree_util.tree_map_with_path(decays, params,
                                            is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))
