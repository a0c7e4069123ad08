"""What a policy loss reads and what the objective returns."""
import dataclasses
from typing import Any, NamedTuple

import jax

from jaxrl_moe.rl.metrics import Metrics

Array = Any


class RouterStats(NamedTuple):
    """What the routers did with one micro-batch, summed over its real (not padding) tokens and over layers.

    probability_E: of the full softmax, with gradient; squared_logsumexp: scalar, with gradient; load_E: slots
    given to each expert.
    """
    probability_E: Array
    squared_logsumexp: Array
    load_E: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LossInputs:
    """One micro-batch. Rows may hold several sequences (packing); a sequence never leaves its row.

    Attributes:
      logprobs_BT: p, with gradient.
      advantages_BT: A.
      mask_BT: 1 where the predicted token is trained, else 0.
      weights_BT: aggregation weights w; the loss is sum(w * mask * l) over the whole optimiser minibatch.
      sequence_BT: int32 index of the token's sequence in this micro-batch, below B*T (any valid index on
        padding).
      num_tokens: scalar, the trained tokens of the whole optimiser minibatch.
      old_logprobs_BT: o, or None on the first and only update of a batch, where it equals p.
      sampler_logprobs_BT: q, or None where no engine drew the tokens.
      ref_logprobs_BT: f, or None without a reference policy.
      entropy_BT: entropy of the policy's next-token distribution, with gradient, or None.
      kl_coef: scalar that takes the place of the objective's own, for an adaptive one; or None.
      values_BT: V, with gradient, or None without a critic.
      old_values_BT, returns_BT: V before the update, and what it should have been.
      value_weights_BT: aggregation weights of the value loss, 0 where no value is trained.
      num_values: scalar, the trained values of the whole optimiser minibatch.
      router: RouterStats, or None for a dense model.
      num_routed: scalar, real tokens x sparse layers of the whole optimiser minibatch.
      expert_load_E: the whole minibatch's load; None: this micro-batch is all of it.
    """
    logprobs_BT: Array
    advantages_BT: Array
    mask_BT: Array
    weights_BT: Array
    sequence_BT: Array
    num_tokens: Array
    old_logprobs_BT: Array | None = None
    sampler_logprobs_BT: Array | None = None
    ref_logprobs_BT: Array | None = None
    entropy_BT: Array | None = None
    kl_coef: Array | None = None
    values_BT: Array | None = None
    old_values_BT: Array | None = None
    returns_BT: Array | None = None
    value_weights_BT: Array | None = None
    num_values: Array | None = None
    router: RouterStats | None = None
    num_routed: Array | None = None
    expert_load_E: Array | None = None


class TokenLoss(NamedTuple):
    """A policy loss before aggregation, and where its low and its high bound took effect (1 or 0)."""
    loss_BT: Array
    clipped_low_BT: Array
    clipped_high_BT: Array


class LossOutputs(NamedTuple):
    """The objective of one micro-batch.

    Attributes:
      loss: scalar; the minibatch's loss is the sum over its micro-batches.
      metrics: scalars that say how they merge. `finished` of rl.objective turns the totals' moments into
        metrics.
    """
    loss: Array
    metrics: Metrics
