import dataclasses
import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxrl_moe.config import OptimizerSection
from jaxrl_moe.learning.batch import micro_batches, sample_weights
from jaxrl_moe.learning.make import LearnerSettings, build_learner
from jaxrl_moe.learning.optimizer import learning_rate, optimizer
from jaxrl_moe.learning.samples import from_conversations
from jaxrl_moe.model.config import LoraConfig, ModelConfig
from jaxrl_moe.model.passes import Pass
from jaxrl_moe.model.transformer import Transformer
from jaxrl_moe.rl.metrics import Merge, Metrics
from jaxrl_moe.rl.types import LossOutputs
from tests.helpers.close import assert_close

CONFIG = ModelConfig(family="qwen3_moe", vocab_size=47, hidden_size=16, num_layers=2, num_heads=4,
                     num_kv_heads=2, head_dim=8, intermediate_size=24, sparse_layers=(True, True),
                     windows=(0, 0), num_experts=4, num_experts_per_tok=2, moe_intermediate_size=12,
                     norm_topk_prob=True, initializer_range=0.3)
LORA = LoraConfig(rank=3, alpha=6.0)
SECTION = OptimizerSection(learning_rate=1e-2, clip_norm=0.0)


def nll(inputs):
    loss = -jnp.sum(inputs.weights_BT * inputs.mask_BT * inputs.logprobs_BT)
    worst = jnp.max(-inputs.logprobs_BT * inputs.mask_BT)
    metrics = Metrics(Merge.UPDATE_MEAN, {"nll": loss}) | Metrics(Merge.MAXIMUM, {"worst": worst})
    return LossOutputs(loss, metrics)


def broken(inputs):
    return LossOutputs(jnp.log(-jnp.abs(jnp.sum(inputs.logprobs_BT))), Metrics.empty())


def learner(lora=LORA, section=SECTION, dtype=jnp.float32, **options):
    model = Transformer(CONFIG, lora=lora, dtype=dtype, rngs=nnx.Rngs(0))
    return build_learner(model, LearnerSettings(section, 100, **options))


def samples():
    rng = np.random.default_rng(0)
    lengths = [19, 5, 12, 2, 30, 9]
    return from_conversations([(rng.integers(0, 47, n), np.r_[0, rng.integers(0, 2, n - 2), 1])
                               for n in lengths])


def batches(tokens=1000, pack=True):
    chosen = samples()
    packed = micro_batches(chosen, tokens, pack, sample_weights(chosen, "token-mean"))
    return [item.batch for item in packed]


@pytest.mark.parametrize("lora", [LORA, None], ids=["lora", "full"])
def test_splits_and_packing_change_neither_loss_nor_update(lora):
    results = []
    for tokens, pack in ((1000, True), (40, True), (32, False)):
        one = learner(lora)
        metrics = one.update(batches(tokens, pack), nll)
        results.append((one.state.trainable, metrics["loss"], metrics["policy/grad_norm"], metrics["worst"],
                        metrics["load"]))
    assert len(batches(32, False)) > 2
    for other in results[1:]:
        np.testing.assert_array_equal(other[-1], results[0][-1])
        assert_close(other[1:4], results[0][1:4])
        # Adam divides by the gradient's own size, so compare where the gradient is not rounding noise.
        assert_close(other[0], results[0][0], 1e-3)


def test_an_update_is_the_gradient_of_the_plain_loss_through_adamw():
    """Against logits of the whole model, log_softmax and optax called by hand."""
    one = learner(None, dataclasses.replace(SECTION, weight_decay=0.1))
    model = one.model()
    graphdef, params = nnx.split(model)

    chosen = samples()
    ids, mask = np.zeros((2, len(chosen), 30), np.int32)
    for row, sample in enumerate(chosen):
        ids[row, :len(sample.ids_T)], mask[row, :len(sample.ids_T)] = sample.ids_T, sample.mask_T
    positions = np.tile(np.arange(30), (len(chosen), 1))

    def loss(params):
        model = nnx.merge(graphdef, params)
        logprobs = jax.nn.log_softmax(model.logits(model(ids, Pass(positions, np.ones_like(ids)))[0]))[:, :-1]
        return -jnp.sum(
            mask[:, :-1] * jnp.take_along_axis(logprobs, ids[:, 1:, None], -1)[..., 0]) / mask.sum()

    value, gradient = jax.jit(jax.value_and_grad(loss))(params)
    metrics = one.update(batches(), nll)
    assert_close((metrics["loss"], metrics["policy/grad_norm"]), (value, optax.tree.norm(gradient)))
    flat = dict(nnx.to_flat_state(gradient))
    moments = dict(
        nnx.to_flat_state(
            next(s.mu for s in jax.tree.leaves(one.state.opt_state, is_leaf=lambda s: hasattr(s, "mu"))
                 if hasattr(s, "mu"))))
    for path, moment in moments.items():
        assert_close(moment[...], 0.1 * flat[path][...], 1e-5)


