"""Episodes of the adapters, over a worker of no package."""
import contextlib

import pytest

from jaxrl_moe.envs import make_task
from jaxrl_moe.types import UserError
from tests.helpers.adapters import begun, failure, faked, said, shown


@pytest.fixture
def task():
    made = faked(make_task("gymnasium(id='any', workers=1, timeout=20)"))
    yield made
    made.close()


def test_an_episode_is_played_and_ends(task):
    episode = task.open({"id": 4}, 0)
    assert episode.reset() == ({"role": "user", "content": "Sum 4"},)
    first = episode.step(said("Action: 1 2"))
    assert (first.reward, first.done, first.info["valid"]) == (3.0, False, 1.0)
    empty = episode.step(said("Action:"))
    assert empty.reward == 0 and "no action" in empty.observation[0]["content"]
    assert empty.info == {"correct": 0.0, "steps": 1.0, "valid": 0.5}
    last = episode.step(said("4"))
    assert (last.reward, last.done, last.observation) == (4.0, True, ())
    with pytest.raises(UserError, match="has ended"):
        episode.step(said("4"))


def test_episodes_of_one_worker_do_not_mix(task):
    episodes = [begun(task, number) for number in range(5)]
    assert len({shown(episode, "pid") for episode in episodes}) == 1
    for number, episode in enumerate(episodes):
        assert episode.step(said(f"Action: {number}")).reward == number
    assert all(episode.step(said("0")).done for episode in episodes)


@pytest.mark.parametrize("word, told", [
    ("nan", "JSON cannot hold"), ("large", "more than 16777216 bytes"), ("text", "reward is \"much\""),
    ("more", "the field 'extra' is not known")])
def test_what_a_package_may_not_say_fails_its_episode_alone(task, word, told):
    other = begun(task)
    assert told in str(failure(begun(task), word))
    assert other.step(said("2")).reward == 2


def test_texts_that_no_tokenizer_reads_are_mended(task):
    assert shown(begun(task), "surrogate") == "half \ufffd"


def test_a_worker_sees_no_secret_of_ours_unless_a_setting_names_it(monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", "secret")
    with contextlib.closing(faked(make_task("gymnasium(id='any')"))) as task:
        assert "SOME_API_KEY" not in shown(begun(task), "environment").split()
    with contextlib.closing(faked(make_task("gymnasium(id='any', variables='SOME_API_KEY')"))) as task:
        assert "SOME_API_KEY" in shown(begun(task), "environment").split()
    monkeypatch.delenv("SOME_API_KEY")
    with pytest.raises(UserError, match="'SOME_API_KEY', which is not set"):
        faked(make_task("gymnasium(id='any', variables='SOME_API_KEY')")).ready()
