"""One optimiser step: gradients summed over micro-batches, then applied. SFT and every RL algorithm go
through here.

The learner knows no loss: an objective is a function from LossInputs to LossOutputs whose loss adds up over
micro-batches.
"""
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxrl_moe.distributed.context import to_devices
from jaxrl_moe.distributed.sharding import Placement, cut, refilled
from jaxrl_moe.learning.batch import MicroBatch
from jaxrl_moe.learning.programs import Forward, ObjectiveFunction, Total, TrainingPrograms
from jaxrl_moe.learning.state import Parts, TrainState, model_weights
from jaxrl_moe.model.config import ModelConfig
from jaxrl_moe.model.transformer import Transformer
from jaxrl_moe.model.value_head import ValueHead
from jaxrl_moe.rl.metrics import Merge, Metrics

# the tokens whose log-probs are read are padded to a multiple of B*T / READ_SHARES: few shapes
READ_SHARES = 3


class Reference(NamedTuple):
    """The reference policy's own weights, (trained arrays in the model's types, routers' biases), and their
    fingerprint."""
    weights: tuple[Any, Any]
    mark: str


@dataclasses.dataclass(eq=False)
class Learner:
    """Holds the training state and applies updates to it. Made by make.make_learner.

    Attributes:
      config: the model's.
      state: all that training changes.
      parts: what it leaves alone.
      programs: what is compiled over both.
      schedules: learning rates by the names that they are logged under.
      placement: the mesh that the arrays are laid out on, or None for a single device.
      reference: the reference policy where it has weights of its own; None: the model without its adapters.
      dropout_key: draws LoRA dropout; None without.
      bias_rate: step of the routers' selection biases after each update; 0 leaves them alone.
    """
    config: ModelConfig
    state: TrainState
    parts: Parts
    programs: TrainingPrograms
    schedules: Mapping[str, optax.Schedule]
    placement: Placement | None = None
    reference: Reference | None = None
    dropout_key: jax.Array | None = None
    bias_rate: float = 0.0
    _totals: dict[Any, Total] = dataclasses.field(default_factory=dict)

    def stored(self) -> TrainState:
        """The state as checkpoints hold it, the same on every mesh: its vocabulary cut back to its own
        size."""
        return self.state if self.placement is None else self.placement.stored(
            self.state, self.config.vocab_size)

    def take_over(self, stored: TrainState) -> None:
        """Goes on from a state as `stored` gave it, on this mesh or another."""
        self.state = refilled(stored, self.state)

    @property
    def shards(self) -> tuple[int, int]:
        """What rows of a batch, and their tokens, must be multiples of."""
        return (1, 1) if self.placement is None else self.placement.shards

    @property
    def _weights(self) -> tuple[Any, Any]:
        return self.state.trainable, self.state.router_bias

    def params(self) -> nnx.State:
        """All weights as the model computes with them, for the engine and for export. Shares arrays with the
        state."""
        return nnx.merge_state(model_weights(self.state.trainable, self.parts.dtypes), self.state.router_bias,
                               self.parts.frozen)

    def model(self) -> Transformer:
        """The model with its present weights, its vocabulary cut back to its own size."""
        params = self.params()
        return nnx.merge(self.parts.graphdef,
                         params if self.placement is None else cut(params, self.config.vocab_size))

    def value_head(self) -> ValueHead:
        """The critic with its present weights."""
        return nnx.merge(self.programs.policy.critic.graphdef, self.state.critic)

    def forward(self, batch: MicroBatch, *, reference: bool = False, temperature: float = 1.0,
                routes: bool = False) -> Forward:
        """The present policy on a micro-batch, or the reference policy; routes=True asks for its experts."""
        apart = reference and self.reference is not None
        weights = self.reference.weights if apart else self._weights
        streamed = apart and "reference" in self.programs.offload
        return self.programs.forward(weights, self.state.critic, self.parts.frozen, batch, self._read(batch),
                                     temperature, adapters=not reference, routes=routes, streamed=streamed)

    def update(self, batches: Sequence[MicroBatch], objective: ObjectiveFunction, *, entropy: bool = False,
               temperature: float = 1.0, count_load: bool = False) -> Metrics:
        """One optimiser step over the minibatch that `batches` make up.

        Args:
          objective: hashable; each new one compiles anew, so build it once.
          entropy: give the objective the policy's entropy (costs one more product with the output matrix).
          count_load: give the objective the whole minibatch's expert load, which a load-balancing loss needs
            (costs one more forward pass where there are several micro-batches).
        Returns:
          Device scalars: the objective's metrics and `loss`, policy/grad_norm and policy/lr, the same of a
          critic, and `finite`: False where the loss or the gradient was not finite, and then nothing was
          changed. For MoE also the counts `load` [L, E], `probability` [E], the expert `slots` that tokens
          asked for and those `dropped` for want of a place.
        """
        total = self.totals(batches, objective, entropy=entropy, temperature=temperature,
                            count_load=count_load)
        rates = {name: jnp.asarray(schedule(self.state.step)) for name, schedule in self.schedules.items()}
        self.state, applied = self.programs.apply(self.state, total.gradient, total.loss, total.load,
                                                  bias_rate=self.bias_rate)
        loss = Metrics(Merge.UPDATE_MEAN, {"loss": total.loss})
        counts = self._counts(total, batches)
        return total.means | total.maxima | applied | counts | Metrics(Merge.LAST, rates) | loss

    def _counts(self, total: Total, batches: Sequence[MicroBatch]) -> Metrics:
        if total.load is None:
            return Metrics.empty()
        counts = {"load": total.load, "probability": total.probability, "dropped": total.dropped}
        return Metrics(Merge.SUM, counts | {"slots": self._slots(batches)})

    def _slots(self, batches: Sequence[MicroBatch]) -> int:
        """Expert slots that the real tokens ask for."""
        tokens = sum(np.count_nonzero(batch.segments_BT) for batch in batches)
        return tokens * self.config.num_experts_per_tok * self.config.num_sparse_layers

    def totals(self, batches: Sequence[MicroBatch], objective: ObjectiveFunction, *, entropy: bool = False,
               temperature: float = 1.0, count_load: bool = False) -> Total:
        """The gradients and sums of a minibatch; arguments as in update."""
        keys = self._dropout_keys(len(batches))
        if count_load and len(batches) > 1:
            load_E = sum(self.programs.load(self._weights, self.parts.frozen, batch, self._read(batch), key)
                         for batch, key in zip(batches, keys))
            batches = [dataclasses.replace(batch, expert_load_E=load_E) for batch in batches]
        total = None
        for batch, key in zip(batches, keys):
            inputs = ((self.state.trainable, self.state.critic), self.state.router_bias, self.parts.frozen,
                      batch, self._read(batch), temperature, key)
            if total is None:
                total = self._empty_total(inputs, objective, entropy)
            total = self.programs.gradients(*inputs, total=total, objective=objective, entropy=entropy)
        return total

    def _dropout_keys(self, count: int) -> list[jax.Array | None]:
        """A key for each micro-batch of the coming step."""
        if self.dropout_key is None:
            return [None] * count
        of_step = jax.random.fold_in(self.dropout_key, self.state.step)
        return [jax.random.fold_in(of_step, index) for index in range(count)]

    def _empty_total(self, inputs: tuple[Any, ...], objective: ObjectiveFunction, entropy: bool) -> Total:
        """What sums start from, so that the first micro-batch runs the same program as the others."""
        kind = objective, entropy, jax.tree.structure(inputs[3])
        if kind not in self._totals:
            sums = functools.partial(self.programs.micro_batch, objective=objective, entropy=entropy)
            self._totals[kind] = jax.eval_shape(sums, *inputs)
        zeros = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), self._totals[kind])
        return zeros._replace(maxima=jax.tree.map(lambda _: jnp.full((), -jnp.inf), zeros.maxima))

    def _read(self, batch: MicroBatch) -> tuple[np.ndarray, np.ndarray]:
        if self.placement is None:
            return read_plan(batch.mask_BT, (1, 1))
        shards = self.placement.token_shards
        mask_BT = to_devices(np.asarray(batch.mask_BT), 1, shards)
        return read_plan(mask_BT, (self.placement.row_shards, shards))


def read_plan(mask_BT: Any, shards: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Which positions' log-probs are wanted, for each part of a batch that a device works on.

    Args:
      mask_BT: 1 where a log-prob is wanted, tokens in the order in which devices hold them.
      shards: parts that rows and tokens are split into, (b, c).

    Returns:
      (indices [b, c, R] of the wanted positions in the flattened part, padded to a coarse size; the inverse
        map [b, c, M]).
    """
    b, c = shards
    rows, length = (whole // count for whole, count in zip(mask_BT.shape, shards))
    mask_bcM = np.asarray(mask_BT).reshape(b, rows, c, length).swapaxes(1, 2).reshape(b, c, -1) > 0
    size = mask_bcM.shape[-1]
    share = -(-size // READ_SHARES)
    wide = max(1, -(-int(mask_bcM.sum(axis=-1).max()) // share)) * share
    read_bcR = np.full((b, c, wide), size, np.int32)
    inverse_bcM = np.full((b, c, size), wide, np.int32)
    for shard in np.ndindex(b, c):
        wanted = np.flatnonzero(mask_bcM[shard])
        read_bcR[shard][:wanted.size] = wanted
        inverse_bcM[shard][wanted] = np.arange(wanted.size)
    return read_bcR, inverse_bcM
