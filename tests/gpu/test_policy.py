"""Engine, trainer and KV pool on the GPU, with a tiny model."""
import dataclasses

import jax
import numpy as np
import pytest

from jaxrl_moe.config import AlgorithmSection, RolloutSection
from jaxrl_moe.engine import memory
from jaxrl_moe.engine.engine import JaxEngine
from jaxrl_moe.learning.batch import micro_batches, per_sample, sample_weights
from jaxrl_moe.learning.objective import make_policy_objective
from jaxrl_moe.learning.samples import from_conversations
from jaxrl_moe.types import Request, SamplingParams
from tests.helpers import moe_case
from tests.helpers.close import assert_close

pytestmark = pytest.mark.gpu
NEW = 12


def requests(temperature=1.0):
    rng = np.random.default_rng(0)
    return [
        Request(
            rng.integers(0, 47, length).astype(np.int32),
            SamplingParams(max_tokens=NEW, temperature=temperature), number)
        for number, length in enumerate((1, 7, 8, 9, 70))
    ]


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_the_engines_logprobs_are_the_trainers(temperature):
    with jax.default_matmul_precision("highest"):
        learner = moe_case.learner(moe_case.LORA)
        engine = JaxEngine(learner.model(), RolloutSection(slots=4, page_size=8, max_tokens=NEW),
                           max_prompt_tokens=70)
        asked = requests(temperature)
        drawn = [completion for completion, in engine.generate(asked)]
        whole = [np.concatenate([request.ids, completion.ids]) for request, completion in zip(asked, drawn)]
        samples = from_conversations([(ids, np.r_[np.zeros(len(ids) - NEW), np.ones(NEW)]) for ids in whole])
        packed = micro_batches(samples, 256)
        trained = per_sample(
            packed, [learner.forward(one.batch, temperature=temperature).logprobs_BT for one in packed])
    for completion, logprobs_T in zip(drawn, trained):
        assert_close(completion.logprobs, logprobs_T[-NEW - 1:-1])


def grpo_batches():
    """Of groups whose advantages differ, with a sampler a little off the policy."""
    rng = np.random.default_rng(1)
    samples = [
        dataclasses.replace(sample, advantages_T=np.full(len(sample.ids_T), rng.normal(), np.float32),
                            sampler_logprobs_T=rng.normal(-3.8, 0.1, len(sample.ids_T)).astype(np.float32),
                            ref_logprobs_T=rng.normal(-3.8, 0.1, len(sample.ids_T)).astype(np.float32))
        for sample in moe_case.conversations()
    ]
    return [
        item.batch
        for item in micro_batches(samples, 64, True, sample_weights(samples, "seq-mean-token-mean"))
    ]


def grpo_step(device):
    """(gradient, loss, metrics of the update) on a device, from the same weights."""
    objective = make_policy_objective(AlgorithmSection(kl_coef=0.01))
    weights = moe_case.model(moe_case.LORA)
    with jax.default_device(device), jax.default_matmul_precision("highest"):
        policy = jax.tree.map(lambda x: jax.device_put(np.asarray(x), device), weights)
        learner = moe_case.learner_over(policy)
        total = learner.totals(grpo_batches(), objective, entropy=True)
        metrics = learner.update(grpo_batches(), objective, entropy=True)
        return jax.tree.map(
            np.asarray,
            (total.gradient[0], total.loss, metrics["policy/grad_norm"], metrics["policy/kl_loss"]))


def test_a_grpo_step_on_the_gpu_is_that_on_the_cpu():
    here = grpo_step(jax.devices()[0])
    there = grpo_step(jax.devices("cpu")[0])
    assert np.isfinite(there[1]) and there[2] > 0
    assert_close(here[1:], there[1:], 1e-4)
    for mine, theirs in zip(jax.tree.leaves(here[0]), jax.tree.leaves(there[0])):
        assert_close(mine, theirs, 1e-3)


def test_the_kv_pool_takes_its_share_of_what_the_device_has_free_and_gives_it_back(rehearsed):
    model = moe_case.model()
    device = jax.devices()[0]
    share = 0.002
    stats = device.memory_stats()
    assert rehearsed or memory.free_bytes(device) <= stats["bytes_limit"] - stats["bytes_in_use"]
    free = memory.free_bytes(device)
    settings = RolloutSection(slots=1 << 24, page_size=8, max_tokens=NEW, memory_fraction=share)
    engine = JaxEngine(model, settings, max_prompt_tokens=70)
    assert 0.9 * share * free < engine.kv_bytes < 1.1 * share * free
    assert rehearsed or free > 0.5 * stats["bytes_limit"]
    if rehearsed:  # a CPU keeps no count of what it holds
        return
    small = JaxEngine(model, dataclasses.replace(settings, slots=4), max_prompt_tokens=70)
    before = device.memory_stats()["bytes_in_use"]
    small.generate(requests())
    held = device.memory_stats()["bytes_in_use"] - before
    small.release()
    assert held >= 0.9 * small.kv_bytes and device.memory_stats()["bytes_in_use"] - before < held
