"""Logits equal those of transformers, for every switch of config.json, in float32 to 1e-5."""
import json

import pytest

import bridges
from jaxrl_moe.model.config import ModelConfig
from tests.helpers.parity import logits_error, tokens
from tests.helpers.tiny_models import make_model

YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=16)
OLD_YARN = dict(type="yarn", factor=4.0, original_max_position_embeddings=16)
VARIANTS = {
    "moe": {},
    "moe, raw gate weights": dict(norm_topk_prob=False),
    "moe, one expert, raw gate": dict(num_experts_per_tok=1, norm_topk_prob=False),
    "moe, one expert, gate is one": dict(num_experts_per_tok=1, norm_topk_prob=True),
    "moe, all experts active": dict(num_experts_per_tok=4),
    "moe, tied": dict(tie_word_embeddings=True),
    "moe, every second layer": dict(decoder_sparse_step=2, num_hidden_layers=5),
    "moe, first and third dense": dict(mlp_only_layers=[0, 2], num_hidden_layers=4),
    "moe, no sparse layer": dict(mlp_only_layers=[0, 1, 2]),
    "moe, window on every layer": dict(use_sliding_window=True, sliding_window=8),
    "moe, attention bias": dict(attention_bias=True),
    "moe, 16 experts of 5": dict(num_experts=16, num_experts_per_tok=5),
    "dense": dict(family="qwen3"),
    "dense, tied": dict(family="qwen3", tie_word_embeddings=True),
    "dense, attention bias": dict(family="qwen3", attention_bias=True),
    "dense, window from layer 1": dict(family="qwen3", use_sliding_window=True, sliding_window=8,
                                       max_window_layers=1),
    "dense, window by layer_types": dict(
        family="qwen3", use_sliding_window=True, sliding_window=5,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"]),
    "window switched off": dict(family="qwen3", use_sliding_window=False, sliding_window=4,
                                max_window_layers=0),
    "head_dim unlike hidden / heads": dict(family="qwen3", head_dim=10),
    "one key-value head": dict(family="qwen3", num_key_value_heads=1),
    "as many key-value heads as heads": dict(family="qwen3", num_key_value_heads=4),
    "rope theta": dict(family="qwen3", rope_parameters=dict(rope_type="default", rope_theta=1e6)),
    "linear rope": dict(family="qwen3", rope_parameters=dict(rope_type="linear", rope_theta=1e4, factor=3.0)),
    "dynamic rope below the limit": dict(
        family="qwen3", rope_parameters=dict(rope_type="dynamic", rope_theta=1e4, factor=3.0)),
    "dynamic rope beyond the limit": dict(
        max_position_embeddings=24, rope_parameters=dict(rope_type="dynamic", rope_theta=1e4, factor=3.0)),
    "yarn": dict(rope_parameters=YARN | dict(rope_theta=1e4)),
    "yarn, all settings": dict(
        family="qwen3", rope_parameters=YARN
        | dict(rope_theta=1e6, beta_fast=16.0, beta_slow=2.0, attention_factor=0.9, truncate=False)),
    "yarn, mscale": dict(family="qwen3",
                         rope_parameters=YARN | dict(rope_theta=1e4, mscale=0.7, mscale_all_dim=1.3)),
    "yarn, original length left out": dict(family="qwen3", max_position_embeddings=32,
                                           rope_parameters=dict(rope_type="yarn", factor=2.0,
                                                                rope_theta=1e4)),
}
OLD_SPELLINGS = {
    "theta": dict(rope_theta=5e5),
    "linear": dict(rope_theta=1e4, rope_scaling=dict(type="linear", factor=3.0)),
    "dynamic": dict(rope_theta=1e4, max_position_embeddings=24, rope_scaling=dict(type="dynamic",
                                                                                  factor=3.0)),
    "yarn": dict(rope_theta=1e6, rope_scaling=OLD_YARN),
    "yarn, rope_type": dict(rope_theta=1e6, rope_scaling=YARN),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_equal_those_of_transformers(variant, tmp_path):
    hf_model = make_model(tmp_path, tokenizer=False, **VARIANTS[variant])
    assert logits_error(bridges.load_model(tmp_path), hf_model, tokens()) < 1e-5


@pytest.mark.parametrize("spelling", OLD_SPELLINGS)
def test_old_spellings_of_rope_mean_what_they_mean_to_transformers(spelling, tmp_path):
    fields = dict(rope_parameters=None) | OLD_SPELLINGS[spelling]
    family = "qwen3_moe" if spelling == "yarn" else "qwen3"
    hf_model = make_model(tmp_path, family, tokenizer=False, config_json=fields)
    assert logits_error(bridges.load_model(tmp_path), hf_model, tokens()) < 1e-5


def test_absent_and_renamed_fields_take_the_defaults_of_transformers(tmp_path):
    absent = ("norm_topk_prob", "attention_bias", "decoder_sparse_step", "mlp_only_layers", "rms_norm_eps")
    fields = dict(num_experts=4, num_local_experts=None) | dict.fromkeys(absent)
    hf_model = make_model(tmp_path, tokenizer=False, config_json=fields)
    assert logits_error(bridges.load_model(tmp_path), hf_model, tokens()) < 1e-5


def test_head_dim_left_out_is_hidden_over_heads_for_moe_and_128_for_dense(tmp_path):
    for family, head_dim in (("qwen3_moe", 8), ("qwen3", 128)):
        folder = tmp_path / family
        hf_model = make_model(folder, family, tokenizer=False, head_dim=head_dim,
                              config_json=dict(head_dim=None))
        assert logits_error(bridges.load_model(folder), hf_model, tokens()) < 1e-5


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_config_written_from_the_model_reads_back_equal(variant, tmp_path):
    import transformers

    from tests.helpers.tiny_models import make_config
    ours = ModelConfig.from_hf(
        make_config(**VARIANTS[variant]).to_dict() | dict(architectures=[
            "Qwen3ForCausalLM" if VARIANTS[variant].get("family") == "qwen3" else "Qwen3MoeForCausalLM"
        ]))
    (tmp_path / "config.json").write_text(json.dumps(ours.to_hf()))
    theirs = transformers.AutoConfig.from_pretrained(tmp_path).to_dict()
    assert ModelConfig.from_hf(ours.to_hf()) == ours
    assert ModelConfig.from_hf(theirs | dict(architectures=ours.to_hf()["architectures"])) == ours
