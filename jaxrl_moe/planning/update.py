"""The programs of an update, compiled for devices that need not be there; parameters are shapes with
shardings."""
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding

from jaxrl_moe.config import Config
from jaxrl_moe.data.packing import whole_batch
from jaxrl_moe.distributed.sharding import Placement, spec_of
from jaxrl_moe.learning import make
from jaxrl_moe.learning.batch import BATCH_AXES, TOKENS, MicroBatch
from jaxrl_moe.learning.objective import make_policy_objective
from jaxrl_moe.learning.policy import PolicyPass
from jaxrl_moe.learning.prepare import needs_forward
from jaxrl_moe.learning.programs import TrainingPrograms, moved
from jaxrl_moe.learning.step import READ_SHARES
from jaxrl_moe.phases import longest_drawn
from jaxrl_moe.planning import target
from jaxrl_moe.planning.programs import NOTHING, Program, compiled
from jaxrl_moe.planning.shapes import RunShapes


class Update(NamedTuple):
    """The programs of an update: gradients of a micro-batch, the step that applies their sum, and the pass
    without gradient that old and reference log-probs come from; and the micro-batch."""
    gradients: Program
    apply: Program
    forward: Program
    batch: MicroBatch


def compiled_update(config: Config, shapes: RunShapes) -> Update:
    """Compiles them for the largest micro-batch of a run."""
    batch, read = micro_batch_shapes(config, shapes.placement)
    lowered = lower(config, shapes, batch, read)
    done = {name: compiled(program, shapes.placement.platform) for name, program in lowered.items()}
    return Update(done["gradients"], done["apply"], done.get("forward", NOTHING), batch)


def lower(config: Config, shapes: RunShapes, batch: MicroBatch, read: Any) -> dict:
    """{name: the program, traced for the devices of the mesh}: see Update; `forward` only where a run has it.

    Args:
      batch, read: see micro_batch_shapes.
    """
    placement = shapes.placement
    parts = shapes.parts
    state = shapes.state
    lora = config.lora.rank > 0
    away = offloaded(config, placement)
    policy = PolicyPass(parts.graphdef, parts.dtypes, config.train.remat, frozen_head=lora,
                        placement=placement)
    programs = TrainingPrograms(policy, shapes.transform, offload=frozenset(away))
    objective = make_policy_objective(config.algorithm, config.critic, config.moe)
    entropy = config.logging.entropy or config.algorithm.entropy_coef > 0
    inputs = ((state.trainable, None), state.router_bias, parts.frozen, batch, read, 1.0, None)
    total = jax.eval_shape(functools.partial(programs.micro_batch, objective=objective, entropy=entropy),
                           *inputs)
    gradient = jax.tree.map(
        lambda leaf, like: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=like.sharding),
        total.gradient, (state.trainable, None))
    total = total._replace(gradient=gradient)
    stored = moved(state, on_host) if "optimizer" in away else state
    weights, streamed = _reference(config, shapes, away)
    with target.tracing(placement.mesh.devices.flat[0]):
        lowered = {
            "gradients": programs.gradients.lower(*inputs, total=total, objective=objective, entropy=entropy),
            "apply": programs.apply.lower(stored, total.gradient, total.loss, total.load,
                                          bias_rate=config.moe.bias_rate)
        }
        if needs_forward(config) or config.algorithm.kl_coef > 0:
            lowered["forward"] = programs.forward.lower(weights, None, parts.frozen, batch, read, 1.0,
                                                        routes=False, adapters=needs_forward(config)
                                                        or not lora, streamed=streamed)
    return lowered


def offloaded(config: Config, placement: Placement) -> tuple[str, ...]:
    """What a program keeps in the host's memory by itself: CPUs that stand for GPUs have no other memory than
    their host's."""
    return config.train.offload if placement.platform == "gpu" else ()


def on_host(tree: Any) -> Any:
    """Shapes of arrays that lie in the host's memory."""
    def hosted(leaf: Any):
        if not leaf.ndim:
            return leaf
        sharding = target.HostSharding(leaf.sharding.mesh, leaf.sharding.spec)
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    return jax.tree.map(hosted, tree)


def _reference(config: Config, shapes: RunShapes, away: Any):
    """(weights of the reference policy, whether they come from the host)."""
    if not make.keeps_reference(config):
        return (shapes.state.trainable, shapes.state.router_bias), False
    weights = (shapes.computed, shapes.state.router_bias)
    streamed = "reference" in away
    return on_host(weights) if streamed else weights, streamed


def micro_batch_shapes(config: Config, placement: Placement):
    """(the largest micro-batch of a run, the indices of the log-probs to read), as shapes on the mesh."""
    length, rows = whole_batch(longest_drawn(config), config.train.tokens_per_micro_batch, placement.shards)
    kinds = {
        name: jnp.int32 for name in ("tokens_BT", "positions_BT", "segments_BT", "targets_BT", "sequence_BT")
    }
    kinds |= {name: jnp.float32 for name in ("mask_BT", "weights_BT", "advantages_BT", "sampler_logprobs_BT")}
    algorithm = config.algorithm
    if algorithm.epochs * algorithm.minibatches > 1:
        kinds["old_logprobs_BT"] = jnp.float32
    if algorithm.kl_coef > 0:
        kinds["ref_logprobs_BT"] = jnp.float32

    def shape(axes: tuple[str | None, ...], dtype: Any, *sizes: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(sizes, dtype, sharding=NamedSharding(placement.mesh, spec_of(axes)))

    whole = {name: shape(BATCH_AXES[name], jnp.float32) for name in ("num_tokens", "num_positions")}
    rowwise = {name: shape(BATCH_AXES[name], dtype, rows, length) for name, dtype in kinds.items()}
    batch = MicroBatch(**rowwise, **whole)
    b = placement.row_shards
    c = placement.token_shards
    device_tokens = rows * length // (b * c)
    shares = math.ceil(READ_SHARES * min(1.0, config.rollout.max_tokens / length))
    wanted = -(-device_tokens // READ_SHARES) * shares
    return batch, (shape(TOKENS, jnp.int32, b, c, wanted), shape(TOKENS, jnp.int32, b, c, device_tokens))
