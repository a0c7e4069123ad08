"""PEFT's LoRA folders: adapter_config.json and adapter_model.safetensors, read as one pair (A, B) per linear
layer.

Experts come in two spellings. One by one: `...mlp.experts.N.gate_proj.lora_A.weight`. Or as PEFT saves them
under transformers 5, where gate and up are one parameter and E experts share a matrix:
`...mlp.experts.base_layer.lora_A.weight` [E * R, D] and lora_B [2F, R * E] for gate_up_proj,
`...mlp.experts.lora_A.weight` and lora_B for down_proj (the rows of A run over experts first, the columns of
B over ranks first; peft.tuners.lora.layer.ParamWrapper).
"""
import dataclasses
import math
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from bridges.errors import BridgeError, listed
from bridges.hf.folders import read_json
from bridges.hf.tensor_files import FLOATS, TensorReader
from bridges.peft.names import FusedModule, fused_modules, leaf, our_names, router_modules, router_patterns
from jaxrl_moe.model.config import LoraConfig

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
# Settings that change what an adapter computes and that this package does not have; the value is what turns
# them off.
UNSUPPORTED = {
    "use_dora": False,
    "bias": "none",
    "lora_bias": False,
    "fan_in_fan_out": False,
    "layer_replication": None,
    "alora_invocation_tokens": None,
    "use_qalora": False,
    "arrow_config": None,
    "trainable_token_indices": None,
    "use_bdlora": None,
    "monteclora_config": None,
    "kasa_config": None
}


@dataclasses.dataclass(frozen=True)
class Pair:
    """One layer's adapter, W + scale * B A; a_RI [rank, in], b_OR [out, rank]."""
    a_RI: np.ndarray
    b_OR: np.ndarray
    scale: float

    @property
    def rank(self) -> int:
        return self.a_RI.shape[0]


