"""The numbers of a step that follow from its rollouts alone, and a stopwatch for its phases.

Letters: P prompts, G completions per prompt. All names are those that users of other RL libraries look for.
Everything here can be computed again from the trajectories file.
"""
import contextlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from jaxrl_moe.rl.advantages import is_constant
from jaxrl_moe.rl.metrics import Merge, Metrics, merged
from jaxrl_moe.rl.objective import finished
from jaxrl_moe.types import Rollout, RolloutGroup


def rollout_metrics(groups: Sequence[RolloutGroup], version: int, aborted: int = 0) -> dict[str, float]:
    """Rewards, lengths and staleness of a step's rollouts.

    Args:
      groups: the step's rollouts with the rewards that the environment gave.
      version: policy version that is about to be updated; a token's staleness is this minus its own version.
      aborted: rollouts that were given up instead, to be drawn again.

    Returns:
      reward/*, completion/*, rollout/staleness_*, rollout/turns_mean, rollout/branches_mean (sequences that
        an episode has beyond one, as its history was rewritten), rollout/aborted_frac (the share, of
        these and the
      aborted ones, that was aborted or has no token of the policy's, as when an engine gave up on them:
        nothing of these can be
      trained on), env/NAME for the mean of each named number of the grader, and where prompts have names of
      environments, what of_each_env says.
    """
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    lengths = np.array([len(rollout.completion_ids) for rollout in rollouts])
    staleness = version - np.concatenate([rollout.policy_version for rollout in rollouts])
    return {
        **reward_metrics(groups),
        "completion/length_mean": float(lengths.mean()),
        "completion/length_max": float(lengths.max()),
        "completion/truncated_frac": float(np.mean([rollout.truncated for rollout in rollouts])),
        "rollout/staleness_mean": float(staleness.mean()),
        "rollout/staleness_max": float(staleness.max()),
        "rollout/turns_mean": float(np.mean([turns(rollout) for rollout in rollouts])),
        "rollout/branches_mean": float(np.mean([len(rollout.branches) for rollout in rollouts])),
        "rollout/aborted_frac": (aborted + sum(not np.any(rollout.loss_mask) for rollout in rollouts)) /
        (aborted + len(rollouts)),
        **{
            f"env/{name}": value for name, value in info_means(rollouts).items()
        },
        **of_each_env(groups),
    }


def of_each_env(groups: Sequence[RolloutGroup]) -> dict[str, float]:
    """Of each environment that a run has several of: env/ENV/reward (mean), /success (share of episodes that
    are correct, where all say so), /count (episodes), /turns (mean), /frac_zero_std (groups of equal
    rewards)."""
    return {f"env/{env}/{name}": value for env, those in by_env(groups).items()
            for name, value in _of_env(those).items()}


def _of_env(groups: Sequence[RolloutGroup]) -> dict[str, float]:
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    right = correct(groups)
    success = {} if right is None else {"success": float(np.mean([each for row in right for each in row]))}
    return {"reward": float(np.mean([rollout.reward for rollout in rollouts])), **success,
            "count": float(len(rollouts)), "turns": float(np.mean([turns(rollout) for rollout in rollouts])),
            "frac_zero_std": float(np.mean([is_constant(group.rewards_G) for group in groups]))}


def by_env(groups: Sequence[RolloutGroup]) -> dict[str, list[RolloutGroup]]:
    """{name of an environment: its groups}, of the prompts that have one, in order of the names."""
    names = sorted({group.prompt.env for group in groups} - {""})
    return {name: [group for group in groups if group.prompt.env == name] for name in names}


def turns(rollout: Rollout) -> int:
    """How often the policy had its turn: the runs of ones in the loss masks of an episode."""
    return sum(int(np.sum(np.diff(trace.loss_mask, prepend=0) > 0)) for trace in rollout.traces)


def reward_metrics(groups: Sequence[RolloutGroup]) -> dict[str, float]:
    """Mean, spread (ddof 0) and range of the rewards, the share of constant groups, and pass@G if graded for
    it."""
    rewards = np.concatenate([group.rewards_G for group in groups]).astype(np.float64)
    metrics = {"reward/mean": float(rewards.mean()), "reward/std": float(rewards.std()),
               "reward/max": float(rewards.max()), "reward/min": float(rewards.min()),
               "reward/frac_zero_std": float(np.mean([is_constant(group.rewards_G) for group in groups]))}
    correct_PG = correct(groups)
    if correct_PG is not None:
        metrics["reward/pass_at_k"] = float(
            np.mean([pass_at_k(len(row), sum(row), len(row)) for row in correct_PG]))
    return metrics


