"""The table of a compiled GPU program, from its text (compiled.as_text()), which needs no GPU
(planning/target.py).

A kernel is an instruction for which XLA launches something. A sort, a product that is split along its sum or
a library's call may launch more than one; a graph (command buffer) launches several at once, which the text
does not say.
"""
from collections.abc import Mapping
from typing import NamedTuple

from jaxrl_moe.distributed.chips import Chip
from jaxrl_moe.planning.hlo import COLLECTIVES, moved_bytes
from jaxrl_moe.planning.instructions import Computation, Instruction, Module
from jaxrl_moe.planning.kernels.bytes import kernel_bytes, result_shapes
from jaxrl_moe.planning.kernels.flops import kernel_flops
from jaxrl_moe.planning.kernels.table import Branching, Kernel, Loop, Table, joined

# What XLA only keeps account of, or waits for; so is what ends in -done.
_SILENT = ("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "add-dependency",
           "opt-barrier", "domain", "async-update")
_LIBRARIES = {
    "__cublas$": "gemm",
    "__cudnn$fmha": "attention",
    "__cudnn$conv": "convolution",
    "__cub$": "sort"
}


class Assumed(NamedTuple):
    """What a table is made with: see kernel_table."""
    module: Module
    chip: Chip
    trips: Mapping[str, int] | int
    flops: Mapping[str, float]


def kernel_table(module: Module, chip: Chip, *, trips: Mapping[str, int] | int = 1,
                 flops: Mapping[str, float] | None = None, within: str | None = None) -> Table:
    """The kernels of a run.

    Args:
      module: the parsed text of the program.
      chip: by which the dearest branch of a conditional is chosen.
      trips: of the loops whose trips only the device knows: of each by its name, 1 for one that is not named;
        or of all.
      flops: {name, source or target of a custom call: FLOPs of a launch}, for calls whose products XLA does
        not know.
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
    """The body of the only loop of unknown trips in the entry computation, None where there is none or more
    than one."""
    entry = module.computations[module.entry].values()
    loops = [instruction for instruction in entry
             if instruction.opcode == "while" and instruction.trips is None]
    return _role(loops[0], "body") if len(loops) == 1 else None


def _walk(assumed: Assumed, name: str) -> Table:
    """What one run of a computation launches."""
    body = assumed.module.computations[name]
    return joined(_launched(assumed, body, instruction) for instruction in body.values())


def _launched(assumed: Assumed, body: Computation, instruction: Instruction) -> Table:
    if instruction.opcode in _SILENT or instruction.opcode.endswith("-done"):
        return Table()
    if instruction.opcode == "while":
        return _loop(assumed, instruction)
    if instruction.opcode == "conditional":
        return _branches(assumed, instruction)
    if instruction.opcode in ("call", "async-start"):
        return joined(_walk(assumed, name) for _, name in instruction.called)
    return Table((_kernel(assumed, body, instruction),))


def _loop(assumed: Assumed, loop: Instruction) -> Table:
    """The host counts a loop of known trips itself, without a look at its condition."""
    once = _walk(assumed, _role(loop, "body"))
    if loop.trips is not None:
        return once.times(loop.trips)
    trips = assumed.trips if isinstance(assumed.trips, int) else assumed.trips.get(loop.name, 1)
    condition = _walk(assumed, _role(loop, "condition"))
    row = Loop(loop.name, loop.source, 1, trips, once.launches + condition.launches)
    return joined([Table(loops=(row,)), once.times(trips), condition.times(trips + 1)])


def _branches(assumed: Assumed, conditional: Instruction) -> Table:
    """The dearest branch; the loops of the others are listed all the same."""
    tables = [_walk(assumed, name) for _, name in conditional.called]
    seconds = tuple(table.seconds(assumed.chip) for table in tables)
    dearest = tables.pop(seconds.index(max(seconds)))
    row = Branching(conditional.name, conditional.source, 1, seconds)
    return joined([Table(branchings=(row,)), dearest, *(table.times(0) for table in tables)])


def _kernel(assumed: Assumed, body: Computation, instruction: Instruction) -> Kernel:
    module = assumed.module
    shape = " ".join(result_shapes(module, body, instruction))
    link = sum(map(moved_bytes, [instruction, *_fused(module, instruction)]))
    return Kernel(name=instruction.name, kind=_kind(module, instruction), shape=shape,
                  source=_source(module,
                                 instruction), launches=1, bytes=kernel_bytes(module, body, instruction),
                  flops=kernel_flops(module, body, instruction, assumed.flops), link=link)


def _kind(module: Module, instruction: Instruction) -> str:
    """What launches it: of a fusion around a library's call or a collective, that."""
    if instruction.kind == "custom-call":
        target = instruction.target
        return next((kind for start, kind in _LIBRARIES.items() if target.startswith(start)), target)
    inner = (fused for fused in _fused(module, instruction) if fused.kind in ("custom-call", *COLLECTIVES))
    return next((_kind(module, fused) for fused in inner), instruction.kind)


def _source(module: Module, instruction: Instruction) -> str:
    """Its own, or else that of the last fused instruction that has one."""
    inner = [fused.source for fused in _fused(module, instruction)]
    return instruction.source or next(filter(None, reversed(inner)), "")


def _fused(module: Module, instruction: Instruction) -> list[Instruction]:
    """What a fusion is made of."""
    names = [name for _, name in instruction.called] if instruction.kind == "fusion" else []
    return [fused for name in names for fused in module.computations[name].values()]


def _role(instruction: Instruction, role: str) -> str:
    return next(name for called_as, name in instruction.called if called_as == role)
