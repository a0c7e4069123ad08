"""Names of modules in a candidate's source, and whether what it takes from them is what it may."""
import ast
from collections.abc import Iterator

from jaxrl_moe.envs.kernels.verdicts.vocabulary import VOCABULARY
from jaxrl_moe.spelling import cut, did_you_mean


class Imports:
    """The imports of a source; those that are not at its top are refused."""

    def __init__(self, tree: ast.Module):
        self._tree = tree
        self._modules: dict[str, str] = {}  # name: path of the module that it stands for
        self._objects: dict[str, str] = {}  # name: path of what is no module
        for node in tree.body:
            if isinstance(node, ast.Import):
                for each in node.names:
                    top = each.name.split(".")[0]
                    self._modules[each.asname or top] = each.name if each.asname else top
            elif isinstance(node, ast.ImportFrom):
                for each in node.names:
                    path = f"{node.module}.{each.name}"
                    (self._modules if path in VOCABULARY else self._objects)[each.asname or each.name] = path

    def path(self, node: ast.AST) -> str:
        """"torch.nn.Module" for what stands for it; empty where it is of no module."""
        if isinstance(node, ast.Name):
            return self._modules.get(node.id) or self._objects.get(node.id, "")
        base = self.path(node.value) if isinstance(node, ast.Attribute) else ""
        return f"{base}.{node.attr}" if base else ""

    def is_module(self, node: ast.AST) -> bool:
        """Whether it names a module, as torch.nn does."""
        return self.path(node) in VOCABULARY

    def refusals(self) -> Iterator[str]:
        """What is imported, or taken from a module, and may not be."""
        top = set(map(id, self._tree.body))
        bases = {id(node.value) for node in ast.walk(self._tree) if isinstance(node, ast.Attribute)}
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                if id(node) not in top:
                    yield f"line {node.lineno}: imports belong at the top of the file."
                yield from _imported(node)
            elif isinstance(node, ast.Attribute) and self.is_module(node.value):
                yield from _taken(node.lineno, self.path(node.value), node.attr)
            elif isinstance(node, ast.Name
                            | ast.Attribute) and self.is_module(node) and id(node) not in bases:
                yield (f"line {node.lineno}: the module {self.path(node)} may be named only to take "
                       "something from it.")
            elif isinstance(node, ast.arg) and node.arg in self._modules:
                yield f"line {node.lineno}: `{node.arg}` is a module, and cannot be an argument."
            if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load) and self.path(node):
                yield f"line {node.lineno}: {self.path(node)} may not be replaced."


def _imported(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    if isinstance(node, ast.Import):
        for each in node.names:
            if each.name not in VOCABULARY:
                yield _unknown(node.lineno, each.name)
    elif node.level or node.module not in VOCABULARY:
        yield _unknown(node.lineno, "." * node.level + (node.module or ""))
    else:
        for each in node.names:
            yield from _taken(node.lineno, node.module, each.name)


def _unknown(line: int, name: str) -> str:
    return f"line {line}: `import {cut(name)}` is not allowed: torch, triton and math are."


def _taken(line: int, module: str, name: str) -> Iterator[str]:
    known = VOCABULARY[module]
    if name.startswith("_") or known is not None and name not in known:
        near = did_you_mean(name, known or ())
        yield f"line {line}: `{module}.{cut(name)}` is not allowed.{near}"
