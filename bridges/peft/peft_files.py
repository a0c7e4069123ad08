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

import numpy as np

from bridges.errors import BridgeError, listed
from bridges.hf.finite import copy, is_finite, refuse
from bridges.hf.tensor_files import FLOATS, TensorReader
from bridges.peft.adapter_config import CONFIG, read_adapter_config
from bridges.peft.names import FusedModule, fused_modules, leaf, our_names, router_modules, router_patterns
from bridges.peft.targets import Targets
from jaxrl_moe.model.config import LoraConfig
from jaxrl_moe.outside import shown

WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
EXPERT = re.compile(r"(?P<module>.+)\.\d+\.(?P<name>\w+)")

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
      UserError: on damage, or on a kind of adapter that is not plain LoRA.
    """

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self._modules = fused_modules()
        self._router_patterns = router_patterns()
        self.config = read_adapter_config(folder / CONFIG)
        self._targets = Targets(self.config)
        self._check_modules_to_save()
        if not (folder / WEIGHTS).exists():
            raise BridgeError(f"{folder / WEIGHTS} is missing. Save the adapter with safe_serialization, or "
                              "copy the whole folder.")
        self._tensors = TensorReader(folder / WEIGHTS)
        self.routers: dict[str, np.ndarray] = {}
        self.pairs = _without_idle(dict(self._pairs()))
        self._check_targets()

    def lora(self) -> LoraConfig:
        """The LoraConfig whose model can hold this adapter exactly."""
        config = self.config
        pairs = self.pairs.values()
        shared = (config.lora_dropout, self.names(), bool(self.routers))
        plain = LoraConfig(config.r, config.lora_alpha, config.use_rslora, *shared)
        if all(pair.rank == plain.rank and math.isclose(pair.scale, plain.scale) for pair in pairs):
            return plain
        rank = max(pair.rank for pair in pairs)
        scale = next((pair.scale for pair in pairs if pair.scale), 0.0)
        return LoraConfig(rank, scale * rank, False, *shared)

    def names(self) -> tuple[str, ...]:
        """The last parts of the adapted layers' names as ours are called, such as q_proj."""
        return our_names(map(leaf, self.pairs))

    def targeted(self, name: str) -> bool:
        """Whether the configuration names the layer, so that the file must hold an adapter for it; elsewhere
        B is zero."""
        expert = EXPERT.fullmatch(name)
        module = expert and self._fused(expert["module"])
        if not module:
            return name in self._targets
        own = [parameter for parameter, names in module.parameters.items() if expert["name"] in names]
        return (name in self._targets or f"{expert['module']}.{expert['name']}" in self._targets
                or any(self._targets.names_parameter(f"{expert['module']}.{each}") for each in own))

    def _check_modules_to_save(self) -> None:
        whole = set(self.config.modules_to_save) - router_modules()
        readable = ", ".join(sorted(name for name in router_modules() if "." not in name))
        if whole:
            raise BridgeError(f"{self.config.path} sets modules_to_save={shown(sorted(whole))} (of these "
                              f"only routers, {readable}, can be read), which this package does not have. "
                              "Train the adapter without, or merge it with PEFT.")

    def _check_targets(self) -> None:
        problems = [f"tensors of {name}" for name in self.pairs if not self.targeted(name)]
        if problems:
            raise BridgeError(f"{self._tensors.path} holds {listed(problems)}, which {CONFIG} does not name "
                              "as targets, so that PEFT would leave them out. The two files belong to "
                              "different adapters.")

    def _pairs(self) -> Iterator[tuple[str, Pair]]:
        stems: dict[str, dict[str, str]] = {}
        problems = []
        for key, info in self._tensors.infos.items():
            name = key.removeprefix(PREFIX)
            stem, side = _stem(name)
            taken = info.dtype in FLOATS and len(info.shape) == 2 and min(info.shape) > 0
            if taken and self.config.modules_to_save and self._is_router(name.removesuffix(".weight")):
                self.routers[name.removesuffix(".weight")] = self._read(key)
            elif not taken or stem is None:
                problems.append(f"tensor {key} is no matrix of a LoRA layer")
            elif self._is_router(stem):
                problems.append(f"tensor {key} adapts the router {stem}, and routers are trained whole here "
                                "(PEFT takes them in with target_modules='all-linear'; name the other layers "
                                "instead, or fold the adapter into the base model by PEFT's "
                                "merge_and_unload)")
            elif side in stems.setdefault(stem, {}):
                problems.append(f"tensor {key} is the same as {stems[stem][side]}")
            else:
                stems[stem][side] = key
        problems += [f"layer {stem} has lora_{'AB'['A' in keys]} "
                     "missing" for stem, keys in stems.items() if len(keys) < 2]
        if problems or not stems:
            raise BridgeError(f"{self._tensors.path}: {listed(problems) or 'no tensors'}. Copy the adapter "
                              "again, or train it anew on other targets.")
        for stem, keys in stems.items():
            yield from self._split(stem, self._read(keys["A"]), self._read(keys["B"]))

    def _read(self, key: str) -> np.ndarray:
        """The tensor, if its numbers are finite, in float32 too."""
        array = self._tensors[key]
        if array.dtype == np.float64:
            name = f"Tensor {key} of {self._tensors.path}"
            narrow = np.empty(array.shape, np.float32)
            copy(array, narrow, name)
            return narrow
        if not is_finite(array):
            refuse(f"Tensor {key} of {self._tensors.path}")
        return array

    def _split(self, stem: str, a: np.ndarray, b: np.ndarray) -> Iterator[tuple[str, Pair]]:
        """One pair, or those of all experts where the file holds them in one matrix."""
        experts = stem.removesuffix(".base_layer")
        module = self._fused(experts)
        if module is None:
            rank, scale = self._targets.rank_and_scale(stem)
            self._check_rank(stem, a, b, rank)
            yield stem, Pair(a, b, scale)
            return
        parameter = self._parameter(stem, module)
        rank, scale = self._targets.rank_and_scale(f"{experts}.{parameter}")
        self._check_rank(stem, a, b, rank, several=True)
        a_ERI = a.reshape(-1, rank, a.shape[1])
        b_EOR = b.reshape(b.shape[0], rank, -1).transpose(2, 0, 1)
        names = module.parameters[parameter]
        for expert, (a_RI, b_OR) in enumerate(zip(a_ERI, b_EOR)):
            halves = _halves(a_RI, b_OR) if len(names) == 2 else [(a_RI, b_OR)]
            for name, (own_a, own_b) in zip(names, halves, strict=True):
                yield f"{experts}.{expert}.{name}", Pair(own_a, own_b, scale)

    def _is_router(self, layer: str) -> bool:
        return any(each.fullmatch(layer) for each in self._router_patterns)

    def _fused(self, module: str) -> FusedModule | None:
        """The module of experts of that name."""
        return next((each for each in self._modules if each.pattern.fullmatch(module)), None)

    def _parameter(self, stem: str, module: FusedModule) -> str:
        """Which parameter an experts adapter belongs to: PEFT nests them."""
        named = {name.rsplit(".", 1)[-1] for name in self.config.target_parameters} & module.parameters.keys()
        if len(named) == 1:
            return named.pop()
        inner, *outer = module.parameters
        return inner if stem.endswith(".base_layer") or not outer else outer[-1]

    def _check_rank(self, stem: str, a: np.ndarray, b: np.ndarray, rank: int, several: bool = False):
        fits = a.shape[0] == b.shape[1] and (a.shape[0] % rank == 0 if several else a.shape[0] == rank)
        if not fits:
            raise BridgeError(f"{self._tensors.path}: layer {stem} has lora_A {list(a.shape)} and lora_B "
                              f"{list(b.shape)}, which do not fit the rank {rank} of {CONFIG}. The two files "
                              "belong to different adapters.")


def _without_idle(pairs: dict[str, Pair]) -> dict[str, Pair]:
    """Leaves out the kinds of layer whose A and B are zero throughout: our export fills those up that PEFT
    wants and that have no adapters."""
    alive = {leaf(name) for name, pair in pairs.items() if pair.a_RI.any() or pair.b_OR.any()}
    return {name: pair for name, pair in pairs.items() if leaf(name) in alive} or pairs


def _stem(name: str) -> tuple[str | None, str]:
    """(the layer, A or B) of a tensor's name; (None, "") where it is none of a LoRA layer."""
    match = re.fullmatch(r"([\w.]+)\.lora_([AB])\.weight", name)
    return (match[1], match[2]) if match else (None, "")


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
