"""Every pass over a batch of samples: optimiser minibatches, their weights, one update each."""
import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxrl_moe.config import Config
from jaxrl_moe.learning.batch import MicroBatch, minibatches, sample_weights
from jaxrl_moe.learning.credit.kl_coefficient import KLCoefficient
from jaxrl_moe.learning.prepare import lay_out
from jaxrl_moe.learning.programs import ObjectiveFunction
from jaxrl_moe.learning.samples import Sample
from jaxrl_moe.learning.step import Learner
from jaxrl_moe.rl.advantages import find_advantage
from jaxrl_moe.rl.metrics import Metrics


def update(samples: Sequence[Sample], learner: Learner, objective: ObjectiveFunction, config: Config,
           step: int, kl: KLCoefficient | None = None) -> list[tuple[Metrics, list[MicroBatch]]]:
    """Every pass over the batch, one optimiser step a minibatch; returns (metrics on the device,
    micro-batches) of each.

    kl: the step's KL coefficient; None: that of the settings.
    """
    algorithm = config.algorithm
    updates = []
    kl = kl or KLCoefficient(algorithm)
    for epoch in range(algorithm.epochs):
        for chosen in minibatches(samples, algorithm.minibatches, (config.seed, step, epoch)):
            packs = lay_out(chosen, learner, config, **loss_weights(chosen, config))
            batches = [packed.batch for packed in packs]
            if kl.in_loss is not None:
                batches = [dataclasses.replace(batch, kl_coef=np.float32(kl.in_loss)) for batch in batches]
            metrics = learner.update(batches, objective, temperature=config.rollout.temperature,
                                     entropy=config.logging.entropy or config.algorithm.entropy_coef > 0,
                                     count_load=config.moe.aux_loss_coef > 0)
            updates.append((metrics, batches))
    return updates


def loss_weights(samples: Sequence[Sample], config: Config) -> dict[str, np.ndarray]:
    """The aggregation weights of a minibatch's samples, for the policy's loss and, where there is a critic,
    for its."""
    algorithm = config.algorithm
    norm = config.rollout.max_tokens
    weights = {"weights_N": sample_weights(samples, algorithm.aggregation, norm)}
    critic = find_advantage(algorithm.advantage).critic
    if critic:  # with one value a sequence, their plain mean
        weights["value_weights_N"] = sample_weights(
            samples, algorithm.aggregation if critic == "token" else "token-mean", norm, "value_mask_T")
    return weights
