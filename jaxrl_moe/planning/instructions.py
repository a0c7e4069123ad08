"""Compiled XLA programs (compiled.as_text()) as instructions: what each is, what it reads, which computations
it calls."""
import functools
import math
import re
from collections.abc import Iterator
from typing import NamedTuple

BITS = {"pred": 8, "token": 0, "opaque": 0, "bf16": 16, "c64": 64, "c128": 128, "f4e2m1fn": 4}
BITS |= {f"{letter}{bits}": bits for letter in "su" for bits in (1, 2, 4, 8, 16, 32, 64)}
BITS |= {f"f{bits}": bits for bits in (16, 32, 64)}
BITS |= {
    f"f8{kind}": 8
    for kind in ("e3m4", "e4m3", "e4m3fn", "e4m3fnuz", "e4m3b11fnuz", "e5m2", "e5m2fnuz", "e8m0fnu")
}
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) .*\{$")
_NAME = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = ")
_OPCODE = re.compile(r" ?([\w\-]+)\(")
_ARRAY = re.compile(r"(\w+)\[([\d,<=]*)\](\{[^}]*\})?")
_ROLES = ("body|condition|to_apply|calls|branch_computations|called_computations|"
          "true_computation|false_computation")
_CALLED = re.compile(rf"\b({_ROLES})=(?:\{{([^}}]*)\}}|%?([\w.\-]+))")
_PARENTHESIS = re.compile(r"[()]")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


class Array(NamedTuple):
    """The type of an array; host: it lies in the host's memory."""
    dtype: str
    sizes: tuple[int, ...]
    host: bool = False

    @property
    def elements(self) -> int:
        return math.prod(self.sizes)

    def bytes(self, elements: int | None = None) -> int:
        """Bytes on the device of some of its elements, of all if not said."""
        count = self.elements if elements is None else elements
        return 0 if self.host else -(-count * BITS[self.dtype] // 8)


class Instruction(NamedTuple):
    """A line of a computation.

    Attributes:
      shape: its type as text, a tuple's in parentheses.
      inside: what stands in its parentheses; attributes: what follows them.
      root: whether it is what its computation returns.
    """
    name: str
    opcode: str
    shape: str
    inside: str
    attributes: str
    root: bool

    @property
    def operands(self) -> list[str]:
        """The names of what it reads."""
        return re.findall(r"%([\w.\-]+)", self.inside)

    @property
    def kind(self) -> str:
        """The opcode, whether or not it only starts the operation."""
        return self.opcode.removesuffix("-start")

    @property
    def called(self) -> list[tuple[str, str]]:
        """(role, computation) of those it calls."""
        return [(role, name) for role, several, single in _CALLED.findall(self.attributes)
                for name in re.findall(r"[\w.\-]+", several or single)]

    @property
    def trips(self) -> int | None:
        """How often a loop runs, None where only the device knows."""
        trips = _TRIPS.search(self.attributes)
        return int(trips[1]) if trips else None

    @property
    def source(self) -> str:
        """What it was traced from, such as jit(f)/while/body/dot_general."""
        named = re.search(r'op_name="([^"]*)"', self.attributes)
        return named[1] if named else ""

    @property
    def target(self) -> str:
        """The function that a custom call calls."""
        named = re.search(r'custom_call_target="([^"]*)"', self.attributes)
        return named[1] if named else ""

    def numbers(self, attribute: str) -> list[int]:
        """A number or a list of numbers among the attributes, in XLA's writing or in that of JSON."""
        written = re.search(rf'\b{attribute}(?:=\{{?|":\s*\[)([\d,"\s]*)', self.attributes)
        return [int(digits) for digits in re.findall(r"\d+", written[1])] if written else []


Computation = dict[str, Instruction]


class Module(NamedTuple):
    """All computations of a program by name, and the name of the one that it starts with."""
    computations: dict[str, Computation]
    entry: str


def parse(text: str) -> Module:
    """The module of a program's text."""
    bodies = {}
    entry = ""
    for name, lines, first in _computations(text):
        instructions = filter(None, map(_instruction, lines))
        bodies[name] = {instruction.name: instruction for instruction in instructions}
        entry = name if first else entry
    return Module(bodies, entry)


def _computations(text: str) -> Iterator[tuple[str, list[str], bool]]:
    """(name, lines, whether it is the entry) of each computation."""
    name = None
    lines = []
    first = False
    for line in text.splitlines():
        start = _COMPUTATION.match(line)
        if start:
            name = start[1]
            lines = []
            first = line.startswith("ENTRY")
        elif line.startswith("}") and name is not None:
            yield name, lines, first
            name = None
        elif name is not None:
            lines.append(line)


def _instruction(line: str) -> Instruction | None:
    start = _NAME.match(line)
    if not start:
        return None
    after = start.end()
    end = _closing(line, after) if line[after] == "(" else line.index(" ", after)
    opcode = _OPCODE.match(line, end)
    close = _closing(line, opcode.end() - 1)
    inside = line[opcode.end():close - 1]
    return Instruction(start[2], opcode[1], line[after:end], inside, line[close:], bool(start[1]))


def _closing(line: str, opening: int) -> int:
    """Where the parenthesis that opens at an index has closed."""
    depth = 0
    for mark in _PARENTHESIS.finditer(line, opening):
        depth += 1 if mark[0] == "(" else -1
        if not depth:
            return mark.end()
    return len(line)


@functools.cache
def arrays(shape: str) -> tuple[Array, ...]:
    """The arrays of a type, those of nested tuples one after the other."""
    return tuple(Array(dtype, tuple(int(size) for size in re.findall(r"\d+", sizes)), "S(5)" in layout)
                 for dtype, sizes, layout in _ARRAY.findall(shape))


@functools.cache
def parts(shape: str) -> tuple[str, ...]:
    """The types that a tuple holds, each as text; of an array's type, that type alone."""
    if not shape.startswith("("):
        return (shape,)
    depth = 0
    start = 1
    types = []
    for mark in re.finditer(r"[(){}\[\],]", shape):
        depth += {"(": 1, "{": 1, "[": 1, ",": 0}.get(mark[0], -1)
        if (mark[0] == "," and depth == 1) or not depth:
            types.append(shape[start:mark.start()].strip())
            start = mark.end()
    return tuple(text for text in types if text)
