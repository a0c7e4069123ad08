"""Who judges a task's candidates: what an evaluation server is asked and may answer, and what must be there
before a run begins."""
import importlib.util
import sys

import pytest

from jaxrl_moe.envs import make_task
from jaxrl_moe.envs.kernels import judging
from jaxrl_moe.envs.kernels.verdicts.pool import Pool
from jaxrl_moe.envs.kernels.verdicts.told import said
from jaxrl_moe.types import EnvError, UserError
from tests.helpers.json_server import json_server
from tests.helpers.kernels import PROBLEM, RIGHT, WRONG, code, timed

ROW = {"label": PROBLEM}


def told(*verdicts):
    """A server that gives these verdicts in turn; an int is an error of this status."""
    left = list(verdicts)

    def answer(path, body, headers):
        if path == "/backend_info":
            return {"basis": "interpreter"}
        given = left.pop(0)
        return (given, {"detail": "broken"}) if isinstance(given, int) else said(given)

    return json_server(answer)


def begun(task):
    env = task.open(ROW, 0)
    env.reset()
    return env


def test_a_server_is_sent_the_problem_with_its_sizes_and_as_many_trials_as_the_task_says():
    with told(WRONG, RIGHT) as (url, asked):
        task = make_task(f"triton_kernels(url='{url}', trials=7, seed=9)")
        task.ready()
        env = begun(task)
        assert [env.step(code(text)).reward for text in ("first", "second")] == [0.1, 0.3]
        task.close()
    info, first, second = asked
    assert info.path == "/backend_info" and first.path == "/eval"
    assert first.body["original_model_src"] == PROBLEM and second.body["custom_model_src"] == "second\n"
    assert first.body["sizes"] == [{"ROWS": 3}, {"ROWS": 1}] and first.body["seed_num"] == 9
    assert first.body["num_correct_trials"] == 7 and first.body["measure_performance"] is False


def test_a_timing_is_asked_for_where_the_task_measures_and_its_speed_up_is_rewarded():
    with told(timed(2.25)) as (url, asked):
        task = make_task(f"triton_kernels(url='{url}', measure=true, timed_trials=30)")
        step = begun(task).step(code("x"))
        task.close()
    assert step.reward == pytest.approx(0.3 + 1.25) and step.info["timed"] == 1
    assert asked[0].body["measure_performance"] is True and asked[0].body["num_perf_trials"] == 30


def test_the_servers_key_is_sent(monkeypatch):
    monkeypatch.setenv("KERNEL_KEY", "a-key-of-the-server")
    with told(RIGHT) as (url, asked):
        task = make_task(f"triton_kernels(url='{url}', api_key_env='KERNEL_KEY')")
        begun(task).step(code("x"))
        task.close()
    assert any("a-key-of-the-server" in value for value in asked[0].headers.values())


def test_a_server_that_breaks_or_answers_nonsense_is_no_reward():
    with told(500) as (url, _):
        task = make_task(f"triton_kernels(url='{url}')")
        with pytest.raises(EnvError):
            begun(task).step(code("x"))
        task.close()
    with json_server(lambda *_: {"compiled": "yes"}) as (url, _):
        task = make_task(f"triton_kernels(url='{url}')")
        with pytest.raises(EnvError, match="metadata"):
            begun(task).step(code("x"))
        task.close()


def test_a_run_is_not_begun_where_no_such_server_answers():
    with json_server(lambda *_: (404, {})) as (url, _), pytest.raises(UserError):
        make_task(f"triton_kernels(url='{url}')").ready()
    other = json_server(lambda *_: {"name": "another"})
    with other as (url, _), pytest.raises(UserError, match="evaluation server"):
        make_task(f"triton_kernels(url='{url}')").ready()


def test_a_run_that_measures_is_not_begun_with_a_server_that_has_no_gpu():
    with json_server(lambda *_: {"basis": "interpreter", "timed": False}) as (url, _):
        make_task(f"triton_kernels(url='{url}')").ready()
        with pytest.raises(UserError, match="has no GPU, and candidates are to be timed"):
            make_task(f"triton_kernels(url='{url}', measure=true)").ready()
    with json_server(lambda *_: {"basis": "device", "timed": True}) as (url, _):
        make_task(f"triton_kernels(url='{url}', measure=true)").ready()


def test_operators_of_torch_are_refused_unless_the_task_allows_them():
    with told(RIGHT, RIGHT) as (url, asked):
        for settings in ("", ", torch_operators='allowed'"):
            task = make_task(f"triton_kernels(url='{url}'{settings})")
            begun(task).step(code("x"))
            task.close()
    assert [each.body.get("torch_operators", False) for each in asked] == [False, True]


def test_without_a_server_torch_and_triton_must_be_there_or_another_python_that_has_them(monkeypatch):
    monkeypatch.setattr(judging, "working_way", lambda: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "triton" else object())
    with pytest.raises(UserError, match=r"triton is not installed: pip install 'jaxrl-moe\[kernels\]'"):
        make_task("triton_kernels").ready()
    make_task(f"triton_kernels(python='{sys.executable}')").ready()
    with pytest.raises(UserError, match="'/nowhere/python' is no program"):
        make_task("triton_kernels(python='/nowhere/python')").ready()


def test_without_a_server_a_pool_of_this_machine_judges_which_has_started_nothing_yet(monkeypatch):
    made = []
    monkeypatch.setattr(judging, "Pool", lambda *args, **options: made.append((args, options)) or Closed())
    task = make_task("triton_kernels(workers=3, trials=2, timeout=9)")
    assert not made
    begun(task)
    begun(task)
    task.close()
    ((workers, python), options), = made
    assert (workers, python, options["seconds"], options["trials"].correct) == (3, sys.executable, 9, 2)
    assert options["trials"].timed == 0 and Pool.__init__.__kwdefaults__.keys() >= options.keys()


class Closed:
    def close(self):
        pass
