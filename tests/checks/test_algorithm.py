"""Algorithm settings that cannot be are refused before a run, with the reason."""
import pytest

from jaxrl_moe.config import ConfigError, known_keys, resolve, split_names
from jaxrl_moe.envs import TASKS, make_task
from jaxrl_moe.envs.single_turn import SingleTurnTask
from jaxrl_moe.learning.objective import make_policy_objective
from jaxrl_moe.rl.advantages import ADVANTAGES
from jaxrl_moe.types import Action, Step
from tests.helpers.settings import refuse_settings, usable


def settings(text):
    """usable() with "key=value" pairs set, each in the type of its key."""
    values = {}
    kinds = known_keys()
    for pair in text.split("; "):
        key, value = pair.split("=", 1)
        read = {
            bool: lambda text: text == "true",
            int: int,
            float: float,
            str: str
        }.get(kinds[key], split_names)
        values[key.replace(".", "__")] = read(value)
    return usable(**values)


@pytest.mark.parametrize(
    "text, reason",
    [("algorithm.loss=gspo; algorithm.corrections=tis", "one ratio a sequence, correction 'tis' one a token"),
     ("algorithm.loss=gspo_token; algorithm.corrections=icepop(low=0.2)",
      "one ratio a sequence, correction 'icepop' one a token"),
     ("algorithm.bypass=true; algorithm.corrections=mis_geometric", "would count the mismatch twice"),
     ("algorithm.bypass=true; algorithm.loss=dppo_tv", "reads the sampler's log-probs itself"),
     ("algorithm.loss=dppo_tv; algorithm.corrections=tis", "would count the mismatch twice"),
     ("algorithm.corrections=veto,veto(floor=0.1)", "names one twice"),
     ("algorithm.kl_in=reward; algorithm.kl_coef=0.0", "charges nothing"),
     ("algorithm.kl_in=reward; env.name=gsm8k(binary=true); algorithm.advantage=maxrl",
      "kl_in = 'reward' makes .* refuses negative ones"),
     ("algorithm.truncated=penalise; algorithm.truncated_penalty=0.1; env.name=gsm8k(binary=true); "
      "algorithm.advantage=maxrl",
      "truncated = 'penalise' makes .* refuses negative ones"),
     ("algorithm.overlong_tokens=200; algorithm.overlong_cushion=9; env.name=gsm8k(binary=true); "
      "algorithm.advantage=maxrl",
      "overlong_tokens = 200 makes .* refuses negative ones"),
     ("algorithm.advantage=maxrl(eps=1e-4)",
      "'gsm8k' gives rewards down to -0.05, .* refuses negative ones: set env.name=\"gsm8k.binary=true.\""),
     ("algorithm.kl_estimator=k1; algorithm.kl_coef=0.0",
      "kl_estimator = 'k1' has no effect with algorithm.kl_coef = 0"),
     ("algorithm.loss=gspo(clip_high=1e-3); algorithm.aggregation=token-mean",
      "aggregation = 'token-mean' weighs tokens, .* set algorithm.aggregation=seq-mean-token-mean, .* "
      "gspo_token"),
     ("algorithm.kl_target=0.03; algorithm.kl_coef=0.0", "no factor leads away"),
     ("rollout.dynamic_sampling=true; rollout.group_size=1; algorithm.advantage=reinforce_pp",
      "with rollout.group_size = 1 none can"),
     ("rollout.dynamic_sampling=true; algorithm.drop_constant_groups=true",
      "sets groups of equal rewards aside already"),
     ("algorithm.drop_constant_groups=true; algorithm.advantage=reinforce_pp",
      "learns from them too.*grpo, dr_grpo"),
     ("algorithm.drop_constant_groups=true; algorithm.advantage=gae", "learns from them too"),
     ("rollout.max_rounds=3", "bounds dynamic sampling, which is off"),
     ("algorithm.overlong_cushion=10", "has no effect without algorithm.overlong_tokens"),
     ("algorithm.overlong_tokens=200", "algorithm.overlong_cushion = 0 must be from 1"),
     ("algorithm.overlong_tokens=200; algorithm.overlong_cushion=201",
      "algorithm.overlong_cushion = 201 must be from 1"),
     ("algorithm.overlong_tokens=257; algorithm.overlong_cushion=10", "beyond rollout.max_tokens = 256"),
     ("algorithm.overlong_tokens=901; algorithm.overlong_cushion=10; episodes.max_tokens=900",
      "beyond episodes.max_tokens = 900"),
     ("algorithm.turn_gamma=0.5", "uses one reward for the whole"),
     ("algorithm.step_rewards=decision_stepwise", "step_rewards = 'decision_stepwise' rewards single turns"),
     ("algorithm.step_lambda=0.5", "step_lambda = 0.5 has no effect without"),
     ("algorithm.reward_blend=0.3,0.3,0.4; algorithm.returns=turns",
      "reward_blend weighs rewards of the whole"),
     ("algorithm.reward_blend=1,0,-1; env.name=gsm8k(binary=true); algorithm.advantage=maxrl",
      "reward_blend = .* can make .* refuses negative"),
     ("algorithm.reward_blend=0.5,0.5", "reward_blend = 0.5,0.5 must be three weights"),
     ("algorithm.reward_blend=0.5,nan,0.5", "reward_blend = 0.5,nan,0.5 is not finite"),
     ("algorithm.reward_blend=0.3,0.3,some", "reward_blend = .* cannot be read: give values of type float"),
     ("algorithm.returns=turns; algorithm.advantage=gae", "one of them must do it"),
     ("algorithm.returns=turns; algorithm.advantage=rloo", "do not depend on each other"),
     ("algorithm.advantage=turn_rloo", "gives an episode one number")])
