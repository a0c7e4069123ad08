"""Router replay: the given experts are those used, in every pass, and they take a noisy sampler's mismatch
away."""
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxrl_moe.config import base, resolve
from jaxrl_moe.engine.engine import JaxEngine
from jaxrl_moe.learning import samples as S
from jaxrl_moe.learning.prepare import reference_logprobs, with_forward
from jaxrl_moe.learning.replay import engine_routes, replay_metrics
from jaxrl_moe.model.moe import Router
from jaxrl_moe.rl.metrics import Metrics
from jaxrl_moe.rl.table import AlgorithmError
from jaxrl_moe.rl.types import LossOutputs
from jaxrl_moe.rollout.collect import draw
from jaxrl_moe.types import Prompt, Rollout, RolloutGroup, SamplingParams
from tests.helpers import moe_case, rollouts
from tests.helpers.close import assert_close, relative


def nll(inputs):
    loss = -jnp.sum(inputs.weights_BT * inputs.mask_BT * inputs.logprobs_BT)
    return LossOutputs(loss, Metrics.empty())


def config(replay="none", **settings):
    section = base()
    section.moe.replay = replay
    section.train.tokens_per_micro_batch = 256
    section.data.max_prompt_tokens = 12
    section.rollout.max_tokens = 24
    section.update_from_flattened_dict({key.replace("__", "."): value for key, value in settings.items()})
    return resolve(section)


def with_router_noise(params, model, std):
    """The parameters with noise on the router weights alone."""
    routers = {path for path, module in nnx.iter_modules(model) if isinstance(module, Router)}
    key = iter(jax.random.split(jax.random.key(1), 9))
    flat = {
        path: jax.tree.map(lambda x: x + std * jax.random.normal(next(key), x.shape), value)
        if path[:-1] in routers else value for path, value in nnx.to_flat_state(params)
    }
    return nnx.from_flat_state(flat)


def drawn(model, params):
    """Samples that an engine drew with these parameters, with its log-probs and routes."""
    rng = np.random.default_rng(0)
    engine = JaxEngine(model, dataclasses.replace(config().rollout, slots=32, page_size=8),
                       max_prompt_tokens=12)
    engine.publish(params, 0)
    numbered = [(Prompt(rng.integers(0, 47, n).astype(np.int32), {}, n), i)
                for i, n in enumerate((1, 3, 7, 8, 9, 12))]
    groups = [
        RolloutGroup(prompt, [
            Rollout(prompt.ids, one.ids, np.ones(len(one.ids), np.int32), one.logprobs, one.policy_version,
                    0.0, "", True, {}, expert_ids=one.expert_ids) for one in completions
        ], sequence) for prompt, sequence, completions in draw(
            numbered, engine, SamplingParams(24, n=6, return_routed_experts=True))
    ]
    return S.from_groups(groups)


def mismatch_kl(samples):
    """k3 of the trainer's log-probs against the sampler's, over trained tokens."""
    log_rho = np.concatenate([(s.old_logprobs_T - s.sampler_logprobs_T)[s.mask_T > 0]
                              for s in samples]).astype(np.float64)
    return np.mean(np.expm1(log_rho) - log_rho)


def test_noise_on_the_samplers_router_logits_is_taken_away_by_replay():
    model = moe_case.model()
    params = nnx.state(model)
    noisy = drawn(model, with_router_noise(params, model, 0.02))
    learner = moe_case.learner()
    routes = engine_routes(noisy, learner.config)
    plain = [dataclasses.replace(sample, expert_ids_TLA=None) for sample in noisy]
    without = mismatch_kl(with_forward(plain, learner, config()))
    replayed = mismatch_kl(with_forward(routes, learner, config("r3")))
    assert without > 1e-5 and replayed < without / 5, (without, replayed)


def test_without_noise_the_engines_routes_are_those_of_the_trainer_and_replaying_them_changes_nothing():
    model = moe_case.model()
    samples = drawn(model, nnx.state(model))
    learner = moe_case.learner()
    live = with_forward([dataclasses.replace(sample, expert_ids_TLA=None) for sample in samples], learner,
                        config("r2"))
    for sample, own in zip(samples, live, strict=True):
        np.testing.assert_array_equal(np.sort(sample.expert_ids_TLA[:-1]), np.sort(own.expert_ids_TLA[:-1]))
        assert (sample.expert_ids_TLA[-1] == -1).all() and (own.expert_ids_TLA >= 0).all()
        assert own.expert_ids_TLA.dtype == np.int8
    assert mismatch_kl(with_forward(samples, learner, config("r3"))) < 1e-9


@pytest.mark.parametrize("remat", ["none", "full"])
def test_the_experts_used_are_exactly_those_given_and_the_live_ones_where_none_are(remat):
    samples = moe_case.conversations()
    given = moe_case.routed(samples)
    given[2][4:7] = -1
    one = moe_case.learner(remat=remat)
    for batch in moe_case.batches(S.with_values(samples, "expert_ids_TLA", given)):
        used, live = (np.asarray(one.forward(part, routes=True).expert_ids_BTLA)
                      for part in (batch, dataclasses.replace(batch, expert_ids_LBTA=None)))
        asked = np.moveaxis(batch.expert_ids_LBTA, 0, 2)
        np.testing.assert_array_equal(used[asked >= 0], asked[asked >= 0])
        # nothing differs below
        np.testing.assert_array_equal(used[:, :, 0][asked[:, :, 0] < 0], live[:, :, 0][asked[:, :, 0] < 0])


