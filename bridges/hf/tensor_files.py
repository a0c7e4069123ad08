"""Safetensors files as memory maps: tensors are read and written in place, one at a time.

Format: https://github.com/huggingface/safetensors#format. A file is an 8-byte little-endian header length, a
JSON header, then the tensors' bytes. The layout written here (order, header, padding) is that of the
safetensors library.
"""
import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np

from bridges.errors import BridgeError

DTYPES = {
    "BOOL": np.bool_, "U8": np.uint8, "I8": np.int8, "F8_E5M2": ml_dtypes.float8_e5m2,
    "F8_E4M3": ml_dtypes.float8_e4m3fn, "I16": np.int16, "U16": np.uint16, "F16": np.float16,
    "BF16": ml_dtypes.bfloat16, "I32": np.int32, "U32": np.uint32, "F32": np.float32, "F64": np.float64,
    "I64": np.int64, "U64": np.uint64}
NAMES = {np.dtype(dtype): name for name, dtype in DTYPES.items()}
FLOATS = ("F16", "BF16", "F32", "F64")
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
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(DTYPES[self.dtype]).itemsize


def read_header(path: pathlib.Path) -> dict[str, TensorInfo]:
    """Returns {tensor name: TensorInfo}; raises BridgeError on a file that is cut short or no safetensors
    file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or 8 + length > size:
            raise BridgeError(f"{path} is truncated or no safetensors file: its header is announced with "
                              f"{length:,} bytes, the whole file has {size:,}. Copy or download it again.")
        try:
            header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            infos = {name: _info(row, 8 + length) for name, row in header.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BridgeError(f"{path} has no readable safetensors header ({error}). Copy or download it "
                              "again.") from error
    _check_extents(path, infos, size)
    return infos


def _info(row: Any, data_start: Any):
    start, end = row["data_offsets"]
    return TensorInfo(row["dtype"], tuple(row["shape"]), data_start + start, data_start + end)


def _check_extents(path: str | os.PathLike, infos: Any, size: int):
    for name, info in infos.items():
        if info.dtype not in DTYPES:
            raise BridgeError(f"{path}: tensor {name} has dtype {info.dtype}, which is not supported; known "
                              f"are {', '.join(DTYPES)}.")
        if info.end - info.start != info.num_bytes:
            raise BridgeError(f"{path}: tensor {name} spans {info.end - info.start:,} bytes, its shape "
                              f"{list(info.shape)} needs {info.num_bytes:,}. The file is damaged; copy or "
                              "download it again.")
        if info.end > size:
            raise BridgeError(f"{path} is truncated: tensor {name} ends at byte {info.end:,}, the file at "
                              f"{size:,}. Copy or download it again.")


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
