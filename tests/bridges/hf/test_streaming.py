"""The merged model as a stream of tensors, against the checkpoint that export_model writes of it."""
import dataclasses
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import bridges
from bridges.engines.sync import WeightWriter
from bridges.hf import weight_map
from bridges.hf.importing import base_weights
from bridges.hf.streaming import frozen_sets, tensor_sets
from bridges.hf.tensor_files import TensorReader
from bridges.servers.buckets import Delivery, Fan, write_bucket
from bridges.servers.http import EngineError, Unavailable
from jaxrl_moe.model.config import LoraConfig
from jaxrl_moe.model.transformer import Transformer
from tests.helpers.parity import randomise_adapters
from tests.helpers.tiny_models import make_checkpoint

TARGETS = ("q_proj", "v_proj", "up_proj")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "tiny"
    make_checkpoint(folder, num_hidden_layers=3, mlp_only_layers=[0])
    return folder


@pytest.fixture(scope="module")
def model(checkpoint):
    found = bridges.load_model(checkpoint, lora=LoraConfig(4, 8.0, targets=TARGETS))
    randomise_adapters(found)
    return found



def streamed(sets):
    return {key: array for one in sets for key, array in one.tensors.items()}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_stream_has_the_bytes_of_the_exported_checkpoint(checkpoint, tmp_path, dtype):
    model = bridges.load_model(checkpoint, lora=LoraConfig(4, 8.0, targets=TARGETS), dtype=jnp.dtype(dtype))
    randomise_adapters(model)
    bridges.export_model(model, tmp_path / "whole", source=checkpoint, dtype=dtype)
    whole = {
        name: reader[name] for reader in map(TensorReader, (tmp_path / "whole").glob("*.safetensors"))
        for name in reader.infos
    }
    ours = streamed(tensor_sets(model))
    assert ours.keys() == whole.keys()
    for key, array in whole.items():
        assert ours[key].dtype == array.dtype and ours[key].tobytes() == array.tobytes(), key


def set_names(config):
    """{tensor of a model: the set that it belongs to}."""
    shapes = {path: variable.shape for path, variable in base_weights(Transformer.abstract(config)).items()}
    return {slot.key: slot.set_name for slot in weight_map.slots(config, weight_map.table(config), shapes)}


def test_sets_are_what_servers_keep_in_one_array(model):
    config = dataclasses.replace(model.config, num_layers=13, sparse_layers=(True,) * 12 + (False,),
                                 windows=(0,) * 13, num_experts=8,
                                 attention_bias=True)
    layer = "model.layers.11."
    known = set_names(config)
    names = {key: known[layer + key] for key in ("self_attn.k_proj.weight", "self_attn.v_proj.bias",
                                                 "self_attn.q_norm.weight",
                                                 "mlp.experts.7.up_proj.weight", "mlp.gate.weight")}
    assert known["model.layers.12.mlp.up_proj.weight"] == "model.layers.12.mlp.gate_up_proj"
    names["mlp.up_proj.weight"] = known["model.layers.12.mlp.up_proj.weight"].replace("12", "11")
    assert names == {
        "self_attn.k_proj.weight": layer + "self_attn.qkv_proj",
        "self_attn.v_proj.bias": layer + "self_attn.qkv_proj",
        "self_attn.q_norm.weight": layer + "self_attn.q_norm.weight",
        "mlp.experts.7.up_proj.weight": layer + "mlp.experts",
        "mlp.up_proj.weight": layer + "mlp.gate_up_proj",
        "mlp.gate.weight": layer + "mlp.gate.weight"
    }


def test_what_training_of_adapters_leaves_alone_is_all_without_one_but_the_routers(model):
    frozen = frozen_sets(model)
    trained = {one.name for one in tensor_sets(model)} - frozen
    layers = [f"model.layers.{number}." for number in range(3)]
    assert trained == {*(layer + "self_attn.qkv_proj" for layer in layers), layers[0] + "mlp.gate_up_proj",
                       *(layer + part for layer in layers[1:] for part in ("mlp.experts", "mlp.gate.weight"))}
    assert frozen_sets(nnx.merge(*nnx.split(model))) == frozen


