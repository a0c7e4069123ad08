"""The windows of a tmux session: they show the programs, and nothing of them is left at the end."""
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import pytest

from jaxrl_moe.serving.windows.session import Session
from jaxrl_moe.types import UserError
from tests.helpers.waiting import wait_until
from tests.helpers.windows import program

pytestmark = [pytest.mark.slow, pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not "
                                                                                        "installed")]
ROOT = pathlib.Path(__file__).resolve().parents[3]


@pytest.fixture
def started(tmp_path, monkeypatch):
    """Starts a session with programs that behave so."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    sessions = []

    def start(**behaviours):
        name = f"test_{os.getpid()}_{tmp_path.name[-20:]}"
        session = Session(name, tmp_path / "launch.json")
        sessions.append(session)
        words = [f"{name}={how}" for name, how in behaviours.items()]
        session.start([program(tmp_path, *each) for each in behaviours.items()],
                      [sys.executable, "-m", "tests.helpers.windows", str(tmp_path), *words])
        return session, name
    yield start
    for session in sessions:
        session.close()


def has_started(folder):
    events = folder / "events"
    return events.exists() and "train started" in events.read_text()


def shown(name, window):
    """What a window shows."""
    return subprocess.run(["tmux", "-L", name, "capture-pane", "-p", "-t", window], capture_output=True,
                          text=True).stdout


def windows(name):
    listed = subprocess.run(["tmux", "-L", name, "list-windows", "-a", "-F", "#W"], capture_output=True,
                            text=True)
    return listed.stdout.split()


def test_there_is_a_window_for_each_and_the_exit_code_is_that_of_the_one_that_failed(started, tmp_path):
    session, name = started(eval_server="", buffer="", train="")
    assert sorted(windows(name)) == ["buffer", "eval_server", "train"]
    with pytest.raises(UserError, match="There is a session"):
        Session(name, tmp_path / "other.json")
    wait_until(lambda: has_started(tmp_path))
    wait_until(lambda: "buffer says hello" in shown(name, "buffer"))
    sent = iter([0, 0, signal.SIGTERM])
    assert session.wait(lambda: next(sent, 0)) == 143
    assert not session.alive and not windows(name)


def test_a_session_whose_program_fails_ends_with_its_code(started, tmp_path):
    session, _ = started(eval_server="", train="fails")
    assert session.wait(lambda: 0) == 7 and not session.alive
    assert "no memory is left" in (tmp_path / "launch.log").read_text()


def test_a_session_that_is_killed_takes_all_along(started, tmp_path):
    session, name = started(eval_server="", train="")
    wait_until(lambda: has_started(tmp_path))
    subprocess.run(["tmux", "-L", name, "kill-session", "-t", name], check=True)
    assert session.wait(lambda: 0) == 128 + signal.SIGHUP
    assert "SIGHUP came" in (tmp_path / "launch.log").read_text()