def test_the_update_counts_the_given_experts_in_packed_rows_and_over_micro_batches():
    samples = moe_case.conversations()
    given = moe_case.routed(samples)
    samples = S.with_values(samples, "expert_ids_TLA", given)
    expected = np.stack([
        np.bincount(np.concatenate([ids[:-1, layer].ravel() for ids in given]), minlength=8)
        for layer in range(2)
    ])
    one = moe_case.learner()
    for tokens, pack in ((1000, True), (32, False)):
        metrics = one.update(moe_case.batches(samples, tokens, pack), nll)
        # what is left are the last tokens, one of each sequence
        live = np.asarray(metrics["load"]) - expected
        assert (live >= 0).all() and (live.sum(axis=1) == 2 * len(samples)).all()
        assert metrics["slots"] == metrics["load"].sum() and metrics["dropped"] == 0


def test_rematerialisation_replays_too():
    samples = moe_case.conversations()
    batches = moe_case.batches(S.with_values(samples, "expert_ids_TLA", moe_case.routed(samples)))
    plain, again = (moe_case.gradients(moe_case.learner(remat=remat), batches, nll)
                    for remat in ("none", "full"))
    assert_close(again, plain)
    live, _ = moe_case.gradients(moe_case.learner(), moe_case.batches(samples), nll)
    assert max(relative(a, b) for a, b in zip(jax.tree.leaves(live), jax.tree.leaves(plain[0]))) > 0.1


def test_r2_keeps_the_routes_of_the_old_logprob_pass_while_the_router_moves():
    one = moe_case.learner()
    samples = with_forward(moe_case.conversations(), one, config("r2"))
    routes = [sample.expert_ids_TLA for sample in samples]
    expected = np.stack([
        np.bincount(np.concatenate([ids[:, layer].ravel() for ids in routes]), minlength=8)
        for layer in range(2)
    ])
    batches = moe_case.batches(samples)
    for _ in range(3):
        np.testing.assert_array_equal(one.update(batches, nll)["load"], expected)
    moved = one.update(moe_case.batches(moe_case.conversations()), nll)["load"]
    assert (np.asarray(moved) != expected).any()


def test_the_reference_policy_routes_live():
    one = moe_case.learner(moe_case.LORA)
    plain = moe_case.conversations()
    replayed = S.with_values(plain, "expert_ids_TLA", moe_case.routed(plain))
    for ours, theirs in zip(reference_logprobs(replayed, one, config("r3")),
                            reference_logprobs(plain, one, config()), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert any((a.old_logprobs_T != b.old_logprobs_T).any() for a, b in zip(
        with_forward(replayed, one, config("r3")), with_forward(plain, one, config()), strict=True))


def test_routes_cost_a_byte_for_each_layer_and_active_expert_up_to_128_experts():
    samples = S.from_groups(rollouts.groups(experts=8))
    samples = [dataclasses.replace(s, expert_ids_TLA=s.expert_ids_TLA.astype(np.int32)) for s in samples]
    sizes = {}
    for experts in (8, 128, 129, 512):
        model = dataclasses.replace(moe_case.CONFIG, num_experts=experts, num_experts_per_tok=3)
        metrics = replay_metrics(engine_routes(samples, model))
        sizes[experts] = metrics["moe/replay_bytes_per_token"]
        assert metrics["moe/replayed_frac"] == 1 - len(samples) / sum(len(s.ids_T) for s in samples)
    assert sizes == {8: 6, 128: 6, 129: 12, 512: 12}
    assert replay_metrics(S.from_groups(rollouts.groups())) == {}
    routed = engine_routes(samples, dataclasses.replace(moe_case.CONFIG, num_experts_per_tok=3))
    (batch,) = moe_case.batches(routed, 4096)
    assert batch.expert_ids_LBTA.dtype == np.int8


def test_engines_that_return_no_routes_or_wrong_ones_are_refused():
    model = dataclasses.replace(moe_case.CONFIG, num_experts_per_tok=3)
    with pytest.raises(AlgorithmError, match="this engine reports none"):
        engine_routes(S.from_groups(rollouts.groups()), model)
    samples = S.from_groups(rollouts.groups(experts=8))
    with pytest.raises(AlgorithmError, match="ids from -1 to 7; .* ids run from 0 to 3"):
        engine_routes(samples, dataclasses.replace(model, num_experts=4))
    with pytest.raises(AlgorithmError, match="tokens x sparse layers x active experts are"):
        engine_routes(samples, moe_case.CONFIG)
    samples[0].expert_ids_TLA[1, 0, 0] = -1
    with pytest.raises(AlgorithmError, match="-1 for all of a token without a route"):
        engine_routes(samples, model)
    short = dataclasses.replace(rollouts.rollout(np.random.default_rng(0), experts=8), expert_ids=np.zeros(
        (6, 2, 3), np.int8))
    with pytest.raises(AlgorithmError, match="8 tokens has the routes of 6"):
        S.from_groups([rollouts.group([short])])
