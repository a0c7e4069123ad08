"""KernelBook's pairs as ours: its classes have names of their own, which it gives as the entry point, with
New behind it in what answers; and its get_init_inputs gives [arguments, named arguments]."""
import ast
import io
import keyword
import tokenize
from collections.abc import Iterator, Sequence

from jaxrl_moe.envs.kernels.problem_files import ENTRY, parsed
from jaxrl_moe.envs.kernels.verdicts.inductor import plain
from jaxrl_moe.spelling import quoted
from jaxrl_moe.types import UserError


def reference(source: str, entry: str, where: str) -> str:
    """Its python_code as a problem's file: the entry point is called Model, and is made from a plain list.

    Raises:
      UserError: it is no Python or has no such class, the name Model is taken, or Model cannot be made from
        arguments without names.
    """
    tree = parsed(source, where)
    made = _class(tree, entry, where)
    begun = _function(tree, "get_init_inputs", where)
    pair = _pair(begun)
    if pair is not None:
        told = ", ".join(map(ast.unparse, _positional(pair, _initialiser(made), where)))
        lines = source.splitlines(keepends=True)
        lines[begun.lineno - 1:begun.end_lineno] = [f"def get_init_inputs():\n    return [{told}]\n"]
        source = "".join(lines)
    return renamed(source, entry, ENTRY, where)


def answer(source: str, entry: str, where: str) -> str:
    """Its triton_code as an answer: the entry point with New behind it is called ModelNew, and what
    Inductor wrote is plain Triton, as the judge takes it.

    Raises:
      UserError: it is no Python or has no such class, or the name ModelNew is taken.
    """
    _class(parsed(source, where), f"{entry}New", where)
    return renamed(plain(source), f"{entry}New", f"{ENTRY}New", where)


def renamed(source: str, old: str, new: str, where: str) -> str:
    """A source with one of its names changed wherever it stands as one, and not within texts.

    Raises:
      UserError: the new one is there already.
    """
    if old == new:
        return source
    lines = source.splitlines(keepends=True)
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    names = [token for token in tokens if token.type == tokenize.NAME]
    if any(token.string == new for token in names):
        raise UserError(f"{where} has a name {new} already, which its entry point {quoted(old)} would get: "
                        "leave the row out.")
    for token in reversed([token for token in names if token.string == old]):
        row, column = token.start
        line = lines[row - 1]
        lines[row - 1] = line[:column] + new + line[column + len(old):]
    return "".join(lines)


def _class(tree: ast.Module, name: str, where: str) -> ast.ClassDef:
    if not name.isidentifier() or keyword.iskeyword(name):
        raise UserError(f"{where}: the entry point {quoted(name)} is no name of a class.")
    found = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name]
    if len(found) != 1:
        raise UserError(f"{where} has {len(found)} classes {name}, and one is its entry point.")
    return found[0]


def _function(tree: ast.Module, name: str, where: str) -> ast.FunctionDef:
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
    if not found:
        raise UserError(f"{where} has no function {name}().")
    return found[-1]


def _pair(function: ast.FunctionDef) -> tuple[list[ast.expr], dict[str, ast.expr]] | None:
    """(arguments, named arguments) where it does nothing but return them written out; None for a plain
    list."""
    last = function.body[-1]
    value = last.value if isinstance(last, ast.Return) and len(function.body) == 1 else None
    if not isinstance(value, ast.List | ast.Tuple) or len(value.elts) != 2:
        return None
    given, named = value.elts
    if not isinstance(given, ast.List | ast.Tuple) or not isinstance(named, ast.Dict):
        return None
    return given.elts, {key.value: item for key, item in zip(named.keys, named.values)
                        if isinstance(key, ast.Constant)}


def _initialiser(node: ast.ClassDef) -> ast.FunctionDef | None:
    found = [child for child in node.body if isinstance(child, ast.FunctionDef) and child.name == "__init__"]
    return found[-1] if found else None


def _positional(pair: tuple[Sequence[ast.expr], dict[str, ast.expr]], function: ast.FunctionDef | None,
                where: str) -> Iterator[ast.expr]:
    """The arguments in the order in which __init__ takes them, with defaults where one is left out before
    another.

    Raises:
      UserError: there is no such order.
    """
    given, named = pair[0], dict(pair[1])
    yield from given
    if not named:
        return
    arguments = function.args if function else ast.arguments([], [], None, [], [], None, [])
    parameters = [*arguments.posonlyargs, *arguments.args][1:]
    defaults = [None] * (len(parameters) - len(arguments.defaults)) + list(arguments.defaults)
    for parameter, default in list(zip(parameters, defaults))[len(given):]:
        if not named:
            return
        value = named.pop(parameter.arg, default)
        if value is None:
            break
        yield value
    if named:
        raise UserError(f"{where}: its class takes {', '.join(map(quoted, named))} by name alone, and a "
                        "problem's Model is made from arguments in their order: leave the row out.")
