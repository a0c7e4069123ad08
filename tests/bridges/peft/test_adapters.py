"""Adapters mean the same to PEFT and to us, in both directions; merged equals live."""
import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

import bridges
from bridges.hf.importing import adapters, base_weights
from jaxrl_moe.model.config import LoraConfig
from jaxrl_moe.model.passes import Pass
from tests.helpers import oracles
from tests.helpers.parity import hf_logits, logits_error, randomise_adapters, relative, tokens
from tests.helpers.tiny_models import make_checkpoint, make_model

CASES = {
    "moe": ({}, LoraConfig(4, 8.0)),
    "moe, rslora, dropout": ({}, LoraConfig(3, 5.0, rslora=True, dropout=0.1)),
    "moe, attention only": ({}, LoraConfig(4, 8.0, targets=("q_proj", "o_proj"))),
    "moe, down only": ({}, LoraConfig(4, 8.0, targets=("mlp.down_proj",))),
    "dense": (dict(family="qwen3"), LoraConfig(4, 8.0, rslora=True, dropout=0.1)),
    "mixed": (dict(mlp_only_layers=[1]), LoraConfig(4, 8.0)),
    "mixed, no sparse layer": (dict(mlp_only_layers=[0, 1]), LoraConfig(4, 8.0)),
}
FEW = tokens(length=30)  # few enough that every expert computes every token, the path of decoding


def with_adapters(folder, lora):
    model = bridges.load_model(folder, lora=lora)
    randomise_adapters(model)
    return model


def reimported(folder, adapter):
    model = bridges.load_model(folder, lora=bridges.read_lora(adapter))
    bridges.import_adapter(model, adapter)
    return model


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", CASES)
def test_an_exported_adapter_gives_our_logits_in_peft_and_comes_back_bit_for_bit(case, tmp_path):
    options, lora = CASES[case]
    base = hf_logits(make_model(tmp_path / "hf", tokenizer=False, **options), tokens())
    model = with_adapters(tmp_path / "hf", lora)
    bridges.export_adapter(model, tmp_path / "adapter", base=tmp_path / "hf")
    theirs = oracles.peft_model(tmp_path / "hf", tmp_path / "adapter")
    assert logits_error(model, theirs, tokens()) < 1e-5
    assert relative(base, hf_logits(theirs, tokens())) > 0.1  # the adapter matters
    again = reimported(tmp_path / "hf", tmp_path / "adapter")
    assert again.lora.scale == pytest.approx(lora.scale)
    written = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert written["lora_alpha"] / written["r"] == pytest.approx(lora.scale)  # for readers of these alone
    for path, variable in adapters(model).items():
        np.testing.assert_array_equal(variable[...], adapters(again)[path][...])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", ["moe", "mixed", "moe, down only"])
