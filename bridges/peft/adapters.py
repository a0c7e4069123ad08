"""LoRA adapters to and from PEFT folders, over the same weight map as the weights."""
import json
import math
import os
import pathlib
import warnings
from typing import Any

import jax.numpy as jnp
import numpy as np

from bridges.errors import BridgeError, listed
from bridges.hf.finite import is_finite, refuse
from bridges.hf.folders import new_folder, refuse_sources, resolve
from bridges.hf.importing import adapters, base_weights, grouped, routers
from bridges.hf.tensor_files import NAMES, TensorInfo, create
from bridges.hf.weight_map import Slot
from bridges.peft.adapter_config import CONFIG
from bridges.peft.contents import adapted_slots, idle_slots, layer_of, peft_config, router_slots
from bridges.peft.critics import write_critic
from bridges.peft.names import leaf
from bridges.peft.peft_files import PREFIX, WEIGHTS, Pair, PeftFolder
from jaxrl_moe.hosts import hosts
from jaxrl_moe.model.config import LoraConfig, ModelConfig
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
    groups = list(grouped(adapted_slots(model)))
    _check(model, folder, groups, subset)
    variables = adapters(model)
    for base, group in groups:
        stem = base.removesuffix(".weight")
        a = variables[f"{stem}.lora_a"]
        b = variables[f"{stem}.lora_b"]
        new_a = np.zeros(a.shape, a.dtype)
        new_b = np.zeros(b.shape, b.dtype)
        for slot in group:
            pair = folder.pairs.get(layer_of(slot))
            if pair is None:
                new_a[slot.index] = a[slot.index]
                continue
            new_a[slot.index][:, :pair.rank] = pair.a_RI.T
            new_b[slot.index][:pair.rank] = pair.b_OR.T
            if not math.isclose(pair.scale, model.lora.scale):
                new_b[slot.index] *= pair.scale / model.lora.scale
                if not is_finite(new_b[slot.index]):
                    refuse(f"The adapter of {layer_of(slot)} in {folder.folder}, times {pair.scale:g},")
        a.set_value(jnp.asarray(new_a))
        b.set_value(jnp.asarray(new_b))
    if folder.routers:
        for path, group in grouped(router_slots(model)):
            weight = np.stack([slot.view(folder.routers[layer_of(slot)]) for slot in group])
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
    refuse_sources(path, base)
    config = peft_config(model, os.fspath(base))
    whole_routers = router_slots(model) if config["modules_to_save"] else []
    if whole_routers:
        warnings.warn(f"{path} holds the trained routers whole (modules_to_save), which PEFT loads and vLLM "
                      "and SGLang refuse: give those the merged checkpoint.", stacklevel=2)
    variables, weights = ({name: hosts.fetch(variable[...]) for name, variable in named.items()}
                          for named in (adapters(model), routers(model) if whole_routers else {}))
    for name, array in (variables | weights).items():
        if not is_finite(array):
            refuse(f"Array {name} of the model")
    if not hosts.leads():  # it took part in gathering
        return pathlib.Path(path)
    with new_folder(path, overwrite) as folder:
        infos = {}
        groups = list(grouped(adapted_slots(model)))
        for stem, group in groups:
            for ours, theirs in (("lora_a", "lora_A"), ("lora_b", "lora_B")):
                variable = variables[f"{stem.removesuffix('.weight')}.{ours}"]
                info = TensorInfo(NAMES[np.dtype(variable.dtype)], variable.shape[:-3:-1])
                infos |= {_tensor(slot, theirs): info for slot in group}
        infos |= _zeros(model)
        infos |= {
            f"{PREFIX}{slot.key}": TensorInfo(NAMES[np.dtype(weights[slot.path].dtype)],
                                              slot.their_shape(weights[slot.path].shape))
            for slot in whole_routers
        }
        views = create(folder / WEIGHTS, infos)
        for slot in whole_routers:
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


def _zeros(model: Transformer) -> dict[str, TensorInfo]:
    """The tensors of the idle slots' adapters, which stay zero."""
    infos = {}
    weights = base_weights(model)
    for slot in idle_slots(model):
        outputs, inputs = slot.their_shape(weights[slot.path].shape)
        infos[_tensor(slot, "lora_A")] = TensorInfo("F32", (model.lora.rank, inputs))
        infos[_tensor(slot, "lora_B")] = TensorInfo("F32", (outputs, model.lora.rank))
    return infos


def _tensor(slot: Slot, side: str) -> str:
    """What the lora_A or lora_B of a slot is called in the file."""
    return f"{PREFIX}{layer_of(slot)}.{side}.weight"


def _check(model: Transformer, folder: PeftFolder, groups: Any, subset: bool):
    weights = base_weights(model)
    problems = []
    needed = set()
    adapted = set(map(leaf, folder.pairs))
    for path, group in groups:
        shape = weights[path].shape
        missing = [slot for slot in group if layer_of(slot) not in folder.pairs]
        known = leaf(group[0].key) in adapted
        if len(missing) < len(group) or not (known or subset):
            absent = [layer_of(slot) for slot in missing]
            problems += [f"no adapter for {name}" for name in absent if not known or folder.targeted(name)]
        for slot in group:
            needed.add(layer_of(slot))
            problems += _misfits(folder.pairs.get(layer_of(slot)), layer_of(slot), shape, model.lora.rank)
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
        layer_of(slot): slot.their_shape(routers(model)[slot.path].shape) for slot in router_slots(model)
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
