"""Draws from several files in exact shares: against counts by hand, and fractions that no float holds."""
import json
from fractions import Fraction

import numpy as np
import pytest

from jaxrl_moe.data.iterator import PromptIterator
from jaxrl_moe.data.mixing import Mixing
from jaxrl_moe.data.rows import DataError
from jaxrl_moe.types import Prompt

SIZES = {"a": 5, "b": 3, "c": 7}
WEIGHTS = [(1, 1), (2, 1), (1, 9), (3, 4), (1, 1, 1), (5, 2, 1), (Fraction(1, 3), Fraction(1, 7)),
           (Fraction(1, 10), Fraction(7, 10), Fraction(2, 10)), (1, 10**9), tuple(range(1, 9))]


def mixing(weights):
    return Mixing({f"f{number}": Fraction(weight) for number, weight in enumerate(weights)})


def prompts(names="abc"):
    places = [(name, place) for name in names for place in range(SIZES[name])]
    return [Prompt(np.array([place], np.int32), {"env": name, "place": place}, index, env=name)
            for index, (name, place) in enumerate(places)]


def order(weights=(2, 1, 1), names="abc", **settings):
    given = dict(zip(names, map(Fraction, weights)))
    return PromptIterator(prompts(names), **{"seed": 3, "weights": given} | settings)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_every_prefix_holds_the_shares_and_every_whole_one_exactly(weights):
    mixed = mixing(weights)
    total = sum(map(Fraction, weights))
    counts = [0] * len(weights)
    whole = sum(int(each.rpartition("=")[2]) for each in mixed.text.split(","))
    for number in range(400):
        assert mixed.counts(number) == counts
        file, place = mixed.draw(number)
        assert place == counts[file]
        counts[file] += 1
        off = [abs(count - (number + 1) * Fraction(weight) / total) for count, weight in zip(counts, weights)]
        assert max(off) <= Fraction(len(weights) - 1, 2)
        assert (number + 1) % whole or max(off) == 0


def test_draws_far_on_are_found_at_once_and_shares_hold_there_too():
    mixed = mixing((1, 10**9))
    assert mixed.counts(10**9 + 1) == [1, 10**9] and mixed.counts(7 * (10**9 + 1)) == [7, 7 * 10**9]
    assert sum(mixed.counts(10**15 + 12345)) == 10**15 + 12345


def test_equal_weights_take_turns():
    assert [mixing((1, 1)).draw(number)[0] for number in range(6)] in ([0, 1] * 3, [1, 0] * 3)


def test_each_file_has_epochs_of_its_own_whose_order_the_others_do_not_change():
    drawn = order().next_prompts(200)
    for name, size in SIZES.items():
        places = [prompt.row["place"] for prompt in drawn if prompt.env == name]
        for start in range(0, len(places) - size + 1, size):
            assert sorted(places[start:start + size]) == list(range(size))
    other = order(weights=(1, 3, 9)).next_prompts(200)
    for name in SIZES:
        ours, theirs = ([prompt.index for prompt in each if prompt.env == name] for each in (drawn, other))
        shared = min(len(ours), len(theirs))
        assert shared > 10 and ours[:shared] == theirs[:shared]


def test_without_shuffle_each_file_is_drawn_in_its_own_order():
    drawn = order(shuffle=False, weights=(1, 1), names="ab").next_prompts(16)
    assert [prompt.row["place"] for prompt in drawn if prompt.env == "a"] == [0, 1, 2, 3, 4, 0, 1, 2]
    assert [prompt.row["place"] for prompt in drawn if prompt.env == "b"] == [0, 1, 2] * 2 + [0, 1]


@pytest.mark.parametrize("drawn", [0, 1, 5, 17, 100])
def test_a_position_goes_on_exactly_where_it_was_saved(drawn):
    straight = order()
    straight.next_prompts(drawn)
    state = json.loads(json.dumps(straight.state()))
    resumed = order()
    resumed.next_prompts(3)
    resumed.restore(state)
    assert [prompt.index for prompt in resumed.next_prompts(60)] == [
        prompt.index for prompt in straight.next_prompts(60)]
    assert resumed.state() == straight.state()


def test_weights_that_mean_the_same_are_the_same_position():
    state = order(weights=(2, 1, 1)).state()
    order(weights=(Fraction(1, 2), Fraction(1, 4), Fraction(1, 4))).restore(state)


@pytest.mark.parametrize("other, told", [
    (dict(weights=(1, 1, 1)), "data.weights: a=2,b=1,c=1 then, a=1,b=1,c=1 now"),
    (dict(weights=None), "data.weights: a=2,b=1,c=1 then, none now"), (dict(seed=4), "seed: 3 then, 4 now")])
def test_a_position_under_other_weights_is_refused(other, told):
    state = order().state()
    changed = PromptIterator(prompts(), seed=3) if other.get("weights", 1) is None else order(**other)
    with pytest.raises(DataError, match=told):
        changed.restore(state)
    if changed is not None and other.get("weights", 1) is None:
        with pytest.raises(DataError, match="data.weights: none then, a=2,b=1,c=1 now"):
            order().restore(changed.state())
