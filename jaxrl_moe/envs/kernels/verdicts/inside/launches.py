"""What a candidate's forward does beyond its kernels, seen from below: each launch, and each of torch's own
operators that computes something. Runs in the sandbox; needs torch and triton."""
import contextlib
from collections.abc import Collection, Iterator
from typing import Any

import torch
import triton
from described import bound, described
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from triton.runtime import interpreter

# Operators that allocate memory, or see what is there under another shape or beside something else;
# `_to_copy`, `clone` and `copy_` move values and change none, unless to a type that holds less of them, see
# Watch.
HARMLESS = frozenset((
    "empty empty_like empty_strided new_empty new_empty_strided new_zeros new_ones new_full zeros "
    "zeros_like ones ones_like full full_like fill_ zero_ detach alias view _unsafe_view _reshape_alias "
    "reshape as_strided expand permute transpose t squeeze unsqueeze select slice split split_with_sizes "
    "unbind unfold diagonal clone copy_ _to_copy lift_fresh resize_ is_same_size sym_size sym_stride "
    "sym_numel scalar_tensor arange cat stack constant_pad_nd").split())
# Functions by which values leave tensors for Python, which no operator tells of.
TAKING = frozenset("numpy tolist item map_ map2_ apply_ __repr__ __format__ __array__ __dlpack__ "
                   "__reduce_ex__ __deepcopy__".split())


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
        if not self._inside_kernel and (name not in HARMLESS or _narrows(name, args, kwargs or {})):
            self.computed.add(name)
        made = function(*args, **(kwargs or {}))
        return poisoned(made) if name.removeprefix("new_").startswith("empty") else made

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


class Taken(TorchFunctionMode):
    """Tells a Watch of values that leave tensors for Python."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(function, "__name__", "")
        if name in TAKING:
            self._watch.computed.add(name)
        return function(*args, **(kwargs or {}))


def _narrows(name: str, args: Any, kwargs: dict[str, Any]) -> bool:
    """Whether values are brought to a type that cannot hold them, which is a computation."""
    target = kwargs.get("dtype") if name == "_to_copy" else args[0].dtype if name == "copy_" else None
    source = args[-1] if name == "copy_" else args[0] if args else None
    if target is None or not isinstance(source, torch.Tensor) or source.dtype == target:
        return False
    if target == torch.bool:
        return True
    return source.is_floating_point() and (not target.is_floating_point
                                           or target.itemsize < source.dtype.itemsize)


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
        executor.__call__ = self._standing_in(executor.__call__)
        function.run = self._standing_in(function.run)

    def _tuned(self, tuner: Any, *args: Any, **kwargs: Any) -> Any:
        config = tuner.configs[self.call % len(tuner.configs)]
        if config.pre_hook is not None:
            config.pre_hook(dict(zip(tuner.arg_names, args)) | kwargs | config.all_kwargs())
        return tuner.fn.run(*args, **kwargs | config.all_kwargs())

    def _standing_in(self, original: Any) -> Any:
        def launched(kernel: Any, *args: Any, **kwargs: Any) -> Any:
            named = bound(kernel, args, kwargs)
            _fix_grid(kernel, named, kwargs)  # by code of the candidate's, which is looked at as all else
            if not self.runs:
                return None
            with torch._C.DisableTorchFunction():
                if self.watch is None:
                    return original(kernel, *args, **kwargs)
                with self.watch.kernel(described(kernel, _constants(kernel), named, kwargs), self._compiles):
                    return original(kernel, *args, **kwargs)
        return launched


def _fix_grid(kernel: Any, named: dict[str, Any], kwargs: dict[str, Any]) -> None:
    """A grid that is a function is called, and what it gives put in its place."""
    if callable(getattr(kernel, "grid", None)):
        kernel.grid = kernel.grid(named)
    elif callable(kwargs.get("grid")):
        kwargs["grid"] = kwargs["grid"](named)


def _constants(kernel: Any) -> Collection[str]:
    if isinstance(kernel, interpreter.GridExecutor):
        return kernel.constexprs
    return {each.name for each in kernel.params if each.is_constexpr}
