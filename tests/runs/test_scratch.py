"""Data and models made on the spot: once, whole or not at all, and nothing stays of who was killed."""
import os
import threading

import pytest

from jaxrl_moe.config import resolve
from jaxrl_moe.runs import scratch


def make(folder, text="whole"):
    with scratch.made_once(folder) as partial:
        if partial:
            partial.mkdir()
            (partial / "rows").write_text(text)
    return partial is not None


def test_what_a_killed_process_left_is_removed_whether_or_not_the_folder_is_there(tmp_path):
    for there in (False, True):
        (tmp_path / ".data.new").mkdir()
        (tmp_path / ".data.lock").touch()
        assert make(tmp_path / "data") != there
        assert os.listdir(tmp_path) == ["data"]
    (tmp_path / ".data.lock").touch()
    assert not make(tmp_path / "data") and os.listdir(tmp_path) == ["data"]


def test_a_failure_leaves_nothing(tmp_path):
    with pytest.raises(ValueError), scratch.made_once(tmp_path / "data") as partial:
        partial.mkdir()
        raise ValueError
    assert not os.listdir(tmp_path)


def test_of_several_who_start_at_once_one_makes_it_and_the_others_wait(tmp_path):
    made = []
    threads = [threading.Thread(target=lambda text=str(number): made.append(make(tmp_path / "data", text)))
               for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == [False] * 7 + [True] and os.listdir(tmp_path) == ["data"]


def test_the_data_of_a_recipe_is_made_so(tmp_path):
    config = resolve({"data": {"path": str(tmp_path / "data" / "train.jsonl"), "generate": "word_problems"}})
    (tmp_path / ".data.new").mkdir()
    (tmp_path / ".data.new" / "half").touch()
    scratch.ensure_data(config)
    before = (tmp_path / "data" / "train.jsonl").read_bytes()
    assert before and os.listdir(tmp_path) == ["data"] and not (tmp_path / "data" / "half").exists()
    (tmp_path / ".data.new").mkdir()
    scratch.ensure_data(config)
    assert os.listdir(tmp_path) == ["data"] and (tmp_path / "data" / "train.jsonl").read_bytes() == before
