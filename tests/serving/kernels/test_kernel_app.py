"""The evaluation server: what is asked is done or refused in words, and nothing is judged twice."""
import concurrent.futures
import contextlib
import dataclasses
import json
import os
import subprocess
import sys

import httpx
import pytest

from jaxrl_moe.envs.kernels.verdicts.judge import Trials
from jaxrl_moe.envs.kernels.verdicts.told import heard, said
from jaxrl_moe.envs.kernels.verdicts.verdict import Basis, Fault, Timing, Verdict
from jaxrl_moe.sandbox.usage import descendants
from jaxrl_moe.serving.http.bodies import MOST_BYTES
from jaxrl_moe.serving.kernels import launch
from jaxrl_moe.serving.kernels.bodies import LONGEST_SOURCE
from jaxrl_moe.serving.kernels.gpus import Gpu, gpus_of
from jaxrl_moe.serving.kernels.launch import KernelServerOptions, make_server, versions_of
from jaxrl_moe.types import EnvError, Status, UserError
from tests.helpers.kernel_judges import NEEDED
from tests.helpers.kernel_workers import (
    RELU,
    RIGHT,
    VERDICT,
    VERSIONS,
    WRONG,
    ScriptedWorker,
    eval_body,
    kernel_server,
)
from tests.helpers.waiting import wait_until

SLOW = Verdict(Basis.INTERPRETER, fault=Fault.TIMED_OUT, message="It gave no answer: it took too long.")
TIMED = dataclasses.replace(VERDICT, basis=Basis.DEVICE, timing=Timing(2.0, 1.0, 3.0, 7, 5.0, 4.0))
NOT_UNDERSTOOD = (
    ({"backend": "tilelang"}, "triton"), ({"num_correct_trials": 0}, "num_correct_trials"),
    ({"num_correct_trials": 5.0}, "num_correct_trials"), ({"num_correct_trials": True}, "num_correct_trials"),
    ({"num_perf_trials": -1}, "num_perf_trials"), ({"seed_num": "42"}, "seed_num"),
    ({"seed_num": -1}, "seed_num"), ({"sizes": {"ROWS": 1}}, "sizes"),
    ({"measure_performance": 1}, "measure_performance"), ({"verbose": True}, "verbose"),
    ({"sizes": [{"ROWS": -1}]}, "sizes"), ({"sizes": [{"ROWS": 1.5}]}, "sizes"),
    ({"custom_model_src": None}, "custom_model_src"), ({"preferred_device": 1.5}, "preferred_device"),
    ({"custom_model_src": "a" * (LONGEST_SOURCE + 1)}, "custom_model_src"))


def ask(url, body, path="/eval", **options):
    return httpx.post(f"{url}{path}", json=body, timeout=30, **options)


def error(answer):
    return answer.status_code, answer.json()["error"]["code"], answer.json()["error"]["message"]


def test_a_candidate_is_judged_as_the_body_says():
    worker = ScriptedWorker()
    with kernel_server(worker) as (url, _):
        answer = ask(url, eval_body(seed_num=7, num_correct_trials=3, num_perf_trials=9, backend="cuda",
                                    measure_performance=False, preferred_device=None, torch_operators=True))
    assert answer.status_code == 200 and answer.json() == said(VERDICT)
    [(problem, source, seed, trials)] = worker.asked
    assert (problem.source, problem.sizes, source) == (RELU.source, RELU.sizes, RIGHT)
    assert problem.torch_operators and (seed, trials) == (7, Trials(3, 0))


def test_absent_fields_are_kernelbenchs_defaults():
    worker = ScriptedWorker()
    with kernel_server(worker) as (url, _):
        assert ask(url, {"original_model_src": "a", "custom_model_src": "b"}).status_code == 200
    [(problem, _, seed, trials)] = worker.asked
    assert (problem.sizes, problem.trials, problem.torch_operators) == ((), 5, False)
    assert (seed, trials) == (42, Trials(5, 0))