def test_digests_tell_which_sets_changed(model):
    before = {one.name: one.digest for one in tensor_sets(model)}
    changed = nnx.merge(*nnx.split(model))
    lora = changed.stacks[1].mlp.up_proj.lora_b
    lora.set_value(lora[...].at[1, 2, 0, 0].add(0.5))  # one expert of the last layer
    after = {one.name: one.digest for one in tensor_sets(changed)}
    assert {name for name in before if before[name] != after[name]} == {"model.layers.2.mlp.experts"}


def test_a_delivery_holds_what_is_lacking_in_buckets_of_at_most_so_many_bytes(model):
    everything = {one.name: one.digest for one in tensor_sets(model)}
    held = {name: digest for name, digest in everything.items() if ".1." not in name}
    delivery = Delivery(tensor_sets(model), held, 6000)
    buckets = list(delivery)
    names = set_names(model.config)
    lacking = {key: array for key, array in streamed(tensor_sets(model)).items() if names[key] not in held}
    assert {key: array.tobytes() for bucket in buckets for key, array in bucket.items()} == \
        {key: array.tobytes() for key, array in lacking.items()}
    assert all(
        len(bucket) == 1 or sum(array.nbytes for array in bucket.values()) <= 6000
        for bucket in buckets) and len(buckets) > 2
    assert delivery.digests == everything and delivery.bytes == sum(array.nbytes
                                                                    for array in lacking.values())
    assert not list(Delivery(tensor_sets(model), everything, 6000))


def test_frozen_sets_are_not_read_again_where_all_have_them_and_a_server_that_does_not_is_told(
        model, checkpoint, tmp_path):
    writer = WeightWriter(model, str(checkpoint), "delta", str(tmp_path))
    first = writer(nnx.state(model), 1)
    held = {one.name: one.digest for one in first.walk([{}])}
    second = writer(nnx.state(model), 2)
    sets = list(second.walk([held, held]))
    assert {one.name for one in sets if one.tensors is None} == frozen_sets(model)
    assert all(one.tensors is not None for one in second.walk([held, {}]))
    with pytest.raises(Unavailable, match="it gets all weights next"):
        list(Delivery(iter(sets), {}, 6000))
    writer.close()


def test_weights_that_training_has_given_away_are_not_read(model, checkpoint, tmp_path):
    writer = WeightWriter(model, str(checkpoint), "stream", str(tmp_path))
    params = jax.tree.map(jnp.copy, nnx.state(model))
    weights = writer(params, 1)
    jax.tree.leaves(params)[0].delete()
    with pytest.raises(Unavailable, match="training has gone on"):
        list(weights.walk([{}]))


def test_a_full_disk_under_a_bucket_is_named_with_the_settings(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr("bridges.hf.tensor_files.os.posix_fallocate", full)
    with pytest.raises(EngineError, match="No space left.*servers.bucket_bytes"):
        write_bucket(tmp_path / "bucket", {"a": np.zeros(3, np.float32)})


def test_all_readers_of_a_fan_get_all_of_one_walk_and_one_that_leaves_holds_up_nobody():
    walked = []
    fan = Fan((walked.append(number) or number for number in range(20)), 3)
    found = {}

    def read(number):
        if number == 2:  # leaves after three
            found[2] = [item for item, _ in zip(fan.readers[2], range(3))]
            fan.readers[2].close()
        else:
            found[number] = list(fan.readers[number])
    threads = [threading.Thread(target=read, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    fan.run()
    for thread in threads:
        thread.join()
    assert found[0] == found[1] == walked == list(range(20)) and found[2] == [0, 1, 2]


def test_a_walk_that_fails_is_told_to_its_readers_and_raised():
    def walk():
        yield 1
        raise ValueError("no such layer")
    fan = Fan(walk(), 1)
    found = []

    def read():
        try:
            list(fan.readers[0])
        except Unavailable as error:
            found.append(str(error))
    thread = threading.Thread(target=read)
    thread.start()
    with pytest.raises(ValueError):
        fan.run()
    thread.join()
    assert found == ["the weights could not be made: no such layer"]


def test_a_fan_whose_readers_have_all_left_walks_no_further():
    fan = Fan(iter(range(10**9)), 1)
    fan.readers[0].close()
    fan.run()
