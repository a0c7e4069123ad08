"""What is read from a config.json, and what is refused: types, bounds, contradictions, absurd sizes."""
import copy
import json
import random

import pytest

from jaxrl_moe.model.config import ModelConfig, ModelConfigError, RopeConfig
from jaxrl_moe.types import UserError

DENSE = {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "vocab_size": 320, "hidden_size": 32,
         "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
         "head_dim": 8, "max_position_embeddings": 80, "rms_norm_eps": 1e-6, "tie_word_embeddings": False,
         "attention_bias": False, "use_sliding_window": False, "sliding_window": None, "hidden_act": "silu",
         "layer_types": ["full_attention"] * 3}
MOE = {key: value for key, value in DENSE.items() if key != "layer_types"} | {
    "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "num_experts": 4,
    "num_experts_per_tok": 2, "moe_intermediate_size": 24, "norm_topk_prob": True, "decoder_sparse_step": 1,
    "mlp_only_layers": [0], "router_aux_loss_coef": 0.001}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "rope_theta": 1e4}
NEW = {"rope_parameters": YARN | {"beta_fast": 32.0, "beta_slow": 1.0, "attention_factor": 1.0, "mscale": 1.0,
                                  "mscale_all_dim": 1.0, "truncate": True}}
OLD = {"rope_theta": 1e6, "rope_scaling": {"type": "linear", "factor": 3.0}}
WINDOW = {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}


def read(*changes, base=DENSE):
    fields = dict(base)
    for change in changes:
        fields |= change
    return ModelConfig.from_hf(fields, "folder/config.json")


def rope(**settings):
    return {"rope_parameters": {"rope_theta": 1e4} | settings}


