"""Logs at a resume: what lies beyond the checkpoint is set aside, what is missing is told, and nothing is
emptied."""
import json
import os
import re

import pytest

from jaxrl_moe import log_files, partials
from jaxrl_moe.runs import logs as run_logs
from jaxrl_moe.runs import writers
from jaxrl_moe.runs.logs import EVENTS, METRICS, TRAJECTORIES, Logs


def write(folder, name, steps):
    folder.mkdir(exist_ok=True)
    with (folder / name).open("a") as file:
        file.writelines(json.dumps({"step": step}) + "\n" for step in steps)


def steps(path):
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def logged(folder):
    """Logs of six steps, and what a checkpoint of step 4 says of them."""
    logs = Logs(folder)
    for name, rows in ((METRICS, [0, 1, 2, 3, 4, 5, 6]), (TRAJECTORIES, [1, 1, 2, 2, 3, 3, 4, 4, 5, 5])):
        write(folder, name, rows)
        for step in rows:
            if step <= 4:
                logs.tallies[name].add(step)
    board = writers.TensorBoard(folder / EVENTS, logs.tallies[EVENTS])
    for step in (1, 2, 3, 4):
        board.write(step, {"a": 1.0, "b": 2.0})
    board.close()
    return json.loads(json.dumps(logs.to_json()))


def told(folder, step, known):
    logs = Logs(folder)
    return list(logs.cut_back(step, known)), logs


def test_a_checkpoint_knows_how_many_rows_of_which_steps_its_logs_had(tmp_path):
    known = logged(tmp_path)
    assert known == {METRICS: {"rows": 5, "steps": [[0, 4]]}, TRAJECTORIES: {"rows": 8, "steps": [[1, 4]]},
                     EVENTS: {"rows": 8, "steps": [[1, 4]]}}
    lines, logs = told(tmp_path, 4, known)
    assert logs.to_json() == known
    assert len(lines) == 2 and "2 rows (steps 5 to 6)" in lines[0] and "2 rows (step 5)" in lines[1]
    assert steps(tmp_path / METRICS) == [0, 1, 2, 3, 4]
    assert steps(tmp_path / f"{METRICS}.after_step_4") == [5, 6]
    assert told(tmp_path, 4, known)[0] == []


def test_what_is_set_aside_twice_stands_in_two_files(tmp_path):
    for rows in ([1, 2], [2, 3]):
        write(tmp_path, METRICS, rows)
        told(tmp_path, 1, {})
    assert [steps(tmp_path / f"{METRICS}.after_step_1{end}") for end in ("", "_2")] == [[2], [2, 3]]


def test_without_a_checkpoint_the_logs_of_the_earlier_start_get_other_names(tmp_path):
    logged(tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in (METRICS, TRAJECTORIES)}
    lines, logs = told(tmp_path, -1, {})
    assert len(lines) == 3 and all("no checkpoint to go on from" in line for line in lines)
    assert not logs.exist() and not logs.to_json()
    for name, content in before.items():
        assert (tmp_path / f"{name}.earlier").read_bytes() == content
    assert list((tmp_path / f"{EVENTS}.earlier").glob("*tfevents*"))


@pytest.mark.parametrize("step", [-1, 2])
def test_rows_of_a_killed_start_are_set_aside_until_a_checkpoint_holds_them_again(tmp_path, step):
    unsaved = {f"{METRICS}.unsaved_to_step_6", f"{TRAJECTORIES}.unsaved_to_step_5",
               f"{EVENTS}.unsaved_to_step_4"}
    for _ in range(2):  # killed at the same step again
        for name in (METRICS, TRAJECTORIES, EVENTS):
            partials.remove(tmp_path / name)
        logged(tmp_path)
        logs = Logs(tmp_path)
        assert len(list(logs.cut_back(step, {}, due=6))) == 3
        assert {path.name for path in tmp_path.iterdir()} >= unsaved
        assert not list(tmp_path.glob("*.after*")) + list(tmp_path.glob("*.earlier*"))
    for done, left in ((3, 3), (4, 2), (5, 1), (6, 0)):
        logs.saved(done)
        assert len(list(tmp_path.glob("*.unsaved*"))) == left


