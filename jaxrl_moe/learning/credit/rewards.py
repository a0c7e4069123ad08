"""The rewards that an update uses: the environment's, blended with judges' or replaced by step rewards where
the settings ask for it; then with penalties on length charged and turns discounted."""
import numpy as np

from jaxrl_moe.config import AlgorithmSection
from jaxrl_moe.rl.advantages import is_constant
from jaxrl_moe.rl.returns import trajectory_return, turn_returns
from jaxrl_moe.rl.shaping import blend_rewards, decision_stepwise, soft_overlong_penalty
from jaxrl_moe.rl.table import AlgorithmError
from jaxrl_moe.types import Rollout, RolloutGroup, Trace, Turn

RETURNS = ("outcome", "trajectory", "turns")
STEP_REWARDS = ("none", "decision_stepwise")
JUDGED = ("event", "outcome")  # what algorithm.reward_blend reads from a rollout's info


def turns_of(rollout: Trace) -> tuple[Turn, ...]:
    """The turns of a sequence; one over a rollout's whole completion where it names none.

    Raises:
      AlgorithmError: they overlap, reach beyond the completion or leave out a token that the policy drew.
    """
    if not rollout.turns:
        reward = rollout.reward if isinstance(rollout, Rollout) else 0.0
        return (Turn(0, len(rollout.completion_ids), reward),)
    left = np.array(rollout.loss_mask)
    before = 0
    for turn in rollout.turns:
        if not before <= turn.start <= turn.end <= len(left):
            raise AlgorithmError(f"A rollout's turns must follow each other within its {len(left)} "
                                 "completion tokens; got "
                                 f"{[(other.start, other.end) for other in rollout.turns]}.")
        left[turn.start:turn.end] = 0
        before = turn.end
    if left.any():
        raise AlgorithmError(f"Completion token {int(np.argmax(left))} of a rollout was drawn by the policy "
                             "(loss_mask 1), but belongs to none of its turns.")
    return rollout.turns


def penalty(rollout: Rollout, section: AlgorithmSection) -> float:
    """What is added to the reward for length, 0 or less: under truncated = penalise, and DAPO's soft overlong
    penalty."""
    charged = -section.truncated_penalty if rollout.truncated and section.truncated == "penalise" else 0.0
    if section.overlong_tokens:
        charged += soft_overlong_penalty(rollout.drawn, section.overlong_tokens,
                                         section.overlong_cushion)
    return charged


def outcome_reward(rollout: Rollout, section: AlgorithmSection) -> float:
    """The reward of the whole rollout: the environment's, or under reward_blend its sum with info's numbers
    of judges.

    Raises:
      AlgorithmError: info lacks one of them.
    """
    if not section.reward_blend:
        return rollout.reward
    for name in JUDGED:
        if name not in rollout.info:
            raise AlgorithmError("algorithm.reward_blend weighs the numbers "
                                 f"{' and '.join(map(repr, JUDGED))} of the grader's info, and a rollout has "
                                 f"no {name!r} (it has {', '.join(map(repr, rollout.info)) or 'nothing'}): "
                                 "take a task whose grade gives both, or leave algorithm.reward_blend empty.")
    return blend_rewards(rollout.reward, *(rollout.info[name] for name in JUDGED), section.reward_blend)


def turn_rewards(rollout: Rollout, section: AlgorithmSection) -> np.ndarray:
    """[turns] the reward of each turn: the environment's, or what step_rewards makes of the achievements
    after it.

    Raises:
      AlgorithmError: turns that cannot be, or that do not say what is achieved.
    """
    turns = [turn for trace in rollout.traces for turn in turns_of(trace)]
    if section.step_rewards == "none":
        return np.array([turn.reward for turn in turns])
    silent = [number for number, turn in enumerate(turns, 1) if turn.achieved is None]
    if silent:
        raise AlgorithmError(f"algorithm.step_rewards = {section.step_rewards!r} rewards turns for what they "
                             f"achieve, and turn {silent[0]} of a rollout of {len(turns)} does not say it: "
                             "take an environment that fills Turn.achieved, or set "
                             "algorithm.step_rewards=none.")
    return decision_stepwise([turn.achieved for turn in turns], section.step_lambda)


def rewards_of(rollout: Rollout, section: AlgorithmSection, penalised: bool = True) -> np.ndarray:
    """[1] the reward of the whole rollout, or under returns = turns [turns] the discounted return of each.

    A penalty is charged to the last turn, before any discount; penalised=False leaves it out.

    Raises:
      AlgorithmError: unknown `returns`, turns that cannot be, or a rollout that lacks what reward_blend or
        step_rewards reads, or whose rewards are no finite numbers.
    """
    if section.returns not in RETURNS:
        raise AlgorithmError(f"returns must be one of {', '.join(RETURNS)}; got {section.returns!r}.")
    charged = penalty(rollout, section) if penalised else 0.0
    if section.returns == "outcome":
        return _finite(np.array([outcome_reward(rollout, section) + charged]), rollout)
    rewards = _finite(turn_rewards(rollout, section), rollout)
    rewards[-1] += charged
    if section.returns == "turns":
        return turn_returns(rewards, section.turn_gamma)
    return np.array([trajectory_return(rewards, section.turn_gamma)])


def _finite(rewards: np.ndarray, rollout: Rollout) -> np.ndarray:
    """Returns them; the rollout's maker should have seen what is no number."""
    if not np.isfinite(rewards).all():
        raise AlgorithmError(f"A rollout's rewards are {rewards.tolist()}, which are not all finite (its own "
                             f"reward is {rollout.reward}, its info {dict(rollout.info)}): mend what grades "
                             "it.")
    return rewards


def all_equal(group: RolloutGroup, section: AlgorithmSection) -> bool:
    """Whether all graded rewards of a group are equal, in float32 as reward/frac_zero_std sees them.

    Penalties on length are left out, as in DAPO: a group in which all is wrong has nothing to teach but to be
    short.
    """
    rewards = [rewards_of(rollout, section, penalised=False) for rollout in group.rollouts]
    return is_constant(np.concatenate(rewards).astype(np.float32))
