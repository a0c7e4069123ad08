"""A family of models that no file of the house knows: its own config keys, tensor names, router and layers,
all declared here.

Pebble: layers alternate between a mixture of experts and a dense MLP; experts are weighed by sigmoids,
renormalised and scaled; what an MLP gives is normed once more before it joins the residual.
"""
import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

import bridges
from bridges.compare.verify import verify
from bridges.hf import weight_map
from bridges.hf.importing import adapters
from bridges.hf.streaming import frozen_sets, tensor_sets
from jaxrl_moe.config import OptimizerSection, RolloutSection, ScratchSection
from jaxrl_moe.distributed import parameters
from jaxrl_moe.distributed.collectives import Layout
from jaxrl_moe.distributed.mesh import check_model, make_placement
from jaxrl_moe.distributed.parameters import EXPERT, ParameterRow, UndeclaredParameter
from jaxrl_moe.distributed.sharding import MeshError, cut
from jaxrl_moe.engine.engine import JaxEngine
from jaxrl_moe.engine.memory import token_bytes
from jaxrl_moe.learning.batch import micro_batches, sample_weights
from jaxrl_moe.learning.make import LearnerSettings, build_learner
from jaxrl_moe.learning.objective import PolicyObjective
from jaxrl_moe.learning.optimizer import optimizer
from jaxrl_moe.learning.samples import from_conversations
from jaxrl_moe.model.config import LoraConfig, ModelConfig, ModelConfigError, RopeConfig
from jaxrl_moe.model.families import registry
from jaxrl_moe.model.families.decoder import (
    ATTENTION_PARAMETERS,
    MLP_PARAMETERS,
    NORM_PARAMETERS,
    OUTER_PARAMETERS,
    Decoder,
)
from jaxrl_moe.model.families.rows import TensorRow, expert_rows, norm_rows, router_rows
from jaxrl_moe.model.layer import Layer, LayerKind, SparseLayer
from jaxrl_moe.model.layers import RMSNorm
from jaxrl_moe.model.passes import Pass
from jaxrl_moe.model.scoring import Scoring
from jaxrl_moe.model.transformer import Transformer
from jaxrl_moe.planning.plan import kept_bytes
from jaxrl_moe.rl.objective import make_objective
from jaxrl_moe.runs.flops import model_cost
from jaxrl_moe.types import Request, SamplingParams
from tests.helpers.close import assert_close


@dataclasses.dataclass(frozen=True)
class PebbleConfig(ModelConfig):
    route_scale: float = 1.0


@dataclasses.dataclass(frozen=True)
class Sigmoids(Scoring):
    scale: float = 1.0

    def scores(self, logits_ME):
        return jax.nn.sigmoid(logits_ME)

    def weights(self, scores_ME, ids_MA):
        weights_MA = jnp.take_along_axis(scores_ME, ids_MA, axis=1)
        return self.scale * weights_MA / weights_MA.sum(axis=1, keepdims=True)


class Renormed:
    """Of a layer: one more norm."""

    def __init__(self, config, build):
        super().__init__(config, build)
        self.last_norm = RMSNorm(config.hidden_size, config.rms_norm_eps, stack=build.stack,
                                 dtype=build.dtype)

    def run_mlp(self, normed_BTD, call):
        out_BTD, routing = super().run_mlp(normed_BTD, call)
        return self.last_norm(out_BTD), routing


class PlainLayer(Renormed, Layer):
    pass


class MixedLayer(Renormed, SparseLayer):
    pass


PLAIN = LayerKind("plain", False, PlainLayer)
MIXED = LayerKind("mixed", True, MixedLayer)
BLOCK = "blocks.{layer}."
FIELDS = {
    "vocab_size": "tokens",
    "hidden_size": "width",
    "num_layers": "depth",
    "num_heads": "heads",
    "num_kv_heads": "kv_heads",
    "head_dim": "head_width",
    "intermediate_size": "mlp_width",
    "moe_intermediate_size": "expert_width",
    "num_experts": "experts",
    "num_experts_per_tok": "experts_used",
    "max_position_embeddings": "context"
}
LINEARS = {"attention.q_proj": "attn.wq", "attention.k_proj": "attn.wk", "attention.v_proj": "attn.wv",
           "attention.o_proj": "attn.wo"}
