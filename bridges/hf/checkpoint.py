"""A Hugging Face checkpoint folder: which tensor lies in which file, and whether the set is the one our model
needs."""
import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from bridges.errors import BridgeError, listed
from bridges.hf import weight_map
from bridges.hf.folders import check_names, plain_name, read_json
from bridges.hf.tensor_files import DTYPES, FLOATS, TensorInfo, TensorReader
from bridges.hf.weight_map import Slot
from jaxrl_moe.model.config import ModelConfig, ModelConfigError
from jaxrl_moe.outside import Fields, OutsideError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"


def read_config(folder: pathlib.Path) -> ModelConfig:
    """Reads config.json; raises BridgeError that names the file."""
    path = folder / "config.json"
    try:
        return ModelConfig.from_hf(read_json(path), str(path))
    except ModelConfigError as error:
        raise BridgeError(str(error)) from error


@dataclasses.dataclass(frozen=True)
class DiskLayout:
    """How a checkpoint lies on disk.

    Attributes:
      folder: where its config.json and tokenizer are.
      shards: {tensor name: file name}.
      infos: {tensor name: TensorInfo}.
    """
    folder: pathlib.Path
    shards: dict[str, str]
    infos: dict[str, TensorInfo]

    @property
    def dtype(self) -> np.dtype:
        """The narrowest dtype that holds every tensor but the routers, which are float32 in any model."""
        rows = weight_map.table(read_config(self.folder), self.infos)
        float32 = [weight_map.pattern(row.theirs) for row in rows if row.float32]
        others = [info for key, info in self.infos.items()
                  if not any(each.fullmatch(key) for each in float32)]
        names = {info.dtype for info in others}
        return np.dtype(DTYPES[names.pop()] if len(names) == 1 else np.float32)


