"""Workers that play another package's episodes: shared, replaced when they fail, and ended with us. The task
is an adapter's, over a worker of no package."""
import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from jaxrl_moe.envs import make_task
from jaxrl_moe.envs.package_workers.launch import Launch, environment, python_of
from jaxrl_moe.envs.package_workers.pool import Pool
from jaxrl_moe.partials import runs
from jaxrl_moe.types import EnvError, Status, UserError
from tests.helpers.adapters import FAKE, begun, failure, faked, said, shown
from tests.helpers.processes import ROOT
from tests.helpers.waiting import wait_until


@pytest.fixture
def task():
    made = faked(make_task("gymnasium(id='any', workers=1, timeout=20)"))
    yield made
    made.close()


def wait_for_end(*processes):
    wait_until(lambda: not any(map(runs, processes)), 20)


def test_episodes_are_spread_over_the_workers():
    with contextlib.closing(faked(make_task("gymnasium(id='any', workers=3)"))) as task:
        episodes = [begun(task) for _ in range(6)]
        pids = [shown(episode, "pid") for episode in episodes]
        assert len(set(pids)) == 3 and all(pids.count(pid) == 2 for pid in pids)
        left = episodes[0]
        left.close()
        left.close()
        assert shown(begun(task), "pid") == pids[0]


def test_the_first_worker_serves_until_two_episodes_are_open_at_once():
    with contextlib.closing(faked(make_task("gymnasium(id='any', workers=2)"))) as task:
        pids = set()
        for _ in range(3):
            episode = begun(task)
            pids.add(shown(episode, "pid"))
            episode.close()
    assert len(pids) == 1


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
    assert "raise the setting timeout" in str(error)
    wait_for_end(worker, child)
    lost = failure(episode, "pid")
    assert lost.status == Status.STEP_FAILED and "has ended" in str(lost)
    with pytest.raises(UserError, match="has ended"):
        episode.step(said("1"))
    task.timeout = 20
    assert int(shown(begun(task), "pid")) != worker


@pytest.mark.parametrize("words, status, told", [
    ("die", Status.STEP_FAILED, "ended in `step` with exit code 5. It printed last: the last words"),
    ("deaf", Status.STEP_FAILED, "with exit code 137"), ("say garbage", Status.MALFORMED, "is no JSON"),
    ("say list", Status.MALFORMED, "a JSON object is needed"), ("say nan", Status.MALFORMED, "NaN"),
    ("say another", Status.MALFORMED, "it needs the id 5"),
    ("say neither", Status.MALFORMED, "either a result or an error"),
    ("say much", Status.MALFORMED, "a line of more than 16777216 bytes")])
def test_a_worker_that_fails_ends_with_its_episodes_and_is_replaced(words, status, told):
    with contextlib.closing(faked(make_task("gymnasium(id='any', workers=2, timeout=60)"))) as task:
        episode, beside, sharing = (begun(task) for _ in range(3))
        pids = [shown(each, "pid") for each in (sharing, beside)]
        assert len(set(pids)) == 2
        error = failure(episode, words)
        assert error.status == status and told in str(error)
        wait_for_end(int(pids[0]))
        lost = failure(sharing, "pid")
        assert lost.status == Status.STEP_FAILED and "has ended" in str(lost)
        assert shown(beside, "pid") == pids[1]
        assert shown(begun(task), "pid") not in pids


def test_a_worker_that_is_killed_from_outside_costs_its_own_episodes_alone(task):
    episode = begun(task)
    beside = begun(task)
    worker = int(shown(episode, "pid"))
    os.kill(worker, signal.SIGKILL)
    lost = failure(episode, "pid")
    assert lost.status == Status.STEP_FAILED and "exit code 137" in str(lost)
    again = begun(task)
    second = int(shown(again, "pid"))
    assert second != worker and failure(beside, "pid").status == Status.STEP_FAILED
    os.kill(second, signal.SIGKILL)
    wait_for_end(second)
    pool = task.pool()
    wait_until(lambda: not pool._slots[0].worker.runs)  # its guard ends a moment later
    assert int(shown(begun(task), "pid")) != second  # and no episode is tried at one that has ended
    assert failure(again, "pid").status == Status.STEP_FAILED


def test_threads_play_at_once_and_no_episode_is_mixed_with_another():
    with contextlib.closing(faked(make_task("gymnasium(id='any', workers=2, timeout=60)"))) as task:
        failures = []

        def played(number):
            for _ in range(10):
                episode = begun(task, number)
                pid = shown(episode, "pid")
                if [shown(episode, "number") for _ in range(5)] != [str(number)] * 5:
                    failures.append(number)
                if shown(episode, "pid") != pid:
                    failures.append(number)
                episode.close()

        threads = [threading.Thread(target=played, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        assert [slot.episodes for slot in task.pool()._slots] == [0, 0]


def test_an_exception_of_the_package_leaves_the_worker_and_its_other_episodes_alone(task):
    other = begun(task)
    error = failure(begun(task), "raise")
    assert error.status == Status.STEP_FAILED
    assert r"ZeroDivisionError: of the\x07 sum (adapter_fake.py" in str(error)
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


def test_an_episode_that_cannot_be_closed_ends_with_its_worker(task):
    episode = begun(task, 15)
    worker = int(shown(episode, "pid"))
    episode.close()
    wait_for_end(worker)
    assert begun(task).step(said("1")).reward == 1


def test_closing_the_task_ends_the_workers_also_one_that_hangs(task):
    episode = begun(task)
    beside = begun(task)
    pool = task.pool()
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
    assert failure(beside, "pid").status == Status.STEP_FAILED
    task.close()
    pool.close()
    with pytest.raises(UserError, match="closed: make another"):
        pool.take()


def test_closing_the_task_ends_a_worker_that_has_not_begun_yet():
    task = faked(make_task("gymnasium(id='hangs', workers=1)"))
    pool = task.pool()
    errors = []

    def begin():
        try:
            pool.take()
        except EnvError as error:
            errors.append(error)

    thread = threading.Thread(target=begin)
    thread.start()
    wait_until(lambda: pool._slots[0].worker is not None)
    task.close()
    thread.join(20)
    assert len(errors) == 1 and "ended in `begin`" in str(errors[0]) and not pool._slots[0].worker.runs


def test_a_python_that_is_not_there_is_told_of_with_how_to_make_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"no environment \.venv-sums in .*run `make sums` .* setting python"):
        python_of("sums", "", "make sums")
    with pytest.raises(UserError, match="'nowhere' is no program.*or run `make sums`"):
        python_of("sums", "nowhere", "make sums")
    python = tmp_path / ".venv-sums" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("no program")
    python.chmod(0o755)
    assert python_of("sums", "", "make sums") == str(python)
    python.unlink()
    launch = Launch("sums", str(python), pathlib.Path(FAKE), environment(()), "make sums", "seconds")
    with pytest.raises(UserError, match="python cannot be started: No such file"):
        Pool(launch, 1, {}, 5).take()


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
