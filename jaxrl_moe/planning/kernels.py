"""The kernels that a compiled GPU program launches: how often, the bytes that each moves, the FLOPs of its products.

Read from the program's text (compiled.as_text()), which a machine without the GPU can make too (planning/target.py). A kernel is an
instruction that XLA launches something for; a sort, a product split along its sum or a library's call may launch more than one.
"""
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from jaxrl_moe.distributed.chips import Chip
from jaxrl_moe.planning.hlo import COLLECTIVES, moved_bytes
from jaxrl_moe.planning.instructions import Computation, Instruction, Module, arrays
from jaxrl_moe.planning.kernel_bytes import kernel_bytes, without_scratch
from jaxrl_moe.planning.kernel_flops import kernel_flops

# What XLA only keeps account of, or waits for; those that end in -done too.
_SILENT = ("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "add-dependency", "opt-barrier", "domain",
           "async-update")
_LIBRARIES = {"__cublas$": "gemm", "__cudnn$fmha": "attention", "__cudnn$conv": "convolution", "__cub$": "sort"}


class Kernel(NamedTuple):
    """One launching instruction.

    Attributes:
      kind: fusion, gemm, copy, ..., a collective's name, or the target of a custom call.
      shape: of its results; source: what it was traced from.
      launches: in a run of the program.
      bytes, flops, link: of one launch: bytes read and written, FLOPs of its products (None: unknown), bytes that a collective moves.
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
        """Of all its launches, each as long as the slowest of memory, products and links takes, and `launch` seconds more."""
        return self.launches * (max(self.bytes / chip.bandwidth, (self.flops or 0.0) / chip.flops, self.link / chip.link) + launch)


class Loop(NamedTuple):
    """A loop whose trips only the device knows: entered how often, trips that are assumed each time, kernels of one trip."""
    name: str
    source: str
    entered: int
    trips: int
    launches: int


class Branching(NamedTuple):
    """A conditional: reached how often, and the seconds of each branch, of which the dearest is counted."""
    name: str
    source: str
    entered: int
    seconds: tuple[float, ...]


class Table(NamedTuple):
    """What a run of a program launches."""
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


class Assumed(NamedTuple):
    """What a table is made with: see kernel_table."""
    module: Module
    chip: Chip
    trips: Mapping[str, int] | int
    flops: Mapping[str, float]


def kernel_table(module: Module, chip: Chip, *, trips: Mapping[str, int] | int = 1, flops: Mapping[str, float] | None = None,
                 within: str | None = None) -> Table:
    """The kernels of a run.

    Args:
      module: the parsed text of the program.
      chip: by which the dearest branch of a conditional is chosen.
      trips: of the loops whose trips only the device knows: of each by its name, 1 for one that is not named; or of all.
      flops: {name, source or target of a custom call: FLOPs of a launch}, for calls whose products XLA does not know.
      within: the computation to count, such as a loop's body for one trip of it; None: the whole program.

    Raises:
      ValueError: `trips` names a loop that is not there, or whose trips are known.
    """
    table = _walk(Assumed(module, chip, trips, flops or {}), within or module.entry)
    named = set() if isinstance(trips, int) else set(trips) - {loop.name for loop in table.loops}
    if named:
        raise ValueError(f"No loop of unknown trips is called {', '.join(sorted(named))}: there are "
                         f"{', '.join(loop.name for loop in table.loops) or 'none'}.")
    return table


def open_loop(module: Module) -> str | None:
    """The body of the program's outermost loop of unknown trips, None where there is none or more than one."""
    loops = [found for found in module.computations[module.entry].values() if found.opcode == "while" and found.trips is None]
    return _role(loops[0], "body") if len(loops) == 1 else None


def least_bytes(module: Module, within: str | None = None) -> int:
    """Bytes of every array that a computation is given and uses, and of every array that it makes and returns."""
    body = module.computations[within or module.entry]
    root = next(found for found in body.values() if found.root)
    returned = set(root.operands) if root.opcode == "tuple" else {root.name}
    given = {found.name for found in body.values() if _is_given(body, found)}
    used = {name for user in body.values() if not (user is root and root.opcode == "tuple") for name in user.operands}
    return sum(array.bytes() for name in (given & used) | (returned - given) for array in arrays(body[name].shape))


