"""What is known of a queue and of its judges: numbers, gold items, agreement. In both databases."""
import dataclasses

import pytest

from jaxrl_moe.judges.queue.queue import QueueError
from jaxrl_moe.judges.records import Verdict
from jaxrl_moe.types import UserError
from tests.helpers.judged import (
    BY_RUBRIC,
    MINUTES,
    PAIRWISE,
    RANKING,
    answer_all,
    best_first,
    group,
    number_of,
    scored,
    work,
)


def test_progress_counts(queue, clock):
    for number in range(4):
        queue.put(work(number), dataclasses.replace(BY_RUBRIC, run=f"run{number % 2}\0"))
        clock.now += 10
    queue.answer("ann", queue.lease("ann", MINUTES).token, scored())
    queue.lease("ann", MINUTES)
    progress = queue.progress("ann")
    assert (progress.waiting, progress.leased, progress.done, progress.answered) == (2, 1, 1, 1)
    assert progress.runs == {"run0\0": 1, "run1\0": 2} and progress.oldest_seconds == 30


def test_gold_items_come_first_to_a_new_judge_and_then_at_their_share(opened, queue, clock):
    queue = opened(gold_share=0.25)
    right = {"layout": 0.5, "title": 1}
    golds = {queue.add_gold(work(100 + number), BY_RUBRIC, right) for number in range(5)}
    items = [queue.put(work(number), BY_RUBRIC) for number in range(12)]
    leases = answer_all(queue, "ann", scored(0.6))
    assert [lease.item in golds for lease in leases] == ([True] + [False] * 3) * 4
    assert all(queue.state(item).verdict.scores["layout"] == 0.6 for item in items)
    assert queue.progress("ann").done == 12 + 4 and queue.progress("ann").waiting == 1  # gold is counted
    assert queue.progress("").done == 12 + 0
    (bobs,) = answer_all(queue, "bob", scored(0.9))  # nothing but gold is left, and one is enough
    assert bobs.item in golds
    agreement = queue.agreement()
    assert agreement.gold == {"ann": (4, 4), "bob": (0, 1)}


@pytest.mark.parametrize("overlap", [1, 2])
def test_a_gold_item_counts_as_another_one_before_while_it_is_held_and_after(opened, queue, overlap):
    queue = opened(gold_share=0.5, overlap=overlap)
    right = {"layout": 0.5, "title": 1}
    golds = {queue.add_gold(work(100 + number), BY_RUBRIC, right) for number in range(3)}
    for number in range(6):
        queue.put(work(number), BY_RUBRIC)

    def counted(judge):
        now = queue.progress(judge)
        assert now.waiting + now.leased + now.done == 9
        return now.waiting, now.leased, now.postponed, now.done, now.answered

    def changes(judge, finish):
        seen = [counted(judge)]
        lease = queue.lease(judge, MINUTES)
        seen.append(counted(judge))
        finish(judge, lease.token)
        seen.append(counted(judge))
        steps = tuple(tuple(a - b for a, b in zip(later, first)) for first, later in zip(seen, seen[1:]))
        return lease.item in golds, steps
    for finish in (queue.give_back, queue.postpone, queue.skip,
                   lambda judge, token: queue.answer(judge, token, scored())):
        found = [changes(judge, finish) for judge in ("ann", "ann", "ann", "bob")]
        of_gold = {steps for gold, steps in found if gold}
        ordinary = {steps for gold, steps in found if not gold}
        assert of_gold <= ordinary or not ordinary, (finish, found)
        if finish == queue.give_back:
            assert of_gold == {((-1, 1, 0, 0, 0), (1, -1, 0, 0, 0))}


def test_a_gold_item_that_is_put_off_comes_back_as_the_last(opened, queue):
    queue = opened(gold_share=0.5)
    gold = queue.add_gold(work(100), BY_RUBRIC, {"layout": 0.5, "title": 1})
    items = [queue.put(work(number), BY_RUBRIC) for number in range(3)]
    first = queue.lease("ann", MINUTES)
    assert first.item == gold
    queue.postpone("ann", first.token)
    assert [lease.item == gold for lease in answer_all(queue, "ann", scored())] == [False] * 3 + [True]
    assert all(queue.state(item).verdict for item in items)


