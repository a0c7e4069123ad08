"""The critic end to end: from rollouts and a tiny model's values to advantages, returns, value loss and
gradients."""
import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxrl_moe.config import (
    AlgorithmSection,
    Config,
    CriticSection,
    DataSection,
    LoggingSection,
    OptimizerSection,
    RolloutSection,
    TrainSection,
)
from jaxrl_moe.distributed.mesh import make_placement
from jaxrl_moe.learning.credit.advantages import with_advantages
from jaxrl_moe.learning.make import LearnerSettings, build_learner
from jaxrl_moe.learning.objective import make_policy_objective
from jaxrl_moe.learning.optimizer import optimizer
from jaxrl_moe.learning.prepare import lay_out, prepare
from jaxrl_moe.learning.samples import from_groups
from jaxrl_moe.learning.update import loss_weights, update
from jaxrl_moe.model.config import LoraConfig, ModelConfig
from jaxrl_moe.model.passes import Pass
from jaxrl_moe.model.transformer import Transformer
from jaxrl_moe.model.value_head import ValueHead
from jaxrl_moe.rl.metrics import Merge, Metrics
from jaxrl_moe.rl.table import AlgorithmError
from jaxrl_moe.runs.metrics import update_metrics
from tests.helpers import rollouts
from tests.helpers.close import assert_close, relative
from tests.helpers.parity import randomise_adapters
from tests.rl import cases, oracle

MODEL = ModelConfig(family="qwen3", vocab_size=96, hidden_size=16, num_layers=2, num_heads=4, num_kv_heads=2,
                    head_dim=8, intermediate_size=24, sparse_layers=(False, False), windows=(0, 0),
                    initializer_range=0.3)
PLAIN = OptimizerSection(learning_rate=1e-2, clip_norm=0.0)
GAE = Config(
    algorithm=AlgorithmSection(advantage="gae", aggregation="token-mean", gamma=0.9, lam=0.8,
                               truncated="bootstrap", kl_coef=0.2, kl_estimator="k1",
                               kl_in="reward"), critic=CriticSection(coef=0.7, clip=0.1),
    data=DataSection(max_prompt_tokens=6), rollout=RolloutSection(max_tokens=12),
    train=TrainSection(tokens_per_micro_batch=144), logging=LoggingSection(entropy=False))
LAST = dataclasses.replace(GAE, critic=CriticSection(clip=0.0), algorithm=AlgorithmSection(
    advantage="last_token_critic", loss="reinforce", aggregation="token-mean", kl_coef=0.0))
CONFIGS = pytest.mark.parametrize("config", [GAE, LAST], ids=["gae", "last_token"])


def make_learner(config=GAE, critic=True, placement=None, **section):
    model = Transformer(MODEL, lora=LoraConfig(rank=3, alpha=6.0, targets=("q_proj", "down_proj")),
                        dtype=jnp.float32, rngs=nnx.Rngs(0))
    randomise_adapters(model)
    head = ValueHead(MODEL.hidden_size, rngs=nnx.Rngs(7))
    head.out.set_value(60 * head.out[...])  # values of the size of the rewards
    section = dataclasses.replace(PLAIN, **section)
    settings = LearnerSettings(section, 100, critic=config.critic if critic else None)
    return build_learner(model, settings, placement, head)


def make_groups():
    """Masked turns, a truncated completion, a completion of one token, and a group of one."""
    rng = np.random.default_rng(3)
    groups = rollouts.groups(seed=5, count=3, size=3, holes=True)
    groups[0].rollouts[0] = rollouts.rollout(rng, 2, 6, 1.0, truncated=True)
    groups[1].rollouts[0] = rollouts.rollout(rng, 1, 1, 0.5)
    return [*groups, rollouts.group([rollouts.rollout(rng, 3, 7, 1.0, holes=True)], 3)]


@nnx.jit
def run_model(model, ids_BT):
    return model(ids_BT, Pass(jnp.arange(ids_BT.shape[1])[None], jnp.ones_like(ids_BT)))[0]


def hidden(learner, samples):
    """[T, D] hidden states of each sequence, run in a row of its own; what stands after its end does not
    reach it."""
    ids = np.zeros((len(samples), 20), np.int32)
    for row, sample in enumerate(samples):
        ids[row, :len(sample.ids_T)] = sample.ids_T
    states = np.asarray(run_model(learner.model(), ids), np.float64)
    return [row[:len(sample.ids_T)] for row, sample in zip(states, samples)]


def head_arrays(learner):
    head = learner.value_head()
    return {
        name: np.asarray(getattr(head, name)[...], np.float64)
        for name in ("dense", "dense_bias", "out", "out_bias")
    }


