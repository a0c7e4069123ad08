"""What the learner compiles: gradients of a micro-batch, the step that applies them, and passes without gradient.

An objective is a function from LossInputs to LossOutputs whose loss adds up over micro-batches; no loss is known by name.
"""
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import PartitionSpec

from jaxrl_moe.distributed import offload
from jaxrl_moe.distributed.collectives import ROWS, inside
from jaxrl_moe.distributed.context import from_devices, to_devices
from jaxrl_moe.distributed.sharding import Placement, spec_of
from jaxrl_moe.kernels.rows import select
from jaxrl_moe.kernels.token_logprobs import token_logprobs
from jaxrl_moe.learning.batch import BATCH_AXES
from jaxrl_moe.learning.state import Parts, TrainState, model_weights
from jaxrl_moe.model.passes import Pass
from jaxrl_moe.rl.router import balanced_bias
from jaxrl_moe.rl.types import LossInputs, LossOutputs, RouterStats

OFFLOAD = ("optimizer", "reference")  # train.offload: what may lie in the host's memory between uses
Objective = Callable[[LossInputs], LossOutputs]


class Total(NamedTuple):
    """Sums over micro-batches; maxima are maxima. `gradient` is of (policy, critic); `load` [L, E] the rows that each expert
    were given, `probability` [E] the router's softmax summed over tokens and layers, `dropped` the rows that found no place; all three
    None for a dense model."""
    gradient: Any
    loss: Any
    means: Any
    maxima: Any
    load: Any
    probability: Any
    dropped: Any


class Forward(NamedTuple):
    """What a pass without gradient gives: log-probs [B, T] of the targets where mask is 1, else 0; the critic's values [B, T]
    or None; and if asked for the experts of each token, [B, T, L, A]."""
    logprobs_BT: Any
    values_BT: Any
    expert_ids_BTLA: Any


class RouterSums(NamedTuple):
    """Over all tokens of a micro-batch: see RouterStats; load_LE by layer; dropped, slots that found no place."""
    probability_E: Any
    squared_logsumexp: Any
    load_LE: Any
    dropped: Any


class Policy(NamedTuple):
    """What the policy says of a micro-batch; parts that were not wanted, or that the model has not, are None."""
    logprobs_BT: Any
    entropy_BT: Any
    values_BT: Any
    expert_ids_BTLA: Any
    router: RouterSums | None


