"""One optimiser step: gradients summed over micro-batches, then applied. SFT and every RL algorithm go through here.

The learner knows no loss: an objective is a function from LossInputs to LossOutputs whose loss adds up over micro-batches.
"""
import dataclasses
import functools
from collections.abc import Collection, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxrl_moe.config import CriticSection, OptimizerSection
from jaxrl_moe.distributed.context import to_devices
from jaxrl_moe.distributed.offload import to_host
from jaxrl_moe.distributed.sharding import Placement, cut, refilled
from jaxrl_moe.learning.batch import MicroBatch
from jaxrl_moe.learning.optimizer import learning_rate, optimizer
from jaxrl_moe.learning.programs import Forward, Objective, Programs, Total, moved
from jaxrl_moe.learning.state import TrainState, fingerprint, model_weights, take_apart
from jaxrl_moe.model.transformer import Transformer
from jaxrl_moe.model.value_head import ValueHead
from jaxrl_moe.rl.metrics import Merge, Metrics

READ_SHARES = 3  # the tokens whose log-probs are read are padded to a multiple of B*T / READ_SHARES: few shapes


class Learner:
    """Holds the training state and applies updates to it.

    Args:
      model: its arrays are taken over, not copied; do not use it afterwards.
      section: the optimiser's settings.
      total_steps: optimiser steps of the run, for the schedule.
      remat: "none", "mlp" or "full", see Transformer.
      seed: draws LoRA dropout, and the critic's first weights.
      train_router: see take_apart.
      bias_rate: step of the routers' selection biases after each update; 0 leaves them alone.
      critic: the critic's settings, or None for none. Its optimiser is AdamW as the policy's, but for the learning rate, and it
        is clipped by the norm of the head's own gradient, so that neither of the two can drown the other; what the value loss
        sends into the trunk (critic.train_trunk) is clipped with the policy's.
      value_head: the critic's first weights, its arrays taken over; None: drawn anew.
      placement: the mesh that the arrays are laid out on, or None for a single device.
      reference: whether the weights as they are now, in the model's types, are kept as the reference policy. Adapters need no such
        copy: their reference is the same model without them.
      offload: which of programs.OFFLOAD lie in the host's memory between uses.
    """

    def __init__(self, model: Transformer, section: OptimizerSection, total_steps: int, *, remat: str = "none", seed: int = 0,
                 train_router: bool | None = None, bias_rate: float = 0.0, critic: CriticSection | None = None,
                 value_head: ValueHead | None = None, placement: Placement | None = None, reference: bool = False,
                 offload: Collection[str] = ()):
        self.parts, trainable, biases = take_apart(model, train_router)
        self.config, self.bias_rate = model.config, bias_rate
        self.dropout = model.lora is not None and model.lora.dropout > 0
        self.key = jax.random.key(seed)
        self.schedules = {"policy/lr": learning_rate(section, total_steps)}
        transform, critic_transform = optimizer(section, total_steps), None
        trainable = trainable if placement is None else placement.put(trainable)
        self.state = TrainState(trainable, _moments(transform, trainable, placement), jnp.zeros((), jnp.int32), biases)
        head = None
        if critic is not None:
            head, weights = nnx.split(value_head or ValueHead(model.config.hidden_size, rngs=nnx.Rngs(seed)))
            section = dataclasses.replace(section, learning_rate=critic.learning_rate)
            critic_transform = optimizer(section, total_steps)
            self.schedules["critic/lr"] = learning_rate(section, total_steps)
            weights = weights if placement is None else placement.put(weights)
            self.state = self.state._replace(critic=weights, critic_opt_state=_moments(critic_transform, weights, placement))
        self.programs = Programs(self.parts, head, critic is None or critic.train_trunk, remat, model.lora is not None,
                                 (transform, critic_transform), placement, offload)
        if placement is not None:
            self.state = placement.put(self.state)
            self.parts = self.parts._replace(frozen=placement.put(self.parts.frozen))
        self.placement, self._totals = placement, {}
        self.reference, self.reference_mark = None, None
        if reference:
            weights = model_weights(self.state.trainable, self.parts.dtypes), self.state.router_bias
            self.reference = jax.tree.map(jnp.copy, weights)  # updates reuse the memory of the others
            self.reference_mark = fingerprint(self.reference)
        if "optimizer" in offload:
            self.state = moved(self.state, to_host)
        if "reference" in offload and reference:
            self.reference = to_host(self.reference)

    def stored(self) -> TrainState:
        """The state as checkpoints hold it, the same on every mesh: its vocabulary cut back to its own size."""
        return self.state if self.placement is None else self.placement.stored(self.state, self.config.vocab_size)

    def take_over(self, stored: TrainState) -> None:
        """Goes on from a state as `stored` gave it, on this mesh or another."""
        self.state = refilled(stored, self.state)

    @property
    def shards(self) -> tuple[int, int]:
        """What rows of a batch, and their tokens, must be multiples of."""
        return (1, 1) if self.placement is None else self.placement.shards

    @property
    def _weights(self):
        return self.state.trainable, self.state.router_bias

    def params(self) -> nnx.State:
        """All weights as the model computes with them, for the engine and for export. Shares arrays with the state."""
        return nnx.merge_state(model_weights(self.state.trainable, self.parts.dtypes), self.state.router_bias, self.parts.frozen)

    def model(self) -> Transformer:
        """The model with its present weights, its vocabulary cut back to its own size."""
        params = self.params()
        return nnx.merge(self.parts.graphdef, params if self.placement is None else cut(params, self.config.vocab_size))

    def value_head(self) -> ValueHead:
        """The critic with its present weights."""
        return nnx.merge(self.programs.critic, self.state.critic)

    def forward(self, batch: MicroBatch, *, reference: bool = False, temperature: float = 1.0, routes: bool = False) -> Forward:
        """The present policy on a micro-batch, or the reference policy; routes=True asks for its experts."""
        weights = self.reference if reference and self.reference else self._weights
        streamed = reference and bool(self.reference) and "reference" in self.programs.offload
        return self.programs.forward(weights, self.state.critic, self.parts.frozen, batch, self._read(batch), temperature,
                                     adapters=not reference, routes=routes, streamed=streamed)

    def update(self, batches: Sequence[MicroBatch], objective: Objective, *, entropy: bool = False,
               temperature: float = 1.0, count_load: bool = False) -> Metrics:
        """One optimiser step over the minibatch that `batches` make up.

        Args:
          objective: hashable; each new one compiles anew, so build it once.
          entropy: give the objective the policy's entropy (costs one more product with the output matrix).
          count_load: give the objective the whole minibatch's expert load, which a load-balancing loss needs (costs one more
            forward pass where there are several micro-batches).
        Returns:
          Device scalars: the objective's metrics and `loss`, policy/grad_norm and policy/lr, the same of a critic, and `finite`:
          False where the loss or the gradient was not finite, and then nothing was changed. For MoE also the counts `load` [L, E],
          `probability` [E], the expert `slots` that tokens asked for and those `dropped` for want of a place.
        """
        total = self.totals(batches, objective, entropy=entropy, temperature=temperature, count_load=count_load)
        rates = {name: jnp.asarray(schedule(self.state.step)) for name, schedule in self.schedules.items()}
        self.state, applied = self.programs.apply(self.state, total.gradient, total.loss, total.load, bias_rate=self.bias_rate)
        return (total.means | total.maxima | applied | self._counts(total, batches) | Metrics(Merge.LAST, rates)
                | Metrics(Merge.UPDATE_MEAN, {"loss": total.loss}))

    def _counts(self, total: Total, batches: Sequence[MicroBatch]) -> Metrics:
        if total.load is None:
            return Metrics.empty()
        return Metrics(Merge.SUM, {"load": total.load, "probability": total.probability, "dropped": total.dropped,
                                   "slots": self._slots(batches)})

    def _slots(self, batches: Sequence[MicroBatch]) -> int:
        """Expert slots that the real tokens ask for."""
        tokens = sum(np.count_nonzero(batch.segments_BT) for batch in batches)
        return tokens * self.config.num_experts_per_tok * self.config.num_sparse_layers

    def totals(self, batches: Sequence[MicroBatch], objective: Objective, *, entropy: bool = False, temperature: float = 1.0,
               count_load: bool = False) -> Total:
        """The gradients and sums of a minibatch; arguments as in update."""
        keys = [jax.random.fold_in(jax.random.fold_in(self.key, self.state.step), index) if self.dropout else None
                for index in range(len(batches))]
        if count_load and len(batches) > 1:
            load_E = sum(self.programs.load(self._weights, self.parts.frozen, batch, self._read(batch), key)
                         for batch, key in zip(batches, keys))
            batches = [dataclasses.replace(batch, expert_load_E=load_E) for batch in batches]
        total = None
        for batch, key in zip(batches, keys):
            inputs = ((self.state.trainable, self.state.critic), self.state.router_bias, self.parts.frozen, batch,
                      self._read(batch), temperature, key)
            if total is None:
                total = self._empty_total(inputs, objective, entropy)
            total = self.programs.gradients(*inputs, total=total, objective=objective, entropy=entropy)
        return total

    def _empty_total(self, inputs, objective, entropy):
        """What sums start from, so that the first micro-batch runs the same program as the others."""
        kind = objective, entropy, jax.tree.structure(inputs[3])
        if kind not in self._totals:
            self._totals[kind] = jax.eval_shape(functools.partial(self.programs.micro_batch, objective=objective, entropy=entropy), *inputs)
        zeros = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), self._totals[kind])
        return zeros._replace(maxima=jax.tree.map(lambda _: jnp.full((), -jnp.inf), zeros.maxima))

    def _read(self, batch: MicroBatch):
        if self.placement is None:
            return read_plan(batch.mask_BT, (1, 1))
        parts = self.placement.token_shards
        return read_plan(to_devices(np.asarray(batch.mask_BT), 1, parts), (self.placement.row_shards, parts))