@pytest.mark.parametrize("step, due", [(-1, 3), (2, 3), (2, -1)])
def test_rows_from_beyond_the_checkpoint_that_was_due_are_kept(tmp_path, step, due):
    logged(tmp_path)
    logs = Logs(tmp_path)
    list(logs.cut_back(step, {}, due))
    logs.saved(100)
    aside = "earlier" if step < 0 else f"after_step_{step}"
    assert steps(tmp_path / f"{METRICS}.{aside}")[-1] == 6 and not list(tmp_path.glob("*.unsaved*"))


@pytest.mark.parametrize("damage, expected", [
    (lambda path: path.unlink(), "is gone; what it says of steps 0 to 4 is missing"),
    (lambda path: path.write_text(""), "has 0 of the 5 rows.*steps 0 to 4"),
    (lambda path: path.write_text('{"step": 0}\n{"step": 1}\n{"step": 3}\n'),
     "has 3 of the 5 rows.*steps 2, 4 "),
    (lambda path: path.write_bytes(path.read_bytes()[:30]), "has 2 of the 5 rows.*steps 2 to 4")])
def test_a_log_that_lost_rows_is_told_with_the_steps(tmp_path, damage, expected):
    known = logged(tmp_path)
    damage(tmp_path / METRICS)
    lines, _ = told(tmp_path, 4, known)
    (line,) = [line for line in lines if line.startswith("Warning") and METRICS in line]
    assert re.search(expected, line), line


def test_lost_trajectories_and_tensorboard_files_are_told_too(tmp_path):
    known = logged(tmp_path)
    (tmp_path / TRAJECTORIES).write_text('{"step": 1}\n{"step": 1}\n{"step": 2}\n{"step": 3}\n{"step": 4}\n')
    for path in (tmp_path / EVENTS).iterdir():
        path.unlink()
    lines, _ = told(tmp_path, 4, known)
    warnings = [line for line in lines if line.startswith("Warning")]
    assert "trajectories.jsonl has 5 of the 8 rows" in warnings[0] and "is missing" not in warnings[0]
    assert "tensorboard has 0 of the 8 rows" in warnings[1] and "steps 1 to 4" in warnings[1]


@pytest.mark.parametrize("name", [
    f"{METRICS}.tmp", f"{TRAJECTORIES}.tmp", "moe_load.jsonl.tmp", "served.jsonl.tmp", "config.json.tmp",
    f"{METRICS}.after_step_2.tmp", "reward_curve.png.tmp", "non_finite_step_3.npz.tmp", "wandb_id.tmp",
    f"{EVENTS}/events.out.tfevents.1.tmp", f"{EVENTS}.after_step_2/events.out.tfevents.1.tmp"])
def test_a_temporary_file_of_a_killed_process_is_removed_by_the_next_start(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"half")
    (tmp_path / "notes.tmp").write_text("not ours")
    told(tmp_path, 2, {})
    assert not (tmp_path / name).exists() and (tmp_path / "notes.tmp").exists()


@pytest.mark.parametrize("number", [1, 2])
def test_a_cut_killed_at_whatever_rename_loses_no_row(tmp_path, monkeypatch, number):
    calls = []

    def replace(source, target):
        calls.append(source)
        if len(calls) == number:
            raise KeyboardInterrupt
        real(source, target)

    real = os.replace
    write(tmp_path, METRICS, [1, 2, 3])
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", replace)
        log_files.cut_lines(tmp_path / METRICS, 1)
    assert steps(tmp_path / METRICS) == [1, 2, 3]
    told(tmp_path, 1, {})
    assert steps(tmp_path / METRICS) == [1] and not list(tmp_path.glob("*.tmp"))
    assert steps(tmp_path / f"{METRICS}.after_step_1") == [2, 3]


def test_steps_are_shown_as_ranges():
    assert log_files.shown([3, 1, 2, 7, 9, 8]) == "steps 1 to 3, 7 to 9"
    assert log_files.shown([4]) == "step 4" and log_files.shown([4, 5]) == "steps 4 to 5"
    assert log_files.shown(range(0, 14, 2)) == "steps 0, 2, 4, 6, 8 and 2 more ranges"


def test_damaged_knowledge_of_logs_is_refused():
    with pytest.raises(run_logs.OutsideError, match="steps is no list of pairs"):
        list(run_logs._told_missing(run_logs.pathlib.Path("x"), log_files.Tally(),
                                    run_logs.Fields({"rows": 1, "steps": [1]}, "logs")))
