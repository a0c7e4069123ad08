"""Whoever takes more than it may is killed, and it is said for what; nothing of it is left."""
import contextlib
import dataclasses
import math
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest

from jaxrl_moe.sandbox.records import Bounds, Cause, Cell
from jaxrl_moe.sandbox.readable import python
from jaxrl_moe.sandbox.shut_in import ShutIn, run
from jaxrl_moe.sandbox.ways import Way
from tests.helpers.shut_in import KINDS, SMALL, as_plain_user, kind_name, missing, run_python
from tests.helpers.waiting import wait_until

TOKEN = f"sandbox-test-{os.getpid()}"  # among the arguments of all that is started here
OWN = [kind for kind in KINDS if not kind[1]]
BOMBS = {
    "memory of one process": ({}, Cause.MEMORY, "kept = [bytearray(2**24) for _ in range(64)]\ntime.sleep(1000)"),
    "memory of many": ({}, Cause.MEMORY, "for _ in range(8):\n    if not os.fork():\n"
                       "        kept = bytearray(2**26)\n        time.sleep(1000)\ntime.sleep(1000)"),
    "memory of orphans": ({}, Cause.MEMORY, "for _ in range(8):\n    if not os.fork():\n        if os.fork():\n"
                          "            os._exit(0)\n        os.setsid()\n        kept = bytearray(2**26)\n"
                          "        time.sleep(1000)\ntime.sleep(1000)"),
    "tables of pages": ({}, Cause.MEMORY, "import mmap\nkept = [mmap.mmap(-1, 2**35, mmap.MAP_PRIVATE | "
                        "mmap.MAP_ANONYMOUS | 0x4000, mmap.PROT_READ) for _ in range(64)]\n"
                        "for each in kept:\n    for place in range(0, 2**35, 2**21):\n        each[place]\n"
                        "time.sleep(1000)"),
    "files in memory": ({"disk_bytes": 2**28, "file_bytes": 2**29}, Cause.MEMORY,
                        "for name in '/tmp/x', '/dev/shm/x':\n    with open(name, 'wb') as file:\n"
                        "        for _ in range(192):\n            file.write(bytes(2**20))\ntime.sleep(1000)"),
    "processes": ({}, Cause.PROCESSES, "while True:\n    try:\n        os.fork()\n    except OSError:\n"
                  "        pass"),
    "threads": ({}, Cause.PROCESSES, "import threading\nfor _ in range(48):\n"
                "    threading.Thread(target=time.sleep, args=[1000]).start()"),
    "time": ({"seconds": 1}, Cause.TIME, "time.sleep(1000)"),
    "an endless loop": ({"seconds": 1}, Cause.TIME, "signal.signal(15, signal.SIG_IGN)\nwhile True:\n    pass"),
    "time of processors": ({"cpu_seconds": 1}, Cause.CPU, "os.fork()\nwhile True:\n    pass"),
    "output": ({}, Cause.OUTPUT, "while True:\n    os.write(1, bytes(2**16))"),
    "errors": ({}, Cause.OUTPUT, "while True:\n    os.write(2, bytes(2**16))")}
START = "import os, signal, sys, time\n"


@pytest.mark.parametrize("kind", KINDS, ids=kind_name)
@pytest.mark.parametrize("name", BOMBS)
def test_who_takes_more_than_it_may_is_killed_and_it_is_said_for_what(kind, name):
    if missing(kind):
        pytest.skip(missing(kind))
    changed, cause, program = BOMBS[name]
    ended = run_python(kind, START + program, TOKEN, bounds=dataclasses.replace(SMALL, **changed))
    assert (ended.cause, ended.code) == (cause, 137), ended.stderr[-500:].decode()
    assert ended.peak_mib < 1024
    assert len(ended.stdout) + len(ended.stderr) <= SMALL.output_bytes
    assert not alive()


def alive():
    """Processes that tests of this file have started and that live, zombies included."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if TOKEN in path.read_text().split("\0"):
                found.append(int(path.parent.name))
    return found


FILLS = """
def filled(action):
    try:
        while True:
            action()
    except OSError as error:
        return error.errno
def write(file):
    return lambda: file.write(bytes(2**16))
import itertools
number = itertools.count()
seen = []
for folder in ("/tmp", "/dev/shm"):
    with open(f"{folder}/large", "wb", buffering=0) as file:
        seen.append(filled(write(file)))
        seen.append(os.path.getsize(file.name) <= 2**20)
    os.unlink(f"{folder}/large")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with open("/tmp/long", "wb", buffering=0) as file:
    seen.append(filled(lambda: os.truncate(file.fileno(), 2**22 + 1)))
print(seen)
"""


@pytest.mark.parametrize("kind", KINDS, ids=kind_name)
def test_folders_and_files_are_bounded(kind):
    if missing(kind):
        pytest.skip(missing(kind))
    ended = run_python(kind, START + FILLS, TOKEN, bounds=dataclasses.replace(SMALL, file_bytes=2**22))
    assert ended.stdout.decode().strip() == "[28, True, 28, True, 27]", ended.stderr.decode()  # ENOSPC, EFBIG


@pytest.mark.parametrize("kind", KINDS, ids=kind_name)
def test_files_without_number_are_memory_too(kind):
    """Of which empty ones take none of a folder's bytes."""
    if missing(kind):
        pytest.skip(missing(kind))
    program = "for number in range(10**6):\n    os.close(os.open(f'/tmp/{number}', os.O_CREAT))"
    ended = run_python(kind, START + program, TOKEN, bounds=dataclasses.replace(SMALL, memory_mib=20))
    assert ended.cause is Cause.MEMORY or b"No space left" in ended.stderr


