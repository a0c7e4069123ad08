"""What a candidate's source may say: read as a tree, and never run.

A kernel's module needs little of Python. What it does not need is what verdicts have been forged with elsewhere:
values kept between calls, the reference's memory, patched functions, a fallback to torch's own operators. The
sandbox and the checks at run time do not rest on this alone, nor this on them.
"""
import ast
from collections.abc import Iterator

from jaxrl_moe.envs.kernels.verdicts.launches import launches_of
from jaxrl_moe.spelling import cut, quoted

ENTRY = "ModelNew"
IMPORTS = ("torch", "torch.nn", "torch.nn.functional", "triton", "triton.language", "triton.language.extra",
           "triton.language.extra.cuda", "math", "typing", "__future__")
# Python's own functions that reach beyond what they are given.
NAMES = frozenset(
    "eval exec compile open input breakpoint globals locals vars dir getattr setattr delattr memoryview id help "
    "exit quit classmethod property callable".split())
# Modules by which a tensor's values, memory or operators are reached, or that others hang themselves into.
MODULES = frozenset(
    "ops library utils overrides autograd jit compile compiler _C _inductor _dynamo fx hub serialization testing "
    "profiler multiprocessing distributed futures package hooks runtime compiler backends knobs".split())
# What tells of a tensor's memory, takes its values into Python, or keeps something between calls.
KEEPING = frozenset(
    "data_ptr untyped_storage storage set_ share_memory_ numpy tolist item backward register_hook "
    "register_forward_hook register_forward_pre_hook register_buffer register_module add_module apply_ map_ append "
    "extend insert update setdefault pop popitem add discard remove clear warmup cache run fn src params "
    "record_stream Stream stream Event Graph CUDAGraph load_state_dict inline_asm_elementwise".split())
# Methods of a module's own by which __init__ may keep something, and nothing else.
REGISTERS = frozenset("register_buffer register_parameter register_module add_module load_state_dict to half float "
                      "double bfloat16 type cuda cpu compile apply train eval".split())
STATEMENTS = {ast.Try: "try", ast.Global: "global", ast.Nonlocal: "nonlocal", ast.Yield: "yield",
              ast.YieldFrom: "yield from", ast.Await: "await", ast.AsyncFunctionDef: "async def",
              ast.AsyncFor: "async for", ast.AsyncWith: "async with", ast.Delete: "del", ast.Match: "match"}
LONGEST = 100_000  # characters of a source


def refusals(source: str) -> list[str]:
    """What is wrong with a source, in sentences for who wrote it; none where it may be run.

    A source that is no Python gets one sentence, with the line.
    """
    if len(source) > LONGEST:
        return [f"The code has {len(source)} characters; {LONGEST} are the most."]
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = f"line {error.lineno}: " if isinstance(error, SyntaxError) and error.lineno else ""
        return [f"SyntaxError: {line}{getattr(error, 'msg', None) or error}"]
    return list(dict.fromkeys([*_statements(tree), *_stores(tree), *_module_level(tree), *_structure(tree)]))


def _at(node: ast.AST, what: str) -> str:
    return f"line {node.lineno}: {what}"


