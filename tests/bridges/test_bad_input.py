"""Bad folders give one paragraph that names the tensor, the file and the mend, and leave nothing
half-written."""
import errno
import functools
import itertools
import json
import os
import shutil

import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

import bridges
from bridges.hf.folders import resolve
from bridges.hf.importing import import_checkpoint
from jaxrl_moe.model.config import LoraConfig
from jaxrl_moe.model.value_head import Critic, ValueHead
from jaxrl_moe.types import UserError
from tests.helpers.parity import randomise_adapters
from tests.helpers.tiny_models import make_checkpoint


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hf")
    make_checkpoint(folder)
    return folder


@pytest.fixture(scope="module")
def original_adapter(original, tmp_path_factory):
    model = bridges.load_model(original, lora=LoraConfig(4, 8.0))
    randomise_adapters(model)
    return bridges.export_adapter(model, tmp_path_factory.mktemp("peft") / "adapter", base=original)


@pytest.fixture
def folder(original, tmp_path):
    return shutil.copytree(original, tmp_path / "hf")


@pytest.fixture
def adapter(original_adapter, tmp_path):
    return shutil.copytree(original_adapter, tmp_path / "adapter")


def refused(function, *words, **options):
    """Calls the function, which must raise a UserError of one paragraph with all the words in it."""
    with pytest.raises(UserError) as caught:
        function(**options)
    message = str(caught.value)
    assert "\n" not in message
    missing = [word for word in words if str(word) not in message]
    assert not missing, f"{missing} not in: {message}"


def edit(path, change):
    """Applies `change` to the dict of tensors, or of JSON, in a file."""
    if path.suffix == ".json":
        value = json.loads(path.read_text())
        change(value)
        path.write_text(json.dumps(value))
    else:
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path, {"format": "pt"})


def load(folder, *words, **options):
    refused(lambda: bridges.load_model(folder, **options), *words)


def test_a_folder_without_weights_is_named(folder):
    (folder / "model.safetensors").unlink()
    load(folder, folder / "model.safetensors", "missing", "Copy or download")


def test_a_folder_with_pickled_weights_only_says_to_convert_them(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    load(folder, "pytorch_model.bin", "convert")


def test_a_missing_config_is_named(folder):
    (folder / "config.json").unlink()
    load(folder, folder / "config.json", "does not exist")


def test_a_config_that_is_no_json_is_named(folder):
    (folder / "config.json").write_text("{")
    load(folder, folder / "config.json", "JSON")


@pytest.mark.parametrize("kept", [3, 100, -1000])
def test_a_truncated_file_is_named(folder, kept):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    load(folder, path, "truncated", "download")


def test_a_file_of_noise_is_named(folder):
    (folder / "model.safetensors").write_bytes((20).to_bytes(8, "little") + bytes(range(200)))
    load(folder, folder / "model.safetensors", "header")


def test_a_header_whose_sizes_contradict_each_other_is_refused(folder):
    path = folder / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"shape":[32]', b'"shape":[31]', 1))
    load(folder, path, "damaged")


def test_missing_and_unused_tensors_are_all_named_together(folder):
    def change(tensors):
        tensors["model.layers.7.extra.weight"] = tensors.pop("model.layers.1.mlp.gate.weight")
        del tensors["model.norm.weight"]

    edit(folder / "model.safetensors", change)
    load(folder, "model.layers.7.extra.weight", "model.layers.1.mlp.gate.weight", "model.norm.weight",
         "model.safetensors", "missing", "used by nothing")


def test_a_tensor_of_another_shape_is_named_with_both_shapes(folder):
    def change(tensors):
        tensors["model.norm.weight"] = np.ones(31, np.float32)

    edit(folder / "model.safetensors", change)
    load(folder, "model.norm.weight", "[31]", "[32]")


def test_quantised_tensors_are_refused(folder):
    def change(tensors):
        tensors["model.norm.weight"] = np.ones(32, np.int8)

    edit(folder / "model.safetensors", change)
    load(folder, "model.norm.weight", "I8")


@pytest.mark.parametrize("experts, words",
                         [(3, ("experts.3.", "used by nothing")), (8, ("experts.4.", "missing"))])
def test_a_number_of_experts_unlike_the_file_is_refused(folder, experts, words):
    edit(folder / "config.json", lambda config: config.update(num_local_experts=experts))
    load(folder, *words)


def test_a_missing_shard_is_named(tmp_path):
    make_checkpoint(tmp_path, max_shard_size="60KB")
    (tmp_path / "model-00002-of-00005.safetensors").unlink()
    load(tmp_path, "model-00002-of-00005.safetensors", "missing")


def test_an_index_that_promises_a_tensor_its_shard_lacks_is_refused(tmp_path):
    make_checkpoint(tmp_path, max_shard_size="60KB")
    edit(tmp_path / "model.safetensors.index.json",
         lambda index: index["weight_map"].update(ghost="model-00001-of-00005.safetensors"))
    load(tmp_path, "ghost", "model.safetensors.index.json")


@pytest.mark.parametrize("change, words", [
    (dict(architectures=["LlamaForCausalLM"]), ("LlamaForCausalLM", "Qwen3MoeForCausalLM")),
    (dict(hidden_act="gelu"), ("gelu",)),
    (dict(rope_parameters=dict(rope_type="longrope", rope_theta=1e4)), ("longrope",)),
    (dict(num_experts_per_tok=9), ("num_experts_per_tok", "9")),
    (dict(num_key_value_heads=3), ("num_key_value_heads",)),
])
def test_a_config_that_cannot_be_honoured_is_refused(folder, change, words):
    edit(folder / "config.json", lambda config: config.update(change))
    load(folder, folder / "config.json", *words)


def test_a_tied_model_whose_file_holds_another_head_is_refused(tmp_path):
    make_checkpoint(tmp_path, tie_word_embeddings=True)

    def change(tensors):
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] + 1

    edit(tmp_path / "model.safetensors", change)
    load(tmp_path, "lm_head.weight", "tie_word_embeddings")


