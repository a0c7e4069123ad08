"""The pool: who waits is served in order, who fails harms nobody else, and what is closed leaves nothing."""
import concurrent.futures
import dataclasses
import os
import time

import pytest

from jaxrl_moe.envs.kernels.verdicts.judge import Trials
from jaxrl_moe.envs.kernels.verdicts.pool import NoGpuError, Pool
from jaxrl_moe.envs.kernels.verdicts.verdict import Basis, Fault
from jaxrl_moe.envs.kernels.verdicts.worker import LocalWorker
from jaxrl_moe.sandbox.usage import descendants
from jaxrl_moe.sandbox.working import working_way
from jaxrl_moe.types import EnvError, Status, UserError
from tests.helpers.kernel_judges import NEEDED
from tests.helpers.kernel_workers import RELU, RIGHT, VERDICT, WRONG, ScriptedWorker, scripted_pool
from tests.helpers.waiting import wait_until


def test_one_worker_has_one_candidate_at_a_time_and_those_who_wait_are_served_in_order():
    worker = ScriptedWorker()
    worker.door.clear()
    with scripted_pool(worker) as pool, concurrent.futures.ThreadPoolExecutor(9) as threads:
        futures = []
        for number in range(9):
            futures.append(threads.submit(pool.verdict, RELU, str(number), number))
            wait_until(lambda: len(worker.asked) + pool.waiting == number + 1)  # noqa: B023  # waits here
        assert len(worker.asked) == 1 and pool.waiting == 8
        worker.door.set()
        assert [future.result(20) for future in futures] == [VERDICT] * 9
    assert [source for _, source, _, _ in worker.asked] == [str(number) for number in range(9)]
    assert worker.most == 1 and worker.closed == 1


def test_all_workers_are_at_work_at_once():
    workers = [ScriptedWorker() for _ in range(3)]
    for worker in workers:
        worker.door.clear()
    with scripted_pool(*workers) as pool, concurrent.futures.ThreadPoolExecutor(3) as threads:
        futures = [threads.submit(pool.verdict, RELU, RIGHT, 0) for _ in range(3)]
        wait_until(lambda: all(worker.asked for worker in workers))
        for worker in workers:
            worker.door.set()
        assert [future.result(20) for future in futures] == [VERDICT] * 3


def test_a_worker_that_fails_is_there_for_the_next():
    worker = ScriptedWorker(said={"bad": EnvError(Status.STEP_FAILED, "no"), "odd": UserError("its file")})
    with scripted_pool(worker) as pool:
        for source in ("bad", "odd", "bad"):
            with pytest.raises(UserError):
                pool.verdict(RELU, source, 0)
        assert pool.verdict(RELU, RIGHT, 0) == VERDICT


def test_whoever_waits_for_a_pool_that_closes_is_told_so():
    worker = ScriptedWorker()
    worker.door.clear()
    with concurrent.futures.ThreadPoolExecutor(3) as threads:
        with scripted_pool(worker) as pool:
            futures = [threads.submit(pool.verdict, RELU, RIGHT, 0) for _ in range(3)]
            wait_until(lambda: worker.asked and pool.waiting == 2)
        for future in futures:
            with pytest.raises(UserError, match="closed"):
                future.result(20)
    with pytest.raises(UserError, match="closed"):
        pool.verdict(RELU, RIGHT, 0)


def test_a_timing_goes_to_a_worker_with_a_gpu_and_is_refused_where_there_is_none():
    plain, first, second = ScriptedWorker(), ScriptedWorker("cuda:0"), ScriptedWorker("cuda:1")
    timed = Trials(2, 10)
    with scripted_pool(plain, first, second) as pool:
        pool.verdict(RELU, "a", 0, timed)
        pool.verdict(RELU, "b", 0, timed, gpu="cuda:1")
        pool.verdict(RELU, "c", 0)
        with pytest.raises(UserError, match="cuda:7"):
            pool.verdict(RELU, "d", 0, gpu="cuda:7")
        assert pool.gpus == ["cuda:0", "cuda:1"] and pool.busy == []
    assert [source for _, source, _, _ in first.asked] == ["a"] and first.asked[0][3] == timed
    assert [source for _, source, _, _ in second.asked] == ["b"]
    assert [source for _, source, _, _ in plain.asked] == ["c"]
    with scripted_pool(ScriptedWorker()) as pool, pytest.raises(NoGpuError):
        pool.verdict(RELU, "a", 0, timed)