NORMS = {"input_norm": "n1", "post_attention_norm": "n2", "last_norm": "n3", "attention.q_norm": "attn.nq",
         "attention.k_norm": "attn.nk"}
MLP = {"gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"}


class Pebble(Decoder):
    name = "pebble"
    title = "Pebble"
    architectures = ("PebbleModel",)
    parameters = (*OUTER_PARAMETERS, *NORM_PARAMETERS, *norm_rows("last_norm"), *ATTENTION_PARAMETERS,
                  *MLP_PARAMETERS, *router_rows(), *expert_rows("mlp.gate_proj", "out"),
                  *expert_rows("mlp.up_proj", "out"), *expert_rows("mlp.down_proj", "in"))
    spellings = ((
        TensorRow("embed.weight", "wte"),
        TensorRow("norm.weight", "ln_f"),
        TensorRow("lm_head.weight", "head", True),
        *(TensorRow(f"{{layers}}.{ours}.weight", BLOCK + theirs) for ours, theirs in NORMS.items()),
        *(TensorRow(f"{{layers}}.{ours}.weight", f"{BLOCK}{theirs}.weight", True)
          for ours, theirs in LINEARS.items()),
        *(TensorRow(f"{{plain}}.mlp.{ours}.weight", f"{BLOCK}ffn.{theirs}.weight", True)
          for ours, theirs in MLP.items()),
        TensorRow("{mixed}.mlp.router.weight", BLOCK + "moe.route", True, float32=True),
        *(TensorRow(f"{{mixed}}.mlp.{ours}.weight", f"{BLOCK}moe.{{expert}}.{theirs}.weight", True,
                    joint=BLOCK + "moe")
          for ours, theirs in MLP.items())),)

    def from_hf(self, fields):
        numbers = {ours: fields.integer(theirs, least=1) for ours, theirs in FIELDS.items()}
        depth = numbers["num_layers"]
        sparse = tuple(layer % 2 == 0 for layer in range(depth))
        return PebbleConfig(family=self.name, sparse_layers=sparse, windows=(0,) * depth,
                            route_scale=fields.number("route_scale", above=0.0),
                            rope=RopeConfig(theta=fields.number("theta", above=1.0)), **numbers)

    def to_hf(self, config):
        numbers = {theirs: getattr(config, ours) for ours, theirs in FIELDS.items()}
        names = {"architectures": list(self.architectures), "model_type": self.name}
        return names | {"theta": config.rope.theta, "route_scale": config.route_scale} | numbers

    def kinds(self, config):
        return tuple(MIXED if sparse else PLAIN for sparse in config.sparse_layers)

    def scoring(self, config):
        return Sigmoids(config.num_experts_per_tok, config.route_scale)

    def from_scratch(self, section, vocab_size):
        return None


HF = {
    "architectures": ["PebbleModel"],
    "model_type": "pebble",
    "theta": 500.0,
    "tokens": 51,
    "width": 16,
    "depth": 3,
    "heads": 4,
    "kv_heads": 2,
    "head_width": 8,
    "mlp_width": 24,
    "expert_width": 12,
    "experts": 4,
    "experts_used": 2,
    "route_scale": 1.5,
    "context": 128
}
LORA = LoraConfig(rank=3, alpha=6.0)
MESH = {"fsdp": 2, "expert": 2, "tensor": 2}
SECTION = OptimizerSection(learning_rate=1e-2, eps=1e-3, weight_decay=0.1)


def tensors():
    """The checkpoint's tensors, [out, in], spelt out by hand."""
    rng = np.random.default_rng(0)
    width = 16
    inner = 32
    shared = 16
    shapes = {"wte": (51, width), "head": (51, width), "ln_f": (width,)}
    for layer in range(3):
        own = {"n1": (width,), "n2": (width,), "n3": (width,), "attn.nq": (8,), "attn.nk": (8,),
               "attn.wq.weight": (inner, width), "attn.wk.weight": (shared, width),
               "attn.wv.weight": (shared, width), "attn.wo.weight": (width, inner)}
        own |= {"moe.route": (4, width)} if layer % 2 == 0 else {}
        hidden = 12 if layer % 2 == 0 else 24
        for stem in [f"moe.{expert}" for expert in range(4)] if layer % 2 == 0 else ["ffn"]:
            own |= {f"{stem}.w1.weight": (hidden, width), f"{stem}.w3.weight": (hidden, width),
                    f"{stem}.w2.weight": (width, hidden)}
        shapes |= {f"blocks.{layer}.{name}": shape for name, shape in own.items()}
    return {name: (rng.normal(size=shape) * 0.3 + (len(shape) == 1)).astype(np.float32)
            for name, shape in shapes.items()}


