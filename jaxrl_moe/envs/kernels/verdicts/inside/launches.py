"""What a candidate's forward does beyond its kernels, seen from below: each launch, and each of torch's own
operators that computes something. Runs in the sandbox; needs torch and triton."""
import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import triton
from torch.utils._python_dispatch import TorchDispatchMode
from triton.runtime import interpreter

# Operators that allocate memory, or see what is there under another shape; `_to_copy`, `clone` and `copy_`
# move values and change none, unless to a type that holds less of them, see Watch.
HARMLESS = frozenset(
    "empty empty_like empty_strided new_empty new_empty_strided new_zeros new_ones new_full zeros "
                     "zeros_like ones "
    "ones_like full full_like fill_ zero_ detach alias view _unsafe_view _reshape_alias reshape "
                     "as_strided expand "
    "permute transpose t squeeze unsqueeze select slice split split_with_sizes unbind unfold diagonal "
                     "clone copy_ "
    "_to_copy lift_fresh resize_ is_same_size sym_size sym_stride sym_numel scalar_tensor arange".split())


class Watch(TorchDispatchMode):
    """Notes the operators within its block, and fills fresh memory with what no right answer has.

    Attributes:
      computed: names of those that compute.
      launches: {"kernel", "arguments", "options"} of every launch, each once.
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
        made = function(*args, **(kwargs or {}))
        return poisoned(made) if name.removeprefix("new_").startswith("empty") else made

    def _narrows(self, name: str, args: Any, kwargs: dict[str, Any]) -> bool:
        """Whether values are brought to a type of fewer bits."""
        target = kwargs.get("dtype") if name == "_to_copy" else args[0].dtype if name == "copy_" else None
        source = args[-1] if name == "copy_" else args[0] if args else None
        return (target is not None and isinstance(source, torch.Tensor) and source.is_floating_point()
                and target.itemsize < source.dtype.itemsize)

    @contextlib.contextmanager
    def kernel(self, launch: dict[str, Any], compiles: bool) -> Iterator[None]:
        """Within a launch, whose interpreter moves memory by torch itself; where a launch compiles, one
        that fails to is none."""
        if not compiles:
            self.launches.setdefault(repr(launch), launch)
        self._inside_kernel = True
        try:
            yield
        finally:
            self._inside_kernel = False
        self.launches.setdefault(repr(launch), launch)


def poisoned(tensor: torch.Tensor) -> torch.Tensor:
    """Filled with NaN, or the largest integer: memory that was not written must show."""
    if tensor.dtype == torch.bool:
        return tensor.fill_(True)
    return tensor.fill_(float("nan") if tensor.is_floating_point() else torch.iinfo(tensor.dtype).max)


class Launcher:
    """Stands in for the launches of kernels, of the interpreter's or of a GPU's.

    Attributes:
      watch: that is told of them; None: they are not looked at.
      runs: whether they do anything; else outputs stay as they were allocated.
      call: number of the call, from 0, by which a configuration of triton.autotune is chosen where none can
        be
        timed: each in its turn, so that all have been seen after as many calls.
    """

    def __init__(self, device: str) -> None:
        self.watch: Watch | None = None
        self.runs = True
        self.call = -1
        self._compiles = device != "cpu"
        if device == "cpu":
            triton.runtime.Autotuner.run = lambda tuner, *args, **kwargs: self._tuned(tuner, *args, **kwargs)
        executor, function = interpreter.GridExecutor, triton.runtime.jit.JITFunction
        executor.__call__ = self._standing_in(executor.__call__, lambda kernel: kernel.constexprs)
        function.run = self._standing_in(function.run, lambda kernel: {each.name for each in kernel.params
                                                                       if each.is_constexpr})

    def _tuned(self, tuner: Any, *args: Any, **kwargs: Any) -> Any:
        config = tuner.configs[self.call % len(tuner.configs)]
        if config.pre_hook is not None:
            config.pre_hook(dict(zip(tuner.arg_names, args)) | kwargs | config.all_kwargs())
        return tuner.fn.run(*args, **kwargs | config.all_kwargs())

    def _standing_in(self, original: Any, constants: Any) -> Any:
        def launched(kernel: Any, *args: Any, **kwargs: Any) -> Any:
            if not self.runs:
                return None
            with torch._C.DisableTorchFunction():
                if self.watch is None:
                    return original(kernel, *args, **kwargs)
                with self.watch.kernel(_described(kernel, constants(kernel), args, kwargs), self._compiles):
                    return original(kernel, *args, **kwargs)
        return launched


def _described(kernel: Any, constants: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """A launch as a compiler needs it: the kernel, and of each argument its type or, of a constant, its
    value. Triton takes None, and a number that is 1, as constants."""
    named = dict(zip(kernel.arg_names, args)) | {name: value for name, value in kwargs.items()
                                                 if name in kernel.arg_names}
    described = {name: _constant(value) if name in constants or value is None or type(value) is int
                 and value == 1
                 else _type(value) for name, value in named.items()}
    options = {name: kwargs[name] for name in ("num_warps", "num_stages", "num_ctas", "maxnreg")
               if type(kwargs.get(name)) is int}
    return {"kernel": kernel.fn.__name__, "arguments": described, "options": options}


def _constant(value: Any) -> dict[str, Any]:
    if isinstance(value, torch.dtype):
        return {"constant": str(value).removeprefix("torch."), "as": "dtype"}
    if value is None or type(value) in (bool, int, float, str):
        return {"constant": value, "as": "value"}
    return {"constant": str(value).removeprefix("triton.language."), "as": "dtype"}


_SHORT = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16", torch.float64: "fp64",
          torch.int8: "i8", torch.int16: "i16", torch.int32: "i32", torch.int64: "i64", torch.uint8: "u8",
          torch.bool: "u1", torch.float8_e4m3fn: "fp8e4nv", torch.float8_e5m2: "fp8e5", torch.uint16: "u16",
          torch.uint32: "u32", torch.uint64: "u64"}


def _type(value: Any) -> dict[str, Any]:
    if isinstance(value, torch.Tensor):
        return {"type": f"*{_SHORT[value.dtype]}"}
    if isinstance(value, bool):
        return {"type": "u1"}
    if isinstance(value, int):
        return {"type": "i32" if -2**31 <= value < 2**31 else "i64" if value < 2**63 else "u64"}
    return {"type": "fp32"}
