"""Model folders: config.json, generation_config.json, the tokenizer's files, weights and their index."""
import json
import pathlib
import random
from typing import Any

import numpy as np
import safetensors.numpy
import transformers

import bridges
from jaxrl_moe.checks import data as data_checks
from jaxrl_moe.checks import start
from jaxrl_moe.checks.problems import refuse
from jaxrl_moe.config import Config, DataSection, EnvSection, ModelSection
from jaxrl_moe.data.tokenizer import load_tokenizer
from tests.fuzz.mutators import mutate_bytes, mutate_json
from tests.fuzz.reading import Damaged, broken, damage, number, same, strict, truth, whole
from tests.fuzz.runner import Target
from tests.helpers.tiny_models import make_checkpoint

SMALL = dict(num_hidden_layers=2, hidden_size=16, intermediate_size=24, vocab_size=320, num_attention_heads=2,
             num_key_value_heads=1, max_position_embeddings=64)
EXPERTS = dict(num_experts=2, num_experts_per_tok=1, moe_intermediate_size=8)
RULES = dict.fromkeys(("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
                       "num_attention_heads", "num_key_value_heads", "head_dim", "max_position_embeddings",
                       "num_experts", "num_experts_per_tok", "moe_intermediate_size", "decoder_sparse_step",
                       "num_local_experts"), whole()) | {
    "rms_norm_eps": number(0), "initializer_range": number(0), "router_aux_loss_coef": number(0),
    "rope_theta": number(0), "tie_word_embeddings": truth, "attention_bias": truth, "norm_topk_prob": truth,
    "use_sliding_window": truth, "sliding_window": whole(), "max_window_layers": whole(0),
    "router_selection_bias": truth,
    "architectures": lambda value: isinstance(value, list) and all(isinstance(each, str) for each in value),
    "mlp_only_layers": lambda value: isinstance(value, list) and all(type(each) is int for each in value)}
MOE_ALONE = ("num_experts", "num_experts_per_tok", "moe_intermediate_size", "decoder_sparse_step",
             "num_local_experts", "router_aux_loss_coef", "norm_topk_prob", "mlp_only_layers",
             "router_selection_bias")
# ours: transformers'
SAME = {name: name for name in (
    "vocab_size", "hidden_size", "head_dim", "intermediate_size", "tie_word_embeddings", "attention_bias",
    "rms_norm_eps", "max_position_embeddings", "initializer_range")} | {
    "num_layers": "num_hidden_layers", "num_heads": "num_attention_heads",
    "num_kv_heads": "num_key_value_heads"}
OF_EXPERTS = {name: name for name in ("num_experts", "num_experts_per_tok", "moe_intermediate_size",
                                      "norm_topk_prob", "router_aux_loss_coef")}
# What other models' files have, and what changes what is computed.
FOREIGN: tuple[dict[str, Any], ...] = (
    {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}},
    {"quantization_config": {"quant_method": "awq", "bits": 4}}, {"partial_rotary_factor": 0.5},
    {"rope_scaling": {"type": "yarn", "factor": 4.0}}, {"rope_scaling": {"rope_type": "linear"}},
    {"rope_scaling": {"rope_type": "linear", "factor": "2"}}, {"rope_scaling": {"rope_type": "llama3"}},
    {"rope_scaling": {"rope_type": "yarn", "factor": 0}}, {"rope_scaling": []}, {"rope_theta": 0},
    {"rope_scaling": {"rope_type": "dynamic", "factor": -1.0}}, {"head_dim": None}, {"head_dim": 7},
    {"rope_parameters": {"full_attention": {"rope_theta": 1e4, "rope_type": "default"}}},
    {"num_local_experts": 3}, {"use_sliding_window": True}, {"attention_chunk_size": 8192},
    {"sliding_window": 4, "use_sliding_window": True, "max_window_layers": 0},
    {"layer_types": ["full_attention"]},
    {"layer_types": ["sliding_attention", "linear_attention"]}, {"mlp_only_layers": [0.0]},
    {"mlp_only_layers": [-1]}, {"mlp_only_layers": [99]}, {"decoder_sparse_step": 2}, {"hidden_act": "gelu"},
    {"hidden_act": None}, {"mlp_bias": True}, {"attention_bias": "false"}, {"num_shared_experts": 1},
    {"logit_softcapping": 30.0}, {"architectures": ["Qwen3MoeForSequenceClassification"]},
    {"architectures": []}, {"architectures": "Qwen3MoeForCausalLM"}, {"text_config": {"hidden_size": 8}},
    {"model_type": "qwen2"}, {"auto_map": {"AutoModel": "modeling.Evil"}}, {"num_key_value_heads": None})


