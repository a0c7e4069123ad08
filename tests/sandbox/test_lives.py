"""A sandbox lives as long as its program, and no longer than this process; meanwhile one can talk with it."""
import contextlib
import math
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest

from jaxrl_moe.sandbox.life import SandboxError
from jaxrl_moe.sandbox.readable import python
from jaxrl_moe.sandbox.records import Bounds, Cause, Cell
from jaxrl_moe.sandbox.shut_in import ShutIn, run
from tests.helpers.shut_in import SMALL, TOKEN, alive, as_plain_user, run_python
from tests.helpers.waiting import wait_until

KILLS = """
import os, sys, time
for pid in os.getppid(), 1, -1:
    try:
        os.kill(pid, 9)
    except OSError:
        pass
time.sleep(0.3)
print("lives")
sys.exit(7)
"""
DAEMON = """
import os, signal, time
if not os.fork():
    os.setsid()
    if not os.fork():
        for number in range(1, 65):
            try:
                signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError):
                pass
        time.sleep(1000)
    os._exit(0)
os.wait()
print("x")
"""


def test_it_kills_nobody_but_itself_and_its_exit_is_told(kind):
    ended = run_python(kind, KILLS, TOKEN)
    assert (ended.code, ended.cause, ended.stdout) == (7, None, b"lives\n")
    ended = run_python(kind, "import os\nos.kill(os.getpid(), 11)", TOKEN)
    assert (ended.code, ended.cause) == (128 + signal.SIGSEGV, None)


def test_what_it_leaves_behind_ends_with_it(kind):
    """Its output held open too."""
    ended = run_python(kind, DAEMON, TOKEN)
    assert (ended.code, ended.stdout) == (0, b"x\n")
    assert not alive()


DRIVER = """
import os, sys, time
from jaxrl_moe.sandbox.readable import python
from jaxrl_moe.sandbox.records import Bounds, Cell
from jaxrl_moe.sandbox.shut_in import ShutIn
from jaxrl_moe.sandbox.ways import Way
_, way, program, token = sys.argv
shut = ShutIn([sys.executable, "-I", "-S", "-c", program, token], Cell(python()), Bounds(), Way(way))
for _ in range(8):
    shut.stdout.read(2)
print(os.getpid(), flush=True)
time.sleep(1000)
"""
STAYING = """
import os, time
for _ in range(3):
    os.fork()
print(1, flush=True)
time.sleep(1000)
"""


def test_nothing_outlives_us_even_when_we_are_killed(kind):
    way, plain = kind
    command = [*(as_plain_user() if plain else ()), sys.executable, "-c", DRIVER, way.value, STAYING, TOKEN]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=pathlib.Path(__file__).parents[2],
                          env=os.environ | {"PYTHONPATH": "."}) as driver:
        os.kill(int(driver.stdout.readline()), signal.SIGKILL)
    wait_until(lambda: not alive())


def test_no_process_and_no_descriptor_of_ours_is_left(way, tmp_path):
    before = set(os.listdir("/proc/self/fd"))
    threads = threading.active_count()
    for program in ("pass", "import time\ntime.sleep(1000)", "import os\nos.abort()"):
        with ShutIn([sys.executable, "-I", "-S", "-c", program, TOKEN], Cell(python()), SMALL, way) as shut:
            threading.Timer(0.3, shut.end).start()
            shut.wait()
    assert run(["/none/such"], Cell(python()), SMALL, way).code == 127
    folder = tmp_path / "shown"
    folder.mkdir()
    cell = Cell((*python(), str(folder)))
    folder.rmdir()
    with pytest.raises(SandboxError, match="shown"):
        run(["/none/such"], cell, SMALL, way)
    with contextlib.suppress(ChildProcessError):
        assert os.waitpid(-1, os.WNOHANG) == (0, 0)  # no zombie
    wait_until(lambda: threading.active_count() <= threads)
    assert set(os.listdir("/proc/self/fd")) <= before and not alive()


ANSWERING = """
import os, sys
os.write(4, b"four")
for line in sys.stdin:
    print(line.upper(), end="", flush=True)
"""


def test_one_talks_with_it_from_any_thread_and_gives_it_descriptors(way):
    """It does not end with the thread that has started it."""
    reading, writing = os.pipe()
    made = []
    ours = os.dup2(writing, 200, inheritable=False)

    def start():
        made.append(ShutIn([sys.executable, "-I", "-S", "-c", ANSWERING, TOKEN], Cell(python()),
                           Bounds(seconds=math.inf), way, descriptors={4: ours}))
    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    with made[0] as shut:
        time.sleep(0.3)
        for word in (b"one\n", b"two\n"):
            shut.stdin.write(word)
            assert shut.stdout.read(4) == word.upper()
        assert os.read(reading, 4) == b"four"
        shut.end()
        assert shut.wait().cause is Cause.ASKED
    for each in (reading, writing, ours):
        os.close(each)


def test_each_has_a_user_of_its_own(way):
    if os.geteuid() != 0:
        pytest.skip("only root has users to lend")
    program = "import os\nprint(os.getresuid() + os.getresgid(), flush=True)\ninput()"
    command = [sys.executable, "-I", "-S", "-c", program, TOKEN]
    with contextlib.ExitStack() as held:
        said = [held.enter_context(ShutIn(command, Cell(python()), SMALL, way)).stdout.readline()
                for _ in range(3)]
    assert len(set(said)) == 3 and b" 0," not in b"".join(said)


def test_bounds_and_paths_that_mean_nothing_are_refused():
    for wrong in ({"memory_mib": 0}, {"seconds": -1.0}, {"seconds": math.nan}, {"processes": 0}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} = .*must be positive"):
            Bounds(**wrong)
    for path in ("/", "relative", "/usr/../etc", "/proc", "/tmp", "/usr/"):
        with pytest.raises(ValueError, match="cannot be shown"):
            Cell((path,))
    with pytest.raises(ValueError, match="is not there"):
        Cell(("/none/such",))
    assert Cell(("/usr/lib", "/etc", "/usr", "/usr/bin")).shown() == ["/etc", "/usr"]
