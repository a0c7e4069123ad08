"""Whether a module, and the file that it is of, are after a call what they were before. Runs in the
sandbox; needs torch and triton."""
import hashlib
import types
from typing import Any

import torch
import triton
from triton.runtime import interpreter

_DEEPEST = 8
_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.layout,
          torch.memory_format, range, slice, types.EllipsisType)
_WHOLE = (types.ModuleType, triton.runtime.jit.KernelInterface, triton.language.dtype,
          triton.language.constexpr)


def snapshot(model: torch.nn.Module, module: types.ModuleType) -> Any:
    """A value that differs where a parameter, a buffer, an attribute, a list that one of these holds, or a
    name of the file does.

    Raises:
      TypeError: something is held whose changes cannot be seen, such as an iterator.
    """
    beside = vars(interpreter)  # whose names the interpreter puts into the file at the first launch
    own = {name: value for name, value in vars(module).items()
           if not name.startswith("__") and not (name in beside and value is beside[name])}
    return _seen(model, _DEEPEST), _seen(own, _DEEPEST)


def _seen(value: Any, depth: int) -> Any:
    if isinstance(value, torch.Tensor):
        return tuple(value.shape), value.stride(), value.storage_offset(), _digest(value)
    if isinstance(value, _PLAIN):
        return type(value).__name__, repr(value)
    if isinstance(value, _WHOLE):
        return id(value)
    if depth == 0:
        raise TypeError("the module holds lists within lists that are too deep")
    if isinstance(value, dict):
        return [(repr(key), _seen(each, depth - 1)) for key, each in value.items()]
    if isinstance(value, list | tuple):
        return [_seen(each, depth - 1) for each in value]
    if isinstance(value, set | frozenset):
        return sorted(map(repr, value))
    if isinstance(value, torch.nn.Module):
        return id(value), _seen(vars(value), depth - 1)
    return _seen_code(value, depth - 1)


def _seen_code(value: Any, depth: int) -> Any:
    """A function or a class, or an object of a class of the file's own."""
    if isinstance(value, types.FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        return id(value), _seen([value.__defaults__, value.__kwdefaults__, vars(value), cells], depth)
    if isinstance(value, types.MethodType):
        return id(value.__func__), id(value.__self__)
    if isinstance(value, types.BuiltinFunctionType) and isinstance(value.__self__, types.ModuleType
                                                                   | type(None)):
        return id(value)
    if isinstance(value, type):
        own = vars(value) if value.__module__ == "candidate" else {}
        return id(value), _seen({name: each for name, each in own.items() if not name.startswith("__")},
                                depth)
    if isinstance(value, staticmethod | classmethod | property):
        return id(value)
    if type(value).__module__ == "candidate":
        return id(value), _seen(vars(value), depth)
    if type(value).__module__.startswith(("torch.", "triton.", "typing")) and not hasattr(value, "__next__"):
        return id(value)
    raise TypeError(f"the module holds a value of type {type(value).__name__}, by which something could "
                    f"be kept "
                    "between calls: it may hold tensors, numbers, texts, functions, and lists of them")


def _digest(tensor: torch.Tensor) -> bytes:
    """Of the whole memory that it lies in."""
    whole = torch.empty(0, dtype=torch.uint8, device=tensor.device).set_(tensor.untyped_storage())
    return hashlib.sha256(whole.cpu().numpy().tobytes()).digest()