def test_a_gpu_times_unless_it_is_told_not_to():
    worker = ScriptedWorker("cuda:1", {RIGHT: TIMED})
    with kernel_server(worker) as (url, _):
        told = ask(url, eval_body(preferred_device=1, num_perf_trials=11)).json()
        ask(url, eval_body(preferred_device="cuda:1", measure_performance=False))
        status = httpx.get(f"{url}/gpu_status").json()
        info = httpx.get(f"{url}/backend_info").json()
    assert heard(told) == TIMED
    assert [trials for *_, trials in worker.asked] == [Trials(5, 11), Trials(5, 0)]
    assert status == {"gpus": [{"device": "cuda:1", "busy": False}], "total": 1, "available": 1}
    assert (info["basis"], info["timed"]) == ("device", True)


def test_a_timing_without_a_gpu_is_refused_with_503_and_an_unknown_gpu_with_400():
    with kernel_server(ScriptedWorker()) as (url, _):
        status, code, message = error(ask(url, eval_body(measure_performance=True)))
        assert (status, code) == (503, "no_gpu") and "--gpus" in message
        for device in (0, "cuda:0", "tpu", -1):
            status, _, message = error(ask(url, eval_body(preferred_device=device)))
            assert status == 400 and "there is: none" in message
        assert httpx.get(f"{url}/gpu_status").json() == {"gpus": [], "total": 0, "available": 0}


def test_a_body_that_says_what_is_not_understood_is_refused():
    worker = ScriptedWorker()
    with kernel_server(worker) as (url, _):
        for fields, named in NOT_UNDERSTOOD:
            status, _, message = error(ask(url, eval_body() | fields))
            assert status == 400 and named in message
    assert not worker.asked


def test_a_body_that_is_too_large_is_refused_with_413_and_a_wrong_key_with_401():
    with kernel_server(ScriptedWorker(), api_key="secret") as (url, _):
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            for path in ("/eval", "/reset_devices", "/cleanup"):
                assert ask(url, eval_body(), path, headers=headers).status_code == 401
            assert httpx.get(f"{url}/gpu_status", headers=headers).status_code == 401
        assert httpx.get(f"{url}/health").status_code == 200
        key = {"Authorization": "Bearer secret"}
        assert ask(url, eval_body(), headers=key).status_code == 200
        large = httpx.post(f"{url}/eval", content=b"[" + b" " * MOST_BYTES + b"]",
                           headers=key | {"Content-Type": "application/json"})
        assert large.status_code == 413


def test_a_candidate_that_takes_too_long_is_told_with_504_and_is_judged_again_when_it_is_asked():
    worker = ScriptedWorker(said={RIGHT: SLOW})
    with kernel_server(worker) as (url, _):
        answers = [ask(url, eval_body()) for _ in range(2)]
    for answer in answers:
        assert error(answer) == (504, "timed_out", SLOW.message)
        assert heard(answer.json()) == SLOW
    assert len(worker.asked) == 2  # on a machine that is less busy it may be in time


def test_what_has_been_judged_is_not_judged_again_until_it_is_forgotten():
    worker = ScriptedWorker()
    with kernel_server(worker) as (url, service):
        for _ in range(3):
            assert ask(url, eval_body()).json() == said(VERDICT)
        assert len(worker.asked) == 1
        others = [{"seed_num": 1}, {"num_correct_trials": 6}, {"sizes": []}, {"custom_model_src": "x"},
                  {"original_model_src": "x"}, {"torch_operators": True}]
        for fields in others:
            ask(url, eval_body() | fields)
        assert len(worker.asked) == 1 + len(others)
        ask(url, eval_body(num_perf_trials=5))  # of which nothing is done
        assert len(worker.asked) == 1 + len(others)
        assert ask(url, {}, "/cleanup").json() == {"status": "ok", "verdicts_forgotten": 1 + len(others)}
        ask(url, eval_body())
        assert len(worker.asked) == 2 + len(others)
        assert service.answers["none", "kept"] == 3


