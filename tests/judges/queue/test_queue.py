"""The queue from both ends: works go in, judges lease and answer, verdicts come out. In both databases."""
import dataclasses
import json
import threading

import pytest
import sqlalchemy as sa

from jaxrl_moe.judges.judge import JudgeError
from jaxrl_moe.judges.queue.human import HumanJudge
from jaxrl_moe.judges.queue.queue import Given, QueueError
from jaxrl_moe.judges.records import Ask, Part, Verdict, Work
from jaxrl_moe.judges.rubric import Criterion, Rubric
from jaxrl_moe.types import UserError
from tests.helpers.judged import (
    BY_RUBRIC,
    PAIRWISE,
    RANKING,
    RUBRIC,
    best_first,
    group,
    number_of,
    scored,
    work,
)
from tests.helpers.waiting import wait_until

MINUTES = 600.0


@pytest.fixture
def queue(opened):
    queue = opened()
    for name in ("ann", "bob", "cat"):
        queue.add_judge(name)
    return queue


def answer_all(queue, judge, given):
    """Answers whatever the judge is shown; returns the leases."""
    leases = []
    while lease := queue.lease(judge, MINUTES):
        queue.answer(judge, lease.token, given(lease) if callable(given) else given)
        leases.append(lease)
    return leases


def test_a_work_is_leased_answered_and_judged(queue, clock):
    item = queue.put(work(1, group="g", group_size=4), BY_RUBRIC)
    assert queue.state(item).verdict is None
    lease = queue.lease("ann", MINUTES)
    assert lease.works == (work(1),) and lease.ask == Ask(RUBRIC)  # nothing of its group or run
    assert lease.until == clock.now + MINUTES
    queue.answer("ann", lease.token, scored(0.5, 1, comment="tidy", seconds=30.0))
    verdict = queue.state(item).verdict
    assert verdict.reward == 0.75 * 0.5 + 0.25 and verdict.scores == {"layout": 0.5, "title": 1.0}
    assert verdict.judge == "human" and json.loads(verdict.raw)[0]["comment"] == "tidy"
    assert queue.lease("bob", MINUTES) is None
    assert queue.recent("ann", 5) == [(clock.now, 30.0)]


def test_the_same_work_is_one_item_whoever_hands_it_in(queue):
    item = queue.put(work(1), BY_RUBRIC)
    same = [queue.put(work(1, group="g", group_size=4), dataclasses.replace(BY_RUBRIC, run="other")),
            queue.put(work(1), BY_RUBRIC)]
    assert same == [item, item]
    others = [queue.put(work(2), BY_RUBRIC), queue.put(work(1), Ask(Rubric("other", RUBRIC.criteria))),
              queue.put(work(1), dataclasses.replace(BY_RUBRIC, turns=True))]
    assert len({item, *others}) == 4
    assert len(answer_all(queue, "ann", scored())) == 3  # the one turn is the whole work


def test_a_lease_is_kept_renewed_and_falls_back(queue, clock):
    queue.put(work(1), BY_RUBRIC)
    lease = queue.lease("ann", 60)
    assert queue.lease("bob", 60) is None
    clock.now += 59
    again = queue.lease("ann", 60)
    assert again == dataclasses.replace(lease, until=clock.now + 60)
    assert queue.renew("ann", lease.token, 90).until == clock.now + 90
    clock.now += 90
    with pytest.raises(QueueError, match="over"):
        queue.renew("ann", lease.token, 60)
    assert queue.lease("bob", 60).item == lease.item
    assert queue.lease("ann", 60) is None


def test_an_answer_counts_once_and_is_not_changed(queue, clock):
    item = queue.put(work(1), BY_RUBRIC)
    lease = queue.lease("ann", 60)
    with pytest.raises(QueueError, match="no such lease"):
        queue.answer("bob", lease.token, scored())
    queue.answer("ann", lease.token, scored(0.5))
    queue.answer("ann", lease.token, scored(0.5, seconds=99.0))
    with pytest.raises(QueueError, match="otherwise"):
        queue.answer("ann", lease.token, scored(0.6))
    assert queue.progress("ann").answered == 1
    assert queue.state(item).verdict.scores["layout"] == 0.5


