"""One optimiser step: gradients summed over micro-batches, then applied. SFT and every RL algorithm go through here.

The learner knows no loss: an objective is a function from LossInputs to LossOutputs whose loss adds up over micro-batches.
"""
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxrl_moe.config import OptimizerSection
from jaxrl_moe.kernels.rows import select
from jaxrl_moe.kernels.token_logprobs import token_logprobs
from jaxrl_moe.model.transformer import Transformer
from jaxrl_moe.rl.types import LossInputs, LossOutputs
from jaxrl_moe.training.batch import MicroBatch
from jaxrl_moe.training.optimizer import learning_rate, optimizer
from jaxrl_moe.training.state import TrainState, model_weights, take_apart

Objective = Callable[[LossInputs], LossOutputs]
READ_SHARES = 3  # the tokens whose log-probs are read are padded to a multiple of B*T / READ_SHARES: few shapes


class Total(NamedTuple):
    """Sums over micro-batches; maxima are maxima, load is the rows each expert got, [L, E] or None."""
    gradient: Any
    loss: Any
    means: Any
    maxima: Any
    load: Any


class Programs:
    """What the learner compiles. It holds no arrays: a jitted method keeps its object alive, and should keep no weights alive."""

    def __init__(self, graphdef, dtypes, remat: str, frozen_head: bool, transform: optax.GradientTransformation):
        self.graphdef, self.dtypes, self.remat, self.frozen_head, self.transform = graphdef, dtypes, remat, frozen_head, transform
        self.gradients = jax.jit(self._gradients, static_argnames=("objective", "entropy"), donate_argnames=("total",))
        self.apply = jax.jit(self._apply, donate_argnums=(0,))
        self.logprobs = jax.jit(self._logprobs, static_argnames=("adapters", "entropy"))

    def _logprobs(self, trainable, frozen, batch, read_R, inverse_M, temperature, key, adapters, entropy):
        """([B, T] log-probs, [B, T] entropies or None, routing)."""
        model = nnx.merge(self.graphdef, model_weights(trainable, self.dtypes), frozen)
        hidden_BTD, routing = model(batch.tokens_BT, batch.positions_BT, batch.segments_BT, adapters=adapters, dropout_key=key,
                                    expert_ids_LBTA=batch.expert_ids_LBTA, remat=self.remat)
        shape = batch.tokens_BT.shape
        hidden_RD = select(hidden_BTD.reshape(-1, hidden_BTD.shape[-1]), read_R, inverse_M)
        targets_R = batch.targets_BT.reshape(-1).at[read_R].get(mode="fill", fill_value=0)
        logprobs_R, entropy_R = token_logprobs(hidden_RD, model.head_DV(), targets_R, temperature, entropy=entropy,
                                               frozen_head=self.frozen_head)
        logprobs_BT = select(logprobs_R, inverse_M, read_R).reshape(shape)
        entropy_BT = select(entropy_R, inverse_M, read_R).reshape(shape) if entropy else None
        return logprobs_BT, entropy_BT, routing

    def micro_batch(self, trainable, frozen, *inputs, objective, entropy) -> "Total":
        batch = inputs[0]

        def loss_of(trainable):
            logprobs_BT, entropy_BT, routing = self._logprobs(trainable, frozen, *inputs, True, entropy)
            outputs = objective(batch.loss_inputs(logprobs_BT, entropy_BT))
            return outputs.loss, (outputs, None if routing is None else routing.load)

        (loss, (outputs, load)), gradient = jax.value_and_grad(loss_of, has_aux=True)(trainable)
        return Total(gradient, loss, dict(outputs.means), dict(outputs.maxima), load)

    def _gradients(self, *inputs, total, objective, entropy) -> "Total":
        one = self.micro_batch(*inputs, objective=objective, entropy=entropy)
        return jax.tree.map(jnp.add, total, one)._replace(maxima=jax.tree.map(jnp.maximum, total.maxima, one.maxima))

    def _apply(self, state: TrainState, gradient, loss):
        norm = optax.global_norm(gradient)
        finite = jnp.isfinite(norm) & jnp.isfinite(loss)
        updates, opt_state = self.transform.update(gradient, state.opt_state, state.trainable)
        stepped = TrainState(optax.apply_updates(state.trainable, updates), opt_state, state.step + 1)
        state = jax.tree.map(lambda new, old: jnp.where(finite, new, old), stepped, state)
        return state, {"policy/grad_norm": norm, "finite": finite}