def test_what_cannot_go_together_is_refused_with_the_reason(text, reason):
    with pytest.raises(ConfigError, match=reason):
        refuse_settings(resolve(settings(text)))


@pytest.mark.parametrize("text, reason", [
    ("algorithm.loss=dual_clp(dual_clip=4)", "algorithm.loss = 'dual_clp' is not known. Did you mean "
                                             "'dual_clip'"),
    ("algorithm.loss=dual_clip(dualclip=4)", "algorithm.loss: 'dual_clip' has no setting 'dualclip'. Did you "
                                             "mean 'dual_clip'"),
    ("algorithm.loss=dual_clip(dual_clip=0.5)", "algorithm.loss: .*dual_clip = 0.5 must be above 1"),
    ("algorithm.loss=dual_clip(", "algorithm.loss: 'dual_clip\\(' cannot be read"),
    ("algorithm.advantage=grpo(epsilon=1)", "algorithm.advantage: 'grpo' has no setting 'epsilon'. Did you "
                                            "mean 'eps'"),
    ("algorithm.corrections=tis(cap=2),icepopp", "algorithm.corrections = 'icepopp' is not known. Did you "
                                                 "mean 'icepop'"),
    ("algorithm.corrections=icepop(low=5,high=0.5)", "low = 5 must be .* below high = 0.5"),
    ("algorithm.corrections=opsm(drift=-0.1)", "drift = -0.1 must be at least 0"),
    ("algorithm.corrections=mis_token(low=1.5)", "low = 1.5 must be at most 1"),
    ("algorithm.corrections=mis_sequence(low=0.1,high=0.9)", "high = 0.9 must be at least 1"),
    ("algorithm.corrections=veto(floor=1.5)", "floor = 1.5 must be above 0 and at most 1"),
    ("algorithm.corrections=tis(cap=0.5)", "cap = 0.5 must be at least 1"),
    ("algorithm.corrections=tis(cap='two')", "setting 'cap' must be like 2.0"),
    ("algorithm.corrections=tis(cap=[2])", "setting 'cap' must be like 2.0"),
    ("algorithm.returns=turn", "algorithm.returns = 'turn' is not known. Did you mean 'turns'"),
    ("algorithm.step_rewards=stepwise", "algorithm.step_rewards = 'stepwise' is not known. Did you mean "
                                        "'decision_stepwise'"),
    ("algorithm.kl_in=los", "algorithm.kl_in = 'los' is not known: use loss .* or reward .*'loss' is the "
                            "nearest"),
])
def test_a_misspelt_name_or_setting_is_refused_with_the_nearest(text, reason):
    with pytest.raises(ConfigError, match=reason):
        refuse_settings(resolve(settings(text)))


