"""CUDA's mathematical functions for Triton's interpreter, which has none: libdevice.tanh and its like,
reckoned by torch in float64 and rounded once. Runs in the sandbox; needs torch and triton."""
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import triton.language as tl
from triton.language.extra import libdevice
from triton.language.extra.cuda import libdevice as cuda_libdevice
from triton.runtime import interpreter

_SAME = (
    "abs floor rsqrt ceil trunc exp2 sqrt isnan signbit copysign isinf sin cos tan log2 exp cosh sinh "
         "tanh atan2 atan "
    "asin acos log log10 log1p acosh asinh atanh expm1 hypot erf erfc erfinv lgamma fmod pow").split()
_OWN: dict[str, Callable[..., torch.Tensor]] = {
    "rint": torch.round, "nearbyint": torch.round, "round": lambda x: torch.trunc(x






































































































































































































                                                                                  + torch.copysign(_half(x), x)),
    "exp10": lambda x: 10.0 ** x, "tgamma": lambda x: torch.exp(torch.lgamma(x)) * _gamma_sign(x),
    "cbrt": lambda x: torch.copysign(x.abs() ** (1 / 3), x), "rcbrt": lambda x: torch.copysign(x.abs() ** (-1 / 3), x),
    "sinpi": lambda x: torch.sin(math.pi * x), "cospi": lambda x: torch.cos(math.pi * x),
    "normcdf": torch.special.ndtr, "normcdfinv": torch.special.ndtri, "erfcx": torch.special.erfcx,
    "erfcinv": lambda x: torch.erfinv(1 - x), "j0": torch.special.bessel_j0, "j1": torch.special.bessel_j1,
    "y0": torch.special.bessel_y0, "y1": torch.special.bessel_y1, "cyl_bessel_i0": torch.special.i0,
    "cyl_bessel_i1": torch.special.i1, "fdim": lambda x, y: torch.clamp(x - y, min=0), "fma": lambda x, y, z: x * y + z,
    "remainder": lambda x, y: x - y * torch.round(x / y), "rhypot": lambda x, y: 1 / torch.hypot(x, y),
    "finitef": torch.isfinite, "isfinited": torch.isfinite, "saturatef": lambda x: torch.clamp(x, 0, 1),
    "ldexp": torch.ldexp, "logb": lambda x: torch.floor(torch.log2(x.abs())), "fast_dividef": torch.div,
    "fast_sinf": torch.sin, "fast_cosf": torch.cos, "fast_tanf": torch.tan, "fast_tanhf": torch.tanh,
    "fast_expf": torch.exp, "fast_exp10f": lambda x: 10.0 ** x, "fast_logf": torch.log, "fast_log2f": torch.log2,
    "fast_log10f": torch.log10, "fast_powf": torch.pow, "div_rn": torch.div, "add_rn": torch.add, "sub_rn": torch.sub,
    "mul_rn": torch.mul, "sqrt_rn": torch.sqrt, "rcp_rn": torch.reciprocal, "rsqrt_rn": torch.rsqrt,
    "fma_rn": lambda x, y, z: x * y + z}


def mend() -> None:
    """Once, before a candidate is imported. Functions that are not here say so when they are called."""
    known = {name: getattr(torch, name) for name in _SAME} | _OWN
    for module in (libdevice, cuda_libdevice):
        for name in [each for each in vars(module) if not each.startswith("_") and callable(vars(module)[each])]:
            setattr(module, name, _elementwise(name, known[name]) if name in known else _missing(name))


def _elementwise(name: str, function: Callable[..., torch.Tensor]) -> Callable[..., Any]:
    def called(*arguments: Any, **_: Any) -> Any:
        tensors = [each for each in arguments if isinstance(each, tl.tensor)]
        data = [torch.from_numpy(np.asarray(_data(each), np.float64)) for each in arguments]
        made = function(*data).numpy()
        kind = tl.int32 if made.dtype == np.bool_ else tensors[0].dtype
        made = made.astype(interpreter._get_np_dtype(kind))
        shape = [int(size) for size in made.shape]
        whole = tl.block_type(kind, shape) if any(each.type.is_block() for each in tensors) else kind
        return tl.tensor(interpreter.TensorHandle(made, kind), whole)
    called.__name__ = name
    return called


def _data(argument: Any) -> Any:
    if isinstance(argument, tl.tensor):
        return argument.handle.data
    return argument.value if isinstance(argument, tl.constexpr) else argument


def _missing(name: str) -> Callable[..., Any]:
    def called(*arguments: Any, **_: Any) -> Any:
        raise NotImplementedError(f"libdevice.{name} cannot be run where there is no GPU: take another function")
    return called


def _half(x: torch.Tensor) -> torch.Tensor:
    return torch.full_like(x, 0.5)


def _gamma_sign(x: torch.Tensor) -> torch.Tensor:
    """Of the gamma function, which is negative between -1 and 0, between -3 and -2, and so on."""
    return torch.where((x < 0) & (torch.floor(x) % 2 != 0), -1.0, 1.0)
