"""Router replay: the experts that a token went to when it was drawn (R3, arXiv 2510.11370), or in the
old-logprob pass (R2), are those it goes to in the update.

Letters: T tokens of a sample, L sparse layers, A active experts per token. Routes cost L * A bytes a token
(twice that above 128 experts): on the host for the whole batch, on the device for one micro-batch at a
time.
"""
import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxrl_moe.learning.samples import Sample
from jaxrl_moe.model.config import ModelConfig
from jaxrl_moe.rl.table import AlgorithmError

REPLAY = ("none", "r2", "r3")


def engine_routes(samples: Sequence[Sample], model: ModelConfig) -> list[Sample]:
    """The samples with their engine's routes checked, in the smallest integer type.

    Raises:
      AlgorithmError: a sample has no routes, or such as the model cannot take.
    """
    return [
        dataclasses.replace(sample, expert_ids_TLA=_checked(sample.expert_ids_TLA, len(sample.ids_T), model))
        for sample in samples
    ]


def _checked(ids_TLA: np.ndarray | None, length: int, model: ModelConfig) -> np.ndarray:
    if ids_TLA is None:
        raise AlgorithmError("moe.replay = 'r3' replays the experts that the rollout engine reports, and "
                             "this engine reports none. Use an engine that returns routed experts, or "
                             "moe.replay=r2, which takes those of the old-logprob pass.")
    shape = (length, model.num_sparse_layers, model.num_experts_per_tok)
    absent = ids_TLA < 0
    if (ids_TLA.shape != shape or ids_TLA.min() < -1 or ids_TLA.max() >= model.num_experts
            or (absent.any(axis=-1) != absent.all(axis=-1)).any()):
        raise AlgorithmError(f"The rollout engine returned routes of shape {ids_TLA.shape} with ids from "
                             f"{ids_TLA.min()} to {ids_TLA.max()}; tokens x sparse layers x active experts "
                             f"are {shape}, and ids run from 0 to {model.num_experts - 1}, -1 for all of a "
                             "token without a route. Check that the engine serves the model that is trained.")
    return ids_TLA.astype(model.expert_dtype)


def replay_metrics(samples: Sequence[Sample]) -> dict[str, float]:
    """moe/replay_bytes_per_token and moe/replayed_frac, the share of tokens that have a route; nothing
    without replay."""
    known = [sample.expert_ids_TLA for sample in samples if sample.expert_ids_TLA is not None]
    if not known:
        return {}
    tokens = sum(len(sample.ids_T) for sample in samples)
    return {"moe/replay_bytes_per_token": sum(ids.nbytes for ids in known) / tokens,
            "moe/replayed_frac": sum(int((ids[:, 0, 0] >= 0).sum()) for ids in known) / tokens}
