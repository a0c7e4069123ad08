"""adapter_config.json: what is honoured does what it does in PEFT, all else is refused by name, and a file
that somebody broke gives a UserError at once."""
import copy
import json
import random
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import bridges
from bridges.peft.adapter_config import CHANGED_BASE, KNOWN, OFF, STARTS, WITHOUT_EFFECT
from bridges.peft.peft_files import PeftFolder
from jaxrl_moe.model.config import LoraConfig
from jaxrl_moe.types import UserError
from tests.helpers import oracles
from tests.helpers.parity import hf_logits, logits_error, randomise_adapters, relative, tokens
from tests.helpers.tiny_models import make_checkpoint

FEW = tokens(length=30)
SHORT = dict(num_hidden_layers=3)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dense") / "hf"
    make_checkpoint(folder, family="qwen3", tokenizer=False, **SHORT)
    return folder


@pytest.fixture(scope="module")
def plain(base, tmp_path_factory):
    model = bridges.load_model(base, lora=LoraConfig(4, 8.0, targets=("q_proj", "up_proj")))
    randomise_adapters(model)
    return bridges.export_adapter(model, tmp_path_factory.mktemp("adapter") / "plain", base="hf")


@pytest.fixture
def adapter(plain, tmp_path):
    return shutil.copytree(plain, tmp_path / "adapter")


def change(adapter, **fields):
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def reimported(base, adapter):
    model = bridges.load_model(base, lora=bridges.read_lora(adapter))
    bridges.import_adapter(model, adapter)
    return model


def by_peft(base, folder, **settings):
    """An adapter of random values that PEFT made and saved; returns its model."""
    torch = oracles.torch()
    peft = oracles.peft()
    config = peft.LoraConfig(**{"r": 4, "lora_alpha": 6, "task_type": "CAUSAL_LM"} | settings)
    theirs = peft.get_peft_model(oracles.transformers_model(base), config).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "lora_" in name:
                parameter.normal_(0, 0.1)
    theirs.save_pretrained(folder)
    return theirs


SOME_LAYERS = {
    "full paths": dict(target_modules=["model.layers.1.self_attn.q_proj", "model.layers.2.self_attn.q_proj",
                                       "up_proj"]),
    "regular expression": dict(target_modules=r".*\.(0|2)\.(self_attn\.q|mlp\.up)_proj"),
    "excluded names": dict(target_modules=["q_proj", "up_proj"],
                           exclude_modules=["layers.1.self_attn.q_proj"]),
    "excluded expression": dict(target_modules=["q_proj", "up_proj"], exclude_modules=r".*\.[12]\.mlp\..*"),
    "layers": dict(target_modules=["q_proj", "up_proj"], layers_to_transform=1),
    "layers by pattern": dict(target_modules=["q_proj", "o_proj"], layers_to_transform=[0, 2],
                              layers_pattern=["blocks", "layers"]),
    "patterns": dict(target_modules=["q_proj", "up_proj"],
                     rank_pattern={r"layers\.[01]\..*": 2, "up_proj": 3},
                     alpha_pattern={"model.layers.1.mlp.up_proj": 30, "^.*q_proj": 1}),
    "scale zero somewhere": dict(target_modules=["q_proj", "up_proj"], alpha_pattern={"q_proj": 0}),
    "negative scale": dict(target_modules=["q_proj"], lora_alpha=-3),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SOME_LAYERS)
def test_an_adapter_of_some_layers_gives_the_logits_of_peft(base, tmp_path, name):
    theirs = by_peft(base, tmp_path / "adapter", **SOME_LAYERS[name])
    assert logits_error(reimported(base, tmp_path / "adapter"), theirs, FEW) < 1e-5
    assert relative(hf_logits(oracles.transformers_model(base), FEW), hf_logits(theirs, FEW)) > 1e-2


@pytest.mark.parametrize("start", [start for start in STARTS if start != "eva"])
@pytest.mark.filterwarnings("ignore")
def test_what_leaves_the_base_alone_in_peft_is_taken(base, tmp_path, start):
    theirs = by_peft(base, tmp_path / "adapter", target_modules=["q_proj"], init_lora_weights=start)
    assert logits_error(reimported(base, tmp_path / "adapter"), theirs, FEW) < 1e-5
    unwrapped = theirs.base_model.model.model.layers[0].self_attn.q_proj.base_layer.weight
    np.testing.assert_array_equal(
        unwrapped.detach(), oracles.transformers_model(base).model.layers[0].self_attn.q_proj.weight.detach())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("start", ["pissa", "pissa_niter_4", "olora"])