class Learner:
    """Holds the training state and applies updates to it.

    Args:
      model: its arrays are taken over, not copied; do not use it afterwards.
      section: the optimiser's settings.
      total_steps: optimiser steps of the run, for the schedule.
      remat: "none" or "full", see Transformer.
      seed: draws LoRA dropout.
    """

    def __init__(self, model: Transformer, section: OptimizerSection, total_steps: int, *, remat: str = "none", seed: int = 0):
        self.parts, trainable = take_apart(model)
        self.config = model.config
        self.dropout = model.lora is not None and model.lora.dropout > 0
        self.key = jax.random.key(seed)
        self.schedule = learning_rate(section, total_steps)
        transform = optimizer(section, total_steps)
        self.state = TrainState(trainable, transform.init(trainable), jnp.zeros((), jnp.int32))
        self.programs = Programs(self.parts.graphdef, self.parts.dtypes, remat, model.lora is not None, transform)
        self._totals = {}

    def params(self) -> nnx.State:
        """All weights as the model computes with them, for the engine and for export. Shares arrays with the state."""
        return nnx.merge_state(model_weights(self.state.trainable, self.parts.dtypes), self.parts.frozen)

    def model(self) -> Transformer:
        """The model with its present weights."""
        return nnx.merge(self.parts.graphdef, self.params())

    def logprobs(self, batch: MicroBatch, *, adapters: bool = True, temperature: float = 1.0):
        """[B, T] float32 log-probs of the targets where mask is 1, else 0; adapters=False is the reference policy."""
        read, inverse = _read(batch.mask_BT)
        return self.programs.logprobs(self.state.trainable, self.parts.frozen, batch, read, inverse, temperature, None,
                                      adapters=adapters, entropy=False)[0]

    def update(self, batches: Sequence[MicroBatch], objective: Objective, *, entropy: bool = False,
               temperature: float = 1.0) -> dict[str, jax.Array]:
        """One optimiser step over the minibatch that `batches` make up.

        Args:
          objective: hashable; each new one compiles anew, so build it once.
          entropy: give the objective the policy's entropy (costs one more product with the output matrix).
        Returns:
          Device scalars: the objective's means and maxima, policy/grad_norm, policy/lr, and `finite`: False where the loss
          or the gradient was not finite, and then nothing was changed. For MoE also `load` [L, E].
        """
        total = None
        for index, batch in enumerate(batches):
            key = jax.random.fold_in(jax.random.fold_in(self.key, self.state.step), index) if self.dropout else None
            inputs = (self.state.trainable, self.parts.frozen, batch, *_read(batch.mask_BT), temperature, key)
            if total is None:
                total = self._empty_total(inputs, objective, entropy)
            total = self.programs.gradients(*inputs, total=total, objective=objective, entropy=entropy)
        gradient, loss, means, maxima, load = total
        learning_rate_now = jnp.asarray(self.schedule(self.state.step))
        self.state, applied = self.programs.apply(self.state, gradient, loss)
        return {**means, **maxima, **applied, "loss": loss, "policy/lr": learning_rate_now,
                **({} if load is None else {"load": load})}

    def _empty_total(self, inputs, objective, entropy):
        """What sums start from, so that the first micro-batch runs the same program as the others."""
        kind = objective, entropy, jax.tree.structure(inputs[2])
        if kind not in self._totals:
            self._totals[kind] = jax.eval_shape(functools.partial(self.programs.micro_batch, objective=objective, entropy=entropy), *inputs)
        zeros = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), self._totals[kind])
        return zeros._replace(maxima={name: jnp.full((), -jnp.inf) for name in zeros.maxima})


def _read(mask_BT):
    """Indices of the flattened positions whose log-probs are wanted, padded to a coarse size, and the inverse map."""
    mask_M = np.asarray(mask_BT).reshape(-1) > 0
    wanted = np.flatnonzero(mask_M)
    share = -(-mask_M.size // READ_SHARES)
    size = max(1, -(-wanted.size // share)) * share
    read_R = np.full(size, mask_M.size, np.int32)
    read_R[:wanted.size] = wanted
    inverse_M = np.full(mask_M.size, size, np.int32)
    inverse_M[wanted] = np.arange(wanted.size)
    return read_R, inverse_M