def test_a_late_answer_is_kept_and_counts_where_it_is_still_waited_for(queue, clock):
    item = queue.put(work(1), BY_RUBRIC)
    late = queue.lease("ann", 60)
    clock.now += 61
    second = queue.lease("bob", 60)
    queue.answer("ann", late.token, scored(1.0))
    assert queue.state(item).verdict.scores["layout"] == 1.0
    queue.answer("bob", second.token, scored(0.0))
    assert queue.state(item).verdict.scores["layout"] == 1.0  # the verdict stays
    assert queue.agreement().items == 1  # and the answer too


def test_what_is_skipped_postponed_or_given_back_is_handed_out_as_that_says(queue):
    for number in range(3):
        queue.put(work(number), BY_RUBRIC)
    first = queue.lease("ann", MINUTES)
    queue.postpone("ann", first.token)
    queue.postpone("ann", first.token)
    with pytest.raises(QueueError, match="postponed"):
        queue.skip("ann", first.token)
    second = queue.lease("ann", MINUTES)
    queue.skip("ann", second.token)
    third = queue.lease("ann", MINUTES)
    queue.give_back("ann", third.token)
    assert len({first.item, second.item, third.item}) == 3
    assert queue.progress("ann").postponed == 1
    assert [lease.item for lease in answer_all(queue, "ann", scored())] == [third.item, first.item]
    assert [lease.item for lease in answer_all(queue, "bob", scored())] == [second.item]
    assert queue.progress("ann").postponed == 0


def test_overlap_asks_several_judges_and_takes_their_mean(opened, queue):
    queue = opened(overlap=2)
    item = queue.put(work(1), BY_RUBRIC)
    leases = [queue.lease(name, MINUTES) for name in ("ann", "bob")]
    assert queue.lease("cat", MINUTES) is None
    queue.answer("ann", leases[0].token, scored(0.2, 1))
    assert queue.state(item).verdict is None and queue.lease("ann", MINUTES) is None
    queue.answer("bob", leases[1].token, scored(0.6, 0))
    verdict = queue.state(item).verdict
    assert verdict.scores == {"layout": pytest.approx(0.4), "title": 0.5}
    assert verdict.reward == pytest.approx(0.75 * 0.4 + 0.25 * 0.5)
    assert [said["judge"] for said in json.loads(verdict.raw)] == ["ann", "bob"]


def test_what_one_judge_has_answered_goes_first(opened, queue):
    queue = opened(overlap=2)
    for number in range(3):
        queue.put(work(number), BY_RUBRIC)
    started = [queue.lease("ann", MINUTES)]
    queue.answer("ann", started[0].token, scored())
    started.append(queue.lease("ann", MINUTES))
    queue.answer("ann", started[1].token, scored())
    assert {queue.lease(name, MINUTES).item for name in ("bob", "cat")} == {each.item for each in started}


def test_turns_get_rewards_of_their_own_as_they_stood_then(queue):
    page = Work("Build a page.", ("<p>1", "<p>2"), (Part("html", "<p>2"),))
    item = queue.put(page, dataclasses.replace(BY_RUBRIC, turns=True))
    seen = {lease.works[0].turns + lease.works[0].parts: lease for lease in
            answer_all(queue, "ann", lambda lease: scored(len(lease.works[0].turns) / 4
                                                          + len(lease.works[0].parts) / 2))}
    assert set(seen) == {("<p>1",), ("<p>1", "<p>2"), page.turns + page.parts}
    verdict = queue.state(item).verdict
    assert verdict.reward == 1.0 and verdict.turn_rewards == (0.75 * 0.25 + 0.25, 0.75 * 0.5 + 0.25)


def test_pairs_of_a_group_are_compared_once_all_are_there(queue):
    works = group(4)
    items = [queue.put(each, PAIRWISE) for each in works[:3]]
    assert queue.lease("ann", MINUTES) is None
    items.append(queue.put(works[3], PAIRWISE))
    leases = answer_all(queue, "ann", best_first)
    assert len({frozenset(map(number_of, lease.works)) for lease in leases}) == len(leases) == 6
    assert all(lease.ask.mode == "pairwise" and not lease.ask.run for lease in leases)
    assert all(shown.group == "" and shown.group_size == 1 for lease in leases for shown in lease.works)
    rewards = [queue.state(item).verdict.reward for item in items]
    assert rewards == pytest.approx([0, 1 / 3, 2 / 3, 1])