def test_what_changes_the_base_in_peft_is_refused_and_the_conversion_that_is_named_is_read(
        base, tmp_path, start):
    peft = oracles.peft()
    config = peft.LoraConfig(r=4, lora_alpha=6, target_modules=["q_proj"], init_lora_weights=start)
    theirs = peft.get_peft_model(oracles.transformers_model(base), config).eval()
    assert not np.array_equal(
        theirs.base_model.model.model.layers[0].self_attn.q_proj.base_layer.weight.detach(),
        oracles.transformers_model(base).model.layers[0].self_attn.q_proj.weight.detach())
    theirs.save_pretrained(tmp_path / "start")
    with oracles.torch().no_grad():
        for name, parameter in theirs.named_parameters():
            if "lora_B" in name:
                parameter.mul_(1.5)
    theirs.save_pretrained(tmp_path / "trained")
    with pytest.raises(UserError, match=f"'{start}'.*path_initial_model_for_weight_conversion"):
        bridges.read_lora(tmp_path / "trained")
    theirs.save_pretrained(tmp_path / "converted",
                           path_initial_model_for_weight_conversion=str(tmp_path / "start"))
    assert logits_error(reimported(base, tmp_path / "converted"), theirs, FEW) < 1e-4


def test_every_field_of_pefts_configuration_is_known_and_neutral_as_it_comes():
    from dataclasses import fields
    peft = oracles.peft()
    names = {field.name for field in fields(peft.LoraConfig)}
    assert names <= set(KNOWN)
    fresh = peft.LoraConfig()
    assert all(getattr(fresh, name) in (off, None) for name, off in OFF.items())


@pytest.mark.parametrize("settings", [
    dict.fromkeys(WITHOUT_EFFECT), dict(OFF), dict.fromkeys(OFF),
    {"a_field_of_a_later_peft": None, "another": False},
    dict(auto_mapping={"unsloth_fixed": True}, peft_version="0.30.0", revision="main", eva_config={}),
    dict(layers_to_transform=[], rank_pattern=None, alpha_pattern=None, modules_to_save=[]),
    dict(exclude_modules=[])])
def test_what_changes_nothing_is_taken(plain, adapter, settings):
    change(adapter, **settings)
    assert bridges.read_lora(adapter) == bridges.read_lora(plain)


