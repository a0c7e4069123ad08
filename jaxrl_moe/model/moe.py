"""The sparse MLP: router, dispatch to experts sorted by id, combine.

Letters: M tokens, E experts, A active experts per token, R = M * A routed rows.
"""
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxrl_moe.distributed import collectives
from jaxrl_moe.distributed.expert_parallel import dispatch
from jaxrl_moe.kernels.expert_mlp import Adapters, ExpertWeight, ExpertWeights, Groups, expert_mlp, spare_rows
from jaxrl_moe.kernels.rows import order_by, select, spread
from jaxrl_moe.model.config import LoraConfig, ModelConfig
from jaxrl_moe.model.families.registry import family_of
from jaxrl_moe.model.layers import Init, Linear

# Up to this many tokens every expert computes every token: one batched product, bound by reading the weights,
# which are neither gathered nor sorted for. A GPU does some 200 (H200) to 300 (H100, B200) products for each
# byte that it reads; a weight has two.
BATCHED_TOKENS = {"cpu": 64, "gpu": 256}


class Routing(NamedTuple):
    """What the router decided; stacked over the sparse layers it leads with [L]."""
    expert_ids: Any   # [B, T, A] int32
    logits: Any       # [B, T, E] float32
    load: Any         # [E] int32, rows sent to each expert; padding is not counted
    probability: Any  # [E] float32, the shares of all experts summed over tokens; padding is not counted
    squared_logsumexp: Any  # scalar float32, summed likewise
    dropped: Any      # scalar int32, slots that a transport with a capacity had no place for


class RouterBias(nnx.Variable):
    """Added to the scores that select experts, not to their weights. No gradient reaches it; see
    rl.router.balanced_bias."""