def test_only_adapters_move_and_the_frozen_arrays_are_the_models_own():
    model = Transformer(CONFIG, lora=LORA, rngs=nnx.Rngs(0))
    frozen = {
        path: v[...] for path, v in nnx.to_flat_state(nnx.state(model)) if not path[-1].startswith("lora")
    }
    one = build_learner(model, LearnerSettings(SECTION, 100))
    one.update(batches(), nll)
    after = dict(nnx.to_flat_state(one.params()))
    assert all(after[path][...] is value for path, value in frozen.items())
    assert np.abs(after["stacks", 0, "mlp", "up_proj", "lora_b"][...]).max() > 0


def test_logprobs_are_those_of_the_logits_and_zero_where_not_asked():
    one = learner()
    one.update(batches(), nll)
    batch = batches(1000, pack=False)[0]
    for adapters, temperature in ((True, 1.0), (True, 0.7), (False, 1.0)):
        got = one.forward(batch, reference=not adapters, temperature=temperature).logprobs_BT
        model = one.model()
        call = Pass(batch.positions_BT, batch.segments_BT, adapters)
        hidden, _ = nnx.jit(lambda model: model(batch.tokens_BT, call))(model)  # noqa: B023
        expected = jax.nn.log_softmax(model.logits(hidden) / temperature)
        expected = jnp.take_along_axis(expected, batch.targets_BT[..., None], -1)[..., 0] * batch.mask_BT
        assert_close(got, expected)


def test_a_non_finite_loss_changes_nothing_and_says_so():
    one = learner()
    before = jax.tree.map(np.asarray, one.state)
    metrics = one.update(batches(), broken)
    assert not metrics["finite"]
    for new, old in zip(jax.tree.leaves(one.state), jax.tree.leaves(before)):
        np.testing.assert_array_equal(new, old)


def test_full_training_of_bfloat16_weights_keeps_float32_masters():
    one = learner(None, dataclasses.replace(SECTION, learning_rate=1e-5), dtype=jnp.bfloat16)
    for _ in range(3):
        one.update(batches(), nll)
    masters, weights = (dict(nnx.to_flat_state(state)) for state in (one.state.trainable, one.params()))
    path = ("stacks", 0, "attention", "q_proj", "weight")
    assert masters[path].dtype == jnp.float32 and weights[path].dtype == jnp.bfloat16
    # Steps far below bfloat16's spacing are kept in the masters.
    assert np.abs(masters[path][...] - weights[path][...].astype(jnp.float32)).max() > 0


def test_dropout_draws_the_same_again_from_the_same_seed_and_step():
    lora = dataclasses.replace(LORA, dropout=0.3)
    results = []
    for seed in (0, 0, 1):
        one = learner(lora, seed=seed)
        one.update(batches(), nll)
        results.append(float(one.update(batches(), nll)["loss"]))
    assert results[0] == results[1] != results[2]


def test_a_second_batch_of_the_same_shape_compiles_nothing():
    one = learner()
    one.update(batches(40), nll)
    sizes = one.programs.gradients._cache_size(), one.programs.apply._cache_size()
    one.update(batches(40), nll)
    assert (one.programs.gradients._cache_size(), one.programs.apply._cache_size()) == sizes


@pytest.mark.parametrize("schedule, at_end", [("constant", 1.0), ("cosine", 0.0), ("linear", 0.0)])
def test_schedules_warm_up_to_the_peak_and_end_where_they_should(schedule, at_end):
    rate = learning_rate(OptimizerSection(learning_rate=2.0, schedule=schedule, warmup_steps=10), 110)
    assert rate(0) == 0 and abs(rate(5) - 1.0) < 1e-6 and abs(rate(10) - 2.0) < 1e-6
    assert abs(rate(110) - 2.0 * at_end) < 1e-6
    halfway = {"constant": 2.0, "cosine": 1.0, "linear": 1.0}[schedule]
    assert abs(rate(60) - halfway) < 1e-6


def test_norm_weights_are_not_decayed():
    model = Transformer(CONFIG, rngs=nnx.Rngs(0))
    params = nnx.state(model, nnx.Param)
    transform = optimizer(OptimizerSection(learning_rate=1.0, weight_decay=0.5), 10)
    zero = jax.tree.map(jnp.zeros_like, params)
    updates = dict(nnx.to_flat_state(transform.update(zero, transform.init(params), params)[0]))
    assert not np.asarray(updates["norm", "weight"][...]).any()
    assert not np.asarray(updates["stacks", 0, "attention", "q_norm", "weight"][...]).any()
    assert np.asarray(updates["embed", "weight"][...]).any()


def test_a_learner_that_is_dropped_frees_its_arrays_at_once():
    one = learner()
    one.update(batches(), nll)
    array = weakref.ref(jax.tree.leaves(one.state.trainable)[0])
    gc.disable()
    try:
        del one
        assert array() is None
    finally:
        gc.enable()
