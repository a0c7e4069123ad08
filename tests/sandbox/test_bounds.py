"""Whoever takes more than it may is killed, and it is said for what; nothing of it is left."""
import dataclasses

import pytest

from jaxrl_moe.sandbox.records import Cause
from tests.helpers.shut_in import SMALL, TOKEN, alive, run_python

CHILDREN = """
for _ in range(8):
    if not os.fork():
        kept = bytearray(2**26)
        time.sleep(1000)
time.sleep(1000)
"""
ORPHANS = """
for _ in range(8):
    if not os.fork():
        if os.fork():
            os._exit(0)
        os.setsid()
        kept = bytearray(2**26)
        time.sleep(1000)
time.sleep(1000)
"""
TABLES = """
import mmap
areas = []
for _ in range(64):
    area = mmap.mmap(-1, 2**35, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000, mmap.PROT_READ)
    areas.append(area)
    for place in range(0, 2**35, 2**21):
        area[place]
time.sleep(1000)
"""
FILES = """
for name in "/tmp/x", "/dev/shm/x":
    with open(name, "wb") as file:
        for _ in range(192):
            file.write(bytes(2**20))
time.sleep(1000)
"""
FORKS = """
while True:
    try:
        os.fork()
    except OSError:
        pass
"""
THREADS = """
import threading
for _ in range(48):
    threading.Thread(target=time.sleep, args=[1000]).start()
"""
BOMBS = {  # what is bounded otherwise, what it is killed for, the program
    "memory of a process": ({}, Cause.MEMORY,
                            "kept = [bytearray(2**24) for _ in range(64)]\ntime.sleep(1000)"),
    "memory of children": ({}, Cause.MEMORY, CHILDREN),
    "memory of orphans": ({}, Cause.MEMORY, ORPHANS),
    "tables of pages": ({}, Cause.MEMORY, TABLES),
    "files in memory": ({"disk_bytes": 2**28, "file_bytes": 2**29}, Cause.MEMORY, FILES),
    "processes": ({}, Cause.PROCESSES, FORKS),
    "threads": ({}, Cause.PROCESSES, THREADS),
    "sleep": ({"seconds": 1}, Cause.TIME, "time.sleep(1000)"),
    "an endless loop": ({"seconds": 1}, Cause.TIME,
                        "signal.signal(15, signal.SIG_IGN)\nwhile True:\n    pass"),
    "time of processors": ({"cpu_seconds": 1}, Cause.CPU, "os.fork()\nwhile True:\n    pass"),
    "output": ({}, Cause.OUTPUT, "while True:\n    os.write(1, bytes(2**16))"),
    "errors": ({}, Cause.OUTPUT, "while True:\n    os.write(2, bytes(2**16))")}


@pytest.mark.parametrize("name", BOMBS)
def test_who_takes_more_than_it_may_is_killed_and_it_is_said_for_what(kind, name):
    changed, cause, program = BOMBS[name]
    ended = run_python(kind, f"import os, signal, time\n{program}", TOKEN,
                       bounds=dataclasses.replace(SMALL, **changed))
    assert (ended.cause, ended.code) == (cause, 137), ended.stderr[-500:].decode()
    assert ended.peak_mib < 1024
    assert len(ended.stdout) + len(ended.stderr) <= SMALL.output_bytes
    assert not alive()


FILLS = """
import os, signal

def filled(action):
    try:
        while True:
            action()
    except OSError as error:
        return error.errno
def write(file):
    return lambda: file.write(bytes(2**16))
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


def test_folders_and_files_are_bounded(kind):
    ended = run_python(kind, FILLS, TOKEN, bounds=dataclasses.replace(SMALL, file_bytes=2**22))
    assert ended.stdout.decode().strip() == "[28, True, 28, True, 27]", ended.stderr.decode()  # ENOSPC, EFBIG


def test_files_without_number_are_memory_too(kind):
    """Of which empty ones take none of a folder's bytes."""
    program = "import os\nfor number in range(10**6):\n    os.close(os.open(f'/tmp/{number}', os.O_CREAT))"
    ended = run_python(kind, program, TOKEN, bounds=dataclasses.replace(SMALL, memory_mib=20))
    assert ended.cause is Cause.MEMORY or b"No space left" in ended.stderr