class Folder(Target):
    """A model folder of a family."""
    family = "qwen3_moe"
    options: dict[str, Any] = {}

    def prepare(self, inputs: pathlib.Path) -> None:
        sizes = SMALL | (EXPERTS if self.family == "qwen3_moe" else {})
        make_checkpoint(inputs, self.family, **sizes | self.options)


class ConfigJson(Folder):
    """config.json, as every command reads it, and the weights that it has to fit."""
    name = "config"
    share = 1.5

    def mutate(self, rng, inputs):
        data = (inputs / "config.json").read_bytes()
        if rng.random() < 0.2:
            added = rng.choice(FOREIGN)
            return {"config.json": json.dumps(json.loads(data) | added).encode()}, f"with {added}"
        changed, done = (mutate_bytes if rng.random() < 0.15 else mutate_json)(rng, data)
        return {"config.json": changed}, done

    def call(self, arena):
        config = bridges.model_config(arena.inputs)
        bridges.check_tensors(arena.inputs)
        return config, getattr(config, "drawn_context", config.max_position_embeddings)

    def judge(self, arena, result):
        config, context = result
        wrong = damage(arena.inputs / "config.json")
        if wrong:
            return wrong
        values = strict((arena.inputs / "config.json").read_bytes())
        dense = self.family == "qwen3"
        rules = {key: rule for key, rule in RULES.items() if not (dense and key in MOE_ALONE)}
        wrong = broken(values, rules) or self._unlike(config, arena.inputs)
        if not wrong and not (type(context) is int and 0 < context < 2**31):
            wrong = f"a context of {context!r}"
        quantised = "quantization_config" in values and values["quantization_config"] is not None
        return wrong or ("a quantised checkpoint read as a plain one" if quantised else "")

    def _unlike(self, config: Any, folder: pathlib.Path) -> str:
        """How our reading differs from that of transformers."""
        try:
            theirs = transformers.AutoConfig.from_pretrained(folder)
        except Exception:  # it refuses more than it reads
            return ""
        names = SAME | (OF_EXPERTS if self.family == "qwen3_moe" else {})
        for ours, name in names.items():
            here, there = getattr(config, ours), getattr(theirs, name, None)
            if there is None:  # not every version fills it in
                continue
            if isinstance(there, float) or isinstance(here, float):
                here, there = float(here), float(there)
            if not same(here, there):
                return f"{ours} differs from transformers: {here!r} and {there!r}"
        return self._rope_unlike(config.rope, getattr(theirs, "rope_parameters", None) or {})

    def _rope_unlike(self, rope: Any, theirs: dict) -> str:
        pairs = {"theta": "rope_theta", "type": "rope_type", "factor": "factor"}
        for ours, name in pairs.items():
            if theirs.get(name) is not None and getattr(rope, ours) != theirs[name]:
                return f"rope.{ours} differs from transformers: {getattr(rope, ours)!r} and {theirs[name]!r}"
        return ""


class DenseConfigJson(ConfigJson):
    """config.json of a dense model with sliding windows, YaRN and biases."""
    name = "config-dense"
    family = "qwen3"
    options = dict(use_sliding_window=True, sliding_window=8, max_window_layers=1, attention_bias=True,
                   rope_parameters={"rope_type": "yarn", "rope_theta": 10000.0, "factor": 2.0,
                                    "original_max_position_embeddings": 32})


class GenerationConfig(Folder):
    """generation_config.json: its end tokens are a completion's ends."""
    name = "generation-config"
    family = "qwen3"
    share = 0.5

    def mutate(self, rng, inputs):
        data = (inputs / "generation_config.json").read_bytes()
        if rng.random() < 0.3:
            eos = rng.choice([[2, 0], [2, 2], [2, "0"], [2, None], [2, True], [2.0], [-1], [320], [10**12],
                              [[2]],
                              "2", 2.0, True, {"2": 2}, [], "", "<|im_end|>", 2**31, -1, 320, [1], 1])
            return {"generation_config.json": json.dumps({"eos_token_id": eos}).encode()}, f"eos {eos!r}"
        changed, done = (mutate_bytes if rng.random() < 0.15 else mutate_json)(rng, data)
        return {"generation_config.json": changed}, done

    def call(self, arena):
        settings = Config(run_dir=str(arena.output / "run"), model=ModelSection(path=str(arena.inputs)))
        refuse([*data_checks.tokenizer_problems(start.training(settings, bridges))])
        return load_tokenizer(str(arena.inputs)).eos_ids

    def judge(self, arena, result):
        path = arena.inputs / "generation_config.json"
        wrong = damage(path)
        if wrong:
            return wrong
        eos = strict(path.read_bytes()).get("eos_token_id")
        ids = eos if isinstance(eos, list) else [] if eos is None else [eos]
        for each in ids:
            if not (type(each) is int and 0 <= each < SMALL["vocab_size"]):
                return f"an end token that is none: {eos!r}"
        want = tuple(dict.fromkeys((2, *ids)))  # <|im_end|>
        return "" if same(tuple(result), want) else f"other end tokens: {result} and not {want}"


