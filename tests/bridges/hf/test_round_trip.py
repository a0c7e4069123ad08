"""HF -> ours -> HF gives the same bytes; other dtypes, shards and spellings give the same numbers."""
import filecmp
import json
import os

import jax
import ml_dtypes
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

import bridges
from bridges.hf.checkpoint import Checkpoint
from bridges.hf.exporting import shard
from bridges.hf.importing import base_weights, import_checkpoint
from bridges.hf.tensor_files import TensorInfo
from jaxrl_moe.model.transformer import Transformer
from tests.helpers import oracles
from tests.helpers.parity import hf_logits, relative, tokens
from tests.helpers.tiny_models import make_checkpoint, make_model

MODELS = {
    "moe": {},
    "dense": dict(family="qwen3"),
    "tied": dict(tie_word_embeddings=True),
    "bias": dict(attention_bias=True),
    "mixed": dict(mlp_only_layers=[1]),
    "bfloat16": dict(dtype="bfloat16"),
    "float16": dict(dtype="float16"),
    "shards": dict(max_shard_size="60KB"),
    "many layers": dict(family="qwen3", num_hidden_layers=12, max_shard_size="100KB")
}


def same_files(folder, other):
    names = os.listdir(folder)
    assert sorted(names) == sorted(os.listdir(other))
    assert filecmp.cmpfiles(folder, other, names, shallow=False) == (names, [], [])


def fuse_experts(folder):
    """Rewrites a checkpoint with the experts fused as transformers 5 holds them in memory."""
    tensors = load_file(folder / "model.safetensors")
    for layer in range(3):
        stem = f"model.layers.{layer}.mlp.experts"
        gate, up, down = ([tensors.pop(f"{stem}.{e}.{name}_proj.weight") for e in range(4)]
                          for name in ("gate", "up", "down"))
        tensors[f"{stem}.gate_up_proj"] = np.concatenate([np.stack(gate), np.stack(up)], axis=1)
        tensors[f"{stem}.down_proj"] = np.stack(down)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize("name", [name for name in MODELS if name != "shards"])
def test_checkpoints_made_without_torch_are_what_transformers_saves(name, tmp_path):
    """But for which shard holds which expert: transformers keeps together what it split."""
    make_checkpoint(tmp_path / "ours", **MODELS[name])
    make_model(tmp_path / "theirs", **MODELS[name])
    same_files(tmp_path / "ours", tmp_path / "theirs")


@pytest.mark.parametrize("name", MODELS)
def test_export_gives_back_the_files_that_were_imported(name, tmp_path):
    make_model(tmp_path / "hf", **MODELS[name])
    bridges.export_model(bridges.load_model(tmp_path / "hf"), tmp_path / "out", source=tmp_path / "hf")
    same_files(tmp_path / "hf", tmp_path / "out")


@pytest.mark.parametrize("name", ["moe", "bfloat16", "shards"])
def test_a_folder_of_our_parameters_exports_to_the_files_it_came_from(name, tmp_path):
    make_model(tmp_path / "hf", **MODELS[name])
    import_checkpoint(tmp_path / "hf", tmp_path / "ours")
    bridges.export_model(bridges.load_model(tmp_path / "ours"), tmp_path / "out", source=tmp_path / "ours")
    same_files(tmp_path / "hf", tmp_path / "out")


def test_fused_experts_are_read_and_written_back_fused(tmp_path):
    make_checkpoint(tmp_path / "single")
    make_checkpoint(tmp_path / "fused")
    fuse_experts(tmp_path / "fused")
    single, fused = (base_weights(bridges.load_model(tmp_path / name)) for name in ("single", "fused"))
    for path, weight in single.items():
        np.testing.assert_array_equal(weight[...], fused[path][...])
    bridges.export_model(bridges.load_model(tmp_path / "fused"), tmp_path / "out", source=tmp_path / "fused")
    same_files(tmp_path / "fused", tmp_path / "out")