def test_verdicts_in_a_file_outlive_the_server_and_not_the_versions_they_hold_for(tmp_path, monkeypatch):
    for workers, versions in ((1, VERSIONS), (0, VERSIONS), (1, VERSIONS | {"triton": "3.9.1"})):
        monkeypatch.setattr("tests.helpers.kernel_workers.VERSIONS", versions)
        worker = ScriptedWorker()
        with kernel_server(worker, cache=str(tmp_path / "verdicts.db")) as (url, _):
            assert ask(url, eval_body()).json() == said(VERDICT)
        assert len(worker.asked) == workers


def test_equal_calls_at_once_are_judged_once_and_others_wait_as_far_as_there_is_room():
    worker = ScriptedWorker()
    worker.door.clear()
    with (kernel_server(worker, queue=1) as (url, service),
          concurrent.futures.ThreadPoolExecutor(8) as threads):
        equal = [threads.submit(ask, url, eval_body()) for _ in range(3)]
        wait_until(lambda: worker.asked)
        waiting = threads.submit(ask, url, eval_body(seed_num=1))
        wait_until(lambda: service.held == 2)
        full = ask(url, eval_body(seed_num=2))
        assert full.status_code == 429 and full.headers["Retry-After"]
        assert httpx.get(f"{url}/health").json()["held"] == 2
        worker.door.set()
        assert [future.result().json() for future in [*equal, waiting]] == [said(VERDICT)] * 4
        assert len(worker.asked) == 2
        wait_until(lambda: service.held == 0)


def test_a_sandbox_that_fails_is_no_verdict_and_nothing_of_it_is_kept():
    worker = ScriptedWorker(said={RIGHT: EnvError(Status.STEP_FAILED, "no memory is left")})
    with kernel_server(worker) as (url, _):
        assert error(ask(url, eval_body())) == (503, "not_judged", "no memory is left")
        worker.said.clear()
        assert ask(url, eval_body()).json() == said(VERDICT)


def test_a_problem_that_cannot_be_run_is_the_callers_to_mend():
    worker = ScriptedWorker(said={RIGHT: UserError("The problem's own file fails: NameError.")})
    with kernel_server(worker) as (url, _):
        assert error(ask(url, eval_body()))[0] == 400


def test_all_workers_are_started_anew_when_that_is_asked():
    workers = [ScriptedWorker(), ScriptedWorker()]
    with kernel_server(*workers) as (url, _):
        assert httpx.post(f"{url}/reset_devices").json() == {"status": "ok", "workers": 2}
        assert ask(url, {}, "/reset_devices").status_code == 200
        assert ask(url, {"device": 0}, "/reset_devices").status_code == 400
        lines = httpx.get(f"{url}/metrics").text.splitlines()
    assert [worker.renewed for worker in workers] == [2, 2] and "jaxrl_moe_kernel_resets_total 2" in lines
    assert [worker.closed for worker in workers] == [1, 1]


def test_the_server_names_what_its_verdicts_rest_on():
    with kernel_server(ScriptedWorker()) as (url, _):
        info = httpx.get(f"{url}/backend_info").json()
        health = httpx.get(f"{url}/health").json()
    assert info == {"backends": ["triton", "cuda"], "basis": "interpreter", "timed": False} | VERSIONS
    assert health == {"status": "ok", "basis": "interpreter", "workers": 1, "held": 0}


@pytest.mark.parametrize("options, named", [
    ({"gpus": "7"}, "no GPU 7"), ({"gpus": "a"}, "--gpus"), ({"gpus": "0,0"}, "each once"),
    ({"gpus": "0", "workers": 2}, "one worker"), ({"python": "/no/such/python"}, "--python"),
    ({"python": "/bin/cat"}, "no Python")])
def test_options_that_cannot_be_kept_are_refused_before_anything_starts(options, named, two_gpus, versions):
    with pytest.raises(UserError, match=named):
        make_server(KernelServerOptions(**({"python": str(versions)} | options)))


def test_gpus_are_those_that_the_driver_tells_of(two_gpus):
    first, second = gpus_of("0, 1")
    assert first == Gpu(0, "NVIDIA H100 80GB HBM3", 90) and second == Gpu(1, "NVIDIA B200", 100)
    assert gpus_of("1") == [second] and gpus_of("") == []
    two_gpus("echo no devices; exit 9")
    with pytest.raises(UserError, match="no devices"):
        gpus_of("0")
    two_gpus("echo what")
    with pytest.raises(UserError, match="what"):
        gpus_of("0")