REFUSED = {
    "a boolean in quotes": (MOE, {"norm_topk_prob": "false"}, r'norm_topk_prob is "false" \(a string\);'),
    "a number for a boolean": (DENSE, {"tie_word_embeddings": 0}, "tie_word_embeddings is 0"),
    "true for a number": (DENSE, {"num_hidden_layers": True}, "num_hidden_layers is true"),
    "eps in quotes": (DENSE, {"rms_norm_eps": "1e-6"}, "rms_norm_eps"),
    "eps of zero": (DENSE, {"rms_norm_eps": 0}, "rms_norm_eps is 0 .*above 0"),
    "an infinite eps": (DENSE, {"rms_norm_eps": float("inf")}, "rms_norm_eps"),
    "theta in quotes": (DENSE, {"rope_theta": "10000"}, "rope_theta"),
    "half a layer": (DENSE, {"num_hidden_layers": 2.5}, "num_hidden_layers is 2.5"),
    "layers as a float": (DENSE, {"num_hidden_layers": 3.0}, "num_hidden_layers is 3.0"),
    "no layers": (DENSE, {"num_hidden_layers": 0}, "num_hidden_layers is 0 .*from 1 to 1024"),
    "2^31 layers": (DENSE, {"num_hidden_layers": 2**31}, "num_hidden_layers"),
    "no vocabulary": (DENSE, {"vocab_size": 0}, "vocab_size is 0"),
    "2^63 words": (DENSE, {"vocab_size": 2**63}, "vocab_size"),
    "no width": (DENSE, {"hidden_size": 0}, "hidden_size is 0"),
    "2^31 channels": (DENSE, {"hidden_size": 2**31}, "hidden_size"),
    "no heads": (DENSE, {"num_attention_heads": 0}, "num_attention_heads is 0"),
    "no key-value heads": (DENSE, {"num_key_value_heads": 0}, "num_key_value_heads is 0"),
    "heads that share unevenly": (DENSE, {"num_key_value_heads": 3}, "config.json: num_attention_heads 4 is"),
    "an odd head": (DENSE, {"head_dim": 7}, "head_dim 7 is odd"),
    "no context": (DENSE, {"max_position_embeddings": 0}, "max_position_embeddings is 0"),
    "an absent size": (DENSE, {"hidden_size": None}, "config.json has no hidden_size"),
    "another activation": (DENSE, {"hidden_act": "gelu"}, "hidden_act is .*silu"),
    "dropout in attention": (DENSE, {"attention_dropout": 0.1}, "attention_dropout is not 0"),
    "2^31 experts": (MOE, {"num_experts": 2**31}, "num_experts"),
    "no experts": (MOE, {"num_experts": 0}, "num_experts is 0"),
    "two numbers of experts": (MOE, {"num_local_experts": 8}, "num_experts is 4, and num_local_experts 8"),
    "more experts active than there are": (MOE, {"num_experts_per_tok": 5}, "between 1 and num_experts 4"),
    "a sparse step of zero": (MOE, {"decoder_sparse_step": 0}, "decoder_sparse_step is 0"),
    "a dense layer that is not there": (MOE, {"mlp_only_layers": [3]}, "mlp_only_layers is .*from 0 to 2"),
    "a dense layer before the first": (MOE, {"mlp_only_layers": [-1]}, "mlp_only_layers"),
    "dense layers as a number": (MOE, {"mlp_only_layers": 1}, "mlp_only_layers"),
    "a coefficient in quotes": (MOE, {"router_aux_loss_coef": "0.001"}, "router_aux_loss_coef"),
    "a window before nothing": (DENSE, WINDOW | {"layer_types": None, "sliding_window": -8}, "window is -8"),
    "a window of nothing": (DENSE, WINDOW | {"layer_types": None, "sliding_window": 0}, "window is 0"),
    "layer types for other layers": (DENSE, {"layer_types": ["full_attention"]}, "each of 3 layers.*1 entr"),
    "unknown layer types": (DENSE, {"layer_types": ["full_attention", "linear_attention", "x"]}, "types"),
    "layer types of a window that is off": (DENSE, {"layer_types": ["sliding_attention"] * 3},
                                            "there is no window"),
    "layer types that experts do not have": (MOE, WINDOW | {"layer_types": ["full_attention"] * 3},
                                             "layer_types says something else"),
    "an architecture that is no list": (DENSE, {"architectures": "Qwen3ForCausalLM"}, "a list of strings"),
    "no architecture and no type": (DENSE, {"architectures": [], "model_type": None}, "no architecture"),
    "an unknown architecture": (DENSE, {"architectures": ["LlamaForCausalLM"]}, "LlamaFor.*; supported"),
    "an architecture of another type": (DENSE, {"model_type": "qwen3_moe"}, "model_type is 'qwen3_moe', and"),
    "a factor of zero": (DENSE, rope(rope_type="linear", factor=0), "factor is 0 .*at least 1"),
    "a negative factor": (DENSE, rope(rope_type="dynamic", factor=-2.0), "factor is -2"),
    "a factor that is no number": (DENSE, rope(rope_type="yarn", factor=float("nan")), "factor"),
    "a linear scaling without a factor": (DENSE, rope(rope_type="linear"), "rope_parameters has no factor"),
    "a factor without a scaling": (DENSE, rope(factor=4.0), "factor is not read by .*'default'"),
    "true for a factor that nothing reads": (DENSE, rope(factor=True), "factor is not read"),
    "a beta beyond logarithms": (DENSE, {"rope_parameters": YARN | {"beta_slow": 1e-300}}, "beta_slow"),
    "settings of YaRN for another": (DENSE, rope(rope_type="linear", factor=2.0, beta_fast=16), "beta_fast"),
    "a context that linear scaling does not read": (
        DENSE, rope(rope_type="linear", factor=2.0, original_max_position_embeddings=16), "original_max"),
    "theta of zero": (DENSE, rope(rope_theta=0), "rope_theta is 0 .*above 1"),
    "theta beyond floats": (DENSE, rope(rope_theta=1e300), "rope_theta"),
    "theta told twice": (DENSE, rope() | {"rope_theta": 1e6}, "rope_theta is 1e.06, and 10000 in"),
    "two kinds": (DENSE, rope(rope_type="yarn", type="linear", factor=2.0), "another type"),
    "an unknown kind": (DENSE, rope(rope_type="llama3", factor=2.0), "rope_type is .llama3"),
    "two spellings that differ": (DENSE, rope() | {"rope_scaling": OLD["rope_scaling"]},
                                  "rope_scaling and rope_parameters say different"),
    "settings of each kind of layer": (DENSE, {"rope_parameters": {"full_attention": {}}}, "full_attention"),
    "settings that are a list": (DENSE, {"rope_parameters": []}, "rope_parameters is .*an object"),
    "betas in the wrong order": (DENSE, {"rope_parameters": YARN | {"beta_fast": 1, "beta_slow": 32}},
                                 "beta_fast 1 must exceed beta_slow 32"),
    "an original context of zero": (
        DENSE, {"rope_parameters": YARN | {"original_max_position_embeddings": 0}}, "embeddings is 0"),
    "a context that shrank": (DENSE, rope(rope_type="yarn", original_max_position_embeddings=128),
                              "has no factor"),
    "a context beyond positions": (DENSE, {"rope_parameters": YARN | {"factor": 1e6},
                                           "max_position_embeddings": 2**31 - 1,
                                           "original_max_position_embeddings": 2**30}, "more than positions"),
    "a part that turns": (DENSE, {"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
    "dynamic heads of one pair": (DENSE, rope(rope_type="dynamic", factor=2.0) | {"head_dim": 2}, "head_dim"),
}


OTHER_MATHEMATICS = {
    "quantization_config": {"quant_method": "awq"}, "is_causal": False,
    "dual_chunk_attention_config": {"a": 1}, "attention_multiplier": 0.1, "logits_scaling": 8.0,
    "num_shared_experts": 1, "n_shared_experts": 1,
    "shared_expert_intermediate_size": 512, "n_group": 8, "topk_group": 4, "routed_scaling_factor": 2.5,
    "scoring_func": "sigmoid", "topk_method": "noaux_tc", "rope_interleaved": True, "qk_norm": False,
    "mlp_bias": True, "final_logit_softcapping": 30.0, "use_bidirectional_attention": True,
    "embedding_multiplier": 12.0, "residual_multiplier": 0.22}
PUBLISHED = {
    "_name_or_path": "x", "auto_map": {"AutoConfig": "a.B"}, "transformers_version": "4.51.0",
    "bos_token_id": 1, "eos_token_id": [1, 2], "pad_token_id": None, "torch_dtype": "bfloat16",
    "dtype": "bfloat16",
    "use_cache": False, "output_router_logits": False, "max_window_layers": 28, "unsloth_fixed": True,
    "unsloth_version": "2025.4", "model_name": "y", "quantization_config": None, "is_causal": True,
    "n_group": 1, "routed_scaling_factor": 1.0, "scoring_func": "softmax", "num_shared_experts": 0,
    "qk_norm": True, "rope_interleaved": False, "use_mrope": False, "pruned_heads": {},
    "id2label": {"0": "a"},
    "chunk_size_feed_forward": 0, "head_dtype": "x", "mlp_bias": False, "shared_expert_intermediate_size": 0}




@pytest.mark.parametrize("base", [DENSE, MOE], ids=["dense", "moe"])
def test_what_would_change_the_mathematics_is_refused_by_name_and_what_does_not_is_passed_over(base):
    for key, value in OTHER_MATHEMATICS.items():
        with pytest.raises(ModelConfigError, match=f"^folder/config.json: {key} is "):
            read({key: value}, base=base)
    assert read(PUBLISHED, base=base) == read(base=base)


@pytest.mark.parametrize("fault", REFUSED)
def test_what_no_model_has_is_refused_with_file_and_field(fault):
    base, change, message = REFUSED[fault]
    with pytest.raises(ModelConfigError, match=message) as refused:
        read(change, base=base)
    assert str(refused.value).startswith("folder/config.json")


@pytest.mark.parametrize("base, change, field, value", [
    (DENSE, {"rope_scaling": {}, "rope_theta": 5}, "rope",
     RopeConfig(5.0, original_max_position_embeddings=80)),
    (DENSE, {"rope_scaling": {"type": "linear", "rope_type": "linear", "factor": 3}, "rope_theta": 1e6} | {
        "rope_parameters": {"rope_type": "linear", "factor": 3.0, "rope_theta": 1e6}}, "rope",
     RopeConfig(1e6, "linear", 3.0, 80)),
    (DENSE, rope(rope_type="default", factor=1.0, original_max_position_embeddings=80), "rope",
     RopeConfig(original_max_position_embeddings=80)),
    (DENSE, {"rope_parameters": YARN, "original_max_position_embeddings": 40}, "rope",
     RopeConfig(1e4, "yarn", 4.0, 40)),
    (DENSE, rope(rope_type="yarn", original_max_position_embeddings=20), "rope",
     RopeConfig(1e4, "yarn", 4.0, 20)),
    (DENSE, {"rms_norm_eps": 1}, "rms_norm_eps", 1.0),
    (DENSE, {"sliding_window": 0}, "windows", (0, 0, 0)),
    (DENSE, WINDOW | {"layer_types": None}, "windows", (0, 8, 8)),
    (DENSE, WINDOW | {"layer_types": None, "sliding_window": None}, "windows", (0, 0, 0)),
    (DENSE, WINDOW | {"layer_types": ["sliding_attention", "full_attention", "full_attention"]}, "windows",
     (8, 0, 0)),
    (MOE, WINDOW | {"layer_types": ["sliding_attention"] * 3}, "windows", (8, 8, 8)),
    (MOE, {"norm_topk_prob": None}, "norm_topk_prob", False),
    (MOE, {"num_experts": None, "num_local_experts": 4}, "num_experts", 4),
    (MOE, {"num_local_experts": 4}, "num_experts", 4),
    (MOE, {"decoder_sparse_step": 2, "mlp_only_layers": None}, "sparse_layers", (False, True, False)),
    (MOE, {"head_dim": None}, "head_dim", 8),
    (DENSE, {"architectures": None}, "family", "qwen3")])
def test_what_is_accepted_is_read_right(base, change, field, value):
    assert getattr(read(change, base=base), field) == value


VALUES = [None, True, False, "", "x", "true", -1, 0, 1, 1.5, float("inf"), 2**31, 2**63, [], {}, {"a": [1]},
          ["x"], [None]]


def damaged(fields, generator, count):
    """Copies with one value replaced or dropped, at any depth."""
    for _ in range(count):
        copied = copy.deepcopy(fields)
        inner = copied
        while isinstance(inner[key := generator.choice(list(inner))], dict) and generator.random() < 0.8:
            inner = inner[key]
        if generator.random() < 0.1:
            del inner[key]
        else:
            inner[key] = generator.choice(VALUES)
        yield copied


@pytest.mark.parametrize("name, fields", [("moe", MOE), ("yarn", DENSE | NEW), ("linear", MOE | OLD),
                                          ("window", DENSE | WINDOW | {"layer_types": None})])
def test_a_damaged_config_is_refused_or_has_the_values_that_it_says(name, fields):
    names = {"vocab_size": "vocab_size", "hidden_size": "hidden_size", "num_hidden_layers": "num_layers",
             "rms_norm_eps": "rms_norm_eps", "attention_bias": "attention_bias",
             "tie_word_embeddings": "tie_word_embeddings", "intermediate_size": "intermediate_size",
             "max_position_embeddings": "max_position_embeddings"}
    read_at_all = 0
    for changed in damaged(fields, random.Random(name), 400):
        try:
            config = ModelConfig.from_hf(json.loads(json.dumps(changed)))
        except UserError as error:
            assert str(error).startswith("config.json")
            continue
        read_at_all += 1
        for theirs, ours in names.items():
            given = changed.get(theirs)
            assert given is None or (getattr(config, ours), type(given) is bool) == (
                given, type(getattr(config, ours)) is bool)
        assert ModelConfig.from_hf(config.to_hf()) == config
    assert read_at_all > 20


@pytest.mark.parametrize("change, context, drawn", [
    ({}, 80, 80),
    ({"rope_parameters": YARN}, 256, 256),  # of an original context of 64, with max_position_embeddings left
    ({"rope_parameters": YARN, "max_position_embeddings": 256}, 256, 256),
    ({"rope_parameters": YARN | {"factor": 1.0}}, 80, 80),
    ({"rope_parameters": YARN | {"factor": None}}, 80, 80),
    (rope(rope_type="yarn", factor=2.0), 160, 160),
    (OLD, 240, 240),
    (rope(rope_type="dynamic", factor=3.0), 240, 80)])
def test_the_context_is_what_rotary_embeddings_are_stretched_to_and_dynamic_ones_are_not_drawn_beyond(
        change, context, drawn):
    config = read(change)
    assert (config.context, config.drawn_context) == (context, drawn)


@pytest.mark.parametrize("field, value", [("num_kv_heads", 0), ("num_layers", 2**31), ("vocab_size", 2.0)])
def test_a_family_that_checks_nothing_itself_still_makes_no_such_model(field, value):
    sizes = {"vocab_size": 8, "hidden_size": 8, "num_layers": 1, "num_heads": 1, "num_kv_heads": 1,
             "head_dim": 8, "intermediate_size": 8, "sparse_layers": (False,), "windows": (0,)}
    with pytest.raises(ModelConfigError, match=f"{field} is"):
        ModelConfig("qwen3", **sizes | {field: value})
