"""People and a model as one judge: both, people alone, the model alone by deadline; and the same again after
a restart."""
import dataclasses
import json

import pytest

from jaxrl_moe.judges.agreement.blended import Blended
from jaxrl_moe.judges.agreement.blending import blended
from jaxrl_moe.judges.judge import Judge, JudgeError
from jaxrl_moe.judges.queue.queue import QueueError
from jaxrl_moe.judges.queue.sql import SqlQueue
from jaxrl_moe.judges.records import Verdict
from tests.helpers.judged import BY_RUBRIC, PAIRWISE, RUBRIC, best_first, group, number_of, scored, work

MINUTES = 600.0


class Model(Judge):
    """Says of work number n that its layout is n / 20."""

    def __init__(self):
        self.submitted = []
        self.is_busy = False
        self.fails = False
        self.forgotten = ()

    def submit(self, work, ask):
        self.submitted.append((work, ask))
        return str(len(self.submitted) - 1)

    def verdict(self, item, wait=0.0):
        if self.fails:
            raise JudgeError("The model is out.")
        if self.is_busy:
            return None
        if int(item) in self.forgotten:
            raise KeyError(item)
        work, ask = self.submitted[int(item)]
        scores = {"layout": number_of(work) / 20, "title": 1.0} if ask.mode == "rubric" else {}
        return Verdict(RUBRIC.total(scores) if scores else number_of(work) / 20, scores, judge="gpt", raw="?")

    def drop(self, item, why):
        raise AssertionError("others may wait for what the model says")

    def close(self):
        pass


class Set:
    def __init__(self, now=0.0):
        self.now = now

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Set()


@pytest.fixture
def made(tmp_path, clock):
    """Makes a judge of people and a model on this test's queue."""
    judges = []

    def make(model=None, **options):
        queue = SqlQueue(f"sqlite:///{tmp_path}/queue.db", clock=clock)
        if "ann" not in queue.judges():
            queue.add_judge("ann")
        judges.append(Blended(queue, model or Model(), **options))
        return judges[-1]
    yield make
    for judge in judges:
        judge.close()


def answer(judge, given):
    lease = judge.queue.lease("ann", MINUTES)
    judge.queue.answer("ann", lease.token, given(lease) if callable(given) else given)


def seen(judge, count):
    """Lets people and the model agree on so many works."""
    for number in range(count):
        item = judge.submit(work(number), BY_RUBRIC)
        answer(judge, scored(number / 20, 1))
        assert judge.verdict(item).reward == pytest.approx(0.75 * number / 20 + 0.25)


def test_both_are_blended_by_measured_agreement_and_the_verdict_stays(made):
    judge = made()
    seen(judge, 20)
    measured = judge.queue.measured()
    assert measured.units == 40 and measured.kappa == 1.0  # titles are all 1, and say nothing
    again = made()
    item = again.submit(work(20), BY_RUBRIC)
    assert again.verdict(item) is None
    answer(again, scored(0.2, 1))
    verdict = again.verdict(item)
    weight = again.queue.measured().weight  # this work too, on which they disagree
    assert 0.6 < weight < 42 / 62
    assert verdict.scores["layout"] == pytest.approx(blended(0.2, 1, 1.0, weight))
    assert verdict.reward == pytest.approx(RUBRIC.total(verdict.scores))
    raw = json.loads(verdict.raw)
    assert verdict.judge == "human + gpt" and raw["weight"] == pytest.approx(weight)
    assert raw["people"] == pytest.approx(0.4) and raw["model"] == 1.0
    later = made(Model())
    later._model.fails = True
    assert later.submit(work(20), BY_RUBRIC) == item and not later._model.submitted
    assert later.verdict(item) == verdict
    assert again.queue.progress("ann").waiting == 0


def test_without_agreement_people_are_alone(made):
    judge = made()
    item = judge.submit(work(20), BY_RUBRIC)
    answer(judge, scored(0.2, 1))
    assert judge.verdict(item).reward == pytest.approx(0.75 * 0.2 + 0.25)


