"""CUDA's mathematical functions for Triton's interpreter, which has none: libdevice.tanh and its like,
reckoned by torch in float64 and rounded once. Runs in the sandbox; needs torch and triton."""
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import triton.language as tl
from torch import special
from triton.language.extra import libdevice
from triton.language.extra.cuda import libdevice as cuda_libdevice
from triton.runtime import interpreter

# Names that torch has too, and others that it has under its own.
_SAME = ("abs", "floor", "rsqrt", "ceil", "trunc", "exp2", "sqrt", "isnan", "signbit", "copysign", "isinf",
         "sin", "cos", "tan", "log2", "exp", "cosh", "sinh", "tanh", "atan2", "atan", "asin", "acos", "log",
         "log10", "log1p", "acosh", "asinh", "atanh", "expm1", "hypot", "erf", "erfc", "erfinv", "lgamma",
         "fmod", "pow", "ldexp")
_RENAMED = {
    "rint": "round", "nearbyint": "round", "finitef": "isfinite", "isfinited": "isfinite",
    "fast_dividef": "div", "fast_sinf": "sin", "fast_cosf": "cos", "fast_tanf": "tan", "fast_tanhf": "tanh",
    "fast_expf": "exp", "fast_logf": "log", "fast_log2f": "log2", "fast_log10f": "log10", "fast_powf": "pow",
    "div_rn": "div", "add_rn": "add", "sub_rn": "sub", "mul_rn": "mul", "sqrt_rn": "sqrt",
    "rcp_rn": "reciprocal", "rsqrt_rn": "rsqrt"}
_OWN: dict[str, Callable[..., torch.Tensor]] = {
    "round": lambda x: torch.trunc(x + torch.copysign(torch.full_like(x, 0.5), x)),
    "exp10": lambda x: 10.0 ** x,
    "fast_exp10f": lambda x: 10.0 ** x,
    "cbrt": lambda x: torch.copysign(x.abs() ** (1 / 3), x),
    "rcbrt": lambda x: torch.copysign(x.abs() ** (-1 / 3), x),
    "sinpi": lambda x: torch.sin(math.pi * x),
    "cospi": lambda x: torch.cos(math.pi * x),
    "normcdf": special.ndtr,
    "normcdfinv": special.ndtri,
    "erfcx": special.erfcx,
    "erfcinv": lambda x: torch.erfinv(1 - x),
    "j0": special.bessel_j0,
    "j1": special.bessel_j1,
    "y0": special.bessel_y0,
    "y1": special.bessel_y1,
    "cyl_bessel_i0": special.i0,
    "cyl_bessel_i1": special.i1,
    "fdim": lambda x, y: torch.clamp(x - y, min=0),
    "fma": lambda x, y, z: x * y + z,
    "fma_rn": lambda x, y, z: x * y + z,
    "remainder": lambda x, y: x - y * torch.round(x / y),
    "rhypot": lambda x, y: 1 / torch.hypot(x, y),
    "saturatef": lambda x: torch.clamp(x, 0, 1),
    "logb": lambda x: torch.floor(torch.log2(x.abs()))}


def mend() -> None:
    """Once, before a candidate is imported. Functions that are not here say so when they are called."""
    known = {name: getattr(torch, _RENAMED.get(name, name)) for name in (*_SAME, *_RENAMED)} | _OWN
    for module in (libdevice, cuda_libdevice):
        names = [name for name, value in vars(module).items() if not name.startswith("_") and callable(value)]
        for name in names:
            setattr(module, name, _elementwise(known[name]) if name in known else _missing(name))


def _elementwise(function: Callable[..., torch.Tensor]) -> Callable[..., Any]:
    def called(*arguments: Any, **_: Any) -> Any:
        tensors = [each for each in arguments if isinstance(each, tl.tensor)]
        data = [torch.from_numpy(np.asarray(_data(each), np.float64)) for each in arguments]
        made = function(*data).numpy()
        kind = tl.int32 if made.dtype == np.bool_ else tensors[0].dtype
        blocks = any(each.type.is_block() for each in tensors)
        handle = interpreter.TensorHandle(made.astype(interpreter._get_np_dtype(kind)), kind)
        return tl.tensor(handle, tl.block_type(kind, list(made.shape)) if blocks else kind)
    return called


def _data(argument: Any) -> Any:
    if isinstance(argument, tl.tensor):
        return argument.handle.data
    return argument.value if isinstance(argument, tl.constexpr) else argument


def _missing(name: str) -> Callable[..., Any]:
    def called(*arguments: Any, **_: Any) -> Any:
        raise NotImplementedError(f"libdevice.{name} cannot be run where there is no GPU: take another "
                                  "function")
    return called
