"""What an adapter folder of ours says and holds: its adapter_config.json, and the layers and routers in
it."""
from collections.abc import Mapping

from flax import nnx

from bridges.errors import BridgeError
from bridges.hf import weight_map
from bridges.hf.importing import adapted_weights, base_weights, routers
from bridges.hf.weight_map import Slot
from bridges.peft.names import fused_names, in_layer, leaf, nested_names
from jaxrl_moe.model.families.registry import family_of
from jaxrl_moe.model.transformer import Transformer


def peft_config(model: Transformer, base: str) -> dict:
    """The fields of adapter_config.json.

    rsLoRA's scale is written as the plain scale of another lora_alpha: SGLang does not read use_rslora, and
    takes alpha / r in silence; PEFT fuses some projections of experts (gate and up) at twice the rank, which
    changes it by sqrt(2). PEFT refuses dropout of experts, so none is written there. In some families it
    takes MLP names to mean experts (Family.joins_dense_names); dense MLP layers of such a model are named as
    parameters instead.
    """
    if model.lora is None:
        raise BridgeError("The model has no adapters to export. Export it as a whole checkpoint instead.")
    family = family_of(model.config)
    rows = {slot.row for slot in adapted_slots(model)}
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
    alpha = lora.scale * lora.rank if lora.rslora else lora.alpha
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "inference_mode": True,
        "r": lora.rank,
        "lora_alpha": int(alpha) if float(alpha).is_integer() else alpha,
        "use_rslora": False,
        "lora_dropout": 0.0 if experts or apart else lora.dropout,
        "target_modules": sorted({leaf(row.theirs) for row in rows - apart}
                                 | {leaf(slot.key) for slot in idle_slots(model)}),
        "target_parameters": sorted(map(in_layer, apart)) or None,
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "modules_to_save": _router_names(model) if lora.router and model.config.num_sparse_layers else None,
        "rank_pattern": {},
        "alpha_pattern": {}
    }


def idle_slots(model: Transformer) -> list[Slot]:
    """The slots of experts' weights that have no adapters, and get zeros in the file: PEFT finds the adapters
    of gate and up only beside some of down, and leaves them out otherwise, with a warning alone."""
    adapted = {leaf(slot.row.ours) for slot in adapted_slots(model) if "{expert}" in slot.row.theirs}
    idle = set()
    for inner, outer in nested_names(family_of(model.config)):
        idle |= outer if adapted & inner and not adapted & outer else set()
    shapes = {path: shape for path, shape in _shapes(base_weights(model)).items() if leaf(path) in idle}
    slots = weight_map.slots(model.config, weight_map.table(model.config), shapes)
    return [slot for slot in slots if "{expert}" in slot.row.theirs]


def _router_names(model: Transformer) -> list[str]:
    return sorted({leaf(slot.key) for slot in router_slots(model)})


def adapted_slots(model: Transformer) -> list[Slot]:
    """The slots of the weights that have adapters, experts one by one."""
    return weight_map.slots(model.config, weight_map.table(model.config), _shapes(adapted_weights(model)))


def router_slots(model: Transformer) -> list[Slot]:
    """The slots of the routers' weights."""
    return weight_map.slots(model.config, weight_map.table(model.config), _shapes(routers(model)))


def _shapes(variables: Mapping[str, nnx.Variable]) -> dict[str, tuple[int, ...]]:
    return {path: variable.shape for path, variable in variables.items()}


def layer_of(slot: Slot) -> str:
    """The layer that a slot's weight belongs to, as Hugging Face calls it."""
    return slot.key.removesuffix(".weight")
