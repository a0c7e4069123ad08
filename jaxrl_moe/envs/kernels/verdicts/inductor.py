"""Code in the form that torch's Inductor writes, in plain Triton and torch: KernelBook's kernels have it,
and so has what a model writes that has learnt from them. What it names of Inductor's own has no other use
here, and differs from one version of torch to the next."""
import ast
from collections.abc import Callable

from jaxrl_moe.envs.kernels.verdicts.static import LONGEST

_HELPERS = "torch._inductor.runtime.triton_helpers"
# Functions of triton_helpers; NaN is not handed on by maximum and minimum, as it is there.
_FUNCTIONS: dict[str, str] = {
    "maximum": "tl.maximum", "minimum": "tl.minimum", "max2": "tl.max", "min2": "tl.min"}
_DROPPED = ("assert_size_stride", "get_raw_stream", "torch.cuda.set_device", "args.clear",
            "triton_helpers.set_driver_to_gpu")
_BLOCKS = ("XBLOCK", "YBLOCK", "ZBLOCK")


def plain(source: str) -> str:
    """A source without Inductor's own names, as far as they are known; one that has none as it is, and one
    that is no Python too."""
    if len(source) > LONGEST or "torch._inductor" not in source and "torch._C" not in source:
        return source
    try:
        tree = ast.parse(source)
        return ast.unparse(ast.fix_missing_locations(_Plain().visit(tree)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return source


class _Plain(ast.NodeTransformer):
    """One pass over a module."""

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        if node.module == _HELPERS:
            return _imports(node)
        inner = node.module or ""
        return None if inner.startswith(("torch._inductor", "torch._C", "torch._dynamo")) else node

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        if ast.unparse(node.value).startswith(("torch._C.", "torch.ops.inductor.", "extern_kernels",
                                               "AsyncCompile")):
            return None  # assert_size_stride and its like
        if isinstance(node.value, ast.Call) and _dropped(node.value):
            return None  # stream0 = get_raw_stream(0)
        return self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return None if isinstance(node.value, ast.Call) and _dropped(node.value) else self.generic_visit(node)

    def visit_Delete(self, node: ast.Delete) -> None:
        return None

    def visit_With(self, node: ast.With) -> ast.AST | list[ast.stmt]:
        self.generic_visit(node)
        guards = all(ast.unparse(each.context_expr).startswith("torch.cuda._DeviceGuard(")
                     for each in node.items)
        return (node.body or [ast.Pass()]) if guards else node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST | None:
        if node.name == "benchmark_compiled_module":
            return None
        self.generic_visit(node)
        node.body = node.body or [ast.Pass()]
        return node

    def visit_If(self, node: ast.If) -> ast.AST | None:
        return None if ast.unparse(node.test) == "__name__ == '__main__'" else self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        rewrite = _CALLS.get(ast.unparse(node.func))
        name = ast.unparse(node.func).removeprefix("triton_helpers.")
        if rewrite is not None:
            return rewrite(node)
        if ast.unparse(node.func).startswith("triton_helpers.") and name in _FUNCTIONS:
            node.func = ast.parse(_FUNCTIONS[name], mode="eval").body
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        """kernel[grid(n)]: blocks of the size that the launch has."""
        self.generic_visit(node)
        if isinstance(node.slice, ast.Call) and ast.unparse(node.slice.func) == "grid":
            sizes = ", ".join(f"triton.cdiv({ast.unparse(size)}, meta[{block!r}])"
                              for size, block in zip(node.slice.args, _BLOCKS))
            node.slice = ast.parse(f"lambda meta: ({sizes},)", mode="eval").body
        return node


def _imports(node: ast.ImportFrom) -> ast.AST | list[ast.stmt] | None:
    """libdevice and math, where they really are."""
    found: list[ast.stmt] = []
    for each in node.names:
        module = {"libdevice": "triton.language.extra", "math": "triton.language"}.get(each.name)
        if module:
            found.append(ast.ImportFrom(module, [each], 0))
    return found or None


def _dropped(call: ast.Call) -> bool:
    return ast.unparse(call.func) in _DROPPED


def _empty(call: ast.Call) -> ast.AST:
    """empty_strided_cuda(size, stride, dtype)."""
    size, stride, dtype = map(ast.unparse, call.args)
    return ast.parse(f"torch.empty_strided({size}, {stride}, dtype={dtype}, device='cuda')", mode="eval").body


def _reinterpreted(call: ast.Call) -> ast.AST:
    """reinterpret_tensor(tensor, size, stride, offset)."""
    return ast.parse(f"torch.as_strided({', '.join(map(ast.unparse, call.args))})", mode="eval").body


_CALLS: dict[str, Callable[[ast.Call], ast.AST]] = {
    "empty_strided_cuda": _empty, "reinterpret_tensor": _reinterpreted,
    "triton_helpers.promote_to_tensor": lambda call: call.args[0]}
