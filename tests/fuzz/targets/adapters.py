"""PEFT folders, which are laid over a model and merged into it, and critics."""
import json
import math
import pathlib
import random
import re
from typing import Any

import numpy as np
import safetensors.numpy

import bridges
from bridges.peft.critics import CONFIG as CRITIC_CONFIG
from bridges.peft.critics import WEIGHTS as CRITIC_WEIGHTS
from bridges.peft.critics import export_critic, load_critic
from jaxrl_moe.model.config import LoraConfig
from jaxrl_moe.model.value_head import Critic, ValueHead
from tests.fuzz.mutators import mutate_bytes, mutate_json
from tests.fuzz.reading import broken, damage, number, strict, text, texts, truth, whole
from tests.fuzz.runner import Target
from tests.fuzz.targets.models import SMALL, mutate_tensors
from tests.helpers.parity import randomise_adapters
from tests.helpers.tiny_models import make_checkpoint

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."


def ranks(value: Any) -> bool:
    return isinstance(value, dict) and all(map(whole(), value.values()))


def alphas(value: Any) -> bool:
    return isinstance(value, dict) and all(map(number(), value.values()))


RULES = {
    "r": whole(), "lora_alpha": number(), "use_rslora": truth, "lora_dropout": number(0, 1), "bias": text,
    "target_modules": lambda value: text(value) or texts(value), "rank_pattern": ranks,
    "alpha_pattern": alphas,
    "peft_type": text, "use_dora": truth, "fan_in_fan_out": truth,
    "modules_to_save": texts,
    "target_parameters": texts, "layers_to_transform": lambda value: whole(0)(value) or (
        isinstance(value, list) and all(map(whole(0), value)))}
# What PEFT computes otherwise than W + scale B A on the named layers.
FOREIGN: tuple[dict[str, Any], ...] = (
    {"use_dora": True}, {"use_dora": "false"}, {"use_rslora": "false"}, {"use_rslora": 0},
    {"bias": "lora_only"},
    {"lora_bias": True}, {"fan_in_fan_out": True}, {"modules_to_save": ["lm_head"]}, {"peft_type": "lora"},
    {"peft_type": "ADALORA"}, {"layers_to_transform": [0]}, {"layers_to_transform": 0}, {"r": 0}, {"r": -4},
    {"r": 4.0}, {"r": True}, {"r": "4"}, {"lora_alpha": "8"}, {"lora_alpha": True},
    {"lora_alpha": float("nan")},
    {"lora_alpha": None}, {"rank_pattern": {"q_proj": 0}}, {"rank_pattern": {"q_proj": 2}},
    {"rank_pattern": {"(": 4}}, {"rank_pattern": ["q_proj"]}, {"alpha_pattern": {"q_proj": 16}},
    {"alpha_pattern": {"^q_proj": "16"}}, {"alpha_pattern": {"model.layers.0.self_attn.q_proj": 32.0}},
    {"target_modules": ["k_proj"]}, {"target_modules": "q_proj"}, {"target_modules": []},
    {"target_modules": None}, {"target_modules": "all-linear"}, {"target_modules": ".*\\.(q|down)_proj"},
    {"exclude_modules": ["q_proj"]}, {"exclude_modules": "q_proj"}, {"init_lora_weights": "pissa"},
    {"layer_replication": [[0, 1], [0, 1]]}, {"trainable_token_indices": [1]}, {"lora_dropout": 1.5},
    {"lora_dropout": "0.1"}, {"lora_dropout": -1}, {"corda_config": {"a": 1}}, {"use_qalora": True},
    {"task_type": "SEQ_CLS"}, {"target_parameters": ["mlp.experts.gate_up_proj"]},
    {"base_model_name_or_path": 7})
OFF = {"use_dora": False, "bias": "none", "lora_bias": False, "fan_in_fan_out": False, "use_qalora": False,
       "layer_replication": None, "trainable_token_indices": None, "modules_to_save": None}


