"""A problem's file: a reference in PyTorch, with what makes its inputs. It is read as a tree, and never run
here."""
import ast
import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jaxrl_moe.spelling import cut, quoted
from jaxrl_moe.types import UserError

ENTRY = "Model"
FUNCTIONS = ("get_inputs", "get_init_inputs")
OF_THE_JUDGE = ("SMALL", "VARIANTS")  # names of ours, by which a file says at which sizes it is judged
LONGEST = 200_000  # characters


@dataclasses.dataclass(frozen=True)
class ProblemFile:
    """Attributes:
      source: of the file.
      integers: those that the module binds to a name once, as the sizes of its inputs are.
      sizes: values of some of these, a mapping for each shape that is judged; empty: the file's own alone.
    """
    source: str
    integers: Mapping[str, int]
    sizes: tuple[Mapping[str, int], ...] = ()

    @property
    def shown(self) -> str:
        """The source without what is the judge's: what a policy is shown."""
        lines = self.source.splitlines(keepends=True)
        for node in ast.parse(self.source).body:
            if _bound(node) and set(_bound(node)) <= set(OF_THE_JUDGE):
                lines[node.lineno - 1:node.end_lineno] = [""] * (node.end_lineno - node.lineno + 1)
        return re.sub(r"\n{4,}", "\n\n\n", "".join(lines))


def read(source: str, where: str = "The problem", sizes: Sequence[Any] | None = None) -> ProblemFile:
    """What a file says.

    Args:
      where: what messages call it.
      sizes: that it is judged at; None: those that it says itself.

    Raises:
      UserError: it is no Python, or lacks Model, get_inputs or get_init_inputs; or its sizes are none.
    """
    tree = parsed(source, where)
    classes = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
    if classes.count(ENTRY) != 1:
        raise UserError(f"{where} has {classes.count(ENTRY)} classes {ENTRY} (it has "
                        f"{', '.join(map(quoted, classes[:8])) or 'none at all'}): a problem has one class "
                        f"{ENTRY}, the reference, a module of PyTorch.")
    for name in FUNCTIONS:
        _check_function(tree, name, where)
    integers = _integers(tree)
    own = tuple(_sizes(tree, integers, where))
    if sizes is None:
        return ProblemFile(source, integers, own)
    return ProblemFile(source, integers, tuple(_checked(each, integers, f"The size {number} of the row")
                                               for number, each in enumerate(sizes, 1)))


def parsed(source: str, where: str) -> ast.Module:
    """A source's tree.

    Raises:
      UserError: it is no Python, or longer than any problem.
    """
    if len(source) > LONGEST:
        raise UserError(f"{where} has {len(source)} characters, and {LONGEST} are the most of a problem.")
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        raise UserError(f"{where}{line} is no Python: {getattr(error, 'msg', None) or error}.") from error


def _check_function(tree: ast.Module, name: str, where: str) -> None:
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
    if not functions:
        raise UserError(f"{where} has no function {name}(): a problem has {' and '.join(FUNCTIONS)}, which "
                        f"give the arguments of {ENTRY}.forward and of {ENTRY} as lists.")
    arguments = functions[-1].args
    needed = len(arguments.posonlyargs) + len(arguments.args) - len(arguments.defaults)
    if needed or None in arguments.kw_defaults:
        raise UserError(f"{where}, line {functions[-1].lineno}: {name}() is called without arguments, and "
                        "needs some.")


def _bound(node: ast.stmt) -> tuple[str, ...]:
    """Names that a plain assignment binds."""
    single = [node.target] if isinstance(node, ast.AnnAssign) else []
    targets = node.targets if isinstance(node, ast.Assign) else single
    return tuple(target.id for target in targets if isinstance(target, ast.Name))


def _integers(tree: ast.Module) -> dict[str, int]:
    found: dict[str, list[Any]] = {}
    for node in tree.body:
        for name in _bound(node):
            value = node.value.value if isinstance(node.value, ast.Constant) else None
            found.setdefault(name, []).append(value)
    return {name: values[0] for name, values in found.items() if len(values) == 1 and type(values[0]) is int}


def _sizes(tree: ast.Module, integers: Mapping[str, int], where: str) -> Iterator[Mapping[str, int]]:
    """SMALL, and each of VARIANTS."""
    for node in tree.body:
        for name in set(_bound(node)) & set(OF_THE_JUDGE):
            place = f"{where}, line {node.lineno}: {name}"
            try:
                value = ast.literal_eval(node.value)
            except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
                raise UserError(f"{place} must be written out, as {{\"ROWS\": 5}}: "
                                f"{cut(str(error))}.") from error
            several = value if isinstance(value, list | tuple) else [value]
            for sizes in [value] if name == "SMALL" else several:
                yield _checked(sizes, integers, place)


def _checked(sizes: Any, integers: Mapping[str, int], where: str) -> Mapping[str, int]:
    """Sizes as a mapping.

    Raises:
      UserError: they are none, or name what is no integer of the module.
    """
    whole = isinstance(sizes, Mapping) and all(type(size) is int and size >= 0 for size in sizes.values())
    if not whole:
        raise UserError(f"{where} is {cut(repr(sizes))}: sizes are a mapping of names to whole numbers from "
                        "0.")
    unknown = sorted(map(str, set(sizes) - set(integers)))
    if unknown:
        raise UserError(f"{where} names {quoted(unknown[0])}, which is no integer that the module binds once "
                        f"(those are: {', '.join(integers) or 'none'}).")
    return dict(sizes)
