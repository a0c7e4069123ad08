"""Two folders of safetensors side by side: names, shapes, dtypes, and the largest difference of each
tensor."""
import dataclasses
import os
import pathlib

import numpy as np

from bridges.errors import BridgeError
from bridges.hf.folders import resolve
from bridges.hf.tensor_files import TensorReader

SLICE = 1 << 24  # numbers compared at once


@dataclasses.dataclass(frozen=True)
class Differences:
    """What two folders differ in.

    Attributes:
      only_in_a, only_in_b: names of tensors.
      shapes: {name: (shape in a, shape in b)} where these differ.
      dtypes: {name: (dtype in a, dtype in b)} where these differ.
      largest: {name: (max |a - b|, max |a|)} of the tensors that differ in any number.
      same: tensors that are equal, number by number.
    """
    only_in_a: list[str]
    only_in_b: list[str]
    shapes: dict[str, tuple]
    dtypes: dict[str, tuple[str, str]]
    largest: dict[str, tuple[float, float]]
    same: int

    @property
    def empty(self) -> bool:
        return not (self.only_in_a or self.only_in_b or self.shapes or self.dtypes or self.largest)


def diff(a: str | os.PathLike, b: str | os.PathLike) -> Differences:
    """Compares all tensors of two folders (checkpoints or adapters) or hub repositories.

    Raises:
      BridgeError: a folder has no safetensors files, or one is damaged.
    """
    ours = _tensors(a)
    theirs = _tensors(b)
    common = [name for name in ours if name in theirs]
    shapes = {name: (ours[name].infos[name].shape, theirs[name].infos[name].shape) for name in common
              if ours[name].infos[name].shape != theirs[name].infos[name].shape}
    dtypes = {name: (ours[name].infos[name].dtype, theirs[name].infos[name].dtype) for name in common
              if ours[name].infos[name].dtype != theirs[name].infos[name].dtype}
    compared = {name: _largest(ours[name][name], theirs[name][name]) for name in common if name not in shapes}
    largest = {name: (gap, value) for name, (gap, value) in compared.items() if gap != 0}
    return Differences(sorted(set(ours) - set(theirs)), sorted(set(theirs) - set(ours)), shapes, dtypes,
                       largest,
                       len(compared) - len(largest))


def describe(differences: Differences, a: str, b: str, rows: int) -> str:
    """The differences in lines; of the tensors that differ in numbers, the `rows` worst."""
    lines = [f"only in {a}: {name}" for name in differences.only_in_a]
    lines += [f"only in {b}: {name}" for name in differences.only_in_b]
    lines += [f"{name}: shape {list(ours)} against {list(theirs)}"
              for name, (ours, theirs) in differences.shapes.items()]
    lines += [f"{name}: dtype {ours} against {theirs}" for name, (ours, theirs) in differences.dtypes.items()]
    worst = sorted(differences.largest.items(), key=lambda item: item[1][0], reverse=True)
    lines += [f"{name}: max |difference| {gap:.3e}, max |value| {value:.3e}"
              for name, (gap, value) in worst[:rows]]
    if len(worst) > rows:
        lines.append(f"... and {len(worst) - rows} more tensors that differ less")
    return "\n".join([*lines, f"{differences.same} tensors are equal, {len(worst)} differ in their numbers."])


def _tensors(path: str | os.PathLike) -> dict[str, TensorReader]:
    """{tensor name: the file that holds it}."""
    folder = resolve(path)
    files = sorted(pathlib.Path(folder).glob("*.safetensors"))
    if not files:
        raise BridgeError(f"{folder} holds no *.safetensors files. Give a Hugging Face checkpoint or a PEFT "
                          "adapter; a folder of our own parameters or a training run is exported first: "
                          "python -m bridges export.")
    readers: dict[str, TensorReader] = {}
    for reader in map(TensorReader, files):
        for name in reader.infos:
            if name in readers:
                raise BridgeError(f"{folder}: tensor {name} is both in {readers[name].path.name} and in "
                                  f"{reader.path.name}. Compare folders that hold one model each.")
            readers[name] = reader
    return readers


def _largest(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """(max |a - b|, max |a|), a slice at a time; NaN where only one side has a NaN."""
    a = a.reshape(-1)
    b = b.reshape(-1)
    gap = 0.0
    value = 0.0
    for start in range(0, a.size, SLICE):
        ours = a[start:start + SLICE].astype(np.float64)
        theirs = b[start:start + SLICE].astype(np.float64)
        apart = np.abs(ours - theirs)[~((ours == theirs) | (np.isnan(ours) & np.isnan(theirs)))]
        gap = max(gap, apart.max(initial=0.0)) if not np.isnan(apart).any() else float("nan")
        value = max(value, np.abs(np.nan_to_num(ours)).max(initial=0.0))
        if np.isnan(gap):
            break
    return float(gap), float(value)
