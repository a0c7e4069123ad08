"""What a candidate's forward does beyond its kernels, seen from below: each launch, and each of torch's own operators
that computes something. Runs in the sandbox; needs torch and triton."""
import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from triton.runtime import interpreter

# Operators that allocate memory, or see what is there under another shape; `_to_copy`, `clone` and `copy_` move values
# and change none, unless to a type that holds less of them, see Watch.
HARMLESS = frozenset(
    "empty empty_like empty_strided new_empty new_empty_strided new_zeros new_ones new_full zeros zeros_like ones "
    "ones_like full full_like fill_ zero_ detach alias view _unsafe_view _reshape_alias reshape as_strided expand permute "
    "transpose t squeeze unsqueeze select slice split split_with_sizes unbind unfold diagonal clone copy_ _to_copy lift_fresh "
    "resize_ is_same_size sym_size sym_stride sym_numel _local_scalar_dense".split())


class Watch(TorchDispatchMode):
    """Notes the operators within its block.

    Attributes:
      computed: names of those that compute.
      launches: {"kernel", "types", "constants"} of every launch, each once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.computed: set[str] = set()
        self.launches: dict[str, dict[str, Any]] = {}
        self._inside_kernel = False

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function._schema.name.removeprefix("aten::")
        if not self._inside_kernel and (name not in HARMLESS or self._narrows(name, args, kwargs or {})):
            self.computed.add(name)
        return function(*args, **(kwargs or {}))

    def _narrows(self, name: str, args: Any, kwargs: dict[str, Any]) -> bool:
        """Whether values are brought to a type of fewer bits."""
        target = kwargs.get("dtype") if name == "_to_copy" else args[0].dtype if name == "copy_" else None
        source = args[-1] if name == "copy_" else args[0] if args else None
        return (target is not None and isinstance(source, torch.Tensor) and source.is_floating_point()
                and target.itemsize < source.dtype.itemsize)

    @contextlib.contextmanager
    def kernel(self, launch: dict[str, Any]) -> Iterator[None]:
        """Within a launch, whose interpreter moves memory by torch itself."""
        self.launches.setdefault(repr(launch), launch)
        self._inside_kernel = True
        try:
            yield
        finally:
            self._inside_kernel = False


class Launcher:
    """Stands in for the interpreter's launches.

    Attributes:
      watch: that is told of them; None: they are not looked at.
      runs: whether they do anything; else outputs stay as they were allocated.
    """

    def __init__(self) -> None:
        self.watch: Watch | None = None
        self.runs = True
        original = interpreter.GridExecutor.__call__

        def launched(executor: Any, *args: Any, **kwargs: Any) -> Any:
            if not self.runs:
                return None
            if self.watch is None:
                return original(executor, *args, **kwargs)
            with self.watch.kernel(_described(executor, args, kwargs)):
                return original(executor, *args, **kwargs)

        interpreter.GridExecutor.__call__ = launched


def _described(executor: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """A launch as a compiler needs it: the kernel, and of each argument its type or, of a constant, its value."""
    named = dict(zip(executor.arg_names, args)) | {name: value for name, value in kwargs.items()
                                                    if name in executor.arg_names}
    described = {name: _constant(value) if name in executor.constexprs or value is None else _type(value)
                 for name, value in named.items()}
    options = {name: kwargs[name] for name in ("num_warps", "num_stages") if type(kwargs.get(name)) is int}
    return {"kernel": executor.fn.__name__, "arguments": described, "options": options}


def _constant(value: Any) -> dict[str, Any]:
    if isinstance(value, torch.dtype):
        return {"constant": str(value).removeprefix("torch."), "as": "dtype"}
    if value is None or type(value) in (bool, int, float, str):
        return {"constant": value, "as": "value"}
    return {"constant": str(value).removeprefix("triton.language."), "as": "dtype"}


_SHORT = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16", torch.float64: "fp64",
          torch.int8: "i8", torch.int16: "i16", torch.int32: "i32", torch.int64: "i64", torch.uint8: "u8",
          torch.bool: "i1"}


def _type(value: Any) -> dict[str, Any]:
    if isinstance(value, torch.Tensor):
        return {"type": f"*{_SHORT.get(value.dtype, 'i8')}"}
    if isinstance(value, bool):
        return {"type": "i1"}
    if isinstance(value, int):
        return {"type": "i32" if -2**31 <= value < 2**31 else "i64"}
    return {"type": "fp32"}