def test_sides_of_pairs_change_from_judge_to_judge(opened, queue):
    queue = opened(overlap=2)
    for each in group(6):
        queue.put(each, PAIRWISE)
    shown = [{lease.item: [number_of(each) for each in lease.works] for lease in
              answer_all(queue, name, best_first)} for name in ("ann", "bob")]
    assert len(shown[0]) == 15
    assert all(shown[0][item] == shown[1][item][::-1] for item in shown[0])
    assert 0 < sum(left > right for left, right in shown[0].values()) < 15


def test_a_whole_group_is_ranked_with_ties(queue):
    items = [queue.put(each, RANKING) for each in group(4)]

    def ranked(lease):
        at = {number_of(shown): place for place, shown in enumerate(lease.works)}
        return Given(order=((at[3],), (at[1], at[2]), (at[0],)))
    (lease,) = answer_all(queue, "ann", ranked)
    assert len(lease.works) == 4
    rewards = [queue.state(item).verdict.reward for item in items]
    assert rewards == pytest.approx([0, 0.5, 0.5, 1])


def copied(each, copy):
    return dataclasses.replace(each, copy=copy)


@pytest.mark.parametrize("ask", [PAIRWISE, RANKING], ids=lambda ask: ask.mode)
def test_equal_works_of_a_group_are_one_item_and_tie(queue, ask):
    works = group(3, size=4)
    items = [queue.put(each, ask) for each in (works[0], works[1], works[0])]
    assert items[0] == items[2] and queue.lease("ann", MINUTES) is None  # again, by a run that was killed
    queue.put(works[2], ask)
    assert queue.lease("ann", MINUTES) is None
    assert queue.put(copied(works[1], 1), ask) == items[1]
    answer_all(queue, "ann", best_first)
    rewards = [queue.state(queue.put(each, ask)).verdict.reward for each in works]
    numbers = [0, 1, 1, 2]
    for number, reward in enumerate(rewards):  # each work beside the three others of its group
        others = [*numbers[:numbers.index(number)], *numbers[numbers.index(number) + 1:]]
        shares = [(number > other) + (number == other) / 2 for other in others]
        assert reward == pytest.approx(sum(shares) / 3)


@pytest.mark.parametrize("ask", [PAIRWISE, RANKING], ids=lambda ask: ask.mode)
def test_two_equal_works_that_beat_a_third_have_three_quarters(queue, ask):
    worse, better = group(2, size=3)
    items = [queue.put(each, ask) for each in (better, copied(better, 1), worse)]
    answer_all(queue, "ann", best_first)
    assert [queue.state(item).verdict.reward for item in items] == [0.75, 0.75, 0]


@pytest.mark.parametrize("ask", [PAIRWISE, RANKING], ids=lambda ask: ask.mode)
def test_a_work_beyond_the_groups_size_joins_it(queue, ask):
    items = [queue.put(each, ask) for each in group(3, size=2)]
    answer_all(queue, "ann", best_first)
    assert [queue.state(item).verdict.reward for item in items] == pytest.approx([0, 0.5, 1])


def test_a_group_of_equal_works_needs_no_judge(queue):
    each = work(1, group="g", group_size=3)
    (item,) = {queue.put(copied(each, copy), PAIRWISE) for copy in range(3)}
    assert queue.state(item).verdict.reward == 0.5
    assert queue.lease("ann", MINUTES) is None


def test_a_dropped_item_is_not_asked_about_and_waits_again_when_it_is_put_again(queue):
    judge = HumanJudge(queue)
    item = judge.submit(work(1), BY_RUBRIC)
    lease = queue.lease("ann", MINUTES)
    queue.drop(item, "The deadline is over.")
    with pytest.raises(JudgeError, match="deadline is over"):
        judge.verdict(item)
    assert queue.lease("bob", MINUTES) is None and queue.progress("ann").waiting == 0
    queue.answer("ann", lease.token, scored(0.5))
    assert queue.state(item).verdict is None
    assert judge.submit(work(1), BY_RUBRIC) == item
    assert judge.verdict(item).scores["layout"] == 0.5
    queue.drop(item, "too late")
    assert judge.verdict(item).reward > 0


