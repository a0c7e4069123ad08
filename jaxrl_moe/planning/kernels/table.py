"""What a run of a GPU program launches: kernels, the bytes that each moves, and the FLOPs of its products."""
from collections.abc import Iterable
from typing import NamedTuple

from jaxrl_moe.distributed.chips import Chip


class Kernel(NamedTuple):
    """One launching instruction.

    Attributes:
      kind: fusion, gemm, attention, copy, ..., a collective's name, or the target of another custom call.
      shape: of its results; source: what it was traced from.
      launches: in a run of the program.
      bytes: that one launch reads and writes; flops: of its products, None where they are not known; link:
        bytes that a collective moves between devices.
    """
    name: str
    kind: str
    shape: str
    source: str
    launches: int
    bytes: int
    flops: float | None
    link: int

    def seconds(self, chip: Chip, launch: float = 0.0) -> float:
        """Of all its launches, each as long as the slowest of memory, products and links; `launch` seconds
        more each."""
        work = max(self.bytes / chip.bandwidth, (self.flops or 0.0) / chip.flops, self.link / chip.link)
        return self.launches * (work + launch)


class Loop(NamedTuple):
    """A loop whose trips only the device knows.

    Attributes:
      entered: how often; trips: that are assumed each time; launches: of one trip.
    """
    name: str
    source: str
    entered: int
    trips: int
    launches: int


class Branching(NamedTuple):
    """A conditional.

    Attributes:
      entered: how often; seconds: of each branch, the dearest of which is counted.
    """
    name: str
    source: str
    entered: int
    seconds: tuple[float, ...]


class Table(NamedTuple):
    """Kernels in the order in which a run comes to them, its loops of unknown trips, and its conditionals."""
    kernels: tuple[Kernel, ...] = ()
    loops: tuple[Loop, ...] = ()
    branchings: tuple[Branching, ...] = ()

    @property
    def launches(self) -> int:
        return sum(kernel.launches for kernel in self.kernels)

    @property
    def bytes(self) -> int:
        return sum(kernel.launches * kernel.bytes for kernel in self.kernels)

    @property
    def flops(self) -> float:
        """Of the kernels whose FLOPs are known."""
        return sum(kernel.launches * (kernel.flops or 0.0) for kernel in self.kernels)

    @property
    def link(self) -> int:
        return sum(kernel.launches * kernel.link for kernel in self.kernels)

    def seconds(self, chip: Chip, launch: float = 0.0) -> float:
        """When one kernel runs after the other."""
        return sum(kernel.seconds(chip, launch) for kernel in self.kernels)

    def times(self, count: int) -> "Table":
        """Of as many runs; kernels that never run are left out, their loops are not."""
        kernels = (kernel._replace(launches=kernel.launches * count) for kernel in self.kernels if count)
        loops = (loop._replace(entered=loop.entered * count) for loop in self.loops)
        branchings = (branching._replace(entered=branching.entered * count) for branching in self.branchings)
        return Table(tuple(kernels), tuple(loops), tuple(branchings))


def joined(tables: Iterable[Table]) -> Table:
    """One after the other."""
    several = list(tables)
    return Table(*(tuple(row for table in several for row in table[field])
                   for field in range(len(Table._fields))))