TEXTS = ("What is 12 plus 7?", " \n\tTwo  words\u00a0and \u4f60\u597d \U0001f600", "<|im_end|>")


class TokenizerFiles(Folder):
    """The tokenizer's files and its chat template."""
    name = "tokenizer"
    family = "qwen3"
    share = 0.7

    def mutate(self, rng, inputs):
        name = rng.choice(("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"))
        data = (inputs / name).read_bytes()
        if name.endswith("jinja"):
            template = rng.choice([b"", b"{{ messages }}", b"{% for m in messages %}", b"{{ 1/0 }}", b"\xff",
                                   b"{{ ''.__class__.__mro__ }}", b"{% include '/etc/passwd' %}",
                                   b"{{ raise_exception('no') }}", b"{{ x.y.z }}", b"constant",
                                   b"{% for i in range(10**9) %}{% endfor %}x", b"{{ 'a' * 10**10 }}",
                                   data.replace(b"content", b"text"),
                                   data.replace(b"message[", b"messages[")])
            return {name: template}, f"{name} := {template[:60]!r}"
        if name == "tokenizer.json" and rng.random() < 0.1:
            tokens = json.loads(data)
            entry = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
            place = rng.choice((SMALL["vocab_size"], 10**6, -1, 2))
            tokens["added_tokens"].append(entry | {"id": place, "content": "12"})
            return {name: json.dumps(tokens).encode()}, f"{name}: the added token '12' with id {place}"
        changed, done = (mutate_bytes if rng.random() < 0.3 else mutate_json)(rng, data)
        return {name: changed}, f"{name}: {done}"

    def call(self, arena):
        rows = arena.output / "rows.jsonl"
        rows.write_text(json.dumps({"question": TEXTS[0], "answer": "#### 3"}) + "\n")
        settings = Config(run_dir=str(arena.output / "run"), model=ModelSection(path=str(arena.inputs)),
                          data=DataSection(path=str(rows)), env=EnvSection("gsm8k"))
        begun = start.training(settings, bridges)
        refuse([*data_checks.tokenizer_problems(begun), *data_checks.problems(begun)])
        tokenizer = load_tokenizer(str(arena.inputs))
        messages = [{"role": "user", "content": TEXTS[0]}]
        return (tokenizer, [tokenizer.encode(text) for text in TEXTS], tokenizer.render(messages),
                [tokenizer.decode(tokenizer.encode(text), skip_special_tokens=False) for text in TEXTS],
                tokenizer.render_text(messages))

    def judge(self, arena, result):
        tokenizer, encoded, rendered, _, text = result
        for ids in (*encoded, rendered, np.array(tokenizer.eos_ids)):
            if len(ids) and not (0 <= ids.min() and ids.max() < SMALL["vocab_size"]):
                return f"ids outside the vocabulary: {ids.min()} .. {ids.max()}"
        for name in ("tokenizer.json", "tokenizer_config.json"):
            try:
                strict((arena.inputs / name).read_bytes())
            except Damaged as error:
                return f"{name} is damaged: {error}"
        return "" if TEXTS[0] in text else f"the chat template leaves the message out: {text[:200]!r}"


def header(data: bytes) -> tuple[bytes, bytes]:
    """(header, data) of a safetensors file."""
    length = int.from_bytes(data[:8], "little")
    return data[8:8 + length], data[8 + length:]


def mutate_tensors(rng: random.Random, data: bytes) -> tuple[bytes, str]:
    """Damages a safetensors file, mostly in its header."""
    head, body = header(data)
    chance = rng.random()
    if chance < 0.55:
        changed, done = mutate_json(rng, head)
        length = len(changed) + (rng.choice((-1, 1, 8, 2**40)) if rng.random() < 0.05 else 0)
        return length.to_bytes(8, "little") + changed + body, f"header: {done}"
    if chance < 0.65:
        rows = json.loads(head)
        names = [key for key in rows if key != "__metadata__"]
        mine, theirs = rng.choice(names), rng.choice(names)
        field = rng.choice(("data_offsets", "shape", "dtype", None))
        if field is None:
            rows[mine], rows[theirs] = rows[theirs], rows[mine]
        else:
            rows[mine][field] = rows[theirs][field]
        changed = json.dumps(rows).encode()
        return len(changed).to_bytes(8, "little") + changed + body, f"header: {mine} as {theirs}: {field}"
    if chance < 0.7:
        dtype = rng.choice((b"F64", b"F16", b"BF16", b"I32", b"U32", b"F8_E4M3", b"f32", b"", b"C64"))
        changed = head.replace(b'"F32"', b'"' + dtype + b'"', rng.choice((1, -1)))
        return len(changed).to_bytes(8, "little") + changed + body, f"dtype {dtype}"
    return mutate_bytes(rng, data, 8 + len(head) if chance < 0.9 else 0)


