"""Where a candidate's source would keep something in what outlives a call."""
import ast
from collections.abc import Iterator

from jaxrl_moe.envs.kernels.verdicts.vocabulary import CHANGING, REGISTERS

# What a default may be made of.
_PLAIN = (ast.Constant, ast.Attribute, ast.Name, ast.UnaryOp, ast.USub, ast.Tuple, ast.Load)
_DISPLAYS = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)


def kept(tree: ast.Module) -> Iterator[str]:
    """A sentence for each place: an attribute that is set outside of __init__, a list that was not made in
    the same function and is changed there, a default that is made by code."""
    methods = {id(each) for node in tree.body if isinstance(node, ast.ClassDef) for each in node.body}
    module = {each.id for statement in tree.body for each in ast.walk(statement)
              if isinstance(statement, ast.Assign | ast.AnnAssign) and isinstance(each, ast.Name)}
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.Lambda):
            if any(not isinstance(each, _PLAIN) for default in _defaults(function)
                   for each in ast.walk(default)):
                yield f"line {function.lineno}: a default of a function is no constant."
        if isinstance(function, ast.FunctionDef):
            yield from _kept_in(function, function.name == "__init__" and id(function) in methods, module)


def _kept_in(function: ast.FunctionDef, begins: bool, module: set[str]) -> Iterator[str]:
    made = _made(function)
    outlives = module - _assigned(function)
    for node in ast.walk(function):
        if begins and isinstance(node, ast.Attribute | ast.Subscript) and _root(node) == "self":
            continue  # what a module holds is made here
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield _outside(node, f".{node.attr} =")
        elif isinstance(node, ast.Attribute) and node.attr in REGISTERS and _root(node.value) == "self":
            yield _outside(node, f"self.{node.attr}")
        elif isinstance(node, ast.Attribute) and node.attr in CHANGING:
            if not (isinstance(node.value, ast.Name) and node.value.id in made):
                yield (f"line {node.lineno}: `.{node.attr}` may change only what the same function has made "
                       "as a list, a mapping or a set: else it would keep a value between calls.")
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
            if _root(node) in outlives | {"self", ""}:
                yield (f"line {node.lineno}: an entry may not be set in an attribute, or in what the module "
                       "holds: it would keep a value between calls.")


def _outside(node: ast.AST, what: str) -> str:
    return f"line {node.lineno}: `{what}` outside of __init__ would keep a value between calls."


def _defaults(function: ast.FunctionDef | ast.Lambda) -> list[ast.expr]:
    return [*function.args.defaults, *(each for each in function.args.kw_defaults if each is not None)]


def _root(node: ast.AST) -> str:
    """The name that a.b[c].d begins with; empty where it begins with none."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _assigned(function: ast.FunctionDef) -> set[str]:
    """Names of the function's own."""
    arguments = {each.arg for each in ast.walk(function.args) if isinstance(each, ast.arg)}
    return arguments | {each.id for each in ast.walk(function) if isinstance(each, ast.Name)
                        and isinstance(each.ctx, ast.Store)}


def _made(function: ast.FunctionDef) -> set[str]:
    """Names that stand for a list, a mapping or a set that the function makes, and for nothing else."""
    made: set[str] = set()
    other = {each.arg for each in ast.walk(function.args) if isinstance(each, ast.arg)}
    for node in ast.walk(function):
        for target in getattr(node, "targets", [getattr(node, "target", None)]):
            names = {each.id for each in ast.walk(target) if isinstance(each, ast.Name)} if target else set()
            fresh = isinstance(target, ast.Name) and _is_fresh(getattr(node, "value", None))
            (made if fresh else other).update(names)
    return made - other


def _is_fresh(value: ast.AST | None) -> bool:
    made = isinstance(value, ast.Call) and ast.unparse(value.func) in ("list", "dict", "set")
    return made or isinstance(value, _DISPLAYS)
