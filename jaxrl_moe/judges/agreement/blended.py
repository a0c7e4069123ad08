"""People and a model as one judge."""
import dataclasses
import json
import threading
import time
from collections.abc import Mapping

from jaxrl_moe.judges.agreement.blending import Measured, blended
from jaxrl_moe.judges.agreement.opinions import BLENDED, MODEL
from jaxrl_moe.judges.judge import Judge, JudgeError, TakenBack
from jaxrl_moe.judges.queue.puts import WHOLE
from jaxrl_moe.judges.queue.queue import QueueError
from jaxrl_moe.judges.queue.sql import ItemState, SqlQueue
from jaxrl_moe.judges.queue.store import plain_json
from jaxrl_moe.judges.records import Ask, Verdict, Work
from jaxrl_moe.judges.rubric import Rubric
from jaxrl_moe.spelling import quoted

POLICIES = {"wait": "people are waited for", "model": "the model's verdict stands alone",
            "drop": "there is no verdict"}
SHORTEST_PAUSE = 0.125  # seconds between two looks at what is waited for, which grow
LONGEST_PAUSE = 2.0     # to this
MEASURE_SECONDS = 30.0  # between two measures of how a model agrees with people


class Blended(Judge):
    """Asks people and a model, and blends what both say by how far they have agreed so far; see blending.py.
    What it has said once of an item it says again, whatever is measured later.

    Args:
      queue: that people answer; closed with this.
      model: the other judge; closed with this. Where it fails, people are alone.
      deadline: seconds after it was first handed in at which an item waits for people no more; 0: none.
      on_deadline: what then, a row of POLICIES. A verdict of the model alone says so in `judge` and `raw`.
      calibrate: whether the model's scores are first put on people's scale, by the least squares line.

    Raises:
      QueueError: an argument does not fit.
    """

    def __init__(self, queue: SqlQueue, model: Judge, *, deadline: float = 0.0, on_deadline: str = "wait",
                 calibrate: bool = False):
        if on_deadline not in POLICIES:
            raise QueueError(f"on_deadline = {quoted(on_deadline)}: give one of {', '.join(POLICIES)}.")
        if deadline < 0 or (deadline == 0 and on_deadline != "wait"):
            raise QueueError(f"on_deadline = {on_deadline!r} needs a deadline above 0; it is {deadline:g}.")
        self.queue = queue
        self._model = model
        self._deadline = deadline
        self._policy = on_deadline
        self._calibrate = calibrate
        self._lock = threading.Lock()
        self._asked: dict[str, str] = {}   # item -> the model's item
        self._failed: dict[str, str] = {}  # item -> what the model failed of
        self._measured = Measured()
        self._measured_at = -MEASURE_SECONDS

    def submit(self, work: Work, ask: Ask) -> str:
        item = self.queue.id_of(work, ask)
        if self.queue.kept(item, BLENDED) is None:
            self.queue.put(work, ask)
            self._ask_model(item)
        return item

    def verdict(self, item: str, wait: float = 0.0) -> Verdict | None:
        end = time.monotonic() + wait
        pause = SHORTEST_PAUSE
        while True:
            verdict = self.queue.kept(item, BLENDED) or self._come_to(item)
            left = end - time.monotonic()
            if verdict is not None or left <= 0:
                return verdict
            time.sleep(min(pause, left))
            pause = min(2 * pause, LONGEST_PAUSE)

    def drop(self, item: str, why: str) -> None:
        """As in Judge: people are not asked any more. The model is: others may wait for what it says."""
        self.queue.drop(item, why)

    def close(self) -> None:
        self._model.close()
        self.queue.close()

    def _come_to(self, item: str) -> Verdict | None:
        state = self.queue.state(item)
        is_late = self._deadline and self.queue.store.clock() - state.created > self._deadline
        if state.dropped:
            said = f"Nothing will be said of the item {item}: {state.dropped.rstrip('.')}."
            raise JudgeError(said) if is_late else TakenBack(said)
        model = self._of_model(item)
        is_pending = model is None and item not in self._failed
        if state.verdict is not None:
            return None if is_pending else self._keep(item, self._both(item, state.verdict, model))
        if is_late:
            return self._late(item, state, model, is_pending)
        return None

    def _late(self, item: str, state: ItemState, model: Verdict | None, is_pending: bool) -> Verdict | None:
        if self._policy == "wait" or self._policy == "model" and is_pending:
            return None
        why = f"people did not answer within {self._deadline:g} seconds"
        if self._policy == "model" and model is not None:
            raw = {"only": "model", "why": why, "said": {"model": model.raw}}
            kept = self._keep(item, Verdict(model.reward, model.scores, model.turn_rewards,
                                            f"{model.judge} (alone)", plain_json(raw)))
            self.queue.drop(item, f"{why}, and the model's verdict stands")
            return kept
        why += f", and the model failed: {self._failed.get(item, '')}" if self._policy == "model" else ""
        self.queue.drop(item, why)
        raise JudgeError(f"Nothing will be said of the item {item}: {why.rstrip('.')}.")

    def _keep(self, item: str, verdict: Verdict) -> Verdict:
        kept = self.queue.keep_blended(item, verdict)
        self._asked.pop(item, None)
        self._failed.pop(item, None)
        return kept

    def _both(self, item: str, people: Verdict, model: Verdict | None) -> Verdict:
        """What both come to; people alone where the model has failed."""
        if model is None:
            raw = {"only": "people", "why": self._failed.get(item, ""), "said": {"people": people.raw}}
            return Verdict(people.reward, people.scores, people.turn_rewards, people.judge, plain_json(raw))
        measured = self._measure()
        judges = _judges(people)
        mixed = _Mix(measured, judges, self._calibrate)
        raw = {"people": people.reward, "model": model.reward, "judges": judges, "weight": measured.weight,
               "kappa": measured.kappa, "units": measured.units,
               "said": {"people": people.raw, "model": model.raw}}
        turns = tuple(map(mixed.of, people.turn_rewards, model.turn_rewards)) or people.turn_rewards
        scores, reward = mixed.scores(people, model, self.queue.work(item)[1].rubric)
        return Verdict(reward, scores, turns, f"{people.judge} + {model.judge}", plain_json(raw))

    def _measure(self) -> Measured:
        with self._lock:
            if time.monotonic() - self._measured_at >= MEASURE_SECONDS:
                self._measured = self.queue.measured()
                self._measured_at = time.monotonic()
            return self._measured

    def _of_model(self, item: str) -> Verdict | None:
        """What the model says, once it has."""
        kept = self.queue.kept(item, MODEL)
        if kept is not None or item in self._failed:
            return kept
        try:
            asked = self._asked.get(item) or self._ask_model(item)  # by a process that has ended
            verdict = self._model.verdict(asked)
        except JudgeError as error:
            self._failed[item] = str(error)
            return None
        except KeyError:  # the model has forgotten it, and is asked again the next time
            self._asked.pop(item, None)
            return None
        if verdict is not None:
            self.queue.keep_model(item, verdict)
        return verdict

    def _ask_model(self, item: str) -> str:
        """Always of the queue's own form of a work, so that works of a group meet whoever hands them in."""
        self._failed.pop(item, None)
        work, ask = self.queue.work(item)
        for copy in range(work.copy + 1):
            asked = self._model.submit(dataclasses.replace(work, copy=copy), ask)
        self._asked[item] = asked
        return asked


class _Mix:
    """Scores of people and of a model as one."""

    def __init__(self, measured: Measured, judges: float, calibrate: bool):
        self._measured = measured
        self._judges = judges
        self._calibrate = calibrate

    def of(self, people: float, model: float) -> float:
        model = self._measured.calibrated(model) if self._calibrate else model
        return blended(people, self._judges, model, self._measured.weight)

    def scores(self, people: Verdict, model: Verdict, rubric: Rubric) -> tuple[Mapping[str, float], float]:
        """(scores of each criterion, the reward that follows from them)."""
        if not people.scores or not model.scores:
            return {}, self.of(people.reward, model.reward)
        mixed = {name: self.of(score, model.scores[name]) for name, score in people.scores.items()}
        return mixed, min(1.0, rubric.total(mixed))


def _judges(people: Verdict) -> float:
    """How many people said something of each question about the whole work."""
    said = [each for each in json.loads(people.raw) if each["turn"] == WHOLE]
    return len(said) / len({each["question"] for each in said}) if said else 1.0
