"""Settings of the algorithm: misspelt names, parts that contradict each other, and what has no effect."""
from collections.abc import Iterator, Mapping
from typing import Any

from jaxrl_moe.checks.problems import Told, idle, told, unknown
from jaxrl_moe.config import AlgorithmSection, Config
from jaxrl_moe.learning.objective import make_policy_objective
from jaxrl_moe.rl.advantages import ADVANTAGES, find_advantage
from jaxrl_moe.rl.corrections import CORRECTIONS
from jaxrl_moe.rl.losses import LOSSES, find_loss
from jaxrl_moe.rl.table import AlgorithmError, configure, parse_spec
from jaxrl_moe.types import Problem

SPECS = {"algorithm.advantage": ADVANTAGES, "algorithm.loss": LOSSES, "algorithm.corrections": CORRECTIONS}


def unknown_specs(section: AlgorithmSection) -> Iterator[Problem]:
    """Yields rows and bracketed settings that no table has, with the nearest known name."""
    for field, table in SPECS.items():
        value = getattr(section, field.partition(".")[2])
        for spec in value if isinstance(value, tuple) else (value,):
            yield from _unknown_spec(field, spec, table)


def _unknown_spec(field: str, spec: str, table: Mapping[str, Any]) -> Iterator[Problem]:
    try:
        name, overrides = parse_spec(spec)
        if name in table:
            configure(table[name].settings, overrides, name)
        else:
            yield from unknown(field, name, table)
    except AlgorithmError as error:
        yield Told(field, spec, f"{field}: {error}", "")


def contradictions(config: Config) -> Iterator[Problem]:
    """Yields settings of the section that cannot work together, in whatever phase."""
    section = config.algorithm
    blend = section.reward_blend
    penalty = section.truncated_penalty
    if len(blend) not in (0, 3):
        yield Problem("algorithm.reward_blend", blend, "must be three weights, of the reward, of the event "
                      "judge's and of the outcome judge's number",
                      "give such as 0.3,0.3,0.4, or leave it empty")
    if section.truncated == "penalise" and penalty == 0:
        yield Problem("algorithm.truncated", "penalise",
                      "with algorithm.truncated_penalty = 0 penalises nothing",
                      "set the penalty, or use 'keep'")
    if section.truncated != "penalise" and penalty > 0:
        yield Problem("algorithm.truncated_penalty", penalty,
                      f"has no effect under algorithm.truncated = {section.truncated!r}",
                      "set algorithm.truncated=penalise, or the penalty to 0")


def problems(config: Config, lowest: float) -> Iterator[Problem]:
    """Yields what speaks against an RL phase with this section, whose names are known already.

    Args:
      config: resolved.
      lowest: the least reward that the task gives.
    """
    yield from _of_loss(config)
    yield from _of_advantage(config, lowest)
    yield from _idle_kl(config.algorithm)
    yield from _idle_lengths(config)
    yield from _idle_turns(config.algorithm)


def _of_loss(config: Config) -> Iterator[Problem]:
    section = config.algorithm
    yield from told("algorithm.loss", section.loss,
                    lambda: make_policy_objective(section, config.critic, config.moe))
    loss = parse_spec(section.loss)[0]
    only = find_loss(section.loss).aggregation
    if only and section.aggregation != only:
        others = ", ".join(name for name, row in LOSSES.items() if not row.aggregation)
        yield Problem("algorithm.aggregation", section.aggregation,
                      f"weighs tokens, and algorithm.loss = {section.loss!r} has one value a sequence, whose "
                      "mean over sequences it is",
                      f"set algorithm.aggregation={only}, or take another loss than {loss} ({others})")


def _of_advantage(config: Config, lowest: float) -> Iterator[Problem]:
    section = config.algorithm
    row = find_advantage(config.algorithm.advantage)
    if config.rollout.group_size == 1 and row.needs_group:
        yield Problem("algorithm.advantage", section.advantage, "compares the completions of one prompt, so "
                      "with rollout.group_size = 1 every advantage is 0 and nothing is learnt",
                      "set rollout.group_size to 2 or more")
    if section.drop_constant_groups and not row.needs_group:
        others = ", ".join(name for name, other in ADVANTAGES.items() if other.needs_group)
        yield Problem("algorithm.drop_constant_groups", None, "leaves out groups of equal rewards, but "
                      f"algorithm.advantage = {section.advantage!r} learns from them too",
                      f"set it to false, or take an advantage that compares a group's completions ({others})")
    if row.non_negative:
        for problem in _negative_rewards(config, lowest):
            yield Problem(problem.field, problem.value, f"{problem.why}, and algorithm.advantage = "
                          f"{section.advantage!r}, which divides by their mean, refuses negative ones",
                          f"set {problem.mend}, or take another advantage")
    if section.returns == "turns" and row.critic == "token":
        yield Problem("algorithm.returns", "turns", "gives every turn a discounted return of its own, while "
                      f"algorithm.advantage = {section.advantage!r} spreads the reward over tokens by its "
                      "values: one of them must do it",
                      "set algorithm.returns=trajectory or outcome, or an advantage without a critic")
    if section.returns == "turns" and row.independent:
        yield Problem("algorithm.returns", "turns", "puts several turns of one rollout into a group, and "
                      f"algorithm.advantage = {section.advantage!r} needs rewards that do not depend on each "
                      "other for its baseline", "use turn_rloo, grpo or dr_grpo, or another return")
    if row.per_turn and section.returns != "turns":
        yield Problem("algorithm.advantage", section.advantage, "compares turns, and algorithm.returns = "
                      f"{section.returns!r} gives an episode one number", "set algorithm.returns=turns")


