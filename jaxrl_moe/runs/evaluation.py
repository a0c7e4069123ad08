"""Evaluation on held-out prompts: pass@1, pass@k and greedy accuracy, on a stream of noise that is fixed."""
import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxrl_moe.config import Config
from jaxrl_moe.protocols import Engine
from jaxrl_moe.rollout.collect import EVAL_STREAM, GREEDY_STREAM, collect
from jaxrl_moe.rollout.episodes import Episodes
from jaxrl_moe.rollout.failures import EpisodesError
from jaxrl_moe.runs.metrics import by_env, correct, info_means, pass_at_k
from jaxrl_moe.types import Prompt, RolloutGroup, SamplingParams


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """An evaluation's metrics, and the rollouts that they come from by phase ("eval", "greedy")."""
    metrics: dict[str, float]
    groups: dict[str, list[RolloutGroup]]

    @property
    def score(self) -> float:
        """What the best checkpoint is chosen by: sampled pass@1, or the mean reward where nothing is right or
        wrong."""
        return self.metrics.get("eval/pass_at_1", self.metrics["eval/reward_mean"])


def evaluate(prompts: Sequence[Prompt], episodes: Episodes, engine: Engine, config: Config) -> Evaluation:
    """Draws eval.samples completions of each prompt (and a greedy one if asked for) and scores them.

    The noise depends on the seed and on the prompt's place in the list alone, so two evaluations differ only
    by the weights.
    """
    params = SamplingParams(max_tokens=config.rollout.max_tokens, temperature=config.eval.temperature,
                            stop_strings=config.rollout.stop_strings, n=config.eval.samples)
    groups = {"eval": collect(prompts, episodes, engine, params, 0, EVAL_STREAM)}
    metrics = sampled_metrics(trusted(groups["eval"])) | of_each(groups["eval"])
    if config.eval.greedy:
        greedy = dataclasses.replace(params, temperature=0.0, n=1)
        groups["greedy"] = collect(prompts, episodes, engine, greedy, 0, GREEDY_STREAM)
        metrics |= greedy_metrics(groups["greedy"])
    if not episodes.single:
        metrics["eval/failed_frac"] = 1 - len(trusted(groups["eval"])) / len(groups["eval"])
    return Evaluation(metrics, groups)


def of_each(groups: Sequence[RolloutGroup]) -> dict[str, float]:
    """The same numbers of each environment that a run has several of, as eval/ENV/NAME; with the prompts that
    were played (count) and the share of those that failed."""
    metrics = {}
    for env, those in by_env(groups).items():
        sound = [group for group in those if group.trusted]
        own = sampled_metrics(sound) if sound else {}
        metrics |= {f"eval/{env}/{name.removeprefix('eval/')}": value for name, value in own.items()}
        metrics[f"eval/{env}/count"] = float(len(sound))
        metrics[f"eval/{env}/failed_frac"] = 1 - len(sound) / len(those)
    return metrics


def greedy_metrics(groups: Sequence[RolloutGroup]) -> dict[str, float]:
    """eval/greedy, and eval/ENV/greedy of each environment that did not fail throughout: pass@1, or the mean
    reward where nothing is right or wrong."""
    sound = {f"{env}/": [group for group in those if group.trusted] for env, those in by_env(groups).items()}
    graded = {"": trusted(groups)} | {name: those for name, those in sound.items() if those}
    return {f"eval/{name}greedy": sampled_metrics(those).get("eval/pass_at_1", _mean_reward(those))
            for name, those in graded.items()}


def trusted(groups: Sequence[RolloutGroup]) -> list[RolloutGroup]:
    """The groups whose environments did not fail.

    Raises:
      EpisodesError: there is none.
    """
    sound = [group for group in groups if group.trusted]
    if not sound:
        (message, *_) = [rollout.message for rollout in groups[0].rollouts if not rollout.status.trusted]
        raise EpisodesError(f"Every held-out prompt has an episode that failed. The first: {message}")
    return sound


def sampled_metrics(groups: Sequence[RolloutGroup]) -> dict[str, float]:
    """pass@k for k = 1, 2, 4, ... and the number of samples, mean reward and length, and the grader's named
    numbers."""
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    metrics = {"eval/reward_mean": _mean_reward(groups),
               "eval/length_mean": float(np.mean([len(rollout.completion_ids) for rollout in rollouts])),
               "eval/truncated_frac": float(np.mean([rollout.truncated for rollout in rollouts])),
               **{f"eval/{name}": value for name, value in info_means(rollouts).items()}}
    correct_PG = correct(groups)
    if correct_PG is not None:
        samples = len(correct_PG[0])
        for k in sorted({2**power for power in range(samples.bit_length())} | {samples}):
            metrics[f"eval/pass_at_{k}"] = float(
                np.mean([pass_at_k(samples, sum(row), k) for row in correct_PG]))
    return metrics


def _mean_reward(groups: Sequence[RolloutGroup]) -> float:
    return float(np.mean([rollout.reward for group in groups for rollout in group.rollouts]))
