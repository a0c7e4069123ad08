"""Several programs as one: started in order, ended together, and none left behind."""
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from jaxrl_moe import partials
from tests.helpers.waiting import wait_until

ROOT = pathlib.Path(__file__).resolve().parents[3]


def slowly(case):
    return pytest.param(*case, marks=pytest.mark.slow)


class Supervised:
    """tests/helpers/windows.py in a process of its own."""

    def __init__(self, folder, *behaviours):
        self._folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.helpers.windows", str(folder), *behaviours], cwd=ROOT, text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def events(self):
        path = self._folder / "events"
        return path.read_text().splitlines() if path.exists() else []

    def ended(self, seconds=30):
        """(exit code, what was said)."""
        said = self.process.communicate(timeout=seconds)[0]
        return self.process.returncode, said


def processes(folder):
    """Those whose command line names the folder."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(folder).encode() in path.read_bytes():
                found.append(path.parent.name)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def test_they_start_in_order_and_end_with_the_run(tmp_path):
    with Supervised(tmp_path, "eval_server=", "buffer=", "train=ends") as run:
        code, said = run.ended()
    started = [line for line in run.events() if "started" in line]
    assert code == 0 and started == ["eval_server started", "buffer started", "train started"]
    assert run.events()[3:] == ["buffer asked to end", "eval_server asked to end"]  # the last one first
    assert "train says hello" in said and "buffer says hello" not in said
    assert (tmp_path / "buffer.log").read_text() == "buffer says hello\n"
    assert "train has ended well" in (tmp_path / "launch.log").read_text() and not processes(tmp_path)


@pytest.mark.parametrize("behaviours, code, what", [
    (("eval_server=fails", "buffer=", "train="), 7, "eval_server has ended with exit code 7"),
    slowly((("eval_server=", "buffer=dies", "train="), 137, "buffer has ended with exit code 137")),
    slowly((("eval_server=ends", "buffer=", "train="), 1, "eval_server has ended with exit code 0")),
    slowly((("eval_server=", "train=fails"), 7, "train has ended with exit code 7"))])
def test_where_one_fails_all_end_with_its_code_and_its_last_lines(tmp_path, behaviours, code, what):
    with Supervised(tmp_path, *behaviours) as run:
        ended, said = run.ended()
    assert ended == code and what in said and not processes(tmp_path)
    last = "no memory is left" if code == 7 else "of its own" if code == 137 else "eval_server says hello"
    assert last in said.partition(what)[2]


@pytest.mark.parametrize("number", [signal.SIGTERM, slowly([signal.SIGINT]),
                                    slowly([signal.SIGHUP])])
def test_a_signal_ends_all(tmp_path, number):
    with Supervised(tmp_path, "eval_server=", "train=orphan") as run:
        wait_until(lambda: (tmp_path / "orphan").exists() and (tmp_path / "orphan").read_text())
        orphan = int((tmp_path / "orphan").read_text())
        run.process.send_signal(number)
        code, said = run.ended()
    assert code == 128 + number and f"{number.name} came" in said
    assert not processes(tmp_path) and not partials.runs(orphan)  # though it has a session of its own


@pytest.mark.slow
def test_what_does_not_end_in_time_is_killed(tmp_path):
    with Supervised(tmp_path, "eval_server=", "buffer=stubborn", "train=ends") as run:
        code, said = run.ended()
    assert code == 0 and not processes(tmp_path)
    assert "buffer has not ended in time, and is killed" in said
    assert "eval_server has not ended" not in said  # its time begins when it is asked


@pytest.mark.slow
def test_a_second_signal_kills_at_once(tmp_path):
    with Supervised(tmp_path, "eval_server=", "train=stubborn") as run:
        wait_until(lambda: "train started" in run.events())
        run.process.send_signal(signal.SIGINT)
        wait_until(lambda: "train asked to end" in run.events())
        run.process.send_signal(signal.SIGINT)
        assert run.ended(3)[0] == 130 and not processes(tmp_path)


@pytest.mark.slow
def test_a_server_that_does_not_get_well_in_time_ends_the_start(tmp_path):
    with Supervised(tmp_path, "eval_server=ill", "train=") as run:
        code, said = run.ended()
    assert code == 1 and "eval_server does not serve after 5 seconds" in said
    assert "train started" not in run.events() and not processes(tmp_path)


def test_programs_are_asked_to_end_where_their_supervisor_is_killed(tmp_path):
    with Supervised(tmp_path, "eval_server=", "train=") as run:
        wait_until(lambda: "train started" in run.events())
        wait_until(lambda: len(processes(tmp_path)) == 3)
        run.process.kill()
        wait_until(lambda: not processes(tmp_path))
