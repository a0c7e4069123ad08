"""One pass of the policy over a micro-batch, on one device or a mesh: log-probs, entropies, values, experts.

What it reads of the model is compiled in; arrays are handed in, so that nothing here keeps any alive.
"""
import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec

from jaxrl_moe.distributed.collectives import ROWS, inside
from jaxrl_moe.distributed.context import from_devices, to_devices
from jaxrl_moe.distributed.sharding import Placement, spec_of
from jaxrl_moe.kernels.rows import select
from jaxrl_moe.kernels.token_logprobs import token_logprobs
from jaxrl_moe.learning.batch import BATCH_AXES, MicroBatch
from jaxrl_moe.learning.state import model_weights
from jaxrl_moe.model.passes import Pass
from jaxrl_moe.model.transformer import Transformer


class PassInputs(NamedTuple):
    """What a pass reads.

    Attributes:
      trainable, bias, critic, frozen: the policy's trained arrays, the routers' biases, the value head's or
        None, the rest.
      batch: the micro-batch.
      read: which log-probs are wanted, from step.read_plan.
      temperature: of the log-probs.
      key: draws dropout; None for none.
    """
    trainable: Any
    bias: Any
    critic: Any
    frozen: Any
    batch: MicroBatch
    read: Any
    temperature: Any
    key: jax.Array | None


class RouterSums(NamedTuple):
    """Over all tokens of a micro-batch: see RouterStats; load_LE by layer; dropped, slots that found no
    room."""
    probability_E: Any
    squared_logsumexp: Any
    load_LE: Any
    dropped: Any


class PolicyOutputs(NamedTuple):
    """What the policy says of a micro-batch; what was not wanted, or the model has not, is None."""
    logprobs_BT: Any
    entropy_BT: Any
    values_BT: Any
    expert_ids_BTLA: Any
    router: RouterSums | None


class CriticHead(NamedTuple):
    """A value head without its arrays; train_trunk: its loss reaches the policy's arrays too."""
    graphdef: Any
    train_trunk: bool


@dataclasses.dataclass(frozen=True, eq=False)
class PolicyPass:
    """The pass of one model.

    Attributes:
      graphdef, dtypes: of the model, see state.Parts.
      remat: "none", "mlp" or "full", see Transformer.
      frozen_head: the output matrix has no gradient.
      critic: the value head, or None.
      placement: the mesh, or None on a single device.
    """
    graphdef: Any
    dtypes: Any
    remat: str
    frozen_head: bool
    critic: CriticHead | None = None
    placement: Placement | None = None

    def __call__(self, inputs: PassInputs, **wanted: bool) -> PolicyOutputs:
        """The policy on a micro-batch: whole on one device; on a mesh, every device works on its share of it.

        Where tokens are split, devices hold those of a row in an order of their own (distributed.context);
        what comes in and goes out stands as in the row.

        Args:
          wanted: adapters (True if not given), entropy, routes.
        """
        if self.placement is None:
            return self._local(inputs, **wanted)
        placement = self.placement
        tokens = PartitionSpec(ROWS, "context")
        inputs = inputs._replace(batch=_moved(to_devices, inputs.batch, placement.token_shards))

        def local(inputs: PassInputs) -> PolicyOutputs:
            with inside(placement.layout):
                return self._local(inputs, **wanted)

        out_specs = PolicyOutputs(tokens, tokens, tokens, tokens, PartitionSpec())
        out = jax.shard_map(local, mesh=placement.mesh, in_specs=(self._specs(inputs),), out_specs=out_specs,
                            check_vma=False)(inputs)
        in_order = [
            leaf if leaf is None else from_devices(leaf, 1, placement.token_shards) for leaf in out[:4]
        ]
        return PolicyOutputs(*in_order, out.router)

    def _specs(self, inputs: PassInputs) -> PassInputs:
        def of_batch(path: tuple[Any, ...], leaf: jax.Array) -> PartitionSpec:
            return spec_of(BATCH_AXES[path[-1].name])

        specs = self.placement.specs
        whole = PartitionSpec()
        return PassInputs(
            trainable=specs(inputs.trainable),
            bias=specs(inputs.bias),
            critic=specs(inputs.critic),
            frozen=specs(inputs.frozen),
            batch=jax.tree_util.tree_map_with_path(of_batch, inputs.batch),
            read=jax.tree.map(lambda _: PartitionSpec(ROWS, "context"), inputs.read),
            temperature=whole,
            key=jax.tree.map(lambda _: whole, inputs.key))

    def _local(self, inputs: PassInputs, *, adapters: bool = True, entropy: bool = False,
               routes: bool = False) -> PolicyOutputs:
        batch = inputs.batch
        weights = model_weights(inputs.trainable, self.dtypes)
        model = nnx.merge(self.graphdef, weights, inputs.bias, inputs.frozen)
        hidden_BTD, routing = model(batch.tokens_BT, Pass(
            batch.positions_BT, batch.segments_BT, adapters, inputs.key, batch.expert_ids_LBTA, self.remat))
        logprobs_BT, entropy_BT = self._read(model, hidden_BTD, inputs, entropy)
        ids_BTLA = None
        router = None
        if routes:
            ids_BTLA = jnp.moveaxis(routing.expert_ids, 0, 2).astype(model.config.expert_dtype)
        if routing is not None:
            router = RouterSums(routing.probability.sum(axis=0), routing.squared_logsumexp.sum(),
                                routing.load, routing.dropped.sum())
        values_BT = self._values(inputs.critic, hidden_BTD)
        return PolicyOutputs(logprobs_BT, entropy_BT, values_BT, ids_BTLA, router)

    def _read(self, model: Transformer, hidden_BTD: jax.Array, inputs: PassInputs,
              entropy: bool) -> tuple[jax.Array, jax.Array | None]:
        """([B, T] log-probs, [B, T] entropies or None)."""
        batch = inputs.batch
        shape = inputs.batch.tokens_BT.shape
        read_R, inverse_M = (indices.reshape(-1) for indices in inputs.read)
        hidden_RD = select(hidden_BTD.reshape(-1, hidden_BTD.shape[-1]), read_R, inverse_M)
        targets_R = batch.targets_BT.reshape(-1).at[read_R].get(mode="fill", fill_value=0)
        logprobs_R, entropy_R = token_logprobs(
            hidden_RD, model.head_DV(), targets_R, inputs.temperature, entropy=entropy,
            frozen_head=self.frozen_head, vocabulary=model.vocabulary())
        logprobs_BT = select(logprobs_R, inverse_M, read_R).reshape(shape)
        return logprobs_BT, select(entropy_R, inverse_M, read_R).reshape(shape) if entropy else None

    def _values(self, critic: Any, hidden_BTD: jax.Array) -> jax.Array | None:
        if self.critic is None:
            return None
        hidden_BTD = hidden_BTD if self.critic.train_trunk else jax.lax.stop_gradient(hidden_BTD)
        return nnx.merge(self.critic.graphdef, critic)(hidden_BTD)


def _moved(move: Callable[[jax.Array, int, int], jax.Array], batch: MicroBatch, count: int) -> MicroBatch:
    """The micro-batch with its rows' tokens moved."""
    def moved(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        axes = BATCH_AXES[path[-1].name]
        return move(leaf, axes.index("tokens"), count) if "tokens" in axes else leaf

    return jax.tree_util.tree_map_with_path(moved, batch)