def _statements(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if type(node) in STATEMENTS:
            yield _at(node, f"`{STATEMENTS[type(node)]}` is not allowed.")
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from _imported(node)
        elif isinstance(node, ast.Name) and (node.id in NAMES or node.id.startswith("__")):
            yield _at(node, f"`{node.id}` is not allowed.")
        elif isinstance(node, ast.Attribute):
            yield from _attribute(node)


def _imported(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names]
    for name in modules:
        if name not in IMPORTS or getattr(node, "level", 0):
            yield _at(node, f"`import {cut(name)}` is not allowed: {', '.join(IMPORTS[:-1])} are.")
    if isinstance(node, ast.ImportFrom):
        for each in node.names:
            if each.name == "*" or each.name in MODULES | KEEPING or each.name.startswith("_"):
                yield _at(node, f"`from {cut(node.module or '')} import {cut(each.name)}` is not allowed.")


def _attribute(node: ast.Attribute) -> Iterator[str]:
    own = isinstance(node.value, ast.Name) and node.value.id == "self"
    beginning = node.attr == "__init__" and isinstance(node.value, ast.Call)  # super().__init__()
    compiles = node.attr == "jit" and isinstance(node.value, ast.Name) and node.value.id == "triton"
    if node.attr in KEEPING | MODULES and not own and not compiles:
        yield _at(node, f"`.{node.attr}` is not allowed.")
    elif node.attr.startswith("_") and not beginning and (not own or node.attr.startswith("__")):
        yield _at(node, f"`.{cut(node.attr)}` is not allowed: names that begin with _ are not the code's own.")


def _stores(tree: ast.Module) -> Iterator[str]:
    """Where something is kept in what outlives the call: an attribute outside of __init__, or what an attribute
    or a name of the module holds."""
    module_names = {name for statement in tree.body for name in _targets(statement)}
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef):
            continue
        if any(not isinstance(each, ast.Constant) for each in _defaults(function)):
            yield _at(function, f"a default of `{function.name}` is no constant.")
        for node in ast.walk(function):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                if function.name != "__init__" or not _is_self(node.value):
                    yield _at(node, f"`.{node.attr} =` outside of __init__ would keep a value between calls.")
            elif isinstance(node, ast.Attribute) and node.attr in REGISTERS and _is_self(node.value):
                if function.name != "__init__":
                    yield _at(node, f"`self.{node.attr}` outside of __init__ would keep a value between calls.")
            elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
                base = _base(node.value)
                if isinstance(base, ast.Attribute) or base.id in module_names:
                    yield _at(node, "an entry that is set in an attribute, or in what the module holds, would keep "
                              "a value between calls.")


def _defaults(function: ast.FunctionDef) -> list[ast.expr]:
    return [*function.args.defaults, *(each for each in function.args.kw_defaults if each is not None)]


def _is_self(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == "self"


def _base(node: ast.AST) -> ast.Attribute | ast.Name:
    """What an entry is set in; an attribute where that cannot be told."""
    while isinstance(node, ast.Subscript):
        node = node.value
    return node if isinstance(node, ast.Name) else ast.Attribute()


def _targets(statement: ast.stmt) -> Iterator[str]:
    targets = getattr(statement, "targets", [getattr(statement, "target", None)])
    yield from (each.id for target in targets if target is not None for each in ast.walk(target)
                if isinstance(each, ast.Name))


def _module_level(tree: ast.Module) -> Iterator[str]:
    """The module defines, and does nothing else."""
    for statement in tree.body:
        documents = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        defines = isinstance(statement, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef)
        constant = isinstance(statement, ast.Assign | ast.AnnAssign) and not any(
            isinstance(each, ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp | ast.Lambda
                       | ast.GeneratorExp | ast.Call) for each in ast.walk(statement) if not _is_block(each))
        if not (documents or defines or constant):
            yield _at(statement, "the module may define functions, classes and constants, and do nothing else.")


def _is_block(node: ast.AST) -> bool:
    """tl.constexpr(...), by which a kernel sees a constant of the module."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "constexpr"


def _structure(tree: ast.Module) -> Iterator[str]:
    classes = [each for each in tree.body if isinstance(each, ast.ClassDef) and each.name == ENTRY]
    if len(classes) != 1:
        yield f"The code needs one class {ENTRY}(nn.Module), and has {len(classes)}."
        return
    methods = {each.name for each in classes[0].body if isinstance(each, ast.FunctionDef)}
    if "forward" not in methods:
        yield _at(classes[0], f"{ENTRY} has no method forward.")
        return
    launched = launches_of(tree, classes[0])
    if not launched.kernels:
        yield "The code defines no kernel: a function under @triton.jit that stores what it computes."
    elif not launched.reached:
        yield (f"{ENTRY}.forward launches none of the kernels {quoted(', '.join(sorted(launched.kernels)))}: "
               "kernel[grid](...) is a launch.")
