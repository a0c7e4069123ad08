"""LoRA adapters to and from PEFT folders, over the same weight map as the weights."""
import json
import math
import os
import pathlib
import warnings
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from bridges.errors import BridgeError, listed
from bridges.hf import weight_map
from bridges.hf.finite import is_finite, refuse
from bridges.hf.folders import new_folder, resolve
from bridges.hf.importing import adapted_weights, adapters, base_weights, grouped, routers
from bridges.hf.tensor_files import NAMES, TensorInfo, create
from bridges.hf.weight_map import Slot
from bridges.peft.adapter_config import CONFIG
from bridges.peft.critics import write_critic
from bridges.peft.names import fused_names, in_layer, leaf, nested_names
from bridges.peft.peft_files import PREFIX, WEIGHTS, Pair, PeftFolder
from jaxrl_moe.hosts import hosts
from jaxrl_moe.model.config import LoraConfig, ModelConfig
from jaxrl_moe.model.families.registry import family_of
from jaxrl_moe.model.transformer import Transformer
from jaxrl_moe.model.value_head import Critic


def read_lora(path: str | os.PathLike) -> LoraConfig:
    """The LoraConfig to load a model with, so that the PEFT adapter at `path` can be imported into it."""
    return PeftFolder(resolve(path)).lora()


def import_adapter(model: Transformer, path: str | os.PathLike, *, subset: bool = False) -> None:
    """Replaces the model's adapters by those of a PEFT folder.

    Layers of lower rank than the model's are filled up with zeros, and a different scale is folded into B, so
    the model computes exactly what PEFT does. A kind of layer that is adapted in some stacks only (PEFT does
    not adapt the dense MLPs of a mixed model), or in those layers only that adapter_config.json names, gets B
    = 0 in the others; with `subset` so does a kind that the folder does not adapt at all, as when one model
    serves adapters of different targets. Routers that were trained with the adapters replace the model's own.

    Raises:
      UserError: when a tensor is missing, unused, misshapen or not finite, its rank is above the model's, or
        adapter_config.json asks for what this package does not have.
    """
    folder = PeftFolder(resolve(path))
    if model.lora is None:
        raise BridgeError(f"The model has no adapters to fill from {folder.folder}. Load it with "
                          "lora=bridges.read_lora(...).")
    groups = list(grouped(_slots(model)))
    _check(model, folder, groups, subset)
    variables = adapters(model)
    for base, group in groups:
        stem = base.removesuffix(".weight")
        a = variables[f"{stem}.lora_a"]
        b = variables[f"{stem}.lora_b"]
        new_a = np.zeros(a.shape, a.dtype)
        new_b = np.zeros(b.shape, b.dtype)
        for slot in group:
            pair = folder.pairs.get(_layer(slot))
            if pair is None:
                new_a[slot.index] = a[slot.index]
                continue
            new_a[slot.index][:, :pair.rank] = pair.a_RI.T
            new_b[slot.index][:pair.rank] = pair.b_OR.T
            if not math.isclose(pair.scale, model.lora.scale):
                new_b[slot.index] *= pair.scale / model.lora.scale
                if not is_finite(new_b[slot.index]):
                    refuse(f"The adapter of {_layer(slot)} in {folder.folder}, at its scale {pair.scale:g},")
        a.set_value(jnp.asarray(new_a))
        b.set_value(jnp.asarray(new_b))
    if folder.routers:
        for path, group in grouped(_router_slots(model)):
            weight = np.stack([slot.view(folder.routers[_layer(slot)]) for slot in group])
            routers(model)[path].set_value(jnp.asarray(weight, jnp.float32))


def check_adapters(config: ModelConfig, lora: LoraConfig) -> None:
    """Refuses adapters that match no layer or that export_adapter could not write: to be asked before
    training.

    Raises:
      ModelConfigError, BridgeError: naming lora.targets and the mend.
    """
    peft_config(Transformer.abstract(config, lora=lora), "")


