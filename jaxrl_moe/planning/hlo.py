"""Bytes that the collectives of a compiled XLA program move, with the bodies of loops counted as often as
they run."""
import math
import re
from collections import Counter
from collections.abc import Collection, Iterator

from jaxrl_moe.planning.instructions import Computation, Instruction, arrays, parse, parts

COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")


def collective_bytes(text: str) -> dict[str, int]:
    """{kind: bytes of the results of a device's collectives of that kind}; a loop of unknown trips counts
    once.

    An all-reduce counts twice its result, as its ring moves it.
    """
    module = parse(text)
    known = {}
    bodies = module.computations

    def moved(name: str) -> Counter:
        if name not in known:  # each computation once, however many places call it
            called = (_scaled(moved(target), times) for target, times in _calls(bodies[name], bodies))
            known[name] = sum(called, _own(bodies[name]))
        return known[name]

    return {kind: moved(module.entry)[kind] for kind in COLLECTIVES}


def moved_bytes(collective: Instruction) -> int:
    """Bytes that one collective moves, 0 where every device is a group of its own, and for any other
    instruction."""
    if collective.kind not in COLLECTIVES or _alone(collective):
        return 0
    size = sum(array.bytes() for array in arrays(result_shape(collective)))
    return 2 * size if collective.kind == "all-reduce" else size


def result_shape(instruction: Instruction) -> str:
    """The type of what an instruction gives; one that only starts names its operands too, before (an
    all-reduce does not)."""
    started = instruction.opcode.endswith("-start") and instruction.opcode != "all-reduce-start"
    several = parts(instruction.shape)
    if not started or len(several) < 2:
        return instruction.shape
    return several[0] if instruction.opcode == "copy-start" else several[1]


def _own(body: Computation) -> Counter:
    """What the collectives of a computation itself move."""
    moved = Counter()
    for instruction in body.values():
        if instruction.kind in COLLECTIVES:
            moved[instruction.kind] += moved_bytes(instruction)
    return moved


def _scaled(moved: Counter, times: int) -> Counter:
    return Counter({kind: times * size for kind, size in moved.items()})


def _calls(body: Computation, bodies: Collection[str]) -> Iterator[tuple[str, int]]:
    """(computation that is called, how often) for each place that calls one."""
    for instruction in body.values():
        times = (instruction.trips or 1) if instruction.opcode == "while" else 1
        for _, target in instruction.called:
            if target in bodies:
                yield target, times


def _alone(collective: Instruction) -> bool:
    """Whether every device is a group of its own, so that nothing moves."""
    groups = re.search(r"replica_groups=(?:\[\d+,(\d+)\]|\{\{([\d,]*)\}|mesh\[([^\]]*)\] \{([^}]*)\})",
                       collective.attributes)
    if not groups:
        return False
    counted, listed, mesh, axes = groups.groups()
    if mesh is not None:
        return _mesh_group(mesh, axes) == 1
    return counted == "1" if counted else "," not in listed


def _mesh_group(mesh: str, axes: str) -> int:
    """Devices of a group over some axes of a mesh, such as 'x'=4,'y'=2 and 'x', or 'x':(1)2 for a part of an
    axis."""
    sizes = dict(re.findall(r"'(\w+)'=(\d+)", mesh))
    split = re.findall(r"'(\w+)'(?::\(\d+\)(\d+))?", axes)
    return math.prod(int(size_of_part or sizes[name]) for name, size_of_part in split)
