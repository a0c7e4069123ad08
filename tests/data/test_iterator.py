"""The prompt order: a shuffle per epoch from the seed alone, and a position that restores exactly."""
import json

import numpy as np
import pytest

from jaxrl_moe.data.iterator import PromptIterator
from jaxrl_moe.data.rows import DataError
from jaxrl_moe.types import Prompt

PROMPTS = [Prompt(np.array([i, i + 1], np.int32), {"i": i}, i) for i in range(13)]


def indices(iterator, count):
    return [prompt.index for prompt in iterator.next_prompts(count)]


def test_every_epoch_holds_every_prompt_once_in_its_own_order():
    iterator = PromptIterator(PROMPTS, seed=0)
    epochs = [indices(iterator, 13) for _ in range(4)]
    assert all(sorted(epoch) == list(range(13)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_the_order_follows_from_the_seed_alone():
    assert indices(PromptIterator(PROMPTS, seed=1), 40) == indices(PromptIterator(PROMPTS, seed=1), 40)
    orders = {
        tuple(indices(PromptIterator(PROMPTS, seed=seed), 26)[start:start + 13]) for seed in range(5)
        for start in (0, 13)
    }
    assert len(orders) == 10


def test_without_shuffle_the_order_is_that_of_the_file():
    assert indices(PromptIterator(PROMPTS, seed=0, shuffle=False), 15) == [*range(13), 0, 1]


@pytest.mark.parametrize("drawn", [0, 1, 12, 13, 14, 30])
def test_a_restored_position_goes_on_exactly_where_it_was_saved(drawn):
    straight = PromptIterator(PROMPTS, seed=5)
    straight.next_prompts(drawn)
    state = json.loads(json.dumps(straight.state()))
    resumed = PromptIterator(PROMPTS, seed=5)
    resumed.next_prompts(3)
    resumed.restore(state)
    assert resumed.state() == state
    assert indices(resumed, 29) == indices(straight, 29)
    assert resumed.state() == straight.state()


def test_draws_of_any_size_give_the_same_order():
    one = PromptIterator(PROMPTS, seed=2)
    many = PromptIterator(PROMPTS, seed=2)
    assert sum((indices(one, count) for count in (1, 7, 20, 2)), []) == indices(many, 30)


@pytest.mark.parametrize("other", [
    PromptIterator(PROMPTS[:-1], seed=0),
    PromptIterator(PROMPTS[::-1], seed=0),
    PromptIterator(PROMPTS, seed=1),
    PromptIterator(PROMPTS, seed=0, shuffle=False)
])
def test_a_position_in_another_order_is_refused(other):
    with pytest.raises(DataError, match="belongs to another order"):
        other.restore(PromptIterator(PROMPTS, seed=0).state())


def test_a_single_prompt_repeats():
    assert indices(PromptIterator(PROMPTS[:1], seed=0), 3) == [0, 0, 0]
