"""What is wrong with the algorithm section as its tables know it: misspelt names and settings, and parts that contradict each other."""
import contextlib
import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from jaxrl_moe.config import AlgorithmSection, Config, ConfigError
from jaxrl_moe.config_checks import changed
from jaxrl_moe.envs import make_task
from jaxrl_moe.learning.objective import make_policy_objective
from jaxrl_moe.rl.advantages import ADVANTAGES, find_advantage
from jaxrl_moe.rl.corrections import CORRECTIONS
from jaxrl_moe.rl.losses import LOSSES, find_loss
from jaxrl_moe.rl.table import AlgorithmError, configure, parse_spec

SPECS = {"algorithm.advantage": ADVANTAGES, "algorithm.loss": LOSSES, "algorithm.corrections": CORRECTIONS}


def refuse_unknown_specs(section: AlgorithmSection) -> None:
    """Refuses rows and bracketed settings that no table has.

    Raises:
      ConfigError: naming the field, the value and the nearest known name.
    """
    for field, table in SPECS.items():
        value = getattr(section, field.partition(".")[2])
        for spec in value if isinstance(value, tuple) else (value,):
            _check_spec(field, spec, table)


def _check_spec(field: str, spec: str, table: Mapping[str, Any]) -> None:
    try:
        name, overrides = parse_spec(spec)
        check_name(field, name, table)
        configure(table[name].settings, overrides, name)
    except AlgorithmError as error:
        raise ConfigError(f"{field}: {error}") from error


def check_name(field: str, value: str, table) -> None:
    """Raises ConfigError if the table has no such name."""
    if value not in table:
        near = difflib.get_close_matches(value, table, 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"{field} = {value!r} is not known.{hint} Known: {', '.join(table)}.")


def algorithm_problems(config: Config) -> Iterator[str]:
    """Yields what speaks against an RL phase with this algorithm section; its names are known already.

    Raises:
      ConfigError: a loss, corrections or KL terms that cannot go together.
    """
    section, group = config.algorithm, config.rollout.group_size
    row = find_advantage(section.advantage)
    make_policy_objective(section, config.critic, config.moe)
    if group == 1 and row.needs_group:
        yield (f"algorithm.advantage = {section.advantage!r} compares the completions of one prompt, so with "
               "rollout.group_size = 1 every advantage is 0 and nothing is learnt: set rollout.group_size to 2 or more.")
    loss, only = parse_spec(section.loss)[0], find_loss(section.loss).aggregation
    if only and section.aggregation != only:
        others = ", ".join(other for other, found in LOSSES.items() if not found.aggregation)
        yield (f"algorithm.aggregation = {section.aggregation!r} weighs tokens, and algorithm.loss = {section.loss!r} has one value a "
               f"sequence, whose mean over sequences it is: set algorithm.aggregation={only}, or take another loss than {loss} "
               f"({others}).")
    if section.drop_constant_groups and not row.needs_group:
        others = ", ".join(other for other, found in ADVANTAGES.items() if found.needs_group)
        yield (f"algorithm.drop_constant_groups leaves out groups of equal rewards, but algorithm.advantage = {section.advantage!r} "
               f"learns from them too: set it to false, or take an advantage that compares a group's completions ({others}).")
    if row.non_negative:
        yield from (f"{reason}, and algorithm.advantage = {section.advantage!r}, which divides by their mean, refuses negative ones: "
                    f"set {mend}, or take another advantage." for reason, mend in _negative_rewards(config))
    if section.returns == "turns" and row.critic == "token":
        yield (f"algorithm.returns = 'turns' gives every turn a discounted return of its own, while algorithm.advantage = "
               f"{section.advantage!r} spreads the reward over tokens by its values: one of them must do it. Set "
               "algorithm.returns=trajectory or outcome, or an advantage without a critic.")
    if section.returns == "turns" and row.independent:
        yield (f"algorithm.returns = 'turns' puts several turns of one rollout into a group, and algorithm.advantage = "
               f"{section.advantage!r} needs rewards that do not depend on each other for its baseline: use grpo or dr_grpo, or "
               "another return.")


def _negative_rewards(config: Config) -> Iterator[tuple[str, str]]:
    """(what can make a reward negative, what would mend it) of the settings; judges and turns are seen only when they grade."""
    section, env = config.algorithm, config.env
    if section.kl_in == "reward" and section.kl_coef > 0:
        yield "algorithm.kl_in = 'reward' makes rewards negative", "algorithm.kl_in=loss"
    if section.truncated == "penalise":
        yield "algorithm.truncated = 'penalise' makes rewards negative", "algorithm.truncated=keep or mask"
    if section.overlong_tokens:
        yield f"algorithm.overlong_tokens = {section.overlong_tokens} makes rewards negative", "algorithm.overlong_tokens=0"
    if min(section.reward_blend, default=0) < 0:
        yield f"algorithm.reward_blend = {section.reward_blend} can make rewards negative", "weights of 0 or more"
    with contextlib.closing(make_task(env.name)) as task:
        lowest = task.lowest_reward
    if lowest is not None and lowest < 0:
        yield (f"The task env.name = {env.name!r} gives rewards down to {lowest:g}",
               'env.name="gsm8k(binary=true)" or another task')