class Router(nnx.Module):
    """A score for each expert in float32, and the choice by it; its rule the model's family says."""

    def __init__(self, config: ModelConfig, *, stack: tuple[int, ...], rngs: nnx.Rngs):
        shape = (*stack, config.hidden_size, config.num_experts)
        self.weight = nnx.Param(config.initializer_range
                                * jax.random.normal(rngs.params(), shape, jnp.float32))
        self.bias = RouterBias(jnp.zeros((*stack, config.num_experts))) if config.router_bias else None
        self.scoring = family_of(config).scoring(config)

    def __call__(self, x_MD: jax.Array, expert_ids_MA: jax.Array | None = None
                 ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Returns (weights [M, A], expert_ids [M, A], logits [M, E]); given ids are replayed, -1 routes
        live."""
        logits_ME = jnp.dot(x_MD.astype(jnp.float32), self.weight[...], precision=jax.lax.Precision.HIGHEST)
        scores_ME = self.scoring.scores(logits_ME)
        live_MA = self.scoring.chosen(scores_ME, None if self.bias is None else self.bias[...])
        ids_MA = live_MA if expert_ids_MA is None else jnp.where(expert_ids_MA < 0, live_MA,
                                                                 expert_ids_MA.astype(jnp.int32))
        return self.scoring.weights(scores_ME, ids_MA), ids_MA, logits_ME


class MoE(nnx.Module):
    """The sum over the active experts of weight * expert(x)."""

    def __init__(self, config: ModelConfig, *, stack: tuple[int, ...], lora: LoraConfig | None, dtype: Any,
                 rngs: nnx.Rngs, backend: str = "auto", platform: str = "cpu"):
        self.batched_tokens = BATCHED_TOKENS["cpu" if platform == "cpu" else "gpu"]
        self.router = Router(config, stack=stack, rngs=rngs)
        self.num_experts = config.num_experts
        self.backend = backend
        width = config.hidden_size
        hidden = config.moe_intermediate_size

        def experts(name: str, size_in: int, size_out: int, split: str = "out") -> Linear:
            init = Init(config.initializer_range, dtype, rngs, (*stack, config.num_experts), lora)
            return Linear(f"mlp.{name}", size_in, size_out, init, split=split)

        self.gate_proj = experts("gate_proj", width, hidden)
        self.up_proj = experts("up_proj", width, hidden)
        self.down_proj = experts("down_proj", hidden, width, split="in")

    def __call__(self, x_BTD: jax.Array, valid_BT: jax.Array, adapters: bool = True,
                 dropout_key: jax.Array | None = None, expert_ids_BTA: jax.Array | None = None
                 ) -> tuple[jax.Array, Routing]:
        """Returns (y [B, T, D], Routing). Tokens that are not valid are not sent to any expert; their y is
        0."""
        batch, length, width = x_BTD.shape
        x_MD = x_BTD.reshape(-1, width)
        valid_M = valid_BT.reshape(-1)
        replay = None if expert_ids_BTA is None else expert_ids_BTA.reshape(-1, expert_ids_BTA.shape[-1])
        weights_MA, ids_MA, logits_ME = self.router(x_MD, replay)
        weights_MA = jnp.where(valid_M[:, None], weights_MA, 0)
        sent_MA = jnp.where(valid_M[:, None], ids_MA, self.num_experts)
        y_MD, dropped = dispatch(x_MD, weights_MA, sent_MA, self.num_experts,
                                 functools.partial(self.compute, adapters, dropout_key))
        y_MD = collectives.total(y_MD, "tensor")
        sums = (_count(sent_MA, self.num_experts),
                jnp.sum(jnp.where(valid_M[:, None], self.router.scoring.shares(logits_ME), 0), axis=0),
                jnp.sum(jnp.where(valid_M, jnp.square(jax.nn.logsumexp(logits_ME, axis=-1)), 0)), dropped)
        routing = Routing(ids_MA.reshape(batch, length, -1), logits_ME.reshape(batch, length, -1),
                          *(collectives.total(x, *collectives.TOKENS) for x in sums))
        return y_MD.reshape(x_BTD.shape), routing

    def compute(self, adapters: bool, dropout_key: jax.Array | None, x_MD: jax.Array, weights_MA: jax.Array,
                ids_MA: jax.Array, share: int) -> jax.Array:
        """This device's experts on the tokens sent to them, numbered from 0; see expert_parallel.Compute."""
        if x_MD.shape[0] <= self.batched_tokens and dropout_key is None:
            return self.batched(x_MD, weights_MA, ids_MA, adapters)
        return self.sorted(x_MD, weights_MA, ids_MA, adapters, dropout_key, share)

    @property
    def _local_experts(self) -> int:
        return self.num_experts // collectives.size("expert")

    def batched(self, x_MD: jax.Array, weights_MA: jax.Array, ids_MA: jax.Array, adapters: bool) -> jax.Array:
        """Every expert on every token; the weights pick. For decoding, where reading the weights is the
        cost."""
        picked_MAE = jax.nn.one_hot(ids_MA, self._local_experts, dtype=jnp.float32)
        weights_ME = jnp.einsum("ma,mae->me", weights_MA, picked_MAE).astype(x_MD.dtype)
        # Each expert sees its own tokens, zeros elsewhere. Were the rows the same for all experts, XLA would
        # fold the batched product into one wide one, and transpose all experts' weights for it in every step.
        x_EMD = jnp.where(picked_MAE.any(axis=1).T[..., None], x_MD, 0)
        hidden_EMF = jax.nn.silu(self.gate_proj(x_EMD, adapters)) * self.up_proj(x_EMD, adapters)
        return jnp.einsum("emd,me->md", self.down_proj(hidden_EMF, adapters, partial=True), weights_ME)

    def sorted(self, x_MD: jax.Array, weights_MA: jax.Array, ids_MA: jax.Array, adapters: bool,
               dropout_key: jax.Array | None, share: int) -> jax.Array:
        """Rows sorted by expert through the grouped kernel."""
        active = ids_MA.shape[1]
        load_E = _count(ids_MA, self._local_experts)
        order_R, inverse_R = order_by(ids_MA.reshape(-1), self._local_experts)
        rows = order_R.shape[0]
        spare = spare_rows(order_R.shape[0], self._local_experts, share, self.backend)
        x_RD = spread(x_MD, jnp.pad(order_R // active, (0, spare)), inverse_R)
        experts = ExpertWeights(*(ExpertWeight(*linear.weights(adapters)) for linear in self._projections))
        groups = Groups(load_E, spare, share)
        y_RD = expert_mlp(x_RD, experts, groups, self._adapters(adapters, dropout_key), self.backend)
        order_R = jnp.pad(order_R, (0, spare), constant_values=rows)
        y_MAD = select(y_RD, inverse_R, order_R).reshape(-1, active, x_MD.shape[1])
        return jnp.einsum("mad,ma->md", y_MAD, weights_MA.astype(x_MD.dtype))

    @property
    def _projections(self) -> tuple[Linear, Linear, Linear]:
        """In the order of ExpertWeights."""
        return self.gate_proj, self.up_proj, self.down_proj

    def _adapters(self, on: bool, dropout_key: jax.Array | None) -> Adapters:
        """How the adapters act, with dropout where one has it."""
        configs = [linear.lora for linear in self._projections if linear.lora is not None]
        if not configs:
            return Adapters()
        if not on or dropout_key is None or not any(lora.dropout for lora in configs):
            return Adapters(configs[0].scale)
        named = dict(zip(ExpertWeights._fields, self._projections))
        return Adapters(configs[0].scale, lambda name, x: named[name].dropped(x, dropout_key))


def _count(ids_MA: jax.Array, experts: int) -> jax.Array:
    """[E] rows sent to each expert; other ids are not counted."""
    return jnp.sum(ids_MA.reshape(-1)[:, None] == jnp.arange(experts), axis=0, dtype=jnp.int32)
