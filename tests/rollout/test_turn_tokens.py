"""Turns that a real engine draws, put together to one trace, as the trainer sees them."""
import numpy as np
import pytest

import bridges
from jaxrl_moe.config import OptimizerSection, RolloutSection
from jaxrl_moe.data.chat.turn_bridge import TurnBridge
from jaxrl_moe.data.tokenizer import load_tokenizer
from jaxrl_moe.engine.engine import JaxEngine
from jaxrl_moe.learning.batch import micro_batches, per_sample
from jaxrl_moe.learning.make import LearnerSettings, build_learner
from jaxrl_moe.learning.samples import from_groups
from jaxrl_moe.types import Prompt, Request, Rollout, RolloutGroup, SamplingParams
from tests.helpers import templates
from tests.helpers.tiny_models import make_checkpoint

ASK = {"role": "user", "content": "2 + 2?"}
OBSERVATIONS = ([{"role": "tool", "content": "a wall\n"}], [{"role": "user", "content": "<|im_end|> and 2?"}],
                [{"role": "tool", "content": "漢"}, {"role": "user", "content": "so?"}], [])
SETTINGS = RolloutSection(slots=4, page_size=64, max_tokens=12, decode_steps=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("turns") / "tiny"
    make_checkpoint(path, num_hidden_layers=1)
    return str(path)


def episode(engine, bridge, stop_ids):
    """A trace of four turns of 9 tokens at most."""
    messages = [ASK]
    prompt = context = bridge.prompt(messages)
    columns = []  # ids, mask and log-probs of what follows the prompt
    drawn = {}
    for number, observation in enumerate(OBSERVATIONS):
        params = SamplingParams(max_tokens=9, stop_ids=stop_ids)
        ((completion,),) = engine.generate([Request(context, params, sequence=0, turn=number)])
        drawn[len(messages)] = completion.ids
        messages.append(bridge.assistant(completion.ids, completion.finish_reason == "length").message)
        columns.append(np.stack([completion.ids, np.ones(len(completion.ids)), completion.logprobs]))
        context = np.concatenate([context, completion.ids])
        if observation:
            following = bridge.next_prompt(context, messages, drawn, observation)
            messages += observation
            columns.append(np.stack([following.bridge, *np.zeros((2, len(following.bridge)))]))
            context = following.ids
    ids, mask, logprobs = np.concatenate(columns, axis=1)
    rollout = Rollout(prompt, ids.astype(np.int32), mask.astype(np.int32), logprobs.astype(np.float32),
                      np.zeros(len(ids), np.int32), reward=1.0, text="", truncated=False, info={})
    np.testing.assert_array_equal(np.concatenate([prompt, rollout.completion_ids]), context)
    return rollout, drawn


def test_the_trainers_logprobs_of_all_sampled_tokens_are_the_samplers(folder):
    tokenizer = load_tokenizer(folder)
    tokenizer.hf.chat_template = templates.QWEN25
    model = bridges.load_model(folder)
    engine = JaxEngine(model, SETTINGS, max_prompt_tokens=200, seed=3, eos_ids=tokenizer.eos_ids,
                       detokenise=tokenizer.decode)
    bridge = TurnBridge(tokenizer)
    played = [episode(engine, bridge, stop_ids) for stop_ids in ((), tuple(range(3, 30)))]
    assert all(len(drawn) == 4 for _, drawn in played)
    assert any(len(ids) < 9 for ids in played[1][1].values())  # some turns end before their limit
    rollouts = [rollout for rollout, _ in played]
    group = RolloutGroup(Prompt(rollouts[0].prompt_ids, {}, 0), rollouts, 0)
    samples = from_groups([group])
    for sample, (_, drawn) in zip(samples, played):
        trained = sample.ids_T[1:][sample.mask_T[:-1] == 1]
        np.testing.assert_array_equal(trained, np.concatenate([*drawn.values()]))
    packed = micro_batches(samples, 1024)
    learner = build_learner(model, LearnerSettings(OptimizerSection(), 1))
    logprobs = per_sample(packed, [np.asarray(learner.forward(each.batch).logprobs_BT) for each in packed])
    for sample, ours in zip(samples, logprobs):
        sampled = sample.mask_T == 1
        assert sampled.sum() >= 12
        error = np.abs(ours - sample.sampler_logprobs_T)[sampled].max()
        assert error / np.abs(sample.sampler_logprobs_T[sampled]).max() < 1e-5