class PeftFolder:
    """An adapter folder.

    Attributes:
      pairs: {layer in HF's spelling, such as model.layers.0.mlp.experts.3.up_proj: Pair}; views of the file.
      routers: {layer in HF's spelling, such as model.layers.0.mlp.gate: its whole weight [E, D]}, where
        modules_to_save has them.
      config: adapter_config.json.

    Raises:
      BridgeError: on damage, or on a kind of adapter that is not plain LoRA.
    """

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.config = read_json(folder / CONFIG)
        self._check_config()
        if not (folder / WEIGHTS).exists():
            raise BridgeError(f"{folder / WEIGHTS} is missing. Save the adapter with safe_serialization, or "
                              "copy the whole folder.")
        self._tensors = TensorReader(folder / WEIGHTS)
        self.routers: dict[str, np.ndarray] = {}
        self.pairs = dict(self._pairs())

    def lora(self) -> LoraConfig:
        """The LoraConfig whose model can hold this adapter exactly."""
        config = self.config
        pairs = self.pairs.values()
        dropout = config.get("lora_dropout", 0.0)
        names = self.names()
        plain = LoraConfig(config["r"], config["lora_alpha"], bool(config.get("use_rslora")), dropout, names,
                           bool(self.routers))
        if all(pair.rank == plain.rank and math.isclose(pair.scale, plain.scale) for pair in pairs):
            return plain
        rank = max(pair.rank for pair in pairs)
        return LoraConfig(rank, next(iter(pairs)).scale * rank, False, dropout, names, bool(self.routers))

    def names(self) -> tuple[str, ...]:
        """The last parts of the adapted layers' names as ours are called, such as q_proj."""
        return our_names(map(leaf, self.pairs))

    def _check_config(self):
        path = self.folder / CONFIG
        config = self.config
        if config.get("peft_type") != "LORA":
            raise BridgeError(f"{path} describes a {config.get('peft_type')} adapter; only LORA is read.")
        used = [
            f"{name}={config[name]!r}" for name, off in UNSUPPORTED.items()
            if config.get(name, off) not in (off, None, False)
        ]
        whole = set(config.get("modules_to_save") or ()) - router_modules()
        readable = ", ".join(sorted(name for name in router_modules() if "." not in name))
        if whole:
            used.append(f"modules_to_save={sorted(whole)!r} (of these only routers, {readable}, can be read)")
        if used:
            raise BridgeError(f"{path} sets {', '.join(used)}, which this package does not have. Train the "
                              "adapter without, or merge it with PEFT.")
        for name in ("r", "lora_alpha"):
            if not isinstance(config.get(name), (int, float)):
                raise BridgeError(f"{path} has no number {name!r}. Copy the whole adapter folder.")

    def _pairs(self) -> Iterator[tuple[str, Pair]]:
        stems = {}
        problems = []
        routers = router_patterns()
        for key, info in self._tensors.infos.items():
            name = key.removeprefix(PREFIX).removesuffix(".weight")
            whole = self.config.get("modules_to_save") and info.dtype in FLOATS
            if whole and any(each.fullmatch(name) for each in routers):
                self.routers[name] = self._tensors[key]
                continue
            match = re.fullmatch(rf"(?:{re.escape(PREFIX)})?(.+)\.lora_([AB])\.weight", key)
            if match is None or info.dtype not in FLOATS or len(info.shape) != 2:
                problems.append(f"tensor {key} is no matrix of a LoRA layer")
            else:
                stems.setdefault(match[1], {})[match[2]] = key
        problems += [f"layer {stem} has lora_{'AB'['A' in keys]} "
                     "missing" for stem, keys in stems.items() if len(keys) < 2]
        if problems or not stems:
            raise BridgeError(f"{self._tensors.path}: {listed(problems) or 'no tensors'}. Copy the adapter "
                              "again.")
        for stem, keys in stems.items():
            yield from self._split(stem, self._tensors[keys["A"]], self._tensors[keys["B"]])

    def _split(self, stem: str, a: np.ndarray, b: np.ndarray) -> Iterator[tuple[str, Pair]]:
        """One pair, or those of all experts where the file holds them in one matrix."""
        experts = stem.removesuffix(".base_layer")
        module = next((module for module in fused_modules() if module.pattern.fullmatch(experts)), None)
        if module is None:
            rank, scale = self._rank_and_scale(stem)
            self._check_rank(stem, a, b, rank)
            yield stem, Pair(a, b, scale)
            return
        parameter = self._parameter(stem, module)
        rank, scale = self._rank_and_scale(f"{experts}.{parameter}")
        self._check_rank(stem, a, b, rank, several=True)
        a_ERI = a.reshape(-1, rank, a.shape[1])
        b_EOR = b.reshape(b.shape[0], rank, -1).transpose(2, 0, 1)
        names = module.parameters[parameter]
        for expert, (a_RI, b_OR) in enumerate(zip(a_ERI, b_EOR)):
            halves = _halves(a_RI, b_OR) if len(names) == 2 else [(a_RI, b_OR)]
            for name, (own_a, own_b) in zip(names, halves, strict=True):
                yield f"{experts}.{expert}.{name}", Pair(own_a, own_b, scale)

    def _parameter(self, stem: str, module: FusedModule) -> str:
        """Which parameter an experts adapter belongs to: PEFT nests them."""
        targets = self.config.get("target_parameters") or ()
        named = {name.rsplit(".", 1)[-1] for name in targets} & module.parameters.keys()
        if len(named) == 1:
            return named.pop()
        inner, *outer = module.parameters
        return inner if stem.endswith(".base_layer") or not outer else outer[-1]

    def _rank_and_scale(self, name: str):
        rank = _setting(self.config.get("rank_pattern"), name, self.config["r"])
        alpha = _setting(self.config.get("alpha_pattern"), name, self.config["lora_alpha"])
        return rank, alpha / (math.sqrt(rank) if self.config.get("use_rslora") else rank)

    def _check_rank(self, stem: str, a: np.ndarray, b: np.ndarray, rank: int, several: bool = False):
        fits = a.shape[0] == b.shape[1] and (a.shape[0] % rank == 0 if several else a.shape[0] == rank)
        if not fits:
            raise BridgeError(f"{self._tensors.path}: layer {stem} has lora_A {list(a.shape)} and lora_B "
                              f"{list(b.shape)}, which do not fit the rank {rank} of {CONFIG}. The two files "
                              "belong to different adapters.")


def _setting(patterns: Any, name: str, default: Any):
    """PEFT's rule: the first pattern that matches the end of the layer's name, from a dot on."""
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", name):
            return value
    return default


def _halves(a_RI: np.ndarray, b_OR: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Both layers of a fused pair, such as gate and up. Blocks on B's diagonal are two adapters of half the
    rank; else both halves need all of A."""
    half = b_OR.shape[0] // 2
    rank = a_RI.shape[0] // 2
    gate = b_OR[:half]
    up = b_OR[half:]
    if a_RI.shape[0] % 2 == 0 and not gate[:, rank:].any() and not up[:, :rank].any():
        return [(a_RI[:rank], gate[:, :rank]), (a_RI[rank:], up[:, rank:])]
    return [(a_RI, gate), (a_RI, up)]
