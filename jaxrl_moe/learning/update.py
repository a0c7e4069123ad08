"""Every pass over a batch of samples: optimiser minibatches, their weights, one update each."""
import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxrl_moe.config import Config
from jaxrl_moe.learning.batch import minibatches, sample_weights
from jaxrl_moe.learning.prepare import lay_out
from jaxrl_moe.learning.samples import Sample
from jaxrl_moe.learning.step import Learner, Objective
from jaxrl_moe.rl.advantages import find_advantage


def update(samples: Sequence[Sample], learner: Learner, objective: Objective, config: Config, step: int,
           kl_coef: float | None = None) -> list[tuple]:
    """Every pass over the batch, one optimiser step a minibatch; returns (metrics on the device, micro-batches) of each.

    kl_coef takes the place of the objective's own where it is adaptive.
    """
    algorithm, updates = config.algorithm, []
    for epoch in range(algorithm.epochs):
        for part in minibatches(samples, algorithm.minibatches, (config.seed, step, epoch)):
            batches = [one.batch for one in lay_out(part, learner, config, **loss_weights(part, config))]
            if algorithm.kl_target > 0 and algorithm.kl_in == "loss":
                batches = [dataclasses.replace(one, kl_coef=np.float32(kl_coef)) for one in batches]
            metrics = learner.update(batches, objective, temperature=config.rollout.temperature,
                                     entropy=config.logging.entropy or config.algorithm.entropy_coef > 0,
                                     count_load=config.moe.aux_loss_coef > 0)
            updates.append((metrics, batches))
    return updates


def loss_weights(samples: Sequence[Sample], config: Config) -> dict[str, np.ndarray]:
    """The aggregation weights of a minibatch's samples, for the policy's loss and, where there is a critic, for its."""
    algorithm, norm = config.algorithm, config.rollout.max_tokens
    weights = {"weights_N": sample_weights(samples, algorithm.aggregation, norm)}
    critic = find_advantage(algorithm.advantage).critic
    if critic:  # with one value a sequence, their plain mean
        weights["value_weights_N"] = sample_weights(
            samples, algorithm.aggregation if critic == "token" else "token-mean", norm, "value_mask_T")
    return weights
