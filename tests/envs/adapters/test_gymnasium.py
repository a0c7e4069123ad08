"""Gymnasium's environments in words, by the real package."""
import contextlib

import pytest

from jaxrl_moe.envs import make_task
from jaxrl_moe.types import ToolCall, UserError
from tests.helpers.adapters import played, said
from tests.helpers.processes import ROOT

gymnasium = pytest.importorskip("gymnasium")

ENVS = '''
import gymnasium
from gymnasium import spaces


class Typed(gymnasium.Env):
    """The text that the seed chose is to be repeated."""
    observation_space = spaces.Text(20)
    action_space = spaces.Text(8, charset="abcd")

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.word = "abcd"[seed % 4] * 2
        return self.word, {}

    def step(self, action):
        return "again", float(action == self.word), action == self.word, False, {}


class Pixels(Typed):
    observation_space = spaces.Box(0, 255, (64, 64, 3))


class Torque(Typed):
    action_space = spaces.Box(-1, 1, (2,))


for name, made in (("Typed", Typed), ("Pixels", Pixels), ("Torque", Torque)):
    gymnasium.register(f"{name}-v0", entry_point=made)
'''


@pytest.fixture(scope="module")
def lake():
    """Without slipping: down, down, right, right, down, right is a way to the goal."""
    spec = """gymnasium(id='FrozenLake-v1', options='{"is_slippery": false}')"""
    with contextlib.closing(make_task(spec)) as task:
        task.ready()
        yield task


def test_a_way_over_the_lake_is_rewarded_and_a_board_is_shown_in_words(lake):
    words = ["Action: down", "1", "Thought: on.\n\nAction: Right", "2", "down", "right"]
    ((begun,), steps) = played(lake, {"id": 5}, *map(said, words))
    assert begun["content"] == "{red S}FFF\nFHFH\nFFFH\nHFFG\nActions: left, down, right, up"
    assert [step.reward for step in steps] == [0, 0, 0, 0, 0, 1]
    assert [step.done for step in steps] == [False] * 5 + [True]
    assert steps[-1].info == {"correct": 1.0, "score": 1.0, "valid": 1.0} and not steps[-1].truncated
    assert steps[0].observation[0]["content"] == "  (Down)\nSFFF\n{red F}HFH\nFFFH\nHFFG"


def test_a_hole_ends_the_episode_without_a_reward(lake):
    _, steps = played(lake, {"id": 0}, said("down"), said("right"))
    assert steps[-1].done and steps[-1].info["correct"] == 0.0 and not steps[-1].truncated


@pytest.mark.parametrize("word", ["fly", "4", "-1", "1.5", "down down", "99999999999999999999"])
def test_what_is_no_action_changes_nothing_and_the_actions_are_told(lake, word):
    _, (wrong, right) = played(lake, {"id": 0}, said(word), said("down"))
    assert (wrong.reward, wrong.done, wrong.info["valid"]) == (0.0, False, 0.0)
    assert wrong.observation[0]["content"].endswith("Actions: left, down, right, up")
    assert right.observation[0]["content"] == "  (Down)\nSFFF\n{red F}HFH\nFFFH\nHFFG"


def test_the_row_seeds_the_environment_as_gymnasium_itself_does():
    env = gymnasium.make("Blackjack-v1")
    with contextlib.closing(make_task("gymnasium(id='Blackjack-v1', workers=2)")) as task:
        for seed in (0, 1, 7):
            hand, _ = env.reset(seed=seed)
            after, reward, terminated, _, _ = env.step(1)
            (begun,), (step,) = played(task, {"id": seed}, said("hit"))
            assert begun["content"].splitlines()[0] == str([int(each) for each in hand])
            assert (step.reward, step.done) == (reward, terminated)
            shown = step.observation[0]["content"] if not terminated else None
            assert terminated or shown == str([int(each) for each in after])
    env.close()