@pytest.mark.parametrize("kind", KINDS, ids=kind_name)
def test_it_kills_nobody_but_itself_and_its_exit_is_told(kind):
    if missing(kind):
        pytest.skip(missing(kind))
    program = ("for pid in os.getppid(), 1, -1:\n    try:\n        os.kill(pid, 9)\n"
               "    except OSError:\n        pass\ntime.sleep(0.3)\nprint('lives')\nsys.exit(7)")
    ended = run_python(kind, START + program, TOKEN)
    assert (ended.code, ended.cause, ended.stdout) == (7, None, b"lives\n")
    ended = run_python(kind, START + "os.kill(os.getpid(), signal.SIGSEGV)", TOKEN)
    assert (ended.code, ended.cause) == (128 + signal.SIGSEGV, None)


@pytest.mark.parametrize("kind", KINDS, ids=kind_name)
def test_what_it_leaves_behind_ends_with_it(kind):
    """Its output held open too."""
    if missing(kind):
        pytest.skip(missing(kind))
    program = ("if not os.fork():\n    os.setsid()\n    if not os.fork():\n"
               "        for number in range(1, 65):\n            try:\n"
               "                signal.signal(number, signal.SIG_IGN)\n"
               "            except (OSError, ValueError):\n                pass\n"
               "        time.sleep(1000)\nprint('x')")
    ended = run_python(kind, START + program, TOKEN)
    assert (ended.code, ended.stdout) == (0, b"x\n")
    assert not alive()


DRIVER = """
import sys, time
from jaxrl_moe.sandbox.readable import python
from jaxrl_moe.sandbox.records import Bounds, Cell
from jaxrl_moe.sandbox.shut_in import ShutIn
from jaxrl_moe.sandbox.ways import Way
program = "import os, sys, time\\nfor _ in range(3):\\n    os.fork()\\nos.setsid\\nprint(1, flush=True)\\ntime.sleep(1000)"
shut = ShutIn([sys.executable, "-I", "-S", "-c", program, sys.argv[2]], Cell(python()), Bounds(), Way(sys.argv[1]))
for _ in range(8):
    shut.stdout.read(2)
print("begun", flush=True)
time.sleep(1000)
"""


@pytest.mark.parametrize("kind", KINDS, ids=kind_name)
def test_nothing_outlives_us_even_when_we_are_killed(kind):
    if missing(kind):
        pytest.skip(missing(kind))
    way, plain = kind
    command = [*(as_plain_user() if plain else ()), sys.executable, "-c", DRIVER, way.value, TOKEN]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=pathlib.Path(__file__).parents[2],
                          env=os.environ | {"PYTHONPATH": "."}) as driver:
        assert driver.stdout.readline() == "begun\n"
        driver.kill()
    wait_until(lambda: not alive())


@pytest.mark.parametrize("way", list(Way))
def test_no_process_and_no_descriptor_of_ours_is_left(way):
    if missing((way, False)):
        pytest.skip(missing((way, False)))
    before = set(os.listdir("/proc/self/fd"))
    threads = threading.active_count()
    for program in ("pass", "import time\ntime.sleep(1000)", "import os\nos.abort()"):
        with ShutIn([sys.executable, "-I", "-S", "-c", program, TOKEN], Cell(python()), SMALL, way) as shut:
            threading.Timer(0.3, shut.end).start()
            shut.wait()
    with pytest.raises(Exception, match="shut in|No such file"):
        run(["/none/such"], Cell(python()), dataclasses.replace(SMALL), way)
    with contextlib.suppress(ChildProcessError):
        assert os.waitpid(-1, os.WNOHANG) == (0, 0)  # no zombie
    wait_until(lambda: threading.active_count() <= threads)
    assert set(os.listdir("/proc/self/fd")) <= before and not alive()


@pytest.mark.parametrize("way", list(Way))
def test_one_talks_with_it_from_any_thread_and_gives_it_descriptors(way):
    """It does not end with the thread that has started it."""
    if missing((way, False)):
        pytest.skip(missing((way, False)))
    reading, writing = os.pipe()
    program = "import os, sys\nos.write(4, b'four')\nfor line in sys.stdin:\n    print(line.upper(), end='', flush=True)"
    made = []
    ours = os.dup2(writing, 200, inheritable=False)

    def start():
        made.append(ShutIn([sys.executable, "-I", "-S", "-c", program, TOKEN], Cell(python()),
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


def test_each_has_a_user_of_its_own():
    if os.geteuid() != 0:
        pytest.skip("only root has users to lend")
    way = next((way for way, plain in OWN if not missing((way, plain))), None)
    if way is None:
        pytest.skip("there is no sandbox here")
    command = [sys.executable, "-I", "-S", "-c", "import os\nprint(os.getresuid() + os.getresgid(), flush=True)\n"
               "input()", TOKEN]
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
