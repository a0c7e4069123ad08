"""Which of a module's kernels are launched, as far as the source tells."""
import ast
from typing import NamedTuple


class Launched(NamedTuple):
    """kernels: functions under @triton.jit that store something; reached: those that a method of a class
    names, by itself or through functions that it names."""
    kernels: frozenset[str]
    reached: frozenset[str]


def launches_of(tree: ast.Module) -> Launched:
    """Looks at all functions and methods of the file."""
    functions = {each.name: each for each in tree.body if isinstance(each, ast.FunctionDef)}
    kernels = frozenset(name for name, each in functions.items() if is_kernel(each)
                        and _stores(each, functions))
    methods = [each for node in tree.body if isinstance(node, ast.ClassDef) for each in node.body]
    return Launched(kernels, frozenset(_named_from(methods, functions)) & kernels)


def is_kernel(function: ast.FunctionDef) -> bool:
    """Whether triton.jit stands over it."""
    return any(isinstance(each, ast.Attribute) and each.attr == "jit" or isinstance(each, ast.Name)
               and each.id == "jit" for decorator in function.decorator_list for each in ast.walk(decorator))


def _stores(kernel: ast.FunctionDef, functions: dict[str, ast.FunctionDef]) -> bool:
    """Whether it, or a function that it names, writes to memory."""
    inner = [functions[name] for name in _named_from([kernel], functions)]
    return any(isinstance(node, ast.Attribute) and (node.attr == "store" or node.attr.startswith("atomic_"))
               for each in (kernel, *inner) for node in ast.walk(each))


def _named_from(beginnings: list[ast.stmt], functions: dict[str, ast.FunctionDef]) -> set[str]:
    """Functions of the file that are named on the way from there, each looked into once."""
    seen: set[str] = set()
    waiting = list(beginnings)
    while waiting:
        for node in ast.walk(waiting.pop()):
            if isinstance(node, ast.Name) and node.id in functions and node.id not in seen:
                seen.add(node.id)
                waiting.append(functions[node.id])
    return seen