def test_a_tied_head_stored_twice_is_read_and_written_back_twice(tmp_path):
    make_checkpoint(tmp_path / "hf", tie_word_embeddings=True)
    tensors = load_file(tmp_path / "hf/model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    save_file(tensors, tmp_path / "hf/model.safetensors", {"format": "pt"})
    model = bridges.load_model(tmp_path / "hf")
    assert model.lm_head is None
    bridges.export_model(model, tmp_path / "out", source=tmp_path / "hf")
    same_files(tmp_path / "hf", tmp_path / "out")


def test_a_cast_export_rounds_each_weight_once_and_says_so_in_its_config(tmp_path):
    make_checkpoint(tmp_path / "hf")
    bridges.export_model(bridges.load_model(tmp_path / "hf"), tmp_path / "out", source=tmp_path / "hf",
                         dtype="bfloat16")
    before = Checkpoint(tmp_path / "hf")
    after = Checkpoint(tmp_path / "out")
    assert before.infos.keys() == after.infos.keys()
    for key in before.infos:
        assert after[key].dtype == ml_dtypes.bfloat16
        np.testing.assert_array_equal(after[key], before[key].astype(ml_dtypes.bfloat16))
    assert json.loads((tmp_path / "out/config.json").read_text())["dtype"] == "bfloat16"


def test_no_shard_is_over_the_limit_and_transformers_reads_them(tmp_path):
    torch = oracles.torch()
    hf_model = make_model(tmp_path / "hf")
    bridges.export_model(bridges.load_model(tmp_path / "hf"), tmp_path / "out", source=tmp_path / "hf",
                         max_shard_bytes=50_000)
    shards = list((tmp_path / "out").glob("*.safetensors"))
    assert len(shards) > 3
    assert all(sum(tensor.nbytes for tensor in load_file(path).values()) <= 50_000 for path in shards)
    again = oracles.transformers_model(tmp_path / "out")
    assert all(torch.equal(a, b) for a, b in zip(hf_model.parameters(), again.parameters(), strict=True))


def test_a_tensor_above_the_limit_stands_alone():
    infos = {name: TensorInfo("F32", (size,)) for name, size in (("a", 10), ("b", 100), ("c", 10), ("d", 10))}
    assert [
        sorted(key for key in infos if shard(infos, 80)[key] == file)
        for file in sorted(set(shard(infos, 80).values()))
    ] == [["a"], ["b"], ["c", "d"]]


@pytest.mark.parametrize("options",
                         [dict(family="qwen3", tie_word_embeddings=True),
                          dict(mlp_only_layers=[0])])
def test_a_model_made_from_scratch_exports_to_what_transformers_computes(options, tmp_path):
    from bridges.hf.checkpoint import read_config
    from tests.helpers.parity import logits_error
    make_checkpoint(tmp_path / "shape", **options)
    model = Transformer(read_config(tmp_path / "shape"), rngs=nnx.Rngs(0))
    bridges.export_model(model, tmp_path / "out")
    theirs = oracles.transformers_model(tmp_path / "out")
    assert logits_error(model, theirs, tokens()) < 1e-5


def test_transformers_reads_the_tokenizer_and_generation_settings_of_an_export(tmp_path):
    import transformers
    make_checkpoint(tmp_path / "hf")
    bridges.export_model(bridges.load_model(tmp_path / "hf"), tmp_path / "out", source=tmp_path / "hf")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    text = tokenizer.apply_chat_template([{"role": "user", "content": "1 + 2?"}], add_generation_prompt=True,
                                         tokenize=False)
    assert text == "<|im_start|>user\n1 + 2?<|im_end|>\n<|im_start|>assistant\n"
    assert transformers.GenerationConfig.from_pretrained(tmp_path / "out").eos_token_id == 2


def test_a_bfloat16_load_computes_what_transformers_computes_in_bfloat16(tmp_path):
    from bridges.compare.verify import our_logits
    torch = oracles.torch()
    # at 0.2 transformers itself is 0.036 from its float32
    make_checkpoint(tmp_path, family="qwen3", dtype="bfloat16", std=0.1)
    theirs = oracles.transformers_model(tmp_path, dtype=torch.bfloat16)
    ours = our_logits(bridges.load_model(tmp_path, dtype="bfloat16"), tokens())[0]
    assert relative(ours, hf_logits(theirs, tokens())) < 0.03
    assert ours.dtype == np.float32


def test_an_import_holds_no_more_than_the_model_and_one_stack(tmp_path, monkeypatch):
    """The arrays made on the host are one at a time, and each is as large as a stack of the model, never
    larger."""
    make_checkpoint(tmp_path, num_hidden_layers=6)
    alive = []
    zeros = np.zeros

    def tracked(shape, dtype):
        alive.append(int(np.prod(shape)))
        return zeros(shape, dtype)

    monkeypatch.setattr("bridges.hf.importing.np.zeros", tracked)
    model = bridges.load_model(tmp_path)
    assert sorted(alive) == sorted(leaf.size for leaf in jax.tree.leaves(nnx.state(model)))