BAD = [
    *[(dict(init_lora_weights=kind), "init_lora_weights.*path_initial") for kind in CHANGED_BASE],
    (dict(init_lora_weights="pissa_niter_16"), "path_initial"),
    (dict(init_lora_weights="orthogonl"), "Did you mean 'orthogonal'"),
    (dict(init_lora_weights=1), "a string is needed"),
    (dict(use_rslora="false"), 'use_rslora is "false".*true or false'),
    (dict(use_rslora=1), "use_rslora"),
    (dict(use_dora=True), "use_dora=True"), (dict(use_dora="false"), "use_dora"),
    (dict(use_dora=0), "use_dora"), (dict(bias="lora_only"), "bias='lora_only'"), (dict(bias=False), "bias"),
    (dict(lora_bias=True), "lora_bias"), (dict(fan_in_fan_out=True), "fan_in_fan_out"),
    (dict(layer_replication=[[0, 2]]), "layer_replication"),
    (dict(alora_invocation_tokens=[1]), "alora_invocation_tokens"),
    (dict(trainable_token_indices=[0]), "trainable_token_indices"),
    (dict(kasa_config={"a": 1}), "kasa_config"), (dict(arrow_config={"a": 1}), "arrow_config"),
    (dict(megatron_config={"a": 1}), "megatron_config"),
    (dict(peft_type="lora"), "\"lora\" adapter"), (dict(peft_type=["LORA"]), "peft_type"),
    (dict(peft_type=None), "has no peft_type"),
    (dict(task_type="SEQ_CLS"), "task_type"), (dict(task_type=3), "task_type"),
    (dict(use_rslorra=True), "'use_rslorra'.*Did you mean 'use_rslora'"), (dict(rank=8), "'rank'"),
    (dict(r=4.0), "r is 4.0"), (dict(r=0), "r is 0"), (dict(r=True), "r is true"),
    (dict(r="4"), "r is \"4\""), (dict(r=-4), "r is -4"), (dict(r=[4]), "r is"), (dict(r=10**30), "r is"),
    (dict(r=5), "rank 5"),
    (dict(lora_alpha="8"), "lora_alpha"), (dict(lora_alpha=None), "has no lora_alpha"),
    (dict(lora_alpha=True), "lora_alpha"), (dict(lora_alpha=1e300), "lora_alpha"),
    (dict(lora_alpha=[8]), "lora_alpha"),
    (dict(lora_dropout=1.0), "lora_dropout"), (dict(lora_dropout=-0.1), "lora_dropout"),
    (dict(lora_dropout="0"), "lora_dropout"),
    (dict(rank_pattern={"(": 4}), r"'\(.*no regular expression"),
    (dict(rank_pattern=["q_proj"]), "rank_pattern"), (dict(rank_pattern="q_proj"), "rank_pattern"),
    (dict(rank_pattern={"q_proj": 4.0}), "q_proj is 4.0"), (dict(rank_pattern={"q_proj": 0}), "q_proj is 0"),
    (dict(rank_pattern={"q_proj": "4"}), "q_proj"), (dict(rank_pattern={"q_proj": 2}), "rank 2"),
    (dict(rank_pattern={"(" * 900: 4}), "no regular expression"),
    (dict(rank_pattern={"a*" * 600: 4}), "characters"),
    (dict(alpha_pattern={"q_proj": None}), "q_proj"), (dict(alpha_pattern={"q_proj": "x"}), "q_proj"),
    (dict(alpha_pattern={"[": 4}), "no regular expression"),
    (dict(target_modules="("), "no regular expression"), (dict(target_modules=3), "target_modules"),
    (dict(target_modules=[1]), "target_modules"),
    (dict(target_modules=["k_proj", "up_proj"]), "does not name"),
    (dict(target_modules=r".*\.up_proj"), "q_proj.*does not name"),
    (dict(exclude_modules=["q_proj"]), "q_proj.*does not name"),
    (dict(exclude_modules="["), "no regular expression"),
    (dict(layers_to_transform=[0]), "does not name"), (dict(layers_to_transform="0"), "layers_to_transform"),
    (dict(layers_to_transform=[-1]), "layers_to_transform"),
    (dict(layers_to_transform=[True]), "layers_to_transform"),
    (dict(layers_pattern="layers"), "layers_pattern.*without layers_to_transform"),
    (dict(layers_to_transform=[0, 1, 2], layers_pattern="("), "no regular expression"),
    (dict(target_modules=".*", layers_to_transform=[0]), "PEFT refuses"),
    (dict(modules_to_save=["lm_head"]), "lm_head"), (dict(modules_to_save="lm_head"), "modules_to_save"),
    (dict(target_parameters="x"), "target_parameters"),
]


@pytest.mark.parametrize("settings, message", BAD)
def test_what_we_cannot_honour_is_refused_by_name(adapter, settings, message):
    change(adapter, **settings)
    with pytest.raises(UserError, match=message) as caught:
        bridges.read_lora(adapter)
    assert str(adapter) in str(caught.value) and len(str(caught.value)) < 1500


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_scale_that_is_no_finite_number_is_refused(adapter, text):
    path = adapter / "adapter_config.json"
    path.write_text(path.read_text().replace('"lora_alpha": 8', f'"lora_alpha": {text}'))
    with pytest.raises(UserError, match="adapter_config.json"):
        bridges.read_lora(adapter)


@pytest.mark.parametrize("field", ["rank_pattern", "alpha_pattern", "target_modules", "exclude_modules",
                                   "layers_pattern"])
def test_an_expression_that_never_ends_is_refused(adapter, monkeypatch, field):
    monkeypatch.setattr("jaxrl_moe.expressions.SECONDS", 0.2)
    endless = r"(?:[a-z]|[a-z.]|[a-z_]|[a-z._]|[a-z.0-9_])+(?<![js])"
    change(adapter, **{field: {endless: 4} if field in ("rank_pattern", "alpha_pattern") else endless})
    if field == "layers_pattern":
        change(adapter, layers_to_transform=[0, 1, 2])
    with pytest.raises(UserError, match="to match"):
        bridges.read_lora(adapter)


@pytest.mark.parametrize("text", [b"", b"null", b"[]", b"{", b"\xff\xfe{}", b"[" * 100_000,
                                  b'{"r": ' * 100_000, b'{"r": 4, "r": 8}', b'"text"'])