def test_calibration_puts_the_model_on_peoples_scale(made):
    judge = made(calibrate=True)
    for number in range(20):
        judge.verdict(judge.submit(work(number), BY_RUBRIC))
        answer(judge, scored(min(1.0, number / 20), number % 2))
    measured = judge.queue.measured()
    item = judge.submit(work(20), BY_RUBRIC)
    answer(judge, scored(0.2, 1))
    layout = judge.verdict(item).scores["layout"]
    assert layout == pytest.approx(blended(0.2, 1, measured.calibrated(1.0), measured.weight), abs=0.02)


def test_a_model_that_is_slow_is_waited_for_and_one_that_fails_leaves_people_alone(made):
    judge = made()
    judge._model.is_busy = True
    item = judge.submit(work(3), BY_RUBRIC)
    answer(judge, scored(1.0))
    assert judge.verdict(item) is None
    judge._model.fails = True
    verdict = judge.verdict(item)
    assert verdict.reward == 1.0 and json.loads(verdict.raw)["why"] == "The model is out."


def test_a_model_that_has_forgotten_is_asked_again(made):
    judge = made()
    judge._model.forgotten = (0,)
    item = judge.submit(work(3), BY_RUBRIC)
    answer(judge, scored(1.0))
    assert judge.verdict(item) is None
    assert judge.verdict(item).judge == "human + gpt" and len(judge._model.submitted) == 2


def test_at_the_deadline_the_model_stands_alone_and_says_so(made, clock):
    judge = made(deadline=60.0, on_deadline="model")
    item = judge.submit(work(10), BY_RUBRIC)
    lease = judge.queue.lease("ann", MINUTES)
    clock.now = 60
    assert judge.verdict(item) is None
    clock.now = 61
    verdict = judge.verdict(item)
    assert verdict.reward == 0.75 * 0.5 + 0.25 and verdict.judge == "gpt (alone)"
    assert json.loads(verdict.raw)["only"] == "model"
    judge.queue.answer("ann", lease.token, scored(1.0))  # kept, and the verdict stays
    assert judge.submit(work(10), BY_RUBRIC) == item and judge.verdict(item) == verdict
    assert judge.queue.progress("ann").waiting == 0 and judge.queue.progress("ann").answered == 1


@pytest.mark.parametrize("policy, fails, words", [("drop", False, "within 60"), ("model", True, "is out")])
def test_at_the_deadline_an_item_is_dropped_where_nobody_can_say(made, clock, policy, fails, words):
    judge = made(deadline=60.0, on_deadline=policy)
    judge._model.fails = fails
    item = judge.submit(work(10), BY_RUBRIC)
    clock.now = 61
    for _ in range(2):
        with pytest.raises(JudgeError, match=words):
            judge.verdict(item)
    assert judge.queue.lease("ann", MINUTES) is None


def test_a_new_process_asks_the_model_again_and_groups_meet(made):
    first = made()
    first._model.is_busy = True
    twin, better = group(2, size=3)
    items = [first.submit(each, PAIRWISE) for each in (twin, dataclasses.replace(twin, copy=1), better)][1:]
    second = made()
    for item in items:
        assert second.verdict(item) is None
    asked = [work for work, _ in (*first._model.submitted, *second._model.submitted)]
    assert len({each.group for each in asked}) == 1 and {each.group_size for each in asked} == {3}
    again = [work for work, _ in second._model.submitted]
    assert sorted((number_of(each), each.copy) for each in again) == [(0, 0), (0, 1), (1, 0)]
    answer(second, best_first)
    assert [second.verdict(item).reward for item in items] == [0.25, 1]
    with pytest.raises(KeyError):
        second.verdict("nothing")


@pytest.mark.parametrize("options", [{"on_deadline": "never"}, {"on_deadline": "model"}, {"deadline": -1.0}])
def test_policies_that_make_no_sense_are_refused(made, options):
    with pytest.raises(QueueError, match="deadline"):
        made(**options)
