"""Log files: rows that outlive a kill, and cuts that leave no step twice."""
import json
import sys
import types

import pytest
import tensorboardX
from tensorboardX.proto.event_pb2 import Event

from jaxrl_moe import log_files
from jaxrl_moe.config import resolve
from jaxrl_moe.runs import report, writers
from jaxrl_moe.runs.console import Console, summary
from jaxrl_moe.types import UserError


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_row_is_on_disk_as_soon_as_it_is_written(tmp_path):
    writer = writers.JsonLines(tmp_path / "new" / "metrics.jsonl")
    writer.write(1, {"reward/mean": 0.5})
    assert rows(tmp_path / "new" / "metrics.jsonl") == [{"step": 1, "reward/mean": 0.5}]


def test_a_cut_sets_aside_later_rows_and_a_line_that_a_kill_left_unfinished(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"step": 4, "rew')
    cut = log_files.cut_lines(path, 2)
    assert rows(path) == [{"step": 1}, {"step": 2}]
    assert cut.aside.read_text() == '{"step": 3}\n{"step": 4, "rew'
    assert (cut.kept.steps, cut.dropped.steps) == ({1, 2}, {3})
    assert log_files.cut_lines(path, -1).aside.read_text() == '{"step": 1}\n{"step": 2}\n'
    assert not path.exists()
    log_files.cut_lines(tmp_path / "absent.jsonl", 2)


@pytest.mark.parametrize("line", ["", "{\"step\": 2", "[1]", "{}", "7", "{\"step\": \"x\"}", "\0\0\0",
                                  '{"step": 2, "a": 1, "a": 2}', '{"step": 2, "a": 1e999}',
                                  '{"step": 2, "info": {"b": 1, "b": 1}}', '{"step": -1}',
                                  '{"step": 18446744073709551616}'])
def test_a_damaged_line_of_a_log_is_named_with_its_mend(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    damaged = '{"step": 1}\n' + line + '\n{"step": 3}\n'
    path.write_text(damaged)
    for read in (lambda: log_files.cut_lines(path, 2), lambda: report.read_rows(path)):
        with pytest.raises(UserError, match=r"metrics.jsonl, line 2 is damaged.*Delete that line"):
            read()
    assert path.read_text() == damaged, "what can still be read must stay"
    assert log_files.cut_lines(path, -1).aside.read_text() == damaged


def test_numbers_that_are_not_finite_damage_no_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": NaN}\n{"step": 2, "loss": -Infinity}\n')
    assert log_files.cut_lines(path, 5).kept.rows == 2


def test_a_line_of_other_bytes_than_text_is_damaged_too(tmp_path):
    (tmp_path / "trajectories.jsonl").write_bytes(b'\xff\xfe{"step": 1}\n')
    with pytest.raises(UserError, match="line 1 is damaged"):
        log_files.cut_lines(tmp_path / "trajectories.jsonl", 2)


def events(folder):
    """(step, name, value) of every event file, as TensorBoard would read them."""
    found = []
    for path in sorted(folder.glob("*tfevents*")):
        for record, *_ in writers._events(path):
            event = Event.FromString(record[12:-4])
            found += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
    return found


def test_tensorboard_files_are_cut_to_whole_records_of_the_steps_kept(tmp_path):
    for step in (1, 2, 3):
        writer = writers.TensorBoard(tmp_path)
        writer.write(step, {"a": float(step), "b": 0.5})
        writer.close()
    last = sorted(tmp_path.glob("*tfevents*"))[0]
    last.write_bytes(last.read_bytes() + b"\x20\x00\x00")
    cut = writers.cut_events(tmp_path, 2)
    assert events(tmp_path) == [(1, "a", 1.0), (1, "b", 0.5), (2, "a", 2.0), (2, "b", 0.5)]
    assert (cut.kept.rows, cut.dropped.rows) == (4, 2)
    assert events(cut.aside) == [(3, "a", 3.0), (3, "b", 0.5)]
    header = sorted(tmp_path.glob("*tfevents*"))[0].read_bytes()
    assert b"brain.Event" in header
    writers.cut_events(tmp_path / "absent", 2)


@pytest.mark.parametrize("place", [3, 9], ids=["length", "its check"])
def test_a_damaged_event_file_is_named_with_its_mend(tmp_path, place):
    writer = writers.TensorBoard(tmp_path)
    writer.write(1, {"a": 1.0})
    writer.close()
    (path,) = tmp_path.glob("*tfevents*")
    data = bytearray(path.read_bytes())
    data[place] ^= 0xff
    path.write_bytes(data)
    with pytest.raises(UserError, match="tfevents.* is damaged: at byte 0.*Move the file away"):
        writers.cut_events(tmp_path, 2)
    assert path.read_bytes() == data


def test_a_full_disk_under_a_log_is_a_clear_error():
    with (open("/dev/full", "w") as file,
          pytest.raises(UserError, match="/dev/full cannot be written.*No space left")):
        log_files.write_line(file, {"step": 1, "filler": "x" * 100000})


def test_wandb_is_asked_for_by_name_when_it_is_not_installed(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "wandb", None)
    config = resolve({"run_dir": str(tmp_path), "logging": {"wandb_project": "p"}})
    with pytest.raises(UserError, match="pip install wandb"):
        writers.WeightsAndBiases(config, tmp_path, "SFT", {})


def test_wandb_has_one_run_a_phase_and_goes_on_with_it(monkeypatch, tmp_path):
    started = []
    ids = iter("abc")
    wandb = types.SimpleNamespace(init=lambda **options: started.append(options),
                                  util=types.SimpleNamespace(generate_id=lambda: next(ids)))
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    config = resolve({"run_dir": str(tmp_path / "first"), "logging": {"wandb_project": "p"}})
    for phase in ("SFT", "GRPO", "GRPO"):
        folder = tmp_path / phase
        folder.mkdir(exist_ok=True)
        writers.WeightsAndBiases(config, folder, phase, {})
    assert [(one["name"], one["id"], one["group"]) for one in started] == [
        ("first SFT", "a", "first"), ("first GRPO", "b", "first"), ("first GRPO", "b", "first")]


def test_without_a_terminal_the_console_prints_one_plain_line_a_step(capsys):
    console = Console("GRPO", 9)
    console.write(3, {"reward/mean": 0.25, "time/step_s": 1.5, "unwatched": 1.0})
    console.close()
    assert capsys.readouterr().out == "GRPO 3/9  reward 0.250  s/step 1.5\n"


def test_in_a_terminal_the_console_shows_progress(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    console = Console("SFT", 5, done=2)
    console.write(3, {"sft/loss": 1.0})
    console.write(4, {"sft/loss": 0.5, "eval/pass_at_1": 0.25})
    console.close()
    assert "held-out pass@1 0.250" in capsys.readouterr().out
    assert summary({"eval/greedy": 0.5}) == "greedy 0.500"


def test_the_event_file_reader_agrees_with_the_writer(tmp_path):
    with tensorboardX.SummaryWriter(str(tmp_path)) as writer:
        for step in range(100):
            writer.add_scalar("x", step, step)
    assert [step for step, *_ in events(tmp_path)] == list(range(100))
