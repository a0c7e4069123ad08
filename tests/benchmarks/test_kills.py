"""The kills' own logic: when they come, what is said of a run that differs, and how a disk becomes full; and
a few of them for real."""
import errno
import json
import pathlib
import random
import signal
import subprocess
import sys

import pytest

from benchmarks.kills import disks, full, runs, signals, text
from jaxrl_moe.config import resolve
from tests.helpers import runs as helpers
from tests.helpers.settings import refuse_settings


def test_the_first_moments_of_the_runs_are_spread_over_a_whole_life():
    rows = signals.moments(100, 10.0, random.Random(0))
    assert sum(map(len, rows)) == 100 and all(0 <= moment <= 10 for row in rows for moment in row)
    assert [int(first * len(rows) / 10) for first in sorted(row[0] for row in rows)] == list(range(len(rows)))
    again, other = (signals.moments(100, 10.0, random.Random(seed)) for seed in (0, 1))
    assert rows == again != other


def test_the_recipe_is_a_configuration_that_is_accepted(tmp_path):
    refuse_settings(resolve(runs.settings(str(tmp_path / "run"))))


def make_run(folder: pathlib.Path) -> pathlib.Path:
    rows = "".join(json.dumps({"step": step, "reward": 0.5, "time/step_s": step}) + "\n" for step in (1, 2))
    contents = {"metrics.jsonl": rows, "sft/metrics.jsonl": rows, "adapter/a.safetensors": "a",
                "trajectories.jsonl": "t", "checkpoints/2/state/d/random": "c", "sft/checkpoints/2/meta": "m",
                "tensorboard/events.1": "e", "curve.png": "p"}
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


@pytest.mark.parametrize("damage, content, said", [
    ("", "", []), ("tensorboard/events.2", "e", []), ("curve.png", "other", []),
    ("checkpoints/2/state/d/more", "c", []), ("adapter/a.safetensors", "b", ["other bytes: adapter/a.safe"]),
    ("trajectories.jsonl", "", ["other bytes: trajectories"]),
    (".model.partial-1/x", "", ["left over: .model.p"]), ("metrics.jsonl.tmp", "", ["left over: metric"]),
    ("checkpoints/3/state/x", "", ["left over: checkpoints/3"]),
    ("checkpoints/3.orbax-checkpoint-tmp/x", "", ["left over: checkpoints/3.orbax"]),
    ("metrics.jsonl", '{"step": 1}\n', ["other metrics in ."]),
    ("adapter/a.safetensors", None, ["missing: adapter/a"])])
def test_each_difference_from_an_undisturbed_run_is_told(tmp_path, monkeypatch, damage, content, said):
    monkeypatch.setattr(helpers, "arrays", lambda run: {})
    undisturbed = make_run(tmp_path / "undisturbed")
    run = make_run(tmp_path / "run")
    if content is None:
        (run / damage).unlink()
        (run / damage).parent.rmdir()
    elif damage:
        (run / damage).parent.mkdir(exist_ok=True, parents=True)
        (run / damage).write_text(content)
    found = list(runs.differences(run, undisturbed))
    assert len(found) == len(said) and all(part in line for part, line in zip(said, found)), found


@pytest.mark.parametrize("ended, allowed, said", [
    (runs.Ended(0, ""), [0], []), (runs.Ended(1, "Error: a"), [0], ["ended with 1: Error: a"]),
    (runs.Ended(130, "Error: interrupted\n"), [0, 130], []),
    (runs.Ended(130, "Traceback (most\nError"), [0, 130], ["said 2 lines"]),
    (runs.Ended(1, "line\n" * 9), [1], ["said 9 lines"])])
def test_what_a_process_says_at_its_end_is_looked_at(ended, allowed, said):
    found = list(ended.problems(allowed))
    assert len(found) == len(said) and all(part in line for part, line in zip(said, found))


