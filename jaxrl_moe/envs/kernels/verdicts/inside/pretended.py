"""A GPU that is not there: under Triton's interpreter a candidate may say device="cuda", x.cuda() and
x.is_cuda, as most do, and gets memory of this machine. Runs in the sandbox; needs torch."""
import contextlib
import types
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_MULTIPROCESSORS = 132  # of an H100 or H200, for grids of persistent kernels


class Pretended(TorchFunctionMode):
    """Within its block whatever would go to a GPU stays."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function == torch.Tensor.is_cuda.__get__:  # made anew each time
            return True
        if function is torch.Tensor.cuda:
            return args[0]
        args = [_here(each) for each in args]
        return function(*args, **{name: _here(value) for name, value in (kwargs or {}).items()})


def _here(value: Any) -> Any:
    """CPU for a GPU; what is no device as it is."""
    named = isinstance(value, str) and (value == "cuda" or value.startswith("cuda:"))
    return torch.device("cpu") if named or isinstance(value, torch.device) and value.type == "cuda" else value


def pretend() -> None:
    """torch.cuda answers as of one GPU, for as long as this process lives."""
    torch.cuda.is_available = lambda: True
    torch.cuda.current_device = lambda: 0
    torch.cuda.device_count = lambda: 1
    torch.cuda.synchronize = lambda device=None: None
    torch.cuda.get_device_capability = lambda device=None: (9, 0)
    torch.cuda.get_device_properties = lambda device=None: types.SimpleNamespace(
        name="none: Triton's interpreter", major=9, minor=0, multi_processor_count=_MULTIPROCESSORS,
                                                                                 warp_size=32)
    torch.cuda.device = lambda device=None: contextlib.nullcontext()