def values(head, hidden_TD):
    return (np.tanh(hidden_TD @ head["dense"] + head["dense_bias"]) @ head["out"] + head["out_bias"])[:, 0]


def trained(sample):
    return [t for t in range(len(sample.mask_T)) if sample.mask_T[t]]


def expected_gae(learner, samples, config):
    """{t: A_t} before whitening and {t: return_t} of each sample, by loops."""
    algorithm = config.algorithm
    head = head_arrays(learner)
    advantages = []
    returns = []
    for sample, states in zip(samples, hidden(learner, samples)):
        v = values(head, states)
        rewards = [
            -algorithm.kl_coef * float(o - f) for o, f in zip(sample.old_logprobs_T, sample.ref_logprobs_T)
        ]
        rewards[trained(sample)[-1]] += sample.reward
        after = v[-1] if sample.truncated else 0.0
        advantages.append(oracle.gae(rewards, v, sample.mask_T, algorithm.gamma, algorithm.lam, after))
        returns.append({t: a + v[t] for t, a in advantages[-1].items()})
    return advantages, returns


def test_advantages_and_returns_of_gae_are_those_of_loops_over_the_models_own_values():
    learner = make_learner()
    samples = prepare(make_groups(), learner, GAE)
    assert sum(s.truncated for s in samples) == 1 and any(s.trained_tokens == 1 for s in samples)
    assert any(0 in s.mask_T[min(trained(s)):max(trained(s))] for s in samples)
    advantages, returns = expected_gae(learner, samples, GAE)
    white = oracle.whiten([a for one in advantages for a in one.values()])
    cases.assert_close(np.concatenate([s.advantages_T[s.mask_T > 0] for s in samples]), white)
    for sample, one in zip(samples, returns):
        cases.assert_close(sample.returns_T[sample.mask_T > 0], list(one.values()))
        np.testing.assert_array_equal(sample.value_mask_T, sample.mask_T)


def test_the_last_token_critic_compares_centred_rewards_with_one_value_a_sequence():
    learner = make_learner(LAST)
    groups = make_groups()
    samples = prepare(groups, learner, LAST)
    head = head_arrays(learner)
    rewards = [[r.reward for r in g.rollouts] for g in groups]
    centred = [r - np.mean(row) if len(row) > 1 else r for row in rewards for r in row]
    assert centred[-1] == 1.0  # a group of one keeps its raw reward
    last = [values(head, states)[-1] for states in hidden(learner, samples)]
    expected = np.clip(oracle.whiten([c - v for c, v in zip(centred, last)]), -3, 3)
    for sample, advantage, target in zip(samples, expected, centred):
        assert relative(sample.advantages_T, np.full(len(sample.ids_T), advantage)) < 1e-5
        np.testing.assert_allclose(sample.returns_T, [0] * (len(sample.ids_T) - 1) + [target], rtol=1e-6)
        assert sample.value_mask_T.tolist() == [0] * (len(sample.ids_T) - 1) + [1]


def test_a_sequence_without_trained_tokens_takes_no_part_in_either_critic():
    samples = from_groups(make_groups(), AlgorithmSection(truncated="mask"))
    values_T = [np.arange(len(s.ids_T), dtype=np.float32) for s in samples]
    for spec in ("gae", "last_token_critic"):
        changed = [dataclasses.replace(s, values_T=v) for s, v in zip(samples, values_T)]
        other = [dataclasses.replace(changed[0], values_T=values_T[0] + 5), *changed[1:]]
        plain = with_advantages(changed, spec)
        moved = with_advantages(other, spec)
        assert not plain[0].value_mask_T.any()
        for one, two in zip(plain[1:], moved[1:]):
            np.testing.assert_array_equal(one.advantages_T, two.advantages_T)


def test_a_completion_of_one_token_has_the_reward_as_its_return():
    (sample,) = from_groups([rollouts.group([rollouts.rollout(np.random.default_rng(0), 1, 1, 0.5)])])
    (judged,) = with_advantages([dataclasses.replace(sample, values_T=np.array([0.2, 9.0], np.float32))],
                                "gae")
    assert judged.returns_T[0] == 0.5 and judged.value_mask_T.tolist() == [
        1, 0
    ] and judged.advantages_T.tolist() == [0, 0]


def test_a_critics_advantage_needs_values():
    with pytest.raises(AlgorithmError, match="run the policy with its critic first"):
        with_advantages(from_groups(make_groups()), "gae")


def batches(samples, learner, config):
    return [one.batch for one in lay_out(samples, learner, config, **loss_weights(samples, config))]