def test_what_another_item_needs_is_asked_though_one_is_dropped(queue):
    items = [queue.put(each, PAIRWISE) for each in group(3)]
    queue.drop(items[0], "gone")
    assert len(answer_all(queue, "ann", best_first)) == 3
    assert [queue.state(item).verdict.reward for item in items[1:]] == [0.5, 1.0]


def test_a_work_that_is_left_alone_is_not_taken_for_a_group_of_equal_ones(queue):
    works = group(2)
    items = [queue.put(each, PAIRWISE) for each in works]
    queue.drop(items[0], "gone")
    assert queue.put(works[1], PAIRWISE) == items[1]
    assert queue.state(items[1]).verdict is None
    assert len(answer_all(queue, "ann", best_first)) == 1
    assert queue.state(items[1]).verdict.reward == 1 and queue.state(items[0]).verdict is None
    assert queue.put(works[0], PAIRWISE) == items[0] and queue.state(items[0]).verdict.reward == 0


def test_verdicts_are_waited_for_and_unknown_items_are_none(queue):
    judge = HumanJudge(queue)
    item = judge.submit(work(1), BY_RUBRIC)
    assert judge.verdict(item, 0.01) is None
    for call in (judge.verdict, queue.state, lambda name: queue.drop(name, "")):
        with pytest.raises(KeyError):
            call("nothing")


def test_one_thread_looks_for_all_items_that_are_waited_for(queue):
    items = [queue.put(work(number), BY_RUBRIC) for number in range(12)]
    looks = []
    statements = []
    settled = queue._lookout._settled
    queue._lookout._settled = lambda asked: looks.append(len(asked)) or settled(asked)

    def count(_connection, _cursor, statement, *_):
        if not statement.startswith("BEGIN"):
            statements.append(statement)
    sa.event.listen(queue.store._engine, "before_cursor_execute", count)
    verdicts = {}

    def wait(item):
        verdicts[item] = queue.wait(item, 3600).verdict
    threads = [threading.Thread(target=wait, args=(item,), daemon=True) for item in items]
    for thread in threads:
        thread.start()
    wait_until(lambda: looks.count(len(items)) > 3)
    # each item is read once, by two statements, and each look is one, of all
    assert len(statements) <= 2 * len(items) + len(looks) + 1
    sa.event.remove(queue.store._engine, "before_cursor_execute", count)
    answer_all(queue, "ann", scored())
    for thread in threads:
        thread.join(60)
    assert len(verdicts) == len(items) and all(verdicts.values())
    wait_until(lambda: not queue._lookout._looking)  # who looks for nobody ends


def test_tokens_are_checked_and_removed_judges_are_out(queue):
    token = queue.add_judge("dora")
    assert queue.login(token) == "dora"
    assert queue.login(token + "x") is None and queue.login("") is None and queue.login("\udc00") is None
    with pytest.raises(QueueError, match="already"):
        queue.add_judge("dora")
    queue.put(work(1), BY_RUBRIC)
    queue.lease("dora", MINUTES)
    queue.remove_judge("dora")
    assert queue.login(token) is None and "dora" not in queue.judges()
    with pytest.raises(QueueError, match="no judge"):
        queue.lease("dora", MINUTES)
    assert queue.lease("ann", MINUTES) is not None
    again = queue.add_judge("dora")
    assert again != token and queue.login(again) == "dora" and queue.login(token) is None


@pytest.mark.parametrize("call", [
    lambda queue, token: queue.answer("dora", token, scored()),
    lambda queue, token: queue.renew("dora", token, MINUTES), lambda queue, token: queue.skip("dora", token),
    lambda queue, token: queue.postpone("dora", token), lambda queue, token: queue.give_back("dora", token),
    lambda queue, token: queue.progress("dora")])
def test_what_a_removed_judge_holds_is_theirs_no_more(queue, call):
    queue.add_judge("dora")
    item = queue.put(work(1), BY_RUBRIC)
    lease = queue.lease("dora", MINUTES)
    queue.remove_judge("dora")
    with pytest.raises(QueueError, match="no judge"):
        call(queue, lease.token)
    assert queue.state(item).verdict is None and queue.lease("ann", MINUTES).item == lease.item


