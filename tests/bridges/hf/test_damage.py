"""Checkpoints that are ambiguous, lead elsewhere, or hold what is not finite: refused by name, in both
directions."""
import json
import random
import shutil

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

import bridges
from bridges.compare.diff import diff
from bridges.hf.checkpoint import Checkpoint
from bridges.hf.finite import PIECE, is_finite
from bridges.hf.importing import base_weights, check_tensors, import_checkpoint
from bridges.hf.params_folder import write
from jaxrl_moe.model.config import LoraConfig
from jaxrl_moe.model.value_head import Critic, ValueHead
from jaxrl_moe.types import UserError
from tests.helpers.tiny_models import make_checkpoint

SMALL = dict(family="qwen3", num_hidden_layers=1, tokenizer=False)
INDEX = "model.safetensors.index.json"
NORM = "model.norm.weight"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "hf"
    make_checkpoint(folder, **SMALL)
    return folder


@pytest.fixture(scope="module")
def cut(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cut") / "hf"
    make_checkpoint(folder, max_shard_size="60KB", **SMALL)
    return folder


@pytest.fixture(scope="module")
def model(whole):
    return bridges.load_model(whole)


@pytest.fixture
def folder(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "hf")


@pytest.fixture
def shards(cut, tmp_path):
    return shutil.copytree(cut, tmp_path / "shards")


def index_of(folder):
    return json.loads((folder / INDEX).read_text())


def put_index(folder, index):
    (folder / INDEX).write_text(json.dumps(index))


def edit(path, **tensors):
    save_file(load_file(path) | tensors, path, {"format": "pt"})


def weights(folder):
    loaded = base_weights(bridges.load_model(folder)).items()
    return {path: np.asarray(variable[...]) for path, variable in loaded}


def refused(action, *words):
    with pytest.raises(UserError) as caught:
        action()
    missing = [word for word in words if str(word) not in str(caught.value)]
    assert not missing and "\n" not in str(caught.value), f"{missing} not in {caught.value}"


def test_a_single_file_beside_the_index_of_others_is_refused_and_both_are_named(shards, folder):
    shutil.copy(folder / "model.safetensors", shards)
    for action in (bridges.load_model, check_tensors):
        refused(lambda action=action: action(shards), "model.safetensors and", INDEX, "model-00001-of-0")
    (shards / INDEX).unlink()
    assert weights(shards).keys() == weights(folder).keys()


def test_an_index_of_the_single_file_is_no_second_model(folder):
    tensors = load_file(folder / "model.safetensors")
    put_index(folder, {"weight_map": dict.fromkeys(tensors, "model.safetensors")})
    bridges.load_model(folder)


@pytest.mark.parametrize("name", [
    "pytorch_model.bin", "consolidated.safetensors", "model.fp16.safetensors.index.json",
    "pytorch_model.bin.index.json", "model-00009-of-00009.safetensors"])
def test_files_that_transformers_does_not_look_at_are_not_looked_at(shards, name):
    before = weights(shards)
    (shards / name).write_bytes(b"anything")
    assert all((weights(shards)[path] == array).all() for path, array in before.items())


def test_parameters_of_ours_beside_a_checkpoint_are_refused(folder, tmp_path):
    import_checkpoint(folder, tmp_path / "ours")
    shutil.copy(folder / "model.safetensors", tmp_path / "ours")
    for action in (bridges.load_model, check_tensors):
        refused(lambda action=action: action(tmp_path / "ours"), "params/", "model.safetensors",
                "Move the other")


def test_a_tensor_that_the_index_leaves_out_is_read_as_transformers_reads_it(shards):
    before = weights(shards)
    index = index_of(shards)
    del index["weight_map"][NORM]
    put_index(shards, index)
    assert all((weights(shards)[path] == array).all() for path, array in before.items())


def test_an_index_that_is_wrong_about_a_file_says_where_the_tensor_is(shards):
    index = index_of(shards)
    right = index["weight_map"][NORM]
    wrong = next(file for file in index["weight_map"].values() if file != right)
    put_index(shards, index | {"weight_map": index["weight_map"] | {NORM: wrong}})
    refused(lambda: bridges.load_model(shards), f"{NORM}, which it says is in {wrong}, is in {right}")


def test_a_tensor_in_two_files_is_refused_and_both_are_named(shards):
    index = index_of(shards)
    right = index["weight_map"][NORM]
    wrong = next(file for file in index["weight_map"].values() if file != right)
    edit(shards / wrong, **{NORM: np.zeros(32, np.float32)})
    refused(lambda: bridges.load_model(shards), NORM, "both in", right, wrong)
    refused(lambda: diff(shards, shards), NORM, "both in", right, wrong)


ELSEWHERE = ["../other/model.safetensors", "/etc/passwd", "sub/model.safetensors", "..", "", "a\0b", "a\\b"]


@pytest.mark.parametrize("file", ELSEWHERE)
def test_an_index_that_names_files_elsewhere_reads_and_writes_nothing(shards, tmp_path, file, model):
    other = shutil.copytree(shards, tmp_path / "other")
    before = {path.name: path.read_bytes() for path in other.iterdir()}
    index = index_of(shards)
    put_index(shards, index | {"weight_map": index["weight_map"] | {NORM: file}})
    refused(lambda: bridges.load_model(shards), INDEX, "plain file name")
    refused(lambda: bridges.export_model(model, tmp_path / "out", source=shards), INDEX, "plain file name")
    assert {path.name: path.read_bytes() for path in other.iterdir()} == before
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("file", ELSEWHERE)
def test_parameters_of_ours_that_came_from_elsewhere_write_nothing(folder, tmp_path, file, model):
    ours = import_checkpoint(folder, tmp_path / "ours")
    layout = json.loads((ours / "layout.json").read_text())
    layout[NORM][0] = file
    (ours / "layout.json").write_text(json.dumps(layout))
    refused(lambda: bridges.export_model(model, tmp_path / "out", source=ours), "layout.json",
            "plain file name")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("row", [
    None, [], ["a", "F32"], ["a", "F33", [32]], ["a", "F32", ["32"]], ["a", "F32", [-1]], ["a", 32, [32]],
    "a", {"a": 1}, [["a"], "F32", [32]], ["a", "F32", [True]]])
def test_a_damaged_record_of_where_parameters_came_from_is_refused(folder, tmp_path, row, model):
    ours = import_checkpoint(folder, tmp_path / "ours")
    layout = json.loads((ours / "layout.json").read_text())
    (ours / "layout.json").write_text(json.dumps(layout | {NORM: row}))
    refused(lambda: bridges.export_model(model, tmp_path / "out", source=ours), "layout.json", NORM)
    del layout[NORM]
    (ours / "layout.json").write_text(json.dumps(layout))
    refused(lambda: bridges.export_model(model, tmp_path / "out", source=ours), NORM, "missing")


def test_damaged_parameters_of_ours_are_refused(folder, tmp_path):
    ours = import_checkpoint(folder, tmp_path / "ours")
    for path in sorted((ours / "params").rglob("*")):
        if path.is_file():
            path.write_bytes(b"damaged")
    refused(lambda: bridges.load_model(ours), "params", "Import the checkpoint again")


def test_an_index_copied_along_that_is_not_the_folders_is_not_written(shards, tmp_path):
    ours = import_checkpoint(shards, tmp_path / "ours")
    index = index_of(ours)
    ghost = {"ghost": "model-00001-of-00002.safetensors"}
    put_index(ours, index | {"weight_map": index["weight_map"] | ghost})
    bridges.export_model(bridges.load_model(ours), tmp_path / "out", source=ours)
    assert index_of(tmp_path / "out")["weight_map"] == index["weight_map"]


JUNK = [None, True, 0, 1.5, "", "x", "../x", [], {}, [1], {"a": 1}, {"a": "../x"},
        "model-00001-of-00009.safetensors"]


def test_an_index_broken_at_random_is_refused_or_means_the_same(shards):
    generator = random.Random(0)
    whole = index_of(shards)
    for _ in range(150):
        index = json.loads(json.dumps(whole))
        target = generator.choice([index, *[index["weight_map"]] * 3])
        key = generator.choice([*target, "ghost"])
        target[key] = generator.choice([*JUNK, *whole["weight_map"].values()])
        put_index(shards, index)
        try:
            check_tensors(shards)
        except UserError as error:
            assert INDEX in str(error) or "model-0" in str(error)
        else:
            assert index["weight_map"] == whole["weight_map"]


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", '{"weight_map": {}}', '{"weight_map": []}',
                                  '{"weight_map": {"a": "b", "a": "c"}}', "[" * 100_000])
