"""What a program that is shut in may use, what it finds, and how it ended."""
import dataclasses
import enum
import math
import os
import resource
from collections.abc import Mapping, Sequence

_MADE = ("/", "/proc", "/dev", "/dev/shm", "/tmp")  # folders of the sandbox's own
_MIB = 2**20


@dataclasses.dataclass(frozen=True)
class Bounds:
    """What a program and all that it starts may use; whoever takes more is killed, or refused more.

    Attributes:
      memory_mib: of all its processes together, with what they have written to /tmp and /dev/shm.
      process_mib: of data that each process may have, touched or not; 0: twice memory_mib, so that who takes
        too much is killed and said to have done so, and does not see its allocation fail.
      processes: with their threads, and with the first one, which waits for the others.
      seconds: from its start to its end; math.inf: until it is ended.
      cpu_seconds: of all its processes; math.inf: unbounded.
      output_bytes: of what is read of it, standard error and, where that is kept, standard output.
      disk_bytes: of each of /tmp and /dev/shm, which are in memory.
      file_bytes: of each file.
      open_files: of each process. What the kernel keeps in pipes and sockets counts nowhere else.

    Raises:
      ValueError: one of them is not positive.
    """
    memory_mib: int = 2048
    process_mib: int = 0
    processes: int = 64
    seconds: float = 60.0
    cpu_seconds: float = math.inf
    output_bytes: int = _MIB
    disk_bytes: int = 64 * _MIB
    file_bytes: int = 64 * _MIB
    open_files: int = 256

    def __post_init__(self):
        for name, value in dataclasses.asdict(self).items():
            if not value > 0 and (name, value) != ("process_mib", 0):
                raise ValueError(f"{name} = {value}: must be positive")

    @property
    def files(self) -> int:
        """Most files of /tmp, and of /dev/shm: an empty one takes memory too."""
        return 1024 + self.disk_bytes // 2**14

    def of_a_process(self) -> dict[str, int]:
        """What the kernel holds each process to (setrlimit), by the names that prlimit has for them.

        Processes are counted by user id, so twice as many are allowed: who comes over the bound is seen and
        killed. A core of 1 byte is none; 0 would let a handler of the machine's have it (core(5)).
        """
        held = {"core": 1, "data": (self.process_mib or 2 * self.memory_mib) * _MIB, "fsize": self.file_bytes,
                "nofile": self.open_files, "nproc": 2 * self.processes, "msgqueue": 0, "sigpending": 1024}
        held |= {} if math.isinf(self.cpu_seconds) else {"cpu": math.ceil(self.cpu_seconds) + 1}
        return {name: _at_most(name, value) for name, value in held.items()}


@dataclasses.dataclass(frozen=True)
class Cell:
    """What a program finds inside, beside /proc, a few harmless devices, and /tmp and /dev/shm that begin
    empty, are in memory and end with it.

    Attributes:
      readable: folders and files of this machine that it may read, where they are; links are followed.
      devices: such as /dev/nvidia0, which it may use as far as their permissions go.
      environment: all of its environment variables; nothing is inherited.
      nests: it shuts in parts of itself, as browsers do: it may make namespaces, memory that has no name, and
        sockets of the network that has nobody in it. Else not.

    Raises:
      ValueError: a path is not absolute, is not there, or is one of the sandbox's own.
    """
    readable: tuple[str, ...]
    devices: tuple[str, ...] = ()
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    nests: bool = False

    def __post_init__(self):
        for path in (*self.readable, *self.devices):
            if os.path.normpath(path) != path or not path.startswith("/") or path in _MADE:
                raise ValueError(f"{path!r} cannot be shown in a sandbox: name what lies deeper, absolutely")
            if not os.path.exists(path):
                raise ValueError(f"{path!r} is not there, and cannot be shown in a sandbox")

    def shown(self, beside: Sequence[str] = ()) -> list[str]:
        """Readable paths and others beside, without those that others contain."""
        paths: list[str] = []
        for path in sorted({*self.readable, *beside}):
            if not any(path.startswith(f"{other}/") for other in paths):
                paths.append(path)
        return paths


class Cause(enum.StrEnum):
    """What a program was killed for."""
    MEMORY = "memory"
    TIME = "time"
    CPU = "cpu"
    PROCESSES = "processes"
    OUTPUT = "output"
    ASKED = "asked"  # by us


@dataclasses.dataclass(frozen=True)
class Exit:
    """How a program ended.

    Attributes:
      code: its exit code; 128 + n where signal n ended it.
      cause: what it was killed for; None: it ended by itself, or the machine killed it.
      stdout: what it wrote, where that was kept; the first output_bytes of it.
      stderr: likewise.
      peak_mib: the most memory that was seen.
      seconds: from its start to its end.
    """
    code: int
    cause: Cause | None
    stdout: bytes
    stderr: bytes
    peak_mib: float
    seconds: float


def _at_most(name: str, value: int) -> int:
    """It, or what this process itself is held to, where that is less: nobody may raise it."""
    own = resource.getrlimit(getattr(resource, f"RLIMIT_{name.upper()}"))[1]
    return value if own == resource.RLIM_INFINITY else min(own, value)