def test_an_adapter_that_peft_saves_in_its_own_form_is_read(case, tmp_path):
    options, lora = CASES[case]
    make_checkpoint(tmp_path / "hf", tokenizer=False, **options)
    bridges.export_adapter(with_adapters(tmp_path / "hf", lora), tmp_path / "ours", base=tmp_path / "hf")
    theirs = oracles.peft_model(tmp_path / "hf", tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs")
    again = reimported(tmp_path / "hf", tmp_path / "theirs")
    assert again.lora.rank == lora.rank
    assert logits_error(again, theirs, FEW) < 1e-5


PEFT_CONFIGS = {
    "experts by name": dict(target_modules=["q_proj", "gate_proj", "up_proj", "down_proj"]),
    "experts by parameter": dict(target_modules=["v_proj"],
                                 target_parameters=["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]),
    "gate_up alone": dict(target_modules=["v_proj"], target_parameters=["mlp.experts.gate_up_proj"]),
    "rslora by name": dict(target_modules=["o_proj", "gate_proj", "up_proj", "down_proj"], use_rslora=True),
    "rank and alpha patterns": dict(target_modules=["q_proj", "k_proj"], rank_pattern={"k_proj": 2},
                                    alpha_pattern={"layers.1.self_attn.q_proj": 20}),
    "some layers": dict(target_modules=["q_proj"], layers_to_transform=[0, 2]),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", PEFT_CONFIGS)
def test_an_adapter_made_by_peft_gives_its_logits(name, tmp_path):
    """Random A and B, so gate and up share all of A and the halves have off-diagonal blocks."""
    torch = oracles.torch()
    peft = oracles.peft()
    make_checkpoint(tmp_path / "hf", tokenizer=False)
    base = oracles.transformers_model(tmp_path / "hf")
    theirs = peft.get_peft_model(base, peft.LoraConfig(r=4, lora_alpha=6, **PEFT_CONFIGS[name])).eval()
    with torch.no_grad():
        for key, parameter in theirs.named_parameters():
            if "lora_" in key:
                parameter.normal_(0, 0.1)
    theirs.save_pretrained(tmp_path / "adapter")
    assert logits_error(reimported(tmp_path / "hf", tmp_path / "adapter"), theirs, FEW) < 1e-5


def test_the_adapter_file_names_experts_one_by_one_and_its_config_the_rank(tmp_path):
    make_checkpoint(tmp_path / "hf", tokenizer=False)
    bridges.export_adapter(with_adapters(tmp_path / "hf", LoraConfig(4, 8.0)), tmp_path / "adapter",
                           base="some/model")
    config = json.loads((tmp_path / "adapter/adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["base_model_name_or_path"]) == (4, 8, "some/model")
    assert config["target_modules"] == [
        "down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"
    ]
    tensors = load_file(tmp_path / "adapter/adapter_model.safetensors")
    assert len(tensors) == 3 * 2 * (4 + 4 * 3)
    stem = "base_model.model.model.layers.2.mlp.experts.3"
    assert tensors[f"{stem}.gate_proj.lora_A.weight"].shape == (4, 32)
    assert tensors[f"{stem}.down_proj.lora_B.weight"].shape == (32, 4)


@pytest.mark.parametrize("case", ["moe", "mixed", "dense"])
def test_the_merged_checkpoint_computes_what_the_live_adapters_compute(case, tmp_path):
    options, lora = CASES[case]
    make_checkpoint(tmp_path / "hf", **options)
    model = with_adapters(tmp_path / "hf", lora)
    bridges.export_model(model, tmp_path / "merged", source=tmp_path / "hf")
    merged = oracles.transformers_model(tmp_path / "merged")
    assert logits_error(model, merged, FEW) < 1e-5


def test_an_unmerged_export_leaves_the_base_as_it_was(tmp_path):
    make_checkpoint(tmp_path / "hf")
    bridges.export_model(with_adapters(tmp_path / "hf", LoraConfig(4, 8.0)), tmp_path / "out",
                         source=tmp_path / "hf", merge=False)
    assert (tmp_path / "hf/model.safetensors").read_bytes() == (tmp_path
                                                                / "out/model.safetensors").read_bytes()


def test_merging_into_bfloat16_adds_in_float32_and_rounds_once(tmp_path):
    make_checkpoint(tmp_path / "hf", dtype="bfloat16")
    model = bridges.load_model(tmp_path / "hf", lora=LoraConfig(4, 8.0), dtype="bfloat16")
    randomise_adapters(model, std=0.01)
    bridges.export_model(model, tmp_path / "merged", source=tmp_path / "hf")
    weights = base_weights(model)
    low_rank = adapters(model)
    path = "stacks.0.mlp.up_proj"
    exact = np.asarray(weights[f"{path}.weight"][...], np.float64) + 2.0 * np.einsum(
        "leir,lero->leio", *(np.asarray(low_rank[f"{path}.lora_{x}"][...], np.float64) for x in "ab"))
    merged = base_weights(bridges.load_model(tmp_path / "merged", dtype="bfloat16"))[f"{path}.weight"][...]
    ulp = np.maximum(np.abs(exact), 1e-6) * 2.0**-8
    assert (np.abs(np.asarray(merged, np.float64) - exact) <= ulp * 1.001).all()


def test_adapters_switched_off_are_the_base_model(tmp_path):
    import jax.numpy as jnp
    hf_model = make_model(tmp_path / "hf", tokenizer=False, family="qwen3")
    model = with_adapters(tmp_path / "hf", LoraConfig(4, 8.0))
    positions = jnp.broadcast_to(jnp.arange(40), (2, 40))
    call = Pass(positions, jnp.ones_like(positions), adapters=False)
    hidden, _ = jax.jit(lambda ids: model(ids, call))(jnp.asarray(tokens()))
    assert relative(model.logits(hidden), hf_logits(hf_model, tokens())) < 1e-5


@pytest.mark.parametrize("targets, refused", [(("gate_proj", "down_proj"), True),
                                              (("gate_proj", "up_proj"), False),
                                              (("q_proj", "down_proj"), False)])
def test_the_check_before_training_refuses_what_the_export_after_it_would(targets, refused, tmp_path):
    make_checkpoint(tmp_path / "hf", tokenizer=False)
    lora = LoraConfig(4, 8.0, targets=targets)
    checks = [
        lambda: bridges.check_adapters(bridges.model_config(tmp_path / "hf"), lora), lambda: bridges.
        export_adapter(bridges.load_model(tmp_path / "hf", lora=lora), tmp_path / "out", base="hf")
    ]
    for check in checks:
        if refused:
            with pytest.raises(bridges.BridgeError, match="gate_proj and up_proj.*lora.targets"):
                check()
        else:
            check()


def test_a_model_with_room_for_more_takes_an_adapter_of_some_of_its_layers(tmp_path):
    make_checkpoint(tmp_path / "hf", tokenizer=False)
    small = with_adapters(tmp_path / "hf", LoraConfig(2, 5.0, targets=("q_proj", "down_proj")))
    bridges.export_adapter(small, tmp_path / "adapter", base="hf")
    large = with_adapters(tmp_path / "hf", LoraConfig(4, 8.0))
    with pytest.raises(bridges.BridgeError, match="no adapter for"):
        bridges.import_adapter(large, tmp_path / "adapter")
    bridges.import_adapter(large, tmp_path / "adapter", subset=True)
    positions = np.broadcast_to(np.arange(40), (2, 40))
    whole = jax.jit(lambda model, ids: model(ids, Pass(positions, np.ones_like(positions)))[0])
    ours, theirs = (model.logits(whole(model, tokens()))
                    for model in (large, small))
    assert relative(ours, theirs) < 1e-5


@pytest.mark.filterwarnings("ignore")
def test_adapters_of_gate_and_up_alone_reach_peft_and_come_back_alone(tmp_path):
    """PEFT finds them only beside some of down, and leaves them out with a warning otherwise."""
    make_checkpoint(tmp_path / "hf", tokenizer=False)
    lora = LoraConfig(4, 8.0, targets=("gate_proj", "up_proj"))
    model = with_adapters(tmp_path / "hf", lora)
    bridges.export_adapter(model, tmp_path / "adapter", base="hf")
    assert bridges.read_lora(tmp_path / "adapter") == lora
    again = reimported(tmp_path / "hf", tmp_path / "adapter")
    assert all((np.asarray(variable[...]) == adapters(again)[path][...]).all()
               for path, variable in adapters(model).items())
    assert logits_error(model, oracles.peft_model(tmp_path / "hf", tmp_path / "adapter"), tokens()) < 1e-5