class Checkpoint:
    """The tensors of one folder, from model.safetensors or from the shards of its index; see DiskLayout."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.shards: dict[str, str] = {}
        self.infos: dict[str, TensorInfo] = {}
        self._readers: dict[str, TensorReader] = {}
        promised = read_index(folder)
        files = sorted(set(promised.values())) or [SINGLE]
        if files != [SINGLE] and (folder / SINGLE).exists():
            raise BridgeError(f"{folder} holds {SINGLE} and {INDEX}, which names other files "
                              f"({listed(files)}): which of the two is the model? transformers would take "
                              f"{SINGLE}. Move the other out of the folder.")
        for file in files:
            self._open(file)
        wrong = [f"{key}, which it says is in {file}, " + (
            f"is in {self.shards[key]}" if key in self.shards else "is in none of its files")
            for key, file in promised.items() if self.shards.get(key) != file]
        if wrong:
            raise BridgeError(f"{folder / INDEX} is not the index of its files: {listed(wrong)}. Download "
                              "the checkpoint again.")

    def _open(self, file: str) -> None:
        path = self.folder / file
        if not path.exists():
            hint = " (it has pytorch_model.bin; convert that to safetensors first)" if list(
                self.folder.glob("*.bin")) else ""
            named = "" if file == SINGLE else f", which {INDEX} names,"
            raise BridgeError(f"{path}{named} is missing{hint}. Copy or download the whole checkpoint.")
        self._readers[file] = TensorReader(path)
        for key, info in self._readers[file].infos.items():
            if key in self.shards:
                raise BridgeError(f"{self.folder}: tensor {key} is both in {self.shards[key]} and in {file}. "
                                  "Download the checkpoint again.")
            self.shards[key] = file
            self.infos[key] = info

    def __getitem__(self, key: str) -> np.ndarray:
        """A read-only view of the tensor, in the dtype on disk."""
        return self._readers[self.shards[key]][key]

    def named(self, key: str) -> str:
        """The tensor and its file, for messages."""
        return f"Tensor {key} of {self.folder / self.shards[key]}"

    @property
    def layout(self) -> DiskLayout:
        return DiskLayout(self.folder, self.shards, self.infos)

    def slots(self, config: ModelConfig, shapes: Mapping[str, tuple[int, ...]]) -> list[Slot]:
        """The slots of this folder for the arrays in `shapes`.

        Raises BridgeError that lists every missing, unused or misshapen tensor.
        """
        self.check_count(config)
        slots = weight_map.slots(config, weight_map.table(config, self.infos), shapes)
        problems = self._problems(config, slots, shapes)
        if problems:
            raise BridgeError(f"{self.folder} does not fit its config.json: {listed(problems)}. Correct "
                              "config.json, or give the folder of an unmodified checkpoint.")
        return slots

    def check_count(self, config: ModelConfig) -> None:
        """Raises BridgeError where the config has more layers or experts than this folder has tensors. Costs
        nothing, so that a config.json with absurd numbers is refused before anything is made of them."""
        spelt_alone = any("{expert}" in row.theirs for row in weight_map.table(config, self.infos))
        counts = {"layers": config.num_layers}
        if spelt_alone and any(config.sparse_layers):
            counts["experts in all layers"] = config.num_experts * config.num_sparse_layers
        for what, count in counts.items():
            if count > len(self.infos):
                raise BridgeError(f"{self.folder} does not fit its config.json, which has {count} {what}: "
                                  f"there are {len(self.infos)} tensors. Correct config.json, or give the "
                                  "folder of an unmodified checkpoint.")

    def _problems(self, config: ModelConfig, slots: Sequence[Slot], shapes: Mapping[str, tuple[int, ...]]
                  ) -> list[str]:
        needed = {slot.key: slot.their_shape(shapes[slot.path]) for slot in slots}
        if config.tie_word_embeddings and weight_map.tied_head(config).key in self.infos:
            needed[weight_map.tied_head(config).key] = shapes[weight_map.EMBEDDING]
        problems = [f"tensor {key} is missing (looked in "
                    f"{', '.join(sorted(self._readers))})" for key in needed if key not in self.infos]
        problems += [f"tensor {key} of {self.shards[key]} is used by nothing in a {config.family} model of "
                     "this config"
                     for key in self.infos if key not in needed]
        for key in needed.keys() & self.infos.keys():
            info = self.infos[key]
            if info.shape != needed[key]:
                problems.append(f"tensor {key} of {self.shards[key]} has shape {list(info.shape)}, the "
                                f"config needs {list(needed[key])}")
            elif info.dtype not in FLOATS:
                problems.append(f"tensor {key} of {self.shards[key]} has dtype {info.dtype}; quantised "
                                "checkpoints are not read")
        return problems or self._tied_problems(config)

    def _tied_problems(self, config: ModelConfig) -> list[str]:
        if not config.tie_word_embeddings or weight_map.tied_head(config).key not in self.infos:
            return []
        head = weight_map.tied_head(config).key
        embedding = weight_map.their_name(config, weight_map.EMBEDDING)
        if np.array_equal(self[head], self[embedding]):
            return []
        return [f"tensor {head} differs from {embedding} although tie_word_embeddings is true"]


def read_index(folder: pathlib.Path) -> dict[str, str]:
    """{tensor name: file name} of model.safetensors.index.json; empty where there is none.

    Raises:
      BridgeError: it is no index, or names files outside the folder.
    """
    path = folder / INDEX
    if not path.exists():
        return {}
    try:
        shards = Fields(read_json(path), str(path)).object("weight_map")
        files = {key: shards.string(key) for key in shards.values}
    except OutsideError as error:
        raise BridgeError(f"{error} Download the checkpoint again.") from error
    if not files:
        raise BridgeError(f"{path} names no tensors in its weight_map. Download the checkpoint again.")
    check_names(files, str(path))
    return {key: plain_name(file, str(path)) for key, file in files.items()}


def write_index(folder: pathlib.Path, shards: Mapping[str, str], infos: Mapping[str, TensorInfo]) -> None:
    """Writes model.safetensors.index.json as transformers does."""
    total = {"total_parameters": sum(int(np.prod(info.shape)) for info in infos.values()),
             "total_size": sum(info.num_bytes for info in infos.values())}
    text = json.dumps({"metadata": total, "weight_map": dict(shards)}, indent=2, sort_keys=True)
    (folder / INDEX).write_text(text + "\n")
