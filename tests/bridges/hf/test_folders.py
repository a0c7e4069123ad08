"""Folders that are written whole or not at all, and what killed processes leave beside them."""
import os
import subprocess
import sys

import pytest

from bridges.errors import BridgeError
from bridges.hf.folders import new_folder, read_json, resolve


@pytest.fixture
def dead():
    """The number of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def leave(folder, name, text):
    (folder / name).mkdir()
    (folder / name / "file").write_text(text)


def write(folder, text):
    with new_folder(folder, overwrite=True) as partial:
        (partial / "file").write_text(text)


def test_what_a_killed_process_left_is_removed_by_the_next_and_a_living_ones_is_not(tmp_path, dead):
    leave(tmp_path, f".model.partial-{dead}", "half")
    leave(tmp_path, f".model.partial-{os.getppid()}", "at work")
    leave(tmp_path, f".other.partial-{dead}", "somebody else's")
    write(tmp_path / "model", "new")
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"model", f".model.partial-{os.getppid()}", f".other.partial-{dead}"}
    assert (tmp_path / "model" / "file").read_text() == "new"


def test_a_folder_that_was_set_aside_by_a_killed_process_is_put_back(tmp_path, dead):
    leave(tmp_path, f".model.partial-{dead}.old", "before")
    with pytest.raises(RuntimeError), new_folder(tmp_path / "model", overwrite=True):
        raise RuntimeError("the next one fails too")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert (tmp_path / "model" / "file").read_text() == "before"


@pytest.mark.parametrize("reason, told", [
    ("404 Client Error. (Request ID: Root=1-2)\n\nRepository Not Found for url: https://x/y.\nPlease make",
     "Repository Not Found for url: https://x/y. Check"),
    ("Cannot find an appropriate cached snapshot folder. To enable look-ups, set HF_HUB_OFFLINE=0",
     "Cannot find an appropriate cached snapshot folder. Check"),
    ("no full stop", "no full stop. Check"), ("", "OSError. Check")])
def test_what_the_hub_says_is_told_in_one_sentence_before_our_own(monkeypatch, reason, told):
    import huggingface_hub

    def refuse(name, allow_patterns):
        raise OSError(reason)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(BridgeError) as refused:
        resolve("somebody/model")
    assert f"did not deliver it: {told} the name and the network" in str(refused.value)


@pytest.mark.parametrize("text, words", [("", "is empty"), ("[]", "holds a list"), ("{", "is no JSON"),
                                         ('{"a": 1, "a": 2}', "'a' stands twice"),
                                         ('{"a": Infinity}', "Infinity"),
                                         ("[" * 100000, "nested")])
def test_json_that_is_damaged_or_no_object_is_named(tmp_path, text, words):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(BridgeError, match=f"config.json .*{words}"):
        read_json(tmp_path / "config.json")
    with pytest.raises(BridgeError, match="absent.json does not exist"):
        read_json(tmp_path / "absent.json")
