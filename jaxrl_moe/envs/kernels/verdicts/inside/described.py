"""A launch in plain words, as a compiler elsewhere needs it, and as it may be. Runs in the sandbox; needs
torch and triton."""
import inspect
from collections.abc import Collection, Mapping
from typing import Any

import torch
import triton
import triton.language as tl
from triton.runtime import interpreter

_KERNELS = (triton.runtime.jit.JITFunction, interpreter.InterpretedFunction)
_PLAIN = (bool, int, float, str, type(None))
_SHORT = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16", torch.float64: "fp64",
          torch.int8: "i8", torch.int16: "i16", torch.int32: "i32", torch.int64: "i64", torch.uint8: "u8",
          torch.bool: "u1", torch.float8_e4m3fn: "fp8e4nv", torch.float8_e5m2: "fp8e5", torch.uint16: "u16",
          torch.uint32: "u32", torch.uint64: "u64"}


def bound(kernel: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """{argument: value} of a launch, defaults included.

    Raises:
      TypeError: one is of a kind that no GPU takes.
    """
    defaults = {name: each.default for name, each in inspect.signature(kernel.fn).parameters.items()
                if each.default is not inspect.Parameter.empty}
    named = defaults | dict(zip(kernel.arg_names, args)) | {name: value for name, value in kwargs.items()
                                                            if name in kernel.arg_names}
    for name, value in named.items():
        _check(name, value)
    return named


def _check(name: str, value: Any) -> None:
    if type(value) in (tuple, list, torch.Size):
        for each in value:
            _check(name, each)
    elif type(value) not in (*_PLAIN, torch.Tensor, torch.nn.Parameter, torch.dtype,
                             tl.constexpr) and not isinstance(
            value, (tl.dtype, *_KERNELS)):
        raise TypeError(f"a kernel is given {name} of type {type(value).__name__}, and takes tensors, "
                        "numbers, texts and dtypes")


def described(kernel: Any, constants: Collection[str], named: Mapping[str, Any],
              options: Mapping[str, Any]) -> dict[str, Any]:
    """The kernel, and of each argument its type or, of a constant, its value. Triton takes None, and a
    number that is 1, as constants."""
    arguments = {name: _constant(value) if name in constants else _argument(value) for name,
                 value in named.items()}
    given = {name: options[name] for name in ("num_warps", "num_stages", "num_ctas", "maxnreg")
             if type(options.get(name)) is int}
    return {"kernel": kernel.fn.__name__, "arguments": arguments, "options": given}


def _argument(value: Any) -> dict[str, Any]:
    if type(value) in (tuple, list, torch.Size):
        return {"tuple": [_argument(each) for each in value]}
    if isinstance(value, torch.Tensor):
        return {"type": f"*{_SHORT[value.dtype]}"}
    if isinstance(value, bool):
        return {"type": "u1"}
    if isinstance(value, int) and value != 1:
        return {"type": "i32" if -2**31 <= value < 2**31 else "i64" if value < 2**63 else "u64"}
    return {"type": "fp32"} if isinstance(value, float) else _constant(value)


def _constant(value: Any) -> dict[str, Any]:
    if isinstance(value, tl.constexpr):
        value = value.value
    if isinstance(value, torch.dtype | tl.dtype):
        return {"constant": repr(value).rpartition(".")[2], "as": "dtype"}
    if isinstance(value, _KERNELS):
        return {"constant": value.fn.__name__, "as": "kernel"}
    if type(value) in (tuple, list, torch.Size):
        return {"constant": [_constant(each) for each in value], "as": "tuple"}
    return {"constant": value, "as": "value"}