def info_means(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """The mean of each named number over the rollouts that have it."""
    names = sorted({name for rollout in rollouts for name in rollout.info})
    return {
        name: float(np.mean([rollout.info[name] for rollout in rollouts if name in rollout.info]))
        for name in names
    }


def correct(groups: Sequence[RolloutGroup]) -> list[list[int]] | None:
    """Per prompt, 1 for each correct completion and 0 for others; None if the environment does not say."""
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    if any("correct" not in rollout.info for rollout in rollouts):
        return None
    return [[int(rollout.info["correct"] > 0.5) for rollout in group.rollouts] for group in groups]


def pass_at_k(samples: int, right: int, k: int) -> float:
    """The unbiased estimate of the chance that one of k draws is right: 1 - C(n - c, k) / C(n, k)
    (2107.03374)."""
    return 1.0 - math.comb(samples - right, k) / math.comb(samples, k)


class Stopwatch:
    """Seconds spent in named phases: `with watch("rollout"): ...`, then `times()`."""

    def __init__(self):
        self._seconds: dict[str, float] = {}
        self._start = time.perf_counter()

    @contextlib.contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.add(phase, time.perf_counter() - start)

    def add(self, phase: str, seconds: float) -> None:
        """Seconds that another thread measured."""
        self._seconds[phase] = self._seconds.get(phase, 0.0) + seconds

    def times(self) -> Mapping[str, float]:
        """{"time/rollout_s": ..., "time/step_s": since the stopwatch was made}."""
        return {f"time/{phase}_s": seconds for phase, seconds in self._seconds.items()} | {
            "time/step_s": time.perf_counter() - self._start}


def kept_mass(before: Mapping[str, float], after: Mapping[str, float]) -> float:
    """Mean probability that top-p, top-k and min-p left of a token's distribution, between two calls of
    engine.stats()."""
    total = after["kept_mass"] * after["tokens"] - before["kept_mass"] * before["tokens"]
    return total / max(after["tokens"] - before["tokens"], 1)


def update_metrics(updates: Sequence[Metrics], tokens: Sequence[float] = (1.0,),
                   values: Sequence[float] = (1.0,)) -> dict[str, float]:
    """One row for the updates of a step, from what the learner returned for each.

    Args:
      updates: scalars; for MoE also the counts `load` [L, E] (slots given to each expert), `probability` [E],
        `slots` that tokens asked for and `dropped` ones.
      tokens, values: trained tokens, and values of a critic, of each update.

    Returns:
      Each metric merged as it says; `loss` as policy/total_loss; in place of moments and counts what follows
      from those of the step.

    Raises:
      TypeError, ValueError: see rl.metrics.merged.
    """
    row = merged(updates, tokens, values)
    row["policy/total_loss"] = row.pop("loss")
    counts = {name: row.pop(name) for name in updates[0].only(Merge.SUM)}
    if counts:
        row |= router_metrics(counts["load"], counts["probability"])
        row["moe/dropped"] = float(counts["slots"] - counts["load"].sum() + counts["dropped"])
    return finished(row)


def router_metrics(load_LE: np.ndarray, probability_E: np.ndarray) -> dict[str, float]:
    """load_metrics, and moe/aux_loss: E sum_e f_e P_e over all layers' tokens, num_experts_per_tok when
    balanced."""
    tokens = probability_E.sum()  # each token's probabilities sum to 1
    balance = len(probability_E) * np.sum(load_LE.sum(axis=0) / tokens * probability_E / tokens)
    return load_metrics(load_LE) | {"moe/aux_loss": float(balance)}


def load_metrics(load_LE: np.ndarray) -> dict[str, float]:
    """How evenly tokens spread over experts, per sparse layer and over layers.

    max_vio is max_e(E share_e) - 1 and min_vio is min_e(E share_e) - 1 (0 when balanced); load_entropy is
    that of the shares in nats. Of all layers together the worst max_vio and min_vio are given, and the mean
    entropy.
    """
    shares_LE = load_LE / np.maximum(load_LE.sum(axis=1, keepdims=True), 1)
    logs_LE = np.log(np.where(shares_LE > 0, shares_LE, 1.0))
    layers = {"max_vio": load_LE.shape[1] * shares_LE.max(axis=1) - 1,
              "min_vio": load_LE.shape[1] * shares_LE.min(axis=1) - 1,
              "load_entropy": -(shares_LE * logs_LE).sum(axis=1)}
    whole = {"moe/max_vio": layers["max_vio"].max(), "moe/min_vio": layers["min_vio"].min(),
             "moe/load_entropy": layers["load_entropy"].mean()}
    each = {
        f"moe/layer_{layer:02d}/{name}": values[layer] for name, values in layers.items()
        for layer in range(len(load_LE))
    }
    return {name: float(value) for name, value in (whole | each).items()}