def total(learner, parts, config):
    """Loss, gradient of (policy, critic) and metrics of one minibatch, nothing applied."""
    found = learner.totals(parts, make_policy_objective(config.algorithm, config.critic))
    metrics = update_metrics([found.means | found.maxima | Metrics(Merge.UPDATE_MEAN, {"loss": found.loss})])
    return types.SimpleNamespace(loss=found.loss, policy=found.gradient[0], critic=found.gradient[1],
                                 metrics=metrics)


@pytest.fixture(scope="module", params=[GAE, LAST], ids=["gae", "last_token"])
def moved(request):
    """A learner one update after its samples were prepared, so that values have left V_old; and those
    samples."""
    config = request.param
    learner = make_learner(config, learning_rate=3e-2)
    samples = prepare(make_groups(), learner, config)
    learner.update(batches(samples, learner, config), make_policy_objective(config.algorithm, config.critic))
    return config, learner, samples


def value_oracle(config, samples, states, head):
    """0.5 mean max((V - Ret)^2, (clip(V, V_old +- eps) - Ret)^2) in float64, and how often the clipped one
    was larger."""
    clip = config.critic.clip
    losses = []
    clipped = []
    for sample, hidden_TD in zip(samples, states):
        v = values(head, hidden_TD)
        for t in np.flatnonzero(sample.value_mask_T):
            old = float(sample.values_T[t])
            target = float(sample.returns_T[t])
            near = min(max(v[t], old - clip), old + clip) if clip else v[t]
            losses.append(0.5 * max((v[t] - target) ** 2, (near - target) ** 2))
            clipped.append((near - target) ** 2 > (v[t] - target) ** 2)
    return np.mean(losses), np.mean(clipped)


def test_value_loss_and_metrics_equal_the_loop(moved):
    config, learner, samples = moved
    found = total(learner, batches(samples, learner, config), config)
    loss, clipped = value_oracle(config, samples, hidden(learner, samples), head_arrays(learner))
    assert found.metrics["critic/value_loss"] == pytest.approx(loss, rel=1e-5)
    assert found.metrics["critic/clip_frac"] == pytest.approx(clipped, abs=1e-6)
    assert (clipped > 0) == (config is GAE)
    old, returns = (np.concatenate([getattr(s, f)[s.value_mask_T > 0] for s in samples]).astype(float)
                    for f in ("values_T", "returns_T"))
    assert found.metrics["critic/explained_variance"] == pytest.approx(
        1 - np.var(returns - old) / np.var(returns), rel=1e-4)
    assert float(found.loss) == pytest.approx(found.metrics["policy/loss"] + config.critic.coef * loss,
                                              rel=1e-5)


def test_the_heads_gradient_equals_finite_differences_of_the_loop(moved):
    config, learner, samples = moved
    head = head_arrays(learner)
    states = hidden(learner, samples)
    gradient = nnx.to_pure_dict(total(learner, batches(samples, learner, config), config).critic)
    rng = np.random.default_rng(0)
    step = 1e-6
    for name, array in head.items():
        largest = np.abs(gradient[name]).max()
        for index in {tuple(rng.integers(0, n) for n in array.shape) for _ in range(6)}:
            sides = []
            for sign in (1, -1):
                shifted = array.copy()
                shifted[index] += sign * step
                sides.append(value_oracle(config, samples, states, head | {name: shifted})[0])
            expected = config.critic.coef * (sides[0] - sides[1]) / (2 * step)
            assert abs(gradient[name][index] - expected) <= 1e-5 * largest, (name, index)


def frozen_trunk(config):
    return dataclasses.replace(config, critic=dataclasses.replace(config.critic, train_trunk=False))


@pytest.fixture(scope="module")
def trunks():
    """A learner, its samples in micro-batches, and their totals with the trunk trained by the value loss and
    without."""
    learner = make_learner()
    parts = batches(prepare(make_groups(), learner, GAE), learner, GAE)
    return learner, parts, total(learner, parts, GAE), total(make_learner(frozen_trunk(GAE)), parts, GAE)


def test_without_the_trunk_the_policys_gradient_is_that_of_a_run_without_a_critic(trunks):
    _, parts, whole, apart = trunks
    none = total(make_learner(critic=False), parts, GAE)
    assert_close(apart.policy, none.policy, 1e-6)
    assert_close(apart.critic, whole.critic, 1e-6)


def test_with_the_trunk_an_adapters_gradient_equals_finite_differences(trunks):
    """Of the value loss through the whole model, along the gradient's own direction."""
    learner, parts, whole, apart = trunks
    start = learner.state.trainable
    gradient = jax.tree.map(jnp.subtract, whole.policy, apart.policy)
    size = optax.tree.norm(gradient)
    step = 3e-3
    assert size > 0.05

    def loss(distance):
        shifted = jax.tree.map(lambda x, g: x + distance * g / size, start, gradient)
        learner.state = learner.state._replace(trainable=shifted)
        return GAE.critic.coef * total(learner, parts, GAE).metrics["critic/value_loss"]

    assert (loss(step) - loss(-step)) / (2 * step) == pytest.approx(float(size), rel=2e-3)