def test_settings_in_brackets_reach_the_loss_and_the_corrections():
    config = resolve(settings("algorithm.loss=dual_clip(dual_clip=4); "
                              "algorithm.corrections=icepop(low=0.25,high=3),veto; "
                              "algorithm.advantage=grpo(eps=1e-4); algorithm.clip_high=0.28"))
    refuse_settings(config)
    made = make_policy_objective(config.algorithm).settings
    assert (made.loss_settings.dual_clip, made.loss_settings.clip_low,
            made.loss_settings.clip_high) == (4, 0.2, 0.28)
    assert [name for name, _ in made.corrections] == ["icepop", "veto"] and made.corrections[0][1].high == 3


@pytest.mark.parametrize(
    "text",
    ["algorithm.kl_target=0.03", "algorithm.kl_target=0.03; algorithm.kl_in=reward",
     "algorithm.returns=turns; algorithm.turn_gamma=1",
     "algorithm.returns=trajectory; algorithm.advantage=gae",
     "rollout.dynamic_sampling=true; rollout.max_rounds=3",
     "algorithm.overlong_tokens=256; algorithm.overlong_cushion=256",
     "algorithm.loss=gspo; algorithm.corrections=tis_sequence,mis_geometric",
     "algorithm.loss=gspo_token; algorithm.aggregation=token-mean",
     "lora.rank=0; algorithm.kl_coef=0.0; lora.alpha=32", "algorithm.bypass=true; algorithm.minibatches=4",
     "algorithm.bypass=true; algorithm.corrections=opsm", "algorithm.reward_blend=0.3,0.3,0.4",
     "algorithm.returns=trajectory; algorithm.step_rewards=decision_stepwise; algorithm.step_lambda=2",
     "algorithm.advantage=maxrl; env.name=word_problems",
     "algorithm.advantage=maxrl; env.name=gsm8k(binary=true); algorithm.truncated=mask",
     *(f"algorithm.drop_constant_groups=true; env.name=gsm8k(binary=true); algorithm.advantage={name}"
       for name, row in ADVANTAGES.items() if row.needs_group and not row.per_turn),
     "algorithm.advantage=turn_rloo; algorithm.returns=turns"])
def test_what_goes_together_passes(text):
    refuse_settings(resolve(settings(text)))


@pytest.mark.parametrize("name, flag, text, reason",
                         [("dr_grpo", "non_negative", "algorithm.advantage=dr_grpo", "refuses negative ones"),
                          ("dr_grpo", "independent", "algorithm.advantage=dr_grpo; algorithm.returns=turns",
                           "do not depend on each other")])
def test_an_advantage_is_refused_by_what_its_row_says(monkeypatch, name, flag, text, reason):
    refuse_settings(resolve(settings(text)))
    monkeypatch.setitem(ADVANTAGES, name, ADVANTAGES[name]._replace(**{flag: True}))
    with pytest.raises(ConfigError, match=reason):
        refuse_settings(resolve(settings(text)))


class Unspoken(SingleTurnTask):
    """A task of a user's, which does not say what its lowest reward is."""

    def check_row(self, row, index):
        pass

    def grade(self, row, action):
        return Step(-1.0)


def test_a_task_that_does_not_say_its_lowest_reward_is_left_to_the_run(monkeypatch):
    monkeypatch.setitem(TASKS, "own", Unspoken)
    refuse_settings(resolve(settings("env.name=own; algorithm.advantage=maxrl")))


@pytest.mark.parametrize("name, lowest", [("gsm8k", -0.05), ("gsm8k(binary=true)", 0), ("word_problems", 0)])
def test_no_task_gives_less_than_its_lowest_reward(name, lowest):
    task = make_task(name)
    actions = [Action(text, 9, truncated) for text in ("", "4", "#### 4") for truncated in (False, True)]
    assert task.lowest_reward == min(task.grade({"answer": 3}, action).reward for action in actions) == lowest
