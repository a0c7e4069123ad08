"""What the learner compiles: gradients of a micro-batch, the step that applies them, and passes without
gradient.

An objective is a function from LossInputs to LossOutputs whose loss adds up over micro-batches; no loss is
known by name.
"""
import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxrl_moe.distributed import offload
from jaxrl_moe.learning.batch import MicroBatch
from jaxrl_moe.learning.policy import PassInputs, PolicyPass, RouterSums
from jaxrl_moe.learning.state import TrainState
from jaxrl_moe.rl.metrics import Merge, Metrics
from jaxrl_moe.rl.router import balanced_bias
from jaxrl_moe.rl.types import LossInputs, LossOutputs, RouterStats

OFFLOAD = ("optimizer", "reference")  # train.offload: what may lie in the host's memory between uses
ObjectiveFunction = Callable[[LossInputs], LossOutputs]


class Total(NamedTuple):
    """Sums over micro-batches; maxima, the metrics that merge so, are maxima. `gradient` is of (policy,
    critic); `load` [L, E] the rows that each expert were given, `probability` [E] the router's softmax summed
    over tokens and layers, `dropped` the rows that found no room; all three None for a dense model."""
    gradient: Any
    loss: jax.Array
    means: Metrics
    maxima: Metrics
    load: Any
    probability: Any
    dropped: Any


class Forward(NamedTuple):
    """What a pass without gradient gives: log-probs [B, T] of the targets where mask is 1, else 0; the
    critic's values [B, T] or None; and if asked for the experts of each token, [B, T, L, A]."""
    logprobs_BT: Any
    values_BT: Any
    expert_ids_BTLA: Any