def _moments(transform: optax.GradientTransformation, weights: Any, placement: Placement | None) -> Any:
    """The optimiser's first state, on a mesh made in its parts: no device ever holds the whole of it."""
    if placement is None:
        return transform.init(weights)
    shardings = jax.tree.map(lambda shape: shape.sharding, placement.shapes(jax.eval_shape(transform.init, weights)))
    return jax.jit(transform.init, out_shardings=shardings)(weights)


def read_plan(mask_BT, shards: tuple[int, int]):
    """Which positions' log-probs are wanted, for each part of a batch that a device works on.

    Args:
      mask_BT: 1 where a log-prob is wanted, tokens in the order in which devices hold them.
      shards: parts that rows and tokens are split into, (b, c).

    Returns:
      (indices [b, c, R] of the wanted positions in the flattened part, padded to a coarse size; the inverse map [b, c, M]).
    """
    b, c = shards
    rows, length = (whole // parts for whole, parts in zip(mask_BT.shape, shards))
    mask_bcM = np.asarray(mask_BT).reshape(b, rows, c, length).swapaxes(1, 2).reshape(b, c, -1) > 0
    size = mask_bcM.shape[-1]
    share = -(-size // READ_SHARES)
    wide = max(1, -(-int(mask_bcM.sum(axis=-1).max()) // share)) * share
    read_bcR, inverse_bcM = np.full((b, c, wide), size, np.int32), np.full((b, c, size), wide, np.int32)
    for part in np.ndindex(b, c):
        wanted = np.flatnonzero(mask_bcM[part])
        read_bcR[part][:wanted.size] = wanted
        inverse_bcM[part][wanted] = np.arange(wanted.size)
    return read_bcR, inverse_bcM
