"""A critic to files and back, as a torch module would read it, and out of a training run."""
import json

import jax
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

import bridges
from bridges.__main__ import main
from jaxrl_moe.config import Config, CriticSection, LoraSection, ModelSection, OptimizerSection, to_json
from jaxrl_moe.learning.make import LearnerSettings, build_learner
from jaxrl_moe.model.config import LoraConfig
from jaxrl_moe.model.value_head import Critic, ValueHead
from jaxrl_moe.runs.checkpoints.checkpoint import Checkpoints, Progress
from jaxrl_moe.runs.checkpoints.identity import identity
from tests.helpers import oracles
from tests.helpers.parity import relative
from tests.helpers.tiny_models import make_checkpoint

FIELDS = ("dense", "dense_bias", "out", "out_bias")


def make_critic(kind="token", size=12):
    head = ValueHead(size, rngs=nnx.Rngs(0))
    for number, name in enumerate(FIELDS):
        variable = getattr(head, name)
        variable.set_value(jax.random.normal(jax.random.key(number), variable.shape))
    return Critic(head, kind)


def assert_equal(one, other):
    assert one.kind == other.kind
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(one.head, name)[...], getattr(other.head, name)[...])


def save_run(base, run_dir, critic):
    """A checkpoint as training writes it, with the critic or without."""
    model = bridges.load_model(base, lora=LoraConfig(4, 8.0))
    settings = LearnerSettings(OptimizerSection(), 10, critic=critic and CriticSection())
    learner = build_learner(model, settings, head=critic and critic.head)
    config = to_json(Config(model=ModelSection(path=str(base)), lora=LoraSection(4, 8.0)))
    named = {"critic": critic.kind} if critic else {}
    checkpoints = Checkpoints(
        run_dir / "checkpoints", keep=1, config=config,
        identity=named | identity(learner.config.to_hf(), {}, learner.state, learner.parts.frozen))
    checkpoints.save(learner.state, Progress(step=3))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    make_checkpoint(folder, num_hidden_layers=1)
    return folder


@pytest.fixture(scope="module")
def run(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    save_run(base, folder, make_critic(size=32))
    return folder


@pytest.mark.parametrize("kind", ["token", "last_token"])
def test_a_critic_comes_back_as_it_was(tmp_path, kind):
    critic = make_critic(kind)
    bridges.export_critic(critic, tmp_path / "critic", "org/base")
    assert_equal(bridges.load_critic(tmp_path / "critic"), critic)
    told = json.loads((tmp_path / "critic/value_head.json").read_text())
    assert told == {
        "layers": ["linear", "tanh", "linear"],
        "hidden_size": 12,
        "critic": kind,
        "base_model_name_or_path": "org/base"
    }


def test_torchs_linear_layers_take_the_tensors_as_they_are(tmp_path):
    torch = oracles.torch()
    critic = make_critic()
    bridges.export_critic(critic, tmp_path / "critic", "org/base")
    tensors = load_file(tmp_path / "critic/value_head.safetensors")
    module = torch.nn.Sequential(torch.nn.Linear(12, 12), torch.nn.Tanh(), torch.nn.Linear(12, 1))
    module.load_state_dict({f"{place}.{kind}": torch.tensor(tensors[f"{name}.{kind}"])
                            for name, place in (("dense", 0), ("out", 2)) for kind in ("weight", "bias")})
    hidden = np.random.default_rng(0).standard_normal((2, 5, 12)).astype(np.float32)
    assert relative(np.asarray(critic.head(hidden)),
                    module(torch.tensor(hidden))[..., 0].detach().numpy()) < 1e-5


def test_the_adapter_command_takes_the_critic_along_and_peft_loads_the_folder_all_the_same(
        base, run, tmp_path):
    assert main(["adapter", str(run), str(tmp_path / "peft")]) == 0
    assert_equal(bridges.load_critic(tmp_path / "peft"), make_critic(size=32))
    bridges.import_adapter(bridges.load_model(base, lora=bridges.read_lora(tmp_path / "peft")),
                           tmp_path / "peft")
    oracles.peft()
    assert main(["verify", str(base), "--adapter", str(tmp_path / "peft"), "--length", "8"]) == 0


def test_the_critic_command_writes_it_alone_and_names_the_runs_base(base, run, tmp_path, capsys):
    assert main(["critic", str(run), str(tmp_path / "critic")]) == 0
    assert "--config.critic.path=" in capsys.readouterr().out
    assert_equal(bridges.load_critic(tmp_path / "critic"), make_critic(size=32))
    assert json.loads(
        (tmp_path / "critic/value_head.json").read_text())["base_model_name_or_path"] == str(base)


def test_a_merged_export_has_no_critic(run, tmp_path):
    assert main(["export", str(run), str(tmp_path / "out")]) == 0
    assert not list((tmp_path / "out").glob("value_head*"))
    assert all(
        name.startswith(("model.", "lm_head.")) for name in load_file(tmp_path / "out/model.safetensors"))


def test_a_run_without_a_critic_says_so(base, tmp_path, capsys):
    save_run(base, tmp_path / "run", None)
    assert main(["adapter", str(tmp_path / "run"), str(tmp_path / "peft")]) == 0
    assert not list((tmp_path / "peft").glob("value_head*"))
    assert main(["critic", str(tmp_path / "run"), str(tmp_path / "critic")]) == 1
    assert "is no training run with a critic" in capsys.readouterr().err and not (tmp_path
                                                                                  / "critic").exists()


def damage_tensors(folder, change):
    tensors = load_file(folder / "value_head.safetensors")
    change(tensors)
    save_file(tensors, folder / "value_head.safetensors")


@pytest.mark.parametrize(
    "damage, message",
    [(lambda folder: (folder / "value_head.json").unlink(), "holds no critic: there is no value_head.json"),
     (lambda folder: (folder / "value_head.json").write_text('{"layers": ["linear"], "critic": "token"}'),
      "describes no critic"),
     (lambda folder: (folder / "value_head.safetensors").unlink(), "value_head.safetensors is missing"),
     (lambda folder: damage_tensors(folder, lambda tensors: tensors.pop("out.bias")),
      "tensor out.bias is missing"),
     (lambda folder: damage_tensors(folder, lambda tensors: tensors.update(more=np.zeros(1))),
      "tensor more is used by nothing"),
     (lambda folder: damage_tensors(
          folder, lambda tensors: tensors.update({"out.weight": np.zeros((12, 1), np.float32)})),
      r"out.weight has shape \[12, 1\], not \[1, 12\]")])
def test_a_damaged_critic_is_refused_by_name(tmp_path, damage, message):
    bridges.export_critic(make_critic(), tmp_path / "critic", "org/base")
    damage(tmp_path / "critic")
    with pytest.raises(bridges.BridgeError, match=message):
        bridges.load_critic(tmp_path / "critic")
