"""A run's arrays as shapes with shardings, on devices that need not be there."""
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxrl_moe.checks.problems import refuse
from jaxrl_moe.checks.sections.mesh import idle_exchange
from jaxrl_moe.config import Config
from jaxrl_moe.distributed.placements import mesh_of, rollout_placement
from jaxrl_moe.distributed.sharding import Placement
from jaxrl_moe.learning import make
from jaxrl_moe.learning.optimizer import optimizer
from jaxrl_moe.learning.state import ROUTER, Parts, TrainState, model_weights, take_apart
from jaxrl_moe.model.config import ModelConfig
from jaxrl_moe.model.transformer import Transformer
from jaxrl_moe.runs.flops import Cost, model_cost


class RunShapes(NamedTuple):
    """What the programs of a run are traced with.

    Attributes:
      placement, drawn_at: the meshes of training and of rollout, which may be the same.
      model: without arrays; cost: of a token.
      parts, state, transform: the model taken apart, the training state, the optimiser.
      params: the weights as the engine computes with them.
    """
    placement: Placement
    drawn_at: Placement
    model: Transformer
    cost: Cost
    parts: Parts
    state: TrainState
    transform: Any
    params: Any

    @property
    def computed(self) -> Any:
        """The trained arrays as the model computes with them."""
        return model_weights(self.state.trainable, self.parts.dtypes)


def run_shapes(config: Config, model_config: ModelConfig, devices: Sequence[jax.Device],
               platform: str = "gpu") -> RunShapes:
    """Of a resolved configuration.

    Args:
      devices: as many as the meshes need.
      platform: whose kernels the model has; those of CPUs that stand for GPUs differ.
    """
    placement = mesh_of(config, model_config, devices)
    refuse([*idle_exchange(config.mesh, placement.layout.size("expert"))])
    drawn_at = rollout_placement(config, model_config, devices) if config.rollout_mesh.apart else placement
    model = Transformer.abstract(model_config, lora=make.lora_config(config),
                                 dtype=jnp.dtype(config.model.dtype or "bfloat16"),
                                 attention=config.model.attention,
                                 grouped_matmul=config.model.grouped_matmul, platform=platform)
    parts, trainable, biases = take_apart(model, ROUTER[config.moe.router])
    params = drawn_at.shapes(nnx.merge_state(model_weights(trainable, parts.dtypes), biases, parts.frozen))
    cost = model_cost(model_config, trainable, parts.frozen)
    parts = parts._replace(frozen=placement.shapes(parts.frozen))
    trainable = placement.shapes(trainable)
    biases = placement.shapes(biases)
    transform = optimizer(config.optimizer, 100)
    moments = placement.shapes(jax.eval_shape(transform.init, trainable))
    state = TrainState(trainable, moments, jax.ShapeDtypeStruct((), jnp.int32), biases)
    return RunShapes(placement, drawn_at, model, cost, parts, state, transform, params)