@pytest.fixture
def two_gpus(tmp_path, monkeypatch):
    """A driver's program; it may be given another script."""
    def tells(script):
        path = tmp_path / "bin" / "nvidia-smi"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    tells("echo '0, NVIDIA H100 80GB HBM3, 9.0'; echo '1, NVIDIA B200, 10.0'")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return tells


@pytest.fixture
def versions(tmp_path):
    """An interpreter that says that it has all."""
    return interpreter(tmp_path / "whole", torch="2.13.0", triton="3.9.0")


def interpreter(path, **has):
    path.write_text(f"#!/bin/sh\necho '{json.dumps(has)}'\n")
    path.chmod(0o755)
    return path


def test_an_interpreter_without_triton_is_refused_with_the_extra_to_install(tmp_path):
    with pytest.raises(UserError, match="kernels"):
        versions_of(str(interpreter(tmp_path / "bare", torch="2.13.0", triton="")))


@contextlib.contextmanager
def real_server(**options):
    server, service = make_server(KernelServerOptions(port=0, workers=1, grace=1, **options))
    with server:
        yield server.url, service


@NEEDED
def test_a_real_candidate_is_judged_in_sandboxes_of_which_nothing_is_left():
    before = set(descendants(os.getpid()))
    with real_server(capability=0) as (url, _):
        right = heard(ask(url, eval_body()).json())
        wrong = heard(ask(url, eval_body(WRONG)).json())
        broken = ask(url, eval_body(problem=dataclasses.replace(RELU, source="x = 1 / 0")))
    assert right == Verdict(Basis.INTERPRETER, compiled=True, correct=True, trials=5)
    assert (wrong.compiled, wrong.fault, wrong.trials) == (True, Fault.MISMATCH, 0)
    assert broken.status_code == 400 and "ZeroDivisionError" in broken.text
    assert set(descendants(os.getpid())) <= before


@NEEDED
@pytest.mark.slow
def test_a_real_candidate_that_loops_is_told_with_504_and_the_next_is_judged():
    loop = RIGHT.replace("        x = x.contiguous()\n", "        x = x.contiguous()\n        n = 1\n"
                         "        for _ in range(10 ** 12):\n            n = n * 3 % 7\n")
    assert loop != RIGHT
    with real_server(seconds=4.0) as (url, _):
        right = heard(httpx.post(f"{url}/eval", json=eval_body(), timeout=120).json())
        assert right.correct and right.target == "sm_90"
        late = httpx.post(f"{url}/eval", json=eval_body(loop), timeout=120)
        assert heard(late.json()).fault == Fault.TIMED_OUT and late.status_code == 504
        assert httpx.post(f"{url}/eval", json=eval_body(seed_num=1), timeout=120).json()["correctness"]


@pytest.mark.slow
def test_generated_requests_meet_no_error_of_the_servers(tmp_path):
    with kernel_server(ScriptedWorker("cuda:0"), api_key="k") as (url, service):
        schema = httpx.get(f"{url}/openapi.json", headers={"Authorization": "Bearer k"}).json()
        (tmp_path / "openapi.json").write_text(json.dumps(schema))
        command = [sys.executable, "-m", "schemathesis.cli", "run", str(tmp_path / "openapi.json"),
                   f"--url={url}", "--header=Authorization: Bearer k", "--checks=not_a_server_error",
                   "--phases=examples,coverage,fuzzing", "--max-examples=60", "--request-timeout=60",
                   "--no-color"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
        assert service.answers["none", "judged"] > 10 and service.held == 0


def test_there_are_as_many_workers_as_cores_within_reason(monkeypatch):
    for cores, workers in ((1, 1), (8, 8), (128, 16), (None, 1)):
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        assert launch.count_of(KernelServerOptions(), []) == workers
    assert launch.count_of(KernelServerOptions(workers=40), []) == 40
    assert launch.count_of(KernelServerOptions(), [Gpu(0, "H100", 90)] * 3) == 3