class Weights(Folder):
    """model.safetensors, read and written again."""
    name = "weights"
    family = "qwen3"
    options = dict(num_hidden_layers=1)
    files = ("model.safetensors",)

    def mutate(self, rng, inputs):
        file = rng.choice(self.files)
        changed, done = mutate_tensors(rng, (inputs / file).read_bytes())
        if rng.random() < 0.02:
            changed, done = None, "missing"
        return {file: changed}, f"{file}: {done}"

    def call(self, arena):
        model = bridges.load_model(arena.inputs)
        return bridges.export_model(model, arena.output / "model", source=arena.inputs)

    def judge(self, arena, result):
        try:
            tensors = self._promised(arena.inputs)
        except (safetensors.SafetensorError, KeyError, TypeError, OSError, Damaged) as error:
            return f"the safetensors library refuses what we read: {error}"
        written: dict[str, np.ndarray] = {}
        for path in sorted(result.glob("*.safetensors")):
            written |= safetensors.numpy.load_file(path)
        if written.keys() != tensors.keys():
            return f"other tensors: {sorted(written.keys() ^ tensors.keys())[:3]}"
        for name, array in tensors.items():
            if array.dtype != written[name].dtype or array.tobytes() != written[name].tobytes():
                return f"other values: {name}"
        return ""

    def _promised(self, folder: pathlib.Path) -> dict[str, np.ndarray]:
        return safetensors.numpy.load_file(folder / "model.safetensors")


class Index(Weights):
    """model.safetensors.index.json, and the shards that it names."""
    name = "index"
    options = dict(num_hidden_layers=1, max_shard_size="20KB")

    def mutate(self, rng, inputs):
        name = "model.safetensors.index.json"
        data = (inputs / name).read_bytes()
        if rng.random() < 0.25:
            index = json.loads(data)
            keys = sorted(index["weight_map"])
            file = rng.choice(("../beside/other.safetensors", str(inputs.parent / "beside/other.safetensors"),
                               "./" + index["weight_map"][keys[0]], "", ".", "config.json",
                               "sub/x.safetensors",
                               "model-00001-of-00002.SAFETENSORS", "model\0.safetensors", None, 3, ["x"]))
            for key in keys if rng.random() < 0.3 else keys[:1]:
                index["weight_map"][key] = file
            return {name: json.dumps(index).encode()}, f"weight_map -> {file!r}"
        if rng.random() < 0.05:
            make_checkpoint(inputs.parent / "output/other", self.family, seed=5, tokenizer=False,
                            **SMALL | dict(num_hidden_layers=1))
            other = (inputs.parent / "output/other/model.safetensors").read_bytes()
            return {"model.safetensors": other}, "other weights beside it in model.safetensors"
        if rng.random() < 0.15:
            shards = sorted(path.name for path in inputs.glob("*.safetensors"))
            file = rng.choice(shards)
            changed, done = mutate_tensors(rng, (inputs / file).read_bytes())
            return {file: changed}, f"{file}: {done}"
        changed, done = (mutate_bytes if rng.random() < 0.15 else mutate_json)(rng, data)
        return {name: changed}, done

    def _promised(self, folder):
        path = folder / "model.safetensors.index.json"
        if not path.exists():
            return super()._promised(folder)
        if (folder / "model.safetensors").exists():
            raise Damaged("model.safetensors, which transformers reads, and the index, which we read, differ")
        tensors: dict[str, np.ndarray] = {}
        for name, file in strict(path.read_bytes())["weight_map"].items():
            if pathlib.PurePath(file).name != file:
                raise Damaged(f"{file} lies elsewhere")
            inside = safetensors.numpy.load_file(folder / file)
            tensors |= {name: inside[name]} | inside  # transformers too takes all that a file holds
        return tensors


TARGETS = (ConfigJson, DenseConfigJson, GenerationConfig, TokenizerFiles, Weights, Index)