def test_a_file_at_such_a_path_is_on_a_full_disk(tmp_path):
    opened = full.files(r"metrics\.jsonl$")
    with opened(tmp_path / "other.jsonl", "w") as file:
        file.write("row")
    with pytest.raises(OSError) as caught, opened(tmp_path / "metrics.jsonl", "a") as file:
        file.write("row")
    assert caught.value.errno == errno.ENOSPC and (tmp_path / "metrics.jsonl").read_text() == ""
    assert opened(tmp_path / "other.jsonl").read() == "row"


def test_a_disk_is_full_once_such_a_folder_is_made(tmp_path):
    with full.disk(tmp_path / "disk") as made:
        if not made:
            pytest.skip("no tmpfs can be mounted here")
        making = full.folders(r"/model\.")
        making(str(tmp_path / "disk" / "other"))
        (tmp_path / "disk" / "other" / "file").write_bytes(bytes(1 << 16))
        making(str(tmp_path / "disk" / "model.1"))
        with pytest.raises(OSError) as caught:
            (tmp_path / "disk" / "model.1" / "file").write_bytes(bytes(1 << 16))
        assert caught.value.errno == errno.ENOSPC
        full.resize(tmp_path / "disk" / "other", full.ROOMY)
        (tmp_path / "disk" / "model.1" / "file").write_bytes(bytes(1 << 16))
    assert not list((tmp_path / "disk").iterdir())


STUB = """
import pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
(folder / "run").mkdir(exist_ok=True)
for number in range(4):
    time.sleep(0.1)
    (folder / "run" / str(number)).touch()
"""


@pytest.mark.parametrize("kind", signals.ENDS)
def test_a_run_gets_its_signals_and_comes_to_its_end(tmp_path, monkeypatch, kind):
    def launch(folder: pathlib.Path) -> subprocess.Popen[str]:
        (folder / "tmp").mkdir(exist_ok=True)
        (folder / runs.LOG).touch()
        return subprocess.Popen([sys.executable, "-S", "-c", STUB, str(folder)], text=True, stderr=-1)
    monkeypatch.setattr(runs, "launch", launch)
    monkeypatch.setattr(runs, "differences", lambda run, _: [] if len(list(run.iterdir())) == 4 else ["x"])
    monkeypatch.setattr(runs, "PARAGRAPH", 20)
    monkeypatch.setattr(signals, "STILL_S", 0.05)
    seen = signals.disturb(kind, 4, 0.4, tmp_path, random.Random(0))
    others = [problem for problem in seen.problems if "a process said" not in problem]  # the stub's Ctrl-C
    assert seen.sent >= 4 and seen.runs >= 2 and not others


def test_the_newest_section_stands_first_and_tells_what_is_wrong(tmp_path):
    seen = [signals.Seen("SIGKILL", 100, 34, 600.0), signals.Seen("full disk: x", 1, 1, 9.0, ["a | b"])]
    text.write(tmp_path / "kills.md", text.section(seen[:1], 9.0, 10.0, "Once."))
    text.write(tmp_path / "kills.md", text.section(seen, 9.0, 11.0, "Twice."))
    told = (tmp_path / "kills.md").read_text()
    assert told.count("# kills\n") == 1 and told.index("Twice.") < told.index("Once.")
    assert "| SIGKILL | 100 | 34 | 600 | the same bits |" in told and "**a / b**" in told
    assert "10 minutes, all well" in told and "11 minutes, 1 PROBLEMS" in told


@pytest.mark.slow
def test_a_run_that_is_killed_and_one_whose_disk_fills_come_to_the_same_bits(tmp_path):
    life = signals.undisturbed(tmp_path)
    generator = random.Random(0)
    for kind in (signal.SIGKILL, signal.SIGINT):
        assert signals.disturb(kind, 3, life, tmp_path, generator).problems == []
    for seen in disks.fill(["checkpoint", "metrics"], tmp_path):
        assert seen.problems == []
