"""How a router's logits become a choice of experts and their weights. Letters: M tokens, E experts, A active
experts per token."""

import abc
import dataclasses

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Scoring(abc.ABC):
    """A rule of choice. All in float32; the ids that `weights` gets may be replayed ones.

    Attributes:
      active: experts that a token is sent to.
    """

    active: int

    @abc.abstractmethod
    def scores(self, logits_ME: jax.Array) -> jax.Array:
        """[M, E], by which experts are chosen and weighed."""

    @abc.abstractmethod
    def weights(self, scores_ME: jax.Array, ids_MA: jax.Array) -> jax.Array:
        """[M, A], of the experts with these ids."""

    def chosen(self, scores_ME: jax.Array, bias_E: jax.Array | None = None) -> jax.Array:
        """[M, A] ids: the highest scores, to which a selection bias is added."""
        return jax.lax.top_k(scores_ME if bias_E is None else scores_ME + bias_E, self.active)[1]

    def shares(self, logits_ME: jax.Array) -> jax.Array:
        """[M, E] that add up to 1 for each token: how much of it the router gives to each expert, for the
        load-balance loss."""
        return jax.nn.softmax(logits_ME, axis=-1)


@dataclasses.dataclass(frozen=True)
class Softmax(Scoring):
    """Softmax over all experts; its values are the weights of the chosen, renormalised to add up to 1 only if
    the checkpoint says so."""

    renormalise: bool = False

    def scores(self, logits_ME: jax.Array) -> jax.Array:
        return jax.nn.softmax(logits_ME, axis=-1)

    def weights(self, scores_ME: jax.Array, ids_MA: jax.Array) -> jax.Array:
        weights_MA = jnp.take_along_axis(scores_ME, ids_MA, axis=1)
        return weights_MA / weights_MA.sum(axis=1, keepdims=True) if self.renormalise else weights_MA
