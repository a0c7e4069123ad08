"""From samples to micro-batches of few shapes, and from per-token results back to samples."""
import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrl_moe.data.packing import layout
from jaxrl_moe.learning.samples import Sample, trainable
from jaxrl_moe.rl.aggregation import aggregation_weights
from jaxrl_moe.rl.types import Array, LossInputs


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

    def loss_inputs(self, logprobs_BT: Array, **computed: Array | None) -> LossInputs:
        """What the objective reads, given the policy's log-probs of the targets and whatever else the model computed."""
        computed = {"logprobs_BT": logprobs_BT, **computed}
        shared = {field.name for field in dataclasses.fields(LossInputs)} & {field.name for field in dataclasses.fields(self)}
        return LossInputs(**{name: getattr(self, name) for name in shared}, **computed)


# The logical axes of each field, see distributed.sharding.RULES.
TOKENS, ROUTES, WHOLE = ("rows", "tokens"), (None, "rows", "tokens"), ()
BATCH_AXES = {
    "tokens_BT": TOKENS, "positions_BT": TOKENS, "segments_BT": TOKENS, "targets_BT": TOKENS,
    "mask_BT": TOKENS,
    "weights_BT": TOKENS, "advantages_BT": TOKENS, "sequence_BT": TOKENS, "num_tokens": WHOLE,
    "num_positions": WHOLE, "old_logprobs_BT": TOKENS, "sampler_logprobs_BT": TOKENS,
    "ref_logprobs_BT": TOKENS,
    "expert_ids_LBTA": ROUTES, "kl_coef": WHOLE, "old_values_BT": TOKENS, "returns_BT": TOKENS,
    "value_weights_BT": TOKENS, "num_values": WHOLE, "expert_load_E": WHOLE}


class Place(NamedTuple):
    """Where a sample lies in a micro-batch: tokens start .. start + length of its row, as the row's given segment."""
    sample: int
    row: int
    start: int
    length: int
    segment: int

    @property
    def span(self) -> tuple[int, slice]:
        return self.row, slice(self.start, self.start + self.length)


class Packed(NamedTuple):
    """A micro-batch and the places of its samples."""
    batch: MicroBatch
    places: list[Place]


def minibatches(samples: Sequence[Sample], count: int, key: Sequence[int]) -> list[list[Sample]]:
    """Splits the trainable samples into `count` optimiser minibatches of nearly equal size; into fewer, of one sample each,
    where masked completions leave fewer samples than that.

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
    return [[samples[i] for i in part] for part in np.array_split(order, count)]


def sample_weights(samples: Sequence[Sample], aggregation: str, norm: int = 0, mask: str = "mask_T") -> np.ndarray:
    """[N] weights of the samples of one optimiser minibatch, by their tokens under a mask; see rl.aggregation."""
    return aggregation_weights([getattr(sample, mask).sum() for sample in samples], [sample.group for sample in samples],
                               aggregation, norm)


def micro_batches(samples: Sequence[Sample], tokens: int, pack: bool = True, weights_N: np.ndarray | None = None,
                  longest: int = 0, value_weights_N: np.ndarray | None = None, shards: tuple[int, int] = (1, 1)) -> list[Packed]:
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
    return [_fill(samples, weights_N, value_weights_N, counts, rows, shape)
            for rows, shape in layout([len(sample.ids_T) for sample in samples], tokens, pack, longest, shards)]


def _places(lengths: Sequence[int], rows: list[list[int]]) -> list[Place]:
    places = []
    for row, indices in enumerate(rows):
        start = 0
        for segment, index in enumerate(indices, 1):
            places.append(Place(index, row, start, lengths[index], segment))
            start += lengths[index]
    return places


def _fill(samples: Sequence[Sample], weights_N: np.ndarray, value_weights_N: np.ndarray | None, counts: dict[str, np.float32],
          rows: list[list[int]], shape: tuple[int, int]) -> Packed:
    places = _places([len(sample.ids_T) for sample in samples], rows)
    placed = [samples[place.sample] for place in places]

    def spread(values, dtype):
        return _spread(places, values, shape, dtype)

    def constant(values, dtype):
        return spread([np.full(place.length, value) for place, value in zip(places, values)], dtype)

    def optional(field):
        known = [value for value in (getattr(sample, field) for sample in placed) if value is not None]
        return spread(known, np.float32) if known else None

    value_weights_BT = None
    if value_weights_N is not None:
        value_weights_BT = spread([value_weights_N[place.sample] * sample.value_mask_T
                                   for place, sample in zip(places, placed)], np.float32)
    batch = MicroBatch(
        tokens_BT=spread([sample.ids_T for sample in placed], np.int32),
        positions_BT=spread([np.arange(place.length) for place in places], np.int32),
        segments_BT=constant([place.segment for place in places], np.int32),
        targets_BT=spread([np.append(sample.ids_T[1:], 0) for sample in placed], np.int32),
        mask_BT=spread([sample.mask_T for sample in placed], np.float32),
        weights_BT=constant([weights_N[place.sample] for place in places], np.float32),
        advantages_BT=spread([sample.advantages_T for sample in placed], np.float32),
        sequence_BT=constant(range(len(places)), np.int32),
        old_logprobs_BT=optional("old_logprobs_T"),
        sampler_logprobs_BT=optional("sampler_logprobs_T"),
        ref_logprobs_BT=optional("ref_logprobs_T"),
        expert_ids_LBTA=_expert_ids(places, placed, shape),
        old_values_BT=optional("values_T"),
        returns_BT=optional("returns_T"),
        value_weights_BT=value_weights_BT,
        **counts)
    return Packed(batch, places)


def _spread(places: Sequence[Place], values: Sequence[np.ndarray], shape: tuple[int, int], dtype: Any,
            empty: int = 0) -> np.ndarray:
    """[B, T, ...] with each sample's [length, ...] values at its place, `empty` elsewhere. All samples or none have values."""
    out = np.full((*shape, *values[0].shape[1:]), empty, dtype)
    for place, value in zip(places, values, strict=True):
        out[place.span] = value
    return out


def _expert_ids(places: Sequence[Place], placed: Sequence[Sample], shape: tuple[int, int]) -> np.ndarray | None:
    """[L, B, T, A] in the integer type of the engine's ids; -1 for padding and for samples without."""
    known = [sample.expert_ids_TLA for sample in placed if sample.expert_ids_TLA is not None]
    if not known:
        return None
    routes = [np.full((place.length, *known[0].shape[1:]), -1) if sample.expert_ids_TLA is None
              else sample.expert_ids_TLA for place, sample in zip(places, placed)]
    return np.moveaxis(_spread(places, routes, shape, np.result_type(*known), empty=-1), 2, 0)


def per_sample(packed: Sequence[Packed], results_BT: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Takes per-token results [B, T, ...] of micro-batches back to the samples: a list of [T, ...] arrays in their order."""
    found = {}
    for (_, places), result_BT in zip(packed, results_BT, strict=True):
        result_BT = np.asarray(result_BT)
        for place in places:
            found[place.sample] = result_BT[place.span].copy()
    return [found[index] for index in range(len(found))]