def oracle(weights, ids):
    """Logits [T, V] of one sequence, token by token in float64."""
    w = {name: array.astype(np.float64) for name, array in weights.items()}

    def norm(x, weight):
        return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + 1e-6) * weight

    def turned(x, position):
        angle = position / 500.0 ** (np.arange(0, 8, 2) / 8)
        low = x[..., :4]
        high = x[..., 4:]
        cos = np.cos(angle)
        sin = np.sin(angle)
        return np.concatenate([low * cos - high * sin, high * cos + low * sin], axis=-1)

    def gated(x, stem):
        gate = w[f"{stem}.w1.weight"] @ x
        return w[f"{stem}.w2.weight"] @ (gate / (1 + np.exp(-gate)) * (w[f"{stem}.w3.weight"] @ x))

    x = [w["wte"][token] for token in ids]
    for layer in range(3):
        b = f"blocks.{layer}"
        keys = []
        values = []
        for t in range(len(x)):
            h = norm(x[t], w[f"{b}.n1"])
            q, k, v = (w[f"{b}.attn.w{name}.weight"] @ h for name in "qkv")
            keys.append(turned(norm(k.reshape(2, 8), w[f"{b}.attn.nk"]), t))
            values.append(v.reshape(2, 8))
            q = turned(norm(q.reshape(4, 8), w[f"{b}.attn.nq"]), t)
            out = []
            for head in range(4):
                scores = np.exp([q[head] @ key[head // 2] / np.sqrt(8) for key in keys])
                out.append(sum(s * value[head // 2] for s, value in zip(scores / scores.sum(), values)))
            y = x[t] + w[f"{b}.attn.wo.weight"] @ np.concatenate(out)
            h = norm(y, w[f"{b}.n2"])
            if layer % 2:
                out = gated(h, f"{b}.ffn")
            else:
                scores = 1 / (1 + np.exp(-(w[f"{b}.moe.route"] @ h)))
                best = np.argsort(-scores)[:2]
                out = sum(1.5 * scores[e] / scores[best].sum() * gated(h, f"{b}.moe.{e}") for e in best)
            x[t] = y + norm(out, w[f"{b}.n3"])
    return np.stack([w["head"] @ norm(each, w["ln_f"]) for each in x])


@pytest.fixture(scope="module", autouse=True)
def family():
    """Registered for this file alone."""
    yield registry.register(Pebble())
    del registry._families["pebble"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("pebble")
    (path / "config.json").write_text(json.dumps(HF))
    save_file(tensors(), path / "model.safetensors", {"format": "pt"})
    return path


@pytest.fixture(scope="module")
def config(family):
    return ModelConfig.from_hf(HF)


def learner(folder, mesh=None, lora=LORA):
    place = None if mesh is None else make_placement(mesh)
    model = bridges.load_model(folder, lora=lora, placement=place)
    for variable in adapters(model).values():
        variable.set_value(variable[...] + 0.02)
    return build_learner(model, LearnerSettings(SECTION, 10), place)


def batches():
    rng = np.random.default_rng(0)
    samples = from_conversations([(rng.integers(0, 51, n), np.r_[0, rng.integers(0, 2, n - 2), 1])
                                  for n in (14, 9, 16, 5, 12, 7, 3, 10)])
    (packed,) = micro_batches(samples, 8 * 16, False, sample_weights(samples, "token-mean"))
    return [packed.batch]


def test_config_json_goes_both_ways(config):
    assert type(config) is PebbleConfig and config.route_scale == 1.5
    assert config.sparse_layers == (True, False, True)
    assert config.to_hf() == HF and ModelConfig.from_hf(config.to_hf()) == config
    stacks = [(stack.first, stack.count, stack.kind.name) for stack in config.stacks]
    assert stacks == [(0, 1, "mixed"), (1, 1, "plain"), (2, 1, "mixed")]
    assert ModelConfig.from_hf({key: value for key, value in HF.items() if key != "architectures"}) == config


def test_a_forward_pass_is_that_of_a_loop_over_tokens_and_heads(folder):
    ids = np.random.default_rng(1).integers(0, 51, 9)
    model = bridges.load_model(folder)
    call = Pass(jnp.arange(9)[None], jnp.ones((1, 9), jnp.int32))
    hidden, routing = jax.jit(lambda model, ids: model(ids, call))(model, ids[None])
    np.testing.assert_allclose(model.logits(hidden)[0], oracle(tensors(), ids), rtol=2e-4, atol=2e-4)
    assert routing.load.shape == (2, 4) and routing.load.sum() == 2 * 2 * 9


@pytest.mark.parametrize("keep", [True, False])
def test_a_checkpoint_comes_back_byte_for_byte(folder, tmp_path, keep):
    bridges.export_model(bridges.load_model(folder), tmp_path / "out", source=folder if keep else None)
    theirs = load_file(folder / "model.safetensors")
    ours = load_file(tmp_path / "out" / "model.safetensors")
    assert ours.keys() == theirs.keys()
    for name, array in theirs.items():
        assert ours[name].dtype == array.dtype and ours[name].tobytes() == array.tobytes(), name
    assert json.loads((tmp_path / "out" / "config.json").read_text()).items() >= HF.items()
    if keep:
        assert (tmp_path / "out" / "model.safetensors").read_bytes() == (folder
                                                                         / "model.safetensors").read_bytes()


def test_a_missing_and_an_unused_tensor_are_named(folder, tmp_path):
    lacking = tensors()
    lacking["blocks.1.ffn.w9.weight"] = lacking.pop("blocks.0.n3")
    (tmp_path / "config.json").write_text(json.dumps(HF))
    save_file(lacking, tmp_path / "model.safetensors", {"format": "pt"})
    message = r"blocks\.0\.n3 is missing.*blocks\.1\.ffn\.w9\.weight .* is used by nothing"
    with pytest.raises(bridges.BridgeError, match=message):
        bridges.load_model(tmp_path)


@pytest.mark.parametrize("lora", [pytest.param(LORA, id="adapters"),
                                  pytest.param(None, id="whole", marks=pytest.mark.slow)])
def test_an_update_on_eight_devices_is_that_of_one(folder, lora):
    objective = PolicyObjective(make_objective("reinforce", entropy_coef=0.01, aux_loss_coef=0.01))
    results = []
    for mesh in (None, MESH):
        one = learner(folder, mesh, lora)
        before = jax.device_get(one.forward(batches()[0], temperature=1.0).logprobs_BT)
        metrics = one.update(batches(), objective, entropy=True)
        trained = jax.device_get(cut(one.state.trainable, 51))
        results.append((before, float(metrics["policy/grad_norm"]), trained))
    alone, spread = results
    assert_close(spread[0], alone[0])
    assert math.isclose(spread[1], alone[1], rel_tol=1e-4)
    assert_close(spread[2], alone[2], 1e-4)  # Adam blows rounding up where a gradient is almost 0
    expert = one.state.trainable["stacks"][0]["mlp"]["gate_proj"]["lora_a" if lora else "weight"][...]
    assert expert.sharding.shard_shape(expert.shape)[1] == 2  # of 4 experts


def test_weight_decay_leaves_norms_alone(config):
    params = nnx.state(Transformer(config, rngs=nnx.Rngs(0)), nnx.Param)
    transform = optimizer(SECTION, 10)
    zero = jax.tree.map(jnp.zeros_like, params)
    updates = dict(nnx.to_flat_state(transform.update(zero, transform.init(params), params)[0]))
    moved = {path[2:] if path[0] == "stacks" else path for path, variable in updates.items()
             if np.asarray(variable[...]).any()}
    assert ("last_norm", "weight") not in moved and ("norm", "weight") not in moved
    assert {("embed", "weight"), ("mlp", "router", "weight"), ("attention", "q_proj", "weight")} <= moved


@pytest.mark.parametrize("mesh", [None, MESH], ids=["one", "eight"])
def test_the_engine_draws_by_the_forward_passs_log_probs(folder, mesh):
    place = None if mesh is None else make_placement(mesh)
    model = bridges.load_model(folder, lora=LORA, placement=place)
    settings = RolloutSection(slots=4, page_size=4, max_tokens=8, decode_steps=3)
    engine = JaxEngine(model, settings, max_prompt_tokens=9, seed=3, placement=place)
    prompts = [np.random.default_rng(n).integers(0, 51, n).astype(np.int32) for n in (9, 4, 1)]
    drawn = engine.generate([Request(ids, SamplingParams(8, return_routed_experts=True), number)
                             for number, ids in enumerate(prompts)])
    for ids, (completion,) in zip(prompts, drawn, strict=True):
        logits = oracle(tensors(), np.concatenate([ids, completion.ids]))
        logprobs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        expected = logprobs[np.arange(len(ids) - 1, len(ids) + 7), completion.ids]
        np.testing.assert_allclose(completion.logprobs, expected, rtol=1e-3, atol=1e-3)
        assert completion.expert_ids.shape[1:] == (2, 2)


def test_adapters_go_out_under_the_familys_names_and_come_back(folder, tmp_path):
    lora = dataclasses.replace(LORA, targets=("q_proj", "up_proj", "down_proj"))
    model = bridges.load_model(folder, lora=lora)
    for number, variable in enumerate(adapters(model).values()):
        variable.set_value(jax.random.normal(jax.random.key(number), variable.shape))
    bridges.export_adapter(model, tmp_path / "adapter", base=folder)
    names = load_file(tmp_path / "adapter" / "adapter_model.safetensors").keys()
    stems = {name.removeprefix("base_model.model.").rsplit(".lora_", 1)[0] for name in names}
    experts = {f"blocks.{layer}.moe.{expert}" for layer in (0, 2) for expert in range(4)}
    mlps = {f"{stem}.{name}" for stem in experts | {"blocks.1.ffn"} for name in ("w2", "w3")}
    assert stems == {f"blocks.{layer}.attn.wq" for layer in range(3)} | mlps
    found = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert found["target_modules"] == ["w2", "w3", "wq"] and found["target_parameters"] is None
    read = bridges.read_lora(tmp_path / "adapter")
    assert read == dataclasses.replace(lora, targets=("down_proj", "q_proj", "up_proj"))
    again = bridges.load_model(folder, lora=read)
    bridges.import_adapter(again, tmp_path / "adapter")
    for path, variable in adapters(again).items():
        np.testing.assert_array_equal(variable[...], adapters(model)[path][...], err_msg=path)


def test_a_stream_has_the_checkpoints_bytes_in_the_familys_sets(folder):
    model = bridges.load_model(folder, lora=dataclasses.replace(LORA, targets=("up_proj",)))
    sets = {each.name: each.tensors for each in tensor_sets(model)}
    streamed = {name: array for arrays in sets.values() for name, array in arrays.items()}
    expected = tensors()
    assert streamed.keys() == expected.keys()
    assert all(streamed[name].tobytes() == array.tobytes() for name, array in expected.items())
    assert len(sets["blocks.2.moe"]) == 12
    trained = {
        "blocks.0.moe", "blocks.2.moe", "blocks.1.ffn.w3.weight", "blocks.0.moe.route", "blocks.2.moe.route"
    }
    assert sets.keys() - frozen_sets(model) == trained


def test_what_is_planned_follows_from_the_familys_numbers(config, folder):
    width = 16
    inner = 32
    shared = 16
    one = build_learner(Transformer(config, rngs=nnx.Rngs(0)), LearnerSettings(SECTION, 10))
    cost = model_cost(config, one.state.trainable, one.parts.frozen)
    attention = 3 * (2 * width * inner + 2 * width * shared)
    mlps = 2 * (4 * width + 2 * 3 * width * 12) + 3 * width * 24
    assert cost.token == 6 * (attention + mlps) and cost.read == 6 * width * 51 and cost.pair == 12 * inner
    assert token_bytes(config, jnp.dtype("float32"), None) == 2 * 4 * 3 * 2 * 8
    assert token_bytes(config, jnp.dtype("float32"), make_placement(MESH)) == 2 * 4 * 3 * 1 * 8
    rows, length = batches()[0].tokens_BT.shape
    kept = 3 * 3 * width + (3 * 12 * 8 + 2 * 2 * 2 * 12 + 2 * 24)
    found = kept_bytes(config, batches()[0], make_placement({"data": 1}), "none", "float32")
    assert found == rows * length * kept * 4
    with pytest.raises(MeshError, match="mesh.expert = 3 does not divide the model's num_experts = 4"):
        check_model(Layout.of({"expert": 3}), config)


def change(monkeypatch, **attributes):
    """Of Pebble."""
    for name, value in attributes.items():
        monkeypatch.setattr(Pebble, name, value)


def test_a_parameter_without_a_row_is_refused_before_anything_is_read(folder, monkeypatch):
    def without(*key):
        rows = {known: row for known, row in parameters._rows.items() if known != key}
        monkeypatch.setattr(parameters, "_rows", rows)

    without("stacks.*.last_norm.weight", 2)
    for check in (bridges.load_model, bridges.check_tensors):
        with pytest.raises(UndeclaredParameter, match=r"'stacks\.0\.last_norm\.weight' .* has no row"):
            check(folder)
    monkeypatch.undo()
    without("stacks.*.attention.q_proj.lora_b", 3)
    bridges.check_tensors(folder)
    with pytest.raises(UndeclaredParameter, match=r"q_proj\.lora_b"):
        bridges.load_model(folder, lora=LORA)


def test_a_weight_map_that_lacks_a_row_says_which_to_add(config, folder, monkeypatch):
    (rows,) = Pebble.spellings
    lacking = tuple(row for row in rows if row.ours not in ("{layers}.last_norm.weight", "norm.weight"))
    change(monkeypatch, spellings=(lacking,))
    with pytest.raises(bridges.BridgeError) as refused:
        bridges.check_tensors(folder)
    for words in ("of the family pebble (jaxrl_moe/model/families) have no row for the parameter "
                  "'norm.weight': add TensorRow('norm.weight', ...); ",
                  "'stacks.0.last_norm.weight', of layers of the kind 'mixed': add "
                  "TensorRow('{mixed}.last_norm.weight', ...)"):
        assert words in str(refused.value)
    assert "stacks.2" not in str(refused.value)  # of the same kind
    with pytest.raises(bridges.BridgeError, match=r"no row for the parameter 'norm\.weight'"):
        weight_map.their_name(config, "norm.weight")
    odd = tuple(dataclasses.replace(row, ours=row.ours.replace("{plain}", "{dense}")) for row in rows)
    change(monkeypatch, spellings=(odd,))
    with pytest.raises(bridges.BridgeError, match=r"kind 'plain' \(there is \{dense\}\.mlp\.down_proj"):
        bridges.load_model(folder)


def test_kinds_that_contradict_the_numbers_are_refused(config, monkeypatch):
    for kinds, reason in (((PLAIN, MIXED), "'pebble' has 2 entries, and num_layers is 3"),
                          ((MIXED,) * 3, r"layer 1 is 'mixed', whose `sparse` is True, and")):
        change(monkeypatch, kinds=lambda self, config, kinds=kinds: kinds)
        with pytest.raises(ModelConfigError, match=reason):
            Transformer.abstract(config)
    with pytest.raises(ModelConfigError, match="sparse_layers has 2 entries"):
        _ = dataclasses.replace(config, sparse_layers=(True, False), num_layers=3).stacks


def test_verify_needs_a_family_that_transformers_knows(folder):
    pytest.importorskip("torch")
    with pytest.raises(bridges.BridgeError, match="knows no model_type 'pebble'.*loop in NumPy"):
        verify(folder)


def test_a_model_from_scratch_is_of_a_family_that_makes_such():
    sparse, dense = (registry.from_scratch(ScratchSection(num_experts=count), 300) for count in (8, 0))
    assert any(sparse.sparse_layers) and not any(dense.sparse_layers) and sparse.family != dense.family


def test_a_parameter_without_a_row_is_named_and_rows_that_differ_are_refused(config):
    place = make_placement(MESH)
    with pytest.raises(UndeclaredParameter, match=r"'stacks\.0\.shared\.out' with 3 axes has no row"):
        place.put({"stacks": {0: {"shared": {"out": jnp.zeros((1, 2, 2))}}}})
    with pytest.raises(UndeclaredParameter, match="with 2 axes has no row"):  # one of three axes there is
        parameters.row_of("stacks.0.attention.q_proj.weight", 2)
    assert EXPERT in parameters.row_of("0.mu.stacks.2.mlp.up_proj.lora_b", 4).axes
    with pytest.raises(ValueError, match="declared twice"):
        parameters.declare([ParameterRow("norm.weight", ("model",))])
    with pytest.raises(ValueError, match="names the axis 'heds'"):
        parameters.declare([ParameterRow("stacks.*.new", ("layers", "heds"))])
    with pytest.raises(ValueError, match="Two families"):
        registry.register(type("Other", (Pebble,), {})())
