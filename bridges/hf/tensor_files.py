"""Safetensors files as memory maps: tensors are read and written in place, one at a time.

Format: https://github.com/huggingface/safetensors#format. A file is an 8-byte little-endian header length, a
JSON header, then the tensors' bytes. The layout written here (order, header, padding) is that of the
safetensors library.
"""
import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np

from bridges.errors import BridgeError
from bridges.hf.folders import check_names
from jaxrl_moe.outside import Fields, OutsideError, as_object, parse, shown

DTYPES = {
    "BOOL": np.bool_, "U8": np.uint8, "I8": np.int8, "F8_E5M2": ml_dtypes.float8_e5m2,
    "F8_E4M3": ml_dtypes.float8_e4m3fn, "I16": np.int16, "U16": np.uint16, "F16": np.float16,
    "BF16": ml_dtypes.bfloat16, "I32": np.int32, "U32": np.uint32, "F32": np.float32, "F64": np.float64,
    "I64": np.int64, "U64": np.uint64}
NAMES = {np.dtype(dtype): name for name, dtype in DTYPES.items()}
FLOATS = ("F16", "BF16", "F32", "F64")
LONGEST_HEADER = 100_000_000  # bytes, as in the safetensors library
MOST = 2**63 - 1
AGAIN = "Copy or download it again."
LAYOUT = {name: rank for rank, name in enumerate(DTYPES)}  # larger dtypes come first in a file


@dataclasses.dataclass(frozen=True)
class TensorInfo:
    """One header row; `start` and `end` count bytes from the beginning of the file."""
    dtype: str
    shape: tuple[int, ...]
    start: int = 0
    end: int = 0

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * np.dtype(DTYPES[self.dtype]).itemsize


def read_header(path: pathlib.Path) -> dict[str, TensorInfo]:
    """Returns {tensor name: TensorInfo}, and takes no file that the safetensors library refuses.

    Raises:
      BridgeError: the file is none, is cut short or has bytes to spare, or its header is damaged; with the
        file's name and the tensor's.
    """
    if not path.is_file():
        raise BridgeError(f"{path} is no regular file. Give the safetensors file itself.")
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or 8 + length > size:
            raise BridgeError(f"{path} is truncated or no safetensors file: its header is announced with "
                              f"{length:,} bytes, the whole file has {size:,}. {AGAIN}")
        if length > LONGEST_HEADER:
            raise BridgeError(f"{path} has a header of {length:,} bytes; safetensors files have at most "
                              f"{LONGEST_HEADER:,}. {AGAIN}")
        header = _parse(path, file.read(length))
    check_names(header, str(path))
    infos = {name: _info(path, name, row, 8 + length) for name, row in header.items()}
    _check_extents(path, infos, 8 + length, size)
    return infos


def _parse(path: pathlib.Path, data: bytes) -> dict[str, Any]:
    try:
        if not data.startswith(b"{"):
            raise OutsideError("it begins with no {")
        header = as_object(parse(data.decode(), "it"), "it")
        if b"\\u" in data:
            json.dumps(header, ensure_ascii=False).encode()  # halves of surrogate pairs are no Unicode
        metadata = header.pop("__metadata__", None)
        for key in {} if metadata is None else as_object(metadata, "its __metadata__"):
            Fields(metadata, "its __metadata__").string(key)
    except (OutsideError, UnicodeError) as error:
        raise BridgeError(f"{path} has no readable safetensors header: {str(error).rstrip('.')}. {AGAIN}"
                          ) from error
    return header


def _info(path: pathlib.Path, name: str, row: Any, data_start: int) -> TensorInfo:
    fields = Fields(row, f"{path}: the header of tensor {name}")
    dtype = fields.string("dtype")
    if dtype not in DTYPES:
        raise BridgeError(f"{path}: tensor {name} has dtype {shown(dtype)}, which is not supported; known "
                          f"are {', '.join(DTYPES)}.")
    offsets = fields.integers("data_offsets", most=MOST)
    if len(offsets) != 2:
        raise BridgeError(f"{path}: tensor {name} has {len(offsets)} data_offsets, a start and an end are "
                          f"needed. {AGAIN}")
    start, end = (data_start + offset for offset in offsets)
    return TensorInfo(dtype, tuple(fields.integers("shape", most=MOST)), start, end)


def _check_extents(path: pathlib.Path, infos: Mapping[str, TensorInfo], start: int, size: int) -> None:
    """The tensors must fill what follows the header, one after another."""
    free = start
    before = "the header"
    for name, info in sorted(infos.items(), key=lambda item: (item[1].start, item[1].end)):
        if info.end - info.start != info.num_bytes:
            raise BridgeError(f"{path}: tensor {name} spans {info.end - info.start:,} bytes, its shape "
                              f"{list(info.shape)} needs {info.num_bytes:,}. The file is damaged. {AGAIN}")
        if info.start != free:
            what = "overlaps" if info.start < free else "leaves a hole after"
            raise BridgeError(f"{path}: tensor {name} begins at byte {info.start:,} and {what} {before}, "
                              f"which ends at {free:,}. The file is damaged. {AGAIN}")
        free = info.end
        before = f"tensor {name}"
    if free > size:
        raise BridgeError(f"{path} is truncated: {before} ends at byte {free:,}, the file at {size:,}. "
                          f"{AGAIN}")
    if free < size:
        raise BridgeError(f"{path} is damaged: {before} ends at byte {free:,}, and {size - free:,} bytes "
                          f"that belong to no tensor follow. {AGAIN}")


class TensorReader:
    """Read-only views of the tensors of one file."""

    def __init__(self, path: pathlib.Path):
        self.path = path
        self.infos = read_header(path)
        self._bytes = np.memmap(path, np.uint8, mode="r")

    def __getitem__(self, name: str) -> np.ndarray:
        return _view(self._bytes, self.infos[name])


def create(path: pathlib.Path, infos: Mapping[str, TensorInfo]) -> dict[str, np.ndarray]:
    """Makes a safetensors file of zeros and returns writable views, to be filled in any order.

    The file's blocks are reserved at once, so that a full disk raises OSError here and never while filling.
    """
    rows: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    placed = {}
    end = 0
    for name in sorted(infos, key=lambda name: (-LAYOUT[infos[name].dtype], name)):
        start = end
        end = end + infos[name].num_bytes
        placed[name] = (start, end)
        rows[name] = {
            "dtype": infos[name].dtype,
            "shape": list(infos[name].shape),
            "data_offsets": [start, end]
        }
    header = json.dumps(rows, separators=(",", ":"), ensure_ascii=False).encode()
    header += b" " * (-len(header) % 8)
    data_start = 8 + len(header)
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, data_start + end)
        file.write(len(header).to_bytes(8, "little") + header)
    data = np.memmap(path, np.uint8, mode="r+")
    return {
        name: _view(data, dataclasses.replace(infos[name], start=data_start + start, end=data_start + stop))
        for name, (start, stop) in placed.items()
    }


def _view(data: Any, info: Any):
    return data[info.start:info.end].view(DTYPES[info.dtype]).reshape(info.shape)
