"""From graded groups to samples that an update can use: advantages, and what stays fixed while the batch is
learnt from."""
import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from jaxrl_moe.config import AlgorithmSection, Config
from jaxrl_moe.hosts import hosts
from jaxrl_moe.learning.batch import Packed, micro_batches, per_sample
from jaxrl_moe.learning.credit.advantages import Credit, with_advantages
from jaxrl_moe.learning.credit.kl_coefficient import KLCoefficient
from jaxrl_moe.learning.programs import Forward
from jaxrl_moe.learning.replay import engine_routes
from jaxrl_moe.learning.samples import Sample, from_groups, trainable, with_values
from jaxrl_moe.learning.step import Learner
from jaxrl_moe.phases import longest_drawn
from jaxrl_moe.rl.advantages import find_advantage
from jaxrl_moe.types import RolloutGroup


def prepare(groups: Sequence[RolloutGroup], learner: Learner, config: Config,
            kl: KLCoefficient | None = None) -> list[Sample]:
    """All samples of a batch, with advantages and with what stays fixed during its updates: old and reference
    log-probs, values, routes. kl: the step's KL coefficient; None: that of the settings."""
    algorithm = config.algorithm
    samples = from_groups(groups, algorithm)
    trainable(samples)  # raises if there is nothing to train on
    if config.moe.replay == "r3":
        samples = engine_routes(samples, learner.config)
    if needs_forward(config):
        samples = with_forward(samples, learner, config)
    if algorithm.kl_coef > 0:
        samples = with_values(samples, "ref_logprobs_T", reference_logprobs(samples, learner, config))
    return with_advantages(samples, algorithm.advantage, credit(algorithm, kl or KLCoefficient(algorithm)))


def credit(section: AlgorithmSection, kl: KLCoefficient) -> Credit:
    """What the algorithm section says of the way from rewards to tokens."""
    return Credit(gamma=section.gamma, lam=section.lam, kl_coef=kl.in_reward,
                  kl_estimator=section.kl_estimator, bootstrap=section.truncated == "bootstrap")


def needs_forward(config: Config) -> bool:
    """Whether the policy must be run before the update; otherwise the update's own log-probs are the old
    ones."""
    algorithm = config.algorithm
    # where the policy moves between the old log-probs and the update's own, the two differ
    moves = algorithm.epochs * algorithm.minibatches > 1 or _drops_out(config)
    return (moves and not algorithm.bypass or config.moe.replay == "r2"
            or bool(find_advantage(algorithm.advantage).critic)
            or (algorithm.kl_in == "reward" and algorithm.kl_coef > 0))


def _drops_out(config: Config) -> bool:
    return config.lora.rank > 0 and config.lora.dropout > 0


def with_forward(samples: Sequence[Sample], learner: Learner, config: Config) -> list[Sample]:
    """The samples with old log-probs, and with values and routes where the settings ask for them."""
    packed = lay_out(samples, learner, config)
    replay = config.moe.replay
    options = {"temperature": config.rollout.temperature, "routes": replay == "r2"}
    passes = fetched(learner.forward(pack.batch, **options) for pack in packed)
    fields = {"old_logprobs_T": "logprobs_BT", "values_T": "values_BT", "expert_ids_TLA": "expert_ids_BTLA"}
    for field, result in fields.items():
        if getattr(passes[0], result) is not None:
            results_BT = [getattr(forward, result) for forward in passes]
            samples = with_values(samples, field, per_sample(packed, results_BT))
    return list(samples)


def reference_logprobs(samples: Sequence[Sample], learner: Learner, config: Config) -> list[np.ndarray]:
    """Per sample [T] log-probs of its next tokens under the reference, with its own live routing: the policy
    without adapters, or the weights that the run started from."""
    packed = lay_out([dataclasses.replace(sample, expert_ids_TLA=None) for sample in samples], learner,
                     config)
    temperature = config.rollout.temperature
    passes = fetched(learner.forward(pack.batch, reference=True, temperature=temperature) for pack in packed)
    return per_sample(packed, [forward.logprobs_BT for forward in passes])


def fetched(passes: Iterable[Forward]) -> list[Forward]:
    """The passes' results on the host. Each is fetched while the next one runs, so that two at most lie on
    the device."""
    results = []
    running = []
    for forward in passes:
        running.append(forward)
        if len(running) > 1:
            results.append(hosts.fetch(running.pop(0)))
    return results + hosts.fetch(running)


def lay_out(samples: Sequence[Sample], learner: Learner, config: Config,
            **weights: np.ndarray | None) -> list[Packed]:
    """Micro-batches whose shapes stay the same from step to step; weights as in micro_batches."""
    budget = config.train.tokens_per_micro_batch
    return micro_batches(samples, budget, config.train.pack, longest=longest_drawn(config),
                         shards=learner.shards, **weights)