def test_gold_is_right_within_a_tolerance_and_stays_as_it_was_added(opened, queue):
    queue = opened(gold_share=1.0)
    queue.add_gold(work(1), BY_RUBRIC, {"layout": 0.5, "title": 1})
    queue.add_gold(work(1), BY_RUBRIC, {"layout": 0.5, "title": 1})
    for name, given in (("ann", scored(0.75)), ("bob", scored(0.76)), ("cat", scored(0.5, 0))):
        assert len(answer_all(queue, name, given)) == 1
    assert queue.agreement().gold == {"ann": (1, 1), "bob": (0, 1), "cat": (0, 1)}
    with pytest.raises(QueueError, match="already"):
        queue.add_gold(work(1), BY_RUBRIC, {"layout": 0.6, "title": 1})
    with pytest.raises(UserError, match="lack title"):
        queue.add_gold(work(2), BY_RUBRIC, {"layout": 0.6})
    with pytest.raises(QueueError, match="rubric"):
        queue.add_gold(group(2)[0], PAIRWISE, {"layout": 0.6, "title": 1})


def test_what_a_model_is_unsure_of_goes_first_where_asked(opened, queue, clock):
    for number, reward in enumerate((0.9, 0.4, 0.1)):
        queue.keep_model(queue.put(work(number), BY_RUBRIC), Verdict(reward, judge="model"))
        clock.now += 1
    assert queue.lease("ann", MINUTES).works[0] == work(0)
    unsure = opened(uncertain_first=True)
    assert unsure.lease("bob", MINUTES).works[0] == work(1)


def test_agreement_of_judges_is_that_of_their_answers(opened, queue):
    queue = opened(overlap=3)
    said = {"ann": [(0.1, 1), (0.5, 1), (0.9, 0)], "bob": [(0.1, 1), (0.5, 0), (0.5, 0)],
            "cat": [(0.1, 0), (0.1, 0), (0.9, 1)]}
    items = [queue.put(work(number), BY_RUBRIC) for number in range(3)]
    for judge, scores in said.items():
        answer_all(queue, judge, lambda lease, scores=scores: scored(*scores[number_of(lease.works[0])]))
    agreement = queue.agreement()
    assert agreement.items == 3
    binned = [{judge: [int(scores[place] * (5 if place == 0 else 1)) for scores in given]
               for judge, given in said.items()} for place in (0, 1)]
    for one, other, kappa in agreement.cohen:
        above = possible = 0.0
        for kind in binned:
            chance = sum(a == b for a in kind[one] for b in kind[other]) / 9
            above += sum(a == b for a, b in zip(kind[one], kind[other])) - 3 * chance
            possible += 3 - 3 * chance
        assert kappa == pytest.approx(above / possible), (one, other)
    assert [pair[:2] for pair in agreement.cohen] == [("ann", "bob"), ("ann", "cat"), ("bob", "cat")]
    assert -1 < agreement.fleiss < 1 and not agreement.with_model
    for number, item in enumerate(items):
        layout, title = said["bob"][number]
        queue.keep_model(item, Verdict(0.5, {"layout": layout, "title": title}, judge="model"))
    assert queue.agreement().with_model["bob"] == 1
    assert queue.agreement().with_model["ann"] == pytest.approx(agreement.cohen[0][2])
    assert queue.measured().units == 6


def test_comparisons_agree_where_the_same_work_wins(opened, queue):
    queue = opened(overlap=2)
    for each in group(4):
        queue.put(each, RANKING)
    answer_all(queue, "ann", best_first)
    answer_all(queue, "bob", best_first)
    assert queue.agreement().cohen == (("ann", "bob", 1.0),)
