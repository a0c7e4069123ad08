"""Reads where a compiled XLA program puts its temporaries, and tells those apart that only a CPU needs.

XLA's CPU backend computes in float32 what a program says in bfloat16: it converts operands, and whole arrays
that are scattered into. A GPU does not. Such a float32 array is known by its number of elements, which no
float32 array of the program as it was written has, while a bfloat16 one has it.
"""
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

# Passes that would hoist the CPU backend's float32 copies of bfloat16 weights out of the loop over layers, as
# no GPU does.
PASSES = "while-loop-invariant-code-motion,while-loop-expensive-invariant-code-motion"

_TENSOR = re.compile(r"tensor<((?:\d+x)*)(f32|bf16)>")
# Names of instructions that only move values or change their type, such as copy.3, wrapped_scatter,
# convert_bitcast_fusion.12
_MOVE = re.compile(
    r"(?:(?:wrapped|convert|copy|bitcast|transpose|scatter|slice|dynamic-slice|fusion)[-_.\d]*)+")
_FLOAT32 = 11  # in ShapeProto


class Temporaries(NamedTuple):
    """Bytes of temporaries: as compiled, and at most what is left of them without what only a CPU needs."""
    compiled: int
    elsewhere: int


def temporaries(lowered: Any, compiled: Any) -> Temporaries:
    """The temporaries, on one device, of a program that jax.jit(...).lower gave and of its compile.

    A float32 array that is bfloat16 in the program as written counts half elsewhere, and not at all where it
    is a mere copy. What the others occupy, with the gaps between them closed, holds them all at all times: an
    upper bound without another compiler.
    """
    stats = compiled.memory_analysis()
    modules = compiled.runtime_executable().hlo_modules()
    shares = _shares(_upcast_sizes(lowered.as_text()), modules[0].as_serialized_hlo_module_proto())
    assignment = stats.serialized_buffer_assignment_proto
    size = stats.temp_size_in_bytes
    return Temporaries(size, size - occupied(assignment, {}) + occupied(assignment, shares))


def _upcast_sizes(written: str) -> set[int]:
    """Numbers of elements that only bfloat16 arrays have, in the StableHLO of a program as written."""
    sizes: dict[str, set[int]] = {"f32": set(), "bf16": set()}
    for dims, kind in _TENSOR.findall(written):
        sizes[kind].add(math.prod(int(size) for size in dims.split("x") if size))
    return sizes["bf16"] - sizes["f32"]


def _shares(upcast: set[int], module: bytes) -> dict[int, float]:
    """{instruction's id: which share of its float32 result another backend would hold}, of a serialised
    HloModuleProto."""
    shares = {}
    for computation in (value for field, value in fields(module) if field == 3):
        for instruction in (dict(fields(value)) for field, value in fields(computation) if field == 2):
            shape = dict(fields(instruction[3]))
            if shape.get(2) == _FLOAT32 and math.prod(_varints(shape.get(3, b""))) in upcast:
                shares[instruction[35]] = 0.0 if _MOVE.fullmatch(instruction[1].decode()) else 0.5
    return shares


def occupied(assignment: bytes, shares: Mapping[int, float]) -> int:
    """Bytes that temporaries occupy, each at the offset that XLA gave it; of an instruction in `shares` only
    that share counts.

    Args:
      assignment: a serialised BufferAssignmentProto (xla/service/hlo.proto).
      shares: {instruction's id: share}.
    """
    whole = {}
    used = []
    total = 0
    for field, message in fields(assignment):
        if field == 1:
            buffer = dict(fields(message))
            whole[buffer.get(1, 0)] = shares.get(dict(fields(buffer[3])).get(4, 0), 1.0)
        elif field == 3:
            allocation = list(fields(message))
            kind = dict(allocation)
            # not those of a thread, a parameter, a result or a constant
            if not any(kind.get(kept) for kept in (3, 5, 7, 12)):
                parts = [dict(fields(value)) for number, value in allocation if number == 9]
                used += [(total + assigned.get(2, 0), int(assigned.get(3, 0) * whole[assigned.get(1, 0)]))
                         for assigned in parts]
                total += kind.get(2, 0)
    covered = 0
    end = 0
    for start, size in sorted(used):
        covered += max(0, start + size - max(start, end))
        end = max(end, start + size)
    return covered


def fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """(number, value) of a protobuf message's fields: integers, or bytes of what has a length."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        if key & 7 == 0:
            value, at = _varint(message, at)
        elif key & 7 == 2:
            size, at = _varint(message, at)
            value = message[at:at + size]
            at = at + size
        else:
            size = {1: 8, 5: 4}[key & 7]
            value = message[at:at + size]
            at = at + size
        yield key >> 3, value


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at = at + 1
        shift = shift + 7
        if byte < 128:
            return value, at


def _varints(packed: bytes) -> Iterator[int]:
    at = 0
    while at < len(packed):
        value, at = _varint(packed, at)
        yield value