def test_who_is_added_anew_does_not_go_on_where_they_were(queue, clock):
    assert not queue.is_judge("dora", clock.now)
    queue.add_judge("dora")
    before = clock.now
    assert queue.is_judge("dora", before) and not queue.is_judge("dora", before - 1)
    clock.now += 1
    queue.remove_judge("dora")
    assert not queue.is_judge("dora", before) and not queue.is_judge("dora", clock.now)
    queue.add_judge("dora")
    assert not queue.is_judge("dora", before) and queue.is_judge("dora", clock.now)


def test_progress_counts(queue, clock):
    for number in range(4):
        queue.put(work(number), dataclasses.replace(BY_RUBRIC, run=f"run{number % 2}\0"))
        clock.now += 10
    queue.answer("ann", queue.lease("ann", MINUTES).token, scored())
    queue.lease("ann", MINUTES)
    progress = queue.progress("ann")
    assert (progress.waiting, progress.leased, progress.done, progress.answered) == (2, 1, 1, 1)
    assert progress.runs == {"run0\0": 1, "run1\0": 2} and progress.oldest_seconds == 30


@pytest.mark.parametrize("ask, given, words", [
    (BY_RUBRIC, scored(2), "bounded"), (BY_RUBRIC, scored(0.5, 0.5), "binary"),
    (BY_RUBRIC, Given(({"layout": 1},)), "lack title"), (BY_RUBRIC, Given(), "its one work"),
    (BY_RUBRIC, Given((scored().scores[0],), order=((0,),)), "no order"),
    (BY_RUBRIC, scored(seconds=float("nan")), "seconds"), (BY_RUBRIC, scored(seconds=-1), "seconds"),
    (BY_RUBRIC, scored(comment="x" * 10_001), "comment"),
    (PAIRWISE, scored(), "are compared"), (PAIRWISE, Given(order=((0,),)), "are compared"),
    (PAIRWISE, Given(order=((0,), (0, 1))), "once"), (PAIRWISE, Given(order=((0, 1), ())), "once"),
    (PAIRWISE, Given(order=((1,), (2,))), "0 to 1")])
def test_answers_that_do_not_fit_are_refused_and_the_lease_stays(queue, ask, given, words):
    for each in group(2):
        queue.put(each, ask)
    lease = queue.lease("ann", MINUTES)
    with pytest.raises(UserError, match=words):
        queue.answer("ann", lease.token, given)
    assert queue.lease("ann", MINUTES).token == lease.token


@pytest.mark.parametrize("each, ask, words", [
    (work(1), PAIRWISE, "group"), (work(1, group="g"), RANKING, "group"),
    (group(2)[0], dataclasses.replace(PAIRWISE, turns=True), "mode rubric alone"),
    (work(1), Ask(RUBRIC, "stars"), "rubric, pairwise, ranking"),
    (work(1), Ask(Rubric("heavy", (Criterion("all", 2.0, "binary", "?"),))), "add up to 2")])
def test_works_that_people_cannot_be_asked_about_are_refused(queue, each, ask, words):
    with pytest.raises(UserError, match=words):
        queue.put(each, ask)


def test_what_is_hostile_in_texts_comes_back_as_it_was(queue):
    text = "\0 \ud800 \u2028 '; DROP TABLE items; --"
    queue.put(Work(text, (text,), (Part("html", text),)), Ask(Rubric("r", (Criterion(text, 1.0, "binary",
                                                                                      text),)), run=text))
    lease = queue.lease("ann", MINUTES)
    assert lease.works[0] == Work(text, (text,), (Part("html", text),))
    queue.answer("ann", lease.token, Given(({text: 1},), comment=text))
    assert queue.progress("ann").done == 1


def test_another_process_sees_it_all(opened, queue, clock):
    item = queue.put(work(1), BY_RUBRIC)
    lease = queue.lease("ann", MINUTES)
    queue.close()
    again = opened()
    again.answer("ann", lease.token, scored())
    assert again.state(item).verdict.reward == 0.75 * 0.5 + 0.25


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