class Programs:
    """What the learner compiles. It holds no arrays: a jitted method keeps its object alive, and should keep no weights alive."""

    def __init__(self, parts: Parts, critic, train_trunk: bool, remat: str, frozen_head: bool, transforms,
                 placement: Placement | None = None, offload: Collection[str] = ()):
        """critic: the value head's graph definition or None; train_trunk: its loss reaches the policy's arrays too; transforms: the
        policy's and the critic's optimisers; placement: None on a single device; offload: which of OFFLOAD lie in the host's memory."""
        self.graphdef, self.dtypes, self.remat, self.frozen_head = parts.graphdef, parts.dtypes, remat, frozen_head
        self.critic, self.train_trunk, self.placement, self.offload = critic, train_trunk, placement, frozenset(offload)
        self.transform, self.critic_transform = transforms
        self.gradients = jax.jit(self._gradients, static_argnames=("objective", "entropy"), donate_argnames=("total",))
        self.apply = jax.jit(self._apply, donate_argnums=(0,), static_argnames=("bias_rate",))
        self.forward = jax.jit(self._forward, static_argnames=("adapters", "routes", "streamed"))
        self.load = jax.jit(self._load)

    def policy(self, weights, critic, frozen, batch, read, temperature, key, **wanted) -> "Policy":
        """The policy on a micro-batch: as it is on one device; on a mesh, every device works on its part of it.

        Where tokens are split, devices hold those of a row in an order of their own (distributed.context); what comes in and goes out
        stands as in the row.

        Args:
          weights: the policy's trained arrays and the routers' biases.
          read: from step.read_plan.
          wanted: adapters, entropy, routes.
        """
        if self.placement is None:
            return self._policy(weights, critic, frozen, batch, read, temperature, key, **wanted)
        place, whole = self.placement, PartitionSpec()
        batch = _moved(to_devices, batch, place.token_shards)
        batch_specs = jax.tree_util.tree_map_with_path(lambda path, _: spec_of(BATCH_AXES[path[-1].name]),
                                                       batch)
        inputs = (weights, critic, frozen, batch, read, temperature, key)
        specs = (place.specs(weights), place.specs(critic), place.specs(frozen), batch_specs,
                 jax.tree.map(lambda _: PartitionSpec(ROWS, "context"), read), whole, jax.tree.map(lambda _: whole, key))

        def local(*inputs):
            with inside(place.layout):
                return self._policy(*inputs, **wanted)

        tokens = PartitionSpec(ROWS, "context")
        out_specs = Policy(tokens, tokens, tokens, tokens, whole)
        out = jax.shard_map(local, mesh=place.mesh, in_specs=specs, out_specs=out_specs, check_vma=False)(*inputs)
        return Policy(*(jax.tree.map(lambda x: from_devices(x, 1, place.token_shards), part) for part in out[:4]), out.router)

    def _policy(self, weights, critic, frozen, batch, read, temperature, key, *, adapters=True, entropy=False, routes=False):
        trainable, bias = weights
        model = nnx.merge(self.graphdef, model_weights(trainable, self.dtypes), bias, frozen)
        call = Pass(batch.positions_BT, batch.segments_BT, adapters, key, batch.expert_ids_LBTA, self.remat)
        hidden_BTD, routing = model(batch.tokens_BT, call)
        logprobs_BT, entropy_BT = self._read(model, hidden_BTD, batch, read, temperature, entropy)
        ids_BTLA, router = None, None
        if routes:
            ids_BTLA = jnp.moveaxis(routing.expert_ids, 0, 2).astype(model.config.expert_dtype)
        if routing is not None:
            router = RouterSums(routing.probability.sum(axis=0), routing.squared_logsumexp.sum(), routing.load,
                                routing.dropped.sum())
        return Policy(logprobs_BT, entropy_BT, self._values(critic, hidden_BTD), ids_BTLA, router)

    def _read(self, model, hidden_BTD, batch, read, temperature, entropy):
        """([B, T] log-probs, [B, T] entropies or None)."""
        shape, (read_R, inverse_M) = batch.tokens_BT.shape, (indices.reshape(-1) for indices in read)
        hidden_RD = select(hidden_BTD.reshape(-1, hidden_BTD.shape[-1]), read_R, inverse_M)
        targets_R = batch.targets_BT.reshape(-1).at[read_R].get(mode="fill", fill_value=0)
        logprobs_R, entropy_R = token_logprobs(
            hidden_RD, model.head_DV(), targets_R, temperature, entropy=entropy, frozen_head=self.frozen_head,
            vocabulary=model.vocabulary())
        logprobs_BT = select(logprobs_R, inverse_M, read_R).reshape(shape)
        return logprobs_BT, select(entropy_R, inverse_M, read_R).reshape(shape) if entropy else None

    def _values(self, critic, hidden_BTD):
        if self.critic is None:
            return None
        return nnx.merge(self.critic, critic)(hidden_BTD if self.train_trunk else jax.lax.stop_gradient(hidden_BTD))

    def _forward(self, weights, critic, frozen, batch, read, temperature, *, adapters, routes, streamed=False) -> Forward:
        """streamed: the weights lie in the host's memory."""
        weights = offload.streamed_in(weights) if streamed else weights
        out = self.policy(weights, critic, frozen, batch, read, temperature, None, adapters=adapters, routes=routes)
        return Forward(out.logprobs_BT, out.values_BT, out.expert_ids_BTLA)

    def _load(self, weights, frozen, batch, read, key):
        """[E] slots given to each expert, over all layers."""
        return self.policy(weights, None, frozen, batch, read, 1.0, key).router.load_LE.sum(axis=0)

    def micro_batch(self, trained, bias, frozen, batch, read, temperature, key, *, objective, entropy) -> "Total":
        def loss_of(trained):
            trainable, critic = trained
            out = self.policy((trainable, bias), critic, frozen, batch, read, temperature, key, entropy=entropy)
            sums, routed = out.router, {}
            if sums is not None:
                routed = {"router": RouterStats(sums.probability_E, sums.squared_logsumexp, sums.load_LE.sum(axis=0)),
                          "num_routed": batch.num_positions * sums.load_LE.shape[0]}
            outputs = objective(batch.loss_inputs(out.logprobs_BT, entropy_BT=out.entropy_BT, values_BT=out.values_BT, **routed))
            return outputs.loss, (outputs, sums and (sums.load_LE, sums.probability_E, sums.dropped))

        (loss, (outputs, routed)), gradient = jax.value_and_grad(loss_of, has_aux=True)(trained)
        return Total(gradient, loss, dict(outputs.means), dict(outputs.maxima), *(routed or (None, None, None)))

    def _gradients(self, *inputs, total, objective, entropy) -> "Total":
        one = self.micro_batch(*inputs, objective=objective, entropy=entropy)
        return jax.tree.map(jnp.add, total, one)._replace(maxima=jax.tree.map(jnp.maximum, total.maxima, one.maxima))

    def _apply(self, state: TrainState, gradient, loss, load, *, bias_rate):
        if "optimizer" not in self.offload:
            return self._step(state, gradient, loss, load, bias_rate)
        state, metrics = self._step(moved(state, offload.streamed_in), gradient, loss, load, bias_rate)
        return moved(state, offload.streamed_out), metrics

    def _step(self, state: TrainState, gradient, loss, load, bias_rate):
        policy, critic = gradient
        norms = {"policy/grad_norm": optax.tree.norm(policy)}
        updates, opt_state = self.transform.update(policy, state.opt_state, state.trainable)
        stepped = state._replace(trainable=optax.apply_updates(state.trainable, updates), opt_state=opt_state, step=state.step + 1)
        if critic is not None:
            norms["critic/grad_norm"] = optax.tree.norm(critic)
            updates, opt_state = self.critic_transform.update(critic, state.critic_opt_state, state.critic)
            stepped = stepped._replace(critic=optax.apply_updates(state.critic, updates), critic_opt_state=opt_state)
        if bias_rate:
            stepped = stepped._replace(router_bias=_balanced(state.router_bias, load, bias_rate))
        finite = jnp.isfinite(loss) & jnp.all(jnp.isfinite(jnp.stack(list(norms.values()))))
        state = jax.tree.map(lambda new, old: jnp.where(finite, new, old), stepped, state)
        return state, {**norms, "finite": finite}


def moved(state: TrainState, move: Callable[[Any], Any]) -> TrainState:
    """The state with the optimisers' arrays moved."""
    return state._replace(opt_state=move(state.opt_state), critic_opt_state=move(state.critic_opt_state))


def _moved(move, batch, parts: int):
    """The micro-batch with its rows' tokens moved."""
    def one(path, leaf):
        axes = BATCH_AXES[path[-1].name]
        return move(leaf, axes.index("tokens"), parts) if "tokens" in axes else leaf

    return jax.tree_util.tree_map_with_path(one, batch)


def _balanced(biases, load_LE, rate):
    """Each stack of layers takes its share of the load's rows, in order."""
    leaves, structure = jax.tree.flatten(biases)
    counts = [leaf.shape[0] for leaf in leaves]
    parts = jnp.split(load_LE, [sum(counts[:end]) for end in range(1, len(counts))])
    return jax.tree.unflatten(structure, [balanced_bias(leaf, part, rate) for leaf, part in zip(leaves, parts, strict=True)])
