"""From samples to micro-batches of few shapes, and from per-token results back to samples."""
import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrl_moe.data.packing import layout
from jaxrl_moe.learning.samples import Sample, trainable
from jaxrl_moe.rl.aggregation import aggregation_weights
from jaxrl_moe.rl.types import Array, LossInputs, RouterStats


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MicroBatch:
    """Arrays for one forward and backward pass; index t concerns the prediction of token t+1.

    Attributes:
      tokens_BT, positions_BT, targets_BT: int32; a target is the next token.
      segments_BT: int32, 1, 2, ... for the sequences of a row, 0 for padding. Positions restart in each.
      num_positions: scalar, the real tokens of the whole optimiser minibatch, prompts included.
      expert_ids_LBTA: experts to replay in each sparse layer, -1 where the model routes live; or None.
      The others: see LossInputs.
    """
    tokens_BT: Array
    positions_BT: Array
    segments_BT: Array
    targets_BT: Array
    mask_BT: Array
    weights_BT: Array
    advantages_BT: Array
    sequence_BT: Array
    num_tokens: Array
    num_positions: Array
    old_logprobs_BT: Array | None = None
    sampler_logprobs_BT: Array | None = None
    ref_logprobs_BT: Array | None = None
    expert_ids_LBTA: Array | None = None
    kl_coef: Array | None = None
    old_values_BT: Array | None = None
    returns_BT: Array | None = None
    value_weights_BT: Array | None = None
    num_values: Array | None = None
    expert_load_E: Array | None = None

    def loss_inputs(self, logprobs_BT: Array, *, entropy_BT: Array | None = None,
                    values_BT: Array | None = None, router: RouterStats | None = None,
                    num_routed: Array | None = None) -> LossInputs:
        """What the objective reads, given the policy's log-probs of the targets and whatever else the model
        computed."""
        return LossInputs(
            logprobs_BT=logprobs_BT,
            advantages_BT=self.advantages_BT,
            mask_BT=self.mask_BT,
            weights_BT=self.weights_BT,
            sequence_BT=self.sequence_BT,
            num_tokens=self.num_tokens,
            old_logprobs_BT=self.old_logprobs_BT,
            sampler_logprobs_BT=self.sampler_logprobs_BT,
            ref_logprobs_BT=self.ref_logprobs_BT,
            entropy_BT=entropy_BT,
            kl_coef=self.kl_coef,
            values_BT=values_BT,
            old_values_BT=self.old_values_BT,
            returns_BT=self.returns_BT,
            value_weights_BT=self.value_weights_BT,
            num_values=self.num_values,
            router=router,
            num_routed=num_routed,
            expert_load_E=self.expert_load_E)


# The logical axes of each field, see distributed.sharding.RULES.
TOKENS = ("rows", "tokens")
ROUTES = (None, "rows", "tokens")
WHOLE = ()
BATCH_AXES = {
    "tokens_BT": TOKENS, "positions_BT": TOKENS, "segments_BT": TOKENS, "targets_BT": TOKENS,
    "mask_BT": TOKENS,
    "weights_BT": TOKENS, "advantages_BT": TOKENS, "sequence_BT": TOKENS, "num_tokens": WHOLE,
    "num_positions": WHOLE, "old_logprobs_BT": TOKENS, "sampler_logprobs_BT": TOKENS,
    "ref_logprobs_BT": TOKENS,
    "expert_ids_LBTA": ROUTES, "kl_coef": WHOLE, "old_values_BT": TOKENS, "returns_BT": TOKENS,
    "value_weights_BT": TOKENS, "num_values": WHOLE, "expert_load_E": WHOLE}


class SampleSpan(NamedTuple):
    """Where a sample lies in a micro-batch: tokens start .. start + length of its row, as the row's given
    segment."""
    sample: int
    row: int
    start: int
    length: int
    segment: int

    @property
    def tokens(self) -> tuple[int, slice]:
        """The index of its tokens in [B, T]."""
        return self.row, slice(self.start, self.start + self.length)


class Packed(NamedTuple):
    """A micro-batch and where its samples lie in it."""
    batch: MicroBatch
    spans: list[SampleSpan]


def minibatches(samples: Sequence[Sample], count: int, key: Sequence[int]) -> list[list[Sample]]:
    """Splits the trainable samples into `count` optimiser minibatches of nearly equal size; into fewer, of
    one sample each, where masked completions leave fewer samples than that.

    Args:
      samples: the batch.
      count: minibatches; 1 keeps the order.
      key: non-negative numbers, such as (seed, step, epoch), that decide the shuffle.

    Raises:
      AlgorithmError: nothing to train on.
    """
    samples = trainable(samples)
    count = min(count, len(samples))
    if count == 1:
        return [samples]
    order = np.random.default_rng(list(key)).permutation(len(samples))
    return [[samples[index] for index in chosen] for chosen in np.array_split(order, count)]


def sample_weights(samples: Sequence[Sample], aggregation: str, norm: int = 0,
                   mask: str = "mask_T") -> np.ndarray:
    """[N] weights of the samples of one optimiser minibatch, by their tokens under a mask; see
    rl.aggregation. The sequences of one episode count as one."""
    episodes = [(sample.group, sample.rollout, sample.turn) for sample in samples]
    numbers = {episode: number for number, episode in enumerate(dict.fromkeys(episodes))}
    number_N = np.array([numbers[episode] for episode in episodes])
    lengths = np.bincount(number_N, weights=[getattr(sample, mask).sum() for sample in samples])
    return aggregation_weights(lengths, [group for group, *_ in numbers], aggregation, norm)[number_N]


