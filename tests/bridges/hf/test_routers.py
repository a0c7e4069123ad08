"""Routers outside of plain checkpoints: trained with adapters, and with a selection bias that only this
package knows."""
import json

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import bridges
from bridges.__main__ import main
from bridges.compare.verify import our_logits, verify
from bridges.hf.importing import base_weights, routers
from jaxrl_moe.model.config import LoraConfig
from tests.helpers import oracles
from tests.helpers.parity import logits_error, randomise_adapters, relative, tokens
from tests.helpers.tiny_models import make_checkpoint

LORA = LoraConfig(4, 8.0, router=True)
BIAS = "model.layers.{}.mlp.gate.e_score_correction_bias"


def with_routers(folder, lora=LORA):
    """A model whose adapters and routers were both moved away from the checkpoint."""
    model = bridges.load_model(folder, lora=lora)
    randomise_adapters(model)
    for number, variable in enumerate(routers(model).values()):
        variable.set_value(variable[...]
                           + np.random.default_rng(number).normal(0, 0.2, variable.shape).astype(np.float32))
    return model


@pytest.mark.filterwarnings("ignore")
def test_routers_trained_with_adapters_travel_in_the_peft_folder(tmp_path):
    make_checkpoint(tmp_path / "hf", tokenizer=False, mlp_only_layers=[1])
    model = with_routers(tmp_path / "hf")
    with pytest.warns(UserWarning, match="which PEFT loads and vLLM and SGLang refuse: give those the merged "
                                         "checkpoint"):
        bridges.export_adapter(model, tmp_path / "adapter", base=tmp_path / "hf")
    theirs = oracles.peft_model(tmp_path / "hf", tmp_path / "adapter")
    assert logits_error(model, theirs, tokens()) < 1e-5
    theirs.save_pretrained(tmp_path / "theirs")
    for folder in ("adapter", "theirs"):
        lora = bridges.read_lora(tmp_path / folder)
        assert lora.router and lora.rank == 4
        again = bridges.load_model(tmp_path / "hf", lora=lora)
        assert relative(our_logits(again, tokens())[0], our_logits(model, tokens())[0]) > 0.1
        bridges.import_adapter(again, tmp_path / folder)
        for path, variable in routers(model).items():
            np.testing.assert_array_equal(routers(again)[path][...], variable[...])
        assert relative(our_logits(again, tokens())[0], our_logits(model, tokens())[0]) < 1e-5


@pytest.mark.filterwarnings("ignore")
def test_a_merged_export_holds_the_trained_routers(tmp_path):
    make_checkpoint(tmp_path / "hf", tokenizer=False)
    model = with_routers(tmp_path / "hf")
    bridges.export_model(model, tmp_path / "merged", source=tmp_path / "hf")
    theirs = oracles.transformers_model(tmp_path / "merged")
    assert logits_error(model, theirs, tokens()) < 1e-5


@pytest.mark.filterwarnings("ignore")
def test_whole_routers_that_do_not_fit_are_refused(tmp_path):
    make_checkpoint(tmp_path / "hf", tokenizer=False)
    model = with_routers(tmp_path / "hf")
    bridges.export_adapter(model, tmp_path / "adapter", base=tmp_path / "hf")
    with pytest.raises(bridges.BridgeError, match="adapters that share one base model cannot each have their "
                                                  "own"):
        bridges.import_adapter(model, tmp_path / "adapter", subset=True)
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    tensors = load_file(path)
    one = next(key for key in tensors if key.endswith("layers.1.mlp.gate.weight"))
    save_file({key: value for key, value in tensors.items() if key != one}, path)
    with pytest.raises(bridges.BridgeError, match=r"no router model.layers.1.mlp.gate"):
        bridges.import_adapter(model, tmp_path / "adapter")
    save_file(tensors | {one: tensors[one][:2]}, path)
    with pytest.raises(bridges.BridgeError,
                       match=r"router model.layers.1.mlp.gate has shape \[2, 32\], the model's \[4, 32\]"):
        bridges.import_adapter(model, tmp_path / "adapter")
    settings = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    (tmp_path / "adapter"
     / "adapter_config.json").write_text(json.dumps(settings | {"modules_to_save": ["gate", "lm_head"]}))
    with pytest.raises(bridges.BridgeError,
                       match=r"modules_to_save=\[.lm_head.\] \(of these only routers, gate, can be read\)"):
        bridges.read_lora(tmp_path / "adapter")


def make_biased(folder, scale=0.1):
    """A checkpoint with a selection bias in each of its three routers; returns the biases [3, 4]."""
    make_checkpoint(folder, tokenizer=False)
    biases = (scale * np.random.default_rng(0).standard_normal((3, 4))).astype(np.float32)
    path = folder / "model.safetensors"
    save_file(load_file(path) | {BIAS.format(layer): row for layer, row in enumerate(biases)}, path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"router_selection_bias": True}))
    return biases


def biases_of(model):
    return np.concatenate(
        [variable[...] for path, variable in base_weights(model).items() if path.endswith("router.bias")])


def test_a_selection_bias_comes_in_and_goes_out_bit_for_bit_with_a_plain_warning(tmp_path):
    expected = make_biased(tmp_path / "hf")
    model = bridges.load_model(tmp_path / "hf")
    np.testing.assert_array_equal(biases_of(model), expected)
    with pytest.warns(UserWarning, match="Stock loaders of Qwen3-MoE .* ignore both and choose experts "
                                         "without it"):
        bridges.export_model(model, tmp_path / "same", source=tmp_path / "hf")
    assert (tmp_path / "same" / "config.json").read_bytes() == (tmp_path / "hf" / "config.json").read_bytes()
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("hf", "same"))
    assert before.keys() == after.keys()
    for key in before:
        np.testing.assert_array_equal(after[key], before[key])
    with pytest.warns(UserWarning, match="selection bias"):
        bridges.export_model(model, tmp_path / "half", dtype=jnp.bfloat16)
    half = bridges.load_model(tmp_path / "half", dtype=jnp.bfloat16)
    assert half.config.router_bias
    np.testing.assert_array_equal(biases_of(half), expected)  # float32 among bfloat16


def test_a_bias_without_its_switch_or_a_switch_without_its_bias_is_refused(tmp_path):
    make_biased(tmp_path / "hf")
    config = json.loads((tmp_path / "hf" / "config.json").read_text())
    (tmp_path / "hf" / "config.json").write_text(json.dumps(config | {"router_selection_bias": False}))
    with pytest.raises(bridges.BridgeError,
                       match=r"e_score_correction_bias of model.safetensors is used by nothing"):
        bridges.load_model(tmp_path / "hf")
    (tmp_path / "hf" / "config.json").write_text(json.dumps(config))
    path = tmp_path / "hf" / "model.safetensors"
    save_file({key: value for key, value in load_file(path).items() if key != BIAS.format(2)}, path)
    with pytest.raises(bridges.BridgeError, match=f"tensor {BIAS.format(2)} is missing"):
        bridges.load_model(tmp_path / "hf")


def test_verify_says_why_a_model_with_a_selection_bias_differs_from_transformers(tmp_path, capsys):
    oracles.torch()
    make_biased(tmp_path / "hf")
    found = verify(tmp_path / "hf")
    assert found.selection_bias and found.misrouted > 0 and found.error < 1e-5
    assert main(["verify", str(tmp_path / "hf")]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "choose experts by a selection bias" in said and "ignore: they choose otherwise" in said
    make_biased(tmp_path / "zero", 0.0)
    assert main(["verify", str(tmp_path / "zero")]) == 0
