"""Whether a module, and the file that it is of, are after a call what they were before. Runs in the
sandbox; needs torch and triton."""
import hashlib
import types
from typing import Any

import torch
from triton.runtime import interpreter

_DEEPEST = 8


def snapshot(model: torch.nn.Module, module: types.ModuleType) -> Any:
    """A value that differs where a parameter, a buffer, an attribute, a list that one of these holds, or a
    name of the file does."""
    beside = vars(interpreter)  # whose names the interpreter puts into the file at the first launch
    own = {name: value for name, value in vars(module).items()
           if not name.startswith("__") and not (name in beside and value is beside[name])}
    return [(name, _seen(vars(each), _DEEPEST)) for name, each in model.named_modules()], _seen(own, _DEEPEST)


def _seen(value: Any, depth: int) -> Any:
    if isinstance(value, torch.Tensor):
        data = value.detach().cpu().contiguous().flatten()
        bits = data.view(torch.uint8).numpy().tobytes() if data.numel() else b""
        return tuple(value.shape), str(value.dtype), hashlib.sha256(bits).digest()
    if isinstance(value, bool | int | float | str | bytes | None):
        return type(value).__name__, repr(value)
    if depth == 0 or isinstance(value, torch.nn.Module | types.ModuleType):
        return id(value)
    if isinstance(value, dict):
        return [(repr(key), _seen(each, depth - 1)) for key, each in value.items()]
    if isinstance(value, list | tuple):
        return [_seen(each, depth - 1) for each in value]
    if isinstance(value, set | frozenset):
        return sorted(map(repr, value))
    if isinstance(value, types.FunctionType):
        return id(value), _seen([value.__defaults__, value.__kwdefaults__, vars(value)], depth - 1)
    if isinstance(value, type) and value.__module__ == "candidate":
        return id(value), _seen({name: each for name, each in vars(value).items()
                                 if not name.startswith("__")},
                                depth - 1)
    return id(value)
