"""Reads compiled XLA programs: bytes that their collectives move, with the bodies of loops counted as often as they run."""
import re
from collections import Counter
from collections.abc import Collection, Iterator

import numpy as np

SIZES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8}
COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) .*\{$")
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\]")
_CALLED = re.compile(r"\b(?:body|condition|to_apply|calls|branch_computations|true_computation|false_computation)="
                     r"(?:\{([^}]*)\}|%?([\w.\-]+))")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


def collective_bytes(text: str) -> dict[str, int]:
    """{kind: bytes of the results of a device's collectives of that kind}; a loop whose trips XLA does not know counts once.

    An all-reduce counts twice its result, as its ring moves it.
    """
    bodies, entry, known = {}, None, {}
    for name, lines, first in _computations(text):
        bodies[name], entry = lines, name if first else entry

    def moved(name: str) -> Counter:
        if name not in known:  # each computation once, however many places call it
            known[name] = sum((_scaled(moved(target), times) for target, times in _calls(bodies[name], bodies)), _own(bodies[name]))
        return known[name]

    return {kind: moved(entry)[kind] for kind in COLLECTIVES}


def _own(lines: list[str]) -> Counter:
    """What the collectives of a computation itself move."""
    found = Counter()
    for line in lines:
        kind = _kind(line)
        if kind and not _alone(line):
            found[kind] += _result_bytes(line, kind) * (2 if kind == "all-reduce" else 1)
    return found


def _scaled(moved: Counter, times: int) -> Counter:
    return Counter({kind: times * size for kind, size in moved.items()})


def _computations(text: str) -> Iterator[tuple[str, list[str], bool]]:
    """(name, lines, whether it is the entry) of each computation."""
    name, lines, first = None, [], False
    for line in text.splitlines():
        start = _COMPUTATION.match(line)
        if start:
            name, lines, first = start[1], [], line.startswith("ENTRY")
        elif line.startswith("}") and name is not None:
            yield name, lines, first
            name = None
        elif name is not None:
            lines.append(line)


def _calls(lines: list[str], bodies: Collection[str]) -> Iterator[tuple[str, int]]:
    """(computation that is called, how often) for each place that calls one."""
    for line in lines:
        called = _CALLED.findall(line)
        if not called:
            continue
        trips = _TRIPS.search(line) if " while(" in line else None
        for several, one in called:
            for target in re.findall(r"[\w.\-]+", several or one):
                if target in bodies:
                    yield target, int(trips[1]) if trips else 1


def _kind(line: str) -> str | None:
    return next((kind for kind in COLLECTIVES if f" {kind}(" in line or f" {kind}-start(" in line), None)


def _alone(line: str) -> bool:
    """Whether every device is a group of its own, so that nothing moves."""
    groups = re.search(r"replica_groups=(?:\[\d+,(\d+)\]|\{\{([\d,]*)\})", line)
    if not groups:
        return False
    return groups[1] == "1" if groups[1] else "," not in groups[2]


def _result_bytes(line: str, kind: str) -> int:
    shape = line.split(f" {kind}", 1)[0].split("=", 1)[1]
    return sum(SIZES[dtype] * int(np.prod([int(size) for size in dims.split(",") if size], dtype=np.int64))
               for dtype, dims in _ARRAY.findall(shape) if dtype in SIZES)