def test_micro_batches_and_packing_change_neither_value_loss_nor_gradient(moved):
    config, learner, samples = moved
    whole = total(learner, batches(samples, learner, config), config)
    for tokens, pack, count in [(24, True, 4)] + [(144, False, 1)] * (config is GAE):
        cut = dataclasses.replace(config, train=TrainSection(tokens_per_micro_batch=tokens, pack=pack))
        parts = batches(samples, learner, cut)
        assert len(parts) == count
        other = total(learner, parts, cut)
        assert_close((other.policy, other.critic), (whole.policy, whole.critic))
        for name in ("value_loss", "clip_frac", "explained_variance"):
            assert other.metrics[f"critic/{name}"] == pytest.approx(whole.metrics[f"critic/{name}"], rel=1e-5,
                                                                    abs=1e-6)
        # whitened advantages nearly cancel in it
        assert float(other.loss) == pytest.approx(float(whole.loss), abs=1e-6)


def test_a_mesh_changes_neither_values_nor_value_loss_nor_gradient(trunks):
    """Rows, tokens and heads are split in two each."""
    _, _, whole, _ = trunks
    learner = make_learner(placement=make_placement({"data": 2, "context": 2, "tensor": 2}))
    other = total(learner, batches(prepare(make_groups(), learner, GAE), learner, GAE), GAE)
    assert_close(jax.device_get((other.policy, other.critic)), (whole.policy, whole.critic))
    assert other.metrics["critic/value_loss"] == pytest.approx(whole.metrics["critic/value_loss"], rel=1e-5)


def test_the_head_is_clipped_by_its_own_norm_and_has_its_own_learning_rate():
    learner = make_learner(critic=True, clip_norm=0.05, weight_decay=0.1)
    samples = prepare(make_groups(), learner, GAE)
    before = learner.state.critic
    gradient = total(learner, batches(samples, learner, GAE), GAE).critic
    norm = optax.tree.norm(gradient)
    assert norm > 0.05
    section = OptimizerSection(learning_rate=GAE.critic.learning_rate, clip_norm=0.05, weight_decay=0.1)
    transform = optimizer(section, 100)
    expected, _ = transform.update(gradient, transform.init(before), before)
    start = jax.tree.map(np.asarray, before)
    metrics = learner.update(batches(samples, learner, GAE), make_policy_objective(GAE.algorithm, GAE.critic))
    assert_close(learner.state.critic, optax.apply_updates(start, expected), 1e-6)
    assert float(metrics["critic/grad_norm"]) == pytest.approx(float(norm), rel=1e-5)
    assert float(metrics["critic/lr"]) == pytest.approx(5e-5) and float(
        metrics["policy/lr"]) == pytest.approx(1e-2)


def test_the_heads_biases_are_not_decayed():
    head = nnx.state(ValueHead(4, rngs=nnx.Rngs(0)))
    head = jax.tree.map(lambda x: x + 1, head)
    transform = optimizer(OptimizerSection(learning_rate=1.0, weight_decay=0.5), 10)
    updates = nnx.to_pure_dict(
        transform.update(jax.tree.map(jnp.zeros_like, head), transform.init(head), head)[0])
    assert not updates["dense_bias"].any() and not updates["out_bias"].any() and updates["dense"].any(
    ) and updates["out"].any()


@CONFIGS
def test_the_critic_learns_which_prompt_pays(config):
    """Two prompts of constant reward, 1 and 0, one completion each: the value tells them apart, and little is
    left to explain."""
    algorithm = dataclasses.replace(config.algorithm, gamma=1.0, lam=1.0, kl_coef=0.0, kl_in="loss",
                                    truncated="keep")
    config = dataclasses.replace(config, algorithm=algorithm, critic=CriticSection(learning_rate=1e-2))
    rng = np.random.default_rng(1)
    groups = [
        rollouts.group([rollouts.rollout(rng, 3, 4, float(pays))], i) for i, pays in enumerate((1, 0, 1, 0))
    ]
    for group in groups:  # the prompt's first token decides
        group.rollouts[0].prompt_ids[:] = 11 if group.rollouts[0].reward else 12
    learner = make_learner(config, learning_rate=1e-3)
    objective = make_policy_objective(config.algorithm, config.critic)
    explained = []
    for step in range(25):
        ((metrics, _),) = update(prepare(groups, learner, config), learner, objective, config, step)
        explained.append(update_metrics([metrics])["critic/explained_variance"])
    assert explained[0] < 0.3 and explained[-1] > 0.5
