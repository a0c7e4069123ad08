"""The queue from both ends: works go in, judges lease and answer, verdicts come out. In both databases."""
import dataclasses
import json
import threading

import pytest
import sqlalchemy as sa

from jaxrl_moe.judges.judge import JudgeError
from jaxrl_moe.judges.queue.human import HumanJudge
from jaxrl_moe.judges.queue.queue import Given, QueueError
from jaxrl_moe.judges.records import Ask, Part, Work
from jaxrl_moe.judges.rubric import Criterion, Rubric
from jaxrl_moe.types import UserError
from tests.helpers.judged import (
    BY_RUBRIC,
    MINUTES,
    PAIRWISE,
    RANKING,
    RUBRIC,
    answer_all,
    best_first,
    group,
    scored,
    work,
)
from tests.helpers.waiting import wait_until


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
