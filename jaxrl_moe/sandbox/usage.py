"""What a process and all that it has started use, as /proc tells; without cgroups, which are not everywhere
ours to use."""
import collections
import contextlib
import dataclasses
import functools
import os
import threading

_TICKS = os.sysconf("SC_CLK_TCK")
_SEPARATE = (b"VmPTE", b"HugetlbPages")  # tables of pages, which reading alone fills
_MEMORY = (b"VmRSS", b"VmSwap", *_SEPARATE)
_FILE_BYTES = 1024  # of memory that a file takes, however empty it is
_FOLDERS = ("/tmp", "/dev/shm")


@dataclasses.dataclass(frozen=True)
class Usage:
    """
    Attributes:
      memory: bytes.
      processes: with their threads.
      cpu_seconds: with those of their children that have ended.
    """
    memory: int
    processes: int
    cpu_seconds: float


def usage(first: int, most: int) -> Usage:
    """Of a sandbox.

    Args:
      first: its first process.
      most: bytes of memory; only where more seem to be used are shared pages counted once, which takes long.
    """
    pids = descendants(first)
    statuses = {pid: _status(pid) for pid in pids}
    written = _written(first)
    memory = written + sum(map(_resident, statuses.values()))
    if memory > most:
        memory = written + sum(_proportional(pid) or _resident(status) for pid, status in statuses.items())
    return Usage(memory, sum(status.get(b"Threads", 0) for status in statuses.values()),
                 sum(map(_cpu_seconds, pids)))


def descendants(first: int) -> list[int]:
    """A process and all that descend from it, as far as they live."""
    pids = [first]
    children = _children if _tells_children() else _by_parent().__getitem__
    for pid in pids:  # which grows meanwhile
        pids += children(pid)
    return pids


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):  # it has ended
        for task in os.listdir(f"/proc/{pid}/task"):
            found += map(int, _read(f"/proc/{pid}/task/{task}/children").split())
    return found


@functools.cache
def _tells_children() -> bool:
    """Whether the kernel was built to."""
    return os.path.exists(f"/proc/self/task/{threading.get_native_id()}/children")


def _by_parent() -> dict[int, list[int]]:
    """{process: its children} of the machine."""
    children: dict[int, list[int]] = collections.defaultdict(list)
    for name in filter(str.isdigit, os.listdir("/proc")):
        fields = _read(f"/proc/{name}/stat").rpartition(b")")[2].split()
        if fields:
            children[int(fields[1])].append(int(name))
    return children


def _status(pid: int) -> dict[bytes, int]:
    """Numbers that /proc tells of a process; none where it has ended."""
    lines = (line.split() for line in _read(f"/proc/{pid}/status").splitlines())
    return {words[0].rstrip(b":"): int(words[1]) for words in lines if len(words) > 1 and words[1].isdigit()}


def _cpu_seconds(pid: int) -> float:
    fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()  # its name may have any letters
    return sum(map(int, fields[11:15])) / _TICKS


def _resident(status: dict[bytes, int]) -> int:
    """Bytes, with what it shares."""
    return sum(status.get(name, 0) for name in _MEMORY) * 1024


def _proportional(pid: int) -> int:
    """Bytes, of which what n processes share counts one n-th; 0 where it is not told."""
    told = [line.split() for line in _read(f"/proc/{pid}/smaps_rollup").splitlines()]
    shares = sum(int(words[1]) for words in told if words[0] in (b"Pss:", b"SwapPss:"))
    tables = _status(pid)
    return (shares + sum(tables.get(name, 0) for name in _SEPARATE)) * 1024 if shares else 0


def _written(first: int) -> int:
    """Bytes of memory that files of the sandbox take."""
    total = 0
    for folder in _FOLDERS:
        with contextlib.suppress(OSError):  # it has ended
            # Held open, as between two looks at a path another file system may have come there.
            held = os.open(f"/proc/{first}/root{folder}", os.O_PATH | os.O_DIRECTORY)
            try:
                if os.fstat(held).st_dev != os.stat(folder).st_dev:  # else it is the machine's own, still
                    total += _taken(os.fstatvfs(held))
            finally:
                os.close(held)
    return total


def _taken(seen: os.statvfs_result) -> int:
    return (seen.f_blocks - seen.f_bfree) * seen.f_frsize + (seen.f_files - seen.f_ffree) * _FILE_BYTES


def _read(path: str) -> bytes:
    """What a file of /proc says; nothing where its process has ended."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""
