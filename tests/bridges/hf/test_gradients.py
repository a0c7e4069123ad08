"""Gradients of LoRA equal PEFT's on the same weights, block by block.

PEFT holds the gate and up projections of all experts as one layer of twice the rank: A stacks the two As, and
B has one block of the diagonal for each. Its other blocks have gradients of their own, which have no
counterpart here.
"""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import bridges
from bridges.hf.importing import adapters
from jaxrl_moe.model.config import LoraConfig
from jaxrl_moe.model.passes import Pass
from tests.helpers import oracles
from tests.helpers.parity import randomise_adapters, relative, tokens
from tests.helpers.tiny_models import make_checkpoint

EXPERTS = 4
RANK = 3


def our_gradients(model, ids_BT):
    """{path: gradient of the mean next-token loss}, for the adapters only."""
    graphdef, low_rank, rest = nnx.split(model, nnx.LoRAParam, ...)
    positions_BT = jnp.broadcast_to(jnp.arange(ids_BT.shape[1]), ids_BT.shape)

    def loss(low_rank):
        model = nnx.merge(graphdef, low_rank, rest)
        logits = model.logits(model(ids_BT, Pass(positions_BT, jnp.ones_like(positions_BT)))[0])[:, :-1]
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), ids_BT[:, 1:, None], axis=-1).mean()

    gradients = nnx.merge(graphdef, jax.jit(jax.grad(loss))(low_rank), rest)
    return {path: np.asarray(variable[...]) for path, variable in adapters(gradients).items()}


def peft_gradients(folder, adapter, ids_BT):
    """{name without prefix and adapter name: gradient} of the same loss."""
    torch = oracles.torch()
    model = oracles.peft_model(folder, adapter, is_trainable=True)
    logits = model(torch.tensor(ids_BT)).logits[:, :-1]
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.tensor(ids_BT[:, 1:]).flatten()).backward()
    return {
        name.removeprefix("base_model.model.model.").replace(".default.weight", ""): parameter.grad.numpy()
        for name, parameter in model.named_parameters() if parameter.requires_grad
    }


def expert_blocks(theirs, layer):
    """{our name: [E, in, r] or [E, r, out]} from PEFT's two layers that hold all experts."""
    stem = f"layers.{layer}.mlp.experts"
    a = theirs[f"{stem}.base_layer.lora_A"].reshape(EXPERTS, 2, RANK, -1)
    b = theirs[f"{stem}.base_layer.lora_B"]
    # half of the outputs, output, half of the ranks, rank, expert
    b = b.reshape(2, b.shape[0] // 2, 2, RANK, EXPERTS)
    down_a = theirs[f"{stem}.lora_A"].reshape(EXPERTS, RANK, -1)
    down_b = theirs[f"{stem}.lora_B"]
    down_b = down_b.reshape(down_b.shape[0], RANK, EXPERTS)
    return {
        "gate_proj.lora_a": a[:, 0].transpose(0, 2, 1), "gate_proj.lora_b": b[0, :, 0].transpose(2, 1, 0),
        "up_proj.lora_a": a[:, 1].transpose(0, 2, 1), "up_proj.lora_b": b[1, :, 1].transpose(2, 1, 0),
        "down_proj.lora_a": down_a.transpose(0, 2, 1), "down_proj.lora_b": down_b.transpose(2, 1, 0)}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("length", [30, 50], ids=["every expert on every token", "rows sorted by expert"])
@pytest.mark.parametrize("options", [{}, dict(num_experts_per_tok=1, norm_topk_prob=False)],
                         ids=["two of four", "one of four"])
def test_lora_gradients_of_attention_and_experts_equal_those_of_peft(options, length, tmp_path):
    make_checkpoint(tmp_path / "hf", tokenizer=False, num_hidden_layers=2, **options)
    model = bridges.load_model(tmp_path / "hf", lora=LoraConfig(RANK, 6.0))
    randomise_adapters(model)
    bridges.export_adapter(model, tmp_path / "adapter", base=tmp_path / "hf")
    ids_BT = tokens(length=length)
    ours = our_gradients(model, ids_BT)
    theirs = peft_gradients(tmp_path / "hf", tmp_path / "adapter", ids_BT)
    compared = 0
    for layer in range(2):
        for name, gradient in expert_blocks(theirs, layer).items():
            assert relative(ours[f"stacks.0.mlp.{name}"][layer], gradient) < 1e-5, (layer, name)
            compared += 1
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            for half in ("A", "B"):
                gradient = theirs[f"layers.{layer}.self_attn.{name}.lora_{half}"].T
                assert relative(ours[f"stacks.0.attention.{name}.lora_{half.lower()}"][layer],
                                gradient) < 1e-5, (layer, name, half)
                compared += 1
    assert compared == sum(gradient.shape[0] for gradient in ours.values())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "options", [dict(family="qwen3"),
                dict(family="qwen3", attention_bias=True, tie_word_embeddings=True)])
def test_lora_gradients_of_a_dense_model_equal_those_of_peft(options, tmp_path):
    make_checkpoint(tmp_path / "hf", tokenizer=False, num_hidden_layers=2, **options)
    model = bridges.load_model(tmp_path / "hf", lora=LoraConfig(RANK, 6.0, rslora=True))
    randomise_adapters(model)
    bridges.export_adapter(model, tmp_path / "adapter", base=tmp_path / "hf")
    ours = our_gradients(model, tokens())
    theirs = peft_gradients(tmp_path / "hf", tmp_path / "adapter", tokens())
    for path, gradient in ours.items():
        _, _, block, name, half = path.split(".")
        block = "self_attn" if block == "attention" else block
        for layer in range(2):
            expected = theirs[f"layers.{layer}.{block}.{name}.lora_{half[-1].upper()}"].T
            assert relative(gradient[layer], expected) < 1e-5, (path, layer)
