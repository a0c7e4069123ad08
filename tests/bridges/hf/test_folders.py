"""Folders that are written whole or not at all, and what killed processes leave beside them."""
import os
import subprocess
import sys

import pytest

from bridges.hf.folders import new_folder


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