def test_the_environments_own_limit_truncates():
    with contextlib.closing(make_task(
            """gymnasium(id='Taxi-v4', options='{"max_episode_steps": 3}', max_turns=9)""")) as task:
        (begun,), steps = played(task, {"id": 1}, *[said("north")] * 3)
    assert "{yellow " in begun["content"] or "{green " in begun["content"]  # an empty taxi, or a full one
    assert [step.done for step in steps] == [False, False, True] and steps[-1].truncated
    assert [step.reward for step in steps] == [-1.0] * 3 and steps[-1].info["correct"] == 0.0


def test_actions_can_be_called_and_have_other_names():
    spec = "gymnasium(id='FrozenLake-v1', actions='w,s,e,n', answers='functions', view='value')"
    with contextlib.closing(make_task(spec)) as task:
        (tool,) = task.tools({})
        assert tool["function"]["name"] == "act" and "`act`" in task.instructions({})
        call = ToolCall("act", '{"action": "s"}')
        _, (called, spoken) = played(task, {"id": 0}, said("", [call]), said("s"))
    assert called.observation[0]["role"] == "tool" and called.observation[0]["content"].isdigit()
    assert spoken.observation[0]["role"] == "user" and spoken.info["valid"] == 0.5


def test_texts_are_shown_and_taken_as_they_are(tmp_path, monkeypatch):
    (tmp_path / "typed_envs.py").write_text(ENVS)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    with contextlib.closing(make_task("gymnasium(id='typed_envs:Typed-v0')")) as task:
        (begun,), steps = played(task, {"id": 2}, said("Action: xyz"), said("Action: ab"), said("Action: cc"))
        assert begun["content"] == "cc\nActions: texts of 1 to 8 characters"
        assert "no action" in steps[0].observation[0]["content"]
        assert steps[1].observation[0]["content"] == "again" and steps[2].reward == 1
    for name, told in (("Pixels", "12288 numbers"), ("Torque", "only discrete ones and texts")):
        with contextlib.closing(make_task(f"gymnasium(id='typed_envs:{name}-v0')")) as task:
            with pytest.raises(UserError, match=told):
                task.ready()


@pytest.mark.parametrize("settings, told", [
    ("id='Nothing-v0'", "Gymnasium cannot make id = 'Nothing-v0'"),
    ("id='FrozenLake-v1', actions='a,b'", "names 2 actions, and FrozenLake-v1 has 4"),
    ("id='Blackjack-v1', view='render'", "write view='value'")])
def test_what_the_package_refuses_is_told_before_the_run(settings, told):
    with contextlib.closing(make_task(f"gymnasium({settings})")) as task:
        with pytest.raises(UserError, match=told):
            task.ready()


@pytest.mark.parametrize("settings, told", [
    ("workers=0", "workers = 0 is out of range"), ("timeout=0", "timeout = 0"), ("max_turns=0", "max_turns"),
    ("options='[1]'", "options holds a list"), ("options='{'", "options is no JSON"),
    ("actions='a,A'", "twice"),
    ("options='{\"render_mode\": \"human\"}'", "follows from view"), ("lowest=1, highest=0", "no range")])
def test_wrong_settings_are_refused(settings, told):
    with pytest.raises(UserError, match=told.replace("[", r"\[")):
        make_task(f"gymnasium(id='FrozenLake-v1', {settings})")


def test_ranges_are_told_where_they_are_known():
    assert make_task("gymnasium(id='FrozenLake-v1')").score_range == (0.0, 1.0)
    assert make_task("gymnasium(id='Taxi-v4')").lowest_reward == -2000
    rewarded = make_task("""gymnasium(id='FrozenLake-v1', options='{"reward_schedule": [5, 0, 0]}')""")
    unknown = make_task("gymnasium(id='Other-v0')")
    assert rewarded.score_range is None and unknown.lowest_reward is None and not unknown.deterministic
    assert make_task("gymnasium(id='Other-v0', lowest=-1, highest=2)").score_range == (-1, 2)