def test_a_file_that_is_no_index_is_refused(shards, text):
    (shards / INDEX).write_text(text)
    refused(lambda: bridges.load_model(shards), INDEX)


@pytest.mark.filterwarnings("ignore:Explicitly requested dtype float64")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16, np.float64])
def test_a_checkpoint_with_a_number_that_is_not_finite_is_refused(folder, tmp_path, value, dtype):
    name = "model.layers.0.mlp.down_proj.weight"
    tensors = {key: array.astype(dtype) for key, array in load_file(folder / "model.safetensors").items()}
    tensors[name][-1, -1] = value
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    refused(lambda: bridges.load_model(folder), name, folder / "model.safetensors", "NaN or an infinity")
    refused(lambda: import_checkpoint(folder, tmp_path / "ours"), name, "NaN or an infinity")
    assert not (tmp_path / "ours").exists()


def test_a_checkpoint_whose_numbers_the_models_dtype_cannot_hold_is_refused(folder):
    edit(folder / "model.safetensors", **{NORM: np.full(32, 1e5, np.float32)})
    assert np.asarray(base_weights(bridges.load_model(folder))["norm.weight"][...])[0] == 1e5
    refused(lambda: bridges.load_model(folder, dtype=jnp.float16), NORM, "float16", "65504", "bfloat16")


