"""Triton's interpreter keeps bfloat16 as bare 16-bit integers and reckons with these as they are, so that
sums of two such numbers are nonsense. Here they are numbers: arrays of ml_dtypes.bfloat16, each operation
rounded once. Runs in the sandbox; needs triton, and ml_dtypes, without which nothing is changed and `works`
is false."""
from typing import Any

import numpy as np
import triton.language as tl
from triton.runtime import interpreter

try:
    import ml_dtypes
    _DTYPE = np.dtype(ml_dtypes.bfloat16)
except ImportError:
    _DTYPE = None
_BITS = np.dtype(np.uint16)


def works() -> bool:
    """Whether kernels that reckon in bfloat16 can be judged."""
    return _DTYPE is not None


def mend() -> None:
    """Once, before a kernel runs. Products of matrices (tl.dot) are summed in float32, as they were."""
    if not works() or interpreter._get_np_dtype is _np_dtype:
        return
    interpreter._get_np_dtype = _np_dtype
    builder = interpreter.InterpreterBuilder
    builder.create_masked_load, builder.create_masked_store = _load, _store
    builder.cast_impl = _cast
    builder.create_fp_to_fp = _between(builder.create_fp_to_fp)


_original = interpreter._get_np_dtype


def _np_dtype(kind: Any) -> np.dtype:
    element = kind.element_ty if isinstance(kind, tl.block_type) else kind
    return _DTYPE if element == tl.bfloat16 else _original(kind)


def _is_bits(data: np.ndarray) -> np.ndarray:
    """As the compiled part of the interpreter moves it to and from memory."""
    return data.view(_BITS) if data.dtype == _DTYPE else data


def _load(self: Any, pointers: Any, mask: Any, other: Any, cache_policy: Any, is_volatile: Any) -> Any:
    kind = pointers.get_element_ty()
    stored = _original(kind)
    rest = np.zeros(pointers.data.shape, stored) if other is None else _is_bits(np.asarray(other.data))
    loaded = interpreter._interpreter.load(pointers.data, mask.data, rest, stored)
    return interpreter.TensorHandle(loaded.view(_DTYPE) if kind == tl.bfloat16 else loaded, kind)


def _store(self: Any, pointers: Any, value: Any, mask: Any, cache_policy: Any) -> Any:
    return interpreter._interpreter.store(pointers.data, _is_bits(np.asarray(value.data)), mask.data)


def _cast(self: Any, source: Any, target: Any) -> Any:
    return interpreter.TensorHandle(source.data.astype(_np_dtype(target.scalar)), target.scalar)


def _between(original: Any) -> Any:
    def between(self: Any, source: Any, target: Any, rounding: Any) -> Any:
        """Fractions of 16 bits and more; those of 8 as before, by way of float32."""
        if min(source.dtype.scalar.primitive_bitwidth, target.scalar.primitive_bitwidth) > 8:
            return _cast(self, source, target)
        if source.dtype.scalar == tl.bfloat16:
            source = _cast(self, source, tl.float32)
        if target.scalar == tl.bfloat16:
            return _cast(self, original(self, source, tl.float32, rounding), target)
        return original(self, source, target, rounding)
    return between