def test_a_file_that_is_no_object_is_refused(adapter, text):
    (adapter / "adapter_config.json").write_bytes(text)
    with pytest.raises(UserError, match="adapter_config.json"):
        bridges.read_lora(adapter)


JUNK = [None, True, False, 0, -1, 1, 4, 4.0, 1e308, 10**40, "", "x", "q_proj", "(", ".*", [], {}, [0], [None],
        ["q_proj"], {"q_proj": 4}, {"": 4}, {"(": 1}, {"a": {}}, [[1]], "true", "LORA", "\0"]


def test_a_configuration_broken_at_random_is_refused_or_means_the_same(base, plain, adapter):
    """Whatever loads must have the rank and the scale of its tensors."""
    generator = random.Random(0)
    whole = json.loads((plain / "adapter_config.json").read_text())
    before = bridges.read_lora(plain)
    taken = 0
    for _ in range(400):
        config = copy.deepcopy(whole)
        for name in generator.sample(KNOWN, generator.choice([1, 1, 2])):
            config[name] = generator.choice(JUNK)
        (adapter / "adapter_config.json").write_text(json.dumps(config))
        try:
            lora = bridges.read_lora(adapter)
        except UserError as error:
            assert "\n" not in str(error)
            continue
        taken += 1
        assert lora.rank == before.rank and lora.targets == before.targets and np.isfinite(lora.scale)
        changed = {name for name in config if config[name] != whole.get(name)}
        honoured = {"lora_alpha", "use_rslora", "alpha_pattern", "lora_dropout"}
        assert lora == before or changed & honoured
    assert taken > 40


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_an_adapter_with_a_number_that_is_not_finite_is_refused(adapter, value, dtype):
    import ml_dtypes  # noqa: F401 - registers bfloat16
    path = adapter / "adapter_model.safetensors"
    tensors = {name: tensor.astype(dtype) for name, tensor in load_file(path).items()}
    name = "base_model.model.model.layers.1.mlp.up_proj.lora_B.weight"
    tensors[name][3, 1] = value
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(UserError, match=f"{name} of .*adapter_model.safetensors holds NaN or an infinity"):
        PeftFolder(adapter)


def test_an_adapter_that_float32_cannot_hold_is_refused(adapter):
    path = adapter / "adapter_model.safetensors"
    tensors = {name: tensor.astype(np.float64) for name, tensor in load_file(path).items()}
    tensors["base_model.model.model.layers.1.mlp.up_proj.lora_B.weight"][3, 1] = 1e39
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(UserError, match="up_proj.lora_B.weight.*float32"):
        PeftFolder(adapter)


def test_the_same_layer_under_two_names_is_refused(adapter):
    path = adapter / "adapter_model.safetensors"
    tensors = load_file(path)
    tensors |= {name.removeprefix("base_model.model."): 2 * tensor for name, tensor in tensors.items()}
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(UserError, match="is the same as"):
        PeftFolder(adapter)


@pytest.mark.filterwarnings("ignore")
def test_pefts_all_linear_takes_the_router_in_and_is_refused_by_its_name(tmp_path):
    make_checkpoint(tmp_path / "hf", tokenizer=False, num_hidden_layers=1)
    by_peft(tmp_path / "hf", tmp_path / "adapter", target_modules="all-linear")
    with pytest.raises(UserError, match="router model.layers.0.mlp.gate.*merge_and_unload"):
        bridges.read_lora(tmp_path / "adapter")


@pytest.mark.parametrize("settings, named", [
    (dict(target_modules=None), "names no target_modules"), (dict(target_modules=5), "target_modules is 5"),
    (dict(rank_pattern=0), "rank_pattern is 0"), (dict(rank_pattern={"q_proj": 0}), "q_proj is 0"),
    (dict(lora_alpha=None), "lora_alpha"), (dict(lora_alpha=1e39), "lora_alpha is 1e.39"),
    (dict(r="x"), "r is .x"), (dict(r=None), "has no r"), (dict(alpha_pattern=[]), "alpha_pattern is"),
    (dict(target_modules=[]), "does not name"), (dict(target_modules=""), "does not name")])
def test_what_peft_would_fill_in_or_choke_on_is_refused(adapter, settings, named):
    change(adapter, **settings)
    with pytest.raises(UserError, match=named):
        bridges.read_lora(adapter)
