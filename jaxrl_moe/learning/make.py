"""The learner that a configuration asks for: optimiser, critic, mesh, reference, and what lies in the host's
memory."""
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jaxrl_moe.config import Config, CriticSection, OptimizerSection
from jaxrl_moe.distributed.offload import to_host
from jaxrl_moe.distributed.placements import placement
from jaxrl_moe.distributed.sharding import Placement
from jaxrl_moe.learning.optimizer import learning_rate, optimizer
from jaxrl_moe.learning.policy import CriticHead, PolicyPass
from jaxrl_moe.learning.programs import TrainingPrograms, moved
from jaxrl_moe.learning.state import ROUTER, Parts, TrainState, fingerprint, model_weights, take_apart
from jaxrl_moe.learning.step import Learner, Reference
from jaxrl_moe.model.config import LoraConfig
from jaxrl_moe.model.transformer import Transformer
from jaxrl_moe.model.value_head import ValueHead
from jaxrl_moe.rl.advantages import find_advantage


@dataclasses.dataclass(frozen=True)
class LearnerSettings:
    """What a learner is made by, besides its model.

    Attributes:
      optimizer: the optimiser's settings.
      total_steps: optimiser steps of the run, for the schedule.
      remat: "none", "mlp" or "full", see Transformer.
      seed: draws LoRA dropout, and the critic's first weights.
      train_router: see take_apart.
      bias_rate: step of the routers' selection biases after each update; 0 leaves them alone.
      critic: the critic's settings, or None for none. Its optimiser is AdamW as the policy's, but for the
        learning rate, and it is clipped by the norm of the head's own gradient, so that neither of the two
        can drown the other; what the value loss sends into the trunk (critic.train_trunk) is clipped with the
        policy's.
      reference: whether the weights as they are at first, in the model's types, are kept as the reference
        policy. Adapters need no such copy: their reference is the same model without them.
      offload: which of programs.OFFLOAD lie in the host's memory between uses.
    """
    optimizer: OptimizerSection
    total_steps: int
    remat: str = "none"
    seed: int = 0
    train_router: bool | None = None
    bias_rate: float = 0.0
    critic: CriticSection | None = None
    reference: bool = False
    offload: tuple[str, ...] = ()


def make_learner(config: Config, model: Transformer, total_steps: int,
                 head: ValueHead | None = None) -> Learner:
    """The learner of a run.

    Args:
      config: resolved.
      model: its arrays are taken over, not copied; do not use it afterwards.
      total_steps: optimiser steps of the run.
      head: the critic's first weights, taken over too; None: drawn anew if there is a critic.
    """
    settings = LearnerSettings(
        optimizer=config.optimizer,
        total_steps=total_steps,
        remat=config.train.remat,
        seed=config.seed,
        train_router=ROUTER[config.moe.router],
        bias_rate=config.moe.bias_rate,
        critic=config.critic if find_advantage(config.algorithm.advantage).critic else None,
        reference=keeps_reference(config),
        offload=config.train.offload)
    return build_learner(model, settings, placement(config, model.config), head)


def lora_config(config: Config) -> LoraConfig | None:
    """The adapters that a run trains, with their routers if moe.router says so; None in full fine-tuning."""
    return (LoraConfig(**dataclasses.asdict(config.lora), router=config.moe.router == "train")
            if config.lora.rank else None)


def keeps_reference(config: Config) -> bool:
    """Whether a run keeps the weights that it starts from: full fine-tuning with a KL term, which has no
    adapters to leave out."""
    return config.lora.rank == 0 and config.algorithm.kl_coef > 0


def build_learner(model: Transformer, settings: LearnerSettings, placement: Placement | None = None,
                  head: ValueHead | None = None) -> Learner:
    """A learner over a model's arrays, which are taken over: do not use the model afterwards.

    Args:
      placement: the mesh that the arrays are laid out on, or None for a single device.
      head: as for make_learner; nothing without settings.critic.
    """
    parts, trainable, biases = take_apart(model, settings.train_router)
    trainable = trainable if placement is None else placement.put(trainable)
    transform = optimizer(settings.optimizer, settings.total_steps)
    schedules = {"policy/lr": learning_rate(settings.optimizer, settings.total_steps)}
    state = TrainState(trainable, _moments(transform, trainable, placement), jnp.zeros((), jnp.int32), biases)
    critic = None
    critic_transform = None
    if settings.critic is not None:
        section = dataclasses.replace(settings.optimizer, learning_rate=settings.critic.learning_rate)
        critic_transform = optimizer(section, settings.total_steps)
        schedules["critic/lr"] = learning_rate(section, settings.total_steps)
        head = head or ValueHead(model.config.hidden_size, rngs=nnx.Rngs(settings.seed))
        critic, state = _with_critic(state, head, settings.critic, critic_transform, placement)
    lora = model.lora is not None
    policy = PolicyPass(parts.graphdef, parts.dtypes, settings.remat, lora, critic, placement)
    programs = TrainingPrograms(policy, transform, critic_transform, frozenset(settings.offload))
    if placement is not None:
        state = placement.put(state)
        parts = parts._replace(frozen=placement.put(parts.frozen))
    reference = _reference(state, parts, "reference" in settings.offload) if settings.reference else None
    if "optimizer" in settings.offload:
        state = moved(state, to_host)
    dropout_key = jax.random.key(settings.seed) if lora and model.lora.dropout > 0 else None
    return Learner(model.config, state, parts, programs, schedules, placement, reference, dropout_key,
                   settings.bias_rate)


def _with_critic(state: TrainState, head: ValueHead, section: CriticSection,
                 transform: optax.GradientTransformation,
                 placement: Placement | None) -> tuple[CriticHead, TrainState]:
    graphdef, weights = nnx.split(head)
    weights = weights if placement is None else placement.put(weights)
    moments = _moments(transform, weights, placement)
    return CriticHead(graphdef, section.train_trunk), state._replace(critic=weights, critic_opt_state=moments)


def _reference(state: TrainState, parts: Parts, away: bool) -> Reference:
    """The weights as they are now, copied, as updates reuse the memory of the others; away: in the host's
    memory."""
    weights = jax.tree.map(jnp.copy, (model_weights(state.trainable, parts.dtypes), state.router_bias))
    mark = fingerprint(weights)
    return Reference(to_host(weights) if away else weights, mark)


def _moments(transform: optax.GradientTransformation, weights: Any, placement: Placement | None) -> Any:
    """The optimiser's first state, on a mesh made in its shards: no device ever holds the whole of it."""
    if placement is None:
        return transform.init(weights)
    shapes = placement.shapes(jax.eval_shape(transform.init, weights))
    shardings = jax.tree.map(lambda shape: shape.sharding, shapes)
    return jax.jit(transform.init, out_shardings=shardings)(weights)
