"""The index of trajectories.jsonl against a slow reading of all of it, while the file grows, is cut back and
replaced."""
import json
import math
import os
import random

import numpy as np
import pytest

from jaxrl_moe.outside import OutsideError, parse
from jaxrl_moe.serving.viewer import follow
from jaxrl_moe.serving.viewer.choosing import Filter, differing, groups, rows_of, steps
from jaxrl_moe.serving.viewer.curves import Curves
from jaxrl_moe.serving.viewer.entries import BROKEN, IndexEntry
from jaxrl_moe.serving.viewer.index import ChangedError, TrajectoryIndex
from jaxrl_moe.serving.viewer.scan import NoObject, bared, spans

TEXTS = ("plain", "", '", "step": 99, "reward": 7', '\\", "step": 98', "\\\\", '\\\\"', "}{][",
         "line\nbreak\r", "é 🙂 你好", "\u2028\u2029\u0085", "\x00\x1f\x7f", '{"step": 1}\n{"step": 2}',
         '"' * 50, "\\" * 51, "a" * 20_000)
VALUES = (0, -1.5, 1e-300, True, None, [], {}, [1, 2.5, -3e-7], [[0, 5, 0.25], [5, 9, 1]], [[{
    "role": "user",
    "content": "["
}], []], {
    "correct": 1.0,
    "]": "}"
}, {
    "a": {
        "b": ["c", {
            "d": []
        }]
    }
})


def drawn(rng, step):
    """A row of odd content whose own keys, in any order, stand among others that spell like them."""
    row = {
        "step": step,
        "phase": rng.choice(("train", "eval", "größe \"x\"")),
        "sequence": rng.randrange(5),
        "sample": rng.randrange(4),
        "prompt_index": rng.randrange(2**31),
        "reward": rng.choice((0.0, 1.0, -2.5, 3, 1e308)),
        "advantage": rng.choice((0.5, None, [0.5, 1.0], -2)),
        "truncated": rng.random() < 0.5,
        "completion_ids": [rng.randrange(10**6) for _ in range(rng.choice((0, 1, 7, 300)))]
    }
    if rng.random() < 0.5:
        row["outcome"] = rng.choice(("finished", "truncated", "unreachable", "a new one"))
    if rng.random() < 0.2:
        del row["advantage"]
    for number in range(rng.randrange(8)):
        name = rng.choice(("step ", "info", "réward", "a\"b", "c\\", "prompt", "messages", "")) + str(number)
        row[name] = rng.choice(TEXTS) if rng.random() < 0.6 else rng.choice(VALUES)
    items = list(row.items())
    rng.shuffle(items)
    return dict(items)


def written(rng, row):
    """The row as JSON of one of the spellings that are allowed."""
    separators = rng.choice(((", ", ": "), (",", ":"), (" ,\t", " :  ")))
    text = json.dumps(row, ensure_ascii=rng.random() < 0.5, separators=separators)
    if rng.random() < 0.2:
        text = text.replace('"step"', '"\\u0073tep"',
                            1) if '"step"' in text.split('"step"')[0] + '"step"' else text
    return rng.choice(("", " ")) + text + rng.choice(("", " ", "\t", "\r"))


def expected(row):
    """What the index should hold of a parsed row."""
    advantage = row.get("advantage")
    number = advantage if type(advantage) in (int, float) else math.nan
    outcome = row["outcome"] if "outcome" in row else "truncated" if row["truncated"] else "finished"
    return IndexEntry(row["step"], row["phase"], row["sequence"], row["sample"], row["prompt_index"],
                      row["reward"], number, outcome, len(row.get("completion_ids", ())))


def entries(index):
    """All that the index holds, row by row."""
    snapshot = index.snapshot()
    words = {"phase": snapshot.phases.words, "outcome": snapshot.outcomes.words}
    return [
        IndexEntry(*(words[name][column[row]] if name in words else column[row].item()
                     for name, column in ((name, snapshot.columns[name])
                                          for name in IndexEntry._fields)))
        for row in range(snapshot.rows)
    ]


def finish(index):
    while index.advance():
        pass
    return index


def same(one, other):
    assert len(one) == len(other)
    for ours, theirs in zip(one, other):
        np.testing.assert_equal(tuple(ours), tuple(theirs))


