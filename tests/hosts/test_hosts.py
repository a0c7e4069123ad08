"""Several processes over loopback: what they agree on, whole runs against one process, and what happens when
one ends."""
import itertools
import pathlib
import re
import signal
import time

import pytest

from jaxrl_moe.hosts import hosts, launch
from tests.helpers.processes import compare, finished, rows, start, train, wait
from tests.helpers.tiny_run import make_files


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return make_files(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def alone(files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone") / "run"
    finished(train(files, folder, 1))
    return folder


@pytest.fixture(scope="module")
def two(files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("two") / "run"
    return folder, finished(train(files, folder, 2))


@pytest.mark.parametrize("fault, who, reason", [
    ("none", (), ""), ("second", (0, 1), "grader is out of order"),
    pytest.param("grader", (0, 1), "grader is out of order", marks=pytest.mark.slow),
    pytest.param("bug", (0, 1), "'lost'", marks=pytest.mark.slow)])
def test_processes_agree_and_fail_together(fault, who, reason):
    start_time = time.monotonic()
    results = wait(start("tests/hosts/hosts_case.py", 2, f"--fault={fault}"), 60)
    for index, (code, out, err) in enumerate(results):
        assert code == (1 if who else 0), err
        assert reason in " ".join(err.split())
        assert ("all agreed" in out) == (not who and index == 0)
    assert time.monotonic() - start_time < 60


def assert_tells_of_a_death(err, victim):
    """One paragraph, which names the dead; JAX's own thread may have said a few lines before."""
    told = " ".join(err.split())
    assert f"Process {victim} of the 2 processes of this job died without a word" in told, err
    assert err.count("Error: ") == 1 and "Traceback" not in err and "Free some space" not in err
    assert "Fatal Python error" not in err and len(err.splitlines()) < 35, err


@pytest.mark.parametrize("victim", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_process_that_dies_without_a_word_ends_the_others_in_seconds(victim):
    start_time = time.monotonic()
    results = wait(start("tests/hosts/hosts_case.py", 2, f"--fault=dead{victim}"), 60)
    assert time.monotonic() - start_time < 60
    assert results[victim][0] == -signal.SIGKILL and results[1 - victim][0] == 1
    assert_tells_of_a_death(results[1 - victim][2], victim)


def test_two_processes_draw_and_learn_what_one_does(alone, two):
    folder, results = two
    compare(folder, alone)
    assert "RL 2/2" in results[0][1] and "RL 2/2" not in results[1][1]


def test_processes_with_other_settings_are_refused(files, tmp_path):
    for code, _, err in wait(train(files, tmp_path / "run", 2, last=("--config.seed=7",))):
        assert code == 1 and "seed = 7 (there 0)" in " ".join(err.split())


@pytest.mark.slow
def test_four_processes_draw_and_learn_what_one_does(files, alone, tmp_path):
    finished(train(files, tmp_path / "run", 4))
    compare(tmp_path / "run", alone)


@pytest.mark.slow
@pytest.mark.parametrize("transport", [{}, {
    "mesh__transport": "capacity",
    "mesh__capacity_factor": 4.0
}], ids=["gather", "capacity"])
def test_experts_split_inside_and_over_two_processes_learn_what_one_process_does(
        files, alone, tmp_path, transport):
    axes = {"mesh__data": 1, "mesh__expert": 4, "mesh__dispatch": "hybrid"}
    finished(train(files, tmp_path / "run", 2, **axes, **transport))
    compare(tmp_path / "run", alone)
    assert all(row["moe/dropped"] == 0 for row in rows(tmp_path / "run", "metrics"))


def without_times(folder):
    return [{
        key: value for key, value in row.items() if not re.search("^(time|perf)/|per_s$", key)
    } for row in rows(folder, "metrics")]


def until(condition, processes, seconds=200):
    for _ in range(seconds * 20):
        if condition():
            return
        assert all(process.poll() is None for process in processes), wait(processes)
        time.sleep(0.05)
    raise AssertionError(wait(processes, 1))


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_ends_the_others_and_the_run_resumes_to_the_same_bits(files, two, tmp_path, victim):
    folder = tmp_path / "run"
    processes = train(files, folder, 2)
    until((folder / "checkpoints" / "1").exists, processes)
    processes[victim].send_signal(signal.SIGKILL)  # the second step is under way
    start_time = time.monotonic()
    code, _, err = wait(processes)[1 - victim]
    assert time.monotonic() - start_time < 30
    assert code == 1
    assert_tells_of_a_death(err, victim)
    finished(train(files, folder, 2))
    assert without_times(folder) == without_times(two[0])
    assert rows(folder, "trajectories") == rows(two[0], "trajectories")
    assert (folder / "model/model.safetensors").read_bytes() == (two[0]
                                                                 / "model/model.safetensors").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_that_stands_still_is_missed_by_its_heartbeat(victim):
    processes = start("tests/hosts/hosts_case.py", 2, f"--fault=still{victim}")
    try:
        stat = pathlib.Path(f"/proc/{processes[victim].pid}/stat")
        until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", processes)
        start_time = time.monotonic()
        _, err = processes[1 - victim].communicate(timeout=120)
        assert time.monotonic() - start_time < 1.5 * launch.HEARTBEAT
        assert processes[1 - victim].returncode == 1
        assert "died without a word" in " ".join(err.split()), err[-3000:]
    finally:
        for process in processes:
            process.kill()  # it reaches what is stopped, too
            process.communicate()


@pytest.mark.slow
def test_processes_with_dropout_draw_the_masks_of_one_process_with_the_same_mesh(files, alone, tmp_path):
    folders = [tmp_path / name for name in ("one", "two")]
    for count, folder in enumerate(folders, 1):
        finished(train(files, folder, count, lora__dropout=0.3))
    compare(*folders)
    assert rows(folders[0], "metrics")[-1]["policy/grad_norm"] != rows(alone, "metrics")[-1][
        "policy/grad_norm"]


@pytest.mark.slow
def test_sigterm_on_one_process_stops_all_at_the_same_step(files, tmp_path):
    folder = tmp_path / "run"
    processes = train(files, folder, 2, train__steps=1000, checkpoint__every=0)
    until(lambda: (folder / "metrics.jsonl").exists() and rows(folder, "metrics"), processes)
    processes[1].send_signal(signal.SIGTERM)
    results = finished(processes)
    last = rows(folder, "metrics")[-1]["step"]
    assert "Stopped by SIGTERM" in results[0][1] and last < 1000
    assert [path.name for path in (folder / "checkpoints").iterdir() if path.name.isdigit()] == [str(last)]


def test_one_process_answers_itself():
    assert hosts.leads() and not hosts.several()
    assert hosts.from_leader(lambda: {"a": (1, 2)}) == {"a": (1, 2)}
    assert hosts.raised("stop", True) and not hosts.raised("stop", False) and hosts.smallest(3) == 3
    order = itertools.count()
    hosts.leader_first(lambda: next(order))
    assert next(order) == 1