def _is_given(body: Computation, found: Instruction) -> bool:
    """Whether it is an argument, or an array of one that is a tuple."""
    if found.opcode == "get-tuple-element":
        return body[found.operands[0]].opcode == "parameter"
    return found.opcode == "parameter" and not found.shape.startswith("(")


def _walk(assumed: Assumed, name: str) -> Table:
    """What one run of a computation launches."""
    body = assumed.module.computations[name]
    return _joined(_launched(assumed, body, instruction) for instruction in body.values())


def _launched(assumed: Assumed, body: Computation, instruction: Instruction) -> Table:
    if instruction.opcode in _SILENT or instruction.opcode.endswith("-done"):
        return Table()
    if instruction.opcode == "while":
        return _loop(assumed, instruction)
    if instruction.opcode == "conditional":
        return _branches(assumed, instruction)
    if instruction.opcode in ("call", "async-start"):
        return _joined(_walk(assumed, name) for _, name in instruction.called)
    return Table((_kernel(assumed, body, instruction),))


def _loop(assumed: Assumed, loop: Instruction) -> Table:
    """A loop of known trips is unrolled by the host, which does not look at its condition."""
    once = _walk(assumed, _role(loop, "body"))
    if loop.trips is not None:
        return _times(once, loop.trips)
    trips = assumed.trips if isinstance(assumed.trips, int) else assumed.trips.get(loop.name, 1)
    condition = _walk(assumed, _role(loop, "condition"))
    own = Table(loops=(Loop(loop.name, loop.source, 1, trips, once.launches + condition.launches),))
    return _joined([own, _times(once, trips), _times(condition, trips + 1)])


def _branches(assumed: Assumed, conditional: Instruction) -> Table:
    tables = [_walk(assumed, name) for _, name in conditional.called]
    seconds = tuple(table.seconds(assumed.chip) for table in tables)
    dearest = tables[seconds.index(max(seconds))]
    others = (table._replace(kernels=()) for table in tables if table is not dearest)  # their loops are listed all the same
    return _joined([Table(branchings=(Branching(conditional.name, conditional.source, 1, seconds),)), dearest, *others])


def _kernel(assumed: Assumed, body: Computation, instruction: Instruction) -> Kernel:
    module = assumed.module
    return Kernel(instruction.name, _kind(module, instruction), " ".join(without_scratch(instruction)), _source(module, instruction), 1,
                  kernel_bytes(module, body, instruction), kernel_flops(module, body, instruction, assumed.flops),
                  moved_bytes(instruction))


def _kind(module: Module, instruction: Instruction) -> str:
    """What launches it: of a fusion around a library's call, that call."""
    if instruction.kind == "custom-call":
        return next((kind for start, kind in _LIBRARIES.items() if instruction.target.startswith(start)), instruction.target)
    if instruction.kind in COLLECTIVES or instruction.kind != "fusion":
        return instruction.kind
    inner = (found for _, name in instruction.called for found in module.computations[name].values())
    return next((_kind(module, found) for found in inner if found.opcode == "custom-call"), "fusion")


def _source(module: Module, instruction: Instruction) -> str:
    """Its own, or else that of the last fused instruction that has one."""
    inner = [found.source for _, name in instruction.called for found in module.computations.get(name, {}).values()]
    return instruction.source or next(filter(None, reversed(inner)), "")


def _role(instruction: Instruction, role: str) -> str:
    return next(name for found, name in instruction.called if found == role)


def _times(table: Table, count: int) -> Table:
    """A table of as many runs; what never runs is left out, but for its loops."""
    kernels = (kernel._replace(launches=kernel.launches * count) for kernel in table.kernels if count)
    loops = (loop._replace(entered=loop.entered * count) for loop in table.loops)
    branchings = (branching._replace(entered=branching.entered * count) for branching in table.branchings)
    return Table(tuple(kernels), tuple(loops), tuple(branchings))


def _joined(tables: Iterable[Table]) -> Table:
    several = list(tables)
    return Table(*(tuple(row for table in several for row in table[field]) for field in range(len(Table._fields))))
