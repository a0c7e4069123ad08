"""What a candidate's source may say: read as a tree, and never run.

A kernel's module needs little of Python, of torch and of Triton. What it does not need is what verdicts
have been forged with elsewhere: values kept between calls, the reference's memory, patched functions, a
fallback to torch's own operators. The sandbox and the checks at run time do not rest on this alone, nor
this on them.
"""
import ast
import builtins
import re
import symtable
from collections.abc import Iterator

from jaxrl_moe.envs.kernels.verdicts.imports import Imports
from jaxrl_moe.envs.kernels.verdicts.keeping import kept
from jaxrl_moe.envs.kernels.verdicts.launches import launches_of
from jaxrl_moe.envs.kernels.verdicts.vocabulary import ATTRIBUTES, DUNDERS, FRAMES, NAMES, ORDINARY
from jaxrl_moe.spelling import cut, quoted

ENTRY = "ModelNew"
STATEMENTS = {ast.Try: "try", ast.TryStar: "try", ast.Global: "global", ast.Nonlocal: "nonlocal",
              ast.Yield: "yield",
              ast.YieldFrom: "yield from", ast.Await: "await", ast.AsyncFunctionDef: "async def",
              ast.AsyncFor: "async for", ast.AsyncWith: "async with", ast.Match: "match"}
LONGEST = 100_000  # characters of a source
_MOST = 12  # sentences
_COOKIE = re.compile(r"[ \t\f]*#.*coding[:=]")  # PEP 263: a file would be read otherwise than this text is


def refusals(source: str) -> list[str]:
    """What is wrong with a source, in sentences for who wrote it; none where it may be run.

    A source that is no Python gets one sentence, with the line.
    """
    if len(source) > LONGEST:
        return [f"The code has {len(source)} characters; {LONGEST} are the most."]
    if any(_COOKIE.match(line) for line in source.split("\n")[:2]):
        return ["A line that names an encoding is not allowed: the code is UTF-8."]
    try:
        tree = ast.parse(source)
        tree.body = [each for each in tree.body if not _is_main(each)]
        found = [*_said(tree), *_undefined(source), *kept(tree), *_module_level(tree), *_structure(tree)]
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = f"line {error.lineno}: " if isinstance(error, SyntaxError) and error.lineno else ""
        return [f"SyntaxError: {line}{getattr(error, 'msg', None) or error}"]
    return list(dict.fromkeys(found))[:_MOST]


def _said(tree: ast.Module) -> Iterator[str]:
    """What no line may say."""
    imports = Imports(tree)
    yield from imports.refusals()
    first = {id(method.args.args[0]) for node in ast.walk(tree) if isinstance(node, ast.ClassDef)
             for method in node.body if isinstance(method, ast.FunctionDef) and method.args.args}
    for node in ast.walk(tree):
        if type(node) in STATEMENTS:
            yield f"line {node.lineno}: `{STATEMENTS[type(node)]}` is not allowed."
        elif isinstance(node, ast.Name) and (node.id in NAMES or node.id.startswith("__")):
            yield f"line {node.lineno}: `{node.id}` is not allowed."
        elif isinstance(node, ast.Name | ast.arg) and _rebinds_self(node, first):
            yield f"line {node.lineno}: `self` is what a method of a class has first, and nothing else."
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "type" and len(node.args) != 1:
            yield f"line {node.lineno}: `type` is allowed with one argument."
        elif isinstance(node, ast.Attribute) and not imports.is_module(node.value):
            yield from _attribute(node)
        elif isinstance(node, ast.ClassDef):
            yield from _class(node, imports)


def _rebinds_self(node: ast.Name | ast.arg, first: set[int]) -> bool:
    if isinstance(node, ast.arg):
        return node.arg == "self" and id(node) not in first
    return node.id == "self" and not isinstance(node.ctx, ast.Load)


def _is_main(node: ast.stmt) -> bool:
    """What follows `if __name__ == "__main__":` never runs."""
    return isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'" and not node.orelse


def _undefined(source: str) -> Iterator[str]:
    """Names that the file does not define: Triton's interpreter would find some among its own."""
    top = symtable.symtable(source, "candidate.py", "exec")
    known = {each.get_name() for each in top.get_symbols() if each.is_assigned() or each.is_imported()
             or each.is_namespace()} | set(dir(builtins))
    scopes = [top]
    while scopes:
        scope = scopes.pop()
        scopes.extend(scope.get_children())
        for each in scope.get_symbols():
            if each.is_global() and each.is_referenced() and each.get_name() not in known:
                yield f"`{cut(each.get_name())}` is not defined (used in {scope.get_name()})."


def _attribute(node: ast.Attribute) -> Iterator[str]:
    own = isinstance(node.value, ast.Name) and node.value.id == "self"
    beginning = node.attr == "__init__" and isinstance(node.value, ast.Call)  # super().__init__()
    if node.attr in ATTRIBUTES or node.attr in ORDINARY and not own or node.attr.startswith(FRAMES):
        yield f"line {node.lineno}: `.{node.attr}` is not allowed."
    elif node.attr.startswith("_") and not beginning and (not own or node.attr.startswith("__")):
        yield (f"line {node.lineno}: `.{cut(node.attr)}` is not allowed: names that begin with _ are not the "
               "code's own.")


def _class(node: ast.ClassDef, imports: Imports) -> Iterator[str]:
    bases = [imports.path(base) for base in node.bases]
    if node.keywords or node.decorator_list or any(base != "torch.nn.Module" for base in bases):
        yield f"line {node.lineno}: class {node.name} may inherit from torch.nn.Module or from nothing."
    for each in node.body:
        if isinstance(each, ast.FunctionDef) and each.name.startswith("__") and each.name not in DUNDERS:
            yield f"line {each.lineno}: a method {cut(each.name)} is not allowed."


def _module_level(tree: ast.Module) -> Iterator[str]:
    """The module defines, and does nothing else."""
    for statement in tree.body:
        documents = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        defines = isinstance(statement, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef)
        constant = isinstance(statement, ast.Assign | ast.AnnAssign) and all(
            _is_number(each) for each in ast.walk(statement) if isinstance(each, ast.Call))
        if not (documents or defines or constant):
            yield (f"line {statement.lineno}: the module may define functions, classes and constants, and do "
                   "nothing else.")


def _is_number(call: ast.Call) -> bool:
    """A call by which a constant is made: tl.constexpr(128), by which kernels see one, float("inf"),
    math.log2(3), triton.Config(...)."""
    called = ast.unparse(call.func)
    return called in ("float", "int", "bool", "tuple", "list", "dict", "triton.Config") or called.startswith(
        "math.") or called.endswith(".constexpr")


def _structure(tree: ast.Module) -> Iterator[str]:
    classes = [each for each in tree.body if isinstance(each, ast.ClassDef) and each.name == ENTRY]
    if len(classes) != 1:
        yield f"The code needs one class {ENTRY}(nn.Module), and has {len(classes)}."
        return
    methods = {each.name for each in classes[0].body if isinstance(each, ast.FunctionDef)}
    if not classes[0].bases or "forward" not in methods:
        yield f"line {classes[0].lineno}: {ENTRY} must be a torch.nn.Module with a method forward."
        return
    launched = launches_of(tree)
    if not launched.kernels:
        yield "The code defines no kernel: a function under @triton.jit that stores what it computes."
    elif not launched.reached:
        yield (f"No method launches one of the kernels {quoted(', '.join(sorted(launched.kernels)))}: "
               "kernel[grid](...) is a launch.")