def export_adapter(model: Transformer, path: str | os.PathLike, base: str | os.PathLike,
                   overwrite: bool = False,
                   critic: Critic | None = None) -> pathlib.Path:
    """Writes the model's adapters as a PEFT folder, experts one by one, which PEFT, vLLM and SGLang load;
    with routers that were trained too (model.lora.router) PEFT alone loads it.

    Args:
      model: a model with adapters.
      path: the folder to make; it appears whole or not at all.
      base: the base model's folder or hub name, as PEFT shall find it.
      overwrite: replace a folder that is there already.
      critic: written beside the adapter, where one was trained with it; see bridges.peft.critics.

    Raises:
      BridgeError: when there are no adapters, or PEFT could not load them, a number is not finite, or the
        folder cannot be written.
    """
    config = peft_config(model, os.fspath(base))
    router_slots = _router_slots(model) if config["modules_to_save"] else []
    if router_slots:
        warnings.warn(f"{path} holds the trained routers whole (modules_to_save), which PEFT loads and vLLM "
                      "and SGLang refuse: give those the merged checkpoint.", stacklevel=2)
    variables, weights = ({name: hosts.fetch(variable[...]) for name, variable in named.items()}
                          for named in (adapters(model), routers(model) if router_slots else {}))
    if not hosts.leads():  # it took part in gathering
        return pathlib.Path(path)
    for name, array in (variables | weights).items():
        if not is_finite(array):
            refuse(f"Array {name} of the model")
    with new_folder(path, overwrite) as folder:
        infos = {}
        groups = list(grouped(_slots(model)))
        for stem, group in groups:
            for ours, theirs in (("lora_a", "lora_A"), ("lora_b", "lora_B")):
                variable = variables[f"{stem.removesuffix('.weight')}.{ours}"]
                info = TensorInfo(NAMES[np.dtype(variable.dtype)], variable.shape[:-3:-1])
                infos |= {_tensor(slot, theirs): info for slot in group}
        infos |= _zeros(model)
        infos |= {
            f"{PREFIX}{slot.key}": TensorInfo(NAMES[np.dtype(weights[slot.path].dtype)],
                                              slot.their_shape(weights[slot.path].shape))
            for slot in router_slots
        }
        views = create(folder / WEIGHTS, infos)
        for slot in router_slots:
            slot.view(views[f"{PREFIX}{slot.key}"])[...] = weights[slot.path][slot.index]
        for stem, group in groups:
            for ours, theirs in (("lora_a", "lora_A"), ("lora_b", "lora_B")):
                array = variables[f"{stem.removesuffix('.weight')}.{ours}"]
                for slot in group:
                    views[_tensor(slot, theirs)][...] = array[slot.index].T
        (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
        if critic is not None:
            write_critic(critic, folder, os.fspath(base))
    return pathlib.Path(path)


def peft_config(model: Transformer, base: str) -> dict:
    """The fields of adapter_config.json.

    PEFT fuses some projections of experts (gate and up) at twice the rank, which changes rsLoRA's scale by
    sqrt(2), and it refuses dropout there; so adapters of experts are written with the plain scale and no
    dropout. In some families it takes MLP names to mean experts (Family.joins_dense_names); dense MLP layers
    of such a model are named as parameters instead.
    """
    if model.lora is None:
        raise BridgeError("The model has no adapters to export. Export it as a whole checkpoint instead.")
    family = family_of(model.config)
    rows = {slot.row for slot in _slots(model)}
    experts = {row for row in rows if "{expert}" in row.theirs}
    adapted = {leaf(row.ours) for row in experts}
    for fused in fused_names(family):
        if 0 < len(adapted & fused) < len(fused):
            raise BridgeError(f"PEFT fuses the {' and '.join(sorted(fused))} of experts and loads adapters "
                              f"for both or neither; this model adapts {', '.join(sorted(adapted))}. Add the "
                              "other to lora.targets, or export a merged checkpoint.")
    of_experts = {leaf(row.theirs) for row in family.spellings[0] if "{expert}" in row.theirs}
    apart = {row for row in rows - experts if family.joins_dense_names and leaf(row.theirs) in of_experts}
    lora = model.lora
    alpha = lora.scale * lora.rank if experts else lora.alpha
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "inference_mode": True,
        "r": lora.rank,
        "lora_alpha": int(alpha) if float(alpha).is_integer() else alpha,
        "use_rslora": lora.rslora and not experts,
        "lora_dropout": 0.0 if experts or apart else lora.dropout,
        "target_modules": sorted({leaf(row.theirs) for row in rows - apart}
                                 | {leaf(slot.key) for slot in _idle_slots(model)}),
        "target_parameters": sorted(map(in_layer, apart)) or None,
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "modules_to_save": _router_names(model) if lora.router and model.config.num_sparse_layers else None,
        "rank_pattern": {},
        "alpha_pattern": {}
    }