def test_who_waits_for_a_gpu_holds_up_nobody_who_needs_none():
    plain, gpu = ScriptedWorker(), ScriptedWorker("cuda:0")
    gpu.door.clear()
    with scripted_pool(plain, gpu) as pool, concurrent.futures.ThreadPoolExecutor(2) as threads:
        timed = [threads.submit(pool.verdict, RELU, "timed", 0, Trials(1, 1)) for _ in range(2)]
        wait_until(lambda: gpu.asked and pool.waiting == 1)
        assert pool.busy == ["cuda:0"]
        assert pool.verdict(RELU, "plain", 0) == VERDICT
        gpu.door.set()
        assert [future.result(20) for future in timed] == [VERDICT] * 2
    assert len(gpu.asked) == 2


def test_numbers_that_cannot_be_are_refused():
    for made in (lambda: scripted_pool().__enter__(), lambda: Trials(0), lambda: Trials(1, -1)):
        with pytest.raises(ValueError):
            made()


@NEEDED
@pytest.mark.slow
def test_a_real_worker_survives_its_processes_and_leaves_nothing():
    before = set(descendants(os.getpid()))
    pool = Pool(1, seconds=60, make=lambda _: LocalWorker(way=working_way(), capability=0))
    try:
        assert pool.verdict(RELU, RIGHT, 3).correct
        [worker] = pool.workers
        for process in worker.processes:  # as where the machine has no memory left
            process.cut()
        wait_until(lambda: not any(process.running for process in worker.processes))
        verdict = pool.verdict(RELU, WRONG, 3)
        assert (verdict.basis, verdict.compiled, verdict.fault) == (Basis.INTERPRETER, True, Fault.MISMATCH)
    finally:
        pool.close()
    assert set(descendants(os.getpid())) <= before


@NEEDED
@pytest.mark.slow
def test_a_verdict_at_work_begins_again_where_its_worker_is_renewed():
    worker = LocalWorker(way=working_way(), capability=0)
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        worker.start()
        for delay in (0.0, 0.05, 0.2, 0.4):
            future = threads.submit(worker.verdict, RELU, RIGHT, 1, Trials())
            time.sleep(delay)
            worker.renew()
            assert future.result(600).correct
        future = threads.submit(worker.verdict, RELU, RIGHT, 1, Trials())
        time.sleep(0.1)
        worker.close()
        with pytest.raises(UserError, match="closed"):
            future.result(600)


@NEEDED
@pytest.mark.slow
def test_a_problem_that_cannot_be_run_is_told_as_the_problems_fault():
    worker = LocalWorker(way=working_way(), capability=0, seconds=20)
    try:
        assert worker.verdict(RELU, RIGHT, 1, Trials()).correct
        for file, says in (("import os\nos._exit(3)", "code 3"), ("1 / 0", "ZeroDivisionError"),
                           ("a = []\nwhile True:\n    a.append(b'x' * 10 ** 7)", "too much memory"),
                           ("import os\nwhile True:\n    os.fork()", "unavailable|too many processes")):
            with pytest.raises(UserError, match=says) as caught:
                worker.verdict(dataclasses.replace(RELU, source=file, sizes=({},)), RIGHT, 1, Trials())
            assert not isinstance(caught.value, EnvError)
        assert worker.verdict(RELU, RIGHT, 2, Trials()).correct
    finally:
        worker.close()