@dataclasses.dataclass(frozen=True, eq=False)
class TrainingPrograms:
    """What the learner compiles. It holds no arrays: a jitted method keeps its object alive, and should keep
    no weights alive.

    Attributes:
      policy: the pass that all programs run.
      transform, critic_transform: the policy's optimiser, and the critic's or None.
      offload: which of OFFLOAD lie in the host's memory.
      gradients, apply, forward, load: the programs.
    """
    policy: PolicyPass
    transform: optax.GradientTransformation
    critic_transform: optax.GradientTransformation | None = None
    offload: frozenset[str] = frozenset()
    gradients: Any = dataclasses.field(init=False)
    apply: Any = dataclasses.field(init=False)
    forward: Any = dataclasses.field(init=False)
    load: Any = dataclasses.field(init=False)

    def __post_init__(self):
        compiled = {
            "gradients": jax.jit(self._gradients, static_argnames=("objective", "entropy"),
                                 donate_argnames=("total",)),
            "apply": jax.jit(self._apply, donate_argnums=(0,), static_argnames=("bias_rate",)),
            "forward": jax.jit(self._forward, static_argnames=("adapters", "routes", "streamed")),
            "load": jax.jit(self._load)}
        for name, program in compiled.items():
            object.__setattr__(self, name, program)

    def _forward(self, weights: tuple[Any, Any], critic: Any, frozen: Any, batch: MicroBatch, read: Any,
                 temperature: Any, *, adapters: bool, routes: bool, streamed: bool = False) -> Forward:
        """streamed: the weights lie in the host's memory."""
        weights = offload.streamed_in(weights) if streamed else weights
        inputs = PassInputs(*weights, critic, frozen, batch, read, temperature, None)
        out = self.policy(inputs, adapters=adapters, routes=routes)
        return Forward(out.logprobs_BT, out.values_BT, out.expert_ids_BTLA)

    def _load(self, weights: tuple[Any, Any], frozen: Any, batch: MicroBatch, read: Any,
              key: jax.Array | None) -> jax.Array:
        """[E] slots given to each expert, over all layers."""
        out = self.policy(PassInputs(*weights, None, frozen, batch, read, 1.0, key))
        return out.router.load_LE.sum(axis=0)

    def micro_batch(self, trained: tuple[Any, Any], bias: Any, frozen: Any, batch: MicroBatch, read: Any,
                    temperature: Any, key: jax.Array | None, *, objective: ObjectiveFunction,
                    entropy: bool) -> Total:
        """The gradients and sums of one micro-batch; trained: the arrays of (policy, critic)."""
        def loss_of(trained: tuple[Any, Any]) -> tuple[jax.Array, tuple[LossOutputs, RouterSums | None]]:
            inputs = PassInputs(trained[0], bias, trained[1], frozen, batch, read, temperature, key)
            out = self.policy(inputs, entropy=entropy)
            outputs = objective(batch.loss_inputs(
                out.logprobs_BT, entropy_BT=out.entropy_BT, values_BT=out.values_BT,
                router=out.router and _stats(out.router),
                num_routed=out.router and batch.num_positions * out.router.load_LE.shape[0]))
            return outputs.loss, (outputs, out.router)

        (loss, (outputs, sums)), gradient = jax.value_and_grad(loss_of, has_aux=True)(trained)
        routed = (sums.load_LE, sums.probability_E, sums.dropped) if sums else (None, None, None)
        means = outputs.metrics.without(Merge.MAXIMUM)
        maxima = outputs.metrics.only(Merge.MAXIMUM)
        return Total(gradient, loss, means, maxima, *routed)

    def _gradients(self, *inputs: Any, total: Total, objective: ObjectiveFunction, entropy: bool) -> Total:
        more = self.micro_batch(*inputs, objective=objective, entropy=entropy)
        added = jax.tree.map(jnp.add, total, more)
        return added._replace(maxima=jax.tree.map(jnp.maximum, total.maxima, more.maxima))

    def _apply(self, state: TrainState, gradient: tuple[Any, Any], loss: jax.Array, load: jax.Array | None, *,
               bias_rate: float) -> tuple[TrainState, Metrics]:
        if "optimizer" not in self.offload:
            return self._step(state, gradient, loss, load, bias_rate)
        state, metrics = self._step(moved(state, offload.streamed_in), gradient, loss, load, bias_rate)
        return moved(state, offload.streamed_out), metrics

    def _step(self, state: TrainState, gradient: tuple[Any, Any], loss: jax.Array, load: jax.Array | None,
              bias_rate: float) -> tuple[TrainState, Metrics]:
        policy, critic = gradient
        norms = {"policy/grad_norm": optax.tree.norm(policy)}
        updates, opt_state = self.transform.update(policy, state.opt_state, state.trainable)
        stepped = state._replace(trainable=optax.apply_updates(state.trainable, updates), opt_state=opt_state,
                                 step=state.step + 1)
        if critic is not None:
            norms["critic/grad_norm"] = optax.tree.norm(critic)
            updates, opt_state = self.critic_transform.update(critic, state.critic_opt_state, state.critic)
            stepped = stepped._replace(critic=optax.apply_updates(state.critic, updates),
                                       critic_opt_state=opt_state)
        if bias_rate:
            stepped = stepped._replace(router_bias=_balanced(state.router_bias, load, bias_rate))
        finite = jnp.isfinite(loss) & jnp.all(jnp.isfinite(jnp.stack(list(norms.values()))))
        state = jax.tree.map(lambda new, old: jnp.where(finite, new, old), stepped, state)
        return state, Metrics(Merge.UPDATE_MEAN, norms) | Metrics(Merge.UNLOGGED, {"finite": finite})


def _stats(sums: RouterSums) -> RouterStats:
    return RouterStats(sums.probability_E, sums.squared_logsumexp, sums.load_LE.sum(axis=0))


def moved(state: TrainState, move: Callable[[Any], Any]) -> TrainState:
    """The state with the optimisers' arrays moved."""
    return state._replace(opt_state=move(state.opt_state), critic_opt_state=move(state.critic_opt_state))


def _balanced(biases: Any, load_LE: jax.Array, rate: float) -> Any:
    """Each stack of layers takes its share of the load's rows, in order."""
    leaves, structure = jax.tree.flatten(biases)
    counts = [leaf.shape[0] for leaf in leaves]
    loads = jnp.split(load_LE, [sum(counts[:end]) for end in range(1, len(counts))])
    moved_biases = [balanced_bias(leaf, load, rate) for leaf, load in zip(leaves, loads, strict=True)]
    return jax.tree.unflatten(structure, moved_biases)
