"""A config.json that does not fit the tensors beside it, or a layout.json that says no layout, is refused
before anything is made of its numbers."""
import json
import shutil

import pytest

import bridges
from bridges.errors import BridgeError
from bridges.hf.importing import check_tensors
from jaxrl_moe.model.transformer import Transformer
from tests.helpers.tiny_models import make_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    make_checkpoint(folder, tokenizer=False)
    return folder


@pytest.fixture
def changed(checkpoint, tmp_path):
    """change(key=value) -> a copy of the checkpoint with these fields of config.json."""
    folder = tmp_path / "changed"
    shutil.copytree(checkpoint, folder)

    def change(**fields):
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))
        return folder
    return change


@pytest.mark.parametrize("fields, message", [
    ({"num_hidden_layers": 1000}, "which has 1000 layers: there are 66 tensors"),
    ({"num_hidden_layers": 1000, "decoder_sparse_step": 2}, "1000 layers"),
    ({"num_local_experts": 2**14, "num_experts_per_tok": 2**14}, "49152 experts in all layers")])
def test_more_layers_or_experts_than_tensors_are_refused_before_a_model_is_made(changed, monkeypatch, fields,
                                                                                message):
    folder = changed(**fields)
    monkeypatch.setattr(Transformer, "abstract", None)
    for use in (check_tensors, bridges.load_model):
        with pytest.raises(BridgeError, match=message):
            use(folder)


@pytest.mark.parametrize("fields", [{"vocab_size": 2**24}, {"hidden_size": 2**17}, {"head_dim": 2**12},
                                    {"moe_intermediate_size": 2**20}, {"num_attention_heads": 2**12},
                                    {"num_hidden_layers": 2}, {"num_local_experts": 8}])
def test_sizes_that_the_tensors_do_not_have_are_refused_before_they_are_allocated(changed, fields):
    with pytest.raises(BridgeError, match="does not fit its config.json"):
        bridges.load_model(changed(**fields))


def test_the_file_is_named_once(changed):
    folder = changed(num_hidden_layers="3")
    with pytest.raises(BridgeError) as refused:
        bridges.model_config(folder)
    assert str(refused.value).count("config.json") == 1
    assert str(refused.value).startswith(f'{folder / "config.json"}: num_hidden_layers is "3" (a string)')


@pytest.mark.parametrize("row", [None, "model.safetensors", ["model.safetensors", "F32"],
                                 ["model.safetensors", "F33", [2]], ["model.safetensors", "F32", [-1]],
                                 ["../model.safetensors", "F32", [2]], [1, "F32", [2]],
                                 ["model.safetensors", "F32", [2.0]], ["model.safetensors", "F32", "2"]])
def test_a_layout_that_says_no_layout_is_refused(checkpoint, tmp_path, row):
    (tmp_path / "params").mkdir()
    shutil.copyfile(checkpoint / "config.json", tmp_path / "config.json")
    (tmp_path / "layout.json").write_text(json.dumps({"lm_head.weight": row}))
    with pytest.raises(BridgeError, match="layout.json .*(lm_head.weight|plain file name)"):
        check_tensors(tmp_path)