def micro_batches(
    samples: Sequence[Sample], tokens: int, pack: bool = True, weights_N: np.ndarray | None = None,
    longest: int = 0, value_weights_N: np.ndarray | None = None, shards: tuple[int,
                                                                               int] = (1, 1)) -> list[Packed]:
    """Lays samples out in micro-batches of at most `tokens` padded tokens, in few shapes.

    Args:
      samples: one optimiser minibatch, or any samples for a pass without loss.
      tokens: rows x row length of a micro-batch never exceeds it.
      pack: several samples in a row; otherwise one.
      weights_N: from sample_weights; zeros if not given.
      longest: the most tokens that a sample of the run can have; packed rows then have one length throughout.
      value_weights_N: the same for the value loss, where samples have returns to train a critic on.

      shards: parts that a mesh splits rows and their tokens into.

    Raises:
      UserError: a sample alone exceeds `tokens`, or one row a shard does.
    """
    weights_N = np.zeros(len(samples)) if weights_N is None else weights_N
    counts = {"num_tokens": np.float32(sum(sample.trained_tokens for sample in samples)),
              "num_positions": np.float32(sum(len(sample.ids_T) for sample in samples))}
    if value_weights_N is not None:
        counts["num_values"] = np.float32(sum(sample.value_mask_T.sum() for sample in samples))
    return [
        _fill(samples, weights_N, value_weights_N, counts, rows, shape)
        for rows, shape in layout([len(sample.ids_T) for sample in samples], tokens, pack, longest, shards)
    ]


def _spans(lengths: Sequence[int], rows: list[list[int]]) -> list[SampleSpan]:
    spans = []
    for row, indices in enumerate(rows):
        start = 0
        for segment, index in enumerate(indices, 1):
            spans.append(SampleSpan(index, row, start, lengths[index], segment))
            start += lengths[index]
    return spans


def _fill(samples: Sequence[Sample], weights_N: np.ndarray, value_weights_N: np.ndarray | None,
          counts: dict[str, np.float32], rows: list[list[int]], shape: tuple[int, int]) -> Packed:
    spans = _spans([len(sample.ids_T) for sample in samples], rows)
    placed = [samples[span.sample] for span in spans]

    def spread(values: Sequence[np.ndarray], dtype: Any) -> np.ndarray:
        return _spread(spans, values, shape, dtype)

    def constant(values: Sequence[float], dtype: Any) -> np.ndarray:
        return spread([np.full(span.length, value) for span, value in zip(spans, values)], dtype)

    def optional(values: Sequence[np.ndarray | None]) -> np.ndarray | None:
        known = [value for value in values if value is not None]
        return spread(known, np.float32) if known else None

    value_weights_BT = None
    if value_weights_N is not None:
        value_weights_BT = spread([value_weights_N[span.sample] * sample.value_mask_T
                                   for span, sample in zip(spans, placed)], np.float32)
    batch = MicroBatch(
        tokens_BT=spread([sample.ids_T for sample in placed], np.int32),
        positions_BT=spread([np.arange(span.length) for span in spans], np.int32),
        segments_BT=constant([span.segment for span in spans], np.int32),
        targets_BT=spread([np.append(sample.ids_T[1:], 0) for sample in placed], np.int32),
        mask_BT=spread([sample.mask_T for sample in placed], np.float32),
        weights_BT=constant([weights_N[span.sample] for span in spans], np.float32),
        advantages_BT=spread([sample.advantages_T for sample in placed], np.float32),
        sequence_BT=constant(range(len(spans)), np.int32),
        old_logprobs_BT=optional([sample.old_logprobs_T for sample in placed]),
        sampler_logprobs_BT=optional([sample.sampler_logprobs_T for sample in placed]),
        ref_logprobs_BT=optional([sample.ref_logprobs_T for sample in placed]),
        expert_ids_LBTA=_expert_ids(spans, placed, shape),
        old_values_BT=optional([sample.values_T for sample in placed]),
        returns_BT=optional([sample.returns_T for sample in placed]),
        value_weights_BT=value_weights_BT,
        **counts)
    return Packed(batch, spans)


def _spread(spans: Sequence[SampleSpan], values: Sequence[np.ndarray], shape: tuple[int, int], dtype: Any,
            empty: int = 0) -> np.ndarray:
    """[B, T, ...] with each sample's [length, ...] values in its span, `empty` elsewhere. All samples or none
    have values."""
    out = np.full((*shape, *values[0].shape[1:]), empty, dtype)
    for span, value in zip(spans, values, strict=True):
        out[span.tokens] = value
    return out


def _expert_ids(spans: Sequence[SampleSpan], placed: Sequence[Sample],
                shape: tuple[int, int]) -> np.ndarray | None:
    """[L, B, T, A] in the integer type of the engine's ids; -1 for padding and for samples without."""
    known = [sample.expert_ids_TLA for sample in placed if sample.expert_ids_TLA is not None]
    if not known:
        return None
    routes = [np.full((span.length, *known[0].shape[1:]), -1) if sample.expert_ids_TLA is None
              else sample.expert_ids_TLA for span, sample in zip(spans, placed)]
    return np.moveaxis(_spread(spans, routes, shape, np.result_type(*known), empty=-1), 2, 0)


def per_sample(packed: Sequence[Packed], results_BT: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Takes per-token results [B, T, ...] of micro-batches back to the samples: a list of [T, ...] arrays in
    their order."""
    by_sample = {}
    for (_, spans), result_BT in zip(packed, results_BT, strict=True):
        result_BT = np.asarray(result_BT)
        for span in spans:
            by_sample[span.sample] = result_BT[span.tokens].copy()
    return [by_sample[index] for index in range(len(by_sample))]