def test_parameters_of_ours_that_are_not_finite_are_refused(folder, tmp_path):
    model = bridges.load_model(folder)
    variable = base_weights(model)["norm.weight"]
    variable.set_value(variable[...].at[3].set(jnp.nan))
    ours = write(base_weights(model), Checkpoint(folder).layout, tmp_path / "ours", False)
    refused(lambda: bridges.load_model(ours), "norm.weight", "params", "NaN")


@pytest.mark.parametrize("value, dtype, words", [
    (1e5, "float16", ("float16", "65504", "bfloat16 or float32")), (np.nan, None, ("NaN",)),
    (np.inf, None, ("infinity",)), (np.nan, "bfloat16", ("NaN",))])
def test_an_export_that_would_not_be_finite_is_refused_and_nothing_is_left(
        folder, tmp_path, value, dtype, words):
    model = bridges.load_model(folder)
    variable = base_weights(model)["norm.weight"]
    variable.set_value(variable[...].at[3].set(value))
    refused(lambda: bridges.export_model(model, tmp_path / "out", dtype=dtype), NORM, *words)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hf"]


def test_adapters_and_critics_that_are_not_finite_are_not_written_nor_read(folder, tmp_path):
    model = bridges.load_model(folder, lora=LoraConfig(2, 4.0, targets=("q_proj",)))
    layer = model.stacks[0].attention.q_proj
    layer.lora_b.set_value(layer.lora_b[...].at[0, 0, 0].set(jnp.nan))
    refused(lambda: bridges.export_adapter(model, tmp_path / "out", base="hf"), "q_proj.lora_b", "NaN")
    refused(lambda: bridges.export_model(model, tmp_path / "out"), "q_proj.weight", "NaN")
    critic = Critic(ValueHead(8, rngs=nnx.Rngs(0)), "token")
    bridges.export_critic(critic, tmp_path / "critic", "hf")
    edit(tmp_path / "critic" / "value_head.safetensors", **{"out.bias": np.array([np.inf], np.float32)})
    refused(lambda: bridges.load_critic(tmp_path / "critic"), "out.bias", "value_head.safetensors",
            "infinity")
    critic.head.out_bias.set_value(jnp.array([jnp.nan]))
    refused(lambda: bridges.export_critic(critic, tmp_path / "out", "hf"), "out.bias", "NaN")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_finiteness_is_seen_in_every_layout_and_place(dtype):
    generator = np.random.default_rng(0)
    largest = ml_dtypes.finfo(dtype).max
    for shape, view in (((7,), np.s_[:]), ((5, 9), np.s_[1:4, 2:7]), ((3, 4, 6), np.s_[:, 1:3]),
                        ((), np.s_[...]), ((2, PIECE + 3), np.s_[:]), ((0, 4), np.s_[:]), ((8,), np.s_[::3])):
        for turned in (lambda array: array, lambda array: array.swapaxes(0, -1) if array.ndim else array):
            array = turned((generator.standard_normal(shape)).astype(dtype)[view])
            if array.size:
                array[tuple(generator.integers(0, size) for size in array.shape)] = largest
            assert is_finite(array)
            for value in (np.nan, np.inf, -np.inf):
                spoilt = array.copy("K") if array.flags.owndata else array
                if not spoilt.size:
                    continue
                place = tuple(generator.integers(0, size) for size in spoilt.shape)
                kept = spoilt[place].copy()
                spoilt[place] = value
                assert not is_finite(spoilt)
                spoilt[place] = kept
