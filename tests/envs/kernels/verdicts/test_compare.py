"""Outputs against what is expected: NumPy's own allclose is the oracle."""
import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrl_moe.envs.kernels.verdicts.compare import MalformedError, array, difference


def told(*arrays, dtype="float32"):
    """A list of tensors as a sandbox tells of it."""
    return ({"list": [{"tensor": place, "dtype": dtype, "shape": list(each.shape)}
                      for place, each in enumerate(arrays)]}, [each.tobytes() for each in arrays])


def found(expected, got):
    differs = difference(*expected, *got)
    return differs and differs.kind


@given(st.floats(-1e6, 1e6, width=32), st.floats(-1e-2, 1e-2))
def test_numbers_are_close_as_numpy_has_it(value, change):
    ours = np.array([1.0, value], np.float32)
    theirs = (ours * np.float32(1 + change)).astype(np.float32)
    close = np.allclose(theirs.astype(np.float64), ours.astype(np.float64), rtol=1e-4, atol=1e-4)
    assert (found(told(ours), told(theirs)) is None) == close


@pytest.mark.parametrize("dtype, code, near, far", [
    ("float32", np.float32, 1.0001, 1.0003), ("float16", np.float16, 1.01, 1.03),
                                                    ("float64", np.float64, 1 + 1e-6, 1 + 3e-6),
    ("int32", np.int32, 1, 2)])
def test_the_tolerance_follows_the_dtype(dtype, code, near, far):
    ours = told(np.ones(3, code), dtype=dtype)
    assert found(ours, told(np.full(3, near, code), dtype=dtype)) is None
    assert found(ours, told(np.full(3, far, code), dtype=dtype)) == "values"


def test_bfloat16_is_read_by_its_bits():
    bits = (np.array([1.0, -2.5], np.float32).view(np.uint32) >> 16).astype(np.uint16)
    assert array({"tensor": 0, "dtype": "bfloat16", "shape": [2]}, [bits.tobytes()]).tolist() == [1.0, -2.5]


def test_nan_and_infinity_must_stand_where_they_are_expected():
    nan, one, infinity = (np.array([each], np.float32) for each in (np.nan, 1.0, np.inf))
    assert found(told(one), told(nan)) == "nan"
    assert found(told(nan), told(nan)) is None
    assert found(told(nan), told(one)) == "values"
    assert found(told(infinity), told(infinity)) is None
    assert found(told(infinity), told(-infinity)) == "values"


def test_types_dtypes_shapes_and_counts_differ():
    ones = np.ones((2, 3), np.float32)
    assert found(told(ones), told(ones[:1])) == "shape"
    assert found(told(ones), told(ones.astype(np.float64), dtype="float64")) == "dtype"
    assert found(told(ones), told(ones, ones)) == "type"
    assert found(told(ones), ({"plain": 1.0}, [])) == "type"
    assert found(({"plain": 1.0}, []), ({"plain": 2.0}, [])) == "values"
    assert found(({"plain": float("nan")}, []), ({"plain": float("nan")}, [])) is None
    assert found(told(np.ones((0, 3), np.float32)), told(np.ones((0, 3), np.float32))) is None


def test_the_message_says_where_and_by_how_much():
    ours, theirs = np.zeros((2, 2), np.float32), np.array([[0, 0], [3, 0]], np.float32)
    text = difference(*told(ours), *told(theirs)).text
    assert "1 of 4 places" in text and "by 3 at most" in text and "[1, 0]" in text and "The output[0]" in text


@pytest.mark.parametrize("said", [{}, {"tensor": 0}, {"list": 1},
                                  {"tensor": 5, "dtype": "float32", "shape": [1]}, None,
                                  {"tensor": 0, "dtype": "float32", "shape": [10**9]}, [],
                                  {"plain": 1, "list": []},
                                  {"tensor": 0, "dtype": "float8", "shape": [1]},
                                  {"tensor": True, "dtype": "float32",
                                                                                   "shape": [1]}])
def test_what_is_no_value_is_never_the_right_one(said):
    ours = {"tensor": 0, "dtype": "float32", "shape": [1]}
    parts = [np.ones(1, np.float32).tobytes()]
    with contextlib.suppress(MalformedError):
        assert difference(ours, parts, said, parts) is not None