def idle_settings(config: Config) -> Iterator[str]:
    """Yields settings of the algorithm and rollout sections that would have no effect, or none that makes sense."""
    section, rollout = config.algorithm, config.rollout
    if section.kl_target > 0 and section.kl_coef == 0:
        yield (f"algorithm.kl_target = {section.kl_target} steers algorithm.kl_coef by factors, and from 0 no factor leads away: "
               "set algorithm.kl_coef to what it shall start from, such as 0.05, or algorithm.kl_target=0.")
    if section.kl_in == "reward" and section.kl_coef == 0:
        yield ("algorithm.kl_in = 'reward' with algorithm.kl_coef = 0 charges nothing: set algorithm.kl_coef above 0, or "
               "algorithm.kl_in=loss.")
    if changed(section, "kl_estimator") and section.kl_coef == 0:
        yield (f"algorithm.kl_estimator = {section.kl_estimator!r} has no effect with algorithm.kl_coef = 0, which charges no KL: set "
               "algorithm.kl_coef above 0, or leave algorithm.kl_estimator out.")
    if rollout.dynamic_sampling and rollout.group_size == 1:
        yield ("rollout.dynamic_sampling keeps groups whose rewards differ, and with rollout.group_size = 1 none can: set "
               "rollout.group_size to 2 or more, or rollout.dynamic_sampling=false.")
    if rollout.dynamic_sampling and section.drop_constant_groups:
        yield ("rollout.dynamic_sampling sets groups of equal rewards aside already: set algorithm.drop_constant_groups=false.")
    if changed(rollout, "max_rounds") and not rollout.dynamic_sampling:
        yield (f"rollout.max_rounds = {rollout.max_rounds} bounds dynamic sampling, which is off: set rollout.dynamic_sampling=true, "
               "or leave rollout.max_rounds out.")
    if changed(rollout, "stragglers") and rollout.max_staleness == 0:
        yield (f"rollout.stragglers = {rollout.stragglers!r} has no effect with rollout.max_staleness = 0, where "
               "drawing, grading and updating take turns: set rollout.max_staleness to 1 or more, or leave "
               "rollout.stragglers out.")
    if section.overlong_cushion and not section.overlong_tokens:
        yield (f"algorithm.overlong_cushion = {section.overlong_cushion} has no effect without algorithm.overlong_tokens, the "
               "length at which the penalty is full: set both, or neither.")
    if section.overlong_tokens and not 0 < section.overlong_cushion <= section.overlong_tokens:
        yield (f"algorithm.overlong_cushion = {section.overlong_cushion} must be from 1 to algorithm.overlong_tokens = "
               f"{section.overlong_tokens}: the penalty rises over that many tokens below it.")
    if section.overlong_tokens > rollout.max_tokens:
        yield (f"algorithm.overlong_tokens = {section.overlong_tokens} lies beyond rollout.max_tokens = {rollout.max_tokens}, so the "
               "full penalty is never charged: lower it to that.")
    if changed(section, "turn_gamma") and section.returns == "outcome":
        yield (f"algorithm.turn_gamma = {section.turn_gamma} discounts the rewards of turns, and algorithm.returns = 'outcome' uses "
               "one reward for the whole: set algorithm.returns=trajectory or turns, or leave algorithm.turn_gamma out.")
    if section.step_rewards != "none" and section.returns == "outcome":
        yield (f"algorithm.step_rewards = {section.step_rewards!r} rewards single turns, and algorithm.returns = 'outcome' uses one "
               "reward for the whole: set algorithm.returns=trajectory or turns, or algorithm.step_rewards=none.")
    if changed(section, "step_lambda") and section.step_rewards == "none":
        yield (f"algorithm.step_lambda = {section.step_lambda} has no effect without step rewards: set "
               "algorithm.step_rewards=decision_stepwise, or leave algorithm.step_lambda out.")
    if section.reward_blend and section.returns != "outcome":
        yield (f"algorithm.reward_blend weighs rewards of the whole, and algorithm.returns = {section.returns!r} uses those of turns: "
               "set algorithm.returns=outcome, or leave algorithm.reward_blend empty.")
