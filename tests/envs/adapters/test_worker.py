"""Workers of the adapters: the protocol, what they see, and how they end."""
import contextlib
import os
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from jaxrl_moe.envs import make_task
from jaxrl_moe.types import EnvError, Status, UserError
from tests.helpers.adapters import FAKE, faked, said
from tests.helpers.processes import ROOT


@pytest.fixture
def task():
    made = faked(make_task("gymnasium(id='any', workers=1, timeout=20)"))
    yield made
    made.close()


def begun(task, number=0):
    episode = task.open({"id": number}, 0)
    episode.reset()
    return episode


def shown(episode, text):
    (message,) = episode.step(said(text)).observation
    return message["content"]


def runs(process):
    """Whether a process runs, and is no zombie."""
    with contextlib.suppress(OSError):
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    return False


def wait_for_end(*processes):
    end = time.monotonic() + 20
    while any(map(runs, processes)):
        assert time.monotonic() < end
        time.sleep(0.02)


def failure(episode, text):
    with pytest.raises(EnvError) as caught:
        episode.step(said(text))
    return caught.value


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


def test_episodes_are_spread_over_the_workers():
    with contextlib.closing(faked(make_task("gymnasium(id='any', workers=3)"))) as task:
        episodes = [begun(task) for _ in range(6)]
        pids = [shown(episode, "pid") for episode in episodes]
        assert len(set(pids)) == 3 and all(pids.count(pid) == 2 for pid in pids)
        left = episodes[0]
        left.close()
        left.close()
        assert shown(begun(task), "pid") == pids[0]


def test_what_a_package_prints_and_reads_does_not_touch_the_protocol(task):
    episode = begun(task)
    assert shown(episode, "print") == "printed" and shown(episode, "read") == "''"


def test_a_worker_that_hangs_is_killed_with_what_it_started_and_replaced(task):
    episode = begun(task)
    worker, child = map(int, shown(episode, "child").split())
    task.timeout = 0.3
    late = begun(task)
    assert runs(worker) and runs(child)
    error = failure(late, "hang")
    assert error.status == Status.TIMED_OUT and "within 0.3 seconds" in str(error)
    wait_for_end(worker, child)
    lost = failure(episode, "pid")
    assert lost.status == Status.STEP_FAILED and "has ended" in str(lost)
    with pytest.raises(UserError, match="has ended"):
        episode.step(said("1"))
    task.timeout = 20
    assert int(shown(begun(task), "pid")) != worker


def test_a_worker_that_dies_is_told_of_with_its_last_words(task):
    error = failure(begun(task), "die")
    assert error.status == Status.STEP_FAILED and "exit code 5" in str(error)
    assert "the last words" in str(error)
    assert begun(task).step(said("1")).reward == 1


def test_an_exception_of_the_package_leaves_the_worker_and_its_other_episodes_alone(task):
    other = begun(task)
    error = failure(begun(task), "raise")
    assert error.status == Status.STEP_FAILED
    assert "ZeroDivisionError: of the sum (adapter_fake.py" in str(error)
    with pytest.raises(EnvError, match="KeyError: 'the sum'") as caught:
        begun(task, 14)
    assert caught.value.status == Status.RESET_FAILED
    assert other.step(said("2")).reward == 2


def test_a_refusal_is_no_failure_of_the_environment(task):
    with pytest.raises(UserError, match="no sum 13") as caught:
        begun(task, 13)
    assert not isinstance(caught.value, EnvError)
    with contextlib.closing(faked(make_task("gymnasium(id='refused')"))) as other:
        with pytest.raises(UserError, match="no such sum") as caught:
            other.ready()
        assert not isinstance(caught.value, EnvError)


def test_a_package_that_cannot_begin_is_told_of_with_how_to_install_it():
    with contextlib.closing(faked(make_task("gymnasium(id='dies')"))) as task:
        with pytest.raises(EnvError, match=r"no module of that name.*pip install") as caught:
            task.ready()
    assert caught.value.status == Status.RESET_FAILED


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


def test_an_episode_that_cannot_be_closed_ends_with_its_worker(task):
    episode = begun(task, 15)
    worker = int(shown(episode, "pid"))
    episode.close()
    wait_for_end(worker)
    assert begun(task).step(said("1")).reward == 1


def test_closing_the_task_ends_the_workers_also_one_that_hangs(task):
    episode = begun(task)
    worker, child = map(int, shown(episode, "child").split())
    errors = []

    def hang():
        try:
            episode.step(said("hang"))
        except EnvError as error:
            errors.append(error)

    thread = threading.Thread(target=hang)
    thread.start()
    time.sleep(0.2)
    task.close()
    thread.join(10)
    wait_for_end(worker, child)
    assert [error.status for error in errors] == [Status.STEP_FAILED]
    task.close()


def test_workers_end_with_us_however_we_end(tmp_path):
    script = textwrap.dedent(f"""
        import pathlib, sys, time
        from jaxrl_moe.envs.adapters.gymnasium import GymnasiumTask
        from jaxrl_moe.types import Action
        task = GymnasiumTask("any")
        task.worker = pathlib.Path({str(FAKE)!r})
        episode = task.open({{"id": 0}}, 0)
        episode.reset()
        print(episode.step(Action("child", 1, False)).observation[0]["content"], flush=True)
        episode.step(Action("hang", 1, False))
        """)
    ours = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True,
                            env=os.environ | {"PYTHONPATH": str(ROOT)})
    worker, child = map(int, ours.stdout.readline().split())
    assert runs(worker) and runs(child)
    ours.kill()
    ours.wait()
    wait_for_end(worker, child)
    ours.stdout.close()