class Adapter(Target):
    """adapter_config.json and adapter_model.safetensors, merged into the base as `python -m bridges merge`
    does."""
    name = "adapter"
    share = 1.5

    def prepare(self, inputs: pathlib.Path) -> None:
        make_checkpoint(inputs / "base", "qwen3", tokenizer=False, **SMALL | dict(num_hidden_layers=1))
        model = bridges.load_model(inputs / "base", lora=LoraConfig(4, 8.0, targets=("q_proj", "down_proj")))
        randomise_adapters(model)
        bridges.export_adapter(model, inputs / "adapter", base="base")

    def mutate(self, rng: random.Random, inputs: pathlib.Path):
        if rng.random() < 0.04:
            tensors = safetensors.numpy.load_file(inputs / "adapter" / WEIGHTS)
            twice = {name.removeprefix(PREFIX): tensor * 2 for name, tensor in tensors.items()}
            changed = safetensors.numpy.save(tensors | twice)
            return {f"adapter/{WEIGHTS}": changed}, f"{WEIGHTS}: all tensors twice, under two names"
        name = rng.choice((CONFIG, CONFIG, WEIGHTS))
        data = (inputs / "adapter" / name).read_bytes()
        if name == WEIGHTS:
            changed, done = mutate_tensors(rng, data)
        elif rng.random() < 0.4:
            added = rng.choice(FOREIGN)
            changed, done = json.dumps(json.loads(data) | added).encode(), f"with {added}"
        else:
            changed, done = (mutate_bytes if rng.random() < 0.1 else mutate_json)(rng, data)
        return {f"adapter/{name}": changed}, f"{name}: {done}"

    def call(self, arena):
        lora = bridges.read_lora(arena.inputs / "adapter")
        model = bridges.load_model(arena.inputs / "base", lora=lora)
        bridges.import_adapter(model, arena.inputs / "adapter")
        return bridges.export_model(model, arena.output / "merged", source=arena.inputs / "base")

    def judge(self, arena, result):
        folder = arena.inputs / "adapter"
        wrong = damage(folder / CONFIG)
        if wrong:
            return wrong
        config = strict((folder / CONFIG).read_bytes())
        wrong = broken(config, RULES) or self._foreign(config)
        if wrong:
            return wrong
        try:
            tensors = safetensors.numpy.load_file(folder / WEIGHTS)
        except (safetensors.SafetensorError, KeyError, TypeError) as error:
            return f"the safetensors library refuses what we read: {error}"
        return self._merged_wrong(config, tensors, arena, result)

    def _foreign(self, config: dict) -> str:
        for key, off in OFF.items():
            if config.get(key, off) not in (off, None, False, [], "none"):
                return f"{key} has no effect: {config[key]!r}"
        drawn = config.get("init_lora_weights")
        if isinstance(drawn, str) and drawn.startswith(("pissa", "olora", "corda", "loftq")):
            return f"an adapter of a changed base was laid over the plain one: {drawn}"
        if config.get("peft_type") != "LORA":
            return f"no LoRA: {config.get('peft_type')!r}"
        return ""

    def _merged_wrong(self, config: dict, tensors: dict, arena: Any, result: pathlib.Path) -> str:
        base = safetensors.numpy.load_file(arena.inputs / "base/model.safetensors")
        merged = safetensors.numpy.load_file(result / "model.safetensors")
        stems = {name.removeprefix(PREFIX).rsplit(".lora_", 1)[0] for name in tensors}
        if len({name.removeprefix(PREFIX) for name in tensors}) < len(tensors):
            return "a layer stands there twice, under two names"
        for stem in sorted(stems):
            if not _adapted(config, stem):
                return f"PEFT does not adapt this layer: {stem}"
        for name, weight in base.items():
            stem = name.removesuffix(".weight")
            want = weight.astype(np.float64)
            if stem in stems:
                a, b = (np.float64(tensors[f"{PREFIX}{stem}.lora_{x}.weight"]) for x in "AB")
                want = want + _scale(config, stem) * b @ a
            error = np.abs(merged[name] - want).max() / np.abs(want).max()
            if np.isfinite(want).all() and not error < 1e-5:
                return f"the merged weight differs from PEFT's: {name} by {error:.1e}"
        return ""


def _scale(config: dict, stem: str) -> float:
    """As peft.tuners.lora.layer.LoraLayer.update_layer has it."""
    def pick(patterns: dict | None, default: Any) -> Any:
        for pattern, value in (patterns or {}).items():
            if re.match(rf"(.*\.)?({pattern})$", stem):
                return value
        return default

    rank = pick(config.get("rank_pattern"), config.get("r", 8))
    alpha = pick(config.get("alpha_pattern"), config.get("lora_alpha", 8))
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _adapted(config: dict, stem: str) -> bool:
    """Whether PEFT gives the layer an adapter,
    as peft.tuners.tuners_utils.check_target_module_exists decides.
    """
    def named(names: Any) -> bool:
        if isinstance(names, str):
            return names == "all-linear" or re.fullmatch(names, stem) is not None
        return any(stem == name or stem.endswith(f".{name}") for name in names or ())

    layers = config.get("layers_to_transform")
    number = int(stem.split(".layers.")[1].split(".")[0]) if ".layers." in stem else -1
    inside = layers is None or number in ([layers] if isinstance(layers, int) else layers)
    return named(config.get("target_modules")) and not named(config.get("exclude_modules")) and inside


class CriticFiles(Target):
    """value_head.json and value_head.safetensors."""
    name = "critic"
    share = 0.4

    def prepare(self, inputs):
        from flax import nnx
        critic = Critic(ValueHead(4, rngs=nnx.Rngs(0)), "token")
        export_critic(critic, inputs / "critic", base="base")

    def mutate(self, rng, inputs):
        name = rng.choice((CRITIC_CONFIG, CRITIC_WEIGHTS))
        data = (inputs / "critic" / name).read_bytes()
        damaged = mutate_tensors if name == CRITIC_WEIGHTS else (
            mutate_bytes if rng.random() < 0.1 else mutate_json)
        changed, done = damaged(rng, data)
        return {f"critic/{name}": changed}, f"{name}: {done}"

    def call(self, arena):
        return export_critic(load_critic(arena.inputs / "critic"), arena.output / "critic", base="base")

    def judge(self, arena, result):
        wrong = damage(arena.inputs / "critic" / CRITIC_CONFIG)
        if wrong:
            return wrong
        try:
            tensors = safetensors.numpy.load_file(arena.inputs / "critic" / CRITIC_WEIGHTS)
        except (safetensors.SafetensorError, KeyError, TypeError) as error:
            return f"the safetensors library refuses what we read: {error}"
        config = strict((arena.inputs / "critic" / CRITIC_CONFIG).read_bytes())
        wrong = broken(config, {"hidden_size": whole(4, 4), "critic": text, "layers": texts})
        written = safetensors.numpy.load_file(result / CRITIC_WEIGHTS)
        for name, array in written.items():
            if name not in tensors or not np.array_equal(array, tensors[name], equal_nan=True):
                return f"other values: {name}"
        return wrong


TARGETS = (Adapter, CriticFiles)