@pytest.mark.parametrize("name", ["no/such/folder", "./nowhere", "/nowhere/at/all"])
def test_a_folder_that_does_not_exist_is_named(name):
    refused(lambda: resolve(name), name, "not a folder")


def test_a_hub_name_without_a_network_says_so(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    refused(lambda: resolve("Qwen/Qwen3-0.6B-nowhere"), "Qwen/Qwen3-0.6B-nowhere", "hub", "network")


def test_a_hub_name_gives_the_folder_that_the_hub_client_downloads(folder, monkeypatch):
    asked = []

    def download(name, allow_patterns):
        asked.append(name)
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert bridges.load_model("Qwen/Qwen3-0.6B-nowhere").config.num_layers == 3
    assert asked == ["Qwen/Qwen3-0.6B-nowhere"]


def test_a_lora_target_that_matches_nothing_is_named(folder):
    load(folder, "query_key_value", lora=LoraConfig(4, 8.0, targets=("query_key_value",)))


def test_a_full_disk_leaves_nothing_behind_and_says_so(folder, tmp_path, monkeypatch):
    def full(descriptor, offset, size):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    model = bridges.load_model(folder, lora=LoraConfig(4, 8.0))
    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr("bridges.hf.tensor_files.os.posix_fallocate", full)
    refused(lambda: bridges.export_model(model, tmp_path / "out", source=folder), tmp_path / "out",
            "disk is full", "Free some space")
    refused(lambda: bridges.export_adapter(model, tmp_path / "out", base=folder), tmp_path / "out",
            "disk is full")
    assert sorted(tmp_path.iterdir()) == before


def test_a_failed_export_over_an_older_one_keeps_the_older(folder, tmp_path, monkeypatch):
    model = bridges.load_model(folder)
    bridges.export_model(model, tmp_path / "out", source=folder)
    names = sorted(os.listdir(tmp_path / "out"))
    monkeypatch.setattr("bridges.hf.exporting._write",
                        lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "broken disk")))
    refused(lambda: bridges.export_model(model, tmp_path / "out", source=folder, overwrite=True),
            "could not be written", "broken disk")
    assert sorted(os.listdir(tmp_path / "out")) == names
    assert (tmp_path / "out/model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


def test_an_output_that_is_there_is_not_overwritten_unasked(folder, tmp_path):
    model = bridges.load_model(folder)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/notes.txt").write_text("mine")
    refused(lambda: bridges.export_model(model, tmp_path / "out", source=folder), tmp_path / "out",
            "--overwrite")
    refused(lambda: bridges.export_model(model, tmp_path / "out", source=folder, overwrite=True), "notes.txt")
    assert (tmp_path / "out/notes.txt").read_text() == "mine"
    (tmp_path / "out/notes.txt").rename(tmp_path / "out/config.json")
    bridges.export_model(model, tmp_path / "out", source=folder, overwrite=True)
    assert (tmp_path / "out/config.json").read_text() != "mine"


def test_no_export_replaces_what_it_is_made_from(folder, adapter):
    before = sorted(folder.iterdir())
    model = bridges.load_model(folder, lora=bridges.read_lora(adapter))
    critic = Critic(ValueHead(model.config.hidden_size, rngs=nnx.Rngs(0)), "token")
    writers = (lambda output: bridges.export_model(model, output, source=folder, overwrite=True),
               lambda output: bridges.export_adapter(model, output, folder, overwrite=True),
               lambda output: bridges.export_critic(critic, output, folder, overwrite=True),
               lambda output: import_checkpoint(folder, output, overwrite=True))
    for output, write in itertools.product((folder, folder.parent), writers):
        refused(functools.partial(write, output), str(output), "would be gone")
    assert sorted(folder.iterdir()) == before


def test_a_source_of_another_model_is_refused(folder, tmp_path):
    make_checkpoint(tmp_path / "other", num_hidden_layers=2)
    model = bridges.load_model(folder)
    refused(lambda: bridges.export_model(model, tmp_path / "out", source=tmp_path / "other"),
            tmp_path / "other", "another model")
    assert not (tmp_path / "out").exists()


def test_an_array_missing_from_a_params_folder_is_named(folder, tmp_path):
    import_checkpoint(folder, tmp_path / "ours")
    edit(tmp_path / "ours/config.json", lambda config: config.update(attention_bias=True))
    load(tmp_path / "ours", "stacks.0.attention.q_proj.bias", "missing")


def import_adapter(folder, adapter, *words, lora=None):
    model = bridges.load_model(folder, lora=lora or LoraConfig(4, 8.0))
    refused(lambda: bridges.import_adapter(model, adapter), *words)


@pytest.mark.parametrize("other, words", [
    (dict(hidden_size=48), ("maps 32 to", "the model 48 to")),
    (dict(num_hidden_layers=2), ("nothing in the model takes the adapter of model.layers.2.",)),
    (dict(num_experts=3), ("nothing in the model takes the adapter of model.layers.0.mlp.experts.3.",)),
])
def test_an_adapter_of_another_model_is_refused(adapter, tmp_path, other, words):
    make_checkpoint(tmp_path / "other", **other)
    import_adapter(tmp_path / "other", adapter, adapter / "adapter_model.safetensors", *words)


def test_an_adapter_of_higher_rank_than_the_model_is_refused(folder, adapter):
    import_adapter(folder, adapter, "rank 4", "rank 4, the model's is 2", "read_lora",
                   lora=LoraConfig(2, 4.0))


def test_an_adapter_without_one_of_its_tensors_is_refused(folder, adapter):
    def change(tensors):
        del tensors["base_model.model.model.layers.1.mlp.experts.2.up_proj.lora_A.weight"]

    edit(adapter / "adapter_model.safetensors", change)
    import_adapter(folder, adapter, "model.layers.1.mlp.experts.2.up_proj", "lora_A")


def test_an_adapter_without_one_of_its_layers_is_refused(folder, adapter):
    def change(tensors):
        for key in [key for key in tensors if ".layers.1.self_attn.q_proj." in key]:
            del tensors[key]

    edit(adapter / "adapter_model.safetensors", change)
    import_adapter(folder, adapter, "no adapter for model.layers.1.self_attn.q_proj")


def test_an_adapter_that_lacks_what_the_model_trains_is_refused(folder, tmp_path):
    model = bridges.load_model(folder, lora=LoraConfig(4, 8.0, targets=("q_proj",)))
    bridges.export_adapter(model, tmp_path / "narrow", base=folder)
    import_adapter(folder, tmp_path / "narrow", "no adapter for model.layers.0.self_attn.k_proj")


@pytest.mark.parametrize("change, words",
                         [(dict(peft_type="LOHA"), ("LOHA",)),
                          (dict(use_dora=True), ("use_dora",)),
                          (dict(bias="all"), ("bias='all'",)),
                          (dict(modules_to_save=["lm_head"]), ("modules_to_save",)),
                          (dict(r=None), ("has no r",)),
                          (dict(r=8), ("rank 8", "different adapters"))])
def test_adapters_of_another_kind_are_refused(folder, adapter, change, words):
    edit(adapter / "adapter_config.json", lambda config: config.update(change))
    import_adapter(folder, adapter, adapter, *words)


def test_a_router_adapter_is_refused(folder, adapter):
    def change(tensors):
        tensors["base_model.model.model.layers.0.mlp.gate.lora_A.weight"] = np.zeros((4, 32), np.float32)
        tensors["base_model.model.model.layers.0.mlp.gate.lora_B.weight"] = np.zeros((4, 4), np.float32)

    edit(adapter / "adapter_model.safetensors", change)
    import_adapter(folder, adapter, "model.layers.0.mlp.gate")


def test_an_adapter_folder_without_weights_is_named(folder, adapter):
    (adapter / "adapter_model.safetensors").unlink()
    import_adapter(folder, adapter, adapter / "adapter_model.safetensors")


def test_exporting_adapters_that_peft_cannot_load_is_refused(folder, tmp_path):
    model = bridges.load_model(folder, lora=LoraConfig(4, 8.0, targets=("q_proj", "gate_proj")))
    refused(lambda: bridges.export_adapter(model, tmp_path / "out", base=folder), "gate_proj", "up_proj",
            "lora.targets")


def test_a_model_without_adapters_exports_none_and_takes_none(folder, adapter, tmp_path):
    model = bridges.load_model(folder)
    refused(lambda: bridges.export_adapter(model, tmp_path / "out", base=folder), "no adapters")
    refused(lambda: bridges.import_adapter(model, adapter), "no adapters", "read_lora")