@pytest.mark.parametrize("seed", range(6))
def test_the_index_holds_what_a_slow_reading_finds(tmp_path, monkeypatch, seed):
    monkeypatch.setattr(follow, "AT_ONCE", 4096 if seed % 2 else 1 << 20)
    rng = random.Random(seed)
    path = tmp_path / "trajectories.jsonl"
    lines = [written(rng, drawn(rng, step // 3)) for step in range(120)]
    path.write_bytes("".join(line + "\n" for line in lines).encode())
    index = finish(TrajectoryIndex(path))
    same(entries(index), [expected(json.loads(line)) for line in lines])
    version = index.snapshot().version
    assert [index.read(row, version).decode() for row in range(120)] == lines


@pytest.mark.parametrize("seed", range(4))
def test_damage_is_never_taken_for_a_row_and_a_row_never_for_damage(tmp_path, seed):
    rng = random.Random(seed)
    path = tmp_path / "trajectories.jsonl"
    lines = []
    for step in range(150):
        row = {
            key: value
            for key, value in drawn(rng, step).items()
            if not (isinstance(value, str) and len(value) > 99)
        }
        data = bytearray(written(rng, row).encode())
        for _ in range(rng.randrange(3)):
            at = rng.randrange(len(data))
            if rng.random() < 0.5:
                del data[at:at + rng.choice((1, 1, 5, 400))]
            else:
                data[at:at + 1] = bytes([rng.choice(b'"{}[]\\,: 0a\xff')])
        lines.append(bytes(data).replace(b"\n", b" "))
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    for line, entry in zip(lines, entries(finish(TrajectoryIndex(path))), strict=True):
        try:
            row = parse(line, "it")
        except OutsideError:
            continue  # where the damage lies inside a value, it is met when the row is opened
        if entry.outcome != BROKEN:
            np.testing.assert_equal(tuple(entry), tuple(expected(row)))
        else:
            with pytest.raises((KeyError, AttributeError, TypeError, AssertionError)):
                assert plausible(row)


def plausible(row):
    """Whether every column that is needed is there and of its kind."""
    whole = [row["step"], row["sequence"], row["sample"], row["prompt_index"]]
    assert all(type(value) is int and value >= 0 for value in whole) and max(whole) < 2**31
    assert type(row["phase"]) is str and type(row["reward"]) in (int, float)
    assert type(row["outcome"] if "outcome" in row else str(row["truncated"] is not None)) is str
    assert "outcome" in row or type(row["truncated"]) is bool
    advantage = row.get("advantage")
    assert advantage is None or type(advantage) in (int, float, list)
    return True


def line(step, reward=0.0, **more):
    return json.dumps({
        "step": step,
        "phase": "train",
        "sequence": step,
        "sample": 0,
        "prompt_index": 3,
        "reward": reward,
        "truncated": False,
        "prompt_ids": [1],
        "completion_ids": [2, 3]
    } | more) + "\n"


def test_a_file_that_is_not_there_yet_and_a_line_that_is_not_whole_are_waited_for(tmp_path):
    path = tmp_path / "trajectories.jsonl"
    index = finish(TrajectoryIndex(path))
    assert index.snapshot().rows == 0 and not index.log.error
    second = line(2)
    path.write_text(line(1) + second[:30])
    assert finish(index).snapshot().rows == 1 and index.log.size > index.log.offset
    with path.open("a") as file:
        file.write(second[30:] + line(3)[:-1])
    assert [entry.step for entry in entries(finish(index))] == [1, 2]
    with path.open("a") as file:
        file.write("\n")
    assert [entry.step for entry in entries(finish(index))] == [1, 2, 3] and index.snapshot().version == 1


def cut(path):
    path.write_text(line(1))


def cut_and_grown(path):
    path.write_text(line(1) + line(2, reward=5.0) + line(3) * 5)


def replaced(path):
    other = path.with_name("other")
    other.write_text(path.read_text() + line(4))
    os.replace(other, path)


def gone(path):
    path.unlink()


@pytest.mark.parametrize("change, steps", [(cut, [1]), (cut_and_grown, [1, 2, 3, 3, 3, 3, 3]),
                                           (replaced, [1, 2, 3, 4]), (gone, [])])
def test_a_file_that_is_cut_back_or_replaced_is_indexed_anew_and_old_rows_are_refused(
        tmp_path, change, steps):
    path = tmp_path / "trajectories.jsonl"
    path.write_text(line(1) + line(2) + line(3))
    index = finish(TrajectoryIndex(path))
    version = index.snapshot().version
    assert json.loads(index.read(2, version))["step"] == 3
    change(path)
    finish(index)
    assert [entry.step for entry in entries(index)] == steps and index.snapshot().version == version + 1
    with pytest.raises(ChangedError):
        index.read(0, version)


def test_a_broken_row_stands_among_its_neighbours_and_says_why(tmp_path):
    path = tmp_path / "trajectories.jsonl"
    broken = [
        '{"step": 5, "phase', "", "[1]", "null",
        line(1)[:-1] + line(2)[:-1], '{"step": 1.5}',
        line(7, reward="much")[:-1],
        line(-1)[:-1], '{"step": 3, "step": 3}',
        line(7, x="-")[:-1].replace('"-"', "[" * 200 + "]" * 200)
    ]
    path.write_text(line(4) + "".join(each + "\n" for each in broken) + line(5))
    index = finish(TrajectoryIndex(path))
    found = entries(index)
    assert [entry.outcome for entry in found] == ["finished", *[BROKEN] * len(broken), "finished"]
    assert {entry.step for entry in found[1:-1]} == {4}
    reasons = [index.reason(each.encode()) for each in broken]
    for reason, word in zip(reasons, ("not whole|no key", "begin", "begin", "begin", "more than one",
                                      "integer", "number", "integer", "twice", "nested"),
                            strict=True):
        assert any(each in reason for each in word.split("|")), (reason, word)


def test_a_line_without_end_is_skipped_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(follow, "LONGEST_LINE", 4096)
    monkeypatch.setattr(follow, "AT_ONCE", 1024)
    path = tmp_path / "trajectories.jsonl"
    path.write_text(line(1) + line(2, prompt="x" * 20_000) + line(3))
    found = entries(finish(TrajectoryIndex(path)))
    assert [entry.outcome for entry in found] == ["finished", BROKEN, "finished"] and found[2].step == 3


def test_spans_of_values_are_exact():
    data = b'{"a": [1, 2], "b\\"": "x\\\\", "c":{"d": "]"},"e":-1.5e3 }'
    found = spans(data, bared(data), 0, len(data))
    values = {key: json.loads(data[start:end]) for key, (start, end) in found.items()}
    assert values == json.loads(data)
    with pytest.raises(NoObject, match="not whole"):
        spans(data, bared(data), 0, len(data) - 2)


def test_steps_and_groups_are_those_of_the_rows(tmp_path):
    rng = random.Random(1)
    path = tmp_path / "trajectories.jsonl"
    rows = [
        drawn(rng, rng.randrange(5)) | {
            "outcome": rng.choice(("finished", "truncated"))
        } for _ in range(300)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    index = finish(TrajectoryIndex(path)).snapshot()
    wanted = Filter("finished", least=0.0, most=3.0)
    for each in steps(index, wanted):
        own = [row for row in rows if (row["step"], row["phase"]) == (each["step"], each["phase"])]
        chosen = [row["reward"] for row in own if row["outcome"] == "finished" and 0 <= row["reward"] <= 3]
        assert (each["rows"], each["wanted"]) == (len(own), len(chosen))
        assert each["reward"] == (pytest.approx(np.mean(chosen)) if chosen else None)
        grouped = groups(index, rows_of(index, each["step"], each["phase"]), wanted)
        assert sorted(group["sequence"] for group in grouped) == sorted({row["sequence"] for row in own})
        for group in grouped:
            assert [rows[at]["sequence"] for at in group["rows"]] == [group["sequence"]] * len(group["rows"])
            assert group["rewards"] == [rows[at]["reward"] for at in group["rows"]]
    assert sum(each["rows"] for each in steps(index, wanted)) == 300


@pytest.mark.parametrize(
    "texts, rests", [(["user\nAdd 1 and 2.\nassistant\n", "user\nAdd 10 and 2.\nassistant\n"], ["1", "10"]),
                     (["same", "same"], ["same", "same"]), (["", "x"], ["", "x"]), ([], []),
                     (["one"], ["one"])])
def test_prompts_are_told_apart_by_what_differs(texts, rests):
    assert [rest.strip().removesuffix(" and 2.") for rest in differing(texts)] == rests


def test_curves_grow_and_tell_of_broken_lines(tmp_path):
    path = tmp_path / "metrics.jsonl"
    curves = Curves(path)
    assert not curves.advance() and curves.names() == []
    path.write_text('{"step": 1, "reward/mean": 0.5, "x": NaN}\n{"step": 2, "reward/mean": 0.75}\n{"st')
    assert curves.advance() and curves.take(["reward/mean", "none"]) == {"reward/mean": ([1, 2], [0.5, 0.75])}
    with path.open("a") as file:
        file.write('ep": 3}\n[1]\n{"step": 4, "reward/mean": 1}\n')
    assert curves.advance() and curves.take(["reward/mean"])["reward/mean"] == ([1, 2, 4], [0.5, 0.75, 1])
    assert curves.broken and curves.broken[0].startswith("Line 4 of metrics.jsonl")
    path.write_text('{"step": 1, "y": 2}\n')
    curves.advance()
    assert curves.names() == ["y"] and not curves.broken


@pytest.mark.parametrize("kind", [Curves, TrajectoryIndex])
def test_a_log_that_cannot_be_read_is_told_until_it_can(tmp_path, kind):
    path = tmp_path / "log.jsonl"
    path.mkdir()
    reader = kind(path)
    assert not reader.advance() and reader.log.error == f"{path} cannot be read: Is a directory."
    path.rmdir()
    path.write_text(line(1))
    assert reader.advance() and not reader.log.error