def _negative_rewards(config: Config, lowest: float) -> Iterator[Problem]:
    """What can make a reward negative, of the settings; judges and turns are seen only when they grade."""
    section = config.algorithm
    if section.kl_in == "reward" and section.kl_coef > 0:
        yield Problem("algorithm.kl_in", "reward", "makes rewards negative", "algorithm.kl_in=loss")
    if section.truncated == "penalise":
        yield Problem("algorithm.truncated", "penalise", "makes rewards negative",
                      "algorithm.truncated=keep or mask")
    if section.overlong_tokens:
        yield Problem("algorithm.overlong_tokens", section.overlong_tokens, "makes rewards negative",
                      "algorithm.overlong_tokens=0")
    if min(section.reward_blend, default=0) < 0:
        yield Problem("algorithm.reward_blend", section.reward_blend, "can make rewards negative",
                      "weights of 0 or more")
    if lowest < 0:
        yield Problem("env.name", config.env.name, f"gives rewards down to {lowest:g}",
                      'env.name="gsm8k(binary=true)" or another task')


def _idle_kl(section: AlgorithmSection) -> Iterator[Problem]:
    if section.kl_coef > 0:
        return
    if section.kl_target > 0:
        yield Problem("algorithm.kl_target", section.kl_target,
                      "steers algorithm.kl_coef by factors, and from 0 no factor leads away",
                      "set algorithm.kl_coef to what it shall start from, such as 0.05, or "
                      "algorithm.kl_target=0")
    if section.kl_in == "reward":
        yield Problem("algorithm.kl_in", "reward", "with algorithm.kl_coef = 0 charges nothing",
                      "set algorithm.kl_coef above 0, or algorithm.kl_in=loss")
    yield from idle("algorithm", section, ["kl_estimator"],
                    " with algorithm.kl_coef = 0, which charges no KL", "set algorithm.kl_coef above 0")


def _idle_lengths(config: Config) -> Iterator[Problem]:
    section = config.algorithm
    rollout = config.rollout.max_tokens
    longest = max(rollout, config.episodes.max_tokens)  # the penalty is on what all turns of an episode drew
    named = "rollout.max_tokens" if longest == rollout else "episodes.max_tokens"
    tokens = section.overlong_tokens
    cushion = section.overlong_cushion
    if cushion and not tokens:
        yield Problem(
            "algorithm.overlong_cushion", cushion,
            "has no effect without algorithm.overlong_tokens, the length at which the penalty is full",
            "set both, or neither")
    if tokens and not 0 < cushion <= tokens:
        yield Problem("algorithm.overlong_cushion", cushion,
                      f"must be from 1 to algorithm.overlong_tokens = {tokens}",
                      "give one, for the penalty rises over that many tokens below it")
    if tokens > longest:
        yield Problem("algorithm.overlong_tokens", tokens,
                      f"lies beyond {named} = {longest}, so the full penalty is never charged",
                      "lower it to that")


def _idle_turns(section: AlgorithmSection) -> Iterator[Problem]:
    whole = ", and algorithm.returns = 'outcome' uses one reward for the whole"
    turns = "set algorithm.returns=trajectory or turns"
    if section.returns == "outcome":
        yield from idle("algorithm", section, ["turn_gamma"],
                        f", for it discounts the rewards of turns{whole}", turns)
    if section.step_rewards != "none" and section.returns == "outcome":
        yield Problem("algorithm.step_rewards", section.step_rewards, f"rewards single turns{whole}",
                      f"{turns}, or algorithm.step_rewards=none")
    if section.step_rewards == "none":
        yield from idle("algorithm", section, ["step_lambda"], " without step rewards",
                        "set algorithm.step_rewards=decision_stepwise")
    if section.reward_blend and section.returns != "outcome":
        yield Problem("algorithm.reward_blend", None, "weighs rewards of the whole, and algorithm.returns = "
                      f"{section.returns!r} uses those of turns",
                      "set algorithm.returns=outcome, or leave algorithm.reward_blend empty")
