"""Which of a module's kernels its forward launches, as the source has it."""
import ast
from typing import NamedTuple


class Launched(NamedTuple):
    """kernels: functions under @triton.jit that store something; reached: those that forward launches, by
    itself or through functions that it calls."""
    kernels: frozenset[str]
    reached: frozenset[str]


def launches_of(tree: ast.Module, module: ast.ClassDef) -> Launched:
    """Looks at the functions of the file and the methods of the class."""
    functions = {each.name: each for each in tree.body if isinstance(each, ast.FunctionDef)}
    kernels = {name for name, each in functions.items() if is_kernel(each) and _stores(each, functions)}
    methods = {each.name: each for each in module.body if isinstance(each, ast.FunctionDef)}
    classes = {each.name: each for each in tree.body if isinstance(each, ast.ClassDef)}
    return Launched(frozenset(kernels),
                    frozenset(_reached(methods["forward"], methods | functions, classes) & kernels))


def is_kernel(function: ast.FunctionDef) -> bool:
    """Whether triton.jit stands over it."""
    return any(isinstance(each, ast.Attribute) and each.attr == "jit" or isinstance(each, ast.Name)
               and each.id == "jit" for decorator in function.decorator_list for each in ast.walk(decorator))


def _stores(kernel: ast.FunctionDef, functions: dict[str, ast.FunctionDef],
            seen: frozenset = frozenset()) -> bool:
    """Whether it, or a function that it calls, writes to memory."""
    for node in ast.walk(kernel):
        if isinstance(node, ast.Attribute) and (node.attr == "store" or node.attr.startswith("atomic_")):
            return True
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            inner = functions.get(node.func.id)
            if inner and inner.name not in seen and _stores(inner, functions, seen | {inner.name}):
                return True
    return False


def _reached(begin: ast.FunctionDef, functions: dict[str, ast.FunctionDef],
             classes: dict[str, ast.ClassDef]) -> set[str]:
    """Names of what is launched on the way from a function, `kernel[grid](...)`."""
    launched: set[str] = set()
    seen: set[str] = set()
    waiting = [begin]
    while waiting:
        for node in ast.walk(waiting.pop()):
            if not isinstance(node, ast.Call):
                continue
            called = node.func
            if isinstance(called, ast.Subscript) and isinstance(called.value, ast.Name):
                launched.add(called.value.id)
                continue
            name = getattr(called, "id", None) or getattr(called, "attr", "")
            inner = classes[name].body if name in classes else [functions[name]] if name in functions else []
            for each in inner:
                if isinstance(each, ast.FunctionDef) and f"{name}.{each.name}" not in seen:
                    seen.add(f"{name}.{each.name}")
                    waiting.append(each)
    return launched