def _idle_slots(model: Transformer) -> list[Slot]:
    """The slots of experts' weights that have no adapters, and get zeros in the file: PEFT finds the adapters
    of gate and up only beside some of down, and leaves them out otherwise, with a warning alone."""
    adapted = {leaf(slot.row.ours) for slot in _slots(model) if "{expert}" in slot.row.theirs}
    idle = set()
    for inner, outer in nested_names(family_of(model.config)):
        idle |= outer if adapted & inner and not adapted & outer else set()
    shapes = {path: shape for path, shape in _shapes(base_weights(model)).items() if leaf(path) in idle}
    slots = weight_map.slots(model.config, weight_map.table(model.config), shapes)
    return [slot for slot in slots if "{expert}" in slot.row.theirs]


def _zeros(model: Transformer) -> dict[str, TensorInfo]:
    """The tensors of the idle slots' adapters, which stay zero."""
    infos = {}
    weights = base_weights(model)
    for slot in _idle_slots(model):
        outputs, inputs = slot.their_shape(weights[slot.path].shape)
        infos[_tensor(slot, "lora_A")] = TensorInfo("F32", (model.lora.rank, inputs))
        infos[_tensor(slot, "lora_B")] = TensorInfo("F32", (outputs, model.lora.rank))
    return infos


def _tensor(slot: Slot, side: str) -> str:
    """What the lora_A or lora_B of a slot is called in the file."""
    return f"{PREFIX}{_layer(slot)}.{side}.weight"


def _router_names(model: Transformer) -> list[str]:
    return sorted({leaf(slot.key) for slot in _router_slots(model)})


def _slots(model: Transformer) -> list[Slot]:
    """The slots of the weights that have adapters, experts one by one."""
    return weight_map.slots(model.config, weight_map.table(model.config), _shapes(adapted_weights(model)))


def _router_slots(model: Transformer) -> list[Slot]:
    return weight_map.slots(model.config, weight_map.table(model.config), _shapes(routers(model)))


def _shapes(variables: Mapping[str, nnx.Variable]) -> dict[str, tuple[int, ...]]:
    return {path: variable.shape for path, variable in variables.items()}


def _layer(slot: Slot) -> str:
    return slot.key.removesuffix(".weight")


def _check(model: Transformer, folder: PeftFolder, groups: Any, subset: bool):
    weights = base_weights(model)
    problems = []
    needed = set()
    adapted = set(map(leaf, folder.pairs))
    for path, group in groups:
        shape = weights[path].shape
        missing = [slot for slot in group if _layer(slot) not in folder.pairs]
        known = leaf(group[0].key) in adapted
        if len(missing) < len(group) or not (known or subset):
            absent = [_layer(slot) for slot in missing]
            problems += [f"no adapter for {name}" for name in absent if not known or folder.targeted(name)]
        for slot in group:
            needed.add(_layer(slot))
            problems += _misfits(folder.pairs.get(_layer(slot)), _layer(slot), shape, model.lora.rank)
    problems += [
        f"nothing in the model takes the adapter of {name}" for name in folder.pairs if name not in needed
    ]
    problems += _router_misfits(model, folder, subset) if folder.routers else []
    if problems:
        raise BridgeError(f"{folder.folder / WEIGHTS} does not fit the model: {listed(problems)}. Give the "
                          "adapter that was trained on this base model, and load the model with "
                          "lora=bridges.read_lora(...).")


def _router_misfits(model: Transformer, folder: PeftFolder, subset: bool):
    if subset:
        return ["it holds whole routers, and adapters that share one base model cannot each have their own "
                "(export it merged)"]
    shapes = {
        _layer(slot): slot.their_shape(routers(model)[slot.path].shape) for slot in _router_slots(model)
    }
    problems = [f"{'no router' if name in shapes else 'nothing in the model takes the router'} {name}"
                for name in sorted(shapes.keys() ^ folder.routers.keys())]
    return problems + [
        f"router {name} has shape {list(weight.shape)}, the model's {list(shapes[name])}"
        for name, weight in folder.routers.items() if name in shapes and weight.shape != shapes[name]]


def _misfits(pair: Pair | None, name: str, shape: tuple[int, ...], rank: int):
    if pair is None:
        return []
    channels = pair.a_RI.shape[1], pair.b_OR.shape[0]
    problems = []
    if channels != shape[-2:]:
        problems.append(f"the adapter of {name} maps {channels[0]} to {channels[1]} channels, "
                        f"the model {shape[-2]} to {shape[-1]}")
    if pair.rank > rank:
        problems.append(f"the adapter of {name} has rank {pair.rank}, the model's is {rank}")
    return problems
