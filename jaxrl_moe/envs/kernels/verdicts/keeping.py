"""Where a candidate's source would keep something in what outlives a call."""
import ast
from collections.abc import Iterator

from jaxrl_moe.envs.kernels.verdicts.vocabulary import CHANGING, REGISTERS

_DISPLAYS = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)


def kept(tree: ast.Module) -> Iterator[str]:
    """A sentence for each place: an attribute that is set outside of __init__, a list that was not made in
    the same function and is changed there, a default that is no constant."""
    methods = {id(each) for node in tree.body if isinstance(node, ast.ClassDef) for each in node.body}
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            if any(not isinstance(each, ast.Constant | ast.Attribute | ast.UnaryOp)
                   for each in _defaults(function)):
                yield f"line {function.lineno}: a default of `{function.name}` is no constant."
            begins = function.name == "__init__" and id(function) in methods
            yield from _kept_in(function, begins)


def _kept_in(function: ast.FunctionDef, begins: bool) -> Iterator[str]:
    made = _made(function)
    for node in ast.walk(function):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if not (begins and _is_self(node.value)):
                yield _outside(node, f".{node.attr} =")
        elif isinstance(node, ast.Attribute) and node.attr in REGISTERS and _is_self(node.value):
            if not begins:
                yield _outside(node, f"self.{node.attr}")
        elif isinstance(node, ast.Attribute) and node.attr in CHANGING:
            if not (isinstance(node.value, ast.Name) and node.value.id in made):
                yield (f"line {node.lineno}: `.{node.attr}` may change only what the same function has "
                       f"made as a list, a "
                       "mapping or a set: else it would keep a value between calls.")
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store) and not _is_own(node,
                                                                                                 function):
            yield (f"line {node.lineno}: an entry may be set only in what the same function has made: "
                   f"else it would keep "
                   "a value between calls.")


def _outside(node: ast.AST, what: str) -> str:
    return f"line {node.lineno}: `{what}` outside of __init__ would keep a value between calls."


def _defaults(function: ast.FunctionDef) -> list[ast.expr]:
    return [*function.args.defaults, *(each for each in function.args.kw_defaults if each is not None)]


def _is_self(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == "self"


def _made(function: ast.FunctionDef) -> set[str]:
    """Names that stand for a list, a mapping or a set that the function makes, and for nothing else."""
    made: set[str] = set()
    other = {each.arg for each in ast.walk(function.args) if isinstance(each, ast.arg)}
    for node in ast.walk(function):
        for target in getattr(node, "targets", [getattr(node, "target", None)]):
            names = {each.id for each in ast.walk(target) if isinstance(each, ast.Name)} if target else set()
            fresh = isinstance(target, ast.Name) and isinstance(getattr(node, "value", None), _DISPLAYS)
            (made if fresh else other).update(names)
    return made - other


def _is_own(node: ast.Subscript, function: ast.FunctionDef) -> bool:
    """Whether an entry is set in something that the function has a name of its own for, and no argument or
    module has."""
    base = node.value
    while isinstance(base, ast.Subscript):
        base = base.value
    arguments = {each.arg for each in ast.walk(function.args) if isinstance(each, ast.arg)}
    assigned = {each.id for inner in ast.walk(function) if isinstance(inner, ast.Assign | ast.AnnAssign)
                for target in getattr(inner, "targets", [getattr(inner, "target", None)])
                if isinstance(target, ast.Name)
                for each in [target]}
    return isinstance(base, ast.Name) and base.id in assigned - arguments
