"""Are all numbers of an array finite?

A pass over the bits, in pieces that stay in a cache: 15 GB/s on one core, where the transposed copy that a
tensor's loading needs anyway runs at 0.3 to 0.5 GB/s (November 2026).
"""
import ml_dtypes
import numpy as np

from bridges.errors import BridgeError

PIECE = 1 << 18  # numbers
EXPONENTS = {np.dtype(np.float16): 0x7C00, np.dtype(ml_dtypes.bfloat16): 0x7F80}  # of what is not finite


def is_finite(array: np.ndarray) -> bool:
    """Whether it holds no NaN and no infinity, read in the order of its memory."""
    array = array.transpose(np.argsort([-stride for stride in array.strides], kind="stable"))
    if not array.flags.c_contiguous and array.ndim > 1:
        return all(map(is_finite, array))
    flat = np.ascontiguousarray(array).reshape(-1)
    return all(_is_finite(flat[start:start + PIECE]) for start in range(0, flat.size, PIECE))


def _is_finite(piece: np.ndarray) -> bool:
    exponent = EXPONENTS.get(piece.dtype)
    if exponent is None:
        return bool(np.isfinite(piece).all())
    return bool((piece.view(np.uint16) & 0x7FFF).max() < exponent)


def copy(source: np.ndarray, target: np.ndarray, name: str) -> None:
    """Copies numbers from one array into another, of another dtype perhaps.

    Raises:
      BridgeError: they are not finite, in either dtype; with `name`, which says what they are.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        target[...] = source
    if is_finite(target):
        return
    if is_finite(source):
        raise BridgeError(f"{name} holds numbers that {target.dtype} does not (its largest is "
                          f"{float(ml_dtypes.finfo(target.dtype).max):g}), so that they would become "
                          "infinite. Choose another dtype, such as bfloat16 or float32.")
    refuse(name)


def refuse(name: str) -> None:
    """Raises the BridgeError of an array, `name`, which is not finite."""
    raise BridgeError(f"{name} holds NaN or an infinity, with which nothing can be computed. Take an earlier "
                      "or undamaged copy.")
