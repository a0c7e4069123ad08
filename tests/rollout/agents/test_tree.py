"""A session's calls as token sequences: every drawn token is trained once, after exactly the tokens that it
was drawn after."""
import random

import numpy as np
import pytest

from jaxrl_moe.rollout.agents.tree import Call, drafts, in_order, parent_of
from jaxrl_moe.types import Completion, Step


def completion(ids, version=0, prompt=0, routed=False):
    count = len(ids)
    routes = np.arange((prompt + count - 1) * 2).reshape(-1, 2, 1) if routed else None
    return Completion(np.array(ids, np.int32), -np.arange(1, count + 1, dtype=np.float32), "stop",
                      np.full(count, version, np.int32), routes)


def calls_of(script, routed=False):
    """Calls of (prompt ids, drawn ids), in order."""
    calls = []
    for number, (prompt, drawn) in enumerate(script):
        ids = np.array(prompt, np.int32)
        calls.append(Call(ids, completion(drawn, number, len(prompt), routed), parent_of(ids, calls)))
    return calls


def traces(script, routed=False):
    return [draft.trace() for draft in drafts(calls_of(script, routed))]


def test_calls_that_go_on_from_each_other_are_one_sequence():
    (trace,) = traces([([1, 2], [3, 4]), ([1, 2, 3, 4, 5], [6]), ([1, 2, 3, 4, 5, 6], [7, 8])], routed=True)
    assert trace.prompt_ids.tolist() == [1, 2] and trace.completion_ids.tolist() == [3, 4, 5, 6, 7, 8]
    assert trace.loss_mask.tolist() == [1, 1, 0, 1, 1, 1]
    assert trace.sampler_logprobs.tolist() == [-1, -2, 0, -1, -1, -2]
    assert trace.policy_version.tolist() == [0, 0, 0, 1, 2, 2]
    assert [(turn.start, turn.end) for turn in trace.turns] == [(0, 2), (3, 4), (4, 6)]
    assert len(trace.expert_ids) == 2 + 6 - 1


def test_a_turn_that_two_calls_go_on_from_is_trained_in_the_first_alone():
    first, second = traces([([1], [2]), ([1, 2, 3], [4]), ([1, 2, 5], [6])])
    assert first.completion_ids.tolist() == [2, 3, 4] and first.loss_mask.tolist() == [1, 0, 1]
    assert second.prompt_ids.tolist() == [1, 2, 5] and second.loss_mask.tolist() == [1]


def test_what_each_call_came_to_stands_at_its_turn():
    script = [([1], [2]), ([1, 2, 3], [4]), ([9], [8]), ([9, 8, 7], [6])]
    steps = [Step(float(number), False, achieved=(str(number),)) for number in range(3)]
    calls = calls_of(script)
    turns = [turn for draft in drafts(calls, steps) for turn in draft.trace().turns]
    assert in_order(calls) and [turn.reward for turn in turns] == [0, 1, 2, 0]
    assert [turn.achieved for turn in turns] == [("0",), ("1",), ("2",), None]


def test_calls_of_conversations_that_take_turns_are_not_in_order():
    assert not in_order(calls_of([([1], [2]), ([9], [8]), ([1, 2, 3], [4])]))
    assert in_order(calls_of([([1], [2]), ([1, 2, 3], [4]), ([1, 2, 5], [6])]))  # a fork


def test_a_call_that_goes_on_from_none_begins_a_sequence_and_the_last_to_end_comes_last():
    ids = [trace.prompt_ids.tolist() for trace in traces([([1], [2]), ([9], [8]), ([1, 2], [3])])]
    assert ids == [[9], [1]]


def test_the_same_prompt_drawn_twice_is_two_sequences():
    assert [trace.completion_ids.tolist() for trace in traces([([1], [2]), ([1], [3])])] == [[2], [3]]


def test_a_prompt_that_lacks_the_end_of_a_turn_begins_a_sequence():
    """As where a client of text completions is not shown the token that ended one."""
    first, second = traces([([1], [2, 0]), ([1, 2, 5], [6, 0])])
    assert first.loss_mask.tolist() == [1, 1] and second.prompt_ids.tolist() == [1, 2, 5]


@pytest.mark.parametrize("seed", range(20))
def test_every_drawn_token_is_trained_once_after_what_it_was_drawn_after(seed):
    """Against a loop over the calls that knows nothing of trees."""
    rng = random.Random(seed)
    script = []
    for number in range(rng.randint(1, 9)):
        before = rng.choice([[], *[prompt + drawn for prompt, drawn in script]])
        prompt = before + [rng.randint(0, 3) for _ in range(rng.randint(0 if before else 1, 3))]
        script.append((prompt, [rng.randint(0, 3) for _ in range(rng.randint(1, 3))] + [100 + number]))
    seen = []
    for trace in traces(script):
        ids = np.concatenate([trace.prompt_ids, trace.completion_ids]).tolist()
        start = len(trace.prompt_ids)
        for turn in trace.turns:
            assert trace.loss_mask[turn.start:turn.end].all()
            seen.append((ids[:start + turn.start], ids[start + turn.start:start + turn.end]))
        assert trace.loss_mask.sum() == sum(turn.end - turn.start for turn in trace.turns)
        assert not trace.sampler_logprobs[trace.loss_mask == 0].any()
    assert sorted(seen) == sorted(script)
